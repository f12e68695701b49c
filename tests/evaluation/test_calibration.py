"""Calibration: the function, its file, how it is fitted, and a run's whole way."""

import csv
import json
import math
import shutil

import numpy as np
import pytest
import tensorflow as tf
from sklearn.linear_model import LogisticRegression

import edcn_tf
from edcn import main
from edcn_tf.errors import InputError
from edcn_tf.evaluation import metrics
from edcn_tf.evaluation.calibration import Calibration, load_calibration
from edcn_tf.evaluation.calibration_fitting import calibrate_run, fit
from edcn_tf.evaluation.prediction import predict_log
from edcn_tf.evaluation.scoring import Scores, score_run
from edcn_tf.report.page import write_report

PLATT = Calibration(
    negative_sampling_rate=0.2,
    splits_sampled=True,
    method="platt",
    slope=0.8,
    intercept=-0.3,
)
ISOTONIC = Calibration(
    negative_sampling_rate=0.5,
    method="isotonic",
    x=(0.0, 0.1, 0.4, 1.0),
    y=(0.05, 0.2, 0.3, 0.9),
)
EVERY = [Calibration(negative_sampling_rate=0.01), PLATT, ISOTONIC]
# All of these TensorFlow can run on a GPU.
OPERATIONS = {
    *("Placeholder", "Const", "Identity", "ClipByValue", "Maximum", "Minimum", "Log"),
    *("Log1p", "Neg", "Sub", "Mul", "AddV2", "Sigmoid", "StridedSlice", "Sum"),
    *("IsNan", "SelectV2", "ExpandDims"),
}


def sigmoid(z):
    return 1 / (1 + np.exp(-np.asarray(z, np.float64)))


def logit(p):
    return np.log(p) - np.log1p(-p)


def reference(calibration, p):
    """The docstring's formulas in float64."""
    p = np.clip(np.asarray(p, np.float64), 1e-7, 1 - 1e-7)
    p = p / (p + (1 - p) / calibration.negative_sampling_rate)
    if calibration.method == "platt":
        return sigmoid(calibration.slope * logit(p) + calibration.intercept)
    if calibration.method == "isotonic":
        return np.interp(p, calibration.x, calibration.y)
    return p


# The function


def test_numbers_computed_by_hand():
    correction = Calibration(negative_sampling_rate=0.1)
    assert float(correction(0.5)) == pytest.approx(1 / 11, rel=1e-6)
    assert float(correction(0.2)) == pytest.approx(1 / 41, rel=1e-6)
    # Odds 1 become 1/4, their root 1/2; times e^0 makes 1/3.
    platt = Calibration(negative_sampling_rate=0.25, method="platt", slope=0.5)
    assert float(platt(0.5)) == pytest.approx(1 / 3, rel=1e-6)
    line = Calibration(method="isotonic", x=(0.2, 0.4, 0.8), y=(0.1, 0.2, 0.8))
    for p, expected in [(0.1, 0.1), (0.3, 0.15), (0.4, 0.2), (0.6, 0.5), (0.9, 0.8)]:
        assert float(line(p)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("calibration", EVERY)
def test_equals_the_formula_in_float64(calibration, random):
    p = sigmoid(random.normal(-3, 3, 5000)).astype(np.float32)
    expected = reference(calibration, p)
    for function in (calibration, tf.function(calibration)):
        result = function(tf.constant(p)).numpy()
        assert result.dtype == np.float32
        np.testing.assert_allclose(result, expected, rtol=5e-6, atol=1e-9)


@pytest.mark.parametrize("calibration", EVERY)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (4, 1), (2, 3, 1)])
def test_any_shape(calibration, shape):
    p = np.full(shape, 0.3, np.float32)
    result = calibration(tf.constant(p))
    assert (result.shape, result.dtype) == (shape, tf.float32)
    np.testing.assert_allclose(result, reference(calibration, p), rtol=1e-5)


@pytest.mark.parametrize("calibration", EVERY)
def test_ascends(calibration):
    p = np.linspace(0, 1, 20_001, dtype=np.float32)
    result = calibration(p).numpy()
    assert np.all(np.diff(result) >= 0)
    assert len(np.unique(result[1:-1])) > 0.9 * len(p)  # and hardly ever a tie


@pytest.mark.parametrize("calibration", EVERY)
def test_saturated_probabilities_and_nan(calibration):
    low, high, nan = calibration(np.float32([0, 1, np.nan])).numpy()
    assert 0 <= low < 1e-6 or calibration is ISOTONIC
    assert 0.4 < high <= 1
    assert low < high
    assert np.isnan(nan)
    tiny = Calibration(negative_sampling_rate=1e-300)
    np.testing.assert_array_equal(tiny(np.float32([0, 0.5, 1])), [0, 0, 0])


def test_the_identity_gives_back_what_it_got(random):
    identity = Calibration()
    assert identity.is_identity
    assert Calibration(splits_sampled=True).is_identity
    p = tf.constant(random.random(100), tf.float32)
    assert identity(p) is p
    assert not any(calibration.is_identity for calibration in EVERY)
    assert not Calibration(method="platt").is_identity


@pytest.mark.parametrize("calibration", EVERY)
def test_every_operation_has_a_gpu_kernel(calibration):
    spec = tf.TensorSpec([None, 1], tf.float32)
    graph = tf.function(calibration).get_concrete_function(spec).graph
    assert {op.type for op in graph.get_operations()} <= OPERATIONS


def test_row_weights():
    labels, weights = np.array([1, 0, 1]), np.array([2.0, 3.0, 4.0])
    assert Calibration(negative_sampling_rate=0.2).row_weights(labels) is None
    np.testing.assert_array_equal(PLATT.row_weights(labels), [1, 5, 1])
    np.testing.assert_array_equal(PLATT.row_weights(labels, weights), [2, 15, 4])
    assert ISOTONIC.row_weights(labels, weights) is weights


# The file


@pytest.mark.parametrize("calibration", [Calibration(), *EVERY])
def test_round_trip(calibration, tmp_path):
    calibration.save(tmp_path / "calibration.json")
    assert Calibration.load(tmp_path / "calibration.json") == calibration
    assert load_calibration(tmp_path) == calibration
    calibration.save(tmp_path / "calibration.json")  # replaces
    assert [path.name for path in tmp_path.iterdir()] == ["calibration.json"]


def test_a_run_without_the_file_is_not_corrected(tmp_path):
    assert load_calibration(tmp_path) == Calibration()


GOOD = {
    "format": 1,
    "negative_sampling_rate": 0.5,
    "splits_sampled": False,
    "method": "platt",
    "slope": 1.0,
    "intercept": 0.0,
}
LINE = {key: GOOD[key] for key in list(GOOD)[:3]}
LINE |= {"method": "isotonic", "x": [0, 0.5, 1], "y": [0, 0.4, 1]}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{",
        "__import__('os').system('true')",
        "[" * 100_000,
        "1" * 5000,
        *(
            json.dumps({**GOOD, **change})
            for change in [
                {"format": 2},
                {"format": None},
                {"method": "beta"},
                {"method": ["platt"]},
                {"method": "none"},
                {"extra": 1},
                {"splits_sampled": 1},
                {"splits_sampled": "false"},
                *({"negative_sampling_rate": v} for v in (0, -1, 1.1, True, "1", None)),
                *({"slope": v} for v in (0, -1.0, 1e9, math.nan, math.inf, "1", [1])),
                *({"intercept": v} for v in (1e9, math.nan, -math.inf, None, False)),
                {"intercept": 10**400},
            ]
        ),
        *(
            json.dumps({**LINE, **change})
            for change in [
                {"slope": 1.0},
                {"x": [0, 0.5], "y": [0, 0.4, 1]},
                {"x": [0.5], "y": [0.5]},
                {"x": [], "y": []},
                {"x": [0, 0.5, 0.5]},
                {"x": [0, 0.5, 0.5 + 1e-12]},
                {"x": [0, 1, 0.5]},
                {"y": [0, 1, 0.5]},
                {"y": [0, 0.5, 0.5]},
                {"x": [-0.1, 0.5, 1]},
                {"y": [0, 0.5, 1.1]},
                {"y": [0, math.nan, 1]},
                {"y": [0, "0.5", 1]},
                {"y": [0, True, 1]},
                {"y": "abc"},
                {"y": {"0": 0, "1": 1}},
                {
                    "x": [i / 200 for i in range(101)],
                    "y": [i / 200 for i in range(101)],
                },
            ]
        ),
        *(json.dumps({k: v for k, v in GOOD.items() if k != key}) for key in GOOD),
    ],
    ids=lambda text: text[-60:],
)
def test_a_damaged_file_is_refused_by_its_name(tmp_path, text):
    path = tmp_path / "calibration.json"
    path.write_text(text)
    with pytest.raises(InputError, match="calibration.json: ") as refused:
        load_calibration(tmp_path)
    assert len(str(refused.value)) < 600


@pytest.mark.parametrize("values", [GOOD, LINE])
def test_what_those_files_were_made_of_is_good(tmp_path, values):
    (tmp_path / "calibration.json").write_text(json.dumps(values))
    assert load_calibration(tmp_path).method == values["method"]


def test_parameters_of_another_method():
    with pytest.raises(InputError, match="'none' has no slope"):
        Calibration(slope=2.0)
    with pytest.raises(InputError, match="'platt' has no x"):
        Calibration(method="platt", x=(0, 1))


# How it is fitted


def simulated(random, rows, slope=0.7, intercept=-0.4):
    """Labels, the model's biased probabilities and the true ones."""
    log_odds = random.normal(-1.5, 1.5, rows)
    truth = sigmoid(slope * log_odds + intercept)
    return (random.random(rows) < truth).astype(int), sigmoid(log_odds), truth


def test_platt_finds_the_slope_and_intercept(random):
    labels, p, _ = simulated(random, 200_000)
    found = fit(labels, p)
    assert found.method == "platt"
    assert found.slope == pytest.approx(0.7, abs=0.02)
    assert found.intercept == pytest.approx(-0.4, abs=0.03)
    # The gradient of the likelihood is zero there: clicks are as many as predicted.
    after = reference(found, p)
    assert after.sum() == pytest.approx(labels.sum(), rel=1e-4)
    assert (after * logit(p)).sum() == pytest.approx(
        (labels * logit(p)).sum(), rel=1e-3
    )


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_a_weight_of_two_is_a_row_twice(random, scale):
    labels, p, _ = simulated(random, 3000)
    weights = random.integers(0, 4, 3000)
    weighted = fit(labels, p, weights=weights * scale)
    repeated = fit(np.repeat(labels, weights), np.repeat(p, weights))
    # Only Platt's two rows of his own weigh differently.
    assert weighted.slope == pytest.approx(repeated.slope, abs=2e-3)
    assert weighted.intercept == pytest.approx(repeated.intercept, abs=2e-3)
    unweighted = fit(labels, p)
    assert abs(unweighted.slope - weighted.slope) > 4e-3


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_the_sampling_is_undone_first(random, method):
    """A model of sampled negatives, judged on all of them."""
    labels, _, truth = simulated(random, 200_000)
    trained = truth / (truth + 0.1 * (1 - truth))  # what it learns at r = 0.1
    found = fit(labels, trained, method, negative_sampling_rate=0.1)
    assert not found.splits_sampled
    if method == "platt":
        assert found.slope == pytest.approx(1, abs=0.03)
        assert found.intercept == pytest.approx(0, abs=0.03)
    else:
        assert np.abs(reference(found, trained) - truth).mean() < 0.005


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_negatives_of_sampled_splits_count_more(random, method):
    """The same, judged on a log of which nobody has the other negatives."""
    labels, p, truth = simulated(random, 300_000)
    kept = (labels == 1) | (random.random(len(labels)) < 0.1)
    odds = 10 * p / (1 - p)
    found = fit(
        labels[kept],
        (odds / (1 + odds))[kept],
        method,
        negative_sampling_rate=0.1,
        splits_sampled=True,
    )
    assert found.splits_sampled
    if method == "platt":
        assert found.slope == pytest.approx(0.7, abs=0.03)
        assert found.intercept == pytest.approx(-0.4, abs=0.05)
    else:
        after = reference(found, odds / (1 + odds))
        assert after.sum() == pytest.approx(labels.sum(), rel=0.02)
        assert np.abs(after - truth).mean() < 0.01


@pytest.mark.parametrize(
    "labels",
    [[0, 0, 0, 1, 1, 1], [0, 1, 0, 1, 0, 1]],
    ids=["separable", "mixed"],
)
@pytest.mark.parametrize(
    "probabilities",
    [
        [0.1, 0.2, 0.3, 0.6, 0.7, 0.8],
        [0, 0, 0, 1, 1, 1],
        [0, 0.5, 0.5, 0.5, 0.5, 1],
        [1e-30, 1e-20, 1e-10, 0.9999999999, 1, 1],
        [0.5] * 6,
        [1e-9] * 5 + [1],
    ],
    ids=str,
)
@pytest.mark.parametrize("rate", [1.0, 1e-3])
@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_a_fit_always_ends_well(labels, probabilities, rate, method):
    found = fit(labels, probabilities, method, negative_sampling_rate=rate)
    after = found(np.float32(probabilities)).numpy()
    assert np.all(np.isfinite(after)) and np.all((after >= 0) & (after <= 1))
    assert 0 < after.sum() < 6
    assert metrics.log_loss(labels, after) < 1.2


def test_equal_probabilities_keep_the_slope(random):
    labels = np.repeat([0, 1], [9000, 1000])
    found = fit(labels, np.full(10_000, 0.4))
    assert found.slope == pytest.approx(1, abs=1e-3)
    assert float(found(0.4)) == pytest.approx(0.1, rel=1e-3)


def test_platt_s_targets_by_hand():
    """One click of four: 2/3 is aimed at in place of 1, and 1/5 of 0."""
    found = fit([1, 0, 0, 0], [0.3] * 4)
    assert float(found(0.3)) == pytest.approx((2 / 3 + 3 / 5) / 4, rel=1e-5)


@pytest.mark.parametrize("rows", [30, 3000])
@pytest.mark.parametrize("weighted", [False, True])
def test_platt_equals_a_logistic_regression(random, rows, weighted):
    labels, p, _ = simulated(random, rows)
    labels[:2] = 0, 1
    weights = random.random(rows) if weighted else np.ones(rows)
    found = fit(labels, p, weights=weights)
    weights = weights / weights.mean()
    clicks, others = weights @ labels, weights @ (1 - labels)
    targets = np.where(labels == 1, (clicks + 1) / (clicks + 2), 1 / (others + 2))
    # A row for each label, which count as much as the target says.
    theirs = LogisticRegression(C=1e12, tol=1e-10, max_iter=10_000).fit(
        np.tile(logit(p), 2)[:, None],
        np.repeat([1, 0], rows),
        sample_weight=np.concatenate([weights * targets, weights * (1 - targets)]),
    )
    expected = theirs.coef_[0, 0], theirs.intercept_[0]
    assert (found.slope, found.intercept) == pytest.approx(expected, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("period", [1000, 20])
def test_platt_of_saturated_probabilities(period):
    """The likelihood hardly bends where the fit starts."""
    found = fit(np.arange(1000) % period == 0, np.ones(1000))
    assert float(found(1.0)) == pytest.approx(1 / period, rel=0.3, abs=1e-3)


def test_isotonic_takes_what_is_nearly_equal_for_equal():
    found = fit([0, 1] * 2, [0.5, 0.5 + 1e-12] * 2, "isotonic")
    assert len(found.x) == 3
    assert float(found(0.5)) == pytest.approx(0.5, rel=1e-5)


@pytest.mark.parametrize(
    ("labels", "p", "expected"),
    [
        ([0, 0], [0.1, 0.2], "only 0"),
        ([1, 1], [0.1, 0.2], "only 1"),
        ([0, 1] * 50, [0.8, 0.3] * 50, "clicks become rarer"),
        ([0, 1], [0.1, math.nan], "not NaN"),
        ([0, 1], [0.1, 1.2], "lie in"),
        ([0, 2], [0.1, 0.2], "labels must be 0 or 1"),
        ([0, 1], [0.1], "as long as labels"),
    ],
)
def test_rows_that_cannot_be_fitted(labels, p, expected):
    with pytest.raises(InputError, match=expected):
        fit(labels, p)


def test_a_method_that_is_not_known():
    with pytest.raises(InputError, match="'beta'"):
        fit([0, 1], [0.1, 0.2], "beta")


def pool_adjacent_violators(labels):
    """Each row's mean after pooling, for rows in order; straight from the book."""
    blocks = []
    for label in labels:
        blocks.append([label])
        while len(blocks) > 1 and np.mean(blocks[-2]) >= np.mean(blocks[-1]):
            last = blocks.pop()
            blocks[-1] += last
    return np.concatenate([[np.mean(block)] * len(block) for block in blocks])


def test_isotonic_knots_are_the_centres_of_pooled_blocks(random):
    labels, p, _ = simulated(random, 400)
    order = np.argsort(p)
    labels, p = labels[order], p[order]
    # The outer rows count twice, the second time as clicking as predicted.
    blurred = labels.astype(float)
    blurred[[0, -1]] = (labels[[0, -1]] + p[[0, -1]]) / 2
    weights = np.ones(400)
    weights[[0, -1]] = 2
    pooled = pool_adjacent_violators(
        [b for b, w in zip(blurred, [2, *[1] * 398, 2]) for _ in range(w)]
    )
    rows = np.repeat(p, weights.astype(int))
    heights = np.unique(pooled)
    centres = [rows[pooled == height].mean() for height in heights]
    found = fit(labels, p, "isotonic")
    np.testing.assert_allclose(found.x[1:-1], centres, atol=2e-9)
    np.testing.assert_allclose(found.y[1:-1], heights, atol=2e-9)
    assert 5 < len(heights) < 98
    assert (found.x[0], found.y[0], found.x[-1]) == (0, 0, 1)


def test_isotonic_comes_near_the_truth_and_keeps_the_order(random):
    labels, p, truth = simulated(random, 100_000)
    found = fit(labels, p, "isotonic")
    assert len(found.x) <= 100
    after = found(np.float32(p)).numpy()
    assert np.abs(after - truth).mean() < 0.006
    assert after.sum() == pytest.approx(labels.sum(), rel=0.01)
    before = metrics.auc(labels, p)
    assert metrics.auc(labels, after) == pytest.approx(before, abs=1e-6)


def test_many_blocks_become_a_hundred_knots():
    """A thousand bins, each clicking more than the one before."""
    rates = (np.arange(1000) + 0.5) / 1000
    p = np.repeat(rates**2, 1000)
    labels = np.concatenate([np.arange(1000) < 1000 * rate for rate in rates])
    found = fit(labels.astype(int), p, "isotonic")
    # Those that the line would be too steep between are one.
    assert 90 < len(found.x) <= 100
    assert (np.diff(found.y) / np.diff(found.x))[1:].max() <= 20 + 1e-6
    np.testing.assert_allclose(reference(found, rates**2), rates, atol=0.02)


# A run's whole way

SCHEMA = {
    "label": "click",
    "group": "user",
    "fields": [{"name": "user"}, {"name": "item"}],
}
RATE = 0.2


def write_log(path, rows, seed, keep=1.0):
    """A tenth are clicks; the log odds are the user's and the item's."""
    random = np.random.default_rng(seed)
    users, items = random.integers(0, 40, rows), random.integers(0, 30, rows)
    truth = sigmoid((users % 7 - 3) / 2 + (items % 5 - 2) / 2 - 2.6)
    clicks = (random.random(rows) < truth).astype(int)
    kept = (clicks == 1) | (random.random(rows) < keep)
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["click", "user", "item"])
        names = zip(clicks[kept], users[kept], items[kept])
        writer.writerows([c, f"u{u}", f"i{i}"] for c, u, i in names)
    return truth[kept]


def train(folder, **options):
    schema = edcn_tf.Schema.from_dict(SCHEMA)
    edcn_tf.prepare(folder / "log.csv", schema, folder / "data", **options)
    config = edcn_tf.TrainingConfig.from_dict(
        {"model": "logistic_regression", "epochs": 12, "learning_rate": 0.05, "l2": 0.1}
    )
    result = edcn_tf.train(folder / "data", folder / "run", config)
    return folder, result


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    """A run on a fifth of the negatives of the training split."""
    folder = tmp_path_factory.mktemp("sampled")
    write_log(folder / "log.csv", 60_000, 0)
    return train(folder, negative_sampling_rate=RATE, split=(0.5, 0.25, 0.25))


@pytest.fixture(scope="module")
def sampled_before(tmp_path_factory):
    """A run on a log of which only a fifth of the negatives are left."""
    folder = tmp_path_factory.mktemp("before")
    write_log(folder / "log.csv", 60_000, 0, keep=RATE)
    return train(folder, split=(0.5, 0.25, 0.25))


@pytest.fixture
def run(sampled, tmp_path):
    return shutil.copytree(sampled[0] / "run", tmp_path / "run")


def test_training_writes_the_correction(sampled):
    folder, result = sampled
    stored = json.loads((folder / "run/calibration.json").read_text())
    assert stored == {
        "format": 1,
        "negative_sampling_rate": RATE,
        "splits_sampled": False,
        "method": "none",
    }
    figures = edcn_tf.evaluate_run(folder / "run", folder / "data", "valid")
    # Training judges itself by what will be served.
    assert result["valid_log_loss"] == pytest.approx(figures["log_loss"], abs=1e-6)
    assert figures["raw_log_loss"] > figures["log_loss"] + 0.1


def test_evaluate_gives_both_figures(sampled):
    folder, _ = sampled
    figures = edcn_tf.evaluate_run(folder / "run", folder / "data")
    assert figures["raw_calibration"] > 2.5
    assert figures["calibration"] == pytest.approx(1, abs=0.06)
    assert figures["ece"] < 0.02 < 0.1 < figures["raw_ece"]
    assert figures["normalized_entropy"] < 1 < figures["raw_normalized_entropy"]
    raw = score_run(folder / "run", folder / "data", calibration=Calibration())
    corrected = score_run(folder / "run", folder / "data")
    p = raw.probabilities.astype(np.float64)
    np.testing.assert_allclose(
        corrected.probabilities, p / (p + (1 - p) / RATE), rtol=1e-5
    )
    assert figures["auc"] == pytest.approx(raw.evaluate()["auc"], abs=1e-6)
    assert figures["gauc"] == pytest.approx(raw.evaluate()["gauc"], abs=1e-5)
    for key in ("log_loss", "calibration", "ece", "normalized_entropy"):
        assert figures[f"raw_{key}"] == raw.evaluate()[key]


def test_a_run_without_the_file_gives_the_model_s_own(sampled, run):
    (run / "calibration.json").unlink()
    figures = edcn_tf.evaluate_run(run, sampled[0] / "data")
    assert not [key for key in figures if key.startswith("raw_")]
    assert figures["calibration"] > 2.5


def test_predict_writes_what_is_served(sampled, tmp_path):
    folder, _ = sampled
    truth = write_log(tmp_path / "new.csv", 3000, seed=1)
    rows = predict_log(folder / "run", [tmp_path / "new.csv"], tmp_path / "p.csv").rows
    p = np.loadtxt(tmp_path / "p.csv", skiprows=1)
    assert rows == len(p) == 3000
    assert np.corrcoef(p, truth)[0, 1] > 0.9  # each row its own, in order
    assert p.mean() == pytest.approx(truth.mean(), rel=0.06)


def test_the_report_shows_what_is_served(sampled, tmp_path):
    folder, _ = sampled
    figures = edcn_tf.evaluate_run(folder / "run", folder / "data")
    page = write_report(folder / "run", path=tmp_path / "page.html").read_text()
    assert f"{figures['calibration']:.3f}" in page
    assert f"{figures['raw_calibration']:.3f}" not in page
    assert "corrected for a share of 0.2 negatives" in page


@pytest.mark.parametrize("method", ["platt", "isotonic", "none"])
def test_calibrate(sampled, run, method):
    folder, _ = sampled
    # A model that is off: as if it were too sure by half.
    before = Calibration(
        negative_sampling_rate=RATE, method="platt", slope=1.5, intercept=0.5
    )
    before.save(run / "calibration.json")
    figures = calibrate_run(run, folder / "data", method=method)
    after = load_calibration(run)
    assert (after.method, after.negative_sampling_rate) == (method, RATE)
    assert not after.splits_sampled
    assert figures["after"]["log_loss"] < figures["before"]["log_loss"]
    assert figures["after"]["ece"] < figures["before"]["ece"]
    test = edcn_tf.evaluate_run(run, folder / "data")
    # Fitted on about 1,600 clicks, judged on as many: three standard deviations.
    assert test["calibration"] == pytest.approx(1, abs=0.11)
    if method == "platt":
        assert after.slope == pytest.approx(1, abs=0.15)
        assert figures["after"]["calibration"] == pytest.approx(1, abs=1e-3)
    valid = edcn_tf.evaluate_run(run, folder / "data", "valid")
    for key in ("log_loss", "calibration", "ece"):
        assert figures["after"][key] == pytest.approx(valid[key], abs=1e-9)


def test_logs_that_were_sampled_before(sampled_before, tmp_path, monkeypatch):
    folder, _ = sampled_before
    run = shutil.copytree(folder / "run", tmp_path / "run")
    assert load_calibration(run).is_identity
    figures = calibrate_run(run, method="none", negative_sampling_rate=RATE)
    after = load_calibration(run)
    assert (after.splits_sampled, after.negative_sampling_rate) == (True, RATE)
    # Negatives count five times: the model's own probability is far too high.
    assert figures["before"]["calibration"] > 2
    assert figures["after"]["calibration"] == pytest.approx(1, abs=0.06)
    test = edcn_tf.evaluate_run(run, folder / "data")
    assert test["calibration"] == pytest.approx(1, abs=0.08)
    assert test["raw_calibration"] == pytest.approx(1, abs=0.06)  # on sampled rows
    # What is served is right for a log of which nothing was left out.
    truth = write_log(tmp_path / "whole.csv", 5000, seed=1)
    predict_log(run, [tmp_path / "whole.csv"], tmp_path / "p.csv")
    p = np.loadtxt(tmp_path / "p.csv", skiprows=1)
    assert p.mean() == pytest.approx(truth.mean(), rel=0.08)
    # The rate is kept when it is not given again.
    calibrate_run(run)
    again = load_calibration(run)
    assert (again.method, again.splits_sampled) == ("platt", True)
    assert again.negative_sampling_rate == RATE
    assert again.intercept == pytest.approx(0, abs=0.3)
    given = []
    original = metrics.reliability
    monkeypatch.setattr(
        metrics, "reliability", lambda *a, **k: given.append(k) or original(*a, **k)
    )
    page = write_report(run, path=tmp_path / "page.html").read_text()
    assert "A row without a click counts 5 times in them" in page
    assert set(given[0]["weights"]) == {1, 5}


def test_the_command(sampled, run, capsys, monkeypatch):
    monkeypatch.chdir(run.parent)
    data = str(sampled[0] / "data")
    arguments = ["calibrate", "run", "--data", data, "--method", "isotonic"]
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [
        *("validation", "before", "after", "Wrote")
    ]
    figures = edcn_tf.evaluate_run(run, data, "valid")
    assert lines[2].split()[1:] == [
        f"{figures['log_loss']:.6f}",
        f"{figures['calibration']:.4f}",
        f"{figures['ece']:.6f}",
    ]
    assert load_calibration(run).method == "isotonic"


def test_the_default_data_is_what_the_run_trained_on(run, capsys):
    assert main(["calibrate", str(run)]) == 0
    assert load_calibration(run).method == "platt"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("calibrate no", "no/result.json: No such file"),
        ("calibrate run --data no", "no/valid-"),
        (
            "calibrate run --negative-sampling-rate 0.5",
            "run: prepare kept 0.2 of the negatives, which is corrected already",
        ),
        ("calibrate run --data clicks", "clicks, validation split: there must be rows"),
        ("calibrate damaged", "damaged/calibration.json: is not JSON"),
        ("evaluate damaged clicks --split valid", "damaged/calibration.json: is not"),
        ("predict damaged log.csv --out p.csv", "damaged/calibration.json: is not"),
        ("train wrong --out new", "wrong/summary.json: negative_sampling_rate must"),
    ],
)
def test_a_mistake_changes_nothing(
    sampled, run, arguments, expected, capsys, monkeypatch
):
    folder = run.parent
    monkeypatch.chdir(folder)
    damaged = shutil.copytree(run, folder / "damaged")
    (damaged / "calibration.json").write_text("{")
    (folder / "clicks").mkdir()
    with tf.io.TFRecordWriter(str(folder / "clicks/valid-00000.tfrecord")) as writer:
        example = tf.train.Example()
        example.features.feature["click"].int64_list.value.append(1)
        example.features.feature["user"].bytes_list.value.append(b"u1")
        writer.write(example.SerializeToString())
    wrong = shutil.copytree(sampled[0] / "data", folder / "wrong")
    summary = json.loads((wrong / "summary.json").read_text())
    summary["negative_sampling_rate"] = 0
    (wrong / "summary.json").write_text(json.dumps(summary))
    before = {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}
    assert main(arguments.split()) == 1
    [line] = capsys.readouterr().err.strip().splitlines()
    assert expected in line
    after = {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}
    assert after == before


def test_scores_of_sampled_splits_weigh_their_negatives():
    scores = Scores(
        np.array([1, 0]), np.float32([0.5, 0.5]), np.array([1.0, 3.0]), None
    )
    calibration = Calibration(negative_sampling_rate=0.5, splits_sampled=True)
    figures = scores.calibrated(calibration).evaluate()
    # p = 1/3; the negative weighs 3 / 0.5, of the raw figure 3.
    assert figures["calibration"] == pytest.approx(7 / 3, rel=1e-5)
    assert figures["raw_calibration"] == pytest.approx(2)
    loss = (np.log(3) + 6 * np.log(1.5)) / 7
    assert figures["log_loss"] == pytest.approx(loss, rel=1e-5)
    assert figures["raw_log_loss"] == pytest.approx(np.log(2))
