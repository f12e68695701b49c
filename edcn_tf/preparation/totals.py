"""What has to be known of all rows before statistics are counted."""

import time

import numpy as np
import pyarrow as pa

from edcn_tf.errors import InputError
from edcn_tf.field import DURATION, NEXT_DAY, SECONDS
from edcn_tf.preparation.splitting import TimeSpan

A_SECOND = {"seconds": 1, "milliseconds": 1e3, "microseconds": 1e6, "nanoseconds": 1e9}
FUTURE = 86_400  # seconds that a clock may be ahead


class Totals:
    """The span of times, and the clicks and impressions that train.

    Attributes:
        span: `TimeSpan` of all rows.
        last: Time of the last training row.
        clicks, shown: Of the training rows, by their weights.
    """

    def __init__(self):
        self.span = TimeSpan()
        self.last = -np.inf
        self.clicks = self.shown = 0.0

    def add(self, times, clicks, shown, trains):
        """Takes rows, `[N]` each; `times` is None where rows have none."""
        if times is not None:
            self.span.add(pa.array(times))
            self.last = max(self.last, times[trains].max(initial=-np.inf))
        self.clicks += float(clicks[trains].sum())
        self.shown += float(shown[trains].sum())

    def merge(self, other):
        """Adds another's to these, and returns them."""
        self.span.merge(other.span)
        self.last = max(self.last, other.last)
        self.clicks += other.clicks
        self.shown += other.shown
        return self

    def check(self):
        """Raises an `InputError` for times of two units, or yet to come."""
        self.span.check()
        unit = self.span.unit
        if unit and self.span.last / A_SECOND[unit] > time.time() + FUTURE:
            raise InputError(
                "Statistics count what was known at a time, and a row's time is yet to "
                f"come. Received: {self.span.last:.15g}, in {unit} since 1970"
            )

    def duration(self, text, name):
        """A field's `delay` or `half_life` in the unit of the timestamps.

        Of a delay until the next day the longest: a day.

        Raises:
            InputError: If it is text, and the timestamps do not tell their unit.
        """
        if not isinstance(text, str):
            return text
        number, unit = (
            (1, "d") if text == NEXT_DAY else DURATION.fullmatch(text).groups()
        )
        if self.span.unit is None:
            raise InputError(
                f"The timestamps do not tell their unit, so a {name} of {text!r} has "
                f"no meaning; set the statistics' `{name}` to a number of their unit. "
                f"Received: timestamps from {self.span.first:.15g} on"
            )
        return float(number) * SECONDS[unit] * A_SECOND[self.span.unit]

    def known_before(self, times, delay):
        """The times strictly before which labels are known at these: `[N]`."""
        longest = self.duration(delay, "delay")
        if delay == NEXT_DAY:
            return np.floor(times / longest) * longest
        return times - longest

    def as_of(self, delay):
        """The time up to which labels are known at the last training row."""
        known = self.known_before(self.last, delay)
        # What is of the first moment of the day is of the day.
        return float(np.nextafter(known, -np.inf)) if delay == NEXT_DAY else known
