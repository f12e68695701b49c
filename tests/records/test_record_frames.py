"""Frames of TFRecord files: what is left of a damaged one, and where damage is seen."""

import gzip
import struct

import pytest
import tensorflow as tf

from edcn_tf import framing
from edcn_tf.framing import framing_of
from edcn_tf.records.frames import BLOCK, frames

RECORDS = [f"record {i}".encode() * (1 + i % 5) for i in range(40)]


@pytest.fixture(params=["", ".gz"])
def path(request, tmp_path):
    path = tmp_path / f"t.tfrecord{request.param}"
    with tf.io.TFRecordWriter(str(path), "GZIP" if request.param else None) as writer:
        for record in RECORDS:
            writer.write(record)
    return path


@pytest.fixture
def plain(tmp_path):
    path = tmp_path / "t.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in RECORDS:
            writer.write(record)
    return path


def starts():
    """Where each frame begins, and the end: 12 bytes, the record, 4 bytes."""
    places = [0]
    for record in RECORDS:
        places.append(places[-1] + 16 + len(record))
    return places


def counted(path):
    """Number of frames; None if they are not all that there is."""
    found = framing_of(str(path))
    return None if found.fault else found.records


def found(path):
    return [record for _, record in frames(str(path))]


def test_a_whole_file(path):
    assert counted(path) == len(RECORDS)
    assert list(frames(str(path))) == list(enumerate(RECORDS, 1))


@pytest.mark.parametrize("offset", [*range(12), 12, 15, -4, -1])
def test_a_changed_byte_costs_one_record(plain, offset):
    """In the length, its checksum, the record, and the record's checksum."""
    data = bytearray(plain.read_bytes())
    place = starts()[7] + offset if offset >= 0 else starts()[8] + offset
    data[place] ^= 4
    plain.write_bytes(data)
    assert found(plain) == [*RECORDS[:7], None, *RECORDS[8:]]


def test_a_stretch_without_frames(plain):
    """It is longer than a block that is searched at once."""
    data, at = plain.read_bytes(), starts()
    for filler in (b"\0", b"\xff", b"words "):
        lost = filler * (3 * BLOCK // len(filler) + 5)
        plain.write_bytes(data[: at[3]] + lost + data[at[5] :])
        assert found(plain) == [*RECORDS[:3], None, *RECORDS[5:]]
        plain.write_bytes(data[: at[3]] + lost)
        assert found(plain) == [*RECORDS[:3], None]


@pytest.mark.parametrize("left", [1, 11, 12, 13, 20, -5, -1])
def test_cut_short_within_a_record(plain, left):
    at = starts()
    plain.write_bytes(plain.read_bytes()[: (at[9] if left > 0 else at[10]) + left])
    assert counted(plain) is None
    assert found(plain) == [*RECORDS[:9], None]


def test_cut_short_between_records(plain):
    """Nobody can see that in the file."""
    plain.write_bytes(plain.read_bytes()[: starts()[9]])
    assert counted(plain) == 9
    assert found(plain) == RECORDS[:9]


def crc(data):
    """CRC-32C bit by bit, turned and shifted."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    value ^= 0xFFFFFFFF
    return ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF


def test_the_checksum():
    """Check value of CRC-32C: 0xE3069283 for the digits."""
    turned = (0xE3069283 >> 15 | 0xE3069283 << 17) + 0xA282EAD8
    assert crc(b"123456789") == turned & 0xFFFFFFFF


def with_length(data, number, length):
    """A file's bytes, its record of that number another length with its checksum."""
    at, spelled = starts(), struct.pack("<Q", length)
    header = spelled + struct.pack("<I", crc(spelled))
    return data[: at[number]] + header + data[at[number] + len(header) :]


def test_a_length_beyond_the_end_that_has_its_checksum(plain):
    data, at = plain.read_bytes(), starts()
    plain.write_bytes(with_length(data, 5, at[-1]))
    assert framing_of(str(plain))[1:3] == (5, "record 6")
    assert found(plain) == [*RECORDS[:5], None, *RECORDS[6:]]


def test_a_record_longer_than_one_can_be(path, monkeypatch):
    """Its bytes are all there."""
    monkeypatch.setattr(framing, "LARGEST", len(RECORDS[4]) - 1)
    monkeypatch.setattr("edcn_tf.records.frames.LARGEST", len(RECORDS[4]) - 1)
    assert framing_of(str(path))[1:3] == (4, "record 5")
    assert found(path)[:5] == [*RECORDS[:4], None]
    assert framing_of(str(path)).size > framing.LARGEST


def test_gzip_that_breaks_off(tmp_path, random):
    records = [random.bytes(100) for _ in range(50)]
    path = tmp_path / "t.tfrecord.gz"
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for record in records:
            writer.write(record)
    data = path.read_bytes()
    for left in (1, 9, 15, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:left])
        assert counted(path) is None, left
        *good, last = found(path)
        assert last is None and good == records[: len(good)]
    assert len(good) == 50  # only the end of GZIP's own frame is lost
    damaged = bytearray(data)
    damaged[len(data) // 2] ^= 255
    path.write_bytes(damaged)
    good = [record for record in found(path) if record is not None]
    assert 20 < len(good) < 50 and set(good) <= set(records)
    path.write_bytes(data + b"garbage")
    assert found(path) == [*records, None]
    path.write_bytes(data + data)  # GZIP's way of appending
    assert found(path) == records * 2
    path.write_bytes(gzip.compress(b""))
    assert (counted(path), found(path)) == (0, [])


@pytest.mark.parametrize("name", ["text.tfrecord", "text.tfrecord.gz"])
def test_what_is_no_tfrecord(tmp_path, name):
    (tmp_path / name).write_text("user,click\nann,1\n" * 50)
    assert counted(tmp_path / name) is None
    assert found(tmp_path / name) == [None]
