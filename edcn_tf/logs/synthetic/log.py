"""A click log in Criteo's format of which the best possible scores are known."""

import dataclasses
import math
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from edcn_tf.checks import check_between
from edcn_tf.errors import InputError
from edcn_tf.logs.formats import TEXT
from edcn_tf.logs.synthetic.fields import criteo_fields, stream

CHUNK = 1 << 14  # rows drawn together
CALIBRATION = 8  # chunks that the intercept and the strengths are found on
NAMES = (TEXT["criteo"].names or ())[1:]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SyntheticConfig:
    """What a synthetic log is made of.

    The log odds of a click are

        intercept + first_order A + second_order B + third_order C + noise e

    where A, B, C have mean 0 and variance 1 (those of B and C as measured on a sample
    of 131,072 rows, which also decides the intercept) and e is normal: A sums one
    hidden number for each field's value, B the products of two values' hidden vectors
    over `pairs` of fields, C those of three over `triples`. Nothing in B can be seen
    in one field alone, nor anything of C in two, and no feature tells of e.

    Args:
        seed: Of the hidden numbers and of the rows.
        click_rate: Expected share of clicks, met to about 0.001 by the intercept.
        first_order, second_order, third_order: Strength of A, B and C.
        noise: Strength of e.
        exponent: Of Zipf's law, by which the strings of each field are distributed.
        values: Most values of a field; Criteo's largest has ten million.
        missing: Average share of missing values in a field.
        rank: Length of the hidden vectors.
        pairs, triples: Names of the fields that interact.

    Raises:
        InputError: If a value is out of its range or a field is unknown.
    """

    seed: int = 0
    click_rate: float = 0.25
    first_order: float = 1.0
    second_order: float = 1.0
    third_order: float = 0.5
    noise: float = 0.5
    exponent: float = 1.1
    values: int = 1_000_000
    missing: float = 0.1
    rank: int = 2
    pairs: tuple = (
        *(("C6", "C14"), ("C17", "C22"), ("C23", "C25"), ("C5", "C20")),
        *(("C2", "C9"), ("C1", "C17"), ("I2", "C6"), ("I6", "C23")),
    )
    triples: tuple = (("C9", "C17", "C20"), ("C14", "C22", "I7"))

    def __post_init__(self):
        for key, whole, low, high in [
            ("seed", True, 0, 2**31),
            ("click_rate", False, 0.001, 0.999),
            ("first_order", False, 0, 5),
            ("second_order", False, 0, 5),
            ("third_order", False, 0, 5),
            ("noise", False, 0, 5),
            ("exponent", False, 0, 5),
            ("values", True, 2, 20_000_000),
            ("missing", False, 0, 0.4),
            ("rank", True, 1, 16),
        ]:
            check_between(key, getattr(self, key), low, high, whole=whole)
        for key, size in [("pairs", 2), ("triples", 3)]:
            groups = tuple(tuple(group) for group in getattr(self, key))
            object.__setattr__(self, key, groups)
            for group in groups:
                if len(set(group)) != size or len(group) != size:
                    self._fail(key, f"hold {size} different fields each", group)
                for name in set(group) - set(NAMES):
                    self._fail(key, "name I1 to I13 and C1 to C26", name)

    def _fail(self, key, expected, received):
        raise InputError(f"{key} must {expected}. Received: {received!r}")


class Rows(NamedTuple):
    """Rows of a synthetic log.

    `columns`: `pyarrow.RecordBatch` of the label and the 39 features.
    `probabilities`: of a click given the features, `[rows]`: no score ranks better.
    `first_order`: of a click given A alone, the other terms taken as normal.
    """

    columns: pa.RecordBatch
    probabilities: np.ndarray
    first_order: np.ndarray


class SyntheticLog:
    """An endless log, of which a configuration decides every row.

    Rows are independent of each other, and so are the fields of a row. NumPy draws the
    numbers, so another version of it may draw another log.

    Example:

    >>> log = SyntheticLog(SyntheticConfig(seed=7))
    >>> for rows in log.read(100_000):
    ...     print(rows.columns["C1"][0], rows.probabilities[0])
    """

    def __init__(self, config=None):
        self.config = config or SyntheticConfig()
        self.fields = criteo_fields(self.config)
        self.schema = pa.schema(
            [("label", pa.int8())]
            + [(field.name, field.arrow_type) for field in self.fields]
        )
        self._calibrate()

    def read(self, rows, skip=0):
        """Yields `Rows`, together `rows` of them, after the first `skip` of the log."""
        end = skip + rows
        for chunk in range(skip // CHUNK, -(-end // CHUNK)):
            start = chunk * CHUNK
            drawn = self._draw(0, chunk)
            wanted = slice(max(skip - start, 0), min(end - start, CHUNK))
            yield self._rows(drawn, wanted)

    def _draw(self, kind, chunk):
        """Codes of each field, noise, and a number in [0, 1) that makes the label."""
        random = np.random.default_rng(stream(self.config.seed, 0, kind, chunk))
        codes = [field.draw(random.random(CHUNK)) for field in self.fields]
        return codes, random.standard_normal(CHUNK), random.random(CHUNK)

    def _rows(self, drawn, wanted):
        codes, noise, threshold = drawn
        codes = [column[wanted] for column in codes]
        terms, deviation = self.terms(codes), self.config.noise
        known = self.intercept + sum(terms)
        labels = threshold[wanted] < sigmoid(known + deviation * noise[wanted])
        arrays = [pa.array(labels.astype(np.int8))]
        arrays += [field.values(column) for field, column in zip(self.fields, codes)]
        return Rows(
            columns=pa.RecordBatch.from_arrays(arrays, schema=self.schema),
            probabilities=expected_sigmoid(known, deviation),
            first_order=expected_sigmoid(self.intercept + terms[0], self.rest),
        )

    def terms(self, codes):
        """The three terms of the log odds that features explain, `[3, rows]`."""
        return self.factors[:, None] * self._unscaled(codes)

    def _unscaled(self, codes):
        hidden = sum(field.hidden(c, (1, 0, 0)) for field, c in zip(self.fields, codes))
        pairs = self._interactions(codes, self.config.pairs)
        triples = self._interactions(codes, self.config.triples)
        return np.stack([hidden, pairs, triples])

    def _interactions(self, codes, groups):
        """Sum over groups of fields and over `rank` of products of hidden numbers."""
        total = np.zeros(len(codes[0]))
        for number, group in enumerate(groups):
            for i in range(self.config.rank):
                product = np.ones(len(total))
                for place in map(NAMES.index, group):
                    component = (len(group), number, i)
                    product *= self.fields[place].hidden(codes[place], component)
                total += product
        return total

    def _calibrate(self):
        """Finds the factors of the terms, and the intercept, on a sample of its own."""
        config, drawn = self.config, [self._draw(1, i) for i in range(CALIBRATION)]
        terms = np.concatenate([self._unscaled(codes) for codes, _, _ in drawn], axis=1)
        strengths = [config.first_order, config.second_order, config.third_order]
        deviations = terms.std(axis=1)
        present = deviations > 0  # else no fields interact
        strengths = np.where(present, strengths, 0)
        self.factors = strengths / np.where(present, deviations, 1)
        self.rest = math.hypot(*strengths[1:], config.noise)
        known = self.factors @ terms
        known += config.noise * np.concatenate([noise for _, noise, _ in drawn])
        low, high = -100.0, 100.0
        for _ in range(50):
            self.intercept = (low + high) / 2
            if sigmoid(known + self.intercept).mean() < config.click_rate:
                low = self.intercept
            else:
                high = self.intercept


def sigmoid(x):
    """1 / (1 + e^-x), without overflow."""
    return 0.5 + 0.5 * np.tanh(x / 2)


def expected_sigmoid(mean, deviation):
    """E sigmoid(mean + deviation e) over a standard normal e, `[rows]`, to 1e-9.

    By the trapezoidal rule, whose error falls exponentially with the step as long as
    the integrand is smooth at that scale: the sigmoid's poles are pi from the axis.
    """
    step = min(0.7, 0.8 / max(deviation, 1e-9))
    nodes = step * np.arange(-math.ceil(7 / step), math.ceil(7 / step) + 1)
    weights = np.exp(-(nodes**2) / 2)
    weights /= weights.sum()
    total = np.zeros(len(mean))
    for node, weight in zip(nodes, weights):
        total += weight * sigmoid(mean + deviation * node)
    return total
