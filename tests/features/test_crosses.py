"""Crosses: the ids of combinations of values, against plain Python."""

import itertools

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from edcn_tf.features.counting import value_buckets
from edcn_tf.features.crossing import crossed_columns, crossed_tensors
from edcn_tf.features.encoder import MISSING, Encoder
from edcn_tf.features.spec import FeatureSpec
from edcn_tf.features.writing import FeatureCounter
from edcn_tf.field import Field
from edcn_tf.schema import Schema

BACK = "\\"
TEXTS = [
    *("a", "b", "&", BACK, "a&b", "b&a", f"a{BACK}", f"{BACK}&", f"&{BACK}{BACK}"),
    *(" ", "ü ☃", "x\0y", "5", "$1", f"{BACK}1", "a\nb", "a\rb", None),
]
NUMBERS = [5, -6, 0, 2**63 - 1, -(2**63) + 1, None]
FIELDS = (
    Field(name="pair", kind="cross", of=("one", "two"), min_count=1),
    Field(name="one"),
    Field(name="two", hash_buckets=3),
    Field(name="number", dtype="int64"),
    Field(name="rare", kind="cross", of=("two", "number"), unseen_rows=4),
    Field(name="hashed", kind="cross", of=("number", "one", "two"), hash_buckets=50),
    Field(name="few", kind="cross", of=["number", "one"], max_size=3),
)
SCHEMA = Schema(label="y", fields=FIELDS)


def text_of(values):
    """The text of a combination, None if a value is missing."""
    if None in values:
        return None
    return "&".join(
        str(v).replace(BACK, BACK + BACK).replace("&", BACK + "&") for v in values
    )


def every_combination():
    rows = list(itertools.product(TEXTS, TEXTS, NUMBERS))
    return dict(zip(("one", "two", "number"), map(list, zip(*rows))))


def batch_of(columns):
    types = {"one": pa.string(), "two": pa.string(), "number": pa.int64()}
    return pa.record_batch({n: pa.array(v, types[n]) for n, v in columns.items()})


def tensors_of(columns):
    features = {}
    for name, values in columns.items():
        dtype = "int64" if name == "number" else "string"
        values = [MISSING[dtype] if value is None else value for value in values]
        features[name] = tf.constant(values, dtype)
    return features


def combinations(field, columns):
    return list(zip(*(columns[name] for name in field.parts)))


@pytest.fixture(scope="module")
def training():
    """Every other combination, drawn so that some come once and some often."""
    random = np.random.default_rng(5)
    columns = every_combination()
    chosen = random.integers(0, len(columns["one"]) // 2, 900) * 2
    return {name: [values[i] for i in chosen] for name, values in columns.items()}


@pytest.fixture(scope="module")
def spec(training, tmp_path_factory):
    counter = FeatureCounter(SCHEMA)
    whole = batch_of(training)
    counter.add(whole.slice(0, 333))
    counter.add(whole.slice(333))
    return counter.write(tmp_path_factory.mktemp("crosses") / "features")


def test_no_two_combinations_have_the_same_text():
    texts = [text for text in TEXTS if text is not None]
    pairs = set(itertools.product(texts, texts))
    assert len({text_of(pair) for pair in pairs}) == len(pairs)


@pytest.mark.parametrize("field", [f for f in FIELDS if f.parts], ids=lambda f: f.name)
def test_logs_and_tensors_have_the_text_of_the_reference(field):
    columns = every_combination()
    expected = [text_of(values) for values in combinations(field, columns)]
    assert crossed_columns(batch_of(columns), field).to_pylist() == expected
    tensor = crossed_tensors(tensors_of(columns), field).numpy()
    assert [value.decode() or None for value in tensor] == expected


def test_bytes_that_are_no_text_keep_their_places():
    [pair, *_] = FIELDS
    columns = {"one": [b"\xff&\xfe", b"\xe2&\x98", b"\xe2\x98"], "two": ["b"] * 3}
    features = {name: tf.constant(values) for name, values in columns.items()}
    assert crossed_tensors(features, pair).numpy().tolist() == [
        *(b"\xff\\&\xfe&b", b"\xe2\\&\x98&b", b"\xe2\x98&b"),
    ]


def kept_of(field, training):
    """Texts that have a row, in their order, and the training values' counts."""
    texts = [text_of(values) for values in combinations(field, training)]
    counts = {text: texts.count(text) for text in texts if text is not None}
    kept = [
        text
        for text, count in counts.items()
        if count >= field.min_count and "\n" not in text and "\r" not in text
    ]
    kept.sort(key=lambda text: (-counts[text], text.encode()))
    return kept[: field.max_size], counts, texts.count(None)


def reference(own, values, kept):
    """The row of a combination, in plain Python."""
    field, text = own.field, text_of(values)
    if text is None:
        return own.offset
    if field.hash_buckets:
        bucket = value_buckets(pa.array([text]), field.hash_buckets)[0]
        return own.offset + 1 + bucket
    if text in kept:
        return own.offset + 1 + field.unseen_rows + kept.index(text)
    return own.offset + 1 + value_buckets(pa.array([text]), field.unseen_rows)[0]


def test_ids_and_counts_are_those_of_the_reference(spec, training):
    columns = every_combination()
    rows = np.random.default_rng(6).permutation(len(columns["one"]))[:400]
    columns = {name: [values[i] for i in rows] for name, values in columns.items()}
    ids = Encoder(spec)(tensors_of(columns)).numpy()
    seen = Encoder(spec)(tensors_of(training)).numpy()
    for number, own in enumerate(spec.fields):
        if not own.field.parts:
            continue
        kept = None
        if own.field.has_vocabulary:
            kept, counts, missing = kept_of(own.field, training)
            assert own.values().to_pylist() == kept
            assert own.row_counts()[0] == missing
            assert own.row_counts()[-len(kept) :].tolist() == [counts[v] for v in kept]
        assert ids[:, number].tolist() == [
            reference(own, values, kept) for values in combinations(own.field, columns)
        ]
        # What was counted is what training reads.
        found = np.bincount(seen[:, number] - own.offset, minlength=own.rows)
        np.testing.assert_array_equal(found, own.row_counts())


def test_some_are_unseen_and_some_are_kept(spec):
    """Or the test above would say little."""
    for name in ("pair", "rare", "few"):
        [own] = [own for own in spec.fields if own.field.name == name]
        counts = own.row_counts()
        unseen = own.field.unseen_rows
        assert counts[0] and counts[1 : 1 + unseen].any() and counts[1 + unseen :].any()


def test_some_fields_alone(spec):
    """A cross needs its own parts and no more."""
    columns = {"two": ["a", "b"], "number": [5, None]}
    ids = Encoder(spec)(tensors_of(columns), ["rare", "number"]).numpy()
    whole = Encoder(spec)(tensors_of({**columns, "one": ["x", "y"]})).numpy()
    np.testing.assert_array_equal(ids, whole[:, 3:5])


def test_a_cross_is_no_input_and_no_column(spec):
    inputs = ["one", "two", "number"]
    assert SCHEMA.columns == [*inputs, "y"]
    assert list(Encoder(spec).signature()) == list(Encoder(spec).parsing()) == inputs
    assert spec.num_slots == len(FIELDS)
    assert FeatureSpec.load(spec.directory).schema == SCHEMA


def test_an_empty_vocabulary_has_no_values(tmp_path):
    counter = FeatureCounter(SCHEMA)
    counter.add(batch_of({"one": ["a"], "two": ["b"], "number": [None]}))
    spec = counter.write(tmp_path / "features")
    own = spec.fields[4]
    ids = Encoder(spec)(tensors_of({"one": ["a"], "two": ["b"], "number": [3]}))
    assert own.rows == 5 and own.row_counts().tolist() == [1, 0, 0, 0, 0]
    assert own.offset < ids[0, 4] < own.first_value
