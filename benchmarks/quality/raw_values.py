"""The values of prepared rows as they were in the log, for a peer's program."""

import json

import numpy as np
import pyarrow as pa
import tensorflow as tf

from edcn_tf.choices import SPLITS
from edcn_tf.directories import PreparedData
from edcn_tf.errors import InputError
from edcn_tf.evaluation.scoring import BATCH_ROWS
from edcn_tf.features.spec import FeatureSpec
from edcn_tf.field import MISSING
from edcn_tf.files import replaced
from edcn_tf.records.parsing import parsed, parsing_of
from edcn_tf.records.reading import (
    batches,
    check_rows,
    read_file,
    reading,
    sound_files,
)
from edcn_tf.records.writing import record_files


def raw_values(folder):
    """Writes the raw values of all splits as NumPy arrays, unless that was done.

    Rows have the order in which `read_records` gives them to our models. Of each split
    `NAME_labels`, with them in the schema `NAME_weights` and `NAME_times`, and of the
    field number i `NAME_i`, all `[N]`: a number as float64, NaN where it is missing;
    of any other value, int32, its place in the field's list of `values`, -1 where it
    is missing. `fields` is JSON, a list with `name` and `values` (None for a number).

    A list of values is one text: its different values, sorted, with `|` between them.

    Raises:
        InputError: For a field that is a sequence or a vector, which tables have none
            of.
    """
    path = folder / "values.npz"
    if path.exists():
        return path
    data = PreparedData(folder / "data")
    spec = FeatureSpec.load(data.features)
    for field in spec.schema.inputs:
        if field.is_vector or field.kind == "sequence":
            kind = "vector" if field.is_vector else "sequence"
            raise InputError(
                f"Field {field.name!r} is a {kind}, which peers that take tables are "
                "not given; leave it out of the schema"
            )
    parts = {split: _read(data, split, spec) for split in SPLITS}
    schema, arrays, fields = spec.schema, {}, []
    for split, columns in parts.items():
        arrays[f"{split}_labels"] = columns[schema.label]
        if schema.weight:
            arrays[f"{split}_weights"] = columns[schema.weight]
        if schema.timestamp:
            arrays[f"{split}_times"] = columns[schema.timestamp]
    for number, field in enumerate(schema.inputs):
        column = [parts[split].pop(field.name) for split in SPLITS]
        values, column = (None, column) if field.has_ranges else _coded(column)
        fields.append({"name": field.name, "values": values})
        arrays.update({f"{s}_{number}": each for s, each in zip(SPLITS, column)})
    with replaced(path) as partial:
        np.savez_compressed(partial, fields=json.dumps(fields), **arrays)
    return path


def _read(data, split, spec):
    """Name -> the column of a split: numbers, or an Arrow array of texts."""
    schema, pattern = spec.schema, data.records(split)
    parsing = parsing_of(schema, group=False)
    if schema.timestamp:
        parsing[schema.timestamp] = tf.io.FixedLenFeature([], tf.int64)
    fields = {field.name: field for field in schema.inputs}
    found = {name: [] for name in parsing}
    with reading(pattern, spec, data.rows(split)):
        records = batches(
            sound_files(record_files(pattern)),
            read_file,
            lambda records: (records,),
            BATCH_ROWS,
            shuffle=False,
            seed=None,
        )
        for (batch,) in records:
            for name, values in parsed(batch, parsing, schema).items():
                found[name].append(_plain(values, fields.get(name)))
        rows = sum(map(len, found[schema.label]))
        check_rows(rows, data.rows(split))
    return {
        name: pa.concat_arrays(parts)
        if isinstance(parts[0], pa.Array)
        else np.concatenate(parts)
        for name, parts in found.items()
    }


def _plain(values, field):
    """A column of a batch: NumPy numbers, of categories Arrow texts, null for none."""
    if field is None:
        return values.numpy()
    if field.has_ranges:
        missing = MISSING[field.dtype]
        values = values.numpy()
        return np.where(values == missing, np.nan, values.astype(np.float64))
    if field.is_list:
        rows = (_joined(row, field) for row in values.to_list())
        return pa.array(rows, pa.string())
    return pa.array([_text(value, field) for value in values.numpy()], pa.string())


def _joined(values, field):
    texts = {_text(value, field) for value in values} - {None}
    return "|".join(sorted(texts)) or None


def _text(value, field):
    if value in (MISSING[field.dtype], b""):
        return None
    return value.decode() if isinstance(value, bytes) else str(value)


def _coded(columns):
    """The different texts of all splits, and where each split's are among them."""
    coded = pa.chunked_array(columns).combine_chunks().dictionary_encode()
    places = coded.indices.fill_null(-1).to_numpy()
    ends = np.cumsum([len(column) for column in columns])
    return coded.dictionary.to_pylist(), np.split(places, ends[:-1])
