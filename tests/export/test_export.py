"""A published version answers as the model did, or is not published."""

import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import prediction_log_pb2
from tensorflow_serving.config import model_server_config_pb2

import edcn_tf
from edcn_tf.evaluation.calibration import Calibration
from edcn_tf.export import recording, saved_model, verification
from edcn_tf.export.c_api import Session
from edcn_tf.export.publishing import keep_newest, publish_version, versions
from edcn_tf.export.scoring import BATCH_SIZES
from edcn_tf.export.signatures import Servable
from helpers.serving_protos import parsed

# What is exported


def test_each_variable_is_stored_once(loaded, version):
    model, spec = loaded
    prefix = str(version / "variables" / "variables")
    stored = tf.train.list_variables(prefix)
    shapes = [tuple(s) for n, s in stored if "VARIABLE_VALUE" in n]
    table = (spec.num_rows, model.embedding.embedding_dim)
    assert shapes.count(table) == 1
    # The weights, without what only training needs (counts, dropout's random state).
    assert sorted(shapes) == sorted(tuple(v.shape) for v in model.trainable_weights)
    size = os.path.getsize(f"{prefix}.data-00000-of-00001")
    weights = sum(4 * int(np.prod(shape)) for shape in shapes)
    assert weights <= size <= weights + 10_000  # and TensorFlow's object graph


def test_vocabularies_are_assets(loaded, version):
    _, spec = loaded
    kept = sorted(f.vocabulary.read_bytes() for f in spec.fields if f.vocabulary)
    stored = sorted(path.read_bytes() for path in (version / "assets").iterdir())
    assert stored == kept


def test_no_custom_op_is_in_the_export(version):
    loaded = tf.saved_model.load(str(version))
    for signature in loaded.signatures.values():
        graph = signature.graph.as_graph_def()
        nodes = [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
        for op in {node.op for node in nodes}:
            assert hasattr(tf.raw_ops, op) or op in graph_functions(graph), op
            assert op not in ("PyFunc", "EagerPyFunc", "PyFuncStateless")


def graph_functions(graph):
    return {f.signature.name for f in graph.library.function}


def test_nothing_of_this_machine_is_in_the_export(run, version):
    place = str(run.parent).encode()
    source = str(edcn_tf.__path__[0]).encode()
    files = [path for path in version.parent.rglob("*") if path.is_file()]
    assert {path.parent.name for path in files} >= {"assets", "variables"}
    for path in files:
        data = path.read_bytes()
        assert place not in data, path
        assert source not in data, path
        assert str(version.parent.parent).encode() not in data, path


def test_calibration_is_part_of_each_signature(loaded, records, tmp_path):
    model, spec = loaded
    calibration = Calibration(
        negative_sampling_rate=0.2, method="platt", slope=0.8, intercept=-0.1
    )
    version = edcn_tf.export.export_saved_model(
        model, spec, tmp_path / "m", records=records, calibration=calibration
    )
    encoder = edcn_tf.Encoder(spec)
    raw = model(encoder(tf.io.parse_example(records, encoder.parsing()))).numpy()
    corrected = raw / (raw + (1 - raw) / 0.2)
    log_odds = 0.8 * np.log(corrected / (1 - corrected)) - 0.1
    expected = 1 / (1 + np.exp(-log_odds))
    with Session(version) as session:
        answer = session.run("examples", {"inputs": np.array(records, object)})
    np.testing.assert_allclose(answer["probability"], expected, atol=1e-6)
    assert np.abs(expected - raw).min() > 0.01


def test_a_model_in_half_precision_is_served_in_float32(loaded, records, tmp_path):
    model, spec = loaded
    half = type(model).from_config({**model.get_config(), "dtype": "mixed_bfloat16"})
    half.build((None, spec.num_slots))
    for to, weight in zip(half.trainable_weights, model.trainable_weights, strict=True):
        to.assign(weight)
    ids = edcn_tf.Encoder(spec)(
        tf.io.parse_example(records, edcn_tf.Encoder(spec).parsing())
    )
    expected = model(ids).numpy()
    assert np.abs(half(ids).numpy() - expected).max() > 1e-5
    version = edcn_tf.export.export_saved_model(half, spec, tmp_path / "m")
    served = tf.saved_model.load(str(version)).signatures["ids"]
    answer = served(ids=ids)["probability"]
    np.testing.assert_allclose(answer, expected, atol=1e-6)


@pytest.mark.parametrize(
    "noise, tolerance", [(0, 1e-6), (1e-7, 1e-6), (2e-6, 1.6e-5), (1e-3, 1e-4)]
)
def test_the_tolerance_follows_what_float32_can_tell(loaded, records, noise, tolerance):
    """Of a model that differs from itself between batch sizes."""

    class Noisy:
        def __call__(self, ids, training=False):
            rows = tf.shape(ids)[0]
            return tf.fill([rows, 1], 0.01 + tf.where(rows == 1, float(noise), 0.0))

    servable = Servable(loaded[0], edcn_tf.Encoder(loaded[1]), Calibration())
    rows = recording._Rows(servable, Noisy(), records)
    assert rows.tolerance() == pytest.approx(tolerance, rel=1e-2)


def test_a_model_of_other_layers_is_exported_too(loaded, tmp_path):
    """A functional Keras model of this library's layers: ids to probability."""
    import keras

    _, spec = loaded
    ids = keras.Input([spec.num_slots], dtype="int32")
    fields = edcn_tf.FieldEmbedding(spec.layout(), spec.num_rows, 4)(ids)
    fields = edcn_tf.FieldGate()(fields)
    outputs = keras.layers.Dense(1, "sigmoid")(keras.layers.Flatten()(fields))
    model = keras.Model(ids, outputs)
    version = edcn_tf.export.export_saved_model(model, spec, tmp_path / "m")
    with Session(version) as session:
        assert "rank" not in session.signatures
        assert "explain" in session.signatures


# Beside the model


def predict_logs(path):
    dataset = tf.data.TFRecordDataset(str(path))
    logs = [prediction_log_pb2.PredictionLog.FromString(r.numpy()) for r in dataset]
    assert all(log.WhichOneof("log_type") == "predict_log" for log in logs)
    return [log.predict_log for log in logs]


def test_warm_up_requests_are_of_each_signature_and_batch_size(version):
    logs = predict_logs(version / "assets.extra" / "tf_serving_warmup_requests")
    assert len(logs) <= 1000  # TF Serving refuses more
    sizes = {}
    for log in logs:
        tensors = list(log.request.inputs.values())
        rows = {tensor.tensor_shape.dim[0].size for tensor in tensors}
        assert len(rows) == 1
        sizes.setdefault(log.request.model_spec.signature_name, set()).update(rows)
    signatures = set(tf.saved_model.load(str(version)).signatures)
    assert set(sizes) == signatures
    assert set(map(frozenset, sizes.values())) == {frozenset(BATCH_SIZES)}


def test_recorded_requests_have_answers_and_the_sizes_of_the_proof(version):
    logs = predict_logs(version / "assets.extra" / "recorded_requests.tfrecord")
    for signature in ("serving_default", "ids", "examples", "rank", "explain"):
        of = [x for x in logs if x.request.model_spec.signature_name == signature]
        rows = [next(iter(x.response.outputs.values())).tensor_shape for x in of]
        assert [shape.dim[0].size for shape in rows] == [1, 2, 7, 512]
    texts = [
        value
        for log in logs
        for value in log.request.inputs["user"].string_val
        if log.request.model_spec.signature_name == "serving_default"
    ]
    assert b"" in texts  # missing
    assert any("\u2603".encode() in text for text in texts)  # unseen
    assert any(len(text) > 1000 for text in texts)
    assert any(re.fullmatch(rb"u\d+", text) for text in texts)


def test_configuration_files_are_what_tf_serving_reads(version, tmp_path):
    folder = version.parent
    models = text_format.Parse(
        (folder / "models.config").read_text(),
        model_server_config_pb2.ModelServerConfig(),
    )
    (config,) = models.model_config_list.config
    assert (config.name, config.base_path) == ("clicks", "/models/clicks")
    monitoring = parsed(folder / "monitoring.config", "MonitoringConfig")
    assert monitoring.prometheus_config.enable
    # None that has TF Serving batch requests, which fails them for one another.
    written = {path.name for path in (*folder.iterdir(), *version.iterdir())}
    assert not [name for name in written if "batch" in name]


@pytest.fixture
def unproven(monkeypatch):
    """Exports that no process verifies, which takes seconds; others here are."""
    monkeypatch.setattr(saved_model, "verify_saved_model", lambda version: None)


@pytest.mark.usefixtures("unproven")
def test_configuration_files_that_were_edited_stay(loaded, tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "models.config").write_text("mine")
    edcn_tf.export.export_saved_model(*loaded, tmp_path / "m")
    assert (tmp_path / "m" / "models.config").read_text() == "mine"
    assert (tmp_path / "m" / "monitoring.config").exists()


# Verification


@pytest.fixture(scope="module")
def proof(version, tmp_path_factory):
    """Of a copy elsewhere."""
    moved = tmp_path_factory.mktemp("elsewhere") / "7"
    shutil.copytree(version, moved)
    return edcn_tf.export.verify_saved_model(moved)


def test_the_proof_names_what_was_replayed(proof):
    assert proof["largest_difference"] <= 1e-6
    assert proof["tolerance"] == 1e-6
    assert len(proof["signatures"]) == 7
    assert proof["requests"] == 4 * 7
    assert proof["warm_up_requests"] == len(BATCH_SIZES) * 7


def test_a_moved_version_still_verifies(proof):
    assert proof["largest_difference"] <= 1e-6


def rewrite(path, change):
    """Changes the PredictLogs of a file, a list in place."""
    logs = predict_logs(path)
    change(logs)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for log in logs:
            whole = prediction_log_pb2.PredictionLog(predict_log=log)
            writer.write(whole.SerializeToString())


def change_a_score(version):
    def change(logs):
        log = next(
            log
            for log in logs
            if log.request.model_spec.signature_name == "serving_default"
            and log.response.outputs["probability"].tensor_shape.dim[0].size == 512
        )
        values = tf.make_ndarray(log.response.outputs["probability"]).copy()
        values[99] += 1e-5
        log.response.outputs["probability"].CopyFrom(tf.make_tensor_proto(values))

    rewrite(version / "assets.extra" / "recorded_requests.tfrecord", change)


def change_a_weight(version):
    path = next((version / "variables").glob("variables.data*"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x40
    path.write_bytes(data)


def cut_the_vocabulary(version):
    path = next((version / "assets").glob("*user*"))
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[1:]))


def remove_the_variables(version):
    shutil.rmtree(version / "variables")


def spoil_a_warm_up_request(version):
    def change(logs):
        log = logs[-1]
        assert log.request.model_spec.signature_name == "explain"
        log.request.inputs.pop("price")

    rewrite(version / "assets.extra" / "tf_serving_warmup_requests", change)


def forget_a_signature(version):
    def change(logs):
        logs[:] = [x for x in logs if x.request.model_spec.signature_name != "rank"]

    rewrite(version / "assets.extra" / "recorded_requests.tfrecord", change)


@pytest.mark.parametrize(
    "damage, message",
    [
        (
            change_a_score,
            r"'serving_default', row 100 of a request of 512: 'probability'"
            r".* its ids give the same",
        ),
        (change_a_weight, "."),
        (cut_the_vocabulary, "field 'user' is encoded in another way: b'u"),
        (remove_the_variables, "variables"),
        (spoil_a_warm_up_request, "price"),
        (forget_a_signature, "signature 'rank' has no recorded request"),
    ],
)
def test_verification_fails_on_a_difference(version, tmp_path, damage, message):
    copy = tmp_path / "1"
    shutil.copytree(version, copy)
    damage(copy)
    with pytest.raises(edcn_tf.InputError, match="failed verification: .*" + message):
        edcn_tf.export.verify_saved_model(copy)


def test_verification_catches_what_only_python_can_load(loaded, version, tmp_path):
    """The usual export of a Keras 3 model: TF Serving cannot serve it."""
    model, spec = loaded
    module = Servable(model, edcn_tf.Encoder(spec), Calibration())
    served = module.served
    del module.model_variables
    module.model = model
    tf.saved_model.save(module, str(tmp_path / "1"), signatures=served)
    shutil.copytree(version / "assets.extra", tmp_path / "1" / "assets.extra")
    python = tf.saved_model.load(str(tmp_path / "1")).signatures["ids"]
    assert python(ids=tf.zeros([1, spec.num_slots], tf.int32))  # Python is content
    with pytest.raises(edcn_tf.InputError, match="failed verification"):
        edcn_tf.export.verify_saved_model(tmp_path / "1")


def test_what_fails_verification_is_not_published(
    loaded, records, tmp_path, monkeypatch
):
    monkeypatch.setattr(verification, "__file__", str(tmp_path / "no_such_file.py"))
    with pytest.raises(edcn_tf.InputError, match="failed verification"):
        edcn_tf.export.export_saved_model(*loaded, tmp_path / "m", records=records)
    assert list((tmp_path / "m").iterdir()) == []


def test_a_directory_without_a_model_is_named(tmp_path):
    with pytest.raises(edcn_tf.InputError, match=r"holds no SavedModel"):
        edcn_tf.export.verify_saved_model(tmp_path)


@pytest.mark.parametrize(
    "name", ["recorded_requests.tfrecord", "tf_serving_warmup_requests"]
)
def test_recorded_requests_whose_lengths_cannot_be(tmp_path, name):
    """No process is given them."""
    (tmp_path / "saved_model.pb").write_bytes(b"")
    (tmp_path / "assets.extra").mkdir()
    (tmp_path / "assets.extra" / name).write_bytes(b"no frame of a record")
    told = f"{tmp_path}/assets.extra/{name}: record 1 is damaged or cut short"
    with pytest.raises(edcn_tf.InputError, match=told):
        edcn_tf.export.verify_saved_model(tmp_path)


def test_a_sample_whose_lengths_cannot_be(tmp_path):
    (tmp_path / "sample.tfrecord").write_bytes(b"no frame of a record")
    with pytest.raises(
        edcn_tf.InputError, match="sample.tfrecord: record 1 is damaged"
    ):
        edcn_tf.export.export_run(tmp_path, tmp_path / "models")


# Version numbers


@pytest.mark.usefixtures("unproven")
def test_versions_count_up_and_are_never_overwritten(loaded, records, tmp_path):
    base = tmp_path / "clicks"
    first = edcn_tf.export.export_saved_model(*loaded, base, version=9)
    before = (first / "saved_model.pb").read_bytes()
    with pytest.raises(edcn_tf.InputError, match="9: exists already"):
        edcn_tf.export.export_saved_model(*loaded, base, version=9)
    assert (first / "saved_model.pb").read_bytes() == before
    second = edcn_tf.export.export_saved_model(*loaded, base, keep=1)
    assert [first.name, second.name] == ["9", "10"]
    assert versions(base) == [10]
    names = {path.name for path in base.iterdir()}  # nothing else is left over
    assert names == {"10", "models.config", "monitoring.config"}


@pytest.mark.usefixtures("unproven")
def test_versions_that_are_served_by_number_are_kept(loaded, records, tmp_path):
    base = tmp_path / "clicks"
    for _ in range(2):
        edcn_tf.export.export_saved_model(*loaded, base)
    config = base / "models.config"
    latest = "model_version_policy { latest { num_versions: 1 } }"
    pinned = "model_version_policy { specific { versions: 2 } }"
    label = 'version_labels { key: "stable" value: 1 }'
    text = config.read_text()
    config.write_text(text.replace(f"    {latest}", f"    {pinned} {label}"))
    edcn_tf.export.export_saved_model(*loaded, base, keep=1)
    edcn_tf.export.export_saved_model(*loaded, base, keep=1)
    assert versions(base) == [1, 2, 4]
    config.write_text(text)
    edcn_tf.export.export_saved_model(*loaded, base, keep=1)
    assert versions(base) == [5]
    config.write_text("model_config_list { config { names: 1 } }")
    with pytest.raises(edcn_tf.InputError, match="models.config: no conf.*Received: "):
        edcn_tf.export.export_saved_model(*loaded, base, keep=1)
    assert versions(base) == [5]


def test_a_version_that_would_be_removed_at_once(loaded, tmp_path):
    for number in (10, 11):
        (tmp_path / str(number)).mkdir()
    with pytest.raises(edcn_tf.InputError, match="version 5 would not be among.*is 11"):
        edcn_tf.export.export_saved_model(*loaded, tmp_path, version=5, keep=2)
    assert versions(tmp_path) == [10, 11]


def test_a_file_has_the_next_number(tmp_path):
    (tmp_path / "1").touch()
    assert publish_version(finished(tmp_path, "a"), tmp_path).name == "2"
    assert versions(tmp_path) == [2]


def finished(folder, name, size=3):
    """A directory as an export leaves it, before it has a number."""
    partial = folder / f".{name}.partial"
    partial.mkdir(parents=True)
    for number in range(size):
        (partial / f"{number}.txt").write_text(name)
    return partial


def test_the_next_number_is_taken_at_the_last_moment(tmp_path):
    first, second = finished(tmp_path, "a"), finished(tmp_path, "b")
    assert publish_version(second, tmp_path).name == "1"
    assert publish_version(first, tmp_path).name == "2"
    with pytest.raises(edcn_tf.InputError, match="2: exists already"):
        publish_version(finished(tmp_path, "c"), tmp_path, 2)
    assert (tmp_path / "2" / "0.txt").read_text() == "a"


def test_the_newest_versions_are_kept_by_number(tmp_path):
    for number in (2, 10, 9, 1):
        publish_version(finished(tmp_path, "x"), tmp_path, number)
    (tmp_path / "notes").mkdir()
    assert keep_newest(tmp_path, 2) == [1, 2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["10", "9", "notes"]


def test_zeros_before_a_number_are_no_other_number(tmp_path):
    """To TF Serving a directory `00000123` is version 123."""
    for name in ("00000123", "7", "00000009"):
        finished(tmp_path, "x").rename(tmp_path / name)
    assert versions(tmp_path) == [7, 9, 123]
    with pytest.raises(edcn_tf.InputError, match="00000123: exists already"):
        publish_version(finished(tmp_path, "y"), tmp_path, 123)
    assert publish_version(tmp_path / ".y.partial", tmp_path).name == "124"
    assert keep_newest(tmp_path, 2) == [7, 9]
    assert {path.name for path in tmp_path.iterdir()} == {"00000123", "124"}


def test_no_version_is_published_into_a_version(loaded, version):
    before = sorted(path.name for path in Path(version).iterdir())
    base = re.escape(str(Path(version).parent))
    with pytest.raises(
        edcn_tf.InputError, match=f"is a version.*give the base directory: {base}$"
    ):
        edcn_tf.export.export_saved_model(*loaded, version)
    assert sorted(path.name for path in Path(version).iterdir()) == before


def publish(name, number, folder, connection):
    """A process that publishes small directories as soon as it is told to."""
    connection.send("ready")
    connection.recv()
    numbers = []
    for count in range(number):
        partial = folder / f".{name}.{count}.partial"
        partial.mkdir()
        for part in range(20):
            (partial / f"{part}.txt").write_text(name * 1000)
        numbers.append(int(publish_version(partial, folder).name))
    connection.send(numbers)


@pytest.fixture
def publishers(tmp_path):
    """Starts such processes: each, and the connection to it."""
    context, processes = multiprocessing.get_context("forkserver"), []

    def start(name, number):
        here, there = context.Pipe()
        process = context.Process(target=publish, args=(name, number, tmp_path, there))
        process.start()
        there.close()
        processes.append(process)
        assert here.recv() == "ready"
        return process, here

    yield start
    for process in processes:
        process.kill()
        process.join()


def test_exporters_at_once_get_different_versions(tmp_path, publishers):
    both = [publishers("a", 40), publishers("b", 40)]
    for _, connection in both:
        connection.send("go")
    numbers = [number for _, connection in both for number in connection.recv()]
    assert sorted(numbers) == list(range(1, 81))
    for number in numbers:
        texts = {p.read_text() for p in (tmp_path / str(number)).iterdir()}
        assert len(texts) == 1  # of one exporter, whole


def test_an_exporter_that_is_killed_leaves_no_half_version(tmp_path, publishers):
    """Killed at some moment; a reader sees nothing but whole versions all the time."""
    process, connection = publishers("a", 10_000)
    connection.send("go")
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        for number in versions(tmp_path)[-3:]:
            assert len(list((tmp_path / str(number)).iterdir())) == 20
    process.kill()
    process.join()
    published = versions(tmp_path)
    assert len(published) > 3
    for number in published:
        assert len(list((tmp_path / str(number)).iterdir())) == 20
    # Another exporter goes on after it.
    name = publish_version(finished(tmp_path, "later"), tmp_path).name
    assert int(name) == published[-1] + 1


def test_a_killed_export_publishes_nothing(run, tmp_path):
    base = tmp_path / "m"
    command = "import sys, edcn_tf; edcn_tf.export.export_run(*sys.argv[1:])"
    process = subprocess.Popen([sys.executable, "-c", command, str(run), str(base)])
    until = time.monotonic() + 120
    while not list(base.glob(".next.*.partial/assets.extra/*")):  # written, not proven
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert versions(base) == []
    assert all(path.name.startswith(".next.") for path in base.iterdir())
