"""Statistics of a batch of rows, looked up in the tables: TensorFlow's part."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from edcn_tf.features.draws import GAMMA
from edcn_tf.features.spec import FeatureSpec, FieldSpec
from edcn_tf.features.statistics.counter import (
    FINGERPRINTS,
    LARGEST,
    NO_KEY,
    SPREAD,
    Counter,
    combined,
    levels_of,
    part_of_key,
)

BITS = 63  # of a key


class Statistics(tf.Module):
    """The ids of statistics, from what a row holds or what was counted.

    All counters share one table, whose keys are changed by their counter's number. So
    a batch costs one look however many statistics there are, and the SavedModel holds
    20 to 24 bytes a key.

    Args:
        spec: The `FeatureSpec`.
    """

    def __init__(self, spec: FeatureSpec) -> None:
        super().__init__(name="statistics")
        self.spec = spec
        keys, counts = [np.zeros(0, np.int64)], [np.zeros((0, 2), np.float32)]
        for number, table in enumerate(spec.counters):
            own, of_own = table.load()
            keys.append(mixed(own, salt_of(number)))
            counts.append(of_own)
        self.table = _Table(np.concatenate(keys), np.concatenate(counts))

    def __call__(
        self, specs: Sequence[FieldSpec], features: Mapping[str, Any]
    ) -> tf.Tensor:
        """Rows of the embedding table, `[B, 2 * len(specs)]` int32.

        Args:
            specs: Statistics.
            features: Name -> tensor of the fields that they are of; a statistic's own
                name -> `[B, 2 * levels]` float32, clicks and impressions of its levels,
                which are taken in place of those counted; NaN where they are not there.
        """
        levels = [levels_of(spec.field) for spec in specs]
        needed = list(dict.fromkeys(counter for each in levels for counter in each))
        found = self._counts(needed, features)  # [B, counters, 2]
        most = max(map(len, levels))
        # Nothing is known of the levels that a statistic does not have.
        nothing = tf.zeros_like(found[:, :1])
        places = [
            [needed.index(counter) for counter in each]
            + [len(needed)] * (most - len(each))
            for each in levels
        ]
        counts = tf.gather(tf.concat([found, nothing], axis=1), places, axis=1)
        if any(spec.field.name in features for spec in specs):
            rows = tf.shape(found)[0]
            given = [_given(spec, features, most, rows) for spec in specs]
            given = tf.stack(given, axis=1)  # [B, statistics, levels, 2]
            counts = tf.where(tf.math.is_nan(given), counts, given)
        return _rows(specs, counts)

    def _counts(
        self, counters: Sequence[Counter], features: Mapping[str, Any]
    ) -> tf.Tensor:
        """Clicks and impressions of each counter's key, `[B, counters, 2]`.

        Together what can be: many small ops are most of a small request's time.
        """
        every = [table.counter for table in self.spec.counters]
        salts = np.array([salt_of(every.index(each)) for each in counters])
        hashes = hashes_of({n for each in counters for n in each.of}, features)
        lists = {n for n, h in hashes.items() if isinstance(h, tf.RaggedTensor)}
        single = [i for i, each in enumerate(counters) if not lists & {*each.of}]
        found: list[Any] = [None] * len(counters)
        if single:
            keys = _keys_together([counters[i].of for i in single], hashes)
            sizes = [counters[i].hash_buckets or FINGERPRINTS for i in single]
            keys = _in_table(keys, np.array(sizes), salts[single])
            counts = self.table(tf.reshape(keys, [-1]))
            counts = tf.reshape(counts, [-1, len(single), 2])
            if len(single) == len(counters):
                return counts
            for i, each in zip(single, tf.unstack(counts, axis=1)):
                found[i] = each
        for i, counter in enumerate(counters):
            if i not in single:
                [name] = lists & {*counter.of}
                rows = hashes[name].value_rowids()
                parts = [
                    hashes[n].flat_values if n == name else tf.gather(hashes[n], rows)
                    for n in counter.of
                ]
                keys = _or_none(combined(parts), parts)
                size = np.int64(counter.hash_buckets or FINGERPRINTS)
                counts = self.table(_in_table(keys, size, salts[i]))
                counts = hashes[name].with_flat_values(counts)
                found[i] = tf.reduce_sum(counts, axis=1)
        return tf.stack(found, axis=1)


def hashes_of(names: Iterable[str], features: Mapping[str, Any]) -> dict[str, Any]:
    """Name -> the hash of each value of a field, `NO_KEY` where it is missing.

    Args:
        names: Of the fields.
        features: Name -> tensor `[B]`, or of a list `[B, length]`, dense or ragged, of
            strings or int64. Lists come back ragged.
    """
    found: dict[str, Any] = {}
    stacked: dict[tf.DType, dict[str, tf.Tensor]] = {}
    for name in sorted(names):
        values = features[name]
        if not isinstance(values, tf.RaggedTensor):
            values = tf.convert_to_tensor(values)
            if values.shape.rank == 2:
                values = tf.RaggedTensor.from_tensor(values)
        if isinstance(values, tf.RaggedTensor):
            hashes = part_of_key(values.flat_values)
            found[name] = values.with_flat_values(hashes)
        else:
            stacked.setdefault(values.dtype, {})[name] = values
    for columns in stacked.values():
        hashes = part_of_key(tf.stack(list(columns.values()), axis=1))
        found |= dict(zip(columns, tf.unstack(hashes, axis=1)))
    return found


def _keys_together(of: Sequence[Sequence[str]], hashes: Mapping[str, Any]) -> Any:
    """The keys of combinations of fields, `[B, combinations]`."""
    parts = []
    for depth in range(max(map(len, of))):
        # Beyond a combination's last field, that is combined and then left out.
        names = [each[min(depth, len(each) - 1)] for each in of]
        parts.append(tf.stack([hashes[name] for name in names], axis=1))
    keys = parts[0]
    for depth, part in enumerate(parts[1:], 1):
        longer = np.array([len(each) > depth for each in of])
        keys = tf.where(longer, combined([keys, part]), keys)
    return _or_none(keys, parts)


def _or_none(keys: tf.Tensor, parts: Sequence[tf.Tensor]) -> tf.Tensor:
    """Keys, `NO_KEY` where one of their parts is missing."""
    if len(parts) == 1:
        return keys
    least = functools.reduce(tf.minimum, parts)
    return tf.where(least < 0, np.int64(NO_KEY), keys)


def _in_table(keys: tf.Tensor, sizes: Any, salts: Any) -> tf.Tensor:
    """Keys as they are in the table; `NO_KEY` stays.

    Args:
        keys: `[...]`.
        sizes: Number of keys that their counters tell apart, by the same shape.
        salts: Of their counters, likewise.
    """
    if np.any(np.asarray(sizes) != FINGERPRINTS):
        keys = tf.where(keys < 0, keys, keys % sizes)
    return tf.where(keys < 0, keys, mixed(keys, salts))


class _Table(tf.Module):
    """Counts by key, at a cost that does not grow with the number of keys.

    Keys are sorted, and `starts` says where those of each bucket begin, by their first
    bits. Of a bucket, which holds a key or less on average, as many are compared as the
    fullest has. Each op gathers what it needs: one that takes all keys, as a search
    does, may copy them for each request.

    Args:
        keys: `[K]` int64, all different, at least 0 and evenly spread (`mixed`).
        counts: `[K, 2]` float32.
    """

    def __init__(self, keys: np.ndarray, counts: np.ndarray) -> None:
        super().__init__(name="table")
        order = np.argsort(keys)
        keys, counts = keys[order], counts[order]
        bits = max(1, len(keys).bit_length())
        self.shift = BITS - bits
        starts = np.searchsorted(keys >> self.shift, np.arange(2**bits + 1))
        self.width = int(np.diff(starts).max(initial=1))
        # Of the last bucket as many may be looked at as of the fullest: none is that.
        beyond = np.full(self.width, NO_KEY)
        # Variables, since constants would stand in the graph, which ends at 2 GB.
        with tf.device("CPU"):
            self.starts = _variable(starts.astype(np.int32), "starts")
            self.keys = _variable(np.concatenate([keys, beyond]), "keys")
            nothing = np.zeros((self.width, 2), np.float32)
            self.counts = _variable(np.concatenate([counts, nothing]), "counts")

    def __call__(self, keys: tf.Tensor) -> tf.Tensor:
        """Counts of keys, `[N]` -> `[N, 2]`, 0 of those that are not there."""
        buckets = tf.bitwise.right_shift(tf.maximum(keys, 0), np.int64(self.shift))
        starts = tf.gather(self.starts, buckets)
        places = starts[:, tf.newaxis] + tf.range(self.width)
        same = tf.equal(tf.gather(self.keys, places), keys[:, tf.newaxis])
        same &= (keys >= 0)[:, tf.newaxis]
        place = starts + tf.argmax(same, axis=1, output_type=tf.int32)
        known = tf.reduce_any(same, axis=1, keepdims=True)
        return tf.where(known, tf.gather(self.counts, place), 0.0)


def _variable(values: np.ndarray, name: str) -> tf.Variable:
    return tf.Variable(values, trainable=False, name=name)


def mixed(keys: Any, salts: Any) -> Any:
    """Keys as they are in the table: other ones, evenly spread, at least 0.

    Changed by their counter's salt, and multiplied by an odd number modulo 2^63, which
    makes no two the same.

    Args:
        keys: int64 of NumPy or TensorFlow, from 0 to 2^63 - 1.
        salts: int64, by the same shape or one for all.
    """
    return ((keys ^ salts) * np.int64(SPREAD)) & np.int64(LARGEST)


def salt_of(number: int) -> np.int64:
    """What the keys of a counter of that number are changed by."""
    return np.int64((number + 1) * int(GAMMA) % 2**BITS)


def _given(
    spec: FieldSpec, features: Mapping[str, Any], most: int, rows: tf.Tensor
) -> tf.Tensor:
    """What a request or a record says of a statistic, `[B, most, 2]`, or NaN."""
    levels = len(spec.field.counted)
    values = features.get(spec.field.name)
    if values is None:
        return tf.fill([rows, most, 2], np.float32(np.nan))
    with tf.control_dependencies([right_counts(spec.field.name, levels, values)]):
        values = tf.reshape(values, [-1, levels, 2])
    beyond = [[0, 0], [0, most - levels], [0, 0]]
    return tf.pad(values, beyond, constant_values=np.nan)


def right_counts(name: str, levels: int, values: tf.Tensor) -> tf.Operation:
    """Fails unless all are clicks and impressions, or NaN where they are not there."""
    told = (
        f"{name} must be clicks and impressions of {levels} levels, finite, at least 0 "
        "and no more clicks than impressions, or NaN for both"
    )
    fits = tf.equal(tf.size(values), tf.shape(values)[0] * 2 * levels)
    pairs = tf.reshape(values, [-1, 2])
    missing = tf.reduce_all(tf.math.is_nan(pairs), axis=1)
    clicks, shown = pairs[:, 0], pairs[:, 1]
    right = (clicks >= 0) & (clicks <= shown) & tf.math.is_finite(shown)
    fits &= tf.reduce_all(missing | right)
    return tf.debugging.Assert(fits, [told, "; received", values])


def _rows(specs: Sequence[FieldSpec], counts: tf.Tensor) -> tf.Tensor:
    """Rate and impressions as rows: `[B, statistics, levels, 2]` -> `[B, 2 * these]`.

    The formula is that of `smoothing.smoothed`.
    """
    statistics = [spec.statistic for spec in specs if spec.statistic is not None]
    least = tf.constant([spec.field.min_count for spec in specs], tf.float32)
    enough = counts[..., 1] >= least[:, tf.newaxis]
    counts = tf.where(enough[..., tf.newaxis], counts, 0.0)
    most = counts.shape[2]
    # Of a level that a statistic does not have: (0 + 1 r) / (0 + 1).
    strengths = np.array(
        [
            [*each.strengths, *[1.0] * (most - len(each.strengths))]
            for each in statistics
        ],
        np.float32,
    )
    rate = tf.constant([each.prior for each in statistics], tf.float32)
    for level in reversed(range(most)):
        strength = strengths[:, level]
        clicks, shown = counts[:, :, level, 0], counts[:, :, level, 1]
        rate = (clicks + strength * rate) / (shown + strength)
    values = tf.stack([rate, counts[:, :, 0, 1]], axis=2)  # [B, statistics, 2]
    ranges, first = [], []
    for spec, each in zip(specs, statistics):
        ranges += [each.rate_boundaries, each.count_boundaries]
        first += [spec.first_value, spec.first_value + each.rates]
    boundaries = np.full((len(ranges), max(map(len, ranges))), np.inf, np.float32)
    for row, numbers in zip(boundaries, ranges):
        row[: len(numbers)] = numbers
    above = values[..., tf.newaxis] >= boundaries.reshape(len(specs), 2, -1)
    places = tf.reduce_sum(tf.cast(above, tf.int32), axis=3)
    return tf.reshape(places, [-1, 2 * len(specs)]) + tf.constant(first, tf.int32)
