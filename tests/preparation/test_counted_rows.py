"""Statistics that `prepare` counts: against a loop over the log, row by row."""

import csv
import dataclasses
import shutil

import numpy as np
import pytest
import tensorflow as tf

import edcn_tf
from edcn import main
from edcn_tf.errors import InputError
from edcn_tf.features.draws import ORDER, draws, row_keys
from edcn_tf.features.encoder import Encoder
from edcn_tf.features.spec import FeatureSpec
from edcn_tf.features.statistics.smoothing import smoothed
from edcn_tf.field import Field
from edcn_tf.files import read_json
from edcn_tf.preparation import counted, groups
from edcn_tf.preparation.updating import update_statistics
from edcn_tf.records.encoded import encode_rows
from edcn_tf.schema import Schema
from helpers import statistics_reference as reference
from helpers.prepared import content

DAY = 86_400
FIELDS = (
    Field(name="row", dtype="int64", min_count=1),
    Field(name="user"),
    Field(name="item", dtype="int64", candidate=True),
    Field(name="tags", multiple=True),
)
STATISTICS = (
    Field(name="item_rate", kind="statistic", of="item"),
    Field(name="pair_rate", kind="statistic", of=("item", "user"), smoothing=3.0),
    Field(name="tag_rate", kind="statistic", of=["tags"], prior=0.25),
    Field(name="user_tag_rate", kind="statistic", of=["user", "tags"], min_count=2),
)
SCHEMA = Schema(label="label", fields=FIELDS + STATISTICS)
BY_TIME = dataclasses.replace(SCHEMA, timestamp="time")


def drawn(rows=240, seed=1, start=1_700_000_000, days=8):
    """Rows with equal times, nobody, lists with a value twice, and none at all."""
    random = np.random.default_rng(seed)
    log = []
    for number in range(rows):
        tags = random.choice([*"abc", "a&b"], random.integers(0, 4))
        log.append(
            {
                "row": number,
                "label": int(random.random() < 0.4),
                "user": "" if number % 29 == 0 else f"u{random.integers(7)}",
                "item": int(random.integers(9)),
                "tags": "|".join(tags),
                # Few different times, so that many rows have the same.
                "time": start + int(random.integers(days * 4)) * DAY // 4,
            }
        )
    return log


def write(path, log):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(log[0]))
        writer.writeheader()
        writer.writerows(log)
    return str(path)


def stored(data):
    """Split -> row -> name of a statistic -> the numbers of its record, or None."""
    found = {}
    for split in ("train", "valid", "test"):
        found[split] = {}
        for path in sorted(data.glob(f"{split}-*")):
            for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
                features = tf.train.Example.FromString(record).features.feature
                found[split][features["row"].int64_list.value[0]] = {
                    field.name: list(features[field.name].float_list.value) or None
                    for field in STATISTICS
                }
    return found


def expected(rows, asked, known, order, fields=STATISTICS, half_life=None):
    return {
        field.name: [
            np.float32(number)
            for of in reference.levels(field.counted)
            for number in reference.counts(rows, of, asked, known, order, half_life)
        ]
        for field in fields
    }


def by_row(log):
    return {row["row"]: row for row in log}


@pytest.fixture(scope="module")
def log():
    return drawn()


@pytest.mark.parametrize("protocol", ["frozen", "running"])
def test_by_time_a_row_knows_what_came_a_day_before_it(protocol, log, tmp_path):
    path = write(tmp_path / "log.csv", log)
    edcn_tf.prepare(
        path, BY_TIME, tmp_path / "data", split_by="time", protocol=protocol
    )
    rows, splits = by_row(log), stored(tmp_path / "data")
    assert sum(map(len, splits.values())) == len(log)
    trained = [rows[number] for number in splits["train"]]
    seen = 0
    for split, found in splits.items():
        for number, counts in found.items():
            if protocol == "frozen" and split != "train":
                assert set(counts.values()) == {None}
                continue
            row = rows[number]
            counting = trained if protocol == "frozen" else log
            known = row["time"] - DAY
            assert counts == expected(counting, row, known, lambda r: r["time"])
            seen += counts["item_rate"][1] > 0
    assert seen > 100


def test_without_a_time_a_row_knows_what_was_drawn_before_it(log, tmp_path):
    path = write(tmp_path / "log.csv", log)
    edcn_tf.prepare(path, SCHEMA, tmp_path / "data", seed=5)
    keys = row_keys(5, 0, 0, len(log))
    place = dict(enumerate(draws(keys, ORDER)))
    rows, splits = by_row(log), stored(tmp_path / "data")
    trained = [rows[number] for number in splits["train"]]
    for number, counts in splits["train"].items():
        known = place[number]
        wanted = expected(trained, rows[number], known, lambda r: place[r["row"]])
        assert counts == wanted
    assert all(v is None for c in splits["test"].values() for v in c.values())


def test_what_is_looked_up_is_what_was_known_in_the_end(log, tmp_path):
    path = write(tmp_path / "log.csv", log)
    edcn_tf.prepare(path, BY_TIME, tmp_path / "data", split_by="time")
    spec = FeatureSpec.load(tmp_path / "data/features")
    rows, splits = by_row(log), stored(tmp_path / "data")
    trained = [rows[number] for number in splits["train"]]
    end = max(row["time"] for row in trained) - DAY
    asked = [*log[:60], {"user": "u1", "item": 77, "tags": ""}]
    ids = Encoder(spec)(
        {
            "user": tf.constant([row["user"] for row in asked]),
            "item": tf.constant([row["item"] for row in asked], tf.int64),
            "tags": tf.ragged.constant(
                [row["tags"].split("|") if row["tags"] else [] for row in asked],
                dtype=tf.string,
            ),
        },
        [field.name for field in STATISTICS],
    ).numpy()
    for place, row in enumerate(asked):
        # Up to the end, which the reference, "before", has to be told as later.
        counts = expected(trained, row, end + 1e-3, lambda r: r["time"])
        for number, field in enumerate(STATISTICS):
            own = spec.fields[len(FIELDS) + number]
            assert own.field.name == field.name
            levels = np.reshape(counts[field.name], (1, -1, 2))
            ranges = own.statistic
            rate = smoothed(levels, ranges.prior, ranges.strengths, field.min_count)
            shown = levels[0, 0, 1] * (levels[0, 0, 1] >= field.min_count)
            rate_range = np.searchsorted(
                np.float32(ranges.rate_boundaries), np.float32(rate[0]), "right"
            )
            count_range = np.searchsorted(ranges.count_boundaries, shown, "right")
            wanted = [
                own.first_value + rate_range,
                own.first_value + ranges.rates + count_range,
            ]
            assert list(ids[place, 2 * number : 2 * number + 2]) == wanted


@pytest.mark.parametrize("protocol", ["frozen", "running"])
def test_counters_that_are_refreshed_at_midnight(protocol, log, tmp_path):
    field = Field(name="item_rate", kind="statistic", of="item", delay="day")
    schema = dataclasses.replace(BY_TIME, fields=(*FIELDS, field))
    path = write(tmp_path / "log.csv", log)
    options = {"split": (1, 0, 0), "split_by": "time", "protocol": protocol}
    summary = edcn_tf.prepare(path, schema, tmp_path / "data", **options)
    assert "labels known after the day" in summary["statistics"]["told"]
    rows = by_row(log)
    assert {row["time"] % DAY for row in log} - {0}
    for number, counts in stored(tmp_path / "data")["train"].items():
        row = rows[number]
        known = row["time"] // DAY * DAY
        wanted = expected(log, row, known, lambda r: r["time"], [field])
        assert counts["item_rate"] == wanted["item_rate"]
    [table] = FeatureSpec.load(tmp_path / "data/features").counters
    last = max(row["time"] for row in log) // DAY * DAY
    assert table.load()[1][:, 1].sum() == sum(row["time"] < last for row in log)


@pytest.mark.parametrize("protocol", ["frozen", "running"])
def test_days_of_counters_that_are_refreshed_at_midnight(protocol, tmp_path, capsys):
    log = sorted(drawn(200, days=6), key=lambda row: row["time"])
    midnight = 1_700_000_000 // DAY * DAY + 3 * DAY
    days = [
        [row for row in log if (row["time"] >= midnight) == late] for late in (0, 1)
    ]
    field = Field(name="item_rate", kind="statistic", of="item", delay="day")
    schema = dataclasses.replace(BY_TIME, fields=(*FIELDS, field))
    options = {"split": (1, 0, 0), "split_by": "time", "protocol": protocol}
    paths = [
        write(tmp_path / f"{name}.csv", rows)
        for name, rows in zip(("first", "second", "all"), (*days, log))
    ]
    one, two = tmp_path / "one", tmp_path / "two"
    edcn_tf.prepare(paths[0], schema, one, **options)
    edcn_tf.prepare(paths[1], schema, two, vocabulary_of=one, **options)
    update_statistics(one, paths[1], tmp_path / "updated")
    assert "There are rows from" not in capsys.readouterr().out
    edcn_tf.prepare(paths[2], schema, tmp_path / "all", **options)
    [wanted] = FeatureSpec.load(tmp_path / "all/features").counters
    for folder in (two, tmp_path / "updated"):
        [found] = FeatureSpec.load(folder / "features").counters
        assert found.as_of == wanted.as_of
        for mine, other in zip(found.load(), wanted.load()):
            np.testing.assert_array_equal(mine, other)
    at_once = stored(tmp_path / "all")["train"]
    for number, counts in stored(two)["train"].items():
        assert counts["item_rate"] == at_once[number]["item_rate"]
    update_statistics(one, paths[0], tmp_path / "twice")
    assert "There are rows from" in capsys.readouterr().out


def test_half_life(log, tmp_path):
    fields = (
        Field(name="aged", kind="statistic", of="item", half_life="12h", delay="6h"),
        Field(name="item_rate", kind="statistic", of="item", delay=3600 * 6),
    )
    schema = Schema(label="label", timestamp="time", fields=FIELDS + fields)
    path = write(tmp_path / "log.csv", log)
    edcn_tf.prepare(path, schema, tmp_path / "data", split=(1, 0, 0))
    rows = by_row(log)
    for path in sorted((tmp_path / "data").glob("train-*")):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            features = tf.train.Example.FromString(record).features.feature
            row = rows[features["row"].int64_list.value[0]]
            known = row["time"] - DAY / 4
            for field, half_life in zip(fields, (DAY / 2, None)):
                wanted = reference.counts(
                    log, ("item",), row, known, lambda r: r["time"], half_life
                )
                found = list(features[field.name].float_list.value)
                np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_weights_count_and_negatives_left_out_still_do(log, tmp_path):
    weighted = [{**row, "weight": row["row"] % 4 / 2} for row in log]
    schema = dataclasses.replace(BY_TIME, weight="weight")
    path = write(tmp_path / "log.csv", weighted)
    data = tmp_path / "data"
    summary = edcn_tf.prepare(
        path, schema, data, split=(1, 0, 0), negative_sampling_rate=0.3, split_by="time"
    )
    assert summary["splits"]["train"]["rows"] < 0.8 * len(log)
    rows, found = by_row(weighted), stored(data)["train"]
    for number, counts in found.items():
        known = rows[number]["time"] - DAY
        assert counts == expected(weighted, rows[number], known, lambda r: r["time"])
    spec = FeatureSpec.load(data / "features").fields[len(FIELDS)]
    clicks = sum(row["label"] * row["weight"] for row in weighted)
    shown = sum(row["weight"] for row in weighted)
    assert spec.statistic.prior == clicks / shown


def test_one_label_changes_nothing_of_its_row_or_of_an_earlier_one(log, tmp_path):
    before = stored(_prepared(log, tmp_path / "before"))["train"]
    changed = log[100]
    other = [{**r, "label": r["label"] ^ (r is changed)} for r in log]
    after = stored(_prepared(other, tmp_path / "after"))["train"]
    differ = {number for number in before if before[number] != after[number]}
    assert differ
    assert all(log[number]["time"] > changed["time"] + DAY for number in differ)


def _prepared(log, folder, **options):
    folder.mkdir()
    path = write(folder / "log.csv", log)
    edcn_tf.prepare(path, BY_TIME, folder / "data", split_by="time", **options)
    return folder / "data"


def test_the_order_of_rows_and_files_is_nothing(log, tmp_path):
    whole = _prepared(log, tmp_path / "whole")
    shuffled = [log[i] for i in np.random.default_rng(4).permutation(len(log))]
    names = [
        write(tmp_path / f"{i}.csv", part)
        for i, part in enumerate((shuffled[:50], shuffled[50:180], shuffled[180:]))
    ]
    edcn_tf.prepare(names, BY_TIME, tmp_path / "parts", split_by="time")
    assert stored(whole) == stored(tmp_path / "parts")
    tables = [
        {k: v for k, v in content(data / "features/statistics").items()}
        for data in (whole, tmp_path / "parts")
    ]
    assert {k: v for k, v in tables[0].items() if k.endswith("npy")} == {
        k: v for k, v in tables[1].items() if k.endswith("npy")
    }


def test_groups_of_keys_are_counted_apart(log, tmp_path, monkeypatch):
    one = stored(_prepared(log, tmp_path / "one"))
    monkeypatch.setattr(groups, "BYTES_PER_GROUP", 2000)
    several = _prepared(log, tmp_path / "several")
    assert stored(several) == one
    assert content(several / "features") == content(tmp_path / "one/data/features")


def test_no_more_files_are_open_than_a_process_may_have(log, tmp_path, monkeypatch):
    monkeypatch.setattr(groups, "BYTES_PER_GROUP", 100)
    monkeypatch.setattr(groups, "MOST_OPEN", 20)
    written, most = groups.GroupWriters.write, []

    def write_and_look(self, name, table):
        written(self, name, table)
        most.append(len(self.open))

    monkeypatch.setattr(groups.GroupWriters, "write", write_and_look)
    data = _prepared(log, tmp_path / "data")
    assert 10 < max(most) <= 20
    most.clear()
    path = write(tmp_path / "more.csv", log)
    update_statistics(data, path, tmp_path / "updated")
    assert 10 < max(most) <= 20


def test_labels_by_chance_tell_nothing(tmp_path):
    """Of training rows and of test rows, by the statistic that has most of a row."""
    random = np.random.default_rng(0)
    log = [
        {**row, "item": int(random.integers(800)), "user": f"u{random.integers(3)}"}
        for row in drawn(6000, seed=7, days=20)
    ]
    for row in log:
        row["label"] = int(random.random() < 0.4)
    from edcn_tf.evaluation.metrics import auc

    for split_by in ("time", "chance"):
        folder = tmp_path / split_by
        folder.mkdir()
        path = write(folder / "log.csv", log)
        edcn_tf.prepare(path, BY_TIME, folder / "data", split_by=split_by)
        spec = FeatureSpec.load(folder / "data/features")
        slots = np.cumsum([0, *(own.field.slots for own in spec.fields)])
        for split in ("train", "test"):
            pattern = str(folder / f"data/{split}-*")
            batches = list(edcn_tf.read_records(pattern, spec, 10_000))
            ids = np.concatenate([ids for ids, _ in batches])
            labels = np.concatenate([labels for _, labels in batches])
            for own, slot in zip(spec.fields, slots):
                if own.statistic:
                    found = auc(labels, ids[:, slot].astype(float))
                    deviation = 0.29 / np.sqrt(len(labels) * 0.24)
                    assert abs(found - 0.5) < 4 * deviation, (split_by, split, own)


def test_training_rows_without_their_statistic_are_refused(log, tmp_path):
    data = _prepared(log, tmp_path / "a")
    for path in data.glob("train-*"):
        path.unlink()
    path = next(iter(data.glob("valid-*")))
    shutil.copy(path, data / "train-00000.tfrecord")
    config = edcn_tf.TrainingConfig(epochs=1, batch_size=64)
    with pytest.raises(InputError, match="must hold 'item_rate' as it was before it"):
        edcn_tf.train(data, tmp_path / "run", config)
    with pytest.raises(InputError, match="must hold 'item_rate' as it was before it"):
        encode_rows(data, tmp_path / "encoded")


@pytest.mark.parametrize("split_by", ["time", "chance"])
def test_days_one_after_the_other_know_what_all_at_once_do(split_by, tmp_path):
    log = sorted(drawn(300, days=6), key=lambda row: row["time"])
    first = [row for row in log if row["time"] < 1_700_000_000 + 3 * DAY]
    second = log[len(first) :]
    schema = BY_TIME
    if split_by == "chance":
        schema = dataclasses.replace(SCHEMA)
    whole = {"split": (1, 0, 0), "split_by": split_by}
    paths = [
        write(tmp_path / f"{name}.csv", part)
        for name, part in (("first", first), ("second", second), ("all", log))
    ]
    edcn_tf.prepare(paths[0], schema, tmp_path / "one", **whole)
    day2 = tmp_path / "two"
    edcn_tf.prepare(paths[1], schema, day2, vocabulary_of=tmp_path / "one", **whole)
    edcn_tf.prepare(paths[2], schema, tmp_path / "all", **whole)
    update_statistics(tmp_path / "one", paths[1], tmp_path / "updated")
    at_once = FeatureSpec.load(tmp_path / "all/features")
    for folder in (day2, tmp_path / "updated"):
        spec = FeatureSpec.load(folder / "features")
        for mine, other in zip(spec.counters, at_once.counters, strict=True):
            assert mine.as_of == other.as_of
            for a, b in zip(mine.load(), other.load()):
                np.testing.assert_array_equal(a, b)
    if split_by == "time":
        everything = stored(tmp_path / "all")["train"]
        for number, counts in stored(day2)["train"].items():
            assert counts == everything[number]
    # What the model was trained for stays.
    before = FeatureSpec.load(tmp_path / "one/features")
    after = FeatureSpec.load(day2 / "features")
    assert [own.statistic for own in before.fields] == [
        own.statistic for own in after.fields
    ]


def _two_days(tmp_path):
    log = sorted(drawn(300, days=6), key=lambda row: row["time"])
    first = [row for row in log if row["time"] < 1_700_000_000 + 3 * DAY]
    parts = (("first", first), ("second", log[len(first) :]), ("all", log))
    return [write(tmp_path / f"{name}.csv", part) for name, part in parts]


def test_a_day_that_is_split_by_chance_goes_on_by_time(tmp_path):
    """As `prepare` splits by default; else its rows would know nothing of before."""
    first, second, both = _two_days(tmp_path)
    whole = {"split": (1, 0, 0)}
    edcn_tf.prepare(first, BY_TIME, tmp_path / "one", split_by="time", **whole)
    edcn_tf.prepare(
        second, BY_TIME, tmp_path / "two", vocabulary_of=tmp_path / "one", **whole
    )
    edcn_tf.prepare(both, BY_TIME, tmp_path / "all", split_by="time", **whole)
    everything = stored(tmp_path / "all")["train"]
    for number, counts in stored(tmp_path / "two")["train"].items():
        assert counts == everything[number]
    told = FeatureSpec.load(tmp_path / "two/features").statistics_told()
    assert "labels known after 1d" in told
    with pytest.raises(InputError, match="counted item by time, so the schema must"):
        edcn_tf.prepare(
            second, SCHEMA, tmp_path / "no", vocabulary_of=tmp_path / "one", **whole
        )


def test_logs_that_come_late_take_nothing_away(tmp_path):
    first, second, both = _two_days(tmp_path)
    whole = {"split": (1, 0, 0), "split_by": "time"}
    edcn_tf.prepare(second, BY_TIME, tmp_path / "one", **whole)
    edcn_tf.prepare(both, BY_TIME, tmp_path / "all", **whole)
    update_statistics(tmp_path / "one", first, tmp_path / "late")
    late, at_once = (
        FeatureSpec.load(tmp_path / name / "features").counters
        for name in ("late", "all")
    )
    for mine, other in zip(late, at_once, strict=True):
        assert mine.as_of == other.as_of
        for a, b in zip(mine.load(), other.load()):
            np.testing.assert_array_equal(a, b)


def test_a_log_that_was_counted_already_is_told(tmp_path, capsys):
    first, second, _ = _two_days(tmp_path)
    whole = {"split": (1, 0, 0), "split_by": "time"}
    one, two = tmp_path / "one", tmp_path / "two"
    edcn_tf.prepare(first, BY_TIME, one, **whole)
    told = update_statistics(one, second, two)
    assert read_json(two / "summary.json")["statistics"] == told
    assert told["told"].endswith(f"the tables with all rows of {second}")
    assert "counts twice" not in capsys.readouterr().out
    update_statistics(two, second, tmp_path / "again")
    assert "were counted up to 1700496800: what is in both" in capsys.readouterr().out
    edcn_tf.prepare(second, BY_TIME, tmp_path / "no", vocabulary_of=two, **whole)
    assert "what is in both counts twice" in capsys.readouterr().out
    later = [{**row, "time": row["time"] * 1000} for row in drawn(start=1_700_600_000)]
    path = write(tmp_path / "milliseconds.csv", later)
    with pytest.raises(InputError, match="of two units"):
        update_statistics(one, path, tmp_path / "units")


def test_more_keys_may_be_kept_from_a_day_on(tmp_path):
    first, second, _ = _two_days(tmp_path)
    whole = {"split": (1, 0, 0), "split_by": "time"}
    fields = [*STATISTICS[1:], dataclasses.replace(STATISTICS[0], max_size=100)]
    schema = dataclasses.replace(BY_TIME, fields=(*FIELDS, *fields))
    more = dataclasses.replace(fields[-1], max_size=200)
    longer = dataclasses.replace(BY_TIME, fields=(*FIELDS, *fields[:-1], more))
    edcn_tf.prepare(first, schema, tmp_path / "one", **whole)
    one = tmp_path / "one"
    edcn_tf.prepare(second, schema, tmp_path / "same", vocabulary_of=one, **whole)
    edcn_tf.prepare(second, longer, tmp_path / "more", vocabulary_of=one, **whole)
    assert stored(tmp_path / "more") == stored(tmp_path / "same")


def test_most_keys_and_hashed_ones(log, tmp_path):
    fields = (
        Field(name="few", kind="statistic", of="item", max_size=3),
        Field(name="hashed", kind="statistic", of=("user", "item"), hash_buckets=4),
    )
    schema = Schema(label="label", fields=FIELDS + fields)
    path = write(tmp_path / "log.csv", log)
    summary = edcn_tf.prepare(path, schema, tmp_path / "data", split=(1, 0, 0))
    assert [c["keys"] for c in summary["statistics"]["counters"]] == [3, 4, 3]
    spec = FeatureSpec.load(tmp_path / "data/features")
    items = np.bincount([row["item"] for row in log])
    assert sorted(spec.counters[0].load()[1][:, 1]) == sorted(items)[-3:]


def test_what_people_are_told(log, tmp_path, capsys):
    path = write(tmp_path / "log.csv", log)
    BY_TIME.save(tmp_path / "schema.json")
    arguments = [path, "--schema", str(tmp_path / "schema.json"), "--split-by", "time"]
    data = str(tmp_path / "data")
    assert main(["prepare", *arguments, "--protocol", "running", "--out", data]) == 0
    told = capsys.readouterr().out
    assert "Statistics running: as of each row's time; labels known after 1d" in told
    assert "keys of item x user" in told
    shutil.rmtree(data)
    assert main(["prepare", *arguments, "--out", data]) == 0
    told = capsys.readouterr().out
    assert "frozen: as of the end of the training rows; labels known after 1d" in told
    updated = str(tmp_path / "updated")
    assert main(["statistics", data, "--update", path, "--out", updated]) == 0
    assert f"Wrote {updated}." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("times", "options", "message"),
    [
        (range(240), {}, "do not tell their unit, so a delay of '1d' has no meaning"),
        (range(4 * 10**9, 4 * 10**9 + 240), {}, "yet to come.*in seconds since 1970"),
        (None, {"protocol": "running", "split_by": "chance"}, "a running statistic"),
        (None, {"protocol": "thawed"}, r"must be one of \['frozen', 'running'\]"),
    ],
)
def test_bad_input(times, options, message, log, tmp_path):
    if times:
        log = [{**row, "time": time} for row, time in zip(log, times)]
    path = write(tmp_path / "log.csv", log)
    options = {"split_by": "time", **options}
    with pytest.raises(InputError, match=message):
        edcn_tf.prepare(path, BY_TIME, tmp_path / "data", **options)
    assert not (tmp_path / "data").exists()


def test_more_keys_than_a_table_should_have(log, tmp_path, monkeypatch):
    monkeypatch.setattr(counted, "MOST_KEYS", 30)
    path = write(tmp_path / "log.csv", log)
    told = r"item x user have 61 keys, with those before 70, .* `max_size` or"
    with pytest.raises(InputError, match=told):
        edcn_tf.prepare(path, SCHEMA, tmp_path / "data", split=(1, 0, 0))
    small = [dataclasses.replace(f, hash_buckets=5, smoothing=None) for f in STATISTICS]
    schema = dataclasses.replace(SCHEMA, fields=(*FIELDS, *small))
    edcn_tf.prepare(path, schema, tmp_path / "data", split=(1, 0, 0))


def test_update_of_what_has_none(log, tmp_path):
    path = write(tmp_path / "log.csv", log)
    schema = Schema(label="label", fields=FIELDS)
    edcn_tf.prepare(path, schema, tmp_path / "data")
    with pytest.raises(InputError, match="has no statistics to update"):
        update_statistics(tmp_path / "data", path, tmp_path / "out")
    with pytest.raises(InputError, match="cannot lie in"):
        data = _prepared(log, tmp_path / "with")
        update_statistics(data, path, data / "out")
