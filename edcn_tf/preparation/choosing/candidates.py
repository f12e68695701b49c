"""What could be added to a schema, and the table that each addition makes of rows.

A table is a number for each row, that of its bin, or -1 for none: of a cross the
combination of values, of a statistic a range of its rate and one of its impressions.
"""

import dataclasses

import numpy as np

from edcn_tf.features.statistics.smoothing import learned_strengths, smoothed

RATES = 24  # ranges of a rate, beside that of keys of which nothing is known
LEAST_OF_CROSS = 30  # training rows that have the combination of the row in the middle
SMOOTHED_ROWS = 20_000  # by which smoothing is learned


@dataclasses.dataclass(frozen=True, order=True)
class Candidate:
    """A field that could be added.

    Attributes:
        kind: `"cross"` or `"statistic"`.
        of: Names of the fields that it is of.
    """

    kind: str
    of: tuple[str, ...]

    @property
    def what(self):
        """For people."""
        return f"{self.kind} of {', '.join(self.of)}"


class Tables:
    """Makes tables of `edcn_tf.preparation.choosing.rows.Rows`, and keeps keys of one.

    Args:
        rows: The `Rows`.
        usable: Which rows a correction is fitted on, `[N]` of bool.
    """

    def __init__(self, rows, usable):
        self.rows = rows
        fitted = slice(0, rows.fitted)
        self.prior = np.average(rows.labels[fitted], weights=rows.weights[fitted])
        rows_of_rates = np.flatnonzero(usable)
        step = max(1, len(rows_of_rates) // SMOOTHED_ROWS)
        self.sample = rows_of_rates[::step]
        self._counts = {}

    def table(self, candidate):
        """`[N]` int32, from -1 on."""
        if candidate.kind == "cross":
            return self.keys(candidate.of).astype(np.int32)
        return self._ranges(candidate.of)

    def fits(self, candidate):
        """Whether a model can learn it: a cross needs enough rows of a combination.

        Embeddings of combinations that are seen a few times learn these rows by heart,
        however well a shrunk table of them does; their statistics do not.
        """
        if candidate.kind == "statistic":
            return True
        keys = self.keys(candidate.of)[: self.rows.fitted]
        seen = np.bincount(keys + 1)[1:]
        of_rows = np.sort(np.repeat(seen, seen)) * self.rows.total / self.rows.fitted
        return len(of_rows) > 0 and of_rows[len(of_rows) // 2] >= LEAST_OF_CROSS

    def keys(self, of):
        """The combinations' numbers, `[N]` int64, -1 where a value is missing."""
        columns = [self.rows.columns[name] for name in of]
        keys = columns[0]
        for column in columns[1:]:
            size = column.max(initial=0) + 1
            missing = (keys < 0) | (column < 0)
            keys = np.where(missing, -1, keys * size + column)
            keys = np.unique(keys, return_inverse=True)[1] - int(missing.any())
        return keys

    def _ranges(self, of):
        counts = np.stack([self._known(of[:end]) for end in range(len(of), 0, -1)], 1)
        some = self.sample
        rows = self.rows
        strengths = learned_strengths(
            counts[some], rows.labels[some], self.prior, weights=rows.weights[some]
        )
        rates = smoothed(counts, self.prior, strengths)
        known = counts.any(axis=(1, 2))  # the others have all one rate
        ends = np.arange(1, RATES) / RATES
        ends = np.unique(np.quantile(rates[some][known[some]], ends))
        places = np.searchsorted(ends, rates, side="right")
        return np.where(known, places + 1, 0).astype(np.int32)

    def _known(self, of):
        """Clicks and impressions of each row's key as they were known, `[N, 2]`."""
        if of in self._counts:
            return self._counts[of]
        rows, keys = self.rows, self.keys(of)
        size = len(rows) + 1
        # Rows are in order, so a key's are where its number and theirs are in order.
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        asked = np.searchsorted(
            ordered * size + order, ordered * size + rows.known[order]
        )
        is_first = np.diff(ordered, prepend=ordered[0] - 1) != 0
        first = np.maximum.accumulate(np.where(is_first, np.arange(len(rows)), 0))
        found = np.zeros((len(rows), 2), np.float32)
        for column, amounts in enumerate((rows.weights * rows.labels, rows.weights)):
            sums = np.concatenate([[0.0], np.cumsum(amounts[order])])
            found[order, column] = sums[asked] - sums[first]
        found[keys < 0] = 0
        if len(of) <= 2:  # those of three back off to it
            self._counts[of] = found
        return found
