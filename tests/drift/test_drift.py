"""`edcn drift` on real runs: raw logs, logged requests, the page and the status."""

import dataclasses
import json
import os
import re
import shutil
import sys

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

import edcn_tf
from edcn import main
from edcn.drift import ALARM, LIMITS
from edcn_tf import files as files_module
from edcn_tf.directories import Run
from edcn_tf.drift import measuring, page
from edcn_tf.drift.bins import bins_of
from edcn_tf.drift.findings import Limits
from edcn_tf.drift.measuring import measure_drift
from edcn_tf.drift.page import write_drift
from edcn_tf.drift.rows import count_validation
from edcn_tf.drift.tally import GROUPS, Tally
from edcn_tf.drift.telling import lines_of
from edcn_tf.evaluation.prediction import predict_log as predict_rows
from edcn_tf.features.counting import value_buckets
from helpers.prediction_logs import predict_log, write_logs

COLUMNS = "click,user,age,country,tags,price,device_id,site"


def day(rows=400, seed=1, users=40, label=True):
    """Rows as those of the `run` fixture, in a table of text."""
    random = np.random.default_rng(seed)
    columns = {name: [] for name in COLUMNS.split(",")}
    for _ in range(rows):
        row = (
            f"{random.random() < 1 / 3:d}",
            f"u{random.integers(users)}",
            "" if random.random() < 1 / 13 else str(20 + random.integers(50)),
            f"c{random.zipf(1.5) % 60}",
            "|".join(random.choice(list("abcdef"), random.integers(0, 4))),
            "" if random.random() < 1 / 11 else f"{random.lognormal():.3f}",
            f"d{random.integers(70)}",
            str(random.integers(5)),
        )
        for values, value in zip(columns.values(), row):
            values.append(value)
    table = pa.table(columns)
    return table if label else table.drop_columns("click")


def changed(table, name, value, every=2):
    values = table[name].to_pylist()
    places = range(0, len(values), every)
    values[::every] = [value.format(place) for place in places]
    number = table.column_names.index(name)
    return table.set_column(number, name, pa.array(values, pa.string()))


def written(table, path):
    pa.csv.write_csv(table, path)
    return path


def command(*arguments):
    return main(["drift", *map(str, arguments)])


@pytest.fixture(scope="module")
def quiet_day(tmp_path_factory):
    return written(day(), tmp_path_factory.mktemp("days") / "day.csv")


@pytest.fixture(scope="module")
def drift(run, quiet_day):
    return measure_drift(run, [quiet_day])


def test_a_day_like_training_gives_no_alarm(run, drift):
    assert drift.alarms == []
    assert (drift.rows, drift.labels, drift.independent) == (400, True, False)
    assert drift.data == Run(run).data()
    splits = {field.name: field.split for field in drift.fields}
    assert splits.pop("tags") == "valid"
    assert set(splits.values()) == {"train"}
    assert {field.name for field in drift.fields if field.unseen} == {
        *("user", "country", "tags", "site")
    }


def test_figures_are_those_of_the_log_and_of_evaluate(run, drift, quiet_day, tmp_path):
    """Of the rows themselves, and as `edcn evaluate` has them of the split."""
    table = pa.csv.read_csv(
        quiet_day, convert_options=pa.csv.ConvertOptions(strings_can_be_null=False)
    )
    shares = {field.name: field for field in drift.fields}
    missing = np.mean([not value for value in table["price"].to_pylist()])
    assert shares["price"].missing.value == pytest.approx(missing, abs=1e-9)
    spec = edcn_tf.FeatureSpec.load(run / "features")
    [price] = [own for own in spec.fields if own.field.name == "price"]
    counts = price.row_counts()
    assert shares["price"].missing.reference == pytest.approx(counts[0] / counts.sum())
    predict_rows(run, [quiet_day], tmp_path / "scores.csv")
    scores = pa.csv.read_csv(tmp_path / "scores.csv")["probability"].to_numpy()
    labels = table["click"].to_numpy()
    assert drift.mean[0] == pytest.approx(scores.mean(), abs=1e-6)
    assert drift.auc.value == pytest.approx(
        edcn_tf.metrics.auc(labels, scores), abs=2e-3
    )
    assert np.exp(drift.calibration.value) == pytest.approx(
        edcn_tf.metrics.calibration(labels, scores), abs=1e-5
    )
    before = edcn_tf.evaluate_run(run, Run(run).data(), "valid")
    assert drift.validation_rows == before["rows"]
    assert drift.auc.reference == pytest.approx(before["auc"], abs=2e-3)
    assert np.exp(drift.calibration.reference) == pytest.approx(
        before["calibration"], abs=1e-5
    )


def test_changed_columns_are_alarms(run, tmp_path, capsys):
    table, options = day(), []
    wanted = {
        "country": ("c2", r"PSI .*; 'c2' [56]\d"),
        "user": ("x{}", r"50\.0% unseen, was"),
        "price": ("", r"5\d\.\d% missing, was"),
        "tags": ("a", r"PSI .*; 'a' \d\d"),
        "age": ("33", r"PSI .*; '\[3"),
        "device_id": ("d1", r"PSI .*; '<hash"),
    }
    for name, (value, _) in wanted.items():
        table = changed(table, name, value)
        options += ["--ignore", name]
    log = written(table, tmp_path / "day.csv")
    assert command(run, log) == ALARM
    output = capsys.readouterr()
    assert output.err == ""
    for name, (_, told) in wanted.items():
        assert re.search(f"ALARM {name}: ({told})", output.out), output.out
    assert "ALARM site" not in output.out
    command(run, log, *options)
    output = capsys.readouterr().out
    assert not any(f"ALARM {name}:" in output for name in wanted)


def test_the_command_writes_page_and_figures(run, quiet_day, tmp_path, capsys):
    files = ["--out", tmp_path / "drift.html", "--json", tmp_path / "drift.json"]
    assert command(run, quiet_day, *files) == 0
    output = capsys.readouterr()
    assert "No alarm" in output.out and output.err == ""
    html = (tmp_path / "drift.html").read_text(encoding="utf-8")
    assert "No alarm: nothing is both beyond chance and large." in html
    figures = json.loads((tmp_path / "drift.json").read_text())
    assert figures["rows"] == 400 and figures["alarms"] == []
    assert figures["fields"]["age"]["psi"] > 0
    assert figures["fields"]["user"]["unseen"]["reference"] == 0
    assert figures["auc"]["low"] < figures["auc"]["value"] < figures["auc"]["high"]
    assert figures["limits"]["psi"] == 0.2
    assert figures["independent"] is figures["dominated"] is False
    assert 1 / 32 < figures["largest_group"] < 0.2
    histogram = figures["scores"]["histogram"]
    assert len(histogram["edges"]) == len(histogram["shares"]) + 1
    for shares in ("shares", "shares_before"):
        assert sum(histogram[shares]) == pytest.approx(1)


def test_files_are_refused_before_rows_are_counted(
    run, quiet_day, tmp_path, capsys, monkeypatch
):
    def counted(*args, **options):
        raise AssertionError("rows were counted")

    monkeypatch.setattr(measuring, "measure_drift", counted)
    (tmp_path / "there").write_text("a text")
    for option in ("--out", "--json"):
        for name, told in (("there", "exists already"), ("no/new", "make it first")):
            assert command(run, quiet_day, option, tmp_path / name) == 1
            assert f"{name}: " in (error := capsys.readouterr().err) and told in error
    assert (tmp_path / "there").read_text() == "a text"
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


@pytest.mark.parametrize(
    "module, name", [(page, "write_drift"), (files_module, "write_json")]
)
def test_where_one_file_fails_neither_stays(
    run, quiet_day, tmp_path, capsys, monkeypatch, module, name
):
    def fails(*args):
        raise OSError(28, "No space left on device", "drift")

    monkeypatch.setattr(module, name, fails)
    told = refused(run, [quiet_day], tmp_path, capsys)
    assert "drift: No space left on device" in told
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("is_shifted", [True, False])
def test_where_nobody_reads_files_and_status_are_as_ever(
    run, quiet_day, tmp_path, monkeypatch, is_shifted
):
    """`edcn drift ... | head -1`: the pipe is closed when the lines are printed."""
    log = quiet_day
    if is_shifted:
        log = written(changed(day(), "country", "c2"), tmp_path / "day.csv")
    reader, writer = os.pipe()
    os.close(reader)
    monkeypatch.setattr(sys, "stdout", os.fdopen(writer, "w"))
    files = ["--out", tmp_path / "drift.html", "--json", tmp_path / "drift.json"]
    assert command(run, log, *files) == (ALARM if is_shifted else 0)
    sys.stdout.close()
    result = "ALARM" if is_shifted else "No alarm"
    assert result.lower() in (tmp_path / "drift.html").read_text().lower()
    assert json.loads((tmp_path / "drift.json").read_text())["rows"] == 400


def test_the_page_stands_alone(run, tmp_path):
    log = written(changed(day(), "device_id", "d1"), tmp_path / "<b>day&.csv")
    drift = measure_drift(run, [log], ignore=["site"])
    write_drift(drift, tmp_path / "drift.html")
    html = (tmp_path / "drift.html").read_text(encoding="utf-8")
    assert "device_id" in [alarm.name for alarm in drift.alarms]
    assert re.search(r"\d alarms?: .*device_id", html)
    assert "&lt;b&gt;day&amp;.csv" in html and "<b>day" not in html
    assert "&lt;hash " in html and "<small>ignored</small>" in html
    assert html.count("<img") >= 3
    assert not re.search(r'(src|href)="(?!data:)', html) and "<script" not in html
    for heading in ("Fields", "Values", "Scores", "How to read it"):
        assert f"<h2>{heading}</h2>" in html


def test_without_labels(run, tmp_path, capsys):
    log = written(day(label=False), tmp_path / "day.csv")
    files = ["--out", tmp_path / "drift.html", "--json", tmp_path / "drift.json"]
    assert command(run, log, *files) == 0
    assert "No labels, so neither AUC nor calibration" in capsys.readouterr().out
    html = (tmp_path / "drift.html").read_text(encoding="utf-8")
    assert "The log has no labels" in html
    figures = json.loads((tmp_path / "drift.json").read_text())
    assert figures["auc"] is None and figures["calibration"] is None


@pytest.mark.parametrize("name", ["click", "user"])
def test_logs_of_which_one_lacks_a_column_are_refused(
    run, quiet_day, tmp_path, capsys, name
):
    """Not all as if none had it, by what the first one has."""
    told = {
        "click": "lacks.csv: has no column 'click', which .*day.csv has; compare them",
        "user": "lacks.csv: has no column 'user'; its columns",  # a field
    }
    lacks = written(day(30).drop_columns(name), tmp_path / "lacks.csv")
    for logs in ([lacks, quiet_day], [quiet_day, lacks], [quiet_day, quiet_day, lacks]):
        assert re.search(told[name], refused(run, logs, tmp_path, capsys))


def test_logs_without_labels_are_compared_together(run, tmp_path):
    half = day(200, label=False)
    logs = [written(half, tmp_path / f"{i}.csv") for i in range(2)]
    drift = measure_drift(run, logs)
    assert drift.rows == 400 and not drift.labels


def test_rows_of_one_user_are_no_evidence_of_more_than_one(run, tmp_path):
    """One user of 40 brings half of the rows, all of one country and price."""
    table = day(400, seed=3)
    for name, value in (("user", "u3"), ("country", "c9"), ("price", "0.5")):
        table = changed(table, name, value)
    drift = measure_drift(run, [written(table, tmp_path / "day.csv")])
    assert not {alarm.name for alarm in drift.alarms} & {"country", "price"}
    assert drift.largest_group == pytest.approx(0.53, abs=0.04)
    assert any("has 5" in line for line in lines_of(drift))
    by_row = table.set_column(1, "user", day(400, seed=3)["user"])
    drift = measure_drift(run, [written(by_row, tmp_path / "rows.csv")])
    assert {alarm.name for alarm in drift.alarms} >= {"country", "price"}


@pytest.mark.parametrize("dtype, step", [("int64", 32), ("float32", 1)])
def test_validation_rows_are_grouped_by_a_hash(dtype, step, tmp_path):
    """Ids that are multiples of 32, or numbers whose bits are round, of 100 users."""
    kind = {"kind": "numeric", "buckets": 4} if dtype == "float32" else {}
    field = {"name": "user", "dtype": dtype, **kind}
    schema = {"label": "click", "group": "user", "fields": [field]}
    schema = edcn_tf.Schema.from_dict(schema)
    users = [i % 100 * step for i in range(600)]
    log = pa.table({"user": users, "click": [i % 2 for i in range(600)]})
    path = written(log, tmp_path / "log.csv")
    edcn_tf.prepare({"train": [path], "valid": [path]}, schema, tmp_path / "data")
    spec = edcn_tf.FeatureSpec.load(tmp_path / "data" / "features")
    run, tally = tmp_path / "run", Tally(bins_of(spec)[0])
    run.mkdir()

    def model(ids, training):
        return tf.fill([tf.shape(ids)[0], 1], 0.5)

    count_validation(tally, run, model, spec, tmp_path / "data")
    groups = tally.scores.sum(axis=(1, 2))
    assert groups.sum() == 600
    assert (groups > 0).sum() > 28 and groups.max() < 60
    # The same as those of a log with these ids.
    if dtype == "int64":
        expected = value_buckets(pa.array(users), GROUPS)
        assert groups.tolist() == np.bincount(expected, minlength=GROUPS).tolist()


def of_bytes(texts):
    return np.array(texts, object).astype(bytes).astype(object)


@pytest.fixture(scope="module")
def requests(session, loaded, tmp_path_factory):
    """The same day as requests that a server of the export logged, 20 rows each."""
    _, spec = loaded
    encoder, table = edcn_tf.Encoder(spec), day(label=False)
    logs = []
    for start in range(0, 400, 20):
        part = table.slice(start, 20)
        inputs = {}
        for field in spec.schema.inputs:
            texts = part[field.name].to_pylist()
            if field.is_list:
                rows = [text.split("|") if text else [] for text in texts]
                width = max(map(len, rows))
                rows = [row + [""] * (width - len(row)) for row in rows]
                inputs[field.name] = of_bytes(rows)
            elif field.dtype == "string":
                inputs[field.name] = of_bytes(texts)
            else:
                least = np.iinfo(np.int64).min
                missing = np.nan if field.dtype == "float32" else least
                numbers = [text and float(text) for text in texts]
                inputs[field.name] = np.array(
                    [missing if n == "" else n for n in numbers]
                ).astype(field.dtype)
        tensors = {name: tf.constant(value) for name, value in inputs.items()}
        assert encoder(tensors).shape == (20, spec.num_slots)
        answer = session.run("serving_default", inputs)
        logs.append(predict_log("", inputs, answer))
    logs.append(predict_log("ids", {"ids": np.zeros((2, 9), np.int32)}, None))
    path = tmp_path_factory.mktemp("requests") / "requests.tfrecord"
    return write_logs(path, logs)


def test_requests_that_were_logged_are_the_same_rows(run, drift, requests, capsys):
    served = measure_drift(run, [requests])
    assert served.rows == 400 and not served.labels
    assert not served.independent
    assert served.mean[0] == pytest.approx(drift.mean[0], abs=1e-6)
    assert served.fields == drift.fields
    assert served.left_out == {
        "requests of ids, of which raw values cannot be told": "1"
    }
    assert command(run, requests) == 0
    assert "Left out: requests of ids" in capsys.readouterr().out


def test_scores_of_other_versions_are_left_out(run, requests, tmp_path, capsys):
    logs = []
    for record in tf.data.TFRecordDataset(str(requests)):
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
        log.predict_log.response.model_spec.version.value = 1 + len(logs) % 4 // 3
        logs.append(log)
    path = write_logs(tmp_path / "versions.tfrecord", logs)
    drift = measure_drift(run, [path], version=1)
    assert drift.rows == 300
    assert drift.left_out["requests answered by version 2"] == "5"
    assert command(run, path, "--version", "2") == 0
    assert "\n100 rows against" in "\n" + capsys.readouterr().out
    none = "no rows to compare; left out: .*answered by version 1"
    assert re.search(none, refused(run, [path], tmp_path, capsys, "--version", "7"))


def refused(run, logs, tmp_path, capsys, *options):
    """What a command says that cannot do it; nothing is written."""
    files = ["--out", tmp_path / "drift.html", "--json", tmp_path / "drift.json"]
    assert command(run, *logs, *files, *options) == 1
    output = capsys.readouterr()
    assert output.err.count("\n") == 1
    assert not (tmp_path / "drift.html").exists()
    assert not (tmp_path / "drift.json").exists()
    return output.err


def test_bad_logs_are_a_line_and_nothing_is_written(run, requests, tmp_path, capsys):
    table = day(30)
    files = {
        "empty": table.slice(0, 0),
        "column": table.drop_columns("price"),
        "label": changed(table, "click", "2"),
    }
    path = {name: written(t, tmp_path / f"{name}.csv") for name, t in files.items()}
    for name, told in (
        ("empty", "empty.csv: no rows to compare"),
        ("column", "column.csv: has no column 'price'"),
        ("label", "label.csv: row 1, column 'click': the label must be 0 or 1"),
    ):
        assert told in refused(run, [path[name]], tmp_path, capsys)
    none = write_logs(tmp_path / "none.tfrecord", [])
    assert "none.tfrecord: no rows" in refused(run, [none], tmp_path, capsys)
    other = predict_log("", {"x": np.zeros(1, np.float32)}, None)
    other = write_logs(tmp_path / "other.tfrecord", [other])
    told = "other.tfrecord: record 1: asks serving_default with inputs that are not"
    assert told in refused(run, [other], tmp_path, capsys)
    ids = predict_log("ids", {"ids": np.zeros((2, 9), np.int32)}, None)
    ids = write_logs(tmp_path / "ids.tfrecord", [ids])
    told = "no rows to compare; left out: requests of ids"
    assert told in refused(run, [ids], tmp_path, capsys)
    both = [requests, path["label"]]
    assert "read them one after the other" in refused(run, both, tmp_path, capsys)


def test_bad_arguments_are_a_line(run, quiet_day, tmp_path, capsys):
    log = [quiet_day]
    told = refused(run, log, tmp_path, capsys, "--ignore", "weekday")
    assert "ignore must name fields of ['user'" in told
    told = refused(run, log, tmp_path, capsys, "--data", tmp_path / "away")
    assert "away: is not there" in told and "--data DIR" in told
    told = refused(run, log, tmp_path, capsys, "--level", "2")
    assert "level must be a number above 0 and below 1" in told
    told = refused(run, log, tmp_path, capsys, "--version", "3")
    assert "version 3 is of logged requests, which logs of rows are not" in told
    told = refused(tmp_path / "none", log, tmp_path, capsys)
    assert "result.json" in told
    with pytest.raises(SystemExit) as status:
        command(run, quiet_day, "--psi", "-1")
    assert status.value.code == 2


def test_limits_of_the_command_are_those_of_the_library():
    defaults = {key: default for key, (default, _) in LIMITS.items()}
    assert defaults == dataclasses.asdict(Limits())


def test_a_calibrated_run_is_compared_as_it_is_served(run, quiet_day, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    edcn_tf.Calibration(method="platt", slope=1.0, intercept=-1.0).save(
        Run(copy).calibration
    )
    drift = measure_drift(copy, [quiet_day])
    assert max(drift.mean) < 0.25
    assert drift.alarms == []


def test_weights_do_not_count_and_are_told_of(tmp_path):
    schema = {"label": "click", "weight": "importance", "fields": [{"name": "site"}]}
    log = day(300).select(["click", "site"])
    log = written(log.append_column("importance", [[2.0] * 300]), tmp_path / "log.csv")
    schema = edcn_tf.Schema.from_dict(schema)
    edcn_tf.prepare({"train": [log], "valid": [log]}, schema, tmp_path / "data")
    config = {"epochs": 1, "batch_size": 64, "embedding_dim": 4}
    config = edcn_tf.TrainingConfig.from_dict(config)
    edcn_tf.train(tmp_path / "data", tmp_path / "run", config)
    drift = measure_drift(tmp_path / "run", [log])
    assert (drift.rows, drift.validation_rows, drift.independent) == (300, 300, True)
    told = "Left out: importance (the weight of rows: each counts once here)"
    assert told in list(lines_of(drift))
    assert any("taken to be drawn each by itself" in line for line in lines_of(drift))


def test_sampled_negatives_are_compared_with_the_validation_split(
    run, quiet_day, tmp_path
):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    edcn_tf.Calibration(negative_sampling_rate=0.5).save(Run(copy).calibration)
    drift = measure_drift(copy, [quiet_day])
    assert {field.split for field in drift.fields} == {"valid"}


@pytest.mark.parametrize("label", [True, False])
def test_json_lines_are_compared_with_or_without_labels(run, tmp_path, label):
    rows = day(label=label).to_pylist()
    text = "\n".join(json.dumps({k: v for k, v in row.items() if v}) for row in rows)
    logs = [tmp_path / "day.jsonl", tmp_path / "none.jsonl"]
    logs[0].write_text(text)
    logs[1].write_text("")
    drift = measure_drift(run, logs)
    assert drift.labels == label and drift.rows == 400
