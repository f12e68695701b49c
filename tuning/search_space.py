"""What a search chooses from, and the model of each choice."""

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import tensorflow as tf

from edcn_tf.config import TrainingConfig
from edcn_tf.errors import InputError
from edcn_tf.features.spec import FeatureSpec
from edcn_tf.files import StrPath, read_yaml
from edcn_tf.models import FAMILY, ParallelCTR, combinations, options
from edcn_tf.models.widths import widths
from edcn_tf.training.compiling import compiled_model

from .parameter import Parameter

SPACES = ("small", "full")
# They decide what the others' defaults are.
OF_THE_BASE = ("model", "preset")
# Key -> what decides whether it has a meaning, and for which of its values.
OWNERS = {
    **options.OWNERS,
    "average_decay": options.Owner("optimizer", ("sparse_adam",)),
}


class SearchSpace(keras_tuner.HyperModel):
    """The hyper-parameters of a search, and the model of a trial.

    A space is a YAML file: a key of `config.yaml` -> what may be chosen for it
    (`edcn_tf.tuning.parameter.Parameter` has the form). A parameter that has a meaning
    only with some value of another (the temperature, with softmax gates) is active only
    where that has it. The default of each is the library's, or that of `base`.

    It is a `keras_tuner.HyperModel`, which any tuner of KerasTuner takes (its own need
    the package `tensorboard`). There the batch size is the trial's, the epochs are what
    you give, and the AUC is Keras' estimate, with weights that are not averaged.

    Args:
        spec: `FeatureSpec`, against whose fields choices are checked.
        space: `"small"`, `"full"`, the path of a YAML file, or a dict of the same form.
        base: Keys of `config.yaml` that every trial has beside those of the space,
            which win.

    Raises:
        InputError: If the space cannot be read, or has an unknown key, a value that no
            model takes, or a parameter that can never be active; one line that begins
            with the file's name.

    Example:
        >>> space = SearchSpace(spec, "small", base={"model": "edcn"})
        >>> tuner = keras_tuner.RandomSearch(
        ...     space, objective=keras_tuner.Objective("val_auc", "max"), max_trials=20
        ... )
        >>> tuner.search(train, validation_data=valid, epochs=5)
        >>> space.config(tuner.get_best_hyperparameters()[0])
    """

    def __init__(
        self,
        spec: FeatureSpec,
        space: StrPath | dict[str, Any] = "small",
        base: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.spec, self.base = spec, dict(base or {})
        self._defaults = TrainingConfig.from_dict(self.base).to_dict()
        if self._defaults.get("embedding_dim", 0) is None:  # the fields decide
            width = widths(None, spec.layout())[0]
            self.base["embedding_dim"] = self._defaults["embedding_dim"] = width
        if isinstance(space, dict):
            entries, source = space, "the space"
        else:
            entries, source = load_space(space), str(_path(space))
        try:
            self.parameters = self._read(entries)
            self._declared: dict[
                str, Any
            ] = {}  # parameter -> KerasTuner's, parents first
            for name in self.parameters:
                self._declare(name, ())
            self._check_values()
        except InputError as error:
            raise InputError(f"{source}: {error}") from None

    def _read(self, entries: dict[str, Any]) -> dict[str, Parameter]:
        """Name -> `Parameter`."""
        model = {"model": self.base["model"]} if "model" in self.base else {}
        library = TrainingConfig.from_dict(model).to_dict()
        parameters = {}
        for name, entry in entries.items():
            if name in OF_THE_BASE:
                raise InputError(
                    f"{name} cannot be searched, since it changes what the other keys "
                    "are by default; search what it stands for, such as explicit, "
                    "bridge and gate"
                )
            if name not in self._defaults:
                known = sorted({*self._defaults} - {*OF_THE_BASE})
                raise InputError(
                    f"{name!r} is no key of config.yaml for model="
                    f"{self._defaults['model']!r}. Known are {known}"
                )
            default = self._defaults[name]
            if isinstance(library[name], float) and isinstance(default, int):
                default = float(default)  # l2=10 means 10.0
            parameters[name] = Parameter.read(name, entry, default)
        return parameters

    def _declare(self, name: str, path: tuple[str, ...]) -> None:
        """Makes KerasTuner's counterpart of a parameter, and before it its parents'."""
        if name in path:
            around = " -> ".join([*path[path.index(name) :], name])
            raise InputError(f"{name}: the conditions go round in a circle, {around}")
        if name in self._declared:
            return
        conditions: dict[str, list[Any]] = {}
        for parent, values in self._parents(name):
            self._declare(parent, (*path, name))
            values = [self.parameters[parent].encode(value) for value in values]
            inherited = {c.name: c.values for c in self._declared[parent].conditions}
            for key, allowed in {**inherited, parent: values}.items():
                allowed = [v for v in allowed if v in conditions.get(key, allowed)]
                if not allowed:
                    raise InputError(
                        f"{name} can never be active: its conditions on {key} exclude "
                        "each other"
                    )
                conditions[key] = allowed
        self._declared[name] = self.parameters[name].hyperparameter(conditions)

    def _parents(self, name: str) -> Iterator[tuple[str, list[Any]]]:
        """Pairs of another parameter and its values with which this one is active."""
        for parent, values in self.parameters[name].when.items():
            if parent not in self.parameters:
                raise InputError(
                    f"{name}: `when` names {parent!r}, which the space lacks. "
                    f"It has {sorted(self.parameters)}"
                )
            choices = self.parameters[parent].choices
            for value in values:
                if value not in choices:
                    raise InputError(
                        f"{name}: `when` wants {parent} to be {value!r}, which is none "
                        f"of its choices. They are {list(choices) or 'a range'}"
                    )
            yield parent, [choice for choice in choices if choice in values]
        if name not in OWNERS:
            return
        owner, values, _ = OWNERS[name]
        if owner in self.parameters:
            possible = list(self.parameters[owner].choices)
        else:
            possible = [self._defaults[owner]]
        fitting = [choice for choice in possible if choice in values]
        if not fitting:
            raise InputError(
                f"{name} can never be active: it has a meaning with {owner} one of "
                f"{list(values)} alone. Received: {owner} one of {possible}"
            )
        if owner in self.parameters:
            yield owner, fitting

    def _check_values(self) -> None:
        """All choices and ends of ranges, singly and in pairs; the rest by default."""
        for size in (1, 2):
            for names in itertools.combinations(self._declared, size):
                extremes = [self.parameters[name].extremes for name in names]
                for values in itertools.product(*extremes):
                    chosen = dict(zip(names, values))
                    try:
                        self._check(self.config(self._where_active(chosen)))
                    except ValueError as error:
                        text = " and ".join(f"{k}={v!r}" for k, v in chosen.items())
                        raise InputError(f"with {text}: {error}") from None

    def _where_active(self, chosen: dict[str, Any]) -> keras_tuner.HyperParameters:
        """`HyperParameters` with these values, and their parents' that they need."""
        hp = keras_tuner.HyperParameters()
        for name in chosen:
            for condition in self._declared[name].conditions:
                default = self._declared[condition.name].default
                allowed = condition.values
                hp.values[condition.name] = (
                    default if default in allowed else allowed[0]
                )
        for name, value in chosen.items():
            hp.values[name] = self.parameters[name].encode(value)
        return hp

    def _check(self, config: TrainingConfig) -> None:
        """Raises a `ValueError` for a setting that no model has."""
        if issubclass(FAMILY[config.model].model, ParallelCTR):
            combinations.check(config.options, self.spec.layout())

    def declare_hyperparameters(self, hp: keras_tuner.HyperParameters) -> None:
        """Adds all hyper-parameters with their conditions; builds no model."""
        hp.merge(list(self._declared.values()), overwrite=False)

    def settings(self, hp: keras_tuner.HyperParameters) -> dict[str, Any]:
        """The hyper-parameters of a trial that are active, as `config.yaml` has them.

        Args:
            hp: `keras_tuner.HyperParameters`. What it does not say is the default.

        Returns:
            Key -> value, a dict.
        """
        values: dict[
            str, Any
        ] = {}  # only active ones, so that what depends on others is not
        for name, declared in self._declared.items():
            if all(condition.is_active(values) for condition in declared.conditions):
                values[name] = hp.values.get(name, declared.default)
        return {
            name: self.parameters[name].decode(values[name])
            for name in self.parameters
            if name in values
        }

    def defaults(self) -> dict[str, Any]:
        """The settings of the default model, as near as the space has them."""
        return self.settings(keras_tuner.HyperParameters())

    def config(self, hp: keras_tuner.HyperParameters) -> TrainingConfig:
        """The `TrainingConfig` of a trial: `base`, and its settings."""
        return self.config_of(self.settings(hp))

    def config_of(self, settings: Mapping[str, Any]) -> TrainingConfig:
        """The `TrainingConfig` of `base` and these settings."""
        # What `base` or a preset says of one gate, its temperature for instance, does
        # not hold where another was chosen.
        neutral = {
            key: options.OPTIONS[key].default
            for key, (owner, values, _) in options.OWNERS.items()
            if owner in settings and settings[owner] not in values
        }
        return TrainingConfig.from_dict({**self.base, **neutral, **settings})

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """The compiled model of a trial, with the metric `auc`.

        Args:
            hp: `keras_tuner.HyperParameters`, which gets those that it lacks.
        """
        self.declare_hyperparameters(hp)
        return compiled_model(self.config(hp), self.spec, metrics=["auc"])

    def fit(
        self,
        hp: keras_tuner.HyperParameters,
        model: keras.Model,
        x: tf.data.Dataset,
        *args: Any,
        **kwargs: Any,
    ) -> keras.callbacks.History:
        """`model.fit` with the trial's batch size.

        Args:
            hp: `keras_tuner.HyperParameters`.
            model: What `build` made.
            x: A `tf.data.Dataset` of any batches, such as `read_records` gives.
            *args: Of `model.fit`, as are `kwargs`.
        """
        batched = x.rebatch(self.config(hp).batch_size)
        return model.fit(batched, *args, **kwargs)


def load_space(space: StrPath) -> dict[str, Any]:
    """What may be chosen for each key, as a file has it.

    Args:
        space: One of `SPACES`, or the path of a YAML file.

    Returns:
        Key of `config.yaml` -> what may be chosen, a dict.

    Raises:
        InputError: If there is no such file, or it does not hold `KEY: ...` lines.
    """
    path = _path(space)
    entries = read_yaml(path, f"; give a YAML file, or one of {list(SPACES)}")
    if not entries:
        raise InputError(f"{path}: must hold lines such as bridge: [hadamard, concat]")
    return entries


def _path(space: StrPath) -> Path:
    if space in SPACES:
        return Path(__file__).parent / "spaces" / f"{space}.yaml"
    return Path(space)
