"""The scores of records by a model, and the figures that judge them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from edcn_tf.directories import PreparedData, Run
from edcn_tf.errors import InputError
from edcn_tf.evaluation import metrics
from edcn_tf.evaluation.calibration import Calibration, load_calibration
from edcn_tf.features.spec import FeatureSpec
from edcn_tf.files import StrPath
from edcn_tf.models import ClickModel
from edcn_tf.models.model_file import load_model_file
from edcn_tf.records.checking import check_records
from edcn_tf.records.reading import check_rows, read_records, reading
from edcn_tf.records.writing import record_files
from edcn_tf.schema import Schema

BATCH_ROWS = 8192
RAW_FIGURES = ("log_loss", "calibration", "ece", "normalized_entropy")


class Scores(NamedTuple):
    """Labels and probabilities of rows, with weight and group where there are any.

    `raw` has those of the model itself, where `probabilities` are corrected ones,
    `skipped` the number of bad records that were passed over, by file, `lost` that of
    the prepared rows that are lost with them.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    weights: np.ndarray | None
    groups: np.ndarray | None
    raw: "Scores | None" = None
    skipped: dict[str, int] | None = None
    lost: int = 0

    def calibrated(self, calibration: Calibration) -> "Scores":
        """With the probabilities that are served, by a `Calibration`."""
        if calibration.is_identity:
            return self
        parts = [
            calibration(self.probabilities[start : start + BATCH_ROWS]).numpy()
            for start in range(0, len(self.labels), BATCH_ROWS)
        ]
        return self._replace(
            probabilities=np.concatenate(parts),
            weights=calibration.row_weights(self.labels, self.weights),
            raw=self,
        )

    def evaluate(self) -> dict[str, Any]:
        """The figures of `edcn_tf.evaluation.metrics.evaluate`, a dict.

        With `raw_log_loss`, `raw_calibration`, `raw_ece` and `raw_normalized_entropy`
        of the model's own probabilities, where these were corrected, and `skipped` and
        `lost_rows`, where bad records might be.
        """
        figures: dict[str, Any] = {
            **metrics.evaluate(
                self.labels,
                self.probabilities,
                groups=self.groups,
                weights=self.weights,
            )
        }
        if self.raw:
            raw = self.raw._replace(groups=None).evaluate()
            figures.update({f"raw_{key}": raw[key] for key in RAW_FIGURES})
        if self.skipped is not None:
            figures.update(skipped=self.skipped, lost_rows=self.lost)
        return figures


class Scorer:
    """Scores data sets with a model; traced once, whatever the weights later are.

    Args:
        model: Ids to probability.
        spec: Its `FeatureSpec`.
    """

    def __init__(self, model: keras.Model, spec: FeatureSpec) -> None:
        self.model, self.spec = model, spec
        self.predict = tf.function(
            lambda ids: model(ids, training=False),
            input_signature=[tf.TensorSpec([None, spec.num_slots], tf.int32)],
        )

    def __call__(
        self,
        dataset: tf.data.Dataset,
        look: Callable[[np.ndarray], object] | None = None,
    ) -> Scores:
        """`Scores` of a data set of `read_records`; `InputError` if it has no rows.

        `look`, if given, is called with each batch's ids, `[B, S]`.
        """
        # Concrete, since TensorFlow warns of functions traced one after another, as
        # those of several models are.
        predict = self.predict.get_concrete_function()
        batches = []
        for ids, *rest in dataset:
            if look:
                look(ids.numpy())
            scores = predict(ids)[:, 0]
            batches.append(tuple(tensor.numpy() for tensor in (scores, *rest)))
        if not batches:
            raise InputError("There are no rows to score")
        probabilities, labels, *rest = map(np.concatenate, zip(*batches))
        weights = rest.pop(0) if self.spec.schema.weight else None
        return Scores(labels, probabilities, weights, rest.pop() if rest else None)


def load_run(run: StrPath) -> tuple[ClickModel, FeatureSpec]:
    """The best model of a run directory and its FeatureSpec.

    Raises:
        InputError: If the run has no finished model, or it cannot be read.
    """
    stored = Run(run)
    if not stored.model.exists():
        raise InputError(f"{stored.model}: cannot be loaded as a model (no such file)")
    spec = FeatureSpec.load(stored.features)
    return load_model_file(stored.model, spec), spec


def evaluate_run(
    run: StrPath, data: StrPath, split: str = "test", *, skip_corrupt: int | None = None
) -> dict[str, Any]:
    """Figures of a run's best model on a split of prepared data (`Scores.evaluate`).

    With `skip_corrupt` this many bad records are passed over at most, as by
    `read_records`; `skipped` counts them by file, and `lost_rows` the prepared rows
    that are lost with them.
    """
    return score_run(run, data, split, skip_corrupt=skip_corrupt).evaluate()


def score_run(
    run: StrPath,
    data: StrPath,
    split: str = "test",
    calibration: Calibration | None = None,
    *,
    skip_corrupt: int | None = None,
) -> Scores:
    """`Scores` of a run's best model on a split of prepared data.

    With the probabilities of a `Calibration`, by default the run's.
    """
    scorer = Scorer(*load_run(run))
    calibration = calibration or load_calibration(run)
    scores = score_split(scorer, data, split, skip_corrupt=skip_corrupt)
    return scores.calibrated(calibration)


def score_split(
    scorer: Scorer,
    data: StrPath,
    split: str = "test",
    look: Callable[[np.ndarray], object] | None = None,
    *,
    skip_corrupt: int | None = None,
) -> Scores:
    """`Scores` of a split of prepared data: the model's own, not calibrated.

    Args:
        scorer: A `Scorer`.
        data: Directory that `prepare` made.
        split: Name of the split.
        look: Called with each batch's ids, `[B, S]`, if given.
        skip_corrupt: Pass over this many bad records at most.
    """
    spec, prepared = scorer.spec, PreparedData(data)
    check_columns(spec.schema, prepared)
    pattern, group = prepared.records(split), spec.schema.group is not None
    files, rows, skipped, lost = pattern, rows_of(prepared, split), None, 0
    counted = split == "train"  # looked up, such rows would hold their own labels
    if skip_corrupt is not None:
        files, rows, skipped, lost = check_records(
            record_files(pattern),
            spec,
            group=group,
            allowed=skip_corrupt,
            prepared=rows,
            counted=counted,
        )
    with reading(files, spec, rows, counted=counted):
        dataset = read_records(files, spec, BATCH_ROWS, group=group, counted=counted)
        scores = scorer(dataset, look)
        check_rows(len(scores.labels), rows)
    return scores._replace(skipped=skipped, lost=lost)


def rows_of(data: PreparedData, split: str) -> int | None:
    """How many were prepared; None for another producer's records."""
    return data.rows(split) if data.summary.exists() else None


def check_columns(schema: Schema, data: PreparedData) -> None:
    """Records lack what is missing without a word, so compare what they were made of.

    A directory of another producer's records has no schema to compare with.
    """
    if not data.features.exists():
        return
    of_data = FeatureSpec.load(data.features).schema
    present = of_data.columns
    by_name = {field.name: field for field in of_data.fields}
    for field in schema.statistics:
        other = by_name.get(field.name, field)
        for key in ("kind", "of", "delay", "half_life", "hash_buckets"):
            if getattr(field, key) != getattr(other, key):
                raise InputError(
                    f"{data.path}: its {field.name!r} is not what the model was "
                    f"trained with, whose `{key}` is {getattr(field, key)!r}; prepare "
                    f"it with that schema. Received: {getattr(other, key)!r}"
                )
    lacking = [name for name in schema.columns if name not in present]
    if lacking:
        raise InputError(
            f"{data.path}: was prepared without the column {lacking[0]!r} that the "
            f"model was trained with; its columns are: {', '.join(present)}"
        )
