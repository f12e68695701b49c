"""The client scores rows as the model does, over gRPC and REST, from real servers."""

import json
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import grpc
import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

import edcn_tf
from edcn import main
from edcn_tf.evaluation.prediction import predict_log
from edcn_tf.export.client import (
    Client,
    ServingError,
    base_client,
    feature_columns,
    request,
)
from edcn_tf.export.client.errors import BY_CODE, DeadlineExceededError
from edcn_tf.export.client.feature_columns import read_columns, to_tensor
from edcn_tf.export.client.served_model import TensorInfo
from edcn_tf.features import encoder
from edcn_tf.records.writing import serialize_examples
from helpers.forked import edcn
from helpers.parts_model import CANDIDATES, PARTS, Parts
from helpers.serving import Standin

NAN = float("nan")
SLOW = 30.0  # seconds: where a test is not of deadlines
USERS = ["u1", "Ünïcode ☃ 😀", "u3", "new\nline"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A log, a model trained on it for an epoch, and its export."""
    folder = tmp_path_factory.mktemp("client")
    random = np.random.default_rng(0)
    lines = ["click,user,tags,price,visits,item"]
    for i in range(600):
        tags = "|".join(random.choice(list("abcdeü"), random.integers(0, 4)))
        price = "" if i % 11 == 0 else f"{random.lognormal():.3f}"
        visits = "" if i % 7 == 0 else random.integers(0, 90)
        user = USERS[i % 3] if i % 5 else f"v{i % 25}"
        lines.append(f"{i % 3 == 0:d},{user},{tags},{price},{visits},i{i % 20}")
    (folder / "log.csv").write_text("\n".join(lines) + "\n")
    schema = {
        "label": "click",
        "fields": [
            {"name": "user"},
            {"name": "tags", "multiple": True, "max_length": 3},
            {"name": "price", "kind": "numeric", "buckets": 5},
            {"name": "visits", "kind": "numeric", "dtype": "int64", "buckets": 5},
            {"name": "item", "candidate": True},
        ],
    }
    (folder / "schema.json").write_text(json.dumps(schema))
    schema = edcn_tf.Schema.from_dict(schema)
    edcn_tf.prepare([folder / "log.csv"], schema, folder / "data")
    config = edcn_tf.TrainingConfig.from_dict(
        {"epochs": 1, "batch_size": 64, "embedding_dim": 4, "learning_rate": 0.01}
    )
    edcn_tf.train(folder / "data", folder / "run", config)
    edcn_tf.export.export_run(folder / "run", folder / "models" / "clicks")
    return folder


@pytest.fixture(scope="module")
def server(folder):
    with Standin(folder / "models" / "clicks", labels={"stable": 1}) as server:
        yield server


@pytest.fixture(scope="module")
def model(folder):
    """Padded raw features to probabilities `[rows]`, by the model in this process."""
    loaded = tf.saved_model.load(str(folder / "models" / "clicks" / "1"))
    signatures = loaded.signatures

    def score(signature="serving_default", **features):
        tensors = {name: tf.constant(value) for name, value in features.items()}
        return signatures[signature](**tensors)["probability"].numpy()[:, 0]

    return score


@pytest.fixture(params=["grpc", "rest"])
def transport(request):
    return request.param


@pytest.fixture
def client(server, transport):
    with Client(getattr(server, transport), "clicks", deadline=SLOW) as client:
        yield client


@pytest.fixture(autouse=True)
def no_faults_left(request):
    yield
    for name in ("server", "parts_server"):
        if name in request.fixturenames:
            assert request.getfixturevalue(name)._failures == []


def row(**changed):
    known = {"user": "u1", "tags": ["a", "b"], "price": 1.5, "visits": 7, "item": "i3"}
    return {**known, **changed}


ROWS = [
    row(),
    row(user=USERS[1], tags=["ü", "a", "c", "d", "e"], price=2),
    row(user=USERS[3], tags=[], visits=np.int32(40)),
    row(user="never seen", tags=("b",), price=np.float32(0.25), visits=2**62),
    row(tags=np.array(["c"]), item="i7"),
]
COLUMNS = {name: [row[name] for row in ROWS] for name in ROWS[0]}


@pytest.fixture(scope="module")
def expected(model):
    return model(
        user=[row["user"] for row in ROWS],
        tags=[
            [*row["tags"], *[""] * (5 - len(row["tags"]))]
            for row in [{**r, "tags": list(map(str, r["tags"]))} for r in ROWS]
        ],
        price=np.array(COLUMNS["price"], np.float32),
        visits=np.array(COLUMNS["visits"], np.int64),
        item=COLUMNS["item"],
    )


def same(answer, expected):
    assert answer.dtype == np.float32
    np.testing.assert_allclose(answer, expected, rtol=0, atol=1e-6)


def arrow_table(**changed):
    columns = {**COLUMNS, "tags": [list(map(str, t)) for t in COLUMNS["tags"]]}
    return pa.table({**columns, **changed})


def unusual_table():
    """The same in types that other programs write."""
    return arrow_table(
        user=pa.array(COLUMNS["user"]).dictionary_encode(),
        tags=arrow_table()["tags"].cast(pa.large_list(pa.large_string())),
        price=pa.array(COLUMNS["price"]).cast(pa.float64()),
        visits=pa.chunked_array([COLUMNS["visits"][:2], COLUMNS["visits"][2:]]),
        item=pa.array([item.encode() for item in COLUMNS["item"]]),
    )


FORMS = {
    "rows": lambda: ROWS,
    "tuple of rows": lambda: tuple(ROWS),
    "columns": lambda: COLUMNS,
    "arrays": lambda: {
        **COLUMNS,
        "user": np.array(COLUMNS["user"]),
        "price": np.array(COLUMNS["price"], np.float64),
        "visits": np.array(COLUMNS["visits"]),
        "item": np.array(COLUMNS["item"], object),
    },
    "table": arrow_table,
    "unusual table": unusual_table,
    "record batch": lambda: arrow_table().to_batches()[0],
    "slice of a table": lambda: pa.concat_tables([arrow_table()] * 2).slice(5),
}


@pytest.mark.parametrize("form", FORMS)
def test_scores_are_the_models(client, expected, form):
    same(client.predict(FORMS[form]()), expected)
    assert len(set(expected)) == len(ROWS)


def test_a_data_frame_is_taken(client, expected):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(COLUMNS, index=[9, 9, 7, 5, 3])
    same(client.predict(frame), expected)
    frame["user"] = frame["user"].astype("category")
    same(client.predict(frame), expected)
    frame["price"] = frame["price"].where(frame.index != 3)  # NaN
    rows = [*ROWS[:4], {**ROWS[4], "price": None}]
    same(client.predict(frame), client.predict(rows))
    with pytest.raises(edcn_tf.InputError, match="row 1, field 'item': expected text"):
        client.predict(frame.assign(item=[1, 2, "a", "b", "c"]))


def test_one_row_is_scored_as_a_list_of_one(client):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(COLUMNS)
    for i, row in enumerate(ROWS):
        expected = client.predict([row])
        same(client.predict(frame.iloc[i]), expected)
        same(client.predict(row), expected)
    answer = client.explain(frame.iloc[0])
    assert answer["contributions"].shape == (1, 5)
    user, items = frame.iloc[0].drop("item"), frame[["item"]]
    expected = client.rank(user.to_dict(), items)
    same(client.rank(user, items), expected)
    same(client.rank(frame.iloc[:1].drop(columns="item"), items), expected)
    same(client.rank(user, items.iloc[2]), expected[2:3])


@pytest.mark.parametrize("missing", [None, NAN, "absent"])
def test_missing_values(client, model, missing):
    full, empty = row(), row(**dict.fromkeys(row(), missing))
    if missing == "absent":
        empty = {}
    blank = {
        "user": ["u1", ""],
        "tags": [["a", "b"], ["", ""]],
        "price": np.array([1.5, NAN], np.float32),
        "visits": np.array([7, -(2**63)]),
        "item": ["i3", ""],
    }
    same(client.predict([full, empty]), model(**blank))
    some = row(tags=[None, "a", missing if missing != "absent" else "", "b"])
    same(client.predict([some]), client.predict([full]))


def test_missing_values_are_those_of_the_encoder():
    for dtype, value in encoder.MISSING.items():
        ours = feature_columns.MISSING[dtype]
        ours = ours.decode() if dtype == "string" else ours
        assert ours == value or (ours != ours and value != value)


def test_scores_of_a_log_are_those_of_edcn_predict(folder, client, tmp_path):
    predict_log(folder / "run", [folder / "log.csv"], tmp_path / "scores.csv")
    scores = np.loadtxt(tmp_path / "scores.csv", skiprows=1)
    schema = edcn_tf.Schema.load(folder / "schema.json")
    names = [field.name for field in schema.fields]
    log = edcn_tf.logs.reading.read_log([folder / "log.csv"], schema, columns=names)
    same(np.concatenate([client.predict(batch) for batch in log]), scores)


def test_large_inputs_go_in_batches(server, client, model):
    users = [f"v{i % 25}" for i in range(1300)]
    rows = [row(user=user, tags=["a"] * (i % 3)) for i, user in enumerate(users)]
    client.signatures()
    server.rows.clear()
    answer = client.predict(rows)
    assert server.rows == [{512}, {512}, {276}]
    # Products of matrices of other heights differ in the last bits.
    np.testing.assert_allclose(
        answer[600:603], [client.predict([r])[0] for r in rows[600:603]], rtol=1e-6
    )
    tags = [(["a"] * (i % 3) + ["", ""])[:2] for i in range(1300)]
    same(
        answer,
        model(
            user=users,
            tags=tags,
            price=np.full(1300, 1.5, np.float32),
            visits=np.full(1300, 7, np.int64),
            item=["i3"] * 1300,
        ),
    )


def test_a_long_list_lengthens_its_own_batch_alone(server, transport, monkeypatch):
    sent = []
    monkeypatch.setattr(
        base_client,
        "to_tensor",
        lambda *args: sent.append(to_tensor(*args)) or sent[-1],
    )
    address = getattr(server, transport)
    with Client(address, "clicks", batch_size=2, deadline=SLOW) as client:
        client.predict([row(), row(), row(tags=["a"] * 40), row(tags=None)])
    shapes = [tensor.shape for tensor in sent if len(tensor.shape) == 2]
    assert shapes == [(2, 2), (2, 40)]


@pytest.mark.parametrize("empty", [[], {}, arrow_table().slice(0, 0)])
def test_no_rows_have_no_scores(server, client, empty):
    server.rows.clear()
    answer = client.predict(empty)
    assert (answer.dtype, answer.shape, server.rows) == (np.float32, (0,), [])


def test_other_signatures(folder, client, model):
    """Binary strings and lists of int32, as `examples` and `ids` take them."""
    records = tf.data.TFRecordDataset(str(folder / "run" / "sample.tfrecord"))
    records = [record.numpy() for record in records.take(20)]
    spec = edcn_tf.FeatureSpec.load(folder / "data" / "features")
    features = edcn_tf.Encoder(spec).parsing()
    ids = edcn_tf.Encoder(spec)(tf.io.parse_example(records, features)).numpy()
    scores = model("ids", ids=ids)
    same(client.predict({"ids": ids}, "ids"), scores)
    same(client.predict({"inputs": records}, "examples"), scores)


def test_rows_of_other_signatures_are_checked(server, client):
    """The server would score ids of another width, and refuse all Examples for one."""
    slots = client.signatures()["ids"].inputs["ids"].shape[-1]
    ids = [[1] * slots, [1] * (slots - 1)]
    server.calls.clear()
    for wrong in (ids[1:], [*ids[1:], [1] * (slots + 1)], [None]):
        message = f"row 2, field 'ids': expected a list of {slots} values, each a whole"
        with pytest.raises(edcn_tf.InputError, match=message):
            client.predict({"ids": [ids[0], *wrong]}, "ids")
        client.signatures()
    with pytest.raises(
        edcn_tf.InputError, match="row 2, field 'inputs': expected a serialized tf.Ex"
    ):
        client.predict({"inputs": [b"", b"broken"]}, "examples")
    assert set(server.calls) == {"GetModelMetadata"}


def test_the_server_is_asked_once_what_the_model_takes(server, client):
    server.calls.clear()
    for _ in range(3):
        client.predict(ROWS)
    assert server.calls == ["GetModelMetadata", *["Predict"] * 3]
    inputs = client.signatures()["serving_default"].inputs
    assert inputs["tags"] == ("string", (-1, -1))
    assert inputs["visits"] == ("int64", (-1,))


@pytest.mark.parametrize(
    "mistake",
    [
        lambda client: client.predict([row(price="cheap")]),
        lambda client: client.predict([row(other=1)]),
    ],
)
def test_after_a_mistake_the_server_is_asked_again(server, client, mistake):
    """A new version of the model may take other inputs."""
    client.predict(ROWS)
    server.calls.clear()
    with pytest.raises(edcn_tf.InputError):
        mistake(client)
    assert server.calls == []  # nothing was sent
    client.predict(ROWS)
    assert server.calls == ["GetModelMetadata", "Predict"]


def test_threads_can_share_a_client(client, expected):
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: client.predict(ROWS), range(40)))
    for answer in answers:
        same(answer, expected)


@pytest.mark.parametrize("asked", [{"version": 1}, {"version_label": "stable"}])
def test_a_version_can_be_named(server, transport, expected, asked):
    address = getattr(server, transport)
    with Client(address, "clicks", deadline=SLOW, **asked) as client:
        same(client.predict(ROWS), expected)


@pytest.mark.parametrize(
    ("asked", "code", "message"),
    [
        ({"model": "other"}, "NOT_FOUND", "Latest(other)"),
        ({"model": "a/b c"}, "NOT_FOUND", "Latest(a/b c)"),
        ({"version": 9}, "NOT_FOUND", "Specific(clicks, 9)"),
        ({"version_label": "new"}, None, "Unrecognized servable version label: new"),
    ],
)
def test_a_model_that_is_not_there(server, transport, asked, code, message):
    asked = {"model": "clicks", **asked}
    with Client(getattr(server, transport), deadline=SLOW, **asked) as client:
        server.calls.clear()
        with pytest.raises(ServingError, match=re.escape(message)) as caught:
            client.predict(ROWS)
    assert server.calls == ["GetModelMetadata"]  # not tried again
    assert code in (None, caught.value.code)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("code", ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "INTERNAL"])
def test_passing_faults_are_tried_again(server, client, expected, code):
    client.signatures()
    server.calls.clear()
    server.fail(code, times=3)
    same(client.predict(ROWS), expected)
    assert server.calls == ["Predict"] * 4
    server.fail(code, times=4)
    with pytest.raises(ServingError, match=f"{code}: made to fail") as caught:
        client.predict(ROWS)
    assert (caught.value.code, len(server.calls)) == (code, 8)


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED"])
def test_lasting_faults_are_raised_at_once(server, client, code):
    client.signatures()
    server.calls.clear()
    server.fail(code, times=1)
    with pytest.raises(ServingError, match="made to fail") as caught:
        client.predict(ROWS)
    assert (caught.value.code, server.calls) == (code, ["Predict"])


def test_the_number_of_retries_is_chosen(server, transport):
    address = getattr(server, transport)
    with Client(address, "clicks", retries=0, deadline=SLOW) as client:
        client.signatures()
        server.fail("UNAVAILABLE", times=1)
        with pytest.raises(ServingError, match="UNAVAILABLE"):
            client.predict(ROWS)


def test_a_late_answer_is_not_waited_for(server, transport, expected):
    with Client(getattr(server, transport), "clicks", deadline=0.5) as client:
        client.signatures()
        server.calls.clear()
        with server.delayed(3):
            start = time.monotonic()
            with pytest.raises(ServingError) as caught:
                client.predict(ROWS)
            assert 0.4 < time.monotonic() - start < 2.5
        assert caught.value.code == "DEADLINE_EXCEEDED"
        assert server.calls == ["Predict"]
        client.deadline = SLOW
        same(client.predict(ROWS), expected)  # and the late answer is not taken for it


def test_the_deadline_is_of_all_requests_of_a_call(server, transport, expected):
    """Those that ask what the model takes are among them."""
    address = getattr(server, transport)
    with Client(address, "clicks", batch_size=1) as client:
        for first in ("GetModelMetadata", "Predict"):
            client.deadline = 1.0
            server.calls.clear()
            with server.delayed(0.4):
                start = time.monotonic()
                with pytest.raises(DeadlineExceededError, match="the whole call"):
                    client.predict(ROWS)
                assert 0.9 < time.monotonic() - start < 2.5
            # The third was given up; a machine with other work gets less far.
            assert server.calls[0] == first
            assert len(server.calls) <= 3
            client.deadline = SLOW
            client.signatures()
        same(client.predict(ROWS), expected)
        client.deadline = 1e-9
        server.calls.clear()
        with pytest.raises(DeadlineExceededError, match="no time was left to ask"):
            client.predict(ROWS)
        assert server.calls == []


@pytest.mark.parametrize("code", ["FAILED_PRECONDITION", "NOT_FOUND", "INTERNAL"])
def test_a_status_has_its_class(server, client, transport, code):
    client.signatures()
    server.fail(code, times=1 + client.retries * BY_CODE[code].passes)
    with pytest.raises(ServingError, match="made to fail; ") as caught:
        client.predict(ROWS)
    if transport == "rest" and code == "FAILED_PRECONDITION":
        code = "INVALID_ARGUMENT"  # which is all that HTTP's 400 tells
    assert (type(caught.value), caught.value.code) == (BY_CODE[code], code)


def test_retries_keep_to_the_deadline(server, transport):
    address = getattr(server, transport)
    with Client(address, "clicks", deadline=0.5, retries=1000) as client:
        client.signatures()
        server.calls.clear()
        server.fail("UNAVAILABLE", times=1000)
        start = time.monotonic()
        with pytest.raises(ServingError, match="UNAVAILABLE: made to fail"):
            client.predict(ROWS)
        assert time.monotonic() - start < 2
        server._failures.clear()
        assert 2 <= len(server.calls) < 8  # the pauses grow


def free_port():
    with socket.socket() as listening:
        listening.bind(("localhost", 0))
        return listening.getsockname()[1]


@pytest.mark.parametrize("scheme", ["", "http://"])
def test_no_server(scheme):
    with Client(f"{scheme}localhost:{free_port()}", "clicks", deadline=2) as client:
        with pytest.raises(ServingError) as caught:
            client.predict(ROWS)
    assert caught.value.code == "UNAVAILABLE"
    assert "refused" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_server_that_comes_back(folder, transport, expected):
    """On connections that the client had kept, too."""
    path = folder / "models" / "clicks"
    with Standin(path, enable_model_warmup=False) as server:
        ports = [int(address.split(":")[-1]) for address in (server.grpc, server.rest)]
        client = Client(getattr(server, transport), "clicks", deadline=SLOW)
        same(client.predict(ROWS), expected)
        same(client.predict(ROWS), expected)
    again = {"port": ports[0], "rest_api_port": ports[1]}
    with client, Standin(path, **again, enable_model_warmup=False):
        same(client.predict(ROWS), expected)


def test_a_server_that_comes_late_is_found_by_a_retry():
    """gRPC by itself would leave a refused address alone for a second."""
    address = f"localhost:{free_port()}"
    with Client(address, "clicks", deadline=SLOW, retries=0) as client:
        with pytest.raises(ServingError, match="UNAVAILABLE"):
            client.predict(ROWS)
        server = grpc.server(ThreadPoolExecutor(1))  # which has no methods
        server.add_insecure_port(address)
        server.start()
        client.retries = 3
        with pytest.raises(ServingError, match="UNIMPLEMENTED"):
            client.predict(ROWS)
        server.stop(0).wait()


def test_rest_keeps_its_connection(folder, expected):
    path = folder / "models" / "clicks"
    with Standin(path, enable_model_warmup=False) as server:
        with Client(server.rest, "clicks", deadline=SLOW, retries=0) as client:
            for _ in range(3):
                same(client.predict(ROWS), expected)
            assert server.connections == 1
            server.drop_connections()
            same(client.predict(ROWS), expected)
            assert server.connections == 2


def test_the_wrong_kind_of_port(server):
    with Client(server.grpc.replace("local", "http://local"), "clicks") as client:
        with pytest.raises(ServingError, match="is this the REST port?|reach"):
            client.predict(ROWS)
    with Client(server.rest.removeprefix("http://"), "clicks") as client:
        with pytest.raises(ServingError):
            client.predict(ROWS)


def test_a_server_of_another_kind_is_told(server):
    with Client(f"{server.rest}/elsewhere", "clicks") as client:
        with pytest.raises(
            ServingError, match="NOT_FOUND: not what was asked for: <HTML>"
        ):
            client.predict(ROWS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"address": "localhost"}, "Expected HOST:PORT for gRPC"),
        ({"address": "localhost:x"}, "Expected HOST:PORT for gRPC"),
        ({"address": "ftp://localhost:1"}, "Expected HOST:PORT for gRPC"),
        ({"address": "localhost:8500/v1"}, "Expected HOST:PORT for gRPC"),
        ({"address": "grpcs://localhost"}, "with TLS, grpcs://HOST:PORT or https"),
        ({"address": None}, "Expected HOST:PORT for gRPC"),
        ({"version": 1, "version_label": "a"}, "not both"),
        ({"batch_size": 0}, "`batch_size` must be a whole number of at least 1"),
        ({"retries": -1}, "`retries` must be a whole number of at least 0"),
        ({"deadline": 0}, "`deadline` must be seconds, above 0. Received: 0"),
        ({"deadline": None}, "`deadline` must be seconds, above 0. Received: None"),
        ({"deadline": float("inf")}, "`deadline` must be seconds, above 0. Received: "),
        ({"deadline": NAN}, "`deadline` must be seconds, above 0. Received: nan"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(edcn_tf.InputError, match=re.escape(message)):
        Client(**{"address": "localhost:1", "model": "clicks", **arguments})


FIELDS = {
    "user": feature_columns.Input("string", False),
    "tags": feature_columns.Input("string", True),
    "price": feature_columns.Input("float32", False),
    "visits": feature_columns.Input("int64", False),
    "ids": feature_columns.Input("int32", True),
}
TEXT = "text, as the log has it, such as '17'"
LIST = "a list; write one value as [...]"


def wide(**changed):
    known = {"user": "u1", "tags": ["a"], "price": 1.5, "visits": 7, "ids": [1]}
    return {**known, **changed}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [wide(), wide(user=17)],
            f"row 2, field 'user': expected {TEXT}. Received: 17",
        ),
        (
            [wide(user=17)] * 3,
            f"row 1, field 'user': expected {TEXT}. Received: 17",
        ),
        (
            [wide(user=None), wide(user=1.5)],
            f"row 2, field 'user': expected {TEXT}. Received: 1.5",
        ),
        (
            [wide(user=True)],
            f"row 1, field 'user': expected {TEXT}. Received: True",
        ),
        (
            [wide(user="\ud800")],
            f"row 1, field 'user': expected {TEXT}. Received: '\\ud800'",
        ),
        (
            [wide(user=["u1"])],
            "row 1, field 'user': expected one value, not a list. Received: ['u1']",
        ),
        (
            [wide(), wide(tags="a|b")],
            f"row 2, field 'tags': expected {LIST}. Received: 'a|b'",
        ),
        (
            [wide(), wide(tags=["a", 5])],
            f"row 2, field 'tags': expected a list, each value of it {TEXT}. "
            "Received: ['a', 5]",
        ),
        (
            [wide(), wide(tags=[["a"]])],
            f"row 2, field 'tags': expected a list, each value of it {TEXT}. "
            "Received: [['a']]",
        ),
        (
            [wide()] * 700 + [wide(price="59.9")] + [wide()] * 300,
            "row 701, field 'price': expected a number. Received: '59.9'",
        ),
        (
            [wide(price={"eur": 1})],
            "row 1, field 'price': expected a number. Received: {'eur': 1}",
        ),
        (
            [wide(price=[1.0])],
            "row 1, field 'price': expected one value, not a list. Received: [1.0]",
        ),
        (
            [wide(), wide(visits=1.5)],
            "row 2, field 'visits': expected a whole number of 64 bits. Received: 1.5",
        ),
        (
            [wide(), wide(visits=2**63)],
            "row 2, field 'visits': expected a whole number of 64 bits. "
            "Received: 9223372036854775808",
        ),
        (
            [wide(visits=-(2**63) - 1)],
            "row 1, field 'visits': expected a whole number of 64 bits. "
            "Received: -9223372036854775809",
        ),
        (
            [wide(visits=1e17)],  # where float64 has no room for each whole number
            "row 1, field 'visits': expected a whole number of 64 bits. "
            "Received: 1e+17",
        ),
        (
            [wide(visits="7")],
            "row 1, field 'visits': expected a whole number of 64 bits. Received: '7'",
        ),
        (
            [wide(), wide(ids=[2**31])],
            "row 2, field 'ids': expected a list, each value of it a whole number of "
            "32 bits. Received: [2147483648]",
        ),
        (
            [wide(), wide(usr="u1")],
            "row 2: expected only the fields ['user', 'tags', 'price', 'visits', "
            "'ids']. Received: 'usr'",
        ),
        (
            {**{name: [value] for name, value in wide().items()}, "click": [1]},
            "columns: expected only the fields ['user', 'tags', 'price', 'visits', "
            "'ids']. Received: 'click'",
        ),
        (
            [{"user": "u1", "tags": [], "visits": 1}, {"ids": [1]}],
            "No row has the field 'price'; write None where it is missing. "
            "Received: ['ids', 'tags', 'user', 'visits']",
        ),
        (
            [{}, {}],
            "No row has the field 'user'; write None where it is missing. Received: []",
        ),
        (
            wide(price=[1.0, 2.0]),
            "row 1, field 'price': expected one value, not a list. "
            "Received: [1.0, 2.0]",
        ),
        (
            {"user": ["a", "b"], "price": [1.0]},
            "Columns must have the same length. Received: {'user': 2, 'price': 1}",
        ),
        (
            pa.table([["a"], ["b"]], ["user", "user"]),
            "Columns must have different names. Received: 'user'",
        ),
        (
            [wide(), "u1"],
            "row 2: expected a dict of fields. Received: 'u1'",
        ),
        (
            "u1",
            "Expected rows as a list of dicts, a dict of columns, a DataFrame or a "
            "Table. Received: 'u1'",
        ),
        (
            pa.table({**{n: [v] for n, v in wide().items()}, "price": ["cheap"]}),
            "row 1, field 'price': expected a number. Received: 'cheap'",
        ),
    ],
)
def test_each_mistake_is_a_line_that_says_where(rows, message):
    with pytest.raises(edcn_tf.InputError) as caught:
        read_columns(rows, FIELDS)
    assert str(caught.value) == message


def test_a_long_value_is_cut_in_the_message():
    with pytest.raises(edcn_tf.InputError) as caught:
        read_columns([wide(price="x" * 10_000)], FIELDS)
    assert len(str(caught.value)) < 300


def test_columns_are_converted_exactly():
    rows = [
        wide(price=2**60, visits=2**60 + 1, ids=[3, 1]),
        wide(price=1e300, visits=2.0, ids=[2**31 - 1]),  # no one type for visits
        wide(price=NAN, visits=np.uint8(5), ids=None, tags=None, user=b"\xff"),
    ]
    columns, count = read_columns(rows, FIELDS)
    assert count == 3
    assert columns["visits"].to_pylist() == [2**60 + 1, 2, 5]
    assert columns["user"].to_pylist() == [b"u1", b"u1", b"\xff"]
    assert columns["price"].to_pylist()[:2] == [2.0**60, float("inf")]
    ids = to_tensor(columns["ids"], "int32")
    assert (ids.shape, ids.values.to_pylist()) == ((3, 2), [3, 1, 2**31 - 1, 0, 0, 0])
    assert ids.values.type == pa.int32()
    tags = to_tensor(columns["tags"][1:], "string")
    assert (tags.shape, tags.values.to_pylist()) == ((2, 1), [b"a", b""])
    assert to_tensor(columns["tags"][2:], "string").shape == (1, 1)  # never [B, 0]


@pytest.fixture(scope="module")
def parts_server(tmp_path_factory):
    path = tmp_path_factory.mktemp("parts") / "parts"
    Parts().save(path / "3")
    with Standin(path) as server:
        yield server


@pytest.fixture
def parts(parts_server, transport):
    with Client(getattr(parts_server, transport), "parts", deadline=SLOW) as client:
        yield client


def test_explain_gives_arrays(parts):
    parts.batch_size = 2
    answer = parts.explain(PARTS)
    assert set(answer) == {"probability", "contributions", "fields", "cross_gates"}
    same(answer["probability"], [0.10, 0.015, 0.09])
    same(answer["probability"], parts.predict(PARTS))
    same(answer["contributions"], [[0.02, 0.03, 0.05], [0, 0, 0.015], [0.03, 0.06, 0]])
    assert answer["fields"].tolist() == [["user", "tags", "price"]] * 3
    assert answer["cross_gates"].shape == (3, 2, 3)
    nothing = parts.explain([])
    assert nothing["probability"].shape == (0,)
    assert nothing["contributions"].shape == (0, 3)


def test_rank_scores_the_candidates_of_a_user(parts, parts_server):
    expected = [0.10, 0.04, 0.06]
    same(parts.rank({"user": "ab"}, CANDIDATES), expected)
    same(
        parts.rank(
            user={"user": "ab"},
            candidates=pa.table(
                {"tags": [["x", "yz"], None, ["xyz"]], "price": [5.0, 2, 1]}
            ),
        ),
        expected,
    )
    parts_server.rows.clear()
    many = parts.rank({"user": "ab"}, CANDIDATES * 200)
    same(many, expected * 200)
    assert parts_server.rows == [{1}, {1}]  # of 512 and 88 candidates
    assert parts.rank({"user": "ab"}, []).shape == (0,)


@pytest.mark.parametrize(
    ("user", "candidates", "message"),
    [
        (
            {"user": 5},
            CANDIDATES,
            f"user, field 'user': expected {TEXT}. Received: 5",
        ),
        (
            {"user": "a", "price": 5.0},
            CANDIDATES,
            "user: expected only the fields ['user']. Received: 'price'",
        ),
        (
            {},
            CANDIDATES,
            "No user has the field 'user'; write None where it is missing. "
            "Received: []",
        ),
        (
            {"user": "a"},
            [*CANDIDATES, {"tags": "x"}],
            f"candidate 4, field 'tags': expected {LIST}. Received: 'x'",
        ),
        (
            {"user": "a"},
            [{"tags": []}],
            "No candidate has the field 'price'; write None where it is missing. "
            "Received: ['tags']",
        ),
    ],
)
def test_mistakes_of_a_ranking(parts, user, candidates, message):
    with pytest.raises(edcn_tf.InputError) as caught:
        parts.rank(user, candidates)
    assert str(caught.value) == message


def test_a_signature_that_is_not_there(parts):
    with pytest.raises(edcn_tf.InputError, match=r"\['explain', 'rank', .*'ids'"):
        parts.predict(PARTS, "ids")
    with pytest.raises(edcn_tf.InputError, match="Received: 'regress'"):
        parts.predict({"inputs": [b""]}, "regress")


def test_explain_and_rank_of_an_export(client):
    answer = client.explain(ROWS)
    same(answer["probability"], client.predict(ROWS))
    assert answer["fields"].tolist() == [list(row())] * 5
    assert answer["contributions"].shape == (5, 5)
    user = {name: value for name, value in row().items() if name != "item"}
    items = [f"i{i}" for i in range(20)]
    same(
        client.rank(user, {"item": items}),
        client.predict([row(item=item) for item in items]),
    )


def edcn_request(server, *arguments, model="clicks"):
    return main(["request", server.rest, "--model", model, *map(str, arguments)])


def test_the_command_prints_a_probability_a_row(server, expected, capsys):
    rows = [json.dumps(r, default=lambda v: v.tolist()) for r in ROWS]
    options = [part for row in rows for part in ("--row", row)]
    assert edcn_request(server, *options, "--version", 1, "--deadline", SLOW) == 0
    out, err = capsys.readouterr()
    same(np.array(out.split(), np.float32), expected)
    assert (len(out.splitlines()), err) == (5, "")


def test_the_command_reads_files(server, folder, tmp_path, capsys):
    predict_log(folder / "run", [folder / "log.csv"], tmp_path / "scores.csv")
    scores = np.loadtxt(tmp_path / "scores.csv", skiprows=1)
    for schema in ([], ["--schema", folder / "schema.json"]):
        file = ("--file", folder / "log.csv", *schema)
        assert edcn_request(server, *file, "--deadline", SLOW) == 0
        same(np.array(capsys.readouterr().out.split(), np.float32), scores)
    rows = [row(), row(user=None, tags=[])]
    lines = "\n\n".join(json.dumps(r) for r in rows)
    (tmp_path / "rows.jsonl").write_text("\ufeff" + lines, encoding="utf-8")
    assert edcn_request(server, "--file", tmp_path / "rows.jsonl") == 0
    assert len(capsys.readouterr().out.split()) == 2


def test_the_commands_deadline_is_of_each_request(server, tmp_path, monkeypatch):
    """So that it need not grow with the file."""
    given = []

    def predict(client, rows):
        given.append((len(rows), client.deadline))
        return np.zeros(len(rows))

    monkeypatch.setattr(Client, "predict", predict)
    for count in (0, 1, 512, 1030):
        lines = [json.dumps(row()) for _ in range(count)]
        (tmp_path / "rows.jsonl").write_text("\n".join(lines))
        file = ("--file", tmp_path / "rows.jsonl", "--deadline", 1.5)
        assert edcn_request(server, *file) == 0
    assert given == [(0, 1.5), (1, 1.5), (512, 1.5), (1030, 4.5)]
    given.clear()

    def rank(client, user, candidates):
        given.append((len(candidates), client.deadline))
        return np.zeros(len(candidates))

    monkeypatch.setattr(Client, "rank", rank)
    ranked = [
        json.dumps({"user": {}, "candidates": [{"item": "i1"}] * count})
        for count in (1, 1030, 2)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(ranked))
    file = ("--file", tmp_path / "rows.jsonl", "--deadline", 1.5)
    assert edcn_request(server, "--signature", "rank", *file) == 0
    assert given == [(1, 1.5), (1030, 4.5), (2, 1.5)]


def test_the_command_takes_a_field_by_its_column(server, expected, tmp_path, capsys):
    fields = [
        {"name": "user", "column": "user id"},
        {"name": "tags", "multiple": True, "column": "tags:list"},
        {"name": "price", "kind": "numeric"},
        {"name": "visits", "kind": "numeric", "dtype": "int64"},
        {"name": "item"},
    ]
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps({"label": "click", "fields": fields}))
    of_log = {"user": "user id", "tags": "tags:list"}
    renamed = {of_log.get(name, name): value for name, value in ROWS[0].items()}
    (tmp_path / "log.jsonl").write_text(json.dumps(renamed))
    cells = ["|".join(v) if isinstance(v, list) else str(v) for v in renamed.values()]
    (tmp_path / "log.csv").write_text(f"{','.join(renamed)}\n{','.join(cells)}\n")
    for rows in (
        ("--row", json.dumps(renamed)),
        ("--row", json.dumps(ROWS[0])),
        ("--file", tmp_path / "log.jsonl"),
        ("--file", tmp_path / "log.csv"),
    ):
        options = (*rows, "--schema", schema, "--deadline", SLOW)
        assert edcn_request(server, *options) == 0
        same(np.array(capsys.readouterr().out.split(), np.float32), expected[:1])


def test_the_command_explains_and_ranks(parts_server, capsys):
    options = [part for r in PARTS for part in ("--row", json.dumps(r))]
    explain = ("--signature", "explain", *options)
    assert edcn_request(parts_server, *explain, model="parts") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "row 1: probability 0.100000"
    assert [line.split() for line in lines[1:4]] == [
        ["price", "+0.050000"],
        ["tags", "+0.030000"],
        ["user", "+0.020000"],
    ]
    assert lines[8] == "row 3: probability 0.090000"
    ranked = json.dumps({"user": {"user": "ab"}, "candidates": CANDIDATES})
    rank = ("--signature", "rank", "--row", ranked, "--row", ranked)
    assert edcn_request(parts_server, *rank, model="parts") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    same(np.array(lines[0].split(), np.float32), [0.10, 0.04, 0.06])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--row", '{"user": 5, "tags": [], "price": 1}'],
            "row 1, field 'user': expected text",
        ),
        (["--row", "{}", "--row", "{"], "row 2: is not JSON: "),
        (["--row", "[1]"], "row 1: expected a JSON object. Received: [1]"),
        (["--row", '{"a": 1, "a": 2}'], "the key 'a' is there twice"),
        (["--row", "{}", "--version", "9"], "NOT_FOUND: Servable not found"),
        (["--file", "no.jsonl"], "no.jsonl: No such file"),
        (["--file", "no.csv"], "no.csv: cannot be read"),
        (["--file", "bad.jsonl"], "bad.jsonl: line 2: is not JSON"),
        (["--row", "{}", "--signature", "rank"], "row 1: expected {"),
        (["--file", "log.csv", "--signature", "rank"], "give --row or a .jsonl file"),
        (
            ["--row", '{"user": {"user": 5}, "candidates": []}', "--signature", "rank"],
            "row 1: user, field 'user': expected text",
        ),
    ],
)
def test_a_mistake_is_one_line(
    parts_server, arguments, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.jsonl").write_text("{}\nuser\n")
    (tmp_path / "log.csv").write_text("user,tags,price\na,b,1\n")
    assert edcn_request(parts_server, *arguments, model="parts") == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("edcn request: ")
    assert message in err


def test_no_server_is_one_line_and_status_1(tmp_path):
    port = free_port()
    address = ("request", f"localhost:{port}", "--model", "clicks")
    status, out, err = edcn(*address, "--row", "{}", cwd=tmp_path)
    assert (status, out) == (1, "")
    lines = err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith(f"edcn request: localhost:{port}, model 'clicks': UNAV")


def test_help_has_an_example(capsys):
    with pytest.raises(SystemExit):
        main(["request", "--help"])
    assert "Example:\n  edcn request localhost:8500 " in capsys.readouterr().out


def test_a_log_without_a_schema_is_read_by_the_servers_inputs(tmp_path):
    """Lists are told by their rank; of numbers, vectors by their size."""
    inputs = {
        "item": TensorInfo("string", (-1,)),
        "price": TensorInfo("float32", (-1,)),
        "history": TensorInfo("string", (-1, -1)),
        "seconds": TensorInfo("float32", (-1, -1)),
        "image": TensorInfo("float32", (-1, 2)),
    }
    server = SimpleNamespace(
        signatures=lambda: {"serving_default": SimpleNamespace(inputs=inputs)}
    )
    expected = {"item": "a", "price": 2.5, "history": ["b", "c"], "seconds": [1.5, 3]}
    expected["image"] = [0.5, -1]
    text, records = tmp_path / "log.csv", tmp_path / "log.tfrecord"
    text.write_text("item,price,history,seconds,image\na,2.5,b|c,1.5|3,0.5|-1\n")
    [batch] = request._read_log(server, text, None, None)
    with tf.io.TFRecordWriter(str(records)) as writer:
        writer.write(serialize_examples(batch)[0])
    [again] = request._read_log(server, records, None, None)
    assert batch.to_pylist() == again.to_pylist() == [expected]
