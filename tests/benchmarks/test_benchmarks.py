"""The benchmarks run; what they measure is never asserted."""

import dataclasses
import re

import pytest
import tensorflow as tf

from edcn_tf import FAMILY, FeatureSpec, TrainingConfig, benchmarks
from edcn_tf.benchmarks import (
    history_growth,
    incremental,
    models,
    runs,
    studies,
    training,
)
from edcn_tf.benchmarks.training import contenders, growth
from edcn_tf.files import read_json

APART = (
    "training-growth",
    "models",
    "quality",
    "studies",
    "incremental",
)  # tested below


@pytest.mark.slow
@pytest.mark.parametrize(
    "what",
    sorted({*benchmarks.BENCHMARKS}.difference(APART)),
)
def test_a_benchmark_prints_its_table(what, capsys):
    benchmarks.run(what, rows=3000)
    assert len(capsys.readouterr().out.splitlines()) > 3


@pytest.mark.slow
def test_growth_is_drawn(monkeypatch, tmp_path, capsys):
    sizes = {"rows": ("rows", (1000, 2000)), "layers": ("layers", (1, 2))}
    monkeypatch.setattr(growth, "SIZES", sizes)
    monkeypatch.setattr(growth, "TURNS", 1)
    figure = tmp_path / "growth.svg"
    benchmarks.run("training-growth", figure=figure)
    assert capsys.readouterr().out.count(" ids") == 3
    assert "ms a step" in figure.read_text()
    for taken in (figure, tmp_path / "growth.txt"):
        with pytest.raises(contenders.InputError, match="exists|ends in .svg"):
            benchmarks.run("training-growth", figure=taken)


@pytest.mark.slow
def test_models_are_compared_and_an_interrupted_call_goes_on(
    monkeypatch, tmp_path, capsys
):
    """A small version for correctness: three lines of the table, one data set."""
    lines = [
        models.Entry("DeepFM + both", "deepfm", {"bridge": "add", "gate": "softmax"}),
        models.Entry("EDCN, pyramid", "edcn", {"deep_units": [8, 4]}),
        models.Entry("LR", "logistic_regression"),
    ]
    quick = {"epochs": 1, "batch_size": 256}
    monkeypatch.setattr(models, "entries", lambda: lines)
    monkeypatch.setattr(models, "DATA", {"synthetic": models.DATA["synthetic"]})
    settings = {"logistic_regression": quick, "others": {**quick, "embedding_dim": 2}}
    monkeypatch.setattr(models, "SETTINGS", {"synthetic": settings})
    benchmarks.run("models", out=tmp_path / "out", rows=2000, seeds=2)
    table = (tmp_path / "out" / "models.md").read_text()
    assert table in capsys.readouterr().out
    head, _, *rows = [line.split(" | ") for line in table.splitlines()[:5]]
    assert len(head) == 6
    assert [row[0].strip("| ") for row in rows] == [line.title for line in lines]
    assert rows[0][2] == "`model=deepfm bridge=add gate=softmax`"
    assert rows[1][2] == "`model=edcn deep_units=[8,4]`"
    assert all(re.fullmatch(r"0\.\d{4} ± 0\.\d{4} \|", row[-1]) for row in rows)
    assert "Best possible test AUC: 0." in table

    def trained_again(*_, **__):
        raise AssertionError

    monkeypatch.setattr(runs, "train", trained_again)
    benchmarks.run("models", out=tmp_path / "out", rows=2000, seeds=2)
    assert (tmp_path / "out" / "models.md").read_text() == table
    with pytest.raises(contenders.InputError, match="2000 rows; choose another --out"):
        benchmarks.run("models", out=tmp_path / "out", rows=3000)


def test_studies_compare_each_change_with_the_default_seed_by_seed(
    monkeypatch, tmp_path, capsys
):
    """On made-up figures of MovieLens; a run that is wanted twice is asked for once."""

    def tested(folder, name, config):
        asked.append(name)
        better = {"add": 0.01, "none": -0.02}.get(config.options["bridge"], 0.0)
        better *= 1 + config.seed
        auc = 0.8 + 0.1 * config.seed + better
        return {"auc": auc, "valid_auc": auc - 2 * better, "log_loss": 0.5}

    asked = []
    monkeypatch.setattr(studies, "tested", tested)
    monkeypatch.setattr(studies, "prepared", lambda *args, **options: None)
    monkeypatch.setattr(studies, "STUDIED", ("movielens",))
    two = studies.each("bridge", "add", "none")
    monkeypatch.setattr(studies, "STUDIES", {"Bridges": two})
    benchmarks.run("studies", out=tmp_path, seeds=2)
    assert asked == [
        *("edcn-0", "edcn-bridge=add-0", "edcn-bridge=none-0"),
        *("edcn-1", "edcn-bridge=add-1", "edcn-bridge=none-1"),
    ]
    table = (tmp_path / "studies.md").read_text()
    assert table in capsys.readouterr().out
    cells = [line.strip("| ").split(" | ") for line in table.splitlines()]
    assert ["the default", "`model=edcn`", "0.8500 ± 0.0707"] in [c[:3] for c in cells]
    # (0.01 + 0.02) / 2 and (-0.02 - 0.04) / 2, and on validation the other way round.
    line = "`model=edcn bridge=add`", "0.8650 ± 0.0778", "+0.0150", "-0.0150"
    assert ["add", *line] in cells
    line = "`model=edcn bridge=none`", "0.8200 ± 0.0566", "-0.0300", "+0.0300"
    assert ["none", *line] in cells
    assert "less the default" in (tmp_path / "studies.svg").read_text()


def test_each_study_can_be_trained_and_none_is_the_default():
    changes = [entry for study in studies.STUDIES.values() for entry in study]
    assert len({entry.key for entry in changes}) == len(changes)
    default = TrainingConfig.from_dict({"model": "edcn"})
    for entry in changes:
        assert TrainingConfig.from_dict({"model": "edcn", **entry.changes}) != default


@pytest.mark.slow
def test_days_are_gone_through_and_an_interrupted_call_goes_on(
    monkeypatch, tmp_path, capsys
):
    """A small version for correctness: three days of one data set."""
    synthetic = incremental.DATA["synthetic"]
    quick = {"epochs": 1, "batch_size": 256, "embedding_dim": 2}
    synthetic = dataclasses.replace(synthetic, runs={"edcn": quick})
    monkeypatch.setattr(incremental, "DATA", {"synthetic": synthetic})
    monkeypatch.setattr(incremental, "LOGS", {"synthetic": incremental._synthetic})
    monkeypatch.setattr(incremental, "DAYS", 3)
    out = tmp_path / "out"
    benchmarks.run("incremental", out=out, rows=1000)
    table = (out / "incremental.md").read_text()
    [_, _, second, third, mean] = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()
    ]
    assert (second[0], third[0], mean[0]) == ("2", "3", "mean of 3 to 3")
    assert second[1:3] == second[4:6] == second[7:9]  # one model
    assert third[1] != third[4] != third[7] and third[1:] == mean[1:]
    assert "synthetic: day" in (out / "incremental.svg").read_text()
    spec = FeatureSpec.load(out / "synthetic/data-warm-2/features")
    assert (spec.day, read_json(out / "synthetic/anew-2.json")["train_rows"]) == (
        2,
        1800,
    )

    def trained_again(*_, **__):
        raise AssertionError

    monkeypatch.setattr(incremental, "train", trained_again)
    benchmarks.run("incremental", out=out, rows=1000)
    assert (out / "incremental.md").read_text() == table
    with pytest.raises(contenders.InputError, match="1000 rows; choose another --out"):
        benchmarks.run("incremental", out=out, rows=2000)


def test_growth_of_histories_is_drawn(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(history_growth, "LENGTHS", (2, 3))
    monkeypatch.setattr(history_growth, "BATCH_SIZE", 8)
    monkeypatch.setattr(history_growth, "TURNS", 1)
    tf.config.run_functions_eagerly(True)  # eight models take long to trace
    try:
        benchmarks.run("history-growth", figure=tmp_path / "growth.svg")
    finally:
        tf.config.run_functions_eagerly(False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3].split() == ["length", "pooling", "din", "dien", "transformer"]
    assert [line.split()[0] for line in lines[-2:]] == ["2", "3"]
    assert (tmp_path / "growth.svg").exists()


def test_the_table_of_models_has_every_member():
    lines = models.entries()
    known = {name for name, member in FAMILY.items() if not member.needs_history}
    assert {line.model for line in lines} == known
    assert len({line.key for line in lines}) == len(lines)
    for line in lines:
        TrainingConfig.from_dict({"model": line.model, **line.changes})


@pytest.mark.slow
def test_training_takes_turns_and_prints_each_figure(monkeypatch, capsys):
    """A small version for correctness: two tables, real processes, a peer of ours."""
    monkeypatch.setattr(training, "SMALL", 2000)
    monkeypatch.setattr(training, "IDS", ("zipf",))
    monkeypatch.setattr(training, "TURNS", 1)
    monkeypatch.setattr(training, "TURN_SECONDS", 0.0)
    monkeypatch.setattr(
        training,
        "peers_in",
        lambda directory: {"itself": ("with_edcn_tf.py", contenders.OWN)},
    )
    benchmarks.run("training", rows=4000, peers="unused")
    output = capsys.readouterr().out
    for line in ("2,000 rows, zipf", "4,000 rows, zipf"):
        figures = re.search(
            rf"{line} +([\d,]+) +([\d,]+) +([\d,]+) +[\d.]+ +\d+%", output
        )
        assert figures, output
    for line in ("step at 4,000 rows / at 2,000, zipf", "peak memory", "waits"):
        assert line in output


def test_a_contender_that_fails_says_why():
    contender = contenders.Contender("with_edcn_tf.py", rows="many")
    with pytest.raises(contenders.InputError, match="invalid int value: 'many'"):
        contender.ready()
    contender.close()
