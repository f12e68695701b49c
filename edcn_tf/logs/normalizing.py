"""The columns of a log, brought to the types that the schema asks for."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from edcn_tf.errors import InputError
from edcn_tf.schema import MISSING

ARROW_TYPES = {"string": pa.string(), "int64": pa.int64(), "float32": pa.float32()}
# In a number column of a text log these mean that the number is missing.
NOT_A_NUMBER = pa.array(["NA", "N/A", "NaN", "nan", "NULL", "null", "None", "\\N"])
BINARY = (
    *(pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view),
    pa.types.is_fixed_size_binary,
)
FLAGS = pa.array(["false", "true"])  # as numbers 0 and 1
EXACT = 2**53  # up to here each whole number has a float64 of its own
LABELS = {"0": 0, "0.0": 0, "false": 0, "1": 1, "1.0": 1, "true": 1}


def normalize(batch, schema, columns, path, first_row):
    """Casts a batch to the schema's types, with null for what is missing.

    Single-valued fields and the group become `string`, `int64` or `float32` as the
    field's `dtype` says; lists become `list<...>`; the label `int64` in {0, 1}; the
    timestamp `float64`; the weight `float32`. Empty strings and NaN become null. In a
    sequence along another what is missing keeps its place (`MISSING` stands for it),
    and of both the newest `max_length` positions stay.

    Args:
        batch: `pyarrow.RecordBatch` that holds at least `columns`.
        schema: The `Schema`.
        columns: Names of the columns that the result has, in their order.
        path: The log's name, for error messages.
        first_row: Number of the batch's first row in its file, from 1, likewise.

    Raises:
        InputError: With file, row, column and value, for a value that does not fit.
    """
    fields = {field.name: field for field in schema.fields}
    arrays = []
    for name in columns:
        column = batch.column(batch.schema.get_field_index(name))
        try:
            column = _plain(column)
            if name == schema.label:
                arrays.append(_label(column))
            elif name == schema.timestamp:
                arrays.append(_timestamp(column))
            elif name == schema.weight:
                arrays.append(_weight(column))
            elif name in fields and fields[name].is_list:
                arrays.append(_list(column, fields[name]))
            else:  # a single-valued field, or a group that is not a field
                dtype = fields[name].dtype if name in fields else "string"
                arrays.append(_single(column, ARROW_TYPES[dtype]))
        except _BadValue as bad:
            raise InputError(
                f"{path}: row {first_row + bad.row}, column {name!r}: {bad.expected}. "
                f"Received: {column[bad.row].as_py()!r}"
            ) from None
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
            raise InputError(
                f"{path}: column {name!r} cannot be used as it is. "
                f"Received: a column of {column.type}"
            ) from None
    batch = pa.RecordBatch.from_arrays(arrays, names=columns)
    for group in schema.sequences:
        present = [field for field in group if field.name in columns]
        if present and present[0] is group[0]:
            batch = _aligned(batch, present, path, first_row)
    return batch


def normalized(batches, schema, columns, path, first_row=0):
    """Normalizes the batches of a log one after the other (`normalize`).

    Yields:
        Number of the batch's first row in the log, from 0, and the batch.
    """
    for batch in batches:
        yield first_row, normalize(batch, schema, columns, path, first_row + 1)
        first_row += batch.num_rows


def without_missing(values):
    """With null for what `MISSING` stands for."""
    kind = values.type
    if pa.types.is_floating(kind):
        missing = pc.is_nan(values)
    else:
        name = "int64" if pa.types.is_integer(kind) else "string"
        missing = pc.equal(values, pa.scalar(MISSING[name], kind))
    return pc.if_else(missing, pa.scalar(None, kind), values)


def _aligned(batch, fields, path, first_row):
    """Of a sequence and those along it, the newest positions that have a value."""
    main, *others = (batch.column(field.name) for field in fields)
    lengths = _lengths(main)
    for field, column in zip(fields[1:], others):
        differs = np.flatnonzero(_lengths(column) != lengths)
        if len(differs):
            row = differs[0]
            raise InputError(
                f"{path}: row {first_row + row}, column {field.name!r}: must have as "
                f"many values as {fields[0].name!r}, {lengths[row]}. Received: "
                f"{column[row].as_py()!r}"
            )
    kept = main.flatten().is_valid().to_numpy(zero_copy_only=False)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    left = np.bincount(rows[kept], minlength=len(lengths))
    places = np.cumsum(kept) - 1  # of each value among all that are kept
    ends = np.cumsum(left)
    kept &= places >= (ends - fields[0].max_length)[rows]
    left = np.minimum(left, fields[0].max_length)
    offsets = pa.array(np.concatenate([[0], np.cumsum(left)]), pa.int32())
    for field, column in zip(fields, [main, *others]):
        values = column.flatten().filter(pa.array(kept))
        values = values.fill_null(MISSING[field.dtype])
        number = batch.schema.get_field_index(field.name)
        column = pa.ListArray.from_arrays(offsets, values)
        batch = batch.set_column(number, field.name, column)
    return batch


def _lengths(column):
    return column.value_lengths().fill_null(0).to_numpy()


class _BadValue(Exception):
    def __init__(self, expected, row):
        super().__init__(expected)
        self.expected = expected
        self.row = row


def _plain(column):
    """Without dictionary encoding or a type of its own, and text as `string`."""
    if isinstance(column.type, pa.BaseExtensionType):
        column = column.storage
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return column.cast(pa.string())
    if any(is_binary(kind) for is_binary in BINARY):
        return _cast(column, pa.string(), "expected text in UTF-8")
    return column


def _cast(values, arrow_type, expected):
    """Casts; where that fails, finds the first value that does not fit."""
    try:
        return values.cast(arrow_type)
    except pa.ArrowInvalid:
        for row, value in enumerate(values):
            try:
                value.cast(arrow_type)
            except pa.ArrowInvalid:
                raise _BadValue(expected, row) from None
        raise


def _numbers(column, arrow_type):
    expected = (
        "expected a whole number" if arrow_type == pa.int64() else "expected a number"
    )
    if pa.types.is_string(column.type):
        column = pc.utf8_trim_whitespace(column)
        missing = pc.or_(pc.equal(column, ""), pc.is_in(column, NOT_A_NUMBER))
        column = pc.if_else(missing, pa.scalar(None, pa.string()), column)
        if arrow_type == pa.int64():  # as pandas writes whole numbers with gaps
            column = pc.replace_substring_regex(column, r"^([+-]?\d+)\.0*$", r"\1")
        flags = pc.index_in(pc.utf8_lower(column), FLAGS)
        column = pc.if_else(pc.is_valid(flags), flags.cast(pa.string()), column)
    if pa.types.is_floating(column.type):
        column = _without_nan(column)
    elif arrow_type == pa.float32():
        # By way of float64: a string or a large integer may not fit float32 exactly.
        if pa.types.is_integer(column.type):
            column = pc.cast(column, pa.float64(), safe=False)
        column = _without_nan(_cast(column, pa.float64(), expected))
    if arrow_type == pa.float32():
        return pc.cast(column, pa.float32(), safe=False)
    return _cast(column, arrow_type, expected)


def _single(column, arrow_type):
    if pa.types.is_nested(column.type):
        raise _BadValue("holds lists, but the schema does not say `multiple`", 0)
    if arrow_type != pa.string():
        return _numbers(column, arrow_type)
    column = _text(column)
    return pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)


def _text(column):
    """What a value is called, whatever type its container gave it.

    As pandas writes it into CSV, with one exception: a whole float below 2^53 is a
    whole number (an integer column with gaps is one of floats to pandas).
    """
    kind = column.type
    if pa.types.is_string(kind):
        return column
    if pa.types.is_floating(kind):
        return _text_of_floats(_without_nan(column))
    if pa.types.is_boolean(kind):
        return pc.if_else(column, "True", "False")
    text = column.cast(pa.string())
    if pa.types.is_timestamp(kind):
        text = pc.replace_substring_regex(text, r"\.0+(Z?)$", r"\1")
        return pc.replace_substring_regex(text, "Z$", "+00:00")
    if pa.types.is_time(kind):
        return pc.replace_substring_regex(text, r"\.0+$", "")
    return text


def _text_of_floats(column):
    coded = column.dictionary_encode()
    numbers = coded.dictionary.to_numpy()
    names = [
        str(int(number)) if number.is_integer() and abs(number) < EXACT else str(number)
        for number in numbers
    ]
    return pa.array(names, pa.string()).take(coded.indices)


def _without_nan(column):
    if not pa.types.is_floating(column.type):
        return column
    return pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)


def _list(column, field):
    arrow_type = ARROW_TYPES[field.dtype]
    if pa.types.is_struct(column.type) or pa.types.is_map(column.type):
        raise _BadValue("expected a list", 0)
    if not pa.types.is_nested(column.type):
        column = pc.split_pattern(_text(column), field.separator)
    column = column.cast(pa.list_(column.type.value_type))
    # A list column may be a slice of a longer one: take just its own values.
    try:
        values = _single(_plain(column.flatten()), arrow_type)
    except _BadValue as bad:
        rows = pc.list_parent_indices(column)
        row = rows[bad.row].as_py() if len(rows) else 0
        raise _BadValue(bad.expected, row) from None
    offsets = pa.array([0, *_lengths(column).cumsum().tolist()], pa.int32())
    return pa.ListArray.from_arrays(offsets, values)


def _label(column):
    expected = "the label must be 0 or 1"
    if pa.types.is_boolean(column.type) or pa.types.is_integer(column.type):
        labels = pc.cast(column, pa.int64(), safe=False)
    else:
        text = pc.utf8_lower(pc.utf8_trim_whitespace(column.cast(pa.string())))
        position = pc.index_in(text, pa.array(list(LABELS)))
        labels = pc.take(pa.array(list(LABELS.values()), pa.int64()), position)
    wrong = pc.invert(pc.fill_null(pc.is_in(labels, pa.array([0, 1])), False))
    if pc.any(wrong).as_py():
        raise _BadValue(expected, _first(wrong))
    return labels


def _timestamp(column):
    """Numbers as they are, dates as seconds since 1970 (UTC): float64.

    With the fractions of a second, by which clicks that follow each other are in
    order. Exact for whole numbers below 2^53, as microseconds since 1970 are.
    """
    expected = "expected a number of 64 bits"
    if pa.types.is_temporal(column.type):
        column = _seconds(column.cast(pa.timestamp("us"), safe=False))
    elif pa.types.is_string(column.type):
        column = _parsed_times(column)
    elif not pa.types.is_floating(column.type):
        column = _cast(column, pa.int64(), expected)
    column = pc.cast(column, pa.float64(), safe=False)
    column = pc.if_else(pc.is_finite(column), column, pa.scalar(None, pa.float64()))
    if column.null_count:
        raise _BadValue("the timestamp is missing", _first(pc.is_null(column)))
    too_large = pc.greater_equal(pc.abs(column), 2.0**63)
    if pc.any(too_large).as_py():
        raise _BadValue(expected, _first(too_large))
    return column


def _seconds(times):
    """Of times in microseconds."""
    return pc.divide(pc.cast(pc.cast(times, pa.int64()), pa.float64()), 1e6)


def _parsed_times(column):
    """Numbers, whatever their unit, or the seconds of times in ISO 8601."""
    try:
        return column.cast(pa.int64())
    except pa.ArrowInvalid:
        pass
    expected = "expected a number, or a date and time in ISO 8601"
    first = next(value for value in column if value.is_valid)
    try:
        first.cast(pa.float64())
    except pa.ArrowInvalid:
        # Arrow wants a zone in all values or in none: without one they are UTC.
        timed = pc.match_substring(column, ":")
        zone = pc.match_substring_regex(column, r"(Z|[+-]\d\d(:?\d\d)?)$")
        zoned = pc.and_(timed, zone)
        ending = pc.if_else(zoned, "", pc.if_else(timed, "Z", " 00:00Z"))
        # Of a second it reads six digits after a point.
        column = pc.replace_substring_regex(column, r"[.,](\d{1,6})\d*", r".\1")
        texts = pc.binary_join_element_wise(column, ending, "")
        return _seconds(_cast(texts, pa.timestamp("us", "UTC"), expected))
    return _cast(column, pa.float64(), expected)


def _weight(column):
    weights = _numbers(column, pa.float32())
    fits = pc.and_(pc.greater_equal(weights, 0), pc.is_finite(weights))
    wrong = pc.invert(pc.fill_null(fits, False))
    if pc.any(wrong).as_py():
        raise _BadValue("the weight must be a number, not negative", _first(wrong))
    return weights


def _first(mask):
    return pc.index(mask, True).as_py()


def missing_column(path, needed, present):
    """The error that says which column a log lacks."""
    missing = [name for name in needed if name not in present]
    shown = ", ".join(present[:50]) + (", ..." if len(present) > 50 else "")
    return InputError(f"{path}: has no column {missing[0]!r}; its columns are: {shown}")


def check_once(path, needed, present):
    """Raises an `InputError` for a column that a log has twice: which is meant?"""
    for name in needed:
        if present.count(name) > 1:
            raise InputError(f"{path}: has more than one column {name!r}")
