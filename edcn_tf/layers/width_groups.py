"""Which fields share a table: those of the same width."""

from typing import NamedTuple

import numpy as np


class Group(NamedTuple):
    """The fields of one width.

    `width` is theirs, `has` says of each field whether it is one of them, `rows` is
    the size of their table, and `shifts` has how far each field's rows are moved to
    the front in it.
    """

    width: int
    has: list
    rows: int
    shifts: np.ndarray | None


def groups_of(fields, widths, num_rows):
    """For each width: which fields have it, where its table has their rows."""
    if len(set(widths)) == 1:
        everything = [True] * len(fields)
        return [Group(widths[0], everything, num_rows, None)]
    if any("rows" not in field for field in fields):
        raise ValueError(
            "Fields of unequal width each need `rows`, the size of their range. "
            f"Received: {fields}"
        )
    owners = [field.get("of") or field["name"] for field in fields]
    names = [field["name"] for field in fields]
    of = np.array([names.index(owner) for owner in owners])  # whose rows each has
    own_rows = of == np.arange(len(fields))
    if any(widths[i] != widths[of[i]] for i in range(len(fields))):
        raise ValueError(
            "A sequence has the embeddings of the field that it is `of`, so both must "
            f"have one width. Received: {dict(zip(names, widths))}"
        )
    rows = np.where(own_rows, [field["rows"] for field in fields], 0)
    if rows.sum() + 1 != num_rows:
        raise ValueError(
            f"The fields' `rows` must add up to {num_rows - 1}, num_rows but "
            f"for padding. Received: {rows.tolist()}"
        )
    firsts = 1 + np.cumsum(rows) - rows  # in the table of all rows
    groups = []
    for width in sorted(set(widths)):
        mine = np.array(widths) == width
        own = np.where(mine, rows, 0)
        shifts = (firsts - (1 + np.cumsum(own) - own))[of]
        groups.append(Group(width, mine.tolist(), int(own.sum()) + 1, shifts))
    return groups
