"""A hyper-parameter as the axis of a figure, or the feature of a regression."""

import json
import math
import statistics

import numpy as np
from matplotlib.ticker import MaxNLocator

from edcn_tf.checks import is_number
from edcn_tf.config import setting_text

MOST_CHOICES = 7  # different numbers; with more, they are a range
LOG_RATIO = 10  # a range that is narrower needs no logarithm
INACTIVE = "\N{EN DASH}"


class ParameterAxis:
    """Gives each value of a hyper-parameter a place.

    Few values stand side by side, numbers first. Many numbers, or numbers of many
    digits (as they are when drawn from a range), are a range; it is logarithmic if that
    spreads them more evenly. Where the parameter was not active, its place is below all
    others.

    Args:
        name: Of the hyper-parameter.
        settings: The trials' settings, dicts; one of them at least has the name.
    """

    def __init__(self, name, settings):
        self.name = name
        active = [setting[name] for setting in settings if name in setting]
        self.is_conditional = len(active) < len(settings)
        known = {_key(value): value for value in active}
        self.is_range = (
            len(known) > 1
            and all(map(is_number, active))
            and (len(known) > MOST_CHOICES or not all(map(_is_round, active)))
        )
        self.is_log = self.is_range and _is_logarithmic(active)
        if self.is_range:
            self.low, self.high = (self._scaled(f(active)) for f in (min, max))
            self.inactive = self.low - 0.15 * (self.high - self.low)
        else:
            self._choices = sorted(known, key=lambda key: _order(known[key]))
            self._labels = [label(known[key]) for key in self._choices]
            self.low, self.high, self.inactive = 0, len(known) - 1, -1
        self.is_constant = self.low == self.high and not self.is_conditional

    def number(self, setting):
        """The place of a setting's value."""
        if self.name not in setting:
            return self.inactive
        value = setting[self.name]
        return (
            self._scaled(value) if self.is_range else self._choices.index(_key(value))
        )

    def share(self, setting):
        """The same, between 0 and 1."""
        return self._share(self.number(setting))

    def ticks(self):
        """Places and their labels."""
        ticks = [(self.inactive, INACTIVE)] if self.is_conditional else []
        if self.is_range:
            return ticks + [(self._scaled(v), f"{v:g}") for v in self._round_values()]
        return ticks + list(enumerate(self._labels))

    def share_ticks(self):
        """The same, with places between 0 and 1."""
        return [(self._share(number), text) for number, text in self.ticks()]

    def grid(self, points):
        """Places of all choices, or so many places of a range."""
        return np.linspace(
            self.low, self.high, points if self.is_range else len(self._choices)
        )

    def _scaled(self, value):
        return math.log10(value) if self.is_log else value

    def _share(self, number):
        first = self.inactive if self.is_conditional else self.low
        return (number - first) / (self.high - first) if self.high > first else 0.5

    def _round_values(self):
        """Three to five or so round numbers within the range."""
        if not self.is_log:
            ticks = MaxNLocator(4).tick_values(self.low, self.high)
            return [v for v in ticks.tolist() if self.low <= v <= self.high]
        powers = range(math.floor(self.low), math.ceil(self.high) + 1)
        for digits in [(1,), (1, 3), (1, 2, 5)]:
            values = [digit * 10.0**power for power in powers for digit in digits]
            values = [v for v in values if self.low <= math.log10(v) <= self.high]
            if len(values) >= 3:
                break
        return values


def label(value):
    """A value for people: floats with three digits, lists without blanks."""
    if isinstance(value, float):
        return f"{float(f'{value:.3g}'):g}"  # 1230, not 1.23e+03
    if isinstance(value, (list, tuple)):
        return "[{}]".format(",".join(map(label, value)))
    return setting_text(value)


def _key(value):
    return json.dumps(value, sort_keys=True)  # a list cannot be looked up


def _is_round(number):
    return isinstance(number, int) or float(f"{number:.3g}") == number


def _is_logarithmic(numbers):
    """Whether the median is nearer to the ends' geometric mean than to their mean."""
    low, high, middle = min(numbers), max(numbers), statistics.median(numbers)
    if low <= 0 or high / low < LOG_RATIO:
        return False
    linear = (middle - low) / (high - low)
    logarithmic = math.log(middle / low) / math.log(high / low)
    return abs(logarithmic - 0.5) < abs(linear - 0.5)


def _order(value):
    number = value if is_number(value) else None
    return (number is None, number or 0, setting_text(value))
