"""How a TFRecord file is packed and framed, told before TensorFlow reads it.

A frame is the length of a record (uint64), a checksum of that, the record and its
checksum, all little-endian. A checksum is a CRC-32C, turned and shifted
(tensorflow/core/lib/io/record_writer.h). A damaged length has ended TensorFlow's
reader, and the process with it; so no file gets there whose lengths have another
checksum, lead past its end, or are longer than a protocol buffer can be.

The records themselves are left to TensorFlow, which checks them as it reads.
"""

import concurrent.futures
import contextlib
import gzip
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np

from edcn_tf.errors import InputError
from edcn_tf.files import StrPath, remembered

HEADER, FOOTER = 12, 4  # bytes before and after a record
LARGEST = (1 << 31) - 1  # bytes of a record: no protocol buffer is longer
READ = 1 << 20  # bytes that are looked at at once
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
DAMAGED = "is damaged or cut short; make the file again, or move it away"
_length_at = struct.Struct("<Q").unpack_from


class _Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...


class Framing(NamedTuple):
    """What the frames of a file are by their lengths.

    Attributes:
        compression: As `tf.data.TFRecordDataset` calls it.
        records: Number of frames, up to the first whose length cannot be.
        fault: What is damaged; None if the frames are all that the file holds.
        size: Bytes of the frames, unpacked.
    """

    compression: str
    records: int
    fault: str | None
    size: int


@remembered
def framing_of(path: str) -> Framing:
    """`Framing` of a file, which is read once for that.

    Raises:
        OSError: If the file cannot be read.
        InputError: If it is packed, and not as GZIP.
    """
    compression = compression_of(path)
    with _opened(path) as file:
        if not compression:
            return Framing(compression, *_walked(file))
        with gzip.GzipFile(fileobj=file, mode="rb") as unpacked:
            return Framing(compression, *_walked(unpacked))


def compression_of(path: str) -> str:
    """What `tf.data.TFRecordDataset` calls the compression of a file, by its bytes.

    Raises:
        OSError: If the file cannot be read.
        InputError: If it is packed, and not as GZIP.
    """
    with _opened(path) as file:
        start = file.read(1 << 12)
    # A length may be spelled by any bytes, so its checksum is asked first.
    if 0 in headers(start[:HEADER]):
        return ""
    if start.startswith(GZIP):
        return "GZIP"
    named = "ZSTD" if start.startswith(ZSTD) else "ZLIB" if _is_zlib(start) else None
    if named:
        raise InputError(
            f"{path}: is packed as {named}; pack the records as GZIP, or not at all"
        )
    return ""


def refuse_damaged(paths: Iterable[StrPath]) -> list[Framing]:
    """Looks at the lengths of all frames of files, some files at a time.

    Returns:
        The `Framing` of each file.

    Raises:
        InputError: With file and record, if a length cannot be, or a file not be read.
    """
    names = [str(path) for path in paths]
    if len(names) < 2:
        return [_sound(name) for name in names]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return list(pool.map(_sound, names))


def record_dataset(path: StrPath, framing: Framing | None = None) -> Any:
    """`tf.data.TFRecordDataset` of a file whose frames were looked at.

    Args:
        path: The file.
        framing: What `refuse_damaged` found; it is asked by default.

    Raises:
        InputError: As `refuse_damaged` does.
    """
    import tensorflow as tf  # takes seconds: reading other logs does without

    [framing] = [framing] if framing else refuse_damaged([path])
    return tf.data.TFRecordDataset(str(path), framing.compression)


def _sound(path: str) -> Framing:
    try:
        framing = framing_of(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{path}: cannot be read ({reason})") from None
    if framing.fault:
        raise InputError(f"{path}: {framing.fault} {DAMAGED}")
    return framing


@contextlib.contextmanager
def _opened(path: str) -> Iterator[Any]:
    if "://" in path:
        import tensorflow as tf

        try:
            with tf.io.gfile.GFile(path, "rb") as file:
                yield file
        except tf.errors.OpError as error:
            raise OSError(error.message) from error
    else:
        with open(path, "rb") as file:
            yield file


def _is_zlib(start: bytes) -> bool:
    try:
        return bool(zlib.decompressobj().decompress(start))
    except zlib.error:
        return False


def _walked(stream: _Stream) -> tuple[int, str | None, int]:
    """Number of frames, what is wrong after them, and their bytes."""
    number = done = place = 0  # of frames; bytes before the block; of the next frame
    block = b""
    try:
        while more := stream.read(READ):
            done += min(place, len(block))
            block, place = block[place:] + more, max(place - len(block), 0)
            starts: list[int] = []
            length = 0
            add, length_at, last = starts.append, _length_at, len(block) - HEADER
            while place <= last and length <= LARGEST:  # millions of times a second
                add(place)
                (length,) = length_at(block, place)
                place += HEADER + length + FOOTER
            right = headers(block, starts)
            if len(right) < len(starts) or length > LARGEST:
                # The first whose checksum is wrong, or the last, which is so long.
                sooner = np.flatnonzero(right != starts[: len(right)])
                wrong = (
                    int(sooner[0]) if len(sooner) else min(len(right), len(starts) - 1)
                )
                number += wrong
                return number, f"record {number + 1}", done + starts[wrong]
            number += len(starts)
    except (gzip.BadGzipFile, EOFError, zlib.error):
        return number, "its GZIP", done
    if place != len(block):
        number -= place > len(block)  # the last one is cut
        return number, f"record {number + 1}", done
    return number, None, done + place


def headers(block: bytes | memoryview, places: Any = None) -> np.ndarray:
    """Places of a block of bytes at which a length with its checksum stands.

    Args:
        block: The bytes.
        places: Those that are looked at; all by default.
    """
    if len(block) < HEADER:
        return np.empty(0, np.int64)
    found = np.lib.stride_tricks.sliding_window_view(
        np.frombuffer(block, np.uint8), HEADER
    )
    places = np.arange(len(found)) if places is None else np.array(places, np.int64)
    found = found[places]
    crc = np.full(len(found), 0xFFFFFFFF, np.uint32)
    for column in found[:, :8].T:
        crc = _TABLE[(crc ^ column) & 255] ^ (crc >> 8)
    crc = ~crc
    checksum = ((crc >> 15) | (crc << 17)) + np.uint32(0xA282EAD8)
    stored = np.ascontiguousarray(found[:, 8:]).view("<u4")[:, 0]
    return places[checksum == stored]


def _table() -> np.ndarray:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(0x82F63B78), table >> 1)
    return table


_TABLE = _table()
