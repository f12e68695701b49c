import functools
import math

import keras
import layer_check
import numpy as np
import pytest
import reference
import tensorflow as tf
from layer_check import Case, floats

from edcn_tf.layers import (
    Bridge,
    Cross,
    Deep,
    FieldEmbedding,
    FieldGate,
    field_embedding,
)
from edcn_tf.layers.bridge import KINDS

FIELDS = [
    {"name": "user", "slots": 1, "pooling": "mean"},
    {"name": "tags", "slots": 3, "pooling": "mean"},
    {"name": "item", "slots": 1, "pooling": "sum"},
    {"name": "words", "slots": 2, "pooling": "sum"},
]
PLAIN_FIELDS = [{"name": n, "slots": 1, "pooling": "mean"} for n in "abc"]
# Ids 10 and 11 stand for unseen values; one field has none.
UNSEEN_FIELDS = [{**f, "unseen": u} for f, u in zip(FIELDS, (10, 11, None, 11))]
NUM_ROWS = 12
COUNTS = np.array([9, 5, 0, 1, 2, 3, 8, 1, 4, 7, 2, 6])
LN2 = math.log(2)


def assert_close(actual, expected, rtol=2e-5, atol=2e-6):
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol)


def ids_of(fields):
    """Ids with unused slots at the ends of lists, some lists empty."""

    def make(rows):
        random = np.random.default_rng(rows)
        columns = []
        for field in fields:
            ids = random.integers(1, NUM_ROWS, (rows, field["slots"]))
            if field["slots"] > 1:
                used = random.integers(0, field["slots"] + 1, (rows, 1))
                used[0] = 0
                ids[np.arange(field["slots"]) >= used] = 0
            columns.append(ids)
        return [np.concatenate(columns, axis=1).astype(np.int32)]

    return make


def norm_of(weights, training):
    """Terms of BatchNorm: in training the batch's statistics, not the moving ones."""
    names = ["gamma", "beta"] + ["moving_mean", "moving_variance"] * (not training)
    return [weights[f"normalization/{name}"] for name in names]


def gate_case(batch_norm=None, **options):
    def expected(w, fields, training):
        norm = norm_of(w, training) if batch_norm else None
        return reference.gate(fields, w["gate"], **options, kind=batch_norm, norm=norm)

    config = {**options, "batch_norm": batch_norm}
    return Case(
        functools.partial(FieldGate, **config), floats((3, 2)), expected, config
    )


def bridge_case(kind, shared_weights=False):
    config = {"kind": kind, "shared_weights": shared_weights}
    initializer = keras.initializers.RandomNormal(stddev=0.37)
    return Case(
        functools.partial(Bridge, **config, kernel_initializer=initializer),
        floats((4,), (4,)),
        lambda w, x, h, training: reference.bridge(kind, x, h, w),
        {**config, "kernel_initializer": keras.initializers.serialize(initializer)},
    )


def deep_case(batch_norm=False, activation_first=False, **options):
    def expected(w, h, training):
        norm = norm_of(w, training) if batch_norm else None
        return reference.deep(
            h, w["dense/kernel"], w["dense/bias"], norm, activation_first
        )

    config = {
        "batch_norm": batch_norm,
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


def embedding_case(fields, **options):
    config = {
        "fields": fields,
        "num_rows": NUM_ROWS,
        "embedding_dim": 2,
        "embeddings_initializer": keras.initializers.serialize(
            keras.initializers.RandomUniform(0.37, 0.73)
        ),
        **options,
    }
    return Case(
        functools.partial(FieldEmbedding, **config),
        ids_of(fields),
        lambda w, ids, training: reference.pooled(w["table"], ids, fields),
        config,
    )


CASES = {
    "gate": gate_case(temperature=0.37, scale=True),
    "gate_sum_1": gate_case(temperature=0.37, scale=False),
    "gate_scalar_norm": gate_case("scalar", temperature=3.7, scale=False),
    "gate_feature_norm": gate_case("feature", temperature=3.7, scale=True),
    "deep": deep_case(units=3),
    "deep_activation_first": deep_case(activation_first=True),
    "deep_norm": deep_case(batch_norm=True),
    "deep_norm_activation_first": deep_case(batch_norm=True, activation_first=True),
    "embedding": embedding_case(PLAIN_FIELDS),
    "embedding_lists": embedding_case(FIELDS),
    **{f"bridge_{kind}": bridge_case(kind) for kind in KINDS},
    "bridge_attention_shared": bridge_case("attention", True),
    "bridge_attention_components_shared": bridge_case("attention_components", True),
}
# Checked as a layer only: dropout is random, and the counts are no part of a config.
MORE_CASES = {
    "deep_dropout": deep_case(dropout=0.37, units=5),
    "embedding_l2": embedding_case(FIELDS, l2=0.37),
    "embedding_unseen": embedding_case(UNSEEN_FIELDS, unseen_rate=0.37, seed=3),
}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@pytest.mark.parametrize(
    "case", [*CASES.values(), *MORE_CASES.values()], ids=[*CASES, *MORE_CASES]
)
def test_is_a_well_behaved_layer(case):
    layer_check.check_layer(case)


@each_case
def test_equals_the_formula(case):
    layer_check.check_formula(case)


@each_case
@pytest.mark.parametrize("training", [False, True])
def test_gradients_equal_finite_differences(case, training):
    layer_check.check_gradients(case, training)


@pytest.fixture(scope="module")
def reloaded(tmp_path_factory):
    cases = {**CASES, **MORE_CASES}
    return layer_check.reloaded(tmp_path_factory.mktemp("reload"), cases)


@pytest.mark.parametrize("name", [*CASES, *MORE_CASES])
def test_loads_in_a_clean_process(reloaded, name):
    before, after = reloaded
    assert_close(after[name], before[name], rtol=1e-6, atol=1e-7)


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


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Bridge("multiply"), "kind.*hadamard.*Received: 'multiply'"),
        (lambda: FieldGate(0), "temperature.*> 0.*Received: 0"),
        (lambda: FieldGate(-0.5), "temperature.*> 0.*Received: -0.5"),
        (lambda: FieldGate(batch_norm="layer"), "batch_norm.*'scalar'.*'layer'"),
        (lambda: FieldGate(batch_norm=True), "batch_norm.*Received: True"),
        (lambda: Deep(0), "units.*at least 1.*Received: 0"),
        (lambda: Deep(dropout=1.0), "dropout.*Received: 1.0"),
        (lambda: Deep(dropout=-0.1), "dropout.*Received: -0.1"),
        (lambda: FieldEmbedding(FIELDS, 0, 2), "num_rows.*Received: 0"),
        (lambda: FieldEmbedding(FIELDS, 3, 0), "embedding_dim.*Received: 0"),
        (lambda: FieldEmbedding(FIELDS, 3, 2, l2=-1.0), "l2.*Received: -1.0"),
        (lambda: FieldEmbedding(FIELDS, 3, 2, unseen_rate=1), "unseen_rate.*: 1"),
        (lambda: FieldEmbedding(FIELDS, 3, 2, unseen_rate=-0.1), "unseen_rate.*: -0.1"),
        (
            lambda: FieldEmbedding([{**FIELDS[0], "pooling": "max"}], 3, 2),
            "pooling.*Received: .*'max'",
        ),
        (lambda: FieldEmbedding([{**FIELDS[0], "slots": 0}], 3, 2), "slots.*: 0"),
        (lambda: Bridge(width=3), "width"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("layer", [Bridge("add"), Bridge("concat")])
def test_unequal_widths(layer):
    with pytest.raises(ValueError, match=r"same width.*\(2, 3\).*\(2, 4\)"):
        layer(np.ones((2, 3)), np.ones((2, 4)))


def test_wrong_input_shapes():
    with pytest.raises(ValueError, match=r"\[B, 7\].*Received: \(2, 6\)"):
        FieldEmbedding(FIELDS, 3, 2)(np.ones((2, 6), np.int32))
    layer = FieldEmbedding(FIELDS, 3, 2, l2=0.1, row_counts=[1, 2])
    with pytest.raises(ValueError, match=r"row_counts.*\(3,\).*Received: \(2,\)"):
        layer(np.ones((2, 7), np.int32))


# The gate


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
    layer.gate.assign([0, math.log(3)])
    assert_close(layer(fields), [expected])
    assert_close(
        layer.weights_of_fields(),
        reference.gate_weights(np.array([0, math.log(3)]), temperature, scale),
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


def test_gate_feature_batch_norm_has_one_of_each_component():
    layer = FieldGate(batch_norm="feature")
    # F * D = 4 components; of each two values, whose distances from the mean are 1,
    # 2, 3 and 4.
    fields = np.array([[[1.0, 2.0], [3.0, 4.0]], [[3.0, 6.0], [9.0, 12.0]]])
    outputs = layer(fields, training=True)
    half = [d / math.sqrt(d**2 + 0.001) for d in (1, 2, 3, 4)]
    assert_close(outputs, np.reshape([np.negative(half), half], (2, 2, 2)))
    assert_close(layer.normalization.moving_mean, 0.01 * np.array([2, 4, 6, 8]))


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


@pytest.mark.parametrize("activation_first", [False, True])
def test_dropout_only_in_training(activation_first):
    keras.utils.set_random_seed(0)
    layer = Deep(50, dropout=0.2, activation_first=activation_first)
    h = np.random.default_rng(0).normal(size=(200, 8))
    kept = layer(h).numpy()
    assert_close(layer(h, training=False), kept)
    dropped = layer(h, training=True).numpy()
    active = kept != 0
    assert_close(dropped[active & (dropped != 0)], kept[active & (dropped != 0)] / 0.8)
    assert np.mean(dropped[active] == 0) == pytest.approx(0.2, abs=0.02)


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


# The embedding


def test_pooling_by_hand():
    layer = FieldEmbedding(FIELDS, num_rows=8, embedding_dim=2)
    layer(np.zeros((1, 7), np.int32))
    table = np.array([[i, 10 * i] for i in range(8)], np.float32)
    table[0] = 99  # padding must not be seen
    layer.table.assign(table)
    ids = np.array(
        [
            # user, three tags (mean), item, two words (sum)
            [1, 2, 4, 0, 3, 5, 6],
            [7, 2, 2, 5, 7, 4, 0],
            [1, 0, 0, 0, 2, 0, 0],
            [1, 0, 6, 0, 2, 0, 3],
        ]
    )
    assert_close(
        layer(ids),
        [
            [[1, 10], [3, 30], [3, 30], [11, 110]],
            [[7, 70], [3, 30], [7, 70], [4, 40]],
            [[1, 10], [0, 0], [2, 20], [0, 0]],
            [[1, 10], [6, 60], [2, 20], [3, 30]],
        ],
    )


@pytest.mark.parametrize("fields", [PLAIN_FIELDS, FIELDS])
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_gradient_of_the_table_is_sparse(fields, dtype):
    layer = FieldEmbedding(fields, NUM_ROWS, 2, l2=0.1, row_counts=COUNTS, dtype=dtype)
    (ids,) = ids_of(fields)(5)

    @tf.function
    def gradient_of_the_table(ids):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.cast(layer(ids, training=True), tf.float32))
            loss += layer.losses[0]
        return tape.gradient(loss, layer.table)

    layer.build(ids.shape)
    gradient = gradient_of_the_table(ids)
    assert isinstance(gradient, tf.IndexedSlices)
    assert gradient.values.dtype == tf.float32
    assert set(gradient.indices.numpy()) <= set(ids.ravel())
    assert not tf.convert_to_tensor(gradient)[0].numpy().any()  # padding


def l2_layer(fields, **kwargs):
    layer = FieldEmbedding(fields, NUM_ROWS, 2, l2=0.37, row_counts=COUNTS, **kwargs)
    layer.build((None, sum(field["slots"] for field in fields)))
    layer_check.randomize(layer)
    return layer


def test_l2_by_hand():
    layer = FieldEmbedding(
        [{"name": "tags", "slots": 2, "pooling": "sum"}],
        num_rows=4,
        embedding_dim=2,
        l2=0.5,
        row_counts=[7, 2, 4, 0],
    )
    layer(np.zeros((1, 2), np.int32))
    layer.table.assign([[9, 9], [1, 2], [3, 0], [0, 2]])
    layer(np.array([[1, 2], [1, 0], [3, 3], [0, 0]]), training=True)
    # 5/2 + 9/4; 5/2 and padding; 4 twice, counted once at least; nothing
    assert_close(layer.losses, [0.5 * (4.75 + 2.5 + 8 + 0) / 4])


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("fields", [PLAIN_FIELDS, FIELDS])
def test_l2_only_in_training(fields, dtype):
    layer = l2_layer(fields, dtype=dtype)
    (ids,) = ids_of(fields)(6)
    table = layer.table.numpy().astype(np.float64)
    layer(ids, training=True)
    assert_close(layer.losses, [reference.l2(table, ids, COUNTS, 0.37)])
    layer(ids, training=False)
    assert layer.losses == []
    layer(ids)
    assert layer.losses == []


def test_l2_gradient():
    layer = l2_layer(FIELDS)
    (ids,) = ids_of(FIELDS)(6)
    table = layer.table.numpy().astype(np.float64)
    with tf.GradientTape() as tape:
        layer(ids, training=True)
        (loss,) = layer.losses
    expected = reference.numeric_gradient(
        lambda: reference.l2(table, ids, COUNTS, 0.37), table
    )
    gradient = tf.convert_to_tensor(tape.gradient(loss, layer.table))
    assert_close(gradient, expected, rtol=1e-4, atol=1e-6)


def test_l2_of_an_epoch_is_that_of_the_table():
    """Whatever the batches, their mean is (l2 / N) ||E||^2."""
    ids = ids_of(FIELDS)(40)[0]
    counts = np.bincount(ids.ravel(), minlength=NUM_ROWS)
    assert counts.min() > 0
    layer = FieldEmbedding(FIELDS, NUM_ROWS, 2, l2=0.37, row_counts=counts)
    losses = []
    for batch in np.split(ids, 4):
        layer(batch, training=True)
        losses += layer.losses
    squares = np.sum(layer.table.numpy().astype(np.float64)[1:] ** 2)
    assert_close(np.mean(losses), 0.37 / 40 * squares)


def test_counts_are_saved_with_the_model(tmp_path):
    layer = l2_layer(FIELDS)
    model = layer_check.functional(layer, ids_of(FIELDS)(2))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras").layers[-1]
    expected = 1 / np.maximum(COUNTS, 1)
    expected[0] = 0
    assert_close(loaded.inverse_counts, expected)


def test_unseen_rate_replaces_ids_in_training_only():
    layer = FieldEmbedding(UNSEEN_FIELDS, NUM_ROWS, 1, unseen_rate=0.25, seed=1)
    ids = np.tile(np.array([[1, 2, 0, 0, 3, 4, 0]], np.int32), (2000, 1))
    layer(ids)
    layer.table.assign(np.arange(NUM_ROWS)[:, None])
    np.testing.assert_array_equal(layer(ids)[:, :, 0], np.tile([1, 2, 3, 4], (2000, 1)))
    user, tags, item, words = layer(ids, training=True).numpy()[:, :, 0].T
    # The one tag that is used may become 11; padding stays padding.
    for values, own, unseen in [(user, 1, 10), (tags, 2, 11), (words, 4, 11)]:
        assert set(values) == {own, unseen}
        assert np.mean(values == unseen) == pytest.approx(0.25, abs=0.04)
    np.testing.assert_array_equal(item, 3)
    again = layer(ids, training=True).numpy()[:, 0, 0]
    assert 0 < np.mean(again != user) < 1  # drawn anew


def test_the_table_stays_float32_and_out_of_xla():
    layer = FieldEmbedding(PLAIN_FIELDS, 5, 2, dtype="bfloat16")
    assert layer(np.ones((2, 3), np.int32)).dtype == tf.bfloat16
    assert layer.table.dtype == "float32"
    assert not layer.supports_jit


def test_l2_leaves_out_what_was_put_in_place_of_an_id():
    """The unseen row's count does not hold replacements: its L2 would be huge."""
    field = {"name": "user", "slots": 1, "pooling": "mean", "unseen": 1}
    layer = FieldEmbedding(
        [field],
        num_rows=4,
        embedding_dim=1,
        l2=1.0,
        row_counts=[0, 0, 500, 500],
        unseen_rate=0.5,
        seed=0,
        embeddings_initializer="ones",
    )
    output = layer(np.full((1000, 1), 2), training=True)
    assert output.shape == (1000, 1, 1)
    # 1 / 500 for each of about half the rows, 0 for the others.
    assert float(layer.losses[0]) == pytest.approx(0.5 / 500, rel=0.1)


def test_a_large_table_is_made_and_stored_in_parts(monkeypatch, tmp_path):
    """Parts of two rows: no two alike, the same with the same seed, and kept."""
    monkeypatch.setattr(field_embedding, "PART_SIZE", 8)
    fields = [{"name": "user", "slots": 1, "pooling": "mean"}]

    def made(**kwargs):
        initializer = keras.initializers.RandomNormal(stddev=3.0, seed=5)
        layer = FieldEmbedding(fields, 1001, 4, **kwargs)
        layer.embeddings_initializer = initializer
        layer.build((None, 1))
        return layer

    table = made().table.numpy()
    assert len(np.unique(table)) == table.size
    assert abs(table.std() - 3) < 0.1
    np.testing.assert_array_equal(table, made().table.numpy())
    ids = keras.Input([1], dtype="int32")
    layer = made(l2=2.0, row_counts=np.arange(1001))
    model = keras.Model(ids, layer(ids))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras").layers[-1]
    for name in ("table", "inverse_counts"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(layer, name))
    model.save_weights(tmp_path / "a.weights.h5")
    for rows, width in [(1000, 4), (1002, 4), (1001, 5)]:
        other = keras.Model(ids, FieldEmbedding(fields, rows, width, l2=2.0)(ids))
        with pytest.raises(ValueError, match=f"has not the shape .{rows}, {width}"):
            other.load_weights(tmp_path / "a.weights.h5")
    monkeypatch.setattr(field_embedding, "PART_SIZE", 100)  # of another version
    loaded = keras.saving.load_model(tmp_path / "model.keras").layers[-1]
    np.testing.assert_array_equal(loaded.table, layer.table)
