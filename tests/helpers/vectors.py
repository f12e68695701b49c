"""Vectors as a row's slots hold them, and what a model makes of them in NumPy."""

import numpy as np


def slots_of(ids, numbers):
    """Slots `[B, 1 + n]` int32 of vectors: ids `[B]`, numbers `[B, n]`."""
    bits = np.asarray(numbers, np.float32).view(np.int32)
    return np.concatenate([np.asarray(ids, np.int32)[:, None], bits], axis=1)


def projected(table, kernel, ids, numbers):
    """e = E[id] + z W / sqrt(n), `[B, D]` float64, as the formula says it."""
    rows = []
    for i, z in zip(ids, np.asarray(numbers, np.float64)):
        total = table[i].copy()
        for z_j, w_j in zip(z, kernel):
            total += z_j * w_j / np.sqrt(len(z))
        rows.append(total)
    return np.array(rows)
