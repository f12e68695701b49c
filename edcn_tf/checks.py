"""What counts as a number, and as a whole one, wherever a value is checked.

Neither `True` nor a text is a number, and NaN is in no range.
"""

from typing import Any

from edcn_tf.errors import InputError


def is_whole(value: Any, least: float | None = None, most: float | None = None) -> bool:
    """Whether a value is a whole number, from `least` to `most` where given."""
    return isinstance(value, int) and is_number(value, least, most)


def is_number(
    value: Any, least: float | None = None, most: float | None = None
) -> bool:
    """Whether a value is a number, from `least` to `most` where given."""
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and (least is None or value >= least)
        and (most is None or value <= most)
    )


def are_whole(values: Any, least: float | None = None) -> bool:
    """Whether a value is a list or tuple of such whole numbers."""
    return isinstance(values, (list, tuple)) and all(
        is_whole(value, least) for value in values
    )


def check_between(
    name: str, value: Any, least: float, most: float, *, whole: bool
) -> None:
    """Raises an `InputError` unless a value is a number, or a whole one, in a range."""
    if not (is_whole if whole else is_number)(value, least, most):
        raise InputError(
            f"{name} must be a {'whole ' * whole}number of at least {least} and "
            f"at most {most}. Received: {value!r}"
        )


def check_whole(name: str, value: Any, least: int) -> None:
    """Raises an `InputError` unless a value is a whole number of at least `least`."""
    if not is_whole(value, least):
        raise InputError(
            f"{name} must be a whole number of at least {least}. Received: {value!r}"
        )


def check_flag(name: str, value: Any) -> None:
    """Raises an `InputError` unless a value is true or false."""
    if not isinstance(value, bool):
        raise InputError(f"{name} must be true or false. Received: {value!r}")


def check_least(name: str, value: Any, least: float, or_none: bool = False) -> None:
    """Raises a `ValueError` for an argument of a layer that is less than `least`."""
    if not (or_none and value is None) and value < least:
        none = "`None` or " * or_none
        raise ValueError(f"`{name}` must be {none}at least {least}. Received: {value}")


def check_printable(name: str, value: Any) -> None:
    """Raises an `InputError` unless a value is a text that can be shown."""
    if not isinstance(value, str) or not value or not value.isprintable():
        raise InputError(f"{name} must be a printable text. Received: {value!r}")
