"""Count the values of columns, batch by batch, in memory that stays bounded."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

SAMPLE_SIZE = 1 << 18  # numbers kept of a numeric column: quantiles to about 0.1 %
PENDING_VALUES = 1 << 20  # values that may wait before they are merged


class ValueCounts:
    """How often each value of a column occurs.

    Counts of a batch wait in a list and are merged when they are as many as the
    values known so far, so that merging costs O(1) a value on average and no Python
    object exists for any single value.
    """

    def __init__(self):
        self.merged = None
        self.waiting = []
        self.num_waiting = 0

    def add(self, column):
        """Counts the values of a `pyarrow.Array`; null is not a value."""
        counts = column.drop_null().value_counts()
        values = counts.field("values")
        if pa.types.is_string(values.type):  # whose offsets end at 2 GB
            values = values.cast(pa.large_string())
        self.waiting.append(pa.table({"value": values, "count": counts.field(1)}))
        self.num_waiting += len(counts)
        known = self.merged.num_rows if self.merged else 0
        if self.num_waiting > max(known, PENDING_VALUES):
            self._merge()

    def table(self):
        """`pyarrow.Table` of `value` and `count`, in no particular order."""
        self._merge()
        return self.merged

    def _merge(self):
        if not self.waiting:
            return
        tables = ([self.merged] if self.merged else []) + self.waiting
        self.waiting, self.num_waiting = [], 0
        self.merged = None  # one copy less while they are grouped
        # Threads would each hold a hash table of nearly all values.
        groups = pa.concat_tables(tables).group_by("value", use_threads=False)
        del tables
        grouped = groups.aggregate([("count", "sum")])
        self.merged = grouped.select(["value", "count_sum"]).rename_columns(
            ["value", "count"]
        )


class NumberSample:
    """A uniform random sample of a numeric column, its range and its size.

    Each number gets a random priority, and those of lowest priority are kept: a
    sample without replacement of at most `SAMPLE_SIZE` numbers.
    """

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.values = np.zeros(0, np.float32)
        self.priorities = np.zeros(0, np.float64)
        self.total = 0
        self.low, self.high = np.inf, -np.inf

    def add(self, column):
        """Takes the numbers of a `pyarrow.Array`; null and infinity are left out."""
        values = column.drop_null().to_numpy(zero_copy_only=False).astype(np.float32)
        self.total += len(values)
        values = values[np.isfinite(values)]
        if not len(values):
            return
        self.low = min(self.low, float(values.min()))
        self.high = max(self.high, float(values.max()))
        self.values = np.concatenate([self.values, values])
        self.priorities = np.concatenate(
            [self.priorities, self.random.random(len(values))]
        )
        if len(self.values) > 2 * SAMPLE_SIZE:
            self._shrink()

    def sample(self):
        """The sample, sorted, `[at most SAMPLE_SIZE]` float32."""
        self._shrink()
        return np.sort(self.values)

    def _shrink(self):
        if len(self.values) > SAMPLE_SIZE:
            kept = np.argpartition(self.priorities, SAMPLE_SIZE)[:SAMPLE_SIZE]
            self.values, self.priorities = self.values[kept], self.priorities[kept]


class FieldCounter:
    """Counts one field of the training split.

    Args:
        field: The `edcn_tf.schema.Field`.
        seed: Seed of the sample of a numeric field.
    """

    def __init__(self, field, seed):
        self.field = field
        self.missing = 0
        if field.kind == "numeric":
            self.numbers = NumberSample(seed)
        elif field.hash_buckets:
            self.bucket_counts = np.zeros(field.hash_buckets, np.int64)
        else:
            self.values = ValueCounts()

    def add(self, column):
        """Counts a normalized column (`edcn_tf.columns.normalize`)."""
        if self.field.multiple:
            # A list of nothing but nulls is as missing as an empty one.
            present = pc.is_valid(column.flatten()).to_numpy(zero_copy_only=False)
            parents = column.value_parent_indices().to_numpy(zero_copy_only=False)
            self.missing += len(column) - len(np.unique(parents[present]))
            column = column.flatten()
        else:
            self.missing += column.null_count
        if self.field.kind == "numeric":
            self.numbers.add(column)
        elif self.field.hash_buckets:
            counts = column.drop_null().value_counts()
            self.bucket_counts += bucket_counts(
                counts.field("values"), counts.field("counts"), self.field.hash_buckets
            )
        else:
            self.values.add(column)


def bucket_counts(values, counts, num_buckets):
    """Sum of `counts` by hash bucket of `values`, `[num_buckets]` int64."""
    # Only here, so that counting without hashing needs no TensorFlow.
    import tensorflow as tf

    from edcn_tf.hashing import hash_bucket

    if not len(values):
        return np.zeros(num_buckets, np.int64)
    values = tf.constant(values.to_numpy(zero_copy_only=False))
    buckets = hash_bucket(values, num_buckets).numpy()
    sums = np.bincount(buckets, np.asarray(counts, np.float64), num_buckets)
    return sums.astype(np.int64)
