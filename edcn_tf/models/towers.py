"""How numbers go through two towers: side by side, or one on the other."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from edcn_tf.layers import Bridge, Cross, FieldGate, Gate, MatrixCross
from edcn_tf.layers.candidate_rows import CandidateRows, called, whole
from edcn_tf.models import ranking
from edcn_tf.models.histories import Histories
from edcn_tf.tensors import Tensor


class Towers(Histories):
    """A model of an explicit and a deep tower; what they are made of, a subclass says.

    It gives, beside `embedding` and, if there is one, `linear`:

    - `widths` of the fields, `tower`, the explicit tower's name, and of `options` the
      `structure` and the `gate_fields`;
    - `explicit_layers` and `deep_layers`, of which one list may be empty;
    - `explicit_gates` and `deep_gates`: of each layer, of the first only, or none;
    - `bridges`: of each layer of the longer tower, or none;
    - `histories` (`Histories`);
    - `output_layer`.
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        shape = self.embedding.compute_output_shape(input_shape)
        # A pass without numbers builds each layer from what it meets; before the
        # tables, since it is here that options are found not to fit together.
        if self.histories:
            fields = self._with_histories(*self._symbolic(shape))
        else:
            fields = keras.KerasTensor((None, *shape[1:]), self.compute_dtype)
        self.fields_shape = tuple(fields.shape[1:])
        weighed, logits = self._outputs(fields)
        shapes = [[part.shape for part in tensors] for tensors in (weighed, logits)]
        self.output_layer.build(*shapes)
        for embedding in self.embeddings:
            embedding.build(input_shape)
        self.built = True

    def logits_of_fields(
        self,
        fields: Any,
        linear: Tensor | None = None,
        training: bool = False,
    ) -> Tensor:
        if self.histories:
            others, *sequences = fields
            fields = self._with_histories(others, sequences, training)
        return self._log_odds(*self._outputs(fields, training), linear)

    def logits_of_candidates(
        self, shared: Sequence[Any], own: Sequence[Any], is_own: Sequence[bool]
    ) -> Tensor:
        gates = [*self.explicit_gates[:1], *self.deep_gates[:1]]
        if self.histories:
            return self._logits_of_histories(shared, own, is_own)
        if (
            not self.deep_layers
            or self._is_stacked
            or not self.embedding.is_uniform
            or not all(map(_only_weighs, gates))
        ):
            return super().logits_of_candidates(shared, own, is_own)
        # What a user's fields add to the first deep layer is computed once a user.
        deep, x0 = self.deep_layers[0], None
        split = _weighed(self.deep_gates, shared[0], own[0], is_own)
        if deep.activation_first:
            split = ops.relu(split[0]), ops.relu(split[1])
        h = deep.after_dense(ranking.product(deep.dense, *split, is_own))
        if self.explicit_layers:
            split = _weighed(self.explicit_gates, shared[0], own[0], is_own)
            x0 = ranking.rows(*split, is_own)
            if not self._keeps_parts:
                x0 = whole(x0)
        linear = None
        if self.linear is not None:
            linear = ranking.together(shared[1], own[1], is_own, None)
        return self._log_odds(*self._from_first_layers(x0, h, None, False), linear)

    def gates(self) -> dict[str, Tensor]:
        return {
            tower: ops.stack([gate.weights_of_fields() for gate in gates])
            for tower, gates in [
                (self.tower, self.explicit_gates),
                ("deep", self.deep_gates),
            ]
            if gates and isinstance(gates[0], Gate) and not gates[0].depends_on_input
        }

    @property
    def _keeps_parts(self) -> bool:
        """Whether the explicit tower takes candidates' rows in parts."""
        explicit, gates = self.explicit_layers, self.explicit_gates
        return (
            self.compute_dtype == "float32"
            and all(type(layer) in (Cross, MatrixCross) for layer in explicit)
            and all(map(_only_weighs, gates))
        )

    @property
    def _is_stacked(self) -> bool:
        return self.options["structure"] == "stacked"

    def _log_odds(
        self,
        weighed: list[Tensor],
        logits: list[Tensor],
        linear: Tensor | None,
    ) -> Tensor:
        if linear is not None:
            logits = [*logits, ops.sum(linear, axis=1)]
        return called(self.output_layer, weighed, logits)

    def _outputs(
        self, fields: Tensor, training: bool = False
    ) -> tuple[list[Tensor], list[Tensor]]:
        """What the output layer sees: tensors that get weights, and logits."""
        context = self._context(fields)
        if self._is_stacked:
            return self._stacked(fields, context, training)
        x0 = h = None
        if self.explicit_layers:
            x0 = self._gated(self.explicit_gates, 0, fields, context, training)
        if self.deep_layers:
            h = self._deep(0, fields, context, training)
        return self._from_first_layers(x0, h, context, training)

    def _from_first_layers(
        self,
        x0: Tensor | None,
        h: Tensor | None,
        context: Tensor | None,
        training: bool,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The same, from what enters the explicit tower and leaves deep layer 0.

        x0 stays that of layer 0 in every layer.
        """
        xs: list[Any] = []
        f = None
        for layer in range(max(len(self.explicit_layers), len(self.deep_layers))):
            x = xs[-1] if xs else None  # where a tower ends, its last output stays
            f = None if f is None else whole(f)
            below = (f, f) if self.bridges else (x, h)
            if layer < len(self.explicit_layers):
                into = x0
                if layer:
                    gates, into = self.explicit_gates, below[0]
                    if isinstance(x0, CandidateRows):
                        into = x0.alike(into)
                    into = self._gated(gates, layer, into, context, training)
                x = self._interact(layer, x0, into)
                xs.append(x)
            if 0 < layer < len(self.deep_layers):
                h = self._deep(layer, below[1], context, training)
            if self.bridges:
                f = self._bridged(self.bridges[layer], _flat(x), h)
        weighed, logits = self._read_out(xs)
        return [*weighed, *(part for part in (h, f) if part is not None)], logits

    def _bridged(self, bridge: keras.Layer, x: Any, h: Tensor) -> Any:
        is_product = type(bridge) is Bridge and bridge.kind == "hadamard"
        return called(bridge, x if is_product else whole(x), h)

    def _stacked(
        self,
        fields: Tensor,
        context: Tensor | None,
        training: bool,
    ) -> tuple[list[Tensor], list[Tensor]]:
        xs, x0, x = [], None, fields
        for layer in range(len(self.explicit_layers)):
            into = self._gated(self.explicit_gates, layer, x, context, training)
            x0 = into if x0 is None else x0
            x = self._interact(layer, x0, into)
            xs.append(x)
        weighed, logits = self._read_out(xs)
        # Of FM the products it would sum: they are what a network can go on from.
        (h,) = weighed if not logits else [_flat(x)]
        for layer in range(len(self.deep_layers)):
            h = self._deep(layer, h, context, training)
        return [h], []

    def _interact(self, layer: int, x0: Tensor | None, x: Tensor) -> Tensor:
        """One layer of the explicit tower, on fields or flat as it wants them."""
        explicit = self.explicit_layers[layer]
        inputs: tuple[Any, ...] = (x0, x) if explicit.takes_x0 else (x,)
        if not explicit.takes_fields:
            return called(explicit, *map(_flat, inputs))
        # A CIN layer's maps come as they are, [B, H, D].
        return explicit(*(self._fields(i) if len(i.shape) == 2 else i for i in inputs))

    def _read_out(self, xs: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        if not xs:
            return [], []
        read = self.explicit_layers[0].read_out(xs)
        return ([], [read]) if self.explicit_layers[0].gives_logit else ([read], [])

    def _deep(
        self,
        layer: int,
        inputs: Tensor,
        context: Tensor | None,
        training: bool,
    ) -> Tensor:
        """A deep layer's output, with the gate before it."""
        deep, gates = self.deep_layers[layer], self.deep_gates
        if training and layer < len(gates) and _only_weighs(gates[layer]):
            # Where a batch is larger than a matrix, weigh the matrix.
            weights = gates[layer].of_components(gates[layer].weights_of_fields())
            return deep(_flat(inputs), weights, training=training)
        gated = self._gated(gates, layer, inputs, context, training)
        return deep(_flat(gated), training=training)

    def _gated(
        self,
        gates: Sequence[keras.Layer],
        layer: int,
        inputs: Tensor,
        context: Tensor | None,
        training: bool,
    ) -> Tensor:
        """What enters a tower's layer, which may have a gate."""
        if layer >= len(gates):
            return inputs
        gate, kwargs = gates[layer], {}
        if isinstance(inputs, CandidateRows):
            return inputs * gate.of_components(gate.weights_of_fields())
        if context is not None:
            kwargs["context"] = context
        if isinstance(gate, FieldGate):
            kwargs["training"] = training
        outputs = gate(self._fields_for(gate, layer, inputs), **kwargs)
        if _flat(outputs).shape[-1] != sum(self.widths):
            raise ValueError(
                f"A gate must give back the {sum(self.widths)} components of the "
                f"fields. Received: {type(gate).__name__}, which gives {outputs.shape}"
            )
        return outputs

    def _fields_for(self, gate: keras.Layer, layer: int, inputs: Tensor) -> Tensor:
        """A gate's inputs as fields, `[B, F, D]` or `[B, d]`; refused if none are left.

        Without bridges, fields are there after a layer only if it gives as many
        components as it takes, and they are still the fields'.
        """
        tower, given = "deep", _flat(inputs).shape[-1]
        has_fields = given == sum(self.widths)
        if gate in self.explicit_gates:
            tower = self.tower
            if layer and not self.bridges:
                has_fields = self.explicit_layers[layer - 1].keeps_fields
        elif self._is_stacked and layer == 0:
            has_fields = self.explicit_layers[-1].keeps_fields
        if not has_fields:
            raise ValueError(
                f"The gate of layer {layer + 1} of the {tower} tower has no fields to "
                f"weigh: what is below gives {given} components that are not those of "
                f"the {len(self.widths)} fields. Set gate_layers='input', or a bridge, "
                "which gives the fields' width again, or gate='none'"
            )
        return self._fields(inputs)

    def _fields(self, x: Tensor) -> Tensor:
        return ops.reshape(x, (-1, *self.fields_shape))

    def _context(self, fields: Tensor) -> Tensor | None:
        """Embeddings of the fields that gates are computed from, `[B, k]`."""
        if not self.options["gate_fields"]:
            return None
        names = [field["name"] for field in self.spec["fields"]]
        ends = [sum(self.widths[: i + 1]) for i in range(len(names))]
        flat = _flat(fields)
        chosen = [names.index(name) for name in self.options["gate_fields"]]
        columns = [flat[:, ends[i] - self.widths[i] : ends[i]] for i in chosen]
        return ops.concatenate(columns, axis=1)


def _only_weighs(gate: keras.Layer) -> bool:
    """Whether a gate is the softmax gate alone: of one's own, `call` may be another."""
    return type(gate) is FieldGate and not gate.batch_norm


def _weighed(
    gates: Sequence[keras.Layer],
    shared: Tensor,
    own: Tensor,
    is_own: Sequence[bool],
) -> tuple[Tensor, Tensor]:
    """The first of these gates on fields that are in two parts."""
    if not gates:
        return shared, own
    return ranking.weighed(gates[0].weights_of_fields(), shared, own, is_own)


def _flat(x: Tensor) -> Tensor:
    return x if len(x.shape) == 2 else ops.reshape(x, (-1, x.shape[1] * x.shape[2]))
