"""From the model's probability to the true one: sampling correction, calibration."""

import dataclasses
import itertools
import math
import os
from typing import Any

import numpy as np
import tensorflow as tf

from edcn_tf.checks import check_flag, is_number
from edcn_tf.directories import Run
from edcn_tf.errors import InputError
from edcn_tf.files import StrPath, read_json, write_json

FORMAT = 1
PARAMETERS: dict[str, tuple[str, ...]] = {
    "none": (),
    "platt": ("slope", "intercept"),
    "isotonic": ("x", "y"),
}
METHODS = tuple(PARAMETERS)
EPSILON = 1e-7  # log odds are of probabilities in [EPSILON, 1 - EPSILON]
LARGEST = 1e6  # of a slope and an intercept: float32 stays finite
KNOTS = 100  # at most; each is a column of numbers while a batch is served
KNOT_DISTANCE = 1e-9  # at least; it bounds the slopes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Calibration:
    """A function: the model's probability -> the probability that is served.

    First, training on a share r of the negatives is undone, then what is left of a
    bias is:

        p' = p / (p + (1 - p) / r), that is, logit(p') = logit(p) + ln r
        none:      q = p'
        platt:     q = sigmoid(slope logit(p') + intercept)
        isotonic:  q = y_0 + sum_k (y_k+1 - y_k) / (x_k+1 - x_k)
                               * clip(p' - x_k, 0, x_k+1 - x_k)

    The last is the line through the knots (x_k, y_k), level outside of them. All
    three ascend strictly (between the knots), so they leave the order of rows as it
    is, but for what float32 no longer tells apart.

    Args:
        negative_sampling_rate: r, above 0 and at most 1.
        splits_sampled: Whether the validation and test splits were sampled too, as
            they are if the log was sampled before `prepare`. Then a negative in
            them stands for 1 / r.
        method: One of `METHODS`.
        slope, intercept: Of `"platt"`; the slope is above 0.
        x, y: Of `"isotonic"`: 2 to 100 knots, each strictly ascending in [0, 1], x by
            1e-9 or more.

    Call arguments:
        probabilities: float32 tensor of any shape.

    Output shape:
        That of the input, float32 in [0, 1]; NaN stays NaN. If `is_identity`, the
        input itself.

    Raises:
        InputError: If a parameter is out of its range or not one of the method's.

    Example:
        >>> float(Calibration(negative_sampling_rate=0.1)(0.5))  # 1 / 11
        0.09090909...

    References:
        He et al., 2014, "Practical Lessons from Predicting Clicks on Ads at
        Facebook", section 6.3 (the sampling correction).
        Platt, 1999, "Probabilistic Outputs for Support Vector Machines".
        Zadrozny and Elkan, 2002, "Transforming Classifier Scores into Accurate
        Multiclass Probability Estimates" (isotonic).
    """

    negative_sampling_rate: float = 1.0
    splits_sampled: bool = False
    method: str = "none"
    slope: float = 1.0
    intercept: float = 0.0
    x: tuple[float, ...] = ()
    y: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(
                f"method must be one of {list(METHODS)}. Received: {self.method!r}"
            )
        check_flag("splits_sampled", self.splits_sampled)
        self._check("negative_sampling_rate", 0, 1, above=True)
        self._check("slope", 0, LARGEST, above=True)
        self._check("intercept", -LARGEST, LARGEST)
        for key in ("x", "y"):
            object.__setattr__(self, key, self._knots(key))
        if self.method == "isotonic" and not 2 <= len(self.x) == len(self.y) <= KNOTS:
            raise InputError(
                f"x and y must be equally many, 2 to {KNOTS}. "
                f"Received: {len(self.x)} and {len(self.y)}"
            )
        for field in dataclasses.fields(self):
            others = set(sum(PARAMETERS.values(), ())) - set(PARAMETERS[self.method])
            if field.name in others and getattr(self, field.name) != field.default:
                raise InputError(f"The method {self.method!r} has no {field.name}")

    def _check(self, key: str, low: float, high: float, above: bool = False) -> None:
        value = getattr(self, key)
        good = _is_number(value) and low <= value <= high and not (above and value == 0)
        if not good:
            raise InputError(
                f"{key} must be a number {'above' if above else 'of at least'} {low} "
                f"and at most {high:g}. Received: {value!r}"
            )
        object.__setattr__(self, key, float(value))

    def _knots(self, key: str) -> tuple[float, ...]:
        knots = getattr(self, key)
        good = isinstance(knots, (list, tuple)) and all(map(_is_number, knots))
        good = good and all(0 <= knot <= 1 for knot in knots)
        least = KNOT_DISTANCE / 2 if key == "x" else 0  # half: `fit` rounds
        if not good or any(b - a <= least for a, b in itertools.pairwise(knots)):
            raise InputError(
                f"{key} must be numbers in [0, 1] that ascend. Received: "
                f"{str(knots)[:100]}"
            )
        return tuple(map(float, knots))

    @property
    def is_identity(self) -> bool:
        """Whether it changes nothing."""
        return self.negative_sampling_rate == 1 and self.method == "none"

    def __call__(self, probabilities: Any) -> Any:
        if self.is_identity:
            return probabilities
        given = tf.convert_to_tensor(probabilities, tf.float32)
        # Operations with a GPU kernel only: a served model may run there whole.
        p = tf.clip_by_value(given, EPSILON, 1 - EPSILON)
        log_odds = tf.math.log(p) - tf.math.log1p(-p)
        log_odds += math.log(self.negative_sampling_rate)
        if self.method == "platt":
            log_odds = self.slope * log_odds + self.intercept
        p = tf.sigmoid(log_odds)
        if self.method == "isotonic":
            p = self._line(p)
        # Kernels differ in what a clip makes of NaN.
        return tf.where(tf.math.is_nan(given), given, p)

    def _line(self, p: tf.Tensor) -> tf.Tensor:
        x, y = np.array(self.x), np.array(self.y)
        widths = np.diff(x)
        slopes = np.diff(y) / widths
        parts = tf.clip_by_value(
            p[..., None] - x[:-1].astype(np.float32), 0.0, widths.astype(np.float32)
        )  # [..., knots - 1]
        p = self.y[0] + tf.reduce_sum(parts * slopes.astype(np.float32), -1)
        return tf.clip_by_value(p, 0.0, 1.0)

    def row_weights(
        self, labels: np.ndarray, weights: np.ndarray | None = None
    ) -> np.ndarray | None:
        """What each row counts for where the probability is the corrected one.

        A negative of a sampled split counts 1 / r; `weights` of the schema multiply.
        `None` if all rows count alike.
        """
        if not self.splits_sampled or self.negative_sampling_rate == 1:
            return weights
        counts = np.where(labels == 1, 1.0, 1 / self.negative_sampling_rate)
        return counts if weights is None else counts * weights

    def save(self, path: StrPath) -> None:
        """Writes a JSON file, whole or not at all."""
        kept = ["negative_sampling_rate", "splits_sampled", "method"]
        kept += PARAMETERS[self.method]
        write_json(path, {"format": FORMAT, **{k: getattr(self, k) for k in kept}})

    @classmethod
    def load(cls, path: StrPath) -> "Calibration":
        """Reads what `save` wrote; an `InputError` names the file."""
        values = read_json(path)
        try:
            return cls._from_dict(values)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None

    @classmethod
    def _from_dict(cls, values: Any) -> "Calibration":
        if not isinstance(values, dict):
            raise InputError(f"must hold a JSON object. Received: {str(values)[:100]}")
        values = dict(values)
        if values.pop("format", None) != FORMAT:
            raise InputError(f"format must be {FORMAT}")
        method = values.get("method")
        if method not in METHODS:
            raise InputError(f"method must be one of {list(METHODS)}")
        keys = {"negative_sampling_rate", "splits_sampled", "method"}
        keys |= set(PARAMETERS[method])
        wrong = sorted(keys ^ set(values))
        if wrong:
            raise InputError(f"must have the keys {sorted(keys)}, but see {wrong[0]!r}")
        return cls(**values)


def load_calibration(run: StrPath) -> Calibration:
    """The `Calibration` of a run directory; a run without a file has the identity."""
    path = Run(run).calibration
    return Calibration.load(path) if os.path.lexists(path) else Calibration()


def _is_number(value: Any) -> bool:
    # A whole number may be too large to be a float.
    return is_number(value, -LARGEST, LARGEST)
