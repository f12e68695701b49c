"""The benchmarks run; what they measure is never asserted."""

import re

import pytest

from edcn_tf import benchmarks
from edcn_tf.benchmarks import training
from edcn_tf.benchmarks.training import contenders, growth


@pytest.mark.slow
@pytest.mark.parametrize("what", sorted({*benchmarks.BENCHMARKS} - {"training-growth"}))
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
