"""Rows as they are sent, column by column: each value checked and of its type."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from edcn_tf.errors import InputError
from edcn_tf.field import MISSING as MISSING_IN_LOGS
from edcn_tf.logs.normalizing import ARROW_TYPES
from edcn_tf.logs.values import EXACT

from .rows import NOT_CONVERTED, columns_of, plain_value, shown, where

# As on the wire: text is bytes, and ids are int32, of which 0 is padding.
MISSING = {**MISSING_IN_LOGS, "string": b"", "int32": 0}
TENSOR_TYPES = {**ARROW_TYPES, "string": pa.binary(), "int32": pa.int32()}
EXPECTED = {
    "string": "text, as the log has it, such as '17'",
    "float32": "a number",
    "int64": "a whole number of 64 bits",
    "int32": "a whole number of 32 bits",
}
LISTS = (list, tuple, np.ndarray)
LIST_TYPES = (
    pa.types.is_list,
    pa.types.is_large_list,
    pa.types.is_fixed_size_list,
    pa.types.is_list_view,
    pa.types.is_large_list_view,
)
NUMBER_TYPES = (pa.types.is_integer, pa.types.is_floating)
# A number in whatever log, where true is 1; ids are in none.
LOG_NUMBER_TYPES = (*NUMBER_TYPES, pa.types.is_boolean, pa.types.is_decimal)
TEXT_TYPES = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_binary_view,
    pa.types.is_fixed_size_binary,
)
# A number for a text is refused, since only the log tells how it is written there:
# 17, 17.0 or 017. Another spelling would be served as a value never seen.
FITTING_TYPES = {
    "string": TEXT_TYPES,
    "float32": LOG_NUMBER_TYPES,
    "int64": LOG_NUMBER_TYPES,
    "int32": NUMBER_TYPES,
}


class _Unfit(Exception):
    """A column holds a value of a wrong type; which one is found out later."""


UNFIT = (_Unfit, *NOT_CONVERTED)


class Input(NamedTuple):
    """What a row holds for an input: one value, a list, or `length` numbers."""

    dtype: str
    is_list: bool
    length: int | None = None


class Tensor(NamedTuple):
    """A dense tensor: its `shape`, and its `values` row by row in one Arrow array."""

    shape: tuple
    values: pa.Array


def read_columns(rows, fields, what="row", aliases=None):
    """Checks and converts rows, whole columns at a time.

    Args:
        rows: As `Client` takes them; every field must be there in some row.
        fields: Name -> `Input`.
        what: What a row is called in error messages: "row", "candidate" or "user".
        aliases: Column of the log -> field, other names that rows may use.

    Returns:
        Name -> Arrow array, one value or one list a row: `binary`, `float32`, `int64`
        or `int32`, with `MISSING` in place of nulls (of a missing vector, in place of
        each number), and the number of rows.

    Raises:
        InputError: With row and field, if a value, a name or the form does not fit.
    """
    aliases = {c: name for c, name in (aliases or {}).items() if name in fields}
    columns, count = columns_of(rows, fields, what, aliases)
    if count:
        for name in fields:
            if name not in columns:
                raise InputError(
                    f"No {what} has the field {name!r}; write None where it is "
                    f"missing. Received: {sorted(columns)}"
                )
    converted = {
        name: _converted(columns.get(name, []), name, field, what, 1)
        for name, field in fields.items()
    }
    return converted, count


def check_examples(columns):
    """Raises an `InputError` where a text is no serialized tf.Example."""
    from google.protobuf.message import DecodeError
    from tensorflow.train import Example

    for name, column in columns.items():
        for number, value in enumerate(column.to_pylist(), 1):
            try:
                Example.FromString(value)
            except DecodeError:
                raise InputError(
                    f"{where('row', number)}, field {name!r}: expected a serialized "
                    f"tf.Example. Received: {shown(value)}"
                ) from None


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


def _converted(values, name, field, what, first):
    """Converts a column; halves it where that fails, down to the value that is wrong.

    Columns that are right in their halves hold values that Arrow does not infer one
    type for, such as a large whole number beside a fraction.
    """
    try:
        array = pa.array(values, from_pandas=True)
        if field.length and field.dtype == "float32":
            return _vectors(array, field)
        if field.length:
            return _sized(array, field)
        convert = _lists if field.is_list else _values
        return convert(array, field.dtype)
    except UNFIT:
        if len(values) > 1:
            half = len(values) // 2
            parts = (values[:half], first), (values[half:], first + half)
            return pa.concat_arrays(
                [_converted(v, name, field, what, n) for v, n in parts]
            )
    raw = values[0]
    value = plain_value(raw)
    if value is not raw:
        return _converted([value], name, field, what, first)
    expected = EXPECTED[field.dtype]
    if field.length and field.dtype == "float32":
        expected = f"a list of {field.length} finite numbers, or None"
    elif field.length:
        expected = f"a list of {field.length} values, each {expected}"
    elif field.is_list and isinstance(value, LISTS):
        expected = f"a list, each value of it {expected}"
    elif field.is_list:
        expected = "a list; write one value as [...]"
    elif isinstance(value, LISTS):
        expected = "one value, not a list"
    raise InputError(
        f"{where(what, first)}, field {name!r}: expected {expected}. "
        f"Received: {shown(value)}"
    )


def _lists(array, dtype):
    array = _plain(array)
    if pa.types.is_null(array.type):
        array = array.cast(pa.list_(pa.null()))
    if not _is_any(array.type, LIST_TYPES):
        raise _Unfit
    kind = array.type.value_type
    if pa.types.is_null(kind):  # a cast to which keeps as many values as lists
        kind = TENSOR_TYPES[dtype]
    array = array.cast(pa.list_(kind))
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy()
    offsets = np.concatenate([[0], lengths.cumsum()])
    values = _values(array.flatten(), dtype)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values)


def _vectors(array, field):
    """Lists of `length` finite numbers, or of NaN where the vector is missing."""
    lists = _lists(array, field.dtype)
    numbers = lists.values.to_numpy()
    lengths = pc.list_value_length(lists).to_numpy()
    rows = np.repeat(np.arange(len(lengths)), lengths)
    given = np.bincount(rows[~np.isnan(numbers)], minlength=len(lengths)) > 0
    finite = np.bincount(rows[np.isfinite(numbers)], minlength=len(lengths))
    if (given & ((lengths != field.length) | (finite != field.length))).any():
        raise _Unfit
    vectors = np.full((len(lengths), field.length), MISSING[field.dtype], np.float32)
    vectors[given] = numbers[given[rows]].reshape(-1, field.length)
    offsets = np.arange(len(lengths) + 1, dtype=np.int32) * field.length
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), vectors.ravel())


def _sized(array, field):
    """Lists of `length` values, as ids are."""
    lists = _lists(array, field.dtype)
    if (pc.list_value_length(lists).to_numpy() != field.length).any():
        raise _Unfit
    return lists


def _values(array, dtype):
    """Single values, without nulls."""
    array = _plain(array)
    kind, target = array.type, TENSOR_TYPES[dtype]
    if not pa.types.is_null(kind):
        if not _is_any(kind, FITTING_TYPES[dtype]):
            raise _Unfit
        if dtype == "float32":
            # As the log is read: by way of float64, for int64 may not fit float32.
            array = array.cast(pa.float64(), safe=False).cast(target, safe=False)
        elif pa.types.is_floating(kind) and _is_inexact(array):
            raise _Unfit
    return array.cast(target).fill_null(MISSING[dtype])


def _plain(array):
    """Without a type of its own or NaN; of values that are all missing, nulls."""
    if isinstance(array.type, pa.BaseExtensionType):
        array = array.storage
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_floating(array.type):
        array = array.cast(pa.float64())
        array = pc.if_else(pc.is_nan(array), pa.scalar(None, array.type), array)
    return pa.nulls(len(array)) if array.null_count == len(array) else array


def _is_inexact(array):
    return pc.any(pc.greater(pc.abs(array), EXACT)).as_py()


def _is_any(kind, tests):
    return any(test(kind) for test in tests)
