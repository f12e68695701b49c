"""AUC and calibration of a `Tally`, with errors that know of clusters."""

import math
from typing import NamedTuple

import numpy as np
import scipy.stats

HALF = 0.5  # of a click, where there is none: its logarithm is a number


class Figure(NamedTuple):
    """A figure, the same of the reference, and whether they differ by chance.

    Attributes:
        value, error: Of the log, with its standard error.
        reference, reference_error: Of the validation split.
        p: Probability of such a difference by chance; 1 where the rows do not tell.
        freedom: Degrees of freedom of the errors, at most.
    """

    value: float
    error: float
    reference: float
    reference_error: float
    p: float
    freedom: int

    @property
    def is_judged(self):
        """Whether both errors are known, without which no difference is an alarm."""
        return math.isfinite(self.error + self.reference_error)

    def interval(self, of_reference=False):
        """A 95 % interval of the log's figure, or of the reference's: low and high."""
        value, error = self[2:4] if of_reference else self[:2]
        reach = float(scipy.stats.t.ppf(0.975, max(self.freedom, 1)) * error)
        return value - reach, value + reach


def auc(scores):
    """AUC and its standard error, of counts by random group `[G, 2, bins]`.

    Scores in one bin are a tie. The error is the jackknife's, which leaves out one
    random group at a time; NaN where a class is absent.

    Reference:
        Wolter 2007, "Introduction to Variance Estimation", chapter 4.
    """
    groups = scores[scores.sum(axis=(1, 2)) > 0].astype(float)
    both = groups.sum(axis=0)
    number = len(groups)
    without = np.array([_auc(both - each) for each in groups])
    if number < 2 or np.isnan(without).any():
        return _auc(both), np.nan
    variance = (number - 1) / number * ((without - without.mean()) ** 2).sum()
    return _auc(both), float(np.sqrt(variance))


def _auc(counts):
    others, clicks = counts
    pairs = others.sum() * clicks.sum()
    if not pairs:
        return np.nan
    below = np.cumsum(others) - others / 2
    return float(clicks @ below / pairs)


def log_calibration(predicted, clicks):
    """ln(mean prediction / click rate) and its standard error, by random group.

        variance = G / (G - 1) sum_g (P_g - R Y_g)^2 / P^2

    where P_g and Y_g are the sums of predictions and clicks of a group, R = P / Y.
    Where no row has a click, half a click counts, in the group of the least
    predictions: the error is then as large as it is for one click, about 1, so that
    few predicted clicks are no evidence and many are. NaN without predictions.

    Reference:
        Cochran 1977, "Sampling Techniques", section 2.11, for the ratio's variance.
    """
    filled = predicted > 0
    predicted, clicks = predicted[filled], clicks[filled]
    number, total = len(predicted), predicted.sum()
    if not total:
        return np.nan, np.nan
    if not clicks.sum():
        clicks = np.where(np.arange(number) == np.argmin(predicted), HALF, 0.0)
    ratio = total / clicks.sum()
    if number < 2:
        return float(np.log(ratio)), np.nan
    errors = predicted - ratio * clicks
    variance = number / (number - 1) * (errors**2).sum() / total**2
    return float(np.log(ratio)), float(np.sqrt(variance))


def figure(own, reference, groups):
    """A `Figure` of two pairs of value and error, as their p-value is by Student's t.

    Args:
        own, reference: Value and error, of the log and of the validation split.
        groups: The smaller number of random groups with rows, of both.
    """
    apart, error = own[0] - reference[0], np.hypot(own[1], reference[1])
    p = 1.0
    if np.isfinite([apart, error]).all() and error > 0:
        p = float(2 * scipy.stats.t.sf(abs(apart) / error, groups - 1))
    return Figure(*own, *reference, p, groups - 1)
