"""What is done in the process of one trial: training, and what serving would take."""

import dataclasses
import resource
import shutil
import statistics
import time
from pathlib import Path

import numpy as np
import tensorflow as tf

from edcn_tf.config import TrainingConfig
from edcn_tf.directories import EncodedRows, PreparedData, Run
from edcn_tf.errors import InputError
from edcn_tf.evaluation.calibration import load_calibration
from edcn_tf.evaluation.scoring import evaluate_run, load_run
from edcn_tf.export.scoring import Scoring
from edcn_tf.export.signatures import make_signature
from edcn_tf.features.encoder import Encoder
from edcn_tf.features.spec import FeatureSpec
from edcn_tf.files import new_directory, read_json
from edcn_tf.records.encoded import encode_rows, read_encoded
from edcn_tf.training.train import train

LATENCY_ROWS = 512  # of a request whose latency is measured
LATENCY_CALLS = 30
TEST = "test"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """What to train, and where.

    Args:
        data: Directory that `prepare` made.
        encoded: Directory that `encode_rows` made of it.
        run: The run directory; one that is there already is gone on with.
        config: Keys of `config.yaml`.
        until: Epoch after which training stops for now, if it has not ended by then.
        continues: Run directory whose training a new run goes on with.
        max_parameters: The most that the model may have.
        test: Whether to score the test split too.
    """

    data: str
    encoded: str
    run: str
    config: dict
    until: int | None = None
    continues: str | None = None
    max_parameters: int | None = None
    test: bool = False


def encode(data, encoded):
    """Encodes rows, once for all trials, unless that was done."""
    if not Path(encoded).exists():
        encode_rows(data, encoded)


def run_task(task):
    """Trains; a dict of figures of the best epoch.

    Raises:
        InputError: If the loss is no longer a number, or the model is too large.
    """
    run, config = Path(task.run), TrainingConfig.from_dict(task.config)
    if task.max_parameters is not None and not run.exists():
        _check_size(config, task)
    if task.continues is not None and not run.exists():
        with new_directory(run) as partial:
            shutil.copytree(task.continues, partial, dirs_exist_ok=True)
    began = time.perf_counter()
    result = _trained(task, config)
    seconds = time.perf_counter() - began
    figures = {
        "auc": result["valid_auc"],
        "log_loss": result["valid_log_loss"],
        "parameters": result["parameters"],
        "epochs": result["epochs"],
        "best_epoch": result["best_epoch"],
        "training_seconds": seconds,
        "latency_ms": _latency(task),
    }
    if task.test:
        tested = evaluate_run(run, task.data, TEST)
        figures.update(test_auc=tested["auc"], test_log_loss=tested["log_loss"])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {**figures, "peak_memory_mib": peak}


def _check_size(config, task):
    spec = FeatureSpec.load(PreparedData(task.data).features)
    size = config.build(spec).count_params()
    if size > task.max_parameters:
        raise InputError(
            f"the model has {size:,} parameters, more than the {task.max_parameters:,} "
            "of max_parameters"
        )


def _trained(task, config):
    run = Run(task.run)
    if run.result.exists():
        return read_json(run.result)
    result = train(task.data, task.run, config, until=task.until, encoded=task.encoded)
    if result["finished"]:  # no run starts from it
        shutil.rmtree(run.checkpoints)
    return result


def _latency(task):
    """Milliseconds of the `ids` signature, called from Python; the median."""
    model, spec = load_run(task.run)
    scoring = Scoring(model, load_calibration(task.run))
    signature = make_signature("ids", Encoder(spec), scoring)
    files = EncodedRows(task.encoded).rows("valid")
    ids = next(iter(read_encoded(files, spec, LATENCY_ROWS)))[0].numpy()
    ids = tf.constant(np.resize(ids, (LATENCY_ROWS, ids.shape[1])))
    times = []
    for _ in range(LATENCY_CALLS):
        began = time.perf_counter()
        signature(ids=ids)["probability"].numpy()
        times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times)
