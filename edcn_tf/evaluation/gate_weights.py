"""What gates weigh fields by where each row has weights of its own."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import keras
import numpy as np

from edcn_tf.layers import Gate
from edcn_tf.tensors import Tensor

ROWS = 8192  # a batch


def mean_gate_weights(model: keras.Model, ids: np.ndarray) -> dict[str, np.ndarray]:
    """Mean over rows of the weights that fields are multiplied by.

    Of a gate with a weight for each component also the mean over these.

    Args:
        model: A model of two towers (`edcn_tf.models.towers.Towers`).
        ids: `[B, S]` int32, one row or more.

    Returns:
        Name of the tower -> `[L, F]` float64 array, as `model.gates()`. A tower is not
        there if a gate of it has no weights: a `DenseGate`, which mixes fields, or one
        of your own that is no `Gate`.
    """
    towers = {
        tower: gates
        for tower, gates in [
            (getattr(model, "tower", ""), getattr(model, "explicit_gates", [])),
            ("deep", getattr(model, "deep_gates", [])),
        ]
        if gates and all(isinstance(gate, Gate) for gate in gates)
    }
    gates = [gate for tower in towers.values() for gate in tower]
    sums = {gate.name: np.zeros(len(gate.widths)) for gate in gates}
    seen: set[str] = set()

    def record(gate: Gate, weights: Tensor) -> None:
        weights = weights if len(weights.shape) == 2 else weights[None]
        means = np.asarray(gate.means_of_fields(weights), np.float64)  # [B or 1, F]
        sums[gate.name] += means.mean(axis=0) * size
        seen.add(gate.name)

    with _recording(gates, record):
        for start in range(0, len(ids), ROWS):
            batch = ids[start : start + ROWS]
            size = len(batch)
            model(batch, training=False)
    return {
        tower: np.stack([sums[gate.name] for gate in gates]) / len(ids)
        for tower, gates in towers.items()
        if all(gate.name in seen for gate in gates)
    }


@contextlib.contextmanager
def _recording(
    gates: Sequence[Gate], record: Callable[[Gate, Tensor], None]
) -> Iterator[None]:
    """Has `record(gate, weights)` called with what each gate weighs by."""

    def recorded(
        gate: Gate, weights_of: Callable[[Tensor], Tensor]
    ) -> Callable[[Tensor], Tensor]:
        def recording(inputs: Tensor) -> Tensor:
            weights = weights_of(inputs)
            record(gate, weights)
            return weights

        return recording

    wrapped = []
    try:
        for gate in gates:
            gate.weights_of = recorded(  # type: ignore[method-assign]
                gate, gate.weights_of
            )
            wrapped.append(gate)
        yield
    finally:
        for gate in wrapped:
            del gate.weights_of
