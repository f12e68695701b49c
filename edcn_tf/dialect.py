"""How a text log is written, where it is not as its format says."""

import dataclasses
import re
from typing import Any

from edcn_tf.checks import check_printable
from edcn_tf.errors import InputError

MOST_OF_DELIMITER = 8  # characters
ONE_CHARACTER = ("quote", "escape", "decimal", "thousands", "comment")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dialect:
    """How a CSV or TSV log is written, where it is not as its format says.

    It is stored with prepared data and runs, so that `edcn predict` reads alike.

    Args:
        delimiter: What separates values, ASCII (`","`, `"\\t"` for TSV): a character,
            such as Hive's `"\\x01"`, or several, such as `"::"`; of several, values
            have no quotes.
        quote: What values may stand in (`'"'`, which is doubled inside; none for TSV:
            `""`).
        escape: What a quote inside a value has before it, in place of being doubled,
            such as Spark's backslash.
        names: Names of the columns of a log that has no header line.
        decimal: What stands before the fraction of a number (`"."`).
        thousands: What stands between the thousands of a number (nothing).
        comment: What a line begins with that is passed over (nothing).

    Raises:
        InputError: If a value is none of these, or two of them are the same.
    """

    delimiter: str | None = None
    quote: str | None = None
    escape: str | None = None
    names: tuple[str, ...] | None = None
    decimal: str | None = None
    thousands: str | None = None
    comment: str | None = None

    def __post_init__(self) -> None:
        self._check_text("delimiter", 1, MOST_OF_DELIMITER)
        for key in ONE_CHARACTER:
            self._check_text(key, 0 if key == "quote" else 1, 1)
        if self.names is not None:
            if not isinstance(self.names, (list, tuple)) or not self.names:
                raise InputError(
                    "The dialect's `names` must be those of all columns, a list. "
                    f"Received: {self.names!r}"
                )
            for name in self.names:
                check_printable("The dialect's `names`, each of them,", name)
            object.__setattr__(self, "names", tuple(self.names))
        self._check_together()

    def _check_text(self, key: str, least: int, most: int) -> None:
        value = getattr(self, key)
        if value is None:
            return
        fits = isinstance(value, str) and least <= len(value) <= most
        if not fits or not value.isascii() or set(value) & set("\r\n\0"):
            many = "one ASCII character" if most == 1 else f"1 to {most} of ASCII"
            raise InputError(
                f"The dialect's `{key}` must be {many}. Received: {value!r}"
            )

    def _check_together(self) -> None:
        if self.delimiter and len(self.delimiter) > 1 and self.quote:
            raise InputError(
                "The dialect's `quote` must be left out where the `delimiter` has more "
                f"than one character. Received: {self.quote!r}"
            )
        if self.comment and self.escape:
            raise InputError(
                "The dialect cannot have both `comment` and `escape`. "
                f"Received: {self.comment!r}, {self.escape!r}"
            )
        decimal = self.decimal or "."
        marks = decimal + (self.thousands or "")
        if decimal == self.thousands or re.search(r"[\w+-]", marks):
            raise InputError(
                "The dialect's `decimal` and `thousands` must be two marks. "
                f"Received: {decimal!r}, {self.thousands!r}"
            )

    def to_dict(self) -> dict[str, Any]:
        """The dialect as JSON, without what the format says."""
        values = dataclasses.asdict(self)
        return {key: value for key, value in values.items() if value is not None}
