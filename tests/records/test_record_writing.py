import gzip

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from edcn_tf.errors import InputError
from edcn_tf.features.encoder import Encoder
from edcn_tf.features.writing import FeatureCounter
from edcn_tf.field import Field
from edcn_tf.framing import compression_of
from edcn_tf.records.writing import (
    RecordWriter,
    record_files,
    serialize_examples,
)
from edcn_tf.schema import Schema


def example(**features):
    """A tf.Example built with the protocol buffers' own classes."""
    built = tf.train.Example()
    built.features.SetInParent()  # also where there is no feature
    for name, values in features.items():
        feature = built.features.feature[name]
        if isinstance(values[0] if values else "", str):
            feature.bytes_list.value.extend(value.encode() for value in values)
        elif isinstance(values[0], float):
            feature.float_list.value.extend(values)
        else:
            feature.int64_list.value.extend(values)
    return built


def parsed(serialized):
    return tf.train.Example.FromString(serialized)


LONG = [0, 1, 127, 128, 129, 300, 16_383, 16_384, 16_400, 70_000]


@pytest.mark.parametrize(
    "kind, values",
    [
        (
            pa.string(),
            ["", "a", "Ünïcode 東京  🦊", "a\0b\n", *("x" * n for n in LONG)],
        ),
        (pa.int64(), [0, 1, -1, 127, 128, 2**31, 2**63 - 1, -(2**63), -300]),
        (
            pa.float32(),
            [0.0, -0.0, 1.5, -2.25, float(np.float32(0.1)), 3.0e38, 1e-45, np.inf],
        ),
    ],
    ids=lambda value: str(value) if isinstance(value, pa.DataType) else "",
)
def test_single_values_are_as_protobuf_has_them(kind, values):
    column = pa.array([*values, None, *values], kind)
    rows = serialize_examples(pa.record_batch([column], names=["f"]))
    expected = [example(f=[value]) for value in values]
    assert [parsed(row) for row in rows] == [*expected, example(), *expected]
    # Also the bytes: one feature leaves no choice of order, -0.0 not that of a sign.
    for row, value in zip(rows, values):
        assert row == example(f=[value]).SerializeToString()


@pytest.mark.parametrize(
    "kind, values",
    [
        (pa.string(), ["a", "", "ü", "x" * 200, "x" * 20_000]),
        (pa.int64(), [1, -1, 2**63 - 1, -(2**63), 0, *range(300)]),
        (pa.float32(), [1.5, -0.0, float(np.float32(0.1))] * 100),
    ],
    ids=lambda value: str(value) if isinstance(value, pa.DataType) else "",
)
def test_lists_are_as_protobuf_has_them(kind, values):
    lists = [values, values[:1], None, [], [None, values[1], None], values[::-1]]
    column = pa.array(lists, pa.list_(kind))
    rows = serialize_examples(pa.record_batch([column], names=["f"]))
    for row, kept in zip(rows, [values, values[:1], None, None, [values[1]]]):
        wanted = example(f=kept) if kept else example()
        assert parsed(row) == wanted
        assert row == wanted.SerializeToString()
    assert parsed(rows[5]) == example(f=values[::-1])


def test_a_slice_of_a_batch():
    batch = pa.record_batch(
        {
            "s": pa.array(["a", None, "b", "c"]),
            "l": pa.array([["x"], ["y", "z"], [], ["w", None]]),
        }
    )
    rows = [parsed(row) for row in serialize_examples(batch.slice(1, 3))]
    assert rows == [example(l=["y", "z"]), example(s=["b"]), example(s=["c"], l=["w"])]
    kept = batch.filter(pa.array([False, True, False, True]))
    rows = [parsed(row) for row in serialize_examples(kept)]
    assert rows == [example(l=["y", "z"]), example(s=["c"], l=["w"])]


def test_many_columns_in_one_row():
    batch = pa.record_batch(
        {
            "user": pa.array(["ann", None]),
            "ü" * 200: pa.array([7, -7]),
            "price": pa.array([0.5, None], pa.float32()),
            "tags": pa.array([["a", "b"], []]),
        }
    )
    rows = [parsed(row) for row in serialize_examples(batch)]
    names = {"ü" * 200: [7]}
    assert rows[0] == example(user=["ann"], price=[0.5], tags=["a", "b"], **names)
    assert rows[1] == example(**{"ü" * 200: [-7]})


def test_random_batches(random):
    for _ in range(20):
        rows = int(random.integers(0, 30))
        columns = {
            "s": [f"v{i}" if i else None for i in random.integers(0, 9, rows)],
            "i": [int(i) if i % 3 else None for i in random.integers(-99, 99, rows)],
            "l": [
                [int(i) for i in random.integers(-9, 9, random.integers(0, 5))]
                for _ in range(rows)
            ],
        }
        kinds = {"s": pa.string(), "i": pa.int64(), "l": pa.list_(pa.int64())}
        batch = pa.record_batch(
            [pa.array(columns[name], kind) for name, kind in kinds.items()],
            names=list(kinds),
        )
        expected = []
        for s, i, several in zip(*columns.values()):
            features = {"s": [s], "i": [i], "l": several}
            present = {k: v for k, v in features.items() if v and v[0] is not None}
            expected.append(example(**present))
        assert [parsed(row) for row in serialize_examples(batch)] == expected


# Files


def numbered(start, stop):
    return pa.record_batch({"i": pa.array(range(start, stop), pa.int64())})


def numbers_in(path):
    dataset = tf.data.TFRecordDataset(str(path), compression_of(str(path)))
    features = [parsed(row.numpy()).features.feature for row in dataset]
    return [feature["i"].int64_list.value[0] for feature in features]


@pytest.mark.parametrize(
    "compression, suffix", [(None, ".tfrecord"), ("GZIP", ".tfrecord.gz")]
)
def test_files_begin_anew_after_so_many_rows(tmp_path, compression, suffix):
    writer = RecordWriter(
        str(tmp_path / "train"), compression=compression, rows_per_file=10
    )
    for start in range(0, 24, 4):
        writer.write(numbered(start, start + 4))
    writer.close()
    writer.close()  # once more does no harm
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"train-00000{suffix}", f"train-00001{suffix}"]
    found = [numbers_in(tmp_path / name) for name in names]
    assert found == [list(range(12)), list(range(12, 24))]
    data = (tmp_path / names[0]).read_bytes()
    assert data.startswith(b"\x1f\x8b") == (compression == "GZIP")
    if compression:
        assert len(gzip.decompress(data)) > 12 * 16


def test_writers_share_a_prefix(tmp_path):
    for first in range(2):
        writer = RecordWriter(str(tmp_path / "t"), rows_per_file=1, first=first, step=2)
        for i in range(2):
            writer.write(numbered(10 * first + i, 10 * first + i + 1))
        writer.close()
    found = {path.name: numbers_in(path) for path in tmp_path.iterdir()}
    assert found == {
        "t-00000.tfrecord": [0],
        "t-00002.tfrecord": [1],
        "t-00001.tfrecord": [10],
        "t-00003.tfrecord": [11],
    }


def test_no_rows_no_file(tmp_path):
    RecordWriter(str(tmp_path / "train")).close()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("compression", ["gzip", "ZLIB", ""])
def test_an_unknown_compression(tmp_path, compression):
    with pytest.raises(InputError, match=f"Received: '{compression}'"):
        RecordWriter(str(tmp_path / "train"), compression=compression)


def test_record_files(tmp_path):
    for name in ("b-1", "b-0", "a-0"):
        (tmp_path / name).touch()
    base = str(tmp_path)
    assert record_files(f"{base}/b-*") == [f"{base}/b-0", f"{base}/b-1"]
    assert record_files([f"{base}/b-0", tmp_path / "a-0"]) == [
        f"{base}/b-0",
        f"{base}/a-0",
    ]
    with pytest.raises(InputError, match="c-\\*: no such TFRecord file"):
        record_files([f"{base}/b-*", f"{base}/c-*"])


# Other producers


def varint(number):
    out = bytearray()
    while number >= 128:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def delimited(field, data):
    return varint(field << 3 | 2) + varint(len(data)) + data


def unpacked_feature(name, values):
    """A feature whose numbers are each a field of its own, as old writers do."""
    if isinstance(values[0], float):
        items = b"".join(b"\x0d" + np.float32(value).tobytes() for value in values)
        feature = delimited(2, items)
    else:
        items = b"".join(b"\x08" + varint(value % 2**64) for value in values)
        feature = delimited(3, items)
    return delimited(1, delimited(1, name.encode()) + delimited(2, feature))


def test_records_of_another_producer(tmp_path):
    fields = (
        Field(name="user", min_count=1),
        Field(name="age", dtype="int64", min_count=1),
        Field(name="codes", dtype="int64", multiple=True, min_count=1, max_length=3),
        Field(name="price", kind="numeric"),
    )
    counter = FeatureCounter(Schema(label="click", fields=fields))
    counter.add(
        pa.record_batch(
            {
                "user": ["ann"],
                "age": pa.array([-30]),
                "codes": pa.array([[-5, 6]]),
                "price": pa.array([2.5], pa.float32()),
            }
        )
    )
    encoder = Encoder(counter.write(tmp_path / "features"))
    ours = pa.record_batch(
        {
            "user": ["ann"],
            "age": pa.array([-30]),
            "codes": pa.array([[-5, 6]]),
            "price": pa.array([2.5], pa.float32()),
        }
    )
    theirs = delimited(
        1,
        unpacked_feature("price", [2.5])
        + unpacked_feature("something else", [1, 2])
        + unpacked_feature("codes", [-5, 6])
        + unpacked_feature("age", [-30])
        + delimited(1, delimited(1, b"user") + delimited(2, delimited(1, b"\n\3ann"))),
    )
    assert parsed(theirs).features.feature["codes"].int64_list.value == [-5, 6]
    built = example(user=["ann"], age=[-30], codes=[-5, 6], price=[2.5], extra=["x"])
    found = [
        encoder(tf.io.parse_example(tf.constant([row]), encoder.parsing())).numpy()
        for row in (*serialize_examples(ours), theirs, built.SerializeToString())
    ]
    # user, age, three slots of codes, price; 1, 4, 7 and 11 are "missing".
    assert found[0].tolist() == [[3, 6, 9, 10, 0, 12]]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
