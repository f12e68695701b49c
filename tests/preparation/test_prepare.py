import collections
import itertools
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from edcn_tf import prepare
from edcn_tf.errors import InputError
from edcn_tf.features.spec import FeatureSpec
from edcn_tf.field import Field
from edcn_tf.framing import compression_of
from edcn_tf.logs import opening
from edcn_tf.records.writing import record_files
from edcn_tf.schema import Schema

ROWS = 2000
SCHEMA = Schema(
    label="click",
    fields=(
        Field(name="user", min_count=2),
        Field(name="tags", multiple=True, min_count=1),
        Field(name="hashed", hash_buckets=8),
        Field(name="price", kind="numeric", buckets=6),
    ),
    timestamp="row",
)


def text_of(rows, last_label=None, time=lambda i: i):
    lines = ["row,user,tags,hashed,price,click"]
    for i in rows:
        tags = "|".join(f"t{j}" for j in range(i % 4))
        lines.append(
            f"{time(i)},u{i % 37},{tags},h{i % 91},{i * i % 101},{int(i % 4 == 0)}"
        )
    if last_label is not None:
        lines[-1] = lines[-1].rsplit(",", 1)[0] + f",{last_label}"
    return "\n".join(lines) + "\n"


def write_log(path, rows=range(ROWS), **options):
    path.write_text(text_of(rows, **options))
    return path


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return write_log(tmp_path_factory.mktemp("log") / "log.csv")


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr(opening, "BLOCK_BYTES", 1 << 11)


def rows_in(directory, split, column="row"):
    """The values of a column in the records of a split, in the files' order."""
    found = []
    for path in record_files(f"{directory}/{split}-*"):
        for record in tf.data.TFRecordDataset(path, compression_of(path)):
            example = tf.train.Example.FromString(record.numpy())
            found.append(example.features.feature[column].int64_list.value[0])
    return found


def splits_in(directory):
    return {split: rows_in(directory, split) for split in ("train", "valid", "test")}


def files_in(directory):
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def left_in(directory):
    """Everything in a directory, hidden things too."""
    return sorted(os.listdir(directory))


# Splits


def test_split_by_chance(tmp_path, log):
    summary = prepare([log], SCHEMA, tmp_path / "out")
    splits = splits_in(tmp_path / "out")
    # Standard deviations: 18, 13 and 13 rows.
    for split, share in (("train", 0.8), ("valid", 0.1), ("test", 0.1)):
        assert abs(len(splits[split]) - share * ROWS) < 90
        assert summary["splits"][split]["rows"] == len(splits[split])
    assert sorted(itertools.chain(*splits.values())) == list(range(ROWS))
    # By chance, not by place: each third of the log is in each split.
    for rows in splits.values():
        thirds = np.bincount(np.array(rows) * 3 // ROWS)
        assert np.all(thirds > len(rows) / 6)


def test_rows_keep_the_log_s_order_within_a_split(tmp_path, log):
    prepare([log], SCHEMA, tmp_path / "out", workers=1)
    for rows in splits_in(tmp_path / "out").values():
        assert rows == sorted(rows)


def test_the_seed_decides_the_split(tmp_path, log, small_batches):
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        prepare([log], SCHEMA, tmp_path / name, seed=seed)
    first, again, other = (files_in(tmp_path / name) for name in "abc")
    assert first == again
    assert splits_in(tmp_path / "a") != splits_in(tmp_path / "c")
    assert first.keys() == other.keys()


def test_the_split_does_not_depend_on_batches(tmp_path, log, monkeypatch):
    prepare([log], SCHEMA, tmp_path / "a")
    monkeypatch.setattr(opening, "BLOCK_BYTES", 1 << 10)
    prepare([log], SCHEMA, tmp_path / "b")
    assert files_in(tmp_path / "a") == files_in(tmp_path / "b")


@pytest.mark.parametrize("split", [(1, 0, 0), (0.5, 0, 0.5), (0.3, 0.7, 0)])
def test_shares_of_zero(tmp_path, log, split):
    summary = prepare([log], SCHEMA, tmp_path / "out", split=split)
    names = [name for name, share in zip(("train", "valid", "test"), split) if share]
    assert list(summary["splits"]) == names
    assert sum(part["rows"] for part in summary["splits"].values()) == ROWS
    for name in ("valid", "test"):
        there = any(f.startswith(name) for f in left_in(tmp_path / "out"))
        assert there == (name in names)


@pytest.mark.parametrize("split", [(0.8, 0.1, 0.1), (0.5, 0.25, 0.25), (0.34, 0, 0.66)])
def test_split_by_time(tmp_path, split, random):
    rows = random.permutation(ROWS)
    write_log(tmp_path / "log.csv", rows.tolist())
    prepare(
        [tmp_path / "log.csv"],
        SCHEMA,
        tmp_path / "out",
        split=split,
        split_by="time",
    )
    bounds = np.cumsum([0, *split]) * ROWS
    for name, low, high in zip(("train", "valid", "test"), bounds, bounds[1:]):
        if high > low:
            rows = rows_in(tmp_path / "out", name)
            assert sorted(rows) == list(range(round(low), round(high)))


@pytest.mark.parametrize("step", [7, 130])
def test_a_timestamp_is_never_split(tmp_path, random, step):
    rows = random.permutation(ROWS).tolist()
    write_log(tmp_path / "log.csv", rows, time=lambda i: i // step)
    prepare([tmp_path / "log.csv"], SCHEMA, tmp_path / "out", split_by="time")
    times = splits_in(tmp_path / "out")
    assert max(times["train"]) < min(times["valid"])
    assert max(times["valid"]) < min(times["test"])
    assert sum(map(len, times.values())) == ROWS
    assert len(times["train"]) == pytest.approx(0.8 * ROWS, abs=step)


def test_split_by_time_over_several_logs(tmp_path):
    logs = [
        write_log(tmp_path / "late.csv", range(100, 200)),
        write_log(tmp_path / "early.csv", range(100)),
    ]
    prepare(logs, SCHEMA, tmp_path / "out", split=(0.5, 0.3, 0.2), split_by="time")
    assert sorted(rows_in(tmp_path / "out", "train")) == list(range(100))
    assert rows_in(tmp_path / "out", "test") == list(range(160, 200))


def test_all_at_one_time_leaves_nothing_to_test(tmp_path):
    log = write_log(tmp_path / "log.csv", time=lambda i: 5)
    with pytest.raises(InputError) as caught:
        prepare([log], SCHEMA, tmp_path / "out", split_by="time")
    assert str(caught.value) == (
        "The valid split has no rows: 2,000 rows have the time 5, and rows of one time "
        "stay together; give it a larger share, or split by chance"
    )
    assert left_in(tmp_path) == ["log.csv"]


@pytest.mark.parametrize(
    ("time", "told"),
    [
        (
            lambda i: min(i, 1750) / 2,
            "The test split has no rows: 250 rows .* time 875,",
        ),
        (
            lambda i: i if i < 1500 else max(i, 1850) + 0.5,
            "The valid .* 351 .* 1850.5,",
        ),
    ],
)
def test_ties_that_leave_a_split_without_rows_are_named(tmp_path, time, told):
    log = write_log(tmp_path / "log.csv", time=time)
    with pytest.raises(InputError, match=told):
        prepare([log], SCHEMA, tmp_path / "out", split_by="time")


def test_too_few_rows_are_no_ties(tmp_path):
    log = write_log(tmp_path / "log.csv", range(5), time=lambda i: i // 2)
    with pytest.raises(
        InputError, match="has no rows; give it a larger share, or more"
    ):
        prepare([log], SCHEMA, tmp_path / "out", split_by="time")


def test_the_users_own_split(tmp_path):
    parts = {"train": range(100), "valid": range(100, 130), "test": range(130, 150)}
    logs = {n: [write_log(tmp_path / f"{n}.csv", r)] for n, r in parts.items()}
    summary = prepare(logs, SCHEMA, tmp_path / "out")
    for name, rows in parts.items():
        assert rows_in(tmp_path / "out", name) == list(rows)
    assert (summary["split_by"], summary["split"]) == ("user", None)


def test_training_logs_alone(tmp_path, log):
    summary = prepare({"train": [log], "valid": []}, SCHEMA, tmp_path / "out")
    assert summary["splits"] == {"train": {"rows": ROWS, "click_rate": 0.25}}


def test_an_own_split_without_training(tmp_path, log):
    with pytest.raises(InputError, match="--train"):
        prepare({"test": [log]}, SCHEMA, tmp_path / "out")


# The result


def test_the_vocabulary_is_counted_on_the_training_split_alone(tmp_path):
    logs = {name: [tmp_path / f"{name}.csv"] for name in ("train", "valid", "test")}
    for name, [path] in logs.items():
        lines = [f"{i},{name},{name},x,{len(name)},{i % 2}" for i in range(10)]
        path.write_text("row,user,tags,hashed,price,click\n" + "\n".join(lines))
    prepare(logs, SCHEMA, tmp_path / "out")
    spec = FeatureSpec.load(tmp_path / "out" / "features")
    assert spec.fields[0].row_names()[2:] == ["train"]
    assert spec.fields[1].row_names()[2:] == ["train"]
    assert spec.row_counts()[spec.fields[2].offset :].sum() == 20
    config = json.loads((tmp_path / "out" / "features" / "features.json").read_text())
    assert config["rows_counted"] == 10


def test_counts_are_those_of_the_training_records(tmp_path, log):
    prepare([log], SCHEMA, tmp_path / "out", split=(0.3, 0.3, 0.4))
    spec = FeatureSpec.load(tmp_path / "out" / "features")
    users = collections.Counter(
        f"u{row % 37}" for row in rows_in(tmp_path / "out", "train")
    )
    counts = dict(zip(spec.fields[0].row_names(), spec.row_counts()[1:]))
    assert counts == {"<missing>": 0, "<unseen>": 0, **users}


def test_the_summary(tmp_path, log):
    summary = prepare([log], SCHEMA, tmp_path / "out", seed=3)
    stored = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert stored == json.loads(json.dumps(summary))
    assert stored["logs"] == [str(log)]
    assert (stored["seed"], stored["split_by"]) == (3, "chance")
    clicks = sum(p["rows"] * p["click_rate"] for p in stored["splits"].values())
    assert clicks == pytest.approx(ROWS / 4)
    for split, part in stored["splits"].items():
        labels = rows_in(tmp_path / "out", split, "click")
        assert part == {"rows": len(labels), "click_rate": np.mean(labels)}
    assert [field["name"] for field in stored["fields"]] == [
        *("user", "tags", "hashed", "price")
    ]
    tags = stored["fields"][1]
    assert (tags["rows"], tags["values"], tags["unseen"]) == (5, 3, 0)
    # A quarter of the rows has no tags; the others have 1, 2 and 3.
    assert tags["missing"] == pytest.approx(1 / 7, abs=0.02)
    assert stored["table_rows"] == 1 + sum(f["rows"] for f in stored["fields"])


def test_gzip(tmp_path, log):
    prepare([log], SCHEMA, tmp_path / "plain")
    prepare([log], SCHEMA, tmp_path / "packed", compression="GZIP")
    assert {n for n in left_in(tmp_path / "packed") if n.startswith("train")} == {
        "train-00000.tfrecord.gz"
    }
    assert splits_in(tmp_path / "plain") == splits_in(tmp_path / "packed")


def test_a_log_may_be_given_by_its_name_alone(tmp_path, log):
    for number, name in enumerate([log, str(log), [log]]):
        prepare(name, SCHEMA, tmp_path / f"{number}")
    first, second, third = (files_in(tmp_path / str(i)) for i in range(3))
    assert first == second == third


def test_two_workers_make_the_same(tmp_path, log, small_batches):
    prepare([log], SCHEMA, tmp_path / "one", workers=1)
    prepare([log], SCHEMA, tmp_path / "two", workers=2)
    one, two = files_in(tmp_path / "one"), files_in(tmp_path / "two")
    for name in one:
        if not name.endswith(".tfrecord"):
            assert one[name] == two[name], name
    assert "train-00001.tfrecord" in two and "train-00001.tfrecord" not in one
    for split, rows in splits_in(tmp_path / "one").items():
        assert sorted(rows_in(tmp_path / "two", split)) == rows
    assert left_in(tmp_path) == ["one", "two"]


# What goes wrong


@pytest.mark.parametrize("kind", ["directory", "file", "link"])
def test_what_exists_is_left_alone(tmp_path, log, kind):
    out = tmp_path / "out"
    if kind == "directory":
        out.mkdir()
        (out / "mine.txt").write_text("mine")
    elif kind == "file":
        out.write_text("mine")
    else:
        out.symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="exists already"):
        prepare([log], SCHEMA, out)
    assert left_in(tmp_path) == ["out"]
    if kind == "directory":
        assert left_in(out) == ["mine.txt"]
        assert (out / "mine.txt").read_text() == "mine"
    elif kind == "file":
        assert out.read_text() == "mine"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failure_in_the_last_row_leaves_nothing(tmp_path, small_batches, workers):
    log = write_log(tmp_path / "log.csv", last_label=7)
    with pytest.raises(InputError, match=f"row {ROWS}, column 'click'"):
        prepare([log], SCHEMA, tmp_path / "new" / "out", workers=workers)
    assert not [path for path in tmp_path.rglob("*") if "out" in path.name]


def test_after_a_failure_the_same_can_be_made(tmp_path, log):
    bad = write_log(tmp_path / "log.csv", last_label="x")
    with pytest.raises(InputError):
        prepare([bad], SCHEMA, tmp_path / "out")
    prepare([log], SCHEMA, tmp_path / "out")
    assert sum(map(len, splits_in(tmp_path / "out").values())) == ROWS


# Stops for ever after ten batches, in the midst of writing.
PREPARE = """
import itertools, sys, time
from edcn_tf import prepare, schema
from edcn_tf.logs import opening, reading

def read_part(*args, **kwargs):
    yield from itertools.islice(original(*args, **kwargs), 10)
    print("ten batches are written", flush=True)
    time.sleep(600)

original = reading.read_part
opening.BLOCK_BYTES = 1 << 11
sys.modules["edcn_tf.preparation.plan"].read_part = read_part
prepare([sys.argv[1]], schema.Schema.load(sys.argv[2]), sys.argv[3])
"""


def test_a_killed_run_leaves_no_result(tmp_path, log):
    SCHEMA.save(tmp_path / "schema.json")
    files = [log, tmp_path / "schema.json", tmp_path / "out"]
    with subprocess.Popen(
        [sys.executable, "-c", PREPARE, *files],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout.readline() == "ten batches are written\n"
            assert list(tmp_path.glob(".out.*.partial/train-*"))
        finally:
            process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    # And nothing stands in the way of the next run.
    prepare([log], SCHEMA, tmp_path / "out")
    assert sum(map(len, splits_in(tmp_path / "out").values())) == ROWS


def test_no_rows(tmp_path):
    log = write_log(tmp_path / "log.csv", [])
    for split_by in ("chance", "time"):
        with pytest.raises(InputError, match="no rows"):
            prepare([log], SCHEMA, tmp_path / "out", split_by=split_by)
    assert left_in(tmp_path) == ["log.csv"]


def test_a_split_without_rows(tmp_path):
    log = write_log(tmp_path / "log.csv", range(3))
    with pytest.raises(InputError, match="The (valid|test) split has no rows"):
        prepare([log], SCHEMA, tmp_path / "out", split=(0.98, 0.01, 0.01))
    logs = {"train": [log], "test": [write_log(tmp_path / "none.csv", [])]}
    with pytest.raises(InputError, match="The test split has no rows"):
        prepare(logs, SCHEMA, tmp_path / "out")
    assert left_in(tmp_path) == ["log.csv", "none.csv"]


@pytest.mark.parametrize(
    "split",
    [
        (0.8, 0.1),
        (0.8, 0.1, 0.1, 0.0),
        (0.8, 0.1, 0.2),
        (0.9, 0.2, -0.1),
        (0, 0.5, 0.5),
        (80, 10, 10),
        (),
    ],
    ids=str,
)
def test_bad_shares(tmp_path, log, split):
    with pytest.raises(InputError, match="sum to 1. Received: "):
        prepare([log], SCHEMA, tmp_path / "out", split=split)
    assert left_in(tmp_path) == []


def test_bad_options(tmp_path, log):
    no_time = Schema(label="click", fields=SCHEMA.fields)
    for schema, options, part in [
        (SCHEMA, {"split_by": "user"}, "'user'"),
        (no_time, {"split_by": "time"}, "timestamp"),
        (SCHEMA, {"compression": "ZIP"}, "'ZIP'"),
        (SCHEMA, {"format": "xml"}, "'xml'"),
    ]:
        with pytest.raises(InputError, match=part):
            prepare([log], schema, tmp_path / "out", **options)
    assert left_in(tmp_path) == []


def test_a_missing_log(tmp_path):
    with pytest.raises(InputError, match="absent.csv: No such file"):
        prepare([tmp_path / "absent.csv"], SCHEMA, tmp_path / "out")
    assert left_in(tmp_path) == []
