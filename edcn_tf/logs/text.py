"""Text logs: CSV, TSV and their like, as batches of strings."""

import contextlib
import csv
import dataclasses
import re

import pyarrow as pa
import pyarrow.csv

from edcn_tf.errors import InputError
from edcn_tf.logs import opening
from edcn_tf.logs.normalizing import MissingColumn, check_once
from edcn_tf.logs.quotes import BalancedQuotes
from edcn_tf.logs.streams import (
    RECORD_SEPARATOR,
    UNIT_SEPARATOR,
    OneDelimiter,
    WithoutComments,
    WithoutEscapes,
)

RAGGED = re.compile(r"Row #(\d+): Expected (\d+) columns, got (\d+)(?:: (.*))?", re.S)
NOT_UTF8 = re.compile(r"In CSV column #(\d+): Row #(\d+): .*invalid UTF8")


def read_text(path, text, columns, progress):
    """Yields the rows of a text log as `pyarrow.RecordBatch` of strings.

    Args:
        path: The file's name.
        text: Its `edcn_tf.logs.formats.TextFormat`.
        columns: Names of the columns, which `text` may derive from others.
        progress: Called with the number of bytes read since the last call.

    Raises:
        InputError: If the file is no text, or lacks a column.
    """
    text = _without_label(path, text, columns)
    with _opened(path, text) as (stream, file):
        if not file.size():
            return
        if file is stream:
            start = file.read(1 << 12)
            file.seek(0)
            _check_text(path, start)
        needed = text.needed(columns)
        if text.names is None:
            check_once(path, needed, header(path, text))
        quote = _quote(text)
        if quote:
            has_header = text.names is None
            delimiter = _delimiter(text)
            stream = BalancedQuotes(stream, path, delimiter, quote, 1 - has_header)
        done, first_row = 0, 1
        for batch in _parsed(stream, path, text, needed):
            position = file.tell()
            progress(position - done)
            done = position
            if batch.num_rows:
                derive = text.derive
                yield derive(batch, path, first_row) if derive else batch
                first_row += batch.num_rows


def _check_text(path, start):
    """Raises an `InputError` if a file begins as no text does."""
    told = None
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        told = "is text in UTF-16; write it in UTF-8"
    elif start.startswith(b"PK\3\4"):
        told = "is a ZIP file, such as Excel's .xlsx; save it as CSV UTF-8"
    elif b"\0" in start or start.startswith(b"PAR1"):
        told = (
            "is not text (it holds binary data); is it Parquet? Then give "
            "--format parquet"
        )
    if told:
        raise InputError(f"{path}: {told}")


def _parsed(stream, path, text, needed):
    """The batches as Arrow reads them, and what it says in a line of our own."""
    quote = _quote(text)
    try:
        yield from pa.csv.open_csv(
            stream,
            read_options=pa.csv.ReadOptions(
                block_size=opening.BLOCK_BYTES,
                column_names=text.names,
                use_threads=False,
            ),
            parse_options=pa.csv.ParseOptions(
                delimiter=_delimiter(text),
                quote_char=quote or False,
                newlines_in_values=bool(quote),
            ),
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(needed, pa.string()),
                include_columns=needed,
                null_values=[""],
                strings_can_be_null=True,
            ),
        )
    except pa.ArrowKeyError:
        raise MissingColumn(path, needed, header(path, text)) from None
    except pa.ArrowInvalid as error:
        told, before = str(error), 1 if text.names is None else 0
        if "Empty CSV file" in told:  # or nothing after a header without a line's end
            present = header(path, text)
            if present and set(needed) - set(present):
                raise MissingColumn(path, needed, present) from None
        elif found := RAGGED.search(told):
            row, wanted, received, line = found.groups()
            raise InputError(
                f"{path}: row {int(row) - before}: expected {wanted} columns, as the "
                f"{'header has' if before else 'schema names'}, and there are "
                f"{received}. Received: {(line or '')[:200]!r}"
            ) from None
        elif found := NOT_UTF8.search(told):
            number, row = map(int, found.groups())
            raise InputError(
                f"{path}: row {row - before}, column {header(path, text)[number]!r}: "
                "expected text in UTF-8"
            ) from None
        else:
            raise


def header(path, text):
    """Names of a text log's columns."""
    return list(text.names) if text.names else _first_line(path, text)


def _first_line(path, text):
    """The values of the first line."""
    with _opened(path, text) as (stream, _):
        line = re.split(b"[\r\n]", stream.read(1 << 16))[0].decode("utf-8", "replace")
    line = line.removeprefix("\ufeff")  # one, as Arrow does
    line = line.replace("\0", "\ufffd")  # which csv refuses before Python 3.11
    quote = _quote(text)
    quoting = csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE
    options = {"delimiter": _delimiter(text), "quoting": quoting}
    if quote:
        options["quotechar"] = quote
    return next(csv.reader([line], **options), [])


def _without_label(path, text, columns):
    """The format of a file that has no label, where that is known to occur."""
    if text.label is None or len(_first_line(path, text)) != len(text.names) - 1:
        return text
    if text.label in columns:
        raise InputError(
            f"{path}: has {len(text.names) - 1} columns and so no {text.label!r}; it "
            "can be scored, but not learned from"
        )
    names = tuple(name for name in text.names if name != text.label)
    return dataclasses.replace(text, names=names)


def _delimiter(text):
    return text.delimiter if len(text.delimiter) == 1 else UNIT_SEPARATOR


def _quote(text):
    """What stands around values of what `_opened` gives."""
    return text.quote or (RECORD_SEPARATOR if text.escape else "")


@contextlib.contextmanager
def _opened(path, text):
    """The text as Arrow can read it, beside the file itself (to tell how far)."""
    with opening.opened(path) as (stream, file):
        if text.comment:
            marks = text.comment, text.delimiter, text.quote
            stream = WithoutComments(stream, *marks)
        if len(text.delimiter) > 1:
            stream = OneDelimiter(stream, path, text.delimiter)
        if text.escape:
            marks = _delimiter(text), text.quote, text.escape
            stream = WithoutEscapes(stream, path, *marks)
        yield stream, file
