"""Data of the table of quality that the user has, or has not."""

import json
import os
import shutil
from pathlib import Path

import pytest
import tensorflow as tf

from edcn_tf import benchmarks
from edcn_tf.benchmarks import data, quality, runs
from edcn_tf.logs.datasets import frappe, open_bandit


@pytest.fixture
def judged(monkeypatch, tmp_path):
    """The folders that are prepared; models are not trained."""
    prepared = []
    monkeypatch.setattr(quality, "PARTS", [("frappe_x1", "chance"), ("movielens", "x")])
    monkeypatch.setattr(quality, "our_contenders", lambda: {})
    monkeypatch.setattr(quality, "draw", lambda *_: None)
    monkeypatch.setattr(quality, "compared", lambda _: {"models": {}})
    monkeypatch.setattr(quality, "section", lambda result, *_: result["title"])
    monkeypatch.setattr(
        quality, "prepared", lambda folder, name, *_, **__: prepared.append(name)
    )
    monkeypatch.setenv(data.TFDS_DATA_DIR, str(tmp_path / "tfds"))
    return prepared


def test_data_that_is_not_there_is_left_out_with_a_line(judged, tmp_path, capsys):
    benchmarks.run("quality", out=tmp_path, seeds=1)
    assert judged == ["movielens"]
    assert "frappe_x1 is left out: its files are not there" in capsys.readouterr().out
    results = json.loads((tmp_path / "quality.json").read_text())["results"]
    assert list(results) == ["movielens-x"]


def test_data_that_is_there_is_taken(judged, tmp_path, capsys):
    folder = tmp_path / "tfds/downloads/manual/frappe_x1"
    folder.mkdir(parents=True)
    for split in ("train", "valid", "test"):
        (folder / f"{split}.csv").touch()
    benchmarks.run("quality", out=tmp_path, seeds=1)
    assert judged == ["frappe_x1", "movielens"]
    assert "left out" not in capsys.readouterr().out


def test_data_that_is_asked_for_is_not_left_out(judged, tmp_path):
    """The error that says what to do is that of the data set."""
    benchmarks.run("quality", out=tmp_path, seeds=1, data=["frappe_x1"])
    assert judged == ["frappe_x1"]


def test_frappe_is_prepared_in_its_own_splits_where_the_user_has_it(
    tmp_path, monkeypatch
):
    """Also after data that sets another directory of data sets."""
    asked = []
    monkeypatch.setattr(runs, "encode_rows", lambda *_: None)
    monkeypatch.setattr(
        runs,
        "prepare",
        lambda logs, schema, *_, **options: asked.append(
            (logs, schema, options["format"], os.environ.get(data.TFDS_DATA_DIR))
        ),
    )
    for before in ("mine", None):
        monkeypatch.delenv(data.TFDS_DATA_DIR, raising=False)
        if before:
            monkeypatch.setenv(data.TFDS_DATA_DIR, before)
        asked.clear()
        for name in ("movielens", "frappe_x1"):
            assert runs.prepared(tmp_path / f"{name}-{before}", name) is None
        own = f"{tmp_path / f'movielens-{before}'}/tfds"
        assert [directory for *_, directory in asked] == [own, before]
        splits = ("train", "valid", "test")
        logs = {split: [f"tfds:frappe_x1[{split}]"] for split in splits}
        assert asked[1][:3] == (logs, frappe.SCHEMA, None)
        assert os.environ.get(data.TFDS_DATA_DIR) == before


def test_open_bandit_is_split_by_chance_and_by_time_where_the_user_has_it(
    tmp_path, monkeypatch
):
    """Its stand-in, with twenty rows more, of which the newest are to test on."""
    own = tmp_path / "tfds/downloads/manual"
    monkeypatch.setenv(data.TFDS_DATA_DIR, str(tmp_path / "tfds"))
    monkeypatch.setattr(open_bandit, "PACKAGE", "no_such_package")
    users = data.USERS_DATA["open_bandit"]
    assert not users.is_there()
    shutil.copytree(Path(__file__).parents[1] / "data/open_bandit_fake", own)
    assert users.is_there()
    with open(own / "open_bandit/random/men/men.csv", "a") as file:
        for i in range(20):
            file.write(f"{i},2019-12-01 00:00:{i:02}+00:00,1,2,0,0.5,,,,,0.0,0.0\n")
    assert [by for name, by in quality.PARTS if name == "open_bandit"] == [
        *("chance", "time")
    ]
    monkeypatch.setattr(runs, "encode_rows", lambda *_: None)
    runs.prepared(tmp_path / "out", "open_bandit", split_by="time")
    rows, times = 0, {}
    for split in ("train", "valid", "test"):
        records = tf.data.TFRecordDataset(f"{tmp_path}/out/data/{split}-00000.tfrecord")
        for record in records:
            features = tf.train.Example.FromString(record.numpy()).features.feature
            [time] = features["timestamp"].int64_list.value
            times.setdefault(split, []).append(time)
            rows += 1
    assert rows == 27
    assert max(times["train"]) < min(times["valid"])
    assert max(times["valid"]) < min(times["test"])
    assert times["test"][-1] == 1575158419000000  # microseconds, UTC
    assert features["item"].bytes_list.value == [b"men/1"]
    assert "propensity_score" not in features
