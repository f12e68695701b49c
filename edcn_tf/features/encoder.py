"""Raw feature tensors to ids: the one encoder of training and of serving."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from edcn_tf.errors import InputError
from edcn_tf.features.crossing import crossed_tensors
from edcn_tf.features.hashing import hash_bucket
from edcn_tf.features.spec import FeatureSpec, FieldSpec
from edcn_tf.features.statistics.lookup import Statistics
from edcn_tf.field import MISSING, Field
from edcn_tf.schema import Schema

# A field has a dtype where its schema is whole.
TF_DTYPES: dict[str | None, tf.DType] = {
    "string": tf.string,
    "int64": tf.int64,
    "float32": tf.float32,
}
FURTHEST = 10.0  # standard deviations that a vector's number may be from its mean


class Encoder(tf.Module):
    """Turns the raw values of a batch of rows into ids of the fused table.

    Built of TensorFlow's own ops (static hash tables, hashing, bucketizing), so the
    same object runs in a `tf.data` pipeline and inside a SavedModel: training and
    serving cannot disagree. The vocabularies become assets of the SavedModel.

    Args:
        spec: The `FeatureSpec`.
    """

    def __init__(self, spec: FeatureSpec) -> None:
        super().__init__(name="encoder")
        self.spec = spec
        self.tables = {
            field.field.name: _lookup_table(field)
            for field in spec.fields
            if field.vocabulary and field.vocabulary.stat().st_size
        }
        self.statistics = Statistics(spec) if spec.counters else None

    def signature(self) -> dict[str, tf.TensorSpec]:
        """Name -> `tf.TensorSpec` of the raw features that a request holds.

        `[B]` for a single value, `[B, length]` for lists (any length; the shorter
        ones filled up with missing values) and vectors (the field's `length`). A
        missing value is the empty string, NaN, or the smallest int64; a missing vector
        is NaN throughout. Sequences along another have its length.
        """
        return {
            field.name: tf.TensorSpec(
                [None, *inner_shape(field)], TF_DTYPES[field.dtype], name=field.name
            )
            for field in self.spec.schema.inputs
        }

    def parsing(self) -> dict[str, tf.io.FixedLenFeature | tf.io.RaggedFeature]:
        """`parsing_of_fields` of its schema."""
        return parsing_of_fields(self.spec.schema)

    def __call__(
        self,
        features: Mapping[str, tf.Tensor | tf.RaggedTensor],
        names: Collection[str] | None = None,
    ) -> tf.Tensor:
        """Encodes a batch.

        Args:
            features: Name -> tensor `[B]`, or `[B, length]` (dense or ragged) for a
                multi-valued field, a sequence or a vector (dense). A statistic may be
                among them (`Statistics`), and is looked up where it is not.
            names: The fields to encode; all of the schema by default. Of a cross or a
                statistic those that it is of must be among the features.

        Returns:
            ids `[B, S]` int32: each field's slots side by side, in the schema's
            order, 0 in unused ones. A vector has its id and then the bits of its
            numbers, standardized and as float32 (`tf.bitcast`).
        """
        fields = [
            spec
            for spec in self.spec.fields
            if names is None or spec.field.name in names
        ]
        # Together what can be: many small ops are most of the time of a small request.
        groups: dict[tuple[bool, str | None], list[int]] = {}
        blocks, order = [], []  # order: which fields the blocks hold
        counted: list[int] = []
        sequences = self._encode_sequences(fields, features)
        for number, spec in enumerate(fields):
            if spec.field.kind == "sequence":
                blocks.append(sequences[spec.field.name])
                order.append(number)
            elif spec.field.is_vector:
                blocks.append(self._encode_vector(spec, features[spec.field.name]))
                order.append(number)
            elif spec.field.is_statistic:
                counted.append(number)
            elif spec.field.multiple:
                blocks.append(self._encode_list(spec, features[spec.field.name]))
                order.append(number)
            else:
                kind = (spec.field.has_ranges, spec.field.dtype)
                groups.setdefault(kind, []).append(number)
        if counted:
            assert self.statistics is not None, "a spec of statistics has counters"
            blocks.append(self.statistics([fields[i] for i in counted], features))
            order += counted
        for numbers in groups.values():
            group = [fields[number] for number in numbers]
            values = [_values_of(spec.field, features) for spec in group]
            blocks.append(tf.cast(self._encode(group, values), tf.int32))
            order += numbers
        ids = tf.concat(blocks, axis=1)
        if order == sorted(order):
            return ids
        return tf.gather(ids, _slots_in_order(fields, order), axis=1)

    def _encode(
        self, specs: Sequence[FieldSpec], values: Sequence[tf.Tensor]
    ) -> tf.Tensor:
        """Rows `[..., fields]` int64 of fields of one kind and dtype."""
        places = tf.stack([self._place(*pair) for pair in zip(specs, values)], axis=-1)
        values = tf.stack(values, axis=-1)
        if specs[0].field.dtype == "float32":
            missing = tf.math.is_nan(values)
        else:
            missing = tf.equal(values, MISSING[specs[0].field.dtype])
        first = tf.constant([spec.first_value for spec in specs], tf.int64)
        offset = tf.constant([spec.offset for spec in specs], tf.int64)
        return tf.where(missing, offset, first + tf.cast(places, tf.int64))

    def _place(self, spec: FieldSpec, values: tf.Tensor) -> tf.Tensor:
        """Row of each value, counted from the field's first value's.

        The rows before that are those of unseen values, so theirs are negative.
        """
        if spec.field.has_ranges:
            values = tf.cast(values, tf.float32)
            return tf.raw_ops.Bucketize(
                input=values, boundaries=list(spec.boundaries or ())
            )
        spec = spec.owner
        if not spec.vocabulary:
            return hash_bucket(values, spec.field.hash_buckets)
        table = self.tables.get(spec.field.name)
        if table is None:  # none can be made of an empty file: all is unseen
            places = tf.fill(tf.shape(values), tf.constant(-1, tf.int64))
        else:
            places = table.lookup(values)
        unseen_rows = spec.field.unseen_rows
        if unseen_rows == 1:
            return places
        hashed = hash_bucket(values, unseen_rows) - unseen_rows
        return tf.where(places < 0, hashed, places)

    def _encode_list(
        self, spec: FieldSpec, values: tf.Tensor | tf.RaggedTensor
    ) -> tf.Tensor:
        """Rows `[B, max_length]` int32; that of "missing" alone for an empty list."""
        present = _is_present(values, spec.field.dtype)
        return self._rows_of_lists(spec, tf.ragged.boolean_mask(values, present))

    def _encode_vector(self, spec: FieldSpec, values: tf.Tensor) -> tf.Tensor:
        """Slots `[B, 1 + length]` int32: the row, and the bits of

            z_i = (x_i - mean_i) / deviation_i, cut off at 10 deviations to each side

        or of 0 where the vector is missing, or all vectors of the training split have
        the same number.
        """
        with tf.control_dependencies([whole_vectors(spec.field, values)]):
            values = tf.ensure_shape(values, [None, spec.field.length])
        missing = tf.math.is_nan(values[:, :1])
        deviation = tf.constant(spec.deviation, tf.float32)
        apart = values - tf.constant(spec.mean, tf.float32)
        numbers = tf.math.divide_no_nan(apart, deviation)
        numbers = tf.clip_by_value(numbers, -FURTHEST, FURTHEST)
        numbers = tf.where(missing, 0.0, numbers)
        row = tf.where(missing, spec.offset, spec.first_value)
        return tf.concat([row, tf.bitcast(numbers, tf.int32)], axis=1)

    def _encode_sequences(
        self,
        fields: Sequence[FieldSpec],
        features: Mapping[str, tf.Tensor | tf.RaggedTensor],
    ) -> dict[str, tf.Tensor]:
        """Name -> rows `[B, max_length]` int32 of each sequence's newest values.

        Oldest first. Where a sequence has no value, those along it have no place.
        """
        specs, encoded = {spec.field.name: spec for spec in fields}, {}
        for group in self.spec.schema.sequences:
            if group[0].name not in specs:
                continue
            main = features[group[0].name]
            present = _is_present(main, group[0].dtype)
            for field in group:
                values = features[field.name]
                same = same_lengths(group[0], main, field, values)
                with tf.control_dependencies([same]):
                    values = tf.ragged.boolean_mask(values, present)
                newest = values[:, -field.slots :]
                encoded[field.name] = self._rows_of_lists(specs[field.name], newest)
        return encoded

    def _rows_of_lists(self, spec: FieldSpec, values: tf.RaggedTensor) -> tf.Tensor:
        """Ragged values -> `[B, max_length]` int32, 0 in unused slots."""
        rows = self._encode([spec], [values.flat_values])[:, 0]
        rows = values.with_flat_values(rows)
        rows = rows.to_tensor(shape=[None, spec.field.max_length])  # 0 is padding
        empty = tf.equal(values.row_lengths(), 0)
        first = tf.where(empty, tf.constant(spec.offset, tf.int64), rows[:, 0])
        rows = tf.concat([first[:, tf.newaxis], rows[:, 1:]], axis=1)
        return tf.cast(rows, tf.int32)


def _values_of(
    field: Field, features: Mapping[str, tf.Tensor | tf.RaggedTensor]
) -> tf.Tensor:
    if field.parts:
        return crossed_tensors(features, field)
    return features[field.name]


def inner_shape(field: Field) -> list[int | None]:
    """Shape of the raw values of one row: of a single value, a list or a vector."""
    if field.is_vector:
        return [field.length]
    return [None] if field.is_list else []


def _is_present(
    values: tf.Tensor | tf.RaggedTensor, dtype: str | None
) -> tf.Tensor | tf.RaggedTensor:
    """Of each value, dense or ragged, whether it is not missing."""
    if isinstance(values, tf.RaggedTensor):
        return values.with_flat_values(_is_present(values.flat_values, dtype))
    if dtype == "float32":
        return tf.logical_not(tf.math.is_nan(values))
    return tf.not_equal(values, MISSING[dtype])


def same_lengths(
    main: Field,
    of_main: tf.Tensor | tf.RaggedTensor,
    field: Field,
    values: tf.Tensor | tf.RaggedTensor,
) -> tf.Operation:
    """Fails unless a sequence has the lengths of the one that it is along."""
    if field is main:
        return tf.no_op()
    told = f"{field.name} must have as many values in each row as {main.name}"
    if isinstance(values, tf.RaggedTensor):
        lengths = [values.row_splits, of_main.row_splits]
    else:
        lengths = [tf.shape(values), tf.shape(of_main)]
    same = tf.reduce_all(tf.equal(*lengths))
    return tf.debugging.Assert(same, [told])


def whole_vectors(field: Field, values: tf.Tensor) -> tf.Operation:
    """Fails unless each vector `[B, length]` is all there, or missing as a whole."""
    told = f"{field.name} must be {field.length} finite numbers, or NaN throughout"
    # By its size: a request's shape may be another than the graph takes it to be.
    fits = tf.equal(tf.size(values), tf.shape(values)[0] * field.length)
    there = tf.reduce_all(tf.math.is_finite(values), axis=-1)
    missing = tf.reduce_all(tf.math.is_nan(values), axis=-1)
    fits &= tf.reduce_all(there | missing)
    return tf.debugging.Assert(fits, [told, "; received shape", tf.shape(values)])


def parsing_of_fields(
    schema: Schema,
) -> dict[str, tf.io.FixedLenFeature | tf.io.RaggedFeature]:
    """Name -> how `tf.io.parse_example` reads that input of a tf.Example.

    A statistic is one that need not be there.
    """
    parsing = {
        field.name: tf.io.FixedLenFeature(
            [2 * len(field.counted)],
            tf.float32,
            default_value=[MISSING["float32"]] * (2 * len(field.counted)),
        )
        for field in schema.statistics
    }
    return parsing | {
        field.name: tf.io.RaggedFeature(TF_DTYPES[field.dtype])
        if field.is_list
        else tf.io.FixedLenFeature(
            inner_shape(field),
            TF_DTYPES[field.dtype],
            default_value=_missing(field),
        )
        for field in schema.inputs
    }


def _missing(field: Field) -> Any:
    value = MISSING[field.dtype]
    return [value] * field.length if field.length else value


def _slots_in_order(fields: Sequence[FieldSpec], order: Sequence[int]) -> list[int]:
    """Where each slot is, of fields whose slots stand in another order: `[S]`."""
    ends = np.cumsum([fields[number].field.slots for number in order])
    found = dict(zip(order, ends))
    return [
        found[number] - spec.field.slots + slot
        for number, spec in enumerate(fields)
        for slot in range(spec.field.slots)
    ]


def _lookup_table(spec: FieldSpec) -> tf.lookup.StaticHashTable:
    """Value -> its line in the vocabulary file, -1 for a value that is not there."""
    if spec.field.dtype == "string":
        key_index = tf.lookup.TextFileIndex.WHOLE_LINE
    else:
        key_index = 0
    try:
        return tf.lookup.StaticHashTable(
            _VocabularyFile(
                str(spec.vocabulary),
                key_dtype=TF_DTYPES[spec.field.dtype],
                key_index=key_index,
                value_dtype=tf.int64,
                value_index=tf.lookup.TextFileIndex.LINE_NUMBER,
            ),
            default_value=-1,
        )
    except (tf.errors.OpError, UnicodeDecodeError) as error:
        raise InputError(
            f"{spec.vocabulary}: must hold different values of {spec.field.dtype}, one "
            f"a line ({' '.join(str(error).split())[:200]})"
        ) from None


class _VocabularyFile(tf.lookup.TextFileInitializer):
    """A text file whose path does not become part of the table's name.

    By default it does, and would then stand in every SavedModel; without a name the
    table gets a random one.
    """

    _shared_name = ""
