"""What an addition brings: a correction of the logits, and how much it saves.

    d_b = G_b / (H_b + l),   G_b = sum of w (y - p),   H_b = sum of w p (1 - p)

over the fitted rows of bin b: one Newton step of the bin's logit, shrunk by l, which is
what serves the fitted rows best when each is left out of its own bin. The gain is what
the correction takes off the log loss of the judged rows.
"""

import itertools
from typing import NamedTuple

import numpy as np

from edcn_tf.preparation.choosing.baseline import levelled, log_loss, probabilities

SHRINKING = (1.0, 3.0, 10.0, 30.0, 100.0)
SHRINKING_ROWS = 50_000  # by which one of these is chosen
STEPS = 3  # of what is taken: rates near 0 or 1 are more than one away
BLOCKS = 32  # of judged rows that follow each other, by which a gain's error is told


class Gain(NamedTuple):
    """A gain on the judged rows, in nats a row, and its standard error."""

    nats: float
    error: float


class Logits:
    """The logits of all rows, as additions correct them.

    Args:
        rows: `edcn_tf.preparation.choosing.rows.Rows`.
        logits: `[N]`, of the baseline.
        usable: Which rows have one, `[N]` of bool.
    """

    def __init__(self, rows, logits, usable):
        self.rows, self.logits, self.usable = rows, logits, usable
        places = np.arange(len(rows))
        ends = [rows.fitted, len(rows)]
        if rows.by_time and rows.running:  # then the last of the fitted judge as well
            ends.insert(0, int(usable[: rows.fitted].argmax() + rows.fitted) // 2)
        self.fits = [places[usable & (places < end)] for end in ends[:-1]]
        self.judged = [places[a:b] for a, b in itertools.pairwise(ends)]
        self._refresh()

    def thinned(self, step):
        """Those of every so many-th row, without counts."""
        rows = self.rows.thinned(step)
        return Logits(rows, self.logits[::step], self.usable[::step])

    def _refresh(self):
        rows = self.rows
        rates = probabilities(self.logits)
        self.residuals = rows.weights * (rows.labels - rates)
        self.hessians = rows.weights * rates * (1 - rates)
        self.losses = [self._losses(judged) for judged in self.judged]

    def _losses(self, judged, corrections=0.0):
        labels, weights = self.rows.labels[judged], self.rows.weights[judged]
        logits = levelled(self.logits[judged] + corrections, labels, weights)
        return weights * log_loss(labels, logits)

    @property
    def loss(self):
        """Log loss of the judged rows."""
        weights = self.rows.weights[np.concatenate(self.judged)]
        return np.concatenate(self.losses).sum() / weights.sum()

    def gain(self, table):
        """What a table's correction brings: `Gain`."""
        saved = []
        for fits, judged, losses in zip(self.fits, self.judged, self.losses):
            _, corrections = self._corrections(table, fits, judged)
            saved.append(losses - self._losses(judged, corrections))
        saved = np.concatenate(saved)
        saved /= self.rows.weights[np.concatenate(self.judged)].mean()
        starts = np.arange(BLOCKS) * len(saved) // BLOCKS
        sizes = np.diff(starts, append=len(saved))
        blocks = np.add.reduceat(saved, starts) / sizes
        return Gain(saved.mean(), blocks.std(ddof=1) / np.sqrt(BLOCKS))

    def add(self, table):
        """Corrects all rows by a table, fitted ones by what others of their bin say."""
        fits, judged = self.fits[-1], self.judged[-1]
        self.logits = self.logits.copy()
        for _ in range(STEPS):
            own, corrections = self._corrections(table, fits, judged)
            self.logits[fits] += own
            self.logits[judged] += corrections
            self._refresh()

    def _corrections(self, table, fits, judged):
        """Of fitted rows, each left out of its own bin, and of rows that are judged."""
        residuals, hessians = self.residuals[fits], self.hessians[fits]
        bins = table[fits] + 1
        size = int(table.max(initial=0)) + 2
        sums = np.bincount(bins, residuals, size)
        curvatures = np.bincount(bins, hessians, size)
        sums[0] = 0  # of no bin
        rest, rest_curvatures = sums[bins] - residuals, curvatures[bins] - hessians
        rest[bins == 0] = 0

        some = slice(None, None, -(-len(fits) // SHRINKING_ROWS))

        def saved(shrinking):
            step = rest[some] / (rest_curvatures[some] + shrinking)
            return (step * residuals[some] - step * step * hessians[some] / 2).sum()

        shrinking = max(SHRINKING, key=saved)
        own = rest / (rest_curvatures + shrinking)
        return own, (sums / (curvatures + shrinking))[table[judged] + 1]
