"""Whether one model ranks better than another, beyond the chance of the rows."""

from typing import NamedTuple

import numpy as np

from edcn_tf import metrics
from edcn_tf.errors import InputError

AT_ONCE = 1 << 22  # rows times resamples that are held at a time


class Difference(NamedTuple):
    """AUC of the second model minus that of the first, with a 95 % interval."""

    difference: float
    low: float
    high: float


def paired_bootstrap(labels, first, second, weights=None, resamples=1000, seed=0):
    """How much larger the AUC of `second` is than that of `first` on the same rows.

    Rows are drawn anew, as many as there are, with replacement; both models are judged
    on the same draw. The interval holds the middle 95 % of the differences (the
    percentile bootstrap). It tells of the chance of the rows, not of that of training:
    another seed is another model.

    Args:
        labels: 1-D, 0 or 1.
        first: Scores of these rows by one model; only their order counts.
        second: Scores by the other.
        weights: Of the rows; a drawn row brings its weight with it.
        resamples: Number of draws, at least 1.
        seed: Of the draws.

    Returns:
        A `Difference`, `(difference, low, high)`; all NaN if a class is absent. Draws
        that lack a class are passed over.

    Raises:
        InputError: As the functions of `edcn_tf.metrics` do.

    Reference:
        Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13.
    """
    if not isinstance(resamples, (int, np.integer)) or resamples < 1:
        raise InputError(
            f"resamples must be a whole number of at least 1. Received: {resamples!r}"
        )
    difference = metrics.auc(labels, second, weights) - metrics.auc(
        labels, first, weights
    )
    if np.isnan(difference):
        return Difference(np.nan, np.nan, np.nan)
    labels = np.asarray(labels, np.float64)
    weights = np.ones(len(labels)) if weights is None else np.asarray(weights)
    models = [
        _Ranked(labels, np.asarray(scores), weights) for scores in (first, second)
    ]
    random = np.random.default_rng(seed)
    rows, drawn = len(labels), []
    for start in range(0, resamples, step := max(1, AT_ONCE // rows)):
        number = min(step, resamples - start)
        draws = random.integers(0, rows, (number, rows))
        draws += rows * np.arange(number)[:, None]
        times = np.bincount(draws.ravel(), minlength=number * rows)
        one, other = (model.aucs(times.reshape(number, rows)) for model in models)
        drawn.append(other - one)
    low, high = np.nanquantile(np.concatenate(drawn), [0.025, 0.975])
    return Difference(difference, float(low), float(high))


class _Ranked:
    """A model's rows in the order of its scores, for the AUC of many draws of them."""

    def __init__(self, labels, scores, weights):
        self.order = np.argsort(scores, kind="stable")
        scores = scores[self.order]
        self.ties = np.flatnonzero(np.append(True, scores[1:] != scores[:-1]))
        self.clicks = (labels * weights)[self.order]
        self.others = ((1 - labels) * weights)[self.order]

    def aucs(self, times):
        """AUC of each draw, `[n]`; `times`, `[n, rows]`, is how often it has a row."""
        times = times[:, self.order]
        clicks = np.add.reduceat(times * self.clicks, self.ties, axis=1)
        others = np.add.reduceat(times * self.others, self.ties, axis=1)
        won = (clicks * (np.cumsum(others, axis=1) - others / 2)).sum(axis=1)
        pairs = clicks.sum(axis=1) * others.sum(axis=1)
        return np.divide(won, pairs, out=np.full(len(won), np.nan), where=pairs > 0)
