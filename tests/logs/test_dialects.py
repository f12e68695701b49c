"""Text logs that are written otherwise: what the schema's `dialect` says is read."""

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edcn_tf
from edcn_tf.dialect import Dialect
from edcn_tf.errors import InputError
from edcn_tf.evaluation.prediction import predict_log
from edcn_tf.field import Field
from edcn_tf.logs import opening
from edcn_tf.logs.formats import SCHEMAS
from edcn_tf.logs.reading import read_log
from edcn_tf.schema import Schema


def schema_of(dialect, *fields, **options):
    return Schema(label="y", fields=fields, dialect=Dialect(**dialect), **options)


def rows(path, schema, **options):
    names = options.get("columns") or schema.columns
    return [
        tuple(row[name] for name in names)
        for batch in read_log([path], schema, **options)
        for row in batch.to_pylist()
    ]


X, Z = Field(name="x"), Field(name="z")
PRICE = Field(name="price", kind="numeric")
COUNT = Field(name="count", kind="numeric", dtype="int64")


@pytest.mark.parametrize("delimiter", [";", "|", "\x01", "::", "||", " ", "a"])
def test_delimiters(tmp_path, delimiter):
    path = tmp_path / "log.csv"
    lines = (["x", "z", "y"], ["1:2", "", "0"], ["", "5", "1"])
    path.write_text("\n".join(delimiter.join(line) for line in lines) + "\n")
    schema = schema_of({"delimiter": delimiter}, X, Z)
    assert rows(path, schema) == [("1:2", None, 0), (None, "5", 1)]


def test_a_delimiter_of_several_characters_at_every_cut(tmp_path, monkeypatch):
    path = tmp_path / "ratings.csv"
    path.write_text("1::a:b::0\n2:: ::1\n3::c::0")
    schema = schema_of({"delimiter": "::", "names": ["x", "z", "y"]}, X, Z)
    wanted = [("1", "a:b", 0), ("2", " ", 1), ("3", "c", 0)]
    for size in range(16, 30):
        monkeypatch.setattr(opening, "BLOCK_BYTES", size)
        assert rows(path, schema) == wanted


def test_the_character_that_stands_for_it_is_refused(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("x::z::y\na\x1fb::c::0\n")
    with pytest.raises(InputError, match="0x1F"):
        rows(path, schema_of({"delimiter": "::"}, X, Z))


def test_numbers_with_a_decimal_comma(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(
        "price;count;y\n1.234,5;1.000.000;0\n-0,5;7;1\n;-1.000,0;0\n,25;;1\n"
    )
    dialect = {"delimiter": ";", "decimal": ",", "thousands": "."}
    assert rows(path, schema_of(dialect, PRICE, COUNT)) == [
        (1234.5, 1_000_000, 0),
        (-0.5, 7, 1),
        (None, -1000, 0),
        (0.25, None, 1),
    ]


@pytest.mark.parametrize("value", ["1.23", "12.34,5", "1,5,5", "1.2345", "0x10", "1 0"])
def test_a_number_of_another_dialect_is_an_error(tmp_path, value):
    path = tmp_path / "log.csv"
    path.write_text(f"price;y\n1.234,5;0\n{value};1\n")
    dialect = {"delimiter": ";", "decimal": ",", "thousands": "."}
    with pytest.raises(InputError, match="row 2, column 'price': expected a number"):
        rows(path, schema_of(dialect, PRICE))


def test_numbers_in_lists_and_weights_are_of_the_dialect(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("ages;w;y\n1,5|2,0;0,5;0\n")
    ages = Field(name="ages", kind="sequence", buckets=4)
    dialect = {"delimiter": ";", "decimal": ","}
    assert rows(path, schema_of(dialect, ages, weight="w")) == [([1.5, 2.0], 0, 0.5)]


def test_comments(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(
        '# made on "Sunday\n#\nx,z,y\n#a,b,0\nc#,#d,1\n"e\n#f\n#","g""",0\n# end'
    )
    read = rows(path, schema_of({"comment": "#"}, X, Z))
    assert read == [("c#", "#d", 1), ("e\n#f\n#", 'g"', 0)]
    path.write_text('#"\nx\tz\ty\n"a\tb\t0\n#c\td\t1\n')
    tabs = {"comment": "#", "delimiter": "\t", "quote": ""}
    assert rows(path, schema_of(tabs, X, Z)) == [('"a', "b", 0)]


CELLS = st.text("ab#\"\n,'", max_size=4)


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=8), st.integers(40, 99))
def test_comments_between_rows_change_nothing(tmp_path_factory, cells, block):
    path = tmp_path_factory.mktemp("log") / "log.csv"
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    text.write("# x\n")
    writer.writerow(["x", "z", "y"])
    for pair in cells:
        text.write('# "comment\n')
        writer.writerow([*pair, 1])
    path.write_text(text.getvalue())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opening, "BLOCK_BYTES", block)
        read = rows(path, schema_of({"comment": "#"}, X, Z))
    assert read == [(x or None, z or None, 1) for x, z in cells]


def test_a_log_without_a_header_is_read_alike_by_predict(tmp_path):
    """UserBehavior's form: names by the schema, which the run keeps."""
    path = tmp_path / "log.csv"
    lines = [f"{i % 5};{i % 3};{i % 2}" for i in range(60)]
    path.write_text("\n".join(lines) + "\n")
    schema = schema_of({"delimiter": ";", "names": ["x", "z", "y"]}, X, Z)
    data = tmp_path / "data"
    summary = edcn_tf.prepare(path, schema, data, split=(0.5, 0.5, 0))
    assert sum(split["rows"] for split in summary["splits"].values()) == 60
    settings = ["epochs=1", "embedding_dim=4"]
    config = edcn_tf.TrainingConfig.load(None, settings)
    edcn_tf.train(data, tmp_path / "run", config)
    told = predict_log(tmp_path / "run", [path], tmp_path / "scores.csv")
    assert (told.rows, told.unknown) == (60, {"x": 0, "z": 0})


def test_the_dialect_is_stored():
    dialect = {
        **{"delimiter": ";", "quote": "'", "escape": "\\", "names": ["x", "y"]},
        **{"decimal": ",", "thousands": "."},
    }
    schema = schema_of(dialect, X)
    assert Schema.from_dict(schema.to_dict()) == schema
    other = schema_of({"comment": "#"}, X)
    assert Schema.from_dict(other.to_dict()) == other


@pytest.mark.parametrize(
    "dialect, said",
    [
        ({"delimiter": ""}, "delimiter"),
        ({"delimiter": "\n"}, "delimiter"),
        ({"delimiter": "::", "quote": '"'}, "quote"),
        ({"comment": "//"}, "comment"),
        ({"comment": "#", "escape": "\\"}, "both"),
        ({"decimal": ".", "thousands": "."}, "two marks"),
        ({"thousands": "."}, "two marks"),
        ({"decimal": "1"}, "two marks"),
        ({"decimal": "-"}, "two marks"),
    ],
)
def test_a_dialect_that_cannot_be(dialect, said):
    with pytest.raises(InputError, match=said):
        Dialect(**dialect)


def test_criteo_without_clicks_can_be_scored(tmp_path):
    """Its test.txt has 39 columns: those of train.txt but for the label."""
    path = tmp_path / "test.txt"
    path.write_text("\t".join([*map(str, range(1, 14)), *["68fd1e64"] * 25, "last"]))
    schema = SCHEMAS["criteo"]
    names = [field.name for field in schema.fields]
    [row] = rows(path, schema, format="criteo", columns=names)
    assert row == (*range(1, 14), *["68fd1e64"] * 25, "last")
    with pytest.raises(InputError, match="39 columns and so no 'label'"):
        rows(path, schema, format="criteo")
    path.write_text("\t".join(["1"] * 38))
    with pytest.raises(InputError, match="expected 40 columns.* 38"):
        rows(path, schema, format="criteo", columns=names)


# Quotes, escapes and comments


@pytest.mark.parametrize("quote", ["'", '"'])
@pytest.mark.parametrize("escape", [None, "\\"])
@pytest.mark.parametrize("name", ["log.csv", "log.tsv"])
def test_a_quote_that_stands_alone_swallows_no_row(tmp_path, name, quote, escape):
    mark = "\t" if name.endswith("tsv") else ","
    lines = ["x,z,y", "a,b,0", "'tis,b,0", "c,d,1", "'twas,e,1"]
    text = "\n".join(lines).replace(",", mark).replace("'", quote)
    (tmp_path / name).write_text(text)
    dialect = {"quote": quote, **({"escape": escape} if escape else {})}
    with pytest.raises(InputError, match="row 2: the quote that a value begins with"):
        rows(tmp_path / name, schema_of(dialect, X, Z))


@pytest.mark.parametrize(
    "written, read",
    [
        ("C:\\dir", "C:\\dir"),
        ('"C:\\dir, x"', "C:\\dir, x"),
        ('"a \\"b\\" c"', 'a "b" c'),
        ('"a ""b"" c"', 'a "b" c'),
        ('"a\\\\"', "a\\"),
        ('"\\\\\\"\\""', '\\""'),
        ("a\\,b", "a,b"),
        ('5\\" nail', '5" nail'),
        ("\\N", "\\N"),
        ('"a\\\nb"', "a\nb"),
    ],
)
def test_an_escape_is_one_before_a_mark_alone(tmp_path, monkeypatch, written, read):
    """Spark writes paths as they are; and nothing of a value is lost."""
    path = tmp_path / "log.csv"
    path.write_text(f"x,z,y\nu,v,0\n{written},{written},1\n" * 1 + "w,,1\n")
    wanted = [("u", "v", 0), (read, read, 1), ("w", None, 1)]
    for size in range(40, 60):
        monkeypatch.setattr(opening, "BLOCK_BYTES", size)
        assert rows(path, schema_of({"escape": "\\"}, X, Z)) == wanted


@settings(deadline=None, max_examples=150)
@given(
    st.lists(
        st.tuples(st.text('ab\\",\n', max_size=5), st.text("a\\'\t", max_size=5)),
        min_size=1,
        max_size=8,
    ),
    st.integers(64, 120),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONE]),
)
def test_what_pythons_csv_escapes_is_read(tmp_path_factory, cells, block, quoting):
    path = tmp_path_factory.mktemp("log") / "log.csv"
    text = io.StringIO()
    options = {"escapechar": "\\", "doublequote": False, "quoting": quoting}
    writer = csv.writer(text, lineterminator="\n", **options)
    writer.writerow(["x", "z", "y"])
    writer.writerows([*pair, 1] for pair in cells)
    path.write_text(text.getvalue(), newline="")
    dialect = {"escape": "\\", "quote": "" if quoting == csv.QUOTE_NONE else '"'}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opening, "BLOCK_BYTES", block)
        read = rows(path, schema_of(dialect, X, Z))
    assert read == [(x or None, z or None, 1) for x, z in cells]


def test_a_comment_after_a_quote_inside_a_value_is_none_of_it(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text('x,z,y\n5" nail,a,1\n#b,c,1\nd,e,0\n')
    read = rows(path, schema_of({"comment": "#"}, X, Z))
    assert read == [('5" nail', "a", 1), ("d", "e", 0)]
    path.write_bytes(b"#old\rx,z,y\ra,b,1\r#c,d,1\re,f,0\r")
    assert rows(path, schema_of({"comment": "#"}, X, Z)) == [
        ("a", "b", 1),
        ("e", "f", 0),
    ]
