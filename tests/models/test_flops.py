import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from edcn_tf import (
    EDCN,
    FAMILY,
    PRESETS,
    FieldEmbedding,
    LogisticRegression,
    make_model,
)
from edcn_tf.layers.bridge import KINDS
from edcn_tf.models.flops import count_flops, parameters_by_layer, unknown_operations
from edcn_tf.models.parts import GATES

FIELDS = [
    {"name": "user", "slots": 1, "pooling": "mean"},
    {"name": "tags", "slots": 3, "pooling": "mean"},
    {"name": "words", "slots": 2, "pooling": "sum"},
]
SPEC = {"fields": FIELDS, "num_rows": 11}
D = 2  # width of an embedding
d = 3 * D  # width of the towers


class Stack(keras.Model):
    """Embeddings `[B, 3, 2]`, and layers or functions one after the other."""

    def __init__(self, *steps):
        super().__init__(name="stack")
        self.embedding = FieldEmbedding(FIELDS, 11, D, name="embedding")
        self.steps = list(steps)

    def build(self, input_shape):
        self.call(np.zeros((1, 6)))
        self.built = True

    def call(self, ids, training=False):
        x = self.embedding(ids)
        for step in self.steps:
            x = step(x)
        return x


def edcn(**options):
    return EDCN(SPEC, **{"embedding_dim": D, "name": "edcn", **options})


def flops_of(*steps):
    """Operations of a stack but for those of its embedding."""
    flops = count_flops(Stack(*steps))
    del flops["embedding"]
    return flops


def flops_of_function(function):
    return flops_of(function)["stack"]


# By hand

# Lists: a mean over 3 slots (numbers of used slots, share of each, product, sum), and
# a sum over 2 (product, sum).
EMBEDDING = (3 + 1 + 3 + 3 * D + 3 * D) + (2 * D + 2 * D)
CROSS = 2 * d + d + d + d
DEEP = 2 * d * d + d + d
HIDDEN = 2 * d * d + d + d
SIZE = 2 * d + 3  # of a mean of squares: its root, what keeps it above 0, one over it
BRIDGE = {
    "add": d,
    "hadamard": SIZE + 2 * d,
    "concat": 2 * (2 * d) * d + d + d,
    "attention": 2 * (HIDDEN + 2 * d) + 5 * 2 + (d + d + d),
    "attention_components": 2 * (HIDDEN + 2 * d * d + 5 * d) + (d + d + d),
}
OUTPUT = 3 * 2 * d + 3  # three products, their sum with the bias


def test_a_stack_of_dense_layers_by_hand():
    flops = count_flops(
        Stack(
            keras.layers.Flatten(name="flatten"),
            keras.layers.Dense(5, activation="relu", name="first"),
            keras.layers.Dense(4, use_bias=False, name="second"),
            keras.layers.Dense(1, activation="sigmoid", name="last"),
        )
    )
    assert flops == {
        "embedding": EMBEDDING,
        "flatten": 0,
        "first": 2 * 6 * 5 + 5 + 5,
        "second": 2 * 5 * 4,
        "last": 2 * 4 + 1 + 1,
        "stack": 0,
    }
    assert all(type(number) is int for number in flops.values())


@pytest.mark.parametrize(
    ("bridge", "shared_weights"),
    [
        *((kind, False) for kind in KINDS),
        *((kind, True) for kind in KINDS if "attention" in kind),
    ],
)
def test_edcn_by_hand(bridge, shared_weights):
    model = edcn(num_layers=2, bridge=bridge, bridge_shared_weights=shared_weights)
    expected = {"embedding": EMBEDDING, "output": OUTPUT, "edcn": 1}  # a sigmoid
    for layer in range(2):
        expected |= {
            f"deep_gate_{layer}": d,  # the softmax is that of the batch
            f"deep_{layer}": DEEP,
            f"cross_gate_{layer}": d,
            f"cross_{layer}": CROSS,
            f"bridge_{layer}": BRIDGE[bridge],
        }
    assert count_flops(model) == expected


@pytest.mark.parametrize(
    ("options", "gate", "deep"),
    [
        ({"gate_scale": False, "temperature": 0.5}, d, DEEP),
        ({"gate_batch_norm": "scalar"}, d + 2 * d, DEEP),
        ({"gate_batch_norm": "feature", "deep_batch_norm": True}, 3 * d, DEEP + 2 * d),
        ({"activation_first": True, "dropout": 0.0}, d, DEEP),
        ({"gate": "none"}, None, DEEP),
    ],
)
def test_variants_by_hand(options, gate, deep):
    flops = count_flops(edcn(num_layers=1, **options))
    assert flops.get("cross_gate_0") == flops.get("deep_gate_0") == gate
    assert flops["deep_0"] == deep
    assert flops["cross_0"] == CROSS


def test_logistic_regression_by_hand():
    flops = count_flops(LogisticRegression(SPEC, name="linear"))
    embedding = (3 + 1 + 3 + 3 + 3) + (2 + 2)
    # The sum over fields, the bias, the sigmoid.
    assert flops == {"embedding": embedding, "linear": 3 + 1 + 1}


def test_in_half_precision_as_many():
    half = edcn(dtype="mixed_bfloat16")
    full = edcn()
    assert count_flops(half) == count_flops(full)


@pytest.mark.parametrize("bridge", KINDS)
def test_matrix_products_are_those_of_the_profiler(bridge):
    """Of other operations TensorFlow's profiler knows only some."""
    model = edcn(num_layers=2, bridge=bridge)
    model.build((None, 6))
    elementwise = {
        "add": d,
        "hadamard": SIZE + 2 * d,
        "concat": 2 * d,
        "attention": 2 * 2 * d + 5 * 2 + 3 * d,
        "attention_components": 2 * (2 * d + 5 * d) + 3 * d,
    }[bridge]
    rest = EMBEDDING + 2 * (d + 2 * d + d + 3 * d + elementwise) + 4
    products = sum(count_flops(model).values()) - rest
    assert profiled(model, 3) - profiled(model, 2) == products > 100


def profiled(model, rows):
    """What the profiler counts for the matrix products of a batch."""
    function = tf.function(lambda ids: model(ids, training=False))
    graph = function.get_concrete_function(tf.TensorSpec((rows, 6), tf.int32)).graph
    profiler = tf.compat.v1.profiler
    options = profiler.ProfileOptionBuilder(
        profiler.ProfileOptionBuilder.float_operation()
    )
    options = options.with_node_names(show_name_regexes=[".*MatMul.*"])
    found = profiler.profile(graph, options=options.with_empty_output().build())
    return sum(child.float_ops for child in found.children)


# Types of operations

MATRIX = np.ones((6, 4), np.float32)


def flat(x):
    return ops.reshape(x, (-1, 6))


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: tf.matmul(flat(x), MATRIX), 2 * 6 * 4),
        (lambda x: tf.matmul(flat(x), MATRIX.T, transpose_b=True), 2 * 6 * 4),
        # [4, B] and its transpose by [B, 6]: each example adds 4 * 6 products.
        (lambda x: tf.matmul(tf.ones((x.shape[0], 4)), flat(x), True), 2 * 4 * 6),
        (lambda x: tf.matmul(x, x, transpose_b=True), 2 * 3 * 2 * 3),
        (lambda x: tf.matmul(x, x, transpose_a=True), 2 * 2 * 3 * 2),
        (lambda x: tf.einsum("bfd,bgd->bfg", x, x), 2 * 3 * 3 * 2),
        (lambda x: tf.einsum("...d,de->...e", x, np.ones((2, 5), "f")), 2 * 3 * 2 * 5),
        (lambda x: tf.einsum("bfd,bgd->bfgd", x, x), 3 * 3 * 2),
        (lambda x: tf.einsum("bfd->bdf", x), 0),
        (lambda x: tf.einsum("bfd->bf", x), 3 * 2),
        (
            lambda x: tf.nn.conv2d(
                x[..., None], np.ones((2, 1, 1, 5), "f"), 1, "VALID"
            ),
            2 * (2 * 2 * 5) * 2,
        ),
        (lambda x: tf.add_n([x, x, x]), 2 * 6),
        (lambda x: x * x + 1 - x / 2, 4 * 6),
        (lambda x: x * np.ones((4, 1, 1, 1), "f"), 4 * 6),
        (tf.nn.relu, 6),
        (tf.nn.silu, 3 * 6),  # x * sigmoid(1 * x), an IdentityN behind it
        (tf.tanh, 6),
        (tf.nn.softmax, 5 * 6),
        (tf.nn.log_softmax, 5 * 6),
        (lambda x: tf.reduce_sum(x, axis=2), 6),
        (lambda x: tf.reduce_mean(x, axis=(1, 2)), 6),
        (lambda x: tf.reduce_max(x, axis=1), 6),
        (lambda x: ops.concatenate([x, x[:, :1]], axis=1), 0),
        (lambda x: tf.cast(tf.cast(x, "bfloat16"), "float32"), 0),
        (lambda x: tf.gather(tf.transpose(x, (0, 2, 1)), [2, 0], axis=2), 0),
        (lambda x: tf.where(x > 0, x, tf.zeros_like(x)), 0),
        (lambda x: tf.cast(tf.cast(x, "int32") * 3 + 1, "float32"), 0),
        (lambda x: x * tf.nn.softmax(tf.ones((2,)) * 3), 6),
    ],
)
def test_types_of_operations(function, expected):
    assert flops_of_function(function) == expected
    assert unknown_operations(Stack(function)) == []


def test_what_the_output_does_not_depend_on_is_not_counted():
    def step(x):
        tf.matmul(flat(x), MATRIX)
        return x + 1

    assert flops_of_function(step) == 6


def test_an_unknown_operation_counts_its_output():
    assert flops_of_function(tf.math.lgamma) == 6
    assert unknown_operations(Stack(tf.math.lgamma, tf.math.digamma)) == [
        "Digamma",
        "Lgamma",
    ]


def made(name):
    if not FAMILY[name].needs_history:
        return make_model(SPEC, name)
    past = {"name": "past", "slots": 4, "pooling": "mean", "kind": "sequence"}
    fields = [*FIELDS, {**past, "of": "user", "along": None}]
    return make_model({**SPEC, "fields": fields}, name, embedding_dim=4)


def test_a_recurrent_layer_counts_each_of_its_steps():
    """Of DIEN: 4 steps of two GRUs, each of 2 * 2 * 4 * 12 operations and more."""
    flops = count_flops(made("dien"))["history_of_past"]
    products = 4 * 2 * (2 * 2 * 4 * 12)
    assert products < flops < 1.5 * products


@pytest.mark.parametrize(
    "model",
    [
        *(lambda name=name: EDCN.from_preset(SPEC, name) for name in PRESETS),
        *(lambda kind=kind: edcn(bridge=kind) for kind in KINDS),
        *(lambda gate=gate: edcn(gate=gate) for gate in [*GATES, "none"]),
        *(lambda name=name: made(name) for name in FAMILY),
    ],
)
def test_every_operation_of_the_models_is_known(model):
    assert unknown_operations(model()) == []


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            lambda x: tf.while_loop(
                lambda y: tf.reduce_sum(y) < 9, lambda y: [tf.exp(y)], [x]
            )[0],
            "StatelessWhile",
        ),
        (
            lambda x: tf.cond(tf.reduce_sum(x) > 0, lambda: x, lambda: x * 2),
            "StatelessIf",
        ),
        (tf.function(lambda x: x * 2), "PartitionedCall"),
        (
            lambda x: tf.boolean_mask(x, tf.reduce_sum(x, axis=(1, 2)) > 0) * 2,
            "depends on values",
        ),
    ],
)
def test_what_cannot_be_counted_is_refused(function, message):
    with pytest.raises(ValueError, match=f"{message}.*Received: '"):
        flops_of(function)


# Names


class Twice(Stack):
    """Calls its first layer twice, so that Keras' scopes are those of the others."""

    def __init__(self):
        super().__init__()
        self.first = keras.layers.Dense(6, name="cross")
        self.second = keras.layers.Dense(4, name="cross_1")
        self.third = keras.layers.Dense(5, name="cross_1_1")

    def call(self, ids, training=False):
        x = self.first(self.first(flat(self.embedding(ids))))
        with tf.name_scope("tower"):
            return self.third(self.second(x)) * 2


def test_names_like_another_with_a_suffix_are_told_apart():
    expected = {
        "embedding": EMBEDDING,
        "cross": 2 * (2 * 6 * 6 + 6),
        "cross_1": 2 * 6 * 4 + 4,
        "cross_1_1": 2 * 4 * 5 + 5,
        "stack": 5,
    }
    model = Twice()
    for _ in range(2):
        assert count_flops(model) == expected
    model(np.zeros((2, 6)))
    assert count_flops(model) == expected


def test_ten_layers_and_more():
    flops = count_flops(edcn(num_layers=12, gate="none"))
    assert [flops[f"cross_{layer}"] for layer in range(12)] == [CROSS] * 12


def test_layers_of_one_name_are_one_entry():
    layers = [keras.layers.Dense(4, name="dense"), keras.layers.Dense(5, name="dense")]
    model = Stack(flat, *layers)
    assert count_flops(model)["dense"] == (2 * 6 * 4 + 4) + (2 * 4 * 5 + 5)
    assert parameters_by_layer(model)["dense"] == (6 * 4 + 4) + (4 * 5 + 5)


def test_layers_inside_of_layers_are_part_of_them():
    inner = [keras.layers.Dense(4, name="dense"), keras.layers.Dense(5, name="stack")]
    flops = flops_of(flat, keras.Sequential(inner, name="tower"))
    assert flops == {"tower": (2 * 6 * 4 + 4) + (2 * 4 * 5 + 5), "stack": 0}


def test_order_is_that_of_execution():
    flops = count_flops(edcn(num_layers=2))
    first = ["cross_gate_0", "deep_gate_0", "deep_0", "cross_0", "bridge_0"]
    second = ["cross_gate_1", "cross_1", "deep_gate_1", "deep_1", "bridge_1"]
    assert list(flops) == ["embedding", *first, *second, "output", "edcn"]


# The model


def test_the_model_stays_as_it_is(tmp_path):
    model = edcn()
    model.build((None, 6))
    before, weights = model(np.ones((2, 6))), [w.path for w in model.weights]
    count_flops(model)
    np.testing.assert_array_equal(model(np.ones((2, 6))), before)
    assert [w.path for w in model.weights] == weights
    assert not any("call" in vars(layer) for layer in model.layers)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(np.ones((2, 6))), before)


def test_the_model_stays_as_it_is_after_an_error():
    layer = keras.layers.Dense(4)
    model = Stack(layer)
    model.build((None, 6))
    layer.call = own = lambda x, training: 1 / 0
    with pytest.raises(ZeroDivisionError):
        count_flops(model)
    assert "call" not in vars(model.embedding)
    assert layer.call is own


def test_a_large_table_costs_nothing():
    spec = {"fields": FIELDS, "num_rows": 100_000}
    small = count_flops(edcn())
    assert count_flops(EDCN(spec, embedding_dim=D, name="edcn")) == small


# Parameters


@pytest.mark.parametrize("bridge", KINDS)
def test_parameters_by_hand(bridge):
    model = edcn(num_layers=2, bridge=bridge)
    flops, parameters = count_flops(model), parameters_by_layer(model)
    joint = {"concat": 2 * d * d + d, "attention": 2 * (d * d + d + d)}
    joint["attention_components"] = 2 * (d * d + d + d * d)
    expected = {"embedding": 11 * D, "output": 3 * d + 1, "edcn": 0}
    for layer in range(2):
        expected |= {
            f"deep_gate_{layer}": 3,
            f"cross_gate_{layer}": 3,
            f"deep_{layer}": d * d + d,
            f"cross_{layer}": d + d,
            f"bridge_{layer}": joint.get(bridge, 0),
        }
    assert parameters == expected
    assert set(parameters) == set(flops)
    trainable = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    assert sum(parameters.values()) == trainable


def test_parameters_that_are_not_trained_or_shared():
    model = LogisticRegression(SPEC, l2=1.0, name="linear")
    model.build((None, 6))
    assert parameters_by_layer(model) == {"embedding": 11, "linear": 1}
    model.embedding.trainable = False
    assert parameters_by_layer(model) == {"embedding": 0, "linear": 1}
    dense = keras.layers.Dense(6, name="dense")
    model = Stack(flat, keras.Sequential([dense], name="tower"), dense)
    count_flops(model)
    assert parameters_by_layer(model) == {
        "embedding": 11 * D,
        "tower": 42,
        "dense": 0,
        "stack": 0,
    }
