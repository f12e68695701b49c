"""A value is the same value in whatever container a log comes."""

import csv
import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edcn_tf
from edcn_tf.dialect import Dialect
from edcn_tf.errors import InputError
from edcn_tf.field import Field
from edcn_tf.logs import opening
from edcn_tf.logs.reading import read_log
from edcn_tf.schema import Schema

SCHEMA = Schema(label="y", fields=(Field(name="f"),))
TWO = Schema(label="y", fields=(Field(name="x"), Field(name="z")))
FRAMES = {
    "large ids": [12345678901, 98765432109],
    "flags": [True, False],
    "fractions": [1.5, 1e-7],
    "large fractions": [12345678901.5, 1e20],
    "float32": np.array([0.1, 2.5], np.float32),
    "seconds": pd.to_datetime(["2026-03-01 08:15:02", "2026-03-01 08:15:03"]),
    "zoned": pd.to_datetime(["2026-03-01 08:15:02", "2026-03-01 08:15:03"], utc=True),
    "days": pd.to_datetime(["2026-03-01", "2026-03-02"]).date,
    "times": pd.to_datetime(["2026-03-01 01:02:03", "2026-03-01 04:05:06"]).time,
    "text": ["007", "a b"],
}


def column(path, schema=SCHEMA, **options):
    return [v for batch in read_log([path], schema, **options) for v in batch["f"]]


def values(path, **options):
    return [value.as_py() for value in column(path, **options)]


@pytest.mark.parametrize("name", FRAMES)
def test_pandas_writes_the_same_values_into_text_and_parquet(tmp_path, name):
    frame = pd.DataFrame({"f": FRAMES[name], "y": [0, 1]})
    frame.to_csv(tmp_path / "log.csv", index=False)
    frame.to_csv(tmp_path / "log.tsv", index=False, sep="\t")
    frame.to_parquet(tmp_path / "log.parquet")
    text = values(tmp_path / "log.csv")
    assert text == values(tmp_path / "log.tsv") == values(tmp_path / "log.parquet")
    assert None not in text


def test_a_gap_does_not_rename_the_ids_of_a_column(tmp_path):
    """pandas makes a column of whole numbers with a gap one of floats."""
    whole = pd.DataFrame({"f": [12345678901, 7], "y": [0, 1]})
    gap = pd.DataFrame({"f": [12345678901, None, 7], "y": [0, 1, 0]})
    whole.to_csv(tmp_path / "log.csv", index=False)
    gap.to_parquet(tmp_path / "log.parquet")
    assert values(tmp_path / "log.csv") == ["12345678901", "7"]
    assert values(tmp_path / "log.parquet") == ["12345678901", None, "7"]


def test_lists_of_floats_hold_the_same_ids(tmp_path):
    table = pa.table({"f": [[12345678901.0, 7.0], [2.5]], "y": [0, 1]})
    pq.write_table(table, tmp_path / "log.parquet")
    (tmp_path / "log.csv").write_text("f,y\n12345678901|7,0\n2.5,1\n")
    schema = Schema(label="y", fields=(Field(name="f", multiple=True),))
    for name in ("log.csv", "log.parquet"):
        assert values(tmp_path / name, schema=schema) == [["12345678901", "7"], ["2.5"]]


@pytest.mark.parametrize(
    "given, called",
    [
        ([True, None, False], [["True"], [], ["False"]]),
        ([12345678901.0, np.nan, 2.5], [["12345678901"], [], ["2.5"]]),
    ],
)
def test_a_value_that_is_no_list_is_called_the_same_in_one(tmp_path, given, called):
    """Where the schema says `multiple`, and the container has single values."""
    frame = pd.DataFrame({"f": given, "y": [0, 1, 0]})
    frame.to_parquet(tmp_path / "log.parquet")
    schema = Schema(label="y", fields=(Field(name="f", multiple=True),))
    read = values(tmp_path / "log.parquet", schema=schema)
    assert [value or [] for value in read] == called


@pytest.mark.parametrize(
    "dtype, kind", [("int64", "categorical"), ("float32", "numeric")]
)
def test_numbers_as_pandas_and_python_spell_them(tmp_path, dtype, kind):
    (tmp_path / "log.csv").write_text("f,y\n123.0,0\nTrue,1\nfalse,0\n-7,1\n,0\n")
    schema = Schema(label="y", fields=(Field(name="f", dtype=dtype, kind=kind),))
    assert values(tmp_path / "log.csv", schema=schema) == [123, 1, 0, -7, None]


def test_a_fraction_is_no_whole_number(tmp_path):
    (tmp_path / "log.csv").write_text("f,y\n123.0,0\n1.5,1\n")
    schema = Schema(label="y", fields=(Field(name="f", dtype="int64"),))
    with pytest.raises(InputError, match=r"row 2, column 'f'.*whole.*'1.5'"):
        values(tmp_path / "log.csv", schema=schema)


def test_two_files_of_one_user_count_as_one(tmp_path):
    """Of rows in CSV and rows in Parquet, whose ids became floats."""
    users = [10**10 + i for i in range(20)] * 4
    frame = pd.DataFrame({"user": users, "y": [i % 2 for i in range(80)]})
    frame.iloc[:40].to_csv(tmp_path / "a.csv", index=False)
    rest = frame.iloc[40:].astype({"user": "float64"})
    rest.loc[len(frame)] = [np.nan, 1]
    rest.to_parquet(tmp_path / "b.parquet")
    schema = Schema(label="y", fields=(Field(name="user", min_count=1),))
    logs = [tmp_path / "a.csv", tmp_path / "b.parquet"]
    summary = edcn_tf.prepare(
        {"train": logs, "valid": logs[:1]}, schema, tmp_path / "data"
    )
    assert summary["fields"][0]["values"] == 20


# Quotes


def rows(path, text, schema=TWO):
    path.write_text(text)
    batches = list(read_log([path], schema))
    return [tuple(row.values()) for batch in batches for row in batch.to_pylist()]


TEXTS = st.text('ab",\n', max_size=4)


@settings(max_examples=200, deadline=None)
@given(
    data=st.lists(st.tuples(TEXTS, TEXTS, st.integers(0, 1)), min_size=1, max_size=12),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    end=st.sampled_from(["\n", "\r\n"]),
    block=st.sampled_from([64, 100, 1 << 20]),
)
def test_what_pythons_csv_writes_is_read(tmp_path_factory, data, quoting, end, block):
    out = io.StringIO(newline="")
    writer = csv.writer(out, quoting=quoting, lineterminator=end)
    writer.writerows([("x", "z", "y"), *data])
    path = tmp_path_factory.mktemp("quotes") / "log.csv"
    path.write_bytes(out.getvalue().encode())
    before, opening.BLOCK_BYTES = opening.BLOCK_BYTES, block
    try:
        batches = list(read_log([path], TWO))
    finally:
        opening.BLOCK_BYTES = before
    read = [tuple(row.values()) for batch in batches for row in batch.to_pylist()]
    assert read == [(x or None, z or None, y) for x, z, y in data]


@pytest.mark.parametrize(
    "text, row",
    [
        ('"nail,a,0\nb,c,1\n"foo,d,1\nc,e,0\n', 1),
        ('a,b,0\n"a\\"b",c,0\n', 2),
        ('a,"b\nc",0\nd,"e,1\n', 2),
        ('a,"b"c,0\n', 1),
    ],
)
def test_a_quote_that_stands_alone_swallows_no_row(tmp_path, text, row):
    with pytest.raises(InputError, match=f"log.csv: row {row}: the quote"):
        rows(tmp_path / "log.csv", "x,z,y\n" + text)


def test_a_quote_inside_a_value_is_a_quote(tmp_path):
    text = 'x,z,y\n5" nail,"a ""b""",0\n"",""""\n'
    with pytest.raises(InputError, match="expected 3 columns"):
        rows(tmp_path / "log.csv", text)
    found = rows(tmp_path / "log.csv", text.replace('""""\n', '"""",1\n'))
    assert found == [('5" nail', 'a "b"', 0), (None, '"', 1)]


def test_tsv_has_no_quotes_unless_the_dialect_says_so(tmp_path):
    text = 'x\tz\ty\n"nail\ta\t0\nb\tc\t1\n"foo\td\t1\nc\te\t0\n'
    found = rows(tmp_path / "log.tsv", text)
    assert [x for x, _, _ in found] == ['"nail', "b", '"foo', "c"]
    quoted = Schema(label="y", fields=TWO.fields, dialect=Dialect(quote='"'))
    found = rows(tmp_path / "log.tsv", 'x\tz\ty\n"a\tb"\tc\t1\n', quoted)
    assert found == [("a\tb", "c", 1)]


def test_a_dialect_is_stored_with_the_data_and_read_by_predict(tmp_path):
    dialect = Dialect(delimiter=";", escape="\\", names=("x", "z", "y"))
    schema = Schema(label="y", fields=TWO.fields, dialect=dialect)
    assert Schema.from_dict(schema.to_dict()) == schema
    found = rows(tmp_path / "log.csv", '"a\\"b;c";d;1\n', schema)
    assert found == [('a"b;c', "d", 1)]
    lines = "".join(f"u{i % 5};i{i % 3};{i % 2}\n" for i in range(60))
    (tmp_path / "more.csv").write_text(lines)
    edcn_tf.prepare(tmp_path / "more.csv", schema, tmp_path / "data")
    spec = edcn_tf.FeatureSpec.load(tmp_path / "data/features")
    assert spec.schema.dialect == dialect


@pytest.mark.parametrize(
    "dialect",
    [{"delimiter": ""}, {"quote": 1}, {"escape": ""}, {"names": []}, {"names": [""]}],
)
def test_a_dialect_that_cannot_be_is_one_line(dialect):
    with pytest.raises(InputError, match="dialect"):
        Dialect(**dialect)


@pytest.mark.parametrize("name", ["log.csv", "log.tsv"])
def test_a_column_that_is_there_twice_is_refused(tmp_path, name):
    text = "x,z,x,y\na,b,c,1\n".replace(",", "\t" if name.endswith("tsv") else ",")
    with pytest.raises(InputError, match="more than one column 'x'"):
        rows(tmp_path / name, text)
    other = text.replace("x", "unread").replace("unread", "x", 1)
    assert rows(tmp_path / name, other.replace("unread", "w")) == [("a", "b", 1)]


# Times


def test_clicks_within_a_second_are_in_order_in_every_form(tmp_path):
    """Clicks of a user 100 ms apart: each row has what came before it."""
    stamps = [1_700_000_000_000 + 100 * i for i in range(30)]
    frame = pd.DataFrame(
        {
            "user": [f"u{i % 2}" for i in range(30)],
            "item": [f"i{i % 7}" for i in range(30)],
            "y": [1] * 15 + [0, 1] * 7 + [0],
        }
    )
    times = pd.to_datetime(stamps, unit="ms", utc=True)
    forms = {
        "milliseconds.csv": stamps,
        "iso.csv": times.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "fractions.csv": [stamp / 1000 for stamp in stamps],
        "times.parquet": times,
        "floats.parquet": [stamp / 1000 for stamp in stamps],
    }
    schema = Schema(
        label="y",
        timestamp="at",
        fields=(Field(name="user", min_count=1), Field(name="item", min_count=1)),
    )
    found = {}
    for name, at in forms.items():
        log, data = tmp_path / name, tmp_path / f"data of {name}"
        write = frame.assign(at=at)
        if name.endswith("csv"):
            write.to_csv(log, index=False)
        else:
            write.to_parquet(log)
        summary = edcn_tf.prepare(
            log, schema, data, split_by="time", history="user:item:at"
        )
        spec = edcn_tf.FeatureSpec.load(data / "features")
        read = edcn_tf.read_records(f"{data}/train-*.tfrecord", spec, 100)
        ids = next(iter(read))[0].numpy()
        found[name] = summary["splits"], ids
    splits, ids = found.pop("milliseconds.csv")
    history = ids[:, 2:]
    last = len(ids) - 1
    clicked = [i for i in range(last % 2, last, 2) if frame["y"][i] == 1]
    assert (history[last] > 0).sum() == len(clicked) > 5
    for other, others in found.values():
        assert other == splits
        np.testing.assert_array_equal(others, ids)


@pytest.mark.parametrize("field", [{"dtype": "int64"}, {"kind": "numeric"}])
@pytest.mark.parametrize("kind", [pa.timestamp("us"), pa.date32(), pa.duration("s")])
def test_a_time_is_no_number(tmp_path, field, kind):
    """Its unit would be that of the container."""
    whole = pa.int32() if kind == pa.date32() else pa.int64()
    times = pa.array([10_000, 20_000], whole).cast(kind)
    pq.write_table(pa.table({"f": times, "y": [0, 1]}), tmp_path / "log.parquet")
    schema = Schema(label="y", fields=(Field(name="f", **field),))
    with pytest.raises(InputError, match="row 1, column 'f': .*not a date or time"):
        values(tmp_path / "log.parquet", schema=schema)


@pytest.mark.parametrize("kind, most", [(np.float32, 2**24), (np.float16, 2**11)])
@pytest.mark.parametrize("role", ["f", "int", "time"])
def test_a_short_float_that_may_be_another_number_is_refused(
    tmp_path, kind, most, role
):
    schema = {
        "f": SCHEMA,
        "int": Schema(label="y", fields=(Field(name="f", dtype="int64"),)),
        "time": Schema(label="y", timestamp="f", fields=(Field(name="g"),)),
    }[role]
    table = {"f": np.array([1, most - 1], kind), "g": ["a", "b"], "y": [0, 1]}
    pq.write_table(pa.table(table), tmp_path / "log.parquet")
    wanted = ["1", str(most - 1)] if role == "f" else [1, most - 1]
    [batch] = read_log([tmp_path / "log.parquet"], schema)
    assert batch["f"].to_pylist() == wanted
    table["f"] = np.array([1, most], kind)
    pq.write_table(pa.table(table), tmp_path / "log.parquet")
    with pytest.raises(InputError, match="row 2, column 'f': .* for their neighbours"):
        values(tmp_path / "log.parquet", schema=schema)


def test_a_number_of_a_short_float_may_be_rounded(tmp_path):
    pq.write_table(
        pa.table({"f": np.float32([2**25]), "y": [1]}), tmp_path / "x.parquet"
    )
    schema = Schema(label="y", fields=(Field(name="f", kind="numeric"),))
    assert values(tmp_path / "x.parquet", schema=schema) == [2**25]
