"""Requests that TF Serving logged, read as rows of raw values with their scores."""

import collections
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from edcn_tf.errors import InputError
from edcn_tf.field import Field
from edcn_tf.logs.reading import read_log
from edcn_tf.logs.served import prediction_log
from edcn_tf.logs.served.reading import hold_predictions, read_served, record_of
from edcn_tf.records.writing import serialize_examples
from edcn_tf.schema import Schema
from helpers.prediction_logs import (
    classify_log,
    multi_inference_log,
    predict_log,
    regress_log,
    write_logs,
)

LEAST = np.iinfo(np.int64).min
SCHEMA = Schema(
    label="click",
    group="user",
    fields=(
        Field(name="user", column="user id"),
        Field(name="age", dtype="int64"),
        Field(name="seen", kind="sequence", max_length=3),
        Field(name="dwell", kind="sequence", along="seen", dtype="float32", buckets=4),
        Field(name="tags", multiple=True, max_length=3, candidate=True),
        Field(name="price", kind="numeric", candidate=True),
        Field(name="image", kind="numeric", length=2, candidate=True),
        Field(name="pair", kind="cross", of=("user", "age")),
    ),
)
INPUTS = {
    "user": np.array([b"ann", b"", "müller".encode()], object),
    "age": np.array([3, LEAST, 2**60], np.int64),
    "seen": np.array([[b"a", b"b", b""], [b"", b"", b""], [b"c", b"", b"d"]], object),
    "dwell": np.array([[1, 2, np.nan], [np.nan] * 3, [3, 4, np.nan]], np.float32),
    "tags": np.array([[b"x", b""], [b"", b""], [b"y", b"x"]], object),
    "price": np.array([1.5, np.nan, np.inf], np.float32),
    "image": np.array([[0, 1], [np.nan, np.nan], [2, 3]], np.float32),
}
SCORES = np.array([[0.25], [0.5], [0.75]], np.float32)
ROWS = {
    "user": ["ann", None, "müller"],
    "age": [3, LEAST, 2**60],
    "seen": [["a", "b"], [], ["c", "d"]],
    "dwell": [[1.0, 2.0], [], [3.0, None]],
    "tags": [["x"], [], ["y", "x"]],
    "price": [1.5, None, np.inf],
    "image": [[0.0, 1.0], [], [2.0, 3.0]],
}
ANSWER = {"probability": SCORES}


def plain(batch):
    """Name -> values of a batch, without what is missing in lists."""
    rows = batch.to_pydict()
    for name, values in rows.items():
        if name == "tags":
            values = [[v for v in value or [] if v is not None] for value in values]
        if name == "dwell":
            values = [[v if v == v else None for v in value or []] for value in values]
        rows[name] = [LEAST if name == "age" and v is None else v for v in values]
    return rows


def served(path, schema=SCHEMA, version=None):
    """Rows, scores, records and what is left out of one file."""
    told = collections.Counter()
    batches, scores, records = zip(*read_served([path], schema, told, None, version))
    rows = plain(pa.Table.from_batches(batches))
    return rows, np.concatenate(scores).tolist(), np.concatenate(records).tolist(), told


def read(path, *args):
    return list(read_served([path], SCHEMA, collections.Counter(), *args))


def as_examples():
    """The same rows as serialized tf.Examples."""
    [(batch, *_)] = read(WRITTEN["one"])
    return serialize_examples(batch)


WRITTEN = {}


@pytest.fixture(scope="module", autouse=True)
def one(tmp_path_factory):
    """A file with a request to `serving_default`, called so and not."""
    folder = tmp_path_factory.mktemp("served")
    log = predict_log("", INPUTS, ANSWER)
    WRITTEN["one"] = write_logs(folder / "one.tfrecord", [log])
    return WRITTEN["one"]


def test_rows_and_scores_of_a_request(one):
    rows, scores, records, told = served(one)
    assert rows == ROWS
    assert (scores, records, told) == ([0.25, 0.5, 0.75], [1, 1, 1], {})


def test_it_is_told_from_tf_examples_by_its_content(one, tmp_path):
    examples = write_logs(tmp_path / "rows.tfrecord", as_examples())
    assert hold_predictions([one])
    assert not hold_predictions([examples])
    with pytest.raises(InputError, match="rows.tfrecord does not; read them one after"):
        hold_predictions([one, examples])
    packed = write_logs(
        tmp_path / "packed.tfrecord", [predict_log("", INPUTS, ANSWER)], "GZIP"
    )
    assert served(packed)[0] == ROWS
    assert not hold_predictions([write_logs(tmp_path / "none.tfrecord", [])])


def test_read_as_any_log_by_the_log_s_own_names(one):
    columns = [field.name for field in SCHEMA.inputs]
    [batch] = read_log([one], SCHEMA, columns=columns)
    assert plain(batch) == ROWS
    with pytest.raises(InputError, match="no column 'click'; its columns are: user"):
        list(read_log([one], SCHEMA))


@pytest.mark.parametrize("signature", ["examples", "classify", "regress"])
def test_tf_examples_sent_to_predict(signature, tmp_path):
    records = np.array(as_examples(), object)
    answer = {
        "examples": ANSWER,
        "classify": {
            "classes": np.array([[b"0", b"1"]] * 3, object),
            "scores": np.hstack([1 - SCORES, SCORES]),
        },
        "regress": {"outputs": SCORES},
    }[signature]
    log = predict_log(signature, {"inputs": records}, answer)
    rows, scores, _, _ = served(write_logs(tmp_path / "log.tfrecord", [log]))
    assert rows == ROWS
    assert scores == [0.25, 0.5, 0.75]


@pytest.mark.parametrize("make", [classify_log, regress_log, multi_inference_log])
def test_the_other_apis(make, tmp_path):
    log = make(as_examples(), SCORES[:, 0])
    rows, scores, _, _ = served(write_logs(tmp_path / "log.tfrecord", [log]))
    assert rows == ROWS
    assert scores == [0.25, 0.5, 0.75]


def test_a_context_belongs_to_every_example_that_has_no_such_feature(tmp_path):
    context = tf.train.Example()
    context.features.feature["user"].bytes_list.value.append(b"eve")
    log = classify_log(as_examples(), SCORES[:, 0], context=context.SerializeToString())
    rows, *_ = served(write_logs(tmp_path / "log.tfrecord", [log]))
    assert rows == {**ROWS, "user": ["ann", "eve", "müller"]}


def test_candidates_are_rows_with_their_user(tmp_path):
    candidates = {"tags", "price", "image"}
    inputs = {
        name: np.stack([value, value[::-1]], axis=1) if name in candidates else value
        for name, value in INPUTS.items()
    }
    scores = np.arange(6, dtype=np.float32).reshape(3, 2) / 8
    log = predict_log("rank", inputs, {"probability": scores})
    rows, found, records, _ = served(write_logs(tmp_path / "log.tfrecord", [log]))
    assert found == (np.arange(6) / 8).tolist()
    assert records == [1] * 6
    for name, values in ROWS.items():
        pairs = zip(values, values[::-1] if name in candidates else values)
        assert rows[name] == [value for pair in pairs for value in pair]


def test_many_requests_in_parts_and_files(tmp_path, monkeypatch):
    monkeypatch.setattr(prediction_log, "ROWS", 4)
    shorter = {**INPUTS, "tags": INPUTS["tags"][:, :1]}
    logs = [
        predict_log("", INPUTS, ANSWER),
        predict_log("", shorter, ANSWER),
    ]
    paths = [write_logs(tmp_path / f"{i}.tfrecord", 3 * logs) for i in range(2)]
    told = collections.Counter()
    found = list(read_served(paths, SCHEMA, told))
    assert [len(scores) for _, scores, _ in found] == [6] * 6
    records = np.concatenate([records for *_, records in found])
    assert records.tolist() == np.repeat(np.arange(1, 13), 3).tolist()
    table = pa.Table.from_batches([batch for batch, *_ in found])
    assert table["user"].to_pylist() == 12 * ROWS["user"]


def test_what_is_left_out_is_counted(tmp_path):
    odd = {**INPUTS, "user": np.array([b"\xff\xfe", b"bob", b""], object)}
    ids = {"ids": np.zeros((1, 3), np.int32)}
    other = predict_log("", INPUTS, ANSWER)
    other.ClearField("predict_log")
    other.session_run_log.SetInParent()
    logs = [
        predict_log("ids", ids, {"probability": SCORES[:1]}),
        predict_log("explain", INPUTS, ANSWER),
        predict_log("", INPUTS, ANSWER, version=2),
        other,
        predict_log("", odd, ANSWER),
    ]
    rows, scores, records, told = served(
        write_logs(tmp_path / "log.tfrecord", logs), version=1
    )
    assert rows["user"] == ["bob", None]
    assert (scores, records) == ([0.5, 0.75], [5, 5])
    assert told == {
        "requests of ids, of which raw values cannot be told": 1,
        "requests of explain, which people ask": 1,
        "requests answered by version 2": 1,
        "requests of another kind: session_run_log": 1,
        "rows with text that is no UTF-8": 1,
    }


@pytest.mark.parametrize(
    "log, told",
    [
        (
            predict_log("ids", {"ids": np.zeros((1, 3), np.int32)}, ANSWER),
            "Received: requests of ids",
        ),
        (predict_log("explain", INPUTS, ANSWER), "Received: requests of explain"),
        (
            predict_log(
                "", {**INPUTS, "user": np.array([b"", b"\xff", b"bob"], object)}, ANSWER
            ),
            "Received: rows with text that is no UTF-8",
        ),
    ],
)
def test_what_has_no_place_among_rows_is_an_error_to_who_counts_them(
    log, told, tmp_path
):
    """Otherwise `edcn predict` would write the probabilities of other rows."""
    logs = [predict_log("", INPUTS, ANSWER), log, predict_log("", INPUTS, ANSWER)]
    path = write_logs(tmp_path / "log.tfrecord", logs)
    columns = [field.name for field in SCHEMA.inputs]
    with pytest.raises(InputError, match=f"log.tfrecord: record 2: .*{told}"):
        list(read_log([path], SCHEMA, columns=columns))
    assert len(read(path)) == 1


def without(name):
    return {key: value for key, value in INPUTS.items() if key != name}


WRONG = {
    "is no PredictionLog": b"\xff\xff",
    "inputs that are not the model's, which are .*another model's log": predict_log(
        "", {"x": np.zeros(3, np.float32)}, ANSWER
    ),
    r"\['age', 'dwell', 'image', 'price', 'seen', 'tags'\]": predict_log(
        "", without("user"), ANSWER
    ),
    "asks other with inputs": predict_log("other", without("user"), ANSWER),
    "holds no answer 'probability' to serving_default; log responses": predict_log(
        "", INPUTS, None
    ),
    "3 rows, but 2 scores": predict_log("", INPUTS, {"probability": SCORES[:2]}),
    r"in \[0, 1\]. Received: \[1.25": predict_log(
        "", INPUTS, {"probability": SCORES + 1}
    ),
    "'age' must be int64. Received: float32": predict_log(
        "", {**INPUTS, "age": np.zeros(3, np.float32)}, ANSWER
    ),
    "inputs do not fit each other": predict_log(
        "", {**INPUTS, "age": np.zeros(2, np.int64)}, ANSWER
    ),
    "inputs do not fit": predict_log("", {**INPUTS, "age": np.int64(1)}, ANSWER),
    "tf.Example that does not fit the schema": predict_log(
        "examples", {"inputs": np.array([b"\xff"], object)}, {"probability": SCORES[:1]}
    ),
    "0 rows, but 1 scores": classify_log([], [0.5]),
    "holds no answer; log responses too": multi_inference_log([], []),
}


@pytest.mark.parametrize("message", WRONG)
def test_what_is_wrong_is_a_line_that_names_the_record(message, one, tmp_path):
    wrong = WRONG[message]
    if "log responses too" in message and "holds no answer;" in message:
        del wrong.multi_inference_log.response.results[:]
    logs = [predict_log("", INPUTS, ANSWER), wrong]
    path = write_logs(tmp_path / "log.tfrecord", logs)
    with pytest.raises(InputError, match=rf"d: record 2: .*{message}") as error:
        read(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name, value, told",
    [
        ("image", np.zeros((3, 3)), "column 'image': "),
        ("dwell", np.zeros((3, 2)), "column 'dwell': must have as many values as"),
    ],
)
def test_values_that_do_not_fit_are_named_by_their_record(name, value, told, tmp_path):
    """Beside a row that is left out, so that rows would be counted wrongly."""
    odd = {**INPUTS, "user": np.array([b"\xff", b"", b""], object)}
    bad = {**INPUTS, name: value.astype(np.float32)}
    logs = [predict_log("", inputs, ANSWER) for inputs in (odd, INPUTS, bad)]
    path = write_logs(tmp_path / "log.tfrecord", logs)
    with pytest.raises(InputError, match=f"log.tfrecord: record 3, {told}"):
        read(path)


def test_a_record_of_several_files_is_known_in_its_own(tmp_path):
    logs = [predict_log("", INPUTS, ANSWER)]
    paths = [write_logs(tmp_path / f"{n}.tfrecord", n * logs) for n in (2, 0, 3)]
    found = [record_of(paths, number) for number in (1, 2, 3, 5)]
    first, last = str(paths[0]), str(paths[2])
    assert found == [(first, 1), (first, 2), (last, 1), (last, 3)]


def test_a_record_that_is_damaged_is_named(one, tmp_path):
    path = write_logs(tmp_path / "log.tfrecord", [predict_log("", INPUTS, ANSWER)] * 2)
    data = bytearray(path.read_bytes())
    data[-10] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="log.tfrecord: record 2 is damaged"):
        read(path)
    path.write_bytes(data[:-20])
    with pytest.raises(InputError, match="log.tfrecord: record 2 is damaged"):
        read(path)


def test_the_configuration_of_the_page_is_tf_serving_s():
    page = Path(__file__).parents[2] / "docs" / "drift.md"
    text = re.search(r"```\n(model_config_list.*?)```", page.read_text(), re.S)[1]
    config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    [model] = config.model_config_list.config
    assert model.logging_config.sampling_config.sampling_rate == 0.01
    assert model.logging_config.log_collector_config.filename_prefix == "/logs/clicks"
