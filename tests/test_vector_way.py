"""The whole way of a log whose items have vectors, which alone tell of the clicks."""

import asyncio
import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import tensorflow as tf

import edcn_tf
from edcn import main
from edcn_tf.directories import PreparedData
from edcn_tf.drift.measuring import measure_drift
from edcn_tf.evaluation.scoring import evaluate_run, load_run
from edcn_tf.export.c_api import Session
from edcn_tf.export.client import Client, ServingError
from edcn_tf.export.saved_model import export_run
from edcn_tf.export.skew import compare_scores
from edcn_tf.features.spec import FeatureSpec
from edcn_tf.records.checking import check_records
from edcn_tf.records.encoded import encode_rows
from edcn_tf.records.writing import record_files
from helpers import distributed_fit
from helpers.gpu_kernels import without_gpu_kernel
from helpers.prepared import content
from helpers.serving import Standin

LENGTH = 6
NAN = float("nan")
SCHEMA = {
    "label": "click",
    "group": "user",
    "fields": [
        {"name": "user", "min_count": 1},
        {"name": "taste", "kind": "numeric", "length": 2},
        {"name": "item", "hash_buckets": 8, "candidate": True},
        {"name": "image", "kind": "numeric", "length": LENGTH, "candidate": True},
    ],
}
SETTINGS = {
    "epochs": 3,
    "batch_size": 64,
    "embedding_dim": 4,
    "l2": 1.0,
    "average_decay": None,  # so that a run which goes on begins as it is served
}


def config_of(**settings):
    return edcn_tf.TrainingConfig.from_dict({**SETTINGS, **settings})


def drawn(rows, seed):
    """Columns of a log: images of any scale, a tenth of them missing."""
    random = np.random.default_rng(seed)
    images = random.normal(size=(rows, LENGTH))
    chance = 1 / (1 + np.exp(-2.5 * images[:, 0]))
    scales, means = [1e-3, 10, 1, 100, 1, 1], [5, -3, 0, 1e4, 1, 1]
    images = np.float32(images * scales + means).tolist()
    missing = random.random(rows) < 0.1
    chance = np.where(missing, 0.5, chance)
    return {
        "click": (random.random(rows) < chance).astype(int).tolist(),
        "user": [f"u{i % 9}" for i in range(rows)],
        "taste": np.float32(random.normal(size=(rows, 2))).tolist(),
        "item": [f"i{i % 5}" for i in range(rows)],
        "image": [None if none else row for none, row in zip(missing, images)],
    }


def write_csv(path, columns):
    lines = [",".join(columns)]
    for row in zip(*columns.values()):
        cells = ("|".join(map(str, v)) if isinstance(v, list) else v for v in row)
        lines.append(",".join("" if cell is None else str(cell) for cell in cells))
    path.write_text("\n".join(lines) + "\n")


def write_parquet(path, columns):
    types = {"image": pa.list_(pa.float32()), "taste": pa.list_(pa.float32(), 2)}
    arrays = {name: pa.array(v, types.get(name)) for name, v in columns.items()}
    pa.parquet.write_table(pa.table(arrays), path, row_group_size=300)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The log in both containers, prepared from each; a run; its export."""
    folder = tmp_path_factory.mktemp("vectors")
    (folder / "schema.json").write_text(json.dumps(SCHEMA))
    columns = drawn(1500, seed=0)
    write_csv(folder / "log.csv", columns)
    write_parquet(folder / "log.parquet", columns)
    schema = edcn_tf.Schema.from_dict(SCHEMA)
    for form in ("csv", "parquet"):
        edcn_tf.prepare(folder / f"log.{form}", schema, folder / form)
    edcn_tf.train(folder / "csv", folder / "run", config_of())
    export_run(folder / "run", folder / "models" / "clicks")
    return folder


@pytest.fixture(scope="module")
def session(place):
    with Session(place / "models" / "clicks" / "1") as session:
        yield session


def encoded(spec, features):
    tensors = {name: tf.convert_to_tensor(value) for name, value in features.items()}
    return edcn_tf.Encoder(spec)(tensors).numpy()


def test_csv_and_parquet_become_the_same_data(place):
    assert content(place / "csv") == content(place / "parquet")


def test_beam_makes_the_same_features(place):
    pytest.importorskip("apache_beam")
    schema = edcn_tf.Schema.load(place / "schema.json")
    log = place / "log.parquet"  # of row groups, each a part
    edcn_tf.prepare(log, schema, place / "beam", runner="DirectRunner")
    assert content(place / "beam" / "features") == content(place / "csv" / "features")
    rows = [
        sorted(
            record.numpy()
            for record in tf.data.TFRecordDataset(
                record_files(PreparedData(place / folder).records("train"))
            )
        )
        for folder in ("beam", "csv")
    ]
    assert rows[0] == rows[1]


def test_it_learns_from_the_vector_alone(place):
    assert evaluate_run(place / "run", place / "csv")["auc"] > 0.8


def test_encoded_rows_train_alike(place):
    encode_rows(place / "csv", place / "encoded")
    edcn_tf.train(
        place / "csv", place / "run_encoded", config_of(), encoded=place / "encoded"
    )
    (first, spec), (second, _) = (load_run(place / n) for n in ("run", "run_encoded"))
    ids = np.zeros((1, spec.num_slots), np.int32)
    first(ids), second(ids)
    for one, other in zip(first.weights, second.weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5, err_msg=one.path)
    path = next((place / "encoded").glob("train-*.ids"))
    damaged = bytearray(path.read_bytes())
    damaged[:4] = (10**6).to_bytes(4, "little")  # an id that no row has
    path.write_bytes(damaged)
    with pytest.raises(edcn_tf.InputError, match="is damaged; .*encode the rows again"):
        edcn_tf.train(
            place / "csv", place / "never", config_of(), encoded=place / "encoded"
        )


@pytest.mark.slow
def test_two_replicas_learn_what_one_does(place):
    arguments = ["mirrored", str(place / "csv"), str(place / "mirrored.npz"), "edcn"]
    subprocess.run([sys.executable, distributed_fit.__file__, *arguments], check=True)
    one = distributed_fit.fit(place / "csv", "edcn")
    with np.load(place / "mirrored.npz") as two:
        for name in one:
            if name.startswith(("history/", "weight/", "optimizer/")):
                np.testing.assert_allclose(
                    two[name], one[name], atol=2e-4, rtol=2e-4, err_msg=name
                )


def predicted(place, log, name):
    assert (
        main(["predict", str(place / "run"), str(log), "--out", str(place / name)]) == 0
    )
    return np.loadtxt(place / name, skiprows=1)


def raw(columns, rows=slice(None)):
    """Columns as `serving_default` takes them, a missing vector NaN throughout."""
    images = [v if v is not None else [NAN] * LENGTH for v in columns["image"]]
    return {
        "user": np.array(columns["user"], object)[rows],
        "taste": np.float32(columns["taste"])[rows],
        "item": np.array(columns["item"], object)[rows],
        "image": np.float32(images)[rows],
    }


def test_scores_of_both_containers_and_of_the_export_are_the_same(place, session):
    columns = drawn(200, seed=1)
    write_csv(place / "new.csv", columns)
    write_parquet(place / "new.parquet", columns)
    scores = predicted(place, place / "new.csv", "csv_scores.csv")
    others = predicted(place, place / "new.parquet", "parquet_scores.csv")
    np.testing.assert_array_equal(scores, others)
    served = session.run("serving_default", raw(columns))["probability"][:, 0]
    np.testing.assert_allclose(served, scores, atol=1e-6)


def test_ids_need_only_gpu_kernels(place):
    assert without_gpu_kernel(place / "models" / "clicks" / "1", "ids") == {}


def test_the_signature_states_the_length(place):
    loaded = tf.saved_model.load(str(place / "models" / "clicks" / "1"))
    inputs = {
        name: signature.structured_input_signature[1]["image"].shape.as_list()
        for name, signature in loaded.signatures.items()
        if name in ("serving_default", "explain", "rank")
    }
    assert inputs["serving_default"] == inputs["explain"] == [None, LENGTH]
    assert inputs["rank"] == [None, None, LENGTH]


def test_ranking_is_scoring_the_candidates_one_by_one(session):
    features = raw(drawn(40, seed=2))
    shared, own = ("user", "taste"), ("item", "image")
    rank = {name: features[name][:5] for name in shared}
    rank |= {
        name: features[name].reshape(5, 8, *features[name].shape[1:]) for name in own
    }
    ranked = session.run("rank", rank)["probability"]
    rows = {name: np.repeat(features[name][:5], 8, axis=0) for name in shared}
    rows |= {name: features[name] for name in own}
    scores = session.run("serving_default", rows)["probability"]
    assert np.ptp(scores) > 0.1
    np.testing.assert_allclose(ranked.ravel(), scores[:, 0], atol=1e-6)


def test_a_vector_of_another_length_is_refused_by_name(place):
    """By the model itself: TF Serving's loader lets any shape in."""
    features = raw(drawn(4, seed=3))
    told = rf"\?,{LENGTH}\](.|\n)*expected_image"
    with Session(place / "models" / "clicks" / "1") as session:
        for width in (1, LENGTH - 1, LENGTH + 1, 2 * LENGTH):
            wrong = {**features, "image": np.ones((4, width), np.float32)}
            for signature in ("serving_default", "explain"):
                with pytest.raises(Exception, match=told):
                    session.run(signature, wrong, checked=False)
            own = {name: wrong[name][None] for name in ("item", "image")}
            rank = {name: wrong[name][:1] for name in ("user", "taste")} | own
            with pytest.raises(Exception, match=told):
                session.run("rank", rank, checked=False)
        half = features["image"].copy()
        half[0, 1] = NAN
        told = f"image must be {LENGTH} finite numbers, or NaN throughout"
        with pytest.raises(Exception, match=told):
            session.run("serving_default", {**features, "image": half})


def test_explanations_leave_the_vector_out(session):
    columns = drawn(30, seed=4)
    answer = session.run("explain", raw(columns))
    assert answer["fields"][0].tolist() == [b"user", b"taste", b"item", b"image"]
    columns["image"] = [None] * 30
    without = session.run("serving_default", raw(columns))["probability"]
    np.testing.assert_allclose(
        answer["contributions"][:, 3:], answer["probability"] - without, atol=1e-6
    )


def test_ids_that_mean_nothing_are_a_missing_vector(place, session):
    spec = FeatureSpec.load(place / "run" / "features")
    features = raw(drawn(5, seed=5))
    ids = encoded(spec, features)
    there = session.run("ids", {"ids": ids})["probability"]
    served = session.run("serving_default", features)["probability"]
    np.testing.assert_allclose(there, served, atol=1e-6)
    ids[:, 5] = 10**6  # the image's; its numbers stay
    features["image"][:] = NAN
    np.testing.assert_allclose(
        session.run("ids", {"ids": ids})["probability"],
        session.run("serving_default", features)["probability"],
        atol=1e-6,
    )


@pytest.fixture(scope="module")
def server(place):
    with Standin(place / "models" / "clicks") as server:
        yield server


@pytest.fixture(params=["grpc", "rest"])
def client(request, server):
    with Client(getattr(server, request.param), "clicks", deadline=30.0) as client:
        yield client


def client_rows(columns):
    names = ("user", "taste", "item", "image")
    return [dict(zip(names, row)) for row in zip(*(columns[n] for n in names))]


def test_the_client_takes_vectors_in_any_form(client, session):
    columns = drawn(20, seed=6)
    expected = session.run("serving_default", raw(columns))["probability"][:, 0]
    rows = client_rows(columns)
    rows[0]["image"] = np.float64(rows[0]["image"])
    tables = {name: [row[name] for row in rows] for name in rows[0]}
    arrow = pa.table(
        {**tables, "image": pa.array(tables["image"], pa.list_(pa.float32(), 6))}
    )
    for form in (rows, tables, arrow, arrow.to_pandas(), raw(columns)):
        np.testing.assert_allclose(client.predict(form), expected, atol=1e-6)
    for missing in (None, [], [NAN] * LENGTH, [None] * LENGTH):
        rows[1]["image"] = missing
        score = client.predict(rows[1:2])
        rows[1]["image"] = None
        np.testing.assert_array_equal(score, client.predict(rows[1:2]))


def test_the_client_ranks(client):
    rows = client_rows(drawn(7, seed=7))
    user = {name: rows[0][name] for name in ("user", "taste")}
    candidates = [{name: row[name] for name in ("item", "image")} for row in rows]
    scores = client.predict([{**user, **candidate} for candidate in candidates])
    np.testing.assert_allclose(client.rank(user, candidates), scores, atol=1e-6)


@pytest.mark.parametrize(
    "image",
    [[1.0] * 5, [1.0] * 7, [1.0, NAN] * 3, [1.0, None] * 3, [1e39] * 6, 1.0, ["a"] * 6],
)
def test_the_client_refuses_what_is_no_vector(client, image):
    rows = client_rows(drawn(3, seed=8))
    rows[2]["image"] = image
    told = (
        "row 3, field 'image': expected a list of 6 finite numbers, or None. Received"
    )
    with pytest.raises(edcn_tf.InputError, match=told):
        client.predict(rows)


def test_a_request_that_is_sent_past_the_client_is_refused(server):
    with Client(server.rest, "clicks", deadline=30.0) as client:
        signature = client.signatures()["serving_default"]
        assert signature.inputs["image"].shape == (-1, LENGTH)
        wrong = raw(drawn(2, seed=9))
        tensors = {
            name: (value.shape, pa.array(value.ravel().tolist(), kind))
            for (name, value), kind in zip(
                wrong.items(), (pa.binary(), pa.float32(), pa.binary(), pa.float32())
            )
        }
        tensors["image"] = ((2, 5), pa.array([0.5] * 10, pa.float32()))
        with pytest.raises(ServingError):
            asyncio.run(
                client._transport.predict("serving_default", signature, tensors, 30.0)
            )


def test_edcn_request_reads_a_log(place, server, capsys):
    columns = drawn(6, seed=10)
    write_csv(place / "request.csv", columns)
    capsys.readouterr()
    command = ["request", server.grpc, "--model", "clicks", "--file"]
    status = main([*command, str(place / "request.csv")])
    out = capsys.readouterr()
    assert status == 0, out.err
    scores = predicted(place, place / "request.csv", "request_scores.csv")
    np.testing.assert_allclose(np.float64(out.out.split()), scores, atol=1e-6)


@pytest.mark.parametrize("text", ["1|2|3", "1|2|3|4|5|nan", "1|2|3|4|5|6|7"])
def test_prepare_and_predict_name_the_row(place, tmp_path, text):
    columns = drawn(10, seed=11)
    write_csv(tmp_path / "bad.csv", columns)
    lines = (tmp_path / "bad.csv").read_text().splitlines()
    cells = lines[4].split(",")
    lines[4] = ",".join([*cells[:-1], text])
    (tmp_path / "bad.csv").write_text("\n".join(lines) + "\n")
    told = f"{tmp_path}/bad.csv: row 4, column 'image': expected 6 finite numbers"
    schema = edcn_tf.Schema.from_dict(SCHEMA)
    with pytest.raises(edcn_tf.InputError, match=told):
        edcn_tf.prepare(tmp_path / "bad.csv", schema, tmp_path / "data")
    with pytest.raises(edcn_tf.InputError, match=told):
        edcn_tf.evaluation.prediction.predict_log(
            place / "run", [tmp_path / "bad.csv"], tmp_path / "scores.csv"
        )


@pytest.mark.parametrize("image", [[1.0] * 5, [1.0] * 7, [1.0, NAN] * 3])
def test_records_of_others_that_do_not_fit_are_named(place, tmp_path, image):
    [path, *_] = record_files(PreparedData(place / "csv").records("valid"))
    rows = [record.numpy() for record in tf.data.TFRecordDataset(path)]
    example = tf.train.Example.FromString(rows[1])
    values = example.features.feature["image"].float_list.value
    del values[:]
    values.extend(image)
    with tf.io.TFRecordWriter(str(tmp_path / "records.tfrecord")) as writer:
        for row in [rows[0], example.SerializeToString(), *rows[2:]]:
            writer.write(row)
    spec = FeatureSpec.load(place / "csv" / "features")
    with pytest.raises(edcn_tf.InputError, match="record 2 does not fit.*image"):
        check_records([str(tmp_path / "records.tfrecord")], spec)


def test_scores_that_were_logged_without_the_vector(place):
    """`edcn verify --against` finds it."""
    columns = drawn(80, seed=12)
    write_csv(place / "logged.csv", columns)
    write_csv(place / "bare.csv", {**columns, "image": [None] * 80})
    predicted(place, place / "bare.csv", "bare_scores.csv")
    skew = compare_scores(
        place / "models/clicks/1", [place / "logged.csv"], place / "bare_scores.csv"
    )
    assert skew.differing == sum(image is not None for image in columns["image"])
    first = skew.fields[0]
    assert (first.name, first.as_if_missing) == ("image", skew.differing)
    assert (first.value, first.differing) == ("a vector", skew.differing)


def test_the_report_shows_that_the_vector_counts(place):
    assert main(["report", str(place / "run")]) == 0
    page = (place / "run" / "report.html").read_text()
    assert "AUC lost when a field is shuffled, by field; most by image" in page


def test_a_day_after_goes_on(place, capsys):
    columns = drawn(600, seed=13)
    write_csv(place / "day2.csv", columns)
    schema = edcn_tf.Schema.from_dict(SCHEMA)
    edcn_tf.prepare(
        place / "day2.csv", schema, place / "day2", vocabulary_of=place / "run"
    )
    config = config_of(epochs=1, learning_rate=1e-12)
    edcn_tf.train(place / "day2", place / "run2", config, warm_start=place / "run")
    (first, spec), (second, later) = (load_run(place / n) for n in ("run", "run2"))
    assert [own.mean for own in spec.fields] == [own.mean for own in later.fields]
    features = raw(drawn(50, seed=14))
    before = first(encoded(spec, features))
    after = second(encoded(later, features))
    np.testing.assert_allclose(after, before, atol=1e-5)
    # Data of their own are standardized by their own means.
    edcn_tf.prepare(place / "day2.csv", schema, place / "apart")
    with pytest.raises(edcn_tf.InputError, match="'taste'.*--vocabulary-of"):
        edcn_tf.train(place / "apart", place / "run3", config, warm_start=place / "run")


def test_a_day_after_with_a_new_field_keeps_projections(place):
    columns = {**drawn(600, seed=15), "hour": [str(i % 24) for i in range(600)]}
    write_csv(place / "day3.csv", columns)
    fields = [*SCHEMA["fields"], {"name": "hour"}]
    schema = edcn_tf.Schema.from_dict({**SCHEMA, "fields": fields})
    edcn_tf.prepare(
        place / "day3.csv", schema, place / "day3", vocabulary_of=place / "run"
    )
    config = config_of(epochs=1, learning_rate=1e-12)
    edcn_tf.train(place / "day3", place / "run_new", config, warm_start=place / "run")
    first, second = (load_run(place / name)[0] for name in ("run", "run_new"))
    for name in ("image", "taste"):
        one, other = (m.embedding.projections[name] for m in (first, second))
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_vector_has_no_pretrained_embeddings(place):
    (place / "vectors.csv").write_text("value,a,b,c,d\nx,1,2,3,4\n")
    config = config_of(pretrained={"image": str(place / "vectors.csv")})
    with pytest.raises(edcn_tf.InputError, match="'image' is numeric"):
        edcn_tf.train(place / "csv", place / "pretrained", config)


@pytest.mark.parametrize("history", ["pooling", "din"])
def test_beside_a_history(place, tmp_path, history):
    columns = drawn(300, seed=16)
    columns["past"] = [[f"i{(i + j) % 5}" for j in range(i % 4)] for i in range(300)]
    write_csv(tmp_path / "log.csv", columns)
    past = {"name": "past", "kind": "sequence", "of": "item", "max_length": 3}
    fields = [past, *SCHEMA["fields"]]
    schema = edcn_tf.Schema.from_dict({**SCHEMA, "fields": fields})
    edcn_tf.prepare(tmp_path / "log.csv", schema, tmp_path / "data")
    config = config_of(epochs=1, history=history)
    edcn_tf.train(tmp_path / "data", tmp_path / "run", config)
    model, spec = load_run(tmp_path / "run")
    past = np.array([[*row, "", "", ""][:3] for row in columns["past"]], object)
    ids = encoded(spec, {**raw(columns), "past": past})
    # The image is a field that counts, whatever becomes of the history: its numbers
    # are the last slots.
    without = ids.copy()
    without[:, -LENGTH:] = 0
    assert np.abs(model(ids) - model(without)).max() > 1e-4


def test_drift_of_vectors_is_that_they_are_missing(place, tmp_path):
    columns = drawn(400, seed=5)
    write_csv(tmp_path / "day.csv", columns)
    drift = measure_drift(place / "run", [tmp_path / "day.csv"])
    assert drift.alarms == []
    assert sorted(drift.left_out) == ["image", "taste"]
    columns["image"] = [None] * 200 + columns["image"][200:]
    write_csv(tmp_path / "less.csv", columns)
    drift = measure_drift(place / "run", [tmp_path / "less.csv"])
    assert "image" in [alarm.name for alarm in drift.alarms]
    [image] = [field for field in drift.fields if field.name == "image"]
    assert image.missing.value == pytest.approx(0.55, abs=0.05)
    assert image.missing.reference == pytest.approx(0.1, abs=0.03)


def test_logged_requests_with_vectors_are_replayed(place):
    version = place / "models" / "clicks" / "1"
    recorded = version / "assets.extra" / "recorded_requests.tfrecord"
    skew = compare_scores(version, [recorded])
    assert skew.differing == 0 and skew.rows > 1000
