"""The options of the models: one declaration each, and what follows from it."""

import inspect
import json
from typing import Annotated, Literal, TypedDict

import keras
import pytest

from edcn_tf import EDCN, FAMILY, PRESETS, ParallelCTR, TrainingConfig
from edcn_tf.config import model_options
from edcn_tf.layers.bridge import KINDS
from edcn_tf.layers.deep import ACTIVATIONS
from edcn_tf.layers.gates.field_gate import BATCH_NORMS
from edcn_tf.models import parts
from edcn_tf.models.declaration import PLACE, Option, declared_by, shows
from edcn_tf.models.options import OPTIONS, OWNERS, choose
from edcn_tf.tuning import search_space

FIELDS = [
    {"name": "user", "slots": 1, "pooling": "mean", "kind": "categorical"},
    {"name": "item", "slots": 1, "pooling": "mean", "kind": "categorical"},
    {
        **{"name": "past", "slots": 3, "pooling": "mean", "kind": "sequence"},
        **{"of": "item", "along": None},
    },
]
SPEC = {"fields": FIELDS, "num_rows": 15}
ZEROS = keras.initializers.serialize(keras.initializers.Zeros())
# Every option at another value than its default, with what it needs to be set so.
CHANGED = {
    "embedding_dim": {"embedding_dim": 4},
    "num_layers": {"num_layers": 3},
    "explicit": {"explicit": "cross_matrix"},
    "cross_rank": {"explicit": "cross_low_rank", "cross_rank": 2},
    "cross_experts": {"explicit": "cross_mixture", "cross_experts": 3},
    "cross_residual": {"cross_residual": False},
    "feature_maps": {"explicit": "cin", "feature_maps": 2},
    "attention_heads": {"explicit": "self_attention", "attention_heads": 4},
    "deep_units": {"deep_units": [5, 4]},
    "structure": {"structure": "stacked", "bridge": "none"},
    "linear": {"linear": True},
    "bridge": {"bridge": "add"},
    "bridge_scale": {"bridge_scale": False},
    "bridge_shared_weights": {"bridge": "attention", "bridge_shared_weights": True},
    "gate": {"gate": "dense"},
    "gate_layers": {"gate_layers": "input"},
    "gate_fields": {"gate": "lhuc", "gate_fields": ["item"]},
    "gate_units": {"gate": "lhuc", "gate_units": 3},
    "temperature": {"temperature": 0.5},
    "gate_scale": {"gate_scale": False},
    "gate_batch_norm": {"gate_batch_norm": "feature"},
    "history": {"history": "dien"},
    "history_units": {"history": "din", "history_units": [7, 3]},
    "auxiliary_weight": {"history": "dien", "auxiliary_weight": 0.5},
    "history_heads": {"history": "transformer", "history_heads": 4},
    "history_blocks": {"history": "transformer", "history_blocks": 2},
    "deep_batch_norm": {"deep_batch_norm": True},
    "batch_norm_momentum": {"deep_batch_norm": True, "batch_norm_momentum": 0.0},
    "batch_norm_epsilon": {"deep_batch_norm": True, "batch_norm_epsilon": 0.1},
    "batch_norm_gamma": {"deep_batch_norm": True, "batch_norm_gamma": "uniform"},
    "deep_activation": {"deep_activation": "dice"},
    "activation_first": {"activation_first": True},
    "dropout": {"dropout": 0.3},
    "unseen_rate": {"unseen_rate": 0.2},
    "l2": {"l2": 3.0},
    "linear_l2": {"linear": True, "linear_l2": 0.5},
    "embeddings_initializer": {"embeddings_initializer": ZEROS},
}


def test_every_option_is_in_the_signature_with_its_default():
    for model in (ParallelCTR, EDCN):
        parameters = inspect.signature(model).parameters
        assert ["spec", *OPTIONS, "kwargs"] == list(parameters)
        for name, option in OPTIONS.items():
            assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY
            assert parameters[name].default == option.default
            assert parameters[name].annotation == option.annotation
        assert model_options(model) == choose({})


def test_every_option_is_in_the_docstring():
    text = " ".join(inspect.getdoc(ParallelCTR).split())
    assert PLACE.strip() not in text
    for name, option in OPTIONS.items():
        assert option.meaning.endswith(".")
        assert f" {name}: {option.meaning}" in text


def test_every_option_is_a_key_of_the_config_in_this_order():
    own = ["name", "trainable", "dtype", "spec"]
    config = ParallelCTR(SPEC).get_config()
    assert [key for key in config if key not in own] == list(OPTIONS)
    for name, member in FAMILY.items():
        if issubclass(member.model, ParallelCTR):
            assert list(TrainingConfig.from_dict({"model": name}).options) == [*OPTIONS]
            assert member.options.keys() <= OPTIONS.keys()
    assert all(preset.keys() <= OPTIONS.keys() for preset in PRESETS.values())


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_comes_back(name):
    changed, default = CHANGED[name], OPTIONS[name].default
    assert changed[name] != default
    config = json.loads(json.dumps(ParallelCTR(SPEC, **changed).get_config()))
    assert {key: config[key] for key in changed} == changed
    assert ParallelCTR.from_config(config).get_config() == config
    setting = TrainingConfig.from_dict(changed)
    assert setting.to_dict()[name] == changed[name]
    assert TrainingConfig.from_dict(setting.to_dict()) == setting
    assert TrainingConfig.from_dict({}).to_dict()[name] == default


@pytest.mark.parametrize("name", [n for n, o in OPTIONS.items() if o.of])
def test_an_option_reaches_the_layers_that_take_it(name):
    of, value = OPTIONS[name].of, CHANGED[name][name]
    model = ParallelCTR(SPEC, **CHANGED[name])
    part = parts.NAMED[of][model.get_config()[of]]
    made = [layer for layer in model.layers if type(layer) is part.layer]
    [argument] = [key for key, option in part.takes.items() if option == name]
    values = [layer.get_config()[argument] for layer in made]
    assert values
    assert all(json.dumps(each) == json.dumps(value) for each in values)


def test_every_batch_norm_has_the_options_terms():
    for kind in ("feature", "shared_scalar"):
        model = ParallelCTR(
            SPEC,
            gate_batch_norm=kind,
            deep_batch_norm=True,
            batch_norm_momentum=0.9,
            batch_norm_epsilon=1e-5,
        )
        model.build((None, sum(field["slots"] for field in SPEC["fields"])))
        norms = [
            layer
            for layer in model._flatten_layers()
            if isinstance(layer, keras.layers.BatchNormalization)
        ]
        # Two of each layer's gates (or of the towers), and one of each deep layer.
        assert len({id(norm) for norm in norms}) == 2 * (1 + (kind == "feature")) + 2
        assert {(norm.momentum, norm.epsilon) for norm in norms} == {(0.9, 1e-5)}


@pytest.mark.parametrize("name", [n for n, o in OPTIONS.items() if o.of])
def test_an_option_of_another_part_is_refused(name):
    owner = OWNERS[name]
    assert owner.values  # a part takes it
    nothing = parts.NOTHING.get(owner.option)  # with "none", all is passed over
    others = [*parts.NAMED[owner.option], *([nothing] if nothing else [])]
    for other in set(others) - set(owner.values):
        changed = {**CHANGED[name], owner.option: other}
        with pytest.raises(ValueError, match=f"`{name}` goes with {owner.option}="):
            ParallelCTR(SPEC, **changed)


def test_parts_take_options_that_there_are_as_arguments_that_there_are():
    for of, named in parts.NAMED.items():
        for part in named.values():
            arguments = inspect.signature(part.layer).parameters
            assert {*part.takes, *part.fixed} <= arguments.keys()
            for name in part.takes.values():
                assert OPTIONS[name].of in (of, None)  # `dropout` is of the deep tower


def test_choices_are_those_of_the_layers():
    assert tuple(parts.BRIDGES) == KINDS
    for name, choices in [
        ("gate_batch_norm", (*BATCH_NORMS, "shared_scalar")),
        ("deep_activation", ACTIVATIONS),
    ]:
        with pytest.raises(ValueError) as caught:
            OPTIONS[name].check(name, "other")
        assert f"`{name}` must be one of {list(choices)}. " in str(caught.value)


def test_a_search_knows_all_owners():
    others = {"average_decay"}  # of the training
    assert {key: search_space.OWNERS[key] for key in OWNERS} == OWNERS
    assert search_space.OWNERS.keys() == OWNERS.keys() | others
    for name, owner in OWNERS.items():
        assert owner.option in OPTIONS, name
        for value in owner.values:
            OPTIONS[owner.option].check(owner.option, value)


def test_to_declare_an_option_is_enough():
    class Declared(TypedDict, total=False):
        flag: Annotated[bool, Option(False), "Whether."]
        size: Annotated[int | None, Option(None, most=9), "How large."]
        share: Annotated[float, Option(0.5), "How much."]
        kind: Annotated[Literal["a", "b"], Option("a"), "Which."]
        undeclared: int

    options = declared_by(Declared)
    assert list(options) == ["flag", "size", "share", "kind"]

    @shows(options)
    class Model:
        __doc__ = f"It.\n\n    Args:\n    {PLACE}\n    "

        def __init__(self, spec, **options):
            self.options = options

    assert str(inspect.signature(Model)) == (
        "(spec, *, flag: bool = False, size: int | None = None, share: float = 0.5, "
        "kind: Literal['a', 'b'] = 'a', **kwargs)"
    )
    for line in ["flag: Whether.", "size: How large.", "kind: Which."]:
        assert f"    {line}" in Model.__doc__.splitlines()
    assert Model(1, size=2).options == {"size": 2}
    for name, good, wrong, message in [
        ("flag", [True, False], [1, None, "true"], "true or false"),
        ("size", [None, 1, 9], [0, True, 2.0, "2"], "a whole number, at least 1"),
        ("size", [], [10], "at most 9"),
        ("share", [0, 0.5, 3], [-1, None, True, float("nan")], "a number, at least 0"),
        ("kind", ["a", "b"], ["c", None, ["a"]], "one of ['a', 'b']"),
    ]:
        for value in good:
            options[name].check(name, value)
        for value in wrong:
            with pytest.raises(ValueError) as caught:
                options[name].check(name, value)
            assert str(caught.value) == (
                f"`{name}` must be {message}. Received: {value!r}"
            )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_layers": 1001}, "`num_layers` must be at most 1000. Received: 1001"),
        ({"deep_units": 0}, "`deep_units` must be a whole number of .*Received: 0"),
        ({"history_units": []}, "`history_units` must be a list .*Received: \\[\\]"),
        ({"temperature": True}, "`temperature` must be a number > 0. Received: True"),
        ({"l2": float("nan")}, "`l2` must be a number, at least 0. Received: nan"),
        ({"bridgee": "add"}, "bridgee"),
    ],
)
def test_wrong_values(options, message):
    with pytest.raises(ValueError, match=message):
        ParallelCTR(SPEC, **options)


def test_a_model_takes_no_option_by_its_place():
    with pytest.raises(TypeError, match="positional"):
        ParallelCTR(SPEC, 16)
