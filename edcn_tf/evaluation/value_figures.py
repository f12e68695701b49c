"""AUC and calibration of the rows with one value of a field, with their chance."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from edcn_tf.evaluation import metrics

NORMAL_95 = 1.959964  # a normal variable's 97.5 % quantile


class Interval(NamedTuple):
    """A figure with its 95 % interval; NaN where the rows do not tell."""

    value: float
    low: float
    high: float

    def excludes(self, value: float) -> bool:
        """Whether the value lies outside, by more than rounding."""
        return self.high < value - 1e-9 or self.low > value + 1e-9


UNKNOWN = Interval(np.nan, np.nan, np.nan)


class ValueFigures(NamedTuple):
    """Figures of the rows that hold one value: `id` is its row of the table."""

    id: int
    rows: int
    auc: Interval
    calibration: Interval


class FieldFigures(NamedTuple):
    """What `figures_by_value` found of a field.

    `auc`: mean AUC within a value, over all values with both classes, by their rows
        (`metrics.gauc`). It is below the AUC of all rows: what the field itself tells
        is the same for all rows of a value.
    `values`: a `ValueFigures` each, the lowest AUC first, those without one last.
    `too_few`: number of values with too few rows.
    """

    auc: float
    values: list[ValueFigures]
    too_few: int


def figures_by_value(
    ids: ArrayLike,
    labels: ArrayLike,
    probabilities: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    min_rows: int = 50,
    min_of_class: int = 5,
    max_values: int = 12,
) -> FieldFigures:
    """AUC and calibration for the most frequent values of a field.

    Args:
        ids: `[B, slots]` of the field; 0 is an unused slot. A row counts for each value
            that it holds, once.
        labels: `[B]`, 0 or 1.
        probabilities: `[B]`.
        weights: Of the rows, or None. `min_rows` counts rows all the same.
        min_rows: Rows that a value must have.
        min_of_class: Clicks, and non-clicks, that it must have for an AUC; with fewer
            DeLong's interval is far too short.
        max_values: Values at most.

    Returns:
        A `FieldFigures`.
    """
    rows, values = _rows_of_values(np.asarray(ids))
    y, p = np.asarray(labels)[rows], np.asarray(probabilities)[rows]
    w = None if weights is None else np.asarray(weights)[rows]
    found, starts, counts = np.unique(values, return_index=True, return_counts=True)
    frequent = np.argsort(-counts, kind="stable")[:max_values]
    figures = []
    for place in frequent[counts[frequent] >= min_rows]:
        part = slice(starts[place], starts[place] + counts[place])
        those = y[part], p[part], None if w is None else w[part]
        if w is not None and not w[part].any():
            continue
        clicks = int(y[part].sum())
        has_auc = min(clicks, counts[place] - clicks) >= min_of_class
        figures.append(
            ValueFigures(
                id=int(found[place]),
                rows=int(counts[place]),
                auc=auc_interval(*those) if has_auc else UNKNOWN,
                calibration=calibration_interval(*those),
            )
        )
    figures.sort(key=lambda each: (np.isnan(each.auc.value), each.auc.value))
    return FieldFigures(
        auc=metrics.gauc(y, p, values, w).gauc,
        values=figures,
        too_few=int((counts < min_rows).sum()),
    )


def auc_interval(
    labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None
) -> Interval:
    """AUC with DeLong's 95 % interval, an `Interval` within [0, 1].

        variance = var(V_i over clicks) / m + var(V_j over non-clicks) / n

    where V_i is the share of non-clicks below click i, V_j that of clicks above
    non-click j, ties counted half. With weights, shares and variances are weighted, and
    m and n are the classes' effective numbers of rows, (sum w)^2 / sum w^2. NaN for
    the bounds with fewer than two rows of a class, for all without a class.

    Reference:
        DeLong et al. 1988, "Comparing the Areas under Two or More Correlated Receiver
        Operating Characteristic Curves".
    """
    auc = metrics.auc(labels, scores, weights)
    labels, scores = np.asarray(labels), np.asarray(scores)
    weights = np.ones(len(labels)) if weights is None else np.asarray(weights)
    is_click = labels == 1
    clicks = scores[is_click], weights[is_click]
    others = scores[~is_click], weights[~is_click]
    if np.isnan(auc):
        return UNKNOWN
    variance = _variance_of_mean(_shares_below(*clicks, *others), clicks[1])
    variance += _variance_of_mean(1 - _shares_below(*others, *clicks), others[1])
    reach = NORMAL_95 * np.sqrt(variance)
    return Interval(auc, *map(float, np.clip([auc - reach, auc + reach], 0, 1)))


def calibration_interval(
    labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None
) -> Interval:
    """Predicted over true clicks with a 95 % interval, an `Interval`.

        R = sum(w p) / sum(w y),   variance of ln R = sum (w (p - R y))^2 / sum(w p)^2

    the delta method's for a ratio of sums over rows, symmetric around ln R. NaN
    without a click.

    Reference:
        Cochran 1977, "Sampling Techniques", section 2.11, for the ratio's variance.
    """
    ratio = metrics.calibration(labels, probabilities, weights)
    labels = np.asarray(labels, np.float64)
    probabilities = np.asarray(probabilities, np.float64)
    weights = np.ones(len(labels)) if weights is None else np.asarray(weights)
    predicted = weights @ probabilities
    if np.isnan(ratio) or predicted == 0:
        return Interval(ratio, np.nan, np.nan)
    errors = weights * (probabilities - ratio * labels)
    reach = NORMAL_95 * np.sqrt(errors @ errors) / predicted
    return Interval(ratio, float(ratio * np.exp(-reach)), float(ratio * np.exp(reach)))


def _rows_of_values(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row and value of each value that a row holds, once, by value and row."""
    rows, slots = np.nonzero(ids)
    keys = np.unique(ids[rows, slots].astype(np.int64) * len(ids) + rows)
    return keys % len(ids), keys // len(ids)


def _shares_below(
    scores: np.ndarray, _: np.ndarray, others: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """For each score the weighted share of the others below it, ties half."""
    order = np.argsort(others)
    sums = np.append(0.0, np.cumsum(weights[order]))
    below, up_to = (
        sums[np.searchsorted(others[order], scores, side)] for side in ("left", "right")
    )
    return (below + up_to) / 2 / sums[-1]


def _variance_of_mean(values: np.ndarray, weights: np.ndarray) -> float:
    """The estimated variance of a weighted mean of independent values."""
    shares = weights / weights.sum()
    effective = 1 / (shares @ shares)
    if effective <= 1:
        return np.nan
    deviations = shares * (values - shares @ values)
    return deviations @ deviations * effective / (effective - 1)
