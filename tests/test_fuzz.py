"""Anything at all in place of an input: a result, or an error of one line.

By default the same few thousand cases each time; `pytest -m slow` runs many more, new
ones each time. `pytest -s` tells how many cases each test ran.
"""

import collections
import contextlib
import copy as copies
import faulthandler
import json
import resource
import shutil
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import edcn_tf
from edcn_tf.errors import InputError
from edcn_tf.evaluation.scoring import load_run
from edcn_tf.features.encoder import Encoder
from edcn_tf.logs.reading import read_log
from edcn_tf.models import combinations
from edcn_tf.records.checking import _Fits, check_records
from edcn_tf.records.reading import reading
from edcn_tf.records.writing import serialize_examples
from edcn_tf.training.checkpoints.checkpoint import restore_checkpoint, save_checkpoint
from edcn_tf.training.checkpoints.state import TrainingState
from edcn_tf.training.compiling import compiled_model
from edcn_tf.tuning.search_space import SPACES, SearchSpace, load_space

MORE = 25  # times as many cases, of the slow tests
SECONDS = 120  # for one case, on a busy machine
MEMORY = 1024  # MiB that all may add
RAN, ERRORS, ADDED = (collections.Counter() for _ in range(3))

runs = pytest.mark.parametrize("times", [1, pytest.param(MORE, marks=pytest.mark.slow)])


def cases(number, times, *strategies):
    """Runs the decorated function on so many cases."""

    def run(body):
        before = peak()

        def watched(case):
            RAN[body.__name__] += 1
            faulthandler.dump_traceback_later(SECONDS, exit=True)
            try:
                body(*case)
            finally:
                faulthandler.cancel_dump_traceback_later()

        watched = given(st.tuples(*strategies))(watched)
        settings(
            max_examples=number * times,
            derandomize=times == 1,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )(watched)()
        ADDED[body.__name__] = peak() - before

    return run


def peak():
    """Most MiB that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


@pytest.fixture(scope="module", autouse=True)
def memory():
    """All cases together may not hold on to memory."""
    yield
    for name, number in RAN.items():
        print(f"\n{name}: {number:,} cases, {ERRORS[name]:,} errors", end="")
        print(f", {ADDED[name]:,} MiB more", end="")
    print(f"\n{sum(RAN.values()):,} cases, {sum(ADDED.values()):,} MiB more")
    assert sum(ADDED.values()) < MEMORY


@contextlib.contextmanager
def one_line():
    """What is wrong is told in one line."""
    try:
        yield
    except InputError as error:
        ERRORS[list(RAN)[-1]] += 1
        told = str(error)
        assert told and len(told.splitlines()) == 1, told
        assert len(told) < 3_000


# What is put in place of things

junk = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([-1, 0, 2**31, 2**63, 2**64, 10**30, 10**400]),
    st.floats(),
    st.text(max_size=9),
    st.sampled_from(
        ["", "\n", "a\nb", "\0", "\ud800", "../x", "/dev/zero", "x" * 2000]
    ),
)
trees = st.recursive(
    junk,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@st.composite
def changed_bytes(draw, content):
    """Cut short, with bytes changed, put in, left out, or doubled."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        end = min(len(data), at + draw(st.integers(1, 20)))
        how = draw(st.sampled_from(["cut", "change", "insert", "remove", "double"]))
        if how == "cut":
            del data[at:]
        elif how == "remove":
            del data[at:end]
        elif how == "double":
            data[at:at] = data[at:end]
        else:
            piece = draw(st.binary(min_size=1, max_size=4))
            data[at : at + len(piece) * (how == "change")] = piece
    return bytes(data)


def places(tree, path=()):
    yield path
    items = tree.items() if isinstance(tree, dict) else ()
    items = enumerate(tree) if isinstance(tree, list) else items
    for key, value in items:
        yield from places(value, (*path, key))


@st.composite
def changed_tree(draw, tree):
    """With something else in some places; or a key more, or one less."""
    tree = copies.deepcopy(tree)
    for _ in range(draw(st.integers(1, 2))):
        *path, last = draw(st.sampled_from([p for p in places(tree) if p] or [(None,)]))
        if last is None:
            return draw(trees)
        inner = tree
        for key in path:
            inner = inner[key]
        how = draw(st.sampled_from(["change", "change", "remove", "add"]))
        if how == "remove":
            del inner[last]
        elif how == "add" and isinstance(inner, dict):
            inner[draw(st.text(max_size=5) | st.sampled_from(KEYS))] = draw(trees)
        else:
            inner[last] = draw(trees)
    return tree


KEYS = (
    "name",
    "kind",
    "dtype",
    "hash_buckets",
    "choice",
    "when",
    "low",
    "log",
    "model",
    "of",
    "along",
)


def as_json(tree):
    return st.just(json.dumps(tree).encode())


def changed_json(tree):
    return changed_bytes(json.dumps(tree).encode()) | changed_tree(tree).flatmap(
        as_json
    )


def as_yaml(tree):
    return st.just(yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "replace"))


def changed_yaml(tree):
    return changed_bytes(yaml.safe_dump(tree).encode()) | changed_tree(tree).flatmap(
        as_yaml
    )


# Descriptions

HISTORY = edcn_tf.Schema.from_dict(
    {
        "label": "click",
        "fields": [
            {"name": "item", "unseen_rows": 2},
            {"name": "past", "kind": "sequence", "of": "item", "max_length": 3},
            {"name": "since", "kind": "sequence", "buckets": 4, "along": "past"},
            {"name": "words", "kind": "sequence", "dtype": "int64"},
        ],
    }
)


@pytest.fixture(scope="module")
def of_histories(tmp_path_factory):
    """The directory of a FeatureSpec with sequences."""
    folder = tmp_path_factory.mktemp("histories")
    lines = ["click,item,past,since,words"]
    lines += [f"{i % 2},c{i % 7},c{i % 3}|c1,{i}|1,{i % 5}|3" for i in range(60)]
    (folder / "log.csv").write_text("\n".join(lines) + "\n")
    edcn_tf.prepare(folder / "log.csv", HISTORY, folder / "data")
    return folder / "data/features"


@runs
def test_schema_files(tmp_path, loaded, times):
    schema, path = loaded[1].schema.to_dict(), tmp_path / "schema.json"
    histories = changed_json(HISTORY.to_dict())

    @cases(1500, times, changed_json(schema) | histories | st.binary(max_size=50))
    def schema_files(content):
        path.write_bytes(content)
        with one_line():
            read = edcn_tf.Schema.load(path)
            assert edcn_tf.Schema.from_dict(read.to_dict()) == read


@runs
def test_config_files(tmp_path, run, loaded, times):
    layout, path = loaded[1].layout(), tmp_path / "config.yaml"
    whole = yaml.safe_load((run / "config.yaml").read_text())

    @cases(1000, times, changed_yaml(whole) | st.binary(max_size=50))
    def config_files(content):
        path.write_bytes(content)
        with one_line():
            config = edcn_tf.TrainingConfig.load(path)
            assert edcn_tf.TrainingConfig.from_dict(config.to_dict()) == config
            with contextlib.suppress(ValueError):  # which `build` turns into one
                combinations.check(config.options, layout)


@runs
def test_settings(times):
    keys = st.sampled_from(list(edcn_tf.TrainingConfig.from_dict({}).to_dict()))

    @cases(500, times, keys | st.text(max_size=5), st.text(max_size=20))
    def a_setting(key, value):
        with one_line():
            edcn_tf.TrainingConfig.load(None, [f"{key}={value}"])


@runs
def test_search_spaces(tmp_path, loaded, times):
    path = tmp_path / "space.yaml"
    whole = load_space(SPACES[0])

    @cases(300, times, changed_yaml(whole) | st.binary(max_size=50))
    def search_spaces(content):
        path.write_bytes(content)
        with one_line():
            SearchSpace(loaded[1], path).defaults()


VALUES = {
    "string": ["", "c1", "\0", "ü" * 50],
    "int64": [-(2**63), -1, 3, 2**63 - 1],
    "float32": [float("nan"), float("inf"), -1e30, 0.5],
}


@pytest.mark.parametrize("kind", ["every kind", "histories"])
@runs
def test_feature_specs(tmp_path, run, of_histories, times, kind):
    whole = of_histories if kind == "histories" else run / "features"
    shutil.copytree(whole, tmp_path / "features")
    files = sorted(p for p in (tmp_path / "features").rglob("*") if p.is_file())
    whole = {path: path.read_bytes() for path in files}
    [features] = [path for path in files if path.suffix == ".json"]
    change = st.sampled_from(files).flatmap(
        lambda path: st.tuples(st.just(path), changed_bytes(whole[path]))
    ) | st.tuples(st.just(features), changed_json(json.loads(whole[features])))

    @cases(200, times, change)
    def feature_specs(change):
        path, content = change
        path.write_bytes(content)
        try:
            with one_line():
                spec = edcn_tf.FeatureSpec.load(tmp_path / "features")
                spec.row_counts()
                rows = {
                    field.name: [[v] for v in VALUES[field.dtype]]
                    if field.is_list
                    else VALUES[field.dtype]
                    for field in spec.schema.fields
                }
                tensors = {
                    name: tf.constant(rows[name], tensor.dtype)
                    for name, tensor in Encoder(spec).signature().items()
                }
                if spec.num_slots < 1000:
                    ids = Encoder(spec)(tensors).numpy()
                    assert ((ids >= 0) & (ids < spec.num_rows)).all()
                for field in spec.fields:
                    assert len(field.row_names()) == field.rows
        finally:
            path.write_bytes(whole[path])


# Logs

cells = st.one_of(
    st.sampled_from(
        ["", "0", "1", "u1", "a|b", "1.5", '"', '""', '"a,b"', "NaN", "1e99"]
    ),
    st.sampled_from(
        ["\r", '"\n', "\0", "\ufeff", "-0", "9" * 30, "x" * 5000, "||||", "é"]
    ),
    st.text(max_size=6),
)
lines = st.lists(cells, min_size=0, max_size=9).map(",".join)


@st.composite
def logs(draw, columns):
    header = draw(
        st.just(",".join(columns))
        | st.permutations(columns).map(",".join)
        | st.lists(st.sampled_from(columns) | cells, max_size=12).map(",".join)
    )
    good = "1,u1,30,c1,a|b,1.5,d1,3"
    rows = draw(st.lists(st.just(good) | lines, max_size=6))
    end = draw(st.sampled_from(["\n", "\r\n", "\r", "\n\n"]))
    coding = draw(st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1"]))
    content = end.join([header, *rows, ""]).encode(coding, "replace")
    return draw(st.just(content) | changed_bytes(content))


@runs
def test_logs(tmp_path, loaded, times):
    schema, spec = loaded[1].schema, loaded[1]
    columns = ["click", "user", "age", "country", "tags", "price", "device_id", "site"]
    fits = _Fits(spec, True)

    @cases(800, times, logs(columns), st.sampled_from(["csv", "tsv", "parquet"]))
    def rows_of_logs(content, form):
        if form == "tsv":
            content = content.replace(b",", b"\t")
        (tmp_path / f"log.{form}").write_bytes(content)
        with one_line():
            for batch in read_log([tmp_path / f"log.{form}"], schema):
                # What is read becomes records that can be read.
                assert not any(fits.reasons(serialize_examples(batch)))


# Records

features = st.one_of(
    st.builds(
        lambda v: tf.train.Feature(bytes_list={"value": v}),
        st.lists(st.binary(max_size=9), max_size=3),
    ),
    st.builds(
        lambda v: tf.train.Feature(int64_list={"value": v}),
        st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 1), max_size=3),
    ),
    st.builds(
        lambda v: tf.train.Feature(float_list={"value": v}),
        st.lists(st.floats(width=32), max_size=3),
    ),
    st.just(tf.train.Feature()),
)


@st.composite
def examples(draw, record, names):
    """A good row's tf.Example with some features changed; then some of its bytes."""
    example = tf.train.Example.FromString(record)
    changes = st.dictionaries(st.sampled_from(names) | st.text(max_size=4), features)
    for name, feature in draw(changes).items():
        example.features.feature[name].CopyFrom(feature)
    content = example.SerializeToString()
    return draw(st.just(content) | changed_bytes(content) | st.binary(max_size=40))


@runs
def test_records(loaded, records, session, times):
    """In training and in requests; those around it stay what they are."""
    spec, good = loaded[1], records[0]
    fits = _Fits(spec, True)
    names = spec.schema.columns

    @cases(1000, times, examples(good, names))
    def records_in_batches(record):
        before, reason, after = fits.reasons([good, record, good])
        assert before is None and after is None
        assert reason is None or len(reason.splitlines()) == 1
        inputs = {"inputs": np.array([good, record], object)}
        try:
            scores = session.run("examples", inputs)["probability"]
            assert ((scores >= 0) & (scores <= 1)).all()
        except RuntimeError:
            assert reason is not None  # what can be trained on can be served


@runs
def test_record_files(tmp_path, loaded, records, times):
    spec, path = loaded[1], tmp_path / "t.tfrecord"
    encoder = Encoder(spec)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records[:30]:
            writer.write(record)
    whole = path.read_bytes()

    @cases(60, times, changed_bytes(whole) | st.binary(max_size=60))
    def record_files(content):
        path.write_bytes(content)
        with one_line():
            found = check_records([str(path)], spec, allowed=1000)
            kept = [r.numpy() for r in tf.data.TFRecordDataset(found.files)]
            assert len(kept) == found.rows and set(kept) <= {*records}
        with one_line(), reading(str(path), spec):
            options = {"group": True, "encoder": encoder}
            list(edcn_tf.read_records(str(path), spec, 16, **options))


@runs
def test_logs_of_records(tmp_path, loaded, records, times):
    spec, good = loaded[1], records[0]
    fits, path = _Fits(spec, True), tmp_path / "log.tfrecord"

    @cases(300, times, st.lists(examples(good, spec.schema.columns), max_size=4))
    def rows_of_records(rows):
        with tf.io.TFRecordWriter(str(path)) as writer:
            for record in [*rows, good, good]:
                writer.write(record)
        with one_line():
            batches = list(read_log([path], spec.schema))
            assert sum(batch.num_rows for batch in batches) == len(rows) + 2
            for batch in batches:
                assert not any(fits.reasons(serialize_examples(batch)))


# Requests

arrays = st.one_of(
    st.lists(st.binary(max_size=9), max_size=3).map(lambda v: np.array(v, object)),
    st.lists(st.text(max_size=5), max_size=3).map(lambda v: np.array(v, object)),
    st.builds(
        lambda shape, value: np.full(shape, *value),
        st.lists(st.integers(0, 4), max_size=4),
        st.sampled_from([(0,), (2**31, "int64"), (-1, "int32"), (1, "int8"), (7.5,)])
        | st.sampled_from([(True,), (float("nan"), "float32"), ("a",), (b"a", "O")]),
    ),
    trees,
)


def fitting(dtype, shape, size):
    """An array that a signature takes, mostly of one size."""
    if np.dtype(dtype).kind == "O":
        values = st.sampled_from([b"", b"c1", b"u3", b"\xff\0", b"x" * 300])
    elif np.dtype(dtype).kind == "f":
        values = st.floats(width=32)
    else:
        bits = np.iinfo(dtype)
        values = st.integers(bits.min, bits.max) | st.integers(0, 200)

    def of_shape(sizes):
        count = int(np.prod(sizes))
        return st.lists(values, min_size=count, max_size=count).map(
            lambda flat: (
                np.array([*flat, None], object)[:-1].astype(dtype).reshape(sizes)
            )
        )

    others = st.sampled_from([size] * 30 + [0, 1, 3])
    sizes = [st.just(n) if n else others for n in shape]
    return st.tuples(*sizes).flatmap(of_shape)


@st.composite
def requests(draw, signatures):
    name = draw(st.sampled_from(sorted(signatures)))
    size = draw(st.integers(0, 4))
    inputs = {
        key: draw(fitting(dtype, shape, size))
        for key, (_, dtype, shape) in signatures[name]["inputs"].items()
    }
    for _ in range(draw(st.integers(0, 2))):
        how = draw(st.sampled_from(["change", "remove", "add"]))
        key = draw(st.sampled_from(sorted(inputs) or ["inputs"]))
        if how == "remove":
            inputs.pop(key, None)
        else:
            inputs[key if how == "change" else draw(st.text(max_size=3))] = draw(arrays)
    return draw(st.just(name) | st.text(max_size=3)), inputs


@runs
def test_requests(session, times):
    answered = collections.Counter()

    @cases(1000, times, requests(session.signatures))
    def requests_to_a_model(request):
        with np.errstate(all="ignore"), contextlib.suppress(ValueError, RuntimeError):
            outputs = session.run(*request)
            answered[request[0]] += 1
            if "probability" in outputs:
                scores = outputs["probability"]
                assert ((scores >= 0) & (scores <= 1)).all()

    assert set(answered) == set(session.signatures)  # each also gave a result


# Runs


@runs
def test_model_files(tmp_path, run, times):
    shutil.copytree(run, tmp_path / "run")
    path = tmp_path / "run" / "model.keras"
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(entries["config.json"])

    def packed(name):
        def pack(content):
            with zipfile.ZipFile(path, "w") as archive:
                for key, value in {**entries, name: content}.items():
                    archive.writestr(key, value)
            return path.read_bytes()

        return pack

    weights = changed_bytes(entries["model.weights.h5"])
    change = st.one_of(
        changed_bytes(whole),
        weights.map(packed("model.weights.h5")),
        changed_json(config).map(packed("config.json")),
        changed_json(config).map(packed("config.json")),
    )

    @cases(300, times, change)
    def model_files(content):
        path.write_bytes(content)
        with one_line():
            load_run(tmp_path / "run")
        if RAN["model_files"] % 50 == 0:  # Keras holds 0.2 MiB of each model until then
            keras.backend.clear_session()


@runs
def test_checkpoints(tmp_path, run, loaded, times):
    config = edcn_tf.TrainingConfig.load(run / "config.yaml")
    model = compiled_model(config, loaded[1])
    model.optimizer.build(model.trainable_variables)
    state = TrainingState(rows=700, epoch=3)
    save_checkpoint(tmp_path, model, state)
    [folder] = (tmp_path / "checkpoints").iterdir()
    assert restore_checkpoint(folder, model) == state
    whole = {path: path.read_bytes() for path in folder.iterdir()}
    change = st.sampled_from(sorted(whole)).flatmap(
        lambda path: st.tuples(st.just(path), changed_bytes(whole[path]))
    ) | st.tuples(st.just(folder / "state.json"), changed_json(state.to_json()))

    @cases(300, times, change)
    def checkpoints(change):
        path, content = change
        path.write_bytes(content)
        try:
            with one_line():
                assert restore_checkpoint(folder, model).epoch == 3
        finally:
            path.write_bytes(whole[path])
