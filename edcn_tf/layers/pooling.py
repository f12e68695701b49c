"""From the slots of a row to its fields: lists are pooled."""

from keras import ops


def pooled(embeddings, ids, fields):
    """`[B, S, D]` of the fields' slots -> `[B, F, D]`."""
    if all(field["slots"] == 1 for field in fields):
        return embeddings
    # By way of bool: TensorFlow compares and slices int32 in the host's memory.
    used = ops.cast(ops.cast(ids, "bool"), embeddings.dtype)  # [B, S]
    pooled = []
    for start, stop, field in _runs(fields):
        part = embeddings[:, start:stop]
        if field is not None:
            part = _pool(part, used[:, start:stop], field["pooling"])
        pooled.append(part)
    return ops.concatenate(pooled, axis=1)


def _runs(fields):
    """(start, stop, field): each list, and each run of fields of one slot."""
    start = stop = 0
    for field in fields:
        if field["slots"] == 1:
            stop += 1
            continue
        if stop > start:
            yield start, stop, None
        start, stop = stop, stop + field["slots"]
        yield start, stop, field
        start = stop
    if stop > start:
        yield start, stop, None


def _pool(embeddings, used, pooling):
    """`[B, length, D]` -> `[B, 1, D]`, of the slots that are used."""
    if pooling == "mean":
        used /= ops.maximum(ops.sum(used, axis=1, keepdims=True), 1)
    return ops.sum(embeddings * used[:, :, None], axis=1, keepdims=True)
