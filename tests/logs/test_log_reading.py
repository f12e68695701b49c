import dataclasses
import datetime
import gzip
import importlib
import itertools
import os
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from edcn_tf.dialect import Dialect
from edcn_tf.errors import InputError
from edcn_tf.field import Field
from edcn_tf.logs import opening, reading
from edcn_tf.logs.formats import SCHEMAS
from edcn_tf.logs.reading import read_log
from edcn_tf.schema import Schema

DATA = pathlib.Path(__file__).parents[1] / "data"
SCHEMA = Schema(
    label="click",
    fields=(
        Field(name="user"),
        Field(name="price", kind="numeric"),
        Field(name="age", dtype="int64"),
        Field(name="tags", multiple=True, separator="|"),
        Field(name="codes", multiple=True, dtype="int64"),
    ),
)
TABLE = pa.table(
    {
        "unused": ["a", "b", "c", "d"],
        "codes": [[1, -2], [], [9007199254740993], []],
        "user": ['q"uo,te', "München 東京", None, "two\nlines"],
        "click": [1, 0, 0, 1],
        "tags": [["x", "y z"], [], ["x"], []],
        "price": pa.array([1.5, None, -2.25, 1e30], pa.float32()),
        "age": [30, None, -4, 2**63 - 1],
    }
)
EXPECTED = {
    "user": ['q"uo,te', "München 東京", None, "two\nlines"],
    "price": [1.5, None, -2.25, float(np.float32(1e30))],
    "age": [30, None, -4, 2**63 - 1],
    "tags": [["x", "y z"], [], ["x"], []],
    "codes": [[1, -2], [], [9007199254740993], []],
    "click": [1, 0, 0, 1],
}
TYPES = [
    *(pa.string(), pa.float32(), pa.int64()),
    *(pa.list_(pa.string()), pa.list_(pa.int64()), pa.int64()),
]


def as_text(table, delimiter=",", end="\n"):
    def cell(value):
        if isinstance(value, list):
            value = "|".join(map(str, value))
        text = "" if value is None else str(value)
        if any(mark in text for mark in (delimiter, '"', "\n")):
            text = '"' + text.replace('"', '""') + '"'
        return text

    rows = [table.column_names, *zip(*table.to_pydict().values())]
    return "".join(delimiter.join(map(cell, row)) + end for row in rows).encode()


def as_parquet(table, **options):
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **options)
    return sink.getvalue().to_pybytes()


def zstd(data):
    return pa.Codec("zstd").compress(data, asbytes=True)


PACK = {"": bytes, ".gz": gzip.compress, ".zst": zstd}
FORMS = {
    "csv": as_text(TABLE),
    "tsv": as_text(TABLE, "\t"),  # as pandas writes it, with quotes
    "parquet": as_parquet(TABLE),
}


QUOTED = dataclasses.replace(SCHEMA, dialect=Dialect(quote='"'))


def read(path, schema=SCHEMA, **options):
    """All rows of a log as Python values by column."""
    batches = list(read_log([path], schema, **options))
    return pa.Table.from_batches(batches).to_pydict() if batches else None


def write(path, data):
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def error_of(path, schema=SCHEMA, **options):
    """The message, which must be one line and name the file."""
    with pytest.raises(InputError) as caught:
        read(path, schema, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def one_field(**field):
    return Schema(label="click", fields=(Field(name="f", **field),))


def read_column(path, column, **field):
    """What a Parquet column becomes as the field `f`."""
    table = pa.table({"f": column, "click": pa.array([0] * len(column))})
    write(path, as_parquet(table))
    return read(path, one_field(**field))["f"]


# Formats and compression


@pytest.mark.parametrize("packing", PACK)
@pytest.mark.parametrize("form", FORMS)
def test_all_formats_hold_the_same(tmp_path, form, packing):
    path = write(tmp_path / f"log.{form}{packing}", PACK[packing](FORMS[form]))
    [batch] = read_log([path], QUOTED)
    assert batch.schema.types == TYPES
    assert batch.to_pydict() == EXPECTED


@pytest.mark.parametrize("codec", ["zstd", "gzip", "snappy", "lz4", "none"])
def test_parquet_with_compression_inside(tmp_path, codec):
    path = write(tmp_path / "log.parquet", as_parquet(TABLE, compression=codec))
    assert read(path) == EXPECTED


@pytest.mark.parametrize("pack", [gzip.compress, zstd], ids=["gzip", "zstd"])
def test_compression_is_told_from_the_bytes(tmp_path, pack):
    assert read(write(tmp_path / "log.csv", pack(FORMS["csv"]))) == EXPECTED


def test_format_may_be_given(tmp_path):
    path = write(tmp_path / "log.of.monday", FORMS["parquet"])
    assert read(path, format="parquet") == EXPECTED
    assert "--format" in error_of(path)
    with pytest.raises(InputError, match="xml"):
        read(path, format="xml")


def test_upper_case_suffix(tmp_path):
    assert read(write(tmp_path / "LOG.CSV", FORMS["csv"])) == EXPECTED


def test_several_files_are_read_one_after_the_other(tmp_path):
    paths = [write(tmp_path / f"log.{form}", data) for form, data in FORMS.items()]
    users = [user for batch in read_log(paths, QUOTED) for user in batch["user"]]
    assert [user.as_py() for user in users] == EXPECTED["user"] * 3


def test_two_gzip_members_in_a_row(tmp_path):
    head, rest = FORMS["csv"].split(b"\n", 1)
    data = gzip.compress(head + b"\n") + gzip.compress(rest)
    assert read(write(tmp_path / "log.csv.gz", data)) == EXPECTED


def test_progress_adds_up_to_the_size(tmp_path):
    for form, data in FORMS.items():
        path = write(tmp_path / f"log.{form}", data)
        done = []
        read(path, QUOTED, progress=done.append)
        assert sum(done) == len(data) == reading.log_bytes([path])


# Text


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.rstrip(b"\n"),
        lambda text: b"\xef\xbb\xbf" + text,
        lambda text: as_text(TABLE, end="\r\n"),
        lambda text: b"\xef\xbb\xbf" + as_text(TABLE, end="\r\n").rstrip(b"\r\n"),
    ],
    ids=["no newline at the end", "BOM", "CRLF", "BOM, CRLF, no newline"],
)
def test_variants_of_text(tmp_path, change):
    assert read(write(tmp_path / "log.csv", change(FORMS["csv"]))) == EXPECTED


def test_order_of_columns_and_other_columns_do_not_matter(tmp_path):
    expected = list(EXPECTED)
    for order in itertools.islice(itertools.permutations(TABLE.column_names), 0, 99, 7):
        for form, make in (("csv", as_text), ("parquet", as_parquet)):
            found = read(
                write(tmp_path / f"log.{form}", make(TABLE.select(list(order))))
            )
            assert found == EXPECTED
            assert list(found) == expected


def test_a_byte_order_mark_too_many_is_part_of_a_name(tmp_path):
    path = write(tmp_path / "log.csv", "\ufeff\ufeffclick,f\n1,a\n")
    told = error_of(path, one_field())
    assert "has no column 'click'" in told and r"\ufeffclick, f" in told


def test_only_the_columns_asked_for_are_read(tmp_path):
    text = "user,price,age,click\nann,no number,no number,no label\n"
    found = read(write(tmp_path / "log.csv", text), columns=["user"])
    assert found == {"user": ["ann"]}


@pytest.mark.parametrize("size", [(1 << 20) + 3])
def test_very_long_text(tmp_path, size):
    for form, make in (("csv", as_text), ("parquet", as_parquet)):
        table = pa.table({"f": ["a" * size, "b"], "click": [1, 0]})
        path = write(tmp_path / f"log.{form}", make(table))
        first, second = read(path, one_field())["f"]
        assert (len(first), second) == (size, "b")


def test_a_row_longer_than_a_block(tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "BLOCK_BYTES", 64)
    path = write(tmp_path / "log.csv", 'f,click\na,1\n"' + "x" * 300 + '",1\n')
    assert "longer than 64 bytes" in error_of(path, one_field())


@pytest.mark.parametrize("text", ["", "f,click\n"])
@pytest.mark.parametrize("packing", PACK)
def test_no_rows(tmp_path, text, packing):
    data = PACK[packing](text.encode()) if text else b""
    assert read(write(tmp_path / f"log.csv{packing}", data), one_field()) is None


def test_no_bytes_in_a_compressed_file(tmp_path):
    # gzip of nothing is what `gzip empty.csv` makes.
    for packing in (".gz", ".zst"):
        path = write(tmp_path / f"log.csv{packing}", PACK[packing](b""))
        try:
            assert read(path, one_field()) is None
        except InputError as error:
            assert str(path) in str(error)


def test_parquet_without_rows(tmp_path):
    path = write(tmp_path / "log.parquet", as_parquet(TABLE.slice(0, 0)))
    assert read(path) is None


def test_a_file_is_read_in_many_batches(tmp_path, monkeypatch):
    rows = 3000
    table = pa.table({"f": [f"v{i}" for i in range(rows)], "click": [0, 1] * 1500})
    monkeypatch.setattr(opening, "BLOCK_BYTES", 1 << 10)
    monkeypatch.setattr(opening, "LOG_ROWS", 100)
    for name, data in {
        "log.csv": as_text(table),
        "log.csv.gz": gzip.compress(as_text(table)),
        "log.parquet": as_parquet(table),
        "log.parquet.gz": gzip.compress(as_parquet(table)),
    }.items():
        reader = read_log([write(tmp_path / name, data)], one_field())
        first = next(reader)
        assert first.num_rows < rows / 10, name
        batches = [first, *reader]
        assert len(batches) >= 10, name
        assert pa.Table.from_batches(batches)["f"].to_pylist() == [
            f"v{i}" for i in range(rows)
        ], name


# Types


@pytest.mark.parametrize(
    "column, text",
    [
        (pa.array([1, None, -3], pa.int8()), ["1", None, "-3"]),
        (pa.array([2**64 - 1], pa.uint64()), ["18446744073709551615"]),
        (pa.array([1.0, 2.5, float("nan")]), ["1", "2.5", None]),
        (pa.array([7.0, None], pa.float32()), ["7", None]),
        (pa.array([True, None, False]), ["True", None, "False"]),
        (pa.array(["a", None, "", "a"]).dictionary_encode(), ["a", None, None, "a"]),
        (pa.array([7, 8, 7]).dictionary_encode(), ["7", "8", "7"]),
        (pa.array(["a", ""], pa.large_string()), ["a", None]),
        pytest.param(
            pa.array(["a", None], pa.string_view()),
            ["a", None],
            marks=pytest.mark.skipif(
                int(pa.__version__.split(".")[0]) < 21,
                reason="before 21 such files are read, but not written",
            ),
        ),
        (pa.array([b"\xc3\xbc"]), ["ü"]),
        (pa.array([b"\xc3\xbc"], pa.large_binary()), ["ü"]),
        (pa.array([b"\xc3\xbc"], pa.binary(2)), ["ü"]),
        (pa.array([datetime.date(2020, 1, 2), None]), ["2020-01-02", None]),
        (pa.nulls(2), [None, None]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_parquet_types_as_text(tmp_path, column, text):
    assert read_column(tmp_path / "log.parquet", column) == text


@pytest.mark.parametrize(
    "column, numbers",
    [
        (pa.array([1, None, -3], pa.int16()), [1, None, -3]),
        (pa.array([3, 4], pa.uint64()), [3, 4]),
        (pa.array([1.0, float("nan"), None]), [1, None, None]),
        (pa.array([True, False]), [1, 0]),
        (pa.array(["5", " 6 ", "", "NA"]), [5, 6, None, None]),
        (pa.array(["5", "5"]).dictionary_encode(), [5, 5]),
        (pa.array([-(2**63) + 1, 2**63 - 1]), [-(2**63) + 1, 2**63 - 1]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_parquet_types_as_int64(tmp_path, column, numbers):
    path = tmp_path / "log.parquet"
    assert read_column(path, column, dtype="int64") == numbers
    assert read_column(path, column, kind="numeric", dtype="int64") == numbers


def test_large_whole_numbers_as_float32(tmp_path):
    numbers = [2**24 + 1, 2**53 + 1, -(2**63)]
    expected = [float(np.float32(number)) for number in numbers]
    table = pa.table({"f": numbers, "click": [0, 0, 0]})
    for form, make in (("csv", as_text), ("parquet", as_parquet)):
        path = write(tmp_path / f"log.{form}", make(table))
        assert read(path, one_field(kind="numeric"))["f"] == expected, form


def test_what_counts_as_a_missing_number(tmp_path):
    words = ["NA", "N/A", "NaN", "nan", "NULL", "null", "None", "\\N", "", " "]
    text = "f,click\n" + "".join(f"{word},0\n" for word in words)
    path = write(tmp_path / "log.csv", text)
    assert read(path, one_field(kind="numeric"))["f"] == [None] * len(words)
    # In a text they may be a value of their own, such as Namibia's code.
    assert read(path, one_field())["f"] == [*words[:-2], None, " "]


def test_infinite_numbers_stay(tmp_path):
    path = write(tmp_path / "log.csv", "f,click\ninf,0\n-inf,0\n1e99,0\n")
    found = read(path, one_field(kind="numeric"))["f"]
    assert found == [np.inf, -np.inf, np.inf]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([["a", "b"], None, [], ["c"]]),
        pa.array([["a", "b"], None, [], ["c"]], pa.large_list(pa.large_string())),
        pa.array([[b"a", b"b"], None, [], [b"c"]]),
    ],
    ids=lambda column: str(column.type),
)
def test_lists(tmp_path, column):
    found = read_column(tmp_path / "log.parquet", column, multiple=True)
    assert found == [["a", "b"], [], [], ["c"]]


def test_fixed_size_and_dictionary_lists(tmp_path):
    path = tmp_path / "log.parquet"
    fixed = pa.array([["a", "b"], ["c", "d"]], pa.list_(pa.string(), 2))
    assert read_column(path, fixed, multiple=True) == [["a", "b"], ["c", "d"]]
    if int(pa.__version__.split(".")[0]) >= 26:  # before, Arrow cannot read the null
        fixed = pa.array([["a", "b"], None], pa.list_(pa.string(), 2))
        assert read_column(path, fixed, multiple=True) == [["a", "b"], []]
    coded = pa.array(
        [["a"], ["b", "a"]], pa.list_(pa.dictionary(pa.int32(), pa.string()))
    )
    assert read_column(path, coded, multiple=True) == [["a"], ["b", "a"]]


def test_numbers_that_are_missing_in_lists_of_text(tmp_path):
    column = pa.array([[1.0, float("nan")], [None]])
    assert read_column(tmp_path / "log.parquet", column, multiple=True) == [
        ["1", None],
        [None],
    ]


def test_missing_values_inside_lists(tmp_path):
    column = pa.array([["a", None, ""], [None]])
    found = read_column(tmp_path / "log.parquet", column, multiple=True)
    assert found == [["a", None, None], [None]]
    path = write(tmp_path / "log.csv", "f,click\na||,1\n|,1\n,1\n")
    found = read(path, one_field(multiple=True))["f"]
    assert found == [["a", None, None], [None, None], []]


def test_a_longer_separator(tmp_path):
    path = write(tmp_path / "log.csv", "f,click\na::b:c,1\n")
    field = {"multiple": True, "separator": "::"}
    assert read(path, one_field(**field))["f"] == [["a", "b:c"]]


def test_single_values_fit_a_list_field(tmp_path):
    path = tmp_path / "log.parquet"
    assert read_column(path, pa.array([3, None]), multiple=True) == [["3"], []]


@pytest.mark.parametrize(
    "column, field, parts",
    [
        (pa.array([1.0, 2.5]), {"dtype": "int64"}, ["row 2", "whole number", "2.5"]),
        (pa.array([[1]]), {}, ["row 1", "`multiple`"]),
        (pa.array([[1], [2]]), {"kind": "numeric"}, ["`multiple`"]),
        (pa.array([b"a", b"\xff"]), {}, ["row 2", "UTF-8"]),
        (pa.array([b"a" * 16, b"\xff" * 16], pa.binary(16)), {}, ["row 2", "UTF-8"]),
        (
            pa.array([[b"a", b"b"], [b"c", b"\xff"]]),
            {"multiple": True},
            ["row 2", "UTF-8"],
        ),
        (
            pa.array([[], None], pa.list_(pa.struct({"a": pa.int8()}))),
            {"multiple": True},
            ["Received"],
        ),
        (pa.array([datetime.date(2020, 1, 2)]), {"kind": "numeric"}, ["not a date"]),
        (pa.array([{"a": 1}]), {}, ["Received"]),
        (pa.array([{"a": 1}]), {"multiple": True}, ["Received"]),
        (pa.array([2**64 - 1], pa.uint64()), {"dtype": "int64"}, ["row 1"]),
        (
            pa.array([["1"], [], ["2", "3"], ["4", "x"]]),
            {"multiple": True, "dtype": "int64"},
            ["row 4", "whole number", "'x'"],
        ),
    ],
    ids=str,
)
def test_parquet_values_that_do_not_fit(tmp_path, column, field, parts):
    path = tmp_path / "log.parquet"
    with pytest.raises(InputError) as caught:
        read_column(path, column, **field)
    for part in [str(path), "column 'f'", *parts]:
        assert part in str(caught.value)


# Label, timestamp, weight


@pytest.mark.parametrize(
    "text",
    [["0", "1"], ["false", "true"], ["False", "TRUE"], ["0.0", "1.0"], [" 0", "1 "]],
    ids=str,
)
def test_labels_in_text(tmp_path, text):
    path = write(tmp_path / "log.csv", f"f,click\na,{text[0]}\nb,{text[1]}\n")
    assert read(path, one_field())["click"] == [0, 1]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([0, 1], pa.uint8()),
        pa.array([False, True]),
        pa.array([0.0, 1.0]),
        pa.array([0.0, 1.0], pa.float32()),
        pa.array(["0", "1"]).dictionary_encode(),
        pa.array([0, 1]).dictionary_encode(),
    ],
    ids=lambda column: str(column.type),
)
def test_labels_in_parquet(tmp_path, column):
    table = pa.table({"f": ["a", "b"], "click": column})
    path = write(tmp_path / "log.parquet", as_parquet(table))
    assert read(path, one_field())["click"] == [0, 1]


@pytest.mark.parametrize("bad", ["2", "", "-1", "0.5", "yes", "nan"])
def test_a_bad_label_is_named(tmp_path, bad):
    path = write(tmp_path / "log.csv", f"f,click\na,1\nb,{bad}\n")
    message = error_of(path, one_field())
    assert "row 2, column 'click'" in message
    assert message.endswith(f"Received: {bad or None!r}")


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1, 2]),
        pa.array([0.0, 0.5]),
        pa.array([1, None]),
        pa.array([1, 2**64 - 1], pa.uint64()),
        pa.array([1.0, float("nan")]),
        pa.array([True, None]),
    ],
    ids=lambda column: f"{column.type} {column[1]}",
)
def test_a_bad_label_in_parquet(tmp_path, column):
    table = pa.table({"f": ["a", "b"], "click": column})
    path = write(tmp_path / "log.parquet", as_parquet(table))
    assert "row 2, column 'click'" in error_of(path, one_field())


def test_row_numbers_go_on_in_later_batches(tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "BLOCK_BYTES", 64)
    monkeypatch.setattr(opening, "LOG_ROWS", 8)
    table = pa.table({"f": ["x"] * 101, "click": [0] * 100 + [3]})
    for form, make in (("csv", as_text), ("parquet", as_parquet)):
        path = write(tmp_path / f"bad.{form}", make(table))
        assert "row 101, column 'click'" in error_of(path, one_field())
        # Rows are numbered in each file, not across files.
        good = write(tmp_path / f"good.{form}", make(table.slice(0, 50)))
        with pytest.raises(InputError, match="bad.*row 101, column 'click'"):
            list(read_log([good, path], one_field()))


def test_quoted_newlines_do_not_shift_row_numbers(tmp_path):
    path = write(tmp_path / "log.csv", 'f,click\n"a\n\nb",1\nc,7\n')
    assert "row 2, column 'click'" in error_of(path, one_field())


def test_text_in_a_number_column_is_named(tmp_path):
    path = write(tmp_path / "log.csv", "f,click\n1,1\n2,0\n1.2.3,0\n")
    message = error_of(path, one_field(kind="numeric"))
    assert "row 3, column 'f'" in message and message.endswith("Received: '1.2.3'")
    message = error_of(path, one_field(dtype="int64"))
    assert "row 3, column 'f': expected a whole number" in message


TIMES = Schema(label="click", fields=(Field(name="f"),), timestamp="t", weight="w")


@pytest.mark.parametrize(
    "text, seconds",
    [
        ("5", 5),
        ("-3", -3),
        ("1413849600000", 1413849600000),
        ("1413849600.0", 1413849600),
        ("5.7", 5.7),
        ("2014-10-21", 1413849600),
        ("2014-10-21 00:00:01", 1413849601),
        ("2014-10-21T00:00:01", 1413849601),
        ("2014-10-21T00:00:01.75", 1413849601.75),
        ("2014-10-21T00:00:01Z", 1413849601),
        ("2014-10-21T00:00:01.75Z", 1413849601.75),
        ("2014-10-21T02:00:01+02:00", 1413849601),
        ("2014-10-21 00:00:01.123+00", 1413849601.123),
        ("2014-10-20 22:00:01-02", 1413849601),
        ("2014-10-21T00:00:01.123456789Z", 1413849601.123456),
        ("2014-10-21T00:00:01,75", 1413849601.75),
        ("2014-10-21T00:00:01.999999999", 1413849601.999999),
    ],
)
def test_timestamps_in_text(tmp_path, text, seconds):
    path = write(tmp_path / "log.csv", f'f,t,w,click\na,"{text}",1,0\n')
    assert read(path, TIMES)["t"] == [seconds]


@pytest.mark.parametrize(
    "column, seconds",
    [
        (pa.array([5, -3], pa.int32()), [5, -3]),
        (pa.array([5.75, 7.0]), [5.75, 7]),
        (
            pa.array([datetime.datetime(2014, 10, 21, 0, 0, 1, 750000)]),
            [1413849601.75],
        ),
        (
            pa.array([datetime.datetime(2014, 10, 21)], pa.timestamp("ns", "UTC")),
            [1413849600],
        ),
        (pa.array([datetime.date(2014, 10, 21)]), [1413849600]),
        (pa.array([datetime.date(2014, 10, 21)], pa.date64()), [1413849600]),
        (pa.array(["2014-10-21"]).dictionary_encode(), [1413849600]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_timestamps_in_parquet(tmp_path, column, seconds):
    rows = len(column)
    table = pa.table({"f": ["a"] * rows, "t": column, "w": [1] * rows})
    table = table.append_column("click", pa.array([0] * rows))
    path = write(tmp_path / "log.parquet", as_parquet(table))
    assert read(path, TIMES)["t"] == seconds


@pytest.mark.parametrize("bad", ["", "soon", "2014-13-41", "nan", "9" * 20, "-1e19"])
def test_a_bad_timestamp_is_named(tmp_path, bad):
    path = write(tmp_path / "log.csv", f"f,t,w,click\na,5,1,0\na,{bad},1,0\n")
    assert "row 2, column 't'" in error_of(path, TIMES)


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1, None]),
        pa.array([1.0, float("nan")]),
        pa.array([1.0, 1e30]),
        pa.array([1.0, -1e30], pa.float32()),
        pa.array([1, 2**64 - 1], pa.uint64()),
    ],
    ids=str,
)
def test_a_bad_timestamp_in_parquet(tmp_path, column):
    table = pa.table({"f": ["a", "a"], "t": column, "w": [1, 1], "click": [0, 0]})
    path = write(tmp_path / "log.parquet", as_parquet(table))
    assert "row 2, column 't'" in error_of(path, TIMES)


@pytest.mark.parametrize("bad", ["-0.5", "", "nan", "heavy", "inf"])
def test_a_bad_weight_is_named(tmp_path, bad):
    path = write(tmp_path / "log.csv", f"f,t,w,click\na,5,0,0\na,5,{bad},0\n")
    assert "row 2, column 'w'" in error_of(path, TIMES)


def test_weights(tmp_path):
    path = write(tmp_path / "log.csv", "f,t,w,click\na,5,0,0\na,5,2.5,0\n")
    assert read(path, TIMES)["w"] == [0, 2.5]


# Files that are not what they should be


def test_a_missing_column_is_named_beside_those_there(tmp_path):
    for form, make in (("csv", as_text), ("parquet", as_parquet)):
        path = write(tmp_path / f"log.{form}", make(TABLE.drop_columns(["age"])))
        message = error_of(path)
        assert "'age'" in message
        assert "unused, codes, user, click, tags, price" in message


def test_a_missing_column_beside_quoted_names(tmp_path):
    path = write(tmp_path / "log.csv", '"one, two","click"\nx,1\n')
    message = error_of(path, one_field())
    assert "has no column 'f'" in message and message.endswith("click")


def test_a_column_that_is_there_twice(tmp_path):
    twice = pa.Table.from_arrays(
        [pa.array(["a"]), pa.array([1]), pa.array(["b"])], names=["f", "click", "f"]
    )
    path = write(tmp_path / "log.parquet", as_parquet(twice))
    assert "'f'" in error_of(path, one_field())
    # A column that nobody asks for may be there as often as it likes.
    assert read(path, one_field(), columns=["click"]) == {"click": [1]}


def test_a_quoted_name_with_a_comma_is_no_other_column(tmp_path):
    # Cut at commas the header would seem to hold `f`.
    path = write(tmp_path / "log.csv", '"e,f","click"\nx,1\n')
    assert "has no column 'f'" in error_of(path, one_field())


def test_long_lists_of_columns_are_cut(tmp_path):
    table = pa.table({f"c{i}": [1] for i in range(500)})
    message = error_of(write(tmp_path / "log.parquet", as_parquet(table)))
    assert "c49" in message and "c50" not in message and message.endswith("...")


def test_a_missing_file_and_a_directory(tmp_path):
    assert "No such file" in error_of(tmp_path / "absent.csv")
    assert "No such file" in error_of(tmp_path / "absent.parquet")
    (tmp_path / "dir.csv").mkdir()
    assert "directory" in error_of(tmp_path / "dir.csv")
    with pytest.raises(InputError, match="absent.csv: No such file"):
        reading.log_bytes([tmp_path / "absent.csv"])


BIG = as_text(pa.table({"f": [os.urandom(9).hex() for _ in range(3000)]}))


@pytest.mark.parametrize(
    "name, data",
    [
        ("log.csv", FORMS["parquet"]),
        ("log.csv", "user,click\na,1\n".encode("utf-16")),
        ("log.csv.gz", FORMS["csv"]),
        ("log.csv.gz", zstd(FORMS["csv"])),
        ("log.csv.zst", gzip.compress(FORMS["csv"])),
        ("log.csv.gz", gzip.compress(FORMS["parquet"])),
        ("log.parquet", FORMS["csv"]),
        ("log.parquet", b""),
        ("log.parquet", FORMS["parquet"][:-100]),
        ("log.parquet", FORMS["parquet"][: len(FORMS["parquet"]) // 2]),
        ("log.parquet.gz", gzip.compress(FORMS["parquet"])[:-60]),
        ("log.parquet.gz", FORMS["parquet"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_that_is_not_what_its_name_says(tmp_path, name, data):
    error_of(write(tmp_path / name, data))


@pytest.mark.parametrize("packing", [".gz", ".zst"])
@pytest.mark.parametrize("share", [0.3, 0.99])
def test_a_compressed_file_cut_off(tmp_path, packing, share):
    data = PACK[packing](as_text(pa.table({"f": BIG.decode().split()[1:]})))
    path = write(tmp_path / f"log.csv{packing}", data[: int(share * len(data))])
    with pytest.raises(InputError) as caught:
        list(read_log([path], one_field(), columns=["f"]))
    assert str(path) in str(caught.value)
    assert "named" not in str(caught.value)


def test_a_damaged_gzip(tmp_path):
    data = bytearray(gzip.compress(BIG))
    data[len(data) // 2] ^= 0xFF
    error_of(write(tmp_path / "log.csv.gz", bytes(data)), one_field(), columns=["f"])


def test_damaged_parquet_pages(tmp_path):
    data = bytearray(FORMS["parquet"])
    data[40:400] = b"\xff" * 360
    error_of(write(tmp_path / "log.parquet", bytes(data)))


@pytest.mark.parametrize("row", ["a", "a,1,2", "a,1,"])
def test_rows_of_another_width(tmp_path, row):
    path = write(tmp_path / "log.csv", f"f,click\nb,1\n{row}\n")
    assert "expected 2 columns" in error_of(path, one_field())


def test_text_that_is_not_utf8(tmp_path):
    path = write(tmp_path / "log.csv", b"f,click\na,1\n\xff\xfe,1\n")
    assert "row 2, column 'f': expected text in UTF-8" in error_of(path, one_field())


def test_semicolons_in_place_of_commas(tmp_path):
    path = write(tmp_path / "log.csv", "f;click\na;1\n")
    assert "its columns are: f;click" in error_of(path, one_field())


# Presets


def criteo_row(label, numbers, strings):
    return "\t".join(map(str, [label, *numbers, *strings])) + "\n"


@pytest.mark.parametrize("name", ["day_0.txt", "train.tsv.gz"])
def test_criteo(tmp_path, name):
    text = criteo_row(1, range(-3, 10), [f"{i:08x}" for i in range(26)])
    text += criteo_row(0, [""] * 13, [""] * 26)
    text += criteo_row(0, [7] * 13, ['5"a', *["0b"] * 25])
    data = text.encode()
    path = write(tmp_path / name, gzip.compress(data) if ".gz" in name else data)
    found = read(path, SCHEMAS["criteo"], format="criteo")
    assert list(found) == [
        *(f"I{i}" for i in range(1, 14)),
        *(f"C{i}" for i in range(1, 27)),
        "label",
    ]
    assert found["label"] == [1, 0, 0]
    assert [found[f"I{i}"] for i in range(1, 14)] == [
        [i - 4, None, 7] for i in range(1, 14)
    ]
    assert found["C1"] == ["00000000", None, '5"a']
    assert found["C26"] == ["00000019", None, "0b"]


def test_criteo_with_too_few_columns(tmp_path):
    path = write(tmp_path / "day_0", "1\t2\t3\n")
    assert "expected 40 columns" in error_of(path, SCHEMAS["criteo"], format="criteo")


AVAZU = (
    "id,click,hour,C1,banner_pos,site_id,site_domain,site_category,app_id,app_domain,"
    "app_category,device_id,device_ip,device_model,device_type,device_conn_type,"
    "C14,C15,C16,C17,C18,C19,C20,C21\n"
)


def avazu_row(hour):
    return (
        f"10000094181510942731,0,{hour},1005,0,1fbe01fe,f3845767,28905ebd,ecad2386,"
        "7801e8d9,07d7df22,a99f214a,ddd2926e,44956a24,1,2,15706,320,50,1722,0,35,-1,79\n"
    )


def test_avazu(tmp_path):
    text = AVAZU + avazu_row("14102100") + avazu_row("14102623")
    path = write(tmp_path / "train.gz", gzip.compress(text.encode()))
    found = read(path, SCHEMAS["avazu"], format="avazu")
    assert found["hour_of_day"] == ["0", "23"]
    assert found["weekday"] == ["1", "6"]  # a Tuesday and a Sunday
    assert found["time"] == [1413849600, 1413849600 + (5 * 24 + 23) * 3600]
    assert found["device_conn_type"] == ["2", "2"]
    assert found["click"] == [0, 0]
    assert len(found) == 25


@pytest.mark.parametrize("hour", ["1410210", "141021000", "x", "", "14102124"])
def test_a_bad_avazu_hour_is_named(tmp_path, hour):
    path = write(tmp_path / "a", AVAZU + avazu_row("14102100") + avazu_row(hour))
    message = error_of(path, SCHEMAS["avazu"], format="avazu")
    assert "'hour'" in message
    assert repr(hour or None) in message
    assert "row 2" in message


def test_avazu_without_hour(tmp_path):
    path = write(tmp_path / "a", AVAZU.replace("hour,", ""))
    message = error_of(path, SCHEMAS["avazu"], format="avazu")
    assert "'hour'" in message and "banner_pos" in message


# TensorFlow Datasets


FILMS = Schema(
    label="click",
    fields=(
        Field(name="title"),
        Field(name="genres", multiple=True),
        Field(name="rating", kind="numeric"),
    ),
    timestamp="timestamp",
)
TITLES = [
    *("Slow Trains", "Les Étoiles à Québec", "東京の雨", None, None),
    *("Untold", "Lake, The", "Slow Trains"),
]


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Our MovieLens builder over eight made-up rows, in a directory of its own."""
    pd = pytest.importorskip("pandas")
    movielens = importlib.import_module("edcn_tf.logs.datasets.movielens")
    with pytest.MonkeyPatch.context() as patch:
        frame = pd.read_csv(DATA / "movielens_fake.csv")
        patch.setattr(movielens, "read_frame", lambda: frame)
        patch.setenv("TFDS_DATA_DIR", str(tmp_path_factory.mktemp("tfds")))
        yield


@pytest.mark.parametrize("split", ["", "[train]"])
def test_tfds(films, split, monkeypatch):
    monkeypatch.setattr(opening, "LOG_ROWS", 3)
    batches = list(read_log([f"tfds:movielens_latest_small{split}"], FILMS))
    assert [batch.num_rows for batch in batches] == [3, 3, 2]
    found = pa.Table.from_batches(batches).to_pydict()
    assert found["title"] == TITLES
    assert found["click"] == [0, 1, 0, 1, 0, 1, 0, 1]
    assert found["genres"][:5] == [
        ["Drama"],
        ["Animation", "Children", "Musical"],
        ["Thriller"],
        ["Comedy"],
        [],
    ]
    assert found["rating"][:2] == [2.5, 4.0]
    assert found["timestamp"][:3] == [1260759144, 0, 86399]


@pytest.mark.parametrize(
    "name, part",
    [
        ("movielens_latest_small[nope]", "train"),
        ("no_such_data_set", "no_such_data_set"),
        ("movielens_latest_small[", "tfds:NAME[SPLIT]"),
    ],
)
def test_a_bad_tfds_name(films, name, part):
    with pytest.raises(InputError) as caught:
        list(read_log([f"tfds:{name}"], FILMS))
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_tfds_column(films):
    with pytest.raises(InputError, match="has no column 'f'; .*movie_id"):
        list(read_log(["tfds:movielens_latest_small"], one_field()))


@pytest.mark.parametrize("data", ["", "\n", "\ufeff", "f,click", "f,click\n", "\n\n"])
@pytest.mark.parametrize("packing", ["", ".gz"])
def test_a_part_without_rows_is_no_error(tmp_path, data, packing):
    """Spark writes such parts, packed too."""
    (tmp_path / "log").mkdir()
    packed = PACK[packing](data.encode()) if packing else data.encode()
    (tmp_path / "log" / f"a.csv{packing}").write_bytes(packed)
    write(tmp_path / "log" / "b.csv", "f,click\na,1\n")
    batches = list(read_log([tmp_path / "log"], one_field()))
    assert [value for batch in batches for value in batch["f"].to_pylist()] == ["a"]


def test_a_header_alone_must_have_the_columns(tmp_path):
    path = write(tmp_path / "log.csv", "g, click")
    assert "has no column 'f'; its columns are: g, ' click'" in error_of(
        path, one_field()
    )


@pytest.mark.parametrize(
    "data, told",
    [("f,click\n".encode("utf-16"), "UTF-16; write it in UTF-8"), (b"PK\3\4..", "ZIP")],
)
def test_what_is_no_text_is_called_by_its_name(tmp_path, data, told):
    assert told in error_of(write(tmp_path / "log.csv", data), one_field())


def test_rows_of_another_width_have_the_number_that_other_errors_give(tmp_path):
    path = write(tmp_path / "log.csv", "f,click\na,1\n\nb\n")
    assert error_of(path, one_field()).endswith(
        "row 2: expected 2 columns, as the header has, and there are 1. Received: 'b'"
    )
