"""Parquet logs, as batches of the columns that are asked for."""

import contextlib
import shutil
import tempfile

import pyarrow as pa
import pyarrow.parquet

from edcn_tf.logs import opening
from edcn_tf.logs.normalizing import MissingColumn, check_once


def row_groups(path):
    """Number and rows of each row group that has any; of a packed file all in one."""
    with opening.opened(path) as (stream, file):
        if stream is not file:
            return [(None, 0)]
        footer = pa.parquet.ParquetFile(stream).metadata
        rows = [footer.row_group(i).num_rows for i in range(footer.num_row_groups)]
        return [(i, n) for i, n in enumerate(rows) if n] or [(None, 0)]


def header(path):
    """Names of a file's columns."""
    with _unpacked(path) as (stream, _):
        return pa.parquet.ParquetFile(stream).schema_arrow.names


def _rows_at_once(footer):
    """Rows of a batch: fewer where they are wide, as those with vectors are."""
    groups = map(footer.row_group, range(footer.num_row_groups))
    row_bytes = sum(g.total_byte_size for g in groups) / max(footer.num_rows, 1)
    return max(1, min(opening.LOG_ROWS, int(opening.LOG_BYTES / max(row_bytes, 1))))


def read(path, row_group, columns, progress):
    """Yields the rows of a file, or of one of its row groups, as `RecordBatch`.

    Args:
        path: The file's name.
        row_group: Number of the row group; None for all.
        columns: Names of the columns to read.
        progress: Called with the number of bytes read since the last call.
    """
    with _unpacked(path) as (stream, file):
        parquet = pa.parquet.ParquetFile(stream)
        present = parquet.schema_arrow.names
        if set(columns) - set(present):
            raise MissingColumn(path, columns, present)
        check_once(path, columns, present)
        size, rows = file.size(), max(parquet.metadata.num_rows, 1)
        groups = None if row_group is None else [row_group]
        at_once = _rows_at_once(parquet.metadata)
        for batch in parquet.iter_batches(at_once, groups, columns):
            progress(size * batch.num_rows // rows)
            if batch.num_rows:
                yield batch.select(columns)


@contextlib.contextmanager
def _unpacked(path):
    """A file that can be read from its end, as Parquet is, beside the one on disk."""
    with contextlib.ExitStack() as stack:
        stream, file = stack.enter_context(opening.opened(path))
        if stream is not file:
            unpacked = stack.enter_context(tempfile.TemporaryFile())
            shutil.copyfileobj(stream, unpacked)
            unpacked.seek(0)
            stream = unpacked
        yield stream, file
