import os
import re
import shutil
from html import escape

import numpy as np
import pytest

import edcn_tf
from edcn_tf.evaluation.comparison import paired_bootstrap
from edcn_tf.evaluation.importance import permutation_importance, spearman
from edcn_tf.evaluation.scoring import Scorer, score_run
from edcn_tf.report import runs as report_run
from edcn_tf.report import values as report_values
from edcn_tf.report.page import write_report

NASTY = '<b>&"user'  # a column or a directory may be called so, a field may not
SECTIONS = (
    *("Figures", "Learning", "Ranking and calibration", "Gates"),
    *("Importance of fields", "Values of fields", "Cost", "Setting"),
)
# Of a run and its baseline: 2 of learning, 4 of ranking, 2 of gates, 1 of importance, 2
# of cost; none of values, which have too few rows here.
IMAGES = 11


def make_run(directory, schema, log, *settings, name="run"):
    """Prepared data and a run of a few steps."""
    data = directory / "data"
    if not data.exists():
        edcn_tf.prepare([str(log)], schema, data)
    run = directory / name
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
        make_run(directory, grouped, log, "model=logistic_regression", name="base"),
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
    assert len(re.findall(r'<img alt="[^"]+" src="data:image', page)) == IMAGES
    assert "; logistic regression (base) in" in page


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
    parameters = edcn_tf.evaluation.scoring.load_run(runs[0])[0].count_params()
    assert f"{parameters:,}" in text
    assert f"edcn evaluate {runs[0]} {runs[0].parent / 'data'}" in text


def test_same_run_same_page(page, runs, tmp_path):
    again = write_report(runs[0], others=runs[1:], path=tmp_path / "new" / "a.html")
    measured = r'<p class="note measured">.*?</p>'  # the one thing that is of its time
    pages = [re.sub(measured, "", text) for text in (again.read_text("utf-8"), page)]
    assert pages[0] == pages[1] != page


def test_model_without_gates(runs, tmp_path):
    page = write_report(runs[1], split="valid", path=tmp_path / "a.html").read_text()
    assert "this logistic regression has no gates" in page
    assert "--split valid" in page


@pytest.mark.parametrize("history", [None, "", "epoch,loss\n0,0.5\n", "\x00,\n1,a\n"])
def test_without_history(copied, history):
    (copied / "history.csv").unlink()
    if history is not None:
        (copied / "history.csv").write_text(history)
    page = write_report(copied).read_text(encoding="utf-8")
    assert "There are no learning curves" in page
    assert "There is no time of epochs, since history.csv is missing" in page
    assert page.count("<img") == IMAGES - 4  # no baseline's scores, either


def test_run_that_is_not_finished(copied, runs):
    (copied / "result.json").unlink()
    with pytest.raises(edcn_tf.InputError, match=r"result\.json"):
        write_report(copied)
    page = write_report(copied, runs[0].parent / "data").read_text(encoding="utf-8")
    assert cells(page, "Training examples/s") == ["n/a"]


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_only(runs, tmp_path, log, label):
    header, *rows = log.read_text(encoding="utf-8").splitlines()
    those = [row for row in rows if row.endswith(str(label))]
    only = tmp_path / "only.csv"
    only.write_text("\n".join([header, *those]), encoding="utf-8")
    edcn_tf.prepare([str(only)], schema(group=NASTY), tmp_path / "data")
    options = {"others": [runs[1]], "path": tmp_path / "a.html"}
    page = write_report(runs[0], tmp_path / "data", **options).read_text("utf-8")
    assert re.findall(r"<h2>(.*?)</h2>", page) == list(SECTIONS)
    assert "There is no ROC curve, since the rows hold one class only." in page
    assert "There is no GAUC, since no group holds both classes." in page
    assert "so there is no AUC" in page
    assert "There is no importance of fields, since the rows hold one class" in page
    assert "chance of seeds" not in page  # for there is no interval
    assert ("There is nothing here, since no row is a click." in page) == (label == 0)
    assert cells(page, "Difference") == ["", "n/a"]


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


def test_importance_and_its_agreement_with_the_gates(page, runs):
    model, spec = edcn_tf.evaluation.scoring.load_run(runs[0])
    files = f"{runs[0].parent}/data/test-*"
    ids, labels = zip(*edcn_tf.read_records(files, spec, batch_size=7))
    ids, labels = np.concatenate(ids), np.concatenate(labels)
    predict = Scorer(model, spec).predict  # by the last bit, of which ranks are made
    found = permutation_importance(
        lambda ids: predict(ids).numpy()[:, 0], ids, labels, [1, 1]
    )
    section = page[page.index("Importance of fields") : page.index("Values of fields")]
    weights = model.gates()
    for field, name in enumerate(["user", "item"]):
        row = re.search(rf'<th scope="row">{name}</th>.*?</tr>', section)[0]
        shown = [float(text) for text in re.findall("<td>(.*?)</td>", row)]
        drops = found.drops[field]
        gates = [float(of_tower[0, field]) for of_tower in weights.values()]
        expected = [drops.mean(), drops.std(ddof=1), *gates]
        assert shown == pytest.approx(expected, abs=1e-4)
    of_gates = np.mean([of_tower[0] for of_tower in weights.values()], axis=0)
    agreement = spearman(found.drops.mean(axis=1), of_gates)
    assert f"{agreement:.2f} over 2 fields" in section


def test_values_of_fields(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(report_values, "MIN_ROWS", 20)
    path = write_report(runs[0], split="train", path=tmp_path / "a.html")
    page = path.read_text("utf-8")
    section = page[page.index("<h2>Values of fields") : page.index("<h2>Cost")]
    assert section.count("<img") == 2
    assert "These are the rows that the model was trained on" in page
    pattern = r'<th scope="row">(u\d+)</th><td>(\d+)</td><td>(n/a|0\.\d+|1\.0+)[ <]'
    shown = re.findall(pattern, section)
    assert len(shown) == report_values.MAX_VALUES
    areas = [float(area) for *_, area in shown if area != "n/a"]
    assert len(areas) > 5
    assert areas == sorted(areas)
    # Names and rows, from the records themselves.
    _, spec = edcn_tf.evaluation.scoring.load_run(runs[0])
    scores = score_run(runs[0], runs[0].parent / "data", "train")
    files = f"{runs[0].parent}/data/train-*"
    ids = np.concatenate([ids for ids, _ in edcn_tf.read_records(files, spec, 64)])
    for name, rows, area in shown:
        those = ids[:, 0] == spec.fields[0].row_names().index(name) + 1
        assert those.sum() == int(rows)
        if area == "n/a":
            assert min(np.bincount(scores.labels[those].astype(int), minlength=2)) < 5
            continue
        auc = edcn_tf.evaluation.metrics.auc(
            scores.labels[those], scores.probabilities[those]
        )
        assert float(area) == pytest.approx(auc, abs=5e-4)


def test_too_few_rows_of_each_value(page):
    assert "Not here: user, item, since no value has 50 rows." in page


def test_gates_that_differ_by_row(log, tmp_path):
    run = make_run(tmp_path, schema(), log, "gate=squeeze_excitation")
    page = write_report(run).read_text(encoding="utf-8")
    assert "weights of squeeze_excitation gates differ by row: these are means" in page
    assert "Heat map of the deep tower" in page
    # It has no group either.
    assert cells(page, "GAUC") == cells(page, "Left out of GAUC") == ["n/a"]
    assert "There is no GAUC, since the schema names no group column." in page


def test_gates_without_weights(log, tmp_path):
    run = make_run(tmp_path, schema(), log, "gate=dense")
    page = write_report(run).read_text(encoding="utf-8")
    assert "this EDCN has gates (dense) that give fields no weight" in page
    assert "There is no ranking by gates" in page


def test_difference_with_its_interval(page, runs):
    data = runs[0].parent / "data"
    first, second = (score_run(run, data) for run in runs)
    difference, low, high = paired_bootstrap(
        first.labels, first.probabilities, second.probabilities
    )
    assert cells(page, "Difference") == ["", f"{difference:+.4f}"]
    assert f"<small>{low:+.4f} to {high:+.4f}</small>" in page
    side = "below" if high < 0 else "above" if low > 0 else "by no more than chance"
    assert re.search(rf"{side}[^.]*: logistic regression \(base\)", page)


def test_many_runs(runs, tmp_path, capfd):
    """More than there are colours; one has no history."""
    copies = [shutil.copytree(runs[1], tmp_path / f"copy{i}") for i in range(6)]
    (copies[2] / "history.csv").unlink()
    options = {"others": copies, "path": tmp_path / "a.html"}
    page = write_report(runs[0], **options).read_text("utf-8")
    areas = cells(page, "AUC")
    assert len(areas) == 7
    assert len(set(areas[1:])) == 1
    # All that are as good as the best are marked.
    row = re.search(r'<th scope="row">AUC<small>.*?</tr>', page, re.DOTALL)[0]
    assert row.count("<b>") == areas.count(max(areas))
    assert "Difference of AUC to the first run" in page
    assert "There is no learning curve of logistic regression (copy2)" in page
    assert "This section is about EDCN (run)." in page
    assert "retracing" not in capfd.readouterr().err


def test_other_fields_are_scored_on_their_own_data(runs, log, tmp_path):
    """Of the same rows there is an interval all the same."""
    text = log.read_text(encoding="utf-8").replace("item", "thing")
    (tmp_path / "other.csv").write_text(text, encoding="utf-8")
    fields = [edcn_tf.Field(name="user"), edcn_tf.Field(name="thing")]
    other = make_run(
        tmp_path, edcn_tf.Schema(label="click", fields=fields), tmp_path / "other.csv"
    )
    options = {"others": [other], "path": tmp_path / "a.html"}
    page = write_report(runs[0], **options).read_text("utf-8")
    assert re.fullmatch(r"[+-]0\.\d{4}", cells(page, "Difference")[1])
    own = edcn_tf.evaluate_run(other, tmp_path / "data")
    assert cells(page, "AUC")[1] == f"{own['auc']:.4f}"

    shutil.rmtree(tmp_path / "data")
    edcn_tf.prepare(
        [str(tmp_path / "other.csv")],
        edcn_tf.Schema(label="click", fields=fields),
        tmp_path / "data",
        seed=1,
    )
    page = write_report(runs[0], **options).read_text("utf-8")
    assert cells(page, "Difference") == ["", "n/a"]
    assert "Scored on other rows than the first run: EDCN (run), on" in page
    table = page[page.index("<h2>Figures") : page.index("<h2>Learning")]
    assert "<b>" not in table

    shutil.rmtree(tmp_path / "data")
    page = write_report(runs[0], **options).read_text("utf-8")
    assert len(cells(page, "AUC")) == 1
    assert f"{other} is left out, since it cannot be scored: " in page
    assert "without the column &#x27;thing&#x27;" in page


def test_a_run_that_is_not_there(runs):
    with pytest.raises(edcn_tf.InputError, match="nowhere"):
        write_report(runs[0], others=["nowhere"])


def test_without_a_test_split(copied, runs, tmp_path):
    data = shutil.copytree(runs[0].parent / "data", tmp_path / "data")
    for path in data.glob("test-*"):
        path.write_bytes(b"")  # as of a split without rows
    page = write_report(copied, data).read_text("utf-8")
    assert "validation rows" in page
    assert "There is no test split, so these are the rows of the validation" in page
    assert "--split valid" in page
    for path in [*data.glob("test-*"), *data.glob("valid-*")]:
        path.unlink()
    page = write_report(copied, data).read_text("utf-8")
    assert "These are the rows that the model was trained on" in page
    with pytest.raises(edcn_tf.InputError, match="no such TFRecord file"):
        write_report(copied, data, split="test")


def test_constant_predictions(copied):
    model, _ = edcn_tf.evaluation.scoring.load_run(copied)
    model.set_weights([np.zeros_like(weight) for weight in model.get_weights()])
    model.save(copied / "model.keras")
    page = write_report(copied).read_text("utf-8")
    assert "gives every row the same probability, 0.5, so it ranks nothing" in page
    assert cells(page, "AUC") == ["0.5000"]
    assert "The two rankings cannot be compared" in page


def test_a_sample_is_every_nth_row(runs, monkeypatch):
    monkeypatch.setattr(report_run, "SAMPLE_ROWS", 20)
    ((run,), split, _) = report_run.read_runs(runs[:1])
    assert split == "test"
    rows = len(run.scores.labels)
    step = 2 ** int(np.ceil(np.log2(rows / 20)))
    assert len(run.sample.ids) == -(-rows // step) <= 20
    np.testing.assert_array_equal(run.sample.scores.labels, run.scores.labels[::step])
    np.testing.assert_allclose(
        run.scorer.model(run.sample.ids)[:, 0], run.scores.probabilities[::step], 1e-5
    )
    assert len(run.sample.thinned(7).ids) <= 7


@pytest.mark.parametrize("batches", [[64], [1] * 64, [5, 30, 1, 28]])
def test_ids_of_every_nth_row_whatever_the_batches(batches):
    ids, keep = np.arange(64)[:, None], report_run._Ids(20)
    for end, size in zip(np.cumsum(batches), batches):
        keep(ids[end - size : end])
    assert keep.step == 4
    np.testing.assert_array_equal(keep.kept, ids[::4])
