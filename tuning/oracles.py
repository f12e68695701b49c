"""KerasTuner's oracles, which choose the next trial, with what a long search needs."""

import shutil
import time
from pathlib import Path

import keras_tuner
import numpy as np
from keras_tuner.engine.trial import TrialStatus

from edcn_tf.directories import Run
from edcn_tf.errors import InputError
from edcn_tf.files import write_json

FAILURES_IN_A_ROW = 10
ORACLES = ("hyperband", "bayesian", "random")


class Durable:
    """Goes before one of KerasTuner's oracles.

    - The first trial has every hyper-parameter at its default.
    - A process that is killed at any moment leaves a state from which the search goes
      on: KerasTuner writes over its files in place, and of a trial that ended while
      the oracle's own state was not yet written would be run once more.
    - No trial begins after `hours`, those of earlier processes included, nor after ten
      failed ones in a row, of which `failure` then tells.
    """

    hours = None
    failure = ""

    def __init__(self, *arguments, **options):
        self._began, self._seconds_before = time.monotonic(), 0.0
        super().__init__(
            *arguments, max_consecutive_failed_trials=FAILURES_IN_A_ROW, **options
        )

    @property
    def seconds(self):
        """How long the search has run, in all processes."""
        return self._seconds_before + time.monotonic() - self._began

    def populate_space(self, trial_id):
        late = self.hours is not None and self.seconds > 3600 * self.hours
        if self.failure or (late and self.start_order):
            return {"status": TrialStatus.STOPPED}
        return super().populate_space(trial_id)

    def _random_values(self):
        if self.start_order:
            return super()._random_values()
        space = keras_tuner.HyperParameters()
        for parameter in self.hyperparameters.space:
            space.merge([parameter])
            if space.is_active(parameter):
                space.values[parameter.name] = parameter.default
        return space.values

    def _check_consecutive_failures(self):
        try:
            super()._check_consecutive_failures()
        except RuntimeError:
            # Raised here, it would leave this last trial out of what is saved, and
            # the workers of a parallel search without an answer.
            last = self.trials[self.end_order[-1]]
            self.failure = (last.message or "").strip().rpartition("\n")[2]

    def get_state(self):
        return {**super().get_state(), "seconds": self.seconds}

    def set_state(self, state):
        super().set_state(state)
        self._began, self._seconds_before = time.monotonic(), state["seconds"]

    def save(self):
        write_json(self._get_oracle_fname(), self.get_state())

    def _save_trial(self, trial):
        folder = self._get_trial_dir(trial.trial_id)
        write_json(f"{folder}/trial.json", trial.get_state())

    def reload(self):
        super().reload()
        self.trials = dict(sorted(self.trials.items(), key=lambda item: int(item[0])))
        for trial in list(self.trials.values()):
            if trial.trial_id not in self.start_order:
                # Begun, but not yet known to the state: it is drawn anew.
                del self.trials[trial.trial_id]
            elif trial.trial_id in self._retry_queue and trial.status in (
                TrialStatus.COMPLETED,
                TrialStatus.FAILED,
            ):
                self._retry_queue.remove(trial.trial_id)
                if trial.trial_id not in self.end_order:
                    self.end_order.append(trial.trial_id)


class RandomOracle(Durable, keras_tuner.oracles.RandomSearchOracle):
    """Draws each trial by chance."""


class BayesianOracle(Durable, keras_tuner.oracles.BayesianOptimizationOracle):
    """Draws trials where a Gaussian process expects good ones.

    What is drawn follows from the seed and the trial's number, whatever process draws.
    """

    def populate_space(self, trial_id):
        self._random_state = np.random.RandomState(self.seed + len(self.trials))
        return super().populate_space(trial_id)


class HyperbandOracle(Durable, keras_tuner.oracles.HyperbandOracle):
    """Many trials of few epochs, of which the best go on.

    A failed trial of a bracket's first round is replaced by another: KerasTuner lets
    no trial of a round go on before enough of it are completed, and failed ones never
    are. Checkpoints that no trial will go on from are removed.
    """

    @keras_tuner.synchronized
    def end_trial(self, trial):
        super().end_trial(trial)
        if self.trials[trial.trial_id].status == TrialStatus.FAILED:
            for bracket in self._brackets:
                first = bracket["rounds"][0]
                first[:] = [info for info in first if info["id"] != trial.trial_id]
            self.save()
        for name in self.trials.keys() - self._needed():
            folder = Run(Path(self._get_trial_dir(name), "run")).checkpoints
            shutil.rmtree(folder, ignore_errors=True)

    def _needed(self):
        """Trials that others may go on from, that run or that will."""
        rounds = [group for bracket in self._brackets for group in bracket["rounds"]]
        running = [t.trial_id for t in self.ongoing_trials.values()] + self._retry_queue
        earlier = [
            self.trials[name].hyperparameters.values.get("tuner/trial_id")
            for name in running
        ]
        return {info["id"] for group in rounds for info in group} | {*running, *earlier}


def make_oracle(name, objective, *, trials, epochs, seed, hours=None):
    """An oracle by its name.

    Args:
        name: `"hyperband"`, `"bayesian"` or `"random"`.
        objective: `edcn_tf.tuning.Objective`.
        trials: The most trials.
        epochs: The most epochs of a trial.
        seed: Of what is drawn.
        hours: After which no trial begins.

    Raises:
        InputError: For another name.
    """
    common = {
        "objective": keras_tuner.Objective("score", objective.direction),
        "seed": seed + 1,  # KerasTuner takes 0 for none
    }
    if name == "hyperband":
        oracle = HyperbandOracle(max_epochs=epochs, hyperband_iterations=None, **common)
        oracle.max_trials = trials
    elif name == "bayesian":
        # KerasTuner would draw three for each parameter first.
        first = max(3, trials // 3)
        oracle = BayesianOracle(max_trials=trials, num_initial_points=first, **common)
    elif name == "random":
        oracle = RandomOracle(max_trials=trials, **common)
    else:
        raise InputError(f"tuner must be one of {list(ORACLES)}. Received: {name!r}")
    oracle.hours = hours
    oracle.verbose = 0
    return oracle
