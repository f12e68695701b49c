"""Whether prepared data can train and judge a model, and is what was meant."""

import itertools
import re

from edcn_tf.directories import PreparedData
from edcn_tf.errors import InputError
from edcn_tf.files import read_value

NO_WEIGHT = "has no row with a weight above 0"
CONSEQUENCES = {
    "train": "there is nothing to learn from it",
    "valid": "there is no AUC to choose the best epoch by",
    "test": "there is no AUC of it",
}
WHOLE_FLOAT = re.compile(r"-?\d+\.0\n")  # how pandas writes ids with a gap into CSV
LOOKED_AT = 1000  # values of a field, the most frequent


def remarks(splits, spec):
    """What `edcn prepare` says of what will not do, in a line each.

    Args:
        splits: Of `summary.json`: split -> what was counted of it.
        spec: The `FeatureSpec`.
    """
    return _of_splits(splits) + [
        f"Field {own.field.name!r}: its values are text such as {value!r}, another "
        f"value than {value[:-2]!r}, which other logs may have; if they are whole "
        'numbers, give the field "dtype": "int64"'
        for own in spec.owners
        if own.vocabulary
        and own.field.dtype == "string"
        and (value := _whole_float(own.vocabulary))
    ]


def _whole_float(vocabulary):
    """The first value, if all are whole numbers with a fraction of 0."""
    with open(vocabulary, encoding="utf-8") as file:
        values = list(itertools.islice(file, LOOKED_AT))
    if values and all(map(WHOLE_FLOAT.fullmatch, values)):
        return values[0].rstrip("\n")
    return None


def _of_splits(splits):
    return [
        f"The {split} split {fault}, so {CONSEQUENCES[split]}"
        for split, counted in splits.items()
        if (fault := _fault(counted))
    ]


def check_splits(data):
    """Raises an `InputError` if training on prepared data would be in vain.

    Data of versions that did not count what has a weight is not checked for it.
    """
    path = PreparedData(data).summary
    for split in ("train", "valid"):
        read_value(path, "splits", split, "click_rate")  # or it is damaged
        fault = _fault(read_value(path, "splits", split))
        # A day's rows of one class can still be trained on.
        if fault and (split == "valid" or fault == NO_WEIGHT):
            raise InputError(
                f"{data}: the {split} split {fault}, so {CONSEQUENCES[split]}; prepare "
                "a larger one, or other weights"
            )


def _fault(counted):
    """What is wrong with a split, or None."""
    rows, clicks, which = 1, counted["click_rate"], ""
    if "weighted_rows" in counted:
        rows, clicks = counted["weighted_rows"], counted["weighted_clicks"]
        which = " among its rows with a weight above 0"
    if not rows:
        return NO_WEIGHT
    if not clicks:
        return f"has no clicks{which}"
    return f"has clicks only{which}" if clicks == rows else None
