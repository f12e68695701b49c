"""A published version answers as the model did, or is not published."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

import edcn_tf
from edcn_tf.encoder import MISSING
from edcn_tf.export import verification


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A model trained for an epoch on a small log with every kind of field."""
    folder = tmp_path_factory.mktemp("export")
    random = np.random.default_rng(0)
    lines = ["click,user,tags,price,device_id"]
    for i in range(900):
        tags = "|".join(random.choice(list("abcdef"), random.integers(0, 4)))
        price = "" if i % 11 == 0 else f"{random.lognormal():.3f}"
        lines.append(f"{i % 3 == 0:d},u{i % 40},{tags},{price},d{i % 70}")
    (folder / "log.csv").write_text("\n".join(lines) + "\n")
    schema = edcn_tf.Schema.from_dict(
        {
            "label": "click",
            "group": "user",
            "fields": [
                {"name": "user"},
                {"name": "tags", "multiple": True, "max_length": 3},
                {"name": "price", "kind": "numeric", "buckets": 5},
                {"name": "device_id", "hash_buckets": 16},
            ],
        }
    )
    edcn_tf.prepare([folder / "log.csv"], schema, folder / "data")
    config = edcn_tf.TrainingConfig.from_dict(
        {"epochs": 1, "batch_size": 64, "embedding_dim": 4}
    )
    edcn_tf.train(folder / "data", folder / "run", config)
    return folder / "run"


@pytest.fixture(scope="module")
def loaded(run):
    return edcn_tf.evaluation.load_run(run)


@pytest.fixture(scope="module")
def records(run):
    dataset = tf.data.TFRecordDataset(str(run / "sample.tfrecord"))
    return [record.numpy() for record in dataset]


@pytest.fixture(scope="module")
def version(loaded, records, tmp_path_factory):
    base = tmp_path_factory.mktemp("models") / "clicks"
    return edcn_tf.export.export_saved_model(*loaded, base, records=records)


def request(**changed):
    """A batch of one raw row."""
    row = {
        "user": tf.constant(["u1"]),
        "tags": tf.constant([["a", "b"]]),
        "price": tf.constant([1.5]),
        "device_id": tf.constant(["d3"]),
    }
    return {**row, **changed}


def score(signature, features):
    return signature(**features)["probability"].numpy()


def test_versions_count_up_and_are_never_overwritten(loaded, records, tmp_path):
    base = tmp_path / "clicks"
    first = edcn_tf.export.export_saved_model(*loaded, base, records=records)
    second = edcn_tf.export.export_saved_model(*loaded, base, records=records)
    assert [first.name, second.name] == ["1", "2"]
    before = (first / "saved_model.pb").read_bytes()
    with pytest.raises(edcn_tf.InputError, match="1: exists already"):
        edcn_tf.export.export_saved_model(*loaded, base, version=1)
    assert (first / "saved_model.pb").read_bytes() == before
    assert sorted(p.name for p in base.iterdir()) == ["1", "2"]  # nothing left over


def test_signatures_have_the_names_and_types_of_the_log(version):
    signatures = tf.saved_model.load(str(version)).signatures
    inputs = signatures["serving_default"].structured_input_signature[1]
    assert {n: (s.dtype, s.shape.rank) for n, s in inputs.items()} == {
        "user": (tf.string, 1),
        "tags": (tf.string, 2),
        "price": (tf.float32, 1),
        "device_id": (tf.string, 1),
    }
    ids = signatures["ids"].structured_input_signature[1]["ids"]
    assert (ids.dtype, ids.shape.as_list()) == (tf.int32, [None, 6])
    for signature in signatures.values():
        output = signature.structured_outputs["probability"]
        assert (output.dtype, output.shape.as_list()) == (tf.float32, [None, 1])


def test_the_encoder_is_the_same_in_the_pipeline_and_in_the_saved_model(
    run, loaded, version
):
    """The rows that training reads, sent as raw features: equal scores."""
    model, spec = loaded
    encoder = edcn_tf.Encoder(spec)
    pattern = str(run / "sample.tfrecord")
    served = tf.saved_model.load(str(version)).signatures["serving_default"]
    dataset = edcn_tf.read_records(pattern, spec, batch_size=50)
    raw = tf.data.TFRecordDataset(pattern).batch(50)
    rows = 0
    for (ids, _), batch in zip(dataset, raw, strict=True):
        features = tf.io.parse_example(batch, encoder.parsing())
        features["tags"] = features["tags"].to_tensor("")
        np.testing.assert_array_equal(encoder(features), ids)
        np.testing.assert_allclose(
            score(served, features), model(ids, training=False), atol=1e-6
        )
        rows += len(ids)
    assert rows > 50


def test_missing_and_unseen_values_are_different_rows_when_served(loaded, version):
    _, spec = loaded
    encoder = edcn_tf.Encoder(spec)
    served = tf.saved_model.load(str(version)).signatures["serving_default"]
    known, unseen, missing = (
        request(user=tf.constant([user])) for user in ("u1", "\u2603", "")
    )
    users = [int(encoder(features)[0, 0]) for features in (known, unseen, missing)]
    assert users[2] == spec.fields[0].offset
    assert users[1] == spec.fields[0].first_unseen
    assert users[0] >= spec.fields[0].first_value
    scores = [score(served, features).item() for features in (known, unseen, missing)]
    assert len(set(scores)) == 3
    empty = request(
        tags=tf.zeros([1, 0], tf.string),
        price=tf.constant([MISSING["float32"]]),
    )
    filled = request(
        tags=tf.constant([["", "", "", ""]]), price=tf.constant([np.nan], tf.float32)
    )
    assert score(served, empty) == score(served, filled)


def test_ids_out_of_range_go_to_the_unseen_row(loaded, version):
    _, spec = loaded
    served = tf.saved_model.load(str(version)).signatures["ids"]
    ids = edcn_tf.Encoder(spec)(request()).numpy()
    first_price = spec.fields[2].offset
    for slot, other in [
        (0, spec.fields[0].first_unseen),
        (4, first_price),  # a number has no unseen row: as if it were missing
        (5, spec.fields[3].offset),
    ]:
        expected = ids.copy()
        expected[0, slot] = other
        for wrong in (-1, 0, 2**31 - 1, int(ids[0, slot - 1 if slot else 1])):
            given = ids.copy()
            given[0, slot] = wrong
            assert score(served, {"ids": tf.constant(given)}) == score(
                served, {"ids": tf.constant(expected)}
            )
    padded = ids.copy()
    assert padded[0, 3] == 0  # the third tag is unused, which stays legal


def test_each_variable_is_stored_once(loaded, version):
    model, spec = loaded
    stored = tf.train.list_variables(str(version / "variables" / "variables"))
    shapes = [tuple(s) for n, s in stored if "VARIABLE_VALUE" in n]
    table = (spec.num_rows, model.embedding.embedding_dim)
    assert shapes.count(table) == 1
    # The weights, without what only training needs (counts, dropout's random state).
    assert sorted(shapes) == sorted(tuple(v.shape) for v in model.trainable_weights)


def test_nothing_of_this_machine_is_in_the_export(run, version):
    place = str(run.parent).encode()
    source = str(edcn_tf.__path__[0]).encode()
    files = [path for path in version.rglob("*") if path.is_file()]
    assert {path.parent.name for path in files} >= {"assets", "variables"}
    for path in files:
        data = path.read_bytes()
        assert place not in data, path
        assert source not in data, path


def test_a_moved_version_still_verifies(version, tmp_path):
    moved = tmp_path / "elsewhere" / "7"
    shutil.copytree(version, moved)
    assert edcn_tf.export.verify_saved_model(moved) <= 1e-6


def change_a_score(version):
    path = version / "assets.extra" / "golden_scores.json"
    golden = json.loads(path.read_text())
    golden["probability"][4] += 1e-5
    path.write_text(json.dumps(golden))


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


@pytest.mark.parametrize(
    "damage",
    [change_a_score, change_a_weight, cut_the_vocabulary, remove_the_variables],
)
def test_verification_fails_on_a_difference(version, tmp_path, damage):
    copy = tmp_path / "1"
    shutil.copytree(version, copy)
    damage(copy)
    with pytest.raises(edcn_tf.InputError, match="failed verification"):
        edcn_tf.export.verify_saved_model(copy)


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
