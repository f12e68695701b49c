import gzip

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

import edcn_tf
from edcn_tf import Encoder, FeatureSpec, FieldEmbedding, InputError, Schema
from edcn_tf.field import Field
from edcn_tf.training.pretrained import Pretrained, load_pretrained

D = 3
NAMES = ["anna", 'say "hi", bo', "Jörg 東", "007", " 7 ", "null", "x|y", "1.50"]
SITES = [-5, 0, 7, 2**53 + 1]
TAGS = ["red", "green", "blue"]


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    """Of a small log with a field of each kind."""
    folder = tmp_path_factory.mktemp("log")
    rows = range(60)
    log = pa.table(
        {
            "click": [i % 2 for i in rows],
            "age": [float(i % 9) for i in rows],
            "name": [NAMES[i % len(NAMES)] for i in rows],
            "site": [SITES[i % len(SITES)] for i in rows],
            "tags": [TAGS[: i % 4] for i in rows],
            "device": [f"d{i % 6}" for i in rows],
            "once": [f"never twice {i}" for i in rows],
        }
    )
    pq.write_table(log, folder / "log.parquet")
    schema = Schema.from_dict(
        {
            "label": "click",
            "fields": [
                {"name": "age", "kind": "numeric", "buckets": 3},
                {"name": "name", "unseen_rows": 2},
                {"name": "site", "dtype": "int64"},
                {"name": "tags", "multiple": True, "max_length": 3},
                {"name": "device", "hash_buckets": 4},
                {"name": "once"},
            ],
        }
    )
    edcn_tf.prepare([folder / "log.parquet"], schema, folder / "data")
    return FeatureSpec.load(folder / "data" / "features")


@pytest.fixture
def embedding(spec):
    layer = FieldEmbedding(spec.layout(), spec.num_rows, D)
    layer.build((None, spec.num_slots))
    return layer


def rows_of(spec, field, values):
    """Rows of the table, as the FeatureSpec names them."""
    [own] = [own for own in spec.fields if own.field.name == field]
    names = own.row_names()
    return [own.offset + names.index(str(value)) for value in values]


def numbers_for(values):
    return np.arange(1, 1 + len(values) * D, dtype=np.float32).reshape(-1, D) / 7


def columns_of(values, numbers):
    columns = {f"e{i}": numbers[:, i] for i in range(numbers.shape[1])}
    return pa.table({"value": values, **columns})


def as_csv(table, delimiter=","):
    sink = pa.BufferOutputStream()
    options = pa.csv.WriteOptions(delimiter=delimiter)
    pa.csv.write_csv(table, sink, options)
    return sink.getvalue().to_pybytes()


def write(path, data):
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def changed(embedding, spec, field, path):
    """Row -> its new numbers, of the rows that were changed; and what was told."""
    before = embedding.table.numpy()
    told = load_pretrained(embedding, spec, field, path)
    after = embedding.table.numpy()
    rows = np.flatnonzero((before != after).any(axis=1))
    return dict(zip(rows.tolist(), after[rows].tolist())), told


def error_of(embedding, spec, path, field="name"):
    """The message, which must be one line and name the file and the field."""
    with pytest.raises(InputError) as caught:
        load_pretrained(embedding, spec, field, path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


# Formats


def lists(values, numbers, kind):
    return pa.table({"value": values, "e": pa.array(numbers.tolist(), kind)})


FORMATS = {
    "e.csv": lambda v, n: as_csv(columns_of(v, n)),
    "e.tsv": lambda v, n: as_csv(columns_of(v, n), "\t"),
    "E.CSV.GZ": lambda v, n: gzip.compress(as_csv(columns_of(v, n))),
    "e.csv.zst": lambda v, n: pa.Codec("zstd").compress(
        as_csv(columns_of(v, n)), asbytes=True
    ),
    "spaces.csv": lambda v, n: as_csv(
        pa.table({"value": v, "e": [f"  {a} {b}   {c}\t" for a, b, c in n.tolist()]})
    ),
    "columns.parquet": lambda v, n: columns_of(v, n),
    "double.parquet": lambda v, n: columns_of(v, n.astype(np.float64)),
    "text.parquet": lambda v, n: columns_of(v, n.astype(str)),
    "list.parquet": lambda v, n: lists(v, n, pa.list_(pa.float32())),
    "large.parquet": lambda v, n: lists(v, n, pa.large_list(pa.float64())),
    "fixed.parquet": lambda v, n: lists(v, n, pa.list_(pa.float32(), D)),
    "spaces.parquet": lambda v, n: pa.table(
        {"value": v, "e": [" ".join(map(str, each)) for each in n.tolist()]}
    ),
    "dictionary.parquet": lambda v, n: columns_of(v.dictionary_encode(), n),
    "large_text.parquet": lambda v, n: columns_of(
        v.cast(pa.string()).cast(pa.large_string()), n
    ),
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    ("field", "known", "others"),
    [
        ("name", [NAMES[1], "007", " 7 ", "Jörg 東"], ["7", "ANNA", "two\nlines"]),
        ("site", [SITES[3], SITES[0], SITES[1]], [8, 2**53, -(2**63)]),
        ("tags", ["blue", "red"], ["red|blue"]),
    ],
)
def test_rows_of_values_are_set(
    tmp_path, embedding, spec, name, field, known, others, monkeypatch
):
    monkeypatch.setattr("edcn_tf.training.pretrained.BATCH_NUMBERS", 2 * D)
    values = [others[0], *known[:2], *others[1:], *known[2:]]
    numbers = numbers_for(values)
    data = FORMATS[name](pa.array(values), numbers)
    if name.endswith("parquet"):
        pq.write_table(data, tmp_path / name)
    else:
        write(tmp_path / name, data)
    rows, told = changed(embedding, spec, field, tmp_path / name)
    expected = {
        row: numbers[values.index(value)].tolist()
        for row, value in zip(rows_of(spec, field, known), known)
    }
    assert rows == expected
    all_values = {"name": NAMES, "site": SITES, "tags": TAGS}[field]
    assert told == Pretrained(len(all_values), len(known), len(others))


def test_values_have_the_rows_that_the_encoder_gives_them(tmp_path, embedding, spec):
    numbers = numbers_for(NAMES)
    path = write(tmp_path / "e.csv", as_csv(columns_of(pa.array(NAMES), numbers)))
    load_pretrained(embedding, spec, "name", path)
    ids = Encoder(spec)({"name": tf.constant(NAMES)}, ["name"])
    np.testing.assert_array_equal(embedding.table.numpy()[ids[:, 0]], numbers)


def test_missing_values_are_passed_over(tmp_path, embedding, spec):
    path = write(tmp_path / "e.csv", "v,a,b,c\n,1,2,3\nanna,4,5,6\n,7,8,9\n")
    rows, told = changed(embedding, spec, "name", path)
    assert rows == {rows_of(spec, "name", ["anna"])[0]: [4, 5, 6]}
    assert (told.rows_set, told.passed_over) == (1, 2)
    path = write(tmp_path / "e.csv", "v,a,b,c\n,1,2,3\nNULL,1,2,3\n 07,4,5,6\n")
    rows, told = changed(embedding, spec, "site", path)
    assert rows == {rows_of(spec, "site", [7])[0]: [4, 5, 6]}


def test_quotes_and_values_with_line_breaks(tmp_path, embedding, spec):
    text = 'v,e\n"two\nlines",1 2 3\n"say ""hi"", bo","4\n5 6"\r\n"anna",7 8 9\n'
    rows, told = changed(embedding, spec, "name", write(tmp_path / "e.csv", text))
    first, second = rows_of(spec, "name", ['say "hi", bo', "anna"])
    assert rows == {first: [4, 5, 6], second: [7, 8, 9]}
    assert told.passed_over == 1


def test_one_number_a_value(tmp_path, spec):
    layer = FieldEmbedding(spec.layout(), spec.num_rows, 1)
    layer.build((None, spec.num_slots))
    rows, _ = changed(layer, spec, "name", write(tmp_path / "e.csv", "v,e\nanna, 5 \n"))
    assert rows == {rows_of(spec, "name", ["anna"])[0]: [5]}
    pq.write_table(pa.table({"v": ["anna"], "e": [6]}), tmp_path / "e.parquet")
    rows, _ = changed(layer, spec, "name", tmp_path / "e.parquet")
    assert rows == {rows_of(spec, "name", ["anna"])[0]: [6]}


def test_a_table_on_several_replicas(tmp_path, spec):
    path = write(tmp_path / "e.csv", "v,a,b,c\nanna,4,5,6\n")
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        layer = FieldEmbedding(spec.layout(), spec.num_rows, D)
        layer.build((None, spec.num_slots))
    rows, _ = changed(layer, spec, "name", path)
    assert rows == {rows_of(spec, "name", ["anna"])[0]: [4, 5, 6]}


# Fields


def test_an_unknown_field(embedding, spec):
    with pytest.raises(InputError, match=r"no field 'Name'.*\['age', 'name', 'site'"):
        load_pretrained(embedding, spec, "Name", "e.csv")


@pytest.mark.parametrize(("field", "kind"), [("age", "numeric"), ("device", "hashed")])
def test_a_field_without_values_of_its_own(embedding, spec, field, kind):
    message = rf"'{field}' is {kind}.*choose one of \['name', 'site', 'tags', 'once'\]"
    with pytest.raises(InputError, match=message):
        load_pretrained(embedding, spec, field, "e.csv")


def test_a_statistic_has_no_values(tmp_path, embedding):
    log = tmp_path / "log.csv"
    log.write_text("click,name\n" + "0,x\n1,y\n" * 9)
    rate = Field(name="rate", kind="statistic", of="name")
    schema = Schema(label="click", fields=(Field(name="name"), rate))
    edcn_tf.prepare(log, schema, tmp_path / "data", split=(1, 0, 0))
    spec = FeatureSpec.load(tmp_path / "data/features")
    with pytest.raises(InputError, match="'rate' is a statistic: its rows"):
        load_pretrained(embedding, spec, "rate", "e.csv")


def test_a_model_of_another_spec(spec):
    layer = FieldEmbedding(spec.layout(), spec.num_rows + 1, D)
    layer.build((None, spec.num_slots))
    with pytest.raises(ValueError, match=f"{spec.num_rows + 1} rows"):
        load_pretrained(layer, spec, "name", "e.csv")


def test_a_field_whose_vocabulary_is_empty(tmp_path, embedding, spec):
    path = write(tmp_path / "e.csv", "v,a,b,c\nnever twice 1,4,5,6\n")
    assert "none of its values" in error_of(embedding, spec, path, "once")


# Files


@pytest.mark.parametrize(
    ("name", "data", "parts"),
    [
        ("e.txt", "v,a,b,c\n", ["must be named .csv"]),
        ("e.csv", "", ["has no rows"]),
        ("e.csv", "v,a,b,c\n", ["has no rows"]),
        ("e.csv.gz", gzip.compress(b"", mtime=0), ["has no rows"]),
        (
            "e.csv.gz",
            gzip.compress(b"v,a,b,c\nanna,1,2,3\n", mtime=0)[:-9],
            ["e.csv.gz"],
        ),
        ("e.csv", b"PAR1\0\0\0\n", ["e.csv"]),
        ("e.csv.gz", "v,a,b,c\n", ["does not hold gzip"]),
        ("e.parquet", "v,a,b,c\n", ["is not parquet"]),
        ("e.csv", "v,a,b,c\nanna,1,2\n", ["row 1: expected 4 columns", "there are 3"]),
        (
            "e.csv",
            "v,a,b,c\nanna,1,2,3,4\n",
            ["row 1: expected 4 columns", "there are 5"],
        ),
        ("e.csv", b"v,a,b,c\n\xff\xfe,1,2,3\n", ["row 1, column 'v'", "UTF-8"]),
        ("e.csv", b"v,\xff,b,c\nanna,1,2,3\n", ["header line is not UTF-8"]),
        ("e.csv", 'v,"a\nb",c\nanna,1,2\n', ["embedding_dim to 2"]),
        ("e.csv", "v,a,a,c\nanna,1,2,3\n", ["more than one column 'a'"]),
        ("e.csv", 'v,a,b,c\n"anna,1,2,3\n', ["row 1: the quote", "never closed"]),
        ("e.csv", "v,a,b\nanna,1,2\n", ["has 2", "have 3", "embedding_dim to 2"]),
        ("e.csv", "v,a,b,c,d\nanna,1,2,3,4\n", ["embedding_dim to 4"]),
        ("e.csv", "v\nanna\n", ["has no numbers"]),
        ("e.csv", "v;a;b;c\nanna;1;2;3\n", ["has no numbers"]),
        ("e.csv", "v,e\nbo,1 2 3\nanna,1 2\n", ["row 2", "has 2", "have 3"]),
        ("e.csv", "v,e\nbo,1 2 3\nanna,\n", ["row 2", "has no numbers"]),
        ("e.csv", "v,e\nbo,1 2 3\nanna,1 2 c\n", ["row 2", "'c'"]),
        ("e.csv", "v,e\nanna,[1 2 3]\n", ["row 1", "'[1'"]),
        ("e.csv", "v,a,b,c\nbo,1,2,3\nanna,1,2,x\n", ["row 2", "'x'"]),
        ("e.csv", "v,a,b,c\nbo,1,2,3\nanna,1,,3\n", ["row 2", "Received: None"]),
        ("e.csv", "v,a,b,c\nbo,1,2,3\nanna,1,NaN,3\n", ["row 2", "'NaN'"]),
        ("e.csv", "v,a,b,c\nbo,1,2,3\nanna,1,-inf,3\n", ["row 2", "'-inf'"]),
        ("e.csv", "v,a,b,c\nbo,1,2,3\nanna,1,1e39,3\n", ["row 2", "'1e39'"]),
        ("e.csv", "v,a,b,c\nanna,1,2,3\nanna,1,2,3\n", ["row 2", "'anna' again"]),
        ("e.csv", "v,a,b,c\nbo,1,2,3\nAnna,1,2,3\n", ["'bo'", "another field"]),
    ],
)
def test_what_is_wrong_with_a_file_is_told(
    tmp_path, embedding, spec, name, data, parts
):
    before = embedding.table.numpy()
    message = error_of(embedding, spec, write(tmp_path / name, data))
    for part in parts:
        assert part in message
    np.testing.assert_array_equal(embedding.table.numpy(), before)


def test_a_file_that_is_not_there(tmp_path, embedding, spec):
    for name in ("e.csv", "e.parquet"):
        assert "cannot be read" in error_of(embedding, spec, tmp_path / name)
    (tmp_path / "folder.csv").mkdir()
    error_of(embedding, spec, tmp_path / "folder.csv")


@pytest.mark.parametrize(
    ("columns", "parts"),
    [
        ({"v": ["anna"], "e": [[1.0, 2.0, None]]}, ["row 1", "Received: None"]),
        ({"v": ["bo", "anna"], "e": [[1.0, 2, 3], None]}, ["row 2", "has no numbers"]),
        ({"v": ["bo", "anna"], "e": [[1.0, 2, 3], [1.0]]}, ["row 2", "has 1 numbers"]),
        ({"v": ["anna"], "e": [[1.0, 2, np.inf]]}, ["row 1", "Received: inf"]),
        ({"v": ["anna"], "e": [[["1"], ["2"], ["3"]]]}, ["row 1", "list"]),
        ({"v": ["anna"], "e": [{"a": 1.0}]}, ["row 1", "has 1 numbers"]),
        ({"v": [["anna"]], "e": [[1.0, 2, 3]]}, ["row 1", "'name'"]),
        ({"v": [{"a": 1}], "e": [[1.0, 2, 3]]}, ["row 1", "'name'"]),
        ({"v": [], "e": []}, ["has no rows"]),
        ({"v": ["anna"]}, ["has no numbers"]),
        ({}, ["has no rows"]),
    ],
)
def test_parquet_that_does_not_fit(tmp_path, embedding, spec, columns, parts):
    pq.write_table(pa.table(columns), tmp_path / "e.parquet")
    message = error_of(embedding, spec, tmp_path / "e.parquet")
    for part in parts:
        assert part in message


def test_values_of_another_type(tmp_path, embedding, spec):
    path = write(tmp_path / "e.csv", "v,a,b,c\n7,1,2,3\nseven,1,2,3\n")
    message = error_of(embedding, spec, path, "site")
    assert "row 2" in message
    assert "'seven'" in message


def test_rows_and_repeated_values_are_counted_over_batches(
    tmp_path, embedding, spec, monkeypatch
):
    monkeypatch.setattr("edcn_tf.logs.opening.BLOCK_BYTES", 64)
    lines = [f"other {i},1,2,3" for i in range(50)]
    text = "\n".join(["v,a,b,c", "anna,1,2,3", *lines, "anna,1,2,3"])
    path = write(tmp_path / "e.csv", text)
    assert "row 52, field 'name': keep one row of each value" in error_of(
        embedding, spec, path
    )


# The embedding's own part


def test_set_rows_and_width_of(embedding):
    before = embedding.table.numpy()
    embedding.set_rows("name", np.array([4, 1]), numbers_for([4, 1]))
    expected = before.copy()
    expected[[4, 1]] = numbers_for([4, 1])
    np.testing.assert_array_equal(embedding.table.numpy(), expected)
    assert embedding.width_of("tags") == D
    with pytest.raises(ValueError, match="no such field.*'tag'"):
        embedding.width_of("tag")
