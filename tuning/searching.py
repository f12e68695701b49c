"""The search of hyper-parameters over prepared data: `edcn tune`."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edcn_tf.config import TrainingConfig
from edcn_tf.directories import PreparedData
from edcn_tf.errors import InputError
from edcn_tf.features.spec import FeatureSpec
from edcn_tf.files import (
    StrPath,
    locked,
    new_directory,
    read_json,
    read_value,
    write_json,
)
from edcn_tf.preparation.usable import check_splits
from edcn_tf.records.encoded import TRAINING_SPLITS
from edcn_tf.records.writing import record_files

from . import parallel
from .objective import Objective
from .oracles import FAILURES_IN_A_ROW, make_oracle
from .outcome import Lines, best_candidates, varied, write_outcome
from .process import run_apart
from .retraining import retrain
from .search_space import SearchSpace, load_space
from .trial import encode
from .tuner import RunTuner, read_results

TRIALS = 30
EPOCHS = 26  # of a trial, by default: Hyperband's brackets are then 30 trials together
SEARCH = "search.json"  # what was asked for
FINISHED = "finished.json"  # what the outcome is of
ENCODED = "encoded"


def search(
    data: StrPath,
    out: StrPath,
    *,
    space: StrPath | dict[str, Any] = "small",
    base: Mapping[str, Any] | None = None,
    tuner: str = "hyperband",
    trials: int = TRIALS,
    hours: float | None = None,
    max_parameters: int | None = None,
    objective: Objective | None = None,
    retrain_trials: int = 5,
    retrain_seeds: int = 3,
) -> TrainingConfig | None:
    """Searches a space, trains the best trials anew, and tells what was found.

    A search that was interrupted, at whatever moment, goes on when the same command is
    given again, inside the trial that was running from its last finished epoch;
    `trials`, `hours` and what is trained anew may then be others.

    With KerasTuner's environment variables KERASTUNER_ORACLE_IP,
    KERASTUNER_ORACLE_PORT and KERASTUNER_TUNER_ID it is searched in parallel: one
    process whose id has "chief" in it chooses the trials, all others, each with an id
    of its own, train them. All are given the same arguments, and directories that they
    share.

    In a script of your own, call it below `if __name__ == "__main__":`, since trials
    are processes that import that script.

    Args:
        data: Directory that `prepare` made; its test split, where it has one, is
            scored for the settings that are trained anew, and chooses nothing.
        out: Directory of the search. It gets `best.yaml` (for `edcn train --config`),
            `trials.csv`, `report.html`, `search/` (a directory a trial) and
            `retrained/`.
        space: `"small"`, `"full"`, or the path of a YAML file (`SearchSpace`).
        base: Keys of `config.yaml` that every trial has; `seed` is that of the search
            too. The space wins where it varies a key, which then is said, and of
            which the base's value is that of the first trial. `epochs` is 26 unless
            it is given: that many at most for a trial, and for Hyperband what its
            brackets are made from.
        tuner: `"hyperband"`, `"bayesian"` or `"random"`.
        trials: The most trials.
        hours: After which no further trial begins, those of earlier calls included.
        max_parameters: A trial whose model has more fails at once.
        objective: `Objective`; the exact validation AUC by default.
        retrain_trials: How many of the best trials to train anew, beside the default
            setting; 0 for none.
        retrain_seeds: With how many seeds.

    Returns:
        The `TrainingConfig` of `best.yaml`, or None in a worker of a parallel search.

    Raises:
        InputError: If an argument does not fit, `out` holds another search, or ten
            trials failed in a row.
    """
    data, out = Path(data), Path(out)
    objective = objective or Objective()
    asked_for = dict(base or {})
    base = {"epochs": EPOCHS, **asked_for}
    settings = TrainingConfig.from_dict(base)
    prepared = PreparedData(data)
    for split in TRAINING_SPLITS:  # there, or an error that names it
        record_files(prepared.records(split))
    check_splits(data)
    chosen = SearchSpace(FeatureSpec.load(prepared.features), space, base)
    oracle = make_oracle(
        tuner,
        objective,
        trials=trials,
        epochs=settings.epochs,
        seed=settings.seed,
        hours=hours,
    )
    asked = {
        "data": str(data.absolute()),
        "space": space if isinstance(space, dict) else load_space(space),
        "base": base,
        "tuner": tuner,
        "max_parameters": max_parameters,
        "objective": dataclasses.asdict(objective),
    }
    role = parallel.role()
    _start(out, asked, role)

    def search_trials() -> None:
        RunTuner(
            oracle,
            chosen,
            objective,
            out,
            data=data,
            encoded=out / ENCODED,
            max_parameters=max_parameters,
            tell=Lines(out, trials, objective),
        ).search()

    if role == parallel.WORKER:
        search_trials()
        return None
    with locked(out / SEARCH, f"{out}: another process searches there"):
        asked_anew = [retrain_trials, retrain_seeds] if retrain_trials else []
        _refuse_finished(out, trials, asked_anew)
        if told := varied(chosen, asked_for):
            print(told, flush=True)
        run_apart(encode, data, out / ENCODED, log=out / "encoding.txt")
        if role == parallel.CHIEF:
            print("Waiting for workers, which are given this command too", flush=True)
        search_trials()
        if oracle.failure:
            raise InputError(
                f"{out}: {FAILURES_IN_A_ROW} trials in a row failed, the last one: "
                f"{oracle.failure}"
            )
        candidates = best_candidates(
            read_results(out), chosen, objective, retrain_trials
        )
        retrained = []
        if retrain_trials:
            retrained = retrain(
                out / "retrained",
                candidates,
                objective,
                data=data,
                encoded=out / ENCODED,
                seeds=[settings.seed + 1 + number for number in range(retrain_seeds)],
                max_parameters=max_parameters,
            )
        best = write_outcome(out, candidates, objective, retrained, oracle.seconds)
        finished = {"trials": len(read_results(out)), "retrained": asked_anew}
        write_json(out / FINISHED, finished)
        return best


def _start(out: Path, asked: dict[str, Any], role: str | None) -> None:
    """Makes the directory, or sees that the one there is this search's."""
    path, is_worker = out / SEARCH, role == parallel.WORKER
    if not out.exists() and not is_worker:
        with new_directory(out) as partial:
            write_json(partial / SEARCH, asked)
    elif not path.exists():
        what = (
            "is not there yet; start the chief first"
            if is_worker
            else ("exists already and holds no search; choose another --out")
        )
        raise InputError(f"{out}: {what}")
    earlier = read_json(path)
    for key, value in asked.items():
        if earlier.get(key) != value:
            raise InputError(
                f"{out}: holds a search with another {key}; give that one to go on "
                f"with it, or choose another --out. Received: {value!r}, and the "
                f"search has {earlier.get(key)!r}"
            )


def _refuse_finished(out: Path, trials: int, retrained: list[int]) -> None:
    path = out / FINISHED
    if not path.exists():
        return
    done = read_value(path, "trials")
    if done >= trials and read_value(path, "retrained") == retrained:
        raise InputError(
            f"{out}: holds a finished search of {done} trials; ask for more trials, or "
            "for others to be trained anew, to go on with it, or choose another --out"
        )
