"""TFRecord files of tf.Example with the raw named values of the log."""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf

from edcn_tf.errors import InputError
from edcn_tf.files import StrPath


def serialize_examples(batch: pa.RecordBatch) -> list[bytes]:
    """Serializes a batch of columns, one tf.Example a row.

    The protocol buffers' wire format is put together column by column: the bytes of
    an Example are the plain concatenation of its features' entries, so each distinct
    value of a column is encoded once and a row only joins what its columns hold. A
    missing value has no entry.

    Args:
        batch: `pyarrow.RecordBatch` of string, int64 and float32 columns or lists of
            these (`edcn_tf.logs.normalizing.normalize`).

    Returns:
        A list of bytes, one tf.Example a row.
    """
    columns = [
        _column_entries(name, batch.column(i))
        for i, name in enumerate(batch.schema.names)
    ]
    rows = [b"".join(entries) for entries in zip(*columns)]
    # Example { features = 1 }
    return [b"\x0a" + _varint(len(row)) + row for row in rows]


def _column_entries(name: str, column: pa.Array) -> list[bytes]:
    """The bytes of one feature for each row; empty where the value is missing."""
    if column.type == pa.float64():  # a time: stored whole, which tf.Example can hold
        column = pc.cast(pc.floor(column), pa.int64())
    key = _delimited(1, name.encode())
    if pa.types.is_list(column.type):
        kind = column.type.value_type
        lengths = pc.list_value_length(column).fill_null(0)
        ends = lengths.to_numpy().cumsum().tolist()
        pieces = _pieces(column.flatten(), ends)
        return [_entry(key, kind, piece) if piece else b"" for piece in pieces]
    coded = column.dictionary_encode(null_encoding="mask")
    values = coded.dictionary.to_pylist()
    entries = [_entry(key, column.type, _piece(value)) for value in values] + [b""]
    return [entries[i] for i in coded.indices.fill_null(-1).to_pylist()]


def _pieces(flat: pa.Array, ends: list[int]) -> list[bytes]:
    """The values of each list inside its entry; null is no value."""
    spans = zip([0, *ends], ends)
    if pa.types.is_floating(flat.type) and not flat.null_count:
        # Of vectors hardly a number comes twice.
        numbers = flat.to_numpy().astype("<f4").tobytes()  # little-endian, as below
        return [numbers[4 * start : 4 * end] for start, end in spans]
    coded = flat.dictionary_encode(null_encoding="mask")
    distinct = [_piece(value) for value in coded.dictionary.to_pylist()]
    distinct.append(b"")  # for null, whose index becomes -1
    pieces = [distinct[i] for i in coded.indices.fill_null(-1).to_pylist()]
    return [b"".join(pieces[start:end]) for start, end in spans]


def _piece(value: str | int | float) -> bytes:
    """One value inside a BytesList (a field of its own) or a packed number list."""
    if isinstance(value, str):
        return _delimited(1, value.encode())
    if isinstance(value, int):
        return _varint(value & 0xFFFFFFFFFFFFFFFF)
    return np.float32(value).tobytes()  # little-endian, as on the wire


def _entry(key: bytes, kind: pa.DataType, pieces: bytes) -> bytes:
    """Features { feature = 1 { key = 1, value = 2 { BytesList | FloatList | Int64List

    The three lists are fields 1, 2 and 3 of Feature; numbers are packed.
    """
    if pa.types.is_string(kind):
        feature = _delimited(1, pieces)
    elif pa.types.is_floating(kind):
        feature = _delimited(2, _delimited(1, pieces))
    else:
        feature = _delimited(3, _delimited(1, pieces))
    return _delimited(1, key + _delimited(2, feature))


def _delimited(field: int, payload: bytes) -> bytes:
    return bytes([field << 3 | 2]) + _varint(len(payload)) + payload


def _varint(number: int) -> bytes:
    if number < 128:
        return bytes([number])
    out = bytearray()
    while number >= 128:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


class RecordWriter:
    """Writes batches to a numbered series of TFRecord files.

    Args:
        prefix: Path that file names start with: `PREFIX-00000.tfrecord[.gz]`, ...
        compression: `None` or `"GZIP"`.
        rows_per_file: A new file is begun after about this many rows.
        first, step: Numbers of the first file and from one file to the next, so that
            several writers can share a prefix.
    """

    def __init__(
        self,
        prefix: StrPath,
        *,
        compression: str | None = None,
        rows_per_file: int = 1 << 20,
        first: int = 0,
        step: int = 1,
    ) -> None:
        if compression not in (None, "GZIP"):
            raise InputError(
                f"compression must be None or 'GZIP'. Received: {compression!r}"
            )
        self.prefix = prefix
        self.compression = compression
        self.rows_per_file = rows_per_file
        self.number, self.step = first, step
        self.rows = 0
        self.writer: tf.io.TFRecordWriter | None = None

    def write(self, batch: pa.RecordBatch) -> None:
        """Writes each row of a batch as one record."""
        if self.writer is None:
            suffix = ".tfrecord.gz" if self.compression else ".tfrecord"
            path = f"{self.prefix}-{self.number:05d}{suffix}"
            self.writer = tf.io.TFRecordWriter(path, self.compression)
            self.number += self.step
            self.rows = 0
        for row in serialize_examples(batch):
            self.writer.write(row)
        self.rows += batch.num_rows
        if self.rows >= self.rows_per_file:
            self.close()

    def close(self) -> None:
        """Finishes the file that is being written."""
        if self.writer is not None:
            self.writer.close()
            self.writer = None


def record_files(pattern: str | Iterable[StrPath]) -> list[str]:
    """Files that match a glob pattern (or each of several), sorted.

    Raises:
        InputError: If a pattern matches no file.
    """
    files = []
    for one in [pattern] if isinstance(pattern, str) else map(str, pattern):
        # A file's own name is no pattern, whatever is in it.
        is_file = tf.io.gfile.exists(one) and not tf.io.gfile.isdir(one)
        found = [one] if is_file else tf.io.gfile.glob(one)
        if not found:
            raise InputError(f"{one}: no such TFRecord file")
        files += sorted(found)
    return files


def refuse_empty(files: Iterable[str]) -> None:
    """An `InputError` for a file of no bytes, which TensorFlow reads as no rows."""
    for path in files:
        if not tf.io.gfile.stat(path).length:
            raise InputError(f"{path}: is empty; make it again, or move it away")
