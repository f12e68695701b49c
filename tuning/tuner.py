"""A KerasTuner tuner whose trials are runs of `edcn train`, a process each."""

import contextlib
import dataclasses
import math
import os
import time
from pathlib import Path

from keras_tuner.engine.base_tuner import BaseTuner
from keras_tuner.errors import FailedTrialError

from edcn_tf.evaluation.scoring import load_run
from edcn_tf.files import read_json, write_json

from .process import ProcessError, run_apart
from .results import COMPLETED, FAILED, TrialResult
from .trial import Task, run_task

RESULT = "result.json"  # of a trial, in its folder
PROJECT = "search"  # KerasTuner's directory in that of the search
IDLE_SECONDS = 1.0


class RunTuner(BaseTuner):
    """Has an oracle's trials trained, each in a process of its own.

    A trial's directory holds, beside KerasTuner's `trial.json`, the run directory
    `run/`, `log.txt` with what training printed, and `result.json` (`TrialResult`).

    Args:
        oracle: An oracle of `make_oracle`.
        space: `SearchSpace`.
        objective: `Objective`.
        directory: Of the search.
        data: Directory that `prepare` made.
        encoded: Directory that `encode_rows` makes of it.
        max_parameters: The most that a model may have.
        tell: Function that is given each `TrialResult`.
    """

    def __init__(
        self,
        oracle,
        space,
        objective,
        directory,
        *,
        data,
        encoded,
        max_parameters=None,
        tell=lambda result: None,
    ):
        self.objective, self.tell = objective, tell
        self.task = {
            "data": str(data),
            "encoded": str(encoded),
            "max_parameters": max_parameters,
        }
        self._waiting = False
        with _silent():
            super().__init__(oracle, space, str(directory), PROJECT)
        self.save()  # KerasTuner goes on with what it finds: nothing, before this

    def search(self):
        with _silent():
            super().search()

    def _populate_initial_space(self):
        """Without building dozens of models to find what depends on what."""
        space = self.oracle.get_space()
        self.hypermodel.declare_hyperparameters(space)
        self.oracle.update_space(space)

    def save(self):
        if not self._is_worker():
            self.oracle.save()
        write_json(self._get_tuner_fname(), self.get_state())

    def pre_create_trial(self):
        if self._waiting:  # the oracle had nothing to do
            time.sleep(IDLE_SECONDS)
        self._waiting = True

    def on_trial_begin(self, trial):
        self._waiting = False

    def run_trial(self, trial):
        folder = Path(self.get_trial_dir(trial.trial_id))
        path = folder / RESULT
        if not path.exists():  # else it was killed before it told the oracle
            result = self._result(trial, folder)
            write_json(path, dataclasses.asdict(result))
        result = read_result(path)
        self.tell(result)
        if result.status == FAILED:
            raise FailedTrialError(result.reason)
        return {
            "score": result.score,
            "auc": result.auc,
            "log_loss": result.log_loss,
        }

    def _result(self, trial, folder):
        values = trial.hyperparameters.values
        earlier = values.get("tuner/trial_id")
        task = Task(
            **self.task,
            run=self._run(trial.trial_id),
            config=self.hypermodel.config(trial.hyperparameters).to_dict(),
            until=values.get("tuner/epochs"),
            continues=earlier and self._run(earlier),
        )
        known = {
            "number": int(trial.trial_id),
            "settings": self.hypermodel.settings(trial.hyperparameters),
            "continues": None if earlier is None else int(earlier),
            "began": time.time(),
        }
        try:
            figures = run_apart(run_task, task, log=folder / "log.txt")
        except ProcessError as error:
            known.update(status=FAILED, reason=str(error))
        else:
            score = self.objective.score(figures)
            known.update(figures, status=COMPLETED, score=score)
        return TrialResult(**known, ended=time.time(), search_memory_mib=memory_mib())

    def save_model(self, trial_id, model, step=0):
        """Training has."""

    def load_model(self, trial):
        return load_run(self._run(trial.trial_id))[0]

    def _run(self, trial_id):
        return f"{self.get_trial_dir(trial_id)}/run"


@contextlib.contextmanager
def _silent():
    """KerasTuner prints tracebacks of failed trials, and what it sends to others."""
    with (
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield


def read_result(path):
    """A `TrialResult` from its file."""
    values = read_json(path)
    numbers = [f.name for f in dataclasses.fields(TrialResult) if f.type is float]
    for name in numbers:
        if values[name] is None:  # JSON has no NaN
            values[name] = math.nan
    return TrialResult(**values)


def read_results(directory):
    """Those of a search directory, in the order in which trials began."""
    paths = Path(directory, PROJECT).glob(f"trial_*/{RESULT}")
    return sorted(map(read_result, paths), key=lambda result: result.number)


def memory_mib():
    """What this process holds, in MiB; NaN where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return math.nan
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
