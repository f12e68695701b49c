"""tf.Examples of REST requests."""

import tensorflow as tf

from .json_requests import decoded, is_base64
from .json_text import Object, type_of
from .refusal import invalid


def read_examples(request):
    """Serialized tf.Examples of a classify or regress request."""
    context = request.first("context", ...)
    context = b"" if context is ... else _example(context)
    examples = request.first("examples", ...)
    if examples is ...:
        raise invalid(
            f"JSON Value: {request.text()} When method is classify, key 'examples' is "
            "expected and was not found"
        )
    if not isinstance(examples, list):
        raise invalid(
            f"JSON Value: {request.text()} Expecting 'examples' value to be an "
            "list/array"
        )
    if not examples:
        raise invalid(
            f"JSON Value: {request.text()} 'examples' value is an empty array"
        )
    # A message is merged with another by writing one after the other.
    return [context + _example(example) for example in examples]


def _example(row):
    if not isinstance(row, Object):
        raise invalid(f"Example must be JSON object but got JSON {type_of(row)}")
    example = tf.train.Example()
    for name, values in row:
        feature = tf.train.Feature()
        for value in values if isinstance(values, list) else [values]:
            _add(feature, name, value)
        example.features.feature[name].CopyFrom(feature)
    return example.SerializeToString()


def _add(feature, name, value):
    """Adds a value to a feature, which has values of one kind."""
    kind = type(value)
    if kind is bytes or (kind is Object and is_base64(value)):
        wanted, value = "bytes_list", value if kind is bytes else decoded(value)
    elif kind is float:
        wanted = "float_list"
    elif kind in (int, bool):
        wanted, value = "int64_list", int(value)
    else:
        raise invalid(
            f"Feature: {name} has element with unexpected JSON type: {type_of(value)}"
        )
    found = feature.WhichOneof("kind")
    if found not in (None, wanted):
        raise invalid(
            f"Unexpected element type in feature: {name} expecting type: "
            f"{found.removesuffix('_list')}"
        )
    if wanted == "int64_list" and value >= 2**63:
        raise invalid(f"Feature: {name} has uint64 element. Only int64 is supported.")
    getattr(feature, wanted).value.append(value)
