"""Random numbers that belong to the rows of a log, not to the order of drawing.

A row's numbers are a hash of the seed and of where the row stands, so that they are
the same in whatever batches, by however many processes and on whichever machine the
log is read.
"""

import numpy as np

# What numbers are drawn for; the sample of field i has FIRST_FIELD + i.
SPLIT, NEGATIVES, FIRST_FIELD = 0, 1, 2
ORDER = 1 << 32  # of rows without a time, in which statistics are counted
GAMMA = np.uint64(0x9E3779B97F4A7C15)


def row_keys(seed, log, first_row, rows):
    """A key for each of some rows that follow each other in a log.

    Args:
        seed: Seed of everything that is drawn for these logs.
        log: Number of the log among the logs.
        first_row: Number of the first of the rows in its log, from 0.
        rows: How many rows.

    Returns:
        `[rows]` uint64. The keys of one log are all different: they are the outputs
        of SplitMix64, in order.

    Reference:
        Steele, Lea and Flood 2014, "Fast Splittable Pseudorandom Number Generators".
    """
    state = _mixed(_mixed(np.array([seed % 2**64], np.uint64) + GAMMA) + np.uint64(log))
    places = np.arange(first_row + 1, first_row + rows + 1, dtype=np.uint64)
    return _mixed(state + GAMMA * places)


def draws(keys, purpose):
    """A number for each key, uniform in [0, 1): `[rows]` uint64 -> `[rows]` float64.

    Numbers drawn for different purposes (any whole numbers, not negative) are
    independent of each other.
    """
    bits = _mixed(keys ^ _mixed(np.array([purpose + 1], np.uint64)))
    return (bits >> np.uint64(11)) * 2.0**-53


def _mixed(bits):
    """Each number's 64 bits, well mixed (the finalizer of SplitMix64)."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
