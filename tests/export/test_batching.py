"""Requests that arrive together, scored as one inside the graph (`Scoring`)."""

import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

import edcn_tf
from edcn_tf.export.c_api import Session
from edcn_tf.export.scoring import BATCH_SIZES, batch_sizes
from edcn_tf.features.encoder import MISSING
from helpers.gpu_kernels import without_gpu_kernel

LARGEST = 64  # rows of a batch here, so that many requests are of several
THREADS = 16
REQUESTS = 1500
CANDIDATES = ("tags", "price", "site")
SIGNATURES = (
    *("serving_default", "serving_default", "examples", "classify", "regress"),
    *("ids", "rank", "explain"),
)


@pytest.fixture(scope="module")
def together(loaded, records, tmp_path_factory):
    """A version that scores requests together."""
    folder = tmp_path_factory.mktemp("together")
    return edcn_tf.export.export_saved_model(
        *loaded, folder, records=records, max_batch_size=LARGEST
    )


@pytest.fixture(scope="module")
def batching(together):
    with Session(together) as session:
        yield session


@pytest.fixture(scope="module")
def requests(loaded, records):
    """Drawn requests: (signature, inputs), lists of any length."""
    _, spec = loaded
    encoder = edcn_tf.Encoder(spec)
    parsed = tf.io.parse_example(records, encoder.parsing())
    ids = encoder(parsed).numpy()
    ragged = parsed.pop("tags")
    rows = {name: value.numpy() for name, value in parsed.items()}
    random = np.random.default_rng(7)

    def fields(places):
        length = int(ragged.bounding_shape()[1]) + int(random.integers(0, 5))
        tags = ragged.to_tensor("", [None, length]).numpy()
        taken = {**rows, "tags": tags}
        return {name: value[places(name)] for name, value in taken.items()}

    drawn = []
    for number in range(REQUESTS):
        signature = SIGNATURES[number % len(SIGNATURES)]
        most = {"rank": 4, "explain": 40}.get(signature, 512)
        size = int(2 ** random.uniform(0, np.log2(most)))
        chosen = random.integers(0, len(records), size)
        if signature == "rank":
            others = random.integers(0, len(records), [size, random.integers(1, 30)])
            inputs = fields(lambda n, o=others, c=chosen: o if n in CANDIDATES else c)
        elif signature in ("serving_default", "explain"):
            inputs = fields(lambda n, c=chosen: c)
        elif signature == "ids":
            inputs = {"ids": ids[chosen]}
        else:
            inputs = {"inputs": np.array(records, object)[chosen]}
        drawn.append((signature, inputs))
    return drawn


def in_threads(ask, number=THREADS):
    """Calls it with 0, 1, ... in threads of their own, and raises what they do."""
    errors = []

    def run(thread):
        try:
            ask(thread)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_a_mix_of_requests_is_answered_as_each_alone(session, batching, requests):
    """Of all signatures, rows, lengths of lists and candidates at once."""

    def ask(thread):
        for signature, inputs in requests[thread::THREADS]:
            answer = batching.run(signature, inputs)
            for name, value in session.run(signature, inputs).items():
                if value.dtype == object:
                    assert answer[name].tolist() == value.tolist()
                else:
                    np.testing.assert_allclose(answer[name], value, atol=1e-6)

    in_threads(ask)


def test_a_wrong_request_fails_no_other(session, batching, requests):
    """Neither a broken Example nor a wrong shape reaches a batch."""
    good = [(s, inputs) for s, inputs in requests if s in ("examples", "ids")][:40]
    expected = [session.run(*request)["probability"] for request in good]
    broken = np.array([b"\x0a\xff nonsense"], object)

    def ask(thread):
        for (signature, inputs), score in zip(good, expected):
            if thread % 2:
                with pytest.raises(RuntimeError, match="Could not parse example"):
                    batching.run("examples", {"inputs": broken})
                with pytest.raises(RuntimeError, match=r"\[1,1\].*\[\?,9\]"):
                    one = np.ones([1, 1], np.int32)
                    batching.run("ids", {"ids": one}, checked=False)
            else:
                answer = batching.run(signature, inputs)["probability"]
                np.testing.assert_allclose(answer, score, atol=1e-6)

    in_threads(ask)


def test_more_rows_than_a_thousand_batches(batching, requests):
    """TensorFlow counts a request's own rows among those that wait."""
    ids = next(inputs for s, inputs in requests if s == "ids")["ids"][:1]
    many = batching.run("ids", {"ids": np.repeat(ids, 100_000, axis=0)})["probability"]
    alone = batching.run("ids", {"ids": ids})["probability"]
    np.testing.assert_allclose(many, np.repeat(alone, 100_000, axis=0), atol=1e-6)


def test_no_rows_have_an_answer_without_any(batching, requests):
    for signature in ("serving_default", "ids", "examples"):
        inputs = next(i for s, i in requests if s == signature)
        few = {name: value[:0] for name, value in inputs.items()}
        assert batching.run(signature, few)["probability"].shape == (0, 1)


def test_rows_that_wait_are_scored_as_one(loaded, tmp_path):
    """By a model that says of how many rows it made a score, and takes its time."""
    _, spec = loaded

    @keras.saving.register_keras_serializable("test")
    class Size(keras.layers.Layer):
        def call(self, ids):
            slow = tf.random.normal([700, 700], seed=1)
            slow = tf.reduce_sum(slow @ slow @ slow) * 1e-30
            rows = tf.cast(tf.shape(ids)[0], tf.float32) + slow
            return tf.fill([tf.shape(ids)[0], 1], rows / 1000)

    ids = keras.Input([spec.num_slots], dtype="int32")
    model = keras.Model(ids, Size()(ids))
    servable = edcn_tf.export.signatures.Servable(
        model, edcn_tf.Encoder(spec), lambda probability: probability, LARGEST
    )
    tf.saved_model.save(servable, str(tmp_path / "1"), signatures=servable.served)
    sizes = []
    row = np.ones([1, spec.num_slots], np.int32)
    with Session(tmp_path / "1") as session:

        def ask(_):
            for _ in range(20):
                answer = session.run("ids", {"ids": row})["probability"]
                sizes.append(round(1000 * answer.item()))

        in_threads(ask)
        large = session.run("ids", {"ids": np.repeat(row, 100, axis=0)})["probability"]
    assert set(sizes) <= set(batch_sizes(LARGEST))  # filled up to one of these
    assert max(sizes) > 1
    assert set(np.round(1000 * large.ravel())) == {64}  # and 36 that are filled up


def test_no_signature_scores_rows_of_another(loaded):
    """Nor another version, in one process: queues of one name are one queue."""
    model, spec = loaded
    names = []
    for _ in range(2):
        servable = edcn_tf.export.signatures.Servable(
            model, edcn_tf.Encoder(spec), lambda probability: probability, LARGEST
        )
        for function in servable.served.values():
            names += [
                operation.get_attr("shared_name")
                for operation in function.graph.get_operations()
                if operation.type == "BatchFunction"
            ]
    assert len(set(names)) == len(names) == 2 * 5


def test_sizes_of_batches():
    assert batch_sizes() == list(BATCH_SIZES)
    assert batch_sizes(64) == [1, 8, 32, 64]
    assert batch_sizes(8) == [1, 8]
    assert batch_sizes(1) == [1]


def test_batches_of_ids_need_only_gpu_kernels(together):
    """Read from the wheel; nothing here ran on a GPU."""
    assert without_gpu_kernel(together, "ids") == {}


# Shapes


def drawn_requests(session, requests, number):
    """(signature, right inputs, name of an input, a wrong value of it)."""
    random = np.random.default_rng(3)
    for _ in range(number):
        signature, inputs = requests[random.integers(len(requests))]
        few = {name: value[:3] for name, value in inputs.items()}
        name = str(random.choice(sorted(few)))
        value = few[name]
        shape = list(value.shape)
        match random.integers(4):
            case 0:  # another rank
                shape = [1] * int(random.choice([0, len(shape) + 1, len(shape) + 2]))
            case 1:
                shape = shape[:-1]
            case 2:  # another size somewhere
                place = random.integers(len(shape))
                shape[place] = int(random.integers(0, 6))
            case _:
                shape = random.integers(0, 4, random.integers(0, 5)).tolist()
        fill = MISSING["string"].encode() if value.dtype == object else 1
        wrong = np.full(shape, fill, value.dtype)
        yield signature, few, name, wrong


@pytest.mark.parametrize("which", ["session", "batching"])
def test_a_shape_that_is_wrong_is_refused_by_its_name(which, requests, request):
    """Drawn ones: each is refused with the input's name, or is what was asked for."""
    asked = request.getfixturevalue(which)
    refused = 0
    for signature, inputs, name, wrong in drawn_requests(asked, requests, 500):
        given = {**inputs, name: wrong}
        _, _, shape = asked.signatures[signature]["inputs"][name]
        fits = len(shape) == wrong.ndim and all(
            size in (None, n) for size, n in zip(shape, wrong.shape)
        )
        try:
            answer = asked.run(signature, given, checked=False)
        except RuntimeError as error:
            refused += 1
            assert name in str(error), (signature, name, wrong.shape, str(error))
            if not fits:
                got = ",".join(map(str, wrong.shape))
                assert f"[{got}]" in str(error)
                assert f"expected_{name}" in str(error)
        else:
            assert fits, (signature, name, wrong.shape)
            rows = len(next(iter(given.values())))
            assert {len(value) for value in given.values()} == {rows}
            assert {len(value) for value in answer.values()} == {rows}
    assert 250 < refused < 500
