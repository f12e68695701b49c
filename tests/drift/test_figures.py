"""Figures of made-up rows: no alarm by chance, an alarm where something drifted."""

import dataclasses
import math
import re

import numpy as np
import pytest

from edcn_tf.drift import page
from edcn_tf.drift.bins import FieldBins
from edcn_tf.drift.findings import Drift, Limits
from edcn_tf.drift.measuring import figures_of
from edcn_tf.drift.page import write_drift
from edcn_tf.drift.ranking import auc, figure, log_calibration
from edcn_tf.drift.tally import GROUPS, SCORES, Tally, score_bins, score_of
from edcn_tf.drift.telling import lines_of
from edcn_tf.errors import InputError
from edcn_tf.evaluation import metrics
from edcn_tf.evaluation.value_figures import auc_interval, calibration_interval

FIELDS = 12
SIZES = np.arange(2, 2 + 3 * FIELDS, 3)  # known values of each field
TRAINING, VALIDATION = 50_000, 3_000


class World:
    """Rows of users, whose fields are partly theirs, with scores and clicks."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.shares = [self.random.dirichlet(np.full(size, 2.0)) for size in SIZES]
        self.missing = self.random.uniform(0, 0.1, FIELDS)

    def rows(self, number, of_user=1.0):
        """ids `[B, F]`, scores, labels and users; `of_user` rows each on average."""
        users = self.random.integers(0, max(1, int(number / of_user)), number)
        columns = []
        for share, missing in zip(self.shares, self.missing):
            own = self.random.choice(len(share), users.max() + 1, p=share)
            drawn = self.random.choice(len(share), number, p=share)
            values = np.where(self.random.random(number) < 0.5, own[users], drawn)
            ids = np.where(self.random.random(number) < missing, 1, values + 3)
            columns.append(ids)
        score = 1 / (1 + np.exp(-self.random.normal(-1, 1, number)))
        labels = self.random.random(number) < score
        return np.column_stack(columns), score, labels.astype(int), users

    def bins(self):
        found = []
        for number, (size, share) in enumerate(zip(SIZES, self.shares)):
            known = self.random.multinomial(TRAINING, share)
            missing = self.random.binomial(TRAINING, self.missing[number])
            found.append(
                FieldBins(
                    name=f"f{number}",
                    slots=slice(number, number + 1),
                    offset=1,
                    place=np.arange(size + 2),
                    labels=[f"v{i}" for i in range(size)],
                    is_ordered=number % 2 == 0,
                    has_unseen=number % 3 == 0,
                    counts=np.array([missing, 0, *known], float),
                )
            )
        return found


def tallied(bins, ids, scores, labels, users):
    tally = Tally(bins)
    tally.add(ids, scores, labels, users % GROUPS)
    return tally


def drift_of(own, before, **options):
    limits = options.pop("limits", Limits())
    return Drift(
        run="run",
        logs=["day.csv"],
        data="data",
        labels=True,
        independent=False,
        left_out={},
        limits=limits,
        **figures_of(own, before, True, **options),
    )


def compare(world, rows, change=None, of_user=1.0, **options):
    bins = world.bins()
    before = tallied(bins, *world.rows(VALIDATION))
    day = list(world.rows(rows, of_user))
    if change:
        change(*day)
    return drift_of(tallied(bins, *day), before, **options)


@pytest.mark.parametrize("rows, of_user", [(60, 1), (300, 1), (2000, 1), (600, 12)])
def test_small_days_raise_no_alarm(rows, of_user):
    days = [compare(World(seed), rows, of_user=of_user) for seed in range(100)]
    assert sum(bool(day.alarms) for day in days) <= 1
    if rows == 60 or of_user > 1:  # by its size alone an index would
        assert any(f.known.psi > 0.2 for day in days for f in day.fields)
    # Were every difference large enough, alarms would be as rare as their level.
    nothing = Limits(psi=1e-9, share=1e-9, calibration=1e-9, auc=1e-9, level=0.05)
    told = [dataclasses.replace(day, limits=nothing).alarms for day in days]
    assert sum(map(bool, told)) <= 12


def one_value(ids, scores, labels, users):
    """In half of the rows with a value field 5 has one that was rare."""
    there = np.flatnonzero(ids[:, 5] > 1)
    rare = np.argmin(np.bincount(ids[there, 5], minlength=SIZES[5] + 3)[3:]) + 3
    ids[there[::2], 5] = rare


def no_value(ids, scores, labels, users):
    ids[::5, 4] = 1


def unseen(ids, scores, labels, users):
    ids[::5, 3] = 2


def low(ids, scores, labels, users):
    scores *= 0.5


def noise(ids, scores, labels, users):
    labels[:] = np.random.default_rng(0).permutation(labels)


def no_click(ids, scores, labels, users):
    labels[:] = 0


@pytest.mark.parametrize(
    "change, name, told",
    [
        (one_value, "f5", r"PSI .*by chance .*; 'v\d+' [45]"),
        (no_value, "f4", r"% missing, was"),
        (unseen, "f3", r"% unseen, was 0.0%"),
        (low, "scores", r"PSI .*mean 0.1"),
        (low, "calibration", r"0.[45]\d+ clicks predicted for one, was (1.0|0.9)"),
        (
            no_click,
            "calibration",
            r"\d{3}\.\d+ clicks predicted for one, was (1.0|0.9)",
        ),
        (noise, "AUC", r"0.[45]\d+, was 0.[67]"),
    ],
)
def test_a_shift_is_an_alarm(change, name, told):
    days = [compare(World(seed), 1000, change) for seed in range(20)]
    for day in days:
        found = {alarm.name: alarm for alarm in day.alarms}
        assert name in found
        assert re.search(told, found[name].told), found[name].told
        assert found[name].p < 0.01
        also = {"low": {"calibration", "scores"}}.get(change.__name__, {name})
        assert set(found) <= also


def test_fields_that_are_ignored_give_no_alarm():
    drift = compare(World(1), 1000, one_value, ignore=["f5"])
    assert not drift.alarms
    assert drift.fields[5].known.excess > 0.2


def test_limits_are_what_makes_a_difference_large():
    strict, lax = Limits(psi=0.01), Limits(psi=5)
    for limits, expected in ((strict, ["f5"]), (lax, [])):
        drift = compare(World(2), 2000, one_value, limits=limits)
        assert [alarm.name for alarm in drift.alarms] == expected


@pytest.mark.parametrize(
    "key, value", [("psi", 0), ("level", 1), ("auc", "0.1"), ("share", math.nan)]
)
def test_limits_are_numbers_above_zero(key, value):
    with pytest.raises(InputError, match=f"{key} must be a number above 0"):
        Limits(**{key: value})


def test_bins_of_scores_keep_their_order(random):
    scores = np.sort(random.random(10_000).astype(np.float32) ** 4)
    bins = score_bins(scores)
    assert (np.diff(bins) >= 0).all()
    assert (score_of(bins) <= scores).all()
    np.testing.assert_allclose(score_of(bins), scores, rtol=2**-8)
    ends = score_bins(np.array([0, -0.0, 1], np.float32))
    assert ends.tolist() == [0, 0, SCORES - 1]


@pytest.mark.parametrize("score", [math.nan, math.inf, 1.25, -0.5])
def test_a_score_that_is_no_probability_is_an_error(score):
    """Its bits would be a bin of another group, or of none."""
    tally = Tally([])
    nothing, groups = np.zeros((3, 0), int), np.arange(3)
    tally.add(nothing, np.array([0.0, 1.0, 0.5]), None, groups)
    scores = np.array([0.5, score, 0.5], np.float32)
    told = rf"row 5 of those scored: .* in \[0, 1\]; .* Received: {score}"
    with pytest.raises(InputError, match=told):
        tally.add(nothing, scores, None, groups)
    assert tally.rows == tally.scores.sum() == 3


def test_auc_and_calibration_are_those_of_evaluate(random):
    labels = random.integers(0, 2, 6000)
    scores = 1 / (1 + np.exp(-random.normal(labels, 1.0)))
    tally = tallied([], np.zeros((6000, 0), int), scores, labels, np.arange(6000))
    value, error = auc(tally.scores)
    assert value == pytest.approx(metrics.auc(labels, scores), abs=1e-4)
    by_delong = auc_interval(labels, scores)
    assert 1.96 * error == pytest.approx(by_delong.value - by_delong.low, rel=0.3)
    ratio, error = log_calibration(
        tally.predicted.sum(axis=1), tally.scores[:, 1].sum(axis=1)
    )
    assert math.exp(ratio) == pytest.approx(metrics.calibration(labels, scores))
    interval = calibration_interval(labels, scores)
    expected = math.log(interval.high / interval.value)
    assert 1.96 * error == pytest.approx(expected, rel=0.3)


def test_errors_know_of_users(random):
    """50 users of 40 rows, some of whom the model ranks, and knows, better."""
    users = np.repeat(np.arange(50), 40)
    rates = random.uniform(0, 1, 50)
    labels = (random.random(2000) < rates[users]).astype(int)
    scores = np.full(2000, 0.5) + random.normal(0, 0.01, 2000)
    own, alone = (
        tallied([], np.zeros((2000, 0), int), scores, labels, clusters)
        for clusters in (users, np.arange(2000))
    )
    errors = [
        log_calibration(t.predicted.sum(axis=1), t.scores[:, 1].sum(axis=1))[1]
        for t in (own, alone)
    ]
    assert errors[0] > 2 * errors[1]


@pytest.mark.parametrize("total", [1, 3, 10, 30, 100])
def test_days_without_a_click_are_as_rare_as_their_p_says(total):
    """That none of so many predicted clicks came has the probability e^-total."""
    value, error = log_calibration(np.full(GROUPS, total / GROUPS), np.zeros(GROUPS))
    assert value == pytest.approx(math.log(2 * total))
    p = figure((value, error), (0.0, 0.01), GROUPS).p
    assert math.exp(-total) < p
    assert p < 1e-4 if total == 100 else p > 1e-4


def test_figures_that_rows_do_not_tell_are_no_number():
    nothing = np.zeros((GROUPS, 2, SCORES), np.int32)
    nothing[0, 0, 5] = 3
    assert np.isnan(auc(nothing)[0])
    assert np.isnan(log_calibration(np.zeros(4), np.zeros(4))).all()
    value, error = log_calibration(np.array([2.0, 0]), np.array([1, 0]))
    assert value == pytest.approx(math.log(2)) and np.isnan(error)


def test_the_page_draws_the_limit_of_each_field_above_its_chance(monkeypatch):
    drawn = {}

    def image(figure, *texts):
        [axes] = figure.axes
        drawn.update((line.get_label(), line.get_xdata()) for line in axes.lines)

    monkeypatch.setattr(page, "svg", lambda figure: figure)
    monkeypatch.setattr(page, "image", image)
    found = compare(World(6), 60).fields
    fields = [field for field in found if field.known.psi > 0]
    page._indices(fields, 0.25)
    chance = [field.known.by_chance for field in fields]
    assert max(chance) > 2 * min(chance)
    np.testing.assert_allclose(drawn["by chance"], chance)
    np.testing.assert_allclose(drawn["limit"], np.add(chance, 0.25))


def test_errors_have_the_freedom_of_the_smaller_number_of_groups():
    """The validation rows are of three users."""
    world = World(3)
    bins = world.bins()
    ids, scores, labels, users = world.rows(VALIDATION)
    own = tallied(bins, *world.rows(1000))
    drift = drift_of(own, tallied(bins, ids, scores, labels, users % 3))
    assert drift.calibration.freedom == drift.auc.freedom == 2
    drift = drift_of(tallied(bins, ids, scores, labels, users % 3), own)
    assert drift.calibration.freedom == drift.auc.freedom == 2


def test_errors_that_are_not_known_are_told(tmp_path):
    world = World(4)
    bins = world.bins()
    ids, scores, labels, users = world.rows(VALIDATION)
    own = tallied(bins, *world.rows(1000))
    drift = drift_of(own, tallied(bins, ids, scores, labels, users * 0))
    assert not drift.alarms
    told = "gives no alarm: its error is not known, as too few groups of rows of the "
    lines = [line for line in lines_of(drift) if told in line]
    assert [line.split()[0] for line in lines] == ["Calibration", "AUC"]
    assert all("validation split" in line for line in lines)
    write_drift(drift, tmp_path / "drift.html")
    html = (tmp_path / "drift.html").read_text(encoding="utf-8")
    assert all(line in html for line in lines)
    judged = "\n".join(lines_of(drift_of(own, own)))
    assert "not known" not in judged


def test_a_sampled_validation_split_counts_as_the_rows_it_stands_for(random):
    """Of its rows without a click one in four was kept."""
    world = World(5)
    bins = world.bins()
    for each in bins:
        each.counts = None
    rows = world.rows(40_000)
    kept = (rows[2] == 1) | (random.random(40_000) < 0.25)
    before = tallied(bins, *(column[kept] for column in rows))
    own = tallied(bins, *world.rows(5_000))
    drift = drift_of(own, before, weights=(4.0, 1.0))
    assert not drift.alarms
    assert drift.mean[1] == pytest.approx(rows[1].mean(), rel=0.02)
    assert math.exp(drift.calibration.reference) == pytest.approx(1, abs=0.05)
    assert {field.split for field in drift.fields} == {"valid"}
    as_they_are = drift_of(own, before)
    assert "calibration" in {alarm.name for alarm in as_they_are.alarms}
