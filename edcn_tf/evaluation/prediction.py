"""The scores of rows of raw logs: `edcn predict`."""

from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from edcn_tf.console import progress_bar
from edcn_tf.evaluation.calibration import load_calibration
from edcn_tf.evaluation.scoring import load_run
from edcn_tf.features.encoder import Encoder
from edcn_tf.files import StrPath
from edcn_tf.logs.probabilities import probability_writer
from edcn_tf.logs.reading import log_bytes, read_log
from edcn_tf.records.writing import serialize_examples


def predict_log(
    run: StrPath, logs: Sequence[StrPath], path: StrPath, format: str | None = None
) -> int:
    """Writes one `probability` for each row of the logs, in their order.

    It is the one that is served, corrected by the run's `Calibration`. The logs need
    the schema's fields, but no label.

    Args:
        run: A run directory.
        logs: Names of logs (`edcn_tf.logs.reading.read_log`).
        path: A new `.csv` or `.parquet` file, which comes to be when it is whole.
        format: Format of the logs, or told from their names.

    Returns:
        The number of rows.

    Raises:
        InputError: If the file exists, or the logs cannot be read.
    """
    rows = 0
    with probability_writer(path) as write:
        for scores in _scored(run, logs, format):
            write(scores)
            rows += len(scores)
    return rows


def _scored(
    run: StrPath, logs: Sequence[StrPath], format: str | None
) -> Iterator[np.ndarray]:
    """Yields the probabilities of the rows of logs."""
    model, spec = load_run(run)
    calibration = load_calibration(run)
    encoder = Encoder(spec)
    columns = [field.name for field in spec.schema.fields]

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def predict(records: tf.Tensor) -> tf.Tensor:
        features = tf.io.parse_example(records, encoder.parsing())
        return calibration(model(encoder(features), training=False))[:, 0]

    with progress_bar("Scoring", log_bytes(logs)) as bar:
        for batch in read_log(logs, spec.schema, format, columns, bar.update):
            # By way of records, so that training and this read a row alike.
            records = tf.constant(serialize_examples(batch))
            for part in _parts(records):
                yield predict(part).numpy()


def _parts(records: tf.Tensor, size: int = 8192) -> Iterator[tf.Tensor]:
    """Batches of a size that the model's intermediate results fit the cache at."""
    return (records[i : i + size] for i in range(0, len(records), size))
