"""How wide embeddings and deep layers are, as the options say it."""

from collections.abc import Mapping, Sequence
from typing import Any

from edcn_tf.checks import are_whole, is_whole

LARGEST_AUTO_WIDTH = 64
# Towers are as wide as all fields together, so few fields need wider embeddings.
FEW_FIELDS, WIDTH_OF_FEW, WIDTH_OF_MANY = 16, 32, 16


def widths(embedding_dim: Any, fields: Sequence[Mapping[str, Any]]) -> list[int]:
    """The width of each field's embedding.

    Args:
        embedding_dim: `None`, for 32 of at most 16 fields and 16 of more; one number; a
            list in the fields' order; a dict by the fields' names; or `"auto"`: 6
            times the fourth root of the field's rows (Wang et al. 2017, section 4.1),
            of a vector that of its numbers, up to the next multiple of 4, so that few
            tables are needed, and at most 64.
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
        return [
            _auto_width(field["slots"] - 1 if "vector" in field else field["rows"])
            for field in fields
        ]
    if isinstance(embedding_dim, dict):
        if set(embedding_dim) != set(names):
            raise ValueError(
                f"`embedding_dim` by name must have each of {names}. "
                f"Received: {embedding_dim}"
            )
        embedding_dim = [embedding_dim[name] for name in names]
    if not isinstance(embedding_dim, (list, tuple)):
        embedding_dim = [embedding_dim] * len(fields)
    if len(embedding_dim) != len(fields) or not are_whole(embedding_dim, 1):
        raise ValueError(
            "`embedding_dim` must be a whole number of at least 1, a list with one for "
            f"each of {names}, a dict by these names, or 'auto'. "
            f"Received: {embedding_dim}"
        )
    return list(embedding_dim)


def _auto_width(rows: int) -> int:
    return min(LARGEST_AUTO_WIDTH, 4 * -(-int(6 * rows**0.25) // 4))


def deep_widths(deep_units: Any, num_layers: int, width: int) -> list[int]:
    """The width of each deep layer; `width` for `None`."""
    if deep_units is None:
        deep_units = width
    if is_whole(deep_units):
        return [deep_units] * num_layers
    return list(deep_units)
