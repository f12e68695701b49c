"""Columns of a made-up log, as a request to `serving_default` holds them."""

import numpy as np


def raw(fields, columns):
    """Name -> array `[B]`, or of a list `[B, length]`, of the fields alone.

    Args:
        fields: Dicts with `name`, and `dtype` and `multiple` where they are not those
            of a single text.
        columns: Name -> the values of each row, None where one is missing; of a list
            the text that the log has, its values between `|`.
    """
    features = {}
    for field in fields:
        column = columns[field["name"]]
        if field.get("multiple"):
            lists = [value.split("|") if value else [] for value in column]
            width = max(map(len, lists), default=0)
            filled = [each + [""] * (width - len(each)) for each in lists]
            features[field["name"]] = np.array(filled, object)
            continue
        whole = field.get("dtype") == "int64"
        missing = -(2**63) if whole else ""
        column = [missing if value is None else value for value in column]
        features[field["name"]] = np.array(column, np.int64 if whole else object)
    return features
