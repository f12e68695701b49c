"""The counter of the training split, which writes the FeatureSpec."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from edcn_tf.errors import InputError
from edcn_tf.features.counting import FieldCounter
from edcn_tf.features.crossing import crossed_columns
from edcn_tf.features.draws import row_keys
from edcn_tf.features.spec import FILE, FORMAT, FeatureSpec
from edcn_tf.features.statistics.smoothing import learned_strengths, smoothed
from edcn_tf.features.statistics.statistic import StatisticSpec
from edcn_tf.files import write_json


class FeatureCounter:
    """Counts the training split and writes the FeatureSpec.

    Args:
        schema: The `Schema`.
        seed: Seed of the samples that numeric boundaries are taken from, where rows
            come without keys of their own.
    """

    def __init__(self, schema, seed=0):
        self.schema = schema
        self.seed = seed
        self.rows = 0
        self.counters = [
            FieldCounter(field, i, schema.owner(field))
            for i, field in enumerate(schema.fields)
        ]

    def add(self, batch, keys=None):
        """Counts a normalized batch of training rows.

        Args:
            batch: `pyarrow.RecordBatch` (`edcn_tf.logs.normalizing.normalize`).
            keys: The rows' keys (`edcn_tf.features.draws.row_keys`); unless given,
                those of rows that follow each other in one log.
        """
        if keys is None:
            keys = row_keys(self.seed, 0, self.rows, batch.num_rows)
        self.rows += batch.num_rows
        for counter in self.counters:
            field = counter.field
            if field.is_statistic:
                counter.add_statistic(
                    batch.column(field.name), *_outcomes(batch, self.schema), keys
                )
            elif field.parts:
                counter.add(crossed_columns(batch, field), keys)
            else:
                counter.add(batch.column(field.name), keys)

    def write(self, directory, growth=None, counted=None):
        """Writes the FeatureSpec into a new directory and returns it.

        Args:
            directory: A new directory.
            growth: `edcn_tf.features.growth.Growth`, to go on from an earlier
                FeatureSpec.
            counted: What statistics are of, where the schema has some
                (`edcn_tf.preparation.counted.Counted`).
        """
        directory = Path(directory)
        if not self.rows:
            raise InputError("The training split has no rows: nothing to count")
        directory.mkdir(parents=True)
        (directory / "vocabulary").mkdir()
        (directory / "counts").mkdir()
        if growth:
            (directory / "last_seen").mkdir()
        stored, kept = {}, {}  # by the fields' names
        # Those that others share the rows of come first.
        for counter in sorted(self.counters, key=lambda each: each.field.shares_rows):
            field = counter.field
            name = f"{counter.number:03d}-{field.name}.txt"
            stored[field.name] = _write_field(
                directory, name, counter, growth, kept, counted
            )
        config = {
            "format": FORMAT,
            "rows_counted": self.rows,
            "schema": self.schema.to_dict(),
            "fields": [stored[field.name] for field in self.schema.fields],
        }
        if growth:
            config["day"] = growth.day
        if counted:
            config["statistics"] = counted.write(directory)
        write_json(directory / FILE, config)
        return FeatureSpec.load(directory)


def _outcomes(batch, schema):
    """Labels and weights of rows."""
    labels = batch.column(schema.label).to_numpy()
    if schema.weight is None:
        return labels, np.ones(len(labels))
    return labels, batch.column(schema.weight).to_numpy()


def _write_field(directory, file_name, counter, growth, all_kept, counted):
    """Writes a field's files and adds the values that have a row to `all_kept`."""
    field, stored = counter.field, {"name": counter.field.name}
    missing = counter.missing
    earlier = growth.earlier(field) if growth else None
    if field.is_vector:
        vectors = counter.vectors
        if earlier:  # whose projection goes on
            mean, deviation = earlier.mean, earlier.deviation
        else:  # float32, so that they do not hang on the order of the sums
            mean, deviation = map(np.float32, (vectors.mean, vectors.deviation()))
        stored["mean"], stored["deviation"] = (
            [float(number) for number in numbers] for numbers in (mean, deviation)
        )
        counts = np.array([vectors.total])
    elif field.is_statistic:
        if earlier:  # whose ranges mean what they meant
            ranges = earlier.statistic
        else:
            ranges = _statistic(field, counter.counted, counted.prior)
        stored.update(ranges.to_dict())
        counts = ranges.row_counts(counter.counted, field.min_count)
        missing = 0
    elif field.has_ranges:
        boundaries = np.array(earlier.boundaries, np.float32) if earlier else None
        boundaries, counts = _ranges(field, counter.numbers, boundaries)
        stored["boundaries"] = [float(b) for b in boundaries]
    elif counter.owner.hash_buckets:
        counts = counter.bucket_counts
    elif field.shares_rows:
        kept = all_kept[field.of]
        counts = counter.counts_of(kept)
        counts = np.concatenate([counter.unseen, counts])
    else:
        kept = growth.keep(counter) if growth else counter.keep()
        all_kept[field.name] = kept["value"]
        counts = np.concatenate([counter.unseen, kept["count"].to_numpy()])
        stored["vocabulary"] = f"vocabulary/{file_name}"
        _write_lines(directory / stored["vocabulary"], kept["value"])
        if growth:
            stored["last_seen"] = f"last_seen/{file_name}"
            _write_lines(directory / stored["last_seen"], kept["last_seen"])
    counts = np.concatenate([[missing], counts])
    if earlier:
        before, values = earlier.row_counts(), earlier.owner.vocabulary
        rows = earlier.first_value - earlier.offset if values else None
        counts[:rows] += before[:rows]
        if values and field.shares_rows:  # a field's own are those of all days already
            places = pc.index_in(kept, earlier.owner.values()).fill_null(-1).to_numpy()
            known = places >= 0
            counts[rows:][known] += before[rows:][places[known]]
    stored["rows"] = len(counts)
    stored["counts"] = f"counts/{file_name}"
    _write_lines(directory / stored["counts"], pa.array(counts, pa.int64()))
    return stored


def _statistic(field, sample, prior):
    """The `StatisticSpec` of what was counted of a sample of training rows."""
    counts, labels, weights = sample.sample()
    if field.prior is not None:
        prior = field.prior
    strengths = [field.smoothing] * len(field.counted)
    if field.smoothing is None:
        strengths = learned_strengths(counts, labels, prior, field.min_count, weights)
    rates = smoothed(counts, prior, strengths, field.min_count)
    boundaries = (_between(field, each) for each in (rates, counts[:, 0, 1]))
    return StatisticSpec(prior, tuple(strengths), *boundaries)


def _between(field, numbers):
    """Boundaries midway between numbers, none at one.

    So that a rate, which is computed in float32 where the sample's was in float64, is
    in the same range wherever it is computed.
    """
    numbers = np.sort(np.round(numbers, 6).astype(np.float32))
    upper = _boundaries(field, None, numbers)
    distinct = np.unique(numbers)
    lower = distinct[np.searchsorted(distinct, upper) - 1]
    middle = np.unique(((lower + upper) / 2).astype(np.float32))
    return tuple(float(number) for number in middle)


def _ranges(field, numbers, boundaries=None):
    """Boundaries of a numeric field and the training values in each range."""
    sample = numbers.sample()
    if boundaries is None:
        boundaries = _boundaries(field, numbers, sample)
    ranges = np.searchsorted(boundaries, sample, side="right")
    counts = np.bincount(ranges, minlength=len(boundaries) + 1)
    if not len(sample):  # nothing, or nothing but infinite numbers: the last range
        counts[-1] = numbers.total
        return boundaries, counts
    return boundaries, np.round(counts * (numbers.total / len(sample)))


def _boundaries(field, numbers, sample):
    distinct = np.unique(sample)
    if len(distinct) <= field.buckets:
        boundaries = distinct[1:]
    elif field.scale == "log":
        low, high = np.arcsinh([numbers.low, numbers.high])
        boundaries = np.sinh(np.linspace(low, high, field.buckets + 1)[1:-1])
    else:
        share = np.linspace(0, 1, field.buckets + 1)[1:-1]
        boundaries = np.quantile(sample, share, method="higher")
        # Where several fall on one frequent value, it gets a range of its own: without
        # a boundary after it, a column of mostly zeros would be a single range.
        values, times = np.unique(boundaries, return_counts=True)
        after = np.searchsorted(distinct, values[times > 1], side="right")
        after = distinct[after[after < len(distinct)]]
        boundaries = np.concatenate([boundaries, after])
    # Each at a number of the sample, and none below which there is nothing: so no
    # range is empty.
    places = np.searchsorted(distinct, boundaries.astype(np.float32))
    return np.unique(distinct[places[places > 0].clip(max=len(distinct) - 1)])


def _write_lines(path, values):
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for start in range(0, len(values), 1 << 20):  # flat memory
            chunk = values.slice(start, 1 << 20).to_pylist()
            file.write("".join(f"{value}\n" for value in chunk))
