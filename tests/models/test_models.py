import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from edcn_tf import (
    EDCN,
    PRESETS,
    FeatureSpec,
    Field,
    LogisticRegression,
    Schema,
    SparseAdam,
)
from edcn_tf.features.spec import FieldSpec
from edcn_tf.layers.bridge import KINDS
from helpers import layer_check, reference

FIELDS = [
    {"name": "user", "slots": 1, "pooling": "mean"},
    {"name": "tags", "slots": 3, "pooling": "mean"},
    {"name": "words", "slots": 2, "pooling": "sum"},
]
SPEC = {"fields": FIELDS, "num_rows": 11}
IDS = np.array(
    [
        [1, 2, 3, 4, 5, 6],
        [7, 2, 2, 0, 8, 0],
        [9, 0, 0, 0, 0, 0],
        [10, 3, 0, 0, 6, 6],
        [4, 5, 9, 0, 1, 0],
    ],
    np.int32,
)
LABELS = np.array([[1.0], [0.0], [0.0], [1.0], [0.0]])
# No two at their defaults; what a config must bring back.
OPTIONS = {
    "embedding_dim": 3,
    "num_layers": 3,
    "bridge": "attention",
    "bridge_shared_weights": True,
    "gate": "softmax",
    "temperature": 0.37,
    "gate_scale": False,
    "gate_batch_norm": "feature",
    "deep_batch_norm": True,
    "batch_norm_momentum": 0.37,
    "batch_norm_epsilon": 0.037,
    "batch_norm_gamma": "uniform",
    "activation_first": True,
    "dropout": 0.37,
    "unseen_rate": 0.137,
    "l2": 0.037,
    "embeddings_initializer": keras.initializers.serialize(
        keras.initializers.RandomNormal(stddev=0.37)
    ),
}


def made(model_class=EDCN, scale=0.7, **options):
    """A small model with random weights, so that no initial value hides a mistake."""
    if model_class is EDCN:
        options = {"embedding_dim": 2, **options}
    model = model_class(SPEC, **options)
    model.build((None, 6))
    layer_check.randomize(model, scale=scale)
    return model


def expected_logits(model, weights=None, **kwargs):
    weights = weights or layer_check.named_weights(model)
    embedded = reference.pooled(weights["embedding/table"], IDS, FIELDS)
    return reference.parallel_logits(
        weights, embedded.reshape(5, -1), model.widths, model.get_config(), **kwargs
    )


def assert_close(actual, expected, rtol=5e-5, atol=1e-5):
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol)


@pytest.mark.parametrize("bridge", KINDS)
@pytest.mark.parametrize(
    "options",
    [
        {"gate_scale": True},
        {"gate_scale": False},
        {"gate_scale": False, "gate_batch_norm": "scalar"},
        {"gate_scale": True, "gate_batch_norm": "feature", "deep_batch_norm": True},
        {"gate": "none", "activation_first": True},
    ],
    ids=["scaled", "sum_1", "scalar_norm", "feature_norm", "no_gate"],
)
def test_forward_equals_the_formula(bridge, options):
    model = made(bridge=bridge, num_layers=3, temperature=0.7, **options)
    expected = expected_logits(model)
    assert np.ptp(expected) > 0.01
    assert_close(model.logits(IDS), expected)
    assert_close(model(IDS), reference.sigmoid(expected))


@pytest.mark.parametrize("kind", ["attention", "attention_components"])
def test_shared_attention_equals_the_formula(kind):
    model = made(bridge=kind, bridge_shared_weights=True, num_layers=3)
    assert_close(model.logits(IDS), expected_logits(model))


@pytest.mark.parametrize("gate", ["softmax", "none"])
def test_x0_is_the_input_of_the_first_layer_in_every_layer(gate):
    """DeepCTR takes each layer's own input as x_0, which is another model."""
    model = made(bridge="add", gate=gate, num_layers=3)
    logits = model.logits(IDS).numpy()
    wrong = expected_logits(model, x0_of="each layer")
    assert np.abs(logits - wrong).min() > 0.01
    assert_close(logits, expected_logits(model))
    # With one layer there is no difference.
    model = made(bridge="add", gate=gate, num_layers=1)
    assert_close(model.logits(IDS), expected_logits(model, x0_of="each layer"))


@pytest.mark.parametrize("bridge", KINDS)
def test_gradients_equal_finite_differences(bridge):
    """Of the loss that fit minimizes: log loss and L2."""
    counts = np.arange(11)
    model = EDCN(
        SPEC, bridge=bridge, embedding_dim=2, num_layers=2, dropout=0.0, l2=0.37
    )
    model.embedding.row_counts = counts
    model.build((None, 6))
    layer_check.randomize(model)
    weights = layer_check.named_weights(model)

    def objective():
        logits = expected_logits(model, weights)
        decay = reference.l2(weights["embedding/table"], IDS, counts, 0.37)
        return reference.log_loss(LABELS, logits) + decay

    names = [
        "embedding/table",
        "cross_gate_0/gate",
        "deep_gate_1/gate",
        "cross_1/kernel",
        "deep_0/dense/kernel",
        "output/kernel",
    ]
    model.compile("sgd", "binary_crossentropy")
    with tf.GradientTape() as tape:
        outputs = model(IDS, training=True)
        loss = model.compute_loss(IDS, tf.constant(LABELS), outputs, training=True)
    assert_close(loss, objective())
    by_name = {w.path.split("/", 1)[1]: w.value for w in model.trainable_weights}
    gradients = tape.gradient(loss, [by_name[name] for name in names])
    for name, gradient in zip(names, gradients):
        expected = reference.numeric_gradient(objective, weights[name])
        gradient = tf.convert_to_tensor(gradient)
        assert_close(gradient, expected, rtol=2e-3, atol=1e-5)


def test_training_drops_out_and_inference_does_not():
    keras.utils.set_random_seed(0)
    model = made(dropout=0.5)
    assert_close(model(IDS), model(IDS, training=False))
    assert np.abs(model(IDS, training=True) - model(IDS)).max() > 1e-3
    plain = made(dropout=0.0)
    assert_close(plain(IDS, training=True), plain(IDS))


@pytest.mark.parametrize("activation_first", [False, True])
@pytest.mark.parametrize("gate", ["softmax", "none"])
def test_training_computes_what_inference_does(gate, activation_first):
    """Training folds the deep gates into the matrices."""
    model = made(gate=gate, activation_first=activation_first, dropout=0.0)
    for number, field_gate in enumerate(model.deep_gates):
        field_gate.gate.assign(np.linspace(-1, 2, 3) * (number + 1))
    assert_close(model(IDS, training=True), model(IDS))


def test_a_batch_trains_by_itself():
    model = made(dropout=0.0, unseen_rate=0.0)
    model.compile(SparseAdam(1e-3), "binary_crossentropy")
    first = model.train_on_batch(IDS, LABELS)
    assert model.train_on_batch(IDS, LABELS) < first
    model.train_on_batch(IDS, LABELS, sample_weight=np.ones(5))
    assert model.optimizer.iterations.numpy() == 3


def test_fit_makes_table_and_slots_before_it_traces(monkeypatch):
    """What is made while Keras traces the step is drawn at once, and copied."""
    monkeypatch.setattr("edcn_tf.layers.large_table.PART_SIZE", 8)
    built = []

    class Optimizer(SparseAdam):
        def build(self, variables):
            built.append(tf.executing_eagerly())
            super().build(variables)

    model = EDCN(SPEC, embedding_dim=4)
    model.compile(Optimizer(), "binary_crossentropy")
    model.fit(IDS, LABELS, verbose=0)
    assert built[0]
    table = model.embedding.table.numpy()
    assert len(np.unique(table)) == table.size  # parts of two rows, no two alike


# Outputs


@pytest.mark.parametrize("model_class", [EDCN, LogisticRegression])
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_output_is_a_float32_probability(model_class, dtype):
    model = made(model_class, dtype=dtype)
    outputs, logits = model(IDS), model.logits(IDS)
    assert outputs.shape == logits.shape == (5, 1)
    assert outputs.dtype == logits.dtype == tf.float32
    assert model.predict_on_batch(IDS).dtype == np.float32
    assert np.all((outputs > 0) & (outputs < 1))
    assert_close(outputs, reference.sigmoid(logits.numpy()))
    assert model.compute_output_shape((None, 6)) == (None, 1)
    assert all(weight.dtype == "float32" for weight in model.weights)
    # bfloat16 keeps 8 bits; how many of them a sum keeps, each processor has its way.
    full = made(model_class).logits(IDS)
    error = np.linalg.norm(logits - full) / np.linalg.norm(full)
    assert error < (0.05 if dtype == "mixed_bfloat16" else 1e-5)
    assert model(IDS[:2]).shape == (2, 1)


def test_small_probabilities_survive_mixed_precision():
    model = made(LogisticRegression, dtype="mixed_bfloat16")
    model.bias.assign([-16.0])
    model.embedding.table.assign(np.zeros((11, 1)))
    assert_close(model(IDS), np.full((5, 1), reference.sigmoid(-16.0)), atol=0)


def test_gates():
    options = {"temperature": 0.7, "num_layers": 2}
    for scale, total in [(True, 3), (False, 1)]:
        model = made(gate_scale=scale, **options)
        weights = {name: gate.numpy() for name, gate in model.gates().items()}
        assert sorted(weights) == ["cross", "deep"]
        named = layer_check.named_weights(model)
        for tower, values in weights.items():
            assert values.shape == (2, 3)
            assert_close(values.sum(axis=1), [total, total])
            raw = [named[f"{tower}_gate_{i}/gate"] for i in range(2)]
            expected = [reference.gate_weights(g, 0.7, scale) for g in raw]
            assert_close(values, expected)
        assert np.abs(weights["cross"] - weights["deep"]).max() > 0.01
    assert made(gate="none").gates() == {}


# Logistic regression


def test_logistic_regression_by_hand():
    model = LogisticRegression(SPEC)
    model.build((None, 6))
    assert_close(model(IDS), np.full((5, 1), 0.5))  # it starts from nothing
    model.embedding.table.assign([[99], *([i / 10] for i in range(1, 11))])
    model.bias.assign([-2.0])
    # user + mean of the tags + sum of the words - 2
    logits = [
        0.1 + 0.3 + 1.1 - 2,
        0.7 + 0.2 + 0.8 - 2,
        0.9 - 2,
        1.0 + 0.3 + 1.2 - 2,
        0.4 + 0.7 + 0.1 - 2,
    ]
    assert_close(model.logits(IDS), np.reshape(logits, (5, 1)))
    assert_close(model(IDS), reference.sigmoid(np.reshape(logits, (5, 1))))


# Options


def test_presets_are_as_documented():
    """facts: the paper, the authors' MindSpore code and BARS' Criteo_x1."""
    expected = {
        "default": {
            "gate_scale": True,
            "gate_batch_norm": None,
            "deep_batch_norm": False,
            "activation_first": False,
        },
        "paper": {
            "embedding_dim": 40,
            "num_layers": 3,
            "temperature": 1.0,
            "gate_scale": False,
            "gate_batch_norm": None,
            "batch_norm_momentum": 0.99,
            "batch_norm_epsilon": 1e-3,
            "deep_batch_norm": True,
            "activation_first": False,
        },
        "mindspore": {
            "embedding_dim": 80,
            "num_layers": 3,
            "temperature": 1.0,
            "gate_scale": False,
            "gate_batch_norm": "shared_scalar",
            "batch_norm_momentum": 0.9,
            "batch_norm_epsilon": 1e-5,
            "batch_norm_gamma": "ones",
            "deep_batch_norm": False,
            "activation_first": True,
            "dropout": 0.1,
        },
        "bars": {
            "embedding_dim": 10,
            "num_layers": 3,
            "temperature": 20.0,
            "cross_residual": True,
            "gate_scale": False,
            "gate_batch_norm": "feature",
            "batch_norm_momentum": 0.9,
            "batch_norm_epsilon": 1e-5,
            "batch_norm_gamma": "uniform",
            "embeddings_initializer": keras.initializers.serialize(
                keras.initializers.RandomNormal(stddev=1e-4)
            ),
            "deep_batch_norm": False,
            "activation_first": False,
            "dropout": 0.0,
        },
    }
    assert sorted(PRESETS) == sorted(expected)
    for name, choices in expected.items():
        config = EDCN.from_preset(SPEC, name).get_config()
        assert {key: config[key] for key in choices} == choices, name
        assert config["bridge"] == "hadamard"
        assert config["gate"] == "softmax"
        if name != "default":  # what no source has
            assert config["unseen_rate"] == config["l2"] == 0


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_compute_what_they_say(preset):
    model = EDCN.from_preset(SPEC, preset, embedding_dim=2)
    assert model.get_config()["embedding_dim"] == 2
    model.build((None, 6))
    layer_check.randomize(model, scale=0.7)
    assert_close(model.logits(IDS), expected_logits(model))


@pytest.mark.parametrize(
    ("model_class", "options"),
    [(EDCN, OPTIONS), (EDCN, {"gate": "none"}), (LogisticRegression, {"l2": 0.37})],
)
def test_config_comes_back(model_class, options):
    model = made(model_class, dtype="mixed_bfloat16", name="mine", **options)
    config = model.get_config()
    for key, value in {**options, "spec": SPEC, "name": "mine"}.items():
        assert config[key] == value, key
    restored = model_class.from_config(json.loads(json.dumps(config)))
    assert restored.get_config() == config
    restored.build((None, 6))
    for to, weight in zip(restored.weights, model.weights, strict=True):
        assert to.path == weight.path
        to.assign(weight)
    np.testing.assert_array_equal(restored(IDS), model(IDS))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bridge": "multiply"}, "bridge.*hadamard.*Received: 'multiply'"),
        ({"gate": "sigmoid"}, "gate.*softmax.*Received: 'sigmoid'"),
        ({"gate_batch_norm": "layer"}, "batch_norm.*Received: 'layer'"),
        ({"temperature": 0}, "temperature.*Received: 0"),
        ({"num_layers": 0}, "num_layers.*at least 1.*Received: 0"),
        ({"embedding_dim": 0}, "embedding_dim.*at least 1.*Received:.*0"),
        ({"dropout": 1.0}, "dropout.*Received: 1.0"),
        ({"l2": -0.5}, "l2.*Received: -0.5"),
        ({"unseen_rate": 1.5}, "unseen_rate.*Received: 1.5"),
        ({"layers": 3}, "layers"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        EDCN(SPEC, **options)


def test_unknown_preset():
    with pytest.raises(ValueError, match="mindspore.*Received: 'deepctr'"):
        EDCN.from_preset(SPEC, "deepctr")


def test_wrong_number_of_ids():
    with pytest.raises(ValueError, match=r"\[B, 6\].*5"):
        EDCN(SPEC).build((None, 5))


def test_takes_the_counts_of_a_feature_spec(tmp_path):
    (tmp_path / "user.txt").write_text("3\n0\n2\n5\n")
    (tmp_path / "tags.txt").write_text("1\n4\n")
    user = Field(name="user", hash_buckets=3)
    tags = Field(name="tags", hash_buckets=1, multiple=True, max_length=2)
    spec = FeatureSpec(
        tmp_path,
        Schema(label="click", fields=(user, tags)),
        [
            FieldSpec(user, 1, 4, None, None, tmp_path / "user.txt"),
            FieldSpec(tags, 5, 2, None, None, tmp_path / "tags.txt"),
        ],
    )
    ids = np.array([[1, 5, 6], [3, 5, 0]])
    model = EDCN(spec, l2=0.37)
    model(ids, training=True)
    table = model.embedding.table.numpy()
    assert table.shape == (7, 32)
    counts = [0, 3, 0, 2, 5, 1, 4]
    assert_close(model.losses, [reference.l2(table, ids, counts, 0.37)])
    assert EDCN(spec).get_config()["spec"] == {
        "fields": [
            {"name": "user", "slots": 1, "rows": 4, "pooling": "mean", "unseen": None},
            {"name": "tags", "slots": 2, "rows": 2, "pooling": "mean", "unseen": None},
        ],
        "num_rows": 7,
    }


# Saving

SAVED = {
    "edcn": (EDCN, OPTIONS),
    "separate_attention": (EDCN, {"bridge": "attention_components"}),
    "concat": (EDCN, {"bridge": "concat", "gate_batch_norm": "scalar"}),
    "no_gates": (EDCN, {"gate": "none", "l2": 0.37}),
    "mixed": (EDCN, {"dtype": "mixed_bfloat16", "temperature": 20.0}),
    "linear": (LogisticRegression, {"l2": 0.37}),
}


@pytest.fixture(scope="module")
def reloaded(tmp_path_factory):
    """Outputs before and after each model was saved, and loaded in a new process."""
    directory = tmp_path_factory.mktemp("reload")
    before = {}
    for name, (model_class, options) in SAVED.items():
        model = made(model_class, scale=0.6, **options)
        before[name] = model(IDS).numpy()
        layer_check.save_for_reload(directory, name, model, [IDS])
    return before, layer_check.reload_all(directory)


@pytest.mark.parametrize("name", SAVED)
def test_loads_in_a_clean_process(reloaded, name):
    before, after = reloaded
    assert np.ptp(before[name]) > 0.001
    assert_close(after[name], before[name], rtol=1e-6, atol=1e-7)


# XLA


@pytest.mark.parametrize("model_class", [EDCN, LogisticRegression])
def test_auto_means_no_xla_where_there_is_a_gpu(model_class, monkeypatch):
    devices = [tf.config.PhysicalDevice(f"/{kind}:0", kind) for kind in ("CPU", "GPU")]
    monkeypatch.setattr(
        tf.config,
        "list_physical_devices",
        lambda kind=None: [d for d in devices if kind in (None, d.device_type)],
    )
    dense = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1)])
    dense.compile("adam", "mse")
    assert dense.jit_compile  # so the patch makes "auto" what it is on a GPU machine
    model = made(model_class)
    model.compile("adam", "binary_crossentropy")
    assert not model.jit_compile
    inside = keras.Sequential([keras.Input((6,), dtype="int32"), made(model_class)])
    inside.compile("adam", "binary_crossentropy")
    assert not inside.jit_compile


# Candidates of a user


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gate": "none", "num_layers": 1},
        {"bridge": "concat", "num_layers": 3, "deep_batch_norm": True},
        {"gate_batch_norm": "feature"},
        {"gate_batch_norm": "scalar", "activation_first": True},
        {"activation_first": True, "gate_scale": False, "bridge": "attention"},
        {"num_layers": 3},
        {"bridge_scale": False, "gate_layers": "input"},
        {"bridge": "add"},
        {"bridge": "none", "gate_layers": "input", "num_layers": 3},
        {"deep_units": [6, 5, 7]},  # the cross tower's last output is bridged again
        {"deep_units": [4], "num_layers": 3},
    ],
)
@pytest.mark.parametrize("is_own", [[0, 0, 1], [1, 0, 1], [0, 1, 0]])
@pytest.mark.parametrize("users", [1, 2])
def test_candidates_score_as_rows_put_together(options, is_own, users, random):
    """What a user's fields give is computed once for a user; nothing else differs."""
    model = made(**options)
    for weight in model.weights:
        if weight.dtype == "float32" and "table" not in weight.path:
            noise = random.uniform(0.2, 1.5, weight.shape)
            weight.assign(noise)
    is_own = [bool(own) for own in is_own]
    width = model.embedding.embedding_dim
    shared = random.normal(size=(users, is_own.count(False), width)).astype(np.float32)
    own = random.normal(size=(6, is_own.count(True), width)).astype(np.float32)
    rows = np.zeros((6, 3, width), np.float32)
    rows[:, ~np.array(is_own)] = np.repeat(shared, 6 // users, axis=0)
    rows[:, np.array(is_own)] = own
    expected = model.logits_of_fields(tf.constant(rows)).numpy()
    actual = model.logits_of_candidates(
        [tf.constant(shared)], [tf.constant(own)], is_own
    )
    assert_close(actual, expected)
    assert len(np.unique(expected)) > 3


def test_candidates_of_a_linear_model_and_in_half_precision(random):
    shared = random.normal(size=(1, 2, 1)).astype(np.float32)
    own = random.normal(size=(4, 1, 1)).astype(np.float32)
    linear = made(LogisticRegression)
    actual = linear.logits_of_candidates([shared], [own], [False, True, False])
    assert_close(actual, shared.sum() + own[:, 0] + linear.bias.numpy())
    model = made(dtype="mixed_bfloat16")
    width = model.embedding.embedding_dim
    shared = tf.cast(random.normal(size=(1, 2, width)), tf.bfloat16)
    own = tf.cast(random.normal(size=(4, 1, width)), tf.bfloat16)
    logits = model.logits_of_candidates([shared], [own], [False, True, False])
    assert logits.dtype == tf.float32


@pytest.mark.parametrize(
    "options, most",
    [
        ({}, 17),  # of whole rows 47
        # Nothing of a cross tower; product, bias and ReLU of each deep layer.
        ({"bridge": "none", "gate": "none", "num_layers": 3}, 9),
    ],
)
def test_what_a_users_fields_give_is_not_made_for_each_candidate(options, most):
    """How many tensors the graph makes that are as large as the rows."""
    model, number = made(embedding_dim=3, **options), 50
    width = sum(model.widths)

    def large(function, *shapes):
        inputs = [tf.TensorSpec(shape, tf.float32) for shape in shapes]
        graph = tf.function(function, autograph=False).get_concrete_function(*inputs)
        made = [out.shape for op in graph.graph.get_operations() for out in op.outputs]
        return sum((shape.num_elements() or 0) >= number * width for shape in made)

    def candidates(shared, own):
        return model.logits_of_candidates([shared], [own], [False, False, True])

    assert large(candidates, (1, 2, 3), (number, 1, 3)) <= most
    assert large(model.logits_of_fields, (number, 3, 3)) > 2 * most


def test_five_layers_of_products_keep_the_size_of_the_embeddings(random):
    """The paper's formula loses a factor of ten and more with each."""
    ids = random.integers(1, 11, size=(64, 6))
    fields = [{"name": f"f{i}", "slots": 1, "pooling": "mean"} for i in range(6)]
    left = {}
    for scale in (True, False):
        keras.utils.set_random_seed(5)
        model = EDCN(
            {"fields": fields, "num_rows": 11}, num_layers=5, bridge_scale=scale
        )
        model(ids)
        (*_, bridged), _ = model._outputs(model.embedding(ids))  # x, h and f
        left[scale] = np.std(bridged) / np.std(model.embedding.table)
    assert left[True] > 0.2 and left[False] < 1e-4
