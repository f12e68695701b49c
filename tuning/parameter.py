"""What may be chosen for one key of `config.yaml`: a line of a search space."""

import dataclasses
import json
import math

import numpy as np
from keras_tuner.engine import hyperparameters

from edcn_tf.checks import check_flag, is_number
from edcn_tf.config import as_number
from edcn_tf.errors import InputError

CHOICE_KEYS = {"choice", "when"}
RANGE_KEYS = {"low", "high", "step", "log", "when"}
MOST_STEPS = 100
LARGEST = 1e30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parameter:
    """A key with its choices, or with its range.

    In a space's YAML file, one of

        bridge: [hadamard, concat, add]              a choice
        optimizer: [adam]                            one value: fixed
        deep_units: [null, 64, [256, 128]]           of any values of YAML
        dropout: {low: 0.0, high: 0.5, step: 0.1}    0.0, 0.1, 0.2, 0.3, 0.4, 0.5
        batch_size: {low: 256, high: 1024, step: 2, log: true}         256, 512, 1024
        l2: {low: 1, high: 100, log: true}           any number, drawn by its logarithm
        num_layers: {low: 1, high: 4}                any whole number
        gate_layers: {choice: [all, input], when: {gate: [softmax, lhuc]}}

    the last of them active only where the other parameter has one of these values;
    elsewhere the key has its default. From whole limits whole numbers are drawn, unless
    the key's default is a fraction.

    KerasTuner holds texts and numbers. Choices that are neither, or of several kinds,
    it is given as JSON.

    Args:
        name: The key.
        default: What it is where the space does not choose.
        choices: The values; empty for a range.
        low: Least value of a range.
        high: Largest value.
        log: Whether equal ratios are equally likely.
        when: Name of another parameter -> its values with which this one is active.
    """

    name: str
    default: object
    choices: tuple = ()
    low: float | None = None
    high: float | None = None
    log: bool = False
    when: dict = dataclasses.field(default_factory=dict)

    @classmethod
    def read(cls, name, entry, default):
        """From what YAML gives for the key; an `InputError` if it is of no such form.

        Args:
            name: The key.
            entry: A list, or a dict with `choice` or with `low` and `high`.
            default: The key's default.
        """
        if isinstance(entry, list):
            entry = {"choice": entry}
        known = CHOICE_KEYS if isinstance(entry, dict) and "choice" in entry else None
        if not known and not (isinstance(entry, dict) and {"low", "high"} <= {*entry}):
            raise InputError(
                f"{name} must be a list of values, {{choice: [...]}}, or "
                f"{{low: ..., high: ...}}. Received: {entry!r}"
            )
        unknown = [key for key in entry if key not in (known or RANGE_KEYS)]
        if unknown:
            raise InputError(
                f"{name}: unknown {unknown[0]!r}. "
                f"Known are {sorted(known or RANGE_KEYS)}"
            )
        if known:
            limits = {"choices": _choices(name, entry["choice"])}
        else:
            limits = _limits(name, entry, default)
        when = _when(name, entry.get("when", {}))
        return cls(name=name, default=default, when=when, **limits)

    @property
    def extremes(self):
        """All choices, or the range's two ends."""
        return self.choices or (self.low, self.high)

    def hyperparameter(self, conditions):
        """KerasTuner's counterpart.

        Its default is the key's default where that can be chosen; otherwise the nearest
        number, or the first choice.

        Args:
            conditions: Name of each parameter that this one depends on -> its values,
                as KerasTuner holds them, with which this one is active.
        """
        if not self.choices:
            made = self._range()
        elif len(self.choices) == 1:
            made = hyperparameters.Fixed(self.name, self.encode(self.choices[0]))
        else:
            made = self._choice()
        # The public way to several conditions at once: `conditional_scope` knows a
        # parent only if it was declared under the very same conditions.
        parents = [
            {"class_name": "Parent", "config": {"name": name, "values": [*values]}}
            for name, values in conditions.items()
        ]
        return type(made).from_config({**made.get_config(), "conditions": parents})

    def _range(self):
        number, kind = float, hyperparameters.Float
        if isinstance(self.low, int):
            number, kind = int, hyperparameters.Int
        default = self.low
        if is_number(self.default):
            default = number(min(max(self.default, self.low), self.high))
        sampling = "log" if self.log else "linear"
        return kind(self.name, self.low, self.high, sampling=sampling, default=default)

    def _choice(self):
        default = self.choices[0]
        if self.default in self.choices:
            default = self.choices[self.choices.index(self.default)]
        elif is_number(self.default) and all(map(is_number, self.choices)):
            default = min(self.choices, key=lambda choice: abs(choice - self.default))
        if set(map(type, self.choices)) == {bool}:
            return hyperparameters.Boolean(self.name, default)
        values = [self.encode(choice) for choice in self.choices]
        return hyperparameters.Choice(self.name, values, default=self.encode(default))

    @property
    def _as_json(self):
        kinds = set(map(type, self.choices))
        return len(kinds) > 1 or not kinds <= {str, int, float, bool}

    def encode(self, choice):
        """A choice as KerasTuner holds it."""
        return json.dumps(choice) if self._as_json else choice

    def decode(self, value):
        """What KerasTuner holds, as `config.yaml` has it."""
        if isinstance(value, np.generic):  # of a Gaussian process, which YAML refuses
            value = value.item()
        return json.loads(value) if self._as_json else value


def _choices(name, values):
    if not isinstance(values, list) or not values:
        raise InputError(
            f"{name}: `choice` must be a list of values. Received: {values!r}"
        )
    values = [as_number(value) for value in values]
    if not all(abs(value) <= LARGEST for value in values if is_number(value)):
        raise InputError(f"{name}: a number is too large. Received: {values!r}")
    if all(map(is_number, values)) and any(isinstance(v, float) for v in values):
        values = [float(value) for value in values]
    try:
        texts = [json.dumps(value) for value in values]
    except TypeError as error:
        raise InputError(f"{name}: {error}") from None
    for value, text in zip(values, texts):
        if texts.count(text) > 1:  # as JSON, since to Python 1 is also True
            raise InputError(f"{name}: {value!r} is there twice")
    return tuple(values)


def _when(name, when):
    if not isinstance(when, dict) or not all(
        isinstance(values, list) and values for values in when.values()
    ):
        raise InputError(
            f"{name}: `when` must be parameters with a list of values each, such as "
            f"{{gate: [softmax]}}. Received: {when!r}"
        )
    return {parent: [as_number(v) for v in values] for parent, values in when.items()}


def _limits(name, entry, default):
    """The arguments of a `Parameter` that is a range."""
    limits = {k: as_number(entry[k]) for k in ("low", "high", "step") if k in entry}
    for key, value in limits.items():
        if not is_number(value, -LARGEST, LARGEST):
            raise InputError(f"{name}: `{key}` must be a number. Received: {value!r}")
    log = entry.get("log", False)
    check_flag(f"{name}: `log`", log)
    low, high, step = limits["low"], limits["high"], limits.get("step")
    if low > high:
        raise InputError(
            f"{name}: `low` must be at most `high`. Received: low={low} and high={high}"
        )
    if log and low <= 0:
        raise InputError(
            f"{name}: with `log`, `low` must be more than 0. Received: low={low}"
        )
    if step is not None and step <= (1 if log else 0):
        raise InputError(
            f"{name}: `step` must be more than "
            + ("1, since it is a factor with `log`" if log else "0")
            + f". Received: step={step}"
        )
    is_fraction = any(isinstance(value, float) for value in limits.values())
    if is_fraction and isinstance(default, int):
        raise InputError(
            f"{name} is a whole number: give whole limits. Received: {limits}"
        )
    if is_fraction or isinstance(default, float):
        low, high = float(low), float(high)
    if step is None:
        return {"low": low, "high": high, "log": log}
    steps = math.log(high / low, step) if log else (high - low) / step
    if steps > MOST_STEPS:
        raise InputError(
            f"{name}: step={step} gives more than {MOST_STEPS} values; leave it out"
        )
    return {"choices": tuple(_steps(low, step, int(steps + 1e-9), log))}


def _steps(low, step, steps, log):
    """The values of a range with a step.

    Counted here, since KerasTuner's sums lose the last: 0.5 // 0.1 is 4.
    """
    for i in range(steps + 1):
        value = low * step**i if log else low + step * i
        # 0.3 rather than 0.30000000000000004.
        yield float(f"{value:.12g}") if isinstance(low, float) else value
