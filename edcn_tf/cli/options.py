"""Options that several commands have, and what their values may be."""

import argparse
import importlib.util
from pathlib import Path


def _choices():
    """`edcn_tf/choices.py`, by its path: `import edcn_tf` would import TensorFlow."""
    package = importlib.util.find_spec("edcn_tf")
    path = Path(package.origin).with_name("choices.py")
    spec = importlib.util.spec_from_file_location("edcn.choices", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_CHOICES = _choices()
FORMATS, SPLITS, SPLIT_BY = _CHOICES.FORMATS, _CHOICES.SPLITS, _CHOICES.SPLIT_BY
PROTOCOLS = _CHOICES.PROTOCOLS
STRATEGIES, OBJECTIVES = _CHOICES.STRATEGIES, _CHOICES.OBJECTIVES
CHOOSING = _CHOICES.CHOOSING


def add_settings(parser):
    parser.add_argument("--config", metavar="FILE", help="YAML file of settings")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="settings",
        metavar="KEY=VALUE",
        help="a setting over the file's; any key of a run's config.yaml",
    )


def add_split_by(parser, default):
    parser.add_argument(
        "--split-by",
        choices=SPLIT_BY,
        default=default,
        help=f"each row by chance, or the oldest to train; default: {default}",
    )


def add_split(parser):
    parser.add_argument("--split", choices=SPLITS, default="test", help="or test")


def add_skip_corrupt(parser):
    parser.add_argument(
        "--skip-corrupt",
        type=at_least_zero,
        metavar="N",
        help="look at all records first, pass over N bad ones at most (damaged, or not "
        "of the schema) and say of which files; default: a bad record is an error",
    )


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


def print_skipped(figures):
    """Bad records by file; nothing where there was no leave to skip."""
    if "skipped" not in figures:
        return
    for path, number in figures["skipped"].items():
        print(f"{path}: {number:,} bad record{'s' * (number > 1)} skipped")
    if figures["skipped"]:
        print(f"{figures['lost_rows']:,} of the prepared rows are lost")
    else:
        print("No bad records")


def print_statistics_of(data):
    """How the statistics of prepared data were counted; nothing where it has none."""
    from edcn_tf.directories import PreparedData
    from edcn_tf.features.spec import FeatureSpec

    features = PreparedData(data).features
    told = features.exists() and FeatureSpec.load(features).statistics_told()
    if told:
        print(f"Statistics {told}")
