"""A counter: clicks and impressions of each value, or combination, of some fields.

A key is the fingerprint of the text that a cross would have (`features.crossing`), of a
list each of its values'. It is made twice, of columns of a log and of tensors, and is
the same to the last bit.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from edcn_tf.features.crossing import joined_columns, joined_tensors
from edcn_tf.field import MISSING, Field
from edcn_tf.schema import Schema

FINGERPRINTS = 2**63 - 1  # of keys: of a million two are alike with probability 1e-7
NO_KEY = -1  # of a value that is missing


@dataclasses.dataclass(frozen=True)
class Counter:
    """What is counted apart, for one statistic or for several.

    Attributes:
        of: Names of fields, of which one may be a list.
        delay: As the field says it: a label is known so long after its row.
        half_life: As the field says it, or None: counts do not age.
        hash_buckets: Keys are hashed into so many, or None: each is counted apart.
        max_size: Number of keys that are kept for serving, or None for all.
    """

    of: tuple[str, ...]
    delay: float | str | None = None
    half_life: float | str | None = None
    hash_buckets: int | None = None
    max_size: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {**dataclasses.asdict(self), "of": list(self.of)}


def levels_of(field: Field) -> tuple[Counter, ...]:
    """A statistic's counters: of all its fields, of all but the last, ... the first."""
    return tuple(
        Counter(
            field.counted[:end],
            field.delay,
            field.half_life,
            field.hash_buckets,
            field.max_size,
        )
        for end in range(len(field.counted), 0, -1)
    )


def counters_of(schema: Schema) -> tuple[Counter, ...]:
    """The different counters of a schema's statistics, in their order."""
    found = (counter for field in schema.statistics for counter in levels_of(field))
    return tuple(dict.fromkeys(found))


def keys_of_columns(
    batch: pa.RecordBatch, counter: Counter
) -> tuple[np.ndarray, np.ndarray]:
    """The keys of a batch's rows, of which a list makes several in a row, or none.

    Args:
        batch: Normalized (`edcn_tf.logs.normalizing.normalize`).
        counter: The `Counter`.

    Returns:
        Rows of the batch, rising, and their keys: `[K]` int64 both. A combination with
        a missing value has none.
    """
    columns = [batch.column(name) for name in counter.of]
    rows = np.arange(batch.num_rows)
    lists = [column for column in columns if pa.types.is_list(column.type)]
    if lists:
        rows = lists[0].value_parent_indices().to_numpy(zero_copy_only=False)
        columns = [
            column.flatten() if column is lists[0] else column.take(pa.array(rows))
            for column in columns
        ]
    texts = joined_columns(columns)
    present = texts.is_valid().to_numpy(zero_copy_only=False)
    return rows[present], fingerprints(texts.drop_null(), counter)


def fingerprints(texts: pa.Array, counter: Counter) -> np.ndarray:
    """The keys of texts, none of which is null: `[K]` int64."""
    # Only here, so that reading a table needs no TensorFlow.
    from edcn_tf.features.counting import value_buckets

    return value_buckets(texts, counter.hash_buckets or FINGERPRINTS)


def keys_of_tensors(features: Mapping[str, Any], counter: Counter) -> Any:
    """The keys of a batch, `[B]` or ragged `[B, length]` int64, `NO_KEY` where missing.

    Args:
        features: Name -> tensor `[B]`, or of a list `[B, length]`, dense or ragged, of
            strings or int64.
        counter: The `Counter`.
    """
    import tensorflow as tf

    from edcn_tf.features.hashing import hash_bucket

    values = [_tensor(features[name]) for name in counter.of]
    lists = [each for each in values if len(each.shape) == 2]
    if lists:
        ragged = lists[0]
        if not isinstance(ragged, tf.RaggedTensor):
            ragged = tf.RaggedTensor.from_tensor(ragged)
        rows = ragged.value_rowids()
        values = [
            ragged.flat_values if each is lists[0] else tf.gather(each, rows)
            for each in values
        ]
    texts = joined_tensors(values)
    keys = hash_bucket(texts, counter.hash_buckets or FINGERPRINTS)
    missing = tf.equal(texts, MISSING["string"])
    keys = tf.where(missing, tf.constant(NO_KEY, tf.int64), keys)
    return ragged.with_flat_values(keys) if lists else keys


def _tensor(values: Any) -> Any:
    import tensorflow as tf

    is_ragged = isinstance(values, tf.RaggedTensor)
    return values if is_ragged else tf.convert_to_tensor(values)
