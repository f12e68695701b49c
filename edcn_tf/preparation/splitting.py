"""Which rows of a log train, validate and test, and which of them are left out."""

import dataclasses
import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from edcn_tf.choices import SPLIT_BY, SPLITS
from edcn_tf.errors import InputError
from edcn_tf.features.draws import NEGATIVES, SPLIT, draws, row_keys
from edcn_tf.schema import Schema

FIRST_SECOND = 1e8  # of 1973
UNITS = {  # of a number since 1970 -> what no time of it reaches
    "seconds": 1e11,
    "milliseconds": 1e14,
    "microseconds": 1e17,
    "nanoseconds": math.inf,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Splitter:
    """Sends each row of a log to its split, or to none.

    What happens to a row depends on its content, the seed, and where it stands in
    which log, and on nothing else: several of these, each with a part of the logs,
    do what one does with all.

    Args:
        schema: The `Schema`.
        seed: Another seed makes another split, and keeps other negatives.
        split: Shares of train, valid and test, which sum to 1; None where the user
            has made the split.
        split_by: `"chance"` (each row by its own draw) or `"time"` (the oldest rows
            train, the newest test; needs a timestamp in the schema).
        negative_sampling_rate: Share of the rows without a click that the training
            split keeps, each by its own draw, above 0 and at most 1.
        times: For a split by time, the timestamps at which valid and test begin
            (`time_shares`).

    Raises:
        InputError: For shares, a way to split or a rate that cannot be.
    """

    schema: Schema
    seed: int
    split: tuple[float, float, float] | None = (0.8, 0.1, 0.1)
    split_by: str = "chance"
    negative_sampling_rate: float = 1.0
    times: tuple[float, float] | None = None

    def __post_init__(self):
        if not 0 < self.negative_sampling_rate <= 1:
            raise InputError(
                "The negative sampling rate must be above 0 and at most 1. "
                f"Received: {self.negative_sampling_rate}"
            )
        shares = self.split
        if shares is None:
            return
        if (
            len(shares) != 3
            or min(shares) < 0
            or shares[0] <= 0
            or abs(sum(shares) - 1) > 1e-6
        ):
            raise InputError(
                "The split must be three shares (train, valid, test) that sum to 1. "
                f"Received: {','.join(map(str, shares))}"
            )
        if self.split_by not in SPLIT_BY:
            raise InputError(
                f"Split by 'chance' or 'time'. Received: {self.split_by!r}"
            )
        if self.needs_times and self.schema.timestamp is None:
            raise InputError(
                "To split by time the schema must name the column: `timestamp`"
            )

    @property
    def by_chance(self):
        """Whether rows are split by a draw, so that they have no before and after."""
        return self.split is not None and self.split_by == "chance"

    @property
    def needs_times(self):
        """Whether the timestamps have to be counted first."""
        return self.split is not None and self.split_by == "time"

    def pieces(self, batch, split, log, first_row):
        """Divides a batch of rows that follow each other in a log.

        Args:
            batch: Normalized `pyarrow.RecordBatch` (`logs.normalizing.normalize`).
            split: The split that the user put the log in, or None.
            log: Number of the log among the logs.
            first_row: Number of the batch's first row in its log, from 0.

        Yields:
            Split's name, its rows of the batch in their order (at least one), and
            their keys (`edcn_tf.features.draws.row_keys`).
        """
        keys = row_keys(self.seed, log, first_row, batch.num_rows)
        places = self.places(batch, split, keys)
        if self.negative_sampling_rate < 1:
            clicked = batch.column(self.schema.label).to_numpy() == 1
            kept = clicked | (draws(keys, NEGATIVES) < self.negative_sampling_rate)
            places = np.where((places > 0) | kept, places, len(SPLITS))
        for i, name in enumerate(SPLITS):
            chosen = places == i
            if chosen.all():
                yield name, batch, keys
            elif chosen.any():
                yield name, batch.filter(pa.array(chosen)), keys[chosen]

    def places(self, batch, split, keys):
        """The split of each row, by its number in `SPLITS`, all negatives kept.

        Args:
            batch: With the timestamp, where rows are split by it.
            split: The split that the user put the log in, or None.
            keys: The rows' keys.
        """
        if split:
            return np.full(batch.num_rows, SPLITS.index(split))
        if self.split_by == "time":
            stamps = batch.column(self.schema.timestamp).to_numpy()
            return np.searchsorted(self.times, stamps, side="right")
        ends = [self.split[0], self.split[0] + self.split[1]]
        return np.searchsorted(ends, draws(keys, SPLIT), side="right")


class TimeSpan:
    """The first and the last of the timestamps, by which a mix of units shows."""

    def __init__(self):
        self.first, self.last = math.inf, -math.inf

    def add(self, times):
        """Takes in timestamps, a `pyarrow.Array`."""
        if len(times):
            first, last = (time.as_py() for time in pc.min_max(times).values())
            self._take(first, last)

    def merge(self, other):
        self._take(other.first, other.last)

    def _take(self, first, last):
        self.first, self.last = min(self.first, first), max(self.last, last)

    @property
    def unit(self):
        """The unit of the first, a name of `UNITS`; None where it tells none."""
        if not FIRST_SECOND <= self.first < math.inf:
            return None
        return next(name for name, most in UNITS.items() if self.first < most)

    def check(self):
        """Raises an `InputError` if they lie in two units, such as dates and numbers.

        Since 1973 a time in seconds has fewer digits than any in milliseconds, and so
        on; what begins lower counts from another moment than 1970, and may grow.
        """
        if not FIRST_SECOND <= self.first < self.last < math.inf:
            return
        units = [
            next(name for name, most in UNITS.items() if time < most)
            for time in (self.first, self.last)
        ]
        if units[0] != units[1]:
            raise InputError(
                "The timestamps are of two units: write all as dates or as numbers of "
                f"one unit. Received: {self.first:.15g}, which looks like {units[0]}, "
                f"and {self.last:.15g}, like {units[1]}"
            )


def time_shares(counts, split):
    """The timestamps at which valid and test begin, so that the shares come out.

    Args:
        counts: `edcn_tf.features.counting.ValueCounts` of the timestamps.
        split: Shares of train, valid and test.

    Returns:
        Two numbers (any, if there is no timestamp).

    Raises:
        InputError: If a split stays empty since too many rows have one timestamp.
    """
    if counts.table() is None:
        return 0, 0
    table = counts.table().sort_by("value")
    rows = table["count"].to_numpy()
    upto = np.cumsum(rows)
    shares = np.array([split[0], split[0] + split[1]])
    places = np.searchsorted(upto, shares * upto[-1], side="left") + 1
    stamps = table["value"].to_numpy()
    _check_ties(stamps, rows, places.clip(max=len(stamps)), split)
    # Past the last timestamp nothing follows: then the later splits are empty.
    ends = np.append(stamps, np.inf)[places.clip(max=len(stamps))]
    return tuple(ends.tolist())


def _check_ties(stamps, rows, places, split):
    """Refuses a split by time in which rows of one time leave no others to a split."""
    for name, share, first, end in zip(
        SPLITS[1:], split[1:], places, [places[1], len(stamps)]
    ):
        tied = rows[first - 1]  # rows of the last time before the split
        if first >= end and share * rows.sum() >= 1 and tied > 1:
            raise InputError(
                f"The {name} split has no rows: {tied:,} rows have the time "
                f"{_shown(stamps[first - 1])}, and rows of one time stay together; "
                "give it a larger share, or split by chance"
            )


def _shown(stamp):
    return int(stamp) if stamp.is_integer() else stamp
