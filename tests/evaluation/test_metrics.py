import math

import numpy as np
import pytest
import sklearn.metrics

from edcn_tf.errors import InputError
from edcn_tf.evaluation import metrics

LABELS = [0, 0, 1, 1]
SCORES = [0.1, 0.4, 0.35, 0.8]


@pytest.fixture
def random_rows():
    """Labels, scores with many ties, groups (some of one class) and weights."""
    random = np.random.default_rng(7)
    labels = random.integers(0, 2, 400)
    scores = random.integers(0, 12, 400) / 11
    groups = random.integers(0, 80, 400)
    weights = random.random(400) * random.integers(0, 2, 400)
    return labels, scores, groups, weights


def pairwise_auc(labels, scores, weights):
    won = pairs = 0.0
    for y, s, w in zip(labels, scores, weights, strict=True):
        for z, t, v in zip(labels, scores, weights, strict=True):
            if y == 1 and z == 0:
                pairs += w * v
                won += w * v * (1.0 if s > t else 0.5 if s == t else 0.0)
    return won / pairs if pairs else math.nan


def test_auc_by_hand():
    assert metrics.auc(LABELS, SCORES) == 0.75
    assert metrics.auc([1, 0], [0.9, 0.1]) == 1.0
    assert metrics.auc([1, 0], [0.1, 0.9]) == 0.0
    assert metrics.auc([1, 0, 1, 0], [0.3] * 4) == 0.5
    # Pairs (0.35, 0.1) won 3 x 1 and (0.35, 0.4) lost 3 x 2; 0.8 wins both, 1 x 3.
    assert metrics.auc(LABELS, SCORES, [1, 2, 3, 1]) == 6 / 12


def test_auc_equals_the_count_over_all_pairs(random_rows):
    labels, scores, _, weights = random_rows
    ones = np.ones(len(labels))
    assert metrics.auc(labels, scores) == pairwise_auc(labels, scores, ones)
    expected = pairwise_auc(labels, scores, weights)
    assert metrics.auc(labels, scores, weights) == pytest.approx(expected, rel=1e-12)


def hostile_rows(case):
    """Rows that a sum over pairs, or of weights, could get wrong."""
    random = np.random.default_rng(11)
    labels = (random.random(300) < 0.3).astype(np.float32)
    scores = (random.integers(0, 40, 300) / 39).astype(np.float32)
    weights = random.random(300)
    if case == "no ties":
        scores = random.random(300, np.float32)
    elif case == "weights of 0":
        weights *= random.integers(0, 2, 300)
    elif case == "weights of many sizes":
        weights = 10.0 ** random.uniform(-8, 8, 300)
    elif case == "float32 weights":
        weights = weights.astype(np.float32)
    elif case == "one click":
        labels = (np.arange(300) == 7).astype(np.float32)
    elif case == "neighbouring scores":
        steps = random.integers(0, 3, 300).astype(np.float32)
        scores = np.float32(0.5) + steps * np.finfo(np.float32).eps
    elif case == "one score":
        scores = np.full(300, 0.25, np.float32)
    return labels, scores, weights


HOSTILE = ["ties", "no ties", "weights of 0", "weights of many sizes"]
HOSTILE += ["float32 weights", "one click", "neighbouring scores", "one score"]


@pytest.mark.parametrize("case", HOSTILE)
def test_figures_equal_those_of_all_pairs_and_of_scikit_learn(case):
    labels, scores, weights = hostile_rows(case)
    found = metrics.auc(labels, scores, weights)
    pairs = pairwise_auc(labels, scores, weights.astype(np.float64))
    assert found == pytest.approx(pairs, rel=1e-12)
    theirs = sklearn.metrics.roc_auc_score(labels, scores, sample_weight=weights)
    assert found == pytest.approx(theirs, rel=1e-12)

    clipped = scores.astype(np.float64).clip(1e-7, 1 - 1e-7)
    theirs = sklearn.metrics.log_loss(labels, clipped, sample_weight=weights)
    loss = metrics.log_loss(labels, scores.clip(0, 1), weights)
    assert loss == pytest.approx(theirs, rel=1e-12)


def test_auc_depends_on_the_order_of_scores_alone(random_rows):
    labels, scores, _, weights = random_rows
    expected = metrics.auc(labels, scores, weights)
    assert metrics.auc(labels, np.exp(3 * scores) - 50, weights) == expected
    assert metrics.auc(labels, -scores, weights) == pytest.approx(1 - expected)
    assert metrics.auc([0, 1, 1], [-np.inf, np.inf, np.inf]) == 1.0


def test_auc_of_one_class_is_nan():
    assert math.isnan(metrics.auc([1, 1], [0.1, 0.2]))
    assert math.isnan(metrics.auc([0], [0.1]))
    assert math.isnan(metrics.auc([0, 1, 1], [0.1, 0.2, 0.3], [0, 1, 1]))


def test_gauc_by_hand():
    labels = [1, 0, 1, 0, 1, 0, 1, 1]
    scores = [0.9, 0.1, 0.5, 0.5, 0.2, 0.4, 0.3, 0.3]
    groups = ["b", "b", "a", "a", "a", "a", "c", "c"]
    # b: 2 rows, AUC 1. a: 4 rows, AUC (0.5 + 1 + 0 + 0) / 4. c: 2 rows, one class.
    expected = metrics.GroupAUC((2 * 1 + 4 * 0.375) / 6, 2, 1, 0.25)
    assert metrics.gauc(labels, scores, groups) == expected
    names = np.array([name.encode() for name in groups], dtype=object)
    assert metrics.gauc(labels, scores, names) == expected
    assert metrics.gauc(labels, scores, [ord(name) for name in groups]) == expected

    weighted = metrics.gauc(labels, scores, groups, [3, 3, 1, 1, 1, 1, 5, 5])
    assert weighted == metrics.GroupAUC((6 * 1 + 4 * 0.375) / 10, 2, 1, 0.5)


@pytest.mark.parametrize(
    "groups, nobody",
    [
        (["b", "b", "a", "a", "a", "a"], ""),
        ([b"b", b"b", b"a", b"a", b"a", b"a"], b""),
        ([2, 2, 1, 1, 1, 1], -(2**63)),
        ([2.5, 2.5, 1, 1, 1, 1], float("nan")),
    ],
)
def test_rows_without_a_group_are_no_group(groups, nobody):
    labels, scores = [1, 0, 1, 0, 1, 0], [0.9, 0.1, 0.5, 0.5, 0.2, 0.4]
    alone = metrics.gauc(labels, scores, groups)
    assert alone == metrics.GroupAUC((2 * 1 + 4 * 0.375) / 6, 2, 0, 0.0)
    more = metrics.gauc([*labels, 0, 1], [*scores, 1, 0], [*groups, nobody, nobody])
    assert more == metrics.GroupAUC(alone.gauc, 2, 0, 0.25)
    objects = np.array([*groups, nobody, nobody], object)
    if isinstance(nobody, (str, bytes)):
        assert metrics.gauc([*labels, 0, 1], [*scores, 1, 0], objects) == more
    nobody_there = metrics.gauc([0, 1], [0.1, 0.2], [nobody, nobody])
    assert math.isnan(nobody_there.gauc) and nobody_there[1:] == (0, 0, 1.0)


@pytest.mark.parametrize("weighted", [False, True])
def test_gauc_equals_a_loop_over_groups(random_rows, weighted):
    labels, scores, groups, weights = random_rows
    if not weighted:
        weights = np.ones(len(labels))
    total = kept = 0.0
    num_kept = num_left_out = 0
    for group in set(groups):
        rows = groups == group
        area = pairwise_auc(labels[rows], scores[rows], weights[rows])
        if math.isnan(area):
            num_left_out += 1
        else:
            num_kept += 1
            kept += weights[rows].sum()
            total += weights[rows].sum() * area
    assert num_kept > 5
    assert num_left_out > 0

    result = metrics.gauc(labels, scores, groups, weights if weighted else None)
    assert result.gauc == pytest.approx(total / kept, rel=1e-12)
    assert (result.groups, result.groups_left_out) == (num_kept, num_left_out)
    assert result.rows_left_out_share == pytest.approx(1 - kept / weights.sum())


def test_gauc_of_one_group_is_auc(random_rows):
    labels, scores, _, weights = random_rows
    result = metrics.gauc(labels, scores, np.zeros(len(labels)), weights)
    assert result == (metrics.auc(labels, scores, weights), 1, 0, 0.0)


def test_gauc_ignores_a_shift_of_one_group(random_rows):
    labels, scores, groups, _ = random_rows
    shifted = metrics.gauc(labels, scores + 10.0 * groups, groups)
    assert shifted.gauc == pytest.approx(metrics.gauc(labels, scores, groups).gauc)


def test_gauc_without_a_mixed_group_is_nan():
    result = metrics.gauc([1, 1, 0], [0.1, 0.2, 0.3], [1, 1, 2])
    assert math.isnan(result.gauc)
    assert result[1:] == (0, 2, 1.0)


def test_log_loss_by_hand():
    expected = -(math.log(0.8) + math.log(1 - 0.4)) / 2
    assert metrics.log_loss([1, 0], [0.8, 0.4]) == pytest.approx(expected)
    expected = -(3 * math.log(0.8) + math.log(1 - 0.4)) / 4
    assert metrics.log_loss([1, 0], [0.8, 0.4], [3, 1]) == pytest.approx(expected)


def test_log_loss_is_clipped_as_in_keras():
    assert metrics.log_loss([1], [0.0]) == pytest.approx(-math.log(1e-7))
    assert metrics.log_loss([0], [1.0]) == pytest.approx(-math.log(1e-7))
    assert metrics.log_loss([1, 0], [1.0, 0.0]) == pytest.approx(1e-7)


def test_normalized_entropy():
    entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    loss = -(math.log(0.6) + 3 * math.log(0.9)) / 4
    result = metrics.normalized_entropy([1, 0, 0, 0], [0.6, 0.1, 0.1, 0.1])
    assert result == pytest.approx(loss / entropy)
    base_rate = metrics.normalized_entropy([1, 0], [0.75, 0.75], [3, 1])
    assert base_rate == pytest.approx(1.0)
    assert math.isnan(metrics.normalized_entropy([0, 0], [0.1, 0.2]))
    assert math.isnan(metrics.normalized_entropy([1, 1], [0.1, 0.2]))
    assert math.isnan(metrics.normalized_entropy([1, 0], [0.1, 0.2], [1, 0]))


def test_calibration():
    assert metrics.calibration([1, 0, 1], [0.5, 0.25, 0.25]) == 0.5
    assert metrics.calibration([1, 0, 1], [0.5, 0.25, 0.25], [1, 4, 0]) == 1.5
    assert math.isnan(metrics.calibration([0, 0], [0.1, 0.2]))


def test_expected_calibration_error_by_hand():
    # Two bins, [0, 0.5] and (0.5, 1]: sums of y - p are 1 - 0.75 and 1 - 1.75.
    labels, probabilities = [0, 1, 1, 0], [0.25, 0.5, 0.75, 1.0]
    result = metrics.expected_calibration_error(labels, probabilities, bins=2)
    assert result == pytest.approx((0.25 + 0.75) / 4)
    result = metrics.expected_calibration_error(
        labels, probabilities, bins=2, weights=[1, 3, 2, 0]
    )
    assert result == pytest.approx((3 - 1.75 + 2 - 1.5) / 6)
    one_bin = metrics.expected_calibration_error(labels, probabilities, bins=1)
    assert one_bin == pytest.approx(0.5 / 4)
    assert metrics.expected_calibration_error([0, 1], [0.0, 1.0]) == 0.0


def test_expected_calibration_error_has_15_bins():
    # The edge 1/15 lies between the two; no edge of 14 or of 16 bins does.
    labels, probabilities = [1, 0], [0.0665, 0.0668]
    apart = (1 - 0.0665 + 0.0668) / 2
    result = metrics.expected_calibration_error(labels, probabilities)
    assert result == pytest.approx(apart)


def test_reliability_has_equally_full_bins():
    labels = [0, 1, 0, 1, 1, 1]
    probabilities = [0.3, 0.1, 0.2, 0.9, 0.5, 0.6]
    result = metrics.reliability(labels, probabilities, bins=3)
    np.testing.assert_allclose(result.mean_prediction, [0.15, 0.4, 0.75])
    np.testing.assert_allclose(result.click_rate, [0.5, 0.5, 1.0])
    np.testing.assert_array_equal(result.rows, [2, 2, 2])


def test_reliability_keeps_ties_together():
    result = metrics.reliability([0, 1, 0, 0, 1], [0.2, 0.2, 0.2, 0.2, 0.7], bins=5)
    np.testing.assert_allclose(result.mean_prediction, [0.2, 0.7])
    np.testing.assert_allclose(result.click_rate, [0.25, 1.0])
    np.testing.assert_array_equal(result.rows, [4, 1])


def test_reliability_of_equal_width_bins():
    labels, probabilities = [0, 1, 1], [0.1, 0.2, 1.0]
    result = metrics.reliability(labels, probabilities, bins=4, strategy="uniform")
    np.testing.assert_allclose(result.mean_prediction, [0.15, 1.0])
    np.testing.assert_allclose(result.click_rate, [0.5, 1.0])
    np.testing.assert_array_equal(result.rows, [2, 1])


def test_reliability_weighs_rows_within_their_bins():
    labels, probabilities = [0, 1, 0, 1], [0.1, 0.2, 0.6, 0.8]
    result = metrics.reliability(labels, probabilities, bins=2, weights=[3, 1, 0, 5])
    np.testing.assert_allclose(result.mean_prediction, [0.125, 0.8])
    np.testing.assert_allclose(result.click_rate, [0.25, 1.0])
    np.testing.assert_array_equal(result.rows, [4, 5])


def test_roc_curve_by_hand():
    false_positive_rate, true_positive_rate = metrics.roc_curve(LABELS, SCORES)
    np.testing.assert_array_equal(false_positive_rate, [0, 0, 0.5, 0.5, 1])
    np.testing.assert_array_equal(true_positive_rate, [0, 0.5, 0.5, 1, 1])
    tied = metrics.roc_curve([0, 1, 1], [0.5, 0.5, 0.5])
    np.testing.assert_array_equal(tied, [[0, 1], [0, 1]])


def test_roc_curve_of_infinite_scores():
    curve = metrics.roc_curve([0, 0, 1, 1], [-np.inf, 1.0, 2.0, np.inf])
    np.testing.assert_array_equal(curve, [[0, 0, 0, 0.5, 1], [0, 0.5, 1, 1, 1]])


@pytest.mark.parametrize("case", HOSTILE)
def test_roc_curve_equals_a_count_at_each_score(case):
    labels, scores, _ = hostile_rows(case)
    thresholds = [np.inf, *np.unique(scores)[::-1]]
    for rates, label in zip(metrics.roc_curve(labels, scores), (0, 1), strict=True):
        of_class = scores[labels == label]
        expected = [np.mean(of_class >= least) for least in thresholds]
        np.testing.assert_array_equal(rates, expected)


def test_area_under_the_roc_curve_is_auc(random_rows):
    labels, scores, _, _ = random_rows
    x, y = metrics.roc_curve(labels, scores)
    area = np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2)
    assert area == pytest.approx(metrics.auc(labels, scores), rel=1e-12)


@pytest.mark.parametrize("max_points", [2, 7, 400, 401, 402])
def test_roc_curve_is_thinned(random_rows, max_points):
    labels = random_rows[0]
    scores = np.linspace(0, 1, len(labels))
    whole = set(zip(*metrics.roc_curve(labels, scores), strict=True))
    x, y = metrics.roc_curve(labels, scores, max_points=max_points)
    assert len(x) == len(y) == min(max_points, 401)
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    assert np.all(np.diff(x) >= 0)
    assert np.all(np.diff(y) >= 0)
    assert set(zip(x, y, strict=True)) <= whole


def test_evaluate(random_rows):
    labels, scores, groups, weights = random_rows
    result = metrics.evaluate(labels, scores, groups, weights)
    grouped = metrics.gauc(labels, scores, groups, weights)
    assert result == {
        "rows": 400,
        "auc": metrics.auc(labels, scores, weights),
        "log_loss": metrics.log_loss(labels, scores, weights),
        "gauc": grouped.gauc,
        "calibration": metrics.calibration(labels, scores, weights),
        "ece": metrics.expected_calibration_error(labels, scores, 15, weights),
        "normalized_entropy": metrics.normalized_entropy(labels, scores, weights),
        "gauc_groups": grouped.groups,
        "gauc_groups_left_out": grouped.groups_left_out,
        "gauc_rows_left_out_share": grouped.rows_left_out_share,
    }
    assert {type(value) for value in result.values()} == {int, float}


def test_evaluate_without_groups():
    result = metrics.evaluate(LABELS, SCORES)
    assert math.isnan(result["gauc"])
    assert "gauc_groups" not in result
    assert result["auc"] == 0.75


def test_a_weight_is_a_number_of_repeats(random_rows):
    labels, scores, groups, _ = random_rows
    repeats = np.random.default_rng(3).integers(0, 4, len(labels))
    # A group that repeats away altogether would still be counted as left out.
    repeats[np.unique(groups, return_index=True)[1]] = 1
    weighted = metrics.evaluate(labels, scores, groups, repeats)
    rows = np.repeat(np.arange(len(labels)), repeats)
    repeated = metrics.evaluate(labels[rows], scores[rows], groups[rows])
    assert weighted.pop("rows") != repeated.pop("rows")
    assert weighted == pytest.approx(repeated, rel=1e-12)


def test_sums_are_in_float64():
    labels = np.ones(100_000, np.float32)
    scores = np.full(100_000, 0.1, np.float32)
    result = metrics.calibration(labels, scores)
    assert result == pytest.approx(float(np.float32(0.1)), rel=1e-12)


@pytest.mark.parametrize(
    "function",
    [
        metrics.auc,
        metrics.log_loss,
        metrics.calibration,
        metrics.expected_calibration_error,
        metrics.normalized_entropy,
        metrics.reliability,
        metrics.roc_curve,
        metrics.evaluate,
        lambda labels, scores: metrics.gauc(labels, scores, labels),
    ],
)
@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([0, 1], [0.1], "must be as long as labels, 2 rows. Received: 1 rows"),
        ([0, 2], [0.1, 0.2], "labels must be 0 or 1. Received: 2.0 in row 1"),
        ([math.nan, 1], [0.1, 0.2], "labels must be 0 or 1. Received: nan in row 0"),
        ([0, 1], [0.1, math.nan], "not NaN. Received: nan in row 1"),
        ([], [], r"labels must be 1-D with one or more rows. Received: shape \(0,\)"),
        ([[0], [1]], [0.1, 0.2], r"labels must be 1-D .* Received: shape \(2, 1\)"),
        ([0, 1], [[0.1], [0.2]], r"must be 1-D .* Received: shape \(2, 1\)"),
        (
            [0, "a"],
            [0.1, 0.2],
            "labels must be convertible .* Received: could not convert",
        ),
    ],
)
def test_wrong_rows_are_refused(function, labels, scores, message):
    with pytest.raises(InputError, match=message):
        function(labels, scores)


@pytest.mark.parametrize(
    "function",
    [
        metrics.auc,
        metrics.log_loss,
        metrics.calibration,
        metrics.normalized_entropy,
        lambda y, s, w: metrics.gauc(y, s, [1, 1], w),
        lambda y, s, w: metrics.expected_calibration_error(y, s, weights=w),
        lambda y, s, w: metrics.evaluate(y, s, weights=w),
    ],
)
@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1, -1], "weights must be finite and >= 0. Received: -1.0 in row 1"),
        ([math.nan, 1], "weights must be finite and >= 0. Received: nan in row 0"),
        ([1, math.inf], "weights must be finite and >= 0. Received: inf in row 1"),
        ([0, 0], "weights must not all be zero. Received: only zeros"),
        ([1], "weights must be as long as labels, 2 rows. Received: 1 rows"),
    ],
)
def test_wrong_weights_are_refused(function, weights, message):
    with pytest.raises(InputError, match=message):
        function([0, 1], [0.1, 0.2], weights)


@pytest.mark.parametrize(
    "function",
    [
        metrics.log_loss,
        metrics.calibration,
        metrics.expected_calibration_error,
        metrics.normalized_entropy,
        metrics.reliability,
        metrics.evaluate,
    ],
)
@pytest.mark.parametrize("logit", [-0.5, 1.5])
def test_logits_are_refused_where_probabilities_are_meant(function, logit):
    with pytest.raises(InputError, match=f"Received: {logit} in row 1"):
        function([0, 1], [0.5, logit])


def test_messages_name_the_argument():
    with pytest.raises(InputError, match="^scores must be as long"):
        metrics.auc([0, 1], [0.1])
    with pytest.raises(InputError, match="^probabilities must be as long"):
        metrics.evaluate([0, 1], [0.1])


def test_wrong_groups_are_refused():
    with pytest.raises(InputError, match="groups must be as long as labels"):
        metrics.gauc(LABELS, SCORES, [1, 2])
    with pytest.raises(InputError, match="groups must be of one type that sorts"):
        metrics.gauc(LABELS, SCORES, np.array([1, "a", None, 2], dtype=object))


def test_wrong_options_are_refused():
    with pytest.raises(InputError, match="bins must be an integer >= 1. Received: 0"):
        metrics.expected_calibration_error(LABELS, SCORES, bins=0)
    with pytest.raises(InputError, match="bins must be an integer >= 1. Received: 2.5"):
        metrics.reliability(LABELS, SCORES, bins=2.5)
    with pytest.raises(InputError, match="strategy must be .* Received: 'equal'"):
        metrics.reliability(LABELS, SCORES, strategy="equal")
    with pytest.raises(InputError, match="max_points must be an integer >= 2"):
        metrics.roc_curve(LABELS, SCORES, max_points=1)
    with pytest.raises(InputError, match="both a 0 and a 1 .* Received: only 1"):
        metrics.roc_curve([1, 1], [0.1, 0.2])
