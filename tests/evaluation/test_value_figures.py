import math

import numpy as np
import pytest

from edcn_tf.evaluation import metrics
from edcn_tf.evaluation.value_figures import (
    Interval,
    auc_interval,
    calibration_interval,
    figures_by_value,
)

LABELS, SCORES = [0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]


def test_auc_interval_by_hand():
    # Clicks are above 1/2 and all of the non-clicks, these below all and 1/2 of the
    # clicks: both variances are 1/8, that of the AUC 1/16 + 1/16.
    found = auc_interval(LABELS, SCORES)
    assert found.value == 0.75
    assert found.low == pytest.approx(0.75 - 1.959964 * 0.125**0.5)
    assert found.high == 1  # not beyond


def test_auc_interval_equals_delongs_sums_over_all_pairs(random):
    labels = random.integers(0, 2, 60)
    scores = random.integers(0, 12, 60) / 11  # with ties
    clicks, others = scores[labels == 1], scores[labels == 0]
    wins = (clicks[:, None] > others) + 0.5 * (clicks[:, None] == others)
    variance = np.var(wins.mean(1), ddof=1) / len(clicks)
    variance += np.var(wins.mean(0), ddof=1) / len(others)
    reach = 1.959964 * variance**0.5
    expected = wins.mean() - reach, wins.mean() + reach
    assert auc_interval(labels, scores)[1:] == pytest.approx(expected)
    same = auc_interval(labels, scores, np.full(60, 7.0))
    assert same == pytest.approx(auc_interval(labels, scores))


def test_weighted_auc_interval_by_hand():
    # Click 0.35 is above 1/4 of the non-clicks' weight, 0.8 above all; non-click 0.1 is
    # below all of the clicks' weight, 0.4 below 1/2. Effective rows: 2 and 1.6.
    found = auc_interval(LABELS, SCORES, [1, 3, 1, 1])
    assert found.value == 0.625
    clicks = (0.5**2 * 0.375**2 * 2) * 2 / 1
    others = ((0.25 * 0.375) ** 2 + (0.75 * 0.125) ** 2) * 1.6 / 0.6
    assert found.low == pytest.approx(
        max(0, 0.625 - 1.959964 * (clicks + others) ** 0.5)
    )


@pytest.mark.parametrize("labels", [[1, 1], [0, 0]])
def test_one_class_has_no_auc(labels):
    assert all(map(math.isnan, auc_interval(labels, [0.1, 0.2])))


def test_one_row_of_a_class_has_no_interval():
    found = auc_interval([1, 0, 0], [0.3, 0.1, 0.2])
    assert found.value == 1
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_calibration_interval_by_hand():
    # R = 0.75; errors 0.5 - 0.75 and 0.25 - 0, over 0.75 predicted clicks.
    found = calibration_interval([1, 0], [0.5, 0.25])
    factor = math.exp(1.959964 * (2 * 0.25**2) ** 0.5 / 0.75)
    assert found == pytest.approx((0.75, 0.75 / factor, 0.75 * factor))
    # Weighted: R = 1 / 2, errors 2 (0.5 - 0.5) and 0.
    assert calibration_interval([1, 0], [0.5, 0.0], [2, 1]) == (0.5, 0.5, 0.5)


def test_calibration_without_a_click_is_nan():
    assert all(map(math.isnan, calibration_interval([0, 0], [0.5, 0.25])))


def test_calibration_of_nothing_predicted_has_no_interval():
    found = calibration_interval([1, 0], [0.0, 0.0])
    assert found.value == 0
    assert math.isnan(found.low)


def test_intervals_hold_the_truth_19_times_of_20():
    random, held = np.random.default_rng(0), np.zeros(2)
    for _ in range(400):
        labels = random.integers(0, 2, 200)
        scores = labels + random.normal(size=200)
        area = auc_interval(labels, scores)
        held[0] += not area.excludes(0.760250)  # Phi(1 / sqrt 2)
        probabilities = random.uniform(0.05, 0.5, 200)
        clicks = random.random(200) < probabilities
        held[1] += not calibration_interval(clicks, probabilities).excludes(1)
    assert (held / 400 >= 0.92).all()
    assert (held / 400 <= 0.98).all()


def test_excludes():
    assert Interval(2, 1, 3).excludes(0.9)
    assert Interval(2, 1, 3).excludes(3.1)
    assert not Interval(2, 1, 3).excludes(1)
    assert not Interval(math.nan, math.nan, math.nan).excludes(1)
    assert not Interval(0.5, 0.5, 0.5).excludes(0.5 - 1e-16)


def test_figures_by_value_by_hand():
    ids = [[3], [3], [3], [3], [4], [4], [4], [5]]
    labels = [0, 0, 1, 1, 0, 1, 1, 1]
    probabilities = [0.1, 0.4, 0.35, 0.8, 0.2, 0.1, 0.1, 0.9]
    of_any = {"min_of_class": 1}
    found = figures_by_value(ids, labels, probabilities, min_rows=2, **of_any)
    assert [(each.id, each.rows) for each in found.values] == [(4, 3), (3, 4)]
    worst, best = found.values  # all pairs of 4 are ranked wrongly
    assert (worst.auc.value, best.auc.value) == (0, 0.75)
    assert worst.calibration.value == pytest.approx(0.4 / 2)
    assert best.calibration.value == pytest.approx(1.65 / 2)
    assert found.auc == pytest.approx((3 * 0 + 4 * 0.75) / 7)
    assert found.too_few == 1
    (most,) = figures_by_value(ids, labels, probabilities, min_rows=1, max_values=1)[1]
    assert most.id == 3


def test_a_value_without_auc_comes_last():
    """Which one with too few rows of a class has not."""
    ids, labels = [[1]] * 4 + [[2]] * 4, [1, 1, 1, 0, 0, 0, 1, 1]
    scores = np.arange(8) / 10
    values = figures_by_value(ids, labels, scores, min_rows=1, min_of_class=2).values
    assert [each.id for each in values] == [2, 1]
    assert (values[0].auc.value, values[0].calibration.value) == (1, 1.1)
    assert all(map(math.isnan, values[1].auc))
    values = figures_by_value(ids, labels, scores, min_rows=1, min_of_class=1).values
    assert [(each.id, each.auc.value) for each in values] == [(1, 0), (2, 1)]


def test_lists_count_a_row_for_each_of_its_values(random):
    """Whose padding is none of them, and a value twice in a row is there once."""
    ids = random.integers(0, 4, (300, 3))
    labels, probabilities, weights = (
        random.integers(0, 2, 300),
        *random.random((2, 300)),
    )
    found = figures_by_value(ids, labels, probabilities, weights)
    assert sorted(each.id for each in found.values) == [1, 2, 3]
    for each in found.values:
        those = (ids == each.id).any(axis=1)
        rows = labels[those], probabilities[those], weights[those]
        assert each.rows == those.sum()
        assert each.auc == auc_interval(*rows)
        assert each.auc.value == metrics.auc(*rows)
        assert each.calibration == pytest.approx(calibration_interval(*rows))


def test_a_value_whose_rows_weigh_nothing_is_not_there():
    found = figures_by_value(
        [[1], [1], [2], [2]],
        [1, 0, 0, 1],
        [0.1, 0.2, 0.3, 0.4],
        [0, 0, 1, 1],
        min_rows=1,
    )
    assert [each.id for each in found.values] == [2]
