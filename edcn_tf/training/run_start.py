"""How a run begins: its directory, its first weights, or where it goes on."""

import shutil

import tensorflow as tf
import yaml

from edcn_tf.config import TrainingConfig
from edcn_tf.directories import PreparedData, Run
from edcn_tf.errors import InputError
from edcn_tf.evaluation import calibration
from edcn_tf.files import (
    new_directory,
    read_json,
    read_yaml,
    same_content,
    write_json,
)
from edcn_tf.framing import record_dataset
from edcn_tf.models.options import OPTIONS
from edcn_tf.training.checkpoints.checkpoint import latest_checkpoint
from edcn_tf.training.optimizers import SparseAdam
from edcn_tf.training.pretrained import load_pretrained
from edcn_tf.training.warm_start import start_from

SAMPLE_ROWS = 520  # of the validation split, that an export is verified with


def common_checkpoint(run, workers):
    """The directory of the chief's last checkpoint, or None.

    Raises:
        InputError: If this worker does not see it.
    """
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


def set_starting_values(model, config, spec, workers, warm_start):
    """Puts the weights of an earlier run, and pretrained embeddings, into a new model.

    Args:
        model: The compiled model of `config` and `spec`.
        config: `TrainingConfig`.
        spec: `FeatureSpec`.
        workers: `Workers`.
        warm_start: The run to start from; None for none.
    """
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


def sampling_correction(data):
    """The `Calibration` for the negatives that `prepare` left out of the training."""
    data = PreparedData(data)
    rate = data.sampling_rate()
    try:
        return calibration.Calibration(negative_sampling_rate=rate)
    except InputError as error:
        raise InputError(f"{data.summary}: {error}") from None


def _began_with(path):
    """The setting of a run that was begun, maybe before some options came to be.

    Then it had what is their default now, whatever a preset has.
    """
    stored = read_yaml(path)
    since = {name: option.default for name, option in OPTIONS.items()}
    known = TrainingConfig.from_dict(stored).to_dict()
    return {**known, **{k: v for k, v in since.items() if k in known}, **stored}


def start_run(run, data, config, *, correction, sample_of, warm_start):
    """Makes the run directory, or sees that the one there is this run's.

    Args:
        run: The run directory.
        data: Directory that `prepare` made.
        config: `TrainingConfig`.
        correction: `Calibration` of the sampling of negatives.
        sample_of: A file of records of the validation split.
        warm_start: The run that this one starts from; None for none.

    Raises:
        InputError: If there is something else, or a run that is finished, or one of
            another configuration, other data or another start.
    """
    directory, features = Run(run), PreparedData(data).features
    directory.check_name()
    start = warm_start and {"run": str(warm_start)}
    text = yaml.safe_dump(config.to_dict(), sort_keys=False, allow_unicode=True)
    if not run.exists():
        with new_directory(run) as partial:
            new = Run(partial)
            shutil.copytree(features, new.features)
            new.config.write_text(text, encoding="utf-8")
            correction.save(new.calibration)
            if start:
                write_json(new.started_from, start)
            new.checkpoints.mkdir()
            _write_sample(sample_of, new.sample)
    elif not directory.config.exists():
        raise InputError(f"{run}: exists already and is no run; choose another --out")
    elif directory.result.exists():
        raise InputError(f"{run}: holds a finished run; choose another --out")
    elif _began_with(directory.config) != config.to_dict():
        raise InputError(
            f"{run}: holds an unfinished run of another setting; give that setting to "
            "go on with it, or choose another --out"
        )
    elif not (
        same_content(directory.features, features)
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
    path = Run(run).started_from
    return read_json(path) if path.exists() else None


def _write_sample(file, path):
    """Copies a few rows of the validation split as they are."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in record_dataset(file).take(SAMPLE_ROWS):
            writer.write(record.numpy())
