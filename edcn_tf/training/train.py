"""Train a model on prepared data into a run directory: `edcn train`."""

import contextlib
import functools
import importlib.util
import shutil
import warnings
from pathlib import Path

import keras
import tensorflow as tf
import yaml

from edcn_tf import console
from edcn_tf.directories import PreparedData, Run
from edcn_tf.errors import InputError
from edcn_tf.evaluation import calibration
from edcn_tf.evaluation.scoring import BATCH_ROWS
from edcn_tf.features.encoder import Encoder
from edcn_tf.features.spec import FeatureSpec
from edcn_tf.files import locked, new_directory, read_json, same_content, write_json
from edcn_tf.records.checking import check_records
from edcn_tf.records.encoded import TRAINING_SPLITS, read_encoded, reading_encoded
from edcn_tf.records.reading import read_records, reading
from edcn_tf.records.writing import compression_of, record_files
from edcn_tf.training.callback import Progress
from edcn_tf.training.checkpoints import (
    FOLDER,
    keep_checkpoint_of,
    latest_checkpoint,
    restore_checkpoint,
)
from edcn_tf.training.optimizers import SparseAdam
from edcn_tf.training.pretrained import load_pretrained
from edcn_tf.training.warm_start import start_from
from edcn_tf.training.workers import Workers

SAMPLE_ROWS = 520


def train(
    data,
    run,
    config,
    *,
    strategy=None,
    until=None,
    encoded=None,
    skip_corrupt=None,
    warm_start=None,
):
    """Trains until the validation AUC no longer rises; keeps the best model.

    A run that was interrupted goes on from its last checkpoint when the same command
    is given again, and ends as one that was left alone.

    Args:
        data: Directory that `prepare` made.
        run: The run directory. It gets `config.yaml`, `features/`, `model.keras` (the
            best model, without the optimizer), `calibration.json` (which undoes the
            sampling of negatives in its probabilities), `checkpoints/` (at the end that
            of the best epoch alone, for a later run to start from), `warm_start.json`
            (what it started from, if anything), `history.csv`, `tensorboard/` (if
            TensorBoard is installed), `sample.tfrecord` (rows that an export is
            verified with) and, at the end, `result.json`.
        config: `TrainingConfig`.
        strategy: `tf.distribute` strategy to train on several devices with
            (`edcn_tf.training.workers.make_strategy`). `config.batch_size` is that of
            all of them together. Of several workers, which all call this with
            directories that they share, only the chief writes, validates and decides.
            When one ends, all end; the same call on all goes on from the last epoch.
        until: Stop after this epoch, if training would not have ended by then, and
            leave the run unfinished: the same call with a later one, or with none,
            goes on, as if it had never stopped.
        encoded: Directory that `encode_rows` made of `data`, to read the rows from;
            of one process alone.
        skip_corrupt: Pass over this many bad records of the training and validation
            split at most, as `read_records` does; `result.json` then counts them by
            file as `skipped`, and as `lost_rows` the prepared rows that are lost with
            them: all that follow where a file was cut. Not with `encoded`.
        warm_start: A finished run whose weights and optimizer's slots this one starts
            from, as far as they belong to values that `data` has too
            (`edcn_tf.training.warm_start`).

    Returns:
        The content of `result.json`, a dict, with `finished` false after `until`.

    Raises:
        InputError: If the run is finished, or exists with another configuration or of
            other data, if a split is missing, a record is bad (and not skipped), the
            loss is no longer a number, or another worker ended.
    """
    if encoded is not None and skip_corrupt is not None:
        raise ValueError("`skip_corrupt` is of records: encoded rows are whole")
    workers = Workers(strategy)
    reader = functools.partial(_Reader, Path(data), config, encoded, skip_corrupt)
    with workers.ending_together():
        return _train(
            *(Path(data), Path(run), config, workers, until, reader, warm_start)
        )


def _train(data, run, config, workers, until, reader, warm_start):
    workers.batch_size_of_replica(config.batch_size)  # before anything is written
    keras.utils.set_random_seed(config.seed)
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    spec = FeatureSpec.load(data / "features")
    with workers.strategy.scope():
        model = compiled_model(config, spec)  # it may not fit
    checkpoint = _latest(run, workers)
    if checkpoint is None:  # which has them already
        _set_starting_values(model, config, spec, workers, warm_start)
    reader = reader(spec)
    correction = _sampling_correction(data)
    if workers.is_chief or run.exists():  # as a check, where it does
        with reader.reading():
            _start(run, data, config, correction, reader.first_valid, warm_start)
    with contextlib.ExitStack() as held:
        if workers.is_chief:
            told = f"{run}: another process trains there"
            held.enter_context(locked(run / "config.yaml", told))
        state = {}
        if checkpoint is not None:
            with workers.strategy.scope():
                model.optimizer.build(model.trainable_variables)
            state = reader.state_of(restore_checkpoint(checkpoint, model))
            if workers.is_chief:
                steps = f" and {state['step']:,} steps" * bool(state["step"])
                print(f"{run}: going on after {state['epoch']} epochs{steps}")
        progress = Progress(
            *(run, config, spec, correction),
            *(reader.validation(), reader.valid_rows, reader.rows, reader.epoch),
            *(state, workers),
        )
        progress.write_history()  # a kill may have come before it
        _fit(model, run, reader, progress, until or config.epochs)
        result = {"data": str(data), **progress.result(model), **reader.skipped}
        if workers.is_chief and progress.finished:
            write_json(run / "result.json", result)
            keep_checkpoint_of(run, result["best_epoch"])
        workers.of_chief([])  # none leaves before that
    return {**result, "finished": progress.finished}


class _Reader:
    """The training and the validation split, as records or as encoded rows.

    Attributes:
        rows, valid_rows: Number of rows of each.
        skipped: For `result.json`, of which files how many bad records are skipped,
            and how many rows are lost with them.
        first_valid: A file of records of the validation split.
    """

    def __init__(self, data, config, encoded, skip_corrupt, spec):
        self.config, self.spec = config, spec
        self.epoch = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.rows, self.valid_rows = (
            PreparedData(data).rows(split) for split in TRAINING_SPLITS
        )
        self.train, self.valid = (f"{data}/{s}-*.tfrecord*" for s in TRAINING_SPLITS)
        self.skipped = {}
        if skip_corrupt is not None:
            self._skip(skip_corrupt)
        self.first_valid = record_files(self.valid)[0]
        self.read, self.encoded = read_encoded, encoded
        if encoded is None:
            self.read = functools.partial(read_records, encoder=Encoder(spec))
        else:
            self.train, self.valid = (
                f"{encoded}/{split}-*.ids" for split in TRAINING_SPLITS
            )

    def _skip(self, allowed):
        """Reads the good records alone from now on."""
        check = functools.partial(check_records, spec=self.spec, allowed=allowed)
        train = check(record_files(self.train), prepared=self.rows)
        before = sum(train.skipped.values())
        valid = check(record_files(self.valid), prepared=self.valid_rows, before=before)
        self.train, self.rows = train.files, train.rows
        self.valid, self.valid_rows = valid.files, valid.rows
        self.skipped = {
            "skipped": {**train.skipped, **valid.skipped},
            "lost_rows": train.lost + valid.lost,
        }

    def state_of(self, state):
        """A checkpoint's state, for these rows.

        With other ones than it was written with, such as those that were found to be
        good since, their order is another: an epoch that was left within then begins
        anew.
        """
        if state["rows"] == self.rows:
            return state
        return {**state, "rows": self.rows, "step": 0, "loss": [0.0, 0.0]}

    def training(self, workers, skip=0):
        """What `fit` reads, from the epoch's step number `skip` on."""

        def read_part(batch_size, shard):
            part = {} if shard is None else {"shard": shard}
            dataset = self.read(
                *(self.train, self.spec, batch_size),
                shuffle=True,
                seed=self.config.seed,
                epoch=self.epoch,
                **part,
            ).skip(skip)
            if shard is not None:
                return dataset
            steps = -(-self.rows // batch_size) - skip
            return dataset.apply(tf.data.experimental.assert_cardinality(steps))

        return workers.input(self.config.batch_size, read_part)

    def validation(self):
        return self.read(self.valid, self.spec, BATCH_ROWS)

    @contextlib.contextmanager
    def reading(self):
        """Names the record of an error, as `reading` does."""
        named = reading if self.encoded is None else reading_encoded
        with named(self.train, self.spec, self.rows):
            with named(self.valid, self.spec, self.valid_rows):
                yield


def _fit(model, run, reader, progress, last_epoch):
    """Trains on, first to the end of an epoch that was left within."""
    workers, state = progress.workers, progress.state
    callbacks = [progress]
    if workers.is_chief and importlib.util.find_spec("tensorboard"):
        callbacks.append(
            keras.callbacks.TensorBoard(run / "tensorboard", write_graph=False)
        )
    last_epoch = min(progress.config.epochs, last_epoch)
    with reader.reading(), progress.until_terminated(), warnings.catch_warnings():
        # Where workers share the rows, Keras cannot know the number of steps.
        warnings.filterwarnings("ignore", "Your input ran out of data")
        while not state["stop"] and state["epoch"] < last_epoch:
            model.fit(
                reader.training(workers, state["step"]),
                epochs=state["epoch"] + 1 if state["step"] else last_epoch,
                initial_epoch=state["epoch"],
                callbacks=callbacks,
                shuffle=False,  # the records are
                verbose=workers.is_chief and (1 if console.interactive() else 2),
            )


def _sampling_correction(data):
    """Of the negatives that `prepare` left out of the training split."""
    path = data / "summary.json"
    rate = read_json(path).get("negative_sampling_rate", 1.0)
    try:
        return calibration.Calibration(negative_sampling_rate=rate)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _start(run, data, config, correction, valid, warm_start):
    """Makes the run directory, or sees that the one there is this run's."""
    start = warm_start and {"run": str(warm_start)}
    features = data / "features"
    text = yaml.safe_dump(config.to_dict(), sort_keys=False, allow_unicode=True)
    if not run.exists():
        with new_directory(run) as partial:
            shutil.copytree(features, partial / "features")
            (partial / "config.yaml").write_text(text, encoding="utf-8")
            correction.save(Run(partial).calibration)
            if start:
                write_json(partial / "warm_start.json", start)
            (partial / FOLDER).mkdir()
            _write_sample(valid, partial / "sample.tfrecord")
    elif not (run / "config.yaml").exists():
        raise InputError(f"{run}: exists already and is no run; choose another --out")
    elif (run / "result.json").exists():
        raise InputError(f"{run}: holds a finished run; choose another --out")
    elif (run / "config.yaml").read_text(encoding="utf-8") != text:
        raise InputError(
            f"{run}: holds an unfinished run of another setting; give that setting to "
            "go on with it, or choose another --out"
        )
    elif not (
        same_content(run / "features", features)
        and calibration.load_calibration(run).negative_sampling_rate
        == correction.negative_sampling_rate
    ):
        raise InputError(
            f"{run}: holds an unfinished run on other data than {data} now is; give "
            "that data to go on with it, or choose another --out"
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


def _write_sample(file, path):
    """Copies a few rows of the validation split as they are."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        rows = tf.data.TFRecordDataset(file, compression_of(file))
        for record in rows.take(SAMPLE_ROWS):
            writer.write(record.numpy())


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
        if warm_start and isinstance(model.optimizer, SparseAdam):
            table_rows = model.embedding.table_rows(field, loaded.rows)
            model.optimizer.forget_average(*table_rows)
        if workers.is_chief:
            print(
                f"{path}: {loaded.rows_set:,} of {loaded.vocabulary_rows:,} values of "
                f"{field}; {loaded.passed_over:,} rows passed over"
            )


def _latest(run, workers):
    """The directory of the chief's last checkpoint, or None."""
    found = latest_checkpoint(run)
    epoch, step = workers.of_chief(found[:2] if found else (-1, -1))
    if epoch < 0:
        return None
    if found is None or found[:2] != (epoch, step):
        raise InputError(
            f"{run}: the checkpoint of epoch {epoch:.0f} is not there for worker "
            f"{workers.index}; the run directory must be one that all workers share"
        )
    return found[2]
