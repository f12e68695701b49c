"""The columns of a synthetic log: how values are drawn, what they hide, their text.

A value is a code: 0 where it is missing, else 1 or more. What a value means for a
click comes from a hash of its code, so nothing is stored for it.
"""

import numpy as np
import pyarrow as pa

# Distinct values of Criteo's C1..C26 (the Kaggle log, as DLRM's scripts have them).
SIZES = (
    *(1460, 583, 10_131_227, 2_202_608, 305, 24, 12_517, 633, 3, 93_145, 5683),
    *(8_351_593, 3194, 27, 14_992, 5_461_306, 10, 5652, 2173, 4, 7_046_547, 18),
    *(15, 286_181, 105, 142_572),
)
# Medians of I1..I13, some small and some large.
MEDIANS = (2, 3, 7, 4, 2000, 40, 4, 8, 50, 1, 3, 1, 5)
LARGEST_NUMBER = 9_999_999  # float32 holds it exactly
SUPPORT = 1 << 15  # codes looked at in one go
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
HEX = np.frombuffer(b"".join(b"%04x" % i for i in range(1 << 16)), np.uint32)


def stream(*keys):
    """A 64-bit number for each tuple of whole numbers, well mixed."""
    return np.random.SeedSequence(keys).generate_state(1, np.uint64)[0]


class Field:
    """What both kinds of field share: the hidden numbers of their values.

    Args:
        name: The column's name.
        number: The column's place, from 1.
        missing: Share of rows without a value.
        seed: Of all that is hidden.
    """

    def __init__(self, name, number, missing, seed):
        self.name = name
        self.missing = missing
        self.key = (seed, number)
        self.scales = {}

    def hidden(self, codes, component):
        """Hidden numbers of values, `[rows]`, mean 0 and variance 1 over the log.

        `component`, three whole numbers, tells apart those that one value has. Means
        are taken off so that a product of two fields' numbers says nothing of either
        field alone.
        """
        if component not in self.scales:
            self.scales[component] = self._moments(component)
        mean, deviation = self.scales[component]
        return (self._raw(codes, component) - mean) / deviation

    def _moments(self, component):
        total, squares = 0.0, 0.0
        for codes, shares in self._support():
            raw = self._raw(codes, component)
            total += raw @ shares
            squares += (raw * raw) @ shares
        return total, np.sqrt(squares - total**2)


class Strings(Field):
    """A column of 8-digit hex strings, distributed by Zipf's law.

    Args:
        upto: Share of the values up to each rank, `[values]` (`zipf`).
    """

    arrow_type = pa.string()

    def __init__(self, name, number, missing, seed, *, upto):
        super().__init__(name, number, missing, seed)
        self.upto = upto

    def draw(self, uniform):
        """Codes of draws from [0, 1): that of a value is its rank by frequency."""
        ranks = np.searchsorted(self.upto, _of_present(uniform, self.missing), "right")
        return np.where(uniform < self.missing, 0, ranks + 1)

    def _support(self):
        yield np.zeros(1, np.int64), np.full(1, self.missing)
        shares = (1 - self.missing) * np.diff(self.upto, prepend=0)
        for start in range(0, len(shares), SUPPORT):
            part = shares[start : start + SUPPORT]
            yield np.arange(start + 1, start + 1 + len(part)), part

    def _raw(self, codes, component):
        """Nearly normal: the sum of the four 16-bit parts of a hash."""
        mixed = codes.astype(np.uint64) * GOLDEN + stream(*self.key, *component)
        mixed = (mixed ^ (mixed >> 30)) * np.uint64(0xBF58476D1CE4E5B9)  # splitmix64
        mixed = (mixed ^ (mixed >> 27)) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> 31
        low = np.uint64(0x0000FFFF0000FFFF)
        halves = (mixed & low) + (mixed >> 16 & low)
        return ((halves & 0xFFFFFFFF) + (halves >> 32)).astype(np.float64)

    def values(self, codes):
        """The column, with null where the code is 0; distinct codes differ."""
        mixed = codes.astype(np.uint32) + np.uint32(stream(*self.key) >> np.uint64(32))
        mixed = (mixed ^ (mixed >> 16)) * np.uint32(0x85EBCA6B)  # MurmurHash3's last
        mixed = (mixed ^ (mixed >> 13)) * np.uint32(0xC2B2AE35)  # step, one to one
        mixed ^= mixed >> 16
        text = np.stack([HEX[mixed >> 16], HEX[mixed & 0xFFFF]], axis=1)  # [rows, 2]
        return pa.StringArray.from_buffers(
            len(codes),
            pa.py_buffer(np.arange(0, 8 * len(codes) + 1, 8, dtype=np.int32)),
            pa.py_buffer(text),
            pa.py_buffer(np.packbits(codes > 0, bitorder="little")),
        )


class Numbers(Field):
    """A column of whole numbers, 0 and up, log-logistic: half of them are below
    `median`, and few are very large. Hidden numbers are waves over log(1 + number).

    Args:
        median: Of the numbers.
    """

    arrow_type = pa.int64()

    def __init__(self, name, number, missing, seed, *, median):
        super().__init__(name, number, missing, seed)
        self.median = median

    def draw(self, uniform):
        """Codes of draws from [0, 1): that of a number is one more."""
        share = _of_present(uniform, self.missing)
        number = np.floor(self.median * share / (1 - share))
        number = np.minimum(number, LARGEST_NUMBER).astype(np.int64)
        return np.where(uniform < self.missing, 0, number + 1)

    def _support(self):
        uniform = (np.arange(SUPPORT) + 0.5) / SUPPORT
        yield self.draw(uniform), np.full(SUPPORT, 1 / SUPPORT)

    def _raw(self, codes, component):
        draws = np.random.default_rng(stream(*self.key, *component)).random(3)
        frequency, phase, missing = draws * [1, 2 * np.pi, 2] + [0.5, 0, -1]
        waves = np.sin(frequency * np.log(np.maximum(codes, 1)) + phase)
        return np.where(codes > 0, waves, missing)

    def values(self, codes):
        """The column, with null where the code is 0."""
        return pa.array(codes - 1, self.arrow_type, mask=codes == 0)


def zipf(values, exponent):
    """Share of the values up to each rank where that of rank r goes as r^-exponent."""
    upto = np.cumsum(np.arange(1, values + 1, dtype=np.float64) ** -exponent)
    return upto / upto[-1]


def criteo_fields(config):
    """The 39 fields of a log of `SyntheticConfig`.

    Every third field is never empty, and every third has twice the average share of
    missing values.
    """
    sizes = [min(size, config.values) for size in SIZES]
    upto = {size: zipf(size, config.exponent) for size in set(sizes)}  # shared
    fields = []
    for number in range(1, len(MEDIANS) + len(SIZES) + 1):
        common = (number, config.missing * ((number - 1) % 3), config.seed)
        if number <= len(MEDIANS):
            median = MEDIANS[number - 1]
            fields.append(Numbers(f"I{number}", *common, median=median))
        else:
            column = number - len(MEDIANS)
            shares = upto[sizes[column - 1]]
            fields.append(Strings(f"C{column}", *common, upto=shares))
    return fields


def _of_present(uniform, missing):
    """Draws from [0, 1), those below `missing` taken away, spread over [0, 1) again."""
    return np.maximum(uniform - missing, 0) / (1 - missing)
