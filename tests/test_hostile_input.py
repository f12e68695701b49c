"""Files are data: nothing in them is run, and none leads to another by a path."""

import ast
import json
import os
import pathlib
import shutil
import zipfile

import h5py
import keras
import pytest
import yaml

import edcn_tf
from edcn_tf.errors import InputError
from edcn_tf.evaluation.scoring import load_run
from edcn_tf.tuning.search_space import load_space

ROOT = pathlib.Path(edcn_tf.__file__).parent.parent


@pytest.fixture
def copy(run, tmp_path):
    """A run of one's own."""
    shutil.copytree(run, tmp_path / "run")
    return tmp_path / "run"


def one_line(caught):
    assert "\n" not in str(caught.value)
    return str(caught.value)


# The library's own code


def calls():
    """Each call in the library: file, dotted name, and the names of its arguments."""
    for folder in ("edcn_tf", "export", "tuning"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call):
                    keywords = {word.arg for word in node.keywords}
                    yield path.name, ast.unparse(node.func), node, keywords


def test_nothing_in_the_library_runs_what_it_reads():
    found = list(calls())
    assert len(found) > 1000
    refused = {
        *("eval", "exec", "compile", "__import__", "os.system", "os.popen"),
        *("pickle.load", "pickle.loads", "marshal.loads", "dill.load", "dill.loads"),
        *("yaml.unsafe_load", "yaml.full_load", "keras.saving.load_model"),
        "keras.config.enable_unsafe_deserialization",
        *("archive.extractall", "tarfile.open", "shutil.unpack_archive"),
    }
    assert not {(file, name) for file, name, _, _ in found if name in refused}
    loads = [node for _, name, node, _ in found if name == "yaml.load"]
    assert [ast.unparse(node.args[1]) for node in loads] == ["_Loader"]
    for _, name, node, keywords in found:
        assert "allow_pickle" not in keywords and "shell" not in keywords, name
        if name.endswith("deserialize_keras_object"):
            safe = [k.value.value for k in node.keywords if k.arg == "safe_mode"]
            assert safe in ([], [True])  # true by default too


def test_an_error_is_one_line_of_what_can_be_shown():
    told = str(InputError("a\nb\x1b[31m\u2028\ud800 é " + "x" * 10**6 + " end"))
    assert told.startswith(r"a\nb\x1b[31m\u2028\ud800 é xxx") and told.endswith("x end")
    assert len(told) < 2100 and told.isprintable()


# YAML


@pytest.mark.parametrize("load", [edcn_tf.TrainingConfig.load, load_space])
@pytest.mark.parametrize(
    "text",
    [
        "seed: !!python/object/apply:os.system ['touch {made}']\n",
        "seed: !!python/object/new:os.system ['touch {made}']\n",
        "seed: !!python/name:os.system\n",
        "!!python/object/apply:os.system ['touch {made}']\n",
    ],
)
def test_yaml_makes_no_objects(tmp_path, load, text):
    made, path = tmp_path / "made", tmp_path / "file.yaml"
    path.write_text(text.format(made=made))
    with pytest.raises(InputError, match=f"{path}: is not YAML") as caught:
        load(path)
    one_line(caught)
    assert not made.exists()


@pytest.mark.parametrize("load", [edcn_tf.TrainingConfig.load, load_space])
@pytest.mark.parametrize(
    "text, told",
    [
        ("seed: &a [*a]\n", "in place of"),
        ("a: &a [1, 1]\nb: &b [*a, *a]\nbridge: [*b, *b]\n", "in place of"),
        ("bridge: " + "[" * 5000 + "]" * 5000, "is not YAML"),
        ("bridge: " + "9" * 5000, "is not YAML"),
        ("bridge: 2001-99-99", "is not YAML"),
        ("1: 2\n", "KEY: VALUE"),
        ("bridge: [" + "hadamard, " * 200_000 + "]", "larger than"),
    ],
    ids=lambda value: value[:20],
)
def test_yaml_that_asks_for_too_much(tmp_path, load, text, told):
    path = tmp_path / "file.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=told) as caught:
        load(path)
    assert one_line(caught).startswith(f"{path}: ")


@pytest.mark.parametrize("layers", [1001, 10**10, 10**400])
def test_more_layers_than_memory_holds(loaded, layers):
    config = edcn_tf.TrainingConfig.from_dict({"num_layers": layers})
    with pytest.raises(InputError, match="`num_layers` must be at most 1000") as caught:
        config.build(loaded[1])
    one_line(caught)


def test_a_run_s_own_yaml_is_read_again(run):
    values = edcn_tf.TrainingConfig.load(run / "config.yaml").to_dict()
    assert values == yaml.safe_load((run / "config.yaml").read_text())


# Model files


def rewritten(run, change, compression=zipfile.ZIP_STORED):
    """Its model file with another `config.json`, and what else `change` adds."""
    path = run / "model.keras"
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(entries["config.json"])
    config = change(config, entries) or config
    if "config.json" in entries:
        entries["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def named(module, name, config=None, registered=None):
    return {
        "module": module,
        "class_name": name,
        "config": {} if config is None else config,
        "registered_name": registered,
    }


def as_gate(gate):
    def change(config, entries):
        config["config"]["gate"] = gate

    return change


LAMBDA = {"class_name": "__lambda__", "config": {"value": "4wAAAA=="}}
REFUSED = {
    "Lambda": named("keras.layers", "Lambda", {"function": LAMBDA}),
    "code": named("builtins", "__lambda__", {"value": "4wAAAA=="}),
    "os.system": named("os", "system"),
    "a function": named("os", "function", "system", "function"),
    "subprocess": named("subprocess", "Popen", {"args": ["true"]}),
    "a module that is not there": named("evil", "Gate"),
    "a module of this library": named("edcn_tf.files", "replaced"),
    "unsafe mode": named("keras.config", "function", "enable_unsafe_deserialization"),
    "a download": named("keras.utils", "get_file", {"origin": "http://127.0.0.1:9/"}),
    "a SavedModel": named("keras.layers", "TFSMLayer", {"filepath": "/tmp"}),
    "a file": named("keras.layers", "StringLookup", {"vocabulary": "/etc/passwd"}),
    "a type": {**named("os", "__typespec__"), "spec_name": "system"},
    "under a name of ours": named("os", "system", {}, "edcn_tf>FieldGate"),
    "not registered": named("mine", "Gate", {}, "mine>Gate"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_model_file_that_names_code(copy, what, monkeypatch):
    def ran(*_, **__):
        raise SystemExit("it ran")

    monkeypatch.setattr(os, "system", ran)
    monkeypatch.setattr("subprocess.Popen", ran)
    for change in (
        as_gate(REFUSED[what]),
        as_gate([{"deep": [REFUSED[what]]}]),
        lambda config, entries: REFUSED[what],
    ):
        rewritten(copy, change)
        with pytest.raises(InputError) as caught:
            load_run(copy)
        told = one_line(caught)
        assert told.startswith(f"{copy}/model.keras: cannot be loaded as a model (it n")
        assert f"{REFUSED[what]['module']}.{REFUSED[what]['class_name']}" in told


def test_what_a_file_says_of_compilation_is_not_read(copy):
    def change(config, entries):
        config["compile_config"] = {"optimizer": 3}
        config["build_config"] = {"input_shape": "none"}

    rewritten(copy, change)
    load_run(copy)


def test_a_model_of_other_features(copy):
    def change(config, entries):
        config["config"]["spec"]["num_rows"] = 10**12

    rewritten(copy, change)
    with pytest.raises(InputError, match="was made for other features"):
        load_run(copy)


@pytest.mark.parametrize("width", [10**6, 10**9, 10**15])
def test_a_table_that_is_larger_than_the_file(copy, width):
    def change(config, entries):
        config["config"]["embedding_dim"] = width

    rewritten(copy, change)
    with pytest.raises(InputError, match="fewer weights than its table needs"):
        load_run(copy)


def test_another_class_of_keras(copy):
    rewritten(
        copy, lambda config, entries: named("keras.layers", "Dense", {"units": 1})
    )
    with pytest.raises(InputError, match="holds a Dense, no model of edcn_tf"):
        load_run(copy)


def test_a_layer_that_is_registered_is_loaded(run, copy):
    @keras.saving.register_keras_serializable("hostile_test", name="twice")
    class Twice(keras.layers.Layer):
        def call(self, x):
            return 2 * x

    model, _ = load_run(run)
    config = {**model.get_config(), "gate": Twice()}
    model = type(model).from_config(config)
    model.build((None, model.embedding.num_slots))
    model.save(copy / "model.keras")
    loaded, _ = load_run(copy)
    assert any(isinstance(gate, Twice) for gate in loaded.deep_gates)


def test_entries_that_lead_elsewhere(copy, tmp_path):
    """Only two are read, by their names."""

    def change(config, entries):
        entries["../../outside"] = b"written"
        entries[f"{tmp_path}/absolute"] = b"written"

    rewritten(copy, change)
    load_run(copy)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert not (tmp_path.parent / "outside").exists()


def test_little_that_becomes_much(copy):
    rewritten(copy, lambda config, entries: None, zipfile.ZIP_DEFLATED)
    with pytest.raises(InputError, match="model.weights.h5 is compressed"):
        load_run(copy)

    def change(config, entries):
        config["config"]["name"] = "x" * (1 << 25)

    rewritten(copy, change, zipfile.ZIP_DEFLATED)
    with pytest.raises(InputError, match="config.json is larger than"):
        load_run(copy)


@pytest.mark.parametrize("how", ["external link", "soft link", "external data"])
def test_weights_that_lie_elsewhere(copy, tmp_path, how):
    """HDF5 can name other files; what they hold would become weights."""
    with zipfile.ZipFile(copy / "model.keras") as archive:
        archive.extract("model.weights.h5", tmp_path)
    weights = tmp_path / "model.weights.h5"
    shutil.copy(weights, tmp_path / "secret.h5")
    with h5py.File(weights, "a") as file:
        found = []
        file.visititems(
            lambda name, item: (
                found.append(name) if isinstance(item, h5py.Dataset) else None
            )
        )
        shape, dtype = file[found[0]].shape, file[found[0]].dtype
        del file[found[0]]
        if how == "external link":
            file[found[0]] = h5py.ExternalLink(str(tmp_path / "secret.h5"), found[0])
        elif how == "soft link":
            file[found[0]] = h5py.SoftLink("/nowhere")
        else:
            external = [(str(tmp_path / "secret.h5"), 0, h5py.h5f.UNLIMITED)]
            file.create_dataset(found[0], shape, dtype, external=external)
    rewritten(
        copy, lambda _, entries: entries.update({weights.name: weights.read_bytes()})
    )
    with pytest.raises(InputError, match="cannot be loaded as a model"):
        load_run(copy)


# Paths in files


def features(copy, change):
    path = copy / "features" / "features.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


@pytest.mark.parametrize("key", ["vocabulary", "counts"])
@pytest.mark.parametrize(
    "name", ["../secret.txt", "{tmp}/secret.txt", "vocabulary/../../secret.txt", "link"]
)
def test_a_feature_spec_leads_nowhere_else(copy, tmp_path, key, name):
    (tmp_path / "secret.txt").write_text("secret\n" * 5)
    shutil.copy(tmp_path / "secret.txt", copy / "secret.txt")
    (copy / "features" / "link").symlink_to(tmp_path / "secret.txt")
    name = name.format(tmp=tmp_path)
    features(copy, lambda config: config["fields"][0].update({key: name}))
    with pytest.raises(InputError, match="leads out of its directory") as caught:
        edcn_tf.FeatureSpec.load(copy / "features")
    one_line(caught)


def test_a_feature_spec_that_would_wait(copy):
    os.mkfifo(copy / "features" / "pipe")
    features(copy, lambda config: config["fields"][0].update(counts="pipe"))
    with pytest.raises(InputError, match="pipe: is no file"):
        edcn_tf.FeatureSpec.load(copy / "features")


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/b", "a\0b", "x" * 1000, ""])
def test_the_name_of_a_field_is_no_path(name):
    with pytest.raises(InputError, match="must be letters, digits and _") as caught:
        edcn_tf.Schema.from_dict({"label": "click", "fields": [{"name": name}]})
    one_line(caught)


@pytest.mark.parametrize(
    "settings, told",
    [
        ({"pretrained": {"country": "/etc/passwd"}}, "must be named .csv"),
        ({"pretrained": {"../country": "x.csv"}}, "There is no field"),
        ({"pretrained": {"country": "http://127.0.0.1:9/x.csv"}}, "cannot be read"),
        ({"pretrained": {"country": "s3://bucket/x.csv"}}, "cannot be read"),
        ({"pretrained": {"country": "gs://bucket/x.parquet"}}, "cannot be read"),
    ],
)
def test_what_pretrained_may_name(run, tmp_path, settings, told):
    """A file that the setting names is read as a table of numbers, and only so."""
    config = edcn_tf.TrainingConfig.from_dict({"embedding_dim": 4, **settings})
    with pytest.raises(InputError, match=told):
        edcn_tf.train(run.parent / "data", tmp_path / "new", config)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("content", ["{}", "[]", "5", '{"data": 5}', "nonsense", ""])
def test_a_run_s_result_that_says_nothing(copy, content):
    from edcn_tf.evaluation.calibration_fitting import calibrate_run
    from edcn_tf.report.page import write_report

    (copy / "result.json").write_text(content)
    for command in (calibrate_run, write_report):
        with pytest.raises(InputError) as caught:
            command(copy)
        assert str(copy) in one_line(caught) or one_line(caught).startswith("5/")


def test_what_a_report_shows_is_text(copy):
    from edcn_tf.report.page import write_report

    hostile = "<script>alert(1)</script>"
    config = copy / "config.yaml"
    config.write_text(config.read_text() + f"# {hostile}\n")
    renamed = copy.parent / hostile.replace("/", "_")
    copy.rename(renamed)
    page = pathlib.Path(write_report(renamed)).read_text()
    assert "<script>" not in page
