"""Relatives of what was once misread or refused: types, gaps, lists and days."""

import datetime
import decimal
import json
import uuid

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow_datasets as tfds

import edcn_tf
from edcn_tf.errors import InputError
from edcn_tf.field import Field
from edcn_tf.logs.normalizing import normalize
from edcn_tf.logs.reading import read_log
from edcn_tf.logs.timestamps import moments
from edcn_tf.logs.values import BadValue
from edcn_tf.schema import Schema


def schema(**field):
    return Schema(label="y", fields=(Field(name="f", **field),))


def normalized(column, **field):
    batch = pa.RecordBatch.from_arrays([column], ["f"])
    return normalize(batch, schema(**field), ["f"], "log", 1).column(0).to_pylist()


def error(column, **field):
    with pytest.raises(InputError) as caught:
        normalized(column, **field)
    return str(caught.value)


def read(path, data, own=None, name="f"):
    path.write_text(data, encoding="utf-8")
    batches = read_log([path], own or schema())
    return [value for batch in batches for value in batch[name].to_pylist()]


# Text


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Asia/Kolkata", "UTC", "-03:30"])
@pytest.mark.parametrize("unit", ["s", "ms", "ns"])
def test_times_with_a_zone_are_called_as_pandas_calls_them(zone, unit):
    times = pd.Series(pd.to_datetime(["2026-03-01 08:15:02"])).dt.tz_localize(zone)
    written = times.to_csv(index=False, header=False).strip()
    column = pa.array(times).cast(pa.timestamp(unit, zone))
    assert normalized(column) == [written]


def test_half_precision_is_called_by_its_own_digits():
    column = pa.array(np.array([0.1, 2, np.nan], np.float16))
    assert normalized(column) == ["0.1", "2", None]
    assert normalized(column, multiple=True) == [["0.1"], ["2"], []]
    assert moments(pa.array(np.array([7.5], np.float16))).to_pylist() == [7.5]


def test_a_uuid_is_called_by_its_digits():
    value = uuid.UUID("550e8400-e29b-41d4-a716-446655440000")
    column = pa.array([value.bytes, None, value.bytes], pa.uuid())
    assert normalized(column) == [str(value), None, str(value)]


@pytest.mark.parametrize("unit", ["s", "ns"])
def test_a_length_of_time_has_no_unit_to_be_called_by(unit):
    column = pa.array([1], pa.duration(unit))
    for field in ({}, {"multiple": True}, {"multiple": True, "dtype": "int64"}):
        assert "not a length of time" in error(column, **field)


@pytest.mark.parametrize(
    "kind, largest", [(pa.float32(), 2**24), (pa.float16(), 2**11)]
)
def test_whole_numbers_that_floats_cannot_tell_apart(kind, largest):
    """As ids in a column that someone made smaller, or TFDS stored."""
    fits = pa.array([float(largest - 1), 0.5]).cast(kind)
    assert normalized(fits)[0] == str(largest - 1)
    rounded = pa.array([1.0, float(largest)]).cast(kind)
    for field in ({}, {"dtype": "int64"}, {"multiple": True}):
        assert f"row 2, column 'f': is in a column of {kind}" in error(rounded, **field)
    with pytest.raises(BadValue, match="neighbours"):
        moments(rounded)
    assert normalized(rounded, kind="numeric") == [1.0, largest]


def test_ids_that_a_gap_made_floats_beyond_what_these_hold():
    column = pa.array([1.0, 123456789012345678.0])
    assert "row 2" in error(column, dtype="int64")
    assert normalized(pa.array([2.0**53 - 1]), dtype="int64") == [2**53 - 1]


def test_the_number_that_stands_for_a_missing_one_is_missing():
    column = pa.array([pd.NaT.value, 7])
    assert normalized(column, dtype="int64") == [None, 7]


def test_a_struct_is_no_list():
    assert "not several by name" in error(pa.array([{"a": 1}]))


# Numbers


@pytest.mark.parametrize(
    "missing", ["n/a", "<NA>", "#N/A", "Null", "NONE", "nan", "\\N"]
)
def test_what_means_that_a_number_is_missing(missing):
    column = pa.array([missing, "+3", "-4.0"])
    assert normalized(column, dtype="int64") == [None, 3, -4]
    assert normalized(column, kind="numeric") == [None, 3.0, -4.0]


def test_decimals_are_labels():
    column = pa.array([decimal.Decimal("1.00"), decimal.Decimal("0.00")])
    batch = pa.RecordBatch.from_arrays([column], ["y"])
    assert normalize(batch, schema(), ["y"], "log", 1)["y"].to_pylist() == [1, 0]
    batch = pa.RecordBatch.from_arrays([pa.array([1], pa.duration("s"))], ["y"])
    with pytest.raises(InputError, match="length of time"):
        normalize(batch, schema(), ["y"], "log", 1)


# Times


def test_numbers_of_times_in_any_type():
    parts = [decimal.Decimal("1700000000.5")]
    assert moments(pa.array(parts)).to_pylist() == [1700000000.5]
    assert moments(pa.array([" 12 ", "1.5"])).to_pylist() == [12.0, 1.5]
    with pytest.raises(BadValue, match="expected a number, or a date"):
        moments(pa.array([True]))


@pytest.mark.parametrize("form", ["%Y%m%d", "%Y%m%d%H", "%Y%m%d%H%M", "%Y%m%d%H%M%S"])
def test_numbers_that_look_like_days_and_times(form):
    times = [datetime.datetime(2026, 3, 31, 23, 5, 7), datetime.datetime(1999, 1, 2)]
    numbers = pa.array([int(time.strftime(form)) for time in times])
    with pytest.raises(BadValue) as caught:
        moments(numbers)
    assert f'to "{form}"' in str(caught.value)
    assert moments(numbers, "number").to_pylist() == numbers.to_pylist()
    days = [moment // 86400 for moment in moments(numbers, form).to_pylist()]
    assert days == [20543, 10593]


# Lists


@pytest.mark.parametrize(
    "value", ["['a', 'b']", '["a"]', "[]", "[1, 2]", "[1.5 2.]", " [7,\n 8]"]
)
def test_a_list_as_python_writes_it_is_not_one_value(value):
    """Which pandas writes into CSV for a column of lists."""
    told = error(pa.array(["a|b", value]), multiple=True)
    assert "row 2, column 'f': looks like a list" in told and "'|'" in told


@pytest.mark.parametrize("value", ["[deleted]", "a [x]", "[2019]"])
def test_a_value_in_brackets_is_a_value(value):
    assert normalized(pa.array([f"{value}|b"]), multiple=True) == [[value, "b"]]
    assert normalized(pa.array([value]), multiple=True) == [[value]]


# JSON lines


def lines(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_lists_of_nothing_but_null(tmp_path):
    data = lines({"f": [None], "y": 1}, {"f": [None, None], "y": 0}, {"f": [], "y": 0})
    found = read(tmp_path / "log.jsonl", data, schema(multiple=True))
    assert found == [[None], [None, None], []]


def test_half_a_character_is_an_error_that_names_the_row(tmp_path):
    data = lines({"f": "a", "y": 1}, {"f": "b\ud83d", "y": 1})
    with pytest.raises(InputError, match=r"row 2, column 'f': holds half .*ud83d"):
        read(tmp_path / "log.jsonl", data)
    assert read(tmp_path / "log.jsonl", lines({"f": "\U0001f600", "y": 1})) == [
        "\U0001f600"
    ]


def test_a_file_without_a_key_that_another_file_has(tmp_path):
    """JSON leaves out what is not known, perhaps in all rows of a file."""
    folder = tmp_path / "log"
    folder.mkdir()
    (folder / "a.jsonl").write_text(lines({"y": 1}))
    (folder / "b.jsonl").write_text(lines({"y": 0}, {"y": 0, "f": "b"}))
    found = [v for b in read_log([folder], schema()) for v in b["f"].to_pylist()]
    assert found == [None, None, "b"]
    with pytest.raises(InputError, match="a.jsonl: has no column 'f'"):
        list(read_log([folder / "a.jsonl"], schema()))
    own = Schema(label="y", fields=(Field(name="g", column="f"), Field(name="no")))
    with pytest.raises(InputError, match="a.jsonl: has no column 'no'"):
        list(read_log([folder], own))


@pytest.mark.parametrize("runner", [None, "DirectRunner"])
def test_a_file_without_a_key_is_prepared_with_those_of_its_split(tmp_path, runner):
    if runner:
        pytest.importorskip("apache_beam")
    rows = [{"f": f"{i % 3}", "y": i % 2} for i in range(20)]
    (tmp_path / "a.jsonl").write_text(lines(*rows))
    (tmp_path / "b.jsonl").write_text(lines(*({"y": i % 2} for i in range(20))))
    both = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    own = schema(min_count=1)
    options = {"runner": runner} if runner else {}
    split = {"train": both, "valid": both[:1]}
    summary = edcn_tf.prepare(split, own, tmp_path / "data", **options)
    [field] = summary["fields"]
    assert (field["values"], field["missing"]) == (3, 0.5)
    with pytest.raises(InputError, match="b.jsonl: has no column 'f'"):
        split = {"train": both[:1], "valid": both[1:]}
        edcn_tf.prepare(split, own, tmp_path / "other", **options)


# TensorFlow Datasets


def test_types_that_records_do_not_have(tmp_path, monkeypatch):
    """TFDS stores flags as 0 and 1, and numbers above 2^63 as negative ones."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    kinds = tfds.features
    features = kinds.FeaturesDict(
        {
            "flag": np.bool_,
            "flags": kinds.Sequence(np.bool_),
            "large": np.uint64,
            "id": np.float64,
            "y": np.bool_,
        }
    )
    row = {"flags": [True, False], "large": 2**64 - 1, "id": 12345678901.0}
    rows = [{"flag": flag, "y": flag, **row} for flag in (True, False)]
    tfds.dataset_builders.store_as_tfds_dataset(
        name="types",
        version="1.0.0",
        features=features,
        split_datasets={"train": list(enumerate(rows))},
        data_dir=str(tmp_path),
        disable_shuffling=True,
    )
    own = Schema(
        label="y",
        fields=(
            Field(name="flag"),
            Field(name="flags", multiple=True),
            Field(name="large"),
        ),
    )
    found = [
        row for batch in read_log(["tfds:types"], own) for row in batch.to_pylist()
    ]
    lists = {"flags": ["True", "False"], "large": str(2**64 - 1)}
    assert found == [
        {"flag": "True", "y": 1, **lists},
        {"flag": "False", "y": 0, **lists},
    ]
    rounded = Schema(label="y", fields=(Field(name="id"),))
    with pytest.raises(InputError, match="tfds:types: row 1, column 'id'.*neighbours"):
        list(read_log(["tfds:types"], rounded))


def test_parquet_of_uuids_is_prepared(tmp_path):
    ids = [uuid.UUID(int=i % 3) for i in range(30)]
    column = pa.array([one.bytes for one in ids], pa.uuid())
    table = pa.table({"f": column, "y": [i % 2 for i in range(30)]})
    pq.write_table(table, tmp_path / "log.parquet")
    edcn_tf.prepare(tmp_path / "log.parquet", schema(min_count=1), tmp_path / "data")
    spec = edcn_tf.FeatureSpec.load(tmp_path / "data" / "features")
    assert set(spec.fields[0].values().to_pylist()) == set(map(str, ids))
