"""The gates, bridges, towers and history layers that have a name; how each is made.

A name stands for a layer; a model takes a Keras layer of one's own in its place.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras

from edcn_tf import layers
from edcn_tf.models.declaration import Kind


@dataclasses.dataclass(frozen=True)
class Part:
    """A layer with a name.

    Args:
        layer: Its class.
        takes: Argument of the class -> the option that it is.
        fixed: Arguments that the name stands for.
    """

    layer: type[keras.layers.Layer]
    takes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)


SCALE = {"scale": "gate_scale"}
NORM = {
    "batch_norm": "gate_batch_norm",
    "batch_norm_momentum": "batch_norm_momentum",
    "batch_norm_epsilon": "batch_norm_epsilon",
    "batch_norm_gamma": "batch_norm_gamma",
}
SHARED = {"shared_weights": "bridge_shared_weights"}
GATES = {
    "softmax": Part(layers.FieldGate, {"temperature": "temperature", **SCALE, **NORM}),
    "lhuc": Part(layers.LHUCGate, {"hidden_units": "gate_units"}),
    "squeeze_excitation": Part(layers.SqueezeExcitationGate, SCALE),
    "gatenet_scalar": Part(layers.FeatureEmbeddingGate, SCALE),
    "gatenet_vector": Part(layers.FeatureEmbeddingGate, SCALE, {"vector": True}),
    "dense": Part(layers.DenseGate),
}
EXPLICIT = {
    "cross": Part(layers.Cross, {"residual": "cross_residual"}),
    "cross_matrix": Part(layers.MatrixCross),
    "cross_low_rank": Part(layers.MatrixCross, {"rank": "cross_rank"}),
    "cross_mixture": Part(
        layers.MixtureCross, {"rank": "cross_rank", "num_experts": "cross_experts"}
    ),
    "fm": Part(layers.FactorizationMachine),
    "cin": Part(layers.CompressedInteraction, {"feature_maps": "feature_maps"}),
    "self_attention": Part(layers.FieldAttention, {"num_heads": "attention_heads"}),
    "inner_products": Part(layers.InnerProducts),
}
BRIDGES = {
    kind: Part(layers.Bridge, takes, {"kind": kind})
    for kind, takes in {
        "add": {},
        "hadamard": {"scale": "bridge_scale"},
        "concat": {},
        "attention": SHARED,
        "attention_components": SHARED,
    }.items()
}
HISTORIES = {
    "din": Part(layers.LocalActivation, {"units": "history_units"}),
    "dien": Part(layers.InterestEvolution, {"auxiliary_weight": "auxiliary_weight"}),
    "transformer": Part(
        layers.HistoryTransformer,
        {
            "num_heads": "history_heads",
            "num_blocks": "history_blocks",
            "dropout": "dropout",
        },
    ),
}
NAMED = {"gate": GATES, "explicit": EXPLICIT, "bridge": BRIDGES, "history": HISTORIES}
NOTHING = {"history": "pooling"}  # what stands for no layer, if not "none"
OWN: dict[str, type[keras.layers.Layer]] = {
    "explicit": layers.ExplicitLayer,
    "history": layers.HistoryLayer,
}


def kind(option: str) -> Kind:
    """What an option of `NAMED` may be: a name, none, or a layer."""
    known = [NOTHING.get(option, "none"), *NAMED[option]]
    own = OWN.get(option, keras.layers.Layer)
    return Kind(
        lambda value: isinstance(value, own) or value in known,
        f"one of {known}, or a {own.__name__} of your own",
    )


def names_that_take(option: str, of: str) -> tuple[str, ...]:
    """The parts of `of` that take an option as an argument."""
    return tuple(
        name for name, part in NAMED[of].items() if option in part.takes.values()
    )


def make(
    option: str, options: Mapping[str, Any], *, dtype: Any, name: str, **kwargs: Any
) -> keras.layers.Layer | None:
    """A layer of a model's options.

    Args:
        option: `"gate"`, `"explicit"`, `"bridge"` or `"history"`.
        options: The model's options. One that is `None` leaves the layer's default.
        dtype: The model's dtype policy.
        name: The layer's name.
        **kwargs: Arguments of the named layers that follow from the model.

    Returns:
        The layer, or `None` where there is none.
    """
    value = options[option]
    if value == NOTHING.get(option, "none"):
        return None
    if isinstance(value, keras.layers.Layer):
        config = {**value.get_config(), "name": name, "dtype": dtype}
        return type(value).from_config(config)
    part = NAMED[option][value]
    chosen = {
        argument: options[key]
        for argument, key in part.takes.items()
        if options[key] is not None
    }
    return part.layer(**{**part.fixed, **chosen, **kwargs}, dtype=dtype, name=name)


def to_config(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as JSON."""
    return {
        key: keras.saving.serialize_keras_object(value)
        if isinstance(value, keras.layers.Layer)
        else value
        for key, value in options.items()
    }


def from_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A model's config, with the layers that `to_config` stored."""
    return {
        key: keras.saving.deserialize_keras_object(value)
        if key in NAMED and isinstance(value, dict)
        else value
        for key, value in config.items()
    }
