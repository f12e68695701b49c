"""The whole way of a log whose items' click rates drift from day to day."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.csv
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
from edcn_tf.features.statistics.counter import keys_of_columns
from edcn_tf.preparation import groups
from edcn_tf.preparation.updating import update_statistics
from edcn_tf.records.encoded import encode_rows, read_encoded
from helpers import raw_rows
from helpers.prepared import content
from helpers.serving import Standin

DAY = 86_400
START = 1_700_000_000
FIELDS = [
    {"name": "user"},
    {"name": "item", "dtype": "int64", "candidate": True},
    {"name": "tags", "multiple": True},
    {"name": "place"},
]
STATISTICS = [  # of a user's, of a candidate's, of both fields; of a list
    {"name": "item_rate", "kind": "statistic", "of": "item"},
    {"name": "user_item", "kind": "statistic", "of": ["user", "item"], "delay": "6h"},
    {"name": "tag_rate", "kind": "statistic", "of": ["place", "tags"]},
    {"name": "item_tag", "kind": "statistic", "of": ["item", "tags"], "min_count": 3},
]
SCHEMA = {
    "label": "click",
    "timestamp": "time",
    # The statistics stand before, between and after what they are of.
    "fields": [
        STATISTICS[1],
        *FIELDS[:2],
        STATISTICS[2],
        *FIELDS[2:],
        *STATISTICS[::3],
    ],
}
SETTINGS = {
    "model": "edcn",
    "embedding_dim": 4,
    "num_layers": 1,
    "epochs": 2,
    "batch_size": 256,
    "average_decay": None,
}
SIGNATURES = {
    *("serving_default", "examples", "classify", "regress"),
    *("fresh", "ids", "rank", "explain"),
}


def config_of(**settings):
    return edcn_tf.TrainingConfig.from_dict({**SETTINGS, **settings})


def drawn(rows, seed, first_day=0, days=10):
    """Columns of a log: each item is liked more or less from day to day."""
    random = np.random.default_rng(seed)
    day = np.sort(random.uniform(first_day, first_day + days, rows))
    item = random.integers(0, 20, rows)
    liked = 1 / (1 + np.exp(-3 * np.sin(item + day / 3)))

    def some(values):
        missing = random.random(rows) < 0.03
        return [None if none else value for none, value in zip(missing, values)]

    tags = [random.choice([*"abcd", "a&b"], random.integers(0, 3)) for _ in range(rows)]
    return {
        "click": (random.random(rows) < liked).astype(int).tolist(),
        "time": (START + day * DAY).astype(int).tolist(),
        "user": some([f"u&{i}" for i in random.integers(0, 30, rows)]),
        "item": some(item.tolist()),
        "tags": ["|".join(each) for each in tags],
        "place": some([f"p\\{i}" for i in random.integers(0, 3, rows)]),
    }


def write(path, columns):
    pa.csv.write_csv(pa.table(columns), path)
    return path


def schema():
    return edcn_tf.Schema.from_dict(SCHEMA)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A log of ten days, prepared by both protocols; a run; its export."""
    folder = tmp_path_factory.mktemp("statistics")
    log = write(folder / "log.csv", drawn(3000, seed=0))
    (folder / "schema.json").write_text(json.dumps(SCHEMA))
    for protocol in ("frozen", "running"):
        edcn_tf.prepare(
            log, schema(), folder / protocol, split_by="time", protocol=protocol
        )
    edcn_tf.train(folder / "running", folder / "run", config_of())
    export_run(folder / "run", folder / "models" / "clicks")
    return folder


@pytest.fixture(scope="module")
def session(place):
    with Session(place / "models" / "clicks" / "1") as session:
        yield session


def raw(columns):
    """As `serving_default` takes them: the inputs alone."""
    return raw_rows.raw(FIELDS, columns)


def known(spec, of, *texts):
    """Clicks and impressions that the table has of a key."""
    [table] = [each for each in spec.counters if each.counter.of == of]
    keys, counts = table.load()
    batch = pa.record_batch({n: pa.array([t]) for n, t in zip(of, texts)})
    _, [key] = keys_of_columns(batch, table.counter)
    place = np.flatnonzero(keys == key)
    return counts[place[0]] if len(place) else np.zeros(2)


def test_a_model_that_knows_the_rates_of_now_is_better(place):
    plain = edcn_tf.Schema.from_dict({**SCHEMA, "fields": FIELDS})
    edcn_tf.prepare(place / "log.csv", plain, place / "plain", split_by="time")
    edcn_tf.train(place / "plain", place / "plain_run", config_of())
    without = evaluate_run(place / "plain_run", place / "plain")["auc"]
    assert evaluate_run(place / "run", place / "running")["auc"] > without + 0.05


def test_beam_counts_the_same(place, monkeypatch):
    pytest.importorskip("edcn_tf.preparation.beam")
    monkeypatch.setattr(groups, "BYTES_PER_GROUP", 10_000)
    assert groups.number_of_groups((place / "log.csv").stat().st_size) > 2
    log = place / "log.parquet"  # of row groups, each a part
    table = pa.csv.read_csv(place / "log.csv")
    pa.parquet.write_table(table, log, row_group_size=700)
    for protocol in ("frozen", "running"):
        out = place / f"beam-{protocol}"
        edcn_tf.prepare(
            log,
            schema(),
            out,
            split_by="time",
            protocol=protocol,
            runner="DirectRunner",
        )
        assert content(out / "features") == content(place / protocol / "features")
        mine, other = (sorted(_records(each)) for each in (out, place / protocol))
        assert mine == other


def _records(data):
    files = [str(path) for path in data.glob("*.tfrecord")]
    return [record.numpy() for record in tf.data.TFRecordDataset(files)]


def test_every_signature_is_verified(place, session):
    told = verify_saved_model(place / "models" / "clicks" / "1")
    assert set(told["signatures"]) == SIGNATURES
    assert told["largest_difference"] <= 1e-6


def test_the_export_scores_as_edcn_predict_does(place, session):
    columns = drawn(300, seed=1)
    log = write(place / "new.csv", columns)
    scores = place / "scores.csv"
    assert main(["predict", str(place / "run"), str(log), "--out", str(scores)]) == 0
    served = session.run("serving_default", raw(columns))["probability"][:, 0]
    logged = np.loadtxt(scores, skiprows=1)
    assert np.ptp(logged) > 0.2
    np.testing.assert_allclose(served, logged, atol=1e-6)


def test_ranking_is_scoring_the_candidates_one_by_one(session):
    features, (users, candidates) = raw(drawn(35, seed=2)), (5, 7)
    of_user = ("user", "tags", "place")
    rank = {name: features[name][:users] for name in of_user}
    rank["item"] = features["item"].reshape(users, candidates)
    ranked = session.run("rank", rank)["probability"]
    rows = {name: np.repeat(rank[name], candidates, axis=0) for name in of_user}
    scores = session.run("serving_default", {**rows, "item": features["item"]})
    assert np.ptp(ranked) > 0.1
    np.testing.assert_allclose(ranked.ravel(), scores["probability"][:, 0], atol=1e-6)


def test_what_a_request_knows_wins(place, session):
    spec = FeatureSpec.load(place / "run" / "features")
    row = {
        **{"user": "u&1", "item": 3, "tags": ["a", "a&b"], "place": "p\\2"},
        **{"item_rate": [500, 500], "user_item": None, "tag_rate": None},
        "item_tag": None,
    }
    with (
        Standin(place / "models" / "clicks") as server,
        Client(server.rest, "clicks", deadline=60) as client,
        Client(server.grpc, "clicks", deadline=60) as by_grpc,
    ):

        def asked(item_rate):
            rows = [{**row, "item_rate": item_rate}]
            [score] = client.predict(rows, "fresh")
            [same] = by_grpc.predict(rows, "fresh")
            assert score == pytest.approx(same, abs=1e-6)
            return score

        inputs = {field["name"]: row[field["name"]] for field in FIELDS}
        [looked_up] = client.predict([inputs])
        assert asked(None) == pytest.approx(looked_up, abs=1e-6)
        told = known(spec, ("item",), "3").tolist()
        assert told[1] > 10
        assert asked(told) == pytest.approx(looked_up, abs=1e-6)
        assert asked([500, 500]) > asked([0, 500])
        with pytest.raises(edcn_tf.InputError, match="item_rate"):
            client.predict([{**inputs, "item_rate": [1, 1]}])
    example = tf.train.Example()
    for name in ("user", "place"):
        example.features.feature[name].bytes_list.value[:] = [row[name].encode()]
    tags = [tag.encode() for tag in row["tags"]]
    example.features.feature["tags"].bytes_list.value[:] = tags
    example.features.feature["item"].int64_list.value[:] = [3]
    plain = example.SerializeToString()
    example.features.feature["item_rate"].float_list.value[:] = [500, 500]
    inputs = np.array([plain, example.SerializeToString()], object)
    scores = session.run("examples", {"inputs": inputs})["probability"][:, 0]
    np.testing.assert_allclose(scores, [looked_up, asked_for(session, row)], atol=1e-6)


def asked_for(session, row):
    columns = {n: [row[n]] for n in ("user", "item", "place")}
    features = raw({**columns, "tags": ["|".join(row["tags"])]})
    nothing = {s["name"]: np.full((1, _width(s)), np.nan) for s in STATISTICS}
    given = {**nothing, "item_rate": np.array([[500, 500]])}
    given = {name: value.astype(np.float32) for name, value in given.items()}
    return session.run("fresh", {**features, **given})["probability"][0, 0]


def _width(statistic):
    of = statistic["of"]
    return 2 * (1 if isinstance(of, str) else len(of))


@pytest.mark.parametrize(
    "counts", [[-1, 5], [6, 5], [np.inf, np.inf], [np.nan, 4], [1, np.nan]]
)
def test_counts_that_cannot_be_are_refused(counts, session):
    row = {"user": "u&1", "item": 3, "tags": ["a"], "place": "p\\2"}
    features = raw({**{n: [row[n]] for n in row}, "tags": ["a"]})
    given = {s["name"]: np.full((1, _width(s)), np.nan) for s in STATISTICS}
    given["item_rate"] = np.array([counts])
    given = {name: value.astype(np.float32) for name, value in given.items()}
    told = "item_rate must be clicks and impressions of 1 levels, finite, at least 0"
    with pytest.raises(Exception, match=told):
        session.run("fresh", {**features, **given})


def test_ids_that_cannot_be_are_of_a_key_that_nothing_is_known_of(place, session):
    spec = FeatureSpec.load(place / "run" / "features")
    ids = edcn_tf.Encoder(spec)(
        {n: tf.constant(v) for n, v in raw(drawn(1, seed=9)).items()}
    ).numpy()
    slot = 0  # `user_item` comes first
    bad, right = ids.copy(), ids.copy()
    bad[0, slot : slot + 2] = [10**6, -5]
    own = spec.fields[0]
    right[0, slot : slot + 2] = np.array(own.statistic.nothing_known()) + own.offset
    scores = [session.run("ids", {"ids": each})["probability"] for each in (bad, right)]
    assert scores[0] == scores[1]


def test_a_new_day_is_served_without_training(place, tmp_path, capsys):
    day2 = write(tmp_path / "day2.csv", drawn(600, seed=3, first_day=10, days=2))
    run, out = place / "run", tmp_path / "run"
    shown = known(FeatureSpec.load(run / "features"), ("item",), "3")[1]
    update_statistics(run, day2, out)
    assert known(FeatureSpec.load(out / "features"), ("item",), "3")[1] > shown
    export_run(out, tmp_path / "models")
    told = verify_saved_model(tmp_path / "models" / "1")
    assert told["largest_difference"] <= 1e-6
    # Rows of a frozen split would be judged by what came after them.
    assert main(["evaluate", str(out), str(place / "frozen")]) == 0
    assert f"The run's tables hold all rows of {day2}" in capsys.readouterr().out
    assert main(["evaluate", str(run), str(place / "frozen")]) == 0
    assert "The run's tables" not in capsys.readouterr().out
    before, after = (
        evaluate_run(each, place / "running")["auc"] for each in (run, out)
    )
    assert before == after  # whose rows hold what they knew


def test_a_day_after_goes_on(place, tmp_path):
    log = write(tmp_path / "day2.csv", drawn(600, seed=5, first_day=10, days=3))
    data, run = tmp_path / "day2", place / "run"
    edcn_tf.prepare(log, schema(), data, vocabulary_of=run, split_by="time")
    config = config_of(epochs=1, learning_rate=1e-12)
    edcn_tf.train(data, tmp_path / "run2", config, warm_start=run)
    (first, spec), (second, later) = (load_run(r) for r in (run, tmp_path / "run2"))
    rows = raw(drawn(50, seed=6))
    nothing = {s["name"]: np.full((50, _width(s)), np.nan) for s in STATISTICS}
    given = {
        n: np.zeros_like(v) + [2, 9] * (v.shape[1] // 2) for n, v in nothing.items()
    }
    features = {n: tf.constant(v) for n, v in rows.items()}
    features |= {n: tf.constant(v, tf.float32) for n, v in given.items()}
    scores = first(edcn_tf.Encoder(spec)(features))
    assert np.ptp(scores) > 0.01
    np.testing.assert_allclose(
        second(edcn_tf.Encoder(later)(features)), scores, atol=1e-5
    )
    for key, value in (("smoothing", 9.0), ("delay", "2d"), ("min_count", 7)):
        other = [dict(field) for field in SCHEMA["fields"]]
        other[0][key] = value
        changed = edcn_tf.Schema.from_dict({**SCHEMA, "fields": other})
        with pytest.raises(edcn_tf.InputError, match=f"'user_item': `{key}` was"):
            edcn_tf.prepare(log, changed, tmp_path / "no", vocabulary_of=run)


def test_reports_and_figures_say_how_statistics_were_counted(place, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(place / "run", run)
    assert main(["report", str(run)]) == 0
    page = (run / "report.html").read_text()
    assert "Statistics are running: as of each row" in page
    assert "item_rate" in page
    assert main(["evaluate", str(run), str(place / "running")]) == 0
    assert "Statistics running: as of each row's time" in capsys.readouterr().out


def test_data_of_other_statistics_is_refused(place, tmp_path):
    """Whose rows would hold the counts of something else by the same name."""
    log, run = place / "log.csv", place / "run"
    other = [dict(field) for field in SCHEMA["fields"]]
    other[0]["delay"] = "2d"
    later = edcn_tf.Schema.from_dict({**SCHEMA, "fields": other})
    edcn_tf.prepare(log, later, tmp_path / "later", split_by="time")
    with pytest.raises(edcn_tf.InputError, match="'user_item' is not what .*'6h'"):
        evaluate_run(run, tmp_path / "later")
    without = edcn_tf.Schema.from_dict({**SCHEMA, "fields": FIELDS})
    edcn_tf.prepare(log, without, tmp_path / "without", split_by="time")
    assert 0 < evaluate_run(run, tmp_path / "without")["auc"] < 1
    with pytest.raises(edcn_tf.InputError, match="a training row must hold"):
        evaluate_run(run, tmp_path / "without", "train")


def test_rows_that_were_encoded_once_are_the_same(place):
    """Which a search reads."""
    data = place / "running"
    spec = FeatureSpec.load(data / "features")
    encode_rows(data, place / "encoded")
    for split in ("train", "valid"):
        parsed = edcn_tf.read_records(str(data / f"{split}-*.tfrecord"), spec, 5000)
        encoded = read_encoded(str(place / f"encoded/{split}-*.ids"), spec, 5000)
        for one, other in zip(parsed, encoded, strict=True):
            np.testing.assert_array_equal(one[0], other[0])


def test_a_damaged_table_is_named(place, tmp_path):
    shutil.copytree(place / "run", tmp_path / "run")
    path = tmp_path / "run/features/statistics/000-keys.npy"
    np.save(path, np.load(path)[:-1])
    with pytest.raises(edcn_tf.InputError, match="000-keys.npy: does not fit"):
        export_run(tmp_path / "run", tmp_path / "models")
    path.unlink()
    with pytest.raises(edcn_tf.InputError, match="000-keys.npy: is not there"):
        FeatureSpec.load(tmp_path / "run/features")


def test_drift_leaves_statistics_out_and_says_so(place, tmp_path):
    day = write(tmp_path / "day.csv", drawn(500, seed=8, first_day=10, days=1))
    drift = measure_drift(place / "run", [day])
    names = {each["name"] for each in STATISTICS}
    assert set(drift.left_out) == names
    assert not names & {field.name for field in drift.fields}
    assert not {alarm.name for alarm in drift.alarms} & {"user", "tags", "place"}


def test_what_logged_requests_knew_is_replayed(place):
    """Statistics of `fresh`, and of tf.Examples, which no table has."""
    version = place / "models" / "clicks" / "1"
    recorded = version / "assets.extra" / "recorded_requests.tfrecord"
    skew = compare_scores(version, [recorded])
    assert skew.differing == 0 and skew.rows > 1000
    drift = measure_drift(place / "run", [recorded])
    assert drift.rows == skew.rows
