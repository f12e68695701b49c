"""What must hold for every layer, whatever it computes."""

import dataclasses
import json
import zlib
from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers import reference
from helpers.forked import reload_models


@dataclasses.dataclass(frozen=True)
class Case:
    """A layer to check.

    Args:
        make: Makes the layer, at values that are not the defaults; takes `dtype`.
        inputs: From the number of rows to the list of the layer's inputs.
        reference: From weights by name, the inputs and `training` to the output.
        config: What `get_config` must hold.
        unmoved: Weights that training need not move.
    """

    make: Callable
    inputs: Callable
    reference: Callable
    config: dict
    unmoved: tuple = ()


def assert_close(actual, expected, rtol=2e-5, atol=2e-6):
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol)


def floats(*shapes):
    """Makes inputs of these shapes a row, one for each shape."""

    def make(rows):
        random = np.random.default_rng(rows)
        return [random.normal(size=(rows, *s)).astype(np.float32) for s in shapes]

    return make


def named_weights(layer):
    """Weights by their path inside the layer, float64."""
    return {
        weight.path.split("/", 1)[1]: weight.numpy().astype(np.float64)
        for weight in layer.weights
    }


def norm_of(weights, training):
    """Terms of BatchNorm: in training the batch's statistics, not the moving ones."""
    names = ["gamma", "beta"] + ["moving_mean", "moving_variance"] * (not training)
    return [weights[f"normalization/{name}"] for name in names]


def randomize(layer, seed=1, scale=0.5):
    """Gives every weight a random value, so that no initial value hides a mistake.

    A weight's values hang on its path in the layer, not on which weights come before.
    """
    for weight in layer.weights:
        path = weight.path.split("/", 1)[1]
        random = np.random.default_rng([seed, zlib.crc32(path.encode())])
        values = random.normal(scale=scale, size=weight.shape)
        if "variance" in weight.name:
            values = np.abs(values) + 0.5
        if weight.name != "inverse_counts":
            weight.assign(values)


def made(case, rows=4, **kwargs):
    """The case's layer with random weights, and inputs for it."""
    layer, inputs = case.make(**kwargs), case.inputs(rows)
    layer(*inputs)
    randomize(layer)
    return layer, inputs


def functional(layer, inputs):
    """A model of just this layer."""
    symbols = [keras.Input(array.shape[1:], dtype=array.dtype) for array in inputs]
    return keras.Model(symbols if len(inputs) > 1 else symbols[0], layer(*symbols))


def predict(model, inputs):
    return model.predict_on_batch(inputs if len(inputs) > 1 else inputs[0])


def save_for_reload(directory, name, model, inputs):
    model.save(directory / f"{name}.keras")
    np.savez(directory / f"{name}.npz", *inputs)


def reload_all(directory):
    """Outputs of the saved models, by name, loaded where only edcn_tf is imported."""
    reload_models(directory)
    return {path.stem: np.load(path) for path in directory.glob("*.npy")}


class LayerTests:
    """The tests of a module's `CASES`, and of `MORE_CASES` whose output is random.

    A subclass in that module is all that it takes.
    """

    def pytest_generate_tests(self, metafunc):
        module = metafunc.module
        every = {**module.CASES, **getattr(module, "MORE_CASES", {})}
        for argument, cases in [("case", module.CASES), ("any_case", every)]:
            if argument in metafunc.fixturenames:
                metafunc.parametrize(argument, cases.values(), ids=list(cases))
        if "name" in metafunc.fixturenames:
            metafunc.parametrize("name", every)

    @pytest.fixture(scope="class")
    @classmethod
    def reloaded(cls, request, tmp_path_factory):
        module = request.module
        every = {**module.CASES, **getattr(module, "MORE_CASES", {})}
        return reloaded(tmp_path_factory.mktemp("reload"), every)

    def test_is_a_well_behaved_layer(self, any_case):
        check_layer(any_case)

    def test_equals_the_formula(self, case):
        check_formula(case)

    @pytest.mark.parametrize("training", [False, True])
    def test_gradients_equal_finite_differences(self, case, training):
        check_gradients(case, training)

    def test_loads_in_a_clean_process(self, reloaded, name):
        before, after = reloaded
        assert_close(after[name], before[name], rtol=1e-6, atol=1e-7)


def reloaded(directory, cases):
    """Outputs by name before each case was saved, and loaded in a new process."""
    before = {}
    for name, case in cases.items():
        layer, inputs = made(case)
        model = functional(layer, inputs)
        before[name] = layer(*inputs).numpy()
        save_for_reload(directory, name, model, inputs)
    return before, reload_all(directory)


def check_formula(case):
    """The layer is its reference, in training and out of it."""
    layer, inputs = made(case)
    weights = named_weights(layer)
    for training in (False, True):
        expected = case.reference(weights, *inputs, training=training)
        actual = layer(*inputs, training=training)
        assert_close(actual, expected)


def check_gradients(case, training):
    """Gradients of weights and inputs are the finite differences of the reference."""
    layer, inputs = made(case)
    weights = named_weights(layer)
    is_float = inputs[0].dtype == np.float32
    tensors = [tf.constant(x) for x in inputs]
    arrays = [x.astype(np.float64) if is_float else x for x in inputs]
    shape = case.reference(weights, *arrays, training=training).shape
    direction = np.random.default_rng(3).normal(size=shape)

    def objective():
        return np.sum(direction * case.reference(weights, *arrays, training=training))

    with tf.GradientTape() as tape:
        tape.watch(tensors)
        outputs = layer(*tensors, training=training)
        loss = tf.reduce_sum(outputs * direction.astype(np.float32))
    names = [w.path.split("/", 1)[1] for w in layer.trainable_weights]
    variables = [*layer.trainable_weights, *(tensors if is_float else [])]
    gradients = tape.gradient(loss, variables)
    of = [*(weights[name] for name in names), *(arrays if is_float else [])]
    inputs = [f"input {i}" for i in range(len(arrays))]
    for name, gradient, array in zip([*names, *inputs], gradients, of):
        expected = reference.numeric_gradient(objective, array)
        gradient = tf.zeros(array.shape) if gradient is None else gradient
        gradient = tf.convert_to_tensor(gradient)
        np.testing.assert_allclose(
            gradient, expected, rtol=1e-3, atol=1e-4, err_msg=name
        )


def check_layer(case):
    check_config(case)
    check_shapes(case)
    check_mixed_precision(case)
    check_training_step(case)


def check_config(case):
    layer, inputs = made(case)
    config = layer.get_config()
    for key, value in case.config.items():
        assert config[key] == value, key
    restored = type(layer).from_config(json.loads(json.dumps(config)))
    assert restored.get_config() == config
    restored(*inputs)
    for to, weight in zip(restored.weights, layer.weights, strict=True):
        to.assign(weight)
    np.testing.assert_array_equal(restored(*inputs), layer(*inputs))


def check_shapes(case):
    """Symbolic and eager agree, at two batch sizes, with `compute_output_shape`."""
    layer, inputs = made(case)
    model = functional(layer, inputs)
    shapes = [(None, *array.shape[1:]) for array in inputs]
    assert model.output.shape == layer.compute_output_shape(*shapes)
    for rows in (4, 7):
        inputs = case.inputs(rows)
        eager = layer(*inputs)
        assert eager.shape == layer.compute_output_shape(*[x.shape for x in inputs])
        np.testing.assert_allclose(predict(model, inputs), eager, rtol=1e-5, atol=1e-6)


def check_mixed_precision(case):
    layer, inputs = made(case)
    half, _ = made(case, dtype="mixed_bfloat16")
    outputs = half(*inputs)
    assert outputs.dtype == tf.bfloat16
    assert all(weight.dtype == "float32" for weight in half.weights)
    expected = layer(*inputs).numpy()
    np.testing.assert_allclose(
        tf.cast(outputs, tf.float32), expected, atol=0.04 * np.abs(expected).max()
    )
    restored = type(half).from_config(half.get_config())
    assert restored.dtype_policy.name == "mixed_bfloat16"


def check_training_step(case):
    layer, inputs = made(case)
    before = named_weights(layer)
    with tf.GradientTape() as tape:
        outputs = layer(*inputs, training=True)
        target = np.random.default_rng(2).normal(size=outputs.shape)
        loss = tf.reduce_mean((outputs - tf.constant(target, outputs.dtype)) ** 2)
    gradients = tape.gradient(loss, layer.trainable_weights)
    optimizer = keras.optimizers.SGD(0.1)
    optimizer.apply(gradients, layer.trainable_weights)
    trainable = {weight.path.split("/", 1)[1] for weight in layer.trainable_weights}
    for name, values in named_weights(layer).items():
        if name not in case.unmoved:
            moved = not np.array_equal(values, before[name])
            assert moved == (name in trainable or "moving" in name), name
