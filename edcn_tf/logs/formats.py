"""Text formats of click logs: plain CSV and TSV, and Criteo's and Avazu's own."""

import dataclasses
from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from edcn_tf.errors import InputError
from edcn_tf.field import Field
from edcn_tf.schema import Schema


@dataclasses.dataclass(frozen=True)
class TextFormat:
    """How a text log is laid out.

    Args:
        delimiter: What separates columns.
        names: The columns' names where the file has no header line.
        quote: What values may stand in; none if empty.
        escape: What a quote inside a value has before it; doubled if empty.
        comment: What a line begins with that is passed over; none if empty.
        label: Name of the column that a file without clicks does not have, though
            those with clicks do.
        derive: Adds columns that are computed from those in the file.
        derived: Name of each such column -> name of the column it is computed from.
    """

    delimiter: str
    names: tuple[str, ...] | None = None
    quote: str = '"'
    escape: str = ""
    comment: str = ""
    label: str | None = None
    derive: Callable | None = None
    derived: dict[str, str] = dataclasses.field(default_factory=dict)

    def spoken(self, dialect):
        """The format with what a `Dialect` says otherwise."""
        if dialect is None:
            return self
        own = {field.name for field in dataclasses.fields(self)}
        said = {key: value for key, value in dialect.to_dict().items() if key in own}
        if len(said.get("delimiter", "")) > 1:
            said["quote"] = ""
        return dataclasses.replace(self, **said)

    def needed(self, columns):
        """Names of the columns in the file that `columns` are made from."""
        return list(dict.fromkeys(self.derived.get(c, c) for c in columns))


def _avazu_time(batch, path, first_row):
    """Adds hour of day, weekday and seconds since 1970 from `hour` (YYMMDDHH)."""
    if "hour" not in batch.schema.names:
        return batch
    hours = pc.cast(batch["hour"], pa.string())
    fits = pc.match_substring_regex(hours, r"^\d{8}$")
    hours = pc.if_else(fits, hours, pa.scalar(None, pa.string()))
    times = pc.strptime(hours, format="%y%m%d%H", unit="s", error_is_null=True)
    if times.null_count:
        row = pc.index(pc.is_null(times), True).as_py()
        raise InputError(
            f"{path}: row {first_row + row}, column 'hour': expected YYMMDDHH. "
            f"Received: {batch['hour'][row].as_py()!r}"
        )
    columns = {
        **{name: batch[name] for name in batch.schema.names},
        "hour_of_day": pc.cast(pc.hour(times), pa.string()),
        "weekday": pc.cast(pc.day_of_week(times), pa.string()),
        "time": pc.cast(times, pa.int64()),
    }
    return pa.RecordBatch.from_pydict(columns)


_CRITEO_NUMBERS = tuple(f"I{i}" for i in range(1, 14))
_CRITEO_STRINGS = tuple(f"C{i}" for i in range(1, 27))
_AVAZU_STRINGS = (
    *("C1", "banner_pos", "site_id", "site_domain", "site_category"),
    *("app_id", "app_domain", "app_category", "device_id", "device_ip"),
    *("device_model", "device_type", "device_conn_type"),
    *(f"C{i}" for i in range(14, 22)),
    *("hour_of_day", "weekday"),
)

TEXT = {
    "csv": TextFormat(","),
    "tsv": TextFormat("\t", quote=""),  # as it is written, quotes and all
    "criteo": TextFormat(
        "\t",
        names=("label", *_CRITEO_NUMBERS, *_CRITEO_STRINGS),
        quote="",
        label="label",
    ),
    "avazu": TextFormat(
        ",",
        derive=_avazu_time,
        derived={"hour_of_day": "hour", "weekday": "hour", "time": "hour"},
    ),
}

SCHEMAS = {
    "criteo": Schema(
        label="label",
        fields=tuple(
            Field(name=name, kind="numeric", scale="log", buckets=40)
            for name in _CRITEO_NUMBERS
        )
        + tuple(Field(name=name, min_count=10) for name in _CRITEO_STRINGS),
    ),
    "avazu": Schema(
        label="click",
        timestamp="time",
        fields=tuple(Field(name=name) for name in _AVAZU_STRINGS),
    ),
}
