"""Counts of the values of columns, batch by batch, in memory that stays bounded.

Counts of parts of a log merge into the counts of the whole, in any order: `merge`.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from edcn_tf.features.draws import FIRST_FIELD, draws
from edcn_tf.features.statistics.smoothing import RowsSample
from edcn_tf.logs.normalizing import without_missing

SAMPLE_SIZE = 1 << 18  # numbers kept of a numeric column: quantiles to about 0.1 %
MOMENTS_ROWS = 1 << 12  # vectors that are summed at once, in float64
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
        self.add_table(pa.table({"value": values, "count": counts.field(1)}))

    def add_table(self, table):
        """Adds counts that are known: a `pyarrow.Table` of `value` and `count`."""
        self.waiting.append(table)
        self.num_waiting += table.num_rows
        known = self.merged.num_rows if self.merged else 0
        if self.num_waiting > max(known, PENDING_VALUES):
            self._merge()

    def merge(self, other):
        """Adds another's counts to these, and returns them."""
        if other.table() is not None:
            self.add_table(other.table())
        return self

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

    Each number comes with a random priority, and those of lowest priority are kept:
    a sample without replacement of at most `SAMPLE_SIZE` numbers.
    """

    def __init__(self):
        self.values = np.zeros(0, np.float32)
        self.priorities = np.zeros(0, np.float64)
        self.total = 0
        self.low, self.high = np.inf, -np.inf

    def add(self, column, priorities):
        """Takes the numbers of a `pyarrow.Array`; null and infinity are left out.

        Args:
            column: `[rows]` numbers.
            priorities: `[rows]` float64, uniform in [0, 1).
        """
        present = column.is_valid().to_numpy(zero_copy_only=False)
        values = column.drop_null().to_numpy(zero_copy_only=False).astype(np.float32)
        self.total += len(values)
        finite = np.isfinite(values)
        values = values[finite]
        if len(values):
            self.low = min(self.low, float(values.min()))
            self.high = max(self.high, float(values.max()))
            self._take(values, priorities[present][finite])

    def merge(self, other):
        """Adds another's numbers to these, and returns them."""
        self.total += other.total
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self._take(other.values, other.priorities)
        return self

    def sample(self):
        """The sample, sorted, `[at most SAMPLE_SIZE]` float32."""
        self._shrink()
        return np.sort(self.values)

    def _take(self, values, priorities):
        self.values = np.concatenate([self.values, values])
        self.priorities = np.concatenate([self.priorities, priorities])
        if len(self.values) > 2 * SAMPLE_SIZE:
            self._shrink()

    def _shrink(self):
        if len(self.values) > SAMPLE_SIZE:
            kept = np.argpartition(self.priorities, SAMPLE_SIZE)[:SAMPLE_SIZE]
            self.values, self.priorities = self.values[kept], self.priorities[kept]


class VectorMoments:
    """Mean and standard deviation of each number of a column of vectors.

    Sums of squared deviations of parts are merged by the deviation of their means
    (Chan et al. 1983), in float64, so that no large mean swallows a small deviation.
    """

    def __init__(self, length):
        self.total = 0
        self.mean = np.zeros(length)
        self.squares = np.zeros(length)  # sum of squared deviations from the mean

    def add(self, vectors):
        """Takes vectors, `[rows, length]`."""
        for start in range(0, len(vectors), MOMENTS_ROWS):
            part = vectors[start : start + MOMENTS_ROWS].astype(np.float64)
            mean = part.mean(axis=0)
            self._take(len(part), mean, np.square(part - mean).sum(axis=0))

    def merge(self, other):
        """Adds another's vectors to these, and returns them."""
        self._take(other.total, other.mean, other.squares)
        return self

    def deviation(self):
        """`[length]`, 0 where float32 tells no difference from a constant."""
        deviation = np.sqrt(self.squares / max(self.total, 1))
        numbers = np.finfo(np.float32)
        least = np.maximum(numbers.eps * np.abs(self.mean), numbers.tiny)
        return np.where(deviation > least, deviation, 0.0)

    def _take(self, total, mean, squares):
        if not total:
            return
        apart, share = mean - self.mean, total / (self.total + total)
        self.squares += squares + apart**2 * (self.total * share)
        self.mean = self.mean + apart * share
        self.total += total


class FieldCounter:
    """Counts one field of the training split.

    Args:
        field: The `edcn_tf.field.Field`.
        number: Its number in the schema, for draws of its own.
        owner: The field whose rows its values have, if not its own.
    """

    def __init__(self, field, number, owner=None):
        self.field = field
        self.number = number
        self.owner = owner or field
        self.missing = 0
        self.kept = 0  # occurrences of the values that have a row (`keep`)
        if field.is_vector:
            self.vectors = VectorMoments(field.length)
        elif field.is_statistic:
            self.counted = RowsSample(len(field.counted), SAMPLE_SIZE)
        elif field.has_ranges:
            self.numbers = NumberSample()
        elif self.owner.hash_buckets:
            self.bucket_counts = np.zeros(self.owner.hash_buckets, np.int64)
        else:
            self.values = ValueCounts()
            self.unseen = np.zeros(self.owner.unseen_rows, np.int64)

    def add(self, column, keys):
        """Counts a normalized column (`edcn_tf.logs.normalizing.normalize`).

        Args:
            column: `[rows]` values or lists.
            keys: The rows' keys (`edcn_tf.features.draws.row_keys`), `[rows]` uint64.
        """
        if self.field.is_vector:
            vectors = column.flatten().to_numpy().reshape(-1, self.field.length)
            self.missing += len(column) - len(vectors)
            self.vectors.add(vectors)
            return
        parents = None
        if self.field.kind == "sequence":  # in which a missing value has its place
            lengths = pc.fill_null(pc.list_value_length(column), 0)
            parents = column.value_parent_indices().to_numpy(zero_copy_only=False)
            column = without_missing(column.flatten())
            self.missing += pc.sum(pc.equal(lengths, 0)).as_py() or 0
            self.missing += column.null_count
        elif self.field.multiple:
            # A list of nothing but nulls is as missing as an empty one.
            present = pc.is_valid(column.flatten()).to_numpy(zero_copy_only=False)
            parents = column.value_parent_indices().to_numpy(zero_copy_only=False)
            self.missing += len(column) - len(np.unique(parents[present]))
            column = column.flatten()
        else:
            self.missing += column.null_count
        if self.field.has_ranges:
            priorities = draws(keys, FIRST_FIELD + self.number)
            if parents is not None:  # the numbers of a row's list go together
                priorities = priorities[parents]
            self.numbers.add(column, priorities)
        elif self.owner.hash_buckets:
            counts = column.drop_null().value_counts()
            self.bucket_counts += bucket_counts(
                counts.field("values"), counts.field("counts"), self.owner.hash_buckets
            )
        else:
            self.values.add(column)

    def add_statistic(self, column, labels, weights, keys):
        """Takes what was counted of rows, with their labels and weights.

        Args:
            column: `[rows]` lists: clicks and impressions of each level.
            labels, weights: `[rows]`.
            keys: As for `add`.
        """
        counts = column.flatten().to_numpy().reshape(len(column), -1)
        priorities = draws(keys, FIRST_FIELD + self.number)
        self.missing += int((counts[:, 1] == 0).sum())
        self.counted.add(counts, labels, weights, priorities)

    def merge(self, other):
        """Adds another's counts of the same field to these, and returns them."""
        self.missing += other.missing
        if self.field.is_vector:
            self.vectors.merge(other.vectors)
        elif self.field.is_statistic:
            self.counted.merge(other.counted)
        elif self.field.has_ranges:
            self.numbers.merge(other.numbers)
        elif self.owner.hash_buckets:
            self.bucket_counts += other.bucket_counts
        else:
            self.values.merge(other.values)
            self.unseen += other.unseen
        return self

    def divided(self, parts):
        """Yields these counts as counters of which each has a part of the values.

        A value is in the same part in every process, so that the parts of many
        counters can be merged apart from each other. There are `parts` of them for a
        field with a vocabulary, one for the others, which are small.
        """
        if not self.field.has_vocabulary or parts == 1:
            yield self
            return
        table = self.values.table()
        places = value_buckets(table["value"], parts)
        order = np.argsort(places, kind="stable")
        ends = np.cumsum(np.bincount(places, minlength=parts))
        for i in range(parts):
            part = FieldCounter(self.field, self.number)
            part.values.add_table(table.take(order[ends[i - 1] if i else 0 : ends[i]]))
            if i == 0:
                part.missing, part.unseen = self.missing, self.unseen
            yield part

    def keep(self, table=None):
        """The values that get a row: a table of `value` and `count`, in their order.

        The most frequent comes first; equally frequent ones are in the order of
        their bytes. The other values move to the unseen ones. Only for a field with
        a vocabulary, when all its values (or all of a part) have been counted.

        Args:
            table: In place of what was counted, values with a `count` to order them
                by, how many of them were counted `today`, and whether they
                `may_stay`; further columns come back as they are.
        """
        field = self.field
        if table is None:
            table = self.values.table()
            enough = pc.greater_equal(table["count"], field.min_count)
            table = table.append_column("today", table["count"])
            table = table.append_column("may_stay", enough)
        table = table.sort_by([("count", "descending"), ("value", "ascending")])
        keep = table["may_stay"]
        if field.dtype == "string":
            # A vocabulary file has a value a line, as TensorFlow's lookup tables read.
            broken = pc.match_substring_regex(table["value"], "[\r\n]")
            keep = pc.and_(keep, pc.invert(broken))
        kept = table.filter(keep).slice(0, field.max_size)
        dropped = pa.concat_tables(
            [table.filter(pc.invert(keep)), table.filter(keep).slice(kept.num_rows)]
        )
        self._add_unseen(dropped["value"], dropped["today"])
        self.kept = pc.sum(kept["today"]).as_py() or 0
        self.values = ValueCounts()
        self.values.add_table(kept.select(["value", "count"]))
        return kept

    def counts_of(self, kept):
        """How often each of another field's kept values occurs, `[values]` int64.

        The other values move to the unseen ones.

        Args:
            kept: The values that have a row, a `pyarrow` array of all of them.
        """
        table = self.values.table()
        counts = np.zeros(len(kept), np.int64)
        if table is not None:
            places = pc.index_in(table["value"], kept).fill_null(-1).to_numpy()
            number = table["count"].to_numpy()
            known = places >= 0
            counts[places[known]] = number[known]
            unknown = table.filter(pa.array(~known))
            self._add_unseen(unknown["value"], unknown["count"])
        self.kept = int(counts.sum())
        return counts

    def _add_unseen(self, values, counts):
        """Adds values that have no row to the rows that they share."""
        if len(self.unseen) == 1:
            self.unseen += pc.sum(counts).as_py() or 0
        else:
            self.unseen += bucket_counts(values, counts, len(self.unseen))

    def shares(self):
        """Shares of the missing and of the unseen values, when `keep` has chosen."""
        unseen = 0
        if self.field.is_statistic:  # missing: nothing was known of their keys
            known = self.counted.total - self.missing
        elif self.field.is_vector:
            known = self.vectors.total
        elif self.field.has_ranges:
            known = self.numbers.total
        elif self.owner.hash_buckets:
            known = int(self.bucket_counts.sum())
        else:
            known, unseen = self.kept, int(self.unseen.sum())
        total = max(self.missing + unseen + known, 1)
        return self.missing / total, unseen / total


def bucket_counts(values, counts, num_buckets):
    """Sum of `counts` by hash bucket of `values`, `[num_buckets]` int64."""
    buckets = value_buckets(values, num_buckets)
    sums = np.bincount(buckets, np.asarray(counts, np.float64), num_buckets)
    return sums.astype(np.int64)


def value_buckets(values, num_buckets):
    """Hash bucket of each value (`hashing.hash_bucket`), `[values]` int64."""
    # Only here, so that counting without hashing needs no TensorFlow.
    import tensorflow as tf

    from edcn_tf.features.hashing import hash_bucket

    if not len(values):
        return np.zeros(0, np.int64)
    values = tf.constant(values.to_numpy(zero_copy_only=False))
    return hash_bucket(values, num_buckets).numpy()
