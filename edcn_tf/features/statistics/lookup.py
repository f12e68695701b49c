"""Statistics of a batch of rows, looked up in the tables: TensorFlow's part."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from edcn_tf.features.draws import GAMMA
from edcn_tf.features.spec import FeatureSpec, FieldSpec
from edcn_tf.features.statistics.counter import (
    NO_KEY,
    Counter,
    keys_of_tensors,
    levels_of,
)


class Statistics(tf.Module):
    """The ids of statistics, from what a row holds or what was counted.

    All counters share one table: keys, each changed by its counter's number, in their
    order, and their counts. So a batch costs one search however many statistics there
    are, and the SavedModel holds 16 bytes a key.

    Args:
        spec: The `FeatureSpec`.
    """

    def __init__(self, spec: FeatureSpec) -> None:
        super().__init__(name="statistics")
        self.spec = spec
        tables = [(np.array([NO_KEY]), np.zeros((1, 2), np.float32))]
        for number, table in enumerate(spec.counters):
            own, of_own = table.load()
            tables.append((own ^ _salt(number), of_own))
        keys, counts = (np.concatenate(column) for column in zip(*tables))
        order = np.argsort(keys, kind="stable")
        # Variables, since constants would stand in the graph, which ends at 2 GB.
        with tf.device("CPU"):
            self.keys = tf.Variable(keys[order], trainable=False, name="keys")
            self.counts = tf.Variable(counts[order], trainable=False, name="counts")

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
        given = [_given(spec, features, most, tf.shape(found)[0]) for spec in specs]
        given = tf.stack(given, axis=1)  # [B, statistics, levels, 2]
        counts = tf.where(tf.math.is_nan(given), counts, given)
        return _rows(specs, counts)

    def _counts(
        self, counters: Sequence[Counter], features: Mapping[str, Any]
    ) -> tf.Tensor:
        """Clicks and impressions of each counter's key, `[B, counters, 2]`."""
        numbers = [table.counter for table in self.spec.counters]
        keys = [
            _salted(keys_of_tensors(features, each), numbers.index(each))
            for each in counters
        ]
        flat = [
            each.flat_values if isinstance(each, tf.RaggedTensor) else each
            for each in keys
        ]
        found = self._looked_up(tf.concat(flat, axis=0))
        parts = tf.split(found, [tf.shape(each)[0] for each in flat], num=len(flat))
        parts = [
            tf.reduce_sum(each.with_flat_values(part), axis=1)
            if isinstance(each, tf.RaggedTensor)
            else part
            for each, part in zip(keys, parts)
        ]
        return tf.stack(parts, axis=1)

    def _looked_up(self, keys: tf.Tensor) -> tf.Tensor:
        places = tf.searchsorted(self.keys, keys, out_type=tf.int64)
        places = tf.minimum(places, tf.size(self.keys, tf.int64) - 1)
        known = tf.equal(tf.gather(self.keys, places), keys)
        return tf.where(known[:, tf.newaxis], tf.gather(self.counts, places), 0.0)


def _salt(number: int) -> np.int64:
    """What a counter's keys are changed by: bits of a number below 2^63."""
    salt = np.array([number + 1], np.uint64) * GAMMA
    return np.int64((salt >> np.uint64(1))[0])


def _salted(keys: Any, number: int) -> Any:
    if isinstance(keys, tf.RaggedTensor):
        return keys.with_flat_values(_salted(keys.flat_values, number))
    changed = tf.bitwise.bitwise_xor(keys, tf.constant(_salt(number), tf.int64))
    return tf.where(keys < 0, keys, changed)


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
