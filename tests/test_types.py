"""What other people's code calls says what it takes and gives."""

import inspect
import typing

import pytest
import typing_extensions

import edcn_tf
import edcn_tf.tuning
from edcn_tf import files, layers
from edcn_tf.evaluation import calibration_fitting, comparison, importance, prediction
from edcn_tf.export import client, saved_model
from edcn_tf.logs import reading as logs
from edcn_tf.records import reading, writing

MODULES = [
    edcn_tf,
    edcn_tf.export,
    edcn_tf.metrics,
    edcn_tf.tuning,
    edcn_tf.workers,
    calibration_fitting,
    client,
    comparison,
    files,
    importance,
    logs,
    prediction,
    reading,
    saved_model,
    writing,
]


def public(module):
    names = getattr(module, "__all__", None) or [
        name
        for name, value in vars(module).items()
        if getattr(value, "__module__", None) == module.__name__
    ]
    for name in names:
        value = getattr(module, name)
        if name.startswith("_"):
            continue
        if inspect.isclass(value):
            yield from of_class(value)
        elif callable(value) and not typing.get_origin(value):
            yield f"{module.__name__}.{name}", value


def of_class(cls):
    for name, value in vars(cls).items():
        method = value.fget if isinstance(value, property) else value
        method = getattr(method, "__func__", method)
        if not inspect.isfunction(method) or method.__module__ != cls.__module__:
            continue
        if not name.startswith("_") or name in ("__init__", "__call__"):
            yield f"{cls.__name__}.{name}", method


CALLED = {name: value for module in MODULES for name, value in public(module)}
# Of layers the constructors: Keras calls what else they have.
CALLED = {
    name: value
    for name, value in CALLED.items()
    if name.partition(".")[0] not in layers.__all__
}
for layer in layers.__all__:
    if "__init__" in vars(getattr(layers, layer)):
        CALLED[f"{layer}.__init__"] = getattr(layers, layer).__init__


@pytest.mark.parametrize("name", sorted(CALLED))
def test_arguments_and_result_are_annotated(name):
    # Each names something that exists, if for type checkers alone.
    hints = typing.get_type_hints(CALLED[name], localns=vars(typing_extensions))
    parameters = inspect.signature(CALLED[name]).parameters
    if "options" in hints:  # which a model shows one by one
        shown = {
            key for key, each in parameters.items() if each.annotation != each.empty
        }
        assert hints.pop("options") and (len(shown) > 20 or "options" in parameters)
        hints |= dict.fromkeys([*shown, "options", "kwargs"])
    assert {*parameters, "return"} - {"self", "cls"} <= {*hints}
