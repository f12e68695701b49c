"""The space of a search: what it offers, when, and that it all makes models."""

import sys
import types

import keras_tuner
import numpy as np
import pytest
import tensorflow as tf
import yaml

import edcn_tf
from edcn_tf.config import TrainingConfig
from edcn_tf.errors import InputError
from edcn_tf.features.spec import FeatureSpec, FieldSpec
from edcn_tf.field import Field
from edcn_tf.models import combinations
from edcn_tf.schema import Schema
from edcn_tf.tuning.search_space import SPACES, SearchSpace, load_space

HyperParameters = keras_tuner.HyperParameters
BRIDGES = ["hadamard", "concat", "attention", "attention_components", "add"]


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    folder = tmp_path_factory.mktemp("space")
    (folder / "user.txt").write_text("3\n0\n2\n5\n")
    (folder / "tags.txt").write_text("1\n4\n")
    user = Field(name="user", hash_buckets=3)
    tags = Field(name="tags", hash_buckets=1, multiple=True, max_length=2)
    return FeatureSpec(
        folder,
        Schema(label="click", fields=(user, tags)),
        [
            FieldSpec(user, 1, 4, None, None, folder / "user.txt"),
            FieldSpec(tags, 5, 2, None, None, folder / "tags.txt"),
        ],
    )


def declared(space):
    hp = HyperParameters()
    space.declare_hyperparameters(hp)
    return hp


def drawn(space, seed):
    """Values drawn as KerasTuner's oracles do: parents first, only what is active."""
    hp = HyperParameters()
    for number, parameter in enumerate(declared(space).space):
        hp.merge([parameter])
        if hp.is_active(parameter):
            hp.values[parameter.name] = parameter.random_sample(1000 * seed + number)
    return hp


def chosen(space, **values):
    hp = HyperParameters()
    hp.values = values
    return space.settings(hp)


def conditions(space):
    return {
        parameter.name: {c.name: c.values for c in parameter.conditions}
        for parameter in declared(space).space
        if parameter.conditions
    }


# The spaces that ship


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize(
    "base",
    [{}, {"seed": 3, "num_layers": 3, "bridge": "add"}, {"model": "dcn_v2"}],
)
def test_by_default_it_is_the_default_model(spec, name, base):
    space = SearchSpace(spec, name, base)
    default = TrainingConfig.from_dict({**base, "embedding_dim": 32})
    hp = declared(space)
    assert space.config(hp) == space.config(HyperParameters()) == default
    values = default.to_dict()
    assert space.defaults() == {key: values[key] for key in space.defaults()}
    assert set(space.defaults()) == {p.name for p in hp.space if hp.is_active(p)}


@pytest.mark.parametrize(("name", "count"), [("small", 100), ("full", 500)])
def test_whatever_is_drawn_is_a_model(spec, name, count):
    space, seen = SearchSpace(spec, name), {}
    for seed in range(count):
        hp = drawn(space, seed)
        config = space.config(hp)
        combinations.check(config.options, spec.layout())
        for key, value in space.settings(hp).items():
            assert config.to_dict()[key] == value
            seen.setdefault(key, set()).add(str(value))
        if seed < 3:
            assert space.build(hp).compiled
    # The draws went everywhere.
    assert set(seen) == set(load_space(name))
    for parameter in space.parameters.values():
        assert seen[parameter.name] >= set(map(str, parameter.choices))


def test_small_is_small_and_full_holds_it():
    small, full = map(load_space, SPACES)
    assert 8 <= len(small) <= 10
    assert set(small) < set(full)


def test_what_full_offers_only_where_it_means_something(spec):
    gates = ["softmax", "lhuc", "squeeze_excitation", "gatenet_scalar"]
    gates += ["gatenet_vector", "dense"]
    assert conditions(SearchSpace(spec, "full")) == {
        "bridge_scale": {"bridge": ["hadamard"]},
        "bridge_shared_weights": {"bridge": ["attention", "attention_components"]},
        "gate_layers": {"gate": gates},
        "gate_scale": {"gate": [gates[0], *gates[2:5]]},
        "gate_batch_norm": {"gate": ["softmax"]},
        "gate_units": {"gate": ["lhuc"]},
        "temperature": {"gate": ["softmax"]},
        "cross_residual": {"explicit": ["cross"]},
        "cross_rank": {"explicit": ["cross_low_rank", "cross_mixture"]},
        "cross_experts": {"explicit": ["cross_mixture"]},
        "deep_units": {"bridge": BRIDGES},
        "linear_l2": {"linear": [True]},
        "average_decay": {"optimizer": ["sparse_adam"]},
    }


# Of one's own


def test_forms(spec):
    space = SearchSpace(
        spec,
        {
            "bridge": ["concat", "add"],
            "optimizer": ["adam"],
            "dropout": {"low": 0.0, "high": 0.5, "step": 0.1},
            "batch_size": {"low": 256, "high": 1024, "step": 2, "log": True},
            "num_layers": {"low": 3, "high": 4},
            "l2": {"low": 1, "high": 100, "log": True},
            "learning_rate": {"low": "1e-4", "high": "1e-3"},
            "linear": [False, True],
            "deep_units": [None, 64, [256, 128]],
            "unseen_rate": [0, 0.1],
            "embedding_dim": [8, 15, 32],
        },
    )
    made = {parameter.name: parameter for parameter in declared(space).space}
    kinds = {name: type(parameter).__name__ for name, parameter in made.items()}
    assert kinds == {
        "bridge": "Choice",
        "optimizer": "Fixed",
        "dropout": "Choice",
        "batch_size": "Choice",
        "num_layers": "Int",
        "l2": "Float",  # 30.0 by default
        "learning_rate": "Float",
        "linear": "Boolean",
        "deep_units": "Choice",
        "unseen_rate": "Choice",
        "embedding_dim": "Choice",
    }
    assert made["dropout"].values == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert made["batch_size"].values == [256, 512, 1024]
    assert made["deep_units"].values == ["null", "64", "[256, 128]"]
    assert made["unseen_rate"].values == [0.0, 0.1]
    assert made["dropout"].ordered and not made["deep_units"].ordered
    assert (made["num_layers"].min_value, made["num_layers"].max_value) == (3, 4)
    assert (made["l2"].sampling, made["learning_rate"].sampling) == ("log", "linear")
    assert made["learning_rate"].min_value == 1e-4
    # The library's where it can be had, else the nearest, or the first.
    assert space.defaults() == {
        "bridge": "concat",  # hadamard
        "optimizer": "adam",
        "dropout": 0.1,
        "batch_size": 1024,
        "num_layers": 3,  # 2
        "l2": 30.0,
        "learning_rate": 0.001,  # 0.01
        "linear": False,
        "deep_units": None,
        "unseen_rate": 0.0,  # 0.05, as near to both
        "embedding_dim": 32,
    }
    assert chosen(space, deep_units="[256, 128]")["deep_units"] == [256, 128]


def test_the_default_is_that_of_the_base(spec):
    space = {"l2": {"low": 1, "high": 100}, "dropout": [0.1, 0.2, 0.3]}
    assert SearchSpace(spec, space, {"l2": 30, "dropout": 0.2}).defaults() == {
        "l2": 30.0,
        "dropout": 0.2,
    }
    (l2, _) = declared(SearchSpace(spec, space, {"l2": 30})).space
    assert isinstance(l2, keras_tuner.engine.hyperparameters.Float)


def test_conditions_are_nested_and_met_together(spec):
    space = SearchSpace(
        spec,
        {
            "temperature": {"low": 0.5, "high": 2.0},  # before what it depends on
            "gate_units": [None, 8],
            "gate_layers": {"choice": ["all", "input"], "when": {"gate_units": [8]}},
            "gate": {
                "choice": ["softmax", "lhuc", "none"],
                "when": {"deep_units": [None, [8, 4]], "linear": [True]},
            },
            "linear": [True, False],
            "deep_units": [None, 8, [8, 4]],
        },
    )
    gated = {"deep_units": ["null", "[8, 4]"], "linear": [True]}
    assert conditions(space) == {
        "gate": gated,
        "temperature": {**gated, "gate": ["softmax"]},
        "gate_units": {**gated, "gate": ["lhuc"]},
        "gate_layers": {**gated, "gate": ["lhuc"], "gate_units": ["8"]},
    }
    lhuc = {"linear": True, "deep_units": "[8, 4]", "gate": "lhuc"}
    assert chosen(space, **lhuc, gate_units="8", gate_layers="input") == {
        "gate_units": 8,
        "gate_layers": "input",
        "gate": "lhuc",
        "linear": True,
        "deep_units": [8, 4],
    }
    # Values that stayed from another choice, and KerasTuner's own, count for nothing.
    stale = {"temperature": 2.0, "gate_units": "8", "tuner/epochs": 3}
    assert chosen(space, **{**lhuc, "deep_units": "8"}, **stale) == {
        "linear": True,
        "deep_units": 8,
    }
    assert chosen(space, **{**lhuc, "gate": "none"}, **stale) == {
        "gate": "none",
        "linear": True,
        "deep_units": [8, 4],
    }


def test_an_owner_outside_of_the_space_is_that_of_the_base(spec):
    space = {"temperature": {"low": 0.5, "high": 2.0}}
    assert not conditions(SearchSpace(spec, space))
    for base in ({"gate": "lhuc"}, {"model": "deepfm"}):
        with pytest.raises(InputError, match="the space: temperature can never.*gate"):
            SearchSpace(spec, space, base)


def test_what_the_base_says_of_one_gate_does_not_hold_for_another(spec):
    # Temperature 20, BatchNorm, no scale.
    base = {"preset": "bars", "cross_residual": False}
    space = SearchSpace(
        spec, {"gate": ["softmax", "lhuc"], "explicit": ["cross", "cross_matrix"]}, base
    )
    assert space.config(HyperParameters()) == TrainingConfig.from_dict(base)
    hp = HyperParameters()
    hp.values = {"gate": "lhuc", "explicit": "cross_matrix"}
    config = space.config(hp)
    assert config.options["temperature"] == 1.0
    assert config.options["gate_batch_norm"] is None
    assert config.options["cross_residual"] is True
    assert config.options["embedding_dim"] == 10  # the preset's


def test_a_file_is_read_as_a_shipped_space_is(spec, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "bridge: [add, none]\n"
        "learning_rate: {low: 1e-4, high: 1e-2, log: true}\n"
        "gate_layers: {choice: [all, input], when: {bridge: [add]}}\n"
    )
    for file in (path, str(path), load_space(path)):
        space = SearchSpace(spec, file)
        assert conditions(space) == {"gate_layers": {"bridge": ["add"]}}
        assert chosen(space, bridge="none") == {
            "bridge": "none",
            "learning_rate": 0.01,
        }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bridge: [add", "is not YAML"),
        ("[bridge]", "must hold KEY: VALUE lines"),
        ("", "must hold lines"),
        ("bridgee: [add]", "'bridgee' is no key of config.yaml.*'bridge'"),
        ("model: [edcn, dcn]", "model cannot be searched"),
        ("bridge: add", r"bridge must be a list of values.*Received: 'add'"),
        ("dropout: {low: 0.1}", "dropout must be a list"),
        ("bridge: []", "bridge: `choice` must be a list of values"),
        ("bridge: [add, add]", "bridge: 'add' is there twice"),
        ("seed: [2024-02-29]", "seed: .*date.*not JSON"),
        (
            "bridge: [add, sum]",
            "mine.yaml: with bridge='sum': `bridge` must be",
        ),
        ("embedding_dim: [8, 0]", "embedding_dim=0: `embedding_dim` must be"),
        ("temperature: [1.0, -1.0]", "temperature=-1.0: `temperature` must be"),
        ("num_layers: {low: 0, high: 3}", "num_layers=0: `num_layers` must be"),
        ("num_layers: {low: 1, high: 2.5}", "num_layers is a whole number.*2.5"),
        (
            "batch_size: {low: 1, high: 9, step: .5}",
            "batch_size is a whole.*0.5",
        ),
        ("optimizer: [sgd]", "optimizer='sgd': optimizer must be one of"),
        ("gate: [lhuc]\ngate_units: {low: 0.5, high: 9}", "`gate_units` must be.*0.5"),
        ("dropout: {low: 0.5, high: 0.1}", "dropout: `low` must be at most `high`"),
        ("l2: {low: 0, high: 9, log: true}", "l2: with `log`, `low` must be more"),
        ("l2: {low: 0, high: .inf}", "l2: `high` must be a number"),
        ("l2: {low: none, high: 1}", "l2: `low` must be a number. Received: 'none'"),
        ("l2: {low: 1, high: 9, log: 10}", "l2: `log` must be true or false"),
        ("l2: {low: 1, high: 9, step: 0}", "l2: `step` must be more than 0"),
        ("l2: {low: 1, high: 9, step: 1, log: true}", "`step` must be more than 1"),
        ("l2: {low: 0, high: 9, step: .001}", "l2: step=0.001 gives more than"),
        ("l2: {low: 1, high: 9, sampling: log}", "l2: unknown 'sampling'. Known.*log"),
        ("l2: {choice: [1], low: 1}", "l2: unknown 'low'. Known are .'choice', 'when'"),
        ("l2: {choice: [1, 2], when: bridge}", "l2: `when` must be parameters"),
        ("l2: {choice: [1, 2], when: {gat: [add]}}", "l2: `when` names 'gat'.*lacks"),
        ("gate_units: [8, 16]", "gate_units can never be active.*gate.*'lhuc'"),
        (
            "gate: [softmax]\ngate_units: [8]",
            "gate_units can never be active.*'lhuc'.*'softmax'",
        ),
        (
            "gate: [softmax, lhuc]\nl2: {choice: [1, 2], when: {gate: [dense]}}",
            "l2: `when` wants gate to be 'dense'.*'softmax', 'lhuc'",
        ),
        (
            "dropout: {low: 0.1, high: 0.2}\nl2: {choice: [1], when: {dropout: [0.1]}}",
            "`when` wants dropout to be 0.1.*They are a range",
        ),
        (
            "gate: [softmax, lhuc]\n"
            "temperature: {low: 1, high: 2, when: {gate: [lhuc]}}",
            "temperature can never be active: its conditions on gate",
        ),
        (
            "linear: {choice: [true, false], when: {bridge: [add]}}\n"
            "bridge: {choice: [add, none], when: {linear: [true]}}",
            "go round in a circle, linear -> bridge -> linear",
        ),
        ("explicit: [cross, none]", "explicit='none': A bridge joins two towers"),
        (
            "bridge: [none, add]\nstructure: [parallel, stacked]",
            "bridge='add' and structure='stacked': A bridge joins",
        ),
    ],
)
def test_mistakes(spec, tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as raised:
        SearchSpace(spec, path)
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)


def test_no_file(spec):
    with pytest.raises(InputError, match="smal: No such file.*'small', 'full'"):
        SearchSpace(spec, "smal")


def test_a_mistake_of_the_base_is_not_told_of_the_space(spec):
    with pytest.raises(InputError, match="^Unknown key"):
        SearchSpace(spec, "small", {"bridgee": "add"})
    with pytest.raises(InputError, match="`dropout` must be a number.*'much'"):
        SearchSpace(spec, {"bridge": ["add"]}, {"dropout": "much"})


# With KerasTuner


def test_all_survives_the_way_between_processes(spec):
    space = SearchSpace(spec, "full")
    for seed in range(30):
        hp = drawn(space, seed)
        for copy in (HyperParameters.from_proto(hp.to_proto()), hp.copy()):
            there = {(p.name, str(p.get_config())) for p in copy.space}
            assert there == {(p.name, str(p.get_config())) for p in hp.space}
            assert space.settings(copy) == space.settings(hp)
            assert space.config(copy) == space.config(hp)
            space.declare_hyperparameters(copy)  # has all
            assert len(copy.space) == len(space.parameters)


def test_build_fills_what_is_not_there(spec):
    space = SearchSpace(spec, {"embedding_dim": [3, 5], "gate": ["softmax", "none"]})
    hp = HyperParameters()
    hp.values = {"gate": "none"}
    model = space.build(hp)
    assert hp.values == {"gate": "none", "embedding_dim": 5}  # near 32
    assert model.get_config()["gate"] == "none"
    assert model.widths == [5, 5]


def test_a_tuner_of_keras_tuner_takes_it(spec, tmp_path, monkeypatch):
    # KerasTuner imports this, with or without a callback of TensorBoard.
    for name in ("tensorboard", "tensorboard.plugins", "tensorboard.plugins.hparams"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    hparams = sys.modules["tensorboard.plugins.hparams"]
    monkeypatch.setattr(hparams, "api", None, raising=False)
    built, batches = [], []

    class Counted(SearchSpace):
        def build(self, hp):
            built.append(self.config(hp))
            return super().build(hp)

    space = Counted(
        spec,
        {
            "batch_size": [16, 48],
            "gate": ["softmax", "lhuc"],
            "temperature": {"low": 0.1, "high": 1.0},
            "gate_units": [2, 4],
        },
        {"embedding_dim": 4, "num_layers": 1, "steps_per_execution": 1},
    )
    random = np.random.default_rng(0)
    ids = np.stack([random.integers(1, 5, 96), *random.integers(5, 7, (2, 96))], axis=1)
    rows = tf.data.Dataset.from_tensor_slices((ids, (ids[:, 0] > 2).astype("float32")))
    fit = edcn_tf.EDCN.fit

    def watched(self, x, **kwargs):
        batches.append(max(len(labels) for _, labels in x))
        return fit(self, x, **kwargs)

    monkeypatch.setattr(edcn_tf.EDCN, "fit", watched)
    tuner = keras_tuner.RandomSearch(
        space,
        objective=keras_tuner.Objective("val_auc", "max"),
        max_trials=2,
        seed=1,
        directory=tmp_path,
        project_name="search",
    )
    # Though some are conditional: KerasTuner need not look for them by building.
    assert len(built) == 1
    assert len(tuner.oracle.get_space().space) == 4
    tuner.search(rows.batch(32), validation_data=rows.batch(32), epochs=1, verbose=0)
    assert batches == [config.batch_size for config in built[1:]]
    trials = tuner.oracle.get_best_trials(2)
    assert len(trials) == 2
    assert all(0 <= trial.score <= 1 for trial in trials)
    best = space.config(tuner.get_best_hyperparameters()[0])
    assert best in built and best.options["embedding_dim"] == 4


def test_numbers_of_a_gaussian_process_are_plain_ones(spec, tmp_path):
    """NumPy's, which a Bayesian search draws, cannot be written as YAML."""
    space = SearchSpace(
        spec,
        {"dropout": {"low": 0.0, "high": 0.5}, "num_layers": {"low": 1, "high": 3}},
    )
    chosen = keras_tuner.HyperParameters()
    chosen.values.update(dropout=np.float64(0.25), num_layers=np.int64(2))
    settings = space.settings(chosen)
    assert {key: type(value) for key, value in settings.items()} == {
        "dropout": float,
        "num_layers": int,
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(space.config(chosen).to_dict()))
    assert TrainingConfig.load(path) == space.config(chosen)
