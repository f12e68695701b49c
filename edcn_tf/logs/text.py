"""Text logs: CSV, TSV and their like, as batches of strings."""

import csv
import re

import pyarrow as pa
import pyarrow.csv

from edcn_tf.errors import InputError
from edcn_tf.logs import opening
from edcn_tf.logs.normalizing import check_once, missing_column
from edcn_tf.logs.quotes import BalancedQuotes


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
    with opening.opened(path) as (stream, file):
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
            check_once(path, needed, _header(path, text))
        if text.quote == '"' and not text.escape:
            header = text.names is None
            stream = BalancedQuotes(stream, path, text.delimiter, 1 - header)
        try:
            reader = pa.csv.open_csv(
                stream,
                read_options=pa.csv.ReadOptions(
                    block_size=opening.BLOCK_BYTES,
                    column_names=text.names,
                    use_threads=False,
                ),
                parse_options=pa.csv.ParseOptions(
                    delimiter=text.delimiter,
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
    with opening.opened(path) as (stream, _):
        line = re.split(b"[\r\n]", stream.read(1 << 16))[0].decode("utf-8", "replace")
    header = line.removeprefix("\ufeff")  # one, as Arrow does
    header = header.replace("\0", "\ufffd")  # which csv refuses before Python 3.11
    quoting = csv.QUOTE_MINIMAL if text.quote else csv.QUOTE_NONE
    options = {"delimiter": text.delimiter, "quoting": quoting}
    if text.quote:
        options["quotechar"] = text.quote
    if text.escape:
        options.update(escapechar=text.escape, doublequote=False)
    return next(csv.reader([header], **options), [])
