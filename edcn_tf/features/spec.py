"""Which values of which fields have a row of the embedding table, and which row."""

import dataclasses
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from edcn_tf.errors import InputError
from edcn_tf.features.statistics.counter import counters_of
from edcn_tf.features.statistics.statistic import StatisticSpec
from edcn_tf.features.statistics.tables import CounterTable, stored_tables
from edcn_tf.field import NEXT_DAY, Field
from edcn_tf.files import StrPath, read_json
from edcn_tf.schema import Schema

FILE = "features.json"  # of the directory, beside the files that it names
FORMAT = 1
PADDING = 0  # the id in the unused slots of a list


@dataclasses.dataclass(frozen=True)
class FieldSpec:
    """One field's range of rows in the fused table.

    A sequence `of` another field has that one's. The rows are, in order: one for a
    missing value, `field.unseen_rows` for values that have no row (none for numbers
    and hashed fields), then one for each kept value, hash bucket or range of numbers,
    or one for all vectors.

    Attributes:
        field: The `Field` of the schema.
        offset: The range's first row, which is that of a missing value.
        rows: Number of rows.
        boundaries: Numeric: float32 boundaries; range i holds
            boundaries[i - 1] <= x < boundaries[i].
        vocabulary: Categorical or cross, not hashed: text file, one kept value a line,
            the most frequent first; of a cross a text of `edcn_tf.features.crossing`.
        counts: Text file with a number a line, for each row of the range: how many
            values in the training split have this row; of all days together, where
            the vocabulary goes on from that of earlier ones.
        last_seen: Text file with a number a line, for each kept value: the last day
            that had it. Only where the vocabulary goes on from an earlier one.
        of: The `FieldSpec` of the field whose rows these are, if not its own.
        mean, deviation: Vector: of each of its numbers over the training split's
            vectors, float32; a deviation is 0 where all are the same.
        statistic: Statistic: its `StatisticSpec`, which says what its rows are.
    """

    field: Field
    offset: int
    rows: int
    boundaries: tuple[float, ...] | None
    vocabulary: Path | None
    counts: Path
    last_seen: Path | None = None
    of: "FieldSpec | None" = None
    mean: tuple[float, ...] | None = None
    deviation: tuple[float, ...] | None = None
    statistic: StatisticSpec | None = None

    @property
    def owner(self) -> "FieldSpec":
        """The `FieldSpec` of the field whose rows these are."""
        return self.of or self

    @property
    def first_unseen(self) -> int:
        """Row of an unseen value (the first, if there are several)."""
        return self.offset + 1

    @property
    def first_value(self) -> int:
        """Row of the first kept value, hash bucket or range; of a vector."""
        return self.offset + 1 + _unseen_rows(self.owner.field)

    def row_counts(self) -> np.ndarray:
        """Training values of each row of the range, `[rows]` int64."""
        return _numbers(self.counts, self.rows)

    def values(self) -> pa.Array:
        """The kept values of a vocabulary, a `pyarrow.Array` of strings or int64."""
        assert self.vocabulary is not None, f"{self.field.name} has no vocabulary"
        # By their bytes: no Python object comes to be for any single value.
        text = np.fromfile(self.vocabulary, np.uint8)
        ends = np.flatnonzero(text == ord("\n"))
        offsets = np.concatenate([[0], ends - np.arange(len(ends))])
        values = pa.LargeStringArray.from_buffers(
            len(ends), pa.py_buffer(offsets), pa.py_buffer(text[text != ord("\n")])
        )
        return values if self.field.dtype == "string" else values.cast(pa.int64())

    def days_last_seen(self) -> np.ndarray:
        """The last day that had each kept value, `[values]` int64."""
        if self.last_seen is None:  # there has been one day
            return np.ones(self.rows - (self.first_value - self.offset), np.int64)
        return np.fromfile(self.last_seen, np.int64, sep="\n")

    def row_names(self) -> list[str]:
        """What each row of the range stands for, a list of strings."""
        unseen = [f"<unseen {i}>" for i in range(_unseen_rows(self.owner.field))]
        names = ["<missing>", *(["<unseen>"] if len(unseen) == 1 else unseen)]
        if self.vocabulary:
            try:
                text = self.vocabulary.read_text(encoding="utf-8")
            except UnicodeDecodeError as error:
                raise InputError(f"{self.vocabulary}: is not UTF-8 ({error})") from None
            return names + text.split("\n")[:-1]
        if self.field.is_vector:
            return [*names, "<vector>"]
        if self.statistic:
            return names + self.statistic.row_names()
        if self.boundaries is None:
            return names + [f"<hash {i}>" for i in range(self.rows - len(names))]
        low = ["-inf", *(f"{b:g}" for b in self.boundaries)]
        return names + [f"[{a}, {b})" for a, b in zip(low, [*low[1:], "inf"])]


class FeatureSpec:
    """How a row of the log becomes ids: schema, kept values, boundaries, offsets.

    Made by `FeatureCounter`, read by `FeatureSpec.load`. All fields share one table
    of `num_rows` rows; row 0 is padding.

    Attributes:
        directory: Where it is stored.
        schema: The `Schema`.
        fields: A `FieldSpec` for each field, in the schema's order.
        num_rows: Rows of the fused table.
        num_slots: Ids of one row of the log, S.
        day: How many logs, each a day, it goes on from, this one included.
        counters: A `CounterTable` for each counter of the schema's statistics.
        counted: How these were counted, a dict: `protocol`, one of
            `edcn_tf.choices.PROTOCOLS`; and `updated`, the logs whose rows were added
            to the tables without training, where there are some.
    """

    def __init__(
        self,
        directory: StrPath,
        schema: Schema,
        fields: Iterable[FieldSpec],
        day: int = 1,
        counters: Iterable[CounterTable] = (),
        counted: Mapping[str, Any] | None = None,
    ) -> None:
        self.directory = Path(directory)
        self.schema = schema
        self.fields = tuple(fields)
        self.num_rows = max(spec.offset + spec.rows for spec in self.fields)
        self.num_slots = sum(spec.field.slots for spec in self.fields)
        self.day = day
        self.counters = tuple(counters)
        self.counted = dict(counted or {})

    def row_counts(self) -> np.ndarray:
        """Training values of each row of the table, `[num_rows]` float32.

        Raises:
            InputError: If a file holds anything else.
        """
        counts = np.zeros(self.num_rows, np.float32)
        for spec in self.fields:  # of a shared row, the values of all that share it
            rows = slice(spec.offset, spec.offset + spec.rows)
            counts[rows] += spec.row_counts()
        return counts

    def id_slots(self) -> np.ndarray:
        """Which slots hold ids, `[S]` bool; the others hold numbers of vectors."""
        return np.concatenate(
            [
                np.arange(spec.field.slots) < (1 if spec.field.is_vector else np.inf)
                for spec in self.fields
            ]
        )

    @property
    def owners(self) -> list[FieldSpec]:
        """The fields with rows of their own, which together are all of the table's."""
        return [spec for spec in self.fields if spec.of is None]

    def layout(self) -> list[dict[str, Any]]:
        """What a model has to know of the fields, as JSON.

        A list with `name`, `slots` (ids a row), `rows` (of its range), `pooling` and
        `unseen` (id of an unseen value, or None) of each field; of a sequence also
        `kind`, and the names of the fields that it is `of` and `along`, or None; of a
        vector, whose slots after the first hold its numbers, `vector`, the id of one
        that is there.
        """
        return [_layout(spec) for spec in self.fields]

    def statistics_summary(self) -> dict[str, Any]:
        """What `summary.json` says of statistics: how, and how many keys of what."""
        return {
            **self.counted,
            "told": self.statistics_told(),
            "counters": [
                {
                    **table.counter.to_dict(),
                    "keys": len(table.load()[0]),
                    "known_after": table.known_after,
                }
                for table in self.counters
            ],
        }

    def statistics_told(self) -> str:
        """How statistics were counted, in a line for people; empty without any."""
        delays = dict.fromkeys(table.known_after for table in self.counters)
        if not delays:
            return ""
        known = [
            "the day" if delay == NEXT_DAY else str(delay)
            for delay in delays
            if delay is not None
        ]
        orders = [f"labels known after {' or '.join(known)}"] if known else []
        if None in delays:
            orders.append("training rows in a drawn order")
        until = {
            "frozen": "as of the end of the training rows",
            "running": "as of each row's time",
        }
        protocol = self.counted["protocol"]
        told = f"{protocol}: {until[protocol]}; {', '.join(orders)}"
        updated = self.counted.get("updated")
        if updated:
            told += f"; the tables with all rows of {', '.join(updated)}"
        return told

    @classmethod
    def load(cls, directory: StrPath) -> "FeatureSpec":
        """Reads a FeatureSpec from its directory.

        Raises:
            InputError: With the file's name, if one is missing, damaged or does not
                fit the others.
        """
        path = Path(directory) / FILE
        config = read_json(path)
        try:
            if config["format"] != FORMAT:
                raise InputError(
                    f"format must be {FORMAT}. Received: {config['format']!r}"
                )
            schema = Schema.from_dict(config["schema"])
            fields = _load_fields(Path(directory), schema, config["fields"])
            counted = dict(config.get("statistics", {}))
            counters = stored_tables(Path(directory), counted.pop("counters", ()))
            if tuple(each.counter for each in counters) != counters_of(schema):
                raise InputError("statistics do not fit the schema's")
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        except (KeyError, TypeError, ValueError, OverflowError, OSError) as error:
            raise InputError(f"{path}: is damaged ({error!r})") from None
        day = config.get("day", 1)
        return cls(directory, schema, fields, day, counters, counted)


def _unseen_rows(field: Field) -> int:
    return field.unseen_rows if field.has_vocabulary else 0


def _layout(spec: FieldSpec) -> dict[str, Any]:
    field = spec.field
    layout = {
        "name": field.name,
        "slots": field.slots,
        "rows": spec.rows,
        "pooling": "sum" if field.is_statistic else field.pooling,
        "unseen": spec.first_unseen if _unseen_rows(spec.owner.field) else None,
    }
    if field.kind == "sequence":
        layout.update(kind=field.kind, of=field.of, along=field.along)
    if field.is_vector:
        layout.update(vector=spec.first_value)
    return layout


def _load_fields(
    directory: Path, schema: Schema, stored: Sequence[dict[str, Any]]
) -> list[FieldSpec]:
    """The `FieldSpec`s, those first that others share the rows of."""
    pairs = list(zip(schema.fields, stored, strict=True))
    owners: dict[Any, FieldSpec] = {}
    offset = 1
    for field, own in pairs:
        if own["name"] != field.name:
            raise InputError(f"fields are out of order at {field.name!r}")
        if not field.shares_rows:
            owners[field.name] = _load_field(directory, field, offset, own)
            offset += owners[field.name].rows
    return [
        _load_sharing(directory, field, owners[field.of], own)
        if field.shares_rows
        else owners[field.name]
        for field, own in pairs
    ]


def _load_sharing(
    directory: Path, field: Field, owner: FieldSpec, stored: dict[str, Any]
) -> FieldSpec:
    counts = _counts_of(directory, field, stored, owner.rows)
    return FieldSpec(field, owner.offset, owner.rows, None, None, counts, of=owner)


def _load_field(
    directory: Path, field: Field, offset: int, stored: dict[str, Any]
) -> FieldSpec:
    boundaries, vocabulary, last_seen, mean, deviation = None, None, None, None, None
    statistic = None
    if field.is_vector:
        mean, deviation = (
            tuple(float(number) for number in stored[key])
            for key in ("mean", "deviation")
        )
        if (len(mean), len(deviation)) != (field.length, field.length) or not (
            np.isfinite([mean, deviation]).all() and min(deviation) >= 0
        ):
            raise InputError(
                f"the mean and the deviation of {field.name!r} must be "
                f"{field.length} numbers each, no deviation below 0"
            )
        expected = 2
    elif field.is_statistic:
        levels = len(field.counted)
        statistic = StatisticSpec.from_dict(stored, field.name, levels)
        expected = statistic.rows
    elif field.has_ranges:
        boundaries = tuple(float(b) for b in stored["boundaries"])
        if not np.isfinite(boundaries).all() or (np.diff(boundaries) <= 0).any():
            raise InputError(f"the boundaries of {field.name!r} do not rise")
        expected = len(boundaries) + 2
    elif field.hash_buckets:
        expected = field.hash_buckets + 1
    else:
        vocabulary = _inside(directory, stored["vocabulary"])
        expected = _lines(vocabulary) + 1 + field.unseen_rows
        if "last_seen" in stored:
            last_seen = _inside(directory, stored["last_seen"])
            if _lines(last_seen) != _lines(vocabulary):
                raise InputError(
                    f"{last_seen}: must have as many lines as {vocabulary}; was a file "
                    "of this directory changed or cut short?"
                )
    counts = _counts_of(directory, field, stored, expected)
    return FieldSpec(
        field,
        offset,
        expected,
        boundaries,
        vocabulary,
        counts,
        last_seen,
        mean=mean,
        deviation=deviation,
        statistic=statistic,
    )


def _counts_of(
    directory: Path, field: Field, stored: dict[str, Any], expected: int
) -> Path:
    """The path of a field's counts, of which there must be so many."""
    counts = _inside(directory, stored["counts"])
    rows = _lines(counts)
    if rows != expected or rows != stored["rows"]:
        raise InputError(
            f"{counts}: has {rows} lines where {expected} and {stored['rows']} were "
            "expected; was a file of this directory changed or cut short?"
        )
    return counts


def _inside(directory: Path, name: str) -> Path:
    """A file's path, which must not lead out of the directory, nor to a device."""
    path = directory / name
    if not path.resolve().is_relative_to(directory.resolve()):
        raise InputError(f"leads out of its directory. Received: {name!r}")
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: is no file")
    return path


def _numbers(path: Path, rows: int) -> np.ndarray:
    """The numbers of a file of counts."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # of what is no number
        try:
            numbers = np.fromfile(path, np.int64, sep="\n")
        except (ValueError, DeprecationWarning):
            numbers = np.empty(0, np.int64)
    if len(numbers) != rows or (numbers < 0).any():
        raise InputError(
            f"{path}: must hold {rows} whole numbers of at least 0, one a line"
        )
    return numbers


def _lines(path: Path) -> int:
    try:
        with open(path, "rb") as file:
            return sum(
                chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b"")
            )
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
