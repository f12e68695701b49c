"""Tensors of many candidates for one user: rows that share some of their fields."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from edcn_tf.layers.candidate_rows import CandidateRows, Sharing, runs
from edcn_tf.tensors import Tensor


def together(
    shared: Tensor,
    own: Tensor,
    is_own: Sequence[bool],
    widths: Sequence[int] | None,
) -> Tensor:
    """Rows of all fields, of fields that N rows share and fields of their own.

    Args:
        shared: `[B, F_s, D]`, or `[B, d_s]` of fields of unequal width.
        own: `[B * N, F_c, D]`, or `[B * N, d_c]`.
        is_own: F booleans: of which of the two each field is, in their order.
        widths: The fields' widths, where they are unequal.

    Returns:
        `[B * N, F, D]`, or `[B * N, d]`.
    """
    if len(own.shape) == 3 or widths is None:
        widths = [1] * len(is_own)  # what a field takes on axis 1
    shared = repeated(shared, own)
    taken, parts = [0, 0], []
    for mine, start, end in runs(is_own):
        first = taken[mine]
        taken[mine] += sum(widths[start:end])
        parts.append((shared, own)[mine][:, first : taken[mine]])
    return ops.concatenate(parts, axis=1)


def weighed(
    weights: Tensor,
    shared: Tensor,
    own: Tensor,
    is_own: Sequence[bool],
) -> tuple[Tensor, Tensor]:
    """Fields in two parts, each times its weight, `[F]`."""
    mine = np.array(is_own)
    weights = ops.cast(weights, own.dtype)[:, None]
    return (
        shared * ops.take(weights, np.flatnonzero(~mine), axis=0),
        own * ops.take(weights, np.flatnonzero(mine), axis=0),
    )


def rows(shared: Tensor, own: Tensor, is_own: Sequence[bool]) -> CandidateRows:
    """Rows of all fields, `[B * N, F * D]`, in parts."""
    sharing = _sharing(shared, own, is_own)
    own_components = ops.reshape(own, (-1, own.shape[1] * own.shape[2]))
    return CandidateRows.of_fields(
        sharing, _of_users(shared, own, is_own), own_components
    )


def product(
    dense: keras.layers.Dense,
    shared: Tensor,
    own: Tensor,
    is_own: Sequence[bool],
) -> Tensor:
    """A Dense layer's output for rows of fields in two parts: `[B * N, units]`.

    A matrix times two parts side by side is a sum, one term of which the rows share:
    half of the work of two layers, where most fields are shared.
    """
    sharing = _sharing(shared, own, is_own)
    kernel = ops.cast(sharing.own(dense.kernel, 0), own.dtype)
    own_components = ops.reshape(own, (-1, kernel.shape[0]))
    return sharing.plus(
        lambda: ops.matmul(own_components, kernel),
        dense(_of_users(shared, own, is_own)),
    )


def _sharing(shared: Tensor, own: Tensor, is_own: Sequence[bool]) -> Sharing:
    components = [mine for mine in is_own for _ in range(own.shape[2])]
    return Sharing(components, ops.shape(shared)[0], ops.shape(own)[0])


def repeated(shared: Tensor, own: Tensor) -> Tensor:
    """Each row of B as often as there are rows of `own` for it."""
    rows = ops.maximum(ops.shape(shared)[0], 1)
    return ops.repeat(shared, ops.shape(own)[0] // rows, axis=0)


def _of_users(shared: Tensor, own: Tensor, is_own: Sequence[bool]) -> Tensor:
    """Users' fields among those of candidates, which are 0: `[B, F * D]`."""
    absent = ops.zeros((ops.shape(shared)[0], *own.shape[1:]), own.dtype)
    fields = together(shared, absent, is_own, None)  # [B, F, D]
    return ops.reshape(fields, (-1, len(is_own) * own.shape[2]))
