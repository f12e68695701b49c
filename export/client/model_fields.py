"""What a row holds for each input of a served model, and by which names."""

import numpy as np

from edcn_tf.errors import InputError
from edcn_tf.files import StrPath
from edcn_tf.schema import Schema

from .feature_columns import Input
from .served_model import DTYPES, Signature, TensorInfo


def fields_of(signature: Signature) -> dict[str, Input]:
    """Name -> what a row holds for a signature's input."""
    return {name: field_of(name, info) for name, info in signature.inputs.items()}


def field_of(name: str, info: TensorInfo) -> Input:
    """What a row holds for an input.

    Raises:
        InputError: If it is of a type that no export of ours has.
    """
    if info.dtype not in DTYPES.values():
        raise InputError(
            f"The model's input {name!r}: expected a type of {list(DTYPES.values())}. "
            f"Received: {info.dtype}"
        )
    is_list = len(info.shape) > 1
    # Of a size that is known: vectors, and ids, a slot each.
    is_sized = is_list and info.shape[-1] > 0
    return Input(info.dtype, is_list, info.shape[-1] if is_sized else None)


def rank_fields(
    ranking: Signature, single: Signature
) -> tuple[dict[str, Input], dict[str, Input]]:
    """Name -> what a row holds: of the user's fields, and of a candidate's.

    Args:
        ranking: The signature `rank`, where a candidate's fields have a dimension more.
        single: The signature `serving_default`.
    """
    of_user: dict[str, Input] = {}
    of_candidate: dict[str, Input] = {}
    for name, info in ranking.inputs.items():
        one = single.inputs[name]
        fields = of_candidate if len(info.shape) > len(one.shape) else of_user
        fields[name] = field_of(name, one)
    return of_user, of_candidate


def nothing(info: TensorInfo) -> np.ndarray:
    """An output of no rows."""
    shape = [0, *(max(size, 0) for size in info.shape[1:])]
    return np.empty(shape, str if info.dtype == "string" else info.dtype)


def read_aliases(schema: Schema | StrPath | None) -> dict[str, str]:
    """Column of the log -> field, where a schema has them differ.

    Raises:
        InputError: If a column is called like another field, or two fields are of one.
    """
    if schema is None:
        return {}
    if not isinstance(schema, Schema):
        schema = Schema.load(schema)
    names = [field.name for field in schema.inputs]
    aliases: dict[str, str] = {}
    for field in schema.inputs:
        if field.column in names and field.column != field.name:
            raise InputError(
                f"Field {field.name!r}: its column is called like another field, so a "
                f"row cannot say which it means. Received: {field.column!r}"
            )
        if field.column in aliases:  # two fields of one column
            raise InputError(
                f"Fields {aliases[field.column]!r} and {field.name!r} are of one "
                f"column; a row must call them by name. Received: {field.column!r}"
            )
        if field.column is not None and field.column != field.name:
            aliases[field.column] = field.name
    return aliases
