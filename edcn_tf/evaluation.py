"""Score records with a model and judge the scores."""

import json
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from edcn_tf import metrics
from edcn_tf.calibration import load_calibration
from edcn_tf.errors import InputError
from edcn_tf.input_pipeline import read_records, reading
from edcn_tf.vocabulary import FeatureSpec

BATCH_ROWS = 8192
RAW_FIGURES = ("log_loss", "calibration", "ece", "normalized_entropy")


class Scores(NamedTuple):
    """Labels and probabilities of rows, with weight and group where there are any.

    `raw` has those of the model itself, where `probabilities` are corrected ones.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    weights: np.ndarray | None
    groups: np.ndarray | None
    raw: "Scores | None" = None

    def calibrated(self, calibration):
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

    def evaluate(self):
        """The figures of `edcn_tf.metrics.evaluate`, a dict.

        With `raw_log_loss`, `raw_calibration`, `raw_ece` and `raw_normalized_entropy`
        of the model's own probabilities, where these were corrected.
        """
        figures = metrics.evaluate(
            self.labels, self.probabilities, groups=self.groups, weights=self.weights
        )
        if self.raw:
            raw = self.raw._replace(groups=None).evaluate()
            figures.update({f"raw_{key}": raw[key] for key in RAW_FIGURES})
        return figures


class Scorer:
    """Scores data sets with a model; traced once, whatever the weights later are.

    Args:
        model: Ids to probability.
        spec: Its `FeatureSpec`.
    """

    def __init__(self, model, spec):
        self.model, self.spec = model, spec
        self.predict = tf.function(
            lambda ids: model(ids, training=False),
            input_signature=[tf.TensorSpec([None, spec.num_slots], tf.int32)],
        )

    def __call__(self, dataset, look=None):
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


def load_run(run):
    """The best model of a run directory and its FeatureSpec.

    At the cost of one copy of the model: `keras.saving.load_model` would hold three.

    Raises:
        InputError: If the run has no finished model, or it cannot be read.
    """
    path = Path(run) / "model.keras"
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
            # Built here, without initial weights and without the counts of its L2,
            # which only training needs.
            config.pop("build_config", None)
            config["config"]["dtype"] = "float32"  # what is served, whatever trained
            model = keras.saving.deserialize_keras_object(config, safe_mode=True)
            for embedding in model.embeddings:
                embedding.embeddings_initializer = keras.initializers.Zeros()
                embedding.l2 = 0.0
            model.build((None, model.embedding.num_slots))
            with tempfile.TemporaryDirectory(dir=run) as folder:
                model.load_weights(archive.extract("model.weights.h5", folder))
    except MemoryError:
        raise
    except Exception as error:  # Keras raises whatever the damage leads to
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: cannot be loaded as a model ({reason})") from None
    return model, FeatureSpec.load(f"{run}/features")


def evaluate_run(run, data, split="test"):
    """Figures of a run's best model on a split of prepared data (`Scores.evaluate`)."""
    return score_run(run, data, split).evaluate()


def score_run(run, data, split="test", calibration=None):
    """`Scores` of a run's best model on a split of prepared data.

    With the probabilities of a `Calibration`, by default the run's.
    """
    scorer = Scorer(*load_run(run))
    calibration = calibration or load_calibration(run)
    return score_split(scorer, data, split).calibrated(calibration)


def score_split(scorer, data, split="test", look=None):
    """`Scores` of a split of prepared data: the model's own, not calibrated.

    Args:
        scorer: A `Scorer`.
        data: Directory that `prepare` made.
        split: Name of the split.
        look: Called with each batch's ids, `[B, S]`, if given.
    """
    schema = scorer.spec.schema
    _check_columns(schema, data)
    files, group = f"{data}/{split}-*.tfrecord*", schema.group is not None
    with reading(files, scorer.spec):
        dataset = read_records(files, scorer.spec, BATCH_ROWS, group=group)
        return scorer(dataset, look)


def _check_columns(schema, data):
    """Records lack what is missing without a word, so compare what they were made of.

    A directory of another producer's records has no schema to compare with.
    """
    if not (Path(data) / "features").exists():
        return
    present = FeatureSpec.load(Path(data) / "features").schema.columns
    lacking = [name for name in schema.columns if name not in present]
    if lacking:
        raise InputError(
            f"{data}: was prepared without the column {lacking[0]!r} that the model "
            f"was trained with; its columns are: {', '.join(present)}"
        )
