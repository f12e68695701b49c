"""Rows to compare, as they are counted: of the validation split, and of logs."""

import collections

import numpy as np
import pyarrow as pa
import tensorflow as tf

from edcn_tf.console import progress_bar
from edcn_tf.directories import PreparedData
from edcn_tf.drift.tally import GROUPS
from edcn_tf.errors import InputError
from edcn_tf.evaluation.calibration import load_calibration
from edcn_tf.evaluation.prediction import scored_rows
from edcn_tf.evaluation.scoring import BATCH_ROWS, check_columns, rows_of
from edcn_tf.features.counting import value_buckets
from edcn_tf.features.encoder import Encoder
from edcn_tf.field import MISSING
from edcn_tf.logs import json_lines
from edcn_tf.logs.folders import told_by
from edcn_tf.logs.normalizing import MissingColumn
from edcn_tf.logs.opening import input_errors
from edcn_tf.logs.reading import (
    LogPart,
    format_of,
    log_bytes,
    log_files,
    read_part,
)
from edcn_tf.logs.served.reading import read_served
from edcn_tf.records.reading import check_rows, read_records, reading
from edcn_tf.records.writing import serialize_examples

SPLIT = "valid"


def count_validation(tally, run, model, spec, data):
    """Counts the validation split of prepared data, scored as it is served.

    Args:
        tally: The `Tally`.
        run: The run directory.
        model, spec: Its model and `FeatureSpec`.
        data: Directory that `prepare` made.
    """
    prepared, calibration = PreparedData(data), load_calibration(run)
    check_columns(spec.schema, prepared)
    pattern, rows = prepared.records(SPLIT), rows_of(prepared, SPLIT)
    group = spec.schema.group is not None

    @tf.function(input_signature=[tf.TensorSpec([None, spec.num_slots], tf.int32)])
    def predict(ids):
        return calibration(model(ids, training=False))[:, 0]

    with reading(pattern, spec, rows):
        dataset = read_records(pattern, spec, BATCH_ROWS, group=group)
        with progress_bar("Validation rows", rows, "rows") as bar:
            for ids, labels, *rest in dataset:
                groups = _in_order(tally.rows, len(ids))
                if group:
                    keys = rest[-1].numpy()
                    there = keys != MISSING["int64"]
                    # A key of whole numbers is the number: ids that go on by 32, or
                    # numbers that float32 holds as round bits, would be one group.
                    groups[there] = _buckets(pa.array(keys[there]))
                scores = predict(ids).numpy()
                tally.add(ids.numpy(), scores, labels.numpy(), groups)
                bar.update(len(ids))
        check_rows(tally.rows, rows)
    if not tally.rows:
        raise InputError(f"{data}: its validation split has no rows to compare with")


def check_there(run, data):
    """Raises an `InputError` if the prepared data of a run are not where they were."""
    if not PreparedData(data).path.is_dir():
        raise InputError(
            f"{data}: is not there, which {run} was trained on and its scores are "
            "compared with; say where it is: --data DIR"
        )


def count_logs(tally, run, model, spec, logs, format=None):
    """Counts the rows of raw logs, scored as they are served.

    Args:
        tally: The `Tally`.
        run: The run directory.
        model, spec: Its model and `FeatureSpec`.
        logs, format: As for `edcn_tf.logs.reading.read_log`.

    Returns:
        Those of the label and the group that the logs have, a set of names.

    Raises:
        InputError: If a log cannot be read, or lacks one of these that another has.
    """
    schema = spec.schema
    wanted = [name for name in (schema.label, schema.group) if name is not None]
    there = _columns_there(logs, schema, format, wanted)
    for batch, scores, ids in scored_rows(run, model, spec, logs, format, there):
        labels = None
        if schema.label in there:
            labels = _column(batch, schema.label).to_numpy()
        key = schema.group if schema.group in there else None
        _add(tally, ids, scores, labels, batch, key)
    return set(there)


def count_served(tally, spec, logs, version=None):
    """Counts the rows of requests that TF Serving logged, with their logged scores.

    Args:
        tally: The `Tally`.
        spec: The run's `FeatureSpec`.
        logs: TFRecord files of PredictionLogs.
        version: Number of the version of whose answers the rows are; of any if None.

    Returns:
        How many requests or rows are left out, by a text that says why: a
        `collections.Counter`.
    """
    encoder, told = Encoder(spec), collections.Counter()
    group = spec.schema.group
    names = {field.name for field in spec.schema.inputs}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def encode(records):
        return encoder(tf.io.parse_example(records, encoder.parsing()))

    with progress_bar("Reading", log_bytes(logs)) as bar:
        served = read_served(logs, spec.schema, told, bar.update, version)
        for batch, scores, records in served:
            ids = encode(tf.constant(serialize_examples(batch))).numpy()
            key = group if group in names else None
            _add(tally, ids, scores, None, batch, key, records % GROUPS)
    return told


def _add(tally, ids, scores, labels, batch, key, groups=None):
    """Counts rows, by the group column if `key` names one of theirs."""
    if groups is None:
        groups = _in_order(tally.rows, len(ids))
    if key is not None:
        column = _column(batch, key)
        there = column.is_valid().to_numpy(zero_copy_only=False)
        groups[there] = _buckets(column.drop_null())
    tally.add(ids, scores, labels, groups)


def _buckets(values):
    if pa.types.is_floating(values.type):
        values = values.cast(pa.string())
    return value_buckets(values, GROUPS)


def _in_order(first, rows):
    """Groups of rows of which nothing is known, in turn as they stand in the log."""
    return (first + np.arange(rows)) % GROUPS


def _column(batch, name):
    return batch.column(batch.schema.get_field_index(name))


def _columns_there(logs, schema, format, wanted):
    """Those of some columns that the logs have: all of them, or none."""
    files, there = log_files(logs), []
    for name in wanted:
        has = {_has(path, schema, format, name, files): path for path in files}
        if {True, False} <= set(has):
            raise InputError(
                f"{has[False]}: has no column {schema.column(name)!r}, which "
                f"{has[True]} has; compare them one after the other"
            )
        if True in has:
            there.append(name)
    return there


def _has(path, schema, format, name, files):
    """Whether a log has a column beside its fields; None of a JSON file without rows.

    Of JSON lines the first one tells, since no reader knows before the last one that a
    key is in none of them.
    """
    inputs, column = [field.name for field in schema.inputs], schema.column(name)
    kind = None if path.startswith("tfds:") else format or format_of(path)
    if name not in inputs and kind == "jsonl":
        with input_errors(path, kind):
            keys = json_lines.header(path)
        return column in {*keys, *told_by(path)} if keys else None
    columns = inputs if name in inputs else [*inputs, name]
    try:
        next(read_part(LogPart(path), schema, format, columns, beside=files), None)
    except MissingColumn as missing:
        if missing.column != column or name in inputs:
            raise
        return False
    return True
