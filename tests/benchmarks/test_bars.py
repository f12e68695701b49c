"""BARS' board beside our figures: its settings, lookups, and that it goes on."""

import hashlib
import json

import numpy as np
import pytest

import edcn_tf
from edcn_tf import FAMILY, benchmarks
from edcn_tf.benchmarks import bars, runs
from edcn_tf.benchmarks.bars import board
from edcn_tf.benchmarks.data import TFDS_DATA_DIR
from edcn_tf.logs.datasets import frappe

COLUMNS = [frappe.SCHEMA.label, *(field.name for field in frappe.SCHEMA.fields)]


def text_of(rows):
    return "".join(",".join(map(str, row)) + "\n" for row in [COLUMNS, *rows])


def row(label, user, item, weather="w", cost="free"):
    return label, user, item, "noon", "monday", 0, "home", cost, weather, "de", "x"


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Frappe's files as a user has them, of drawn rows, with their own md5."""
    random = np.random.default_rng(0)
    folder = tmp_path / "tfds/downloads/manual/frappe_x1"
    folder.mkdir(parents=True)
    md5 = {}
    for split, number in [("train", 200), ("valid", 60), ("test", 60)]:
        drawn = [
            row(random.integers(2), random.integers(9), random.integers(20))
            for _ in range(number)
        ]
        text = text_of(drawn)
        (folder / f"{split}.csv").write_text(text)
        md5[split] = hashlib.md5(text.encode()).hexdigest()
    monkeypatch.setattr(frappe, "MD5", md5)
    monkeypatch.setenv(TFDS_DATA_DIR, str(tmp_path / "tfds"))


def test_our_figures_stand_beside_the_board_and_an_interrupted_call_goes_on(
    files, monkeypatch, tmp_path, capsys
):
    """A small version for correctness: two lines of the board, 320 rows."""
    lines = [line for line in board.BOARD if line.title in ("EDCN", "LR")]
    monkeypatch.setattr(bars, "BOARD", lines)
    for key, value in {"epochs": 1, "batch_size": 64}.items():
        monkeypatch.setitem(board.TRAINING, key, value)
    benchmarks.run("bars", out=tmp_path / "out", seeds=2)
    text = (tmp_path / "out/bars.md").read_text()
    assert text in capsys.readouterr().out
    written = json.loads((tmp_path / "out/bars.json").read_text())
    cells = [line.strip("| ").split(" | ") for line in text.splitlines()]
    for line, width in zip(lines, ("10", "1")):
        figures = written["results"][line.title]
        assert len(figures) == 2
        auc = np.mean([each["auc"] for each in figures])
        assert 0 < auc < 1
        [found] = [each for each in cells if each[0] == line.title]
        assert found[2] == width
        assert found[3].startswith(f"{auc:.4f} ± 0.")
        assert found[5:7] == [f"{line.auc:.4f}", f"{line.log_loss:.4f}"]
        assert found[7] == f"{auc - line.auc:+.4f}"
        assert found[8] == bars.verdict(auc - line.auc)
    # 0.05 / 2 times 200 rows, in the setting as it is shown.
    edcn = next(each for each in cells if each[0] == "EDCN")
    assert edcn[1].startswith("`model=edcn l2=5.0 preset=bars temperature=5.0 ")
    assert "`batch_size=64 learning_rate=0.001 " in text
    assert f"| {written['lookups']['pair']:.4f} |" in text

    def again(*_, **__):
        raise AssertionError

    monkeypatch.setattr(runs, "train", again)
    monkeypatch.setattr(runs, "evaluate_run", again)  # the test rows are read once
    benchmarks.run("bars", out=tmp_path / "out", seeds=2)
    assert (tmp_path / "out/bars.md").read_text() == text


@pytest.mark.parametrize("line", board.BOARD, ids=lambda line: line.title)
def test_each_line_is_a_model_of_width_10_with_bars_strength_of_l2(line):
    config = line.config(rows=1000, seed=7)
    assert (config.model, config.seed, config.batch_size) == (line.model, 7, 4096)
    assert config.options["l2"] == pytest.approx(line.regularizer * 500)
    linear_l2 = config.options.get("linear_l2")
    if FAMILY[line.model].options.get("linear"):
        assert linear_l2 == config.options["l2"]
    fields = [
        {"name": name, "slots": 1, "pooling": "mean", "kind": "categorical"}
        for name in COLUMNS[1:]
    ]
    model = config.build({"fields": fields, "num_rows": 50})
    if line.model == "logistic_regression":
        return
    assert model.widths == [10] * 10
    deep = line.options.get("deep_units")
    if deep:
        assert [layer.units for layer in model.deep_layers] == deep
    has_norm = "normalization" in " ".join(weight.path for weight in model.weights)
    assert has_norm == (line.title in ("EDCN", "DCN-V2", "xDeepFM", "DeepFM", "DCN"))


def test_a_figure_is_reproduced_within_a_thousandth():
    for difference, said in [
        *((0.0009, "yes"), (-0.0009, "yes")),
        *((0.0011, "no, above"), (-0.0011, "no, below")),
    ]:
        assert bars.verdict(difference) == said


def test_lookups_by_hand(tmp_path):
    train = [
        # App a was used twice and free, b once and paid for, c never.
        row(1, "ann", "a", "sun"),
        row(1, "bob", "a", "rain"),
        row(0, "ann", "b", "sun"),
        row(0, "ann", "c", "sun"),
        row(1, "cid", "b", "rain", "paid"),
        row(0, "bob", "c", "rain"),
    ]
    test = [
        row(1, "ann", "a", "fog"),  # which ann has used
        row(1, "dan", "a", "fog"),  # a new user, a known app
        row(0, "ann", "b", "fog"),  # which ann has not
        row(0, "dan", "b", "fog"),  # free, which b never was
        row(0, "eve", "d", "fog"),  # nothing is known
    ]
    # Twice, so that no value is rare; then all counts are twice as large.
    for split, rows in [("train", 2 * train), ("valid", test), ("test", test)]:
        (tmp_path / f"{split}.csv").write_text(text_of(rows))
    logs = {s: [str(tmp_path / f"{s}.csv")] for s in ("train", "valid", "test")}
    edcn_tf.prepare(logs, frappe.SCHEMA, tmp_path / "data")
    found = bars.lookups(tmp_path / "data")
    # Scores, of the positives and the negatives, of 2 * 3 pairs:
    assert found["decided"] == 1 / 2
    assert found["both"] == 0
    assert found["popularity"] == 1  # 4, 4 | 2, 2, 0
    wins = 3 + (1 + 1 / 2 + 1 / 2)
    assert found["pair"] == pytest.approx(wins / 6)  # 1, 0 | -1, 0, 0
    assert found["pair_popularity"] == 1  # 9, 4 | -3, 2, 0
    assert found["situation"] == pytest.approx(1 / 2)  # no such situation
    assert found["cost"] == 1  # 4, 4 | 0, 0, 0
    assert found["pair_cost"] == 1  # 9, 4 | -5, 0, 0
