"""Whatever people hold as rows is read as the same rows, or refused in a line."""

import dataclasses
import datetime
import math
import sqlite3
import types
from collections import OrderedDict, namedtuple
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

import edcn_tf
from edcn_tf.export.client import Client
from edcn_tf.export.client.feature_columns import Input, read_columns

pandas = pytest.importorskip("pandas")

FIELDS = {
    "user": Input("string", False),
    "tags": Input("string", True),
    "price": Input("float32", False),
    "visits": Input("int64", False),
}
# As it is read: text is bytes, and what is missing has its stand-in.
ROW = {"user": b"u1", "tags": [b"a", b"b"], "price": 1.5, "visits": 7}
OTHER = {"user": b"", "tags": [], "price": None, "visits": -(2**63)}
FIRST = {"user": "u1", "tags": ["a", "b"], "price": 1.5, "visits": 7}
SECOND = {"user": None, "tags": None, "price": None, "visits": None}
ROWS = [FIRST, SECOND]

Row = namedtuple("Row", list(FIELDS))
STRUCT = pa.struct(
    [
        ("user", pa.string()),
        ("tags", pa.list_(pa.string())),
        ("price", pa.float64()),
        ("visits", pa.int32()),
    ]
)


@dataclasses.dataclass
class Impression:
    user: str | None
    tags: list[str] | None
    price: float | None
    visits: int | None


class Streamed:
    """A table of another library."""

    def __init__(self, table):
        self.table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self.table.__arrow_c_stream__(requested_schema)


def structs():
    return pa.array(ROWS, STRUCT)


def structured():
    """A structured array has no lists of unequal length, so without the second row."""
    dtype = [("user", "U5"), ("tags", "U1", 2), ("price", "f4"), ("visits", "i2")]
    return np.array([("u1", ("a", "b"), 1.5, 7)], dtype)


def sqlite_row():
    connection = sqlite3.connect(":memory:")
    connection.row_factory = sqlite3.Row
    return connection.execute(
        "select 'u1' as user, 1.5 as price, 7 as visits"
    ).fetchone()


def frame(**options):
    return pandas.DataFrame(ROWS, **options)


def read(rows, what="row"):
    columns, count = read_columns(rows, FIELDS, what)
    lists = {name: column.to_pylist() for name, column in columns.items()}
    lists["price"] = [None if math.isnan(v) else v for v in lists["price"]]
    assert {len(values) for values in lists.values()} == {count}
    return [dict(zip(lists, values)) for values in zip(*lists.values())]


ONE = {
    "dict": lambda: FIRST,
    "another mapping": lambda: types.MappingProxyType(OrderedDict(FIRST)),
    "Series": lambda: frame().iloc[0],
    "namedtuple": lambda: Row(**FIRST),
    "row of itertuples": lambda: next(frame().itertuples(index=False)),
    "dataclass": lambda: Impression(**FIRST),
    "Arrow struct": lambda: structs()[0],
    "row of a structured array": lambda: structured()[0],
    "structured array of no dimension": lambda: structured()[0:1].reshape(()),
    "list of one": lambda: [FIRST],
    "DataFrame of one row": lambda: frame().iloc[:1],
    "table of one row": lambda: pa.Table.from_pylist([FIRST]),
    "NumPy scalars": lambda: {
        "user": np.str_("u1"),
        "tags": np.array(["a", "b"]),
        "price": np.float16(1.5),
        "visits": np.uint8(7),
    },
    "arrays without a dimension": lambda: {
        "user": np.array("u1"),
        "tags": np.array(["a", "b"], object),
        "price": np.array(1.5),
        "visits": np.array(7),
    },
    "Arrow scalars": lambda: {
        "user": pa.scalar("u1", pa.large_string()),
        "tags": pa.scalar(["a", "b"]),
        "price": pa.scalar(1.5),
        "visits": pa.scalar(7, pa.uint8()),
    },
    "tensors": lambda: {
        "user": tf.constant("u1"),
        "tags": tf.constant(["a", "b"]),
        "price": tf.constant(1.5),
        "visits": tf.constant(7),
    },
    "lists of other libraries": lambda: {
        **FIRST,
        "tags": pandas.Series(["a", "b"], index=[5, 3]),
    },
    "an Arrow array as a list": lambda: {**FIRST, "tags": pa.array(["a", "b"])},
    "a list with Arrow scalars": lambda: {**FIRST, "tags": [pa.scalar("a"), "b"]},
    "bytes": lambda: {**FIRST, "user": b"u1", "tags": (b"a", bytearray(b"b"))},
    "a fraction that is none": lambda: {**FIRST, "visits": 7.0},
    "Decimals": lambda: {**FIRST, "price": Decimal("1.5"), "visits": Decimal(7)},
}


@pytest.mark.parametrize("form", ONE)
def test_one_row(form):
    row = ONE[form]()
    assert read(row) == [ROW]
    assert read(row, "user") == [ROW]
    if not isinstance(row, list | pandas.DataFrame | pa.Table):
        assert read([row, SECOND, row]) == [ROW, OTHER, ROW]


def test_a_row_of_a_data_base():
    row = sqlite_row()
    fields = {name: kind for name, kind in FIELDS.items() if name != "tags"}
    for rows in (row, [row]):
        columns, count = read_columns(rows, fields)
        assert (count, columns["user"].to_pylist()) == (1, [b"u1"])


MANY = {
    "list": lambda: ROWS,
    "array of dicts": lambda: np.array(ROWS, object),
    "list of Series": lambda: [frame().iloc[0], frame().iloc[1]],
    "list of namedtuples": lambda: [Row(**row) for row in ROWS],
    "list of structs": lambda: list(structs()),
    "rows of unequal kinds": lambda: [Row(**FIRST), structs()[1]],
    "DataFrame": frame,
    "DataFrame of objects": lambda: frame(dtype=object),
    "pandas' types with NA": lambda: frame().convert_dtypes(),
    "record batch": lambda: pa.RecordBatch.from_pylist(ROWS, pa.schema(list(STRUCT))),
    "array of structs": structs,
    "array of structs in pieces": lambda: pa.chunked_array([structs()]),
    "reader": lambda: pa.table(pa.chunked_array([structs()])).to_reader(),
    "another library's table": lambda: Streamed(pa.Table.from_pylist(ROWS)),
    "columns": lambda: {name: [row[name] for row in ROWS] for name in FIELDS},
    "columns of all kinds": lambda: {
        "user": pandas.Series(["u1", None], index=[3, 1]),
        "tags": Streamed(pa.chunked_array([structs().field("tags")])),
        "price": pandas.Index([1.5, math.nan]),
        "visits": pandas.Categorical([7, None]),
    },
}


@pytest.mark.parametrize("form", MANY)
def test_rows(form):
    assert read(MANY[form]()) == [ROW, OTHER]


@pytest.mark.parametrize("kind", ["range", "dict_values", "tensor", "strided"])
def test_columns_that_are_no_lists(kind):
    columns = {
        "range": lambda: range(2),
        "dict_values": lambda: {"a": 0, "b": 1}.values(),
        "tensor": lambda: tf.constant([0, 1]),
        "strided": lambda: np.arange(4)[::2] // 2,
    }
    found, _ = read_columns({"visits": columns[kind]()}, {"visits": FIELDS["visits"]})
    assert found["visits"].to_pylist() == [0, 1]


NAT = np.datetime64("NaT")


@pytest.mark.parametrize(
    "missing",
    [
        None,
        math.nan,
        np.float32("nan"),
        Decimal("nan"),
        pandas.NA,
        pandas.NaT,
        NAT,
        pa.scalar(None),
        pa.scalar(None, pa.int64()),
    ],
    ids=repr,
)
def test_what_is_missing(missing):
    empty = dict.fromkeys(FIELDS, missing)
    assert read([empty]) == [OTHER]
    assert read([FIRST, empty]) == [ROW, OTHER]
    assert read({**empty, "tags": [missing]})[0]["user"] == b""


def test_a_column_that_is_missing_is_so_whatever_its_type():
    """pandas makes one of floats from a column without a value."""
    nothing = pandas.DataFrame({name: [math.nan] for name in FIELDS})
    assert read(nothing) == [OTHER]
    assert read(pa.table({name: pa.array([math.nan]) for name in FIELDS})) == [OTHER]
    times = {name: pandas.to_datetime([None]) for name in FIELDS}
    assert read(pandas.DataFrame(times)) == [OTHER]


@pytest.mark.parametrize("flag", [True, np.True_, pa.scalar(True)])
def test_true_is_one_as_in_logs(flag):
    assert read({**FIRST, "price": flag, "visits": flag})[0]["visits"] == 1
    for rows in (
        [{**FIRST, "visits": flag}, {**FIRST, "visits": 3}],
        [{**FIRST, "price": 0.5, "visits": False}, {**FIRST, "price": flag}],
    ):
        assert len(read(rows)) == 2
    columns = {name: [value] for name, value in FIRST.items()}
    assert read({**columns, "visits": np.array([True])})[0]["visits"] == 1


MOMENT = datetime.datetime(2026, 3, 1, 8, 15)
TEXT = "expected text, as the log has it, such as '17'"


@pytest.mark.parametrize(
    "value",
    [
        17,
        17.0,
        True,
        np.int64(17),
        np.array(17),
        pa.scalar(17),
        Decimal(17),
        MOMENT,
        MOMENT.date(),
        np.datetime64("2026-03-01"),
        np.datetime64("2026-03-01T08:15:02", "ns"),
        pandas.Timestamp(MOMENT),
        pandas.Timedelta("1s"),
        object,
        {"a": 1},
    ],
    ids=repr,
)
def test_a_text_field_takes_text_alone(value):
    """How the log spells anything else only the log tells."""
    for rows in ([{**FIRST, "user": value}], {**FIRST, "user": value}):
        refused(rows, f"row 1, field 'user': {TEXT}. Received: ")
    refused([FIRST, {**FIRST, "user": value}], f"row 2, field 'user': {TEXT}. ")
    if not isinstance(value, dict | type):
        refused(
            [{**FIRST, "tags": ["a", value]}],
            f"row 1, field 'tags': expected a list, each value of it {TEXT[9:]}. ",
        )


@pytest.mark.parametrize(
    "value",
    [
        "7",
        MOMENT,
        np.datetime64("2026-03-01"),
        np.datetime64("2026-03-01T08:15:02", "ns"),
        pandas.Timestamp(MOMENT),
        np.timedelta64(7, "s"),
        Decimal("7.5"),
        Decimal(2**63),
        2.0**53 + 2,
        1j,
    ],
    ids=repr,
)
def test_a_number_field_takes_no_times_and_no_text(value):
    expected = "row 1, field 'visits': expected a whole number of 64 bits. Received: "
    refused([{**FIRST, "visits": value}], expected)
    refused({**FIRST, "visits": value}, expected)


FORMS = "as a list of dicts, a dict of columns, a DataFrame or a Table. Received: "


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (None, f"Expected rows {FORMS}None"),
        (5, f"Expected rows {FORMS}5"),
        (dict, f"Expected rows {FORMS}<class 'dict'>"),
        (Row, f"Expected rows {FORMS}<class"),
        ((row for row in ROWS), f"Expected rows {FORMS}<generator"),
        (pa.array([1, 2]), f"Expected rows {FORMS}<pyarrow.lib.Int64Array object"),
        (pa.scalar(None, STRUCT), f"Expected rows {FORMS}<pyarrow.StructScalar: None>"),
        (pa.array([FIRST, None], STRUCT), f"Expected rows {FORMS}<pyarrow.lib.Struct"),
        (np.array([[1.0, 2.0]]), f"Expected rows {FORMS}array([[1., 2.]])"),
        (np.array(["u1"]), f"Expected rows {FORMS}array(['u1']"),
        ([FIRST, None], "row 2: expected a dict of fields. Received: None"),
        ([FIRST, pa.scalar(None, STRUCT)], "row 2: expected a dict of fields. "),
        ([FIRST, ("u1", [], 1, 2)], "row 2: expected a dict of fields. Received: ("),
        ([frame()], "row 1: expected a dict of fields. Received: "),
        (("u1", [], 1.0, 2), "row 1: expected a dict of fields. Received: 'u1'"),
        (frame()["visits"], "row 1: expected only the fields ['user', 'tags', "),
        (next(frame().itertuples()), "row 1: expected only the fields ['user', "),
        (
            frame().to_dict(),
            f"row 1, field 'user': {TEXT}. Received: {{0: 'u1', 1: ",
        ),
        (
            {**{name: [value] for name, value in FIRST.items()}, "user": {"u1"}},
            f"row 1, field 'user': {TEXT}. Received: {{'u1'}}",
        ),
        (
            pandas.Series([1, 2], index=["user", "user"]),
            "Columns must have different names. Received: 'user'",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_are_no_rows_is_told_in_a_line(rows, message):
    refused(rows, message)


@pytest.mark.parametrize(
    ("user", "message"),
    [
        (None, f"Expected users {FORMS}None"),
        ([], "user: expected one row. Received: 0 rows"),
        (frame(), "user: expected one row. Received: 2 rows"),
        ([None], "user: expected a dict of fields. Received: None"),
        (
            {name: [value] for name, value in FIRST.items()},
            "user, field 'user': expected one value, not a list. Received: ['u1']",
        ),
    ],
)
def test_what_is_no_user(user, message):
    refused(user, message, "user")


def test_a_dict_of_lists_alone_is_one_of_columns():
    fields = {"tags": FIELDS["tags"]}
    columns, count = read_columns({"tags": [["a"], []]}, fields)
    assert (count, columns["tags"].to_pylist()) == (2, [[b"a"], []])
    with pytest.raises(edcn_tf.InputError, match="write one value as"):
        read_columns({"tags": ["a", "b"]}, fields)
    columns, count = read_columns({"tags": ["a", "b"]}, fields, "user")
    assert (count, columns["tags"].to_pylist()) == (1, [[b"a", b"b"]])


def refused(rows, message, what="row"):
    with pytest.raises(edcn_tf.InputError) as caught:
        read_columns(rows, FIELDS, what)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


NAMED = edcn_tf.Schema(
    label="clicked",
    fields=(
        edcn_tf.Field(name="user", column="user id"),
        edcn_tf.Field(name="tags", column="tags:list", multiple=True),
        edcn_tf.Field(name="price", kind="numeric"),
        edcn_tf.Field(name="visits", column="visits", kind="numeric", dtype="int64"),
    ),
)
OF_LOG = {"user": "user id", "tags": "tags:list"}


def renamed(row):
    return {OF_LOG.get(name, name): value for name, value in row.items()}


@pytest.mark.parametrize(
    "rows",
    [
        [renamed(FIRST), renamed(SECOND)],
        ROWS,
        pa.table({OF_LOG.get(n, n): [r[n] for r in ROWS] for n in FIELDS}),
        pandas.DataFrame([renamed(row) for row in ROWS]),
    ],
    ids=["columns", "names", "table", "frame"],
)
def test_a_field_may_be_called_by_its_column(rows):
    with Client("localhost:1", "clicks", schema=NAMED) as client:
        aliases = client._aliases
    assert aliases == {"user id": "user", "tags:list": "tags"}
    wanted, count = read_columns(ROWS, FIELDS)
    columns, rows_read = read_columns(rows, FIELDS, aliases=aliases)
    assert rows_read == count == 2
    assert {n: c.to_pylist() for n, c in columns.items() if n != "price"} == {
        n: c.to_pylist() for n, c in wanted.items() if n != "price"
    }


def test_a_field_by_both_its_names_is_refused():
    row = {**FIRST, "user id": "u2"}
    with pytest.raises(edcn_tf.InputError, match="'user' is there by its name and by"):
        read_columns([row], FIELDS, aliases={"user id": "user"})


def test_a_schema_in_which_a_name_means_two_fields_is_refused(tmp_path):
    fields = edcn_tf.Field(name="a", column="b"), edcn_tf.Field(name="b", column="a")
    edcn_tf.Schema(label="y", fields=fields).save(tmp_path / "schema.json")
    with pytest.raises(edcn_tf.InputError, match="Field 'a': its column is called"):
        Client("localhost:1", "clicks", schema=tmp_path / "schema.json")
    twice = edcn_tf.Field(name="a", column="c"), edcn_tf.Field(name="b", column="c")
    with pytest.raises(edcn_tf.InputError, match="'a' and 'b' are of one column"):
        Client("localhost:1", "clicks", schema=edcn_tf.Schema(label="y", fields=twice))
