"""From clicks and impressions to a rate that few impressions do not lead astray.

    r_L = (c_L + A_L p) / (n_L + A_L)                  of the first field alone
    r_l = (c_l + A_l r_(l+1)) / (n_l + A_l)            of one field more

c and n are the clicks and impressions of level l, 0 where n is below `min_count`; p is
the prior. So a combination backs off to that without its last field, the more the fewer
its impressions: A_l impressions are as good as what is known without it.

Reference:
    MacKay and Peto 1995, "A Hierarchical Dirichlet Language Model", with two outcomes;
    for click rates Agarwal et al. 2007, "Estimating Rates of Rare Events at Multiple
    Resolutions". A by what predicts each row from those before it: Dawid 1984,
    "Statistical Theory: The Prequential Approach".
"""

import numpy as np

STRENGTHS = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0)
LEAST = 1e-6  # of a rate, in the logarithm of the loss


def smoothed(counts, prior, strengths, min_count=1):
    """The rate of each row: `[N, L, 2]`, most special level first -> `[N]` float64."""
    rate = np.full(len(counts), prior, np.float64)
    for level in reversed(range(counts.shape[1])):
        clicks, shown = counts[:, level].T.astype(np.float64)
        enough = shown >= min_count
        clicks, shown = np.where(enough, clicks, 0), np.where(enough, shown, 0)
        rate = (clicks + strengths[level] * rate) / (shown + strengths[level])
    return rate


def learned_strengths(counts, labels, prior, min_count=1, weights=None):
    """A of each level, the most general first: of `STRENGTHS` the one of least loss.

    Args:
        counts: `[N, L, 2]` of training rows, each as it was known before its row.
        labels: `[N]`, 0 or 1.
        prior: p.
        min_count: As the field says.
        weights: Of the rows, or None.

    Returns:
        L numbers, in the order of the levels; the middle one if there are no rows.
    """
    levels = counts.shape[1]
    strengths = [STRENGTHS[len(STRENGTHS) // 2]] * levels
    if not len(labels) or (weights is not None and not np.sum(weights)):
        return strengths
    for level in reversed(range(levels)):
        losses = []
        for strength in STRENGTHS:
            tried = [strength, *strengths[level + 1 :]]
            rates = smoothed(counts[:, level:], prior, tried, min_count)
            rates = np.clip(rates, LEAST, 1 - LEAST)
            each = -np.log(np.where(labels == 1, rates, 1 - rates))
            losses.append(np.average(each, weights=weights))
        strengths[level] = STRENGTHS[int(np.argmin(losses))]
    return strengths


class RowsSample:
    """A uniform sample of training rows: their counts, labels and weights.

    Each row comes with a random priority, and those of lowest priority are kept, so
    that samples of parts of a log merge into that of the whole.

    Args:
        levels: L.
        size: Number of rows to keep at most.
    """

    def __init__(self, levels, size):
        self.size = size
        self.rows = np.zeros((0, 2 * levels + 2), np.float32)
        self.priorities = np.zeros(0)
        self.total = 0

    def add(self, counts, labels, weights, priorities):
        """Takes rows: `[N, 2 L]` counts, and `[N]` of each of the others."""
        self.total += len(labels)
        self._take(np.column_stack([counts, labels, weights]), priorities)

    def merge(self, other):
        """Adds another's rows to these, and returns them."""
        self.total += other.total
        self._take(other.rows, other.priorities)
        return self

    def sample(self):
        """Counts `[n, L, 2]`, labels `[n]` and weights `[n]`, in a fixed order."""
        self._shrink()
        order = np.argsort(self.priorities, kind="stable")
        rows = self.rows[order]
        return rows[:, :-2].reshape(len(rows), -1, 2), rows[:, -2], rows[:, -1]

    def _take(self, rows, priorities):
        self.rows = np.concatenate([self.rows, rows.astype(np.float32)])
        self.priorities = np.concatenate([self.priorities, priorities])
        if len(self.rows) > 2 * self.size:
            self._shrink()

    def _shrink(self):
        if len(self.rows) > self.size:
            kept = np.argpartition(self.priorities, self.size)[: self.size]
            self.rows, self.priorities = self.rows[kept], self.priorities[kept]
