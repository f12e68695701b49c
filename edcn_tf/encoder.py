"""Raw feature tensors to ids: the one encoder of training and of serving."""

import numpy as np
import tensorflow as tf

from edcn_tf.hashing import hash_bucket

# What stands for a missing value where a tensor needs one.
MISSING = {"string": "", "int64": np.iinfo(np.int64).min, "float32": float("nan")}
TF_DTYPES = {"string": tf.string, "int64": tf.int64, "float32": tf.float32}


class Encoder(tf.Module):
    """Turns the raw values of a batch of rows into ids of the fused table.

    Built of TensorFlow's own ops (static hash tables, hashing, bucketizing), so the
    same object runs in a `tf.data` pipeline and inside a SavedModel: training and
    serving cannot disagree. The vocabularies become assets of the SavedModel.

    Args:
        spec: The `FeatureSpec`.
    """

    def __init__(self, spec):
        super().__init__(name="encoder")
        self.spec = spec
        self.tables = {
            field.field.name: _lookup_table(field)
            for field in spec.fields
            if field.vocabulary and field.vocabulary.stat().st_size
        }

    def signature(self):
        """Name -> `tf.TensorSpec` of the raw features that a request holds.

        `[B]` for a single value, `[B, length]` for lists (any length; the shorter
        ones filled up with missing values). A missing value is the empty string,
        NaN, or the smallest int64.
        """
        return {
            field.name: tf.TensorSpec(
                [None, None] if field.multiple else [None],
                TF_DTYPES[field.dtype],
                name=field.name,
            )
            for field in self.spec.schema.fields
        }

    def parsing(self):
        """Name -> how `tf.io.parse_example` reads that feature of a tf.Example."""
        return {
            field.name: tf.io.RaggedFeature(TF_DTYPES[field.dtype])
            if field.multiple
            else tf.io.FixedLenFeature(
                [], TF_DTYPES[field.dtype], default_value=MISSING[field.dtype]
            )
            for field in self.spec.schema.fields
        }

    def __call__(self, features):
        """Encodes a batch.

        Args:
            features: Name -> tensor `[B]`, or `[B, length]` (dense or ragged) for a
                multi-valued field.

        Returns:
            ids `[B, S]` int32: each field's slots side by side, 0 in unused ones.
        """
        ids = []
        for spec in self.spec.fields:
            values = features[spec.field.name]
            if spec.field.multiple:
                ids.append(self._encode_list(spec, values))
            else:
                ids.append(tf.cast(self._encode(spec, values), tf.int32)[:, tf.newaxis])
        return tf.concat(ids, axis=1)  # [B, S]

    def _encode(self, spec, values):
        """Rows of values of any shape, int64."""
        if spec.field.kind == "numeric":
            return _encode_numbers(spec, values)
        if spec.vocabulary:
            table = self.tables.get(spec.field.name)
            if table is None:  # none can be made of an empty file: all is unseen
                rows = tf.fill(tf.shape(values), tf.constant(-1, tf.int64))
            else:
                rows = table.lookup(values)
            unseen = tf.constant(spec.first_unseen, tf.int64)
            if spec.field.unseen_rows > 1:
                unseen += hash_bucket(values, spec.field.unseen_rows)
            rows = tf.where(rows < 0, unseen, rows + spec.first_value)
        else:
            rows = spec.first_value + hash_bucket(values, spec.field.hash_buckets)
        missing = tf.equal(values, MISSING[spec.field.dtype])
        return tf.where(missing, tf.constant(spec.offset, tf.int64), rows)

    def _encode_list(self, spec, values):
        """Rows `[B, max_length]` int32; that of "missing" alone for an empty list."""
        missing = MISSING[spec.field.dtype]
        if isinstance(values, tf.RaggedTensor):
            present = values.with_flat_values(tf.not_equal(values.flat_values, missing))
        else:
            present = tf.not_equal(values, missing)
        values = tf.ragged.boolean_mask(values, present)
        rows = values.with_flat_values(self._encode(spec, values.flat_values))
        rows = rows.to_tensor(shape=[None, spec.field.max_length])  # 0 is padding
        empty = tf.equal(values.row_lengths(), 0)
        first = tf.where(empty, tf.constant(spec.offset, tf.int64), rows[:, 0])
        rows = tf.concat([first[:, tf.newaxis], rows[:, 1:]], axis=1)
        return tf.cast(rows, tf.int32)


def _encode_numbers(spec, values):
    if spec.field.dtype == "int64":
        missing = tf.equal(values, MISSING["int64"])
        values = tf.cast(values, tf.float32)
    else:
        missing = tf.math.is_nan(values)
    ranges = tf.raw_ops.Bucketize(input=values, boundaries=list(spec.boundaries))
    rows = spec.first_value + tf.cast(ranges, tf.int64)
    return tf.where(missing, tf.constant(spec.offset, tf.int64), rows)


def _lookup_table(spec):
    """Value -> its line in the vocabulary file, -1 for a value that is not there."""
    if spec.field.dtype == "string":
        key_index = tf.lookup.TextFileIndex.WHOLE_LINE
    else:
        key_index = 0
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


class _VocabularyFile(tf.lookup.TextFileInitializer):
    """A text file whose path does not become part of the table's name.

    By default it does, and would then stand in every SavedModel; without a name the
    table gets a random one.
    """

    _shared_name = ""
