"""The calibration that fits the validation split of a run: `edcn calibrate`."""

import dataclasses
import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize
from scipy.special import expit, logit
from sklearn.isotonic import isotonic_regression

from edcn_tf.directories import Run
from edcn_tf.errors import InputError
from edcn_tf.evaluation import metrics
from edcn_tf.evaluation.calibration import (
    EPSILON,
    KNOT_DISTANCE,
    KNOTS,
    METHODS,
    Calibration,
    load_calibration,
)
from edcn_tf.evaluation.scoring import score_run
from edcn_tf.files import StrPath

BINS = 1000
STEEPEST = 20  # slope between two knots
GRADIENT = 1e-8  # of the loss of all rows, at the end
RIDGE = 1e-6  # holds the slope at 1 where all probabilities are equal


def calibrate_run(
    run: StrPath,
    data: StrPath | None = None,
    *,
    method: str = "platt",
    negative_sampling_rate: float | None = None,
) -> dict[str, dict[str, float]]:
    """Fits a calibration on the validation split and makes it the run's.

    Args:
        run: Directory that `train` made; its `calibration.json` is replaced, whole or
            not at all. What was exported before keeps the calibration it had.
        data: Directory that `prepare` made; by default the one of `result.json`.
        method: `"platt"`, `"isotonic"`, or `"none"`, which leaves the correction of
            the sampling alone.
        negative_sampling_rate: Share of the negatives in the logs, all splits alike,
            if they had been sampled before `prepare`. What `prepare` sampled, the
            run knows.

    Returns:
        `{"before": figures, "after": figures}` of the validation split
        (`edcn_tf.evaluation.metrics.evaluate`), both with the weights of the new
        calibration.

    Raises:
        InputError: If a file cannot be read, the run was trained on negatives that
            `prepare` sampled and a rate is given all the same, or `fit` fails.
    """
    before = load_calibration(run)
    rate, splits_sampled = before.negative_sampling_rate, before.splits_sampled
    if negative_sampling_rate is not None:
        if rate < 1 and not splits_sampled:
            raise InputError(
                f"{run}: prepare kept {rate:g} of the negatives, which is corrected "
                "already; give a rate only for logs that were sampled before prepare"
            )
        rate, splits_sampled = negative_sampling_rate, True
    data = data or Run(run).data()
    scores = score_run(run, data, "valid", Calibration())
    try:
        after = fit(
            scores.labels,
            scores.probabilities,
            method,
            negative_sampling_rate=rate,
            splits_sampled=splits_sampled,
            weights=scores.weights,
        )
    except InputError as error:
        raise InputError(f"{data}, validation split: {error}") from None
    weights = after.row_weights(scores.labels, scores.weights)
    figures = {
        name: scores.calibrated(each)._replace(weights=weights, raw=None).evaluate()
        for name, each in [("before", before), ("after", after)]
    }
    after.save(Run(run).calibration)
    return figures


def fit(
    labels: ArrayLike,
    probabilities: ArrayLike,
    method: str = "platt",
    *,
    negative_sampling_rate: float = 1.0,
    splits_sampled: bool = False,
    weights: ArrayLike | None = None,
) -> Calibration:
    """The `Calibration` of a method that fits rows which the model was not trained on.

    Platt's two parameters are those of maximum likelihood, with his targets (of one
    more click and one more non-click), found by a Newton method. The isotonic line
    goes through the centres of the blocks that pooling adjacent violators leaves of
    1000 bins of equally many rows, so that it ascends within a block too, and in
    proportion to the probability beyond the outer centres.

    Args:
        labels: 0 or 1, `[rows]`.
        probabilities: The model's own, `[rows]`.
        method: One of `METHODS`; `"none"` only undoes the sampling.
        negative_sampling_rate, splits_sampled: As of `Calibration`.
        weights: Each row's, `[rows]`, or `None`.

    Raises:
        InputError: If the rows are of one class only, if they are no labels,
            probabilities and weights, or if clicks become rarer as the probability
            rises (Platt).

    References:
        Platt, 1999, "Probabilistic Outputs for Support Vector Machines".
        Zadrozny and Elkan, 2002, "Transforming Classifier Scores into Accurate
        Multiclass Probability Estimates".
        Oron and Flournoy, 2017, "Centered Isotonic Regression".
    """
    if method not in METHODS:
        raise InputError(f"method must be one of {METHODS}. Received: {method!r}")
    correction = Calibration(
        negative_sampling_rate=negative_sampling_rate, splits_sampled=splits_sampled
    )
    given = None if weights is None else np.asarray(weights)
    counts = correction.row_weights(np.asarray(labels), given)
    y, p, w = metrics.check_probabilities(labels, probabilities, counts)
    if method == "none":
        return correction
    y, p, w = (each[w > 0] for each in (y, p, w))
    if y.min() == y.max():
        raise InputError(
            "there must be rows with and without a click to calibrate on. "
            f"Received: only {y[0]:g}"
        )
    w = w / w.mean()  # so that 1 is a row
    p = p.clip(EPSILON, 1 - EPSILON)
    log_odds = logit(p) + math.log(negative_sampling_rate)
    if method == "platt":
        slope, intercept = _platt(y, log_odds, w)
        return dataclasses.replace(
            correction, method=method, slope=slope, intercept=intercept
        )
    knots = _isotonic(y, expit(log_odds), w)
    return dataclasses.replace(correction, method=method, x=knots[0], y=knots[1])


def _platt(
    labels: np.ndarray, log_odds: np.ndarray, weights: np.ndarray
) -> tuple[float, float]:
    """Slope and intercept of the largest likelihood."""
    clicks = weights @ labels
    others = weights.sum() - clicks
    targets = np.where(labels == 1, (clicks + 1) / (clicks + 2), 1 / (others + 2))
    center = np.average(log_odds, weights=weights)
    inputs = np.stack([log_odds - center, np.ones_like(log_odds)])  # [2, rows]
    start = np.array([1.0, center])  # changes nothing
    ridge = np.array([RIDGE, 0.0])

    def loss(parameters: np.ndarray) -> float:
        z = parameters @ inputs
        likelihood = weights @ (np.logaddexp(0, z) - targets * z)
        return likelihood + ridge @ (parameters - start) ** 2 / 2

    def gradient(parameters: np.ndarray) -> np.ndarray:
        errors = expit(parameters @ inputs) - targets
        return inputs @ (weights * errors) + ridge * (parameters - start)

    def hessian(parameters: np.ndarray) -> np.ndarray:
        p = expit(parameters @ inputs)
        return (inputs * (weights * p * (1 - p))) @ inputs.T + np.diag(ridge)

    # Not LogisticRegression: it cannot hold the slope at 1.
    slope, height = minimize(
        loss,
        start,
        method="trust-exact",
        jac=gradient,
        hess=hessian,
        options={"gtol": GRADIENT},
    ).x
    if slope <= 0:
        raise InputError(
            "clicks become rarer as the model's probability rises, so there is no "
            f"calibration that keeps its order. Received: slope {slope:.3g}"
        )
    return float(slope), float(height - slope * center)


def _isotonic(
    labels: np.ndarray, p: np.ndarray, weights: np.ndarray
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Knots x and y of a strictly ascending line."""
    p = p.round(9).clip(KNOT_DISTANCE, 1 - KNOT_DISTANCE)
    ranks = np.searchsorted(np.sort(p), p)  # equal probabilities share a bin
    bins = np.unique(ranks * BINS // len(p), return_inverse=True)[1]
    rows = np.bincount(bins, weights)
    x = np.bincount(bins, weights * p) / rows
    clicks = np.bincount(bins, weights * labels)
    for end in (0, -1):
        # One more row there that clicks as predicted: no row seen so far to click, or
        # not to, is no proof that none will, and log loss would not forgive a 0.
        rows[end] += 1
        clicks[end] += x[end]
    heights = isotonic_regression(clicks / rows, sample_weight=rows)
    ascends = heights[:-1] < heights[1:] * (1 - 1e-12)
    blocks = np.cumsum(np.append(0, ascends))
    rows, sums, clicks = (np.bincount(blocks, w) for w in (rows, rows * x, clicks))
    if len(rows) > KNOTS - 2:
        places = (np.cumsum(rows) - rows / 2) / rows.sum()
        groups = np.unique((places * (KNOTS - 2)).astype(int), return_inverse=True)[1]
        rows, sums, clicks = (np.bincount(groups, w) for w in (rows, sums, clicks))
    # A steep piece would multiply the rounding of float32, so that a served score
    # would depend on the size of its batch.
    while len(rows) > 1:
        slopes = np.diff(clicks / rows) / np.diff(sums / rows)
        worst = int(np.argmax(slopes))
        if slopes[worst] <= STEEPEST:
            break
        groups = np.arange(len(rows)) - (np.arange(len(rows)) > worst)
        rows, sums, clicks = (np.bincount(groups, w) for w in (rows, sums, clicks))
    x, y = sums / rows, clicks / rows
    last = min(1.0, y[-1] / x[-1])
    return (0.0, *map(float, x), 1.0), (0.0, *map(float, y), float(last))
