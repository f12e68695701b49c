"""What the values of options may be."""

import argparse


def shares(text):
    try:
        return tuple(float(share) for share in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected three numbers such as 0.8,0.1,0.1, not {text!r}"
        ) from None


def rate(text):
    try:
        rate = float(text)
    except ValueError:
        rate = 0
    if not 0 < rate <= 1:
        raise argparse.ArgumentTypeError(
            f"expected a share above 0 and at most 1, not {text!r}"
        )
    return rate


def above_zero(text):
    try:
        if (number := float(text)) > 0:
            return number
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"expected a number above 0: {text!r}")


def at_least_zero(text):
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a number of at least 0: {text!r}")
    return int(text)


def at_least_one(text):
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1: {text!r}")
    return int(text)
