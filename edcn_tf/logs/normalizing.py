"""The columns of a log, brought to the types that the schema asks for."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from edcn_tf.errors import InputError
from edcn_tf.field import MISSING
from edcn_tf.logs.timestamps import moments
from edcn_tf.logs.values import BadValue, first, numbers, plain, text

ARROW_TYPES = {"string": pa.string(), "int64": pa.int64(), "float32": pa.float32()}
# A list of several values, of texts or of none, as Python, JSON or NumPy write it.
LIST_AS_TEXT = r"(?s)^\s*\[\s*(\]|[\"'].*\]|[-+]?[\d.][\d.eE+-]*\s*[,\s].*\])\s*$"
LABELS = {"0": 0, "false": 0, "1": 1, "true": 1}


def normalize(batch, schema, columns, path, first_row, dialect=None, records=None):
    """Casts a batch to the schema's types, with null for what is missing.

    Single-valued fields and the group become `string`, `int64` or `float32` as the
    field's `dtype` says; lists become `list<...>`; the label `int64` in {0, 1}; the
    timestamp `float64`; the weight `float32`. Empty strings and NaN become null. In a
    sequence along another what is missing keeps its place (`MISSING` stands for it),
    and of both the newest `max_length` positions stay. Vectors are lists too, empty
    where they are missing: null, empty, or of nothing but missing numbers.

    Args:
        batch: `pyarrow.RecordBatch` with the log's columns of `columns`.
        schema: The `Schema`.
        columns: Names, of the schema's `columns`, that the result has, in their order.
        path: The log's name, for error messages.
        first_row: Number of the batch's first row in its file, from 1, likewise.
        dialect: The `edcn_tf.dialect.Dialect` that numbers in text are written in.
        records: Number of each row's record in its file, where a record may have many
            rows: messages name it in place of the row.

    Raises:
        InputError: With file, row, column and value, for a value that does not fit.
    """
    fields = {field.name: field for field in schema.fields}
    arrays = []

    def place(row):
        if records is not None:
            return f"{path}: record {records[row]}"
        return f"{path}: row {first_row + row}"

    for name in columns:
        column = batch.column(batch.schema.get_field_index(schema.column(name)))
        try:
            column = plain(column)
            if name == schema.label:
                arrays.append(_label(column))
            elif name == schema.timestamp:
                arrays.append(moments(column, schema.timestamp_format))
            elif name == schema.weight:
                arrays.append(_weight(column, dialect))
            elif name in fields and fields[name].is_vector:
                arrays.append(_vector(column, fields[name], dialect))
            elif name in fields and fields[name].is_list:
                arrays.append(_list(column, fields[name], dialect))
            else:  # a single-valued field, or a group that is not a field
                dtype = fields[name].dtype if name in fields else "string"
                arrays.append(_single(column, ARROW_TYPES[dtype], dialect))
        except BadValue as bad:
            raise InputError(
                f"{place(bad.row)}, {_called(schema, name)}: {bad.expected}. "
                f"Received: {_shown(column[bad.row].as_py())}"
            ) from None
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
            raise InputError(
                f"{path}: {_called(schema, name)} cannot be used as it is. "
                f"Received: a column of {column.type}"
            ) from None
    batch = pa.RecordBatch.from_arrays(arrays, names=columns)
    for group in schema.sequences:
        present = [field for field in group if field.name in columns]
        if present and present[0] is group[0]:
            batch = _aligned(batch, present, place)
    return batch


def _called(schema, name):
    """A column as the log and the schema call it."""
    column = schema.column(name)
    return f"column {column!r}" + f" (field {name!r})" * (column != name)


def normalized(batches, schema, columns, path, first_row=0, dialect=None):
    """Normalizes the batches of a log one after the other (`normalize`).

    Yields:
        Number of the batch's first row in the log, from 0, and the batch.
    """
    for batch in _with_fields_named(batches, schema):
        rows = normalize(batch, schema, columns, path, first_row + 1, dialect)
        yield first_row, rows
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


def _aligned(batch, fields, place):
    """Of a sequence and those along it, the newest positions that have a value."""
    main, *others = (batch.column(field.name) for field in fields)
    lengths = _lengths(main)
    for field, column in zip(fields[1:], others):
        differs = np.flatnonzero(_lengths(column) != lengths)
        if len(differs):
            row = differs[0]
            raise InputError(
                f"{place(row)}, column {field.name!r}: must have as "
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


def _shown(value):
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _single(column, arrow_type, dialect):
    if pa.types.is_nested(column.type):
        if pa.types.is_struct(column.type) or pa.types.is_map(column.type):
            raise BadValue("expected one value, not several by name", 0)
        raise BadValue("holds lists, but the schema does not say `multiple`", 0)
    if arrow_type != pa.string():
        return numbers(column, arrow_type, dialect)
    column = text(column)
    return pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)


def _list(column, field, dialect):
    arrow_type = ARROW_TYPES[field.dtype]
    if pa.types.is_struct(column.type) or pa.types.is_map(column.type):
        raise BadValue("expected a list", 0)
    if not pa.types.is_nested(column.type):
        column = text(column)
        wrong = pc.match_substring_regex(column, LIST_AS_TEXT)
        if pc.any(wrong).as_py():
            raise BadValue(
                "looks like a list as Python or JSON writes it; put its values into "
                f"text with {field.separator!r} between them, or into JSON lines or "
                "Parquet",
                first(wrong),
            )
        column = pc.split_pattern(column, field.separator)
    kind = column.type.value_type
    if pa.types.is_null(kind):  # a cast to which keeps as many values as lists
        kind = arrow_type
    column = column.cast(pa.list_(kind))
    # A list column may be a slice of a longer one: take just its own values.
    try:
        values = _single(plain(column.flatten()), arrow_type, dialect)
    except BadValue as bad:
        rows = pc.list_parent_indices(column)
        row = rows[bad.row].as_py() if len(rows) else 0
        raise BadValue(bad.expected, row) from None
    offsets = pa.array([0, *_lengths(column).cumsum().tolist()], pa.int32())
    return pa.ListArray.from_arrays(offsets, values)


def _vector(column, field, dialect):
    """Lists of `length` finite numbers, empty where the vector is missing."""
    if getattr(column.type, "value_type", None) == pa.float16():
        column = column.cast(pa.list_(pa.float32()))  # of which Arrow knows a NaN
    lists = _list(column, field, dialect)
    values = lists.values.to_numpy(zero_copy_only=False)  # null is NaN
    lengths = _lengths(lists)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    given = np.bincount(rows[~np.isnan(values)], minlength=len(lengths))
    finite = np.bincount(rows[np.isfinite(values)], minlength=len(lengths))
    whole = (lengths == field.length) & (finite == field.length)
    wrong = np.flatnonzero((given > 0) & ~whole)
    if len(wrong):
        raise BadValue(
            f"expected {field.length} finite numbers, or none where they are missing",
            wrong[0],
        )
    offsets = pa.array(np.concatenate([[0], np.cumsum(given)]), pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.array(values[~np.isnan(values)]))


def _label(column):
    expected = "the label must be 0 or 1"
    if pa.types.is_boolean(column.type) or pa.types.is_integer(column.type):
        labels = pc.cast(column, pa.int64(), safe=False)
    else:
        spelled = pc.utf8_lower(pc.utf8_trim_whitespace(text(column)))
        spelled = pc.replace_substring_regex(spelled, r"^([01])\.0*$", r"\1")
        position = pc.index_in(spelled, pa.array(list(LABELS)))
        labels = pc.take(pa.array(list(LABELS.values()), pa.int64()), position)
    wrong = pc.invert(pc.fill_null(pc.is_in(labels, pa.array([0, 1])), False))
    if pc.any(wrong).as_py():
        raise BadValue(expected, first(wrong))
    return labels


def _weight(column, dialect):
    weights = numbers(column, pa.float32(), dialect)
    fits = pc.and_(pc.greater_equal(weights, 0), pc.is_finite(weights))
    wrong = pc.invert(pc.fill_null(fits, False))
    if pc.any(wrong).as_py():
        raise BadValue("the weight must be a number, not negative", first(wrong))
    return weights


class MissingColumn(InputError):
    """A log lacks a column.

    Args:
        path: The log's name.
        needed: Names of columns, of which it lacks one at least.
        present: Names of those that it has.
        field: Name of the field that is read from the column, where it is another.
    """

    def __init__(self, path, needed, present, field=None):
        self.told = path, needed, present
        self.column = next(name for name in needed if name not in present)
        names = [n if n == n.strip() != "" else repr(n) for n in present[:50]]
        shown = ", ".join(names) + (", ..." if len(present) > 50 else "")
        called = f"{self.column!r}" + (f" (field {field!r})" if field else "")
        super().__init__(f"{path}: has no column {called}; its columns are: {shown}")


def _with_fields_named(batches, schema):
    try:
        yield from batches
    except MissingColumn as missing:
        field = schema.named(missing.column)
        if field == missing.column:
            raise
        raise MissingColumn(*missing.told, field) from None


def check_once(path, needed, present):
    """Raises an `InputError` for a column that a log has twice: which is meant?"""
    for name in needed:
        if present.count(name) > 1:
            raise InputError(f"{path}: has more than one column {name!r}")
