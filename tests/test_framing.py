"""What is told of a TFRecord file before TensorFlow reads it."""

import ast
import gzip
import os
import pathlib
import types
import zlib

import numpy as np
import pytest
import tensorflow as tf

import edcn_tf
from edcn_tf import framing
from edcn_tf.errors import InputError
from edcn_tf.files import remembered
from edcn_tf.framing import compression_of, framing_of, record_dataset, refuse_damaged

ROOT = pathlib.Path(edcn_tf.__file__).parent.parent


def written(path, records, compression=None):
    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for record in records:
            writer.write(record)
    return str(path)


def frames(tmp_path, records):
    """The bytes of a plain file."""
    return pathlib.Path(written(tmp_path / "made", records)).read_bytes()


@pytest.mark.parametrize("compression", [None, "GZIP"])
@pytest.mark.parametrize("read", [1 << 20, 64, 13])
@pytest.mark.parametrize("longest", [0, 5, 200])
def test_the_frames_are_counted(
    tmp_path, random, monkeypatch, compression, read, longest
):
    """Wherever one ends in what is read at once."""
    monkeypatch.setattr(framing, "READ", read)
    lengths = random.integers(0, longest + 1, 300)
    path = written(tmp_path / "r", [b"x" * n for n in lengths], compression)
    size = int(lengths.sum()) + 16 * 300
    assert framing_of(path) == (compression or "", 300, None, size)


@pytest.mark.parametrize("read", [1 << 20, 64])
def test_the_first_length_that_cannot_be_is_named(tmp_path, monkeypatch, read):
    monkeypatch.setattr(framing, "READ", read)
    data, path = frames(tmp_path, [b"record"] * 30), tmp_path / "r.tfrecord"
    for number in (0, 7, 29):
        for place in range(12):  # of the length and its checksum
            changed = bytearray(data)
            changed[22 * number + place] ^= 1
            path.write_bytes(changed)
            with pytest.raises(InputError) as caught:
                refuse_damaged([path])
            told = str(caught.value)
            assert told == f"{path}: record {number + 1} {framing.DAMAGED}"
    for end in (-1, -7, -15, -21):
        path.write_bytes(data[:end])
        with pytest.raises(InputError, match="record 30 is damaged or cut short"):
            record_dataset(path)


def test_all_files_are_looked_at(tmp_path):
    paths = [written(tmp_path / str(i), [b"a", b"b"]) for i in range(9)]
    assert [found.records for found in refuse_damaged(paths)] == [2] * 9
    with open(paths[6], "ab") as file:
        file.write(b"end")
    with pytest.raises(InputError, match="6: record 3 is damaged"):
        refuse_damaged(paths)


def test_compression_is_told_from_the_bytes(tmp_path):
    plain = frames(tmp_path, [b"record"] * 3)
    for name in ("r.tfrecord", "r.tfrecord.gz", "r"):
        path = tmp_path / name
        for content, compression in [
            (plain, ""),
            (gzip.compress(plain), "GZIP"),
            (gzip.compress(plain) * 2, "GZIP"),
            (b"", ""),
        ]:
            path.write_bytes(content)
            assert compression_of(str(path)) == compression
            assert framing_of(str(path)).fault is None
            number = len(list(record_dataset(path)))
            assert number == framing_of(str(path)).records


def test_another_packing_is_named(tmp_path):
    plain = frames(tmp_path, [b"record"] * 3)
    zstd = b"\x28\xb5\x2f\xfd" + plain
    for content, name in [(zlib.compress(plain), "ZLIB"), (zstd, "ZSTD")]:
        path = tmp_path / "r.tfrecord"
        path.write_bytes(content)
        with pytest.raises(
            InputError, match=f"is packed as {name}; pack the records as"
        ):
            refuse_damaged([path])


@pytest.mark.parametrize("start", [b"\x1f\x8b", b"\x78\x9c", b"\x78\x01"])
def test_a_length_that_looks_like_a_packing(tmp_path, start):
    length = int.from_bytes(start, "little")
    path = written(tmp_path / "r.tfrecord", [b"x" * length, b"y"])
    assert pathlib.Path(path).read_bytes().startswith(start)
    assert framing_of(path)[:2] == ("", 2)


def test_a_gzip_that_breaks_off_tells_no_number(tmp_path):
    data = gzip.compress(frames(tmp_path, [b"record"] * 500))
    for content in (data[:-1], data[: len(data) // 2], data[:15], data + b"more"):
        path = tmp_path / "r.tfrecord.gz"
        path.write_bytes(content)
        with pytest.raises(InputError, match="gz: its GZIP is damaged or cut short;"):
            refuse_damaged([path])


def test_what_cannot_be_read(tmp_path):
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(InputError, match=f"{path}: cannot be read"):
            refuse_damaged([path])


def test_on_another_file_system():
    for name, compression in (("plain", None), ("packed", "GZIP")):
        path = written(f"ram://framing/{name}", [b"a", b"b"], compression)
        assert framing_of(path)[:3] == (compression or "", 2, None)
        assert len(list(record_dataset(path))) == 2
    with pytest.raises(InputError, match="ram://framing/absent: cannot be read"):
        refuse_damaged(["ram://framing/absent"])


def test_a_file_is_walked_once_while_it_stays_as_it_is(tmp_path):
    calls, path = [], tmp_path / "file"

    @remembered
    def size(path):
        calls.append(path)
        return os.path.getsize(path)

    path.write_bytes(b"1")
    assert [size(str(path)), size(str(path)), len(calls)] == [1, 1, 2]  # may yet change
    os.utime(path, (10**9, 10**9))
    assert [size(str(path)), size(str(path)), len(calls)] == [1, 1, 3]
    path.write_bytes(b"22")
    assert [size(str(path)), len(calls)] == [2, 4]


def test_training_s_files_are_refused_before_they_are_read(tmp_path, monkeypatch):
    """Nothing of TensorFlow's sees a file whose lengths cannot be."""
    path = written(tmp_path / "r.tfrecord", [b"record"] * 3)
    with open(path, "ab") as file:
        file.write(np.random.default_rng(0).bytes(40))
    seen = []
    monkeypatch.setattr(
        tf.data, "TFRecordDataset", lambda *args, **_: seen.append(args)
    )
    schema = edcn_tf.Schema.from_dict({"label": "y", "fields": [{"name": "f"}]})
    spec = types.SimpleNamespace(schema=schema)
    with pytest.raises(InputError, match="record 4 is damaged"):
        edcn_tf.read_records(path, spec, 4)
    with pytest.raises(InputError, match="record 4 is damaged"):
        list(edcn_tf.logs.reading.read_log([path], schema))
    with pytest.raises(InputError, match="record 4 is damaged"):
        record_dataset(path)
    assert seen == []


def test_records_are_read_by_those_alone_who_look_first():
    readers = {"TFRecordDataset", "tf_record_iterator"}
    found = {
        str(path.relative_to(ROOT))
        for folder in ("edcn_tf", "export", "tuning", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in readers
    }
    assert found == {
        "edcn_tf/framing.py",
        "edcn_tf/records/reading.py",
        "edcn_tf/records/checking.py",
        "export/verification.py",  # a program: export/saved_model.py looks for it
        "benchmarks/pipeline.py",
    }
