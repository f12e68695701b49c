"""A column's values as text or as numbers, whatever type its container gave them."""

import re
import uuid

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from edcn_tf.field import MISSING

# In a number column of a text log these mean that the number is missing.
# In lower case, for they are written in any.
NOT_A_NUMBER = pa.array(
    ["na", "n/a", "nan", "null", "none", "\\n", "<na>", "#n/a", "-nan"]
)
BINARY = (
    *(pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view),
    pa.types.is_fixed_size_binary,
)
FLAGS = pa.array(["false", "true"])  # as numbers 0 and 1
EXACT = 2**53  # up to here each whole number has a float64 of its own
EXACT_IN = {pa.float16(): 2**11, pa.float32(): 2**24, pa.float64(): EXACT}


class BadValue(Exception):
    """A value that does not fit, by its row in the column, from 0."""

    def __init__(self, expected, row):
        super().__init__(expected)
        self.expected = expected
        self.row = row


def plain(column):
    """Without dictionary encoding or a type of its own, and text as `string`."""
    if isinstance(column.type, pa.BaseExtensionType):
        is_uuid = isinstance(column.type, pa.UuidType)
        column = _text_of_uuids(column.storage) if is_uuid else column.storage
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return column.cast(pa.string())
    if any(is_binary(kind) for is_binary in BINARY):
        return cast(column, pa.string(), "expected text in UTF-8")
    return column


def text(column):
    """What a value is called, whatever type its container gave it.

    As pandas writes it into CSV, with one exception: a whole float below 2^53 is a
    whole number (an integer column with gaps is one of floats to pandas).

    Raises:
        BadValue: For lengths of time, and for whole numbers in floats of 32 or 16 bits
            that may stand for others next to them.
    """
    kind = column.type
    if pa.types.is_duration(kind) and len(column):
        # Of which Arrow's text says no unit, and each container has another.
        raise BadValue("expected text or a number, not a length of time", 0)
    if pa.types.is_string(kind):
        return column
    if pa.types.is_floating(kind):
        if not pa.types.is_float64(kind):
            check_exact(column)
        return _text_of_floats(column)
    if pa.types.is_boolean(kind):
        return pc.if_else(column, "True", "False")
    texts = column.cast(pa.string())
    if pa.types.is_timestamp(kind):
        texts = pc.replace_substring_regex(texts, r"\.0+(Z|[+-]\d+)?$", r"\1")
        texts = pc.replace_substring_regex(texts, r"([+-]\d\d)(\d\d)$", r"\1:\2")
        return pc.replace_substring_regex(texts, "Z$", "+00:00")
    if pa.types.is_time(kind):
        return pc.replace_substring_regex(texts, r"\.0+$", "")
    return texts


def text_of_float(number):
    """The same of one float, of Python or NumPy."""
    if number.is_integer() and abs(float(number)) < EXACT:
        return str(int(number))
    return str(number)


def check_exact(column):
    """Raises a `BadValue` for whole floats that may stand for others next to them."""
    exact = EXACT_IN[column.type]
    wide = without_nan(column).cast(pa.float64())
    size = pc.abs(wide)
    whole = pc.and_(pc.is_finite(wide), pc.equal(pc.floor(wide), wide))
    unsure = pc.and_(whole, pc.greater_equal(size, float(exact)))
    if pc.any(unsure).as_py():
        raise BadValue(
            f"is in a column of {column.type}, in which whole numbers from {exact:,} "
            "on stand for their neighbours too; store whole numbers, or text",
            first(unsure),
        )


def _text_of_floats(column):
    coded = without_nan(column).dictionary_encode()
    known = coded.dictionary.to_numpy()
    if pa.types.is_float16(column.type):  # 0.1, which in float32 is 0.0999756
        known = known.astype(np.float16)
    names = [text_of_float(number) for number in known]
    return pa.array(names, pa.string()).take(coded.indices)


def _text_of_uuids(column):
    coded = column.dictionary_encode()
    names = [str(uuid.UUID(bytes=value)) for value in coded.dictionary.to_pylist()]
    return pa.array(names, pa.string()).take(coded.indices)


def numbers(column, arrow_type, dialect=None):
    """Numbers of `arrow_type`, float32 or int64, with null where there is none.

    Args:
        column: Of numbers, flags (1 and 0) or text.
        arrow_type: `pyarrow.int64()` or `pyarrow.float32()`.
        dialect: The `edcn_tf.dialect.Dialect` of text, or None.

    Raises:
        BadValue: For what is none.
    """
    expected = (
        "expected a whole number" if arrow_type == pa.int64() else "expected a number"
    )
    if pa.types.is_temporal(column.type) and len(column):
        # In which unit would it be one? Each container has another.
        raise BadValue(f"{expected}, not a date or time", 0)
    if pa.types.is_string(column.type):
        column = _spelled_plainly(column, arrow_type, dialect)
    if pa.types.is_floating(column.type):
        if arrow_type == pa.int64():
            check_exact(column)
        column = without_nan(column)
    elif arrow_type == pa.float32():
        # By way of float64: a string or a large integer may not fit float32 exactly.
        if pa.types.is_integer(column.type):
            column = pc.cast(column, pa.float64(), safe=False)
        column = without_nan(cast(column, pa.float64(), expected))
    if arrow_type == pa.float32():
        return pc.cast(column, pa.float32(), safe=False)
    column = cast(column, arrow_type, expected)
    # The smallest is what stands for a missing one, in pandas' NaT too.
    is_missing = pc.equal(column, pa.scalar(MISSING["int64"], arrow_type))
    return pc.if_else(is_missing, pa.scalar(None, arrow_type), column)


def _spelled_plainly(column, arrow_type, dialect):
    """Text of numbers as Arrow reads it, or the numbers; null where one is missing."""
    has_marks = dialect and (dialect.decimal or dialect.thousands)
    if not has_marks:
        try:  # mostly there is nothing to do, and looking for it takes as long again
            wide = pa.int64() if arrow_type == pa.int64() else pa.float64()
            return column.cast(wide)
        except pa.ArrowInvalid:
            pass
    column = pc.utf8_trim_whitespace(column)
    known = pc.is_in(pc.utf8_lower(column), NOT_A_NUMBER)
    missing = pc.or_(pc.equal(column, ""), known)
    column = pc.if_else(missing, pa.scalar(None, pa.string()), column)
    if has_marks:
        column = _of_dialect(column, dialect)
    if arrow_type == pa.int64():  # as pandas writes whole numbers with gaps
        whole = r"^(?:\+|(-))?(\d+)(?:\.0*)?$"
        column = pc.replace_substring_regex(column, whole, r"\1\2")
    flags = pc.index_in(pc.utf8_lower(column), FLAGS)
    column = pc.if_else(pc.is_valid(flags), flags.cast(pa.string()), column)
    return column


def _of_dialect(column, dialect):
    """Numbers in text as Python writes them: `1.234,5` becomes `1234.5`."""
    decimal, thousands = dialect.decimal or ".", dialect.thousands
    digits = r"\d+"
    if thousands:
        digits = rf"(\d+|\d{{1,3}}({re.escape(thousands)}\d{{3}})+)"
    fraction = rf"({re.escape(decimal)}\d*)?"
    known = rf"^[+-]?({digits}{fraction}|{re.escape(decimal)}\d+)([eE][+-]?\d+)?$"
    named = r"^(?i:[+-]?(inf|infinity|nan)|true|false)$"
    fits = pc.match_substring_regex(column, rf"{known}|{named}")
    wrong = pc.invert(pc.fill_null(fits, True))
    if pc.any(wrong).as_py():
        marks = f"{decimal!r} before its fraction"
        if thousands:
            marks += f" and {thousands!r} between thousands"
        raise BadValue(f"expected a number with {marks}", first(wrong))
    if thousands:
        column = pc.replace_substring(column, thousands, "")
    return pc.replace_substring(column, decimal, ".")


def without_nan(column):
    """With null in place of NaN; of float16, as which Arrow does little, float32."""
    if not pa.types.is_floating(column.type):
        return column
    if pa.types.is_float16(column.type):
        column = column.cast(pa.float32())
    return pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)


def cast(values, arrow_type, expected):
    """Casts; where that fails, finds the first value that does not fit."""
    try:
        return values.cast(arrow_type)
    except pa.ArrowInvalid:
        for row, value in enumerate(values):
            try:
                value.cast(arrow_type)
            except pa.ArrowInvalid:
                raise BadValue(expected, row) from None
        raise


def first(mask):
    """Place of the first that is true."""
    return pc.index(mask, True).as_py()
