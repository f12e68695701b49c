"""The moments of a column, however it writes them."""

import datetime

import pyarrow as pa
import pyarrow.compute as pc

from edcn_tf.logs.values import BadValue, cast, check_exact, first, text
from edcn_tf.schema import AS_NUMBER

# A day, and perhaps hour, minute, second, fraction and zone. As ISO 8601 has them, and
# as files do: without the leading zeros, with slashes, with a zone's name.
MOMENT = (
    r"^\s*(?P<year>\d{4})(?P<a>[-/])(?P<month>\d{1,2})(?P<b>[-/])(?P<day>\d{1,2})"
    r"(?:[T ] *(?P<hour>\d{1,2}):(?P<minute>\d{2})"
    r"(?::(?P<second>\d{2})(?:[.,](?P<fraction>\d+))?)?"
    r" *(?P<zone>Z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)?)?\s*$"
)
EXPECTED = (
    "expected a number, or a date and time such as 2026-03-01 08:15:02; for another "
    'form set the schema\'s `timestamp_format`, such as "%d/%m/%Y %H:%M"'
)
# What strptime and strftime of Arrow have alike.
COMMON = set("YmdHMSybBjpI%")

# Digits of a number -> the day, and perhaps time, that it may be.
DAYS = {8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


def moments(column, format=None):
    """Numbers as they are, dates as seconds since 1970 (UTC): float64.

    With the fractions of a second, by which clicks that follow each other are in
    order. Exact for whole numbers below 2^53, as microseconds since 1970 are.

    Args:
        column: Of numbers, dates, times or text.
        format: The schema's `timestamp_format`, or None.

    Raises:
        BadValue: For what is missing, or no moment; and where all look like days
            written as numbers, 20260301, and no format says whether they are.
    """
    expected = "expected a number of 64 bits"
    if format not in (None, AS_NUMBER) and not pa.types.is_temporal(column.type):
        column = _by_format(text(column), format)
    elif pa.types.is_boolean(column.type):
        raise BadValue(EXPECTED, 0)
    elif pa.types.is_temporal(column.type):
        column = _seconds(column.cast(pa.timestamp("us"), safe=False))
    else:
        if pa.types.is_string(column.type):
            column = _parsed(column)
        elif pa.types.is_decimal(column.type):
            column = column.cast(pa.float64())
        elif pa.types.is_float16(column.type) or pa.types.is_float32(column.type):
            check_exact(column)
            column = _of_floats(column)
        elif not pa.types.is_floating(column.type):
            column = cast(column, pa.int64(), expected)
        if format is None:
            _refuse_days(column)
    column = pc.cast(column, pa.float64(), safe=False)
    column = pc.if_else(pc.is_finite(column), column, pa.scalar(None, pa.float64()))
    if column.null_count:
        raise BadValue("the timestamp is missing", first(pc.is_null(column)))
    too_large = pc.greater_equal(pc.abs(column), 2.0**63)
    if pc.any(too_large).as_py():
        raise BadValue(expected, first(too_large))
    return column


def _refuse_days(column):
    """Numbers such as 20260301 or 20260301081502: in order, but no seconds."""
    if not len(column) or column.null_count:
        return
    least, most = (number.as_py() for number in pc.min_max(column).values())
    for digits, format in DAYS.items():
        unit = 10 ** (digits - 8)
        if 19700101 * unit <= least and most < 21010101 * unit:
            days = pc.cast(column, pa.int64(), safe=False).cast(pa.string())
            times = pc.strptime(days, format=format, unit="s", error_is_null=True)
            if not times.null_count:
                raise BadValue(
                    "looks like a day, not like a number; set the schema's "
                    f'`timestamp_format` to "{format}", or to "number"',
                    0,
                )


def _of_floats(column):
    """As float64, of what shorter floats are written as: 0.1 and not 0.10000000149."""
    return column.cast(pa.float32()).cast(pa.string()).cast(pa.float64())


def _seconds(times):
    """Of times in microseconds."""
    return pc.divide(pc.cast(pc.cast(times, pa.int64()), pa.float64()), 1e6)


def _parsed(column):
    """Numbers, whatever their unit, or the seconds of dates and times."""
    column = pc.utf8_trim_whitespace(column)
    try:
        return column.cast(pa.int64())
    except pa.ArrowInvalid:
        pass
    value = next(value for value in column if value.is_valid)
    try:
        value.cast(pa.float64())
    except pa.ArrowInvalid:
        try:
            return _seconds(_iso_dates(column))
        except pa.ArrowInvalid:
            return _seconds(_dates(column))
    return cast(column, pa.float64(), EXPECTED)


def _iso_dates(column):
    """Dates and times in microseconds, if all are ISO 8601: three times as fast."""
    # Arrow wants a zone in all values or in none: without one they are UTC.
    timed = pc.match_substring(column, ":")
    zone = pc.match_substring_regex(column, r"(Z|[+-]\d\d(:?\d\d)?)$")
    ending = pc.if_else(timed, pc.if_else(zone, "", "Z"), " 00:00Z")
    # Of a second it reads six digits after a point.
    column = pc.replace_substring_regex(column, r"[.,](\d{1,6})\d*", r".\1")
    texts = pc.binary_join_element_wise(column, ending, "")
    return texts.cast(pa.timestamp("us", "UTC"))


def _dates(column):
    """Dates and times in microseconds, from their parts."""
    parts = pc.extract_regex(column, MOMENT)
    part = {name: parts.field(i) for i, name in enumerate(_names(parts.type))}
    fits = pc.and_(pc.is_valid(parts), pc.equal(part["a"], part["b"]))
    wrong = pc.and_(pc.is_valid(column), pc.invert(pc.fill_null(fits, False)))
    if pc.any(wrong).as_py():
        raise BadValue(EXPECTED, first(wrong))

    def two(name):
        return pc.utf8_lpad(part[name], 2, "0")

    zone = pc.replace_substring_regex(part["zone"], "^(UTC|GMT|)$", "Z")
    fraction = pc.utf8_rpad(pc.utf8_slice_codeunits(part["fraction"], 0, 6), 6, "0")
    day = pc.binary_join_element_wise(part["year"], two("month"), two("day"), "-")
    time = pc.binary_join_element_wise(two("hour"), two("minute"), two("second"), ":")
    time = pc.binary_join_element_wise(time, fraction, ".")
    texts = pc.binary_join_element_wise(day, time, " ")
    return cast(
        pc.binary_join_element_wise(texts, zone, ""),
        pa.timestamp("us", "UTC"),
        EXPECTED,
    )


def _names(struct):
    return [struct.field(i).name for i in range(struct.num_fields)]


def _by_format(column, format):
    """The seconds of text in a form of `datetime.strptime`."""
    column = pc.utf8_trim_whitespace(column)
    expected = f"expected a time in the form of `timestamp_format`, {format!r}"
    directives = {format[i + 1] for i in _places(format)}
    if directives <= COMMON:
        # Arrow takes the 31st of February for the 3rd of March: only what it writes
        # back as it was is right.
        times = pc.strptime(column, format=format, unit="s", error_is_null=True)
        back = pc.strftime(times, format=format)
        right = pc.equal(_without_zeros(back), _without_zeros(column))
        seconds = pc.cast(pc.cast(times, pa.int64()), pa.float64())
        seconds = pc.if_else(right, seconds, pa.scalar(None, pa.float64()))
    else:
        seconds = pa.nulls(len(column), pa.float64())
    left = pc.and_(pc.is_null(seconds), pc.is_valid(column))
    if not pc.any(left).as_py():
        return seconds
    coded = pc.if_else(left, column, pa.scalar(None, pa.string())).dictionary_encode()
    known = []
    for value in coded.dictionary.to_pylist():
        try:
            time = datetime.datetime.strptime(value, format)
        except ValueError:
            raise BadValue(expected, first(pc.equal(column, value))) from None
        zoned = time if time.tzinfo else time.replace(tzinfo=datetime.timezone.utc)
        known.append((zoned - EPOCH) / datetime.timedelta(seconds=1))
    return pc.coalesce(seconds, pa.array(known, pa.float64()).take(coded.indices))


def _places(format):
    """Where the directives of a format begin."""
    place = format.find("%")
    while place >= 0:
        yield place
        place = format.find("%", place + 2)


def _without_zeros(column):
    """Numbers of two digits as they may be written, with a leading zero or not."""
    return pc.utf8_lower(pc.replace_substring_regex(column, r"\b0(\d)\b", r"\1"))
