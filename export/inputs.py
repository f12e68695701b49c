"""What a signature refuses of a request before it reads a value of it."""

import tensorflow as tf


def held(features, inputs):
    """The inputs of a request, each of the shape that its signature states.

    TensorFlow's sessions do not look at shapes, so what is stated would be a wish: ids
    of one column would be taken for ids of every slot.

    Args:
        features: Name -> tensor.
        inputs: Name -> `tf.TensorSpec`.

    Returns:
        Name -> tensor; of int32 in int64, since a GPU keeps int32 in the host's memory.
        Any other shape fails with INVALID_ARGUMENT, by a message with the name, the
        shape that came and the one that is expected (`?` for any size).
    """
    wide = {
        name: tf.cast(value, tf.int64) if value.dtype == tf.int32 else value
        for name, value in features.items()
    }
    return {
        name: tf.ensure_shape(value, inputs[name].shape, name=f"expected_{name}")
        for name, value in wide.items()
    }


def same_rows(features, candidates=()):
    """Fails, naming the inputs, unless all have the same B, and candidates' the same N.

    Otherwise the message would be of some inner op, and two inputs of [2, 3] and
    [3, 2] would even be taken for one another.

    Args:
        features: Name -> tensor.
        candidates: The names of those that have `[B, N]` rows.
    """
    names = list(features)
    # One op an input where one will do: a small request is mostly their number.
    sizes = [
        tf.size(value) if value.shape.rank == 1 else tf.shape(value)[0]
        for value in features.values()
    ]
    names += [f"{name} (candidates)" for name in candidates]
    sizes += [tf.shape(features[name])[1] for name in candidates]
    rows = len(features)
    equal = tf.reduce_all(tf.equal(sizes[:rows], sizes[0]))
    if candidates:
        equal &= tf.reduce_all(tf.equal(sizes[rows:], sizes[rows]))
    return tf.debugging.Assert(
        equal,
        ["Inputs must have the same number of rows; received", names, sizes],
        summarize=len(sizes),
    )
