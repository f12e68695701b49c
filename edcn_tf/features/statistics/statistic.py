"""What a statistic's counts become: a range of its rate and one of its impressions."""

import dataclasses
from typing import Any

import numpy as np

from edcn_tf.errors import InputError
from edcn_tf.features.statistics.smoothing import RowsSample, smoothed


@dataclasses.dataclass(frozen=True)
class StatisticSpec:
    """How a statistic's rows follow from what was counted.

    After that of a missing value, which none has, the rows are those of the ranges of
    the smoothed rate and then those of the ranges of the impressions; range i holds
    boundaries[i - 1] <= x < boundaries[i].

    Attributes:
        prior: The rate of a key that nothing is known of.
        strengths: A of each level, the most special first.
        rate_boundaries, count_boundaries: float32.
    """

    prior: float
    strengths: tuple[float, ...]
    rate_boundaries: tuple[float, ...]
    count_boundaries: tuple[float, ...]

    @property
    def rates(self) -> int:
        """Number of ranges of the rate."""
        return len(self.rate_boundaries) + 1

    @property
    def rows(self) -> int:
        """Number of rows, that of a missing value included."""
        return 1 + self.rates + len(self.count_boundaries) + 1

    def nothing_known(self) -> tuple[int, int]:
        """Of a key without impressions the two rows, counted from the first."""
        rate = np.searchsorted(self.rate_boundaries, self.prior, side="right")
        count = np.searchsorted(self.count_boundaries, 0, side="right")
        return 1 + int(rate), 1 + self.rates + int(count)

    def row_counts(self, sample: RowsSample, min_count: int) -> np.ndarray:
        """Training values of each row but the first, by a sample of them."""
        counts, labels, _ = sample.sample()
        rates = smoothed(counts, self.prior, self.strengths, min_count)
        scale = sample.total / max(len(labels), 1)
        found = []
        for values, boundaries in (
            (rates.astype(np.float32), self.rate_boundaries),
            (counts[:, 0, 1], self.count_boundaries),
        ):
            places = np.searchsorted(np.array(boundaries, np.float32), values, "right")
            found.append(np.bincount(places, minlength=len(boundaries) + 1))
        return np.round(np.concatenate(found) * scale).astype(np.int64)

    def row_names(self) -> list[str]:
        """What each row but the first stands for."""
        names = []
        for what, boundaries in (
            ("rate", self.rate_boundaries),
            ("impressions", self.count_boundaries),
        ):
            low = ["-inf", *(f"{b:g}" for b in boundaries)]
            names += [f"{what} [{a}, {b})" for a, b in zip(low, [*low[1:], "inf"])]
        return names

    def to_dict(self) -> dict[str, Any]:
        """As JSON, for `features.json`."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in dataclasses.asdict(self).items()
        }

    @classmethod
    def from_dict(
        cls, stored: dict[str, Any], name: str, levels: int
    ) -> "StatisticSpec":
        """From `to_dict`'s, of the field of that name."""
        keys = ("strengths", "rate_boundaries", "count_boundaries")
        numbers = [tuple(float(number) for number in stored[key]) for key in keys]
        prior = float(stored["prior"])
        rising = all(
            np.isfinite(each).all() and (np.diff(np.array(each, np.float32)) > 0).all()
            for each in numbers[1:]
        )
        strong = len(numbers[0]) == levels and min(numbers[0]) > 0
        if not (rising and strong and 0 <= prior <= 1):
            raise InputError(f"the ranges of {name!r} are no ranges of a statistic")
        return cls(prior, *numbers)
