"""What a model's options mean and which exclude each other."""

from edcn_tf.layers.deep import ACTIVATIONS
from edcn_tf.layers.gates.field_gate import BATCH_NORMS
from edcn_tf.models import parts

STRUCTURES = ("parallel", "stacked")
GATE_LAYERS = ("all", "input")
LARGEST_AUTO_WIDTH = 64
# Towers are as wide as all fields together, so few fields need wider embeddings.
FEW_FIELDS, WIDTH_OF_FEW, WIDTH_OF_MANY = 16, 32, 16
MOST_LAYERS = 1000


# Option -> what decides whether it has a meaning, for which of its values, and what
# stands for no choice.
BELONGS = {
    "cross_residual": ("explicit", ("cross",), True),
    "cross_rank": ("explicit", ("cross_low_rank", "cross_mixture"), None),
    "cross_experts": ("explicit", ("cross_mixture",), 4),
    "feature_maps": ("explicit", ("cin",), None),
    "attention_heads": ("explicit", ("self_attention",), 2),
    "bridge_scale": ("bridge", ("hadamard",), True),
    "bridge_shared_weights": ("bridge", ("attention", "attention_components"), False),
    "gate_units": ("gate", ("lhuc",), None),
    "temperature": ("gate", ("softmax",), 1.0),
    "gate_batch_norm": ("gate", ("softmax",), None),
    "history_units": ("history", ("din",), None),
    "auxiliary_weight": ("history", ("dien",), 1.0),
    "history_heads": ("history", ("transformer",), 2),
    "history_blocks": ("history", ("transformer",), 1),
    "gate_scale": (
        "gate",
        ("softmax", "squeeze_excitation", "gatenet_scalar", "gatenet_vector"),
        True,
    ),
}
WHOLE = (
    *("num_layers", "cross_experts", "attention_heads"),
    *("history_heads", "history_blocks"),
)
WHOLE_OR_NONE = ("cross_rank", "feature_maps", "gate_units")
NOT_NEGATIVE = ("dropout", "unseen_rate", "l2", "linear_l2", "auxiliary_weight")
FLAGS = (
    *("cross_residual", "linear", "bridge_scale", "bridge_shared_weights"),
    *("gate_scale", "deep_batch_norm", "activation_first"),
)


def check(options, fields):
    """Raises a `ValueError`, with what to set instead, if options cannot be had."""
    for option in parts.NAMED:
        parts.check(option, options[option])
    for option, known in [
        ("structure", STRUCTURES),
        ("gate_layers", GATE_LAYERS),
        ("gate_batch_norm", (*BATCH_NORMS, "shared_scalar")),
        ("deep_activation", ACTIVATIONS),
    ]:
        if options[option] not in list(known):
            raise ValueError(
                f"`{option}` must be one of {list(known)}. "
                f"Received: {options[option]!r}"
            )
    _check_values(options)
    _check_owners(options)
    _check_towers(options)
    _check_history(options, fields)
    _check_gate_fields(options, fields)


def _check_values(options):
    for option in (*WHOLE, *WHOLE_OR_NONE):
        value = options[option]
        if value is None and option in WHOLE_OR_NONE:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(
                f"`{option}` must be a whole number, at least 1. Received: {value!r}"
            )
    if options["num_layers"] > MOST_LAYERS:
        raise ValueError(
            f"`num_layers` must be at most {MOST_LAYERS}. "
            f"Received: {options['num_layers']!r}"
        )
    for option in NOT_NEGATIVE:
        value = options[option]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
            raise ValueError(
                f"`{option}` must be a number, at least 0. Received: {value!r}"
            )
    temperature = options["temperature"]
    if not isinstance(temperature, (int, float)) or not temperature > 0:
        raise ValueError(
            f"`temperature` must be a number > 0. Received: {temperature!r}"
        )
    for option in FLAGS:
        if not isinstance(options[option], bool):
            raise ValueError(
                f"`{option}` must be true or false. Received: {options[option]!r}"
            )


def _check_owners(options):
    """Refuses what would be passed over without a word."""
    for option, (owner, values, neutral) in BELONGS.items():
        chosen = options[owner]
        nothing = "none" if owner != "history" else None
        if options[option] == neutral or chosen == nothing or chosen in list(values):
            continue
        owners = " or ".join(map(repr, values))
        raise ValueError(
            f"`{option}` goes with {owner}={owners}: set it so, or {option}={neutral!r}"
            f". Received: {option}={options[option]!r} and {owner}={chosen!r}"
        )


def _check_towers(options):
    has_explicit = options["explicit"] != "none"
    has_deep = bool(deep_units(options["deep_units"], options["num_layers"]))
    if not has_explicit and not has_deep:
        raise ValueError(
            "A model needs a tower: set `explicit`, or `deep_units` other than []; "
            "for a linear model take LogisticRegression. "
            "Received: explicit='none' and deep_units=[]"
        )
    both = has_explicit and has_deep
    if options["bridge"] != "none" and not both:
        raise ValueError(
            "A bridge joins two towers, and there is one: set bridge='none', or give "
            f"the other tower (`explicit`, `deep_units`). Received: "
            f"bridge={options['bridge']!r}"
        )
    if options["structure"] == "stacked":
        if not both:
            raise ValueError(
                "structure='stacked' puts the deep tower on the explicit one: set "
                "`explicit` and `deep_units`, or structure='parallel'"
            )
        if options["bridge"] != "none":
            raise ValueError(
                "A bridge joins towers that stand side by side: set bridge='none', or "
                f"structure='parallel'. Received: bridge={options['bridge']!r}"
            )


def check_explicit(layer, is_uniform):
    """Raises a `ValueError` for a tower that cannot take fields of these widths."""
    if layer.takes_fields and not is_uniform:
        raise ValueError(
            f"{type(layer).__name__} multiplies fields with each other, so they must "
            "have one width: set `embedding_dim` to one number, or `explicit` to a "
            "cross network"
        )


def sequences(fields):
    """Names of the sequences that are along no other, in their order."""
    return [
        field["name"]
        for field in fields
        if field.get("kind") == "sequence" and not field["along"]
    ]


def _check_history(options, fields):
    units = options["history_units"]
    if units is not None and (
        not isinstance(units, (list, tuple))
        or not units
        or any(isinstance(u, bool) or not isinstance(u, int) or u < 1 for u in units)
    ):
        raise ValueError(
            "`history_units` must be a list of whole numbers of at least 1. "
            f"Received: {units!r}"
        )
    if options["history"] == "pooling":
        return
    names = sequences(fields)
    if not names:
        raise ValueError(
            f"history={_named(options['history'])!r} needs a field of kind 'sequence', "
            "and the data has none: add one to the schema, or set history='pooling'"
        )
    of = {field["name"]: field.get("of") for field in fields}
    without = [name for name in names if of[name] is None]
    if without:
        raise ValueError(
            f"history={_named(options['history'])!r} looks at a history for a "
            f"candidate, and {without[0]!r} is not `of` a field that could be one: say "
            "so in the schema, or set history='pooling'"
        )
    if len(set(widths(options["embedding_dim"], fields))) > 1:
        raise ValueError(
            f"history={_named(options['history'])!r} needs fields of one width: set "
            "`embedding_dim` to one number, or history='pooling'"
        )


def _named(part):
    return part if isinstance(part, str) else type(part).__name__


def _check_gate_fields(options, fields):
    chosen = options["gate_fields"]
    if not chosen:
        return
    gate = options["gate"]
    if gate != "lhuc" and not getattr(gate, "takes_context", False):
        raise ValueError(
            "`gate_fields` are what LHUC's weights are computed from: set gate='lhuc', "
            f"or leave `gate_fields` out. Received: gate={gate!r}"
        )
    names = [field["name"] for field in fields]
    if not isinstance(chosen, (list, tuple)) or any(n not in names for n in chosen):
        raise ValueError(
            f"`gate_fields` must be a list of names out of {names}. "
            f"Received: {chosen!r}"
        )


def deep_units(units, num_layers, width=1):
    """The width of each deep layer, a list; `width` for `None`."""
    if units is None or isinstance(units, int):
        units = [width if units is None else units] * num_layers
    if not isinstance(units, (list, tuple)) or any(
        isinstance(each, bool) or not isinstance(each, int) or each < 1
        for each in units
    ):
        raise ValueError(
            "`deep_units` must be a whole number of at least 1, or a list of them. "
            f"Received: {units!r}"
        )
    return list(units)


def widths(embedding_dim, fields):
    """The width of each field's embedding, a list.

    Args:
        embedding_dim: `None`, for 32 of at most 16 fields and 16 of more; one number; a
            list in the fields' order; a dict by the fields' names; or `"auto"`: 6
            times the fourth root of the field's rows (Wang et al. 2017, section 4.1),
            up to the next multiple of 4, so that few tables are needed, and at most
            64.
        fields: The fields, dicts with `name` and, for `"auto"`, `rows`.

    Raises:
        ValueError: If it is none of these.
    """
    names = [field["name"] for field in fields]
    if embedding_dim is None:
        embedding_dim = WIDTH_OF_FEW if len(fields) <= FEW_FIELDS else WIDTH_OF_MANY
    if embedding_dim == "auto":
        if any("rows" not in field for field in fields):
            raise ValueError("embedding_dim='auto' needs the fields' `rows`")
        return [_auto_width(field["rows"]) for field in fields]
    if isinstance(embedding_dim, dict):
        if sorted(embedding_dim) != sorted(names):
            raise ValueError(
                f"`embedding_dim` by name must have each of {names}. "
                f"Received: {embedding_dim}"
            )
        embedding_dim = [embedding_dim[name] for name in names]
    if not isinstance(embedding_dim, (list, tuple)):
        embedding_dim = [embedding_dim] * len(fields)
    if len(embedding_dim) != len(fields) or any(
        isinstance(width, bool) or not isinstance(width, int) or width < 1
        for width in embedding_dim
    ):
        raise ValueError(
            "`embedding_dim` must be a whole number of at least 1, a list with one for "
            f"each of {names}, a dict by these names, or 'auto'. "
            f"Received: {embedding_dim}"
        )
    return list(embedding_dim)


def _auto_width(rows):
    return min(LARGEST_AUTO_WIDTH, 4 * -(-int(6 * rows**0.25) // 4))
