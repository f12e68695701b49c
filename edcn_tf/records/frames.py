"""The records of a damaged TFRecord file, as far as they can be had.

TensorFlow's reader ends at the first frame that is not right, and takes one that is cut
within its length for the end of the file.
"""

import contextlib
import mmap
import tempfile
import zlib
from pathlib import Path

import tensorflow as tf

from edcn_tf.framing import FOOTER, HEADER, LARGEST, compression_of, headers

BLOCK = 1 << 16


def frames(path):
    """The frames of a file as far as they can be had.

    Yields:
        Number from 1, and the record; None in its place where something is damaged,
        be it the checksum of one record or a stretch without any frame.
    """
    with contextlib.ExitStack() as held:
        file = held.enter_context(open(path, "rb"))
        is_whole = True
        if compression_of(path):
            packed, file = file, held.enter_context(tempfile.TemporaryFile())
            is_whole = _unpack(packed, file)
            file.flush()
        number, record = 0, b""
        if file.seek(0, 2):
            data = held.enter_context(
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            )
            folder = held.enter_context(tempfile.TemporaryDirectory())
            for number, record in enumerate(_frames(data, Path(folder) / "scratch"), 1):
                yield number, record
        if not is_whole and record is not None:
            yield number + 1, None


def _frames(data, scratch):
    place = 0
    while place < len(data):
        begin, ends = place, _ends(data, place)
        written = _written(data, begin, ends, scratch)
        for end in ends:
            if written[place - begin :][:HEADER] != data[place : place + HEADER]:
                break
            is_right = written[: end - begin][-FOOTER:] == data[end - FOOTER : end]
            yield data[place + HEADER : end - FOOTER] if is_right else None
            place = end
        if not ends or place < ends[-1]:
            place = _next_frame(data, place + 1)
            yield None


def _ends(data, place):
    """Where the next frames end, some at a time, if their lengths are right."""
    ends, begin = [], place
    while place - begin < 16 * BLOCK:
        place = _end(data, place)
        if place is None:
            break
        ends.append(place)
    return ends


def _end(data, place):
    """Where the frame ends that begins there, if it does; None if that cannot be."""
    header = data[place : place + HEADER]
    length = int.from_bytes(header[:8], "little")
    end = place + HEADER + length + FOOTER
    fits = len(header) == HEADER and length <= LARGEST and end <= len(data)
    return end if fits else None


def _written(data, place, ends, scratch):
    """The same frames, as TensorFlow writes them: with the checksums that are right."""
    with tf.io.TFRecordWriter(str(scratch)) as writer:
        for end in ends:
            writer.write(data[place + HEADER : end - FOOTER])
            place = end
    return memoryview(scratch.read_bytes())


def _next_frame(data, place):
    """Where the next frame begins, or the end of the data."""
    while place < len(data) - HEADER:
        for found in headers(data[place : place + BLOCK + HEADER]):
            if _end(data, place + int(found)):
                return place + int(found)
        place += BLOCK
    return len(data)


def _unpack(packed, out):
    """Decompresses GZIP as far as it can be had; whether that was all."""
    gzip_format = 16 + zlib.MAX_WBITS
    unpacker, chunk, is_whole = zlib.decompressobj(gzip_format), b"", True
    while chunk := chunk or packed.read(BLOCK):
        before = unpacker.copy()
        try:
            out.write(unpacker.decompress(chunk))
        except zlib.error:  # byte by byte up to there
            with contextlib.suppress(zlib.error):
                for i in range(len(chunk)):
                    out.write(before.decompress(chunk[i : i + 1]))
            return False
        is_whole, chunk = unpacker.eof, unpacker.unused_data
        if is_whole:
            unpacker = zlib.decompressobj(gzip_format)
    return is_whole
