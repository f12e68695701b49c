"""The reader of raw click logs, whatever their format, as batches of typed columns."""

import dataclasses
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence

import pyarrow as pa

from edcn_tf.choices import FORMATS
from edcn_tf.errors import InputError
from edcn_tf.files import StrPath
from edcn_tf.logs import formats, parquet, tfds
from edcn_tf.logs.normalizing import normalized
from edcn_tf.logs.opening import input_errors
from edcn_tf.logs.text import read_text
from edcn_tf.schema import Schema


def read_log(
    paths: Iterable[StrPath],
    schema: Schema,
    format: str | None = None,
    columns: Sequence[str] | None = None,
    progress: Callable[[int], object] | None = None,
) -> Iterator[pa.RecordBatch]:
    """Reads logs one after the other in batches, with flat memory.

    Args:
        paths: File names, each plain or compressed (.gz, .zst), or
            `tfds:NAME[SPLIT]` for a TensorFlow Datasets name (all splits unless
            one is given).
        schema: `Schema` that says which columns are read and as what.
        format: One of `FORMATS`; told from each file's name unless given.
        columns: Names of the columns to read; those of the schema unless given.
        progress: Called with the number of bytes of the files read since the last
            call.

    Yields:
        `pyarrow.RecordBatch` with a column for each of `columns`, in that order and
        of the types of `edcn_tf.logs.normalizing.normalize`.

    Raises:
        InputError: With file, row and column, if a file cannot be read as what it is
            taken for, a column is missing, or a value does not fit the schema.
    """
    for path in map(str, paths):
        for _, batch in read_part(LogPart(path), schema, format, columns, progress):
            yield batch


@dataclasses.dataclass(frozen=True)
class LogPart:
    """A part of a log that can be read by itself.

    Attributes:
        path: The log's name.
        first_row: Number of the part's first row in the log, from 0.
        piece: Row group of a Parquet file, or record file of a TensorFlow Datasets
            name; None for the whole log.
    """

    path: str
    first_row: int = 0
    piece: int | str | None = None


def log_parts(path: str, format: str | None = None) -> list[LogPart]:
    """The parts of a log that can be read at the same time, a list of `LogPart`.

    A Parquet file that is not packed once more has one for each row group, a
    TensorFlow Datasets name one for each of its files; text is one part.
    """
    if path.startswith("tfds:"):
        pieces = tfds.files_of(path)
    elif (format or _format_of(path)) == "parquet":
        with input_errors(path, "parquet"):
            pieces = parquet.row_groups(path)
    else:
        return [LogPart(path)]
    first_rows = itertools.accumulate((rows for _, rows in pieces), initial=0)
    return [LogPart(path, row, piece) for (piece, _), row in zip(pieces, first_rows)]


def read_part(
    part: LogPart,
    schema: Schema,
    format: str | None = None,
    columns: Sequence[str] | None = None,
    progress: Callable[[int], object] | None = None,
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Reads a part of a log in batches: see `read_log`.

    Yields:
        Number of the batch's first row in the log, from 0, and the batch.
    """
    columns = list(columns or schema.columns)
    progress = progress or (lambda _: None)
    batches = _read_one(part, schema, format, columns, progress)
    return normalized(batches, schema, columns, part.path, part.first_row)


def log_bytes(paths: Iterable[StrPath]) -> int:
    """Size of the logs in bytes, as far as they are files."""
    sizes = 0
    for path in map(str, paths):
        if not path.startswith("tfds:"):
            try:
                sizes += os.path.getsize(path)
            except OSError as error:
                raise InputError(f"{path}: {error.strerror}") from None
    return sizes


def _read_one(
    part: LogPart,
    schema: Schema,
    format: str | None,
    columns: Sequence[str],
    progress: Callable[[int], object],
) -> Iterator[pa.RecordBatch]:
    path = part.path
    if path.startswith("tfds:"):
        yield from tfds.read(path, part.piece, columns)
        return
    format = format or _format_of(path)
    if format not in FORMATS:
        raise InputError(f"Format must be one of {list(FORMATS)}. Received: {format!r}")
    with input_errors(path, format):
        if format == "parquet":
            yield from parquet.read(path, part.piece, columns, progress)
        else:
            text = formats.TEXT[format]
            if format in ("csv", "tsv"):
                text = text.spoken(schema.dialect)
            yield from read_text(path, text, columns, progress)


def _format_of(path: str) -> str:
    stem, suffix = os.path.splitext(path.lower())
    if suffix in (".gz", ".zst"):
        suffix = os.path.splitext(stem)[1]
    if suffix in (".csv", ".tsv", ".parquet"):
        return suffix[1:]
    raise InputError(
        f"{path}: cannot tell the format from the name; give --format, one of "
        f"{list(FORMATS)}"
    )
