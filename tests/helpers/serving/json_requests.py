"""Tensors of REST requests; as strict with types as TF Serving."""

import base64
import math
import re

import numpy as np
import tensorflow as tf

from .json_text import Object, text_of, type_of
from .refusal import Refused, invalid

NAMES = {"float32": "float", "float64": "double"}  # in error messages
BASE64 = re.compile(rb"[A-Za-z0-9+/]*(={0,2})")


def read_predict_request(request, infos):
    """Input name -> array, and whether the request has them in rows.

    Args:
        request: An `Object`.
        infos: Input name -> `TensorInfo` of the signature.
    """
    rows, columns = request.first("instances", ...), request.first("inputs", ...)
    if rows is ... and columns is ...:
        raise invalid("Missing 'inputs' or 'instances' key")
    if rows is not ... and columns is not ...:
        raise invalid(
            f"JSON Value: {request.text()} Not formatted correctly expecting only one "
            "of 'inputs' or 'instances' keys to exist "
        )
    if rows is ...:
        return _of_columns(columns, infos), False
    if not isinstance(rows, list):
        raise invalid(
            f"JSON Value: {request.text()} Excepting 'instances' to be an list/array"
        )
    if not rows:
        raise invalid(f"JSON Value: {request.text()} No values in 'instances' array")
    return _of_rows(rows, infos), True


def _of_columns(columns, infos):
    if not _is_named(columns):
        if len(infos) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple "
                "input tensors required as per tensorinfo_map"
            )
        columns = Object([(next(iter(infos)), columns)])
    arrays = {}
    for name, info in infos.items():
        value = columns.first(name, ...)
        if value is ...:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
        dtype, shape, flat = tf.as_dtype(info.dtype), _shape(value), []
        _fill(value, shape, dtype, flat)
        arrays[name] = _array(flat, shape, dtype)
    return arrays


def _of_rows(rows, infos):
    if not isinstance(rows[0], Object) and len(infos) > 1:
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple "
            "input tensors required as per tensorinfo_map"
        )
    are_named = _is_named(rows[0])
    columns = {name: _Column(info) for name, info in infos.items()}
    for number, row in enumerate(rows):
        if _is_named(row) != are_named:
            met = "value/list but got object", "object but got list"
            raise invalid(f"Expecting {met[are_named]} at item {number} of input list")
        of = " of 'instances' list."
        for name, value in row if are_named else [(next(iter(infos)), row)]:
            key = f" key: {name}" if are_named else ""
            if problem := _problem(columns, name, value):
                raise invalid(
                    f"Failed to process element: {number}{key}{of} "
                    f"Error: INVALID_ARGUMENT: {problem}"
                )
        if are_named and {name for name, _ in row} != set(infos):
            raise invalid(
                f"Failed to process element: {number}{of} JSON object: {row.text()} "
                f"keys must be equal to: {','.join(sorted(infos))}"
            )
    return {name: column.array(len(rows)) for name, column in columns.items()}


def _problem(columns, name, value):
    """Adds a value of a row; what is wrong with it, else nothing."""
    if name not in columns:
        return f"JSON object: does not have named input: {name}"
    try:
        columns[name].add(value)
    except Refused as refused:
        return refused.message
    return None


class _Column:
    """The values of one input, row after row."""

    def __init__(self, info):
        self.dtype, self.shape, self.flat = tf.as_dtype(info.dtype), None, []

    def add(self, value):
        shape, before = _shape(value), len(self.flat)
        _fill(value, shape, self.dtype, self.flat)
        size = len(self.flat) - before
        if self.shape is None:
            self.shape = shape
        elif math.prod(self.shape) != size:
            raise invalid(
                f"Expecting tensor size: {math.prod(self.shape)} but got: {size}"
            )
        elif self.shape != shape:
            raise invalid(
                f"Expecting shape {_told(self.shape)} but got: {_told(shape)}"
            )

    def array(self, rows):
        return _array(self.flat, [rows, *self.shape], self.dtype)


def _told(shape):
    return f"[{','.join(map(str, shape))}]"


def _is_named(value):
    """Whether a value has inputs by their names."""
    return isinstance(value, Object) and not is_base64(value)


def is_base64(value):
    return len(value) == 1 and value[0][0] == "b64" and isinstance(value[0][1], bytes)


def _shape(value):
    """That of the first value of each list counts."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return shape


def _fill(value, shape, dtype, flat, level=0):
    """Adds the values of nested lists to a flat one."""
    if not isinstance(value, list):
        if level != len(shape):
            raise invalid(
                f"JSON Value: {text_of(value)} found at incorrect level: {level + 1} "
                f"in the JSON DOM. Expected at level: {len(shape)}"
            )
        flat.append(_value(value, dtype))
        return
    if level >= len(shape):
        raise invalid(
            f"Encountered list at unexpected level: {level} expected < {len(shape)}"
        )
    if len(value) != shape[level]:
        raise invalid(
            f"Encountered list at unexpected size: {len(value)} at level: {level} "
            f"expected size: {shape[level]}"
        )
    for part in value:
        _fill(part, shape, dtype, flat, level + 1)


def _array(flat, shape, dtype):
    """Of a name that is twice in a row there are too many values: the last go."""
    return np.array(flat[: math.prod(shape)], dtype.as_numpy_dtype).reshape(shape)


def _value(value, dtype):
    kind = type(value)
    if dtype == tf.string:
        if kind is bytes:
            return value
        if kind is Object:
            return decoded(value)
    elif dtype.is_floating and kind in (int, float):
        # Whole numbers are rounded, others must be in range.
        if kind is float and math.isfinite(value) and abs(value) > dtype.max:
            raise invalid(
                f"Cannot convert JSON value: {text_of(value)} to {_name(dtype)} "
                "without loss of precision."
            )
        return value
    elif kind is bool:
        if dtype.is_bool:
            return value
    elif dtype.is_integer and kind is int and dtype.min <= value <= dtype.max:
        return value
    raise invalid(
        f"JSON Value: {text_of(value)} Type: {type_of(value)} is not of expected type: "
        f"{_name(dtype)}"
    )


def _name(dtype):
    return NAMES.get(dtype.name, dtype.name)


def decoded(value):
    """The bytes of `{"b64": "..."}`."""
    if not is_base64(value):
        raise invalid(
            f"JSON Value: {text_of(value)} not formatted correctly for base64 data"
        )
    text = b"".join(value[0][1].split())
    found = BASE64.fullmatch(text)
    # Padding may be left out, but not in part.
    if not found or len(text) % 4 == 1 or (found[1] and len(text) % 4):
        raise invalid("Unable to base64 decode")
    return base64.b64decode(text + b"=" * (-len(text) % 4))
