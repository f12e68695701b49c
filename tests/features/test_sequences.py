"""Fields of kind `sequence`: in the schema, in logs, in records and as ids."""

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

import edcn_tf
from edcn_tf.errors import InputError
from edcn_tf.features.encoder import Encoder
from edcn_tf.features.spec import FeatureSpec
from edcn_tf.features.writing import FeatureCounter
from edcn_tf.field import Field
from edcn_tf.logs.reading import read_log
from edcn_tf.records.reading import read_records
from edcn_tf.records.writing import serialize_examples
from edcn_tf.schema import Schema

ITEM = {"name": "item", "min_count": 1}
PAST = {"name": "past", "kind": "sequence", "of": "item", "max_length": 3}
KIND = {"name": "kind", "dtype": "int64", "min_count": 1}
PAST_KIND = {"name": "past_kind", "kind": "sequence", "of": "kind", "along": "past"}
SINCE = {"name": "since", "kind": "sequence", "buckets": 3, "along": "past"}
WORDS = {"name": "words", "kind": "sequence", "min_count": 1, "max_length": 2}
FIELDS = [ITEM, PAST, KIND, PAST_KIND, SINCE, WORDS]
LOG = """click,item,past,kind,past_kind,since,words
1,a,,1,,,
0,b,a|b|a,2,1|2|,3|NA|1,x|y|x
1,c,b||c|a|a,1,2|9|1|1|1,5|9|3|2|1,z
0,a,new,,3,7,|y|
"""


def schema_of(*fields, **kwargs):
    return Schema.from_dict({"label": "click", "fields": list(fields), **kwargs})


@pytest.fixture
def log(tmp_path):
    def write(text=LOG, name="log.csv"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def counted(folder, batch, schema):
    counter = FeatureCounter(schema)
    counter.add(batch)
    return counter.write(folder)


def test_schema_and_back():
    schema = schema_of(*FIELDS)
    _, past, _, kinds, since, words = schema.fields
    assert (past.dtype, past.slots, past.has_vocabulary) == ("string", 3, False)
    assert (kinds.dtype, kinds.slots) == ("int64", 3)
    assert (since.dtype, since.slots, since.has_ranges) == ("float32", 3, True)
    assert words.has_vocabulary
    assert Field(name="x", kind="sequence", of="y").max_length == 50
    assert [[f.name for f in group] for group in schema.sequences] == [
        ["past", "past_kind", "since"],
        ["words"],
    ]
    assert Schema.from_dict(schema.to_dict()) == schema


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"of": "nothing"}, "`of` must name a categorical field with one value"),
        ({"of": "many"}, "`of` must name a categorical field with one value"),
        ({"of": ["item"]}, "`of` must name a categorical field with one value"),
        ({"of": "item", "buckets": 3}, "`buckets` has no meaning for a sequence that"),
        ({"of": "item", "min_count": 3}, "`min_count` has no meaning for a sequence"),
        ({"of": "item", "unseen_rows": 3}, "`unseen_rows` are those of the field"),
        ({"of": "item", "dtype": "int64"}, "`dtype` is that of 'item', 'string'"),
        ({"along": "item"}, "`along` must name a sequence that is along no other"),
        ({"along": "since"}, "`along` must name a sequence that is along no other"),
        ({"along": "past", "max_length": 4}, "`max_length` is that of 'past', 3"),
        ({"candidate": True}, "so it cannot be `candidate`"),
        ({"multiple": True}, "a sequence is a list without `multiple`"),
        ({"max_length": 0}, "`max_length` must be a whole number of at least 1"),
        ({"pooling": "max"}, "`pooling` must be one of"),
        ({"dtype": "float32"}, "`dtype` must be one of"),
        ({"kind": "categorical", "of": "item"}, "`of` has no meaning for a field that"),
        ({"kind": "numeric", "along": "past"}, "`along` has no meaning for a field"),
    ],
)
def test_what_a_sequence_cannot_be(change, message):
    odd = {"name": "odd", "kind": "sequence", **change}
    many = {"name": "many", "multiple": True}
    with pytest.raises(InputError, match=message):
        schema_of(ITEM, PAST, SINCE, many, odd)


def test_a_log_keeps_the_newest_positions_that_have_a_value(log):
    [batch] = read_log([log()], schema_of(*FIELDS))
    assert batch.column("past").to_pylist() == [
        [], ["a", "b", "a"], ["c", "a", "a"], ["new"],
    ]  # fmt: skip
    lowest = -(2**63)
    assert batch.column("past_kind").to_pylist() == [
        [], [1, 2, lowest], [1, 1, 1], [3],
    ]  # fmt: skip
    since = batch.column("since").to_pylist()
    np.testing.assert_array_equal(since[1], np.float32([3, np.nan, 1]))
    assert since[2:] == [[3.0, 2.0, 1.0], [7.0]]
    assert batch.column("words").to_pylist() == [[], ["y", "x"], ["z"], ["y"]]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1,a,b|c,1,1,2|3,", "row 1, column 'past_kind': must have as many values as"),
        ("1,a,b|c,1,1|2,2|3|4,", "row 1, column 'since': must have as many values as"),
        ("1,a,b,1,one,2,", "row 1, column 'past_kind': expected a whole number"),
    ],
)
def test_a_history_that_does_not_fit(log, row, message):
    head = LOG.splitlines()[0]
    with pytest.raises(InputError, match=message):
        list(read_log([log(f"{head}\n{row}\n")], schema_of(*FIELDS)))


def test_a_history_column_of_another_type(tmp_path):
    import pyarrow.parquet as pq

    for past, message in [
        ([{"a": 1}], "expected a list"),
        ([[[1]]], "column 'past' cannot be used|holds lists"),
    ]:
        path = tmp_path / "log.parquet"
        pq.write_table(pa.table({"click": [1], "item": ["a"], "past": past}), path)
        with pytest.raises(InputError, match=message):
            list(read_log([path], schema_of(ITEM, PAST)))


def test_rows_are_shared_and_counted(log, tmp_path):
    schema = schema_of(*FIELDS)
    [batch] = read_log([log()], schema)
    spec = counted(tmp_path / "features", batch, schema)
    item, past, kind, past_kind, since, words = spec.fields
    assert (past.offset, past.rows, past.of) == (item.offset, item.rows, item)
    assert past_kind.offset == kind.offset
    # Missing, unseen, a, b, c: of items a twice; of histories a four times.
    assert item.row_counts().tolist() == [0, 0, 2, 1, 1]
    assert past.row_counts().tolist() == [1, 1, 4, 1, 1]
    counts = spec.row_counts()
    assert counts[item.offset :][:5].tolist() == [1, 1, 6, 2, 2]
    # Missing: the empty one, and the place without a value; 3 is unseen.
    assert past_kind.row_counts().tolist() == [2, 1, 4, 1]
    assert since.row_counts()[0] == 2
    assert words.row_counts().tolist() == [1, 0, 2, 1, 1]
    sizes = [item.rows, kind.rows, since.rows, words.rows]
    assert spec.num_rows == 1 + sum(sizes)
    again = FeatureSpec.load(tmp_path / "features")
    np.testing.assert_array_equal(again.row_counts(), counts)
    assert again.layout() == spec.layout()


def test_of_a_hashed_field_and_several_unseen_rows(log, tmp_path):
    for number, change in enumerate([{"hash_buckets": 7}, {"unseen_rows": 3}]):
        owner = {"name": "item", **change}
        schema = schema_of(owner, PAST)
        [batch] = read_log([log()], schema)
        spec = counted(tmp_path / str(number), batch, schema)
        encoder = Encoder(spec)
        values = ["a", "b", "c", "new"]
        ids = encoder({"item": tf.constant(values), "past": tf.constant([values] * 4)})
        # In the history of 3 places the last three values, as the field has them.
        assert ids[0, 1:].numpy().tolist() == ids[1:, 0].numpy().tolist()
        assert spec.fields[1].row_counts().sum() == 8


@pytest.fixture
def spec(log, tmp_path):
    schema = schema_of(*FIELDS)
    [batch] = read_log([log()], schema)
    return counted(tmp_path / "features", batch, schema)


def test_the_same_ids_from_records_and_requests(spec, log, tmp_path):
    [batch] = read_log([log()], spec.schema)
    with tf.io.TFRecordWriter(str(tmp_path / "rows.tfrecord")) as writer:
        for record in serialize_examples(batch):
            writer.write(record)
    [(ids, _)] = read_records(str(tmp_path / "rows.tfrecord"), spec, 4)
    item, _, kind, _, since, words = spec.fields
    a, b, c = range(item.first_value, item.first_value + 3)
    ids = ids.numpy()
    assert ids[:, 1:4].tolist() == [
        [item.offset, 0, 0],  # an empty history is the row of a missing item
        [a, b, a],
        [c, a, a],
        [item.first_unseen, 0, 0],
    ]
    one = kind.first_value
    assert ids[:, 5:8].tolist() == [
        [kind.offset, 0, 0],
        [one, one + 1, kind.offset],
        [one, one, one],
        [kind.first_unseen, 0, 0],
    ]
    assert ids[0, 8:11].tolist() == [since.offset, 0, 0]
    assert ids[1, 9] == since.offset
    # As a request has it: longer than the field, filled up, with values missing.
    request = {
        "item": tf.constant(["b"]),
        "past": tf.constant([["c", "a", "", "b", "a", ""]]),
        "kind": tf.constant([2], tf.int64),
        "past_kind": tf.constant([[1, 1, 2, 2, -(2**63), 1]], tf.int64),
        "since": tf.constant([[9.0, 5, 4, 3, 2, 1]]),
        "words": tf.constant([[""]]),
    }
    ids = Encoder(spec)(request).numpy()[0]
    assert ids[1:4].tolist() == [a, b, a]
    assert ids[5:8].tolist() == [one, one + 1, kind.offset]
    assert ids[11:].tolist() == [words.offset, 0]


def test_lengths_that_differ_are_told(spec, tmp_path):
    features = {
        "item": tf.constant(["b"]),
        "past": tf.constant([["c", "a"]]),
        "kind": tf.constant([2], tf.int64),
        "past_kind": tf.constant([[1]], tf.int64),
        "since": tf.constant([[9.0, 5]]),
        "words": tf.constant([[""]]),
    }
    told = "past_kind must have as many values in each row as past"
    with pytest.raises(tf.errors.InvalidArgumentError, match=told):
        Encoder(spec)(features)
    example = tf.train.Example()
    for name, values in [("past", [b"a", b"b"]), ("item", [b"a"])]:
        example.features.feature[name].bytes_list.value.extend(values)
    for name, values in [("past_kind", [1]), ("click", [1])]:
        example.features.feature[name].int64_list.value.extend(values)
    example.features.feature["since"].float_list.value.extend([1.0, 2.0])
    path = tmp_path / "bad.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(example.SerializeToString())
    from edcn_tf.records.reading import reading

    with pytest.raises(InputError, match=f"bad.tfrecord: record 1 .*{told}"):
        with reading(str(path), spec):
            list(read_records(str(path), spec, 4))


def test_a_vocabulary_that_goes_on(log, tmp_path):
    """Counts of histories follow the values to their new rows."""
    fields = [{"name": "item", "min_count": 1}, PAST]
    first = log("click,item,past\n1,a,b\n0,b,a|b\n1,b,\n")
    second = log("click,item,past\n1,c,b|c\n1,c,b\n0,c,d\n", "second.csv")
    schema = schema_of(*fields)
    split = {"split": (1, 0, 0)}
    edcn_tf.prepare(first, schema, tmp_path / "one", **split)
    edcn_tf.prepare(
        second, schema, tmp_path / "two", vocabulary_of=tmp_path / "one", **split
    )
    before, after = (
        dict(zip(spec.fields[0].row_names(), spec.fields[1].row_counts()))
        for spec in (
            FeatureSpec.load(tmp_path / name / "features") for name in ("one", "two")
        )
    )
    assert before == {"<missing>": 1, "<unseen>": 0, "b": 2, "a": 1}
    assert after == {"<missing>": 1, "<unseen>": 1, "c": 1, "b": 4, "a": 1}
    other = schema_of(fields[0], {"name": "kind"}, {**PAST, "of": "kind"})
    log_of_three = log("click,item,kind,past\n1,c,k,b\n", "third.csv")
    with pytest.raises(InputError, match="`of` was 'item'"):
        edcn_tf.prepare(
            log_of_three, other, tmp_path / "3", vocabulary_of=tmp_path / "one", **split
        )
