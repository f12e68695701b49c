"""A run that starts from an earlier one, on a vocabulary that has grown."""

import json
import shutil
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
import tensorflow as tf
import yaml

import edcn_tf
from edcn import main
from edcn_tf import FeatureSpec, InputError, Schema
from edcn_tf.evaluation.scoring import load_run
from edcn_tf.features.encoder import TF_DTYPES, Encoder
from edcn_tf.features.hashing import hash_bucket
from edcn_tf.layers import large_table
from edcn_tf.training.checkpoints.checkpoint import restore_checkpoint
from edcn_tf.training.compiling import compiled_model
from edcn_tf.training.continued_config import continued_config
from edcn_tf.training.moved_rows import row_sources
from edcn_tf.training.run_start import set_starting_values
from edcn_tf.training.warm_start import start_from

FIELDS = [
    {"name": "user", "min_count": 1},
    {"name": "item", "min_count": 1, "unseen_rows": 3},
    {"name": "tags", "multiple": True, "max_length": 3, "min_count": 1},
    {"name": "site", "dtype": "int64", "min_count": 1},
    {"name": "device", "hash_buckets": 4},
    {"name": "price", "kind": "numeric", "buckets": 4},
]
MODELS = {
    "edcn": {"linear": True, "gate_batch_norm": "feature", "l2": 1.0},
    "logistic_regression": {"model": "logistic_regression"},
    "widths": {"embedding_dim": {"user": 4, "item": 2, "tags": 4, "site": 3}},
    "adam": {"model": "deepfm", "optimizer": "adam", "embedding_dim": 3},
}
MODELS["widths"]["embedding_dim"] |= {"device": 2, "price": 4}
SLOTS = ("_momentums", "_velocities", "_averages", "_averaged_at")


def columns_of(users, items, sites, rows=400, seed=0):
    random = np.random.default_rng(seed)
    return {
        "user": random.choice(users, rows).tolist(),
        "item": random.choice(items, rows).tolist(),
        "tags": ["|".join(random.choice(list("abc"), i % 4)) for i in range(rows)],
        "site": random.choice(sites, rows).tolist(),
        "device": [f"d{i % 9}" for i in range(rows)],
        "price": [None if i % 11 == 0 else i % 40 / 4 for i in range(rows)],
        "click": random.integers(0, 2, rows).tolist(),
    }


def prepared(folder, columns, fields=FIELDS, **options):
    folder.parent.mkdir(exist_ok=True)
    log = folder.with_suffix(".csv")
    pa.csv.write_csv(pa.table(columns), log)
    schema = Schema.from_dict({"label": "click", "fields": fields})
    edcn_tf.prepare(log, schema, folder, **options)
    return folder


def config(name="edcn", **settings):
    small = {"epochs": 2, "batch_size": 64, "patience": 9}
    if name != "logistic_regression":
        small["embedding_dim"] = 4
    return edcn_tf.TrainingConfig.from_dict({**small, **MODELS[name], **settings})


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """Prepared data of a day, and a run for each of the models, once asked for."""
    folder = tmp_path_factory.mktemp("first")
    users, items = [f"u{i}" for i in range(9)], [f"i{i}" for i in range(7)]
    prepared(folder / "data", columns_of(users, items, [1, 2, 3]))
    return folder


@pytest.fixture(scope="module")
def run_of(first):
    def run(name):
        path = first / name
        if not path.exists():
            edcn_tf.train(first / "data", path, config(name))
        return path

    return run


@pytest.fixture(scope="module")
def second(first, tmp_path_factory):
    """A day with some values of the first and some new ones; it forgets the others."""
    folder = tmp_path_factory.mktemp("second")
    users, items = ["u8", "u3", "new", "u5"], ["i6", "i1", *(f"n{i}" for i in range(6))]
    columns = columns_of(users, items, [3, 99], seed=1)
    return prepared(
        folder / "data", columns, vocabulary_of=first / "data", forget_after=1
    )


def started(run, data, settings=()):
    """A model that starts from a run, and its FeatureSpec."""
    spec = FeatureSpec.load(data / "features")
    chosen = continued_config(run, data, settings=settings)
    model = compiled_model(chosen, spec)
    return model, spec, start_from(run, model, spec, chosen)


def kept(run):
    """The model and optimizer of a run's best epoch, as training itself goes on."""
    spec = FeatureSpec.load(run / "features")
    model = compiled_model(edcn_tf.TrainingConfig.load(run / "config.yaml"), spec)
    model.optimizer.build(model.trainable_variables)
    [path] = (run / "checkpoints").iterdir()
    restore_checkpoint(path, model)
    return model


def rows_of(spec, embedding):
    """(table's number, row in it) of each row, by field and name of what it is of."""
    places, ends = {}, [1] * len(embedding.groups)
    for i, own in enumerate(spec.fields):
        [number] = [n for n, group in enumerate(embedding.groups) if group.has[i]]
        for name in own.row_names():
            places[own.field.name, name] = (number, ends[number])
            ends[number] += 1
    return places


def unseen_name(spec, field, value):
    [own] = [own for own in spec.fields if own.field.name == field]
    if own.field.unseen_rows == 1:
        return "<unseen>"
    return f"<unseen {hash_bucket(tf.constant(value), own.field.unseen_rows)}>"


# Where a row comes from


@pytest.mark.parametrize("name", MODELS)
def test_rows_and_slots_are_in_their_new_places(first, second, run_of, name):
    model, spec, told = started(run_of(name), second)
    before = kept(run_of(name))
    earlier = FeatureSpec.load(first / "data/features")
    new = {("user", "new"), ("site", "99"), *(("item", f"n{i}") for i in range(6))}
    assert told.new_rows.sum() == len(new)
    checked = 0
    for old_layer, layer in zip(before.embeddings, model.embeddings):
        old_rows, rows = rows_of(earlier, old_layer), rows_of(spec, layer)
        assert ("user", "u8") in rows and ("user", "u0") not in rows  # is forgotten
        assert {key for key in rows if key not in old_rows} == new
        for key, (number, row) in rows.items():
            field, _ = key
            source = key if key not in new else (field, unseen_name(spec, *key))
            old_number, old_row = old_rows[source]
            table, old_table = layer.tables[number], old_layer.tables[old_number]
            np.testing.assert_array_equal(table[row], old_table[old_row], err_msg=key)
            index = position(model, table), position(before, old_table)
            for slot in SLOTS:
                if not hasattr(model.optimizer, slot):
                    continue
                found = getattr(model.optimizer, slot)[index[0]][row]
                expected = getattr(before.optimizer, slot)[index[1]][old_row]
                if key in new and slot in ("_momentums", "_velocities"):
                    expected = np.zeros_like(expected)
                np.testing.assert_array_equal(found, expected, err_msg=(slot, key))
                checked += bool(np.any(found))
    assert checked > 20  # slots that are not zero


def position(model, variable):
    return [id(v) for v in model.trainable_variables].index(id(variable))


@pytest.mark.parametrize("name", MODELS)
def test_everything_else_is_taken_as_it_is(second, run_of, name):
    model, _, _ = started(run_of(name), second, ["learning_rate=0.007"])
    before = kept(run_of(name))
    ours = {id(v) for layer in model.embeddings for v in layer.variables}
    ours |= {id(v) for v in model.optimizer.variables}
    others = [
        (old, new)
        for old, new in zip(before.variables, model.variables)
        if id(new) not in ours and new.name != "seed_generator_state"
    ]
    assert len(others) >= 1
    for old, new in others:
        np.testing.assert_array_equal(old, new, err_msg=new.path)
    assert model.optimizer.iterations == before.optimizer.iterations > 0
    assert float(model.optimizer.learning_rate) == np.float32(0.007)
    tables = {id(t) for layer in model.embeddings for t in layer.tables}
    for index, variable in enumerate(model.trainable_variables):
        for slot in SLOTS:
            if id(variable) not in tables and hasattr(model.optimizer, slot):
                np.testing.assert_array_equal(
                    getattr(model.optimizer, slot)[index],
                    getattr(before.optimizer, slot)[index],
                )


def features_of(spec, columns):
    """Raw features, as a request has them."""
    features = {}
    for field in spec.schema.fields:
        values = columns[field.name]
        if field.multiple:
            features[field.name] = tf.strings.split(tf.constant(values), "|")
        elif field.kind == "numeric":
            features[field.name] = tf.constant(
                np.float32([v or np.nan for v in values])
            )
        else:
            features[field.name] = tf.constant(values, TF_DTYPES[field.dtype])
    return features


def scores(model, spec, columns):
    return model(Encoder(spec)(features_of(spec, columns)), training=False).numpy()


@pytest.mark.parametrize("name", MODELS)
def test_scores_are_those_that_the_run_serves(second, run_of, name):
    """Of values that both know, and of new ones, which were unseen ones before."""
    users, items = ["u8", "u3", "u5", "new"], ["i6", "i1", "n0", "n1", "n5"]
    columns = columns_of(users, items, [3, 99], rows=200, seed=2)
    expected = scores(*load_run(run_of(name)), columns)
    model, spec, _ = started(run_of(name), second)
    with edcn_tf.training.optimizers.averaged_weights(model.optimizer):
        found = scores(model, spec, columns)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.ptp(expected) > 0.001


@pytest.mark.parametrize("settings", [["l2=0", "dropout=0"], ["linear_l2=0", "seed=5"]])
def test_what_may_change_changes_no_score(second, run_of, settings):
    """Counts of rows and random states are then stored, but not there, or otherwise."""
    settings = [*settings, "unseen_rate=0"]
    columns = columns_of(["u8", "new"], ["i6", "n0"], [3, 99], rows=200, seed=2)
    expected = scores(*load_run(run_of("edcn")), columns)
    model, spec, _ = started(run_of("edcn"), second, settings)
    with edcn_tf.training.optimizers.averaged_weights(model.optimizer):
        np.testing.assert_allclose(scores(model, spec, columns), expected, atol=1e-6)


def test_an_average_of_another_length(second, run_of):
    """It is the same average, and is then averaged with the new decay."""
    first, _, _ = started(run_of("edcn"), second)
    other, _, _ = started(run_of("edcn"), second, ["average_decay=0.5"])
    weights = other.embedding.table.numpy()
    np.testing.assert_array_equal(weights, first.embedding.table)
    with first.optimizer.averaged_weights(), other.optimizer.averaged_weights():
        mean = other.embedding.table.numpy()
        np.testing.assert_allclose(mean, first.embedding.table, atol=1e-6)
    assert np.abs(weights - mean).max() > 1e-4
    gradient = tf.IndexedSlices(
        tf.ones((1, weights.shape[1])), tf.constant([5]), tf.constant(weights.shape)
    )
    zeros = [tf.zeros(v.shape) for v in other.trainable_variables]
    zeros[position(other, other.embedding.table)] = gradient
    other.optimizer.apply(zeros)
    step = int(first.optimizer.iterations)
    after = other.embedding.table.numpy()  # row 5 alone has moved
    expected = 0.5 * after + 0.5 * (1 - 0.5**step) * mean
    expected /= 1 - 0.5 ** (step + 1)
    with other.optimizer.averaged_weights():
        np.testing.assert_allclose(other.embedding.table, expected, atol=1e-6)


def test_counts_of_all_days_weigh_the_l2(first, second, run_of):
    model, spec, _ = started(run_of("edcn"), second)
    counts = spec.row_counts()
    earlier = FeatureSpec.load(first / "data/features").row_counts()
    assert counts.sum() > earlier.sum()
    np.testing.assert_allclose(
        model.embedding.inverse_counts[1:], 1 / np.maximum(counts[1:], 1), rtol=1e-6
    )


def test_parts_of_a_table(monkeypatch, second, run_of):
    whole, _, _ = started(run_of("edcn"), second)
    monkeypatch.setattr(large_table, "PART_SIZE", 12)
    parts, _, _ = started(run_of("edcn"), second)
    np.testing.assert_array_equal(whole.embedding.table, parts.embedding.table)


def test_data_of_its_own_vocabulary_will_do(tmp_path, run_of):
    """Values are found by themselves, whatever the vocabulary goes on from."""
    columns = columns_of(["x", "u4"], ["i0"], [2])
    data = prepared(tmp_path / "data", columns, seed=1)
    model, spec, told = started(run_of("edcn"), data)
    before = kept(run_of("edcn"))
    earlier = FeatureSpec.load(run_of("edcn") / "features")
    assert told.new_rows.sum() == 1
    np.testing.assert_array_equal(
        model.embedding.table[rows_of(spec, model.embedding)["user", "u4"][1]],
        before.embedding.table[rows_of(earlier, before.embedding)["user", "u4"][1]],
    )


def test_ranges_that_were_fitted_anew(tmp_path, first, run_of):
    """A range starts from that which its lowest number was in."""
    columns = columns_of(["u1"], ["i1"], [1])
    columns["price"] = [5.0 + i % 40 / 8 for i in range(400)]
    data = prepared(
        tmp_path / "data", columns, vocabulary_of=first / "data", refit=["price"]
    )
    earlier, spec = (FeatureSpec.load(d / "features") for d in (first / "data", data))
    old, new = earlier.fields[-1], spec.fields[-1]
    assert old.boundaries != new.boundaries
    sources, has_row = row_sources(earlier, spec)
    expected = [sum(b <= low for b in old.boundaries) for low in new.boundaries]
    places = sources[new.first_value :] - old.first_value
    np.testing.assert_array_equal(places, [0, *expected])
    assert sources[new.offset] == old.offset and has_row[new.offset :].all()


# Fields that come and go


@pytest.mark.parametrize("name", ["edcn", "widths", "logistic_regression"])
def test_other_fields(tmp_path, first, run_of, name):
    """Embeddings are those that are served; towers and optimizer start anew."""
    fields = [*FIELDS[:2], {"name": "extra", "min_count": 1}, *FIELDS[3:]]
    columns = columns_of(["u1", "new"], ["i1", "n1"], [1, 2])
    columns["extra"] = ["e1", "e2"] * 200
    data = prepared(tmp_path / "data", columns, fields, vocabulary_of=first / "data")
    settings = []
    if name == "widths":
        given = {"user": 4, "item": 2, "site": 3, "device": 2, "price": 4}
        settings = [f"embedding_dim={json.dumps({**given, 'extra': 5})}"]
    model, spec, told = started(run_of(name), data, settings)
    assert (told.added, told.removed) == (("extra",), ("tags",))
    assert "without tags and with new extra: towers and optimizer start" in str(told)
    before, earlier = load_run(run_of(name))
    rows = rows_of(spec, model.embedding)
    old_rows = rows_of(earlier, before.embedding)
    for key, (number, row) in rows.items():
        source = key
        if key[0] == "extra":
            continue
        if key not in old_rows:
            source = (key[0], unseen_name(spec, *key))
        old_number, old_row = old_rows[source]
        np.testing.assert_array_equal(
            model.embedding.tables[number][row],
            before.embedding.tables[old_number][old_row],
        )
    assert int(model.optimizer.iterations) == 0
    new = {rows_of(spec, model.embedding)[key][1] for key in rows if key[0] == "extra"}
    assert len(new) == 4 and told.new_rows.sum() == 4 + 2


def test_widths_of_auto_stay(tmp_path, first):
    auto = config(embedding_dim="auto", epochs=1, linear=False)
    edcn_tf.train(first / "data", tmp_path / "run", auto)
    users = [f"v{i}" for i in range(300)]
    data = prepared(
        tmp_path / "data",
        columns_of(users, ["i1"], [1], rows=3000),
        vocabulary_of=first / "data",
    )
    chosen = continued_config(tmp_path / "run", data)
    earlier = FeatureSpec.load(first / "data/features")
    kept = auto.build(earlier).embedding.widths
    assert list(chosen.options["embedding_dim"].values()) == kept
    spec = FeatureSpec.load(data / "features")
    assert auto.build(spec).embedding.widths != kept
    start_from(tmp_path / "run", compiled_model(chosen, spec), spec, chosen)
    with pytest.raises(InputError, match="embedding_dim of field 'user' must stay"):
        start_from(tmp_path / "run", compiled_model(auto, spec), spec, auto)


def test_the_width_of_a_run_stays_where_none_was_given(tmp_path, first, second):
    """More fields would have another one."""
    (tmp_path / "run").mkdir()
    shutil.copytree(first / "data/features", tmp_path / "run/features")
    for model, width in [("edcn", {"embedding_dim": 32}), ("logistic_regression", {})]:
        settings = edcn_tf.TrainingConfig.from_dict({"model": model}).to_dict()
        (tmp_path / "run/config.yaml").write_text(yaml.safe_dump(settings))
        chosen = continued_config(tmp_path / "run", second)
        assert chosen.to_dict() == {**settings, **width}


# Runs


def test_a_run_that_goes_on_is_a_run(tmp_path, second, run_of, capsys):
    """Trains, says what it took over, is killed, goes on, exports, and is verified."""
    run, chosen = tmp_path / "run", continued_config(run_of("edcn"), second)
    options = {"warm_start": run_of("edcn")}
    edcn_tf.train(second, run, chosen, until=1, **options)
    told = capsys.readouterr().out
    assert f"{run_of('edcn')}: " in told and "values have their embeddings" in told
    with pytest.raises(InputError, match="started from .*give the same --warm-start"):
        edcn_tf.train(second, run, chosen)
    result = edcn_tf.train(second, run, chosen, **options)
    assert result["epochs"] == 2 and list((run / "checkpoints").iterdir())
    whole = edcn_tf.train(second, tmp_path / "whole", chosen, **options)
    assert whole["valid_auc"] == pytest.approx(result["valid_auc"], abs=1e-6)
    state = kept(run)
    steps = json.loads((second / "summary.json").read_text())["splits"]["train"]["rows"]
    before = kept(run_of("edcn"))
    assert int(state.optimizer.iterations) == int(before.optimizer.iterations) + result[
        "best_epoch"
    ] * -(-steps // 64)
    version = edcn_tf.export.export_run(run, tmp_path / "models/clicks")
    assert edcn_tf.export.verify_saved_model(version)["largest_difference"] <= 1e-6


def test_the_kept_state_is_that_of_the_best_epoch(tmp_path, first):
    run = tmp_path / "run"
    settings = config(epochs=6, learning_rate=0.1, patience=9)
    result = edcn_tf.train(first / "data", run, settings)
    state = kept(run)
    rows = json.loads((first / "data/summary.json").read_text())["splits"]["train"]
    steps = result["best_epoch"] * -(-rows["rows"] // 64)
    assert int(state.optimizer.iterations) == steps
    model, _ = load_run(run)
    with state.optimizer.averaged_weights():
        np.testing.assert_array_equal(state.embedding.table, model.embedding.table)


def test_the_commands(tmp_path, first, run_of, capsys):
    log = tmp_path / "day2.csv"
    pa.csv.write_csv(pa.table(columns_of(["u1", "z"], ["i1"], [1], seed=3)), log)
    data, run = tmp_path / "data", tmp_path / "run"
    train = ["train", data, "--warm-start", run_of("edcn"), "--out"]
    for step in [
        ["prepare", log, "--vocabulary-of", run_of("edcn"), "--out", data],
        [*train, run, "--set", "epochs=1", "--set", "dropout=0.1"],
        ["evaluate", run, data],
    ]:
        assert main([str(argument) for argument in step]) == 0, capsys.readouterr().err
    text = (tmp_path / "run/config.yaml").read_text()
    assert "linear: true" in text and "batch_size: 64" in text  # the first run's
    assert "epochs: 1\n" in text and "dropout: 0.1" in text
    bad = [*train, tmp_path / "other", "--set", "num_layers=3"]
    assert main([str(argument) for argument in bad]) == 1
    error = capsys.readouterr().err
    assert "num_layers must stay 2" in error and error.count("\n") == 1
    assert not (tmp_path / "other").exists()


def test_pretrained_rows_are_for_new_values_alone(tmp_path, second, run_of, capsys):
    vectors = tmp_path / "vectors.csv"
    vectors.write_text("user,a,b,c,d\nnew,1,2,3,4\nu8,5,6,7,8\n")
    chosen = continued_config(
        run_of("edcn"), second, settings=[f"pretrained={{user: {vectors}}}"]
    )
    spec = FeatureSpec.load(second / "features")
    model = compiled_model(chosen, spec)
    workers = edcn_tf.training.workers.Workers()
    set_starting_values(model, chosen, spec, workers, run_of("edcn"))
    taken, _, _ = started(run_of("edcn"), second)
    rows = rows_of(spec, model.embedding)
    table = model.embedding.table
    np.testing.assert_array_equal(table[rows["user", "new"][1]], [1, 2, 3, 4])
    row = rows["user", "u8"][1]
    np.testing.assert_array_equal(table[row], taken.embedding.table[row])
    told = capsys.readouterr().out.splitlines()
    assert f"{vectors}: 1 of 4 values of user; 0 rows passed over" in told
    with model.optimizer.averaged_weights(), taken.optimizer.averaged_weights():
        new = rows["user", "new"][1]  # the average is what is validated and served
        np.testing.assert_allclose(table[new], [1, 2, 3, 4], rtol=1e-5)
        others = np.arange(spec.num_rows) != new
        expected = taken.embedding.table[others]
        np.testing.assert_array_equal(table.numpy()[others], expected)


def test_several_replicas_start_alike(second, run_of):
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    spec = FeatureSpec.load(second / "features")
    chosen = continued_config(run_of("edcn"), second)
    with strategy.scope():
        model = compiled_model(chosen, spec)
        start_from(run_of("edcn"), model, spec, chosen)
    alone, _, _ = started(run_of("edcn"), second)
    for one, other in zip(model.optimizer.variables, alone.optimizer.variables):
        np.testing.assert_array_equal(one, other, err_msg=one.path)
    np.testing.assert_array_equal(model.embedding.table, alone.embedding.table)


# What is refused


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("num_layers=3", "num_layers must stay 2.*Received: 3"),
        ("bridge=add", "bridge must stay 'hadamard'.*may change: seed, epochs"),
        ("temperature=0.5", "temperature must stay 1.0"),
        ("model=deepfm", "model must stay 'edcn'"),
        ("preset=bars", "preset must stay 'default'"),
        ("optimizer=adam", "optimizer must stay 'sparse_adam'"),
        ("average_decay=null", "average_decay: a run keeps.*Received: None after"),
        ("embedding_dim=8", "embedding_dim of field 'user' must stay 4.*Received: 8"),
    ],
)
def test_another_architecture(second, run_of, setting, expected):
    with pytest.raises(InputError, match=expected) as caught:
        started(run_of("edcn"), second, [setting])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ({"name": "device", "hash_buckets": 5}, "'device': `hash_buckets` was 4"),
        ({"name": "device", "min_count": 1}, "`hash_buckets` was 4.*Received: None"),
        ({"name": "price", "min_count": 1}, "'price': `kind` was 'numeric'"),
        ({"name": "item", "unseen_rows": 2}, "'item': `unseen_rows` was 3"),
        ({"name": "tags", "multiple": True, "pooling": "sum"}, "`pooling` was 'mean'"),
    ],
)
def test_a_field_that_means_something_else(tmp_path, run_of, field, expected):
    fields = [field if field["name"] == old["name"] else old for old in FIELDS]
    columns = columns_of(["u1"], ["i1"], [1])
    data = prepared(tmp_path / "data", columns, fields)
    with pytest.raises(InputError, match=expected):
        started(run_of("edcn"), data)


@pytest.mark.parametrize(
    "lacking", ["features", "config.yaml", "result.json", "model.keras", "checkpoints"]
)
def test_what_is_no_run(tmp_path, second, run_of, lacking):
    run = tmp_path / "run"
    shutil.copytree(run_of("edcn"), run)
    (run / lacking).rename(tmp_path / "elsewhere")
    chosen = continued_config(run_of("edcn"), second)
    with pytest.raises(InputError, match=f"run: has no {lacking}.*leave out the warm"):
        edcn_tf.train(second, tmp_path / "new", chosen, warm_start=run)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("how", ["no zip", "a class of its own"])
def test_a_model_file_that_is_no_model_of_ours(tmp_path, second, run_of, how):
    run = tmp_path / "run"
    shutil.copytree(run_of("edcn"), run)
    file = run / "model.keras"
    if how == "no zip":
        file.write_bytes(b"no zip")
    else:
        with zipfile.ZipFile(file) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        model = json.loads(parts["config.json"])
        rescaling = {"module": "keras.layers", "class_name": "Rescaling"}
        model["config"]["gate"] = {
            **rescaling,
            "config": {"scale": 2.0},
            "registered_name": None,
        }
        parts["config.json"] = json.dumps(model)
        with zipfile.ZipFile(file, "w") as archive:
            for name, content in parts.items():
                archive.writestr(name, content)
    with pytest.raises(InputError, match=f"{file}: cannot be loaded as a model"):
        started(run, second)


def test_a_history_of_another_length(tmp_path):
    """A transformer has weights for each of its places."""

    def fields(length):
        history = {"kind": "sequence", "of": "item", "max_length": length}
        return [{"name": "item", "min_count": 1}, {"name": "history", **history}]

    columns = columns_of(["u"], ["a", "b", "c"], [1], rows=80)
    columns = {"item": columns["item"], "click": columns["click"]}
    columns["history"] = ["|".join("abc"[: i % 4]) for i in range(80)]
    prepared(tmp_path / "first", columns, fields(3))
    settings = {"epochs": 1, "embedding_dim": 4, "history": "transformer"}
    settings = edcn_tf.TrainingConfig.from_dict(settings)
    edcn_tf.train(tmp_path / "first", tmp_path / "run", settings)
    earlier = {"vocabulary_of": tmp_path / "first"}
    prepared(tmp_path / "same", columns, fields(3), **earlier)
    started(tmp_path / "run", tmp_path / "same")
    prepared(tmp_path / "longer", columns, fields(5), **earlier)
    expected = "max_length of field 'history' must stay 3 .*transformer.*Received: 5"
    with pytest.raises(InputError, match=expected):
        started(tmp_path / "run", tmp_path / "longer")
