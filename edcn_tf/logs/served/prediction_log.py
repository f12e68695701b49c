"""Requests that TF Serving logged with their answers, as rows of raw values.

A TFRecord file of `tensorflow_serving.apis.prediction_log_pb2.PredictionLog`. A row of
a request is a row of the log, a candidate of `rank` one with the user's values.
"""

import os

import numpy as np
import pyarrow as pa

from edcn_tf.errors import InputError
from edcn_tf.field import MISSING
from edcn_tf.framing import DAMAGED, record_dataset, refuse_damaged
from edcn_tf.logs.normalizing import ARROW_TYPES, MissingColumn
from edcn_tf.logs.served.answers import Unfit, asked

ROWS = 1 << 13  # that are put together


def holds_predictions(path):
    """Whether the first record of a TFRecord file is a PredictionLog.

    A tf.Example has the field 1 alone, which in a PredictionLog is what is known of
    the request, and never all that there is.
    """
    import tensorflow as tf  # takes seconds: reading other logs does without

    try:
        for record in record_dataset(path).take(1):
            return _prediction_log(record.numpy()) is not None
    except tf.errors.DataLossError:  # which whoever reads on tells
        pass
    return False


def served_rows(path, schema, told, progress=None, version=None):
    """Yields the logged rows of a file with their scores.

    Args:
        path: The file's name.
        schema: The `Schema`.
        told: A `collections.Counter`, to which is added how many requests or rows are
            left out, by a text that says why; None where nothing may be.
        progress: Called with the number of bytes read since the last call.
        version: Number of the version of whose answers the rows are; of any if None.

    Yields:
        `(batch, scores, records)`: a `pyarrow.RecordBatch` with a column for each
        field that a request holds, called as the field is, and for each statistic
        (null where the request did not say it); `[B]` float64 probabilities; and the
        number of each row's record in the file, from 1.

    Raises:
        InputError: With the record, if one is no PredictionLog, asks for other inputs
            than the schema's, or holds no answer to what it asks; without `told` also
            if it, or a row of it, would be left out.
    """
    import tensorflow as tf

    [framing] = refuse_damaged([path])
    size, waiting = os.path.getsize(path), _Rows(path, schema, told)
    at = 0
    try:
        for at, record in enumerate(record_dataset(path, framing), 1):
            try:
                log = _prediction_log(record.numpy())
                if log is None:
                    raise Unfit("is no PredictionLog")
                found = asked(log, schema, version)
            except Unfit as unfit:
                raise InputError(f"{path}: record {at}: {unfit}") from None
            if isinstance(found, str):
                _leave_out(told, found, 1, path, at)
                continue
            waiting.add(found, at)
            if waiting.rows >= ROWS:
                yield from waiting.taken()
            if progress:
                before, after = (size * n // framing.records for n in (at - 1, at))
                progress(after - before)
    except tf.errors.DataLossError:
        raise InputError(f"{path}: record {at + 1} {DAMAGED}") from None
    yield from waiting.taken()


def _leave_out(told, what, number, path, record):
    if told is None:
        raise InputError(
            f"{path}: record {record}: nothing of a log may be left out here, so that "
            f"each row has its place; write a file without it. Received: {what}"
        )
    told[what] += number


def read(path, schema, columns, progress):
    """Yields the rows of a file as `pyarrow.RecordBatch`, as other formats are read.

    All of them: what is no row of raw values is an error, since whoever reads a log
    row by row counts on their places.

    Args:
        path: The file's name.
        schema: The `Schema`.
        columns: Names of the log's columns that are wanted.
        progress: Called with the number of bytes read since the last call.

    Raises:
        InputError: As `served_rows` without `told`.
    """
    names = [schema.named(column) for column in columns]
    present = header(path, schema)
    if not set(columns) <= set(present):
        raise MissingColumn(path, columns, present)
    for batch, *_ in served_rows(path, schema, None, progress):
        arrays = [batch.column(batch.schema.get_field_index(name)) for name in names]
        yield pa.RecordBatch.from_arrays(arrays, names=columns)


def header(path, schema):
    """Names of the log's columns that are in a request."""
    return [schema.column(field.name) for field in schema.inputs]


def _prediction_log(record):
    """A PredictionLog, or None for a record that is none."""
    from google.protobuf.message import DecodeError
    from tensorflow_serving.apis import prediction_log_pb2

    try:
        log = prediction_log_pb2.PredictionLog.FromString(record)
    except DecodeError:
        return None
    return log if log.WhichOneof("log_type") else None


class _Rows:
    """Rows of requests that wait to be made a batch of."""

    def __init__(self, path, schema, told):
        self.path, self.schema, self.told = path, schema, told
        self._clear()

    def _clear(self):
        self.rows, self.requests, self.records = 0, [], []

    def add(self, request, record):
        self.requests.append(request)
        self.records.append(record)
        self.rows += len(request.scores)

    def taken(self):
        """Yields these rows as a batch, if there are any; none wait then."""
        if self.rows:
            batch, *others = self._batch()
            if batch.num_rows:
                yield batch, *others
        self._clear()

    def _batch(self):
        fields = (*self.schema.inputs, *self.schema.statistics)
        arrays = [self._column(field) for field in fields]
        batch = pa.RecordBatch.from_arrays(arrays, names=[f.name for f in fields])
        rows = [len(request.scores) for request in self.requests]
        scores = np.concatenate([request.scores for request in self.requests])
        records = np.repeat(self.records, rows)
        unread = np.zeros(len(scores), bool)
        for column in arrays:
            unread[_rows_without_text(column)] = True
        if not unread.any():
            return batch, scores, records
        # As values never seen, which they are to the model, they have no text here.
        what = "rows with text that is no UTF-8"
        first = records[np.argmax(unread)]
        _leave_out(self.told, what, int(unread.sum()), self.path, first)
        return batch.filter(pa.array(~unread)), scores[~unread], records[~unread]

    def _column(self, field):
        columns = (request.columns[field.name] for request in self.requests)
        values, lengths = zip(*columns)
        dtype = "float32" if field.is_statistic else field.dtype
        flat = np.concatenate(values)
        if dtype == "float32":
            missing = np.isnan(flat)
        else:
            missing = flat == (b"" if dtype == "string" else MISSING[dtype])
        # Not as a mask of the values, of which Arrow takes none beside objects.
        places = pa.array(np.arange(len(flat)), mask=np.asarray(missing, bool))
        kind = pa.binary() if dtype == "string" else ARROW_TYPES[dtype]
        column = pa.array(flat, kind).take(places)
        if lengths[0] is None:
            return column
        ends = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
        return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), column)


def _rows_without_text(column):
    """Numbers of the rows that hold bytes which are no UTF-8."""
    values, rows = column, np.arange(len(column))
    if pa.types.is_list(column.type):
        values = column.flatten()
        rows = column.value_parent_indices().to_numpy(zero_copy_only=False)
    if not pa.types.is_binary(values.type):
        return []
    try:
        values.cast(pa.string())
    except pa.ArrowInvalid:
        pairs = zip(rows, values.to_pylist())
        return [row for row, value in pairs if not _is_text(value)]
    return []


def _is_text(value):
    try:
        return value is None or value.decode() is not None
    except UnicodeDecodeError:
        return False
