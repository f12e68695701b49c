"""Whether the splits of prepared data can train and judge a model."""

from edcn_tf.directories import PreparedData
from edcn_tf.errors import InputError
from edcn_tf.files import read_value

NO_WEIGHT = "has no row with a weight above 0"
CONSEQUENCES = {
    "train": "there is nothing to learn from it",
    "valid": "there is no AUC to choose the best epoch by",
    "test": "there is no AUC of it",
}


def remarks(splits):
    """What `edcn prepare` says of splits that will not do, in a line each.

    Args:
        splits: Of `summary.json`: split -> what was counted of it.
    """
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
