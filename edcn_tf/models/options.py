"""The options of `ParallelCTR`: all that is said of one is its declaration here.

The defaults, the checks, the signature and the docstring of the models, the keys of
`config.yaml` and their order, and what a search may choose when follow from them.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

import keras

from edcn_tf.layers import ExplicitLayer, HistoryLayer
from edcn_tf.layers.batch_norm import EPSILON, MOMENTUM, Gamma
from edcn_tf.models import parts
from edcn_tf.models.declaration import (
    HIDDEN_LAYERS,
    JUDGED_LATER,
    LAYERS,
    POSITIVE,
    SHARE,
    Option,
    declared_by,
)


class KerasArguments(TypedDict, total=False):
    """What any Keras model takes, beside its `name`."""

    dtype: Any
    trainable: bool


class Options(KerasArguments, total=False):
    """Name: its type, its declaration, its meaning; in the order of config.yaml."""

    embedding_dim: Annotated[
        int | list[int] | dict[str, int] | Literal["auto"] | None,
        Option(None, JUDGED_LATER),
        "Width D of each field's embedding; 32 of at most 16 fields and 16 of more if "
        "`None`. For fields of unequal width, a list in the fields' order, a dict by "
        'their names, or `"auto"`, by the number of their values '
        "(`edcn_tf.models.widths.widths`).",
    ]
    num_layers: Annotated[
        int,
        Option(2, most=1000),
        "Layers of the explicit tower, L, and of the deep one unless `deep_units` says "
        "otherwise. FM and inner products have one.",
    ]
    explicit: Annotated[
        str | ExplicitLayer,
        Option("cross", parts.kind("explicit")),
        'The explicit tower: `"cross"` (DCN), `"cross_matrix"` (DCN-V2), '
        '`"cross_low_rank"`, `"cross_mixture"` (of low-rank experts), `"fm"`, `"cin"` '
        '(xDeepFM), `"self_attention"` (AutoInt), `"inner_products"` (PNN), `"none"`, '
        "or an `ExplicitLayer` of your own.",
    ]
    cross_rank: Annotated[
        int | None,
        Option(None, of="explicit"),
        "Rank of the low-rank crosses; a quarter of the width if `None`.",
    ]
    cross_experts: Annotated[
        int, Option(4, of="explicit"), "Number of experts of the mixture."
    ]
    cross_residual: Annotated[
        bool,
        Option(True, of="explicit"),
        "Whether the cross of DCN adds its input, as it does everywhere but in the "
        "EDCN of FuxiCTR 2.",
    ]
    feature_maps: Annotated[
        int | None,
        Option(None, of="explicit"),
        "CIN's maps a layer; as many as fields if `None`.",
    ]
    attention_heads: Annotated[
        int, Option(2, of="explicit"), "AutoInt's heads, each of D / heads components."
    ]
    deep_units: Annotated[
        int | list[int] | None,
        Option(None, LAYERS),
        "Width of the deep layers: that of the embeddings if `None`, a number, or a "
        "list with that of each layer, such as `[512, 256, 128]`. `[]` is no deep "
        "tower.",
    ]
    structure: Annotated[
        Literal["parallel", "stacked"],
        Option("parallel"),
        "Whether the towers stand side by side, or the deep one on the explicit one.",
    ]
    linear: Annotated[
        bool,
        Option(False),
        "Whether to add a linear (wide) term, one weight a row of the table.",
    ]
    bridge: Annotated[
        str | keras.layers.Layer,
        Option("hadamard", parts.kind("bridge")),
        '`"add"`, `"hadamard"`, `"concat"`, `"attention"`, `"attention_components"`, '
        '`"none"` (late fusion), or a layer of your own.',
    ]
    bridge_scale: Annotated[
        bool,
        Option(True, of="bridge"),
        "Whether hadamard divides the product by the size of the deep tower's output, "
        "so that it does not vanish over the layers (`Bridge`).",
    ]
    bridge_shared_weights: Annotated[
        bool,
        Option(False, of="bridge"),
        "Whether the attention bridges use one set of weights for both towers.",
    ]
    gate: Annotated[
        str | keras.layers.Layer,
        Option("softmax", parts.kind("gate")),
        '`"softmax"` (the paper\'s), `"lhuc"`, `"squeeze_excitation"`, '
        '`"gatenet_scalar"`, `"gatenet_vector"`, `"dense"`, `"none"`, or a layer of '
        "your own. Each tower and each layer has its own.",
    ]
    gate_layers: Annotated[
        Literal["all", "input"],
        Option("all", idle_without=("gate", tuple(parts.GATES))),
        '`"all"`, or `"input"` for a gate before the first layers only.',
    ]
    gate_fields: Annotated[
        list[str] | None,
        Option(None, JUDGED_LATER, idle_without=("gate", ("lhuc",))),
        "Names of the fields whose embeddings LHUC's weights are computed from, such "
        "as the user's; by default from what it weighs.",
    ]
    gate_units: Annotated[
        int | None,
        Option(None, of="gate"),
        "Width of LHUC's hidden layer; see `LHUCGate`.",
    ]
    temperature: Annotated[
        float, Option(1.0, POSITIVE, of="gate"), "tau of the softmax gates."
    ]
    gate_scale: Annotated[
        bool,
        Option(True, of="gate"),
        "Whether gates start near 1 rather than smaller: softmax gates have the mean "
        "1, not the sum 1, and the sigmoids of squeeze-and-excitation and GateNet are "
        "doubled.",
    ]
    gate_batch_norm: Annotated[
        Literal[None, "scalar", "feature", "shared_scalar"],
        Option(None, of="gate"),
        'BatchNorm after each softmax gate: `None`, `"scalar"`, `"feature"`, or '
        '`"shared_scalar"`, one for all layers of a tower.',
    ]
    history: Annotated[
        str | HistoryLayer,
        Option("pooling", parts.kind("history")),
        "What becomes of each sequence that is along no other, such as a user's "
        'history, and of those along it: `"pooling"`, each by its schema\'s `pooling`, '
        "or one layer for them together, by the candidate that the sequence is `of`: "
        '`"din"` (local activation), `"dien"` (two GRUs), `"transformer"` (BST), or a '
        "`HistoryLayer` of your own. Either way each sequence is a field that gates, "
        "bridges and towers see as any other.",
    ]
    history_units: Annotated[
        list[int] | None,
        Option(None, HIDDEN_LAYERS, of="history"),
        "Widths of DIN's hidden layers; 80 and 40 if `None`.",
    ]
    auxiliary_weight: Annotated[
        float,
        Option(1.0, of="history"),
        "Strength of DIEN's loss of the next item.",
    ]
    history_heads: Annotated[
        int, Option(2, of="history"), "The transformer's attention heads."
    ]
    history_blocks: Annotated[int, Option(1, of="history"), "The transformer's blocks."]
    deep_batch_norm: Annotated[
        bool, Option(False), "Whether the deep layers normalize."
    ]
    batch_norm_momentum: Annotated[
        float,
        Option(MOMENTUM, SHARE),
        "Share of its moving averages that a step leaves a BatchNorm, here and after "
        "the gates. 0.9 (PyTorch calls it 0.1) where an epoch has few steps: they lag "
        "some 1 / (1 - share) steps behind.",
    ]
    batch_norm_epsilon: Annotated[
        float,
        Option(EPSILON, POSITIVE),
        "What a BatchNorm adds to the variance; 1e-5 in PyTorch.",
    ]
    batch_norm_gamma: Annotated[
        Gamma,
        Option("ones"),
        'What a BatchNorm\'s gamma starts as: `"ones"`, or `"uniform"` in [0, 1), as '
        "in PyTorch before version 1.2.",
    ]
    deep_activation: Annotated[
        Literal["relu", "dice"],
        Option("relu"),
        'That of the deep layers: `"relu"`, or `"dice"` (DIN\'s).',
    ]
    activation_first: Annotated[
        bool,
        Option(False),
        "Whether the deep layers apply ReLU before the matrix.",
    ]
    dropout: Annotated[
        float,
        Option(0.1),
        "Share of what the deep layers' ReLU gives that training sets to 0.",
    ]
    unseen_rate: Annotated[
        float,
        Option(0.05),
        "Share of the ids that training replaces by their field's unseen row.",
    ]
    l2: Annotated[
        float,
        Option(30.0),
        "Strength of the L2 by inverse frequency on the embeddings of a batch.",
    ]
    linear_l2: Annotated[
        float,
        Option(1.0, idle_without=("linear", (True,))),
        "The same for the linear term.",
    ]
    embeddings_initializer: Annotated[
        str | dict[str, Any] | keras.initializers.Initializer | None,
        Option(None, JUDGED_LATER),
        "Keras initializer of the table; a normal one of deviation 0.1 if `None`.",
    ]


OPTIONS = declared_by(Options)


class Owner(NamedTuple):
    """The option that decides whether another has a meaning, and for which values."""

    option: str
    values: tuple[Any, ...]
    refuses: bool = True  # to have the other set, where it has none


def _owner(name: str, option: Option) -> Owner | None:
    if option.of is not None:
        return Owner(option.of, parts.names_that_take(name, option.of))
    return option.idle_without and Owner(*option.idle_without, False)


OWNERS = {
    name: owner for name, option in OPTIONS.items() if (owner := _owner(name, option))
}


def choose(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """All options: as the arguments say, or by default."""
    return {name: arguments.get(name, o.default) for name, o in OPTIONS.items()}
