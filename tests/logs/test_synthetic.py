"""The synthetic log: its bytes, its distributions, and that its best figures are."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow.parquet as pq
import pytest

import edcn_tf
from edcn import main
from edcn.synthesize import SYNTHETIC
from edcn_tf.errors import InputError
from edcn_tf.evaluation import metrics
from edcn_tf.evaluation.scoring import load_run
from edcn_tf.logs.formats import SCHEMAS
from edcn_tf.logs.synthetic.log import (
    CHUNK,
    SyntheticConfig,
    SyntheticLog,
    expected_sigmoid,
    sigmoid,
)
from edcn_tf.logs.synthetic.writing import _Judge, synthesize

SMALL = SyntheticConfig(values=1000)  # fields of at most 1000 values: quick to start


@pytest.fixture(scope="module")
def log():
    return SyntheticLog(SMALL)


@pytest.fixture(scope="module")
def drawn(log):
    """Codes, label and best score of 100,000 rows."""
    codes, noise, labels, best = [], [], [], []
    for chunk in range(7):
        part = log._draw(0, chunk)
        rows = log._rows(part, slice(0, CHUNK))
        codes.append(part[0])
        noise.append(part[1])
        labels.append(rows.columns["label"].to_numpy())
        best.append(rows.probabilities)
    codes = [np.concatenate(column) for column in zip(*codes)]
    return codes, *map(np.concatenate, (noise, labels, best))


def bytes_of(path, rows, config=SMALL, **options):
    synthesize(path, rows, config, **options)
    return path.read_bytes()


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(tmp_path):
    first = bytes_of(tmp_path / "a.tsv", 500)
    assert bytes_of(tmp_path / "b.tsv", 500) == first
    other = bytes_of(tmp_path / "c.tsv", 500, dataclasses.replace(SMALL, seed=1))
    assert set(other.splitlines()).isdisjoint(first.splitlines())


def test_rows_do_not_depend_on_how_many_are_asked(tmp_path):
    whole = bytes_of(tmp_path / "whole.tsv", CHUNK + 300).splitlines()
    assert len(whole) == CHUNK + 300
    assert bytes_of(tmp_path / "few.tsv", 300).splitlines() == whole[:300]
    middle = bytes_of(tmp_path / "middle.tsv", 40, skip=CHUNK - 20).splitlines()
    assert middle == whole[CHUNK - 20 : CHUNK + 20]
    at_edge = bytes_of(tmp_path / "edge.tsv", 300, skip=CHUNK).splitlines()
    assert at_edge == whole[CHUNK:]


def test_lines_are_as_criteos(tmp_path):
    lines = bytes_of(tmp_path / "a.tsv", 2000).decode().splitlines()
    rows = [line.split("\t") for line in lines]
    assert {len(row) for row in rows} == {40}
    assert {row[0] for row in rows} == {"0", "1"}
    numbers = {value for row in rows for value in row[1:14]}
    strings = {value for row in rows for value in row[14:]}
    assert "" in numbers and "" in strings
    assert all(value.isdigit() for value in numbers - {""})
    assert all(len(value) == 8 and int(value, 16) >= 0 for value in strings - {""})


def test_missing_values_have_the_share_that_was_asked(drawn):
    shares = [np.mean(column == 0) for column in drawn[0]]
    expected = np.tile([0, 0.1, 0.2], 13)
    np.testing.assert_allclose(shares, expected, atol=5 * 0.4 / np.sqrt(7 * CHUNK))


@pytest.mark.parametrize("rate", [0.03, 0.25, 0.6])
def test_the_click_rate_is_met(rate):
    log = SyntheticLog(dataclasses.replace(SMALL, click_rate=rate))
    clicks = np.concatenate([r.columns["label"].to_numpy() for r in log.read(100_000)])
    # That of these rows and that of the sample that the intercept was solved on.
    deviation = np.sqrt(rate * (1 - rate) * (1 / 100_000 + 1 / (8 * CHUNK)))
    assert abs(clicks.mean() - rate) < 4 * deviation


@pytest.mark.parametrize("exponent", [0.8, 1.1, 1.5])
def test_strings_follow_zipfs_law(exponent):
    log = SyntheticLog(dataclasses.replace(SMALL, exponent=exponent))
    field = next(field for field in log.fields if field.name == "C3")
    codes = field.draw(np.random.default_rng(5).random(1_000_000))
    counts = np.sort(np.unique(codes[codes > 0], return_counts=True)[1])[::-1]
    ranks = np.arange(1, 31)
    slope = np.polyfit(np.log(ranks), np.log(counts[:30]), 1)[0]
    assert slope == pytest.approx(-exponent, abs=0.02)
    assert len(counts) <= 1000


def test_distinct_values_have_distinct_texts(log):
    codes = np.arange(1, 200_000)
    values = log.fields[20].values(codes).to_pylist()
    assert len(set(values)) == len(codes)
    others = log.fields[21].values(codes[:1000]).to_pylist()
    assert set(others) != set(values[:1000])


def test_hidden_numbers_have_mean_0_and_variance_1(log, drawn):
    # By field, over drawn rows, which the exact moments know nothing of.
    for field, codes in zip(log.fields, drawn[0]):
        hidden = field.hidden(codes, (1, 0, 0))
        assert abs(hidden.mean()) < 5 / np.sqrt(len(codes)), field.name
        assert hidden.var() == pytest.approx(1, abs=0.05), field.name


def test_terms_have_the_asked_strength_and_tell_nothing_of_each_other(log, drawn):
    terms = np.stack(log.terms(drawn[0]))
    np.testing.assert_allclose(terms.std(axis=1), [1.0, 1.0, 0.5], rtol=0.05)
    assert np.abs(np.corrcoef(terms) - np.eye(3)).max() < 0.02
    # A pair is seen in no field alone: not in its values' means of the second term.
    field = [f.name for f in log.fields].index("C6")
    codes = drawn[0][field]
    means = [terms[1][codes == code].mean() for code in range(1, 9)]
    errors = [1 / np.sqrt(np.sum(codes == code)) for code in range(1, 9)]
    assert np.abs(np.divide(means, errors)).max() < 4
    first = [terms[0][codes == code].mean() for code in range(1, 9)]
    assert np.abs(np.divide(first, errors)).max() > 10  # as single effects are


def test_a_pair_is_planted_as_products_of_hidden_vectors():
    pair = dataclasses.replace(SMALL, pairs=[("C6", "C14")], triples=(), rank=2)
    log = SyntheticLog(pair)
    rows = [np.ones(24 * 27, np.int64) for _ in log.fields]
    rows[13 + 5], rows[13 + 13] = np.indices((24, 27)).reshape(2, -1) + 1
    first, second, third = log.terms(rows)
    assert not third.any()
    values = np.linalg.svd(second.reshape(24, 27), compute_uv=False)
    assert values[1] > 0.1 * values[0]
    assert values[2] < 1e-9 * values[0]  # rank 2
    # The first-order effects of the two fields are others.
    effects = first.reshape(24, 27)
    vectors = np.linalg.svd(second.reshape(24, 27))[0][:, :2]
    effect = effects[:, 0] - effects[:, 0].mean()
    assert np.linalg.norm(vectors.T @ effect) < 0.9 * np.linalg.norm(effect)


def pair_share(labels, scores):
    """AUC by looking at every pair."""
    clicks, others = scores[labels == 1][:, None], scores[labels == 0]
    return np.mean((clicks > others) + (clicks == others) / 2)


def test_the_best_figures_are_those_of_brute_force(tmp_path):
    rows = 3000
    config = dataclasses.replace(SMALL, noise=1.0)
    figures = synthesize(
        tmp_path / "a.tsv", rows, config, probabilities=tmp_path / "p.parquet"
    )
    lines = (tmp_path / "a.tsv").read_text().splitlines()
    labels = np.array([int(line[0]) for line in lines])
    log = SyntheticLog(config)
    codes = [column[:rows] for column in log._draw(0, 0)[0]]
    known = log.intercept + sum(log.terms(codes))
    noise = np.random.default_rng(8).standard_normal(20_000)
    best = np.array([np.mean(1 / (1 + np.exp(-each - noise))) for each in known])
    loss = -np.mean(np.where(labels == 1, np.log(best), np.log(1 - best)))
    # The noise is drawn in one place and integrated over in the other.
    assert figures["best"]["log_loss"] == pytest.approx(loss, abs=1e-3)
    assert figures["best"]["auc"] == pytest.approx(pair_share(labels, best), abs=1e-4)

    stored = pq.read_table(tmp_path / "p.parquet")["probability"].to_numpy()
    np.testing.assert_allclose(stored, best, atol=0.01)
    exact = pair_share(labels, stored)
    assert abs(figures["best"]["auc"] - exact) <= figures["best"]["auc_error"] + 1e-7
    assert figures["best"]["log_loss"] == pytest.approx(
        metrics.log_loss(labels, stored), abs=1e-7
    )
    # Over all labels that could be: the mean over many drawings of them.
    drawings = np.random.default_rng(9).random((200, rows)) < stored
    expected = np.mean([metrics.auc(each, stored) for each in drawings])
    assert figures["expected_best"]["auc"] == pytest.approx(expected, abs=2e-3)
    expected = np.mean([metrics.log_loss(each, stored) for each in drawings])
    assert figures["expected_best"]["log_loss"] == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("deviation", [0.0, 0.3, 1.0, 3.0, 7.0])
def test_the_integral_over_the_noise(deviation):
    mean = np.linspace(-12, 12, 7)
    noise = np.linspace(-9, 9, 200_001)  # fine enough for anything
    weights = np.exp(-(noise**2) / 2)
    weights /= weights.sum()
    expected = [weights @ sigmoid(each + deviation * noise) for each in mean]
    found = expected_sigmoid(mean, deviation)
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_clicks_come_as_often_as_the_best_score_says(drawn):
    _, _, labels, best = drawn
    for low in np.arange(0, 1, 0.1):
        here = (best >= low) & (best < low + 0.1)
        error = np.sqrt(np.sum(best[here] * (1 - best[here])))
        assert abs(np.sum(labels[here] - best[here])) < 4 * error


def test_no_scorer_beats_the_best_and_every_order_counts(log, drawn):
    codes, noise, labels, best = drawn
    first, second, third = log.terms(codes)
    auc = {
        name: metrics.auc(labels, scores)
        for name, scores in {
            "best": best,
            "first": first,
            "without first": second + third,
            "without second": first + third,
            "without third": first + second,
            "wrong weights": first + 0.8 * second + 1.2 * third,
            "clairvoyant": first + second + third + log.config.noise * noise,
        }.items()
    }
    assert auc["without third"] < auc["best"] - 0.005
    assert auc["without second"] < auc["best"] - 0.02
    assert auc["without first"] < auc["best"] - 0.02
    assert auc["first"] < auc["without third"] - 0.02
    assert auc["wrong weights"] < auc["best"]
    assert auc["clairvoyant"] > auc["best"] + 0.005  # so the noise is noise
    assert 0.8 < auc["best"] < 0.85
    loss = metrics.log_loss(labels, best)
    for factor in (0.9, 1.1):
        odds = np.log(best / (1 - best)) * factor
        assert metrics.log_loss(labels, sigmoid(odds)) > loss


def test_figures_of_ties_and_of_one_class():
    judge = _Judge()
    judge.add(np.array([0.2, 0.2]), np.array([0, 1]))
    judge.add(np.array([0.7]), np.array([1]))
    # Two pairs: a tie, and one ranked rightly.
    assert judge.figures() == {
        "auc": 0.75,
        "auc_error": 0.25,
        "log_loss": pytest.approx(-np.log([0.8, 0.2, 0.7]).mean()),
    }
    judge = _Judge()
    judge.add(np.array([0.0, 1.0]), np.array([1, 1]))
    figures = judge.figures()
    assert np.isnan(figures["auc"])
    assert figures["log_loss"] == pytest.approx(-np.log(1e-7) / 2, rel=1e-6)


def test_without_interactions_the_first_order_is_the_best(tmp_path):
    config = dataclasses.replace(SMALL, third_order=0.0, pairs=())
    figures = synthesize(tmp_path / "a.tsv", 5000, config)
    assert figures["first_order"] == figures["best"]


def test_what_stands_beside_the_log(tmp_path):
    figures = synthesize(tmp_path / "a.tsv", 1000, SMALL, skip=5)
    stored = json.loads((tmp_path / "a.tsv.json").read_text())
    assert {key: stored[key] for key in figures} == figures
    config = stored["config"]
    assert SyntheticConfig(**config) == SMALL
    assert (stored["skip"], config["seed"], config["values"]) == (5, 0, 1000)
    assert sorted(os.listdir(tmp_path)) == ["a.tsv", "a.tsv.json"]


def test_prepare_reads_it(tmp_path):
    synthesize(tmp_path / "log.tsv", 3000, SMALL)
    summary = edcn_tf.prepare(
        tmp_path / "log.tsv", SCHEMAS["criteo"], tmp_path / "data", format="criteo"
    )
    assert sum(split["rows"] for split in summary["splits"].values()) == 3000
    by_name = {field["name"]: field for field in summary["fields"]}
    assert by_name["C9"]["values"] == 3
    assert by_name["C2"]["missing"] == pytest.approx(0.2, abs=0.03)
    assert by_name["I1"]["missing"] == 0


@pytest.mark.parametrize("exists", ["a.tsv", "a.tsv.json", "p.csv"])
def test_nothing_is_overwritten_and_a_failure_leaves_nothing(tmp_path, exists):
    (tmp_path / exists).write_text("mine")
    with pytest.raises(InputError, match=f"{exists}: exists already"):
        synthesize(tmp_path / "a.tsv", 10, SMALL, probabilities=tmp_path / "p.csv")
    assert os.listdir(tmp_path) == [exists]
    assert (tmp_path / exists).read_text() == "mine"


def test_an_error_while_writing_leaves_nothing(tmp_path, monkeypatch):
    original = SyntheticLog.read

    def failing(self, rows, skip):
        yield from original(self, 100, skip)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(SyntheticLog, "read", failing)
    with pytest.raises(OSError):
        synthesize(tmp_path / "a.tsv", 200, SMALL, probabilities=tmp_path / "p.csv")
    assert os.listdir(tmp_path) == []


def test_an_interrupted_command_leaves_nothing(tmp_path):
    edcn = [sys.executable, "-c", "import sys, edcn; sys.exit(edcn.main())"]
    process = subprocess.Popen(
        [*edcn, "synthesize", "--rows", "1000000000", "--out", "a.tsv"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        # What a shell starts in the background ignores it, and so do its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        while not os.listdir(tmp_path):
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert "interrupted" in process.communicate(timeout=60)[1]
    finally:
        process.kill()  # which would go on until the disk is full
    assert process.returncode == 130
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"seed": -1}, "seed must be a whole number of at least 0"),
        ({"seed": 1.5}, "seed must be a whole number"),
        ({"click_rate": 0}, "click_rate must be a number of at least 0.001"),
        ({"noise": float("nan")}, "noise must be a number"),
        ({"first_order": "1"}, "first_order must be a number"),
        ({"values": 1}, "values must be a whole number of at least 2"),
        ({"missing": 0.5}, "at most 0.4. Received: 0.5"),
        ({"rank": True}, "rank must be a whole number"),
        ({"pairs": [("C1",)]}, "pairs must hold 2 different fields each"),
        ({"pairs": [("C1", "C1")]}, "pairs must hold 2 different fields each"),
        ({"triples": [("C1", "C2", "C27")]}, "Received: 'C27'"),
    ],
)
def test_options_are_checked(options, expected):
    with pytest.raises(InputError) as caught:
        SyntheticConfig(**options)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "options", "expected"),
    [
        (0, {}, "rows must be a whole number of at least 1"),
        (5, {"skip": -1}, "skip must be a whole number of at least 0"),
        (5, {"probabilities": "p.json"}, ".csv or .parquet"),
    ],
)
def test_arguments_are_checked(tmp_path, monkeypatch, rows, options, expected):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=expected):
        synthesize("a.tsv", rows, SMALL, **options)
    assert os.listdir(tmp_path) == []


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = "synthesize --rows 700 --out a.tsv --values 50 --seed 3 --noise 1 "
    command += "--probabilities p.csv --pairs C1:C2 I1:C3 --triples"
    assert main(command.split()) == 0
    stored = json.loads((tmp_path / "a.tsv.json").read_text())
    config = SyntheticConfig(**stored["config"])
    assert config == SyntheticConfig(
        values=50, seed=3, noise=1, pairs=[("C1", "C2"), ("I1", "C3")], triples=[]
    )
    out = capsys.readouterr().out
    assert f"{stored['best']['auc']:.4f}" in out
    assert "prepare a.tsv --format criteo" in out
    assert len((tmp_path / "p.csv").read_text().splitlines()) == 701
    assert main(command.replace("C1:C2", "C1:D2").split()) == 1
    assert main(["synthesize", "--rows", "5", "--out", "b.tsv", "--pairs", "C1"]) == 1
    assert "pairs must hold 2 different fields" in capsys.readouterr().err


def test_the_commands_defaults_are_the_librarys():
    names = {name.replace("-", "_"): default for name, _, default, _ in SYNTHETIC}
    assert names == {
        field.name: field.default
        for field in dataclasses.fields(SyntheticConfig)
        if field.name not in ("pairs", "triples")
    }


@pytest.mark.slow
def test_the_demo_on_the_synthetic_log(tmp_path, capsys):
    demo = f"demo --data synthetic --rows 60000 --out {tmp_path}/demo"
    assert main(demo.split()) == 0
    out = capsys.readouterr().out
    figures = json.loads((tmp_path / "demo/figures.json").read_text())
    best, edcn, linear = (
        figures[name] for name in ("best_possible", "edcn", "logistic_regression")
    )
    assert best["auc"] > edcn["auc"] + 0.01 > linear["auc"] + 0.02
    assert best["log_loss"] < edcn["log_loss"] < linear["log_loss"]
    assert f"{best['auc']:.4f}" in out
    load_run(tmp_path / "demo/runs/edcn")
    assert (tmp_path / "demo/models/synthetic/1/saved_model.pb").is_file()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("--rows 10", "Only the synthetic log takes a number of rows"),
        ("--data synthetic --split-by time", "have no time to split them by"),
    ],
)
def test_the_demo_refuses_what_does_not_fit(tmp_path, options, expected, capsys):
    assert main(f"demo --out {tmp_path}/demo {options}".split()) == 1
    assert expected in capsys.readouterr().err
    assert os.listdir(tmp_path) == []
