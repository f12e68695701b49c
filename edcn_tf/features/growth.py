"""A vocabulary that goes on from that of earlier logs: day by day."""

import dataclasses
import functools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from edcn_tf.directories import PreparedData
from edcn_tf.errors import InputError
from edcn_tf.features.spec import FeatureSpec

# What the rows of a field's values, and what is made of them, depend on.
MEANING = (
    *("kind", "dtype", "hash_buckets", "unseen_rows", "pooling", "of", "along"),
    *("length", "delay", "half_life", "smoothing", "prior"),
)
OF_STATISTICS = ("buckets", "min_count")  # what is made of counts depends on, too


@dataclasses.dataclass(frozen=True)
class Growth:
    """How the FeatureSpec of a log goes on from an earlier one.

    The log is a day more than those before it. A value has a row if the log has it
    `min_count` times, or if it had a row before; counts are those of all days
    together. Ranges of numbers stay what they are, as do means and deviations of
    vectors.

    Args:
        directory: Prepared data or a run: where `features/` of the days before is.
        forget_after: Values that the last so many days, this one among them, did not
            have lose their row; `None` forgets none.
        refit: Names of the numeric fields whose ranges are fitted to this log anew.

    Raises:
        InputError: If `forget_after` is below 1.
    """

    directory: str | Path
    forget_after: int | None = None
    refit: tuple[str, ...] = ()

    def __post_init__(self):
        if self.forget_after is not None and self.forget_after < 1:
            raise InputError(
                f"Days to forget after are at least 1. Received: {self.forget_after}"
            )

    @functools.cached_property
    def spec(self):
        """The `FeatureSpec` of the days before."""
        return FeatureSpec.load(PreparedData(self.directory).features)

    @property
    def day(self):
        """Number of the log's day; that of a log which goes on from none is 1."""
        return self.spec.day + 1

    def check(self, schema):
        """Raises an `InputError` for fields that cannot be gone on with."""
        check_fields(self.spec.schema, schema)
        before = {field.name: field for field in self.spec.schema.fields}
        numeric = [field for field in schema.fields if field.has_ranges]
        for name in self.refit:
            if name not in [field.name for field in numeric]:
                raise InputError(
                    "Only numeric fields have ranges to fit anew: "
                    f"{[field.name for field in numeric]}. Received: {name!r}"
                )
        for field in numeric:
            old = before.get(field.name, field)
            if field.name not in self.refit and (old.buckets, old.scale) != (
                field.buckets,
                field.scale,
            ):
                raise InputError(
                    f"Field {field.name!r} keeps its {old.buckets} ranges by "
                    f"{old.scale}; leave the schema so, or fit them anew: "
                    f"--refit {field.name}. Received: {field.buckets} by {field.scale}"
                )

    def earlier(self, field):
        """The `FieldSpec` that a field's rows go on from, or `None`."""
        found = [own for own in self.spec.fields if own.field.name == field.name]
        return found[0] if found and field.name not in self.refit else None

    def keep(self, counter):
        """The values of all days that have a row: `FieldCounter.keep` with `last_seen`.

        Args:
            counter: The `FieldCounter` of this day.
        """
        today = counter.values.table()
        new = pa.table(
            {
                "value": today["value"],
                "count": today["count"],
                "today": today["count"],
                "last_seen": np.full(today.num_rows, self.day),
                "had_row": np.zeros(today.num_rows, np.int8),
            }
        )
        tables, earlier = [new], self.earlier(counter.field)
        if earlier:
            tables.insert(0, self._values_of(earlier))
        table = pa.concat_tables(tables)
        del today, new, tables
        names = table.column_names
        how = dict.fromkeys(names[1:], "max") | {"count": "sum", "today": "sum"}
        table = table.group_by("value", use_threads=False).aggregate(list(how.items()))
        table = table.select(["value", *(f"{name}_{how[name]}" for name in names[1:])])
        table = table.rename_columns(names)
        enough = pc.greater_equal(table["count"], counter.field.min_count)
        may_stay = pc.or_(pc.equal(table["had_row"], 1), enough)
        if self.forget_after is not None:
            oldest = self.day - self.forget_after
            may_stay = pc.and_(may_stay, pc.greater(table["last_seen"], oldest))
        return counter.keep(table.append_column("may_stay", may_stay))

    def _values_of(self, earlier):
        rows = earlier.rows - (earlier.first_value - earlier.offset)
        return pa.table(
            {
                "value": earlier.values(),
                "count": earlier.row_counts()[-rows:] if rows else np.zeros(0, int),
                "today": np.zeros(rows, int),
                "last_seen": earlier.days_last_seen(),
                "had_row": np.ones(rows, np.int8),
            }
        )

    def new_and_forgotten(self, spec):
        """How many values of a `FieldSpec` had no row, and how many lost it."""
        earlier = self.earlier(spec.field)
        if not spec.vocabulary:
            return 0, 0
        values = spec.values()
        if earlier is None:
            return len(values), 0
        before = earlier.values()
        both = pc.sum(pc.is_in(values, before)).as_py() or 0
        return len(values) - both, len(before) - both


def check_fields(earlier, schema):
    """Raises an `InputError` if what a field's rows stand for has changed.

    Args:
        earlier: The `Schema` of the days before.
        schema: That of the new day, in which fields may be new or lacking.
    """
    before = {field.name: field for field in earlier.fields}
    both = [field for field in schema.fields if field.name in before]
    for field in both:
        old = before[field.name]
        for key in MEANING + OF_STATISTICS * field.is_statistic:
            if getattr(old, key) != getattr(field, key):
                raise InputError(
                    f"Field {field.name!r}: `{key}` was {getattr(old, key)!r}, which "
                    "its embeddings were trained for; leave it so, or give the field "
                    f"another name. Received: {getattr(field, key)!r}"
                )
    names = [field.name for field in both]
    order = [name for name in before if name in names]
    if names != order:
        raise InputError(f"Fields must stay in their order: {order}. Received: {names}")
