"""What is computed of a search's trials before it is drawn or told."""

import math
import statistics
from typing import NamedTuple

import numpy as np
from scipy.stats import ttest_ind
from sklearn.ensemble import RandomForestRegressor

from ..results import COMPLETED

TREES = 200
TRIALS_FOR_FOREST = 10
POINTS = 15  # of an effect's curve


def completed(trials):
    return [trial for trial in trials if trial.status == COMPLETED]


def figure_name(objective):
    """`"AUC"` or `"log loss"`, of whichever split."""
    return objective.title.removeprefix("validation ")


def score_name(objective):
    """Of what trials are ranked by."""
    charges = objective.latency_charge or objective.parameter_charge
    return f"{objective.title}, charged" if charges else objective.title


def values_of(retrained, objective, split):
    """The objective's figure of each seed, without charges."""
    short = {"validation": "valid", "test": "test"}[split]
    return getattr(retrained, f"{short}_{objective.figure}")


def furthest(trials):
    """The completed trials that no other completed one went on with.

    So each setting of Hyperband's counts once, with the most epochs that it got.
    """
    done = completed(trials)
    continued = {trial.continues for trial in done}
    return [trial for trial in done if trial.number not in continued]


def best_so_far(scores, higher_is_better):
    """The best of each score and those before it; a NaN, which has failed, is none."""
    best = np.fmax if higher_is_better else np.fmin
    return best.accumulate(np.asarray(scores, float))


def pareto_front(costs, figures, higher_is_better):
    """Indices of the points that none surpasses, the cheapest first.

    A point is surpassed by another that is no worse in cost and figure, and better in
    one of them.
    """
    sign = -1 if higher_is_better else 1
    badness = [sign * figure for figure in figures]
    points = list(zip(costs, badness))
    front = []
    for index in sorted(range(len(points)), key=points.__getitem__):
        last = points[front[-1]] if front else (math.inf, math.inf)
        if badness[index] < last[1] or points[index] == last:
            front.append(index)
    return front


class Difference(NamedTuple):
    """Of two means, with the bounds of its 95 % interval (NaN if unknown)."""

    mean: float
    low: float
    high: float


def difference(a, b):
    """Mean of a minus mean of b, with Welch's interval (1947): variances may differ."""
    mean = statistics.fmean(a) - statistics.fmean(b)
    if min(len(a), len(b)) < 2:
        return Difference(mean, np.nan, np.nan)
    if statistics.stdev(a) == statistics.stdev(b) == 0:
        return Difference(mean, mean, mean)
    interval = ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    return Difference(mean, float(interval.low), float(interval.high))


def limits(scores, higher_is_better):
    """Bounds of an axis that shows all scores but those far worse than the rest.

    A score is far worse beyond Tukey's fence (1977): one and a half times the distance
    of the quartiles below the lower one, or above the upper one where low is good.
    """
    scores = np.asarray(scores, float)
    low, high = np.nanmin(scores), np.nanmax(scores)
    first, third = np.nanquantile(scores, [0.25, 0.75])
    if higher_is_better:
        low = max(low, first - 1.5 * (third - first))
    else:
        high = min(high, third + 1.5 * (third - first))
    margin = 0.06 * (high - low) or 0.001
    return low - margin, high + margin


class Forest:
    """A random forest (Breiman 2001) that tells a trial's score from its setting.

    The number of epochs is given to it too, as trials that had few score lower.

    Args:
        axes: `ParameterAxis`es.
        trials: Completed `TrialResult`s.
        scores: A number for each.
    """

    def __init__(self, axes, trials, scores):
        self.axes = axes
        settings = [trial.settings for trial in trials]
        self._active = np.array([[a.name in s for a in axes] for s in settings])
        places = np.array([[axis.number(s) for axis in axes] for s in settings], float)
        # Where a parameter was not active it has its median: a place of its own would
        # tell, in its owner's stead, what value the owner had.
        middles = np.nanmedian(np.where(self._active, places, np.nan), axis=0)
        places = np.where(self._active, places, middles)
        self._features = np.column_stack([places, [t.epochs for t in trials]])
        self._forest = RandomForestRegressor(
            TREES, max_features=0.5, oob_score=True, random_state=0
        ).fit(self._features, scores)

    @property
    def r2(self):
        """Share of the variance explained of trials that a tree did not see."""
        return float(self._forest.oob_score_)

    def effect(self, axis):
        """Partial dependence (Friedman 2001) of the score on a parameter.

            f(v) = mean of the forest's predictions for the trials in which the
                   parameter is active, with its value set to v

        Args:
            axis: One of the axes.

        Returns:
            Values v (as `ParameterAxis.number`), f(v), and what nine in ten, and one in
            ten, of the trees exceed.
        """
        column = self.axes.index(axis)
        rows = self._features[self._active[:, column]]
        values = axis.grid(POINTS)
        features = np.repeat(rows[None], len(values), axis=0)
        features[:, :, column] = values[:, None]
        features = features.reshape(-1, rows.shape[1])
        trees = np.array([t.predict(features) for t in self._forest.estimators_])
        trees = trees.reshape(TREES, len(values), len(rows)).mean(axis=2)
        low, high = np.quantile(trees, [0.1, 0.9], axis=0)
        return values, trees.mean(axis=0), low, high
