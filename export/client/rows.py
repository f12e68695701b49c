"""Rows in whatever form the caller has them, as columns of values."""

import dataclasses
from collections.abc import Mapping, Set, Sized

import numpy as np
import pyarrow as pa

from edcn_tf.errors import InputError

ONLY_ONE = "user"  # of a ranking, so without a number
# Of a dict, what is a value and not those of all rows. A set has no order of rows.
NO_COLUMN = (str, bytes, bytearray, memoryview, Mapping, Set, pa.Scalar)
NOT_CONVERTED = (pa.ArrowException, TypeError, ValueError, OverflowError)


def columns_of(rows, fields, what, aliases):
    """The values of each field, as they are, and the number of rows.

    Args:
        rows: As `Client` takes them.
        fields: Names of all fields.
        what: What a row is called in error messages: "row", "candidate" or "user".
        aliases: Name of a column of the log -> the field that is read from it, which
            rows may call by either.

    Returns:
        Name -> list, tuple, NumPy or Arrow array, whose slices are its rows; a field
        that no row names is absent. And the number of rows.

    Raises:
        InputError: If the form is none of rows, or a name is unknown, or a field is
            called by both its names.
    """
    row = _row(rows)
    if row is not None and not (_is_dict(rows) and _holds_columns(row, what)):
        rows = [row]
    if isinstance(rows, np.ndarray) and rows.dtype == object and rows.ndim == 1:
        rows = list(rows)
    if isinstance(rows, list | tuple):
        columns, count = _columns_of_rows(rows, [*fields, *aliases], what)
        columns = _by_field(columns, aliases)
    else:
        columns = _columns(rows if row is None else row, what)
        _check_names(columns, [*fields, *aliases], "columns")
        columns = _by_field(columns, aliases)
        columns = {name: _plain_column(column) for name, column in columns.items()}
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) > 1:
            raise InputError(f"Columns must have the same length. Received: {lengths}")
        count = max(lengths.values(), default=0)
    if what == ONLY_ONE and count != 1:
        raise InputError(f"{what}: expected one row. Received: {count} rows")
    return columns, count


def plain_value(value):
    """What Python or NumPy has for a value of other libraries; else the value itself.

    So in lists. What is no time (NaT) is missing.
    """
    try:
        if isinstance(value, list | tuple):
            plain = [plain_value(item) for item in value]
            return value if all(a is b for a, b in zip(plain, value)) else plain
        if isinstance(value, pa.Scalar):
            return value.as_py()
        if isinstance(value, np.generic):
            return None if value.dtype.kind in "mM" and np.isnat(value) else value
        if isinstance(value, np.ndarray):
            return value if value.ndim else value[()]
        return np.asarray(value) if hasattr(value, "__array__") else value
    except NOT_CONVERTED:
        return value


def where(what, number):
    """How error messages call a row."""
    return what if what == ONLY_ONE else f"{what} {number}"


def shown(value):
    """How error messages show a value: in a line, and not all of a long one."""
    if isinstance(value, np.generic) and value.dtype.kind not in "mM":
        value = value.item()
    text = " ".join(repr(value).split())
    return text if len(text) <= 200 else f"{text[:200]}..."


def _row(value):
    """Name -> value of what holds one row; a dict as it is, None of anything else."""
    if isinstance(value, type):
        return None
    if isinstance(value, pa.StructScalar):
        try:
            return value.as_py()
        except ValueError:  # a name stands there twice
            return None
    if isinstance(value, Mapping):
        return value
    if hasattr(value, "iloc"):  # of pandas: a Series is a row, a DataFrame is not
        return _unique(value.index, value.tolist()) if value.ndim == 1 else None
    if hasattr(value, "_asdict"):  # a namedtuple
        return value._asdict()
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, np.void) and value.dtype.names:  # of a structured array
        return dict(zip(value.dtype.names, value))
    if dataclasses.is_dataclass(value):
        names = (field.name for field in dataclasses.fields(value))
        return {name: getattr(value, name) for name in names}
    if hasattr(value, "keys") and hasattr(value, "__getitem__"):  # sqlite3.Row
        return dict(value)
    return None


def _is_dict(rows):
    return isinstance(rows, Mapping) and not isinstance(rows, pa.Scalar)


def _holds_columns(columns, what):
    """Whether a dict's values are those of all rows, not of one."""
    return what != ONLY_ONE and all(map(_is_column, columns.values()))


def _is_column(value):
    if isinstance(value, NO_COLUMN) or getattr(value, "ndim", 1) == 0:
        return False
    return isinstance(value, Sized) or hasattr(value, "__arrow_c_stream__")


def _columns(rows, what):
    """Name -> column, of rows that come as such."""
    if _is_dict(rows):
        return dict(rows)
    if hasattr(rows, "iloc"):  # a pandas DataFrame
        series = (rows.iloc[:, i] for i in range(rows.shape[1]))
        return _unique(rows.columns, series)
    if isinstance(rows, np.ndarray) and rows.dtype.names and rows.ndim == 1:
        return {name: rows[name] for name in rows.dtype.names}
    table = rows
    if not isinstance(rows, pa.Table | pa.RecordBatch):
        arrow = hasattr(rows, "__arrow_c_stream__") or hasattr(
            rows, "__arrow_c_array__"
        )
        try:
            table = pa.table(rows) if arrow else None
        except NOT_CONVERTED:  # no structs, or a struct that is null
            table = None
    if table is None:
        raise InputError(
            f"Expected {what}s as a list of dicts, a dict of columns, a DataFrame or a "
            f"Table. Received: {shown(rows)}"
        )
    return _unique(table.schema.names, table.columns)


def _columns_of_rows(rows, fields, what):
    if not all(issubclass(kind, dict) for kind in set(map(type, rows))):
        rows = [_row_of(row, what, number) for number, row in enumerate(rows, 1)]
    names = set().union(*rows)
    if not names <= set(fields):
        for number, row in enumerate(rows, 1):
            _check_names(row, fields, where(what, number))
    return {name: [row.get(name) for row in rows] for name in names}, len(rows)


def _row_of(value, what, number):
    row = _row(value)
    if row is None:
        raise InputError(
            f"{where(what, number)}: expected a dict of fields. "
            f"Received: {shown(value)}"
        )
    return row


def _by_field(columns, aliases):
    """With the names of fields in place of those of the log's columns."""
    for column, name in aliases.items():
        if column in columns and name in columns:
            raise InputError(
                f"The field {name!r} is there by its name and by its column's, "
                f"{column!r}; give one of them"
            )
    return {aliases.get(name, name): values for name, values in columns.items()}


def _check_names(names, fields, place):
    unknown = [name for name in names if name not in fields]
    if unknown:
        raise InputError(
            f"{place}: expected only the fields {list(fields)}. "
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
        except NOT_CONVERTED:
            return column.tolist()
    elif hasattr(column, "__arrow_c_stream__"):
        column = pa.chunked_array(column)
    if isinstance(column, pa.ChunkedArray):
        chunks = column.chunks or [pa.array([], column.type)]
        return pa.concat_arrays(chunks)
    if hasattr(column, "__array__") and not isinstance(column, pa.Array):
        column = np.asarray(column)
        return list(column) if column.ndim > 1 else column
    return column if isinstance(column, list | tuple | pa.Array) else list(column)
