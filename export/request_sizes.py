"""How large the requests that are stored with a version may be.

Replaying one holds, for all of its rows at once, the values that came in and what the
model makes of them on the way. A long history takes hundreds of times as much a row as
a few single values do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from edcn_tf.schema import Schema

# What all requests together may take beside the loaded model, at most, bytes: about
# what TensorFlow itself takes in a process, so that a host which has room for the
# model and no more than usual to spare can load, warm up and verify it.
REPLAY_BYTES = 500_000_000
# What one of them may take by the count below. The rest goes to the first run of each
# graph (0.2 GB), and to what TensorFlow keeps of requests of other sizes.
REQUEST_BYTES = 0.4 * REPLAY_BYTES
# A value as it comes in: its place in the message, in the tensor and in an array of
# Python, and its way to an id. Measured with short strings.
VALUE_BYTES = 150
TEXT_COPIES = 4  # of a text's bytes, likewise
TRACED_ROWS = 64  # so many that what is computed once for a batch counts little
KEPT = ("Const", "Placeholder", "ReadVariableOp", "VarHandleOp")  # the model's own


@dataclass(frozen=True)
class RequestCosts:
    """Bytes that parts of a request take while it is replayed.

    Args:
        scored: A row that the model scores.
        user: The values of a row's fields that are no candidate's.
        candidate: Those of its candidate's fields.
        num_fields: How many fields `explain` leaves out, one after the other.
    """

    scored: float
    user: float
    candidate: float
    num_fields: int

    @classmethod
    def of(
        cls, model: keras.Model, schema: Schema, records: Sequence[bytes]
    ) -> "RequestCosts":
        """Those of a model, for rows like these serialized tf.Examples."""
        slots = sum(field.slots for field in schema.fields)
        text = sum(map(len, records)) / max(1, len(records))
        value = VALUE_BYTES + TEXT_COPIES * text / slots
        of_candidate = sum(field.slots for field in schema.fields if field.candidate)
        return cls(
            scored=activation_bytes(model, slots),
            user=value * (slots - of_candidate),
            candidate=value * of_candidate,
            num_fields=len(schema.fields),
        )

    def most_rows(self, signature: str) -> int:
        """Rows of a request to a signature, one candidate each in `rank`."""
        scored = 1 + self.num_fields if signature == "explain" else 1
        row = self.user + self.candidate + scored * self.scored
        return max(1, int(REQUEST_BYTES / row))

    def most_candidates(self, users: int) -> int:
        """Candidates of each of so many users in a request to `rank`; at least 1."""
        left = REQUEST_BYTES / users - self.user
        return max(1, int(left / (self.candidate + self.scored)))

    def fitting(self, signature: str, sizes: Sequence[int]) -> tuple[int, ...]:
        """Those of the numbers of rows that a request may have; 1 if it is none."""
        most = self.most_rows(signature)
        return tuple(size for size in sizes if size <= most) or (1,)


def activation_bytes(model: keras.Model, slots: int) -> float:
    """The most that is held at once of what a model computes for a row, bytes.

    Of the graph that TensorFlow runs: its operations in their order, each output held
    until the last operation that takes it. Where that is not known, as of a loop, an
    output counts as all that goes in.

    Args:
        model: Ids `[B, slots]` to probability.
        slots: S.
    """
    function = tf.function(
        lambda ids: model(ids, training=False), autograph=False
    ).get_concrete_function(tf.TensorSpec((TRACED_ROWS, slots), tf.int32))
    operations = _needed(function.graph)
    last = {
        tensor.ref(): number
        for number, operation in enumerate(operations)
        for tensor in operation.inputs
    }
    sizes: dict[Any, int] = {}
    most = 0
    for number, operation in enumerate(operations):
        taken = sum(sizes.get(tensor.ref(), 0) for tensor in operation.inputs)
        for tensor in operation.outputs:
            sizes[tensor.ref()] = _size(tensor, taken)
        most = max(most, sum(sizes.values()))
        sizes = {ref: size for ref, size in sizes.items() if last.get(ref, 0) > number}
    return most / TRACED_ROWS


def _needed(graph: tf.Graph) -> list[tf.Operation]:
    """The operations that its outputs depend on, in the order in which they run."""
    needed, found = set(), [output.op for output in graph.outputs]
    while found:
        operation = found.pop()
        if operation.name not in needed:
            needed.add(operation.name)
            found += [tensor.op for tensor in operation.inputs]
    return [each for each in graph.get_operations() if each.name in needed]


def _size(tensor: tf.Tensor, taken: int) -> int:
    """Bytes of an output of an operation whose inputs have so many."""
    if tensor.op.type in KEPT or tensor.dtype == tf.resource:
        return 0
    number = tensor.shape.num_elements()
    if number is None or tensor.dtype == tf.variant:  # a loop's list
        return taken
    return number * tensor.dtype.size
