"""Logs in TFRecord files: tf.Examples of another producer."""

import gzip
import zlib

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

import edcn_tf
from edcn_tf.errors import InputError
from edcn_tf.field import Field
from edcn_tf.logs import opening
from edcn_tf.logs.reading import LogPart, log_parts, read_log
from edcn_tf.records.writing import serialize_examples
from edcn_tf.schema import Schema

SCHEMA = Schema(
    label="click",
    group="user",
    timestamp="at",
    weight="weight",
    fields=(
        Field(name="user"),
        Field(name="tags", multiple=True),
        Field(name="codes", multiple=True, dtype="int64"),
        Field(name="age", dtype="int64"),
        Field(name="price", kind="numeric"),
    ),
)
ROWS = [
    {"user": ["ann"], "tags": ["x", "y|z"], "codes": [2**53 + 1], "age": [2**63 - 1]},
    {"user": ["müller, k"], "tags": [], "codes": [], "price": [0.1]},
    {"tags": ["x"], "codes": [-1, 2], "age": [-4], "price": [1e30]},
]
for number, one in enumerate(ROWS):
    one.update(click=[number % 2], at=[1_700_000_000 + number], weight=[number + 0.5])


def example(row):
    """A tf.Example by the protocol buffers' own classes."""
    built = tf.train.Example()
    for name, values in row.items():
        feature = built.features.feature[name]
        if values is None:
            feature.SetInParent()
        elif all(isinstance(value, (str, bytes)) for value in values):
            values = [v.encode() if isinstance(v, str) else v for v in values]
            feature.bytes_list.value.extend(values)
        elif any(isinstance(value, float) for value in values):
            feature.float_list.value.extend(values)
        else:
            feature.int64_list.value.extend(values)
    return built.SerializeToString()


def write(path, rows, compression=None):
    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for row in rows:
            writer.write(row if isinstance(row, bytes) else example(row))
    return path


def read(path, schema=SCHEMA, **options):
    batches = list(read_log([path], schema, **options))
    return pa.Table.from_batches(batches).to_pydict() if batches else None


def error_of(path, schema=SCHEMA, **options):
    with pytest.raises(InputError) as caught:
        read(path, schema, **options)
    assert "\n" not in str(caught.value) and str(caught.value).startswith(f"{path}: ")
    return str(caught.value)


def column(path, values, **field):
    """What the values of a feature become as the field `f`; a row each."""
    rows = [{"f": value, "y": [0]} for value in values]
    schema = Schema(label="y", fields=(Field(name="f", **field),))
    return read(write(path, rows), schema)["f"]


@pytest.mark.parametrize("compression", [None, "GZIP"])
@pytest.mark.parametrize("name", ["r.tfrecord", "r.tfrecords.gz", "R.TFRECORD", "r"])
def test_what_tf_examples_hold(tmp_path, name, compression):
    """The packing is told from the bytes, whatever the name says."""
    path = write(tmp_path / name, ROWS, compression)
    options = {"format": "tfrecord"} if name == "r" else {}
    assert read(path, **options) == {
        "user": ["ann", "müller, k", None],
        "tags": [["x", "y|z"], [], ["x"]],
        "codes": [[2**53 + 1], [], [-1, 2]],
        "age": [2**63 - 1, None, -4],
        "price": [None, float(np.float32(0.1)), float(np.float32(1e30))],
        "click": [0, 1, 0],
        "at": [1.7e9, 1.7e9 + 1, 1.7e9 + 2],
        "weight": [0.5, 1.5, 2.5],
    }
    assert log_parts(str(path), "tfrecord") == [LogPart(str(path))]


@pytest.mark.parametrize(
    "values, dtype",
    [
        ([[12345678901], [-7], None], "string"),
        ([[12345678901], [-7], []], "int64"),
        ([[123.0], [0.1], [2.5], [16777215.0], [float("nan")]], "string"),
        ([[123.0], [-5.0]], "int64"),
        ([["123"], ["0x7"], [""]], "string"),
        ([["123"], ["-7.0"], ["NA"]], "int64"),
    ],
)
def test_a_value_is_called_as_in_text(tmp_path, values, dtype):
    def cell(value):
        [one] = value or [""]
        return (
            "" if one != one else str(one).removesuffix(".0" * isinstance(one, float))
        )

    lines = [f"{cell(value)},0" for value in values]
    (tmp_path / "log.csv").write_text("\n".join(["f,y", *lines]) + "\n")
    schema = Schema(label="y", fields=(Field(name="f", dtype=dtype),))
    found = column(tmp_path / "log.tfrecord", values, dtype=dtype)
    assert found == read(tmp_path / "log.csv", schema)["f"]
    assert found[0] is not None
    in_lists = [value and value * 2 for value in values]
    lists = column(tmp_path / "more.tfrecord", in_lists, dtype=dtype, multiple=True)
    kept = [[one] * 2 if one is not None else [] for one in found]
    assert [[one for one in values if one is not None] for values in lists] == kept


@pytest.mark.parametrize(
    "field",
    [{}, {"dtype": "int64"}, {"multiple": True}, {"kind": "numeric", "dtype": "int64"}],
)
@pytest.mark.parametrize("number", [16777217.0, -16777216.0, 1e30])
def test_a_float_that_may_be_another_number(tmp_path, field, number):
    path = tmp_path / "r.tfrecord"
    schema = Schema(label="y", fields=(Field(name="f", **field),))
    write(path, [{"f": [1.0], "y": [0]}, {"y": [0]}, {"f": [number], "y": [1]}])
    told = error_of(path, schema)
    assert ": row 3, column 'f': " in told and "16,777,216 on stand for their" in told
    received = float(np.float32(number))
    assert told.endswith(f"Received: {[received] if 'multiple' in field else received}")


def test_a_number_may_be_rounded_and_infinite(tmp_path):
    values = [[16777217.0], [float("inf")], [float("nan")]]
    found = column(tmp_path / "r.tfrecord", values, kind="numeric")
    assert found == [16777216.0, float("inf"), None]


def test_a_time_that_a_float_holds_not_exactly(tmp_path):
    schema = Schema(label="y", timestamp="at", fields=(Field(name="f"),))
    times = 3.0, 0.1, 1_700_000_000.0
    rows = [{"f": ["a"], "y": [0], "at": [time]} for time in times]
    told = error_of(write(tmp_path / "r.tfrecord", rows), schema)
    assert ": row 3, column 'at': " in told and "16,777,216 on stand for" in told
    assert read(write(tmp_path / "r.tfrecord", rows[:2]), schema)["at"] == [3.0, 0.1]


# What cannot be read right


def test_a_feature_that_changes_its_kind(tmp_path, monkeypatch):
    """Within a batch and between two."""
    path = tmp_path / "r.tfrecord"
    for kinds in ([[1], [1], [1.0]], [["a"], None, [1]], [[1.0], [], [2]]):
        write(path, [{"f": value, "y": [0]} for value in kinds])
        for size in (1 << 23, 1):
            monkeypatch.setattr(opening, "BLOCK_BYTES", size)
            told = error_of(path, Schema(label="y", fields=(Field(name="f"),)))
            assert ": row 3, column 'f': expected " in told
            assert ", which the rows before have. Received: a list of " in told


@pytest.mark.parametrize("name", ["user", "age", "click", "at", "weight"])
def test_two_values_of_one(tmp_path, name):
    rows = [*ROWS, {**ROWS[0], name: ROWS[0][name] * 2}]
    told = error_of(write(tmp_path / "r.tfrecord", rows))
    assert f": row 4, column {name!r}: holds lists, but the schema does not" in told
    assert told.endswith(f"Received: {[*map(_stored, rows[3][name])]!r}")


def _stored(value):
    return value.encode() if isinstance(value, str) else value


@pytest.mark.parametrize("rows", [3, 2000])
def test_a_feature_that_no_record_has(tmp_path, monkeypatch, rows):
    path = write(tmp_path / "r.tfrecord", [{"f": ["a"], "z": None}] * rows)
    monkeypatch.setattr(opening, "LOG_ROWS", 100)
    for missing in ("y", "z"):
        schema = Schema(label=missing, fields=(Field(name="f"),))
        told = error_of(path, schema)
        assert told == f"{path}: has no column {missing!r}; its columns are: f"


def test_a_feature_that_comes_late(tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "LOG_ROWS", 100)
    values = [None] * 250 + [[7]] + [None] * 50
    assert column(tmp_path / "r.tfrecord", values) == [None] * 250 + ["7"] + [None] * 50


def test_an_empty_list_of_another_kind_has_no_value(tmp_path, monkeypatch):
    """Nor does it say what kind the others are."""
    values = [[], [7], [], [8]]  # the empty ones are lists of text
    for size in (1 << 23, 1):
        monkeypatch.setattr(opening, "BLOCK_BYTES", size)
        assert column(tmp_path / "r.tfrecord", values) == [None, "7", None, "8"]
        assert column(tmp_path / "e.tfrecord", [[], []], dtype="int64") == [None] * 2


def test_what_is_no_tf_example(tmp_path):
    path = write(tmp_path / "r.tfrecord", [*ROWS, b"\xff\xff no proto", *ROWS])
    assert error_of(path) == f"{path}: row 4: is no tf.Example"


def test_text_that_is_not_utf_8(tmp_path):
    path = write(tmp_path / "r.tfrecord", [*ROWS, {**ROWS[0], "user": [b"\xff"]}])
    assert "row 4, column 'user': expected text in UTF-8" in error_of(path)


@pytest.mark.parametrize("compression", [None, "GZIP"])
def test_a_damaged_file(tmp_path, compression):
    path = write(tmp_path / "r.tfrecord", ROWS * 50, compression)
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    assert "is damaged or cut short" in error_of(path)
    if compression is None:  # GZIP has a checksum of its own
        changed = bytearray(data)
        changed[16 + len(example(ROWS[0])) - 6] ^= 0xFF  # of the first record's data
        path.write_bytes(changed)
        assert f"{path}: record 1 is damaged or cut short" in error_of(path)


def test_other_packings_are_named(tmp_path):
    path = write(tmp_path / "r.tfrecord", ROWS)
    path.write_bytes(zlib.compress(path.read_bytes()))
    assert "is packed as ZLIB" in error_of(path)


def test_no_rows(tmp_path):
    path = tmp_path / "r.tfrecord"
    for content in (b"", gzip.compress(b"")):
        path.write_bytes(content)
        assert read(path) is None


def test_progress_adds_up_to_the_size(tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "BLOCK_BYTES", 400)
    path, done = write(tmp_path / "r.tfrecord", ROWS * 20), []
    batches = list(read_log([path], SCHEMA, progress=done.append))
    assert len(batches) == len(done) > 5
    assert sum(batch.num_rows for batch in batches) == 60
    assert sum(done) == path.stat().st_size


# Preparing


def rows_of(number):
    random = np.random.default_rng(5)
    for _ in range(number):
        user = int(random.integers(20))
        yield {
            "user": [10**10 + user],
            "tags": [f"t{i}" for i in random.integers(9, size=random.integers(4))],
            "price": [float(np.float32(random.random()))],
            "click": [int(random.random() < (user % 2 + 0.5) / 2)],
        }


PREPARED = Schema(
    label="click",
    fields=(
        Field(name="user", min_count=1),
        Field(name="tags", multiple=True, min_count=1),
        Field(name="price", kind="numeric"),
    ),
)


def test_prepared_as_from_text(tmp_path):
    """And once more from the records that were prepared."""
    rows = list(rows_of(400))
    write(tmp_path / "log.tfrecord", rows)
    lines = [
        f"{row['user'][0]},{'|'.join(row['tags'])},{row['price'][0]!r},{row['click'][0]}"
        for row in rows
    ]
    (tmp_path / "log.csv").write_text(
        "\n".join(["user,tags,price,click", *lines]) + "\n"
    )
    for form in ("csv", "tfrecord"):
        edcn_tf.prepare(tmp_path / f"log.{form}", PREPARED, tmp_path / form)
    expected = {
        path.relative_to(tmp_path / "csv"): path.read_bytes()
        for path in (tmp_path / "csv").rglob("*")
        if path.is_file() and path.name != "summary.json"
    }
    assert len(expected) > 5
    for path, content in expected.items():
        assert (tmp_path / "tfrecord" / path).read_bytes() == content, path
    splits = {
        split: sorted((tmp_path / "csv").glob(f"{split}-*"))
        for split in ("train", "valid", "test")
    }
    edcn_tf.prepare(splits, PREPARED, tmp_path / "again")
    for path, content in expected.items():
        assert (tmp_path / "again" / path).read_bytes() == content, path


def test_records_along_each_other_are_read_again(tmp_path):
    """What is missing within a history stands in records as a value of its own."""
    schema = Schema(
        label="y",
        fields=(
            Field(name="film", min_count=1),
            Field(name="past", kind="sequence", of="film"),
            Field(
                name="ago", kind="sequence", along="past", buckets=3, dtype="float32"
            ),
        ),
    )
    (tmp_path / "log.csv").write_text(
        "film,past,ago,y\na,b|c,1|,0\nb,,,1\nc,a|a,|2,0\n"
    )
    [batch] = read_log([tmp_path / "log.csv"], schema)
    path = write(tmp_path / "r.tfrecord", serialize_examples(batch))
    [again] = read_log([path], schema)
    assert serialize_examples(again) == serialize_examples(batch)
