"""Boosted trees beside our models: what they are given, and what comes back."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import edcn_tf
from edcn_tf.benchmarks import environments
from edcn_tf.benchmarks.quality import peers
from edcn_tf.benchmarks.quality.raw_values import raw_values
from edcn_tf.errors import InputError
from edcn_tf.evaluation import metrics

PROGRAM = Path(peers.__file__).parent / "with_trees.py"
LINES = """\
late,weight,at,user,code,tags,price
1,1,1970-01-01 00:00:30.5,u1,7,b|a|b,1.5
0,2,1970-01-01 00:00:10,,-3,,
1,0.5,1970-01-01 00:00:20,u2,,c,0.1
0,1,1970-01-01 00:00:10,u1,7,a,inf
"""
SCHEMA = {
    "label": "late",
    "weight": "weight",
    "timestamp": "at",
    "fields": [
        {"name": "user"},
        {"name": "code", "dtype": "int64"},
        {"name": "tags", "multiple": True, "max_length": 1},
        {"name": "price", "kind": "numeric"},
    ],
}


def prepared(folder, lines=LINES, schema=SCHEMA, **options):
    """A folder as the benchmark has it, of a log, or of one for each split."""
    folder.mkdir()
    (folder / "log.csv").write_text(lines)
    logs = options.pop("logs", folder / "log.csv")
    edcn_tf.prepare(logs, edcn_tf.Schema.from_dict(schema), folder / "data", **options)
    return folder


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "new.csv").write_text(
        "late,weight,at,user,code,tags,price\n"
        "1,1,1970-01-01 00:01:00,u3,7,d,2.5\n0,1,1970-01-01 00:01:01,u1,7,d,2.5\n"
    )
    own = {"train": [tmp_path / "folder/log.csv"]}
    own |= {split: [tmp_path / "new.csv"] for split in ("valid", "test")}
    return prepared(tmp_path / "folder", logs=own)


def test_the_values_are_those_of_the_log(folder):
    """Each list whole, its values once and sorted, and what is missing is missing."""
    path = raw_values(folder)
    with np.load(path) as file:
        fields = json.loads(str(file["fields"]))
        found = {name: file[name] for name in file.files if name != "fields"}
    assert [field["name"] for field in fields] == ["user", "code", "tags", "price"]

    def texts(split, number):
        values = [*fields[number]["values"], None]  # -1 is none
        assert found[f"{split}_{number}"].dtype == np.int32
        return [values[place] for place in found[f"{split}_{number}"]]

    assert texts("train", 0) == ["u1", None, "u2", "u1"]
    assert texts("train", 1) == ["7", "-3", None, "7"]
    assert texts("train", 2) == ["a|b", None, "c", "a"]
    assert texts("test", 0) == ["u3", "u1"] and texts("valid", 2) == ["d", "d"]
    assert fields[3]["values"] is None
    price = np.float32([1.5, np.nan, 0.1, np.inf])
    np.testing.assert_array_equal(found["train_3"], price)
    np.testing.assert_array_equal(found["train_labels"], [1, 0, 1, 0])
    np.testing.assert_array_equal(found["train_weights"], [1, 2, 0.5, 1])
    np.testing.assert_array_equal(found["train_times"], [30, 10, 20, 10])
    np.testing.assert_array_equal(found["test_times"], [60, 61])
    before = path.stat().st_mtime_ns
    assert raw_values(folder).stat().st_mtime_ns == before


def test_rows_have_the_order_in_which_our_models_see_them(tmp_path):
    """Also where a split has several files, which are read in turns."""
    rows = [f"{i % 2},1,{i},u{i},1,a,{i}" for i in range(3000)]
    text = "\n".join([LINES.splitlines()[0], *rows])
    folder = prepared(tmp_path / "folder", text)
    files = f"{folder}/data/train-*.tfrecord"
    first = folder / "data/train-00000.tfrecord"
    records = [each.numpy() for each in tf.data.TFRecordDataset(str(first))]
    second = first.with_stem("train-00001")
    for path, part in [(first, records[:1200]), (second, records[1200:])]:
        with tf.io.TFRecordWriter(str(path)) as writer:
            for record in part:
                writer.write(record)
    spec = edcn_tf.FeatureSpec.load(folder / "data/features")
    labels = [labels for _, labels, _ in edcn_tf.read_records(files, spec, 1000)]
    with np.load(raw_values(folder)) as found:
        assert not (np.diff(found["train_times"]) > 0).all()
        np.testing.assert_array_equal(found["train_labels"], np.concatenate(labels))
        np.testing.assert_array_equal(found["train_times"], found["train_3"])


def test_a_cross_is_no_value_of_the_log(tmp_path):
    cross = {"name": "both", "kind": "cross", "of": ["user", "code"]}
    schema = {**SCHEMA, "fields": [*SCHEMA["fields"], cross]}
    own = {split: [tmp_path / "folder/log.csv"] for split in ("train", "valid", "test")}
    folder = prepared(tmp_path / "folder", schema=schema, logs=own)
    with np.load(raw_values(folder)) as file:
        names = [field["name"] for field in json.loads(str(file["fields"]))]
    assert names == ["user", "code", "tags", "price"]


def test_a_sequence_is_refused(tmp_path):
    fields = [{"name": "user"}, {"name": "tags", "kind": "sequence"}]
    schema = {**SCHEMA, "fields": fields}
    folder = prepared(tmp_path / "folder", schema=schema, split=(1, 0, 0))
    with pytest.raises(InputError, match="'tags' is a sequence.* leave it out"):
        raw_values(folder)


# The program, with stand-ins for the two libraries that write down what they are given.
CATBOOST = """
    import json

    class Pool:
        def __init__(self, rows, labels=None, weight=None, cat_features=None):
            assert not rows[cat_features].isna().to_numpy().any()
            self.rows, self.cat_features = rows, cat_features
            self.labels, self.weight = labels, weight

    class CatBoostClassifier:
        def __init__(self, **options):
            self.options = options

        def fit(self, pool, eval_set):
            with open("given.json", "w") as file:
                json.dump(
                    {
                        "options": self.options,
                        "rows": [[*map(str, row)] for row in pool.rows.to_numpy()],
                        "cat_features": pool.cat_features,
                        "labels": pool.labels.tolist(),
                        "weight": pool.weight.tolist(),
                        "valid_rows": len(eval_set.rows),
                        "valid_labels": eval_set.labels.tolist(),
                    },
                    file,
                )

        def get_best_iteration(self):
            return 6

        def predict_proba(self, pool):
            import numpy as np

            seen = pool.rows["user"].astype(str).to_numpy() == "u1"
            return np.stack([1 - 0.25 * seen, 0.25 * seen], axis=1)
"""
LIGHTGBM = """
    import json

    class Dataset:
        def __init__(self, rows, labels, weight, reference=None):
            self.rows, self.labels, self.weight = rows, labels, weight
            self.reference = reference

    def early_stopping(rounds, verbose):
        return rounds

    class Model:
        best_iteration = 7

        def predict(self, rows):
            return rows["price"].to_numpy() / 10

    def train(options, data, trees, valid, callbacks):
        assert valid[0].reference is data
        with open("given.json", "w") as file:
            json.dump(
                {
                    "options": options,
                    "codes": {
                        name: data.rows[name].cat.codes.tolist()
                        for name in data.rows.select_dtypes("category")
                    },
                    "labels": data.labels.tolist(),
                    "weight": data.weight.tolist(),
                    "valid_labels": valid[0].labels.tolist(),
                    "callbacks": callbacks,
                },
                file,
            )
        return Model()
"""


def trained(folder, settings, tmp_path):
    """What a stand-in for a library was given, and the scores."""
    pytest.importorskip("pandas")
    for name, lines in [("catboost", CATBOOST), ("lightgbm", LIGHTGBM)]:
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(lines))
    scores = tmp_path / "scores.npz"
    subprocess.run(
        [sys.executable, PROGRAM, raw_values(folder), scores, json.dumps(settings)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        check=True,
    )
    with np.load(scores) as file:
        found = {name: file[name] for name in file.files}
    return json.loads((tmp_path / "given.json").read_text()), found


def test_catboost_has_the_rows_in_the_order_of_their_times(folder, tmp_path):
    settings = {"library": "catboost", "seed": 3, "has_time": True}
    given, scores = trained(folder, settings, tmp_path)
    assert given["rows"] == [  # of two rows of one time the log's first is first
        ["", "-3", "", "nan"],
        ["u1", "7", "a", "inf"],
        ["u2", "", "c", str(float(np.float32(0.1)))],
        ["u1", "7", "a|b", "1.5"],
    ]
    assert given["cat_features"] == ["user", "code", "tags"]
    assert given["labels"] == [0, 0, 1, 1]
    assert given["weight"] == [2, 1, 0.5, 1]
    assert given["valid_labels"] == [1, 0]
    options = given["options"]
    assert options["has_time"] is True and options["random_seed"] == 3
    assert options["early_stopping_rounds"] > 0
    assert options["thread_count"] == len(os.sched_getaffinity(0))
    np.testing.assert_array_equal(scores["test"], [0, 0.25])
    assert scores["trees"] == 7 and scores["training_seconds"] > 0

    settings["has_time"] = False
    given, _ = trained(folder, settings, tmp_path)
    assert given["labels"] == [1, 0, 1, 0] and given["options"]["has_time"] is False


def test_lightgbm_has_missing_categories_as_missing(folder, tmp_path):
    settings = {"library": "lightgbm", "seed": 3, "has_time": False, "num_leaves": 9}
    given, scores = trained(folder, settings, tmp_path)
    assert given["codes"]["user"] == [0, -1, 1, 0]
    assert given["codes"]["code"] == [0, 1, -1, 0]
    assert given["labels"] == [1, 0, 1, 0] and given["weight"] == [1, 2, 0.5, 1]
    assert given["valid_labels"] == [1, 0]
    assert given["options"]["num_leaves"] == 9 and given["options"]["seed"] == 3
    assert given["options"]["num_threads"] == len(os.sched_getaffinity(0))
    np.testing.assert_array_equal(scores["test"], [0.25, 0.25])


# The contenders, with a stand-in for the Python that would run the program.


def stand_in(path):
    path.write_text(
        f"#!{sys.executable}\n"
        + textwrap.dedent(
            """
            import json, sys
            import numpy as np
            _, script, values, scores, settings = sys.argv
            assert script.endswith("with_trees.py")
            settings = json.loads(settings)
            with np.load(values) as file:
                valid, test = file["valid_labels"], file["test_labels"]
            shift = settings["has_time"] / 2 + settings["seed"] / 100
            np.savez(scores, valid=-valid, test=test + shift, training_seconds=2.0)
            """
        )
    )
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("split_by", ["chance", "time"])
def test_order_counts_where_the_split_is_by_time(tmp_path, split_by):
    rows = [f"{i % 2},1,{i},u{i % 7},1,a,{i}" for i in range(200)]
    text = "\n".join([LINES.splitlines()[0], *rows])
    folder = prepared(tmp_path / "folder", text, split_by=split_by)
    python = stand_in(tmp_path / "python")
    contender = peers._of_trees(python, "catboost", "CatBoost", ({}, {"depth": 4}))
    assert contender.chosen(folder) == {}
    run, result = contender.run(folder, {}, 3)
    assert result == {"valid_auc": 0.0, "training_seconds": 2.0}  # by our metrics
    labels, scores = contender.score(folder, run)
    np.testing.assert_allclose(scores, labels + 0.03 + (split_by == "time") / 2)
    assert {path.name for path in (folder / "runs").iterdir()} == {
        *("catboost-0", "catboost-depth=4-0", "catboost-3")
    }
    python.unlink()  # not again
    assert contender.run(folder, {}, 3) == (run, result)


def test_an_environment_is_made_once_for_its_versions(tmp_path, monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(
        environments.subprocess,
        "run",
        lambda command, check: calls.append(command[1:]) or Path(command[-1]),
    )
    (tmp_path / "some-trees").mkdir()
    for needed in (["a==1"], ["a==1"], ["a==2", "b"]):
        python = environments.python_of(tmp_path, "Some trees", needed)
        assert python == tmp_path / "some-trees/bin/python"
    home = tmp_path / "some-trees"
    assert calls == [
        ["-m", "venv", "--clear", home],
        ["-m", "pip", "install", "--quiet", "a==1"],
        ["-m", "venv", "--clear", home],
        ["-m", "pip", "install", "--quiet", "a==2", "b"],
    ]
    assert capsys.readouterr().out.count("Installing Some trees") == 2


@pytest.mark.slow
def test_the_libraries_themselves(tmp_path):
    """What a pair of values decides is found, and CatBoost looks at the order."""
    random = np.random.default_rng(5)
    rows = []
    for i in range(6000):
        user, item = random.integers(0, 15), random.integers(0, 20)
        click = int(random.random() < (0.9 if (user + item) % 2 else 0.1))
        user = f"u{user}" if user else ""
        rows.append(f"{click},1,{6000 - i},{user},{item},t{item % 3}|t{i % 2},")
    text = "\n".join([LINES.splitlines()[0], *rows])
    found = {}
    for split_by in ("chance", "time"):
        folder = prepared(tmp_path / split_by, text, split_by=split_by)
        contenders = peers.tree_contenders(tmp_path / "peers")
        assert set(contenders) == {"catboost", "lightgbm"}
        for name, contender in contenders.items():
            settings = contender.chosen(folder)
            run, result = contender.run(folder, settings, 0)
            labels, scores = contender.score(folder, run)
            assert 0.85 < metrics.auc(labels, scores) < 0.95, name
            assert metrics.log_loss(labels, scores) < 0.45, name
            assert result["valid_auc"] > 0.85
            found[name, split_by] = scores
    # The same rows, told to be in no order.
    values = tmp_path / "time/values.npz"
    settings = {"library": "catboost", "seed": 0, "has_time": False}
    python = tmp_path / "peers/trees/bin/python"
    out = tmp_path / "scores.npz"
    subprocess.run([python, PROGRAM, values, out, json.dumps(settings)], check=True)
    with np.load(out) as file:
        assert not np.array_equal(file["test"], found["catboost", "time"])
