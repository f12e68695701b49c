import base64
import csv
import dataclasses
import os
import re
from html import escape

import numpy as np
import pytest

from edcn_tf.tuning import Objective
from edcn_tf.tuning.report.analysis import (
    Forest,
    best_so_far,
    difference,
    furthest,
    limits,
    pareto_front,
)
from edcn_tf.tuning.report.answer import answer, spread
from edcn_tf.tuning.report.page import write_page
from edcn_tf.tuning.report.parameter_axis import INACTIVE, ParameterAxis, label
from edcn_tf.tuning.report.trials_table import write_trials
from edcn_tf.tuning.results import COMPLETED, FAILED, Retrained, TrialResult
from helpers.made_up_search import made_up_retrained, made_up_trials

NASTY = 'Ünï <b>&"$x$</b>,\nλ'
AUC = Objective()
LOG_LOSS = Objective("log_loss")


def trial(number, score=0.8, **values):
    values = {"status": COMPLETED, "settings": {}, "auc": score, **values}
    return TrialResult(number=number, score=score, **values)


def anew(name, number, test, *, score, valid=None, **values):
    return Retrained(
        name=name,
        trial=number,
        config={"l2": 3.0} if number is not None else {},
        seeds=tuple(range(len(test or valid))),
        valid_auc=valid or test,
        valid_log_loss=valid or test,
        test_auc=test,
        test_log_loss=test,
        score=score,
        **values,
    )


@pytest.fixture(scope="module")
def write(tmp_path_factory):
    """Writes a page and gives its text."""

    def written(trials, retrained=(), objective=AUC, **values):
        path = tmp_path_factory.mktemp("page") / "new" / "report.html"
        values = {"title": "tuned", **values}
        found = write_page(
            path, trials=trials, retrained=retrained, objective=objective, **values
        )
        assert found == path
        assert [p.name for p in path.parent.iterdir()] == ["report.html"]
        return path.read_text(encoding="utf-8")

    return written


@pytest.fixture(scope="module")
def page(write):
    trials = made_up_trials()
    return write(
        trials,
        made_up_retrained(trials, AUC),
        command="edcn tune data --out 'my <tuned>'",
        seconds=3725,
    )


def alts(page):
    return re.findall(r'<img alt="([^"]+)"', page)


def drawings(page):
    """The SVG of each figure, as text."""
    found = re.findall(r'src="data:image/svg\+xml;base64,([^"]*)"', page)
    return [base64.b64decode(each).decode("utf-8") for each in found]


# trials.csv


def test_trials_table_is_read_back(tmp_path):
    trials = [
        trial(0, 0.75, settings={"bridge": "add", "units": [8, 4], "epochs": 3}),
        trial(1, 0.5, settings={"bridge": NASTY, "units": None, "flag": True}),
        TrialResult(number=2, status=FAILED, settings={"l2": 1e-3}, reason=NASTY),
    ]
    write_trials(trials, tmp_path / "trials.csv")
    with open(tmp_path / "trials.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    fields = [f.name for f in dataclasses.fields(TrialResult) if f.name != "settings"]
    names = ("bridge", "units", "epochs", "flag", "l2")
    assert list(rows[0]) == [*fields, *(f"settings.{name}" for name in names)]
    assert [[row[f"settings.{name}"] for name in names] for row in rows] == [
        ["add", "[8, 4]", "3", "", ""],
        [NASTY, "null", "", "true", ""],
        ["", "", "", "", "0.001"],
    ]
    assert [row["score"] for row in rows] == ["0.75", "0.5", ""]
    assert [row["continues"] for row in rows] == ["", "", ""]
    assert [row["epochs"] for row in rows] == ["0", "0", "0"]
    assert rows[2]["status"] == "failed" and rows[2]["reason"] == NASTY


def test_trials_table_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "trials.csv"
    write_trials([trial(0)], path)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_trials([trial(0), trial(1, settings={"a": object()})], path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# What is computed


def test_best_so_far():
    scores = [0.5, float("nan"), 0.4, 0.6]
    np.testing.assert_array_equal(best_so_far(scores, True), [0.5, 0.5, 0.5, 0.6])
    np.testing.assert_array_equal(best_so_far(scores, False), [0.5, 0.5, 0.4, 0.4])
    failed_first = best_so_far([float("nan"), 0.3], True)
    np.testing.assert_array_equal(failed_first, [np.nan, 0.3])


def test_pareto_front():
    costs = [3.0, 1.0, 2.0, 2.0, 4.0, 1.0]
    figures = [0.80, 0.70, 0.75, 0.76, 0.80, 0.70]
    # 2 is surpassed by 3, and 4 by 0, which is as good and cheaper; 1 and 5 are equal.
    assert pareto_front(costs, figures, True) == [1, 5, 3, 0]
    # Where low is good, nothing is better than the cheapest two.
    assert pareto_front(costs, figures, False) == [1, 5]
    assert pareto_front([], [], True) == []


def test_furthest_counts_a_setting_once():
    trials = [
        trial(0),
        trial(1),
        trial(2, continues=0),
        trial(3, continues=1, status=FAILED),
        trial(4, continues=2),
    ]
    assert [t.number for t in furthest(trials)] == [1, 4]


def test_spread():
    assert spread([0.8, 0.81, 0.82]) == "0.8100\xa0±\xa00.0100"
    assert spread([0.8]) == "0.8000"


def test_difference_has_welchs_interval():
    # Variances 1 and 1, 3 values each: t has 4 degrees of freedom, 2.7764 at 97.5 %,
    # and the standard error is sqrt(1/3 + 1/3).
    found = difference([1, 2, 3], [2, 3, 4])
    half = 2.7764 * (2 / 3) ** 0.5
    np.testing.assert_allclose(found, [-1, -1 - half, -1 + half], rtol=1e-4)
    assert difference([1, 1], [3, 3]) == (-2, -2, -2)
    np.testing.assert_array_equal(difference([1], [3, 4]), [-2.5, np.nan, np.nan])


def test_limits_leave_out_what_is_far_worse():
    # Quartiles 0.72 and 0.76: the fence is at 0.72 - 1.5 * 0.04 = 0.66.
    scores = [0.1, 0.72, 0.74, 0.76, 0.78]
    margin = 0.06 * (0.78 - 0.66)
    np.testing.assert_allclose(limits(scores, True), [0.66 - margin, 0.78 + margin])
    low, high = limits(scores, False)  # there 0.1 is the best
    assert low < 0.1 and high > 0.78
    assert limits([0.5, 0.5], True) == (0.499, 0.501)


# Axes of hyper-parameters


def axis(*values):
    return ParameterAxis("a", [{} if v is Ellipsis else {"a": v} for v in values])


def test_choices_stand_side_by_side_and_inactive_below():
    found = axis("b", 16, 2, ..., None, [4, 2.0], True)
    assert found.ticks() == [
        *[(-1, INACTIVE), (0, "2"), (1, "16"), (2, "[4,2]"), (3, "b")],
        *[(4, "null"), (5, "true")],
    ]
    assert [found.number({"a": v}) for v in (2, 16, [4, 2.0], "b")] == [0, 1, 2, 3]
    assert found.number({}) == -1 and found.share({}) == 0
    assert found.share({"a": True}) == 1
    assert not found.is_constant


def test_numbers_of_many_digits_are_a_range():
    found = axis(1.2345, 2.0, 3.2345)
    assert found.is_range and not found.is_log
    assert found.share({"a": 2.2345}) == pytest.approx(0.5)
    assert found.ticks() == [(v, f"{v:g}") for v in (1.5, 2, 2.5, 3)]
    assert not axis(0.1, 0.2, 0.3).is_range
    assert not axis(512, 1024, 2048).is_range
    assert axis(*range(8)).is_range


def test_a_range_is_logarithmic_if_that_spreads_it_more_evenly():
    found = axis(0.001234, 0.01, 0.1234, ...)
    assert found.is_log
    labels = [text for _, text in found.ticks()]
    assert labels == [INACTIVE, "0.003", "0.01", "0.03", "0.1"]
    # Inactive is 0; a range of 2 powers of ten and 0.15 times that below it.
    assert found.share({}) == 0
    assert found.share({"a": 0.001234}) == pytest.approx(0.15 / 1.15)
    assert found.share({"a": 0.1234}) == pytest.approx(1)
    assert not axis(0.01234, 0.5, 0.9).is_log


def test_constant():
    assert axis("x", "x").is_constant
    assert axis(0.123456).is_constant
    assert not axis("x", ...).is_constant


def test_values_for_people():
    values = [0.0123456, 1234.5, 3, None, True, "é", [256, 0.5], {"a": 1}]
    assert [label(v) for v in values] == [
        *["0.0123", "1230", "3", "null", "true", "é", "[256,0.5]", '{"a": 1}']
    ]


def test_forest_finds_what_moves_the_score():
    random = np.random.default_rng(0)
    settings = [
        {"x": float(random.random()), "kind": str(random.choice(["a", "b"]))}
        for _ in range(60)
    ]
    for setting in settings:
        if setting["kind"] == "b":
            setting["noise"] = float(random.random())
    scores = [s["x"] + 0.5 * (s["kind"] == "b") for s in settings]
    trials = [trial(i, settings=s, epochs=3) for i, s in enumerate(settings)]
    axes = [ParameterAxis(name, settings) for name in ("x", "kind", "noise")]
    forest = Forest(axes, trials, scores)
    assert forest.r2 > 0.8
    values, means, low, high = forest.effect(axes[0])
    assert values[0] == min(s["x"] for s in settings) and len(values) == 15
    assert means[-1] - means[0] == pytest.approx(1, abs=0.25)
    assert (low <= means).all() and (means <= high).all()
    values, means, _, _ = forest.effect(axes[1])
    assert list(values) == [0, 1]
    assert means[1] - means[0] == pytest.approx(0.5, abs=0.15)
    assert np.ptp(forest.effect(axes[2])[1]) < 0.1


# The answer


def test_answer_within_the_spread_of_seeds():
    default = anew("default", None, (0.799, 0.800, 0.801), score=0.80)
    best = anew("trial 12", 12, (0.800, 0.801, 0.802), score=0.81)
    half = 2.7764 * 0.001 * (2 / 3) ** 0.5
    assert answer([trial(12)], [default, best], AUC).replace("\xa0", " ") == (
        "Trial 12 is best: test AUC 0.8010 ± 0.0010 over 3 seeds; the default "
        f"0.8000 ± 0.0010. It is 0.0010 better (95 % interval of the difference: "
        f"{0.001 - half:+.4f} to {0.001 + half:+.4f}), which is within the spread of "
        "seeds: it may be chance."
    )


def test_answer_beyond_the_spread_of_seeds():
    default = anew("default", None, (0.600, 0.601, 0.602), score=0.60)
    best = anew("trial 3", 3, (0.500, 0.501, 0.502), score=0.50)
    text = answer([trial(3)], [default, best], LOG_LOSS)
    assert "Trial 3 is best: test log loss 0.5010" in text
    assert "It is 0.1000 better" in text
    assert text.endswith("which is more than the spread of seeds.")


def test_answer_of_the_validation_split():
    default = anew("default", None, (), valid=(0.7, 0.701), score=0.7)
    best = anew("trial 3", 3, (), valid=(0.8, 0.801), score=0.8)
    text = answer([trial(3)], [default, best], AUC)
    assert "validation AUC 0.8005" in text
    assert text.endswith("on the split that chose it.")


def test_answer_can_be_worse_on_the_test_split():
    default = anew("default", None, (0.80, 0.81), score=0.7)
    best = anew("trial 3", 3, (0.79, 0.80), score=0.8)
    assert "It is 0.0100 worse" in answer([trial(3)], [default, best], AUC)


def test_answer_when_the_default_is_best():
    default = anew("default", None, (0.80, 0.80), score=0.8)
    other = anew("trial 3", 3, (0.79, 0.79), score=0.79)
    assert answer([trial(3)], [default, other], AUC).replace("\xa0", " ") == (
        "No trial is better than the default: test AUC 0.8000 ± 0.0000 over 2 seeds; "
        "the next, trial 3, 0.7900 ± 0.0000."
    )


@pytest.mark.parametrize(
    ("trials", "retrained", "told"),
    [
        ([], [], "No trial ended, so there is no best setting."),
        ([trial(0, status=FAILED)], [], "All 1 trials failed, so there is no best"),
        ([trial(0, 0.7), trial(1, 0.8)], [], "Trial 1 is best: validation AUC 0.8000."),
        (
            [trial(3)],
            [anew("trial 3", 3, (0.8, 0.8), score=1.0)],
            "The default was not trained anew",
        ),
        (
            [trial(3)],
            [
                anew("default", None, (0.7,), score=0.7),
                anew("trial 3", 3, (0.8,), score=0.8),
            ],
            "with one seed each, that may be chance.",
        ),
    ],
)
def test_answer_when_something_is_lacking(trials, retrained, told):
    assert told in answer(trials, retrained, AUC)


# The page


def test_every_section_in_order(page):
    assert re.findall(r"<h2>(.*?)</h2>", page) == [
        "The best, trained anew",
        "Trials and memory over time",
        "Each parameter's effect",
        "AUC and cost",
        "All trials",
        "Command",
    ]
    names = " ".join(alts(page))
    for told in [
        *["validation AUC of each seed of 6", "test AUC of each seed of 6"],
        *["Score by trial; the best", "Memory by trial", "Parallel coordinates"],
        *["Score by learning_rate", "against latency", "against parameters"],
    ]:
        assert told in names
    assert "30 trials in 1 h 2 min, of which" in page
    assert "better on average than trained anew" in page
    assert escape("edcn tune data --out 'my <tuned>'") in page


def test_is_self_contained(page):
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert sources and all(source.startswith("data:") for source in sources)
    assert not re.search(r"<script|<link|@import|url\(|https?://", page)
    for drawing in drawings(page):
        assert not re.search(r"<script|<image|@import", drawing)
        assert not re.search(r'(?:href="|url\()(?!#)', drawing)


def test_page_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("earlier")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_page(path, title="tuned", trials=[], retrained=[], objective=AUC)
    assert path.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_same_trials_same_page(write):
    trials = made_up_trials(4)
    assert write(trials) == write(trials)


def test_winners_curse_is_told(write):
    retrained = [
        anew("default", None, (0.70, 0.71), score=0.70),
        anew("trial 0", 0, (0.78, 0.80), score=0.79),
        anew("trial 1", 1, (0.77, 0.77), score=0.77),
    ]
    text = write([trial(0, 0.81), trial(1, 0.78)], retrained)
    # 0.81 - 0.79 = 0.02 and 0.78 - 0.77 = 0.01: 0.015 on average.
    assert "In the search these settings were 0.0150 better on average" in text
    row = re.search(r'<tr><th scope="row"><b>trial 0</b>.*?</tr>', text)[0]
    assert re.findall("<td>(.*?)</td>", row) == [
        *["0.8100", spread([0.78, 0.80]), spread([0.78, 0.80]), "n/a", "n/a"]
    ]
    assert '<tr><th scope="row">l2</th><td>3</td><td>3</td></tr>' in text


def test_failures_come_first_with_their_reasons(write):
    trials = [
        trial(0, 0.7),
        trial(1, float("nan"), status=FAILED, reason="out of memory"),
        trial(2, 0.8),
        trial(3, float("nan"), status=FAILED, reason="out of memory"),
    ]
    text = write(trials)
    assert "2 failed: out of memory (2)." in text
    details = text[text.index("<details>") :]
    order = re.findall(r'<th scope="row">trial (\d)', details)
    assert order == ["1", "3", "2", "0"]
    assert "crosses: the 2 that failed" in text


def test_trials_that_went_on_are_linked(write):
    trials = [trial(0, 0.7, epochs=3), trial(1, 0.71, epochs=3)]
    longer = trial(2, 0.72, continues=0, epochs=9)
    text = write([*trials, longer])
    assert "a thin line leads to the trial that went on with it" in text
    assert "the larger, the more epochs (3 to 9)" in text
    assert "went on with trial 0" in text
    assert "a thin line" not in write(trials)
    lost = TrialResult(number=2, status=FAILED, settings={}, continues=0)
    assert "a thin line" not in write([*trials, lost])


def test_pareto_front_is_told(write):
    figures = [(0.7, 1.0), (0.8, 3.0), (0.75, 2.0), (0.6, 2.0)]
    trials = [trial(i, auc, latency_ms=ms) for i, (auc, ms) in enumerate(figures)]
    assert "(from the cheapest on: 0, 2, 1)" in write(trials)


def test_charges_are_told(write):
    charged = Objective(latency_charge=0.001, parameter_charge=0.02)
    text = write(made_up_trials(4), objective=charged)
    assert (
        "Ranked by validation AUC, less 0.001 for each millisecond of latency and "
        "0.02 for each million parameters."
    ) in text
    assert "Validation AUC, charged: a dot is a trial" in text
    other = Objective("log_loss", parameter_charge=0.5)
    assert "validation log loss, plus 0.5 for each" in write([], objective=other)


def test_log_loss_is_minimized_on_the_page(write):
    trials = [
        dataclasses.replace(t, score=t.log_loss) for t in made_up_trials(9, failures=0)
    ]
    text = write(trials, made_up_retrained(trials, LOG_LOSS), LOG_LOSS)
    best = min(trials, key=lambda t: t.log_loss)
    assert f"the best, {best.log_loss:.4f}, is that of trial {best.number}." in text
    assert "test log loss of each seed" in " ".join(alts(text))
    assert "<h2>Log loss and cost</h2>" in text


def test_nothing_to_tell(write):
    text = write([])
    assert not alts(text)
    for told in ["No trial ended", "There are none.", "No setting was trained anew"]:
        assert told in text


def test_all_failed(write):
    trials = [trial(i, float("nan"), status=FAILED, reason="why") for i in range(4)]
    text = write(trials)
    assert not alts(text)
    for told in [
        "All 4 trials failed",
        "There is no score, since no trial was completed.",
        "needs 3 completed trials with different settings; there are 0.",
        "4 failed: why (4).",
    ]:
        assert told in text


def test_two_trials_are_too_few_for_effects_and_costs(write):
    text = write(made_up_trials(2, failures=0))
    assert "there are 2." in text
    assert "Latency in ms is known of 2 settings only, and 3 are needed." in text
    assert not re.search("Score by [a-z_]+\\.|Parallel|against", " ".join(alts(text)))


def test_without_latency_parameters_are_shown(write):
    trials = [dataclasses.replace(t, latency_ms=None) for t in made_up_trials(6)]
    text = write(trials)
    assert "Latency in ms: not measured." in text
    assert "validation AUC against parameters" in " ".join(alts(text))


def test_without_memory(write):
    text = write([trial(0), trial(1)])
    assert "Memory was not measured." in text
    assert "Memory by trial" not in text


def test_parameters_that_did_not_vary(write):
    text = write([trial(i, 0.7 + i / 100, settings={"l2": 2.0}) for i in range(3)])
    assert "no parameter varied. The same in all trials: l2 = 2." in text


def test_no_effect_is_drawn_of_noise(write):
    random = np.random.default_rng(5)
    trials = [
        trial(i, random.random(), settings={"l2": random.random()}) for i in range(20)
    ]
    text = write(trials)
    assert "does not predict those it has not seen" in text
    assert "Score by l2." in " ".join(alts(text))


def test_many_long_parameters(write):
    trials = made_up_trials(60, more_parameters=12)
    text = write(trials, made_up_retrained(trials, AUC))
    assert sum(name.startswith("Parallel") for name in alts(text)) == 2
    assert len(re.findall("Score by [^ ]+\\.", " ".join(alts(text)))) == 21
    assert "15 more parameters" in text


def test_foreign_text_is_escaped(write):
    trials = [
        trial(i, 0.7 + i / 100, settings={NASTY: f"{NASTY}{i}"}, latency_ms=1.0 + i)
        for i in range(3)
    ]
    trials.append(trial(3, float("nan"), status=FAILED, reason=NASTY))
    retrained = [anew("default", None, (0.7, 0.8), score=0.7)]
    retrained.append(
        dataclasses.replace(retrained[0], name=NASTY, trial=2, config={NASTY: NASTY})
    )
    text = write(trials, retrained, title=NASTY, command=NASTY)
    assert "<b>&" not in text and "<b>&amp;" not in text
    assert f"<title>{escape(NASTY)}</title>" in text
    assert f"<pre>{escape(NASTY)}</pre>" in text
    assert f"1 failed: {escape(NASTY)} (1)." in text
    assert f'<div class="wide text">{escape(NASTY)}={escape(NASTY)}0</div>' in text
    for drawing in drawings(text):
        assert "<b>" not in drawing
    assert any("$x$" in drawing for drawing in drawings(text))  # not as a formula
