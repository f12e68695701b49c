import math

import numpy as np
import pytest

from edcn_tf.evaluation import metrics
from edcn_tf.evaluation.importance import permutation_importance, spearman

ROWS = 400
SLOTS = [1, 2, 1]


@pytest.fixture
def rows(random):
    """Ids of three fields, of which the second has two slots that go together."""
    first, second, third = random.integers(1, 9, (3, ROWS))
    ids = np.stack([first, 100 + second, 200 + second, third], 1).astype(np.int32)
    labels = (random.random(ROWS) < (first + second) / 18).astype(float)
    return ids, labels


def score(ids):
    """Of the first two fields; it looks that the second's slots stay together."""
    assert (ids[:, 2] - ids[:, 1] == 100).all()
    return ids[:, 0] + 0.5 * ids[:, 1]


def test_equals_shuffling_field_by_field(rows):
    ids, labels = rows
    random, expected = np.random.default_rng(4), []
    for columns in ([0], [1, 2], [3]):
        for _ in range(3):
            order = random.permutation(ROWS)
            other = np.array([list(row) for row in ids])
            for row in range(ROWS):
                for column in columns:
                    other[row, column] = ids[order[row], column]
            change = metrics.auc(labels, score(ids)) - metrics.auc(labels, score(other))
            expected.append(change)
    before = ids.copy()
    found = permutation_importance(score, ids, labels, SLOTS, repeats=3, seed=4)
    assert found.auc == metrics.auc(labels, score(ids))
    np.testing.assert_array_equal(found.drops, np.reshape(expected, (3, 3)))
    assert (ids == before).all()


def test_what_a_model_does_not_look_at_is_worth_nothing(rows):
    drops = permutation_importance(score, *rows, SLOTS).drops
    assert drops.shape == (3, 5)
    assert not drops[2].any()
    assert (drops[:2] > 0.02).all()


def test_by_hand():
    """Two rows of each class and a field that is the label: shuffled, it is chance."""
    ids, labels = np.array([[1], [1], [2], [2]], np.int32), [0, 0, 1, 1]
    found = permutation_importance(lambda ids: ids[:, 0], ids, labels, [1], repeats=50)
    assert found.auc == 1
    assert set(found.drops[0]) == {0.0, 0.5, 1.0}


def test_rows_of_weight_0_do_not_count(rows):
    ids, labels = rows
    weights = np.append(np.ones(ROWS), np.zeros(ROWS))
    twice = np.concatenate([ids, ids]), np.concatenate([labels, 1 - labels])
    auc = permutation_importance(score, *twice, SLOTS, weights=weights).auc
    assert auc == metrics.auc(labels, score(ids))


def test_one_class_has_no_importance(rows):
    ids, labels = rows
    found = permutation_importance(score, ids, np.ones_like(labels), SLOTS)
    assert math.isnan(found.auc)
    assert np.isnan(found.drops).all()


def test_spearman_by_hand():
    assert spearman([1, 2, 3], [10, 20, 30]) == pytest.approx(1)
    assert spearman([1, 2, 3], [-1, -20, -300]) == pytest.approx(-1)
    assert spearman([1, 2, 3], [1, 3, 2]) == pytest.approx(0.5)  # 1 - 6 * 2 / (3 * 8)
    # Ranks 1.5, 1.5, 3 and 1, 2, 3: 1.5 / sqrt(1.5 * 2).
    assert spearman([1, 1, 2], [1, 2, 3]) == pytest.approx(1.5 / 3**0.5)


def test_spearman_is_the_correlation_of_mean_ranks():
    one, other = np.random.default_rng(2).integers(0, 9, (2, 50))
    ranks = [
        [np.sum(side < each) + (np.sum(side == each) + 1) / 2 for each in side]
        for side in (one, other)
    ]
    expected = np.corrcoef(ranks)[0, 1]
    assert spearman(one, other) == pytest.approx(expected, abs=1e-12)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "one, other",
    [([1], [2]), ([1, 1], [1, 2]), ([], []), ([1, 2, math.nan], [1, 2, 3])],
)
def test_spearman_of_no_ranking_is_nan(one, other):
    assert math.isnan(spearman(one, other))
