"""The reader of raw click logs, whatever their format, as batches of typed columns."""

import dataclasses
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence

import pyarrow as pa

from edcn_tf.choices import FORMATS
from edcn_tf.errors import InputError
from edcn_tf.files import StrPath
from edcn_tf.logs import (
    folders,
    formats,
    json_lines,
    opening,
    parquet,
    text,
    tfds,
    tfrecord,
)
from edcn_tf.logs.normalizing import normalized
from edcn_tf.logs.opening import input_errors
from edcn_tf.logs.served import prediction_log
from edcn_tf.schema import Schema

SUFFIXES = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".tfrecord": "tfrecord",
    ".tfrecords": "tfrecord",
}


def read_log(
    paths: Iterable[StrPath],
    schema: Schema,
    format: str | None = None,
    columns: Sequence[str] | None = None,
    progress: Callable[[int], object] | None = None,
) -> Iterator[pa.RecordBatch]:
    """Reads logs one after the other in batches, with flat memory.

    Args:
        paths: File names, each plain or compressed (.gz, .zst; records .gz);
            directories of such files (`edcn_tf.logs.folders`); or `tfds:NAME[SPLIT]`
            for a TensorFlow Datasets name (all splits unless one is given).
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
    files = log_files(paths)
    for path in files:
        part = LogPart(path)
        for _, batch in read_part(part, schema, format, columns, progress, files):
            yield batch


def log_files(paths: Iterable[StrPath]) -> list[str]:
    """The logs with the files of each directory in its place, in their order."""
    found: list[str] = []
    for path in map(str, paths):
        found += [path] if path.startswith("tfds:") else folders.files_of(path)
    return found


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
    TensorFlow Datasets name one for each of its files; text and records are one part.
    """
    if path.startswith("tfds:"):
        pieces = tfds.files_of(path)
    elif (format or format_of(path)) == "parquet":
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
    beside: Sequence[str] = (),
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Reads a part of a log in batches: see `read_log`.

    Args:
        part: The `LogPart`.
        schema, format, columns, progress: As for `read_log`.
        beside: The files that the log consists of. JSON leaves out keys of rows where
            nothing is known, so a file may lack one that another has.

    Yields:
        Number of the batch's first row in the log, from 0, and the batch.
    """
    columns = list(columns or schema.columns)
    of_log = list(dict.fromkeys(map(schema.column, columns)))
    progress = progress or (lambda _: None)
    batches = _read_one(part, schema, format, of_log, progress)
    batches = _with_keys_elsewhere(batches, schema, format, beside)
    format = None if part.path.startswith("tfds:") else format or format_of(part.path)
    dialect = schema.dialect if format in ("csv", "tsv") else None
    return normalized(batches, schema, columns, part.path, part.first_row, dialect)


def _with_keys_elsewhere(
    batches: Iterator[pa.RecordBatch],
    schema: Schema,
    format: str | None,
    beside: Sequence[str],
) -> Iterator[pa.RecordBatch]:
    """Lets pass a file of JSON lines without a key that another file has."""
    try:
        yield from batches
    except json_lines.AbsentKey as absent:
        lacking = set(absent.told[1])
        for path in beside:
            if lacking and not path.startswith("tfds:"):
                own = format or format_of(path)
                is_json = own == "jsonl"
                with input_errors(path, own):
                    lacking -= set(
                        json_lines.keys(path) if is_json else _header(path, own, schema)
                    )
        if lacking:
            path, names, present = absent.told
            named = [name for name in names if name in lacking]
            raise json_lines.AbsentKey(path, named, present) from None


def log_bytes(paths: Iterable[StrPath]) -> int:
    """Size of the logs in bytes, as far as they are files."""
    sizes = 0
    for path in log_files(paths):
        if not path.startswith("tfds:"):
            try:
                sizes += opening.size(path)
            except OSError as error:
                raise InputError(f"{path}: {error.strerror or error}") from None
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
    format = format or format_of(path)
    if format not in FORMATS:
        raise InputError(f"Format must be one of {list(FORMATS)}. Received: {format!r}")
    told = {c: v for c, v in folders.told_by(path).items() if c in columns}
    with input_errors(path, format):
        if told:
            present = _header(path, format, schema)
            folders.refuse_both(path, told, present)
            # A file without any column that is asked for has as many rows as another.
            columns = [c for c in columns if c not in told] or present[:1]
        for batch in _read_file(part, schema, format, columns, progress):
            yield _with_told(batch, told) if told else batch


def _read_file(
    part: LogPart,
    schema: Schema,
    format: str,
    columns: Sequence[str],
    progress: Callable[[int], object],
) -> Iterator[pa.RecordBatch]:
    if format == "parquet":
        return parquet.read(part.path, part.piece, columns, progress)
    if format == "jsonl":
        return json_lines.read_json_lines(part.path, columns, progress)
    if format == "tfrecord":
        is_served = prediction_log.holds_predictions(part.path)
        reader = prediction_log if is_served else tfrecord
        return reader.read(part.path, schema, columns, progress)
    spoken = _text_format(format, schema)
    return text.read_text(part.path, spoken, columns, progress)


def _header(path: str, format: str, schema: Schema) -> list[str]:
    """Names of the columns that a file has."""
    if format == "parquet":
        return parquet.header(path)
    if format == "jsonl":
        return json_lines.header(path)
    if format == "tfrecord":
        if prediction_log.holds_predictions(path):
            return prediction_log.header(path, schema)
        return tfrecord.header(path)
    return text.header(path, _text_format(format, schema))


def _text_format(format: str, schema: Schema) -> formats.TextFormat:
    known = formats.TEXT[format]
    return known.spoken(schema.dialect) if format in ("csv", "tsv") else known


def _with_told(batch: pa.RecordBatch, told: dict[str, str | None]) -> pa.RecordBatch:
    """With the columns that the folders' names tell, the same for all rows."""
    texts = [
        pa.repeat(pa.scalar(v, pa.string()), batch.num_rows) for v in told.values()
    ]
    return pa.RecordBatch.from_arrays(
        [*batch.columns, *texts], [*batch.schema.names, *told]
    )


def format_of(path: str) -> str:
    stem, suffix = os.path.splitext(opening.name_of(path).lower())
    if suffix in (".gz", ".zst"):
        suffix = os.path.splitext(stem)[1]
    if suffix in SUFFIXES:
        return SUFFIXES[suffix]
    raise InputError(
        f"{path}: cannot tell the format from the name; give --format, one of "
        f"{list(FORMATS)}"
    )
