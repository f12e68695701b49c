"""What `edcn prepare` does with the logs, however many machines do it.

One machine goes through the logs one after the other (`edcn_tf.prepare`), a pipeline
through many parts of them at once (`edcn_tf.preparation.beam`). Either way a `Plan`
prepares a part into `Counts`, these merge, and `Plan.write` writes what they say.
"""

import dataclasses
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from edcn_tf.choices import SPLITS
from edcn_tf.directories import PreparedData
from edcn_tf.errors import InputError
from edcn_tf.features.growth import Growth
from edcn_tf.features.writing import FeatureCounter
from edcn_tf.files import write_json
from edcn_tf.logs.reading import read_part
from edcn_tf.preparation.histories import History
from edcn_tf.preparation.splitting import Splitter, TimeSpan, time_shares
from edcn_tf.preparation.statistics import Statistics

HISTORIES, COUNTS = "histories", "counts"  # folders of what was found of a part


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is prepared, and how.

    Attributes:
        logs: Names of the logs.
        splits: For each of them the split that the user put it in, or None.
        splitter: The `Splitter`.
        format: Format of the logs, or None to tell it from their names.
        compression: Of the records, `None` or `"GZIP"`.
        growth: How the FeatureSpec goes on from an earlier one, or None.
        history: The `History` that rows get, or None.
        statistics: How the schema's `Statistics` are counted, if it has some, or None.
        chosen: What `edcn_tf.preparation.choosing` tells of how the schema got fields
            of its own choice, JSON; or None.
    """

    logs: tuple[str, ...]
    splits: tuple[str | None, ...]
    splitter: Splitter
    format: str | None = None
    compression: str | None = None
    growth: Growth | None = None
    history: History | None = None
    statistics: Statistics | None = None
    chosen: dict[str, Any] | None = None

    @property
    def schema(self):
        return self.splitter.schema

    def count_times(self, part, counts, progress=None):
        """Adds the timestamps of a part of a log to `ValueCounts`.

        These have one entry a distinct timestamp, not a row.
        """
        columns = [self.schema.timestamp]
        for _, batch in self.read(part, columns, progress):
            counts.add(batch.column(0))

    def read(self, part, columns=None, progress=None):
        """Reads a part of a log (`edcn_tf.logs.reading.read_part`)."""
        pairs = list(zip(self.logs, self.splits))
        own = {split for log, split in pairs if log == part.path}
        beside = [log for log, split in pairs if split in own]
        return read_part(part, self.schema, self.format, columns, progress, beside)

    def with_times(self, counts):
        """The plan with the timestamps to split at, from the counts of all.

        Raises:
            InputError: If too many rows have one timestamp.
        """
        times = time_shares(counts, self.splitter.split)
        splitter = dataclasses.replace(self.splitter, times=times)
        return dataclasses.replace(self, splitter=splitter)

    def prepare(self, log, part, counts, write, progress=None, joined=None):
        """Splits and counts the rows of a part of a log, and has them written.

        Args:
            log: The log's number.
            part: The `edcn_tf.logs.reading.LogPart`.
            counts: `Counts`, which are added to.
            write: Called with a split's name and a batch of its rows.
            progress: As for `edcn_tf.logs.reading.read_log`.
            joined: Directory with what was found of the part's rows (`Joined`), if
                they get anything.
        """
        for first_row, batch in self._rows(log, part, progress, joined):
            for split, rows, keys in self.splitter.pieces(
                batch, self.splits[log], log, first_row
            ):
                counts.add(split, rows, keys)
                write(split, rows)

    def _rows(self, log, part, progress, joined):
        made = self.history.names if self.history else ()
        names = [n for n in self.schema.columns if n not in made]
        rows = self.read(part, names, progress)
        if self.history:
            rows = self.history.added(rows, Path(joined, HISTORIES), self.schema)
        if self.statistics:
            rows = self.statistics.added(rows, Path(joined, COUNTS), self, log)
        return rows

    def write(self, counts, directory, counted=None):
        """Writes `features/` and `summary.json`; returns what the latter holds.

        Args:
            counts: `Counts` of all parts.
            directory: Of the prepared data.
            counted: `edcn_tf.preparation.counted.Counted`, for statistics.

        Raises:
            InputError: If there are no rows, or none in a split that was asked for; or
                if the times are of two units.
        """
        data = PreparedData(directory)
        tally, splitter, growth = counts.tally, self.splitter, self.growth
        self._check_splits(tally)
        tally.span.check()
        spec = counts.features.write(data.features, growth, counted)
        summary = {
            "logs": list(self.logs),
            "split_by": splitter.split_by if splitter.split else "user",
            "split": list(splitter.split) if splitter.split else None,
            "seed": splitter.seed,
            "negative_sampling_rate": splitter.negative_sampling_rate,
            "splits": {
                split: tally.summary(split, self.schema.weight is not None)
                for split, rows in tally.rows.items()
                if rows
            },
            "table_rows": spec.num_rows,
            "fields": [
                _field_summary(*pair, growth)
                for pair in zip(spec.fields, counts.features.counters)
            ],
        }
        if self.history:
            summary["history"] = self.history.text
        if self.statistics:
            summary["statistics"] = spec.statistics_summary()
        if self.chosen:
            summary["added"] = [field["name"] for field in self.chosen["added"]]
            write_json(data.statistics, self.chosen)
        if growth:
            summary["vocabulary_of"] = str(growth.directory)
            summary["day"] = growth.day
        write_json(data.summary, summary)
        return summary

    def _check_splits(self, tally):
        if not sum(tally.rows.values()):
            raise InputError(f"{', '.join(self.logs)}: no rows")
        shares = self.splitter.split
        wanted = {s for s, share in zip(SPLITS, shares) if share} if shares else None
        for split in SPLITS:
            if split in (wanted or self.splits) and not tally.rows[split]:
                raise InputError(
                    f"The {split} split has no rows; give it a larger share, or more "
                    "data"
                )


class Counts:
    """What is counted of the logs: rows of each split, values of the training split.

    Args:
        schema: The `Schema`.
    """

    def __init__(self, schema):
        self.label, self.weight = schema.label, schema.weight
        self.timestamp = schema.timestamp
        self.tally = Tally()
        self.features = FeatureCounter(schema)

    def add(self, split, batch, keys):
        """Counts rows of a split, with their keys (`features.draws.row_keys`)."""
        labels = batch.column(self.label)
        self.tally.all.add(split, labels)
        if self.weight is not None:
            has_weight = pc.greater(batch.column(self.weight), 0)
            self.tally.weighted.add(split, labels.filter(has_weight))
        if self.timestamp is not None:
            self.tally.span.add(batch.column(self.timestamp))
        if split == "train":
            self.features.add(batch, keys)


class Tally:
    """Rows and clicks of each split, those of a weight above 0, and the time's span."""

    def __init__(self):
        self.all, self.weighted = SplitCounts(), SplitCounts()
        self.span = TimeSpan()

    @property
    def rows(self):
        return self.all.rows

    def merge(self, other):
        """Adds another's counts to these, and returns them."""
        self.all.merge(other.all)
        self.weighted.merge(other.weighted)
        self.span.merge(other.span)
        return self

    def summary(self, split, has_weights):
        """What `summary.json` says of a split that has rows."""
        rows = self.rows[split]
        summary = {"rows": rows, "click_rate": self.all.clicks[split] / rows}
        if has_weights:
            summary["weighted_rows"] = self.weighted.rows[split]
            summary["weighted_clicks"] = self.weighted.clicks[split]
        return summary


class SplitCounts:
    """Numbers of rows and clicks of each split."""

    def __init__(self):
        self.rows = dict.fromkeys(SPLITS, 0)
        self.clicks = dict.fromkeys(SPLITS, 0)

    def add(self, split, labels):
        """Counts rows with these labels, an Arrow array."""
        self._add(split, len(labels), pc.sum(labels, min_count=0).as_py())

    def merge(self, other):
        for split in SPLITS:
            self._add(split, other.rows[split], other.clicks[split])

    def _add(self, split, rows, clicks):
        self.rows[split] += rows
        self.clicks[split] += clicks


def _field_summary(spec, counter, growth):
    """Of this log alone, whatever days the vocabulary goes on from."""
    missing, unseen = counter.shares()
    summary = {
        "name": spec.field.name,
        "rows": spec.rows,
        "values": spec.rows - (spec.first_value - spec.offset),
        "missing": round(missing, 4),
        "unseen": round(unseen, 4),
    }
    if growth:
        new, forgotten = growth.new_and_forgotten(spec)
        summary.update(new=new, forgotten=forgotten)
    return summary
