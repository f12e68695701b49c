"""A log with the shape of Criteo's, for measuring speed; nothing can be learned of it.

A stand-in: it has Criteo's 40 columns and about its lengths and skew, but its values
and labels are drawn independently.
"""

import numpy as np
import pyarrow as pa
import pyarrow.csv

CHUNK = 100_000


def write_criteo_like(path, rows, seed=0):
    """Writes a tab-separated log without header: label, 13 integers, 26 hex strings."""
    random = np.random.default_rng(seed)
    with open(path, "wb") as file:
        for start in range(0, rows, CHUNK):
            table = _chunk(random, min(CHUNK, rows - start))
            pa.csv.write_csv(
                table,
                file,
                pa.csv.WriteOptions(
                    include_header=False, delimiter="\t", quoting_style="none"
                ),
            )


def _chunk(random, rows):
    columns = {"label": pa.array((random.random(rows) < 0.25).astype(np.int8))}
    for i in range(13):
        values = np.floor(random.lognormal(2, 2, rows)).astype(np.int64)
        columns[f"I{i + 1}"] = pa.array(values, mask=random.random(rows) < 0.2)
    for i in range(26):
        drawn = random.zipf(1.2, rows) % 10_000_000
        values = np.char.mod("%08x", drawn * 2654435761 % 2**32)
        columns[f"C{i + 1}"] = pa.array(values, mask=random.random(rows) < 0.05)
    return pa.table(columns)
