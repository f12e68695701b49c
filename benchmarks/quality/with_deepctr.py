"""DeepCTR's EDCN or DIN on rows in a file; run by a Python that has DeepCTR.

    python with_deepctr.py IDS SCORES SETTINGS

IDS is what `peers.py` writes; SCORES an .npz file that gets `valid` and `test`, the
probabilities of these rows by the weights of the best epoch, and `training_seconds`;
SETTINGS is JSON: `model`, `learning_rate`, `l2_reg_embedding`,
`seed` and, of EDCN, `bridge_type`.
"""

import json
import os
import sys
import time

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # before TensorFlow is imported

import numpy as np
import tensorflow as tf
from deepctr.feature_column import SparseFeat, VarLenSparseFeat
from deepctr.models import DIN, EDCN

EMBEDDING_DIM = 16  # ours
BATCH_SIZE = 1024
BATCH_ROWS = 8192
EPOCHS = 50
PATIENCE = 3


def main():
    ids_file, scores_file, settings = sys.argv[1:]
    settings = json.loads(settings)
    tf.keras.utils.set_random_seed(settings["seed"])
    with np.load(ids_file) as file:
        fields = json.loads(str(file["fields"]))
        data = {
            split: (_inputs(fields, file[f"{split}_ids"]), file[f"{split}_labels"])
            for split in ("train", "valid", "test")
        }
    columns = [_column(field) for field in fields]
    options = {key: settings[key] for key in ("l2_reg_embedding", "seed")}
    if settings["model"] == "DIN":
        items = [field["of"] for field in fields if field["of"]]
        model = DIN(columns, items, dnn_hidden_units=(200, 80), **options)
    else:
        bridge = settings["bridge_type"]
        model = EDCN(columns, columns, bridge_type=bridge, **options)
    model.compile(
        tf.keras.optimizers.Adam(settings["learning_rate"]), "binary_crossentropy"
    )
    best = _Best(*data["valid"])
    began = time.perf_counter()
    model.fit(
        *data["train"],
        batch_size=BATCH_SIZE,
        epochs=EPOCHS,
        callbacks=[best],
        verbose=0,
    )
    seconds = time.perf_counter() - began
    model.set_weights(best.weights)
    test = model.predict(data["test"][0], BATCH_ROWS, verbose=0)[:, 0]
    np.savez(scores_file, valid=best.scores, test=test, training_seconds=seconds)


class _Best(tf.keras.callbacks.Callback):
    """Keeps the weights of the epoch with the best validation AUC, and stops."""

    def __init__(self, inputs, labels):
        super().__init__()
        self.inputs, self.labels = inputs, labels
        self.auc, self.wait = 0.0, 0

    def on_epoch_end(self, epoch, logs=None):
        scores = self.model.predict(self.inputs, BATCH_ROWS, verbose=0)[:, 0]
        auc = _auc(self.labels, scores)
        self.wait += 1
        if auc > self.auc:
            self.auc, self.wait, self.scores = auc, 0, scores
            self.weights = self.model.get_weights()
        self.model.stop_training = self.wait == PATIENCE


def _auc(labels, scores):
    """The exact one, ties counted half; Keras' own takes thresholds."""
    negatives, positives = np.sort(scores[labels == 0]), scores[labels == 1]
    lower = np.searchsorted(negatives, positives, side="left")
    upto = np.searchsorted(negatives, positives, side="right")
    return (lower + upto).mean() / 2 / len(negatives)


def _column(field):
    column = SparseFeat(
        _name(field),
        field["values"],
        embedding_dim=EMBEDDING_DIM,
        embedding_name=field["of"] or field["name"],
    )
    if field["slots"] == 1:
        return column
    return VarLenSparseFeat(column, maxlen=field["slots"], combiner="mean")


def _name(field):
    """As DeepCTR finds the history of a field."""
    return f"hist_{field['of']}" if field["of"] else field["name"]


def _inputs(fields, ids):
    """Name -> ids `[N]`, or `[N, slots]` of a list."""
    ends = np.cumsum([field["slots"] for field in fields])
    parts = np.split(ids, ends[:-1], axis=1)
    return {
        _name(field): part[:, 0] if field["slots"] == 1 else part
        for field, part in zip(fields, parts)
    }


if __name__ == "__main__":
    main()
