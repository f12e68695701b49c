"""The text of a combination of values, by which a cross knows it.

    3 and 14 -> 3&14        a&b and c -> a\\&b&c        a\\ and b -> a\\\\&b

The values' texts with `&` between them; a `&` or `\\` inside one has a `\\` before it,
so that no two combinations have the same text. It is made twice, of columns of a log
and of tensors, and is the same to the last byte.
"""

from collections.abc import Mapping
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
    texts = []
    for name in field.parts:
        column = batch.column(name)
        if pa.types.is_string(column.type):
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
    # Only here, so that counting without hashing needs no TensorFlow.
    import tensorflow as tf

    texts, missing = [], []
    for name in field.parts:
        values = features[name]
        if values.dtype == tf.string:
            missing.append(tf.equal(values, MISSING["string"]))
            texts.append(tf.strings.regex_replace(values, ESCAPED, ESCAPE))
        else:
            missing.append(tf.equal(values, MISSING["int64"]))
            texts.append(tf.strings.as_string(values))
    joined = tf.strings.join(texts, BETWEEN)
    return tf.where(tf.reduce_any(missing, axis=0), MISSING["string"], joined)
