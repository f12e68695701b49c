"""From the slots of a row to its fields: lists are pooled, or left whole."""

from keras import ops

LEFT_OUT = "left out"


def pooled(embeddings, ids, fields, left_out=()):
    """`[B, S, D]` of the fields' slots -> `[B, F, D]`, of all fields but some."""
    if all(field["slots"] == 1 for field in fields) and not left_out:
        return embeddings
    used = _used(ids, embeddings.dtype)
    parts = []
    for start, stop, field in _runs(fields, left_out):
        part = embeddings[:, start:stop]
        if field is not None:
            part = _pool(part, used[:, start:stop], field["slots"], field["pooling"])
        parts.append(part)
    return ops.concatenate(parts, axis=1) if parts else embeddings[:, :0]


def whole(embeddings, ids, fields, names):
    """Lists of equal length as they are, position by position.

    Args:
        embeddings, ids, fields: As for `pooled`.
        names: Of the lists; the first says which positions are used.

    Returns:
        Their embeddings side by side, `[B, length, P * D]`, zeros in unused slots, and
        which positions are used, `[B, length]` bool.
    """
    places = {field["name"]: slice(start, stop) for start, stop, field in _each(fields)}
    is_used = ops.cast(ids, "bool")
    used = ops.cast(is_used, embeddings.dtype)
    parts = [embeddings[:, places[n]] * used[:, places[n], None] for n in names]
    return ops.concatenate(parts, axis=2), is_used[:, places[names[0]]]


def _used(ids, dtype):
    # By way of bool: TensorFlow compares and slices int32 in the host's memory.
    return ops.cast(ops.cast(ids, "bool"), dtype)  # [B, S]


def _each(fields):
    """(start, stop, field) of each field."""
    start = 0
    for field in fields:
        yield start, start + field["slots"], field
        start += field["slots"]


def _runs(fields, left_out):
    """(start, stop, field): each run of fields that are pooled alike, and one of them.

    Of fields that are not, which have one slot each, None in its place.
    """
    run = None
    for start, stop, field in _each(fields):
        if field["name"] in left_out:
            kind = LEFT_OUT
        else:
            kind = None if field["slots"] == 1 else (field["slots"], field["pooling"])
        if run and run[2] == kind:
            run[1] = stop
            continue
        if run and run[2] != LEFT_OUT:
            yield run[0], run[1], run[3]
        run = [start, stop, kind, field if kind else None]
    if run and run[2] != LEFT_OUT:
        yield run[0], run[1], run[3]


def _pool(embeddings, used, slots, pooling):
    """`[B, n * slots, D]` -> `[B, n, D]`, of the slots that are used."""
    width = embeddings.shape[-1]
    fields = embeddings.shape[1] // slots
    used = ops.reshape(used, (-1, fields, slots))
    if pooling == "mean":
        used /= ops.maximum(ops.sum(used, axis=2, keepdims=True), 1)
    embeddings = ops.reshape(embeddings, (-1, fields, slots, width))
    return ops.sum(embeddings * used[..., None], axis=2)
