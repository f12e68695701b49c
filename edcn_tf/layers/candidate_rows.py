"""Rows of N candidates for each of B users, as sums that are put together late."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from edcn_tf.tensors import Tensor


def runs(flags: Sequence[bool]) -> Iterator[tuple[bool, int, int]]:
    """(flag, start, end) of each run of equal flags."""
    ends = [i for i in range(1, len(flags)) if flags[i] != flags[i - 1]]
    for start, end in zip([0, *ends], [*ends, len(flags)]):
        yield flags[start], start, end


class Sharing:
    """Which of d components are of the candidates' own fields, and of how many users.

    Args:
        is_own: d booleans; the other components are those of a user's fields.
        users: B, a scalar tensor.
        rows: B * N, a scalar tensor.
    """

    def __init__(self, is_own: Sequence[bool], users: Tensor, rows: Tensor) -> None:
        self.is_own = list(is_own)
        self.users, self.rows = users, rows

    def own(self, tensor: Tensor, axis: int) -> Tensor:
        """The candidates' own components of a tensor that has all d on this axis."""
        before = (slice(None),) * axis
        parts = [
            tensor[(*before, slice(start, end))]
            for mine, start, end in runs(self.is_own)
            if mine
        ]
        return parts[0] if len(parts) == 1 else ops.concatenate(parts, axis=axis)

    def others(self, tensor: Tensor) -> Tensor:
        """The same tensor with 0 at the candidates' own components, its last axis."""
        return tensor * ops.convert_to_tensor(~np.array(self.is_own), tensor.dtype)

    def matmul(self, rows: Tensor, matrices: Tensor) -> Tensor:
        """`[B * N, k]` by the matrix of each row's user, `[B, k, m]`: `[B * N, m]`."""
        return self.for_users(
            lambda: ops.matmul(rows, matrices[0]),
            lambda: _flat(ops.matmul(self.of_each_user(rows), matrices)),
        )

    def plus(self, rows: Callable[[], Tensor], of_users: Tensor) -> Tensor:
        """What a function gives, `[B * N, m]`, plus what users have, `[B, m]`."""
        return self.for_users(
            lambda: ops.add(rows(), of_users[0]),  # a bias, which joins a product
            lambda: _flat(self.of_each_user(rows()) + of_users[:, None]),
        )

    def of_each_user(self, rows: Tensor) -> Tensor:
        """`[B * N, k]` -> `[B, N, k]`."""
        candidates = self.rows // ops.maximum(self.users, 1)
        return ops.reshape(rows, (self.users, candidates, rows.shape[1]))

    def for_users(self, one: Callable, many: Callable) -> Tensor:
        """Two ways to the same: the usual request is of one user, and faster for that.

        TensorFlow's products of many matrices take several times as long where there
        is one.
        """
        return ops.cond(ops.equal(self.users, 1), one, many)


def _flat(x: Tensor) -> Tensor:
    return ops.reshape(x, (-1, x.shape[2]))


class CandidateRows:
    """Rows `[B * N, d]` of which N at a time share what their user's fields give.

        x_bn = sum_k a_bnk v_bk + own_bn + w * rest_bn

    a are numbers of the row, `[B * N, K]`, v are vectors of its user, `[B, K, d]`, own
    is 0 but at the components of the candidate's own fields, rest is of any form.

    A cross layer's output is of that form again, with another a, and so is what a gate
    gives. What such rows are multiplied with in the end, a matrix or another tensor
    that is then summed up, is taken of each term: `[B * N, d]` of the first two, most
    of the work of a layer without a matrix of its own, need not be made.

    `*`, `+` and the functions below take them like tensors `[B * N, d]`.

    Args:
        sharing: `Sharing`.
        terms: Of the terms above those that are there, by their kind.
    """

    def __init__(self, sharing: Sharing, *terms: Any) -> None:
        self.sharing = sharing
        self.terms = {type(term): term for term in terms}

    @classmethod
    def of_fields(
        cls, sharing: Sharing, of_users: Tensor, own: Tensor
    ) -> "CandidateRows":
        """Rows of what users have, and each candidate for itself.

        Args:
            sharing: `Sharing`.
            of_users: `[B, d]`, 0 at the candidates' own components; `[1, d]` for all.
            own: `[B * N, d_c]`, at these alone.
        """
        ones = ops.ones((sharing.rows, 1), own.dtype)
        vectors = of_users[:, None] * ops.ones((sharing.users, 1, 1), own.dtype)
        return cls(sharing, _OfUsers(sharing, ones, vectors), _Own(sharing, own))

    def alike(self, x: Any) -> "CandidateRows":
        """A tensor `[B * N, d]` as rows that share nothing; such rows as they are."""
        if isinstance(x, CandidateRows):
            return x
        return CandidateRows(self.sharing, _Rest(self.sharing, x))

    @property
    def shape(self) -> tuple[None, int]:
        return (None, len(self.sharing.is_own))

    def __mul__(self, factor: Tensor) -> "CandidateRows | Products":
        """By weights `[d]`, a factor of each row, `[B * N, 1]`, or `[B * N, d]`."""
        if len(factor.shape) == 1:
            terms = [term.weighed(factor) for term in self.terms.values()]
        elif factor.shape[1] == 1:
            terms = [term.scaled(factor) for term in self.terms.values()]
        else:
            return Products(self, factor)
        return CandidateRows(self.sharing, *terms)

    def __add__(self, other: Any) -> "CandidateRows":
        """Plus a bias `[d]`, `[B * N, d]`, or other such rows."""
        sharing = self.sharing
        if not isinstance(other, CandidateRows) and len(other.shape) == 1:
            other = ops.reshape(other, (1, -1))
            own = ops.ones((sharing.rows, 1), other.dtype) * sharing.own(other, 1)
            other = CandidateRows.of_fields(sharing, sharing.others(other), own)
        other = self.alike(other)
        terms = self.terms | {
            kind: self.terms[kind].plus(term) if kind in self.terms else term
            for kind, term in other.terms.items()
        }
        return CandidateRows(sharing, *terms.values())

    __radd__ = __add__

    def matmul(self, kernel: Tensor) -> Tensor:
        """Times a matrix, `[d, m]`: `[B * N, m]`."""
        return sum(term.matmul(kernel) for term in self.terms.values())

    def dot(self, others: Tensor, kernel: Tensor) -> Tensor:
        """Times `[B * N, d]`, and then times a matrix, `[d, 1]`: `[B * N, 1]`."""
        return sum(term.dot(others, kernel) for term in self.terms.values())

    @functools.cached_property
    def whole(self) -> Tensor:
        """The rows put together, `[B * N, d]`."""
        if list(self.terms) == [_Rest]:
            return self.terms[_Rest].whole()
        parts, taken = [], 0
        for mine, start, end in runs(self.sharing.is_own):
            if mine:
                first, taken = taken, taken + end - start
                parts.append(self.terms[_Own].values[:, first:taken])
            else:
                parts.append(self.terms[_OfUsers].columns(start, end))
        whole = ops.concatenate(parts, axis=1)
        return whole + self.terms[_Rest].whole() if _Rest in self.terms else whole


class Products:
    """Products x * h * s of `CandidateRows` and tensors: what a bridge makes of them.

    `*`, `+` and the functions below take them like tensors `[B * N, d]`.

    Args:
        rows: x.
        others: h, `[B * N, d]`.
        factors: s, a number of each row, `[B * N, 1]`; `None` for 1.
    """

    def __init__(
        self, rows: CandidateRows, others: Tensor, factors: Tensor | None = None
    ) -> None:
        self.rows, self.others, self.factors = rows, others, factors

    @property
    def shape(self) -> tuple[None, int]:
        return self.rows.shape

    def __mul__(self, factors: Tensor) -> "Products":
        """By a number of each row, `[B * N, 1]`."""
        if self.factors is not None:
            factors = self.factors * factors
        return Products(self.rows, self.others, factors)

    def __add__(self, other: Any) -> Tensor:
        """Plus `CandidateRows` or `[B * N, d]`."""
        return self.whole + whole(other)

    def matmul(self, kernel: Tensor) -> Tensor:
        """Times a matrix, `[d, m]`: `[B * N, m]`."""
        if kernel.shape[1] > 1:
            return ops.matmul(self.whole, kernel)
        sums = self.rows.dot(self.others, kernel)
        return sums if self.factors is None else sums * self.factors

    @functools.cached_property
    def whole(self) -> Tensor:
        """The products, `[B * N, d]`."""
        rows = self.rows if self.factors is None else self.rows * self.factors
        return rows.whole * self.others


def matmul(x: Any, kernel: Tensor) -> Tensor:
    """`ops.matmul`, for rows of candidates, too."""
    return x.matmul(kernel) if _is_in_parts(x) else ops.matmul(x, kernel)


def add(x: Any, bias: Tensor) -> Any:
    """`ops.add`, for rows of candidates, too."""
    return x + bias if _is_in_parts(x) else ops.add(x, bias)


def whole(x: Any) -> Tensor:
    """A tensor, of rows of candidates, too."""
    return x.whole if _is_in_parts(x) else x


def called(layer: keras.layers.Layer, *inputs: Any) -> Any:
    """What a layer gives, of which only tensors can go through Keras' own call."""
    if any(map(_is_in_parts, tree.flatten(inputs))):
        return layer.call(*inputs)
    return layer(*inputs)


def _is_in_parts(x: Any) -> bool:
    return isinstance(x, CandidateRows | Products)


@dataclasses.dataclass
class _OfUsers:
    """sum_k a_bnk v_bk, v being 0 at the candidates' own components."""

    sharing: Sharing
    numbers: Tensor
    vectors: Tensor

    def plus(self, other: "_OfUsers") -> "_OfUsers":
        numbers = ops.concatenate([self.numbers, other.numbers], axis=1)
        vectors = ops.concatenate([self.vectors, other.vectors], axis=1)
        return _OfUsers(self.sharing, numbers, vectors)

    def weighed(self, weights: Tensor) -> "_OfUsers":
        return _OfUsers(self.sharing, self.numbers, self.vectors * weights)

    def scaled(self, factors: Tensor) -> "_OfUsers":
        return _OfUsers(self.sharing, self.numbers * factors, self.vectors)

    def matmul(self, kernel: Tensor) -> Tensor:
        return self.sharing.matmul(self.numbers, ops.matmul(self.vectors, kernel))

    def dot(self, others: Tensor, kernel: Tensor) -> Tensor:
        vectors = ops.transpose(self.vectors, (0, 2, 1)) * kernel  # [B, d, K]
        products = self.numbers * self.sharing.matmul(others, vectors)
        return ops.sum(products, axis=1, keepdims=True)

    def columns(self, start: int, end: int) -> Tensor:
        return self.sharing.matmul(self.numbers, self.vectors[:, :, start:end])


@dataclasses.dataclass
class _Own:
    """own_bn, `[B * N, d_c]`."""

    sharing: Sharing
    values: Tensor

    def plus(self, other: "_Own") -> "_Own":
        return _Own(self.sharing, self.values + other.values)

    def weighed(self, weights: Tensor) -> "_Own":
        return _Own(self.sharing, self.values * self.sharing.own(weights, 0))

    def scaled(self, factors: Tensor) -> "_Own":
        return _Own(self.sharing, self.values * factors)

    def matmul(self, kernel: Tensor) -> Tensor:
        return ops.matmul(self.values, self.sharing.own(kernel, 0))

    def dot(self, others: Tensor, kernel: Tensor) -> Tensor:
        products = self.values * self.sharing.own(others, 1)
        return ops.matmul(products, self.sharing.own(kernel, 0))


@dataclasses.dataclass
class _Rest:
    """w * rest_bn, rest `[B * N, d]`, w `[d]` or `None` for ones."""

    sharing: Sharing
    values: Tensor
    weights: Tensor | None = None

    def plus(self, other: "_Rest") -> "_Rest":
        return _Rest(self.sharing, self.whole() + other.whole())

    def weighed(self, weights: Tensor) -> "_Rest":
        if self.weights is not None:
            weights = self.weights * weights
        return _Rest(self.sharing, self.values, weights)

    def scaled(self, factors: Tensor) -> "_Rest":
        return _Rest(self.sharing, self.values * factors, self.weights)

    def matmul(self, kernel: Tensor) -> Tensor:
        return ops.matmul(self.values, self._weighing(kernel))

    def dot(self, others: Tensor, kernel: Tensor) -> Tensor:
        return ops.matmul(self.values * others, self._weighing(kernel))

    def whole(self) -> Tensor:
        return self.values if self.weights is None else self.values * self.weights

    def _weighing(self, kernel: Tensor) -> Tensor:
        return kernel if self.weights is None else self.weights[:, None] * kernel
