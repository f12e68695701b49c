"""Logged scores against those of an export: which field was not there."""

import re

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

import edcn_tf
from edcn_tf.evaluation.prediction import predict_log
from edcn_tf.export import skew as skew_module
from edcn_tf.export.skew import compare_scores
from edcn_tf.logs import opening
from edcn_tf.logs.reading import read_log
from edcn_tf.records.writing import serialize_examples
from helpers.prediction_logs import write_logs


@pytest.fixture(scope="module")
def log(run):
    """The raw log, as a table of text."""
    options = pa.csv.ConvertOptions(strings_can_be_null=False)
    names = (run.parent / "log.csv").read_text().split("\n")[0].split(",")
    options.column_types = dict.fromkeys(names, pa.string())
    return pa.csv.read_csv(run.parent / "log.csv", convert_options=options)


@pytest.fixture
def scored(run, tmp_path):
    """A function: log -> file with the scores that the run gives it."""

    def score(table, name="scores.csv"):
        pa.csv.write_csv(table, tmp_path / f"{name}.log.csv")
        predict_log(run, [tmp_path / f"{name}.log.csv"], tmp_path / name)
        return tmp_path / name

    return score


def changed(table, name, value, where=None):
    values = np.array(table[name].to_pylist(), object)
    values[slice(None) if where is None else where] = value
    place = table.column_names.index(name)
    return table.set_column(place, name, pa.array(values.tolist(), pa.string()))


def test_equal_scores_have_no_difference(version, run, log, scored):
    skew = compare_scores(version, [run.parent / "log.csv"], scored(log))
    assert (skew.rows, skew.differing, skew.fields) == (900, 0, [])
    assert skew.largest <= 1e-6


@pytest.mark.parametrize("name", ["user", "age", "tags", "price", "site"])
def test_a_field_that_was_missing_is_found(version, run, log, scored, name):
    """It was not there in every third row when the scores were logged."""
    where = np.arange(900) % 3 == 0
    scores = scored(changed(log, name, "", where), "scores.parquet")
    skew = compare_scores(version, [run.parent / "log.csv"], scores)
    assert 0 < skew.differing <= 300
    assert (skew.worst_row - 1) % 3 == 0
    assert abs(skew.logged - skew.answered) == pytest.approx(skew.largest)
    assert skew.fields[0].name == name
    assert skew.fields[0].as_if_missing == skew.differing
    assert all(f.as_if_missing < skew.differing / 2 for f in skew.fields[1:])


def test_a_field_that_was_unknown_is_found(version, run, log, scored):
    scores = scored(changed(log, "user", "a stranger"))
    skew = compare_scores(version, [run.parent / "log.csv"], scores)
    assert skew.fields[0].name == "user"
    assert skew.fields[0].as_if_unseen == skew.differing > 800
    assert skew.fields[0].as_if_missing < skew.differing / 2


@pytest.mark.parametrize("name, value, of", [("site", "2", 2), ("tags", "c", "c")])
def test_the_value_that_differs_most_is_named(
    version, run, log, scored, name, value, of
):
    """Rows with one value were scored as if they had come from elsewhere."""
    texts = log[name].to_pylist()
    where = np.array([value in text.split("|") for text in texts])
    scores = scored(changed(log, "device_id", "d1", where))
    skew = compare_scores(version, [run.parent / "log.csv"], scores)
    field = next(field for field in skew.fields if field.name == name)
    assert field.value == of
    assert field.rows == where.sum()
    assert 0.8 * field.rows < field.differing <= field.rows


def test_a_value_counts_once_a_row_and_an_empty_list_as_missing(
    version, run, log, scored, tmp_path
):
    twice = changed(log, "tags", "a|a")
    twice = changed(twice, "tags", "", np.arange(900) < 500)
    pa.csv.write_csv(twice, tmp_path / "twice.csv")
    scores = scored(changed(twice, "user", "", np.arange(900) < 600))
    skew = compare_scores(version, [tmp_path / "twice.csv"], scores)
    tags = next(field for field in skew.fields if field.name == "tags")
    assert (tags.value, tags.rows) == (None, 500)
    assert 400 < tags.differing <= 500


def test_where_no_missing_value_explains_it_the_value_that_differs_is_first(
    version, run, log, scored
):
    """One country's rows were scored as another's."""
    where = np.array(log["country"].to_pylist()) == "c2"
    scores = scored(changed(log, "country", "c1", where))
    skew = compare_scores(version, [run.parent / "log.csv"], scores)
    assert skew.differing == where.sum()
    field = skew.fields[0]
    assert (field.name, field.value) == ("country", "c2")
    assert field.rows == field.differing == where.sum()
    assert max(f.as_if_missing for f in skew.fields) < 0.1 * skew.differing


def test_a_log_in_several_batches_and_files(
    version, run, log, scored, tmp_path, monkeypatch
):
    scores = scored(changed(log, "tags", "", np.arange(900) % 2 == 0))
    path = run.parent / "log.csv"
    # Scores differ in their last bits between batch sizes, so no row may be so near
    # the tolerance that these decide.
    whole = compare_scores(version, [path], scores, tolerance=3e-5)
    monkeypatch.setattr(opening, "BLOCK_BYTES", 4096)
    monkeypatch.setattr(skew_module, "REPLAYED_ROWS", 50)
    for i, part in enumerate([log.slice(0, 400), log.slice(400)]):
        pa.csv.write_csv(part, tmp_path / f"part{i}.csv")
    schema = edcn_tf.FeatureSpec.load(run / "features").schema
    with tf.io.TFRecordWriter(str(tmp_path / "part1.tfrecord")) as writer:
        for batch in read_log([tmp_path / "part1.csv"], schema):
            for record in serialize_examples(batch):
                writer.write(record)
    parts = [tmp_path / "part0.csv", tmp_path / "part1.csv"]
    for logs in ([path], parts, [parts[0], tmp_path / "part1.tfrecord"]):
        skew = compare_scores(version, logs, scores, tolerance=3e-5)
        assert skew.worst_row == whole.worst_row
        assert skew.fields == whole.fields
    assert whole.fields[0].name == "tags"


def test_scores_that_are_no_numbers_differ(version, run, log, scored, tmp_path):
    p = pa.csv.read_csv(scored(log))["probability"].to_numpy().copy()
    p[[3, 7]] = np.nan
    pa.parquet.write_table(pa.table({"probability": p}), tmp_path / "nan.parquet")
    skew = compare_scores(
        version, [run.parent / "log.csv"], tmp_path / "nan.parquet", tolerance=1e-5
    )
    assert skew.differing == 2
    assert skew.worst_row == 4


@pytest.mark.parametrize(
    "text, message",
    [
        ("probability\n0.5\n", "has 1 scores, but the log has 900 rows"),
        ("score\n0.5\n", "has no column 'probability'"),
        ("probability,probability\n0.5,1\n", "more than one column 'probability'"),
        ("probability\nhigh\n", "must be numbers, not string"),
        (None, "scores.csv"),
    ],
)
def test_files_that_do_not_fit_are_named(version, run, tmp_path, text, message):
    if text:
        (tmp_path / "scores.csv").write_text(text)
    with pytest.raises(edcn_tf.InputError, match=message):
        compare_scores(version, [run.parent / "log.csv"], tmp_path / "scores.csv")


@pytest.mark.parametrize(
    "name, message",
    [
        ("scores.txt", "Scores are read from"),
        ("scores.parquet", r"scores.parquet: .*[Pp]arquet"),
        ("empty.csv", "empty.csv: Empty CSV file"),
    ],
)
def test_unreadable_scores_are_named(version, run, tmp_path, name, message):
    (tmp_path / name).write_text("" if name == "empty.csv" else "probability\n0.5\n")
    with pytest.raises(edcn_tf.InputError, match=message):
        compare_scores(version, [run.parent / "log.csv"], tmp_path / name)


def test_a_log_without_rows_or_a_column_is_named(version, log, scored, tmp_path):
    scores = scored(log)
    pa.csv.write_csv(log.drop_columns("price"), tmp_path / "column.csv")
    with pytest.raises(edcn_tf.InputError, match=r"column.csv: .*'price'"):
        compare_scores(version, [tmp_path / "column.csv"], scores)
    pa.csv.write_csv(log.slice(0, 0), tmp_path / "rows.csv")
    with pytest.raises(edcn_tf.InputError, match=r"rows.csv: no rows"):
        compare_scores(version, [tmp_path / "rows.csv"], scores)


def test_the_command_says_where_and_fails(version, run, log, scored, capsys):
    from edcn import main

    scores = scored(changed(log, "price", ""))
    against = ["--against", str(run.parent / "log.csv"), "--scores", str(scores)]
    assert main(["verify", str(version), *against]) == 1
    output = capsys.readouterr()
    assert "verified: 28 requests to 7 signatures" in output.out
    first = output.out.split("as if")[1].splitlines()[1]
    assert first.startswith("price")
    assert "logged scores differ by more than 1e-06; most in row " in output.err
    assert output.err.count("\n") == 1
    assert main(["verify", str(version), *against[:2]]) == 1
    assert "--against LOG and --scores FILE go together" in capsys.readouterr().err
    same = scored(log, "same.csv")
    assert main(["verify", str(version), *against[:3], str(same)]) == 0
    assert "900 logged scores: the same" in capsys.readouterr().out


@pytest.fixture(scope="module")
def recorded(version):
    """Requests to every signature with their answers, in TF Serving's own form."""
    return version / "assets.extra" / "recorded_requests.tfrecord"


def relogged(path, recorded, change):
    """The logs of a file, each changed by a function that gives what is kept."""
    logs = []
    for record in tf.data.TFRecordDataset(str(recorded)):
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
        change(log)
        logs.append(log)
    return write_logs(path, logs)


def test_requests_that_were_logged_have_scores_of_their_own(version, recorded, capsys):
    from edcn import main

    assert main(["verify", str(version), "--against", str(recorded)]) == 0
    told = capsys.readouterr().out
    rows = int(re.search(r"([\d,]+) logged scores: the same", told)[1].replace(",", ""))
    assert rows > 2000  # of serving_default, examples, classify, regress and rank
    assert "Left out: 4 requests of ids" in told
    assert "Left out: 4 requests of explain" in told
    assert re.search(r"Left out: \d+ rows with text that is no UTF-8", told)


def test_a_request_that_was_answered_otherwise_is_named(
    version, recorded, tmp_path, capsys
):
    from edcn import main

    def change(log):
        call = log.predict_log
        if call.request.model_spec.signature_name == "serving_default":
            scores = tf.make_ndarray(call.response.outputs["probability"]) * 0.5
            call.response.outputs["probability"].CopyFrom(tf.make_tensor_proto(scores))

    path = relogged(tmp_path / "log.tfrecord", recorded, change)
    logs = [str(recorded), str(path), str(recorded)]
    assert main(["verify", str(version), "--against", *logs]) == 1
    told = r"logged scores differ by more than 1e-06; most in record (\d+) of (\S+): "
    record, file = re.search(told, capsys.readouterr().err).groups()
    assert file == str(path)
    [worst] = tf.data.TFRecordDataset(file).skip(int(record) - 1).take(1)
    log = prediction_log_pb2.PredictionLog.FromString(worst.numpy())
    asked = log.predict_log.request.model_spec.signature_name
    assert asked == "serving_default"


def test_what_another_version_answered_is_left_out(version, recorded, tmp_path):
    number = 0

    def change(log):
        nonlocal number
        number += 1
        response = log.predict_log.response
        response.model_spec.version.value = 1 + number % 2
        if number % 2 and "probability" in response.outputs:
            scores = tf.make_ndarray(response.outputs["probability"]) * 0.5
            response.outputs["probability"].CopyFrom(tf.make_tensor_proto(scores))

    assert version.name == "1"
    path = relogged(tmp_path / "log.tfrecord", recorded, change)
    skew = compare_scores(version, [path])
    assert skew.differing == 0 and skew.rows > 0
    assert skew.left_out["requests answered by version 2"] == 14

    def other(log):
        log.predict_log.response.model_spec.version.value = 7

    path = relogged(tmp_path / "other.tfrecord", recorded, other)
    told = "no rows but what is left out: 28 requests answered by version 7"
    with pytest.raises(edcn_tf.InputError, match=told):
        compare_scores(version, [path])


def test_scores_are_in_the_log_or_beside_it(version, recorded, run, tmp_path):
    told = "go together, unless LOG holds requests that TF Serving logged"
    with pytest.raises(edcn_tf.InputError, match=told):
        compare_scores(version, [recorded], tmp_path / "scores.csv")
    with pytest.raises(edcn_tf.InputError, match=told):
        compare_scores(version, [run.parent / "log.csv"])
