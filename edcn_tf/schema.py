"""What a click log is: which column is the label, which are fields, and how."""

import dataclasses
import datetime
import functools
import json
import keyword
import re
from collections.abc import Collection
from typing import Any, NoReturn

from edcn_tf.checks import check_flag, check_printable, is_whole
from edcn_tf.dialect import Dialect
from edcn_tf.errors import InputError
from edcn_tf.files import StrPath, read_json, write_json

KINDS = ("categorical", "numeric", "sequence", "cross")
POOLINGS = ("mean", "sum")
MOST_ROWS = 2**31 - 1  # of the table: ids are int32
MOST_PARTS = 4  # of a cross
MOST_SLOTS = 10_000  # of a field: each takes 4 bytes of every row
SCALES = ("quantile", "log")
FIELD_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}")
DTYPES = {
    "categorical": ("string", "int64"),
    "numeric": ("float32", "int64"),
    "cross": ("string",),
}
# What stands for a missing value where there must be one.
MISSING: dict[str | None, Any] = {
    "string": "",
    "int64": -(2**63),
    "float32": float("nan"),
}
SEQUENCE_LENGTH = 50  # by default
AS_NUMBER = "number"  # a timestamp's format


@dataclasses.dataclass(frozen=True, kw_only=True)
class Field:
    """One column of the log that the model looks at, or a cross of some.

    Args:
        name: The field's name, an input of the served model: in requests, and in the
            log unless `column` says otherwise.
        kind: `"categorical"` (each value has its own embedding), `"numeric"`
            (each of `buckets` ranges has its own embedding; or, with `length`, a
            vector that is projected to one), `"sequence"` (a list
            whose order counts, such as a user's history: oldest first, newest last;
            of numbers if it has `buckets`) or `"cross"` (each combination of the
            values of some fields has its own embedding; it is no column of the log,
            and no input of the served model, for the encoder makes it).
        dtype: How values are stored and served: `"string"` (default) or `"int64"`
            for categorical values, `"float32"` (default) or `"int64"` for numbers;
            for a sequence `of` a field, that field's.
        min_count: Categorical, cross. A value seen in fewer training rows is treated as
            unseen. The default of 2 leaves some training rows for the unseen
            value's embedding to learn from.
        max_size: Categorical, cross. Keep at most this many values, the most frequent.
        hash_buckets: Categorical, cross. Hash values into this many rows in place of a
            vocabulary (then `min_count` and `max_size` must not be given).
        unseen_rows: Categorical, cross. Number of rows that unseen values are hashed
            to.
        multiple: Categorical. Whether a row holds a list of values.
        separator: What separates the values of a list, or the numbers of a vector, in
            a text log.
        max_length: At most this many values of a list are used: the first ones (by
            default 8), of a sequence the newest, which are the last (50).
        pooling: `"mean"` or `"sum"` of the embeddings of a list.
        of: Sequence. Name of the categorical field whose values it holds, and whose
            embeddings it shares: a history of films is of the field that is the film.
            Without, the sequence has a vocabulary, or ranges, of its own.
            Cross. Names of two to four categorical fields with one value a row; where
            one of them is missing, so is the combination.
        along: Sequence. Name of another sequence whose positions it tells more about,
            value by value: the category of each film, or how long ago it was. What
            positions there are, and the longest length, is said by that one.
        buckets: Numeric. At most this many ranges.
        length: Numeric. A row holds a vector of so many numbers, such as an embedding
            of the item's image, or none.
        candidate: Whether the field describes what is ranked (the ad, the item) and
            not the user or the context. Where some fields do, the exported model can
            rank many candidates for one user in one request. A cross does if one of
            its fields does.
        scale: Numeric. `"quantile"` (ranges hold about the same number of training
            rows) or `"log"` (ranges of equal width in asinh(x), which is log(x)
            for large x and also takes zero and negative numbers).
        column: Name of the log's column, any printable text, where it is another than
            the field's: `"education-num"`, `"class"`, `"user_id:token"`.

    Raises:
        InputError: If a value is out of its range or does not fit the kind.
    """

    name: str
    kind: str = "categorical"
    dtype: str | None = None
    min_count: int | None = None
    max_size: int | None = None
    hash_buckets: int | None = None
    unseen_rows: int = 1
    multiple: bool = False
    separator: str = "|"
    max_length: int | None = None
    pooling: str = "mean"
    buckets: int | None = None
    scale: str = "quantile"
    candidate: bool = False
    of: str | tuple[str, ...] | None = None
    along: str | None = None
    column: str | None = None
    length: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not FIELD_NAME.fullmatch(self.name):
            raise InputError(
                "A field's name becomes an input of the served model, so it must be "
                "letters, digits and _ (100 at most, a letter first); give it another "
                "name, and the log's as its `column`, "
                f"{_name_and_column(self.name)}. Received: {self.name!r}"
            )
        if self.column is not None:
            check_printable(f"Field {self.name!r}: `column`", self.column)
        if self.name == "self" or keyword.iskeyword(self.name):
            self._fail(
                "TensorFlow can have no input of that name; give it another, and the "
                f"log's as its `column`, {_name_and_column(self.name)}",
                self.name,
            )
        self._check_choice("kind", KINDS)
        self._check_flag("candidate")
        if self.kind == "sequence":
            self._check_sequence()
        elif self.kind == "cross":
            self._check_cross()
        else:
            self._refuse("of", "along")
        if self.kind != "numeric":
            self._refuse("length")
        if self.shares_rows:
            return  # whose dtype the schema knows
        if self.is_vector:
            return self._check_vector()
        kind = "numeric" if self.has_ranges else "categorical"
        if self.parts:
            kind = "cross"
        if self.dtype is None:
            object.__setattr__(self, "dtype", DTYPES[kind][0])
        self._check_choice("dtype", DTYPES[kind])
        if self.has_ranges:
            self._check_ranges()
        else:
            self._check_values()
        if self.multiple:
            self._default("max_length", 8)
            self._check_int("max_length", 1, MOST_SLOTS)
            self._check_list()
        elif self.kind != "sequence":
            self._refuse("max_length")

    def _check_sequence(self) -> None:
        if self.multiple:
            self._fail("a sequence is a list without `multiple`", self.multiple)
        if self.candidate:
            self._fail(
                "a sequence tells of the user, so it cannot be `candidate`",
                self.candidate,
            )
        if self.along is None:
            self._default("max_length", SEQUENCE_LENGTH)
        if self.along is None or self.max_length is not None:
            self._check_int("max_length", 1, MOST_SLOTS)
        self._check_list()
        if self.of is not None:
            self._refuse("min_count", "max_size", "hash_buckets", "buckets")
            if self.unseen_rows != 1:
                self._fail(
                    "`unseen_rows` are those of the field `of`", self.unseen_rows
                )

    def _check_cross(self) -> None:
        names = self.of if isinstance(self.of, (list, tuple)) else ()
        if (
            not 2 <= len(names) <= MOST_PARTS
            or not all(isinstance(name, str) for name in names)
            or len(set(names)) < len(names)
        ):
            self._fail(
                f"`of` must be 2 to {MOST_PARTS} different names of fields", self.of
            )
        object.__setattr__(self, "of", tuple(names))
        self._refuse("along", "column")
        self._refuse_changed("a cross", "multiple", "separator", "scale", "pooling")

    def _check_vector(self) -> None:
        self._default("dtype", "float32")
        self._check_choice("dtype", ("float32",))
        self._check_int("length", 1, MOST_SLOTS)
        self._check_list()
        self._refuse("buckets", "min_count", "max_size", "hash_buckets", "max_length")
        keys = ("multiple", "scale", "pooling", "unseen_rows")
        self._refuse_changed("a vector, which `length` makes it", *keys)

    def _check_list(self) -> None:
        self._check_choice("pooling", POOLINGS)
        if not isinstance(self.separator, str) or not self.separator:
            self._fail("`separator` must be a text", self.separator)

    def _check_ranges(self) -> None:
        self._refuse("min_count", "max_size", "hash_buckets")
        if self.multiple:
            self._fail("`multiple` is for categorical fields", self.multiple)
        self._default("buckets", 32)
        self._check_int("buckets", 2)
        self._check_choice("scale", SCALES)

    def _check_values(self) -> None:
        self._refuse("buckets")
        if self.hash_buckets is not None:
            self._refuse("min_count", "max_size")
            self._check_int("hash_buckets", 1, MOST_ROWS)
        else:
            self._default("min_count", 2)
            self._check_int("min_count", 1)
            if self.max_size is not None:
                self._check_int("max_size", 1)
        self._check_int("unseen_rows", 1, MOST_ROWS)
        self._check_flag("multiple")

    @property
    def is_list(self) -> bool:
        """Whether a row of the log holds a list."""
        return self.multiple or self.kind == "sequence"

    @property
    def is_vector(self) -> bool:
        """Whether a row of the log holds a vector, or none."""
        return self.length is not None

    @property
    def has_ranges(self) -> bool:
        """Whether its values are numbers, in ranges with a row each."""
        numbers = self.kind == "sequence" and self.buckets is not None
        return (self.kind == "numeric" and not self.is_vector) or numbers

    @property
    def shares_rows(self) -> bool:
        """Whether its values' rows are those of another field."""
        return self.kind == "sequence" and self.of is not None

    @property
    def parts(self) -> tuple[str, ...]:
        """Of a cross the names of the fields that it combines; else none."""
        crossed = self.kind == "cross" and isinstance(self.of, tuple)
        return self.of if crossed else ()  # type: ignore[return-value]

    @property
    def slots(self) -> int:
        """Number of ids that one row of the log has for this field.

        A vector has one, and a slot for each of its numbers.
        """
        if self.length is not None:
            return 1 + self.length
        return self.max_length if self.is_list else 1  # type: ignore[return-value]

    @property
    def has_vocabulary(self) -> bool:
        """Whether values have rows of its own, by a vocabulary."""
        rows = self.has_ranges or self.hash_buckets or self.shares_rows
        return not (rows or self.is_vector)

    def to_dict(self) -> dict[str, Any]:
        """The field as JSON, without what is at its default."""
        defaults = {f.name: f.default for f in dataclasses.fields(self)}
        values = dataclasses.asdict(self)
        if self.parts:
            values["of"] = list(self.parts)
        return {
            key: value
            for key, value in values.items()
            if key in ("name", "kind") or value != defaults[key]
        }

    def _default(self, key: str, value: Any) -> None:
        if getattr(self, key) is None:
            object.__setattr__(self, key, value)

    def _check_choice(self, key: str, choices: Collection[str]) -> None:
        if getattr(self, key) not in choices:
            self._fail(f"`{key}` must be one of {list(choices)}", getattr(self, key))

    def _check_flag(self, key: str) -> None:
        check_flag(f"Field {self.name!r}: `{key}`", getattr(self, key))

    def _check_int(self, key: str, minimum: int, maximum: int | None = None) -> None:
        value = getattr(self, key)
        if not is_whole(value, minimum):
            self._fail(f"`{key}` must be a whole number of at least {minimum}", value)
        if maximum is not None and value > maximum:
            self._fail(f"`{key}` must be a whole number of at most {maximum}", value)

    def _refuse(self, *keys: str) -> None:
        for key in keys:
            if getattr(self, key) is not None:
                what = "a hashed field" if self.hash_buckets else f"a {self.kind} field"
                if key == "max_length":
                    what = "a field that is not `multiple`"
                elif key in ("of", "along"):
                    what = "a field that is no sequence"
                elif self.shares_rows:
                    what = "a sequence that shares the rows of a field"
                if self.is_vector and self.kind == "numeric":
                    what = "a vector, which `length` makes it"
                if self.parts:
                    what = "a hashed cross" if self.hash_buckets else "a cross"
                self._fail(f"`{key}` has no meaning for {what}", getattr(self, key))

    def _refuse_changed(self, what: str, *keys: str) -> None:
        for key in keys:
            value = getattr(self, key)
            if value != Field.__dataclass_fields__[key].default:
                self._fail(f"`{key}` has no meaning for {what}", value)

    def _fail(self, message: str, received: Any) -> NoReturn:
        raise InputError(f"Field {self.name!r}: {message}. Received: {received!r}")


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
        if any(field.parts for field in groups):
            raise InputError(
                "The group must be a column, which a cross is not. "
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
        by_name = {field.name: field for field in self.fields}
        fields = tuple(_completed(field, by_name) for field in self.fields)
        object.__setattr__(self, "fields", fields)

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
        """The fields of which logs, records and requests hold values: no crosses."""
        return tuple(field for field in self.fields if not field.parts)

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


def _name_and_column(column: Any) -> str:
    """An example for a column whose name a field cannot have."""
    name = re.sub(r"[^A-Za-z0-9_]+", "_", str(column)).strip("_")
    if name == "self" or keyword.iskeyword(name) or not FIELD_NAME.fullmatch(name):
        name = f"field_{name}".rstrip("_")[:100]
    shown = json.dumps({"name": name, "column": str(column)}, ensure_ascii=False)
    return f"such as {shown}"


def _completed(field: Field, by_name: dict[str, Field]) -> Field:
    """A sequence or a cross with what it has from the fields that it is of or along."""
    if field.parts:
        return _cross_completed(field, by_name)
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


def _cross_completed(field: Field, by_name: dict[str, Field]) -> Field:
    for name in field.parts:
        part = by_name.get(name)
        if part is None or part.kind != "categorical" or part.multiple:
            raise InputError(
                f"Field {field.name!r}: `of` must name categorical fields with one "
                f"value a row. Received: {name!r}"
            )
    candidate = any(by_name[name].candidate for name in field.parts)
    if field.candidate and not candidate:
        raise InputError(
            f"Field {field.name!r}: a cross is `candidate` if one of its fields is; "
            f"leave it out. Received: {field.candidate!r}"
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
