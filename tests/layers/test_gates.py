"""Every gate, on fields of equal and of unequal width."""

import functools
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from edcn_tf.layers.gates import (
    DenseGate,
    FeatureEmbeddingGate,
    FieldGate,
    LHUCGate,
    SqueezeExcitationGate,
)
from helpers import layer_check, reference
from helpers.layer_check import Case, assert_close, floats, norm_of

LN3 = math.log(3)  # sigmoid(ln 3) = 3/4
ACTIVATIONS = {
    ("sigmoid", True): reference.doubled_sigmoid,
    ("sigmoid", False): reference.sigmoid,
    ("tanh", True): np.tanh,
    ("relu", True): reference.relu,
    ("linear", True): lambda z: z,
}
INITIALIZER = keras.initializers.serialize(keras.initializers.RandomNormal(stddev=0.37))


def shape_of(field_widths):
    """A row's shape: three fields of width 2 if no widths are given."""
    return (3, 2) if field_widths is None else (sum(field_widths),)


def softmax_case(
    batch_norm=None, field_widths=None, batch_norm_epsilon=1e-3, **options
):
    def expected(w, fields, training):
        norm = norm_of(w, training) if batch_norm else None
        return reference.gate(
            fields,
            w["gate"],
            **options,
            field_widths=field_widths,
            kind=batch_norm,
            norm=norm,
            epsilon=batch_norm_epsilon,
        )

    config = {
        **options,
        "batch_norm": batch_norm,
        "batch_norm_momentum": 0.37,
        "batch_norm_epsilon": batch_norm_epsilon,
        "field_widths": field_widths,
    }
    return Case(
        functools.partial(FieldGate, **config),
        floats(shape_of(field_widths)),
        expected,
        config,
    )


def gate_case(make, formula, field_widths=None, context=(), **options):
    """A gate with matrices.

    Args:
        make: The gate's class.
        formula: From weights, `[B, d]`, widths and the context, if any, to `[B, d]`.
        field_widths: Widths for inputs `[B, d]`.
        context: The shape of the context, `((k,),)`, or none.
        options: Arguments of the gate.
    """

    def expected(w, inputs, *context, training):
        flat = inputs.reshape(len(inputs), -1)
        outputs = formula(w, flat, field_widths or [2, 2, 2], *context)
        return outputs.reshape(inputs.shape)

    config = {
        **options,
        "field_widths": field_widths,
        "kernel_initializer": INITIALIZER,
    }
    return Case(
        functools.partial(make, **config),
        floats(shape_of(field_widths), *context),
        expected,
        config,
    )


def lhuc(w, x, widths, context=None):
    names = "hidden/kernel", "hidden/bias", "amplitude/kernel", "amplitude/bias"
    return reference.lhuc(x, x if context is None else context, *map(w.get, names))


def squeeze_excitation_case(output_activation, scale=True, **options):
    def formula(w, x, widths):
        kernels = w["reduce/kernel"], w["expand/kernel"]
        output = ACTIVATIONS[output_activation, scale]
        return reference.squeeze_excitation(x, widths, *kernels, output)

    options = {**options, "output_activation": output_activation, "scale": scale}
    return gate_case(SqueezeExcitationGate, formula, **options)


def feature_embedding_case(vector, activation, scale=True, **options):
    def formula(w, x, widths):
        sizes = np.multiply(widths, widths if vector else 1)
        parts = np.split(w["kernel"].reshape(-1), np.cumsum(sizes)[:-1])
        kernels = [part.reshape(width, -1) for part, width in zip(parts, widths)]
        activate = ACTIVATIONS[activation, scale]
        return reference.feature_embedding(x, widths, kernels, activate)

    own = {"vector": vector, "activation": activation, "scale": scale}
    options = {**options, **own}
    return gate_case(FeatureEmbeddingGate, formula, **options)


def dense(w, x, widths):
    return x @ w["dense/kernel"] + w["dense/bias"]


CASES = {}
for suffix, widths in [("", None), ("_unequal", [1, 3, 2])]:
    softmax = functools.partial(softmax_case, field_widths=widths)
    gate = functools.partial(gate_case, field_widths=widths)
    excitation = functools.partial(squeeze_excitation_case, field_widths=widths)
    embedding = functools.partial(feature_embedding_case, field_widths=widths)
    cases = {
        "softmax": softmax(temperature=0.37, scale=True),
        "softmax_sum_1": softmax(temperature=0.37, scale=False),
        "softmax_scalar_norm": softmax("scalar", temperature=3.7, scale=False),
        "softmax_feature_norm": softmax("feature", temperature=3.7, scale=True),
        "lhuc": gate(LHUCGate, lhuc, hidden_units=4),
        "lhuc_context": gate(LHUCGate, lhuc, context=((5,),), hidden_units=4),
        "excitation": excitation("sigmoid", reduction=1.5),
        "excitation_not_doubled": excitation("sigmoid", False),
        "excitation_relu": excitation("relu", reduction=1),
        "embedding": embedding(False, "sigmoid"),
        "embedding_not_doubled": embedding(True, "sigmoid", False),
        "embedding_tanh": embedding(False, "tanh"),
        "embedding_vector": embedding(True, "sigmoid"),
        "embedding_vector_linear": embedding(True, "linear"),
        "dense": gate(DenseGate, dense),
    }
    CASES |= {name + suffix: case for name, case in cases.items()}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


class TestCases(layer_check.LayerTests):
    """What must hold for each of them."""


@each_case
def test_compiles_with_xla(case):
    layer, inputs = layer_check.made(case)
    inputs = [tf.constant(x) for x in inputs]

    def outputs_and_gradients():
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(*inputs)
            loss = tf.reduce_sum(outputs**2)
        return outputs, *tape.gradient(loss, [*layer.trainable_weights, *inputs])

    expected = outputs_and_gradients()
    actual = tf.function(outputs_and_gradients, jit_compile=True)()
    for one, other in zip(actual, expected, strict=True):
        assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [n for n in CASES if not n.endswith("_unequal")])
def test_equal_widths_may_be_given(name):
    """`[B, F, D]` and `[B, F * D]` with `field_widths` are the same fields."""
    layer, (fields, *context) = layer_check.made(CASES[name])
    config = {**layer.get_config(), "field_widths": [2, 2, 2]}
    other = type(layer).from_config(config)
    flat = fields.reshape(-1, 6)
    other(flat, *context)
    other.set_weights(layer.get_weights())
    outputs = layer(fields, *context)
    assert_close(other(flat, *context), tf.reshape(outputs, (-1, 6)))
    assert_close(other(fields, *context), outputs)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FieldGate(0), "temperature.*> 0.*Received: 0"),
        (lambda: FieldGate(-0.5), "temperature.*> 0.*Received: -0.5"),
        (lambda: FieldGate(batch_norm="layer"), "batch_norm.*'scalar'.*'layer'"),
        (lambda: FieldGate(batch_norm=True), "batch_norm.*Received: True"),
        (lambda: FieldGate(field_widths=[]), r"field_widths.*Received: \[\]"),
        (lambda: DenseGate(field_widths=[2, 0]), r"field_widths.*: \[2, 0\]"),
        (lambda: LHUCGate(0), "hidden_units.*at least 1.*Received: 0"),
        (lambda: SqueezeExcitationGate(0.5), "reduction.*at least 1.*Received: 0.5"),
        (
            lambda: SqueezeExcitationGate(output_activation="tanh"),
            "output_activation.*'relu'.*Received: 'tanh'",
        ),
        (
            lambda: FeatureEmbeddingGate(activation="softmax"),
            "activation.*'linear'.*Received: 'softmax'",
        ),
        (
            lambda: FeatureEmbeddingGate(activation=None),
            "activation.*'linear'.*Received: None",
        ),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "gate",
    [FieldGate, LHUCGate, SqueezeExcitationGate, FeatureEmbeddingGate, DenseGate],
)
@pytest.mark.parametrize(
    ("shape", "field_widths", "message"),
    [
        ((2, 6), None, r"\[B, F, D\].*Received: \(2, 6\)"),
        ((2, 3, 2, 1), None, r"\[B, F, D\].*Received: \(2, 3, 2, 1\)"),
        ((2, 7), [1, 3, 2], r"\[1, 3, 2\].*\[B, 6\].*Received: \(2, 7\)"),
        ((2, 3, 2), [1, 3, 2], r"\[1, 3, 2\].*Received: \(2, 3, 2\)"),
        ((2, 6, 1, 1), [1, 3, 2], r"\[1, 3, 2\].*Received: \(2, 6, 1, 1\)"),
    ],
)
def test_wrong_input_shapes(gate, shape, field_widths, message):
    with pytest.raises(ValueError, match=message):
        gate(field_widths=field_widths)(np.ones(shape))


# The softmax gate


@pytest.mark.parametrize(
    ("temperature", "scale", "expected"),
    [
        # g = [0, ln 3]: softmax(g) = [1/4, 3/4], softmax(g / 0.5) = [1/10, 9/10].
        (1.0, False, [[0.25, 0.5], [2.25, 3.0]]),
        (1.0, True, [[0.5, 1.0], [4.5, 6.0]]),
        (0.5, False, [[0.1, 0.2], [2.7, 3.6]]),
        (0.5, True, [[0.2, 0.4], [5.4, 7.2]]),
    ],
)
def test_gate_by_hand(temperature, scale, expected):
    layer = FieldGate(temperature, scale=scale)
    fields = np.array([[[1.0, 2.0], [3.0, 4.0]]])
    start = [[[1.0, 2.0], [3.0, 4.0]]] if scale else [[[0.5, 1.0], [1.5, 2.0]]]
    assert_close(layer(fields), start)  # g starts as 1: all fields weigh the same
    layer.gate.assign([0, LN3])
    assert_close(layer(fields), [expected])
    assert_close(
        layer.weights_of_fields(),
        reference.gate_weights(np.array([0, LN3]), temperature, scale),
    )


def test_gate_scalar_batch_norm_has_one_mean_and_variance():
    layer = FieldGate(scale=False, batch_norm="scalar")
    # Weights 1/2: gated 1, 2, 3, 6, of mean 3 and variance 3.5.
    fields = np.array([[[2.0], [4.0]], [[6.0], [12.0]]])
    outputs = layer(fields, training=True)
    expected = (np.array([[[1.0], [2.0]], [[3.0], [6.0]]]) - 3) / math.sqrt(3.501)
    assert_close(outputs, expected)
    moving = layer.normalization
    assert moving.moving_mean.shape == moving.gamma.shape == (1,)
    assert_close(moving.moving_mean, [0.01 * 3])
    assert_close(moving.moving_variance, [0.99 + 0.01 * 3.5])


def test_gate_batch_norm_of_other_terms():
    layer = FieldGate(
        scale=False, batch_norm="scalar", batch_norm_momentum=0.5, batch_norm_epsilon=1
    )
    fields = np.array([[[2.0], [4.0]], [[6.0], [12.0]]])  # mean 3, variance 3.5
    outputs = layer(fields, training=True)
    expected = (np.array([[[1.0], [2.0]], [[3.0], [6.0]]]) - 3) / math.sqrt(4.5)
    assert_close(outputs, expected)
    assert_close(layer.normalization.moving_mean, [1.5])
    assert_close(layer.normalization.moving_variance, [0.5 + 0.5 * 3.5])


def test_gate_feature_batch_norm_has_one_of_each_component():
    layer = FieldGate(batch_norm="feature")
    # F * D = 4 components; of each two values, whose distances from the mean are 1,
    # 2, 3 and 4.
    fields = np.array([[[1.0, 2.0], [3.0, 4.0]], [[3.0, 6.0], [9.0, 12.0]]])
    outputs = layer(fields, training=True)
    half = [d / math.sqrt(d**2 + 0.001) for d in (1, 2, 3, 4)]
    assert_close(outputs, np.reshape([np.negative(half), half], (2, 2, 2)))
    assert_close(layer.normalization.moving_mean, 0.01 * np.array([2, 4, 6, 8]))


# LHUC


def test_lhuc_by_hand():
    fields = np.array([[[1.0], [2.0]]])
    layer = LHUCGate(hidden_units=2)
    layer(fields)
    layer.hidden.set_weights([np.eye(2), np.array([0, -3])])  # ReLU([1, 2 - 3])
    layer.amplitude.set_weights([np.array([[LN3, -LN3], [5, 5]]), np.array([0.0, 0.0])])
    # 2 sigmoid([ln 3, -ln 3]) = [3/2, 1/2]
    assert_close(layer(fields), [[[1.5], [1.0]]])
    assert_close(layer.weights_of(fields[:, :, 0]), [[1.5, 0.5]])

    layer = LHUCGate(hidden_units=1)
    context = np.array([[7.0, 3.0, 1.0]])
    layer(fields, context)
    layer.hidden.set_weights([np.array([[0], [1], [-2]]), np.array([0])])  # 3 - 2
    layer.amplitude.set_weights([np.array([[LN3, 0]]), np.array([0, -LN3])])
    assert_close(layer(fields, context=context), [[[1.5], [1.0]]])


def test_lhuc_starts_as_the_identity_and_all_its_weights_learn():
    layer = LHUCGate(hidden_units=4)
    random = np.random.default_rng(0)
    fields = random.normal(size=(8, 3, 2)).astype(np.float32)
    target = random.normal(size=(8, 3, 2)).astype(np.float32)
    np.testing.assert_array_equal(layer(100 * fields), 100 * fields)
    before = layer_check.named_weights(layer)
    optimizer = keras.optimizers.SGD(0.1)
    for _ in range(2):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((layer(fields) - target) ** 2)
        gradients = tape.gradient(loss, layer.trainable_weights)
        optimizer.apply(gradients, layer.trainable_weights)
    for name, weight in layer_check.named_weights(layer).items():
        assert np.all(weight != before[name]), name


def test_lhuc_weights_differ_between_rows_and_softmax_ones_do_not():
    fields = np.random.default_rng(0).normal(size=(2, 3, 2)).astype(np.float32)
    for name in ("lhuc", "lhuc_context", "softmax"):
        layer, (_, *context) = layer_check.made(CASES[name], rows=2)
        first, second = layer(fields, *context) / fields
        differ = np.abs(first - second) > 1e-3
        assert layer.depends_on_input == (name != "softmax")
        assert np.all(differ) if layer.depends_on_input else not np.any(differ)


def test_lhuc_hidden_units():
    for width, units in [(1, 1), (7, 1), (8, 2)]:
        layer = LHUCGate()
        layer.build((None, 1, width))
        assert layer.hidden.kernel.shape == (width, units)


def test_lhuc_builds_by_hand_as_by_a_call():
    fields, context = np.ones((2, 3, 2)), np.ones((2, 5))
    by_hand, by_call = LHUCGate(), LHUCGate()
    by_hand.build((None, 3, 2), (None, 5))
    by_call(fields, context)
    shapes = [weight.shape for weight in by_call.weights]
    assert [weight.shape for weight in by_hand.weights] == shapes
    assert by_hand.hidden.kernel.shape == (5, 1)
    assert by_hand(fields, context).shape == (2, 3, 2)


def test_lhuc_wrong_contexts():
    fields = np.ones((2, 3, 2))
    with pytest.raises(ValueError, match=r"\[B, k\].*Received: \(2, 3, 2\)"):
        LHUCGate()(fields, fields)
    layer = LHUCGate()
    layer(fields, np.ones((2, 5)))
    with pytest.raises(ValueError, match="expected axis -1 .* value 5"):
        layer(fields)


# Squeeze and excitation


@pytest.mark.parametrize(
    ("output_activation", "scale", "weights"),
    [
        ("sigmoid", False, [0.75, 0.25]),
        ("sigmoid", True, [1.5, 0.5]),
        ("relu", True, [LN3, 0]),
    ],
)
def test_squeeze_excitation_by_hand(output_activation, scale, weights):
    layer = SqueezeExcitationGate(2, output_activation=output_activation, scale=scale)
    fields = np.array([[[1.0, 3.0], [4.0, 6.0]]])  # of means 2 and 5
    layer(fields)
    layer.set_weights([np.array([[1], [-0.2]]), np.array([[LN3, -LN3]])])
    assert_close(layer(fields), np.reshape(weights, (1, 2, 1)) * fields)


@pytest.mark.parametrize(
    ("fields", "reduction", "units"), [(8, 3, 2), (9, 3, 3), (2, 3, 1), (5, 1, 5)]
)
def test_squeezed_size(fields, reduction, units):
    layer = SqueezeExcitationGate(reduction)
    layer.build((None, fields, 4))
    assert layer.reduce.kernel.shape == (fields, units)


# GateNet's gate


@pytest.mark.parametrize(
    ("activation", "scale", "first", "second"),
    [
        ("sigmoid", False, 0.75, 0.5),
        ("sigmoid", True, 1.5, 1.0),
        ("tanh", True, 0.8, 0),
        ("linear", True, LN3, 0),
    ],
)
def test_feature_embedding_by_hand(activation, scale, first, second):
    layer = FeatureEmbeddingGate(activation=activation, scale=scale)
    fields = np.array([[[1.0, 2.0], [3.0, 4.0]]])
    layer(fields)
    layer.kernel.assign([LN3, 0, 0, 0])
    assert_close(layer(fields), [[[first, first * 2], [second * 3, second * 4]]])


def test_feature_embedding_with_a_matrix_by_hand():
    layer = FeatureEmbeddingGate(vector=True, activation="linear")
    fields = np.array([[[1.0, 2.0], [3.0, 4.0]]])
    layer(fields)
    layer.kernel.assign([[[1, 10], [0, 1]], [[0, 0], [1, 0]]])
    # [1, 2] times the first matrix is [1, 12], [3, 4] times the second [4, 0].
    assert_close(layer(fields), [[[1, 24], [12, 0]]])
    layer = FeatureEmbeddingGate(vector=True, activation="linear", field_widths=[1, 2])
    layer.build((None, 3))
    layer.kernel.assign([5, 1, 10, 0, 1])
    assert_close(layer(np.array([[3.0, 1.0, 2.0]])), [[45, 1, 24]])


@pytest.mark.parametrize("field_widths", [None, [1, 5]])
@pytest.mark.parametrize("vector", [False, True])
def test_feature_embedding_fields_start_by_themselves(vector, field_widths):
    """By the inputs and outputs of a field's own matrix, and each by its own draw."""
    layer = FeatureEmbeddingGate(vector, field_widths=field_widths)
    layer.build((None, 2, 3) if field_widths is None else (None, 6))
    kernel, start = np.abs(layer.kernel.numpy().reshape(-1)), 0
    for width in layer.widths:
        outputs = width if vector else 1
        own = kernel[start : start + width * outputs]
        start += width * outputs
        assert own.max() <= math.sqrt(6 / (width + outputs))  # Glorot's limit
    assert start == len(np.unique(kernel))


# The fully connected layer


def test_dense_by_hand():
    layer = DenseGate()
    fields = np.array([[[1.0], [2.0]]])
    layer(fields)
    layer.dense.set_weights([np.array([[1, 2], [3, 4]]), np.array([0.5, -0.5])])
    assert_close(layer(fields), [[[1 + 6 + 0.5], [2 + 8 - 0.5]]])
