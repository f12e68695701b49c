"""Checkpoints: each variable by its name, and the state of training."""

import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

import edcn_tf
from edcn_tf import EDCN, FeatureSpec, InputError, SparseAdam
from edcn_tf.layers import large_table
from edcn_tf.models.family import make_model
from edcn_tf.training.checkpoints.checkpoint import (
    latest_checkpoint,
    restore_checkpoint,
    save_checkpoint,
)
from edcn_tf.training.checkpoints.state import TrainingState
from edcn_tf.training.checkpoints.stored_variables import StoredVariables
from edcn_tf.training.checkpoints.variable_names import named_variables
from edcn_tf.training.compiling import compiled_model
from edcn_tf.training.warm_start import start_from
from helpers.positional_checkpoint import make_positional
from helpers.small_log import history, prepare_small_log

FIELDS = [
    {"name": name, "slots": 1, "pooling": "mean", "rows": 5, "kind": "categorical"}
    for name in "ab"
]
SEQUENCE = {**FIELDS[0], "name": "h", "slots": 3, "kind": "sequence", "of": "a"}
SPEC = {"fields": FIELDS, "num_rows": 11}
STATE = TrainingState(rows=700, epoch=3)


class Reordered(EDCN):
    """An EDCN whose weights come in another order; those of the gates are alike."""

    def __init__(self, spec, **options):
        super().__init__(spec, **options)
        names = [layer.name for layer in self._layers]
        one, other = names.index("cross_gate_0"), names.index("deep_gate_0")
        layers = self._layers
        layers[one], layers[other] = layers[other], layers[one]


def compiled(model=EDCN, optimizer=None, spec=SPEC, **options):
    options = {"embedding_dim": 3, "linear": True, **options}
    model = model(spec, **options)
    optimizer = optimizer or SparseAdam(0.05, average_decay=0.9)
    model.compile(optimizer, "binary_crossentropy")
    model.build((None, model.embedding.num_slots))
    model.optimizer.build(model.trainable_variables)
    return model


def with_other_numbers(model):
    """Its variables, each with numbers of its own."""
    for number, variable in enumerate(named_variables(model).values()):
        size = int(np.prod(variable.shape))
        values = number + np.linspace(1, 2, size).reshape(variable.shape)
        variable.assign(values.astype(variable.value.dtype.as_numpy_dtype))
    return model


def saved(folder, model):
    save_checkpoint(folder, model, STATE)
    [path] = (folder / "checkpoints").iterdir()
    return path


def assert_same(model, other):
    ours, others = named_variables(model), named_variables(other)
    assert ours.keys() == others.keys()
    for name, variable in ours.items():
        np.testing.assert_array_equal(variable, others[name], err_msg=name)


# Names


def test_names():
    model = compiled(dropout=0.1, unseen_rate=0.1)
    names = named_variables(model)
    random = ("embedding", "linear", "deep_0", "deep_1")
    assert names.keys() >= {
        "embedding/table",
        "embedding/inverse_counts",
        "deep_1/dense/kernel",
        *(f"{layer}/seed_generator_state" for layer in random),
        "optimizer/iteration",
        "optimizer/learning_rate",
        "optimizer/linear/table/averaged_at",
    }
    [index] = [
        i
        for i, variable in enumerate(model.trainable_variables)
        if variable is model.deep_gates[1].gate
    ]
    for slot, variables in [
        ("momentum", model.optimizer._momentums),
        ("averaged_at", model.optimizer._averaged_at),
    ]:
        assert names[f"optimizer/deep_gate_1/gate/{slot}"] is variables[index]
    stored = [*model.weights, *model.optimizer.variables]
    assert len(names) == len(stored) + len(random)


@pytest.mark.parametrize("name", ["edcn", "deepfm", "dcn_mix", "dien", "bst"])
def test_names_do_not_hang_on_what_was_made_before(name):
    spec = {"fields": [*FIELDS, SEQUENCE], "num_rows": 11}
    spec["fields"] = [{**field, "along": None} for field in spec["fields"]]
    names = []
    for _ in range(2):
        model = make_model(spec, name, embedding_dim=4)
        model.compile(keras.optimizers.Adam(), "binary_crossentropy")
        model.build((None, model.embedding.num_slots))
        model.optimizer.build(model.trainable_variables)
        names.append(list(named_variables(model)))
    assert names[0] == names[1]


def test_two_variables_of_one_name():
    class Twice(keras.Model):
        def __init__(self):
            super().__init__()
            self.one, self.other = (keras.layers.Dense(2, name="d") for _ in range(2))

        def call(self, x):
            return self.one(x) + self.other(x)

    model = Twice()
    model(np.zeros((1, 2), np.float32))
    model.compile(SparseAdam(), "mse")
    with pytest.raises(ValueError, match="stored as 'd/kernel'.*names of their own"):
        named_variables(model)


# Variables


def test_all_is_restored(tmp_path):
    path = saved(tmp_path, with_other_numbers(compiled()))
    again = compiled()
    assert restore_checkpoint(path, again) == STATE
    assert_same(again, with_other_numbers(compiled()))


def test_a_table_is_restored_in_parts(tmp_path, monkeypatch):
    path = saved(tmp_path, with_other_numbers(compiled()))
    monkeypatch.setattr(large_table, "PART_SIZE", 12)
    again = compiled()
    restore_checkpoint(path, again)
    assert_same(again, with_other_numbers(compiled()))


def test_layers_in_another_order(tmp_path):
    """By their positions, each gate would silently become the other."""
    before = with_other_numbers(compiled())
    path = saved(tmp_path, before)
    again = compiled(Reordered)
    shapes = [[v.shape for v in named_variables(m).values()] for m in (before, again)]
    assert shapes[0] == shapes[1]
    assert list(named_variables(before)) != list(named_variables(again))
    restore_checkpoint(path, again)
    assert_same(again, before)
    ids = np.array([[1, 6], [3, 8]], np.int32)
    np.testing.assert_array_equal(again(ids), before(ids))
    make_positional(path, before)
    restore_checkpoint(path, again)
    np.testing.assert_array_equal(
        again.deep_gates[0].gate, before.explicit_gates[0].gate
    )


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ({}, {"num_layers": 3}, "lacks the variable cross_gate_2/gate of the model"),
        (
            {"num_layers": 3},
            {},
            "holds the variable cross_2/bias, which the model lacks",
        ),
        (
            {},
            {"embedding_dim": 4},
            r"the variable embedding/table has the shape \(11, 3\) there, and "
            r"\(11, 4\) in the model",
        ),
        ({"dropout": 0.0}, {}, "lacks the variable deep_0/seed_generator_state of"),
        ({"l2": 0.0}, {}, "lacks the variable embedding/inverse_counts of"),
        (
            {"optimizer": SparseAdam()},
            {},
            "lacks the variable optimizer/embedding/table/average of",
        ),
        (
            {},
            {"optimizer": SparseAdam()},
            "holds the variable optimizer/[a-z_0-9/]*average[a-z_]*, which the model",
        ),
    ],
)
def test_a_checkpoint_of_another_model(tmp_path, before, now, expected):
    path = saved(tmp_path, compiled(**before))
    message = (
        rf"{path}: is damaged, or of another model \({expected}.*\); to train from"
    )
    with pytest.raises(InputError, match=message) as caught:
        restore_checkpoint(path, compiled(**now))
    assert "\n" not in str(caught.value)


# Checkpoints of numbered variables


def test_numbered_variables_are_restored(tmp_path):
    before = with_other_numbers(compiled())
    path = saved(tmp_path, before)
    make_positional(path, before)
    again = compiled()
    assert restore_checkpoint(path, again) == STATE
    assert_same(again, before)
    for other, expected in [
        ({"num_layers": 3}, "holds [0-9]* variables, and the model has [0-9]*"),
        ({"embedding_dim": 4}, "the variable embedding/table has the shape"),
        ({"dropout": 0.0}, "lacks the variable embedding/seed_generator_state of"),
    ]:
        with pytest.raises(InputError, match=rf"{path}: is damaged.*\({expected}"):
            restore_checkpoint(path, compiled(**other))


# Runs

SETTINGS = {
    "edcn": {"linear": True, "l2": 1.0, "gate_batch_norm": "feature", "dropout": 0.1},
    "widths": {"embedding_dim": {"user": 4, "item": 2}, "l2": 0.0},
    "adam": {"model": "deepfm", "optimizer": "adam", "average_decay": None},
}


def config(name, **settings):
    small = {"epochs": 2, "batch_size": 64, "embedding_dim": 4}
    return edcn_tf.TrainingConfig.from_dict({**small, **SETTINGS[name], **settings})


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return prepare_small_log(tmp_path_factory.mktemp("checkpoints"), 1000)


@pytest.fixture(scope="module")
def spec(data):
    return FeatureSpec.load(data / "features")


@pytest.fixture(scope="module")
def run_of(data, tmp_path_factory):
    """A finished run of each of the `SETTINGS`, made when it is first asked for."""
    folder = tmp_path_factory.mktemp("runs")

    def run(name):
        if not (folder / name).exists():
            edcn_tf.train(data, folder / name, config(name))
        return folder / name

    return run


def model_of(spec, chosen):
    model = compiled_model(chosen, spec)
    model.optimizer.build(model.trainable_variables)
    return model


def copied(run, folder):
    """A run's copy, and its checkpoint."""
    shutil.copytree(run, folder)
    [path] = (folder / "checkpoints").iterdir()
    return path


def started(run, spec, chosen):
    model = compiled_model(chosen, spec)
    start_from(run, model, spec, chosen)
    return model


def test_a_run_of_numbered_variables_goes_on(data, spec, tmp_path):
    """As one that never was of such."""
    run, numbered, chosen = tmp_path / "run", tmp_path / "numbered", config("edcn")
    edcn_tf.train(data, run, chosen, until=1)
    shutil.copytree(run, numbered)
    make_positional(latest_checkpoint(numbered)[2], model_of(spec, chosen))
    results = [edcn_tf.train(data, each, chosen) for each in (run, numbered)]
    assert results[1]["valid_auc"] == pytest.approx(results[0]["valid_auc"], abs=1e-6)
    for row, other in zip(history(run), history(numbered), strict=True):
        assert float(row["loss"]) == pytest.approx(float(other["loss"]), abs=1e-6)


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("settings", [{}, {"l2": 2.0, "dropout": 0.0}, {"l2": 0.0}])
def test_a_start_from_numbered_variables(spec, run_of, tmp_path, name, settings):
    """The same, though counts and random states were stored and are not there now."""
    path = copied(run_of(name), tmp_path / "run")
    make_positional(path, model_of(spec, config(name)))
    chosen = config(name, **settings)
    expected = started(run_of(name), spec, chosen)
    again = started(tmp_path / "run", spec, chosen)
    for (key, one), other in zip(
        named_variables(again).items(), named_variables(expected).values()
    ):
        if not key.endswith("seed_generator_state"):  # which each start draws
            np.testing.assert_array_equal(one, other, err_msg=key)
    assert int(again.optimizer.iterations) > 0


def test_a_start_with_layers_in_another_order(spec, run_of):
    chosen = config("edcn")
    expected = started(run_of("edcn"), spec, chosen)
    optimizer = SparseAdam(chosen.learning_rate, average_decay=chosen.average_decay)
    again = compiled(Reordered, optimizer, spec, **chosen.options)
    start_from(run_of("edcn"), again, spec, chosen)
    ours, others = named_variables(again), named_variables(expected)
    assert list(ours) != list(others) and ours.keys() == others.keys()
    for name, variable in ours.items():
        if not name.endswith("seed_generator_state"):
            np.testing.assert_array_equal(variable, others[name], err_msg=name)
    assert np.abs(again.deep_gates[0].gate - again.explicit_gates[0].gate).max() > 0


def rewritten(path, model, change):
    """Stores a checkpoint's variables anew, as `change` leaves the dict of them."""
    stored = StoredVariables(path, model)
    values = {name: stored[name] for name in named_variables(model)}
    change(values)
    variables = {name: tf.Variable(value) for name, value in values.items()}
    tf.train.Checkpoint(by_name=variables).write(str(path / "variables"))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda values: values.pop("deep_0/dense/kernel"),
            "lacks the variable deep_0/dense/kernel of the model",
        ),
        (
            lambda values: values.pop("optimizer/embedding/table/velocity"),
            "lacks the variable optimizer/embedding/table/velocity of the model",
        ),
        (
            lambda values: values.update({"deep_2/dense/bias": np.zeros(3)}),
            "holds the variable deep_2/dense/bias, which the model lacks",
        ),
        (
            lambda values: values.update({"embedding/table": np.zeros((9, 4))}),
            r"the variable embedding/table has the shape \(9, 4\) there, and \([0-9]",
        ),
        (
            lambda values: values.update({"output/bias": np.zeros(3)}),
            r"the variable output/bias has the shape \(3,\) there, and \(1,\)",
        ),
    ],
)
def test_a_start_from_other_variables(spec, run_of, tmp_path, change, expected):
    path = copied(run_of("edcn"), tmp_path / "run")
    rewritten(path, model_of(spec, config("edcn")), change)
    message = rf"{path}: cannot be read \({expected}"
    with pytest.raises(InputError, match=message) as caught:
        started(tmp_path / "run", spec, config("edcn"))
    assert "\n" not in str(caught.value)


# The state of training

OTHER_STATE = {
    "epoch": 4,
    "step": 7,
    "loss": [1.5, 448.0],
    "history": [{"epoch": 0, "loss": 0.5, "val_auc": None}],
    "rows": 900,
    "epoch_seconds": 0.25,
    "best_epoch": 3,
    "best_auc": 0.75,
    "best_log_loss": 0.5,
    "wait": 1,
    "drops": 2,
    "stop": True,
    "training_seconds": 9.5,
}


def test_state_round_trip(tmp_path):
    """The keys are those of every run there is."""
    state = TrainingState.from_json(OTHER_STATE)
    assert (state.epoch_figures, state.step) == (OTHER_STATE["history"], 7)
    assert state.to_json() == OTHER_STATE
    assert list(state.to_json()) == list(OTHER_STATE)
    first = TrainingState(rows=5).to_json()
    assert first.keys() == OTHER_STATE.keys()
    assert all(first[key] != OTHER_STATE[key] for key in first)
    model = compiled()
    save_checkpoint(tmp_path, model, state)
    [path] = (tmp_path / "checkpoints").iterdir()
    assert json.loads((path / "state.json").read_text()) == OTHER_STATE
    assert restore_checkpoint(path, model) == state


def test_state_of_other_rows():
    state = TrainingState.from_json(OTHER_STATE)
    assert state.for_rows(900) == state
    other = {**OTHER_STATE, "rows": 899, "step": 0, "loss": [0.0, 0.0]}
    assert state.for_rows(899).to_json() == other


@pytest.mark.parametrize(
    "change",
    [
        {"more": 1},
        {"epoch": 4.0},
        {"epoch": True},
        {"epoch": 5},
        {"step": 8},
        {"loss": [1.5]},
        {"loss": [1, 2]},
        {"history": {}},
        {"history": [[0]]},
        {"history": [{"loss": 0.5}]},
        {"history": [{"epoch": "0"}]},
        {"best_epoch": "3"},
        {"best_auc": None},
        {"stop": 1},
        {"drops": ...},
    ],
)
def test_a_state_that_is_none(tmp_path, change):
    model = compiled()
    save_checkpoint(tmp_path, model, TrainingState.from_json(OTHER_STATE))
    [path] = (tmp_path / "checkpoints").iterdir()
    value = {k: v for k, v in {**OTHER_STATE, **change}.items() if v is not ...}
    (path / "state.json").write_text(json.dumps(value))
    message = rf"{path}/state.json: is damaged; to train from the start, choose [^\n]*$"
    with pytest.raises(InputError, match=message):
        restore_checkpoint(path, model)
