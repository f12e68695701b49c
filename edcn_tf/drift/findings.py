"""What is found of a log: figures, and which of them are an alarm."""

import dataclasses
import math
from typing import NamedTuple

from edcn_tf.checks import is_number
from edcn_tf.drift.divergences import Comparison, holm
from edcn_tf.drift.ranking import Figure
from edcn_tf.errors import InputError

DOMINATED = 0.25  # share of the rows of one random group, of which there are 32
DOMINATED_ROWS = 100


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """From where on a difference that chance does not explain is an alarm.

    Args:
        psi: Of a population stability index, less what chance gives on average.
        share: Of a share of missing or unseen values, in either direction: 0.05 is
            5 points.
        calibration: Of predicted over true clicks, relative to that of the validation
            split: 0.1 is 1.1 times as high or as low.
        auc: By how much AUC is below that of the validation split.
        level: Probability of one alarm or more where nothing drifted, at most.

    Raises:
        InputError: If one is no number above 0, or the level not below 1.
    """

    psi: float = 0.2
    share: float = 0.05
    calibration: float = 0.1
    auc: float = 0.02
    level: float = 0.01

    def __post_init__(self):
        for key, value in dataclasses.asdict(self).items():
            below = 1 if key == "level" else math.inf
            if not (is_number(value) and 0 < value < below):
                limit = " and below 1" if key == "level" else ""
                raise InputError(
                    f"{key} must be a number above 0{limit}. Received: {value!r}"
                )


class Share(NamedTuple):
    """A share of a field's values, in [0, 1].

    Attributes:
        value, error: Of the log, with its standard error.
        reference: Of training.
        p: Probability of such a difference by chance.
    """

    value: float
    error: float
    reference: float
    p: float


class FieldDrift(NamedTuple):
    """What is found of a field.

    Attributes:
        name: The field's name.
        split: What it is compared with: "train" or "valid".
        values: Number of values in the log.
        missing, unseen: A `Share`; `unseen` is None where no value can be.
        known: `Comparison` of the known values, in bins that are large enough.
        changes: `(label, share of the log, share of the split)` of the bins that
            differ most, the first the most.
        ignored: Whether it gives no alarm.
    """

    name: str
    split: str
    values: int
    missing: Share
    unseen: Share | None
    known: Comparison
    changes: list
    ignored: bool


class Alarm(NamedTuple):
    """A difference that is large, and not by chance.

    Attributes:
        name: Name of a field, or "scores", "calibration" or "AUC".
        told: What differs, a text.
        p: Probability of this by chance, as there are so many figures.
    """

    name: str
    told: str
    p: float


@dataclasses.dataclass(frozen=True)
class Drift:
    """How a log compares with what a run was trained on.

    Attributes:
        run, logs, data: Their names.
        rows, validation_rows: Numbers of rows.
        labels: Whether the log has them.
        independent: Whether rows were taken to be drawn each by itself, for want of a
            group column.
        largest_group: Share of the rows that the largest of the random groups has.
        fields: A `FieldDrift` of each.
        scores: `Comparison` of the scores with those of the validation split.
        histogram: `(least scores, shares of the log, shares of the split)` by bin.
        mean: Mean score of the log, and of the split.
        calibration, auc: A `Figure`, the first of logarithms; None without labels.
        left_out: What was not compared -> why.
        limits: The `Limits`.
    """

    run: str
    logs: list
    data: str
    rows: int
    validation_rows: int
    labels: bool
    independent: bool
    largest_group: float
    fields: list
    scores: Comparison
    histogram: tuple
    mean: tuple
    calibration: Figure | None
    auc: Figure | None
    left_out: dict
    limits: Limits

    @property
    def dominated(self):
        """Whether one user, or whatever the group is, has very many of the rows."""
        return self.rows >= DOMINATED_ROWS and self.largest_group > DOMINATED

    @property
    def alarms(self):
        """A list of `Alarm`, the least likely first."""
        tests = [test for field in self.fields for test in self._of_field(field)]
        tests += self._of_scores()
        corrected = holm([p for *_, p in tests])
        found = [
            Alarm(name, told, float(p))
            for (name, told, is_large, _), p in zip(tests, corrected)
            if is_large and p < self.limits.level
        ]
        return sorted(found, key=lambda alarm: alarm.p)

    def _of_field(self, field):
        if field.ignored:
            return
        shares = (("missing", field.missing), ("unseen", field.unseen))
        for what, share in shares:
            if share is not None:
                is_large = abs(share.value - share.reference) >= self.limits.share
                told = f"{share.value:.1%} {what}, was {share.reference:.1%}"
                yield field.name, told, is_large, share.p
        is_large = field.known.excess >= self.limits.psi
        told = _index(field.known)
        if field.changes:
            label, own, before = field.changes[0]
            told += f"; {label!r} {own:.1%}, was {before:.1%}"
        yield field.name, told, is_large, field.known.p

    def _of_scores(self):
        limits = self.limits
        is_large = self.scores.excess >= limits.psi
        told = f"{_index(self.scores)}; mean {self.mean[0]:.4g}, was {self.mean[1]:.4g}"
        yield "scores", told, is_large, self.scores.p
        if self.calibration:
            apart = self.calibration.value - self.calibration.reference
            is_large = abs(apart) >= math.log1p(limits.calibration)
            told = (
                f"{math.exp(self.calibration.value):.3f} clicks predicted for one, was "
                f"{math.exp(self.calibration.reference):.3f}"
            )
            yield "calibration", told, is_large, self.calibration.p
        if self.auc:
            is_large = self.auc.reference - self.auc.value >= limits.auc
            told = f"{self.auc.value:.4f}, was {self.auc.reference:.4f}"
            yield "AUC", told, is_large, self.auc.p


def _index(comparison):
    return f"PSI {comparison.psi:.3f}, by chance {comparison.by_chance:.3f}"
