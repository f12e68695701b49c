import functools
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from edcn_tf.layers.explicit import (
    CompressedInteraction,
    Cross,
    ExplicitLayer,
    FactorizationMachine,
    FieldAttention,
    InnerProducts,
    MatrixCross,
    MixtureCross,
)
from helpers import layer_check, reference
from helpers.layer_check import Case, floats

LAYERS = [
    CompressedInteraction,
    Cross,
    FactorizationMachine,
    FieldAttention,
    InnerProducts,
    MatrixCross,
    MixtureCross,
]
KERNEL = keras.initializers.serialize(keras.initializers.RandomNormal(stddev=0.37))
BIAS = keras.initializers.serialize(keras.initializers.Constant(0.37))
ADDED = {"kernel_initializer": KERNEL, "bias_initializer": BIAS}
LN2 = math.log(2)


def assert_close(actual, expected, rtol=2e-5, atol=2e-6):
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol)


def case_of(layer, shapes, expected, **config):
    def without_training(weights, *inputs, training):
        return expected(weights, *inputs)

    return Case(
        functools.partial(layer, **config), floats(*shapes), without_training, config
    )


# Each reference gets the weights in the paper's orientation.


def cross_case(residual):
    def expected(w, x0, x):
        return reference.cross(x0, x, w["kernel"], w["bias"], residual)

    return case_of(Cross, [(4,), (4,)], expected, residual=residual, **ADDED)


def matrix_cross_case(rank):
    def expected(w, x0, x):
        if rank is None:
            matrix = w["kernel"].T
        else:
            matrix = w["up_kernel"].T @ w["down_kernel"].T  # U V^T
        return reference.matrix_cross(x0, x, matrix, w["bias"])

    return case_of(MatrixCross, [(4,), (4,)], expected, rank=rank, **ADDED)


def mixture_cross_case(rank, num_experts, width=5):
    def expected(w, x0, x):
        return reference.mixture_cross(
            x0,
            x,
            [u.T for u in np.split(w["up_kernel"], num_experts)],
            [c.T for c in w["code_kernel"]],
            np.split(w["down_kernel"], num_experts, axis=1),
            w["gate_kernel"].T if num_experts > 1 else np.zeros((1, width)),
            w["bias"],
        )

    config = {"rank": rank, "num_experts": num_experts, **ADDED}
    return case_of(MixtureCross, [(width,), (width,)], expected, **config)


def interaction_case(feature_maps, maps=4):
    def expected(w, x0, x):
        kernel = w["kernel"].reshape(maps, 3, -1)  # [H, F, H_k]
        return reference.compressed_interaction(x0, x, kernel.transpose(2, 0, 1))

    return case_of(
        CompressedInteraction,
        [(3, 2), (maps, 2)],
        expected,
        feature_maps=feature_maps,
        kernel_initializer=KERNEL,
    )


def attention_case(num_heads, head_width, residual):
    def expected(w, fields):
        heads = [
            np.split(w[f"{name}_kernel"].T, num_heads)
            for name in ("query", "key", "value")
        ]
        w_res = w["residual_kernel"].T if residual else None
        return reference.field_attention(fields, *heads, w_res)

    return case_of(
        FieldAttention,
        [(3, 4)],
        expected,
        num_heads=num_heads,
        head_width=head_width,
        residual=residual,
        kernel_initializer=KERNEL,
    )


def products_case(self_products):
    def expected(w, fields):
        return reference.inner_products(fields, self_products)

    return case_of(InnerProducts, [(3, 2)], expected, self_products=self_products)


CASES = {
    "cross": cross_case(residual=True),
    "cross_without_residual": cross_case(residual=False),
    "matrix_cross": matrix_cross_case(None),
    "matrix_cross_of_rank": matrix_cross_case(3),
    "mixture_cross": mixture_cross_case(2, 3),
    "mixture_cross_of_default_rank": mixture_cross_case(None, 2, width=9),
    "mixture_cross_of_one_expert": mixture_cross_case(2, 1),
    "factorization_machine": case_of(
        FactorizationMachine,
        [(4, 3)],
        lambda w, fields: reference.factorization_machine(fields),
    ),
    "compressed_interaction": interaction_case(5),
    "compressed_interaction_of_default_maps": interaction_case(None),
    "field_attention": attention_case(4, None, residual=True),
    "field_attention_of_another_width": attention_case(3, 2, residual=True),
    "field_attention_without_residual": attention_case(1, 3, residual=False),
    "inner_products": products_case(True),
    "inner_products_of_pairs": products_case(False),
}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


class TestCases(layer_check.LayerTests):
    """What must hold for each of them."""


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_all_compile_with_xla(dtype):
    """Outputs, what is read out of them, and gradients."""
    made = [layer_check.made(case, dtype=dtype) for case in CASES.values()]
    variables = [weight for layer, _ in made for weight in layer.trainable_weights]
    inputs = [[tf.constant(array) for array in arrays] for _, arrays in made]

    def step(inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = [layer(*arrays) for (layer, _), arrays in zip(made, inputs)]
            read = [layer.read_out([y]) for (layer, _), y in zip(made, outputs)]
            loss = sum(tf.reduce_sum(tf.cast(y, "float32") ** 2) for y in read)
        return outputs, read, tape.gradient(loss, [inputs, variables])

    expected = tf.nest.flatten(step(inputs))
    actual = tf.nest.flatten(tf.function(step, jit_compile=True)(inputs))
    rtol = 1e-5 if dtype == "float32" else 0.05
    for one, other in zip(actual, expected, strict=True):
        one, other = tf.cast(one, "float32"), tf.cast(other, "float32")
        assert_close(one, other, rtol=rtol, atol=rtol * np.abs(other).max())


@each_case
def test_symbolic_rows_and_no_rows(case):
    """The number of rows is not known while tracing, and may be 0."""
    layer, inputs = layer_check.made(case)
    signature = [tf.TensorSpec((None, *x.shape[1:]), x.dtype) for x in inputs]
    function = tf.function(
        lambda *x: layer.read_out([layer(*x)]), input_signature=signature
    )
    expected = layer.read_out([layer(*inputs)])
    assert_close(function(*inputs), expected)
    assert function(*[x[:0] for x in inputs]).shape == (0, expected.shape[1])


# What a model has to know


def test_protocol():
    names = ("takes_x0", "takes_fields", "keeps_fields", "is_single", "gives_logit")
    expected = {
        Cross: {"takes_x0", "keeps_fields"},
        MatrixCross: {"takes_x0", "keeps_fields"},
        MixtureCross: {"takes_x0", "keeps_fields"},
        FactorizationMachine: {"takes_fields", "is_single", "gives_logit"},
        CompressedInteraction: {"takes_x0", "takes_fields"},
        FieldAttention: {"takes_fields"},
        InnerProducts: {"takes_fields", "is_single"},
        ExplicitLayer: set(),
    }
    for layer, true in expected.items():
        assert {name for name in names if getattr(layer, name)} == true


@each_case
def test_protocol_holds(case):
    """Fields that are kept keep their shape, and a logit is one number."""
    layer, inputs = layer_check.made(case)
    outputs = layer(*inputs)
    assert len(inputs) == 1 + layer.takes_x0
    assert {len(array.shape) for array in inputs} == {2 + layer.takes_fields}
    if layer.keeps_fields:
        assert outputs.shape == inputs[-1].shape
    read = layer.read_out([outputs])
    assert len(read.shape) == 2
    assert (read.shape[1] == 1) == layer.gives_logit


@pytest.mark.parametrize(
    ("options", "keeps"),
    [
        ({}, True),
        ({"num_heads": 4}, True),
        ({"num_heads": 1, "head_width": 4}, True),
        ({"num_heads": 2, "head_width": 4}, False),
        ({"num_heads": 1, "head_width": 3}, False),
    ],
)
def test_attention_keeps_fields_if_the_widths_agree(options, keeps):
    layer = FieldAttention(**options)
    layer.build((None, 3, 4))
    assert layer.keeps_fields == keeps
    assert not FieldAttention.keeps_fields


def test_read_out():
    flat, lower = np.array([[1.0, 2.0, 3.0, 4.0]]), np.full((1, 4), 9.0)
    fields, lower_fields = flat.reshape(1, 2, 2), np.array([[[5.0, 6.0]]])
    for layer in (Cross, MatrixCross, MixtureCross, InnerProducts):
        assert_close(layer.read_out([lower, flat]), flat)
    assert_close(FieldAttention.read_out([lower_fields, fields]), flat)
    # Each layer's maps, summed over D, the lower layer's first.
    read = CompressedInteraction.read_out([lower_fields, fields])
    assert_close(read, [[11, 3, 7]])
    assert_close(FactorizationMachine.read_out([flat]), [[10]])


# Wrong arguments and shapes


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MatrixCross(0), "`rank`.*at least 1.*Received: 0$"),
        (lambda: MixtureCross(0), "`rank`.*at least 1.*Received: 0$"),
        (lambda: MixtureCross(2, 0), "`num_experts`.*at least 1.*Received: 0$"),
        (lambda: CompressedInteraction(0), "`feature_maps`.*1.*Received: 0$"),
        (lambda: FieldAttention(0), "`num_heads`.*at least 1.*Received: 0$"),
        (lambda: FieldAttention(2, 0), "`head_width`.*at least 1.*Received: 0$"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("layer", [Cross, MatrixCross, MixtureCross])
@pytest.mark.parametrize(
    ("x0", "x", "message"),
    [
        ((2, 3), (2, 4), r"same width.*Received: \(2, 3\) and \(2, 4\)$"),
        ((2, 3, 4), (2, 4), r"\[B, d\].*Received: \(2, 3, 4\) and \(2, 4\)$"),
        ((2, 4), (2, 3, 4), r"\[B, d\].*Received: \(2, 4\) and \(2, 3, 4\)$"),
    ],
)
def test_wrong_shapes_of_crosses(layer, x0, x, message):
    with pytest.raises(ValueError, match=message):
        layer()(np.ones(x0), np.ones(x))


@pytest.mark.parametrize(
    ("layer", "shapes", "message"),
    [
        (FactorizationMachine, [(2, 4)], r"\[B, F, D\].*Received: \(2, 4\)$"),
        (FieldAttention, [(2, 4)], r"\[B, F, D\].*Received: \(2, 4\)$"),
        (InnerProducts, [(2, 3, 4, 5)], r"\[B, F, D\].*Received: \(2, 3, 4, 5\)$"),
        (InnerProducts, [(2, None, 4)], r"F and D known.*Received: \(2, None, 4\)$"),
        (CompressedInteraction, [(2, 4), (2, 3, 4)], r"\[B, F, D\].*\(2, 4\)$"),
        (CompressedInteraction, [(2, 3, 4), (2, 4)], r"\[B, F, D\].*\(2, 4\)$"),
        (
            CompressedInteraction,
            [(2, 3, 4), (2, 3, 5)],
            r"same embedding width.*Received: \(2, 3, 4\) and \(2, 3, 5\)$",
        ),
        (
            lambda: FieldAttention(3),
            [(2, 5, 4)],
            r"3 heads.*width of 4.*`head_width`.*Received: \(2, 5, 4\)$",
        ),
    ],
)
def test_wrong_shapes_of_fields(layer, shapes, message):
    with pytest.raises(ValueError, match=message):
        layer()(*[keras.Input(shape[1:], shape[0]) for shape in shapes])


# By hand


def test_cross_by_hand():
    layer = Cross()
    x0, x = np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]])
    layer(x0, x)
    layer.kernel.assign([[5.0], [6.0]])
    layer.bias.assign([0.5, -0.5])
    # x . w = 15 + 24 = 39
    assert_close(layer(x0, x), [[39 + 0.5 + 3, 78 - 0.5 + 4]])
    assert_close(layer(x, x), [[117 + 0.5 + 3, 156 - 0.5 + 4]])  # another x0


def test_cross_without_residual_by_hand():
    layer = Cross(residual=False)
    x0, x = np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]])
    layer(x0, x)
    layer.kernel.assign([[5.0], [6.0]])
    layer.bias.assign([0.5, -0.5])
    assert_close(layer(x0, x), [[39 + 0.5, 78 - 0.5]])


def test_matrix_cross_by_hand():
    x0, x = np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]])
    layer = MatrixCross()
    layer(x0, x)
    layer.kernel.assign(np.transpose([[1.0, 2.0], [5.0, -3.0]]))  # W^T
    layer.bias.assign([0.5, -0.5])
    # W x = [3 + 8, 15 - 12] = [11, 3]
    assert_close(layer(x0, x), [[11.5 + 3, 2 * 2.5 + 4]])
    low = MatrixCross(rank=1)
    low(x0, x)
    low.down_kernel.assign([[2.0], [-1.0]])  # V
    low.up_kernel.assign([[5.0, 7.0]])  # U^T
    # V^T x = 6 - 4 = 2, U 2 = [10, 14]
    assert_close(low(x0, x), [[10 + 3, 2 * 14 + 4]])


def test_mixture_cross_by_hand():
    layer = MixtureCross(rank=1, num_experts=2)
    x0, x = np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]])
    layer(x0, x)
    layer.gate_kernel.assign([[LN2, 0], [0, LN2 / 2]])  # W_g x = [3 ln 2, 2 ln 2]
    layer.down_kernel.assign([[1, 2], [0, -1]])  # V_1^T x = 3, V_2^T x = 6 - 4
    layer.code_kernel.assign([[[4]], [[5]]])
    layer.up_kernel.assign([[6, 7], [8, 9]])  # U_1 = [6, 7], U_2 = [8, 9]
    layer.bias.assign([0.5, -0.5])
    one, two = math.tanh(4 * math.tanh(3)), math.tanh(5 * math.tanh(2))
    first = (8 * (6 * one + 0.5) + 4 * (8 * two + 0.5)) / 12
    second = (8 * (7 * one - 0.5) + 4 * (9 * two - 0.5)) / 12
    assert_close(layer(x0, x), [[first + 3, 2 * second + 4]])


def test_factorization_machine_by_hand():
    fields = np.array([[[1.0, 2.0], [3.0, -4.0], [5.0, 6.0]]])
    outputs = FactorizationMachine()(fields)
    # 1*3 + 1*5 + 3*5 and -2*4 + 2*6 - 4*6
    assert_close(outputs, [[23, -20]])
    # The logit is the sum of the pairs' inner products: -5, 17 and -9.
    assert_close(FactorizationMachine.read_out([outputs]), [[3]])
    products = InnerProducts(self_products=False)(fields)[:, 6:]
    assert_close(np.sum(products, axis=1), [3])


def test_compressed_interaction_by_hand():
    x0 = np.array([[[1.0, 2.0], [3.0, 4.0]]])  # two fields
    x = np.array([[[5.0, 6.0], [7.0, 8.0], [9.0, 1.0]]])  # three maps
    layer = CompressedInteraction(1)
    layer(x0, x)
    # W_ij of map i and field j: [[1, 2], [0, -1], [10, 0]]
    layer.kernel.assign([[1], [2], [0], [-1], [10], [0]])
    # d = 1: 5*1 + 2 * 5*3 - 7*3 + 10 * 9*1; d = 2: 6*2 + 2 * 6*4 - 8*4 + 10 * 1*2
    assert_close(layer(x0, x), [[[104, 48]]])
    two = CompressedInteraction(2)
    two(x0, x)
    two.kernel.assign([[1, 0], [2, 0], [0, 0], [-1, 0], [10, 0], [0, 1]])
    # The second map is that of x_3 and x0_2: 9*3, 1*4.
    assert_close(two(x0, x), [[[104, 48], [27, 4]]])


def test_shapes_of_a_compressed_interaction_network():
    """Of layers with 4 and 2 maps over 3 fields, whose kernels the paper counts."""
    x0 = np.random.default_rng(0).normal(size=(5, 3, 2))
    lower, upper = CompressedInteraction(4), CompressedInteraction(2)
    first = lower(x0, x0)
    second = upper(x0, first)
    assert first.shape == (5, 4, 2)
    assert second.shape == (5, 2, 2)
    assert lower.kernel.shape == (3 * 3, 4)
    assert upper.kernel.shape == (4 * 3, 2)
    assert CompressedInteraction.read_out([first, second]).shape == (5, 4 + 2)


@pytest.mark.parametrize("residual", [False, True])
def test_field_attention_by_hand(residual):
    layer = FieldAttention(2, 1, residual=residual)
    fields = np.array([[[1.0, 0.0], [0.0, 1.0]]])
    layer(fields)
    # Head 1: q_m = ln 2 of field 1 and 0 of field 2; k = 1 and 0; v = 3 and 6.
    # Head 2: q = 0 and ln 3; k = 0 and 2; v = -10 and 20.
    layer.query_kernel.assign([[LN2, 0], [0, math.log(3)]])
    layer.key_kernel.assign([[1, 0], [0, 2]])
    layer.value_kernel.assign([[3, -10], [6, 20]])
    # Head 1: alpha = [2, 1] / 3 and [1, 1] / 2; head 2: [1, 1] / 2 and [1, 9] / 10.
    expected = np.array([[[4.0, 5.0], [4.5, 17.0]]])
    if residual:
        layer.residual_kernel.assign([[1, -7], [-5, 0.5]])
        expected = np.array([[[5.0, 0.0], [0.0, 17.5]]])  # ReLU(5 - 7), ReLU(4.5 - 5)
    assert_close(layer(fields), expected)


def test_inner_products_by_hand():
    fields = np.array([[[1.0, 2.0], [3.0, -4.0], [5.0, 6.0]]])
    flat = [1, 2, 3, -4, 5, 6]
    # Products of fields 1 with 1, 2, 3; 2 with 2, 3; 3 with 3.
    assert_close(InnerProducts()(fields), [[*flat, 5, -5, 17, 25, -9, 61]])
    pairs = InnerProducts(self_products=False)
    assert_close(pairs(fields), [[*flat, -5, 17, -9]])
    assert_close(pairs(fields[:, :1]), [[1, 2]])  # no pairs in one field


# What the mathematics promises


def stacked(make, width=6, layers=3):
    """x0 and what three layers with random kernels and no bias make of it."""
    x0 = np.random.default_rng(0).normal(size=(5, width))
    x = x0
    for seed in range(layers):
        layer = make()
        layer.build(x0.shape, x0.shape)
        layer_check.randomize(layer, seed)
        layer.bias.assign(np.zeros(width))
        x = layer(x0, x)
    return x0, x.numpy()


@pytest.mark.parametrize("residual", [False, True])
def test_vector_crosses_multiply_x0_by_a_number(residual):
    """xDeepFM, theorem 3.1; matrices do not."""
    x0, x = stacked(functools.partial(Cross, residual=residual))
    factors = x / x0
    assert_close(factors, np.tile(factors[:, :1], (1, 6)), rtol=1e-3)
    assert np.std(factors[:, 0]) > 0.1  # another number for each row
    for make in (MatrixCross, MixtureCross):
        x0, x = stacked(make)
        assert np.all(np.std(x / x0, axis=1) > 0.01)


def test_full_rank_is_the_full_matrix():
    """U (V^T x) with V = I is W x with W = U."""
    x0, x = floats((4,), (4,))(6)
    full, low = MatrixCross(), MatrixCross(rank=4)
    full(x0, x)
    low(x0, x)
    layer_check.randomize(full)
    low.down_kernel.assign(np.eye(4))
    low.up_kernel.assign(full.kernel)  # U^T and W^T
    low.bias.assign(full.bias)
    assert_close(low(x0, x), full(x0, x))
    up, bias = low.up_kernel.numpy().T, low.bias.numpy()
    assert_close(low(x0, x), reference.matrix_cross(x0, x, up, bias))


def test_one_expert_has_the_gate_1():
    x0, x = floats((4,), (4,))(6)
    layer = MixtureCross(rank=3, num_experts=1)
    layer(x0, x)
    layer_check.randomize(layer)
    codes = np.tanh(x @ layer.down_kernel.numpy())
    codes = np.tanh(codes @ layer.code_kernel.numpy()[0])
    product = codes @ layer.up_kernel.numpy() + layer.bias.numpy()
    assert_close(layer(x0, x), x0 * product + x)
    assert not hasattr(layer, "gate_kernel")


def test_a_gate_open_to_one_expert_leaves_it_alone():
    x0, x = floats((4,), (4,))(6)
    x = np.abs(x) + 0.1
    layer, alone = MixtureCross(2, 3), MixtureCross(2, 1)
    layer(x0, x)
    alone(x0, x)
    layer_check.randomize(layer)
    layer.gate_kernel.assign(np.tile([[0.0, 1000.0, 0.0]], (4, 1)))
    alone.down_kernel.assign(layer.down_kernel[:, 2:4])
    alone.code_kernel.assign(layer.code_kernel[1:2])
    alone.up_kernel.assign(layer.up_kernel[2:4])
    alone.bias.assign(layer.bias)
    assert_close(layer(x0, x), alone(x0, x))


def test_experts_start_apart_at_the_scale_of_matrices():
    layer = MixtureCross(rank=40, num_experts=3)
    layer.build((None, 50), (None, 50))
    codes = layer.code_kernel.numpy()
    assert np.abs(codes).max() <= math.sqrt(6 / 80)  # Glorot's limit
    assert np.abs(codes).max() > 0.9 * math.sqrt(6 / 80)
    assert not np.array_equal(codes[0], codes[1])
    assert not np.array_equal(codes[1], codes[2])


def test_interactions_with_weights_1_are_the_square_of_the_sum():
    (x0,) = floats((4, 3))(6)
    layer = CompressedInteraction(2, kernel_initializer="ones")
    squared = np.sum(x0, axis=1) ** 2
    assert_close(layer(x0, x0), np.stack([squared, squared], axis=1), atol=1e-5)
    # Which holds every pair twice, and the squares.
    pairs = 2 * FactorizationMachine()(x0) + np.sum(x0**2, axis=1)
    assert_close(pairs, squared, atol=1e-5)


@pytest.mark.parametrize("residual", [False, True])
def test_attention_follows_a_permutation_of_the_fields(residual):
    (fields,) = floats((5, 4))(6)
    layer = FieldAttention(residual=residual)
    layer(fields)
    layer_check.randomize(layer)
    outputs, order = layer(fields).numpy(), [3, 0, 4, 1, 2]
    assert_close(layer(fields[:, order]), outputs[:, order])
    assert not np.allclose(outputs[:, order], outputs)


def test_kernels_start_apart():
    for layer in (FieldAttention(), MatrixCross(rank=4)):
        layer.build(*[(None, 3, 4)] if layer.takes_fields else [(None, 4)] * 2)
        kernels = [w.numpy() for w in layer.weights if len(w.shape) == 2]
        for i, kernel in enumerate(kernels):
            assert not any(np.array_equal(kernel, other) for other in kernels[:i])
