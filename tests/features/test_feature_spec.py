import collections
import json

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from edcn_tf.errors import InputError
from edcn_tf.features import counting
from edcn_tf.features.counting import FieldCounter, NumberSample, ValueCounts
from edcn_tf.features.draws import row_keys
from edcn_tf.features.encoder import MISSING, Encoder
from edcn_tf.features.hashing import hash_bucket
from edcn_tf.features.spec import PADDING, FeatureSpec
from edcn_tf.features.writing import FeatureCounter
from edcn_tf.field import Field
from edcn_tf.schema import Schema

ARROW = {"string": pa.string(), "int64": pa.int64(), "float32": pa.float32()}


def batch_of(columns, fields):
    """A normalized batch of the fields' columns."""
    arrays = []
    for field in fields:
        kind = ARROW[field.dtype]
        kind = pa.list_(kind) if field.multiple else kind
        arrays.append(pa.array(columns[field.name], kind))
    return pa.RecordBatch.from_arrays(arrays, names=[field.name for field in fields])


def count(directory, columns, *fields, seed=0, batch_rows=None):
    """The FeatureSpec of hand-made columns."""
    counter = FeatureCounter(Schema(label="y", fields=fields), seed)
    batch = batch_of(columns, fields)
    for start in range(0, batch.num_rows, batch_rows or batch.num_rows):
        counter.add(batch.slice(start, batch_rows or batch.num_rows))
    return counter.write(directory / "features")


def lines(path):
    return path.read_bytes().decode().split("\n")[:-1]


def encoded_counts(spec, columns):
    """How often each row of the table occurs, by way of the encoder."""
    features = {}
    for field in spec.schema.fields:
        missing = MISSING[field.dtype]
        dtype = {"string": tf.string, "int64": tf.int64, "float32": tf.float32}
        dtype = dtype[field.dtype]
        values = columns[field.name]
        if field.multiple:
            values = [[v for v in row or [] if v is not None] for row in values]
            features[field.name] = tf.ragged.constant(
                values, dtype=dtype, ragged_rank=1
            )
        else:
            values = [missing if value is None else value for value in values]
            features[field.name] = tf.constant(values, dtype)
    ids = Encoder(spec)(features).numpy()
    counts = np.bincount(ids.ravel(), minlength=spec.num_rows)
    counts[PADDING] = 0
    return counts


# Categorical


def test_vocabulary_by_hand(tmp_path):
    values = ["b"] * 3 + ["a"] * 3 + ["c"] * 5 + ["d"] * 2 + ["e"] + [None] * 4
    spec = count(tmp_path, {"f": values}, Field(name="f", min_count=2))
    [field] = spec.fields
    # Most frequent first, equal ones in the order of their bytes.
    assert field.vocabulary.read_bytes() == b"c\na\nb\nd\n"
    assert lines(field.counts) == ["4", "1", "5", "3", "3", "2"]
    assert (field.offset, field.first_unseen, field.first_value) == (1, 2, 3)
    assert (field.rows, spec.num_rows, spec.num_slots) == (6, 7, 1)
    assert field.row_names() == ["<missing>", "<unseen>", "c", "a", "b", "d"]
    np.testing.assert_array_equal(spec.row_counts(), [0, 4, 1, 5, 3, 3, 2])


def test_max_size_and_unseen_rows_by_hand(tmp_path):
    values = ["b"] * 3 + ["a"] * 3 + ["c"] * 5 + ["d"] * 2
    field = Field(name="f", min_count=1, max_size=2, unseen_rows=3)
    spec = count(tmp_path, {"f": values}, field)
    [found] = spec.fields
    assert lines(found.vocabulary) == ["c", "a"]
    unseen = np.zeros(3, int)
    for value, number in (("b", 3), ("d", 2)):
        unseen[hash_bucket(tf.constant(value), 3).numpy()] += number
    assert lines(found.counts) == ["0", *map(str, unseen), "5", "3"]
    assert found.row_names()[1:4] == [f"<unseen {i}>" for i in range(3)]
    assert (found.first_unseen, found.first_value) == (2, 5)


def test_bytes_decide_the_order_of_equal_counts(tmp_path):
    values = ["é", "z", "Z", "10", "9", "東"]
    spec = count(tmp_path, {"f": values}, Field(name="f", min_count=1))
    assert lines(spec.fields[0].vocabulary) == sorted(values, key=str.encode)


def test_whole_numbers_as_values(tmp_path):
    values = [5, 5, -7, -7, -7, 2**63 - 1, None]
    spec = count(tmp_path, {"f": values}, Field(name="f", dtype="int64", min_count=1))
    assert lines(spec.fields[0].vocabulary) == ["-7", "5", "9223372036854775807"]
    assert lines(spec.fields[0].counts) == ["1", "0", "3", "2", "1"]


def test_hash_buckets(tmp_path):
    values = ["a", "b", "a", None, "c"]
    spec = count(tmp_path, {"f": values}, Field(name="f", hash_buckets=4))
    buckets = hash_bucket(tf.constant(["a", "b", "a", "c"]), 4).numpy()
    [field] = spec.fields
    assert field.vocabulary is None
    assert lines(field.counts) == ["1", *map(str, np.bincount(buckets, minlength=4))]
    assert field.row_names() == ["<missing>", *(f"<hash {i}>" for i in range(4))]


def test_the_hash_is_farmhash64():
    # Anything else would send the values of a model in use to other rows.
    found = hash_bucket(tf.constant(["Hello", "TensorFlow", "2.x"]), 3)
    np.testing.assert_array_equal(found, [0, 2, 2])
    numbers = tf.constant([12, -1, -(2**63)], tf.int64)
    texts = tf.constant(["12", "-1", "-9223372036854775808"])
    np.testing.assert_array_equal(
        hash_bucket(numbers, 10**6), hash_bucket(texts, 10**6)
    )


def test_lists(tmp_path):
    values = [["a", "b"], [], ["a", None], [None, None], None, ["c", "a"]]
    spec = count(tmp_path, {"f": values}, Field(name="f", multiple=True, min_count=2))
    assert lines(spec.fields[0].vocabulary) == ["a"]
    # Missing: the empty list, the one of nulls, and the one that is null.
    assert lines(spec.fields[0].counts) == ["3", "2", "3"]
    assert spec.num_slots == 8


def test_fields_follow_each_other_in_the_table(tmp_path):
    columns = {"a": ["x", "y"], "b": [1.0, 2.0], "c": ["u", "v"], "d": [["x"], ["y"]]}
    spec = count(
        tmp_path,
        columns,
        Field(name="a", min_count=1),
        Field(name="b", kind="numeric"),
        Field(name="c", hash_buckets=7),
        Field(name="d", min_count=1, unseen_rows=2, multiple=True, max_length=3),
    )
    rows = [field.rows for field in spec.fields]
    assert rows == [4, 3, 8, 5]
    assert [field.offset for field in spec.fields] == [1, 5, 8, 16]
    assert spec.num_rows == 21
    assert spec.num_slots == 6
    assert spec.layout() == [
        {"name": "a", "slots": 1, "rows": 4, "pooling": "mean", "unseen": 2},
        {"name": "b", "slots": 1, "rows": 3, "pooling": "mean", "unseen": None},
        {"name": "c", "slots": 1, "rows": 8, "pooling": "mean", "unseen": None},
        {"name": "d", "slots": 3, "rows": 5, "pooling": "mean", "unseen": 17},
    ]
    assert [len(field.row_names()) for field in spec.fields] == rows


def test_nothing_kept_and_nothing_there(tmp_path):
    columns = {"once": ["a", "b"], "never": [None, None], "none": [None, None]}
    spec = count(
        tmp_path,
        columns,
        Field(name="once"),
        Field(name="never", hash_buckets=2),
        Field(name="none", kind="numeric"),
    )
    assert spec.fields[0].vocabulary.read_bytes() == b""
    np.testing.assert_array_equal(spec.row_counts(), [0, 0, 2, 2, 0, 0, 2, 0])
    np.testing.assert_array_equal(encoded_counts(spec, columns), spec.row_counts())


ODD = [
    *("tab\there", 'quo"te', "'", " in front", "behind ", "  ", "\t", "a\u2028b"),
    *("a\u0085b", "a\x0bb", "a\x0cb", "\ufeff", "\x1c", "a\0b", "#", "-1", "<missing>"),
    *("é", "e\u0301", "🦊", "x" * 5000),
]


def test_odd_values_are_found_again(tmp_path):
    values = [value for i, value in enumerate(ODD) for _ in range(i + 1)]
    spec = count(tmp_path, {"f": values}, Field(name="f", min_count=1))
    assert spec.fields[0].row_names()[2:] == ODD[::-1]
    ids = Encoder(spec)({"f": tf.constant(ODD[::-1])}).numpy()[:, 0]
    np.testing.assert_array_equal(ids, 3 + np.arange(len(ODD)))
    np.testing.assert_array_equal(
        encoded_counts(spec, {"f": values}), spec.row_counts()
    )


@pytest.mark.parametrize("unseen_rows", [1, 3])
def test_values_with_line_ends_are_unseen(tmp_path, unseen_rows):
    columns = {"f": ["a\nb", "a\nb", "a\r", "a\r", "\r\n", "a", "a"]}
    field = Field(name="f", min_count=1, unseen_rows=unseen_rows)
    spec = count(tmp_path, columns, field)
    assert lines(spec.fields[0].vocabulary) == ["a"]
    assert spec.row_counts()[2 : 2 + unseen_rows].sum() == 5
    np.testing.assert_array_equal(encoded_counts(spec, columns), spec.row_counts())


# Counts are those of the encoder


def random_columns(random, rows=700):
    def some(values, share=0.1):
        gone = random.random(len(values)) < share
        return [None if none else value for value, none in zip(values, gone)]

    words = [f"w{i}" for i in random.zipf(1.6, rows) % 90]
    return {
        "word": some(words),
        "hashed": some([f"ü{i}" for i in random.integers(0, 300, rows)]),
        "number": some([int(i) for i in random.integers(-60, 60, rows)]),
        "hashed_number": some([int(i) for i in random.integers(-60, 60, rows)]),
        "list": some(
            [
                some([f"t{i}" for i in random.zipf(1.6, random.integers(0, 6)) % 50])
                for _ in range(rows)
            ]
        ),
        "hashed_list": [
            [int(i) for i in random.integers(0, 99, random.integers(0, 6))]
            for _ in range(rows)
        ],
        "price": some([float(np.float32(x)) for x in random.lognormal(3, 2, rows)]),
        "heavy": some([float(np.float32(x)) for x in random.standard_cauchy(rows)]),
        "few": some([float(x) for x in random.integers(0, 4, rows)]),
        "age": some([int(x) for x in random.integers(-5, 2**40, rows)]),
    }


@pytest.mark.parametrize("unseen_rows", [1, 5])
@pytest.mark.parametrize("max_size", [None, 7])
def test_counts_are_those_of_the_encoder(tmp_path, random, unseen_rows, max_size):
    columns = random_columns(random)
    options = {"unseen_rows": unseen_rows, "max_size": max_size, "min_count": 3}
    spec = count(
        tmp_path,
        columns,
        Field(name="word", **options),
        Field(name="hashed", hash_buckets=17),
        Field(name="number", dtype="int64", **options),
        Field(name="hashed_number", dtype="int64", hash_buckets=17),
        Field(name="list", multiple=True, **options),
        Field(name="hashed_list", multiple=True, dtype="int64", hash_buckets=9),
        Field(name="price", kind="numeric", buckets=20),
        Field(name="heavy", kind="numeric", buckets=20, scale="log"),
        Field(name="few", kind="numeric", buckets=20),
        Field(name="age", kind="numeric", dtype="int64", buckets=20, scale="log"),
        batch_rows=97,
    )
    np.testing.assert_array_equal(encoded_counts(spec, columns), spec.row_counts())
    for field in spec.fields:
        if field.boundaries is not None:
            counts = np.loadtxt(field.counts)
            assert np.all(counts[1:] > 0), field.field.name
            assert field.rows <= 21


def test_the_size_of_batches_does_not_matter(tmp_path, random):
    columns = random_columns(random, 300)
    fields = (
        Field(name="word"),
        Field(name="list", multiple=True),
        Field(name="hashed", hash_buckets=5),
        Field(name="price", kind="numeric"),
    )
    one = count(tmp_path / "one", columns, *fields).directory
    many = count(tmp_path / "many", columns, *fields, batch_rows=7).directory
    names = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert names == sorted(p.relative_to(many) for p in many.rglob("*") if p.is_file())
    for name in names:
        assert (one / name).read_bytes() == (many / name).read_bytes(), name


# Numeric


def boundaries_of(directory, values, **options):
    spec = count(directory, {"f": values}, Field(name="f", kind="numeric", **options))
    return spec.fields[0]


def test_quantiles_by_hand(tmp_path):
    field = boundaries_of(tmp_path, [float(i) for i in range(1, 13)], buckets=4)
    # Ranges of three: 1 2 3 | 4 5 6 | 7 8 9 | 10 11 12.
    assert field.boundaries == (4.0, 7.0, 10.0)
    assert lines(field.counts) == ["0", "3", "3", "3", "3"]
    ranges = ["[-inf, 4)", "[4, 7)", "[7, 10)", "[10, inf)"]
    assert field.row_names() == ["<missing>", *ranges]


def test_log_ranges_by_hand(tmp_path):
    # asinh goes from 0 to 6 in steps of 2, and each boundary moves up to a value.
    values = [float(np.float32(np.sinh(x))) for x in (0, 1, 1.9, 2.1, 4.5, 5, 6)]
    field = boundaries_of(tmp_path, values, buckets=3, scale="log")
    assert field.boundaries == (values[3], values[4])
    assert lines(field.counts) == ["0", "3", "1", "3"]


def test_log_ranges_of_both_signs(tmp_path):
    values = [-1e6, -1e3, -1.0, -0.5, 0.0, 0.5, 1.0, 1e3, 1e6]
    field = boundaries_of(tmp_path, values, buckets=2, scale="log")
    assert field.boundaries == (0.0,)


@pytest.mark.parametrize("scale", ["quantile", "log"])
def test_few_distinct_numbers_have_a_range_each(tmp_path, scale):
    values = [3.0] * 1000 + [1.0, 2.0, 2.0, None, -4.5]
    field = boundaries_of(tmp_path, values, buckets=4, scale=scale)
    assert field.boundaries == (1.0, 2.0, 3.0)
    assert lines(field.counts) == ["1", "1", "1", "2", "1000"]


@pytest.mark.parametrize("scale", ["quantile", "log"])
@pytest.mark.parametrize(
    "values",
    [
        [0.0] * 900 + [float(i) for i in range(100)],
        [float(i) for i in range(100)] + [1e30],
        [-1e30] + [float(i) for i in range(100)],
        [5.0] * 990 + [float(i) for i in range(10)],
        [float(2.0**i) for i in range(-100, 100)],
    ],
    ids=["many zeros", "a large one", "a small one", "one value", "powers"],
)
def test_no_range_is_empty(tmp_path, scale, values):
    field = boundaries_of(tmp_path, values, buckets=8, scale=scale)
    counts = np.loadtxt(field.counts)[1:]
    assert np.all(counts > 0)
    assert counts.sum() == len(values)
    assert len(counts) <= 8
    assert list(field.boundaries) == sorted(set(field.boundaries))


@pytest.mark.parametrize("value", [0.0, -3.0])
def test_one_number_has_one_range(tmp_path, value):
    field = boundaries_of(tmp_path, [value] * 5 + [None])
    assert field.boundaries == ()
    assert lines(field.counts) == ["1", "5"]
    assert field.row_names() == ["<missing>", "[-inf, inf)"]


def test_infinite_numbers_do_not_bend_the_ranges(tmp_path):
    plain = [float(i) for i in range(1, 13)]
    for scale in ("quantile", "log"):
        spec = boundaries_of(tmp_path / scale, plain, buckets=4, scale=scale)
        values = [*plain, np.inf, -np.inf, np.inf]
        more = boundaries_of(tmp_path / f"{scale}-more", values, buckets=4, scale=scale)
        assert more.boundaries == spec.boundaries
        assert np.isfinite(more.boundaries).all()
        assert np.loadtxt(more.counts).sum() == pytest.approx(15, abs=2)


def test_only_infinite_numbers(tmp_path):
    columns = {"f": [np.inf, -np.inf, np.inf]}
    spec = count(tmp_path, columns, Field(name="f", kind="numeric"))
    assert spec.fields[0].boundaries == ()
    np.testing.assert_array_equal(encoded_counts(spec, columns), spec.row_counts())


# Counting


def test_value_counts_equal_counter(monkeypatch, random):
    monkeypatch.setattr(counting, "PENDING_VALUES", 5)
    counts, expected, merges = ValueCounts(), collections.Counter(), 0
    for _ in range(60):
        values = [f"v{i}" for i in random.zipf(1.3, random.integers(0, 40)) % 500]
        counts.add(pa.array([*values, None], pa.string()))
        expected.update(values)
        merges += not counts.waiting
    table = counts.table().to_pydict()
    assert merges > 3
    assert dict(zip(table["value"], table["count"])) == expected
    assert len(table["value"]) == len(expected)


def test_value_counts_are_merged_rarely(monkeypatch):
    # As often as the known values double, not with each batch.
    monkeypatch.setattr(counting, "PENDING_VALUES", 10)
    counts, merges = ValueCounts(), 0
    for i in range(512):
        counts.add(pa.array(range(10 * i, 10 * i + 10)))
        merges += not counts.waiting
    assert 1 < merges < 20


def test_number_sample_of_a_short_column_is_all_of_it():
    sample = NumberSample()
    sample.add(pa.array([3.0, None, np.inf, 1.0], pa.float32()), np.arange(4) / 4)
    sample.add(pa.array([2.0, -np.inf], pa.float32()), np.arange(2) / 2)
    np.testing.assert_array_equal(sample.sample(), [1, 2, 3])
    assert (sample.low, sample.high, sample.total) == (1, 3, 5)


def test_number_sample_keeps_the_lowest_priorities(monkeypatch):
    monkeypatch.setattr(counting, "SAMPLE_SIZE", 2)
    priorities = np.array([0.1, 0.05, 0.9, 0.0, 0.4, 0.3])
    numbers = pa.array([1.0, None, 2.0, np.nan, 3.0, 4.0], pa.float32())
    sample = NumberSample()
    sample.add(numbers, priorities)
    np.testing.assert_array_equal(sample.sample(), [1, 4])


def sample_of(seed, rows=6000):
    counter = FieldCounter(Field(name="f", kind="numeric"), 0)
    for start in range(0, rows, 100):
        numbers = pa.array(np.arange(start, start + 100, dtype=np.float32))
        counter.add(numbers, row_keys(seed, 0, start, 100))
    return counter.numbers.sample()


def test_number_sample_is_uniform_and_repeatable(monkeypatch):
    monkeypatch.setattr(counting, "SAMPLE_SIZE", 1000)
    first = sample_of(1)
    assert len(first) == 1000 == len(set(first))
    np.testing.assert_array_equal(first, sample_of(1))
    assert not np.array_equal(first, sample_of(2))
    # Each sixth of the rows, early or late, has a sixth of the sample: 167 +- 12.
    sixths = sum(np.histogram(sample_of(seed), 6, (0, 6000))[0] for seed in range(10))
    assert sixths.sum() == 10_000
    assert np.all(np.abs(sixths - 1667) < 5 * 37)


# Counts of parts, merged


MERGED = (
    Field(name="word", min_count=3, max_size=20, unseen_rows=5),
    Field(name="number", dtype="int64", min_count=2),
    Field(name="list", multiple=True, min_count=2),
    Field(name="hashed", hash_buckets=17),
    Field(name="price", kind="numeric", buckets=20),
)


@pytest.mark.parametrize("ranges", [1, 4])
def test_merged_parts_are_the_whole(tmp_path, random, monkeypatch, ranges):
    """Whatever the parts, their order, and the hash ranges that are merged apart."""
    monkeypatch.setattr(counting, "SAMPLE_SIZE", 50)
    monkeypatch.setattr(counting, "PENDING_VALUES", 20)
    batch = batch_of(random_columns(random), MERGED)
    keys = row_keys(3, 1, 0, batch.num_rows)
    schema = Schema(label="y", fields=MERGED)
    whole = FeatureCounter(schema)
    whole.add(batch, keys)
    pieces = collections.defaultdict(list)
    for rows in np.split(np.arange(batch.num_rows), [100, 101, 350, 350]):
        part = FeatureCounter(schema)
        part.add(batch.slice(rows[0] if len(rows) else 0, len(rows)), keys[rows])
        for counter in part.counters:
            for i, piece in enumerate(counter.divided(ranges)):
                pieces[counter.number, i].insert(0, piece)
    merged = FeatureCounter(schema)
    merged.rows = batch.num_rows
    for (number, _), counters in pieces.items():
        first, *others = counters
        for other in others:
            assert first.merge(other) is first
        if first.field.has_vocabulary:
            first.keep()
        merged.counters[number].merge(first)
    found, expected = merged.write(tmp_path / "b"), whole.write(tmp_path / "a")
    assert found.num_rows == expected.num_rows
    for path in (tmp_path / "a").rglob("*.*"):
        other = tmp_path / "b" / path.relative_to(tmp_path / "a")
        assert path.read_bytes() == other.read_bytes(), path.name
    assert len(pieces) == (3 * ranges + 2)


def test_a_value_is_in_the_same_range_of_every_counter():
    def divided(values):
        counter = FieldCounter(Field(name="f"), 0)
        counter.add(pa.array(values), None)
        tables = [part.values.table().to_pydict() for part in counter.divided(3)]
        return [dict(zip(table["value"], table["count"])) for table in tables]

    first = divided([f"v{i}" for i in range(100)])
    second = divided([f"v{i}" for i in range(50, 150)] + ["v70"])
    assert sum(map(len, first)) == 100 and min(map(len, first)) > 20
    for a, b in zip(first, second):
        assert {f"v{i}" for i in range(50, 100)} & set(a) == set(a) & set(b)
    assert [part.get("v70") for part in second].count(2) == 1


# Storing and loading


def test_loaded_is_what_was_written(tmp_path, random):
    columns = random_columns(random, 200)
    written = count(
        tmp_path,
        columns,
        Field(name="word", min_count=1, unseen_rows=3),
        Field(name="price", kind="numeric", buckets=7, scale="log"),
        Field(name="hashed", hash_buckets=6),
        Field(name="list", multiple=True, max_length=3, pooling="sum"),
    )
    loaded = FeatureSpec.load(str(written.directory))
    assert loaded.schema == written.schema
    assert loaded.fields == written.fields
    assert (loaded.num_rows, loaded.num_slots) == (written.num_rows, written.num_slots)


def test_a_moved_directory_is_whole(tmp_path):
    spec = count(tmp_path, {"f": ["v", "v"]}, Field(name="f"))
    moved = spec.directory.rename(tmp_path / "elsewhere")
    assert FeatureSpec.load(moved).fields[0].row_names()[2:] == ["v"]


@pytest.fixture
def stored(tmp_path):
    spec = count(
        tmp_path,
        {"f": ["v", "v", "w"], "n": [1.0, 2.0, 3.0]},
        Field(name="f", min_count=1),
        Field(name="n", kind="numeric"),
    )
    return spec.directory


def change(directory, edit):
    path = directory / "features.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    edit(config)
    path.write_text(json.dumps(config), encoding="utf-8")


def load_error(directory):
    with pytest.raises(InputError) as caught:
        FeatureSpec.load(directory)
    message = str(caught.value)
    assert "\n" not in message
    assert str(directory) in message
    return message


@pytest.mark.parametrize(
    "edit, part",
    [
        (lambda c: c.update(format=2), "format must be 1. Received: 2"),
        (lambda c: c.pop("format"), "damaged"),
        (lambda c: c.pop("schema"), "damaged"),
        (lambda c: c["fields"].pop(), "damaged"),
        (lambda c: c["fields"].reverse(), "order"),
        (lambda c: c["fields"][0].pop("counts"), "damaged"),
        (lambda c: c["fields"][0].update(rows=5), "expected"),
        (lambda c: c["fields"][1]["boundaries"].pop(), "expected"),
        (lambda c: c["fields"][1].update(boundaries=["x", "y"]), "damaged"),
        (lambda c: c["fields"][1].update(boundaries=None), "damaged"),
        (lambda c: c["fields"][0].update(vocabulary="../../secret"), "leads out"),
        (lambda c: c["fields"][0].update(counts="/etc/passwd"), "leads out"),
        (lambda c: c["fields"][0].update(counts="counts/absent.txt"), "No such file"),
        (lambda c: c["schema"].update(label="f"), "label"),
        (lambda c: c["schema"]["fields"][0].update(kind="other"), "kind"),
    ],
)
def test_a_changed_description_is_refused(stored, edit, part):
    change(stored, edit)
    assert part in load_error(stored)


@pytest.mark.parametrize("content", ["", "{", "[]", "3", '"x"', "null"])
def test_a_damaged_description(stored, content):
    (stored / "features.json").write_text(content)
    load_error(stored)


@pytest.mark.parametrize("part", ["vocabulary", "counts"])
@pytest.mark.parametrize("damage", ["cut", "longer", "gone"])
def test_a_damaged_file(stored, part, damage):
    [path, *_] = sorted((stored / part).iterdir())
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(data[:-1] if damage == "cut" else data + b"x\n")
    assert "000-f.txt" in load_error(stored)


def test_a_link_that_leads_out_is_refused(stored, tmp_path):
    (tmp_path / "outside.txt").write_text("v\nw\n")
    [path] = (stored / "vocabulary").iterdir()
    path.unlink()
    path.symlink_to(tmp_path / "outside.txt")
    assert "leads out" in load_error(stored)


def test_a_missing_directory(tmp_path):
    assert "No such file" in load_error(tmp_path / "absent")


def test_no_rows_no_spec(tmp_path):
    counter = FeatureCounter(Schema(label="y", fields=(Field(name="f"),)))
    counter.add(batch_of({"f": []}, [Field(name="f")]))
    with pytest.raises(InputError, match="no rows"):
        counter.write(tmp_path / "features")
    assert not (tmp_path / "features").exists()


def test_a_frequent_number_has_a_range_of_its_own(tmp_path):
    """Nine of ten are 0: without a boundary after it, all would be one range."""
    values = [0.0] * 900 + [float(i) for i in range(1, 101)]
    field = boundaries_of(tmp_path, values, buckets=8)
    assert field.boundaries == (1.0,)
    assert lines(field.counts) == ["0", "900", "100"]
