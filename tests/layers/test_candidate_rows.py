"""Rows of candidates in parts, against the same formulas on whole rows in float64."""

import numpy as np
import pytest
import tensorflow as tf

from edcn_tf.layers import Bridge, Cross, Deep, LogOdds, MatrixCross
from edcn_tf.layers.candidate_rows import (
    CandidateRows,
    Products,
    Sharing,
    add,
    called,
    matmul,
    whole,
)
from helpers.layer_check import assert_close

OWN = {
    "last": [False, False, False, True, True],
    "first": [True, True, False, False, False],
    "between": [False, True, False, True, False],
    "most": [True, True, False, True, True],
}
SHAPES = [(1, 4), (3, 2), (2, 1), (0, 3)]  # users, candidates of each


@pytest.fixture(params=OWN)
def is_own(request):
    return np.array(OWN[request.param])


@pytest.fixture(params=SHAPES, ids=str)
def shape(request):
    return request.param


@pytest.fixture
def rows(is_own, shape, random):
    """Rows in parts, and whole in float64."""
    return made(is_own, shape, random)


def made(is_own, shape, random):
    users, number = shape
    of_users = drawn(random, users, len(is_own)) * ~is_own
    own = drawn(random, users * number, is_own.sum())
    expected = np.repeat(of_users, number, axis=0).astype(np.float64)
    expected[:, is_own] = own
    sharing = Sharing(is_own, tf.constant(users), tf.constant(users * number))
    parts = CandidateRows.of_fields(sharing, tf.constant(of_users), tf.constant(own))
    return parts, expected


def drawn(random, *shape):
    return random.normal(size=shape).astype(np.float32)


def test_put_together(rows):
    actual, expected = rows
    assert_close(actual.whole, expected)
    assert actual.shape[1] == expected.shape[1]


def test_products_and_sums_are_those_of_whole_rows(rows, random):
    x, expected = rows
    count, width = expected.shape
    weights, bias = drawn(random, width), drawn(random, width)
    factors, other = drawn(random, count, 1), drawn(random, count, width)
    kernel = drawn(random, width, 3)
    x = x * tf.constant(weights) * tf.constant(factors) + x
    expected = expected * weights * factors + expected
    assert_close(matmul(x, kernel), expected @ kernel)
    x, expected = add(x, tf.constant(bias)), expected + bias
    assert_close(whole(x), expected)
    x, expected = tf.constant(other) + x, other + expected  # of any form
    assert_close(x.whole, expected)
    x = x * tf.constant(weights) * tf.constant(factors)
    expected = expected * weights * factors
    x, expected = x * tf.constant(weights), expected * weights
    assert_close(x.whole, expected)
    assert_close(matmul(x, kernel), expected @ kernel)
    assert_close((x + x).whole, 2 * expected)


def test_what_shares_nothing(rows, random):
    x0, expected = rows
    other, bias = drawn(random, *expected.shape), drawn(random, expected.shape[1])
    x = x0.alike(tf.constant(other))
    assert_close(x.whole, other)
    assert x0.alike(x0) is x0
    x = x + tf.constant(bias)
    assert_close(x.whole, other + bias)
    assert_close((x + x0).whole, other + bias + expected)


@pytest.mark.parametrize("rest", [False, True])
def test_products_with_a_tensor(rows, rest, random):
    """The sum of a row's products is taken of each of its parts."""
    x, expected = rows
    count, width = expected.shape
    weights, h = drawn(random, width), drawn(random, count, width)
    factors, other = drawn(random, count, 1), drawn(random, count, width)
    if rest:
        x, expected = x + tf.constant(other), expected + other
    x, expected = x * tf.constant(weights), expected * weights
    products = x * tf.constant(h)
    assert isinstance(products, Products)
    expected = expected * h
    for _ in range(3):
        assert_close(products.whole, expected)
        for outputs in (1, 2):
            kernel = drawn(random, width, outputs)
            assert_close(matmul(products, kernel), expected @ kernel)
        assert_close(products + x, expected + x.whole)
        products, expected = products * tf.constant(factors), expected * factors


@pytest.mark.parametrize(
    "make",
    [
        Cross,
        lambda: Cross(residual=False),
        MatrixCross,
        lambda: MatrixCross(rank=2),
    ],
    ids=["cross", "no_residual", "matrix", "low_rank"],
)
def test_layers_give_what_they_give_whole_rows(make, is_own, random):
    """Two layers, a bridge after each, and the output."""
    x0, _ = made(is_own, (2, 3), random)
    expected, actual = [], []
    x = in_parts = x0
    for bridge in (Bridge(), Bridge(scale=True)):
        layer, deep = make(), Deep()
        layer(x0.whole, whole(x))
        for weight in layer.weights:
            weight.assign(drawn(random, *weight.shape))
        h = deep(whole(x))
        expected.append(layer(x0.whole, whole(x)))
        expected.append(bridge(expected[-1], h))
        actual.append(called(layer, x0, in_parts))
        actual.append(called(bridge, actual[-1], h))
        for ours, theirs in zip(actual[-2:], expected[-2:]):
            assert_close(whole(ours), theirs)
        x, in_parts = expected[-1], x0.alike(whole(actual[-1]))
    output = LogOdds()
    log_odds = output(expected)
    assert_close(called(output, actual), log_odds)
