"""Logs in TFRecord files of tf.Example, as batches of the columns that are asked for.

What kind of list a feature is (text, whole numbers, floats) stands in each record. A
file must keep to one kind a column, as other containers do.
"""

import functools
import itertools
import os

import numpy as np
import pyarrow as pa

from edcn_tf.errors import InputError
from edcn_tf.framing import DAMAGED, record_dataset, refuse_damaged
from edcn_tf.logs import opening
from edcn_tf.logs.normalizing import MissingColumn

KINDS = {"bytes_list": "text", "int64_list": "whole numbers", "float_list": "floats"}


def read(path, schema, columns, progress):
    """Yields the rows of a file as `pyarrow.RecordBatch`.

    Args:
        path: The file's name.
        schema: The `Schema`: what is a list, and what may be inexact.
        columns: Names of the features to read.
        progress: Called with the number of bytes read since the last call.

    Raises:
        InputError: With the row, if a record is damaged, is no tf.Example, or has a
            feature that cannot be read right; if no record has one of the features.
    """
    import tensorflow as tf  # takes seconds: reading other logs does without

    [framing] = refuse_damaged([path])
    if not framing.records:
        return
    # As many bytes as of text: a row's list may have thousands of values.
    rows = opening.BLOCK_BYTES * framing.records // framing.size
    rows = min(max(rows, 1), opening.LOG_ROWS)
    records = record_dataset(path, framing)
    features = _Features(path, columns)
    fields = [(schema.column(field.name), field) for field in schema.inputs]
    lists = {column for column, field in fields if field.is_list or field.is_vector}
    size, done, told = os.path.getsize(path), 0, 0
    try:
        for batch in records.batch(rows):
            if not done:
                features.find(batch.numpy(), records.skip(rows).batch(rows))
            arrays = []
            for name, values in features.parsed(batch, done).items():
                column = _Column(values, path, name, done)
                arrays.append(column.lists() if name in lists else column.single())
            yield pa.RecordBatch.from_arrays(arrays, names=columns)
            done += len(batch)
            progress(size * done // framing.records - told)
            told = size * done // framing.records
    except tf.errors.DataLossError:
        raise InputError(f"{path}: record {_first_lost(records)} {DAMAGED}") from None


def header(path):
    """Names of the features of the first record."""
    features = _Features(path, [])
    for record in record_dataset(path).take(1):
        return sorted(features.example(record.numpy(), 1).features.feature)
    return []


def parsed_features(records, dtypes):
    """Features of tf.Examples by name: their values row by row, and how many each has.

    Args:
        records: `[B]` serialized.
        dtypes: Name -> `"string"`, `"int64"` or `"float32"`.

    Returns:
        Name -> `(values, lengths)`, arrays; None if one is no tf.Example, or has a
        feature of another type.
    """
    import tensorflow as tf

    parsing = {name: tf.io.RaggedFeature(getattr(tf, d)) for name, d in dtypes.items()}
    try:
        parsed = tf.io.parse_example(tf.constant(records, tf.string), parsing)
    except (tf.errors.InvalidArgumentError, UnicodeDecodeError):
        return None
    return {
        name: (column.flat_values.numpy(), column.row_lengths().numpy())
        for name, column in parsed.items()
    }


def _first_lost(records):
    """Number from 1 of the first record that TensorFlow finds damaged."""
    import tensorflow as tf

    number = 1
    try:
        for _ in records:
            number += 1
    except tf.errors.DataLossError:
        pass
    return number


class _Features:
    """Parses records, by the kinds that their features have.

    Args:
        path: The file's name.
        columns: Names of the features.
    """

    def __init__(self, path, columns):
        self.path, self.columns, self.kinds = path, columns, {}

    def find(self, first, others):
        """Finds the kind of each feature, that of its first list that is not empty.

        Args:
            first: Records, an array.
            others: Batches of the records after these, a `tf.data.Dataset`.
        """
        batches = itertools.chain([first], (batch.numpy() for batch in others))
        valued, empty = {}, {}
        for row, record in enumerate(itertools.chain.from_iterable(batches), 1):
            for name, feature in self.example(record, row).features.feature.items():
                if kind := feature.WhichOneof("kind"):
                    kinds = valued if _values(feature, kind) else empty
                    kinds.setdefault(name, kind)
            if all(name in valued for name in self.columns):
                break
        present = {**empty, **valued}
        if not all(name in present for name in self.columns):
            raise MissingColumn(self.path, self.columns, sorted(present))
        self.kinds = {name: present[name] for name in self.columns}

    def parsed(self, batch, done):
        """Name -> values, `[B, (number)]` ragged.

        Args:
            batch: Records, a tensor.
            done: Number of rows before them.
        """
        import tensorflow as tf

        dtypes = dict(zip(KINDS, (tf.string, tf.int64, tf.float32)))
        parsing = {
            name: tf.io.RaggedFeature(dtypes[kind]) for name, kind in self.kinds.items()
        }
        parse = functools.partial(tf.io.parse_example, features=parsing)
        refused = tf.errors.InvalidArgumentError, UnicodeDecodeError
        try:
            parsed = parse(batch)
        except refused:
            rows = enumerate(batch.numpy(), done + 1)
            records = [self._without_empty(record, row) for row, record in rows]
            try:
                parsed = parse(tf.constant(records))
            except refused:
                raise InputError(
                    f"{self.path}: row {done + 1}, or one of the {len(records) - 1:,} "
                    "after it, cannot be parsed as tf.Example"
                ) from None
        return {name: parsed[name] for name in self.columns}

    def _without_empty(self, record, row):
        """The record without empty lists of another kind than the column has."""
        example = self.example(record, row)
        features = example.features.feature
        for name, kind in self.kinds.items():
            other = features[name].WhichOneof("kind") if name in features else None
            if other not in (None, kind):
                if _values(features[name], other):
                    raise InputError(
                        f"{self.path}: row {row}, column {name!r}: expected "
                        f"{KINDS[kind]}, which the rows before have. Received: a list "
                        f"of {KINDS[other]}"
                    )
                del features[name]
        return example.SerializeToString()

    def example(self, record, row):
        """The tf.Example of a record."""
        import tensorflow as tf
        from google.protobuf.message import DecodeError

        try:
            return tf.train.Example.FromString(record)
        except DecodeError:
            raise InputError(f"{self.path}: row {row}: is no tf.Example") from None


def _values(feature, kind):
    return getattr(feature, kind).value


class _Column:
    """The values of a feature in a batch of rows."""

    def __init__(self, values, path, name, done):
        self.splits = values.row_splits.numpy()
        flat = values.flat_values.numpy()
        self.flat = pa.array(flat, pa.binary() if flat.dtype == object else None)
        self.path, self.name, self.done = path, name, done

    def lists(self):
        return pa.ListArray.from_arrays(pa.array(self.splits, pa.int32()), self.flat)

    def single(self):
        """A value a row; null where there is none."""
        numbers = np.diff(self.splits)
        if (numbers > 1).any():
            row = (numbers > 1).argmax()
            values = self.flat[self.splits[row] : self.splits[row + 1]].to_pylist()
            self._refuse(row, "holds lists, but the schema does not say so", values)
        return self.flat.take(pa.array(self.splits[:-1], mask=numbers == 0))

    def _refuse(self, row, expected, received):
        raise InputError(
            f"{self.path}: row {self.done + row + 1}, column {self.name!r}: "
            f"{expected}. Received: {received!r}"
        )
