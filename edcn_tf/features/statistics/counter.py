"""A counter: clicks and impressions of each value, or combination, of some fields.

A key is a hash of the values' texts: of a list one of each of its values. It is made
twice, of columns of a log and of tensors, and is the same to the last bit.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from edcn_tf.field import MISSING, Field
from edcn_tf.schema import Schema

FINGERPRINTS = 2**63 - 1  # of keys: of a million two are alike with probability 1e-7
NO_KEY = -1  # of a value that is missing
LARGEST = 2**63 - 1  # of a hash, and the bits that it has
SPREAD = 0x1E3779B97F4A7C15  # odd, without a pattern, and an int64


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
    # Only here, so that reading a table needs no TensorFlow.
    from edcn_tf.features.counting import value_buckets

    columns = [batch.column(name) for name in counter.of]
    rows = np.arange(batch.num_rows)
    lists = [column for column in columns if pa.types.is_list(column.type)]
    if lists:
        rows = lists[0].value_parent_indices().to_numpy(zero_copy_only=False)
        columns = [
            column.flatten() if column is lists[0] else column.take(pa.array(rows))
            for column in columns
        ]
    valid = [column.is_valid().to_numpy(zero_copy_only=False) for column in columns]
    present = np.all(valid, axis=0)
    hashes = [
        value_buckets(column.filter(pa.array(present)), FINGERPRINTS)
        for column in columns
    ]
    return rows[present], combined(hashes) % (counter.hash_buckets or FINGERPRINTS)


def combined(hashes: Sequence[Any]) -> Any:
    """One hash of several values', in their order.

        h_1                     of one
        (h_1 * SPREAD) ^ h_2    of two, and so on; all modulo 2^63

    Args:
        hashes: int64 of NumPy or TensorFlow, from 0 to 2^63 - 1, of one shape.
    """
    key, *others = hashes
    for other in others:
        key = (key * np.int64(SPREAD)) & np.int64(LARGEST) ^ other
    return key


def part_of_key(values: Any) -> Any:
    """The hash of each value, strings or int64; `NO_KEY` where it is missing."""
    import tensorflow as tf

    from edcn_tf.features.hashing import hash_bucket

    kind = "string" if values.dtype == tf.string else "int64"
    missing = tf.equal(values, MISSING[kind])
    hashes = hash_bucket(values, FINGERPRINTS)
    return tf.where(missing, np.int64(NO_KEY), hashes)
