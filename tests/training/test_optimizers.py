import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from edcn_tf import EDCN, SparseAdam
from edcn_tf.training.optimizers import DenseAdam, averaged_weights
from helpers.reference import LazyAdam, Rows

NUM_ROWS, WIDTH = 8, 3
FIELDS = [{"name": n, "slots": 1, "pooling": "mean"} for n in "abc"]
MANY_ROWS = 10007  # a prime, so that no other dimension has it


def assert_close(actual, expected, rtol=2e-5, atol=2e-6):
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol)


def made_variables(seed=0):
    """A table, a matrix and a scalar."""
    random = np.random.default_rng(seed)
    shapes = [(NUM_ROWS, WIDTH), (2, 2), ()]
    return [
        keras.Variable(random.normal(size=shape), dtype="float32", name=f"weight_{i}")
        for i, shape in enumerate(shapes)
    ]


def made_gradients(steps, seed=1):
    """Gradients of the table with duplicate and with untouched rows, and dense ones.

    Row 0 is never touched, row 1 in steps 0 and 5 only, row 2 first in step 6.
    """
    random = np.random.default_rng(seed)
    gradients = []
    for step in range(steps):
        rows = random.integers(3, NUM_ROWS, 4)
        rows = np.append(rows, rows[:2])  # at least two occur twice
        if step in (0, 5):
            rows = np.append(rows, [1, 1, 1])
        if step >= 6:
            rows = np.append(rows, 2)
        values = random.normal(size=(len(rows), WIDTH))
        matrix, scalar = random.normal(size=(2, 2)), random.normal()
        gradients.append((Rows(rows, values), matrix, scalar))
    return gradients


def tensors(gradients, shape=(NUM_ROWS, WIDTH)):
    """The same gradients as TensorFlow has them."""
    return [
        tf.IndexedSlices(
            tf.constant(g.values, tf.float32),
            tf.constant(g.rows, tf.int32),
            tf.constant(shape),
        )
        if isinstance(g, Rows)
        else tf.constant(g, tf.float32)
        for g in gradients
    ]


def values_of(variables):
    return [np.array(variable.numpy()) for variable in variables]


def made_model(optimizer=None, num_rows=NUM_ROWS, dtype="float32", l2=0.0, **kwargs):
    keras.utils.set_random_seed(0)
    spec = {"fields": FIELDS, "num_rows": num_rows}
    model = EDCN(spec, embedding_dim=2, dropout=0.0, l2=l2, dtype=dtype)
    model.embedding.row_counts = np.ones(num_rows)
    model.build((None, 3))
    if optimizer is not None:
        model.compile(optimizer, "binary_crossentropy", **kwargs)
    return model


def made_data(steps, batch=12, rows=NUM_ROWS, seed=0):
    """Batches each of which has every row from 1 to `rows` - 1, and no other."""
    random = np.random.default_rng(seed)
    ids = []
    for _ in range(steps):
        more = random.integers(1, rows, 3 * batch - rows + 1)
        flat = np.append(np.arange(1, rows), more)
        ids.append(random.permutation(flat).reshape(batch, 3))
    ids = np.concatenate(ids).astype(np.int32)
    labels = random.integers(0, 2, (len(ids), 1)).astype(np.float32)
    return tf.data.Dataset.from_tensor_slices((ids, labels)).batch(batch)


# As Keras' Adam


@pytest.mark.parametrize(
    "options",
    [{}, {"beta_1": 0.8, "beta_2": 0.95, "epsilon": 1e-3}],
    ids=["default", "betas"],
)
def test_is_adam_where_every_row_is_touched(options):
    sparse, dense = made_model(), made_model()
    for model, optimizer in [
        (sparse, SparseAdam(0.01, **options)),
        (dense, keras.optimizers.Adam(0.01, **options)),
    ]:
        weights = model.trainable_variables
        for ids, labels in made_data(steps=20):
            with tf.GradientTape() as tape:
                outputs = model(ids, training=True)
                loss = keras.losses.binary_crossentropy(labels, outputs)
            gradients = tape.gradient(loss, weights)
            assert isinstance(gradients[0], tf.IndexedSlices)
            if model is dense:
                # Of duplicates in a sparse gradient Keras' Adam sums the squares.
                gradients = [tf.convert_to_tensor(g) for g in gradients]
            optimizer.apply(gradients, weights)
        assert int(optimizer.iterations) == 20
    assert_moved_alike(sparse, dense)


def test_dense_adam_sums_an_ids_gradients_before_it_squares_them():
    """Or a row that occurs 100 times in a batch would move ten times too far."""
    variables = [keras.Variable(np.zeros((3, 1), np.float32)) for _ in range(2)]
    optimizers = [DenseAdam(0.01), keras.optimizers.Adam(0.01)]
    for optimizer, variable in zip(optimizers, variables):
        optimizer.build([variable])
    for step in range(3):
        values = np.full((101, 1), 0.1 + step, np.float32)
        rows = tf.constant([1] * 100 + [2])
        sparse = tf.IndexedSlices(values, rows, tf.constant([3, 1]))
        optimizers[0].apply([sparse])
        optimizers[1].apply([tf.convert_to_tensor(sparse)])
    np.testing.assert_array_equal(variables[0], variables[1])


def test_is_adam_in_fit():
    # 36 rows, each once in a batch.
    data = made_data(steps=20, rows=37)
    models, losses = [], []
    for optimizer in (SparseAdam(0.01), keras.optimizers.Adam(0.01)):
        models.append(made_model(optimizer, num_rows=37))
        history = models[-1].fit(data, verbose=0, shuffle=False).history
        losses.append(history["loss"])
    assert_close(*losses)
    assert_moved_alike(*models)


def assert_moved_alike(one, other):
    start = made_model(num_rows=one.spec["num_rows"])
    for weights in zip(*[m.trainable_variables for m in (one, other, start)]):
        a, b, before = values_of(weights)
        assert np.abs(a - before).max() > 1e-4
        assert_close(a, b, rtol=1e-4, atol=1e-5)


# Rows


SCHEDULE = keras.optimizers.schedules.ExponentialDecay(0.05, 3, 0.5)
RATES = {
    "number": (0.05, 0.05),
    "schedule": (SCHEDULE, lambda step: 0.05 * 0.5 ** (step / 3)),
}


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("average_decay", [None, 0.7])
@pytest.mark.parametrize("traced", [False, True])
def test_equals_the_reference(rate, average_decay, traced):
    rate, expected_rate = RATES[rate]
    options = {"beta_1": 0.8, "beta_2": 0.9, "epsilon": 1e-3}
    options["average_decay"] = average_decay
    variables = made_variables()
    expected = LazyAdam(values_of(variables), expected_rate, **options)
    optimizer = SparseAdam(rate, **options)
    optimizer.build(variables)
    apply = optimizer.apply
    if traced:
        apply = tf.function(apply, reduce_retracing=True)
    for gradients in made_gradients(steps=12):
        expected.step(gradients)
        apply(tensors(gradients))
        for variable, weights in zip(variables, expected.weights):
            assert_close(variable, weights)
        if average_decay:
            with optimizer.averaged_weights():
                for variable, average in zip(variables, expected.averages()):
                    assert_close(variable, average, atol=5e-6)


def test_callable_learning_rate():
    rates = [0.1]
    variables = made_variables()
    expected = LazyAdam(values_of(variables), lambda step: rates[-1])
    optimizer = SparseAdam(lambda: rates[-1])
    for gradients in made_gradients(steps=4):
        rates.append(rates[-1] / 2)
        expected.step(gradients)
        optimizer.apply(tensors(gradients), variables)
    assert_close(variables[0], expected.weights[0])


def test_learning_rate_can_be_set():
    variables = made_variables()
    expected = LazyAdam(values_of(variables), lambda step: 0.1 if step < 2 else 0.01)
    optimizer = SparseAdam(0.1)
    for step, gradients in enumerate(made_gradients(steps=4)):
        if step == 2:
            optimizer.learning_rate = 0.01
        expected.step(gradients)
        optimizer.apply(tensors(gradients), variables)
    assert_close(variables[0], expected.weights[0])


@pytest.mark.parametrize("average_decay", [None, 0.9])
def test_untouched_rows_stay_bit_for_bit(average_decay):
    optimizer = SparseAdam(0.1, average_decay=average_decay)
    variables = made_variables()
    table = variables[0]

    def rows_of_everything():
        per_row = [table, *optimizer.variables]
        return [v.numpy() for v in per_row if tuple(v.shape)[:1] == (NUM_ROWS,)]

    optimizer.build(variables)
    for gradients in made_gradients(steps=8):
        before = rows_of_everything()
        optimizer.apply(tensors(gradients), variables)
        after = rows_of_everything()
        # The table, m, v; the average and the step it is as of.
        assert len(after) == (5 if average_decay else 3)
        touched = np.isin(np.arange(NUM_ROWS), gradients[0].rows)
        assert not touched[0]
        for one, other in zip(before, after):
            np.testing.assert_array_equal(one[~touched], other[~touched])
            assert np.all(np.reshape(one != other, (NUM_ROWS, -1)).any(1) == touched)


def test_tables_of_higher_rank_and_other_index_types():
    """One row a [2, 3] matrix; int64 ids."""
    start = np.random.default_rng(0).normal(size=(5, 2, 3))
    variable = keras.Variable(start, dtype="float32")
    expected = LazyAdam([start], 0.1, average_decay=0.5)
    optimizer = SparseAdam(0.1, average_decay=0.5)
    for step in range(4):
        rows = np.array([step, 1, step])
        values = np.random.default_rng(step).normal(size=(3, 2, 3))
        expected.step([Rows(rows, values)])
        gradient = tf.IndexedSlices(
            tf.constant(values, tf.float32), tf.constant(rows, tf.int64), (5, 2, 3)
        )
        optimizer.apply([gradient], [variable])
    assert_close(variable, expected.weights[0])
    with optimizer.averaged_weights():
        assert_close(variable, expected.averages()[0])


@pytest.mark.parametrize("option", ["clipnorm", "clipvalue", "global_clipnorm"])
@pytest.mark.parametrize("limit", [0.3, 1.5, 100.0])
def test_clipping_sees_duplicates_summed(option, limit):
    variables = made_variables()
    # With a large epsilon the size of a gradient matters to Adam.
    options = {"epsilon": 1.0, option: limit}
    expected = LazyAdam(values_of(variables), 0.5, **options)
    optimizer = SparseAdam(0.5, **options)
    for gradients in made_gradients(steps=4):
        expected.step(gradients)
        optimizer.apply(tensors(gradients), variables)
    for variable, weights in zip(variables, expected.weights):
        assert_close(variable, weights)


# The average


def test_average_by_hand():
    """beta 0 and a constant gradient: each touch moves a row by the learning rate."""
    table = keras.Variable([[1.0], [1.0], [1.0]])
    optimizer = SparseAdam(0.1, beta_1=0.0, beta_2=0.0, average_decay=0.5)
    for rows in ([0, 1], [0], [0]):
        slices = tf.IndexedSlices(tf.ones([len(rows), 1]), tf.constant(rows), (3, 1))
        optimizer.apply([slices], [table])
    assert_close(table, [[0.7], [0.9], [1.0]])
    with optimizer.averaged_weights():
        # Shares 1/8, 1/4 and 1/2 of the three steps, of 7/8 in all.
        row_0 = (0.9 / 8 + 0.8 / 4 + 0.7 / 2) / (7 / 8)
        assert_close(table, [[row_0], [0.9], [1.0]])
    assert_close(table, [[0.7], [0.9], [1.0]])


@pytest.mark.parametrize("skipped", [1, 2, 30])
def test_average_of_a_row_that_rested(skipped):
    variables = made_variables()[:1]
    expected = LazyAdam(values_of(variables), 0.1, average_decay=0.9)
    optimizer = SparseAdam(0.1, average_decay=0.9)
    rows = [[1, 2], *[[2]] * skipped, [1, 2], [2], [2]]
    for step, touched in enumerate(rows):
        values = np.random.default_rng(step).normal(size=(len(touched), WIDTH))
        gradients = [Rows(touched, values)]
        expected.step(gradients)
        optimizer.apply(tensors(gradients), variables)
    with optimizer.averaged_weights():
        assert_close(variables[0], expected.averages()[0])


def test_average_of_a_weight_without_a_gradient_in_some_steps():
    variables = made_variables()
    expected = LazyAdam(values_of(variables), 0.1, average_decay=0.5)
    optimizer = SparseAdam(0.1, average_decay=0.5)
    optimizer.build(variables)
    for step, (table, matrix, scalar) in enumerate(made_gradients(steps=6)):
        gradients = [table, None if step in (1, 2) else matrix, scalar]
        expected.step(gradients)
        kept = [i for i, g in enumerate(gradients) if g is not None]
        optimizer.apply(
            tensors([gradients[i] for i in kept]), [variables[i] for i in kept]
        )
    with optimizer.averaged_weights():
        for variable, average in zip(variables, expected.averages()):
            assert_close(variable, average)


@pytest.mark.parametrize("raises", [False, True])
def test_averaged_weights_restores_bit_for_bit(raises):
    variables = made_variables()
    optimizer = SparseAdam(0.1, average_decay=0.9)
    for gradients in made_gradients(steps=5):
        optimizer.apply(tensors(gradients), variables)
    everything = [*variables, *optimizer.variables]
    before = values_of(everything)
    try:
        with optimizer.averaged_weights():
            assert np.abs(variables[0].numpy() - before[0]).max() > 1e-3
            if raises:
                raise RuntimeError("in the body")
    except RuntimeError as error:
        assert raises and str(error) == "in the body"
    for one, other in zip(before, values_of(everything)):
        np.testing.assert_array_equal(one, other)


def test_adopted_average_by_hand():
    table = keras.Variable([[1.0], [1.0], [1.0]])
    optimizer = SparseAdam(0.1, beta_1=0.0, beta_2=0.0, average_decay=0.5)

    def touch(*rows):
        slices = tf.IndexedSlices(tf.ones([len(rows), 1]), tf.constant(rows), (3, 1))
        optimizer.apply([slices], [table])

    for rows in ([0, 1], [0], [0]):
        touch(*rows)
    optimizer.adopt_average()
    row_0 = (0.9 / 8 + 0.8 / 4 + 0.7 / 2) / (7 / 8)
    for _ in range(2):  # and averages to itself
        assert_close(table, [[row_0], [0.9], [1.0]])
        with optimizer.averaged_weights():
            assert_close(table, [[row_0], [0.9], [1.0]])
        optimizer.adopt_average()
    touch(0)
    assert_close(table, [[row_0 - 0.1], [0.9], [1.0]])
    with optimizer.averaged_weights():
        # The fourth step has 1/2 of 15/16; those before count as at row_0.
        assert_close(table, [[row_0 - 0.1 * 8 / 15], [0.9], [1.0]])


def test_nothing_to_average():
    variables = made_variables()
    optimizers = [
        SparseAdam(0.1, average_decay=0.9),  # not built
        SparseAdam(0.1),
        SparseAdam(0.1, average_decay=0.9),  # built, no step
        keras.optimizers.Adam(0.1),
    ]
    optimizers[1].apply(tensors(made_gradients(1)[0]), variables)
    optimizers[2].build(variables)
    before = values_of(variables)
    for optimizer in optimizers:
        with averaged_weights(optimizer):
            for one, other in zip(before, values_of(variables)):
                np.testing.assert_array_equal(one, other)
        if isinstance(optimizer, SparseAdam):
            optimizer.adopt_average()
            for one, other in zip(before, values_of(variables)):
                np.testing.assert_array_equal(one, other)


# In Keras


def test_goes_on_after_save_and_load_as_if_it_had_not_stopped(tmp_path):
    first, second = made_data(6, rows=5, seed=1), made_data(6, rows=7, seed=2)
    models = []
    for stops in (False, True):
        model = made_model(SparseAdam(0.02, average_decay=0.9))
        model.fit(first, verbose=0, shuffle=False)
        if stops:
            model.save(tmp_path / "model.keras")
            model = keras.saving.load_model(tmp_path / "model.keras")
            assert isinstance(model.optimizer, SparseAdam)
        model.fit(second, verbose=0, shuffle=False)
        models.append(model)
    one, other = models
    assert int(other.optimizer.iterations) == 12
    for part in (lambda m: m.weights, lambda m: m.optimizer.variables):
        assert len(part(one)) == len(part(other))
        for a, b in zip(values_of(part(one)), values_of(part(other))):
            assert_close(a, b, rtol=1e-6, atol=1e-7)
    with averaged_weights(one.optimizer), averaged_weights(other.optimizer):
        table = one.embedding.table.numpy()
        assert_close(table, other.embedding.table, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_steps_per_execution(dtype):
    weights = []
    for steps in (1, 4):
        model = made_model(
            SparseAdam(0.01, average_decay=0.9), dtype=dtype, steps_per_execution=steps
        )
        before = model.embedding.table.numpy()
        history = model.fit(made_data(10, rows=6), epochs=2, verbose=0, shuffle=False)
        losses = history.history["loss"]
        assert losses[1] < losses[0]
        assert int(model.optimizer.iterations) == 20
        table = model.embedding.table.numpy()
        np.testing.assert_array_equal(table[6:], before[6:])
        assert np.all(table[1:6] != before[1:6])
        assert all(v.dtype != "bfloat16" for v in model.optimizer.variables)
        weights.append(table)
    tolerance = {"float32": 1e-6, "mixed_bfloat16": 1e-3}[dtype]
    assert_close(*weights, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    "options",
    [
        {
            "learning_rate": 0.037,
            "beta_1": 0.37,
            "beta_2": 0.737,
            "epsilon": 0.0037,
            "average_decay": 0.73,
            "clipnorm": 3.7,
            "name": "mine",
        },
        {"clipvalue": 0.37},
        {"global_clipnorm": 0.37},
        {},
    ],
)
def test_config_comes_back(options):
    config = SparseAdam(**options).get_config()
    for key, value in options.items():
        assert config[key] == pytest.approx(value), key
    restored = keras.optimizers.deserialize(
        json.loads(json.dumps(keras.optimizers.serialize(SparseAdam(**options))))
    )
    assert type(restored) is SparseAdam
    assert restored.get_config() == config
    for key in set(options) - {"learning_rate", "name"}:
        assert getattr(restored, key) == options[key]


def test_config_of_a_schedule_comes_back():
    restored = SparseAdam.from_config(SparseAdam(SCHEDULE).get_config())
    assert restored.get_config() == SparseAdam(SCHEDULE).get_config()
    assert restored.get_config()["learning_rate"]["config"]["decay_steps"] == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gradient_accumulation_steps": 4}, "gradient_accumulation_steps.*: 4"),
        ({"weight_decay": 0.01}, "weight_decay.*l2.*Received: 0.01"),
        ({"use_ema": True}, "use_ema.*average_decay.*Received: True"),
        ({"loss_scale_factor": 2.0}, "loss_scale_factor.*bfloat16.*Received: 2.0"),
        ({"amsgrad": True}, "amsgrad"),
        ({"beta_1": 1.0}, r"beta_1.*\[0, 1\).*Received: 1.0"),
        ({"beta_2": -0.1}, r"beta_2.*\[0, 1\).*Received: -0.1"),
        ({"average_decay": 1.0}, r"average_decay.*\[0, 1\).*Received: 1.0"),
        ({"clipnorm": 1.0, "clipvalue": 1.0}, "Only one of"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        SparseAdam(1e-3, **options)


def test_unsupported_options_may_be_given_as_off():
    """As a config of Keras' Adam has them."""
    optimizer = SparseAdam(
        gradient_accumulation_steps=None,
        weight_decay=None,
        use_ema=False,
        loss_scale_factor=None,
    )
    assert optimizer.get_config() == SparseAdam().get_config()


# Cost


def outputs_of_table_size(optimizer, dtype="float32"):
    """Types of the ops in fit's graph that output something with the table's rows."""
    model = made_model(optimizer, MANY_ROWS, dtype, l2=0.1)
    model.optimizer.build(model.trainable_variables)
    model.make_train_function()
    step = tf.function(lambda *data: model.train_function([data]), autograph=False)
    concrete = step.get_concrete_function(*next(iter(made_data(steps=1))))
    graphs, seen, found = [concrete.graph], set(), []
    while graphs:
        graph = graphs.pop()
        for op in graph.get_operations():
            for tensor in op.outputs:
                shape = tensor.shape.as_list() if tensor.shape.rank else []
                if MANY_ROWS in shape and tensor.dtype != tf.resource:
                    found.append(op.type)
            for key in op.node_def.attr:
                attribute = op.node_def.attr[key]
                for name in [
                    attribute.func.name,
                    *(f.name for f in attribute.list.func),
                ]:
                    if name and name not in seen:
                        seen.add(name)
                        graphs.append(graph._get_function(name).graph)
    assert seen  # fit's step is a function in a function
    return found


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize(
    "options", [{"average_decay": 0.9}, {"clipnorm": 1.0}, {"global_clipnorm": 1.0}]
)
def test_cost_follows_the_batch(options, dtype):
    assert outputs_of_table_size(SparseAdam(1e-3, **options), dtype) == []


def test_the_check_of_cost_can_fail():
    found = outputs_of_table_size(keras.optimizers.Adam(1e-3))
    assert {"ReadVariableOp", "Sqrt"} <= set(found)
