"""The whole way of a log of which only combinations of values tell of the clicks."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import tensorflow as tf

import edcn_tf
from edcn import main
from edcn_tf.drift.measuring import measure_drift
from edcn_tf.evaluation.scoring import evaluate_run, load_run
from edcn_tf.export.c_api import Session
from edcn_tf.export.client import Client
from edcn_tf.export.saved_model import export_run, verify_saved_model
from edcn_tf.export.skew import compare_scores
from edcn_tf.features.spec import FeatureSpec
from edcn_tf.training.pretrained import load_pretrained
from helpers import raw_rows
from helpers.prepared import content
from helpers.serving import Standin

FIELDS = [
    {"name": "user"},
    {"name": "hour", "dtype": "int64"},
    {"name": "day", "hash_buckets": 5},
    {"name": "item", "candidate": True},
    {"name": "shop", "dtype": "int64", "candidate": True},
]
CROSSES = [  # of a user's, of both, of a candidate's fields alone
    {"name": "user_day", "kind": "cross", "of": ["user", "day"], "hash_buckets": 30},
    {"name": "user_item_hour", "kind": "cross", "of": ["user", "item", "hour"]},
    {"name": "user_item", "kind": "cross", "of": ["item", "user"], "unseen_rows": 3},
    {"name": "shop_item", "kind": "cross", "of": ["shop", "item"], "max_size": 9},
]
SCHEMA = {
    "label": "click",
    "group": "user",
    # The crosses stand before, between and after what they are of.
    "fields": [CROSSES[1], *FIELDS[:3], CROSSES[0], *FIELDS[3:], *CROSSES[2:]],
}
SETTINGS = {
    "model": "logistic_regression",
    "epochs": 6,
    "batch_size": 64,
    "learning_rate": 0.05,
    "average_decay": None,
}


def config_of(**settings):
    return edcn_tf.TrainingConfig.from_dict({**SETTINGS, **settings})


def drawn(rows, seed):
    """Columns of a log in which neither user nor item tells, but both do: XOR."""
    random = np.random.default_rng(seed)
    user, item = random.integers(0, 8, rows), random.integers(0, 8, rows)
    click = random.random(rows) < np.where((user + item) % 2, 0.9, 0.1)

    def some(values):
        missing = random.random(rows) < 0.03
        return [None if none else value for none, value in zip(missing, values)]

    return {
        "click": click.astype(int).tolist(),
        "user": some([f"u&{i}" for i in user]),
        "hour": some(random.integers(-2, 3, rows).tolist()),
        "day": some([f"d\\{i}" for i in random.integers(0, 4, rows)]),
        "item": some([f"{i}, &\\" for i in item]),
        "shop": some(random.integers(0, 5, rows).tolist()),
    }


def write(path, columns):
    table = pa.table(columns)
    if path.suffix == ".parquet":
        pa.parquet.write_table(table, path, row_group_size=400)
    else:
        pa.csv.write_csv(table, path)
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The log in two containers, prepared from each; a run; its export."""
    folder = tmp_path_factory.mktemp("crosses")
    columns = drawn(3000, seed=0)
    (folder / "schema.json").write_text(json.dumps(SCHEMA))
    schema = edcn_tf.Schema.from_dict(SCHEMA)
    for form in ("csv", "parquet"):
        log = write(folder / f"log.{form}", columns)
        edcn_tf.prepare(log, schema, folder / form)
    edcn_tf.train(folder / "csv", folder / "run", config_of())
    export_run(folder / "run", folder / "models" / "clicks")
    return folder


@pytest.fixture(scope="module")
def session(place):
    with Session(place / "models" / "clicks" / "1") as session:
        yield session


def raw(columns):
    """As `serving_default` takes them: the inputs alone."""
    return raw_rows.raw(FIELDS, columns)


def test_csv_and_parquet_become_the_same_data(place):
    assert content(place / "csv") == content(place / "parquet")


def test_records_hold_no_crosses(place):
    record = next(iter(tf.data.TFRecordDataset(str(place / "run/sample.tfrecord"))))
    names = set(tf.train.Example.FromString(record.numpy()).features.feature)
    assert names <= {"click", *(field["name"] for field in FIELDS)}


def test_beam_makes_the_same_features(place, monkeypatch):
    beam = pytest.importorskip("edcn_tf.preparation.beam")
    monkeypatch.setattr(beam, "BYTES_PER_RANGE", 20_000)  # of hash ranges, several
    schema = edcn_tf.Schema.load(place / "schema.json")
    log = place / "log.parquet"  # of row groups, each a part
    edcn_tf.prepare(log, schema, place / "beam", runner="DirectRunner")
    assert content(place / "beam" / "features") == content(place / "csv" / "features")


def test_a_linear_model_needs_the_combination(place, tmp_path):
    schema = edcn_tf.Schema.from_dict({**SCHEMA, "fields": FIELDS})
    edcn_tf.prepare(place / "log.csv", schema, tmp_path / "data")
    edcn_tf.train(tmp_path / "data", tmp_path / "run", config_of())
    assert abs(evaluate_run(tmp_path / "run", tmp_path / "data")["auc"] - 0.5) < 0.08
    assert evaluate_run(place / "run", place / "csv")["auc"] > 0.8


def test_the_export_scores_as_edcn_predict_does(place, session):
    columns = drawn(300, seed=1)
    del columns["click"]
    log = write(place / "new.csv", columns)
    scores = place / "scores.csv"
    assert main(["predict", str(place / "run"), str(log), "--out", str(scores)]) == 0
    served = session.run("serving_default", raw(columns))["probability"][:, 0]
    logged = np.loadtxt(scores, skiprows=1)
    assert np.ptp(logged) > 0.5
    np.testing.assert_allclose(served, logged, atol=1e-6)
    told = verify_saved_model(place / "models" / "clicks" / "1")
    assert told["largest_difference"] <= 1e-6


def test_verification_names_a_field_of_a_cross_that_differs(place, tmp_path):
    shutil.copytree(place / "models" / "clicks" / "1", tmp_path / "1")
    [path] = (tmp_path / "1" / "assets").glob("*-user_item.txt*")
    path.write_text("\n".join(reversed(path.read_text().split("\n")[:-1])) + "\n")
    told = "field '(item|user)' is encoded in another way"
    with pytest.raises(edcn_tf.InputError, match=told):
        verify_saved_model(tmp_path / "1")


def test_ranking_is_scoring_the_candidates_one_by_one(session):
    features, (users, candidates) = raw(drawn(35, seed=2)), (5, 7)
    rank = {name: features[name][:users] for name in ("user", "hour", "day")}
    rank |= {name: features[name].reshape(5, 7) for name in ("item", "shop")}
    assert set(rank) == set(session.signatures["rank"]["inputs"])
    ranked = session.run("rank", rank)["probability"]
    rows = {name: np.repeat(rank[name], candidates) for name in ("user", "hour", "day")}
    rows |= {name: features[name] for name in ("item", "shop")}
    scores = session.run("serving_default", rows)["probability"]
    assert np.ptp(scores) > 0.5
    np.testing.assert_allclose(ranked.ravel(), scores[:, 0], atol=1e-6)


def test_a_request_holds_no_crosses(place):
    columns = drawn(20, seed=3)
    rows = [dict(zip(columns, row)) for row in zip(*columns.values())]
    rows = [{n: v for n, v in row.items() if n != "click"} for row in rows]
    with (
        Standin(place / "models" / "clicks") as server,
        Client(server.rest, "clicks", schema=place / "schema.json") as client,
    ):
        assert len(client.predict(rows)) == len(rows)
        with pytest.raises(edcn_tf.InputError, match="user_day"):
            client.predict([{**rows[0], "user_day": "x"}])


def test_skew_is_told_by_the_fields_of_a_cross(place):
    columns = drawn(300, seed=4)
    write(place / "full.csv", columns)
    lost = {**columns, "item": [None] * 300}
    write(place / "bare.csv", {n: v for n, v in lost.items() if n != "click"})
    scores = place / "bare_scores.csv"
    arguments = [str(place / "run"), str(place / "bare.csv"), "--out", str(scores)]
    assert main(["predict", *arguments]) == 0
    version = place / "models" / "clicks" / "1"
    skew = compare_scores(version, [place / "full.csv"], scores)
    first, *others = skew.fields
    assert (first.name, first.as_if_missing) == ("item", skew.differing)
    assert {each.name for each in others} == {"user", "hour", "day", "shop"}


def test_the_report_has_crosses_as_fields(place):
    assert main(["report", str(place / "run")]) == 0
    page = (place / "run" / "report.html").read_text()
    assert "AUC lost when a field is shuffled, by field; most by user_item," in page
    assert "Not here: day, user_day, since their values are hashed" in page


def test_a_day_after_goes_on(place, tmp_path):
    columns = drawn(600, seed=5)
    columns["user"] = [v and v.replace("7", "new") for v in columns["user"]]
    log = write(tmp_path / "day2.csv", columns)
    schema = edcn_tf.Schema.from_dict(SCHEMA)
    data, run = tmp_path / "day2", place / "run"
    edcn_tf.prepare(log, schema, data, vocabulary_of=run)
    config = config_of(epochs=1, learning_rate=1e-12)
    edcn_tf.train(data, tmp_path / "run2", config, warm_start=run)
    (first, spec), (second, later) = (load_run(r) for r in (run, tmp_path / "run2"))
    before, after = (
        set(own.values().to_pylist())
        for each in (spec, later)
        for own in each.fields
        if own.field.name == "user_item"
    )
    assert before < after and r"3, \&\\&u\&new" in after - before
    features = {n: tf.constant(v) for n, v in raw(drawn(50, seed=6)).items()}
    scores = first(edcn_tf.Encoder(spec)(features))
    np.testing.assert_allclose(
        second(edcn_tf.Encoder(later)(features)), scores, atol=1e-5
    )
    other = [dict(field) for field in SCHEMA["fields"]]
    other[0]["of"] = ["user", "item", "day"]
    schema = edcn_tf.Schema.from_dict({**SCHEMA, "fields": other})
    with pytest.raises(edcn_tf.InputError, match="'user_item_hour': `of` was"):
        edcn_tf.prepare(log, schema, tmp_path / "no", vocabulary_of=run)


def test_pretrained_embeddings_are_by_the_text_of_the_combination(place, tmp_path):
    spec = FeatureSpec.load(place / "csv" / "features")
    model = edcn_tf.make_model(spec, "fm", embedding_dim=2)
    model.build((None, spec.num_slots))
    path = tmp_path / "vectors.tsv"
    path.write_text("value\ta\tb\n" r"3, \&\\&u\&2" "\t5\t7\n")
    told = load_pretrained(model.embedding, spec, "user_item", path)
    assert told.rows_set == 1
    features = {n: tf.constant(v) for n, v in raw(drawn(1, seed=7)).items()}
    features |= {"user": tf.constant(["u&2"]), "item": tf.constant(["3, &\\"])}
    ids = edcn_tf.Encoder(spec)(features, ["user_item"])
    assert ids.numpy().tolist() == [told.rows.tolist()]


def test_edcn_takes_crosses_as_fields(place, tmp_path):
    config = config_of(model="edcn", epochs=2, embedding_dim=4, learning_rate=0.01)
    edcn_tf.train(place / "csv", tmp_path / "run", config)
    assert evaluate_run(tmp_path / "run", place / "csv")["auc"] > 0.8
    export_run(tmp_path / "run", tmp_path / "models")


def test_drift_of_a_cross_is_that_of_its_values(place, tmp_path):
    columns = drawn(600, seed=7)
    quiet = measure_drift(place / "run", [write(tmp_path / "day.csv", columns)])
    assert quiet.alarms == []
    columns["item"] = ["new" if i % 2 else v for i, v in enumerate(columns["item"])]
    drift = measure_drift(place / "run", [write(tmp_path / "new.csv", columns)])
    alarmed = {alarm.name for alarm in drift.alarms}
    assert alarmed >= {"item", "user_item"}
    assert not alarmed & {"user", "hour", "day", "shop", "user_day"}
    unseen = {f.name: f.unseen.value for f in drift.fields if f.unseen}
    assert min(unseen["item"], unseen["user_item"]) > 0.4
