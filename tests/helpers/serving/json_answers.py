"""Tensors as REST answers have them."""

import base64

import numpy as np

from .refusal import invalid


def row_answer(outputs):
    """Of a request in rows: a row is an object, or the value of the only output."""
    sizes = {}
    for name, array in outputs.items():
        if not array.ndim:
            raise invalid(f"Tensor name: {name} has no shape information ")
        sizes[name] = len(array)
        first = next(iter(sizes.values()))
        if len(array) != first:
            raise invalid(
                f"Tensor name: {name} has inconsistent batch size: {len(array)} "
                f"expecting: {first}"
            )
    nested = {name: _nested(name, array) for name, array in outputs.items()}
    if len(nested) == 1:
        return {"predictions": next(iter(nested.values()))}
    rows = zip(*nested.values())
    return {"predictions": [dict(zip(nested, row)) for row in rows]}


def column_answer(outputs):
    """Of a request in columns: an object, or the value of the only output."""
    nested = {name: _nested(name, array) for name, array in outputs.items()}
    return {"outputs": next(iter(nested.values())) if len(nested) == 1 else nested}


def number(value):
    """A float in 6 digits if they are enough to tell it, else in 9 (float64: 17)."""
    for digits in (6, 17 if isinstance(value, np.float64) else 9):
        found = f"{value:.{digits}g}"
        if type(value)(found) == value:
            break
    return float(found)


def _nested(name, array):
    if array.dtype.kind not in "fO":
        return array.tolist()
    of = number
    if array.dtype.kind == "O":
        of = _bytes if name.endswith("_bytes") else text
    flat = np.empty(array.size, object)
    flat[:] = [of(value) for value in array.ravel()]
    return flat.reshape(array.shape).tolist()


def text(value):
    """A string; its bytes need not be UTF-8."""
    return value.decode(errors="surrogateescape")


def _bytes(value):
    return {"b64": base64.b64encode(value).decode()}
