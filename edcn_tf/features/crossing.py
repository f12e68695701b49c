"""The text of a combination of values, by which a cross knows it.

    3 and 14 -> 3&14        a&b and c -> a\\&b&c        a\\ and b -> a\\\\&b

The values' texts with `&` between them; a `&` or `\\` inside one has a `\\` before it,
so that no two combinations have the same text. It is made twice, of columns of a log
and of tensors, and is the same to the last byte.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from edcn_tf.field import MISSING, Field

BETWEEN = "&"
ESCAPED = r"([\\&])"
ESCAPE = r"\\\1"  # how both of RE2's callers write a backslash and what was found


def crossed_columns(batch: pa.RecordBatch, field: Field) -> pa.Array:
    """The values of a cross, null where one of its fields is missing.

    Args:
        batch: Normalized (`edcn_tf.logs.normalizing.normalize`).
        field: The cross.
    """
    return joined_columns([batch.column(name) for name in field.parts])


def joined_columns(columns: Sequence[pa.Array]) -> pa.Array:
    """The text of each row's values, null where one is missing; one's as it is."""
    texts = []
    for column in columns:
        if len(columns) > 1 and pa.types.is_string(column.type):
            texts.append(pc.replace_substring_regex(column, ESCAPED, ESCAPE))
        else:
            texts.append(column.cast(pa.string()))
    return pc.binary_join_element_wise(*texts, BETWEEN)


def crossed_tensors(features: Mapping[str, Any], field: Field) -> Any:
    """The values of a cross, `[B]` strings, missing where one of its fields is.

    Args:
        features: Name -> tensor `[B]` of strings or int64.
        field: The cross.
    """
    return joined_tensors([features[name] for name in field.parts])


def joined_tensors(values: Sequence[Any]) -> Any:
    """The text of each row's values, missing where one is; one's as it is.

    Args:
        values: Tensors `[B]` of strings or int64.
    """
    # Only here, so that counting without hashing needs no TensorFlow.
    import tensorflow as tf

    texts, missing = [], []
    for each in values:
        if each.dtype != tf.string:
            missing.append(tf.equal(each, MISSING["int64"]))
            texts.append(tf.strings.as_string(each))
            continue
        missing.append(tf.equal(each, MISSING["string"]))
        if len(values) > 1:
            each = tf.strings.regex_replace(each, ESCAPED, ESCAPE)
        texts.append(each)
    if len(values) == 1 and values[0].dtype == tf.string:
        return texts[0]
    joined = tf.strings.join(texts, BETWEEN)
    return tf.where(tf.reduce_any(missing, axis=0), MISSING["string"], joined)
