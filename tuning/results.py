"""What a search found: its trials, and the best of them trained anew."""

import dataclasses

COMPLETED, FAILED = "completed", "failed"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrialResult:
    """One trial of a search.

    Args:
        number: From 0, in the order in which trials began.
        status: `"completed"` or `"failed"`.
        settings: Name -> value of the hyper-parameters that were active.
        score: The objective, its charges taken off; NaN if it failed.
        auc: Of the validation split, exact, in the best epoch.
        log_loss: Of the validation split in that epoch.
        parameters: Of the model; None if it could not be built.
        latency_ms: Milliseconds of the `ids` signature; None if not measured.
        epochs: Passes over the training split, those of `continues` included.
        best_epoch: The epoch of `auc`, from 1.
        continues: Number of the trial whose training it went on with (Hyperband), or
            None.
        began: Seconds since 1970.
        ended: Seconds since 1970.
        training_seconds: Of its own epochs: steps, validation and checkpoints.
        peak_memory_mib: The most memory that its process held.
        search_memory_mib: What the searching process held when it had ended.
        reason: Why it failed, one line; empty if it did not.
    """

    number: int
    status: str
    settings: dict
    score: float = float("nan")
    auc: float = float("nan")
    log_loss: float = float("nan")
    parameters: int | None = None
    latency_ms: float | None = None
    epochs: int = 0
    best_epoch: int | None = None
    continues: int | None = None
    began: float = 0.0
    ended: float = 0.0
    training_seconds: float = 0.0
    peak_memory_mib: float = float("nan")
    search_memory_mib: float = float("nan")
    reason: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Retrained:
    """A setting trained anew with several seeds.

    Args:
        name: `"default"`, or `"trial 7"`.
        trial: The trial's number; None for the default.
        config: The keys of `config.yaml` that differ from the default's.
        seeds: The seeds.
        valid_auc: A number for each seed.
        valid_log_loss: A number for each seed.
        test_auc: A number for each seed; empty where there is no test split.
        test_log_loss: The same.
        latency_ms: Milliseconds of the `ids` signature.
        parameters: Of the model.
        score: The mean objective, its charges taken off.
    """

    name: str
    trial: int | None
    config: dict
    seeds: tuple[int, ...]
    valid_auc: tuple[float, ...]
    valid_log_loss: tuple[float, ...]
    test_auc: tuple[float, ...] = ()
    test_log_loss: tuple[float, ...] = ()
    latency_ms: float | None = None
    parameters: int | None = None
    score: float = float("nan")
