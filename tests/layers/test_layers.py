import functools
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from edcn_tf.layers import Bridge, Cross, Deep, FieldGate, LogOdds
from edcn_tf.layers.bridge import KINDS
from helpers import layer_check, reference
from helpers.layer_check import Case, assert_close, floats, norm_of

LN2 = math.log(2)


def bridge_case(kind, shared_weights=False, widths=(4, 4), units=None, scale=False):
    config = {
        "kind": kind,
        "shared_weights": shared_weights,
        "units": units,
        "scale": scale,
    }
    initializer = keras.initializers.RandomNormal(stddev=0.37)
    return Case(
        functools.partial(Bridge, **config, kernel_initializer=initializer),
        floats(*((width,) for width in widths)),
        lambda w, x, h, training: reference.model_bridge(kind, x, h, w, scale),
        {**config, "kernel_initializer": keras.initializers.serialize(initializer)},
    )


def deep_case(
    batch_norm=False, activation_first=False, batch_norm_epsilon=1e-3, **options
):
    def expected(w, h, training):
        norm = norm_of(w, training) if batch_norm else None
        kernel, bias = w["dense/kernel"], w["dense/bias"]
        return reference.deep(
            h, kernel, bias, norm, activation_first, batch_norm_epsilon
        )

    config = {
        "batch_norm": batch_norm,
        "batch_norm_epsilon": batch_norm_epsilon,
        "activation_first": activation_first,
        "kernel_initializer": keras.initializers.serialize(
            keras.initializers.RandomNormal(stddev=0.37)
        ),
        **options,
    }
    return Case(
        functools.partial(Deep, **config),
        floats((4,)),
        expected,
        config,
        # BatchNorm takes away what the bias before it adds.
        unmoved=("dense/bias",) if batch_norm else (),
    )


CASES = {
    "deep": deep_case(units=3),
    "deep_activation_first": deep_case(activation_first=True),
    "deep_norm": deep_case(batch_norm=True),
    "deep_norm_other_terms": deep_case(
        batch_norm=True,
        batch_norm_momentum=0.37,
        batch_norm_epsilon=0.37,
        batch_norm_gamma="uniform",
    ),
    "deep_norm_activation_first": deep_case(batch_norm=True, activation_first=True),
    **{f"bridge_{kind}": bridge_case(kind) for kind in KINDS},
    "bridge_attention_shared": bridge_case("attention", True),
    "bridge_attention_components_shared": bridge_case("attention_components", True),
    "bridge_scaled": bridge_case("hadamard", scale=True),
    "bridge_scaled_4_3_4": bridge_case("hadamard", False, (4, 3), 4, scale=True),
    **{
        f"bridge_{kind}_{x}_{h}_{units}": bridge_case(kind, False, (x, h), units)
        for kind in KINDS
        for x, h, units in [(4, 3, 4), (3, 4, 5)]
    },
}
# Checked as a layer only, since dropout is random.
MORE_CASES = {
    "deep_dropout": deep_case(dropout=0.37, units=5),
}


class TestCases(layer_check.LayerTests):
    """What must hold for each of them."""


def test_towers_compile_with_xla():
    fields = np.random.default_rng(0).normal(size=(3, 2, 2)).astype(np.float32)
    gate, cross, deep = FieldGate(batch_norm="scalar"), Cross(), Deep(batch_norm=True)
    bridges = [Bridge(kind) for kind in KINDS]

    def towers(inputs):
        flat = tf.reshape(gate(inputs), (-1, 4))
        x, h = cross(flat, flat), deep(flat)
        return [bridge(x, h) for bridge in bridges]

    expected = towers(fields)
    for one, other in zip(tf.function(towers, jit_compile=True)(fields), expected):
        assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_deep_batch_norm_by_hand():
    layer = Deep(batch_norm=True, batch_norm_momentum=0.75, batch_norm_epsilon=5.0)
    h = np.array([[1.0], [5.0]])
    layer.build((None, 1))
    layer.dense.kernel.assign([[1.0]])
    # Mean 3, variance 4: -2 / sqrt(4 + 5) is cut off by ReLU, and 2 / 3.
    assert_close(layer(h, training=True), [[0.0], [2 / 3]])
    moving = layer.normalization
    assert_close(moving.moving_mean, [0.25 * 3])
    assert_close(moving.moving_variance, [0.75 + 0.25 * 4])
    # Both by the moving averages, which are 0.75 and 1.75.
    expected = (h - 0.75) / np.sqrt(1.75 + 5)
    assert_close(layer(h), expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Deep(batch_norm_momentum=1.0),
            r"batch_norm_momentum.*\[0, 1\).*Received: 1.0",
        ),
        (
            lambda: Deep(batch_norm_gamma="zeros"),
            "batch_norm_gamma.*'ones', 'uniform'.*Received: 'zeros'",
        ),
        (lambda: Deep(batch_norm_momentum=-0.1), "batch_norm_momentum.*-0.1"),
        (
            lambda: Deep(batch_norm_epsilon=0.0),
            "batch_norm_epsilon.*> 0.*Received: 0.0",
        ),
        (lambda: Bridge("add", scale=True), "scale.*hadamard alone.*Received.*'add'"),
        (lambda: Bridge("multiply"), "kind.*hadamard.*Received: 'multiply'"),
        (lambda: Deep(0), "units.*at least 1.*Received: 0"),
        (lambda: Deep(dropout=1.0), "dropout.*Received: 1.0"),
        (lambda: Deep(dropout=-0.1), "dropout.*Received: -0.1"),
        (lambda: Bridge(width=3), "width"),
        (lambda: Bridge(units=0), "units.*at least 1.*Received: 0"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("kind", KINDS)
def test_towers_of_unequal_width_need_units(kind):
    """Or it would not be said to what width they are projected."""
    with pytest.raises(ValueError, match=r"`units`.*\(2, 3\) and \(2, 4\)"):
        Bridge(kind)(np.ones((2, 3)), np.ones((2, 4)))
    assert Bridge(kind, units=3)(np.ones((2, 3)), np.ones((2, 4))).shape == (2, 3)


def test_only_towers_of_another_width_are_projected():
    layer = Bridge("hadamard", units=2)
    x, h = np.array([[3.0, 5.0]]), np.array([[1.0, 2.0, 4.0]])
    layer(x, h)
    layer.weights[0].assign([[1.0, 0.0], [0.0, 1.0], [1.0, -1.0]])
    assert len(layer.weights) == 1
    assert_close(layer(x, h), [[3 * (1 + 4), 5 * (2 - 4)]])


# The log odds


def test_log_odds_by_hand():
    layer = LogOdds()
    parts = [np.array([[1.0, 2.0]]), np.array([[4.0]])]
    layer.build([(None, 2), (None, 1)], [(None, 1)])
    layer.kernel.assign([[0.5], [1.0], [-2.0]])
    layer.bias.assign([0.25])
    assert_close(layer(parts), [[0.5 + 2 - 8 + 0.25]])
    assert_close(layer(parts, [np.array([[3.0]])]), [[0.5 + 2 - 8 + 0.25 + 3]])
    only_logits = LogOdds()
    only_logits.build([], [(None, 1)])
    only_logits.bias.assign([0.25])
    assert [w.name for w in only_logits.weights] == ["bias"]
    assert_close(only_logits([], [np.array([[3.0]])]), [[3.25]])


def test_log_odds_are_float32_and_come_back():
    layer = LogOdds(kernel_initializer="ones", dtype="mixed_bfloat16")
    half = tf.ones((2, 3), tf.bfloat16)
    outputs = layer([half, np.ones((2, 1))], [np.full((2, 1), -4.61)])
    assert outputs.dtype == tf.float32
    assert_close(outputs, [[4 - 4.61]] * 2)  # -4.61 is not a number of bfloat16
    layer.bias.assign([-4.61])
    assert_close(layer([half, np.ones((2, 1))]), [[4 - 4.61]] * 2)
    assert LogOdds.from_config(layer.get_config()).get_config() == layer.get_config()


# The deep layer


def test_deep_by_hand():
    h = np.array([[3.0, -4.0]])
    for activation_first, expected in [
        (False, [[1.0, 0.0]]),  # ReLU([3 - 8 + 6, -3 - 4 + 1])
        (True, [[9.0, -2.0]]),  # ReLU(h) = [3, 0]
    ]:
        layer = Deep(activation_first=activation_first)
        layer(h)
        layer.dense.kernel.assign([[1.0, -1.0], [2.0, 1.0]])
        layer.dense.bias.assign([6.0, 1.0])
        assert_close(layer(h), expected)


def test_dropout_only_in_training():
    keras.utils.set_random_seed(0)
    layer = Deep(50, dropout=0.2)
    h = np.random.default_rng(0).normal(size=(200, 8))
    kept = layer(h).numpy()
    assert_close(layer(h, training=False), kept)
    dropped = layer(h, training=True).numpy()
    active = kept != 0
    assert_close(dropped[active & (dropped != 0)], kept[active & (dropped != 0)] / 0.8)
    assert np.mean(dropped[active] == 0) == pytest.approx(0.2, abs=0.02)


def test_dropout_before_the_matrix_where_the_activation_is():
    """As in the authors' MindSpore code: W sees what dropout leaves of ReLU(h)."""
    keras.utils.set_random_seed(0)
    layer = Deep(dropout=0.2, activation_first=True)
    h = np.random.default_rng(0).normal(size=(400, 8))
    layer(h)
    layer.dense.kernel.assign(np.eye(8))
    layer.dense.bias.assign(np.full(8, -3.0))
    assert_close(layer(h), np.maximum(h, 0) - 3)
    seen = layer(h, training=True).numpy() + 3
    left = np.abs(seen) > 1e-6
    assert_close(seen[left], np.maximum(h, 0)[left] / 0.8)
    assert np.mean(~left[h > 0.01]) == pytest.approx(0.2, abs=0.03)


def test_deep_width():
    assert Deep()(np.ones((2, 5))).shape == (2, 5)
    assert Deep(3)(np.ones((2, 5))).shape == (2, 3)


# The bridge

X, H = np.array([[1.0, 2.0]]), np.array([[3.0, -1.0]])
ONE = np.eye(2)


def bridge_with(kind, shared_weights=False, **weights):
    layer = Bridge(kind, shared_weights=shared_weights)
    layer(X, H)
    for weight in layer.weights:
        weight.assign(weights[weight.path.split("/", 1)[1].replace("/", "_")])
    return layer


def test_bridges_without_attention_by_hand():
    assert_close(bridge_with("add")(X, H), [[4.0, 1.0]])
    assert_close(bridge_with("hadamard")(X, H), [[3.0, -2.0]])
    size = math.sqrt((9 + 1) / 2 + 1e-6)
    assert_close(Bridge("hadamard", scale=True)(X, H), [[3 / size, -2 / size]])
    layer = bridge_with(
        "concat",
        joint_kernel=[[1, 0], [0, 1], [1, 0], [0, 2]],
        joint_bias=[0.5, -1],
    )
    assert_close(layer(X, H), [[1 + 3 + 0.5, 0.0]])  # ReLU(2 - 2 - 1) = 0
    assert_close(layer(H, X), [[3 + 1 + 0.5, -1 + 4 - 1]])


def test_attention_by_hand():
    shared = bridge_with(
        "attention",
        shared_weights=True,
        hidden_both_kernel=ONE,
        hidden_both_bias=[0, 0],
        score_both_kernel=[[LN2], [0]],
    )
    # s(x) = ln 2, s(h) = 3 ln 2, so a = [2, 8] / 10.
    assert_close(shared(X, H), [[0.2 * 1 + 0.8 * 3, 0.2 * 2 - 0.8 * 1]])
    separate = bridge_with(
        "attention",
        hidden_x_kernel=ONE,
        hidden_x_bias=[0, 0],
        score_x_kernel=[[LN2], [0]],
        hidden_h_kernel=np.zeros((2, 2)),
        hidden_h_bias=[1, 0],
        score_h_kernel=[[math.log(6)], [0]],
    )
    # s(x) = ln 2, s(h) = ln 6, so a = [2, 6] / 8.
    assert_close(separate(X, H), [[0.25 * 1 + 0.75 * 3, 0.25 * 2 - 0.75 * 1]])


def test_attention_components_by_hand():
    scores = np.diag([LN2, 0])
    shared = bridge_with(
        "attention_components",
        shared_weights=True,
        hidden_both_kernel=ONE,
        hidden_both_bias=[0, 0],
        score_both_kernel=scores,
    )
    # ReLU(h) = [3, 0]; a(x) = softmax(ln 2, 0) = [2, 1] / 3, a(h) = [8, 1] / 9.
    assert_close(shared(X, H), [[2 / 3 * 1 + 8 / 9 * 3, 1 / 3 * 2 - 1 / 9 * 1]])
    separate = bridge_with(
        "attention_components",
        hidden_x_kernel=ONE,
        hidden_x_bias=[0, 0],
        score_x_kernel=scores,
        hidden_h_kernel=ONE,
        hidden_h_bias=[0, 0],
        score_h_kernel=np.zeros((2, 2)),
    )
    # a(h) = [1, 1] / 2
    assert_close(separate(X, H), [[2 / 3 * 1 + 0.5 * 3, 1 / 3 * 2 - 0.5 * 1]])


@pytest.mark.parametrize("kind", ["attention", "attention_components"])
def test_separate_attention_uses_a_network_for_each_tower(kind):
    x, h = floats((4,), (4,))(3)
    shared, separate = Bridge(kind, shared_weights=True), Bridge(kind)
    for layer in (shared, separate):
        layer(x, h)
        layer_check.randomize(layer)
    assert len(separate.weights) == 2 * len(shared.weights) == 6
    assert_close(shared(x, h), shared(h, x))
    assert np.abs(separate(x, h) - separate(h, x)).max() > 0.05
    # Neither network may stand idle.
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(separate(x, h) * x)
    for gradient in tape.gradient(loss, separate.trainable_weights):
        assert np.abs(gradient).max() > 1e-3
    weights = layer_check.named_weights(separate)
    assert_close(separate(x, h), reference.bridge(kind, x, h, weights))


def test_bridge_networks_start_apart():
    layer = Bridge("attention")
    layer(X, H)
    assert not np.allclose(layer.hidden[0].kernel, layer.hidden[1].kernel)
