"""What a click log is: which column is the label, which are fields, and how."""

import dataclasses
import datetime
import functools
from typing import Any

from edcn_tf.checks import check_printable
from edcn_tf.dialect import Dialect
from edcn_tf.errors import InputError
from edcn_tf.field import Field
from edcn_tf.files import StrPath, read_json, write_json

AS_NUMBER = "number"  # a timestamp's format


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schema:
    """Which columns of a log the model learns from.

    Args:
        label: Column with 0 or 1 (also true/false).
        fields: The `Field`s the model looks at, in their order.
        group: Column by which GAUC groups impressions, usually the user.
        timestamp: Column to split a log, and order histories, by time: a number (any
            unit), or a date and time in ISO 8601 (seconds since 1970, UTC). Fractions
            count; records store it without them.
        timestamp_format: How `timestamp` is written, where it is otherwise: as
            `datetime.strptime` takes it, such as `"%d/%m/%Y %H:%M"`, or `"number"`
            for numbers of eight digits that look like days but are none.
        weight: Column with each row's weight in the loss, not negative.
        dialect: `Dialect` of CSV and TSV logs that are written otherwise.

    Raises:
        InputError: If a column is named twice, there is no field, or a sequence or a
            cross is of, or along, what it cannot be.
    """

    label: str
    fields: tuple[Field, ...]
    group: str | None = None
    timestamp: str | None = None
    weight: str | None = None
    dialect: Dialect | None = None
    timestamp_format: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "fields", tuple(self.fields))
        check_printable("`label`", self.label)
        for key in ("group", "timestamp", "weight"):
            if getattr(self, key) is not None:
                check_printable(f"`{key}`", getattr(self, key))
        if not self.fields:
            raise InputError("The schema has no fields. Received: fields=[]")
        names = [field.name for field in self.fields]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InputError(f"Field named twice in the schema. Received: {twice[0]!r}")
        # TensorFlow makes one input of two names that differ in case alone.
        lower = [name.lower() for name in names]
        twins = [name for name in names if lower.count(name.lower()) > 1]
        if twins:
            raise InputError(
                "Fields must differ in more than upper and lower case. "
                f"Received: {twins[0]!r} and {twins[1]!r}"
            )
        of_column = {field.column: field.name for field in self.fields if field.column}
        if self.group and self.group not in names:  # by its column a field, perhaps
            object.__setattr__(self, "group", of_column.get(self.group, self.group))
        for key in ("label", "weight"):
            if getattr(self, key) in {*names, *of_column}:
                raise InputError(
                    f"The {key} column is also a field, which would let the model see "
                    f"its answer. Received: {getattr(self, key)!r}"
                )
        roles = [c for c in (self.label, self.timestamp, self.weight) if c]
        if len(roles) != len(set(roles)) or self.group in roles:
            raise InputError(
                "label, group, timestamp and weight must be different columns. "
                f"Received: {[self.label, self.group, self.timestamp, self.weight]}"
            )
        groups = [field for field in self.fields if field.name == self.group]
        if any(field.parts or field.is_statistic for field in groups):
            raise InputError(
                f"The group must be a column, which a {groups[0].kind} is not. "
                f"Received: {self.group!r}"
            )
        if any(field.is_list or field.is_vector for field in groups):
            raise InputError(
                "The group column must have one value a row, but the field is a list. "
                f"Received: {self.group!r}"
            )
        if self.timestamp in {*names, *of_column} - {None}:
            raise InputError(
                "The timestamp column is also a field; give the model what the time "
                "means (hour, weekday) as columns of their own. "
                f"Received: {self.timestamp!r}"
            )
        self._check_timestamp_format()
        self._check_statistics()
        by_name = {field.name: field for field in self.fields}
        fields = tuple(_completed(field, by_name) for field in self.fields)
        object.__setattr__(self, "fields", fields)

    def _check_statistics(self) -> None:
        for field in self.statistics:
            if self.label in field.counted:
                raise InputError(
                    f"Field {field.name!r}: a statistic is of fields, and counts the "
                    f"label of itself; leave it out of `of`. Received: {self.label!r}"
                )
            for key in ("delay", "half_life"):
                if getattr(field, key) is not None and self.timestamp is None:
                    raise InputError(
                        f"Field {field.name!r}: `{key}` needs a timestamp in the "
                        f"schema. Received: {getattr(field, key)!r}"
                    )

    def _check_timestamp_format(self) -> None:
        if self.timestamp_format is None:
            return
        check_printable("`timestamp_format`", self.timestamp_format)
        if self.timestamp is None:
            raise InputError("`timestamp_format` needs the column's name: `timestamp`")
        if self.timestamp_format == AS_NUMBER:
            return
        day = datetime.datetime(2001, 2, 3)
        try:
            # A zone's name means another thing on each machine; %z is its offset.
            if "%Z" in self.timestamp_format:
                raise ValueError("%Z")
            datetime.datetime.strptime(
                day.strftime(self.timestamp_format), self.timestamp_format
            )
        except ValueError:
            raise InputError(
                '`timestamp_format` must be "number", or a form of datetime.strptime '
                'without %Z, such as "%d/%m/%Y %H:%M:%S". '
                f"Received: {self.timestamp_format!r}"
            ) from None

    @property
    def inputs(self) -> tuple[Field, ...]:
        """The fields of which logs and requests hold values.

        Neither crosses nor statistics, which are made of others.
        """
        made = ("cross", "statistic")
        return tuple(field for field in self.fields if field.kind not in made)

    @property
    def statistics(self) -> tuple[Field, ...]:
        """The fields that are counted of the log."""
        return tuple(field for field in self.fields if field.is_statistic)

    def column(self, name: str) -> str:
        """The log's name of one of `columns`."""
        return self._of_log.get(name, name)

    def named(self, column: str) -> str:
        """The name, of `columns`, that a column of the log has; a field's stays."""
        if any(field.name == column for field in self.inputs):
            return column
        names = (f.name for f in self.fields if f.column == column)
        return next(names, column)

    @functools.cached_property
    def _of_log(self) -> dict[str, str]:
        return {field.name: field.column for field in self.fields if field.column}

    def owner(self, field: Field) -> Field:
        """The field whose rows of the table a field's values have: mostly its own."""
        if not field.shares_rows:
            return field
        return next(owner for owner in self.fields if owner.name == field.of)

    @property
    def sequences(self) -> list[list[Field]]:
        """Each sequence that is along no other, with those along it: lists."""
        return [
            [main, *(f for f in self.fields if f.along == main.name)]
            for main in self.fields
            if main.kind == "sequence" and main.along is None
        ]

    @property
    def columns(self) -> list[str]:
        """Every column that is read from the log, fields first."""
        extra = (self.label, self.group, self.timestamp, self.weight)
        names = [field.name for field in self.inputs]
        return names + [c for c in extra if c is not None and c not in names]

    def to_dict(self) -> dict[str, Any]:
        """The schema as JSON."""
        roles = {
            key: getattr(self, key)
            for key in ("label", "group", "timestamp", "timestamp_format", "weight")
            if getattr(self, key) is not None
        }
        if self.dialect:
            roles["dialect"] = self.dialect.to_dict()
        return {**roles, "fields": [field.to_dict() for field in self.fields]}

    @classmethod
    def from_dict(cls, config: Any) -> "Schema":
        """Builds a schema from JSON; an unknown or missing key is an `InputError`."""
        config = _checked_keys(cls, config, "The schema")
        if not isinstance(config["fields"], list):
            raise InputError(
                f"`fields` must be a list of fields. Received: {config['fields']!r}"
            )
        if config.get("dialect") is not None:
            dialect = _checked_keys(Dialect, config["dialect"], "The dialect")
            config["dialect"] = Dialect(**dialect)
        fields = []
        for position, field in enumerate(config.pop("fields")):
            fields.append(Field(**_checked_keys(Field, field, f"Field {position}")))
        return cls(**config, fields=tuple(fields))

    def save(self, path: StrPath) -> None:
        """Writes the schema as a JSON file."""
        write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: StrPath) -> "Schema":
        """Reads a schema from a JSON file; `InputError` names the file."""
        try:
            return cls.from_dict(read_json(path))
        except InputError as error:
            if str(path) in str(error):
                raise
            raise InputError(f"{path}: {error}") from None


def _completed(field: Field, by_name: dict[str, Field]) -> Field:
    """A field that is of others, or along one, with what it has from them."""
    if field.parts or field.counted:
        return _combination_completed(field, by_name)
    if field.kind != "sequence":
        return field
    inherited: dict[str, Any] = {}
    if field.of is not None:
        owner = by_name.get(field.of) if isinstance(field.of, str) else None
        if owner is None or owner.kind != "categorical" or owner.multiple:
            raise InputError(
                f"Field {field.name!r}: `of` must name a categorical field with one "
                f"value a row. Received: {field.of!r}"
            )
        inherited["dtype"] = owner.dtype
    if field.along is not None:
        main = by_name.get(field.along) if isinstance(field.along, str) else None
        if main is None or main.kind != "sequence" or main.along is not None:
            raise InputError(
                f"Field {field.name!r}: `along` must name a sequence that is along no "
                f"other. Received: {field.along!r}"
            )
        inherited["max_length"] = main.max_length
    for key, value in inherited.items():
        if getattr(field, key) not in (None, value):
            raise InputError(
                f"Field {field.name!r}: `{key}` is that of "
                f"{field.of if key == 'dtype' else field.along!r}, {value!r}; leave it "
                f"out. Received: {getattr(field, key)!r}"
            )
    return dataclasses.replace(field, **inherited)


def _combination_completed(field: Field, by_name: dict[str, Field]) -> Field:
    names = field.parts or field.counted
    lists = []
    for name in names:
        part = by_name.get(name)
        if part is not None and part.multiple and field.is_statistic:
            lists.append(name)
        elif part is None or part.kind != "categorical" or part.multiple:
            one = "" if field.is_statistic else " with one value a row"
            raise InputError(
                f"Field {field.name!r}: `of` must name categorical fields{one}. "
                f"Received: {name!r}"
            )
    if len(lists) > 1:
        raise InputError(
            f"Field {field.name!r}: of the fields that it is `of` one may be a list. "
            f"Received: {lists}"
        )
    candidate = any(by_name[name].candidate for name in names)
    if field.candidate and not candidate:
        raise InputError(
            f"Field {field.name!r}: a {field.kind} is `candidate` if one of its fields "
            f"is; leave it out. Received: {field.candidate!r}"
        )
    return dataclasses.replace(field, candidate=candidate)


def _checked_keys(cls: type[Any], config: Any, what: str) -> dict[str, Any]:
    if not isinstance(config, dict):
        raise InputError(f"{what} must be a JSON object. Received: {config!r}")
    known = {f.name: f for f in dataclasses.fields(cls)}
    unknown = sorted(set(config) - set(known))
    if unknown:
        raise InputError(
            f"{what} has a key that is not known: it may have {list(known)}. "
            f"Received: {unknown[0]!r}"
        )
    for key, field in known.items():
        if field.default is dataclasses.MISSING and key not in config:
            raise InputError(f"{what} lacks `{key}`. Received: {config!r}")
    return dict(config)
