"""Every model of EDCN's family, put together from its options."""

import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras

from edcn_tf.features.spec import FeatureSpec
from edcn_tf.layers import Deep, ExplicitLayer, LogOdds
from edcn_tf.layers.batch_norm import batch_norm
from edcn_tf.models import combinations, parts
from edcn_tf.models.declaration import shows
from edcn_tf.models.options import OPTIONS, Options, choose
from edcn_tf.models.towers import Towers
from edcn_tf.models.widths import deep_widths, widths

if TYPE_CHECKING:
    from typing_extensions import Unpack


@shows(OPTIONS)
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
        **options: As `Options` declares them.
        name, dtype, trainable: Keras' own.

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
        spec: FeatureSpec | dict[str, Any],
        *,
        name: str | None = None,
        **options: "Unpack[Options]",
    ) -> None:
        own = {key: value for key, value in options.items() if key not in OPTIONS}
        super().__init__(spec, name=name, **own)
        chosen = choose(options)
        chosen["embeddings_initializer"] = keras.initializers.serialize(
            keras.initializers.get(
                chosen["embeddings_initializer"]
                or keras.initializers.RandomNormal(stddev=0.1)
            )
        )
        fields = self.spec["fields"]
        combinations.check(chosen, fields)
        # As JSON: Keras would take a layer among them for a part of the model.
        self.options = parts.to_config(chosen)
        self.widths = widths(chosen["embedding_dim"], fields)
        if chosen["cross_rank"] is None:
            chosen["cross_rank"] = max(1, sum(self.widths) // 4)
        self._make_embeddings()
        self.histories = [
            self._part("history", chosen, f"history_of_{names[0]}")
            for names in self.embedding.sequences
        ]
        explicit = self._make_explicit(chosen)
        deep = self._make_deep(chosen)
        is_parallel = chosen["structure"] == "parallel"
        # Stacked, the deep tower's input is not the model's.
        gated = len(deep) if is_parallel or chosen["gate_layers"] == "all" else 0
        bridges = self._make_bridges(chosen, max(len(explicit), len(deep)))
        towers = [
            {
                "explicit_gates": self._make_gates(chosen, self.tower, len(explicit)),
                "explicit_layers": explicit,
            },
            {
                "deep_gates": self._make_gates(chosen, "deep", gated),
                "deep_layers": deep,
                "bridges": bridges,
            },
        ]
        self._keep([towers[0] | towers[1]] if is_parallel else towers)
        self.output_layer = LogOdds(name="output")

    def _keep(self, towers: Sequence[Mapping[str, list[Any]]]) -> None:
        """Makes lists of layers attributes: `summary` lists them as they are kept."""
        for lists in towers:
            for name in lists:
                setattr(self, name, [])
            for layer in range(max(map(len, lists.values()))):
                for name, layers in lists.items():
                    getattr(self, name).extend(layers[layer : layer + 1])

    def _make_embeddings(self) -> None:
        """The embedding of the fields and the linear term's, which draw alike."""
        shared: dict[str, Any] = {"unseen_rate": self.options["unseen_rate"]}
        if self.options["linear"]:
            # Where one has the unseen row in place of an id, so has the other.
            shared["seed"] = random.randrange(2**31)
        is_uniform = len(set(self.widths)) == 1
        is_pooled = self.options["history"] == "pooling"
        self.embedding = self._field_embedding(
            self.widths[0] if is_uniform else self.widths,
            self.options["l2"],
            self.options["embeddings_initializer"],
            whole=() if is_pooled else combinations.sequences(self.spec["fields"]),
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

    def _part(
        self, option: str, chosen: Mapping[str, Any], name: str, **kwargs: Any
    ) -> Any:
        """A new layer for an option; a named one with these arguments."""
        return parts.make(option, chosen, dtype=self.dtype_policy, name=name, **kwargs)

    def _make_explicit(self, chosen: Mapping[str, Any]) -> list[ExplicitLayer]:
        explicit = chosen["explicit"]
        self.tower = "explicit"  # what its layers and gates are called
        if not isinstance(explicit, ExplicitLayer):
            self.tower = explicit
        if explicit == "none":
            return []
        first = self._part("explicit", chosen, f"{self.tower}_0")
        combinations.check_explicit(first, self.embedding.is_uniform)
        others = 0 if first.is_single else chosen["num_layers"] - 1
        return [first] + [
            self._part("explicit", chosen, f"{self.tower}_{layer + 1}")
            for layer in range(others)
        ]

    def _make_deep(self, chosen: Mapping[str, Any]) -> list[Deep]:
        units = deep_widths(
            chosen["deep_units"], chosen["num_layers"], sum(self.widths)
        )
        return [
            Deep(
                width,
                activation=chosen["deep_activation"],
                activation_first=chosen["activation_first"],
                batch_norm=chosen["deep_batch_norm"],
                batch_norm_momentum=chosen["batch_norm_momentum"],
                batch_norm_epsilon=chosen["batch_norm_epsilon"],
                batch_norm_gamma=chosen["batch_norm_gamma"],
                dropout=chosen["dropout"],
                dtype=self.dtype_policy,
                name=f"deep_{layer}",
            )
            for layer, width in enumerate(units)
        ]

    def _make_bridges(
        self, chosen: Mapping[str, Any], depth: int
    ) -> list[keras.layers.Layer]:
        if chosen["bridge"] == "none":
            return []
        return [
            self._part("bridge", chosen, f"bridge_{layer}", units=sum(self.widths))
            for layer in range(depth)
        ]

    def _make_gates(
        self, chosen: Mapping[str, Any], tower: str, layers: int
    ) -> list[keras.layers.Layer]:
        if chosen["gate"] == "none":
            return []
        if chosen["gate_layers"] == "input":
            layers = min(layers, 1)
        kwargs: dict[str, Any] = {}
        if not self.embedding.is_uniform:
            kwargs["field_widths"] = self.widths
        if chosen["gate_batch_norm"] == "shared_scalar":
            kwargs["batch_norm"] = "scalar"
            kwargs["normalization"] = batch_norm(
                self.dtype_policy,
                chosen["batch_norm_momentum"],
                chosen["batch_norm_epsilon"],
                chosen["batch_norm_gamma"],
                name=f"{tower}_gate_normalization",
            )
        return [
            self._part("gate", chosen, f"{tower}_gate_{layer}", **kwargs)
            for layer in range(layers)
        ]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.options}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "ParallelCTR":
        if "bridge_scale" not in config:  # made before there was one
            config = {**config, "bridge_scale": config["bridge"] != "hadamard"}
        return cls(**parts.from_config(config))
