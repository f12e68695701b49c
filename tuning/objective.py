"""What a search maximizes, or minimizes."""

import dataclasses
from collections.abc import Iterable
from typing import Any

from edcn_tf.choices import OBJECTIVES
from edcn_tf.errors import InputError

FIGURES = dict(zip(OBJECTIVES, ("AUC", "log loss")))


@dataclasses.dataclass(frozen=True)
class Objective:
    """A figure of the validation split, with a charge for what serving it costs.

        score = AUC - c_t * t - c_p * P / 10^6,   to be maximized, or
        score = log loss + c_t * t + c_p * P / 10^6,   to be minimized

    Args:
        figure: `"auc"` (exact) or `"log_loss"`.
        latency_charge: c_t, for each millisecond t that the export's `ids` signature
            takes for `edcn_tf.tuning.trial.LATENCY_ROWS` rows: 0.001 asks for a
            thousandth of AUC for each.
        parameter_charge: c_p, for each million of the P parameters, embeddings
            included.

    Raises:
        InputError: For another figure or a negative charge.
    """

    figure: str = "auc"
    latency_charge: float = 0.0
    parameter_charge: float = 0.0

    def __post_init__(self) -> None:
        if self.figure not in FIGURES:
            raise InputError(
                f"objective must be one of {list(FIGURES)}. Received: {self.figure!r}"
            )
        for name in ("latency_charge", "parameter_charge"):
            if not getattr(self, name) >= 0:
                raise InputError(
                    f"{name} must be a number, at least 0. "
                    f"Received: {getattr(self, name)!r}"
                )

    @property
    def title(self) -> str:
        """For people: `"validation AUC"`."""
        return f"validation {FIGURES[self.figure]}"

    @property
    def higher_is_better(self) -> bool:
        return self.figure == "auc"

    @property
    def direction(self) -> str:
        """As KerasTuner calls it."""
        return "max" if self.higher_is_better else "min"

    def score(self, figures: dict[str, float]) -> float:
        """Of figures with `auc`, `log_loss`, `latency_ms` and `parameters`, a dict."""
        charge = self.parameter_charge * figures["parameters"] / 1e6
        if self.latency_charge:
            charge += self.latency_charge * figures["latency_ms"]
        sign = -1 if self.higher_is_better else 1
        return figures[self.figure] + sign * charge

    def best(self, results: Iterable[Any]) -> list[Any]:
        """Those with a `score`, the best one first."""
        return sorted(results, key=lambda r: r.score, reverse=self.higher_is_better)
