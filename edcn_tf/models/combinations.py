"""Which options of a model can be had, with each other and with the data's fields."""

from collections.abc import Mapping, Sequence
from typing import Any

from edcn_tf.layers import ExplicitLayer
from edcn_tf.models.options import OPTIONS, OWNERS
from edcn_tf.models.widths import widths

Values = Mapping[str, Any]
Fields = Sequence[Mapping[str, Any]]


def check(options: Values, fields: Fields) -> None:
    """Raises a `ValueError`, with what to set instead, if options cannot be had.

    Args:
        options: All of `OPTIONS`, by name.
        fields: The data's fields, as `FeatureSpec.layout` has them.
    """
    for name, option in OPTIONS.items():
        option.check(name, options[name])
    _check_owners(options)
    _check_towers(options)
    _check_history(options, fields)
    _check_gate_fields(options, fields)
    widths(options["embedding_dim"], fields)


def _check_owners(options: Values) -> None:
    """Refuses what would be passed over without a word."""
    for name, (owner, values, refuses) in OWNERS.items():
        value, neutral, of = options[name], OPTIONS[name].default, options[owner]
        if not refuses or value == neutral or of == "none" or of in values:
            continue
        owners = " or ".join(map(repr, values))
        raise ValueError(
            f"`{name}` goes with {owner}={owners}: set it so, or {name}={neutral!r}. "
            f"Received: {name}={value!r} and {owner}={of!r}"
        )


def _check_towers(options: Values) -> None:
    has_explicit = options["explicit"] != "none"
    has_deep = options["deep_units"] not in ([], ())
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


def check_explicit(layer: ExplicitLayer, is_uniform: bool) -> None:
    """Raises a `ValueError` for a tower that cannot take fields of these widths."""
    if layer.takes_fields and not is_uniform:
        raise ValueError(
            f"{type(layer).__name__} multiplies fields with each other, so they must "
            "have one width: set `embedding_dim` to one number, or `explicit` to a "
            "cross network"
        )


def sequences(fields: Fields) -> list[str]:
    """Names of the sequences that are along no other, in their order."""
    return [
        field["name"]
        for field in fields
        if field.get("kind") == "sequence" and not field["along"]
    ]


def _check_history(options: Values, fields: Fields) -> None:
    history = options["history"]
    if history == "pooling":
        return
    chosen = history if isinstance(history, str) else type(history).__name__
    names = sequences(fields)
    if not names:
        raise ValueError(
            f"history={chosen!r} needs a field of kind 'sequence', and the data has "
            "none: add one to the schema, or set history='pooling'"
        )
    of = {field["name"]: field.get("of") for field in fields}
    without = [name for name in names if of[name] is None]
    if without:
        raise ValueError(
            f"history={chosen!r} looks at a history for a candidate, and "
            f"{without[0]!r} is not `of` a field that could be one: say so in the "
            "schema, or set history='pooling'"
        )
    if len(set(widths(options["embedding_dim"], fields))) > 1:
        raise ValueError(
            f"history={chosen!r} needs fields of one width: set `embedding_dim` to one "
            "number, or history='pooling'"
        )


def _check_gate_fields(options: Values, fields: Fields) -> None:
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
