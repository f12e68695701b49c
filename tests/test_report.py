import os
import re
import shutil
from html import escape

import numpy as np
import pytest

import edcn_tf
from edcn_tf.report import write_report

NASTY = '<b>&"user'  # a column or a directory may be called so, a field may not
SECTIONS = ("Figures", "Learning", "Ranking and calibration", "Gates", "Setting")


def make_run(directory, schema, log, *settings):
    """Prepared data and a run of a few steps."""
    data = directory / "data"
    if not data.exists():
        edcn_tf.prepare([str(log)], schema, data)
    run = directory / ("base" if "model=logistic_regression" in settings else "run")
    small = ("epochs=2", "batch_size=64", *settings)
    edcn_tf.train(data, run, edcn_tf.TrainingConfig.load(None, small))
    return run


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    path = tmp_path_factory.mktemp("log") / "log.csv"
    random = np.random.default_rng(0)
    user, item = random.integers(0, 20, (2, 600))
    clicks = random.random(600) < 1 / (1 + np.exp(0.3 * (item - user)))
    rows = [f"u{u},u{u},i{i},{c:d}" for u, i, c in zip(user, item, clicks)]
    header = '"<b>&""user",user,item,click'
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def schema(**roles):
    fields = [edcn_tf.Field(name="user"), edcn_tf.Field(name="item")]
    return edcn_tf.Schema(label="click", fields=fields, **roles)


@pytest.fixture(scope="module")
def runs(tmp_path_factory, log):
    """A run of EDCN and its baseline, on the same data."""
    directory, grouped = tmp_path_factory.mktemp("grouped"), schema(group=NASTY)
    return (
        make_run(directory, grouped, log),
        make_run(directory, grouped, log, "model=logistic_regression"),
    )


@pytest.fixture(scope="module")
def page(runs):
    path = write_report(runs[0], baseline=runs[1])
    assert path == runs[0] / "report.html"
    return path.read_text(encoding="utf-8")


@pytest.fixture
def copied(runs, tmp_path):
    return shutil.copytree(runs[0], tmp_path / NASTY)


def cells(page, name):
    """The texts of the figures table's row of that name."""
    row = re.search(rf'<th scope="row">{name}<small>.*?</tr>', page, re.DOTALL)
    return re.findall(r"<td>(?:<b>)?([^<]*)", row[0])


def test_every_section_in_order(page):
    found = re.findall(r"<h2>(.*?)</h2>", page)
    assert found == list(SECTIONS)
    assert len(re.findall(r'<img alt="[^"]+" src="data:image', page)) == 8
    assert "the baseline, logistic regression, in" in page


def test_is_self_contained(page):
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert all(source.startswith("data:") for source in sources)
    assert not re.search(r"<script|<link|@import|url\(|https?://", page)


def test_figures_are_those_of_evaluate_run(page, runs):
    figures = [edcn_tf.evaluate_run(run, runs[0].parent / "data") for run in runs]
    for name, key, form in [
        ("AUC", "auc", ".4f"),
        ("Log loss", "log_loss", ".4f"),
        ("GAUC", "gauc", ".4f"),
        ("Calibration", "calibration", ".3f"),
        ("ECE", "ece", ".4f"),
        ("Normalized entropy", "normalized_entropy", ".4f"),
        ("Rows", "rows", ",d"),
    ]:
        assert cells(page, name) == [format(each[key], form) for each in figures]
    shares = [f"{each['gauc_rows_left_out_share']:.1%}" for each in figures]
    assert [text.replace("\xa0", "") for text in cells(page, "Left out of GAUC")] == (
        shares
    )


def test_the_better_is_bold(page, runs):
    figures = [edcn_tf.evaluate_run(run, runs[0].parent / "data") for run in runs]
    for name, key in [("AUC", "auc"), ("Log loss", "log_loss")]:
        values = [each[key] for each in figures]
        best = max(values) if key == "auc" else min(values)
        row = re.search(rf'<th scope="row">{name}<small>.*?</tr>', page, re.DOTALL)[0]
        assert re.findall("<b>(.*?)</b>", row) == [f"{best:.4f}"]


def test_names_are_escaped(copied):
    page = write_report(copied, baseline=copied).read_text(encoding="utf-8")
    assert NASTY not in page
    assert f"<title>{escape(NASTY)}: EDCN</title>" in page
    assert f"<h1>{escape(NASTY)}</h1>" in page
    assert page.count(f'<th scope="col">{escape(NASTY)}<small>') == 4
    assert f"Groups of GAUC are the values of {escape(NASTY)}." in page
    assert f"Scores of EDCN ({escape(NASTY)})" in page
    assert escape(f"edcn evaluate '{copied}'") in page
    assert '<th scope="row">item</th>' in page


def test_setting_and_commands(page, runs):
    text = page.replace("<wbr>", "")
    for key in edcn_tf.TrainingConfig.load(runs[0] / "config.yaml").to_dict():
        assert f'<th scope="row">{key}</th>' in text
    parameters = edcn_tf.evaluation.load_run(runs[0])[0].count_params()
    assert f"{parameters:,}" in text
    assert f"edcn evaluate {runs[0]} {runs[0].parent / 'data'}" in text


def test_same_run_same_page(page, runs, tmp_path):
    again = write_report(runs[0], baseline=runs[1], path=tmp_path / "new" / "a.html")
    assert again.read_text(encoding="utf-8") == page


def test_model_without_gates(runs, tmp_path):
    page = write_report(runs[1], split="valid", path=tmp_path / "a.html").read_text()
    assert "this logistic regression has no gates" in page
    assert "--split valid" in page


def test_run_without_group(log, tmp_path):
    page = write_report(make_run(tmp_path, schema(), log)).read_text(encoding="utf-8")
    assert cells(page, "GAUC") == cells(page, "Left out of GAUC") == ["n/a"]
    assert "There is no GAUC, since the schema names no group column." in page


@pytest.mark.parametrize("history", [None, "", "epoch,loss\n0,0.5\n", "\x00,\n1,a\n"])
def test_without_history(copied, history):
    (copied / "history.csv").unlink()
    if history is not None:
        (copied / "history.csv").write_text(history)
    page = write_report(copied).read_text(encoding="utf-8")
    assert "There are no learning curves" in page
    assert page.count("<img") == 5


def test_run_that_is_not_finished(copied, runs):
    (copied / "result.json").unlink()
    with pytest.raises(edcn_tf.InputError, match=r"result\.json"):
        write_report(copied)
    page = write_report(copied, runs[0].parent / "data").read_text(encoding="utf-8")
    assert cells(page, "Training examples/s") == ["n/a"]


def test_one_class_only(runs, tmp_path, log):
    header, *rows = log.read_text(encoding="utf-8").splitlines()
    clicks = [row for row in rows if row.endswith("1")]
    only = tmp_path / "only.csv"
    only.write_text("\n".join([header, *clicks]), encoding="utf-8")
    edcn_tf.prepare([str(only)], schema(group=NASTY), tmp_path / "data")
    path = write_report(runs[0], tmp_path / "data", path=tmp_path / "a.html")
    page = path.read_text(encoding="utf-8")
    assert "There is no ROC curve, since the rows hold one class only." in page
    assert "There is no GAUC, since no group holds both classes." in page
    assert "so there is no AUC" in page


def test_whole_or_not_at_all(copied, monkeypatch):
    (copied / "report.html").write_text("earlier")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report(copied)
    assert (copied / "report.html").read_text() == "earlier"
    assert not list(copied.glob(".*partial*"))


def test_missing_split(runs):
    with pytest.raises(edcn_tf.InputError):
        write_report(runs[0], split="nothing")
