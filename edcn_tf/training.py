"""Train a model on prepared data into a run directory: `edcn train`."""

import functools
import importlib.util
import shutil
import time
import warnings
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
import yaml

from edcn_tf import calibration, console, metrics
from edcn_tf.encoded_rows import read_encoded
from edcn_tf.encoder import Encoder
from edcn_tf.errors import InputError
from edcn_tf.evaluation import BATCH_ROWS, Scorer
from edcn_tf.files import link, new_directory, replaced, write_json
from edcn_tf.input_pipeline import read_records, reading
from edcn_tf.optimizers import SparseAdam, averaged_weights
from edcn_tf.pretrained import load_pretrained
from edcn_tf.records import compression_of, record_files
from edcn_tf.schema import read_json
from edcn_tf.vocabulary import FeatureSpec
from edcn_tf.warm_start import STATE, start_from
from edcn_tf.workers import Workers

SAMPLE_ROWS = 520


def train(
    data, run, config, *, strategy=None, until=None, encoded=None, warm_start=None
):
    """Trains until the validation AUC no longer rises; keeps the best model.

    A run that was interrupted goes on from its last finished epoch when the same
    command is given again.

    Args:
        data: Directory that `prepare` made.
        run: The run directory. It gets `config.yaml`, `features/`, `model.keras` (the
            best model, without the optimizer), `calibration.json` (which undoes the
            sampling of negatives in its probabilities), `training.keras` (the model of
            that epoch with its optimizer, for a later run to start from),
            `warm_start.json` (what it started from, if anything), `checkpoints/` (until
            the end),
            `history.csv`, `tensorboard/` (if TensorBoard is installed),
            `sample.tfrecord` (rows that an export is verified with) and, at the end,
            `result.json`.
        config: `TrainingConfig`.
        strategy: `tf.distribute` strategy to train on several devices with
            (`edcn_tf.workers.make_strategy`). `config.batch_size` is that of all of
            them together. Of several workers, which all call this with directories
            that they share, only the chief writes, validates and decides. When one
            ends, all end; the same call on all goes on from the last epoch.
        until: Stop after this epoch, if training would not have ended by then, and
            leave the run unfinished: the same call with a later one, or with none,
            goes on, as if it had never stopped.
        encoded: Directory that `encode_rows` made of `data`, to read the rows from;
            of one process alone.
        warm_start: A finished run whose weights and optimizer's slots this one starts
            from, as far as they belong to values that `data` has too
            (`edcn_tf.warm_start`).

    Returns:
        The content of `result.json`, a dict, with `finished` false after `until`.

    Raises:
        InputError: If the run exists with another configuration or is finished, if a
            split is missing, the loss is no longer a number, or another worker ended.
    """
    workers = Workers(strategy)
    with workers.ending_together():
        return _train(
            *(Path(data), Path(run), config, workers, until, encoded, warm_start)
        )


def _train(data, run, config, workers, until, encoded, warm_start):
    workers.batch_size_of_replica(config.batch_size)  # before anything is written
    keras.utils.set_random_seed(config.seed)
    spec = FeatureSpec.load(data / "features")
    with workers.strategy.scope():
        model = compiled_model(config, spec)  # it may not fit
    if not any(run.glob("checkpoints/epoch-*")):  # which has them already
        _set_starting_values(model, config, spec, workers, warm_start)
    correction = _sampling_correction(data)
    if workers.is_chief or run.exists():  # as a check, where it does
        _start(run, data, config, correction, warm_start)
    model, state = _restored(run, workers) or (model, {})
    first_epoch = state.get("epoch", 0)
    epoch = tf.Variable(first_epoch, dtype=tf.int64, trainable=False)
    files = {name: f"{data}/{name}-*.tfrecord*" for name in ("train", "valid")}
    read = read_records
    if encoded is None:
        read = functools.partial(read, encoder=Encoder(spec))
    else:
        read = read_encoded
        files = {name: f"{encoded}/{name}-*.ids" for name in files}
    rows = read_json(data / "summary.json")["splits"]["train"]["rows"]

    def read_training(batch_size, shard):
        part = {} if shard is None else {"shard": shard}
        dataset = read(
            *(files["train"], spec, batch_size),
            shuffle=True,
            seed=config.seed,
            epoch=epoch,
            **part,
        )
        if shard is not None:
            return dataset
        steps = -(-rows // batch_size)
        return dataset.apply(tf.data.experimental.assert_cardinality(steps))

    training = workers.input(config.batch_size, read_training)
    validation = read(files["valid"], spec, BATCH_ROWS)
    progress = _Progress(
        data, run, config, spec, correction, validation, rows, epoch, state, workers
    )
    callbacks = [progress]
    if workers.is_chief:
        callbacks.append(keras.callbacks.CSVLogger(run / "history.csv", append=True))
        if importlib.util.find_spec("tensorboard"):
            callbacks.append(
                keras.callbacks.TensorBoard(run / "tensorboard", write_graph=False)
            )
    last_epoch = min(config.epochs, until or config.epochs)
    if not progress.state["stop"] and first_epoch < last_epoch:
        with reading(list(files.values()), spec), warnings.catch_warnings():
            # Where workers share the rows, Keras cannot know the number of steps.
            warnings.filterwarnings("ignore", "Your input ran out of data")
            model.fit(
                training,
                epochs=last_epoch,
                initial_epoch=first_epoch,
                callbacks=callbacks,
                shuffle=False,  # the records are
                verbose=workers.is_chief and (1 if console.interactive() else 2),
            )
    result = progress.result(model)
    if workers.is_chief and progress.finished:
        write_json(run / "result.json", result)
        shutil.rmtree(run / "checkpoints", ignore_errors=True)
    workers.of_chief([])  # none leaves before that
    return {**result, "finished": progress.finished}


def _sampling_correction(data):
    """Of the negatives that `prepare` left out of the training split."""
    path = data / "summary.json"
    rate = read_json(path).get("negative_sampling_rate", 1.0)
    try:
        return calibration.Calibration(negative_sampling_rate=rate)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _start(run, data, config, correction, warm_start):
    """Makes the run directory, or sees that the one there is this run's."""
    start = warm_start and {"run": str(warm_start)}
    text = yaml.safe_dump(config.to_dict(), sort_keys=False, allow_unicode=True)
    if not run.exists():
        with new_directory(run) as partial:
            shutil.copytree(data / "features", partial / "features")
            (partial / "config.yaml").write_text(text, encoding="utf-8")
            correction.save(partial / calibration.FILE)
            if start:
                write_json(partial / "warm_start.json", start)
            (partial / "checkpoints").mkdir()
            _write_sample(data, partial / "sample.tfrecord")
    elif not (run / "config.yaml").exists():
        raise InputError(f"{run}: exists already and is no run; choose another --out")
    elif (run / "result.json").exists():
        raise InputError(f"{run}: holds a finished run; choose another --out")
    elif (run / "config.yaml").read_text(encoding="utf-8") != text:
        raise InputError(
            f"{run}: holds an unfinished run of another setting; give that setting to "
            "go on with it, or choose another --out"
        )
    elif start != _started_from(run):
        raise InputError(
            f"{run}: holds an unfinished run that started from "
            f"{(_started_from(run) or {}).get('run', 'nothing')}; give the same "
            "--warm-start to go on with it, or choose another --out"
        )


def _started_from(run):
    path = run / "warm_start.json"
    return read_json(path) if path.exists() else None


def _write_sample(data, path):
    """Copies a few rows of the validation split as they are."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        file = record_files(f"{data}/valid-*.tfrecord*")[0]
        rows = tf.data.TFRecordDataset(file, compression_of(file))
        for record in rows.take(SAMPLE_ROWS):
            writer.write(record.numpy())


def save_model(model, path):
    """Saves a model without its optimizer, whole or not at all."""
    optimizer, model.optimizer = model.optimizer, None
    compiled, model.compiled = model.compiled, False
    try:
        with replaced(path) as partial:
            model.save(partial)
    finally:
        model.optimizer, model.compiled = optimizer, compiled


def compiled_model(config, spec, metrics=None):
    """The model of a `TrainingConfig`, with its optimizer and loss.

    Args:
        config: `TrainingConfig`.
        spec: `FeatureSpec`.
        metrics: Of `compile`; training itself needs none.
    """
    model = config.build(spec)
    if config.optimizer == "adam":
        optimizer = keras.optimizers.Adam(config.learning_rate)
    else:
        optimizer = SparseAdam(
            config.learning_rate, average_decay=config.average_decay or None
        )
    # Replicas end an epoch together only if Python looks at each step.
    steps = 1 if tf.distribute.has_strategy() else config.steps_per_execution
    model.compile(
        optimizer,
        "binary_crossentropy",
        metrics=metrics,
        steps_per_execution=steps,
    )
    return model


def _set_starting_values(model, config, spec, workers, warm_start):
    new_rows = None
    if warm_start:
        with workers.strategy.scope():
            started = start_from(warm_start, model, spec, config)
        new_rows = started.new_rows
        if workers.is_chief:
            print(f"{warm_start}: {started}")
    for field, path in (config.pretrained or {}).items():
        loaded = load_pretrained(model.embedding, spec, field, path, new_rows)
        if workers.is_chief:
            print(
                f"{path}: {loaded.rows_set:,} of {loaded.vocabulary_rows:,} values of "
                f"{field}; {loaded.passed_over:,} rows passed over"
            )


def _restored(run, workers):
    """The model and the state of the last finished epoch, or None."""
    folder = run / "checkpoints"
    found = [int(path.name[len("epoch-") :]) for path in folder.glob("epoch-*")]
    (epoch,) = workers.of_chief([max(found, default=0)])
    if not epoch:
        return None
    checkpoint = folder / f"epoch-{epoch:05.0f}"
    if not checkpoint.exists():
        raise InputError(
            f"{checkpoint}: not there for worker {workers.index}; the run directory "
            "must be one that all workers share"
        )
    state = read_json(checkpoint / "state.json")
    with workers.strategy.scope():
        model = keras.saving.load_model(checkpoint / "model.keras")
    for variable, drawn in zip(_random_states(model), state.pop("random")):
        variable.assign(drawn)
    return model, state


def _random_states(model):
    """The states of dropout and its like, which Keras does not save."""
    return [v for v in model.variables if v.name == "seed_generator_state"]


class _Progress(keras.callbacks.Callback):
    """After each epoch: validation, best model, learning rate, stop, checkpoint.

    One callback, since each of these follows from the one before, and all that they
    remember is in one `state`, which a resumed run takes up.
    """

    def __init__(
        self,
        data,
        run,
        config,
        spec,
        correction,
        validation,
        rows,
        epoch,
        state,
        workers,
    ):
        super().__init__()
        self.workers, self.epoch = workers, epoch
        self.data, self.run, self.config, self.spec = data, run, config, spec
        self.correction, self.validation, self.rows = correction, validation, rows
        self.state = {
            "epoch": 0,
            "best_epoch": None,
            "best_auc": -1.0,
            "best_log_loss": None,
            "wait": 0,
            "drops": 0,
            "stop": False,
            "training_seconds": 0.0,
            **state,
        }

    def set_model(self, model):
        super().set_model(model)
        self.scorer = Scorer(model, self.spec)

    @property
    def finished(self):
        return self.state["stop"] or self.state["epoch"] >= self.config.epochs

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch.assign(epoch)
        self.began = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        seconds = time.perf_counter() - self.began
        if not np.isfinite(logs["loss"]):
            raise InputError(
                f"The loss became {logs['loss']} in epoch {epoch + 1}; lower "
                "learning_rate"
            )
        state = self.state
        state["epoch"] = epoch + 1
        state["training_seconds"] += seconds
        logs["examples_per_second"] = round(self.rows / seconds)
        logs["learning_rate"] = float(self.model.optimizer.learning_rate.numpy())
        figures = self._validate() if self.workers.is_chief else (0.0, 0.0)
        auc, log_loss = self.workers.of_chief(figures)
        logs["val_auc"], logs["val_log_loss"] = auc, log_loss
        if np.isnan(auc):
            raise InputError(
                "The validation split has clicks only, or none, so there is no "
                "AUC to choose the best epoch by; prepare a larger one"
            )
        if auc > state["best_auc"]:
            state.update(
                best_epoch=epoch + 1, best_auc=auc, best_log_loss=log_loss, wait=0
            )
        else:
            state["wait"] += 1
        if state["wait"] >= self.config.patience:
            self._lose_patience()
        if self.workers.is_chief:
            self._checkpoint()

    def _validate(self):
        """AUC and log loss of the validation split; keeps the best model."""
        with averaged_weights(self.model.optimizer):
            scores = self.scorer(self.validation).calibrated(self.correction)
            figures = scores.labels, scores.probabilities, scores.weights
            auc = metrics.auc(*figures)
            if auc > self.state["best_auc"]:
                save_model(self.model, self.run / "model.keras")
        return auc, metrics.log_loss(*figures)

    def _lose_patience(self):
        state = self.state
        if state["drops"] == self.config.drops:
            state["stop"] = self.model.stop_training = True
            return
        state["drops"] += 1
        state["wait"] = 0
        optimizer = self.model.optimizer
        optimizer.learning_rate = (
            float(optimizer.learning_rate.numpy()) * self.config.learning_rate_drop
        )

    def _checkpoint(self):
        folder = self.run / "checkpoints"
        earlier = list(folder.glob("epoch-*"))
        with new_directory(folder / f"epoch-{self.state['epoch']:05d}") as partial:
            self.model.save(partial / "model.keras")
            if self.state["best_epoch"] == self.state["epoch"]:
                link(partial / "model.keras", self.run / STATE)
            drawn = [state.numpy().tolist() for state in _random_states(self.model)]
            write_json(partial / "state.json", {**self.state, "random": drawn})
        for directory in earlier:
            shutil.rmtree(directory)

    def result(self, model):
        state = self.state
        return {
            "data": str(self.data),
            "model": self.config.model,
            "parameters": int(model.count_params()),
            "epochs": state["epoch"],
            "best_epoch": state["best_epoch"],
            "valid_auc": state["best_auc"],
            "valid_log_loss": state["best_log_loss"],
            "training_seconds": round(state["training_seconds"], 3),
            "examples_per_second": round(
                self.rows * state["epoch"] / state["training_seconds"]
            ),
        }
