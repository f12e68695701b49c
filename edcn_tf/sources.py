"""Read raw click logs, whatever their format, as batches of typed columns."""

import contextlib
import csv
import dataclasses
import itertools
import os
import re
import shutil
import tempfile

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from edcn_tf import presets, tfds_source
from edcn_tf.columns import missing_column, normalize
from edcn_tf.errors import InputError

FORMATS = ("csv", "tsv", "parquet", "criteo", "avazu")
MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"PAR1": "Parquet"}
BLOCK_BYTES = 1 << 23  # of text in one batch; a row must fit in it
BATCH_ROWS = 1 << 16  # of Parquet and TFDS in one batch


def read_log(paths, schema, format=None, columns=None, progress=None):
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
        of the types of `edcn_tf.columns.normalize`.

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


def log_parts(path, format=None):
    """The parts of a log that can be read at the same time, a list of `LogPart`.

    A Parquet file that is not packed once more has one for each row group, a
    TensorFlow Datasets name one for each of its files; text is one part.
    """
    if path.startswith("tfds:"):
        pieces = tfds_source.files_of(path)
    elif (format or _format_of(path)) == "parquet":
        with input_errors(path, "parquet"), opened(path) as (stream, file):
            pieces = _row_groups(stream) if stream is file else [(None, 0)]
    else:
        return [LogPart(path)]
    first_rows = itertools.accumulate((rows for _, rows in pieces), initial=0)
    return [LogPart(path, row, piece) for (piece, _), row in zip(pieces, first_rows)]


def _row_groups(stream):
    """Number and rows of each row group that has any."""
    footer = pa.parquet.ParquetFile(stream).metadata
    rows = [footer.row_group(i).num_rows for i in range(footer.num_row_groups)]
    return [(i, n) for i, n in enumerate(rows) if n] or [(None, 0)]


def read_part(part, schema, format=None, columns=None, progress=None):
    """Reads a part of a log in batches: see `read_log`.

    Yields:
        Number of the batch's first row in the log, from 0, and the batch.
    """
    columns = list(columns or schema.columns)
    row = part.first_row
    for batch in _read_one(part, format, columns, progress or (lambda _: None)):
        yield row, normalize(batch, schema, columns, part.path, row + 1)
        row += batch.num_rows


def log_bytes(paths):
    """Size of the logs in bytes, as far as they are files."""
    sizes = 0
    for path in map(str, paths):
        if not path.startswith("tfds:"):
            try:
                sizes += os.path.getsize(path)
            except OSError as error:
                raise InputError(f"{path}: {error.strerror}") from None
    return sizes


def _read_one(part, format, columns, progress):
    path = part.path
    if path.startswith("tfds:"):
        yield from tfds_source.read(path, part.piece, columns, BATCH_ROWS)
        return
    format = format or _format_of(path)
    if format not in FORMATS:
        raise InputError(f"Format must be one of {list(FORMATS)}. Received: {format!r}")
    with input_errors(path, format):
        if format == "parquet":
            yield from _read_parquet(path, part.piece, columns, progress)
        else:
            yield from read_text(path, presets.TEXT[format], columns, progress)


@contextlib.contextmanager
def input_errors(path, format):
    """What the system and Arrow say of a file, as an `InputError`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0]
        raise InputError(f"{path}: cannot be read ({reason})") from None
    except pa.ArrowInvalid as error:
        reason = str(error).splitlines()[0]
        if "straddling" in reason:
            reason = f"a row is longer than {BLOCK_BYTES} bytes; is a quote missing?"
        raise InputError(f"{path}: is not {format} as expected: {reason}") from None


def _format_of(path):
    stem, suffix = os.path.splitext(path.lower())
    if suffix in (".gz", ".zst"):
        suffix = os.path.splitext(stem)[1]
    if suffix in (".csv", ".tsv", ".parquet"):
        return suffix[1:]
    raise InputError(
        f"{path}: cannot tell the format from the name; give --format, one of "
        f"{list(FORMATS)}"
    )


@contextlib.contextmanager
def opened(path):
    """The file's bytes, decompressed, beside the file itself (to tell how far)."""
    with pa.OSFile(path) as file:
        start = file.read(4)
        held = next((k for magic, k in MAGIC.items() if start.startswith(magic)), None)
        file.seek(0)
        suffix = os.path.splitext(path.lower())[1]
        named = {".gz": "gzip", ".zst": "zstd"}.get(suffix)
        if named and held != named and file.size():
            raise InputError(f"{path}: is named {suffix} but does not hold {named}")
        if held in ("gzip", "zstd"):
            with pa.CompressedInputStream(file, held) as stream:
                yield stream, file
        else:
            yield file, file


def read_text(path, text, columns, progress):
    with opened(path) as (stream, file):
        if not file.size():
            return
        if file is stream:
            start = file.read(1 << 12)
            file.seek(0)
            if b"\0" in start or start.startswith(b"PAR1"):
                raise InputError(
                    f"{path}: is not text (it holds binary data); is it Parquet? "
                    "Then give --format parquet"
                )
        needed = text.needed(columns)
        try:
            reader = pa.csv.open_csv(
                stream,
                read_options=pa.csv.ReadOptions(
                    block_size=BLOCK_BYTES, column_names=text.names, use_threads=False
                ),
                parse_options=pa.csv.ParseOptions(
                    delimiter=text.delimiter,
                    quote_char='"' if text.quotes else False,
                    newlines_in_values=text.quotes,
                ),
                convert_options=pa.csv.ConvertOptions(
                    column_types=dict.fromkeys(needed, pa.string()),
                    include_columns=needed,
                    null_values=[""],
                    strings_can_be_null=True,
                ),
            )
        except pa.ArrowKeyError:
            raise missing_column(path, needed, _header(path, text)) from None
        done, first_row = 0, 1
        for batch in reader:
            position = file.tell()
            progress(position - done)
            done = position
            if batch.num_rows:
                derive = text.derive
                yield derive(batch, path, first_row) if derive else batch
                first_row += batch.num_rows


def _header(path, text):
    with opened(path) as (stream, _):
        line = re.split(b"[\r\n]", stream.read(1 << 16))[0].decode("utf-8", "replace")
    header = line.removeprefix("\ufeff")  # one, as Arrow does
    header = header.replace("\0", "\ufffd")  # which csv refuses before Python 3.11
    quoting = csv.QUOTE_MINIMAL if text.quotes else csv.QUOTE_NONE
    return next(csv.reader([header], delimiter=text.delimiter, quoting=quoting), [])


def _read_parquet(path, row_group, columns, progress):
    with contextlib.ExitStack() as stack:
        stream, file = stack.enter_context(opened(path))
        if stream is not file:  # Parquet is read from its end: unpack it first
            unpacked = stack.enter_context(tempfile.TemporaryFile())
            shutil.copyfileobj(stream, unpacked)
            unpacked.seek(0)
            stream = unpacked
        parquet = pa.parquet.ParquetFile(stream)
        present = parquet.schema_arrow.names
        if set(columns) - set(present):
            raise missing_column(path, columns, present)
        for name in columns:
            if present.count(name) > 1:
                raise InputError(f"{path}: has more than one column {name!r}")
        size, rows = os.path.getsize(path), max(parquet.metadata.num_rows, 1)
        groups = None if row_group is None else [row_group]
        for batch in parquet.iter_batches(BATCH_ROWS, groups, columns):
            progress(size * batch.num_rows // rows)
            if batch.num_rows:
                yield batch.select(columns)
