"""Every model of the family against one float64 reference."""

import json
import re
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import edcn_tf
from edcn_tf import FAMILY, FieldGate, ParallelCTR, SparseAdam, make_model
from edcn_tf.layers import MatrixCross
from edcn_tf.models.parts import BRIDGES, EXPLICIT, GATES
from edcn_tf.models.widths import widths
from helpers import layer_check, reference
from helpers.layer_check import assert_close

ROWS = (4, 5, 3)
FIELDS = [
    {"name": "f0", "slots": 1, "rows": 4, "pooling": "mean"},
    {"name": "f1", "slots": 2, "rows": 5, "pooling": "mean"},
    {"name": "f2", "slots": 1, "rows": 3, "pooling": "mean"},
]
SPEC = {"fields": FIELDS, "num_rows": 13}
IDS = np.array(
    [[1, 5, 6, 10], [2, 7, 0, 11], [3, 0, 0, 12], [4, 9, 8, 10], [1, 6, 6, 12]],
    np.int32,
)
LABELS = np.array([[1.0], [0.0], [0.0], [1.0], [0.0]])
SLOTS = {"f0": [0], "f1": [1, 2], "f2": [3]}
PLAIN = {"bridge": "none", "gate": "none"}
BOTH = {"bridge": "hadamard", "gate": "softmax"}
ON_INPUT = {"gate": "softmax", "gate_layers": "input"}
PARALLEL = (
    *("deepfm", "xdeepfm", "autoint_plus", "dcn", "dcn_v2", "dcn_v2_low_rank"),
    *("dcn_mix", "edcn"),
)
# test_history_models.py has those of a history.
WITHOUT_HISTORY = [name for name in FAMILY if not FAMILY[name].needs_history]
MEMBERS = [name for name in WITHOUT_HISTORY if name != "logistic_regression"]
# What a name gives, and what makes it another model.
CASES = {
    **{name: (name, {}) for name in MEMBERS},
    **{f"{name}, bridge": (name, {"bridge": "concat"}) for name in PARALLEL},
    **{f"{name}, gates": (name, ON_INPUT) for name in PARALLEL},
    **{f"{name}, both": (name, BOTH) for name in PARALLEL},
    **{f"edcn, {bridge}": ("edcn", {"bridge": bridge}) for bridge in BRIDGES},
    "edcn, plain product": ("edcn", {"bridge_scale": False}),
    **{f"edcn, {gate}": ("edcn", {"gate": gate}) for gate in GATES},
    "edcn, sigmoid not doubled": (
        "edcn",
        {"gate": "squeeze_excitation", "gate_scale": False},
    ),
    "edcn, GateNet not doubled": (
        "edcn",
        {"gate": "gatenet_vector", "gate_scale": False},
    ),
    "edcn, lhuc of fields": (
        "edcn",
        {"gate": "lhuc", "gate_fields": ["f2", "f0"], "gate_units": 3},
    ),
    "edcn, gates on input": ("edcn", {"gate_layers": "input"}),
    "edcn, shared norm": ("edcn", {"gate_batch_norm": "shared_scalar"}),
    "edcn, pyramid": ("edcn", {"deep_units": [5, 4, 3], "num_layers": 3}),
    "edcn, deeper deep": (
        "edcn",
        {"deep_units": [7, 7, 7], "num_layers": 1, "bridge": "attention"},
    ),
    "edcn, deeper cross": ("edcn", {"deep_units": [4], "num_layers": 3}),
    "dcn, gates of hidden layers": ("dcn", {"gate": "softmax", "num_layers": 3}),
    "dcn without residual": ("dcn", {"cross_residual": False}),
    "stacked with gates": ("dcn_v2_stacked", {"gate": "softmax", "temperature": 0.5}),
    "low rank, gates": ("dcn_v2_low_rank", {**BOTH, "cross_rank": 2}),
    "mixture, gates": ("dcn_mix", {**BOTH, "cross_rank": 2, "cross_experts": 3}),
    "cin of few maps": ("xdeepfm", {**BOTH, "feature_maps": 2, "num_layers": 3}),
    "deepfm, deeper": ("deepfm", {**BOTH, "num_layers": 3}),
    "pnn, gates": ("pnn", ON_INPUT),
}
UNEQUAL = {
    "edcn": ("edcn", {}),
    "norm": ("edcn", {"gate_batch_norm": "feature"}),
    "lhuc": ("edcn", {"gate": "lhuc", "gate_fields": ["f1"]}),
    "squeeze_excitation": ("edcn", {"gate": "squeeze_excitation"}),
    "gatenet_scalar": ("edcn", {"gate": "gatenet_scalar"}),
    "dcn_v2": ("dcn_v2", {**BOTH, "linear": True, "deep_units": [4, 3]}),
    "stacked": ("dcn_v2_stacked", {}),
}
WIDTHS = [2, 4, 2]


def made(name, scale=0.7, **options):
    """A small model with random weights, so that no initial value hides a mistake."""
    model = make_model(SPEC, name, **{"embedding_dim": 2, **options})
    model.build((None, 4))
    layer_check.randomize(model, scale=scale)
    return model


def expected_logits(model, weights):
    embedded = []
    for field, width in zip(FIELDS, model.widths):
        own = np.zeros((13, width))
        rows = np.concatenate([IDS[:, SLOTS[f["name"]]].ravel() for f in [field]])
        own[rows] = _rows_of(model, weights, field, width)[rows]
        slots = IDS[:, SLOTS[field["name"]]]
        embedded.append(reference.pooled(own, slots, [field])[:, 0])
    linear = None
    if model.linear is not None:
        linear = reference.pooled(weights["linear/table"], IDS, FIELDS)[:, :, 0]
    options = model.get_config()
    if isinstance(options["deep_units"], tuple):
        options["deep_units"] = list(options["deep_units"])
    return reference.parallel_logits(
        weights, np.concatenate(embedded, axis=1), model.widths, options, linear
    )


def _rows_of(model, weights, field, width):
    """The table of all rows, as far as rows are of the field."""
    if len(set(model.widths)) == 1:
        return weights["embedding/table"]
    table, first, taken = np.zeros((13, width)), 1, 1
    for other, own_width in zip(FIELDS, model.widths):
        rows = other["rows"]
        if own_width == width:
            own = weights[f"embedding/table_{width}"][taken : taken + rows]
            table[first : first + rows] = own
            taken += rows
        first += rows
    return table


def check_logits(model):
    weights = layer_check.named_weights(model)
    expected = expected_logits(model, weights)
    assert np.ptp(expected) > 0.01
    assert_close(model.logits(IDS), expected, rtol=5e-5, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_forward_equals_the_formula(case):
    name, options = CASES[case]
    check_logits(made(name, **options))


@pytest.mark.parametrize("case", UNEQUAL)
def test_forward_with_fields_of_unequal_width(case):
    name, options = UNEQUAL[case]
    model = made(name, **options, embedding_dim=WIDTHS)
    assert model.widths == WIDTHS
    check_logits(model)


@pytest.mark.parametrize(
    "case",
    [
        *MEMBERS,
        *(f"{name}, both" for name in PARALLEL),
        "edcn, lhuc of fields",
        "edcn, pyramid",
        "edcn, deeper cross",
        "unequal",
    ],
)
def test_gradients_equal_finite_differences(case):
    """Of the log loss, for every weight of the model."""
    name, options = CASES.get(case, ("edcn", {"embedding_dim": WIDTHS}))
    still = {"dropout": 0.0, "unseen_rate": 0.0, "l2": 0.0, "linear_l2": 0.0}
    model = made(name, **options, **still)
    weights = layer_check.named_weights(model)

    def objective():
        return reference.log_loss(LABELS, expected_logits(model, weights))

    model.compile("sgd", "binary_crossentropy")
    with tf.GradientTape() as tape:
        outputs = model(IDS, training=True)
        loss = model.compute_loss(IDS, tf.constant(LABELS), outputs, training=True)
    assert_close(loss, objective())
    variables = {w.path.split("/", 1)[1]: w.value for w in model.trainable_weights}
    gradients = tape.gradient(loss, variables)
    for path, gradient in gradients.items():
        if path.count("table"):
            gradient = tf.convert_to_tensor(gradient)
        expected = reference.numeric_gradient(objective, weights[path], 1e-6)
        np.testing.assert_allclose(
            gradient, expected, rtol=5e-3, atol=3e-5, err_msg=path
        )


def test_no_bridge_and_no_gates_are_dcn():
    """Written out from Wang et al. 2017, equations 3 to 6, not from EDCN."""
    model = made("edcn", bridge="none", gate="none", num_layers=3)
    w = layer_check.named_weights(model)
    x0 = reference.pooled(w["embedding/table"], IDS, FIELDS).reshape(5, -1)
    x, h = x0, x0
    for layer in range(3):
        product = x @ w[f"cross_{layer}/kernel"]
        x = x0 * product + w[f"cross_{layer}/bias"] + x
        dense = f"deep_{layer}/dense"
        h = np.maximum(h @ w[f"{dense}/kernel"] + w[f"{dense}/bias"], 0)
    logits = np.hstack([x, h]) @ w["output/kernel"] + w["output/bias"]
    assert_close(model.logits(IDS), logits, rtol=5e-5, atol=1e-5)
    dcn = made("dcn", num_layers=3)
    names = [[w.path.split("/", 1)[1] for w in each.weights] for each in (dcn, model)]
    assert names[0] == names[1]


def test_the_shorter_tower_is_bridged_again():
    """Section 4.4.2: with each further layer of the longer one."""
    deep = {"num_layers": 1, "deep_units": [6, 6, 6], "gate": "none"}
    model = made("edcn", bridge_scale=False, **deep)
    w = layer_check.named_weights(model)
    e = reference.pooled(w["embedding/table"], IDS, FIELDS).reshape(5, -1)
    x = reference.cross(e, e, w["cross_0/kernel"], w["cross_0/bias"])
    f = e
    for layer in range(3):
        dense = f"deep_{layer}/dense"
        h = np.maximum(f @ w[f"{dense}/kernel"] + w[f"{dense}/bias"], 0)
        f = x * h
    logits = np.hstack([x, h, f]) @ w["output/kernel"] + w["output/bias"]
    assert_close(model.logits(IDS), logits, rtol=5e-5, atol=1e-5)
    assert len(model.bridges) == 3


def test_each_tower_and_layer_has_a_gate_of_its_own():
    for gate in GATES:
        model = made("edcn", gate=gate, num_layers=3)
        gates = [*model.explicit_gates, *model.deep_gates]
        assert len(gates) == len({id(gate) for gate in gates}) == 6
        model = made("edcn", gate=gate, num_layers=3, gate_layers="input")
        assert len(model.explicit_gates) == len(model.deep_gates) == 1


def test_mindspore_shares_one_batch_norm_among_the_layers_of_a_tower():
    model = made("edcn", gate_batch_norm="shared_scalar", num_layers=3)
    for gates in (model.explicit_gates, model.deep_gates):
        assert len({id(gate.normalization) for gate in gates}) == 1
    norms = [w for w in model.weights if "gate_normalization/gamma" in w.path]
    assert len(norms) == 2


# Training and saving


@pytest.mark.parametrize("case", [*CASES, *(f"unequal {case}" for case in UNEQUAL)])
def test_config_comes_back(case):
    name, options = CASES.get(case) or UNEQUAL[case.removeprefix("unequal ")]
    if case.startswith("unequal"):
        options = {**options, "embedding_dim": {"f0": 2, "f1": 4, "f2": 2}}
    model = made(name, **options)
    config = json.loads(json.dumps(model.get_config()))
    restored = type(model).from_config(config)
    assert restored.get_config() == config
    restored.build((None, 4))
    for to, weight in zip(restored.weights, model.weights, strict=True):
        assert to.path == weight.path
        to.assign(weight)
    np.testing.assert_array_equal(restored(IDS), model(IDS))


@pytest.mark.parametrize("bridge", ["hadamard", "add"])
def test_a_model_from_before_products_were_scaled_stays_as_it_was(bridge):
    config = made("edcn", bridge=bridge).get_config()
    del config["bridge_scale"]
    assert ParallelCTR.from_config(config).get_config() == {
        **config,
        "bridge_scale": bridge == "add",
    }


@pytest.fixture(scope="module")
def reloaded(tmp_path_factory):
    """Outputs before and after each model was saved, and loaded in a new process."""
    directory = tmp_path_factory.mktemp("reload")
    before = {}
    for number, (case, (name, options)) in enumerate(SAVED.items()):
        model = made(name, **options)
        before[case] = model(IDS).numpy()
        layer_check.save_for_reload(directory, str(number), model, [IDS])
    after = layer_check.reload_all(directory)
    return before, {case: after[str(i)] for i, case in enumerate(SAVED)}


SAVED = {
    **{case: CASES[case] for case in CASES if "gates" not in case},
    "unequal": ("dcn_v2", {**BOTH, "linear": True, "embedding_dim": WIDTHS}),
}


@pytest.mark.parametrize("case", SAVED)
def test_loads_in_a_clean_process(reloaded, case):
    before, after = reloaded
    assert np.ptp(before[case]) > 1e-4  # far above the tolerance
    assert_close(after[case], before[case], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", WITHOUT_HISTORY)
def test_trains_in_both_precisions(name):
    for dtype in ("float32", "mixed_bfloat16"):  # half precision in the towers only
        keras.utils.set_random_seed(0)
        model = make_model(SPEC, name, dtype=dtype)
        # To trace a step takes longer than all the steps: of one of both is enough.
        eagerly = dtype != "float32"
        optimizer = SparseAdam(1e-2, average_decay=0.9)
        model.compile(optimizer, "binary_crossentropy", run_eagerly=eagerly)
        losses = model.fit(IDS, LABELS, epochs=4, verbose=0).history["loss"]
        assert losses[-1] < losses[0]
        assert model(IDS).dtype == tf.float32


def test_the_linear_term_and_the_embedding_draw_the_same_unseen_ids():
    fields = [{"name": "a", "slots": 1, "pooling": "mean", "unseen": 1}]
    model = ParallelCTR(
        {"fields": fields, "num_rows": 3}, linear=True, unseen_rate=0.5, l2=0.0
    )
    model.build((None, 1))
    model.embedding.table.assign(np.arange(3)[:, None] * np.ones((1, 32)))
    model.linear.table.assign(np.arange(3)[:, None])
    ids = np.full((200, 1), 2)
    for _ in range(2):
        fields = model.embedding(ids, training=True)[:, 0, 0].numpy()
        linear = model.linear(ids, training=True)[:, 0, 0].numpy()
        np.testing.assert_array_equal(fields, linear)
        assert 0.3 < np.mean(fields == 1) < 0.7


def test_the_linear_term_has_an_l2_of_its_own():
    model = ParallelCTR(SPEC, linear=True, l2=0.0, linear_l2=0.5)
    assert (model.embedding.l2, model.linear.l2) == (0.0, 0.5)


# Candidates of a user


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("edcn", {}),
        ("edcn", {"linear": True}),
        ("edcn", {"gate": "lhuc", "gate_fields": ["f0"]}),
        ("dcn", {}),
        ("dcn", {"linear": True, **BOTH}),
        ("dcn_v2", {}),
        ("dcn_v2", BOTH),
        ("dcn_v2_low_rank", {}),
        ("dcn_v2_stacked", {}),
        ("wide_deep", {}),
        ("xdeepfm", BOTH),
        ("deepfm", ON_INPUT),
        ("autoint_plus", {}),
        ("pnn", {}),
        ("fm", {}),
        ("edcn", {"embedding_dim": WIDTHS, "linear": True}),
        ("dcn_v2", {"embedding_dim": WIDTHS}),
        ("edcn", {"embedding_dim": WIDTHS, "gate": "lhuc", "gate_fields": ["f0"]}),
    ],
)
@pytest.mark.parametrize("own", [["f2"], ["f0", "f2"]], ids="-".join)
def test_candidates_score_as_rows_put_together(name, options, own):
    model = made(name, **options)
    users, items = IDS[:2], IDS[[4, 1, 3, 2, 0, 3]]
    rows = np.repeat(users, 3, axis=0)
    for field in own:
        rows[:, SLOTS[field]] = items[:, SLOTS[field]]
    shared = [name for name in SLOTS if name not in own]
    of_users = users[:, [slot for name in shared for slot in SLOTS[name]]]
    of_items = items[:, [slot for name in own for slot in SLOTS[name]]]
    logits = model.logits_of_candidates(
        model.embed(of_users, shared),
        model.embed(of_items, own),
        [name in own for name in SLOTS],
    )
    assert_close(logits, model.logits(rows), rtol=5e-5, atol=1e-5)
    assert len(np.unique(logits)) > 3


# Layers of one's own


@keras.saving.register_keras_serializable(package="tests")
class Largest(keras.layers.Layer):
    """A bridge and, on one input, a gate."""

    def __init__(self, factor=1.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x, h=None):
        return self.factor * (x if h is None else keras.ops.maximum(x, h))

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


def test_a_bridge_and_a_gate_of_ones_own(tmp_path):
    options = {"gate": Largest(3.0), "bridge": Largest(0.5)}
    model = made("edcn", **options)
    assert {layer.name for layer in model.bridges} == {"bridge_0", "bridge_1"}
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(IDS), model(IDS))
    w = layer_check.named_weights(model)
    e = reference.pooled(w["embedding/table"], IDS, FIELDS).reshape(5, -1)
    f, x0 = e, 3 * e
    for layer in range(2):
        cross = (w[f"cross_{layer}/kernel"], w[f"cross_{layer}/bias"])
        x = reference.cross(x0, 3 * f, *cross)
        dense = (w[f"deep_{layer}/dense/kernel"], w[f"deep_{layer}/dense/bias"])
        h = reference.deep(3 * f, *dense)
        f = 0.5 * np.maximum(x, h)
    logits = np.hstack([x, h, f]) @ w["output/kernel"] + w["output/bias"]
    assert_close(model.logits(IDS), logits, rtol=5e-5, atol=1e-5)


def test_the_examples_of_the_documents_run():
    text = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(examples) == 2
    for example in examples:
        names = {"edcn_tf": edcn_tf, "spec": SPEC}
        exec(example, names)
        assert np.isfinite(names["model"](IDS)).all()
    assert {type(layer).__name__ for layer in names["model"].bridges} == {"Largest"}


def test_an_explicit_layer_of_ones_own():
    model = made("edcn", explicit=MatrixCross(name="deep"))
    names = [layer.name for layer in model.layers]
    assert len(names) == len(set(names))
    assert sorted(model.gates()) == ["deep", "explicit"]
    named = made("edcn", explicit="cross_matrix")
    for to, weight in zip(model.weights, named.weights, strict=True):
        to.assign(weight)
    np.testing.assert_array_equal(model(IDS), named(IDS))


@keras.saving.register_keras_serializable(package="tests")
class Doubled(FieldGate):
    def call(self, inputs, training=False):
        return 2 * super().call(inputs, training=training)


def test_a_gate_that_extends_the_softmax_gate_is_called_in_training_too():
    """The softmax gate itself is folded into the deep layer's matrix there."""
    model = made("edcn", gate=Doubled(), dropout=0.0, unseen_rate=0.0)
    assert_close(model(IDS, training=True), model(IDS))
    assert all(layer.built for layer in model.layers)  # its template is no part


def test_gates_start_near_1(random):
    """One that starts near 1/2 leaves an eighth of the signal for the third layer."""
    fields = random.normal(scale=0.1, size=(50, 3, 4)).astype(np.float32)
    halving = ("squeeze_excitation", "gatenet_scalar", "gatenet_vector")
    for gate in GATES:
        if gate == "dense":  # a matrix
            continue
        for scale in (True, False):
            options = {"gate_scale": scale} if gate in (*halving, "softmax") else {}
            model = make_model(SPEC, "edcn", gate=gate, embedding_dim=4, **options)
            model.build((None, 4))
            size = np.std(model.explicit_gates[0](fields)) / np.std(fields)
            start = {True: 1, False: 0.5 if gate in halving else 1 / 3}[scale]
            assert size == pytest.approx(start if options else 1, rel=0.03), gate


# Options that cannot be had


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"explicit": "crosses"}, r"explicit.*'cross_matrix'.*'crosses'"),
        ({"bridge": "sum"}, r"bridge.*'hadamard'.*'sum'"),
        ({"gate": "softmaxx"}, r"gate.*'lhuc'.*'softmaxx'"),
        ({"gate": None}, r"gate.*'lhuc'.*None"),
        ({"gate": {"class_name": "Dense"}}, r"gate.*'lhuc'.*class_name"),
        ({"structure": "serial"}, r"structure.*'stacked'.*'serial'"),
        ({"gate_layers": "first"}, r"gate_layers.*'input'.*'first'"),
        ({"deep_units": [64, 0]}, r"deep_units.*at least 1.*\[64, 0\]"),
        ({"deep_units": "64"}, r"deep_units.*'64'"),
        ({"deep_units": True}, r"deep_units.*True"),
        ({"embedding_dim": "wide"}, r"embedding_dim.*'auto'.*wide"),
        ({"embedding_dim": [2, 2]}, r"embedding_dim.*\['f0', 'f1', 'f2'\].*\[2, 2\]"),
        ({"embedding_dim": {"f0": 2}}, r"embedding_dim.*'f2'.*\{'f0': 2\}"),
        ({**PLAIN, "explicit": "none", "deep_units": []}, "LogisticRegression"),
        ({"explicit": "none"}, "bridge joins two towers.*bridge='none'"),
        ({"deep_units": []}, "bridge joins two towers.*bridge='none'"),
        ({"structure": "stacked"}, "bridge='none', or structure='parallel'"),
        (
            {**PLAIN, "structure": "stacked", "explicit": "none"},
            "structure='parallel'",
        ),
        ({"gate_fields": ["f0"]}, "gate='lhuc'.*gate='softmax'"),
        ({"gate": "lhuc", "gate_fields": ["user"]}, r"'f2'.*\['user'\]"),
        ({"gate": "lhuc", "gate_fields": "f0"}, "list of names.*'f0'"),
        # What would be passed over without a word.
        ({"gate": "lhuc", "gate_batch_norm": "scalar"}, "gate='softmax'.*'lhuc'"),
        ({"gate": "dense", "temperature": 0.5}, "gate='softmax'.*temperature=1.0"),
        ({"gate": "dense", "gate_scale": False}, "'gatenet_scalar'.*gate_scale=True"),
        ({"gate_units": 4}, "gate='lhuc'.*gate_units=None"),
        ({"explicit": "cross_matrix", "cross_residual": False}, "explicit='cross'"),
        ({"cross_rank": 3}, "'cross_low_rank' or 'cross_mixture'"),
        ({"feature_maps": 3}, "explicit='cin'"),
        ({"bridge_shared_weights": True}, "'attention_components'.*'hadamard'"),
        # Values of another kind, or out of their range.
        ({"explicit": "cross_low_rank", "cross_rank": 0}, "cross_rank.*at least 1.*0"),
        ({"num_layers": 2.5}, "num_layers.*whole number.*2.5"),
        ({"attention_heads": 0}, "attention_heads.*at least 1.*0"),
        ({"linear": "false"}, "linear.*true or false.*'false'"),
        ({"linear_l2": -5}, "linear_l2.*at least 0.*-5"),
        ({"dropout": None}, "dropout.*at least 0.*None"),
        ({"gate": "none", "temperature": -3}, "temperature.*> 0.*-3"),
        ({"gate": "lhuc", "gate_fields": 3}, "list of names.*3"),
        ({"explicit": keras.layers.Dense(4)}, "ExplicitLayer of your own.*Dense"),
        (
            {"explicit": "fm", "embedding_dim": [2, 3, 2]},
            "one width: set `embedding_dim` to one number",
        ),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        ParallelCTR(SPEC, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        # Without bridges, what follows these layers has no fields to weigh.
        ({"explicit": "cin"}, r"layer 2 of the cin tower.*gate_layers='input'"),
        ({"deep_units": [5, 4]}, "layer 2 of the deep tower.*gives 5 components"),
        ({"explicit": "inner_products", "structure": "stacked"}, "layer 1 of the deep"),
        # As many sums as the fields have components, but of CIN's maps.
        (
            {
                **{"explicit": "cin", "structure": "stacked", "num_layers": 1},
                **{"feature_maps": 48},
            },
            "layer 1 of the deep tower",
        ),
        # A gate of one's own that gives something else.
        ({"gate": keras.layers.Dense(5), "bridge": "add"}, "give back the 96.*Dense"),
    ],
)
def test_gates_without_fields(options, message):
    model = ParallelCTR(SPEC, **{"bridge": "none", **options})
    with pytest.raises(ValueError, match=message):
        model.build((None, 4))


def test_self_attention_needs_a_width_that_heads_can_share():
    model = make_model(SPEC, "autoint", embedding_dim=5)
    with pytest.raises(ValueError, match="2 heads.*width of 5"):
        model.build((None, 4))


def test_widths_by_the_number_of_values():
    fields = [
        {"name": n, "slots": 1, "rows": r, "pooling": "mean"}
        for n, r in [("a", 3), ("b", 100), ("c", 10_000), ("d", 10**7)]
    ]
    spec = {"fields": fields, "num_rows": 1 + sum(f["rows"] for f in fields)}
    # 6 * 3^(1/4) = 7.9, 6 * 100^(1/4) = 18.97, 6 * 10 = 60, 6 * 56.2
    model = ParallelCTR(spec, embedding_dim="auto")
    assert model.widths == [8, 20, 60, 64]
    assert model.get_config()["embedding_dim"] == "auto"


@pytest.mark.parametrize("count, width", [(1, 32), (16, 32), (17, 16), (39, 16)])
def test_the_width_where_none_is_given(count, width):
    fields = [{"name": f"f{i}", "slots": 1, "pooling": "mean"} for i in range(count)]
    assert widths(None, fields) == [width] * count
    model = ParallelCTR({"fields": fields, "num_rows": 1 + count})
    assert model.widths == [width] * count
    assert model.get_config()["embedding_dim"] is None


def test_unknown_member():
    with pytest.raises(ValueError, match="'xdeepfm'.*Received: 'deepfmx'"):
        make_model(SPEC, "deepfmx")


def test_every_explicit_tower_is_in_the_family():
    used = {member.options.get("explicit", "cross") for member in FAMILY.values()}
    assert used - {"none"} == set(EXPLICIT)
