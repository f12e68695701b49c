"""The hash that sends values without a row of their own to shared rows."""

import tensorflow as tf


def hash_bucket(values, num_buckets):
    """Bucket of each value, `[...]` strings or int64 -> `[...]` int64.

    FarmHash64 of the text modulo `num_buckets`: the same in every process, on every
    machine, in training and in serving.
    """
    if values.dtype != tf.string:
        values = tf.strings.as_string(values)
    return tf.strings.to_hash_bucket_fast(values, num_buckets)
