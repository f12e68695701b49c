"""The reader of requests that TF Serving logged, as `logs.reading` reads other logs."""

import collections
import dataclasses
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pyarrow as pa

from edcn_tf.errors import InputError
from edcn_tf.files import StrPath
from edcn_tf.framing import refuse_damaged
from edcn_tf.logs.normalizing import normalize
from edcn_tf.logs.reading import format_of, log_files
from edcn_tf.logs.served.prediction_log import holds_predictions, served_rows
from edcn_tf.schema import Schema


def hold_predictions(paths: Iterable[StrPath], format: str | None = None) -> bool:
    """Whether logs are requests that TF Serving logged, with scores of their own.

    Raises:
        InputError: If some are and others are not.
    """
    held = {}
    for path in log_files(paths):
        is_records = not path.startswith("tfds:")
        is_records = is_records and (format or format_of(path)) == "tfrecord"
        held[is_records and holds_predictions(path)] = path
    if len(held) > 1:
        raise InputError(
            f"{held[True]} holds requests that TF Serving logged, {held[False]} does "
            "not; read them one after the other"
        )
    return True in held


def record_of(paths: Iterable[StrPath], number: int) -> tuple[str, int]:
    """The file of a record, and its number there, by its number among all.

    Args:
        paths: As for `read_served`.
        number: From 1, of `read_served`.
    """
    files = log_files(paths)
    sizes = [framing.records for framing in refuse_damaged(files)]
    place = int(np.searchsorted(np.cumsum(sizes), number))
    return files[place], number - sum(sizes[:place])


def read_served(
    paths: Iterable[StrPath],
    schema: Schema,
    told: collections.Counter[str],
    progress: Callable[[int], object] | None = None,
    version: int | None = None,
) -> Iterator[tuple[pa.RecordBatch, np.ndarray, np.ndarray]]:
    """Reads requests that TF Serving logged, with the scores of its answers.

    Args:
        paths: As for `read_log`; TFRecord files of PredictionLogs.
        schema, progress: As for `read_log`.
        told: To which is added how many requests or rows are left out, by a text that
            says why.
        version: Number of the version of whose answers the rows are; of any if None.

    Yields:
        A batch of the schema's inputs as `read_log` gives them, and of its statistics
        (lists, null where the request did not say them); the rows' probabilities,
        `[B]` float64; and the number of each row's record among all, from 1.

    Raises:
        InputError: With file and record, if one is not what it should be.
    """
    own = dataclasses.replace(  # requests call fields by their names
        schema,
        fields=tuple(dataclasses.replace(f, column=None) for f in schema.fields),
    )
    names, before = [field.name for field in own.inputs], 0
    for path in log_files(paths):
        served = served_rows(path, own, told, progress, version)
        for batch, scores, records in served:
            inputs = normalize(batch, own, names, path, 1, records=records)
            for field in own.statistics:
                inputs = inputs.append_column(field.name, batch.column(field.name))
            yield inputs, scores, records + before
        [framing] = refuse_damaged([path])
        before += framing.records
