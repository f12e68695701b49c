"""Clicks and impressions of each row's keys, as they were known before the row.

Three steps, of which each reads and writes in a stream:

    parts of the logs -> their rows' keys, times and labels, a file for each counter and
                         group of keys (those whose fingerprint has the same remainder)
    a group of keys   -> what was known of the keys of each of its rows, sorted by row,
                         a file a part; and what is known of the keys in the end
    a part again      -> its rows, each with its counts, in the log's order

So the memory that it takes follows the keys and rows of a group and not the log; the
log may be in any order, of its rows and of its files.
"""

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa

from edcn_tf.errors import InputError
from edcn_tf.features.draws import ORDER, draws, row_keys
from edcn_tf.features.growth import Growth
from edcn_tf.features.statistics.counter import (
    counters_of,
    keys_of_columns,
    levels_of,
)
from edcn_tf.features.statistics.counts import Events, counts_at, counts_before
from edcn_tf.preparation.groups import ROW, GroupWriters, SortedRows
from edcn_tf.preparation.splitting import TimeSpan
from edcn_tf.preparation.totals import Totals
from edcn_tf.schema import Schema

DELAY = "1d"  # by default, where rows are in the order of their times
KEY, TIME, CLICKS, SHOWN, TRAINS = "key", "time", "clicks", "shown", "trains"
WRITTEN_ROWS = 1 << 16  # of the files of counts


@dataclasses.dataclass(frozen=True)
class Statistics:
    """How the statistics of a schema are counted.

    Attributes:
        schema: The `Schema`.
        protocol: `"frozen"` (training rows count, and have what was known before
            them; other rows have what is known in the end, which is looked up) or
            `"running"` (all rows count, and have what was known before them).
        by_chance: Whether rows are split by chance: then they have no before and
            after, but for statistics with a `delay` or a `half_life`.
        growth: The `Growth` whose tables these go on from, or None.
    """

    schema: Schema
    protocol: str
    by_chance: bool
    growth: Growth | None = None

    @classmethod
    def of(cls, splitter, protocol, growth=None):
        """Those of a `Splitter`'s schema, None if it has none."""
        if not splitter.schema.statistics:
            return None
        return cls(splitter.schema, protocol, splitter.by_chance, growth)

    def __post_init__(self):
        for counter in self.counters:
            earlier = self._earlier(counter)
            timed = earlier and earlier.known_after is not None
            if timed and self.schema.timestamp is None:
                raise InputError(
                    f"The days before counted {' x '.join(counter.of)} by time, so the "
                    "schema must name the column: `timestamp`"
                )
        drawn = [
            field
            for field in self.schema.statistics
            if not self.by_time(levels_of(field)[0])
        ]
        if self.protocol == "running" and drawn:
            raise InputError(
                f"Field {drawn[0].name!r}: a running statistic needs rows in the order "
                "of their times: a timestamp in the schema, and a split by time or a "
                f"`delay`. Received: {self.protocol!r}"
            )

    def by_time(self, counter):
        """Whether a counter goes by time and not by an order drawn.

        As it did on the days before, however this day is split: what was counted by
        time cannot go on in an order that is drawn.
        """
        if self.schema.timestamp is None:
            return False
        earlier = self._earlier(counter)
        if earlier:
            return earlier.known_after is not None
        told = counter.delay is not None or counter.half_life is not None
        return told or not self.by_chance

    @property
    def counters(self):
        """The different counters of the schema."""
        return counters_of(self.schema)

    @property
    def columns(self):
        """The columns that are read."""
        schema = self.schema
        roles = [c for c in (schema.label, schema.timestamp, schema.weight) if c]
        of = [name for counter in self.counters for name in counter.of]
        return list(dict.fromkeys([*of, *roles]))

    def gather(self, log, part, plan, groups, folder, progress=None):
        """Writes what a part's rows add to the counters: a file a counter and group.

        Args:
            log: The log's number.
            part: `edcn_tf.logs.reading.LogPart`.
            plan: The `edcn_tf.preparation.plan.Plan`, which splits the rows.
            groups: Number of groups.
            folder: A directory for the files.
            progress: As for `edcn_tf.logs.reading.read_log`.

        Returns:
            `Totals`.
        """
        schema, totals, writers = self.schema, Totals(), GroupWriters(folder)
        for first_row, batch in plan.read(part, self.columns, progress):
            keys = row_keys(plan.splitter.seed, log, first_row, batch.num_rows)
            trains = plan.splitter.places(batch, plan.splits[log], keys) == 0
            shown = np.ones(batch.num_rows)
            if schema.weight:
                shown = batch.column(schema.weight).to_numpy().astype(np.float64)
            clicks = shown * batch.column(schema.label).to_numpy()
            times = None
            if schema.timestamp:
                times = batch.column(schema.timestamp).to_numpy()
            totals.add(times, clicks, shown, trains)
            drawn = draws(keys, ORDER)
            for number, counter in enumerate(self.counters):
                rows, of_rows = keys_of_columns(batch, counter)
                table = pa.table(
                    {
                        KEY: of_rows,
                        ROW: first_row + rows,
                        TIME: (times if self.by_time(counter) else drawn)[rows],
                        CLICKS: clicks[rows],
                        SHOWN: shown[rows],
                        TRAINS: trains[rows],
                    }
                )
                group_of = of_rows % groups
                for group in np.unique(group_of):
                    mine = table.filter(pa.array(group_of == group))
                    writers.write(file_name(number, group), mine)
        writers.close()
        return totals

    def join(self, group, groups, totals, sources, folders, tables):
        """Writes what was known of the rows of a group of keys, a file for each part.

        Args:
            group: The group's number.
            groups: Number of groups.
            totals: `Totals` of all parts.
            sources: Of each part the directory that `gather` filled.
            folders: Of each part a directory for the files.
            tables: A directory for what is known in the end.
        """
        totals.check()
        for number, counter in enumerate(self.counters):
            name = file_name(number, group)
            found, parts = [], []
            for part, source in enumerate(sources):
                path = Path(source, name)
                if path.exists():
                    with pa.memory_map(str(path)) as file:
                        found.append(pa.ipc.open_stream(file).read_all())
                    parts.append(np.full(found[-1].num_rows, part))
            before = self._before(counter, group, groups)
            if not found and not len(before.keys):
                continue
            rows = pa.concat_tables(found) if found else _no_rows()
            parts = np.concatenate([np.zeros(0, int), *parts])
            self._join(counter, name, totals, rows, parts, before, folders, tables)

    def _join(self, counter, name, totals, rows, parts, before, folders, tables):
        times, keys = rows[TIME].to_numpy(), rows[KEY].to_numpy()
        trains = rows[TRAINS].to_numpy(zero_copy_only=False)
        amounts = np.column_stack([rows[CLICKS].to_numpy(), rows[SHOWN].to_numpy()])
        half_life = totals.duration(counter.half_life, "half_life")
        events = Events(keys, times, amounts)
        trained = Events.joined([before, events.of(trains)])
        counting = trained
        has_counts = trains
        if self.protocol == "running":
            counting = Events.joined([before, events])
            has_counts = np.ones_like(trains)
        asked = times[has_counts]
        if self.by_time(counter):
            asked = totals.known_before(asked, self.known_after(counter))
        known = counts_before(counting, keys[has_counts], asked, half_life)
        row_numbers, parts = rows[ROW].to_numpy()[has_counts], parts[has_counts]
        for part in np.unique(parts):
            mine = parts == part
            _write_counts(folders[part], name, row_numbers[mine], known[mine])
        as_of = self.as_of(counter, totals)
        as_of = np.inf if as_of is None else as_of
        keys, counts = counts_at(trained, as_of, half_life)
        waiting = trained.of(trained.times > as_of)
        np.savez(
            Path(tables, f"{name}.npz"), table=keys, counts=counts, **waiting._asdict()
        )

    def known_after(self, counter):
        """The delay of a counter as it is said; None if it does not go by time."""
        if not self.by_time(counter):
            return None
        return DELAY if counter.delay is None else counter.delay

    def as_of(self, counter, totals):
        """Up to when labels are known in the end; None if it does not go by time.

        Not before the days before: logs that came late take nothing away from it.
        """
        if not self.by_time(counter):
            return None
        earlier = self._earlier(counter)
        known = -np.inf if earlier is None or earlier.as_of is None else earlier.as_of
        return max(totals.as_of(self.known_after(counter)), known)

    def overlap(self, totals):
        """A line for people if rows are no later than those of the days before.

        Such rows came late, or their log is counted a second time.

        Raises:
            InputError: If the days before had times of another unit.
        """
        for counter in self.counters:
            earlier = self._earlier(counter)
            if earlier is None or earlier.as_of is None:
                continue
            span = TimeSpan()
            span.merge(totals.span)
            span.add(pa.array([earlier.as_of]))
            span.check()
            end = earlier.as_of + totals.duration(earlier.known_after, "delay")
            if totals.span.first <= end:
                return (
                    f"There are rows from {totals.span.first:.15g} on, and the days "
                    f"before were counted up to {end:.15g}: what is in both counts "
                    "twice, and a row before the end knows nothing of those days"
                )
        return None

    def _earlier(self, counter):
        """The `CounterTable` of the days before; how many keys it kept is nothing."""
        tables = self.growth.spec.counters if self.growth else ()
        whole = dataclasses.replace(counter, max_size=None)
        found = [
            table
            for table in tables
            if dataclasses.replace(table.counter, max_size=None) == whole
        ]
        same = [table for table in found if table.counter == counter]
        return next(iter(same or found), None)

    def _before(self, counter, group, groups):
        """What the days before counted of a group's keys: `Events`."""
        earlier = self._earlier(counter)
        if earlier is None:
            return Events.none()
        events = earlier.before()
        return events.of(events.keys % groups == group)

    def added(self, batches, folder, plan, log):
        """Adds the counts to the batches of a part, which come in the log's order.

        Args:
            batches: Yields a batch's first row and the batch.
            folder: The directory that `join` filled for the part.
            plan: The `Plan`.
            log: The log's number.
        """
        streams = {
            number: [
                SortedRows(path)
                for path in sorted(Path(folder).glob(file_name(number, "*")))
            ]
            for number in range(len(self.counters))
        }
        for first_row, batch in batches:
            keys = row_keys(plan.splitter.seed, log, first_row, batch.num_rows)
            has_counts = plan.splitter.places(batch, plan.splits[log], keys) == 0
            if self.protocol == "running":
                has_counts[:] = True
            known = {
                counter: _counts_of(streams[number], first_row, batch.num_rows)
                for number, counter in enumerate(self.counters)
            }
            for field in self.schema.statistics:
                levels = [known[counter][has_counts] for counter in levels_of(field)]
                column = _lists(has_counts, np.hstack(levels))
                batch = batch.append_column(field.name, column)
            yield first_row, batch


def file_name(number, group):
    """What a file of a counter and a group of keys is called, by their numbers."""
    return f"{number}-{group}"


def _no_rows():
    columns = dict.fromkeys([TIME, CLICKS, SHOWN], np.zeros(0))
    columns |= dict.fromkeys([KEY, ROW], np.zeros(0, np.int64))
    return pa.table({**columns, TRAINS: np.zeros(0, bool)})


def _write_counts(folder, name, rows, counts):
    """Counts of a part's rows, those of the values of a list together."""
    distinct, places = np.unique(rows, return_inverse=True)
    clicks, shown = (np.bincount(places, column) for column in counts.T)
    writers = GroupWriters(folder)
    for start in range(0, len(distinct), WRITTEN_ROWS):
        some = slice(start, start + WRITTEN_ROWS)
        columns = {ROW: distinct[some], CLICKS: clicks[some], SHOWN: shown[some]}
        writers.write(name, pa.table(columns))
    writers.close()


def _counts_of(streams, first_row, rows):
    """The counts of rows that follow each other, `[rows, 2]`, 0 of those without."""
    counts = np.zeros((rows, 2))
    for stream in streams:
        for table in stream.upto(first_row + rows):
            places = table[ROW].to_numpy() - first_row
            counts[places, 0] += table[CLICKS].to_numpy()
            counts[places, 1] += table[SHOWN].to_numpy()
    return counts


def _lists(has_counts, values):
    """A column of lists: a row of `values` where a row has some, else none."""
    lengths = has_counts * values.shape[1]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return pa.ListArray.from_arrays(
        pa.array(offsets, pa.int32()), pa.array(values.astype(np.float32).ravel())
    )
