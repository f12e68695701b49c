"""A model and its encoder as one numbered SavedModel, verified before it is named."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

from edcn_tf.encoder import Encoder
from edcn_tf.errors import InputError
from edcn_tf.evaluation import load_run
from edcn_tf.export import verification
from edcn_tf.files import new_directory, write_json

UNSEEN = {"string": "\u2603 never seen \U0001f600", "int64": -1, "float32": 1e30}
REPLAYED_ROWS = 522  # replayed in batches of 1, 2, 7 and 512


def export_saved_model(model, spec, directory, *, version=None, records=()):
    """Writes the next version of a servable model, if it answers as the model does.

    Signatures (outputs `probability`, `[B, 1]` float32, in each):

    - `serving_default`: the raw features by name (`Encoder.signature`);
    - `ids`: `ids` `[B, S]` int32; ids outside their field's range become the field's
      unseen row.

    The version is written under a temporary name in the same directory. A new process
    without Keras loads it as TF Serving does, by TensorFlow's SavedModel session
    loader, and replays `records`; its answers must equal the model's to 1e-6. Only
    then it gets its number.

    Args:
        model: A model of `edcn_tf.models`, ids to probability.
        spec: Its `FeatureSpec`.
        directory: The model's base directory, which holds a directory a version.
        version: Its number; one more than the highest by default.
        records: Serialized tf.Examples to replay, such as rows of the validation
            split. Rows with missing and with unseen values are always replayed.

    Returns:
        The path of the version's directory.

    Raises:
        InputError: If the version exists, or does not answer as the model does.
    """
    directory = Path(directory)
    if version is not None and version < 1:
        raise InputError(f"A version is a number of at least 1. Received: {version}")
    encoder = Encoder(spec)
    servable = _Servable(model, encoder)
    target = directory / str(version or _next_version(directory))
    with new_directory(target) as partial:
        tf.saved_model.save(
            servable,
            str(partial),
            signatures=servable.served,
            options=tf.saved_model.SaveOptions(save_debug_info=False),
        )
        _record(partial, model, spec, encoder, records)
        verify_saved_model(partial)
    return target


def export_run(run, directory, *, version=None):
    """`export_saved_model` of a run's best model, with the run's sample of records."""
    model, spec = load_run(run)
    sample = tf.data.TFRecordDataset(str(Path(run) / "sample.tfrecord"))
    records = [record.numpy() for record in sample]
    return export_saved_model(model, spec, directory, version=version, records=records)


def verify_saved_model(version):
    """Loads a version in a new process without Keras and replays its requests.

    Args:
        version: The version's directory.

    Returns:
        The largest absolute difference from the scores of training time.

    Raises:
        InputError: If it does not load, or a score differs by more than 1e-6.
    """
    if not (Path(version) / "saved_model.pb").exists():
        raise InputError(f"{version}: holds no SavedModel (saved_model.pb)")
    # By its file name: as a module of the package it would import Keras.
    result = subprocess.run(
        [sys.executable, verification.__file__, str(version)],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    lines = result.stdout.strip().splitlines()
    if result.returncode or not lines:
        reason = lines or result.stderr.strip().splitlines() or ["it printed nothing"]
        raise InputError(f"{version}: failed verification: {reason[-1]}")
    return float(lines[-1])


class _Servable(tf.Module):
    """Variables, tables and signatures; the Keras model stays out of it.

    TensorFlow would save a Keras 3 model so that it loads in Python and then fails
    every request to TF Serving, which restores no Keras variable. So only the plain
    variables that the signatures use are kept, once each.
    """

    def __init__(self, model, encoder):
        super().__init__(name="edcn_tf")
        self.encoder = encoder
        lows, highs, fallbacks, padding = _slot_ranges(encoder.spec)

        def serve_features(**features):
            return {"probability": model(encoder(features), training=False)}

        def serve_ids(ids):
            legal = ((ids >= lows) & (ids < highs)) | ((ids == 0) & padding)
            ids = tf.where(legal, ids, fallbacks)
            return {"probability": model(ids, training=False)}

        ids = tf.TensorSpec([None, encoder.spec.num_slots], tf.int32, name="ids")
        self.served = {
            "serving_default": tf.function(serve_features).get_concrete_function(
                **encoder.signature()
            ),
            "ids": tf.function(serve_ids).get_concrete_function(ids=ids),
        }
        used = [v for f in self.served.values() for v in f.graph.variables]
        self.model_variables = list({id(v): v for v in used}.values())


def _slot_ranges(spec):
    """For each slot: first id, end, the id for any other, whether 0 is allowed."""
    slots = []
    for field in spec.fields:
        end = field.offset + field.rows
        # A number has no unseen row: an id out of range is as good as missing.
        has_unseen = field.first_value > field.first_unseen
        other = field.first_unseen if has_unseen else field.offset
        slots += [(field.offset, end, other, field.field.multiple)] * field.field.slots
    lows, highs, others, padding = zip(*slots)
    return (*(tf.constant(x, tf.int32) for x in (lows, highs, others)), padding)


def _next_version(directory):
    numbers = [int(p.name) for p in directory.glob("*") if p.name.isdigit()]
    return max(numbers, default=0) + 1


def _record(directory, model, spec, encoder, records):
    """Stores requests and the scores that the model gives here, for verification."""
    requests = [*list(records)[: REPLAYED_ROWS - 2], *_odd_requests(spec)]
    requests = (requests * (REPLAYED_ROWS // len(requests) + 1))[:REPLAYED_ROWS]
    ids = encoder(tf.io.parse_example(tf.constant(requests), encoder.parsing()))
    extra = directory / "assets.extra"
    extra.mkdir()
    with tf.io.TFRecordWriter(str(extra / "golden_requests.tfrecord")) as writer:
        for request in requests:
            writer.write(request)
    write_json(
        extra / "golden_scores.json",
        {
            "features": {
                field.name: {"dtype": field.dtype, "multiple": field.multiple}
                for field in spec.schema.fields
            },
            "ids": ids.numpy().tolist(),
            "probability": [
                float(p) for p in np.ravel(model(ids, training=False).numpy())
            ],
        },
    )


def _odd_requests(spec):
    """A row with every value missing, and one with every value unseen."""
    unseen = tf.train.Example()
    for field in spec.schema.fields:
        feature = unseen.features.feature[field.name]
        value = UNSEEN[field.dtype]
        if field.dtype == "string":
            feature.bytes_list.value.append(value.encode())
        elif field.dtype == "int64":
            feature.int64_list.value.append(value)
        else:
            feature.float_list.value.append(value)
    return [tf.train.Example().SerializeToString(), unseen.SerializeToString()]
