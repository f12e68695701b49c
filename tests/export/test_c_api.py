"""The C API's session answers as Python's loader does, and fails with words."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf

from edcn_tf.export import c_api
from edcn_tf.export.c_api import Session

TEXTS = {
    "vector": ["Zürich", b"a\0b\0", "", "\u2603", b"\xff\xfe", "x" * 22, "y" * 23],
    "matrix": [["a", b"b"], ["\u2603", b""]],
    "scalar": b"ends in NUL\0",
    "megabyte of NUL": b"\0" * 2**20,
    "long and short": ["long" * 2**18, "short"],
    "U": np.array(["ab", "\u2603"]),
    "S": np.array([b"ab", b"c"]),
    "not contiguous": np.array([["a", "b"], ["c", "d"]], object)[:, ::-1],
    "no row": np.zeros([0, 4], object),
    "no column": np.zeros([2, 0], object),
}


class Model(tf.Module):
    """Looks users up, scores them; other signatures for each dtype."""

    def __init__(self, vocabulary):
        super().__init__()
        self.weights = tf.Variable(tf.range(1.0, 6.0))
        self.kept = tf.Variable(tf.zeros([2, 3]))
        self.table = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(
                str(vocabulary),
                tf.string,
                0,
                tf.int64,
                tf.lookup.TextFileIndex.LINE_NUMBER,
            ),
            -1,
        )

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, "user"),
            tf.TensorSpec([None, None], tf.string, "tags"),
            tf.TensorSpec([None], tf.int64, "age"),
            tf.TensorSpec([None], tf.float32, "price"),
            tf.TensorSpec([None, 3], tf.int32, "ids"),
        ]
    )
    def serve(self, user, tags, age, price, ids):
        rows = tf.gather(self.weights, ids)
        return {
            "score": tf.reduce_sum(rows, 1, keepdims=True) * price[:, None],
            "row": self.table.lookup(user) + age,
            "line": user + ":" + tf.strings.reduce_join(tags, 1, separator="|"),
        }

    @tf.function(
        input_signature=[
            tf.TensorSpec(None, tf.string, "text"),
            tf.TensorSpec([], tf.float64, "number"),
            tf.TensorSpec([None], tf.bool, "flag"),
        ]
    )
    def echo(self, text, number, flag):
        return {"text": text, "number": number * 2, "flag": ~flag}

    @tf.function(input_signature=[tf.TensorSpec([2, 3], tf.float32, "value")])
    def keep(self, value):
        return {"before": self.kept + 0.0, "after": self.kept.assign(value) + 0.0}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float16, "half")])
    def half(self, half):
        return {"half": half}


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    folder = tmp_path_factory.mktemp("c_api")
    (folder / "users.txt").write_text("anna\nbob\nZürich\n", encoding="utf-8")
    model = Model(folder / "users.txt")
    names = ("serve", "echo", "keep", "half")
    signatures = {name: getattr(model, name) for name in names}
    tf.saved_model.save(model, str(folder / "1"), signatures)
    (folder / "users.txt").unlink()  # only the asset is left
    return folder / "1"


@pytest.fixture(scope="module")
def session(directory):
    with Session(directory) as session:
        yield session


@pytest.fixture(scope="module")
def loaded(directory):
    return tf.saved_model.load(str(directory)).signatures


def request(rows=3, tags=2, **changed):
    users = ["anna", "Zürich", "nobody"] * rows
    return {
        "user": np.array(users[:rows], object),
        "tags": np.array([["é", "b" * 100]] * rows, object).reshape(rows, 2)[:, :tags],
        "age": np.arange(rows) + 2**40,
        "price": np.linspace(0, 1, rows, dtype=np.float32),
        "ids": np.arange(rows * 3, dtype=np.int32).reshape(rows, 3) % 5,
        **changed,
    }


def echo(**changed):
    values = {"text": ["a"], "number": np.float64(0), "flag": np.array([True])}
    return {**values, **changed}


@pytest.mark.parametrize("rows", [0, 1, 3, 700])
@pytest.mark.parametrize("tags", [0, 2])
def test_answers_are_those_of_the_python_loader(session, loaded, rows, tags):
    inputs = request(rows, tags)
    answer = session.run("serve", inputs)
    expected = loaded["serve"](**{k: tf.constant(v) for k, v in inputs.items()})
    assert answer.keys() == expected.keys() == {"score", "row", "line"}
    for name, value in expected.items():
        np.testing.assert_array_equal(answer[name], value.numpy(), strict=True)


def test_the_variable_and_the_table_are_restored(session):
    answer = session.run("serve", request())
    assert answer["row"].tolist() == [2**40, 2**40 + 3, 2**40 + 1]
    assert answer["score"].tolist() == [[0.0], [5.0], [9.0]]
    line = "Zürich:é|".encode() + b"b" * 100
    assert answer["line"][1] == line


def test_signatures_tell_names_types_and_shapes(session):
    assert session.signatures.keys() == {"serve", "echo", "keep", "half"}
    serve, echo = session.signatures["serve"], session.signatures["echo"]
    assert {key: spec[1:] for key, spec in serve["inputs"].items()} == {
        "user": (np.dtype(object), (None,)),
        "tags": (np.dtype(object), (None, None)),
        "age": (np.dtype(np.int64), (None,)),
        "price": (np.dtype(np.float32), (None,)),
        "ids": (np.dtype(np.int32), (None, 3)),
    }
    assert serve["inputs"]["user"][0] == "serve_user:0"
    assert serve["outputs"]["score"][1:] == (np.dtype(np.float32), (None, 1))
    assert echo["inputs"]["text"][1:] == (np.dtype(object), None)
    assert echo["inputs"]["number"][1:] == (np.dtype(np.float64), ())
    assert session.signatures["half"]["inputs"]["half"][1] is None


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_strings_come_back_whole(session, text):
    answer = session.run("echo", echo(text=text), outputs=["text"])["text"]
    assert answer.dtype == object
    whole = np.asarray(text, None if isinstance(text, np.ndarray) else object)
    assert answer.shape == whole.shape
    for got, given in zip(answer.ravel().tolist(), whole.ravel().tolist()):
        assert got == (given.encode() if isinstance(given, str) else given)


def test_double_and_bool_scalars_and_vectors(session):
    answer = session.run("echo", echo(number=1.25, flag=[True, False]))
    assert answer["number"].shape == ()
    assert answer["number"].dtype == np.float64
    assert answer["number"] == 2.5
    assert answer["flag"].tolist() == [False, True]


@pytest.mark.parametrize("step", [2, -1])
def test_arrays_that_are_not_contiguous(session, step):
    whole = request(6)
    strided = {name: value[::step] for name, value in whole.items()}
    assert not strided["ids"].flags.c_contiguous
    plain = {name: value.copy() for name, value in strided.items()}
    answer, expected = session.run("serve", strided), session.run("serve", plain)
    for name in expected:
        np.testing.assert_array_equal(answer[name], expected[name])


def test_only_the_outputs_wanted(session):
    every = session.run("serve", request())
    some = session.run("serve", request(), outputs=["row", "score"])
    assert list(some) == ["row", "score"]
    for name, value in some.items():
        np.testing.assert_array_equal(value, every[name])
    assert session.run("serve", request(), outputs=["row", "row"]).keys() == {"row"}


def test_an_answer_is_a_copy_and_so_is_what_tensorflow_keeps(directory):
    value = np.arange(6, dtype=np.float32).reshape(2, 3)
    with Session(directory) as session:
        first = session.run("keep", {"value": value})
        value[:] = -1
        second = session.run("keep", {"value": value})
    np.testing.assert_array_equal(first["after"], np.arange(6).reshape(2, 3))
    np.testing.assert_array_equal(second["before"], first["after"])


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"age": np.zeros(3, np.int32)}, "'age': expected int64. Received: int32"),
        ({"price": np.zeros(3)}, "'price': expected float32. Received: float64"),
        ({"ids": np.zeros([3, 3], ">i4")}, "'ids': expected int32. Received: >i4"),
        ({"ids": np.array([["a"] * 3] * 3)}, "'ids': expected int32. Received: <U1"),
        ({"user": np.zeros(3, np.int64)}, "'user': expected strings. Received: int64"),
        ({"user": ["a", None, "b"]}, "'user': expected bytes or str. Received: None"),
        ({"user": "a"}, r"'user': expected shape \(None,\). Received: \(\)"),
        (
            {"ids": np.zeros([3, 4], np.int32)},
            r"'ids': expected shape \(None, 3\). Received: \(3, 4\)",
        ),
    ],
)
def test_an_input_of_another_type_or_shape_is_named(session, changed, message):
    with pytest.raises(ValueError, match=f"signature 'serve', {message}"):
        session.run("serve", request(**changed))


def test_missing_and_unknown_names_are_told(session):
    inputs = request()
    del inputs["age"]
    with pytest.raises(ValueError, match=r"'serve', inputs: missing: \['age'\]"):
        session.run("serve", inputs)
    with pytest.raises(ValueError, match=r"inputs: missing: \[\], unknown: \['agee'\]"):
        session.run("serve", request(agee=inputs["price"]))
    with pytest.raises(
        ValueError, match=r"outputs: missing: \[\], unknown: \['scor'\]"
    ):
        session.run("serve", request(), outputs=["score", "scor"])
    with pytest.raises(ValueError, match=r"'other': expected one of \['"):
        session.run("other", request())
    with pytest.raises(ValueError, match="'half': not a tensor of a supported dtype"):
        session.run("half", {"half": np.zeros(1, np.float16)})


def test_an_error_of_a_kernel_has_its_code_and_message(session):
    inputs = request(ids=np.full([3, 3], 7, np.int32))
    with pytest.raises(RuntimeError, match=r"INVALID_ARGUMENT \(3\): .*\[0,0\] = 7"):
        session.run("serve", inputs)
    assert session.run("serve", request())["score"].shape == (3, 1)  # still answers


def test_what_is_not_a_model_is_told(directory, tmp_path):
    with pytest.raises(RuntimeError, match=r"NOT_FOUND \(5\): .*SavedModel"):
        Session(tmp_path)
    with pytest.raises(RuntimeError, match=r"NOT_FOUND \(5\): .*train"):
        Session(directory, tags=("train",))
    (tmp_path / "saved_model.pb").write_bytes(b"not a message")
    with pytest.raises(RuntimeError, match=r"[A-Z_]+ \(\d+\): "):
        Session(tmp_path)


def test_a_closed_session_says_so(directory):
    with Session(directory) as session:
        session.run("serve", request())
    session.close()  # again
    with pytest.raises(RuntimeError, match="closed"):
        session.run("serve", request())


def test_two_sessions_and_two_threads(directory):
    """Each session has its own variables; threads get their own answers."""
    with Session(directory) as one, Session(directory) as other:
        one.run("keep", {"value": np.ones([2, 3], np.float32)})
        zeros = other.run("keep", {"value": np.ones([2, 3], np.float32)})
        assert not zeros["before"].any()

        def ask(rows):
            session = (one, other)[rows % 2]
            inputs = request(rows, user=[f"user {rows} of many letters"] * rows)
            return session.run("serve", inputs)["line"], rows

        with ThreadPoolExecutor(2) as pool:
            for lines, rows in pool.map(ask, range(1, 200)):
                assert len(lines) == rows
                start = f"user {rows} of many letters:".encode()
                assert all(line.startswith(start) for line in lines)


def memory():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_stays_level(session):
    """Runs carry 200 MB of strings in and out; those that fail, 600 MB in."""
    good = echo(text=["x" * 10_000] * 100)
    bad = request(user=["x" * 1_000_000] * 3, ids=np.full([3, 3], 9, np.int32))

    def runs(count):
        for _ in range(count):
            session.run("echo", good)
            with pytest.raises(RuntimeError):
                session.run("serve", bad)

    runs(20)
    before = memory()
    runs(200)
    assert memory() - before < 50e6


def test_in_a_program_without_keras_and_without_this_package(directory):
    program = f"""
import sys
sys.modules["keras"] = None
import importlib.util
spec = importlib.util.spec_from_file_location("c_api", {c_api.__file__!r})
c_api = importlib.util.module_from_spec(spec)
spec.loader.exec_module(c_api)
with c_api.Session({str(directory)!r}) as session:
    inputs = dict(text=["\u2603"], number=1.5, flag=[True])
    print(session.run("echo", inputs)["number"])
assert not [name for name in sys.modules if name.startswith("edcn")]
assert sys.modules["keras"] is None
"""
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "3.0"
