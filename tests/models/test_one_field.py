"""Models of a single field, or of a history of one place: no warning, no surprise."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from edcn_tf import FieldGate, make_model
from edcn_tf.layers import Bridge, FieldAttention
from edcn_tf.layers.softmax import softmax

FIELD = {"name": "f0", "slots": 1, "rows": 4, "pooling": "mean", "unseen": 1}
ONE = {"fields": [FIELD], "num_rows": 5}
HISTORY = {
    "fields": [
        {**FIELD, "name": "past", "kind": "sequence", "of": "item", "along": None},
        {**FIELD, "name": "item"},
    ],
    "num_rows": 5,
}
MODELS = {
    "edcn": (ONE, "edcn", {}),
    "edcn, attention": (ONE, "edcn", {"bridge": "attention"}),
    "edcn, components": (ONE, "edcn", {"bridge": "attention_components"}),
    "edcn of width 1": (
        ONE,
        "edcn",
        {"bridge": "attention_components", "embedding_dim": 1},
    ),
    "autoint": (ONE, "autoint", {}),
    "dcn_mix": (ONE, "dcn_mix", {"gate": "softmax", "gate_layers": "input"}),
    "din": (HISTORY, "din", {}),
    "dien": (HISTORY, "dien", {}),
    "bst": (HISTORY, "bst", {}),
    "edcn, transformer": (HISTORY, "edcn", {"history": "transformer"}),
}


@pytest.fixture(autouse=True)
def warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("case", MODELS)
def test_a_model_is_made_and_trained_without_a_warning(case):
    spec, name, options = MODELS[case]
    model = make_model(spec, name, **{"embedding_dim": 4, **options})
    model.compile(optimizer="adam", loss="binary_crossentropy")
    ids = np.tile(np.array([[1], [2], [3]], np.int32), (1, len(spec["fields"])))
    losses = [model.train_on_batch(ids, np.array([[1.0], [0.0], [0.0]]))]
    assert np.isfinite(losses).all()
    assert np.isfinite(model.predict(ids, verbose=0)).all()


def test_a_gate_of_one_field_lets_it_pass():
    gate = FieldGate()
    x = tf.constant([[[1.0, 2.0, 3.0]], [[4.0, 5.0, 6.0]]])
    np.testing.assert_array_equal(gate(x), x)
    gate.gate.assign([700.0])
    with tf.GradientTape() as tape:
        y = gate(x)
    np.testing.assert_array_equal(y, x)
    assert tape.gradient(y, gate.gate.value).numpy().tolist() == [0.0]


def test_other_layers_of_one_score():
    x = tf.constant([[[1.0, 2.0]]])
    FieldAttention(num_heads=1)(x)
    a, b = tf.constant([[2.0]]), tf.constant([[5.0]])
    bridge = Bridge("attention_components")
    np.testing.assert_allclose(bridge(a, b), [[7.0]])  # each by its softmax, 1


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 2), (5,)])
def test_of_several_scores_it_is_keras(shape):
    scores = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    np.testing.assert_array_equal(softmax(scores), keras.ops.softmax(scores))
