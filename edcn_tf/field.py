"""A field: one column of a click log that the model looks at, and how."""

import dataclasses
import json
import keyword
import math
import re
from collections.abc import Collection
from typing import Any, NoReturn

from edcn_tf.checks import check_flag, check_printable, is_number, is_whole
from edcn_tf.errors import InputError

KINDS = ("categorical", "numeric", "sequence", "cross", "statistic")
POOLINGS = ("mean", "sum")
MOST_ROWS = 2**31 - 1  # of the table: ids are int32
MOST_PARTS = 4  # of a cross or a statistic
MOST_SLOTS = 10_000  # of a field: each takes 4 bytes of every row
SCALES = ("quantile", "log")
# What only a statistic has.
OF_STATISTICS = ("delay", "half_life", "smoothing", "prior")
FIELD_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}")
DTYPES = {
    "categorical": ("string", "int64"),
    "numeric": ("float32", "int64"),
    "cross": ("string",),
    "statistic": ("float32",),
}
# What stands for a missing value where there must be one.
MISSING: dict[str | None, Any] = {
    "string": "",
    "int64": -(2**63),
    "float32": float("nan"),
}
SEQUENCE_LENGTH = 50  # by default
DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])")  # "1d", "6h", "30m", "45s"
NEXT_DAY = "day"  # a delay: known from the next day on
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


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
            of numbers if it has `buckets`), `"cross"` (each combination of the
            values of some fields has its own embedding; it is no column of the log,
            and no input of the served model, for the encoder makes it) or
            `"statistic"` (the click rate that a value, or a combination, has had, and
            its impressions, in ranges that have an embedding each; counted of the
            log, and looked up by the encoder).
        dtype: How values are stored and served: `"string"` (default) or `"int64"`
            for categorical values, `"float32"` (default) or `"int64"` for numbers;
            for a sequence `of` a field, that field's.
        min_count: Categorical, cross. A value seen in fewer training rows is treated as
            unseen. The default of 2 leaves some training rows for the unseen
            value's embedding to learn from. Statistic: below so many impressions
            (default 1) a key counts as one without any.
        max_size: Categorical, cross. Keep at most this many values, the most frequent.
            Statistic: serve at most this many keys, those with most impressions.
        hash_buckets: Categorical, cross. Hash values into this many rows in place of a
            vocabulary (then `min_count` and `max_size` must not be given). Statistic:
            hash keys into so many, which those that meet there share.
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
            Statistic. Name of a categorical field, or of up to four, of which one may
            be `multiple`: of their combination, which backs off to that without the
            last, and so on to the first alone.
        along: Sequence. Name of another sequence whose positions it tells more about,
            value by value: the category of each film, or how long ago it was. What
            positions there are, and the longest length, is said by that one.
        buckets: Numeric. At most this many ranges. Statistic: of the rate, and of the
            impressions.
        delay: Statistic. How long after a row its label is known: `"1d"`, `"6h"`,
            `"30m"`, `"45s"`, or a number in the timestamp's unit: what is counted of a
            row is of rows more than that before it. Or `"day"`: of rows of the days
            before it (UTC). By default `"1d"` where rows are not split by chance and
            the schema has a timestamp; where there is none, rows are counted in an
            order that is drawn.
        half_life: Statistic. A time after which a click or impression counts half,
            written as `delay`; by default they do not age.
        smoothing: Statistic. A of (clicks + A * rate before) / (impressions + A), in
            impressions, above 0; by default what predicts the training rows best.
        prior: Statistic. The rate of a key that nothing is known of, in (0, 1); by
            default that of all training rows.
        length: Numeric. A row holds a vector of so many numbers, such as an embedding
            of the item's image, or none.
        candidate: Whether the field describes what is ranked (the ad, the item) and
            not the user or the context. Where some fields do, the exported model can
            rank many candidates for one user in one request. A cross or a statistic
            does if one of its fields does.
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
    delay: float | str | None = None
    half_life: float | str | None = None
    smoothing: float | None = None
    prior: float | None = None

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
        elif self.kind == "statistic":
            return self._check_statistic()
        else:
            self._refuse("of", "along")
        self._refuse(*OF_STATISTICS)
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

    def _check_of(self, least: int) -> None:
        names = self.of if isinstance(self.of, (list, tuple)) else ()
        if (
            not least <= len(names) <= MOST_PARTS
            or not all(isinstance(name, str) for name in names)
            or len(set(names)) < len(names)
        ):
            self._fail(
                f"`of` must be {least} to {MOST_PARTS} different names of fields",
                self.of,
            )
        object.__setattr__(self, "of", tuple(names))

    def _check_statistic(self) -> None:
        if isinstance(self.of, str):
            object.__setattr__(self, "of", (self.of,))
        self._check_of(1)
        if self.name in self.counted:
            self._fail("a statistic cannot be of itself", self.name)
        self._refuse("along", "column", "length", "max_length")
        changed = ("multiple", "separator", "scale", "pooling", "unseen_rows")
        self._refuse_changed("a statistic", *changed)
        self._default("dtype", "float32")
        self._check_choice("dtype", DTYPES["statistic"])
        self._default("min_count", 1)
        self._check_int("min_count", 1)
        self._default("buckets", 32)
        self._check_int("buckets", 2)
        for key in ("max_size", "hash_buckets"):
            if getattr(self, key) is not None:
                self._check_int(key, 1)
        for key, least in (("delay", 0), ("half_life", None)):
            self._check_duration(key, least)
        self._check_number("smoothing", math.inf)
        self._check_number("prior", 1)

    def _check_duration(self, key: str, least: float | None) -> None:
        value = getattr(self, key)
        if value is None or (key == "delay" and value == NEXT_DAY):
            return
        number: Any = value
        if isinstance(value, str):
            found = DURATION.fullmatch(value)
            number = float(found[1]) if found else None
        fits = is_number(number, 0) and number < math.inf
        if not fits or (number == 0 and least is None):
            self._fail(
                f"`{key}` must be a time {'of at least' if least == 0 else 'above'} 0: "
                'text such as "1d", "6h", "30m" or "45s", or a number in the '
                f"timestamp's unit{f', or {NEXT_DAY!r}' * (key == 'delay')}",
                value,
            )

    def _check_number(self, key: str, below: float) -> None:
        value = getattr(self, key)
        if value is not None and not (is_number(value) and 0 < value < below):
            limit = "" if below == math.inf else f" and below {below}"
            self._fail(f"`{key}` must be a number above 0{limit}", value)

    def _check_cross(self) -> None:
        self._check_of(2)
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
    def is_statistic(self) -> bool:
        """Whether it is counted of the log."""
        return self.kind == "statistic"

    @property
    def counted(self) -> tuple[str, ...]:
        """Of a statistic the names of the fields that it is of; else none."""
        return self.of if self.is_statistic else ()  # type: ignore[return-value]

    @property
    def slots(self) -> int:
        """Number of ids that one row of the log has for this field.

        A vector has one, and a slot for each of its numbers; a statistic one for its
        rate and one for its impressions.
        """
        if self.is_statistic:
            return 2
        if self.length is not None:
            return 1 + self.length
        return self.max_length if self.is_list else 1  # type: ignore[return-value]

    @property
    def has_vocabulary(self) -> bool:
        """Whether values have rows of its own, by a vocabulary."""
        rows = self.has_ranges or self.hash_buckets or self.shares_rows
        return not (rows or self.is_vector or self.is_statistic)

    def to_dict(self) -> dict[str, Any]:
        """The field as JSON, without what is at its default."""
        defaults = {f.name: f.default for f in dataclasses.fields(self)}
        values = dataclasses.asdict(self)
        if isinstance(self.of, tuple):
            values["of"] = list(self.of)
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
                if self.is_statistic:
                    what = "a statistic"
                elif key in OF_STATISTICS:
                    what = "a field that is no statistic"
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


def _name_and_column(column: Any) -> str:
    """An example for a column whose name a field cannot have."""
    name = re.sub(r"[^A-Za-z0-9_]+", "_", str(column)).strip("_")
    if name == "self" or keyword.iskeyword(name) or not FIELD_NAME.fullmatch(name):
        name = f"field_{name}".rstrip("_")[:100]
    shown = json.dumps({"name": name, "column": str(column)}, ensure_ascii=False)
    return f"such as {shown}"
