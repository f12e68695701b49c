"""Statistics by a loop over the rows, one at a time, from their definition."""


def keys_of(row, of):
    """The keys of a row, a dict of column -> value: a list makes several."""
    keys = [()]
    for name in of:
        values = row[name].split("|") if name == "tags" else [str(row[name])]
        keys = [(*key, value) for key in keys for value in values if value != ""]
    return keys


def counts(rows, of, asked, known, order, half_life=None):
    """Clicks and impressions of a row's keys, of the rows whose order is below `known`.

    Args:
        rows: Those that count.
        of: Names of columns.
        asked: The row.
        known: A row counts if it comes before that.
        order: Row -> its time, or its place.
        half_life: In the unit of the times, or None.
    """
    clicks = shown = 0.0
    for key in keys_of(asked, of):
        for row in rows:
            if order(row) < known:
                age = (
                    1.0
                    if half_life is None
                    else 0.5 ** ((known - order(row)) / half_life)
                )
                times = keys_of(row, of).count(key) * age
                clicks += times * row["label"] * row.get("weight", 1)
                shown += times * row.get("weight", 1)
    return [clicks, shown]


def levels(of):
    """All fields, all but the last, ... the first alone."""
    return [of[:end] for end in range(len(of), 0, -1)]
