"""Negative sampling: which rows `prepare` keeps, and that it keeps the others whole."""

import json

import numpy as np
import pytest
import tensorflow as tf

from edcn import main
from edcn_tf import prepare
from edcn_tf.errors import InputError
from edcn_tf.features.spec import FeatureSpec
from edcn_tf.field import Field
from edcn_tf.framing import compression_of
from edcn_tf.logs import opening
from edcn_tf.records.writing import record_files
from edcn_tf.schema import Schema

ROWS = 4000
RATE = 0.25
SCHEMA = Schema(
    label="click",
    fields=(
        Field(name="user", min_count=1),
        Field(name="tags", multiple=True, min_count=1),
        Field(name="age", dtype="int64", min_count=1),
        Field(name="price", kind="numeric", buckets=6),
    ),
    timestamp="row",
)


def write_log(path, rows=range(ROWS)):
    lines = ["row,user,tags,age,price,click"]
    for i in rows:
        tags = "|".join(f"t{j}" for j in range(i % 4))
        age = "" if i % 5 == 0 else i % 50
        lines.append(f"{i},u{i % 37},{tags},{age},{i % 101 / 4},{int(i % 4 == 0)}")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return write_log(tmp_path_factory.mktemp("log") / "log.csv")


def rows_in(directory, split):
    found = []
    for path in record_files(f"{directory}/{split}-*"):
        for record in tf.data.TFRecordDataset(path, compression_of(path)):
            example = tf.train.Example.FromString(record.numpy())
            found.append(example.features.feature["row"].int64_list.value[0])
    return found


def splits_of(logs, directory, **options):
    splits = prepare(logs, SCHEMA, directory, **options)["splits"]
    return {split: rows_in(directory, split) for split in splits}


def deviations(kept, of):
    """Standard deviations that a binomial number of rows lies from what is expected."""
    deviation = np.sqrt(of * RATE * (1 - RATE))
    return abs(kept - RATE * of) / deviation


@pytest.mark.parametrize("split_by", ["chance", "time"])
def test_only_negatives_of_training_are_left_out(tmp_path, log, split_by):
    every = splits_of([log], tmp_path / "all", split_by=split_by)
    some = splits_of(
        [log], tmp_path / "some", split_by=split_by, negative_sampling_rate=RATE
    )
    assert (some["valid"], some["test"]) == (every["valid"], every["test"])
    clicks, others = [[r for r in every["train"] if (r % 4 == 0) == c] for c in (1, 0)]
    assert [r for r in some["train"] if r % 4 == 0] == clicks
    kept = [r for r in some["train"] if r % 4]
    assert set(kept) < set(others) and len(set(kept)) == len(kept)
    assert deviations(len(kept), len(others)) < 4
    assert some["train"] == sorted(some["train"])  # still in the log's order


def test_the_seed_decides(tmp_path, log):
    # The split by time is the same for all seeds.
    options = {"split_by": "time", "negative_sampling_rate": RATE}
    first, again, other = (
        splits_of([log], tmp_path / name, seed=seed, **options)["train"]
        for name, seed in (("a", 5), ("b", 5), ("c", 6))
    )
    assert first == again
    both = {r for r in first if r % 4} & {r for r in other if r % 4}
    negatives = 0.8 * ROWS * 0.75
    assert len(both) == pytest.approx(RATE**2 * negatives, abs=50)  # independent


def test_neither_batches_nor_workers_matter(tmp_path, log, monkeypatch):
    expected = splits_of([log], tmp_path / "one", negative_sampling_rate=RATE)
    monkeypatch.setattr(opening, "BLOCK_BYTES", 1 << 11)
    small = splits_of([log], tmp_path / "small", negative_sampling_rate=RATE)
    assert small == expected
    two = splits_of([log], tmp_path / "two", negative_sampling_rate=RATE, workers=2)
    assert {split: sorted(rows) for split, rows in two.items()} == expected


def test_the_vocabulary_counts_what_is_kept(tmp_path, log):
    summary = prepare([log], SCHEMA, tmp_path / "out", negative_sampling_rate=RATE)
    kept = rows_in(tmp_path / "out", "train")
    spec = FeatureSpec.load(tmp_path / "out/features")
    counts = dict(zip(spec.fields[0].row_names(), spec.row_counts()[1:]))
    users = np.bincount(np.array(kept) % 37)
    assert {f"u{i}": count for i, count in enumerate(users)} == {
        name: count for name, count in counts.items() if name.startswith("u")
    }
    stored = json.loads((tmp_path / "out/summary.json").read_text())
    assert stored["negative_sampling_rate"] == RATE
    train = stored["splits"]["train"]
    assert train["rows"] == len(kept)
    assert train["click_rate"] == np.mean([r % 4 == 0 for r in kept])
    assert summary["splits"]["train"] == train


def test_a_split_that_the_user_made(tmp_path):
    parts = {
        "train": range(1000),
        "valid": range(1000, 1200),
        "test": range(1200, 1300),
    }
    logs = {n: [write_log(tmp_path / f"{n}.csv", r)] for n, r in parts.items()}
    splits = splits_of(logs, tmp_path / "out", negative_sampling_rate=RATE)
    assert splits["valid"] == list(parts["valid"])
    assert splits["test"] == list(parts["test"])
    negatives = sum(1 for row in splits["train"] if row % 4)
    assert deviations(negatives, 750) < 4


def test_a_rate_of_one_changes_nothing(tmp_path, log):
    expected = splits_of([log], tmp_path / "a")
    assert splits_of([log], tmp_path / "b", negative_sampling_rate=1) == expected


@pytest.mark.parametrize("rate", [0, -0.1, 1.01, float("nan"), float("inf")])
def test_a_rate_that_is_none(tmp_path, log, rate):
    with pytest.raises(InputError, match=f"above 0 and at most 1. Received: {rate}"):
        prepare([log], SCHEMA, tmp_path / "out", negative_sampling_rate=rate)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rate", ["0", "1.5", "-1", "nan", "a"])
def test_the_command_refuses_it_at_once(rate, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["prepare", "a.csv", "--out", "x", "--negative-sampling-rate", rate])
    assert stopped.value.code == 2
    assert "above 0 and at most 1" in capsys.readouterr().err


def test_the_command(tmp_path, log, capsys):
    SCHEMA.save(tmp_path / "schema.json")
    arguments = ["prepare", log, "--schema", tmp_path / "schema.json", "--out"]
    arguments += [tmp_path / "out", "--negative-sampling-rate", "0.25"]
    assert main(list(map(str, arguments))) == 0
    stored = json.loads((tmp_path / "out/summary.json").read_text())
    assert stored["negative_sampling_rate"] == 0.25
    assert stored["splits"]["train"]["rows"] < 0.6 * 0.8 * ROWS


# By position, not by content


def test_equal_rows_do_not_share_their_fate(tmp_path):
    rows = [f"{i},same,,5,1.5,{int(i < 3)}" for i in range(3000)]
    log = tmp_path / "log.csv"
    log.write_text("\n".join(["row,user,tags,age,price,click", *rows]) + "\n")
    kept = splits_of({"train": [log], "valid": [log]}, tmp_path / "a", seed=1)
    assert len(kept["train"]) == 3000
    some = splits_of({"train": [log, log]}, tmp_path / "b", negative_sampling_rate=RATE)
    negatives = [row for row in some["train"] if row >= 3]
    assert deviations(len(negatives), 2 * 2997) < 4
    # Nor does a row in the first log that of the same row in the second.
    twice = len(negatives) - len(set(negatives))
    assert twice == pytest.approx(RATE**2 * 2997, abs=60)
