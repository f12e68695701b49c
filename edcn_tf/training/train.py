"""Train a model on prepared data into a run directory: `edcn train`."""

import contextlib
import importlib.util
import warnings
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from edcn_tf import console
from edcn_tf.config import TrainingConfig
from edcn_tf.directories import PreparedData, Run
from edcn_tf.features.spec import FeatureSpec
from edcn_tf.files import StrPath, locked, write_json
from edcn_tf.preparation.usable import check_splits
from edcn_tf.training.callback import TrainingCallback
from edcn_tf.training.checkpoints.checkpoint import (
    keep_checkpoint_of,
    restore_checkpoint,
)
from edcn_tf.training.checkpoints.state import TrainingState
from edcn_tf.training.compiling import compiled_model
from edcn_tf.training.run_start import (
    common_checkpoint,
    sampling_correction,
    set_starting_values,
    start_run,
)
from edcn_tf.training.splits import TrainingSplits
from edcn_tf.training.workers import Workers


def train(
    data: StrPath,
    run: StrPath,
    config: TrainingConfig,
    *,
    strategy: tf.distribute.Strategy | None = None,
    until: int | None = None,
    encoded: StrPath | None = None,
    skip_corrupt: int | None = None,
    warm_start: StrPath | None = None,
) -> dict[str, Any]:
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
    with workers.ending_together():
        return _train(
            Path(data),
            Path(run),
            config,
            workers=workers,
            until=until,
            encoded=encoded,
            skip_corrupt=skip_corrupt,
            warm_start=warm_start,
        )


def _train(data, run, config, *, workers, until, encoded, skip_corrupt, warm_start):
    workers.batch_size_of_replica(config.batch_size)  # before anything is written
    keras.utils.set_random_seed(config.seed)
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    spec = FeatureSpec.load(PreparedData(data).features)
    with workers.strategy.scope():
        model = compiled_model(config, spec)  # it may not fit
    checkpoint = common_checkpoint(run, workers)
    if checkpoint is None:  # which has them already
        set_starting_values(model, config, spec, workers, warm_start)
    splits = TrainingSplits(
        data, config, spec, encoded=encoded, skip_corrupt=skip_corrupt
    )
    check_splits(data)
    correction = sampling_correction(data)
    if workers.is_chief or run.exists():  # as a check, where it does
        with splits.reading():
            start_run(
                run,
                data,
                config,
                correction=correction,
                sample_of=splits.first_valid,
                warm_start=warm_start,
            )
    with contextlib.ExitStack() as held:
        if workers.is_chief:
            told = f"{run}: another process trains there"
            held.enter_context(locked(Run(run).config, told))
        state = TrainingState(rows=splits.rows)
        if checkpoint is not None:
            state = _restored(run, checkpoint, model, splits.rows, workers)
        callback = TrainingCallback(
            run=run,
            config=config,
            spec=spec,
            correction=correction,
            splits=splits,
            state=state,
            workers=workers,
        )
        callback.write_history()  # a kill may have come before it
        _fit(model, callback, splits, until or config.epochs)
        result = {"data": str(data), **callback.result(model), **splits.skipped}
        if workers.is_chief and callback.finished:
            write_json(Run(run).result, result)
            keep_checkpoint_of(run, result["best_epoch"])
        workers.of_chief([])  # none leaves before that
    return {**result, "finished": callback.finished}


def _restored(run, checkpoint, model, rows, workers):
    """Puts model and optimizer where they were; returns the `TrainingState`."""
    with workers.strategy.scope():
        model.optimizer.build(model.trainable_variables)
        state = restore_checkpoint(checkpoint, model).for_rows(rows)
    if workers.is_chief:
        steps = f" and {state.step:,} steps" * bool(state.step)
        print(f"{run}: going on after {state.epoch} epochs{steps}")
    return state


def _fit(model, callback, splits, last_epoch):
    """Trains on, first to the end of an epoch that was left within."""
    workers, state = callback.workers, callback.state
    callbacks = [callback]
    if workers.is_chief and importlib.util.find_spec("tensorboard"):
        callbacks.append(
            keras.callbacks.TensorBoard(
                Run(callback.run).tensorboard, write_graph=False
            )
        )
    last_epoch = min(callback.config.epochs, last_epoch)
    with splits.reading(), callback.until_terminated(), warnings.catch_warnings():
        # Where workers share the rows, Keras cannot know the number of steps.
        warnings.filterwarnings("ignore", "Your input ran out of data")
        while not state.stop and state.epoch < last_epoch:
            model.fit(
                splits.training(workers, state.step),
                epochs=state.epoch + 1 if state.step else last_epoch,
                initial_epoch=state.epoch,
                callbacks=callbacks,
                shuffle=False,  # the records are
                verbose=workers.is_chief and (1 if console.interactive() else 2),
            )
