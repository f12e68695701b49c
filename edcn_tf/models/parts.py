"""The gates, bridges, towers and history layers that have a name; how each is made.

A name stands for a layer; a model takes a Keras layer of one's own in its place.
"""

import keras

from edcn_tf import layers
from edcn_tf.layers.bridge import KINDS


def _softmax_gate(options, **kwargs):
    batch_norm = options["gate_batch_norm"]
    return layers.FieldGate(
        options["temperature"],
        scale=options["gate_scale"],
        batch_norm="scalar" if batch_norm == "shared_scalar" else batch_norm,
        **kwargs,
    )


# Each: from a model's options, and arguments of every layer, to a layer.
GATES = {
    "softmax": _softmax_gate,
    "lhuc": lambda options, **kwargs: layers.LHUCGate(options["gate_units"], **kwargs),
    "squeeze_excitation": lambda options, **kwargs: layers.SqueezeExcitationGate(
        scale=options["gate_scale"], **kwargs
    ),
    "gatenet_scalar": lambda options, **kwargs: layers.FeatureEmbeddingGate(
        scale=options["gate_scale"], **kwargs
    ),
    "gatenet_vector": lambda options, **kwargs: layers.FeatureEmbeddingGate(
        True, scale=options["gate_scale"], **kwargs
    ),
    "dense": lambda options, **kwargs: layers.DenseGate(**kwargs),
}
EXPLICIT = {
    "cross": lambda options, **kwargs: layers.Cross(
        residual=options["cross_residual"], **kwargs
    ),
    "cross_matrix": lambda options, **kwargs: layers.MatrixCross(**kwargs),
    "cross_low_rank": lambda options, **kwargs: layers.MatrixCross(
        options["cross_rank"], **kwargs
    ),
    "cross_mixture": lambda options, **kwargs: layers.MixtureCross(
        options["cross_rank"], options["cross_experts"], **kwargs
    ),
    "fm": lambda options, **kwargs: layers.FactorizationMachine(**kwargs),
    "cin": lambda options, **kwargs: layers.CompressedInteraction(
        options["feature_maps"], **kwargs
    ),
    "self_attention": lambda options, **kwargs: layers.FieldAttention(
        options["attention_heads"], **kwargs
    ),
    "inner_products": lambda options, **kwargs: layers.InnerProducts(**kwargs),
}
BRIDGES = {
    kind: lambda options, kind=kind, **kwargs: layers.Bridge(
        kind,
        scale=kind == "hadamard" and options["bridge_scale"],
        shared_weights=options["bridge_shared_weights"],
        **kwargs,
    )
    for kind in KINDS
}
HISTORIES = {
    "din": lambda options, **kwargs: layers.LocalActivation(
        *([options["history_units"]] if options["history_units"] else []), **kwargs
    ),
    "dien": lambda options, **kwargs: layers.InterestEvolution(
        options["auxiliary_weight"], **kwargs
    ),
    "transformer": lambda options, **kwargs: layers.HistoryTransformer(
        options["history_heads"],
        options["history_blocks"],
        options["dropout"],
        **kwargs,
    ),
}
NAMED = {"gate": GATES, "explicit": EXPLICIT, "bridge": BRIDGES, "history": HISTORIES}
NOTHING = {"history": "pooling"}  # what stands for no layer, if not "none"
OWN = {"explicit": layers.ExplicitLayer, "history": layers.HistoryLayer}


def check(option, value):
    """Raises `ValueError` unless the option's value is a name, `"none"` or a layer."""
    known = [NOTHING.get(option, "none"), *NAMED[option]]
    own = OWN.get(option, keras.layers.Layer)
    if not isinstance(value, own) and value not in known:
        raise ValueError(
            f"`{option}` must be one of {known}, or a {own.__name__} of your own. "
            f"Received: {value!r}"
        )


def make(option, options, *, dtype, name, **kwargs):
    """A layer of a model's options.

    Args:
        option: `"gate"`, `"explicit"`, `"bridge"` or `"history"`.
        options: The model's options.
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
    return NAMED[option][value](options, dtype=dtype, name=name, **kwargs)


def to_config(options):
    """Options as JSON."""
    return {
        key: keras.saving.serialize_keras_object(value)
        if isinstance(value, keras.layers.Layer)
        else value
        for key, value in options.items()
    }


def from_config(config):
    """A model's config, with the layers that `to_config` stored."""
    return {
        key: keras.saving.deserialize_keras_object(value)
        if key in NAMED and isinstance(value, dict)
        else value
        for key, value in config.items()
    }
