"""What a report tells of a run: its setting, its epochs, its scores on a split."""

import csv
import dataclasses
import math
import os
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from edcn_tf.config import TrainingConfig
from edcn_tf.directories import PreparedData, Run
from edcn_tf.errors import InputError
from edcn_tf.evaluation.calibration import Calibration, load_calibration
from edcn_tf.evaluation.scoring import Scorer, Scores, load_run, score_split
from edcn_tf.features.spec import FeatureSpec
from edcn_tf.files import read_json
from edcn_tf.models import FAMILY
from edcn_tf.report.html import short

HISTORY = (
    *("epoch", "loss", "learning_rate", "val_auc", "val_log_loss"),
    "examples_per_second",
)
SAMPLE_ROWS = 200_000
SAMPLE_SLOTS = 1 << 26  # of these rows at most: 256 MiB


@dataclasses.dataclass(frozen=True)
class ScoredRun:
    """A run, scored on a split.

    Attributes:
        directory: Where it is.
        data: The prepared data whose split it was scored on.
        config: Keys of `config.yaml`.
        fields: Names of the fields.
        group, weight: Names of these columns, or None.
        parameters: Number of the model's parameters.
        epochs: Columns of `history.csv` as arrays, or None where it is not whole.
        result: What `result.json` holds; nothing while training goes on.
        calibration: What corrects the model's probabilities.
        scores: `Scores` of the split, calibrated.
        figures: Their measures, and `examples_per_second` of training.
        scorer: The model, of the run that the report is about; None of others.
        sample: Some of its rows, with their ids.
        statistics: How those of the data were counted, or nothing.
    """

    directory: str
    data: str
    config: dict
    fields: list[str]
    group: str | None
    weight: str | None
    parameters: int
    epochs: dict[str, np.ndarray] | None
    result: dict
    calibration: Calibration
    scores: Scores
    figures: dict
    scorer: Scorer | None
    sample: "Sample | None"
    statistics: str

    @property
    def name(self):
        return os.path.basename(os.path.abspath(self.directory))

    @property
    def model(self):
        return FAMILY[self.config["model"]].title

    @property
    def label(self):
        return f"{self.model} ({short(self.name)})"

    @property
    def has_both_classes(self):
        return self.scores.labels.min() < self.scores.labels.max()


class Sample(NamedTuple):
    """Every n-th row of a split."""

    ids: np.ndarray  # [B, S]
    scores: Scores

    def thinned(self, rows):
        """At most so many of these rows, evenly taken."""
        step = -(-len(self.ids) // rows)
        return Sample(self.ids[::step], _every(self.scores, step))


class _Ids:
    """Keeps the ids of every n-th row that it is shown; n doubles as rows come."""

    def __init__(self, limit):
        self.limit, self.step, self.rows, self.kept = limit, 1, 0, None

    def __call__(self, ids):
        part = ids[-self.rows % self.step :: self.step]
        self.kept = part if self.kept is None else np.concatenate([self.kept, part])
        self.rows += len(ids)
        while len(self.kept) > self.limit:
            self.step *= 2
            self.kept = self.kept[::2]


def read_runs(directories, data=None, split=None):
    """The runs that a report is about: the first, and those it is compared with.

    A run that cannot be scored on the data of the first, for its columns are others,
    is scored on its own.

    Args:
        directories: Directories that `train` made.
        data: Directory that `prepare` made; by default that of the first's
            `result.json`.
        split: By default test, or what there is: valid, train.

    Returns:
        `(runs, split, left out)`: a list of `ScoredRun`, the split's name, and a
        sentence for each run that could not be scored.

    Raises:
        InputError: If a run cannot be read, or the first cannot be scored.
    """
    first, *others = directories
    data = str(data or Run(first).data())
    split = split or _split_that_is_there(data)
    runs, left_out = [_read_run(first, data, split, with_sample=True)], []
    for other in others:
        try:
            runs.append(_read_other(other, data, split))
        except _Unfit as error:
            left_out.append(f"{other} is left out, since it cannot be scored: {error}.")
    return runs, split, left_out


class _Unfit(Exception):
    """The rows do not fit the run."""


def _split_that_is_there(data):
    for split in ("test", "valid", "train"):
        files = tf.io.gfile.glob(PreparedData(data).records(split))
        if any(tf.io.gfile.stat(path).length for path in files):
            return split
    return "test"  # reading which says what is missing


def _read_other(directory, data, split):
    try:
        return _read_run(directory, data, split)
    except _Unfit as error:
        own = str(_read_result(directory).get("data", data))
        if own == data:
            raise
        try:
            return _read_run(directory, own, split)
        except _Unfit:
            raise error from None


def _read_run(directory, data, split, with_sample=False):
    scorer = Scorer(*load_run(directory))
    ids = _Ids(min(SAMPLE_ROWS, SAMPLE_SLOTS // scorer.spec.num_slots))
    calibration, sample = load_calibration(directory), None
    try:
        scores = score_split(scorer, data, split, ids if with_sample else None)
    except InputError as error:
        if with_sample:
            raise
        raise _Unfit(error) from error
    scores = scores.calibrated(calibration)
    if with_sample:
        sample = Sample(ids.kept, _every(scores, ids.step))
    run, schema = Run(directory), scorer.spec.schema
    result = _read_result(directory)
    speed = result.get("examples_per_second", math.nan)
    return ScoredRun(
        directory=str(directory),
        data=data,
        config=TrainingConfig.load(run.config).to_dict(),
        fields=[field.name for field in schema.fields],
        group=schema.group,
        weight=schema.weight,
        parameters=scorer.model.count_params(),
        epochs=_read_epochs(run.history),
        result=result,
        calibration=calibration,
        scores=scores,
        figures={**scores.evaluate(), "examples_per_second": speed},
        scorer=scorer if with_sample else None,  # not the models of all runs at once
        sample=sample,
        statistics=_statistics_told(data),
    )


def _statistics_told(data):
    """Nothing for another producer's records, which have no features beside them."""
    features = PreparedData(data).features
    return FeatureSpec.load(features).statistics_told() if features.exists() else ""


def _every(scores, step):
    columns = (scores.labels, scores.probabilities, scores.weights, scores.groups)
    return Scores(*(None if each is None else each[::step] for each in columns))


def _read_result(directory):
    try:
        return read_json(Run(directory).result)
    except InputError:  # training goes on
        return {}


def _read_epochs(path):
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        columns = {key: np.array([float(row[key]) for row in rows]) for key in HISTORY}
    except (OSError, KeyError, TypeError, ValueError):
        return None
    return columns if rows else None
