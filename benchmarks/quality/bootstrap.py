"""How far chance alone, in which rows were tested, could move an AUC."""

import numpy as np

RESAMPLES = 1000
BLOCK = 50  # resamples at a time: [BLOCK, rows] numbers are in memory


def bootstrap_auc(labels, scores, resamples=RESAMPLES, seed=0):
    """AUC of several models on the same resamples of the test rows.

    A resample draws as many rows as there are, with replacement; a row drawn k times
    weighs k. All models see the same draws, so the differences of two columns are
    those of a paired bootstrap.

    Args:
        labels: 0 or 1, `[N]`.
        scores: Of each model, `[M, N]`.
        resamples: Number of them, R.
        seed: Of the draws.

    Returns:
        `[R, M]`; NaN where a resample lacks a class.

    Reference:
        Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapters 6 and
        13 (percentile intervals).
    """
    labels, scores = np.asarray(labels), np.asarray(scores)
    ranked = [_Ranked(labels, each) for each in scores]
    random = np.random.default_rng(seed)
    areas = np.empty((resamples, len(ranked)))
    for start in range(0, resamples, BLOCK):
        block = areas[start : start + BLOCK]
        weights = [_draw(random, len(labels)) for _ in block]
        positives = np.array(weights)[:, labels == 1]
        negatives = np.array(weights)[:, labels == 0]
        for model, each in enumerate(ranked):
            block[:, model] = each.auc(positives, negatives)
    return areas


def interval(differences):
    """The middle 95 % of resampled figures, low and high."""
    low, high = np.nanquantile(differences, [0.025, 0.975])
    return float(low), float(high)


def _draw(random, rows):
    return np.bincount(random.integers(rows, size=rows), minlength=rows)


class _Ranked:
    """A model's scores, sorted once for all resamples.

    A positive's rank among the negatives does not change when rows are drawn, only
    what the negatives below it weigh, which a cumulative sum gives.
    """

    def __init__(self, labels, scores):
        negatives, positives = scores[labels == 0], scores[labels == 1]
        self.order = np.argsort(negatives)
        ascending = negatives[self.order]
        self.below = np.searchsorted(ascending, positives, side="left")
        self.upto = np.searchsorted(ascending, positives, side="right")  # with ties

    def auc(self, positives, negatives):
        """The AUC `[B]` for weights `[B, P]` and `[B, Q]` of the two classes' rows.

        sum_p w_p (W(s < s_p) + W(s = s_p) / 2) / (sum_p w_p sum_q w_q), where W is the
        weight of the negatives whose score is lower, or equal.
        """
        lower = np.pad(np.cumsum(negatives[:, self.order], axis=1), ((0, 0), (1, 0)))
        won = np.sum(positives * (lower[:, self.below] + lower[:, self.upto]), axis=1)
        pairs = positives.sum(axis=1) * negatives.sum(axis=1)
        nothing = np.full(len(pairs), np.nan)
        return np.divide(won / 2, pairs, out=nothing, where=pairs > 0)
