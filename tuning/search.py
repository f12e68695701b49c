"""Search hyper-parameters over prepared data: `edcn tune`."""

import dataclasses
import sys
from pathlib import Path

import yaml

from edcn_tf.config import TrainingConfig
from edcn_tf.errors import InputError
from edcn_tf.files import new_directory, replaced, write_json
from edcn_tf.records import record_files
from edcn_tf.schema import read_json
from edcn_tf.tuning import parallel
from edcn_tf.tuning.objective import Objective
from edcn_tf.tuning.oracles import FAILURES_IN_A_ROW, make_oracle
from edcn_tf.tuning.process import run_apart
from edcn_tf.tuning.results import COMPLETED
from edcn_tf.tuning.retraining import DEFAULT, retrain
from edcn_tf.tuning.search_space import SearchSpace, load_space
from edcn_tf.tuning.trial import encode
from edcn_tf.tuning.tuner import RunTuner, read_results
from edcn_tf.vocabulary import FeatureSpec

TRIALS = 30
EPOCHS = 26  # of a trial, by default: Hyperband's brackets are then 30 trials together
SEARCH = "search.json"  # what was asked for
BEST = "best.yaml"


def search(
    data,
    out,
    *,
    space="small",
    base=None,
    tuner="hyperband",
    trials=TRIALS,
    hours=None,
    max_parameters=None,
    objective=None,
    retrain_trials=5,
    retrain_seeds=3,
):
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
            too. `epochs` is 26 unless it is given: that many at most for a trial, and
            for Hyperband what its brackets are made from.
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
    base = {"epochs": EPOCHS, **(base or {})}
    settings = TrainingConfig.from_dict(base)
    for split in ("train", "valid"):
        record_files(f"{data}/{split}-*.tfrecord*")  # there, or an error that names it
    chosen = SearchSpace(FeatureSpec.load(data / "features"), load_space(space), base)
    asked = {
        "data": str(data.absolute()),
        "space": load_space(space),
        "base": base,
        "tuner": tuner,
        "max_parameters": max_parameters,
        "objective": dataclasses.asdict(objective),
    }
    oracle = make_oracle(
        tuner,
        objective,
        trials=trials,
        epochs=settings.epochs,
        seed=settings.seed,
        hours=hours,
    )
    role = parallel.role()
    is_worker = role == parallel.WORKER
    _start(out, asked, is_worker)
    done = len(read_results(out))
    if (out / BEST).exists() and done >= trials:
        raise InputError(
            f"{out}: holds a finished search of {done} trials; ask for more trials to "
            "go on with it, or choose another --out"
        )
    encoded = out / "encoded"
    if not is_worker:
        run_apart(encode, data, encoded, log=out / "encoding.txt")
    tuner = RunTuner(
        *(oracle, chosen, objective, out),
        data=data,
        encoded=encoded,
        max_parameters=max_parameters,
        tell=_Lines(out, trials, objective),
    )
    if role == parallel.CHIEF:
        print(
            "Waiting for workers: the same command with another KERASTUNER_TUNER_ID",
            flush=True,
        )
    tuner.search()
    if is_worker:
        return None
    if oracle.failure:
        raise InputError(
            f"{out}: {FAILURES_IN_A_ROW} trials in a row failed, the last one: "
            f"{oracle.failure}"
        )
    candidates = _candidates(out, chosen, objective, retrain_trials)
    retrained = []
    if retrain_trials:
        retrained = retrain(
            *(out / "retrained", candidates, objective),
            data=data,
            encoded=encoded,
            seeds=[settings.seed + 1 + number for number in range(retrain_seeds)],
        )
    return _outcome(out, candidates, objective, retrained, oracle.seconds)


def _start(out, asked, is_worker):
    """Makes the directory, or sees that the one there is this search's."""
    path = out / SEARCH
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


class _Lines:
    """A line for each trial that has ended."""

    def __init__(self, out, trials, objective):
        self.trials, self.objective = trials, objective
        self.results = [r for r in read_results(out) if r.status == COMPLETED]
        self.stdout = sys.stdout
        if self.results:
            print(f"{out}: going on after {len(read_results(out))} trials")

    def __call__(self, result):
        figure = f"failed: {result.reason}"
        if result.status == COMPLETED:
            self.results.append(result)
            best = self.objective.best(self.results)[0]
            figure = (
                f"{self.objective.title} {getattr(result, self.objective.figure):.4f} "
                f"after {result.epochs} epochs; best so far: trial {best.number}"
            )
        settings = " ".join(
            f"{key}={value:.3g}" if isinstance(value, float) else f"{key}={value}"
            for key, value in result.settings.items()
        )
        print(
            f"trial {result.number} (of {self.trials}): {figure}; "
            f"{result.ended - result.began:.0f} s; {settings}",
            file=self.stdout,
            flush=True,
        )


def _candidates(out, space, objective, number):
    """The default and the best trials, a setting once: name -> trial and config."""
    completed = [r for r in read_results(out) if r.status == COMPLETED]
    candidates = {DEFAULT: (None, TrainingConfig.from_dict(space.base))}
    for result in objective.best(completed):
        config = TrainingConfig.from_dict({**space.base, **result.settings})
        if config not in [known for _, known in candidates.values()]:
            candidates[f"trial {result.number}"] = (result.number, config)
        if len(candidates) > number:
            break
    return candidates


def _outcome(out, candidates, objective, retrained, seconds):
    """Writes what was found, and says it."""
    results = read_results(out)
    if not any(r.status == COMPLETED for r in results):
        raise InputError(f"{out}: no trial was completed, so there is no best one")
    if retrained:
        best = objective.best(retrained)[0].name
    else:
        best = list(candidates)[min(1, len(candidates) - 1)]  # after the default
    _, config = candidates[best]
    with replaced(out / BEST) as partial:
        text = yaml.safe_dump(config.to_dict(), sort_keys=False, allow_unicode=True)
        partial.write_text(f"# {best} of a search: see report.html\n{text}", "utf-8")
    return config
