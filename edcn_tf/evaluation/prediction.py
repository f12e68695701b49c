"""The scores of rows of raw logs: `edcn predict`."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import tensorflow as tf

from edcn_tf.console import progress_bar
from edcn_tf.evaluation.calibration import load_calibration
from edcn_tf.evaluation.scoring import load_run
from edcn_tf.features.encoder import Encoder
from edcn_tf.features.spec import FeatureSpec
from edcn_tf.files import StrPath
from edcn_tf.logs.probabilities import probability_writer
from edcn_tf.logs.reading import log_bytes, read_log
from edcn_tf.models import ClickModel
from edcn_tf.records.writing import serialize_examples

PART_ROWS = 8192  # at which the model's intermediate results fit the cache


class Predicted(NamedTuple):
    """What `predict_log` did.

    `rows`: number of rows.
    `values`: name of each field with a vocabulary -> number of its values.
    `unknown`: the same -> how many of them have no row of the table.
    """

    rows: int
    values: dict[str, int]
    unknown: dict[str, int]


def predict_log(
    run: StrPath, logs: Sequence[StrPath], path: StrPath, format: str | None = None
) -> Predicted:
    """Writes one `probability` for each row of the logs, in their order.

    It is the one that is served, corrected by the run's `Calibration`. The logs need
    the schema's fields, but no label.

    Args:
        run: A run directory.
        logs: Names of logs (`edcn_tf.logs.reading.read_log`).
        path: A new `.csv` or `.parquet` file, which comes to be when it is whole.
        format: Format of the logs, or told from their names.

    Returns:
        `Predicted`: where most values are unknown, the log may spell them otherwise.

    Raises:
        InputError: If the file exists, or the logs cannot be read.
    """
    rows, (model, spec) = 0, load_run(run)
    fields = [own for own in spec.fields if own.owner.vocabulary]
    values = {own.field.name: 0 for own in fields}
    unknown = dict(values)
    slots = _slots(spec)
    with probability_writer(path) as write:
        for _, scores, ids in scored_rows(run, model, spec, logs, format):
            write(scores)
            rows += len(scores)
            for own in fields:
                name, of_field = own.field.name, ids[:, slots[own.field.name]]
                values[name] += int(np.count_nonzero(of_field > own.offset))
                is_unseen = (own.first_unseen <= of_field) & (
                    of_field < own.first_value
                )
                unknown[name] += int(np.count_nonzero(is_unseen))
    return Predicted(rows, values, unknown)


def _slots(spec: FeatureSpec) -> dict[str, slice]:
    """Where the ids of each field are."""
    ends = np.cumsum([own.field.slots for own in spec.fields])
    return {
        own.field.name: slice(end - own.field.slots, end)
        for own, end in zip(spec.fields, ends)
    }


def scored_rows(
    run: StrPath,
    model: ClickModel,
    spec: FeatureSpec,
    logs: Sequence[StrPath],
    format: str | None = None,
    also: Sequence[str] = (),
) -> Iterator[tuple[pa.RecordBatch, np.ndarray, np.ndarray]]:
    """Yields rows of logs, their probabilities `[B]` and their ids `[B, S]`.

    Args:
        run: A run directory.
        model, spec: Its model and its `FeatureSpec` (`load_run`).
        logs, format: As for `predict_log`.
        also: Names of columns that the rows have beside the schema's inputs.
    """
    calibration = load_calibration(run)
    encoder = Encoder(spec)
    inputs = [field.name for field in spec.schema.inputs]
    columns = [*inputs, *(name for name in also if name not in inputs)]

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def predict(records: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        ids = encoder(tf.io.parse_example(records, encoder.parsing()))
        return calibration(model(ids, training=False))[:, 0], ids

    with progress_bar("Scoring", log_bytes(logs)) as bar:
        for batch in read_log(logs, spec.schema, format, columns, bar.update):
            # By way of records, so that training and this read a row alike.
            records = tf.constant(serialize_examples(batch.select(inputs)))
            for start in range(0, batch.num_rows, PART_ROWS):
                scores, ids = predict(records[start : start + PART_ROWS])
                yield batch.slice(start, PART_ROWS), scores.numpy(), ids.numpy()
