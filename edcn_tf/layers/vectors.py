"""Vectors among the slots of a row, and what they add to their field's embedding."""

import math

import tensorflow as tf
from keras import ops


def parted(slots, fields):
    """Ids and numbers apart.

    Args:
        slots: `[B, S]` int32, in which a vector has its id and the bits of its numbers.
        fields: The fields in that order, as `FieldEmbedding` takes them.

    Returns:
        ids `[B, S']`; the fields, each with as many slots as it has ids; name of a
        vector -> its numbers, `[B, n]` float32, 0 where it is missing.
    """
    if not any("vector" in field for field in fields):
        return slots, fields, {}
    # As floats, and ids as int64: TensorFlow takes apart int32 in the host's memory.
    numbers, slots = tf.bitcast(slots, tf.float32), ops.cast(slots, "int64")
    columns, without, vectors, end = [], [], {}, 0
    for field in fields:
        start, end = end, end + field["slots"]
        if "vector" in field:
            is_there = ops.equal(slots[:, start : start + 1], field["vector"])
            vector = ops.where(is_there, numbers[:, start + 1 : end], 0.0)
            vectors[field["name"]] = vector
            field = {**field, "slots": 1}
        columns += range(start, start + field["slots"])
        without.append(field)
    ids = tf.gather(slots, columns, axis=1)
    return ops.cast(ids, "int32"), without, vectors


def with_projections(embeddings, fields, vectors, projections):
    """The embeddings of a row's ids, those of vectors with z W / sqrt(n) added.

    Args:
        embeddings: `[B, S', D]`.
        fields: As `parted` gives them, or some of these.
        vectors: Name -> z, `[B, n]`, where n may differ.
        projections: Name -> W, `[n, D]`.
    """
    pieces, done, slot = [], 0, 0
    for field in fields:
        if field["name"] in vectors:
            numbers = vectors[field["name"]]
            projected = ops.matmul(numbers, projections[field["name"]])
            projected /= math.sqrt(numbers.shape[1])
            pieces.append(embeddings[:, done:slot])
            pieces.append(embeddings[:, slot : slot + 1] + projected[:, None])
            done = slot + 1
        slot += field["slots"]
    if not pieces:
        return embeddings
    return ops.concatenate([*pieces, embeddings[:, done:]], axis=1)


def squares(ids, inverse_counts, fields, projections):
    """The sum of ||W||^2 / count(id) over the vectors that are there, `[B]`.

    Args:
        ids, fields: As `parted` gives them.
        inverse_counts: `[B, S']`, those of the ids.
        projections: As for `with_projections`.
    """
    total, slot = 0.0, 0
    for field in fields:
        if "vector" in field:
            is_there = ops.equal(ids[:, slot], field["vector"])
            each = inverse_counts[:, slot] * ops.cast(is_there, inverse_counts.dtype)
            total += ops.sum(ops.square(projections[field["name"]])) * each
        slot += field["slots"]
    return total
