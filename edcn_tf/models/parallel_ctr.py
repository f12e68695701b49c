"""Two towers side by side, or one on the other: every model of EDCN's family."""

import random

import keras
import tensorflow as tf
from keras import ops

from edcn_tf.layers import Deep, ExplicitLayer, FieldGate, LogOdds
from edcn_tf.models import candidates, options, parts
from edcn_tf.models.click_model import ClickModel


@keras.saving.register_keras_serializable(package="edcn_tf")
class ParallelCTR(ClickModel):
    """An explicit and a deep tower on the same embeddings, with gates and bridges.

        E = embedding(ids)                                        [B, F, D]
        for each layer l:
            c, d = explicit gate_l(X_l), deep gate_l(H_l)         X_0 = H_0 = E
            x_l = explicit_l(x_0, c),  h_l = deep_l(d)            x_0 = c of layer 0
            f_l = bridge_l(x_l, h_l)
            X_{l+1} = H_{l+1} = f_l, or x_l and h_l without bridges
        p = sigmoid(w . [x_L, h_L, f_L] + b [+ linear term])

    What the output sees of the explicit tower is its last layer, of CIN every layer's
    sums, and FM's sum without a weight. Where a tower has fewer layers than the other,
    its last output is bridged with each further layer of the other (Chen et al. 2021,
    section 4.4.2). Stacked instead of parallel, the deep tower takes what the explicit
    one gives, and the output sees the deep tower alone.

    The defaults are EDCN's, those that measured best on small public data. `FAMILY`
    has the options of the models with a name; `make_model` makes one.

    Args:
        spec: `FeatureSpec`.
        embedding_dim: Width D of each field's embedding; or, for fields of unequal
            width, a list in the fields' order, a dict by their names, or `"auto"`, by
            the number of their values (`edcn_tf.models.options.widths`).
        num_layers: Layers of the explicit tower, L, and of the deep one unless
            `deep_units` says otherwise. FM and inner products have one.
        explicit: The explicit tower: `"cross"` (DCN), `"cross_matrix"` (DCN-V2),
            `"cross_low_rank"`, `"cross_mixture"` (of low-rank experts), `"fm"`,
            `"cin"` (xDeepFM), `"self_attention"` (AutoInt), `"inner_products"` (PNN),
            `"none"`, or an `ExplicitLayer` of your own.
        cross_rank: Rank of the low-rank crosses; a quarter of the width if `None`.
        cross_experts: Number of experts of the mixture.
        cross_residual: Whether the cross of DCN adds its input, as it does everywhere
            but in FuxiCTR's EDCN.
        feature_maps: CIN's maps a layer; as many as fields if `None`.
        attention_heads: AutoInt's heads, each of D / heads components.
        deep_units: Width of the deep layers: that of the embeddings if `None`, a
            number, or a list with that of each layer, such as `[512, 256, 128]`.
            `[]` is no deep tower.
        structure: `"parallel"` or `"stacked"`.
        linear: Whether to add a linear (wide) term, one weight a row of the table.
        bridge: `"add"`, `"hadamard"`, `"concat"`, `"attention"`,
            `"attention_components"`, `"none"` (late fusion), or a layer of your own.
        bridge_shared_weights: Whether the attention bridges use one set of weights
            for both towers.
        gate: `"softmax"` (the paper's), `"lhuc"`, `"squeeze_excitation"`,
            `"gatenet_scalar"`, `"gatenet_vector"`, `"dense"`, `"none"`, or a layer of
            your own. Each tower and each layer has its own.
        gate_layers: `"all"`, or `"input"` for a gate before the first layers only.
        gate_fields: Names of the fields whose embeddings LHUC's weights are computed
            from, such as the user's; by default from what it weighs.
        gate_units: Width of LHUC's hidden layer; see `LHUCGate`.
        temperature: tau of the softmax gates.
        gate_scale: Whether softmax gates have the mean 1 rather than the sum 1.
        gate_batch_norm: BatchNorm after each softmax gate: `None`, `"scalar"`,
            `"feature"`, or `"shared_scalar"`, one for all layers of a tower.
        deep_batch_norm: Whether the deep layers normalize.
        activation_first: Whether the deep layers apply ReLU before the matrix.
        dropout: Share of what the deep layers' ReLU gives that training sets to 0.
        unseen_rate: Share of the ids that training replaces by their field's unseen
            row.
        l2: Strength of the L2 by inverse frequency on the embeddings of a batch.
        linear_l2: The same for the linear term.
        embeddings_initializer: Keras initializer of the table.

    Raises:
        ValueError: For a value out of its range or options that exclude each other;
            the message says why and what to set instead.

    Example:
        >>> model = ParallelCTR(spec, explicit="cross_matrix", bridge="concat")
        >>> model.compile(edcn_tf.SparseAdam(1e-3), "binary_crossentropy")

    Reference:
        Chen et al. 2021, "Enhancing Explicit and Implicit Feature Interactions via
        Information Sharing for Parallel Deep CTR Models", equations 6 to 9 and
        sections 4.2 to 4.4.
    """

    def __init__(
        self,
        spec,
        *,
        embedding_dim=16,
        num_layers=2,
        explicit="cross",
        cross_rank=None,
        cross_experts=4,
        cross_residual=True,
        feature_maps=None,
        attention_heads=2,
        deep_units=None,
        structure="parallel",
        linear=False,
        bridge="hadamard",
        bridge_shared_weights=False,
        gate="softmax",
        gate_layers="all",
        gate_fields=None,
        gate_units=None,
        temperature=1.0,
        gate_scale=True,
        gate_batch_norm=None,
        deep_batch_norm=False,
        activation_first=False,
        dropout=0.3,
        unseen_rate=0.05,
        l2=10.0,
        linear_l2=1.0,
        embeddings_initializer=None,
        **kwargs,
    ):
        super().__init__(spec, **kwargs)
        self.options = {
            "embedding_dim": embedding_dim,
            "num_layers": num_layers,
            "explicit": explicit,
            "cross_rank": cross_rank,
            "cross_experts": cross_experts,
            "cross_residual": cross_residual,
            "feature_maps": feature_maps,
            "attention_heads": attention_heads,
            "deep_units": deep_units,
            "structure": structure,
            "linear": linear,
            "bridge": bridge,
            "bridge_shared_weights": bridge_shared_weights,
            "gate": gate,
            "gate_layers": gate_layers,
            "gate_fields": gate_fields,
            "gate_units": gate_units,
            "temperature": temperature,
            "gate_scale": gate_scale,
            "gate_batch_norm": gate_batch_norm,
            "deep_batch_norm": deep_batch_norm,
            "activation_first": activation_first,
            "dropout": dropout,
            "unseen_rate": unseen_rate,
            "l2": l2,
            "linear_l2": linear_l2,
            "embeddings_initializer": keras.initializers.serialize(
                keras.initializers.get(
                    embeddings_initializer
                    or keras.initializers.RandomNormal(stddev=0.1)
                )
            ),
        }
        fields = self.spec["fields"]
        options.check(self.options, fields)
        self._make_embeddings(options.widths(embedding_dim, fields))
        units = options.deep_units(deep_units, num_layers, sum(self.widths))
        self.explicit_layers = self._make_explicit(num_layers)
        self.deep_layers = [
            Deep(
                width,
                activation_first=activation_first,
                batch_norm=deep_batch_norm,
                dropout=dropout,
                dtype=self.dtype_policy,
                name=f"deep_{layer}",
            )
            for layer, width in enumerate(units)
        ]
        self.explicit_gates = self._make_gates(self.tower, len(self.explicit_layers))
        on_input = structure == "parallel" or gate_layers == "all"
        self.deep_gates = self._make_gates("deep", on_input * len(self.deep_layers))
        self.bridges = []
        if bridge != "none":
            depth = max(len(self.explicit_layers), len(self.deep_layers))
            self.bridges = [
                self._part("bridge", f"bridge_{layer}", units=sum(self.widths))
                for layer in range(depth)
            ]
        self.output_layer = LogOdds(dtype=self.dtype_policy, name="output")

    def _make_embeddings(self, widths):
        """The embedding of the fields and the linear term's, which draw alike."""
        rate = self.options["unseen_rate"]
        options = {"unseen_rate": rate}
        if rate and self.options["linear"]:
            # Where one has the unseen row in place of an id, so has the other.
            options["seed"] = random.randrange(2**31)
        initializer = self.options["embeddings_initializer"]
        self.widths = widths
        is_uniform = len(set(widths)) == 1
        self.embedding = self._field_embedding(
            widths[0] if is_uniform else widths,
            self.options["l2"],
            initializer,
            **options,
        )
        if self.options["linear"]:
            self.linear = self._field_embedding(
                1,
                self.options["linear_l2"],
                "zeros",
                **options,
                dtype="float32",
                name="linear",
            )

    def _part(self, option, name, **kwargs):
        """A new layer for the option, named ones with these arguments."""
        rank = self.options["cross_rank"] or max(1, sum(self.widths) // 4)
        chosen = {**self.options, "cross_rank": rank}
        return parts.make(option, chosen, dtype=self.dtype_policy, name=name, **kwargs)

    def _make_explicit(self, num_layers):
        explicit = self.options["explicit"]
        self.tower = explicit  # what its layers are called
        if isinstance(explicit, ExplicitLayer):
            self.tower = explicit.name
        elif explicit == "none":
            return []
        first = self._part("explicit", f"{self.tower}_0")
        options.check_explicit(first, self.embedding.is_uniform)
        others = 0 if first.is_single else num_layers - 1
        return [first] + [
            self._part("explicit", f"{self.tower}_{layer + 1}")
            for layer in range(others)
        ]

    def _make_gates(self, tower, layers):
        if self.options["gate"] == "none":
            return []
        if self.options["gate_layers"] == "input":
            layers = min(layers, 1)
        kwargs = {}
        if not self.embedding.is_uniform:
            kwargs["field_widths"] = self.widths
        if self.options["gate_batch_norm"] == "shared_scalar":
            kwargs["normalization"] = keras.layers.BatchNormalization(
                synchronized=tf.distribute.has_strategy(),  # over the whole batch
                dtype=self.dtype_policy,
                name=f"{tower}_gate_normalization",
            )
        return [
            self._part("gate", f"{tower}_gate_{layer}", **kwargs)
            for layer in range(layers)
        ]

    def build(self, input_shape):
        shape = self.embedding.compute_output_shape(input_shape)
        self.fields_shape = tuple(shape[1:])
        # A pass without numbers builds each layer from what it meets; before the
        # tables, since it is here that options are found not to fit together.
        fields = keras.KerasTensor((None, *shape[1:]), self.compute_dtype)
        weighed, logits = self._outputs(fields)
        shapes = [[part.shape for part in tensors] for tensors in (weighed, logits)]
        self.output_layer.build(*shapes)
        for embedding in self.embeddings:
            embedding.build(input_shape)
        self.built = True

    def logits_of_fields(self, fields, linear=None, training=False):
        return self._log_odds(*self._outputs(fields, training), linear)

    def logits_of_candidates(self, shared, own, is_own):
        gates = [*self.explicit_gates[:1], *self.deep_gates[:1]]
        if (
            not self.deep_layers
            or self.options["structure"] == "stacked"
            or not self.embedding.is_uniform
            or any(not _only_weighs(gate) for gate in gates)
        ):
            return super().logits_of_candidates(shared, own, is_own)
        # What a user's fields add to the first deep layer is computed once a user.
        deep, x0 = self.deep_layers[0], None
        split = _weighed(self.deep_gates, shared[0], own[0], is_own)
        if deep.activation_first:
            split = [ops.relu(part) for part in split]
        h = deep.after_dense(candidates.product(deep.dense, *split, is_own))
        if self.explicit_layers:
            split = _weighed(self.explicit_gates, shared[0], own[0], is_own)
            x0 = candidates.together(*split, is_own, self.widths)
        linear = None
        if self.linear is not None:
            linear = candidates.together(shared[1], own[1], is_own, None)
        return self._log_odds(*self._from_first_layers(x0, h, None, False), linear)

    def _log_odds(self, weighed, logits, linear):
        if linear is not None:
            logits = [*logits, ops.sum(linear, axis=1)]
        return self.output_layer(weighed, logits)

    def _outputs(self, fields, training=False):
        """What the output layer sees: tensors that get weights, and logits."""
        context = self._context(fields)
        if self.options["structure"] == "stacked":
            return self._stacked(fields, context, training)
        x0 = h = None
        if self.explicit_layers:
            x0 = self._gated(self.explicit_gates, 0, fields, context, training)
        if self.deep_layers:
            h = self._deep(0, fields, context, training)
        return self._from_first_layers(x0, h, context, training)

    def _from_first_layers(self, x0, h, context, training):
        """The same, from what enters the explicit tower and leaves deep layer 0.

        x0 stays that of layer 0 in every layer.
        """
        xs, f = [], None
        for layer in range(max(len(self.explicit_layers), len(self.deep_layers))):
            x = xs[-1] if xs else None  # where a tower ends, its last output stays
            below = (f, f) if self.bridges else (x, h)
            if layer < len(self.explicit_layers):
                into = x0
                if layer:
                    gates = self.explicit_gates
                    into = self._gated(gates, layer, below[0], context, training)
                x = self._interact(layer, x0, into)
                xs.append(x)
            if 0 < layer < len(self.deep_layers):
                h = self._deep(layer, below[1], context, training)
            if self.bridges:
                f = self.bridges[layer](_flat(x), h)
        weighed, logits = self._read_out(xs)
        return [*weighed, *(part for part in (h, f) if part is not None)], logits

    def _stacked(self, fields, context, training):
        x0 = into = self._gated(self.explicit_gates, 0, fields, context, training)
        xs = [self._interact(0, x0, into)]
        for layer in range(1, len(self.explicit_layers)):
            gates = self.explicit_gates
            into = self._gated(gates, layer, xs[-1], context, training)
            xs.append(self._interact(layer, x0, into))
        weighed, logits = self._read_out(xs)
        # Of FM the products it would sum: they are what a network can go on from.
        (h,) = weighed if not logits else [_flat(xs[-1])]
        for layer in range(len(self.deep_layers)):
            h = self._deep(layer, h, context, training)
        return [h], []

    def _interact(self, layer, x0, x):
        """One layer of the explicit tower, on fields or flat as it wants them."""
        explicit = self.explicit_layers[layer]
        inputs = (x0, x) if explicit.takes_x0 else (x,)
        if not explicit.takes_fields:
            return explicit(*map(_flat, inputs))
        # A CIN layer's maps come as they are, [B, H, D].
        return explicit(*(self._fields(i) if len(i.shape) == 2 else i for i in inputs))

    def _read_out(self, xs):
        if not xs:
            return [], []
        read = self.explicit_layers[0].read_out(xs)
        return ([], [read]) if self.explicit_layers[0].gives_logit else ([read], [])

    def _gated(self, gates, layer, inputs, context, training):
        """What enters a tower's layer."""
        if layer >= len(gates):
            return inputs
        gate = gates[layer]
        kwargs = {}
        if context is not None:
            kwargs["context"] = context
        if isinstance(gate, FieldGate):
            kwargs["training"] = training
        return gate(self._fields_for(gate, layer, inputs), **kwargs)

    def _deep(self, layer, inputs, context, training):
        """A deep layer's output, with the gate before it."""
        deep, gates = self.deep_layers[layer], self.deep_gates
        if training and layer < len(gates) and _only_weighs(gates[layer]):
            # Where a batch is larger than a matrix, weigh the matrix.
            weights = gates[layer].of_components(gates[layer].weights_of_fields())
            return deep(_flat(inputs), weights, training=training)
        gated = self._gated(gates, layer, inputs, context, training)
        return deep(_flat(gated), training=training)

    def _fields_for(self, gate, layer, inputs):
        """A gate's inputs as fields, `[B, F, D]` or `[B, d]`; refused if none are left.

        After its first layer a tower without bridges has fields only if each layer
        gives as many components as it takes, and they are still the fields'.
        """
        tower, given = "deep", _flat(inputs).shape[-1]
        has_fields = given == sum(self.widths)
        if gate in self.explicit_gates:
            tower = self.tower
            if layer and not self.bridges:
                has_fields = self.explicit_layers[layer - 1].keeps_fields
        if not has_fields:
            raise ValueError(
                f"The gate of layer {layer + 1} of the {tower} tower has no fields to "
                f"weigh: what is below gives {given} components that are not those of "
                f"the {len(self.widths)} fields. Set gate_layers='input', or a bridge, "
                "which gives the fields' width again, or gate='none'"
            )
        return self._fields(inputs)

    def _fields(self, x):
        return ops.reshape(x, (-1, *self.fields_shape))

    def _context(self, fields):
        """Embeddings of the fields that gates are computed from, `[B, k]`."""
        if not self.options["gate_fields"]:
            return None
        names = [field["name"] for field in self.spec["fields"]]
        ends = [sum(self.widths[: i + 1]) for i in range(len(names))]
        flat = _flat(fields)
        chosen = [names.index(name) for name in self.options["gate_fields"]]
        columns = [flat[:, ends[i] - self.widths[i] : ends[i]] for i in chosen]
        return ops.concatenate(columns, axis=1)

    def gates(self):
        return {
            tower: ops.stack([gate.weights_of_fields() for gate in gates])
            for tower, gates in [
                (self.tower, self.explicit_gates),
                ("deep", self.deep_gates),
            ]
            if gates and isinstance(gates[0], FieldGate)
        }

    def get_config(self):
        return {**super().get_config(), **parts.to_config(self.options)}

    @classmethod
    def from_config(cls, config):
        return cls(**parts.from_config(config))


def _only_weighs(gate):
    """Whether a gate only weighs fields, and each row's alike."""
    return isinstance(gate, FieldGate) and not gate.batch_norm


def _weighed(gates, shared, own, is_own):
    """The first of these gates on fields that are in two parts."""
    if not gates:
        return shared, own
    return candidates.weighed(gates[0].weights_of_fields(), shared, own, is_own)


def _flat(x):
    return x if len(x.shape) == 2 else ops.reshape(x, (-1, x.shape[1] * x.shape[2]))
