"""Histories that `prepare` builds: against a loop over the log, row by row."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

import edcn_tf
from edcn_tf.errors import InputError
from edcn_tf.features.spec import FeatureSpec
from edcn_tf.field import Field
from edcn_tf.preparation import groups, histories
from edcn_tf.preparation.histories import History
from edcn_tf.schema import Schema

LENGTH = 4
FIELDS = (
    Field(name="item", min_count=1, candidate=True),
    Field(name="shop", dtype="int64", min_count=1, candidate=True),
    Field(name="past", kind="sequence", of="item", max_length=LENGTH),
    Field(name="past_shop", kind="sequence", of="shop", along="past"),
    Field(name="since", kind="sequence", dtype="int64", buckets=4, along="past"),
)
SCHEMA = Schema(label="click", group="user", timestamp="time", fields=FIELDS)
NAMES = ["row", "click", "user", "item", "shop", "time"]


def made_up(rows=400, seed=3):
    """Rows with equal times, nobody, no item, no shop, and names with a hash of 0."""
    random = np.random.default_rng(seed)
    log = []
    for row in range(rows):
        user = "" if row % 29 == 0 else f"u{random.integers(12)}"
        item = "" if row % 31 == 0 else f"i{random.integers(9)}"
        shop = "" if row % 17 == 0 else str(random.integers(5))
        click = int(random.random() < 0.5)
        log.append([row, click, user, item, shop, int(random.integers(60))])
    return log


def write(path, log):
    lines = [",".join(NAMES), *(",".join(map(str, row)) for row in log)]
    path.write_text("\n".join(lines) + "\n")
    return path


def expected(log):
    """Row -> newest items, shops and times since, of what the user clicked earlier."""
    found = {}
    for row, _, user, _, _, time in log:
        events = [
            (then, item, shop)
            for _, click, who, item, shop, then in log
            if user and who == user and click and item and then < time
        ]
        events = sorted(events, key=lambda event: event[0])[-LENGTH:]
        found[row] = (
            [item for _, item, _ in events],
            [int(shop) if shop else -(2**63) for _, _, shop in events],
            [time - then for then, _, _ in events],
        )
    return found


def stored(data):
    """Row -> the same of the records, of all splits."""
    found = {}
    for path in sorted(data.glob("*.tfrecord")):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            features = tf.train.Example.FromString(record).features.feature
            items = features["past"].bytes_list.value
            found[int(features["row"].bytes_list.value[0])] = (
                [item.decode() for item in items],
                list(features["past_shop"].int64_list.value),
                list(features["since"].int64_list.value),
            )
    return found


def with_row(schema):
    """The number of the row as one more field, to tell rows apart in the records."""
    fields = (*schema.fields, Field(name="row", min_count=1))
    return dataclasses.replace(schema, fields=fields)


def by_time_alone(found):
    """Without the order of items of the same time, which is that of the log."""
    return {
        row: sorted(zip(since, map(str, shops), items))
        for row, (items, shops, since) in found.items()
    }


def prepare(path, out, **kwargs):
    return edcn_tf.prepare(
        path, with_row(SCHEMA), out, history="user:item:time", **kwargs
    )


def test_each_row_has_what_its_user_clicked_before(tmp_path):
    log = made_up()
    prepare(write(tmp_path / "log.csv", log), tmp_path / "data")
    found = stored(tmp_path / "data")
    assert found == expected(log)
    assert {len(items) for items, _, _ in found.values()} == set(range(LENGTH + 1))


def test_a_shuffled_log_has_the_same_histories(tmp_path):
    """What is later in time is in no history, wherever it stands in the log."""
    log = made_up()
    # Times that differ, so that nothing hangs on the order of the log.
    times = np.random.default_rng(0).permutation(len(log))
    log = [[*row[:5], int(time)] for row, time in zip(log, times)]
    shuffled = [log[i] for i in np.random.default_rng(1).permutation(len(log))]
    prepare(write(tmp_path / "shuffled.csv", shuffled), tmp_path / "data")
    assert stored(tmp_path / "data") == expected(log)


def test_a_click_changes_no_history_up_to_its_time(tmp_path):
    """The leak itself: the label of a row, changed, is seen by later rows alone."""
    log = made_up()
    other = [[*row] for row in log]
    for row in other[::5]:
        row[1] = 1 - row[1]
    changed = {row[0] for row in other[::5]}
    prepare(write(tmp_path / "a.csv", log), tmp_path / "a")
    prepare(write(tmp_path / "b.csv", other), tmp_path / "b")
    before, after = stored(tmp_path / "a"), stored(tmp_path / "b")
    differing = {row for row in before if before[row] != after[row]}
    assert differing
    for row in differing:
        _, _, user, _, _, time = log[row]
        assert any(log[r][2] == user and log[r][5] < time for r in changed)


def test_few_users_in_memory_give_the_same(tmp_path, monkeypatch):
    log = made_up()
    path = write(tmp_path / "log.csv", log)
    prepare(path, tmp_path / "one")
    monkeypatch.setattr(groups, "BYTES_PER_GROUP", 700)
    monkeypatch.setattr(histories, "HISTORY_ROWS", 7)
    assert groups.number_of_groups(path.stat().st_size) > 5
    prepare(path, tmp_path / "many")
    names = sorted(path.name for path in (tmp_path / "one").glob("*"))
    assert names == sorted(path.name for path in (tmp_path / "many").glob("*"))
    for path in (tmp_path / "one").rglob("*"):
        if path.is_file():
            other = tmp_path / "many" / path.relative_to(tmp_path / "one")
            assert path.read_bytes() == other.read_bytes()


def test_across_logs_and_on_beam(tmp_path, monkeypatch):
    """A user's rows in several logs, which Beam's workers read apart."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    log = made_up()
    columns = dict(zip(NAMES, map(list, zip(*log))))
    columns["shop"] = [int(shop) if shop else None for shop in columns["shop"]]
    table = pa.table(columns)
    logs = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    pq.write_table(table.slice(0, 150), logs[0], row_group_size=40)
    pq.write_table(table.slice(150), logs[1], row_group_size=90)
    prepare(logs, tmp_path / "here")
    assert by_time_alone(stored(tmp_path / "here")) == by_time_alone(expected(log))
    monkeypatch.setattr(groups, "BYTES_PER_GROUP", 2000)
    prepare(logs, tmp_path / "beam", runner="DirectRunner")
    assert stored(tmp_path / "beam") == stored(tmp_path / "here")
    counts = [
        FeatureSpec.load(tmp_path / name / "features").row_counts()
        for name in ("here", "beam")
    ]
    np.testing.assert_array_equal(*counts)
    assert not list((tmp_path / "beam").glob(".*"))


def test_a_schema_without_a_sequence_gets_one(tmp_path):
    schema = Schema(label="click", fields=FIELDS[:1])
    path = write(tmp_path / "log.csv", made_up())
    summary = edcn_tf.prepare(
        path, schema, tmp_path / "data", history="user:item:time", split_by="time"
    )
    assert summary["history"] == "user:item:time"
    stored = FeatureSpec.load(tmp_path / "data" / "features").schema
    assert stored.timestamp == "time"
    history = stored.fields[-1]
    assert (history.name, history.of, history.max_length) == (
        "item_history",
        "item",
        50,
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("user:item", "the names of three columns"),
        ("user::time", "the names of three columns"),
        ("user:film:time", "Items are values of a field of the schema"),
        ("user:item:when", "The schema's timestamp is 'time'"),
        ("click:item:time", "'click' is no user"),
        ("who:item:time", "has no column 'who'"),
    ],
)
def test_what_cannot_be_built(tmp_path, text, message):
    path = write(tmp_path / "log.csv", made_up(20))
    with pytest.raises(InputError, match=message):
        edcn_tf.prepare(path, SCHEMA, tmp_path / "data", history=text)
    assert not (tmp_path / "data").exists()
    assert [each.name for each in tmp_path.iterdir()] == ["log.csv"]


def test_sequences_that_cannot_be_built():
    words = Field(name="words", kind="sequence", along="past")
    with pytest.raises(InputError, match="is `of` a field, or has `buckets`"):
        fields = (*FIELDS[:3], words)
        History.parse("u:item:time", Schema(label="c", timestamp="time", fields=fields))
    again = Field(name="again", kind="sequence", of="item")
    with pytest.raises(InputError, match="more than one sequence of 'item'"):
        fields = (*FIELDS[:3], again)
        History.parse("u:item:time", Schema(label="c", timestamp="time", fields=fields))
