import numpy as np
import pytest

import edcn_tf
from edcn_tf.evaluation import gate_weights
from edcn_tf.evaluation.gate_weights import mean_gate_weights

SPEC = {
    "num_rows": 21,
    "fields": [
        {"name": "user", "slots": 1, "rows": 10, "pooling": "mean"},
        {"name": "item", "slots": 1, "rows": 10, "pooling": "mean"},
    ],
}
IDS = np.array([[1, 11], [2, 12], [3, 11], [9, 20], [2, 20]], np.int32)


def model(gate, **options):
    made = edcn_tf.ParallelCTR(SPEC, gate=gate, num_layers=2, **options)
    made.build((None, 2))
    random = np.random.default_rng(0)
    made.set_weights([random.normal(size=w.shape) for w in made.get_weights()])
    return made


def divided(gate, inputs):
    """Mean of what comes out over what goes in, row by row: the mean weight."""
    flat = np.asarray(inputs).reshape(len(IDS), -1)
    ratio = np.asarray(gate(inputs)).reshape(len(IDS), -1) / flat
    ends = np.cumsum(gate.widths)[:-1]
    return [part.mean() for part in np.split(ratio, ends, axis=1)]


@pytest.mark.parametrize(
    "gate", ["lhuc", "squeeze_excitation", "gatenet_scalar", "gatenet_vector"]
)
@pytest.mark.parametrize("embedding_dim", [3, [2, 4]])
def test_means_of_weights_that_differ_by_row(gate, embedding_dim, monkeypatch):
    monkeypatch.setattr(gate_weights, "ROWS", 2)  # the last batch has one row
    made = model(gate, embedding_dim=embedding_dim, bridge="add")  # nothing is 0
    weights = mean_gate_weights(made, IDS)
    assert sorted(weights) == ["cross", "deep"]
    assert all(of_tower.shape == (2, 2) for of_tower in weights.values())
    fields = made.embedding(IDS)
    for tower, gates in ("cross", made.explicit_gates), ("deep", made.deep_gates):
        np.testing.assert_allclose(
            weights[tower][0], divided(gates[0], fields), rtol=1e-4
        )
    # Deeper layers weigh what the bridge below gives.
    x0 = made.explicit_gates[0](fields)
    h = made.deep_layers[0](made.deep_gates[0].flat(made.deep_gates[0](fields)))
    x = made._interact(0, x0, x0)
    below = made._fields(made.bridges[0](np.asarray(x).reshape(len(IDS), -1), h))
    second = divided(made.deep_gates[1], below)
    np.testing.assert_allclose(weights["deep"][1], second, rtol=1e-3)


def test_those_of_free_parameters_are_the_models_own():
    made = model("softmax")
    found = mean_gate_weights(made, IDS)
    for tower, weights in made.gates().items():
        np.testing.assert_allclose(found[tower], weights, rtol=1e-6)


def test_context_and_gates_on_the_input_alone():
    made = model("lhuc", gate_fields=["user"], gate_layers="input")
    found = mean_gate_weights(made, IDS)
    amplitudes = made.deep_gates[0].weights_of(made._context(made.embedding(IDS)))
    expected = np.asarray(amplitudes).reshape(len(IDS), 2, -1).mean(axis=(0, 2))
    np.testing.assert_allclose(found["deep"], [expected], rtol=1e-5)


def test_gates_without_weights_are_not_there():
    assert mean_gate_weights(model("dense"), IDS) == {}
    assert mean_gate_weights(model("none"), IDS) == {}
    linear = edcn_tf.make_model(SPEC, "logistic_regression")
    assert mean_gate_weights(linear, IDS) == {}


def test_the_model_is_as_it_was():
    made = model("squeeze_excitation")
    before = np.asarray(made(IDS))
    mean_gate_weights(made, IDS)
    gates = [*made.explicit_gates, *made.deep_gates]
    assert not any("weights_of" in vars(gate) for gate in gates)
    np.testing.assert_array_equal(before, made(IDS))
