"""The callback by which a run is trained, and how its best model is saved."""

import contextlib
import csv
import signal
import threading
import time

import keras
import numpy as np
import tensorflow as tf

from edcn_tf.directories import Run
from edcn_tf.errors import InputError
from edcn_tf.evaluation import metrics
from edcn_tf.evaluation.scoring import Scorer
from edcn_tf.files import replaced
from edcn_tf.records.reading import check_rows
from edcn_tf.training.checkpoints.checkpoint import save_checkpoint
from edcn_tf.training.divergence import DivergenceCheck
from edcn_tf.training.optimizers import averaged_weights


class TrainingCallback(keras.callbacks.Callback):
    """The callback that validates, keeps the best model, decides and checkpoints.

    After each epoch come validation, the best model, the learning rate, whether to
    stop, and a checkpoint: in one callback, since each follows from the one before, and
    all that they remember is in one `state`, which a resumed run takes up. After each
    step it looks for a loss that is no number, for a signal to end, and whether a
    checkpoint is due.

    Args:
        run: The run directory.
        config: `TrainingConfig`.
        spec: `FeatureSpec`.
        correction: `Calibration` of the sampling of negatives.
        splits: `TrainingSplits`.
        state: `TrainingState` to begin with.
        workers: `Workers`.
    """

    def __init__(self, *, run, config, spec, correction, splits, state, workers):
        super().__init__()
        self.run, self.config, self.spec = run, config, spec
        self.correction, self.workers, self.state = correction, workers, state
        self.rows, self.valid_rows = splits.rows, splits.valid_rows
        self.validation, self.epoch = splits.validation(), splits.epoch
        self.terminated = False

    @property
    def finished(self):
        return self.state.stop or self.state.epoch >= self.config.epochs

    def set_model(self, model):
        super().set_model(model)
        self.scorer = Scorer(model, self.spec)

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch.assign(epoch)
        if self.state.step:
            for variable, value in zip(self._loss_so_far(), self.state.loss):
                variable.assign(value)
        self.first_step = self._steps() - self.state.step
        self.check_loss = DivergenceCheck(self.model)
        self.began = self.saved = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        step = self._steps() - self.first_step
        self.check_loss(float(logs["loss"]), epoch=self.state.epoch + 1, step=step)
        if self.workers.number > 1:  # who must go on together
            return
        due = time.perf_counter() - self.saved > 60 * self.config.checkpoint_minutes
        is_last = step * self.config.batch_size >= self.rows
        if is_last or not (due or self.terminated):
            return
        state = self.state
        self._add_seconds()
        state.step = step
        state.loss = [float(v.numpy()) for v in self._loss_so_far()]
        save_checkpoint(self.run, self.model, state)
        self.saved = time.perf_counter()
        self._end_if_terminated()

    def on_epoch_end(self, epoch, logs=None):
        self._check_rows()
        self._add_seconds()
        state = self.state
        seconds = state.epoch_seconds
        state.epoch, state.step, state.loss = epoch + 1, 0, [0.0, 0.0]
        state.epoch_seconds = 0.0
        state.training_seconds += seconds
        logs["examples_per_second"] = round(self.rows / seconds)
        logs["learning_rate"] = float(self.model.optimizer.learning_rate.numpy())
        figures = self._validate() if self.workers.is_chief else (0.0, 0.0)
        auc, log_loss = self.workers.of_chief(figures)
        logs["val_auc"], logs["val_log_loss"] = auc, log_loss
        if np.isnan(auc):
            raise InputError(
                "The validation split has clicks only, or none, so there is no "
                "AUC to choose the best epoch by; prepare a larger one, and train on "
                "it with another --out"
            )
        if auc > state.best_auc:
            state.best_epoch, state.wait = epoch + 1, 0
            state.best_auc, state.best_log_loss = auc, log_loss
        else:
            state.wait += 1
        if state.wait >= self.config.patience:
            self._lose_patience()
        row = {name: float(logs[name]) for name in sorted(logs)}
        state.epoch_figures.append({"epoch": epoch, **row})
        if self.workers.is_chief:
            save_checkpoint(self.run, self.model, state)
        self.write_history()
        self._end_if_terminated()

    def write_history(self):
        """`history.csv`, from what the checkpoint remembers: one line an epoch."""
        rows = self.state.epoch_figures
        if not rows or not self.workers.is_chief:
            return
        path = Run(self.run).history
        with (
            replaced(path) as partial,
            open(partial, "w", encoding="utf-8", newline="") as file,
        ):
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    def _steps(self):
        return int(self.model.optimizer.iterations.numpy())

    def _loss_so_far(self):
        """Keras' sum of losses and number of rows in this epoch."""
        return next(m for m in self.model.metrics if m.name == "loss").variables

    def _check_rows(self):
        """A file that is cut just before a record ends there, without an error."""
        # Several replicas count otherwise, and a float32 no further.
        if not tf.distribute.has_strategy() and self.rows < 1 << 24:
            check_rows(int(self._loss_so_far()[1].numpy()), self.rows)

    def _add_seconds(self):
        now = time.perf_counter()
        self.state.epoch_seconds += now - self.began
        self.began = now

    def _validate(self):
        """AUC and log loss of the validation split; keeps the best model."""
        with averaged_weights(self.model.optimizer):
            scores = self.scorer(self.validation)
            check_rows(len(scores.labels), self.valid_rows)
            scores = scores.calibrated(self.correction)
            figures = scores.labels, scores.probabilities, scores.weights
            auc = metrics.auc(*figures)
            if auc > self.state.best_auc:
                save_model(self.model, Run(self.run).model)
        return auc, metrics.log_loss(*figures)

    def _lose_patience(self):
        state = self.state
        if state.drops == self.config.drops:
            state.stop = self.model.stop_training = True
            return
        state.drops += 1
        state.wait = 0
        optimizer = self.model.optimizer
        optimizer.learning_rate = (
            float(optimizer.learning_rate.numpy()) * self.config.learning_rate_drop
        )

    @contextlib.contextmanager
    def until_terminated(self):
        """SIGTERM has the step or the epoch finished, a checkpoint written, and ends.

        Only where this is the main thread of a process that trains alone: several
        workers go on from the last epoch.
        """
        main = threading.current_thread() is threading.main_thread()
        if not main or self.workers.number > 1:
            yield
            return

        def terminate(number, frame):
            self.terminated = True

        before = signal.signal(signal.SIGTERM, terminate)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def _end_if_terminated(self):
        if self.terminated:
            state = self.state
            print(
                f"{self.run}: stopped by SIGTERM after {state.epoch} epochs and "
                f"{state.step:,} steps; the same command goes on from there",
                flush=True,
            )
            raise SystemExit(128 + signal.SIGTERM)

    def result(self, model):
        state = self.state
        return {
            "model": self.config.model,
            "parameters": int(model.count_params()),
            "epochs": state.epoch,
            "best_epoch": state.best_epoch,
            "valid_auc": state.best_auc,
            "valid_log_loss": state.best_log_loss,
            "training_seconds": round(state.training_seconds, 3),
            "examples_per_second": round(
                self.rows * state.epoch / state.training_seconds
            ),
        }


def save_model(model, path):
    """Saves a model without its optimizer, whole or not at all."""
    optimizer, model.optimizer = model.optimizer, None
    compiled, model.compiled = model.compiled, False
    try:
        with replaced(path) as partial:
            model.save(partial)
    finally:
        model.optimizer, model.compiled = optimizer, compiled
