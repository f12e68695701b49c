"""Tensors of many candidates for one user: rows that share some of their fields."""

from collections.abc import Iterator, Sequence

import keras
import numpy as np
from keras import ops

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


def runs(flags: Sequence[bool]) -> Iterator[tuple[bool, int, int]]:
    """(flag, start, end) of each run of equal flags."""
    ends = [i for i in range(1, len(flags)) if flags[i] != flags[i - 1]]
    for start, end in zip([0, *ends], [*ends, len(flags)]):
        yield flags[start], start, end


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
    width = own.shape[2]
    kernel = [
        dense.kernel[start * width : end * width]
        for mine, start, end in runs(is_own)
        if mine
    ]
    kernel = kernel[0] if len(kernel) == 1 else ops.concatenate(kernel)
    kernel = ops.cast(kernel, own.dtype)
    rows = ops.matmul(ops.reshape(own, (-1, kernel.shape[0])), kernel)
    absent = ops.zeros((ops.shape(shared)[0], *own.shape[1:]), own.dtype)
    of_users = together(shared, absent, is_own, None)  # [B, F, D]
    of_users = dense(ops.reshape(of_users, (-1, len(is_own) * width)))
    return _plus(rows, of_users)


def repeated(shared: Tensor, own: Tensor) -> Tensor:
    """Each row of B as often as there are rows of `own` for it."""
    rows = ops.maximum(ops.shape(shared)[0], 1)
    return ops.repeat(shared, ops.shape(own)[0] // rows, axis=0)


def _plus(rows: Tensor, shared: Tensor) -> Tensor:
    """`[B * N, d]` plus what each N of them share, `[B, d]`."""
    batch, width = ops.shape(shared)[0], rows.shape[-1]
    number = ops.shape(rows)[0] // ops.maximum(batch, 1)
    total = ops.reshape(rows, (batch, number, width)) + shared[:, None]
    return ops.reshape(total, (-1, width))
