"""tf.Examples to columns, and what a record must be for that."""

import tensorflow as tf

from edcn_tf.features.encoder import parsing_of_fields, same_lengths, whole_vectors


def parsing_of(schema, group):
    """Name -> how `tf.io.parse_example` reads that feature, label and roles too."""
    parsing = parsing_of_fields(schema)
    parsing[schema.label] = tf.io.FixedLenFeature([], tf.int64)
    if schema.weight:
        parsing[schema.weight] = tf.io.FixedLenFeature([], tf.float32)
    if group and schema.group not in parsing:
        parsing[schema.group] = tf.io.FixedLenFeature([], tf.string, default_value="")
    return parsing


def parsed(records, parsing, schema, counted=False):
    """Parses a batch of tf.Examples and checks its labels and weights.

    Args:
        records: `[B]` serialized.
        parsing: Of `parsing_of`.
        schema: The `Schema`.
        counted: Whether every record has to hold its statistics.
    """
    columns = tf.io.parse_example(records, parsing)
    label = columns[schema.label]
    checks = [
        tf.debugging.Assert(
            tf.reduce_all((label == 0) | (label == 1)),
            [f"the label {schema.label!r} must be 0 or 1; received", label],
        )
    ]
    if schema.weight:
        weight = columns[schema.weight]
        told = f"the weight {schema.weight!r} must be finite, at least 0; received"
        good = tf.reduce_all((weight >= 0) & tf.math.is_finite(weight))
        checks.append(tf.debugging.Assert(good, [told, weight]))
    checks += [
        same_lengths(main, columns[main.name], field, columns[field.name])
        for main, *others in schema.sequences
        for field in others
    ]
    checks += [
        whole_vectors(field, columns[field.name])
        for field in schema.fields
        if field.is_vector
    ]
    if counted:
        checks += [_has_counts(field.name, columns) for field in schema.statistics]
    with tf.control_dependencies([check for check in checks if check is not None]):
        return {name: tf.identity(column) for name, column in columns.items()}


def _has_counts(name, columns):
    """Fails unless all records hold a statistic.

    Looked up in the end, it would tell of a training row what came after it, and its
    own label.
    """
    there = tf.reduce_all(tf.math.is_finite(columns[name]))
    told = f"a training row must hold {name!r} as it was before it: `edcn prepare`"
    return tf.debugging.Assert(there, [told])
