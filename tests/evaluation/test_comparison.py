import math

import numpy as np
import pytest

from edcn_tf.errors import InputError
from edcn_tf.evaluation import comparison, metrics
from edcn_tf.evaluation.comparison import paired_bootstrap

LABELS = [0, 0, 1, 1]
FIRST, SECOND = [0.1, 0.4, 0.35, 0.8], [0.1, 0.2, 0.3, 0.4]


def some_rows(rows=80):
    """Labels, scores of two models that go together, with ties, and weights."""
    random = np.random.default_rng(3)
    labels = random.integers(0, 2, rows)
    first = labels + 2 * random.random(rows)
    second = (10 * (first + random.random(rows))).round() / 10
    return labels, first, second, random.random(rows)


def test_by_hand():
    found = paired_bootstrap(LABELS, FIRST, SECOND)
    assert found.difference == 0.25  # 1 minus 3 of 4 pairs
    assert found.low == 0  # a draw can lack the pair that the first ranks wrongly
    assert 0.25 < found.high <= 1
    back = paired_bootstrap(LABELS, SECOND, FIRST)
    assert back == (-0.25, -found.high, -found.low)


def test_the_same_order_differs_by_nothing():
    labels, first, _, weights = some_rows()
    assert paired_bootstrap(labels, first, np.exp(first), weights) == (0, 0, 0)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("at_once", [1, 3 * 80, 1 << 22])
def test_equals_drawing_rows_one_by_one(weighted, at_once, monkeypatch):
    """Whatever number of draws is held at a time."""
    monkeypatch.setattr(comparison, "AT_ONCE", at_once)
    labels, first, second, weights = some_rows()
    if not weighted:
        weights = None
    random, differences = np.random.default_rng(7), []
    for _ in range(50):
        rows = random.integers(0, len(labels), len(labels))
        drawn = None if weights is None else weights[rows]
        one, other = (
            metrics.auc(labels[rows], s[rows], drawn) for s in (first, second)
        )
        differences.append(other - one)
    low, high = np.quantile(differences, [0.025, 0.975])
    found = paired_bootstrap(labels, first, second, weights, resamples=50, seed=7)
    whole = metrics.auc(labels, second, weights) - metrics.auc(labels, first, weights)
    assert found == pytest.approx((whole, low, high), abs=1e-12)


def test_intervals_hold_the_true_difference_19_times_of_20():
    """Two models as good as each other; the true difference is 0."""
    random, held = np.random.default_rng(0), 0
    for _ in range(200):
        labels = random.integers(0, 2, 150)
        common = labels + random.normal(size=150)
        first, second = common + random.normal(size=(2, 150))
        found = paired_bootstrap(labels, first, second, resamples=200)
        held += found.low <= 0 <= found.high
    assert 0.9 <= held / 200 <= 0.99


def test_one_class_has_no_difference():
    assert all(map(math.isnan, paired_bootstrap([1, 1], [0.1, 0.2], [0.2, 0.1])))


def test_draws_without_a_class_are_passed_over():
    found = paired_bootstrap([1, 0], [0.1, 0.2], [0.2, 0.1])
    assert found == (1, 1, 1)


@pytest.mark.parametrize("resamples", [0, 1.5])
def test_resamples_must_be_a_number_of_draws(resamples):
    with pytest.raises(InputError, match="resamples"):
        paired_bootstrap(LABELS, FIRST, SECOND, resamples=resamples)


def test_rows_must_be_the_same():
    with pytest.raises(InputError, match="as long as labels"):
        paired_bootstrap(LABELS, FIRST, SECOND[:3])
