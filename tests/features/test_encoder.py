import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from edcn_tf.features.encoder import MISSING, Encoder
from edcn_tf.features.writing import FeatureCounter
from edcn_tf.field import Field
from edcn_tf.schema import Schema

LOWEST = -(2**63)
FIELDS = (
    Field(name="word", min_count=1),
    Field(name="words", min_count=1, unseen_rows=4),
    Field(name="number", dtype="int64", min_count=1),
    Field(name="hashed", hash_buckets=13),
    Field(name="hashed_number", dtype="int64", hash_buckets=13),
    Field(name="list", multiple=True, min_count=1, max_length=3),
    Field(name="number_list", multiple=True, dtype="int64", min_count=1, max_length=2),
    Field(name="hashed_list", multiple=True, hash_buckets=5, max_length=4),
    Field(name="price", kind="numeric"),
    Field(name="age", kind="numeric", dtype="int64"),
)
TRAINING = {
    "word": pa.array(["a", "b", "a", "ü x"]),
    "words": pa.array(["a", "b", "a", "b"]),
    "number": pa.array([5, -6, 5, 2**63 - 1]),
    "hashed": pa.array(["a", "b", "c", "d"]),
    "hashed_number": pa.array([1, 2, 3, 4]),
    "list": pa.array([["x", "y"], ["x"], [], ["z"]]),
    "number_list": pa.array([[1, -2], [1], [], [3]]),
    "hashed_list": pa.array([["x", "y"], ["x"], [], ["z"]]),
    "price": pa.array([-1.5, 0.0, 2.0, 7.5], pa.float32()),
    "age": pa.array([10, 20, 30, 40]),
}


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    counter = FeatureCounter(Schema(label="y", fields=FIELDS))
    counter.add(pa.record_batch(TRAINING))
    return counter.write(tmp_path_factory.mktemp("encoder") / "features")


@pytest.fixture(scope="module")
def encoder(spec):
    return Encoder(spec)


def farmhash(value, num_buckets):
    return int(tf.strings.to_hash_bucket_fast([str(value)], num_buckets)[0])


def reference(spec, value):
    """The row of one value, in plain Python."""
    field = spec.field
    if value is None or value == MISSING[field.dtype] or value != value:
        return spec.offset
    if field.kind == "numeric":
        return spec.offset + 1 + sum(value >= bound for bound in spec.boundaries)
    if field.hash_buckets:
        return spec.offset + 1 + farmhash(value, field.hash_buckets)
    kept = spec.vocabulary.read_text(encoding="utf-8").split("\n")[:-1]
    if str(value) in kept:
        return spec.offset + 1 + field.unseen_rows + kept.index(str(value))
    if field.unseen_rows == 1:
        return spec.offset + 1
    return spec.offset + 1 + farmhash(value, field.unseen_rows)


def reference_row(spec, row):
    ids = []
    for one, value in zip(spec.fields, row):
        if one.field.multiple:
            present = [v for v in value if v not in (None, MISSING[one.field.dtype])]
            rows = [reference(one, v) for v in present] or [one.offset]
            rows = rows[: one.field.max_length]
            ids += rows + [0] * (one.field.max_length - len(rows))
        else:
            ids.append(reference(one, value))
    return ids


STRINGS = ["a", "b", "ü x", "A", " a", "never", "5", "", None]
NUMBERS = [5, -6, 2**63 - 1, LOWEST, LOWEST + 1, 0, -1, 123456789, None]
STRING_LISTS = [["x"], ["x", "y"], [], ["z", "never", "x", "y", "x"], ["", "x"], [""]]
NUMBER_LISTS = [[1], [-2, 1], [], [7, 3, 1, 1], [LOWEST, 3], [LOWEST]]
PRICES = [-1.5, -1.6, 0.0, -0.0, 2.0, 1.999, 7.5, 1e30, np.inf, -np.inf, np.nan, None]
AGES = [10, 9, 11, 20, 40, 41, -(2**62), 2**62, LOWEST, LOWEST + 1, None]


def some_rows(random, count):
    choices = [STRINGS, STRINGS, NUMBERS, STRINGS, NUMBERS]
    choices += [STRING_LISTS, NUMBER_LISTS, STRING_LISTS, PRICES, AGES]
    # Each value at least once, then at random.
    rows = [[values[i % len(values)] for values in choices] for i in range(12)]
    for _ in range(count):
        rows.append([values[random.integers(len(values))] for values in choices])
    return rows


def tensors(rows, ragged):
    features = {}
    for field, column in zip(FIELDS, zip(*rows)):
        missing = MISSING[field.dtype]
        dtype = {"string": tf.string, "int64": tf.int64, "float32": tf.float32}
        dtype = dtype[field.dtype]
        if not field.multiple:
            column = [missing if value is None else value for value in column]
            features[field.name] = tf.constant(column, dtype)
        elif ragged:
            features[field.name] = tf.ragged.constant(column, dtype, ragged_rank=1)
        else:
            width = max(map(len, column))
            column = [[*row, *[missing] * (width - len(row))] for row in column]
            features[field.name] = tf.constant(column, dtype)
    return features


@pytest.mark.parametrize("ragged", [False, True], ids=["dense", "ragged"])
def test_ids_are_those_of_the_reference(spec, encoder, random, ragged):
    rows = some_rows(random, 60)
    ids = encoder(tensors(rows, ragged))
    assert ids.dtype == tf.int32
    assert ids.shape == (len(rows), spec.num_slots) == (72, 16)
    expected = [reference_row(spec, row) for row in rows]
    for found, wanted, row in zip(ids.numpy().tolist(), expected, rows):
        assert found == wanted, row
    assert np.max(ids) < spec.num_rows


def test_the_reference_by_hand(spec):
    # The reference itself: unseen, missing and kept values of the first field.
    word = spec.fields[0]
    assert [reference(word, v) for v in ("a", "b", "ü x", "new", "", None)] == [
        *(3, 4, 5, 2),
        *(1, 1),
    ]
    price = spec.fields[8]
    assert price.boundaries == (0.0, 2.0, 7.5)
    found = [reference(price, v) - price.offset for v in (-9, 0, 1, 2, 8, np.nan)]
    assert found == [1, 2, 2, 3, 4, 0]


def test_missing_values_in_the_middle_of_a_dense_list(encoder):
    first = tensors(some_rows(np.random.default_rng(0), 0)[:1], ragged=False)
    gaps = {**first, "list": tf.constant([["", "x", "", "", "y", "z", "x"]])}
    filled = {**first, "list": tf.constant([["x", "y", "z"]])}
    np.testing.assert_array_equal(encoder(gaps), encoder(filled))


def test_lists_of_no_length_at_all(spec, encoder):
    features = tensors(some_rows(np.random.default_rng(0), 0)[:3], ragged=False)
    features["list"] = tf.zeros([3, 0], tf.string)
    features["number_list"] = tf.zeros([3, 0], tf.int64)
    ids = encoder(features).numpy()
    offset = spec.fields[5].offset
    np.testing.assert_array_equal(ids[:, 5:8], [[offset, 0, 0]] * 3)


@pytest.mark.parametrize("ragged", [False, True], ids=["dense", "ragged"])
def test_no_rows_at_all(spec, encoder, ragged):
    rows = some_rows(np.random.default_rng(0), 0)
    features = {name: t[:0] for name, t in tensors(rows, ragged).items()}
    assert encoder(features).shape == (0, spec.num_slots)


def test_inside_a_graph_for_any_number_of_rows(spec, encoder, random):
    rows = some_rows(random, 20)
    call = tf.function(encoder.__call__, input_signature=[encoder.signature()])
    for count in (1, 32):
        part = tensors(rows[:count], ragged=False)
        np.testing.assert_array_equal(call(part), encoder(part))


def test_the_signature(encoder):
    signature = encoder.signature()
    assert list(signature) == [field.name for field in FIELDS]
    assert signature["word"] == tf.TensorSpec([None], tf.string, "word")
    assert signature["number_list"].shape.as_list() == [None, None]
    assert signature["price"].dtype == tf.float32
    assert signature["age"].dtype == tf.int64


def test_features_absent_from_an_example_are_missing(spec, encoder):
    empty = tf.constant([b"", tf.train.Example().SerializeToString()])
    ids = encoder(tf.io.parse_example(empty, encoder.parsing())).numpy()
    expected = []
    for one in spec.fields:
        expected += [one.offset] + [0] * (one.field.slots - 1)
    np.testing.assert_array_equal(ids, [expected, expected])


def test_two_encoders_agree(spec, encoder, random):
    features = tensors(some_rows(random, 10), ragged=True)
    np.testing.assert_array_equal(Encoder(spec)(features), encoder(features))
