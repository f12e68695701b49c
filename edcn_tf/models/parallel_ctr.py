"""Every model of EDCN's family, put together from its options."""

import random

import keras

from edcn_tf.layers import Deep, ExplicitLayer, LogOdds
from edcn_tf.layers.batch_norm import batch_norm
from edcn_tf.models import options, parts
from edcn_tf.models.towers import Towers


@keras.saving.register_keras_serializable(package="edcn_tf")
class ParallelCTR(Towers):
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

    In place of a name, `explicit`, `bridge`, `gate` and `history` take a layer of your
    own, of which each layer of the model gets a new copy by its config. A bridge is
    called with x and h, `[B, d_x]` and `[B, d_h]`, and gives `[B, d]`, d the widths of
    the fields together; a gate with the fields, `[B, F, D]`, or `[B, d]` of unequal
    widths, and gives the same shape (with `takes_context`, also with what `gate_fields`
    name, `context`, `[B, k]`).

    The defaults are EDCN's, those that measured best on small public data. `FAMILY`
    has the options of the models with a name; `make_model` makes one.

    Args:
        spec: `FeatureSpec`.
        embedding_dim: Width D of each field's embedding; 32 of at most 16 fields and
            16 of more if `None`. For fields of unequal width, a list in the fields'
            order, a dict by their names, or `"auto"`, by the number of their values
            (`edcn_tf.models.options.widths`).
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
        bridge_scale: Whether hadamard divides the product by the size of the deep
            tower's output, so that it does not vanish over the layers (`Bridge`).
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
        gate_scale: Whether gates start near 1 rather than smaller: softmax gates have
            the mean 1, not the sum 1, and the sigmoids of squeeze-and-excitation and
            GateNet are doubled.
        gate_batch_norm: BatchNorm after each softmax gate: `None`, `"scalar"`,
            `"feature"`, or `"shared_scalar"`, one for all layers of a tower.
        history: What becomes of each sequence that is along no other, such as a user's
            history, and of those along it: `"pooling"`, each by its schema's `pooling`,
            or one layer for them together, by the candidate that the sequence is `of`:
            `"din"` (local activation), `"dien"` (two GRUs), `"transformer"` (BST), or a
            `HistoryLayer` of your own. Either way each sequence is a field that gates,
            bridges and towers see as any other.
        history_units: Widths of DIN's hidden layers; 80 and 40 if `None`.
        auxiliary_weight: Strength of DIEN's loss of the next item.
        history_heads, history_blocks: The transformer's attention heads, and blocks.
        deep_batch_norm: Whether the deep layers normalize.
        deep_activation: That of the deep layers: `"relu"`, or `"dice"` (DIN's).
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
        embedding_dim=None,
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
        bridge_scale=True,
        bridge_shared_weights=False,
        gate="softmax",
        gate_layers="all",
        gate_fields=None,
        gate_units=None,
        temperature=1.0,
        gate_scale=True,
        gate_batch_norm=None,
        history="pooling",
        history_units=None,
        auxiliary_weight=1.0,
        history_heads=2,
        history_blocks=1,
        deep_batch_norm=False,
        deep_activation="relu",
        activation_first=False,
        dropout=0.1,
        unseen_rate=0.05,
        l2=30.0,
        linear_l2=1.0,
        embeddings_initializer=None,
        **kwargs,
    ):
        given = dict(locals())  # before any other name
        for name in ("self", "spec", "kwargs", "__class__"):
            given.pop(name)
        super().__init__(spec, **kwargs)
        initializer = embeddings_initializer or keras.initializers.RandomNormal(
            stddev=0.1
        )
        given["embeddings_initializer"] = keras.initializers.serialize(
            keras.initializers.get(initializer)
        )
        fields = self.spec["fields"]
        options.check(given, fields)
        # As JSON: Keras would take a layer among them for a part of the model.
        self.options = parts.to_config(given)
        self.widths = options.widths(embedding_dim, fields)
        if cross_rank is None:
            given["cross_rank"] = max(1, sum(self.widths) // 4)
        self._make_embeddings()
        self.histories = [
            self._part("history", given, f"history_of_{names[0]}")
            for names in self.embedding.sequences
        ]
        explicit = self._make_explicit(given)
        deep = [
            Deep(
                width,
                activation=deep_activation,
                activation_first=activation_first,
                batch_norm=deep_batch_norm,
                dropout=dropout,
                dtype=self.dtype_policy,
                name=f"deep_{layer}",
            )
            for layer, width in enumerate(
                options.deep_units(deep_units, num_layers, sum(self.widths))
            )
        ]
        is_parallel = structure == "parallel"
        # Stacked, the deep tower's input is not the model's.
        gated = len(deep) if is_parallel or gate_layers == "all" else 0
        width, depth = sum(self.widths), max(len(explicit), len(deep))
        bridges = [
            self._part("bridge", given, f"bridge_{layer}", units=width)
            for layer in range(depth if bridge != "none" else 0)
        ]
        towers = [
            {
                "explicit_gates": self._make_gates(given, self.tower, len(explicit)),
                "explicit_layers": explicit,
            },
            {
                "deep_gates": self._make_gates(given, "deep", gated),
                "deep_layers": deep,
                "bridges": bridges,
            },
        ]
        self._keep([towers[0] | towers[1]] if is_parallel else towers)
        self.output_layer = LogOdds(name="output")

    def _keep(self, towers):
        """Makes lists of layers attributes: `summary` lists them as they are kept."""
        for lists in towers:
            for name in lists:
                setattr(self, name, [])
            for layer in range(max(map(len, lists.values()))):
                for name, layers in lists.items():
                    getattr(self, name).extend(layers[layer : layer + 1])

    def _make_embeddings(self):
        """The embedding of the fields and the linear term's, which draw alike."""
        shared = {"unseen_rate": self.options["unseen_rate"]}
        if self.options["linear"]:
            # Where one has the unseen row in place of an id, so has the other.
            shared["seed"] = random.randrange(2**31)
        is_uniform = len(set(self.widths)) == 1
        is_pooled = self.options["history"] == "pooling"
        self.embedding = self._field_embedding(
            self.widths[0] if is_uniform else self.widths,
            self.options["l2"],
            self.options["embeddings_initializer"],
            whole=() if is_pooled else options.sequences(self.spec["fields"]),
            **shared,
        )
        if self.options["linear"]:
            self.linear = self._field_embedding(
                1,
                self.options["linear_l2"],
                "zeros",
                **shared,
                dtype="float32",
                name="linear",
            )

    def _part(self, option, given, name, **kwargs):
        """A new layer for an option; a named one with these arguments."""
        return parts.make(option, given, dtype=self.dtype_policy, name=name, **kwargs)

    def _make_explicit(self, given):
        explicit = given["explicit"]
        self.tower = "explicit"  # what its layers and gates are called
        if not isinstance(explicit, ExplicitLayer):
            self.tower = explicit
        if explicit == "none":
            return []
        first = self._part("explicit", given, f"{self.tower}_0")
        options.check_explicit(first, self.embedding.is_uniform)
        others = 0 if first.is_single else given["num_layers"] - 1
        return [first] + [
            self._part("explicit", given, f"{self.tower}_{layer + 1}")
            for layer in range(others)
        ]

    def _make_gates(self, given, tower, layers):
        if given["gate"] == "none":
            return []
        if given["gate_layers"] == "input":
            layers = min(layers, 1)
        kwargs = {}
        if not self.embedding.is_uniform:
            kwargs["field_widths"] = self.widths
        if given["gate_batch_norm"] == "shared_scalar":
            kwargs["normalization"] = batch_norm(
                self.dtype_policy, f"{tower}_gate_normalization"
            )
        return [
            self._part("gate", given, f"{tower}_gate_{layer}", **kwargs)
            for layer in range(layers)
        ]

    def get_config(self):
        return {**super().get_config(), **self.options}

    @classmethod
    def from_config(cls, config):
        if "bridge_scale" not in config:  # made before there was one
            config = {**config, "bridge_scale": config["bridge"] != "hadamard"}
        return cls(**parts.from_config(config))
