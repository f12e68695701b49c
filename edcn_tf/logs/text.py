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
from edcn_tf.logs.streams import UNIT_SEPARATOR, OneDelimiter, WithoutComments


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
            if b"\0" in start or start.startswith(b"PAR1"):
                raise InputError(
                    f"{path}: is not text (it holds binary data); is it Parquet? "
                    "Then give --format parquet"
                )
        needed = text.needed(columns)
        if text.names is None:
            check_once(path, needed, header(path, text))
        if text.quote == '"' and not text.escape:
            has_header = text.names is None
            stream = BalancedQuotes(stream, path, text.delimiter, 1 - has_header)
        try:
            reader = pa.csv.open_csv(
                stream,
                read_options=pa.csv.ReadOptions(
                    block_size=opening.BLOCK_BYTES,
                    column_names=text.names,
                    use_threads=False,
                ),
                parse_options=pa.csv.ParseOptions(
                    delimiter=_delimiter(text),
                    quote_char=text.quote or False,
                    double_quote=not text.escape,
                    escape_char=text.escape or False,
                    newlines_in_values=bool(text.quote),
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
        done, first_row = 0, 1
        for batch in reader:
            position = file.tell()
            progress(position - done)
            done = position
            if batch.num_rows:
                derive = text.derive
                yield derive(batch, path, first_row) if derive else batch
                first_row += batch.num_rows


def header(path, text):
    """Names of a text log's columns."""
    return list(text.names) if text.names else _first_line(path, text)


def _first_line(path, text):
    """The values of the first line."""
    with _opened(path, text) as (stream, _):
        line = re.split(b"[\r\n]", stream.read(1 << 16))[0].decode("utf-8", "replace")
    line = line.removeprefix("\ufeff")  # one, as Arrow does
    line = line.replace("\0", "\ufffd")  # which csv refuses before Python 3.11
    quoting = csv.QUOTE_MINIMAL if text.quote else csv.QUOTE_NONE
    options = {"delimiter": _delimiter(text), "quoting": quoting}
    if text.quote:
        options["quotechar"] = text.quote
    if text.escape:
        options.update(escapechar=text.escape, doublequote=False)
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


@contextlib.contextmanager
def _opened(path, text):
    """The text as Arrow can read it, beside the file itself (to tell how far)."""
    with opening.opened(path) as (stream, file):
        if text.comment:
            stream = WithoutComments(stream, text.comment, text.quote)
        if len(text.delimiter) > 1:
            stream = OneDelimiter(stream, path, text.delimiter)
        yield stream, file
