"""Requests that are stored with a version are as large as memory allows."""

import shutil
import sys

import keras
import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

import edcn_tf
from edcn_tf.evaluation.calibration import Calibration
from edcn_tf.export import c_api, request_sizes, saved_model, verification
from edcn_tf.export.recording import ROWS_AND_CANDIDATES
from edcn_tf.export.request_sizes import (
    REPLAY_BYTES,
    REQUEST_BYTES,
    RequestCosts,
    activation_bytes,
)
from edcn_tf.export.scoring import BATCH_SIZES
from edcn_tf.export.serving_config import most_batched_by_server
from edcn_tf.features.writing import FeatureCounter
from edcn_tf.records.writing import serialize_examples
from helpers.peak_memory import peak_of

LOAD = f"""
import sys, importlib.util
sys.modules["keras"] = None
import tensorflow
spec = importlib.util.spec_from_file_location("c_api", {c_api.__file__!r})
c_api = importlib.util.module_from_spec(spec)
spec.loader.exec_module(c_api)
c_api.Session(sys.argv[1]).close()
"""

# The count


def test_what_is_held_at_once_is_counted():
    def model(ids, training):
        wide = tf.tile(tf.cast(ids, tf.float32), [1, 1000])  # [B, 5000]
        wide = tf.exp(wide)  # of both
        narrow = tf.reduce_sum(wide, axis=1, keepdims=True)
        again = tf.tile(narrow, [1, 3000])  # after the wide ones
        return tf.reduce_sum(again + 1.0, axis=1)

    assert activation_bytes(model, slots=5) == 2 * 4 * 5000


def test_what_is_computed_of_weights_alone_is_the_models_own():
    table = tf.Variable(tf.zeros([10_000, 100]))
    cost = activation_bytes(lambda ids, training: tf.gather(table, ids), slots=3)
    assert 4 * 3 * 100 <= cost < 4 * 10_000 * 100 / request_sizes.TRACED_ROWS / 10


def test_a_loop_counts_as_what_goes_in():
    """What is in the lists of its steps is not in the graph."""
    layer = keras.layers.GRU(16, return_sequences=True)
    layer.build((None, 200, 16))

    def model(ids, training):
        history = tf.tile(tf.cast(ids, tf.float32)[..., None], [1, 200, 16])
        return tf.reduce_max(layer(history), axis=[1, 2])

    of_states = 4 * 200 * 16
    assert activation_bytes(model, slots=1) > 2 * of_states


def test_a_longer_history_costs_more(tmp_path):
    costs = [costs_of(length, tmp_path / str(length)) for length in (2, 20, 200)]
    assert costs == sorted(costs, key=lambda cost: cost.scored)
    assert costs[2].scored > 50 * costs[0].scored
    rows = [[cost.most_rows(of) for of in ("ids", "explain")] for cost in costs]
    assert rows == sorted(rows, reverse=True)
    assert rows[0][0] > 512 > rows[2][1]  # ordinary models have all sizes
    candidates = [cost.most_candidates(512) for cost in costs]
    assert candidates[0] > 32 > candidates[2] >= 1


def costs_of(length, folder):
    model, spec, records = with_history(length, folder, extra=2)
    return RequestCosts.of(model, spec.schema, records)


def test_never_less_than_a_row_and_a_candidate():
    costs = RequestCosts(scored=1e12, user=10.0, candidate=10.0, num_fields=3)
    assert costs.most_rows("ids") == costs.most_rows("explain") == 1
    assert costs.most_candidates(1) == costs.most_candidates(512) == 1
    assert costs.fitting("rank", BATCH_SIZES) == (1,)
    assert costs.fitting("rank", (64,)) == (1,)


def test_a_request_takes_what_it_may():
    costs = RequestCosts(scored=1e5, user=3e4, candidate=2e4, num_fields=9)
    of_row = {"ids": 1.5e5, "rank": 1.5e5, "explain": 1.05e6}
    for signature, bytes_ in of_row.items():
        rows = costs.most_rows(signature)
        assert rows * bytes_ <= REQUEST_BYTES < (rows + 1) * bytes_
    candidates = costs.most_candidates(32)
    taken = 32 * (3e4 + 1.2e5 * candidates)
    assert taken <= REQUEST_BYTES < taken + 32 * 1.2e5
    assert costs.fitting("explain", BATCH_SIZES) == (1, 8, 32, 128)


def test_longer_texts_cost_more(loaded, records):
    model, spec = loaded
    plain = RequestCosts.of(model, spec.schema, records)
    long = RequestCosts.of(model, spec.schema, [r + b"x" * 10**6 for r in records])
    assert long.most_rows("ids") < plain.most_rows("ids") / 100
    assert plain.scored == long.scored


# The requests


def stored(version, name):
    """(signature, rows, candidates) of each."""
    found = []
    for record in tf.data.TFRecordDataset(str(version / "assets.extra" / name)):
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log
        signature = log.request.model_spec.signature_name
        shapes = [
            [size.size for size in tensor.tensor_shape.dim]
            for tensor in log.request.inputs.values()
        ]
        rank = signature == "rank"
        number = max(shape[1] for shape in shapes if len(shape) > 1) if rank else 1
        found.append((signature, shapes[0][0], number))
    return found


@pytest.fixture
def little(monkeypatch, loaded, records):
    """Memory for requests of 40 rows."""
    model, spec = loaded
    costs = RequestCosts.of(model, spec.schema, records)
    row = costs.user + costs.candidate + costs.scored
    monkeypatch.setattr(request_sizes, "REQUEST_BYTES", 40.5 * row)


@pytest.mark.usefixtures("little")
def test_large_requests_are_proven_in_parts(loaded, records, tmp_path):
    version = edcn_tf.export.export_saved_model(
        *loaded, tmp_path / "m", records=records
    )
    rows = {}
    for signature, number, _ in stored(version, "recorded_requests.tfrecord"):
        rows.setdefault(signature, []).append(number)
    assert set(map(sum, rows.values())) == {sum(ROWS_AND_CANDIDATES)}  # all rows
    # The odd rows, which come first, cost more than those of `records` alone.
    assert max(rows["ids"]) == max(rows["rank"]) > 20
    assert max(map(max, rows.values())) <= 40
    assert 1 < max(rows["explain"]) < 20
    sizes = {}
    for signature, number, _ in stored(version, "tf_serving_warmup_requests"):
        sizes.setdefault(signature, []).append(number)
    ordinary = [1, 8] + [32] * (max(rows["ids"]) >= 32)
    assert sizes["serving_default"] == sizes["rank"] == ordinary
    assert sizes["explain"] == [size for size in ordinary if size <= 8]

    path = next((version / "assets").glob("*user*"))
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[1:]))
    with pytest.raises(edcn_tf.InputError, match="field 'user' is encoded in another"):
        edcn_tf.export.verify_saved_model(version)


@pytest.mark.parametrize(
    "text, largest",
    [
        ("max_batch_size { value: 64 } allowed_batch_sizes: 16 # 8\n", 64),
        ("max_batch_size:{value:64}\nallowed_batch_sizes: [64, 2]", 64),
        ("# max_batch_size { value: 1 }\nnum_batch_threads { value: 4 }", 1000),
    ],
)
def test_the_largest_batch_of_a_file_of_ones_own(text, largest, tmp_path):
    assert most_batched_by_server(tmp_path) is None
    (tmp_path / "batching_parameters.pbtxt").write_text(text)
    assert most_batched_by_server(tmp_path) == largest


@pytest.mark.parametrize(
    "of_file, of_export, sizes",
    [
        (100, None, [1, 8, 32, 100]),
        (100, 64, [1, 8, 32, 64]),
        (None, 64, [1, 8, 32, 64]),
        (None, 2000, [1, 8, 32, 128, 512]),
        (None, 1, [1]),
    ],
)
def test_warm_up_is_no_larger_than_a_batch(
    of_file, of_export, sizes, loaded, records, tmp_path, monkeypatch
):
    """A warm-up request that is larger would keep TF Serving from loading."""
    monkeypatch.setattr(saved_model, "verify_saved_model", lambda version: None)
    text = f"max_batch_size {{ value: {of_file} }}"
    if of_file:
        (tmp_path / "batching_parameters.pbtxt").write_text(text)
    version = edcn_tf.export.export_saved_model(
        *loaded, tmp_path, records=records, max_batch_size=of_export
    )
    logs = stored(version, "tf_serving_warmup_requests")
    assert sorted({rows for _, rows, _ in logs}) == sizes
    if of_file:
        assert (tmp_path / "batching_parameters.pbtxt").read_text() == text


@pytest.mark.parametrize("size", ["0", "-1", "many", "[1"])
def test_a_size_that_is_none_is_named(size, loaded, tmp_path):
    path = tmp_path / "batching_parameters.pbtxt"
    path.write_text(f"max_batch_size {{ value: {size} }}")
    with pytest.raises(edcn_tf.InputError, match=r"pbtxt: a batch size .*Received: "):
        edcn_tf.export.export_saved_model(*loaded, tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_largest_batch_of_no_rows_is_refused(loaded, tmp_path):
    with pytest.raises(edcn_tf.InputError, match="max_batch_size is a number of at"):
        edcn_tf.export.export_saved_model(*loaded, tmp_path, max_batch_size=0)
    assert list(tmp_path.iterdir()) == []


# The memory


def grows_by(version):
    """Bytes that verifying takes more than loading."""
    loading = peak_of([sys.executable, "-c", LOAD, str(version)])
    return peak_of([sys.executable, verification.__file__, str(version)]) - loading


@pytest.mark.skipif(sys.platform != "linux", reason="counts memory as Linux does")
def test_replaying_a_wide_model_stays_under_the_bound(loaded, tmp_path):
    """Of which 512 rows of `explain` would take 3 GB."""
    _, spec = loaded
    ids = keras.Input([spec.num_slots], dtype="int32")
    fields = edcn_tf.FieldEmbedding(spec.layout(), spec.num_rows, 4)(ids)
    wide = keras.layers.RepeatVector(7000)(keras.layers.Flatten()(fields))
    outputs = keras.layers.GlobalMaxPooling1D()(wide)
    outputs = keras.layers.Dense(1, "sigmoid")(outputs)
    model = keras.Model(ids, outputs)
    of_row = 4 * len(spec.fields) * 4 * 7000
    assert 512 * (1 + len(spec.fields)) * of_row > 3e9
    (tmp_path / "1").mkdir()
    saved_model._write(model, spec, Calibration(), [], tmp_path / "1")
    assert grows_by(tmp_path / "1") < REPLAY_BYTES


def with_history(length, folder, extra):
    """A model on a history, its `FeatureSpec` and rows of full length."""
    fields = [
        {"name": "user"},
        {"name": "item", "candidate": True},
        {"name": "past", "kind": "sequence", "of": "item", "max_length": length},
        *({"name": f"field_{i}", "candidate": i % 3 == 0} for i in range(extra)),
    ]
    schema = edcn_tf.Schema.from_dict({"label": "click", "fields": fields})
    random = np.random.default_rng(0)
    log = pa.RecordBatch.from_pydict(
        {
            field.name: pa.array(
                random.integers(0, 50, [300, length]).astype(str).tolist()
                if field.is_list
                else random.integers(0, 50, 300).astype(str)
            )
            for field in schema.fields
        }
    )
    counter = FeatureCounter(schema)
    counter.add(log)
    spec = counter.write(folder / "features")
    model = edcn_tf.make_model(spec, "edcn", history="din", embedding_dim=16)
    model.build((None, spec.num_slots))
    return model, spec, list(serialize_examples(log))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="counts memory as Linux does")
def test_replaying_a_long_history_stays_under_the_bound(tmp_path):
    """Of which 512 users with 32 candidates each took 4 GB."""
    model, spec, records = with_history(200, tmp_path, extra=5)
    (tmp_path / "1").mkdir()
    saved_model._write(model, spec, Calibration(), records, tmp_path / "1")
    logs = stored(tmp_path / "1", "tf_serving_warmup_requests")
    assert BATCH_SIZES[-1] in [n for name, n, _ in logs if name == "serving_default"]
    shutil.rmtree(tmp_path / "features")
    assert grows_by(tmp_path / "1") < REPLAY_BYTES
