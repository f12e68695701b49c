"""Counts of rows, batch by batch: flat memory however many they are."""

import numpy as np

from edcn_tf.errors import InputError

GROUPS = 32  # random ones, from whose differences errors are told
# A score's bin is what its float32 begins with: 0.4 % wide, and in the scores' order.
SHIFT = 15
SCORES = (int(np.float32(1).view(np.uint32)) >> SHIFT) + 1


class Tally:
    """Counts of ids by bin and of scores, by random group and label.

    Args:
        bins: The `FieldBins`.

    Attributes:
        rows: Number of rows.
        values: For each of `bins`, counts `[G, 2, 2 + bins]`: of rows without and with
            a click; all of the first kind where there are no labels.
        scores: `[G, 2, SCORES]`, counts by bin of the score.
        predicted: `[G, 2]`, sums of scores.
    """

    def __init__(self, bins):
        self.bins, self.rows = bins, 0
        self.values = [np.zeros((GROUPS, 2, b.columns), np.int64) for b in bins]
        self.scores = np.zeros((GROUPS, 2, SCORES), np.int32)
        self.predicted = np.zeros((GROUPS, 2))

    def add(self, ids, scores, labels, groups):
        """Counts rows.

        Args:
            ids: `[B, S]`.
            scores: `[B]`, in [0, 1].
            labels: `[B]`, 0 or 1; None where there are none.
            groups: Random group of each row, `[B]`, from 0 to `GROUPS` - 1.

        Raises:
            InputError: If a score is not in [0, 1], which no bin is for.
        """
        fits = (scores >= 0) & (scores <= 1)  # no NaN does
        if not fits.all():
            row = int(np.argmin(fits))
            raise InputError(
                f"row {self.rows + row + 1} of those scored: the model's probability "
                f"must be in [0, 1]; train it again. Received: {scores[row]}"
            )
        self.rows += len(ids)
        labels = np.zeros(len(ids), int) if labels is None else labels.astype(int)
        cells = groups.astype(int) * 2 + labels
        for bins, counts in zip(self.bins, self.values):
            of_field = ids[:, bins.slots]
            rows, slots = np.nonzero(of_field)  # 0 is padding
            places = bins.place[of_field[rows, slots] - bins.offset]
            keys = cells[rows] * bins.columns + places
            found = np.bincount(keys, minlength=counts.size)
            counts += found.reshape(counts.shape)
        np.add.at(self.scores.reshape(-1), cells * SCORES + score_bins(scores), 1)
        sums = np.bincount(cells, scores.astype(float), 2 * GROUPS)
        self.predicted += sums.reshape(GROUPS, 2)


def score_bins(scores):
    """Bin of each score, `[B]`."""
    start = (scores.astype(np.float32) + np.float32(0)).view(np.uint32)  # no -0.0
    return (start >> SHIFT).astype(np.int64)


def score_of(bins):
    """The least score of a bin."""
    return (np.asarray(bins, np.uint32) << SHIFT).view(np.float32)
