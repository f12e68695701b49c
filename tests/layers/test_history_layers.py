"""DIN, DIEN and BST's layers against float64 NumPy written from the papers."""

import numpy as np
import pytest
import tensorflow as tf

from edcn_tf.layers import (
    Deep,
    Dice,
    HistoryTransformer,
    InterestEvolution,
    LocalActivation,
)
from helpers import history_reference as reference
from helpers import layer_check
from helpers.history_reference import (
    evolution_weights,
    expected_activation,
    expected_transformer,
)
from helpers.layer_check import Case, assert_close, floats, named_weights

WIDTH, LENGTH = 4, 3


def histories(rows):
    """Histories of every length, none and all, and candidates."""
    history, candidate = floats((LENGTH, WIDTH), (WIDTH,))(rows)
    lengths = np.arange(rows) % (LENGTH + 1)
    mask = np.arange(LENGTH) < lengths[:, None]
    return [history * mask[:, :, None], candidate, mask]


def activation_case(activation):
    def expected(w, *inputs, training):
        return expected_activation(
            w, *inputs, activation=activation, training=training
        )[0]

    return Case(
        lambda **kwargs: LocalActivation((5, 3), activation, **kwargs),
        histories,
        expected,
        {"units": [5, 3], "activation": activation},
    )


def transformer_case(blocks, dropout=0.0):
    def expected(w, *inputs, training):
        return expected_transformer(w, *inputs, blocks=blocks)[0]

    return Case(
        lambda **kwargs: HistoryTransformer(2, blocks, dropout, **kwargs),
        histories,
        expected,
        {"num_heads": 2, "num_blocks": blocks, "dropout": dropout},
        # Added to all scores of a query alike.
        tuple(f"block_{i}/attention/key/bias" for i in range(blocks)),
    )


def expected_dice(w, s, training):
    norm = [w[f"moving_{name}"] for name in ("mean", "variance")]
    if training:
        norm = [s.mean(axis=0), s.var(axis=0)]
    return reference.dice(s, w["alpha"], *norm, epsilon=0.1)


CASES = {
    "dice": Case(
        lambda **kwargs: Dice(0.1, 0.5, **kwargs),
        floats((3,)),
        expected_dice,
        {"epsilon": 0.1, "momentum": 0.5},
    ),
    **{f"din_{name}": activation_case(name) for name in ("dice", "sigmoid", "relu")},
    "dien": Case(
        lambda **kwargs: InterestEvolution(0.5, **kwargs),
        histories,
        lambda w, *inputs, training: reference.interest_evolution(
            *inputs, evolution_weights(w)
        )[0],
        {"auxiliary_weight": 0.5},
    ),
    "bst": transformer_case(1),
    "bst_of_two_blocks": transformer_case(2),
}
MORE_CASES = {"bst_with_dropout": transformer_case(1, 0.5)}


class TestCases(layer_check.LayerTests):
    """What must hold for each of them."""


def attention_of(case):
    layer, inputs = layer_check.made(case, rows=8)
    return layer.attention(*inputs).numpy(), named_weights(layer), inputs


def test_attention_is_what_positions_count():
    found, w, inputs = attention_of(CASES["din_sigmoid"])
    assert_close(found, expected_activation(w, *inputs, activation="sigmoid")[1])
    found, w, inputs = attention_of(CASES["dien"])
    expected = reference.interest_evolution(*inputs, evolution_weights(w))[1]
    assert_close(found, expected)
    assert_close(found.sum(axis=1), inputs[2].any(axis=1))
    found, w, inputs = attention_of(CASES["bst_of_two_blocks"])
    assert_close(found, expected_transformer(w, *inputs, blocks=2)[1])
    assert (found[~inputs[2]] == 0).all()


def test_auxiliary_loss():
    layer, inputs = layer_check.made(CASES["dien"], rows=8)
    layer(*inputs)
    assert layer.losses == []
    layer(*inputs, training=True)
    w = evolution_weights(named_weights(layer))
    interests = reference.interest_evolution(*inputs, w)[2]
    expected = reference.auxiliary_loss(interests, inputs[0], inputs[2])
    assert expected > 0.1
    assert_close(layer.losses, [0.5 * expected])


@pytest.mark.parametrize("name", [*CASES, *MORE_CASES])
def test_unused_positions_have_no_influence(name):
    """Whatever stands there, in training too, as peers' batch statistics have it."""
    if name == "dice":
        return
    layer, inputs = layer_check.made({**CASES, **MORE_CASES}[name], rows=8)
    history, candidate, mask = inputs
    noise = np.where(mask[:, :, None], history, 1e3).astype(np.float32)
    assert_close(layer(noise, candidate, mask), layer(*inputs))
    if name in CASES:
        before = layer(*inputs, training=True)
        assert_close(layer(noise, candidate, mask, training=True), before)


def test_dice_by_hand():
    layer = Dice()
    s = np.array([[1.0], [3.0]], np.float32)
    layer(s)
    layer.alpha.assign([0.5])
    # Mean 2, deviation 1: p is sigmoid(-1) and sigmoid(1).
    p = 1 / (1 + np.exp([1.0, -1.0]))
    expected = p * [1, 3] + (1 - p) * 0.5 * np.array([1, 3])
    assert_close(layer(s, training=True)[:, 0], expected)


def test_din_by_hand():
    """Weights are no softmax: twice the same item counts twice."""
    layer = LocalActivation((1,), "relu")
    item = np.array([[[2.0], [2.0]]], np.float32)
    candidate, mask = np.array([[3.0]], np.float32), np.ones((1, 2), bool)
    layer(item, candidate, mask)
    weights = [[[0.0], [0.0], [0.0], [1.0]], [0.0], [[0.5]], [0.25]]
    layer.set_weights([np.array(weight) for weight in weights])
    # a = 0.5 * (2 * 3) + 0.25 = 3.25, twice: 2 * 3.25 * 2
    assert_close(layer(item, candidate, mask), [[13.0]])
    mask[0, 1] = False
    assert_close(layer(item, candidate, mask), [[6.5]])


def test_deep_layer_with_dice():
    layer = Deep(3, activation="dice", batch_norm=True)
    inputs = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    layer(inputs)
    layer_check.randomize(layer)
    w = named_weights(layer)
    z = inputs.astype(np.float64) @ w["dense/kernel"] + w["dense/bias"]
    mean, variance = (w[f"normalization/moving_{n}"] for n in ("mean", "variance"))
    z = (z - mean) / np.sqrt(variance + 1e-3)
    z = z * w["normalization/gamma"] + w["normalization/beta"]
    norm = [w[f"dice/moving_{name}"] for name in ("mean", "variance")]
    assert_close(layer(inputs), reference.dice(z, w["dice/alpha"], *norm))
    assert layer.get_config()["activation"] == "dice"


def test_rows_of_unknown_number_and_none():
    for case in [CASES["din_dice"], CASES["dien"], CASES["bst"]]:
        layer, inputs = layer_check.made(case)
        signature = [tf.TensorSpec((None, *x.shape[1:]), x.dtype) for x in inputs]
        function = tf.function(layer, input_signature=signature)
        assert_close(function(*inputs), layer(*inputs))
        assert function(*[x[:0] for x in inputs]).shape == (0, WIDTH)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LocalActivation(()), "`units` must be"),
        (lambda: LocalActivation((3, 0)), "`units` must be"),
        (lambda: LocalActivation(activation="tanh"), "`activation` must be one of"),
        (lambda: InterestEvolution(-1), "at least 0"),
        (lambda: HistoryTransformer(0), "`num_heads` must be at least 1"),
        (lambda: HistoryTransformer(num_blocks=0), "`num_blocks` must be at least"),
        (lambda: HistoryTransformer(dropout=1), "`dropout` must be in"),
        (lambda: HistoryTransformer(3)(*histories(2)), "cannot share a width of 4"),
        (lambda: HistoryTransformer(4)(*histories(2)), "one component to each"),
        (lambda: Deep(activation="gelu"), "`activation` must be one of"),
        (
            lambda: InterestEvolution()(histories(2)[0][:, :, :3], *histories(2)[1:]),
            "must have one width",
        ),
        (
            lambda: LocalActivation()(histories(2)[0][:, 0], *histories(2)[1:]),
            "Expected a history",
        ),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
