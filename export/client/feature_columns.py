"""Rows in whatever form the caller has them, column by column to what is sent."""

from collections.abc import Mapping, Sized
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from edcn_tf import schema
from edcn_tf.errors import InputError
from edcn_tf.logs.normalizing import ARROW_TYPES

# As on the wire: text is bytes, and ids are int32, of which 0 is padding.
MISSING = {**schema.MISSING, "string": b"", "int32": 0}
TENSOR_TYPES = {**ARROW_TYPES, "string": pa.binary(), "int32": pa.int32()}
EXPECTED = {
    "string": "text; write a number as the log has it, such as '17'",
    "float32": "a number",
    "int64": "a whole number of 64 bits",
    "int32": "a whole number of 32 bits",
}
LISTS = (list, tuple, np.ndarray)
LIST_TYPES = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
NUMBER_TYPES = (pa.types.is_integer, pa.types.is_floating)
TEXT_TYPES = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_fixed_size_binary,
)
NO_COLUMN = (str, bytes, Mapping)
ONLY_ONE = "user"  # of a ranking, so without a number
EXACT = 2**53  # up to here each whole number has a float64 of its own


class _Unfit(Exception):
    """A column holds a value of a wrong type; which one is found out later."""


UNFIT = (_Unfit, pa.ArrowException, OverflowError, UnicodeError)


class Tensor(NamedTuple):
    """A dense tensor: its `shape`, and its `values` row by row in one Arrow array."""

    shape: tuple
    values: pa.Array


def read_columns(rows, fields, what="row"):
    """Checks and converts rows, whole columns at a time.

    Args:
        rows: A list of dicts (one a row), a dict of columns (lists, arrays, Series), a
            pandas DataFrame, a pyarrow Table, or anything with the Arrow C stream
            interface. None, NaN and an absent key mean a missing value; every field
            must be there in some row.
        fields: Name -> (dtype, whether a row holds a list of values).
        what: What a row is called in error messages: "row", "candidate" or "user".

    Returns:
        Name -> Arrow array, one value or one list a row: `binary`, `float32`, `int64`
        or `int32`, with `MISSING` in place of nulls, and the number of rows.

    Raises:
        InputError: With row and field, if a value, a name or the form does not fit.
    """
    columns, count = _columns(rows, fields, what)
    if count:
        for name in fields:
            if name not in columns:
                raise InputError(
                    f"No {what} has the field {name!r}; write None where it is "
                    f"missing. Received: {sorted(columns)}"
                )
    converted = {
        name: _converted(columns.get(name, []), name, *kind, what, 1)
        for name, kind in fields.items()
    }
    return converted, count


def to_tensor(column, dtype):
    """A converted column, `[B]`, or lists as `[B, length]` filled up with missing."""
    if not pa.types.is_list(column.type):
        return Tensor((len(column),), column)
    lengths = pc.list_value_length(column).to_numpy()
    length = max(1, lengths.max(initial=0))
    filled = np.arange(length) < lengths[:, np.newaxis]  # [B, length]
    places = np.zeros(filled.shape, np.int64)
    places[filled] = np.arange(lengths.sum())
    places = pa.array(places.ravel(), mask=~filled.ravel())
    values = column.flatten().take(places).fill_null(MISSING[dtype])
    return Tensor(filled.shape, values)


def _columns(rows, fields, what):
    """Name -> values as they are, and the number of rows."""
    if isinstance(rows, Mapping):
        columns = dict(rows)
        for name, column in columns.items():
            if isinstance(column, NO_COLUMN) or not isinstance(column, Sized):
                raise InputError(
                    f"Column {name!r}: expected the values of all {what}s; write one "
                    f"{what} as [{{...}}]. Received: {_shown(column)}"
                )
    elif hasattr(rows, "iloc"):  # a pandas DataFrame
        series = (rows.iloc[:, i] for i in range(rows.shape[1]))
        columns = _unique(rows.columns, series)
    elif isinstance(rows, pa.RecordBatch) or hasattr(rows, "__arrow_c_stream__"):
        table = rows if isinstance(rows, pa.RecordBatch) else pa.table(rows)
        columns = _unique(table.schema.names, table.columns)
    elif isinstance(rows, list | tuple):
        return _columns_of_dicts(rows, fields, what)
    else:
        raise InputError(
            f"Expected {what}s as a list of dicts, a dict of columns, a DataFrame or a "
            f"Table. Received: {_shown(rows)}"
        )
    _check_names(columns, fields, "columns")
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise InputError(f"Columns must have the same length. Received: {lengths}")
    columns = {name: _plain_column(column) for name, column in columns.items()}
    return columns, max(lengths.values(), default=0)


def _columns_of_dicts(rows, fields, what):
    for kind in set(map(type, rows)):
        if not issubclass(kind, Mapping):
            number = next(i for i, row in enumerate(rows) if type(row) is kind)
            raise InputError(
                f"{_where(what, number + 1)}: expected a dict of fields. "
                f"Received: {_shown(rows[number])}"
            )
    names = set().union(*rows)
    if not names <= set(fields):
        for number, row in enumerate(rows):
            _check_names(row, fields, _where(what, number + 1))
    return {name: [row.get(name) for row in rows] for name in names}, len(rows)


def _check_names(names, fields, where):
    unknown = [name for name in names if name not in fields]
    if unknown:
        raise InputError(
            f"{where}: expected only the fields {list(fields)}. "
            f"Received: {unknown[0]!r}"
        )


def _unique(names, columns):
    names = list(names)
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"Columns must have different names. Received: {name!r}")
    return dict(zip(names, columns))


def _plain_column(column):
    """As something whose slices are its rows: a list, a NumPy or an Arrow array."""
    if hasattr(column, "iloc"):  # a pandas Series
        try:
            column = pa.array(column, from_pandas=True)
        except UNFIT:
            return column.tolist()
    if isinstance(column, pa.ChunkedArray):
        chunks = column.chunks or [pa.array([], column.type)]
        return pa.concat_arrays(chunks)
    if isinstance(column, np.ndarray) and column.ndim > 1:
        return list(column)
    return column


def _converted(values, name, dtype, multiple, what, first):
    """Converts a column; halves it where that fails, down to the value that is wrong.

    Columns that are right in their halves hold values that Arrow does not infer one
    type for, such as a large whole number beside a fraction.
    """
    try:
        array = pa.array(values, from_pandas=True)
        return _lists(array, dtype) if multiple else _values(array, dtype)
    except UNFIT:
        if len(values) > 1:
            half = len(values) // 2
            parts = (values[:half], first), (values[half:], first + half)
            return pa.concat_arrays(
                [_converted(v, name, dtype, multiple, what, n) for v, n in parts]
            )
    value = values[0].as_py() if isinstance(values, pa.Array) else values[0]
    expected = EXPECTED[dtype]
    if multiple and isinstance(value, LISTS):
        expected = f"a list, each value of it {expected}"
    elif multiple:
        expected = "a list; write one value as [...]"
    elif isinstance(value, LISTS):
        expected = "one value, not a list"
    raise InputError(
        f"{_where(what, first)}, field {name!r}: expected {expected}. "
        f"Received: {_shown(value)}"
    )


def _lists(array, dtype):
    if pa.types.is_null(array.type):
        array = array.cast(pa.list_(pa.null()))
    if not _is_any(array.type, LIST_TYPES):
        raise _Unfit
    array = array.cast(pa.list_(array.type.value_type))
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy()
    offsets = np.concatenate([[0], lengths.cumsum()])
    values = _values(array.flatten(), dtype)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values)


def _values(array, dtype):
    """Single values, without nulls."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    kind, target = array.type, TENSOR_TYPES[dtype]
    if not pa.types.is_null(kind):
        if dtype == "string":
            if not _is_any(kind, TEXT_TYPES):
                raise _Unfit
        elif not _is_any(kind, NUMBER_TYPES):
            raise _Unfit
        elif dtype == "float32":
            # As the log is read: by way of float64, for int64 may not fit float32.
            array = array.cast(pa.float64(), safe=False).cast(target, safe=False)
        elif pa.types.is_floating(kind):
            array = pc.if_else(pc.is_nan(array), pa.scalar(None, kind), array)
            if pc.any(pc.greater(pc.abs(array), EXACT)).as_py():
                raise _Unfit
    return array.cast(target).fill_null(MISSING[dtype])


def _is_any(kind, tests):
    return any(test(kind) for test in tests)


def _where(what, number):
    return what if what == ONLY_ONE else f"{what} {number}"


def _shown(value):
    text = repr(value.item() if isinstance(value, np.generic) else value)
    return text if len(text) <= 200 else f"{text[:200]}..."
