"""Counting, storing and encoding of vectors."""

import json

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from edcn_tf import InputError
from edcn_tf.features.counting import VectorMoments
from edcn_tf.features.encoder import Encoder
from edcn_tf.features.growth import Growth, check_fields
from edcn_tf.features.spec import FeatureSpec
from edcn_tf.features.writing import FeatureCounter
from edcn_tf.schema import Schema

IMAGE = {"name": "image", "kind": "numeric", "length": 3}
SCHEMA = Schema.from_dict(
    {
        "label": "click",
        "fields": [
            {"name": "user", "min_count": 1},
            IMAGE,
            {"name": "tags", "multiple": True, "max_length": 2, "min_count": 1},
            {"name": "age", "kind": "numeric", "buckets": 2},
            {"name": "text", "kind": "numeric", "length": 2},
        ],
    }
)
NAN = float("nan")


def batch_of(images, texts):
    rows = len(images)
    return pa.RecordBatch.from_pydict(
        {
            "user": [f"u{i % 3}" for i in range(rows)],
            "image": pa.array(images, pa.list_(pa.float32())),
            "tags": pa.array([["a"]] * rows, pa.list_(pa.string())),
            "age": pa.array([float(i) for i in range(rows)], pa.float32()),
            "text": pa.array(texts, pa.list_(pa.float32())),
            "click": pa.array([0] * rows, pa.int64()),
        }
    )


def drawn(rows, seed=0):
    random = np.random.default_rng(seed)
    vectors = random.normal([1000, -2, 5], [1e-2, 30, 0], (rows, 3)).astype(np.float32)
    images = [[] if random.random() < 0.2 else vector for vector in vectors.tolist()]
    texts = random.normal(size=(rows, 2)).astype(np.float32).tolist()
    return images, texts


def spec_of(folder, images, texts, growth=None):
    counter = FeatureCounter(SCHEMA)
    for start in range(0, len(images), 7):  # in parts of any size
        part = slice(start, start + 7)
        counter.add(batch_of(images[part], texts[part]))
    return counter.write(folder, growth)


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    return spec_of(tmp_path_factory.mktemp("spec") / "features", *drawn(50))


@pytest.mark.parametrize("offset", [0, 1, 1e3, -3e6])
def test_moments_of_parts_are_those_of_the_whole(offset):
    random = np.random.default_rng(1)
    vectors = (offset + random.normal(size=(1000, 4))).astype(np.float32)
    ends = np.sort(random.integers(0, 1000, 30))
    merged = VectorMoments(4)
    for part in np.split(vectors, ends):
        other = VectorMoments(4)
        other.add(part)
        assert merged.merge(other) is merged
    exact = vectors.astype(np.float64)
    assert merged.total == 1000
    np.testing.assert_allclose(merged.mean, exact.mean(axis=0), rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(merged.deviation(), exact.std(axis=0), rtol=1e-9)


@pytest.mark.parametrize("constant", [0.0, 0.1, -7e30, 1e-42])
def test_what_never_changes_has_no_deviation(constant):
    moments = VectorMoments(1)
    for rows in (3, 1, 1000):
        moments.add(np.full((rows, 1), constant, np.float32))
    assert moments.deviation() == [0]
    assert VectorMoments(2).deviation().tolist() == [0, 0]  # of none at all


def test_counts_means_and_deviations_are_stored(spec):
    images, _ = drawn(50)
    there = np.float32([image for image in images if image])
    own = spec.fields[1]
    assert own.row_counts().tolist() == [50 - len(there), len(there)]
    assert own.row_names() == ["<missing>", "<vector>"]
    np.testing.assert_array_equal(own.mean, np.float32(there.mean(0, np.float64)))
    expected = np.float32(there.std(0, np.float64))
    np.testing.assert_allclose(own.deviation, expected, rtol=1e-6)
    assert own.deviation[2] == 0
    assert (own.rows, own.first_value) == (2, own.offset + 1)
    layout = spec.layout()[1]
    assert (layout["slots"], layout["vector"]) == (4, own.first_value)
    assert [each.get("vector") is None for each in spec.layout()] == [1, 0, 1, 1, 0]
    assert spec.num_slots == 1 + 4 + 2 + 1 + 3
    assert np.flatnonzero(~spec.id_slots()).tolist() == [2, 3, 4, 9, 10]


def features_of(images, texts):
    rows = len(images)
    return {
        "user": tf.constant(["u1"] * rows),
        "image": tf.constant(images, tf.float32),
        "tags": tf.constant([["a", "b"]] * rows),
        "age": tf.constant([3.0] * rows),
        "text": tf.constant(texts, tf.float32),
    }


def test_encoded_by_hand(spec):
    own = spec.fields[1]
    mean, deviation = np.float64(own.mean), np.float64(own.deviation)
    images = [[1000.01, 3, 5], [NAN] * 3, [1e30, -1e30, 7], [3e38, -3e38, -3e38]]
    ids = Encoder(spec)(features_of(images, [[0, 0]] * 4)).numpy()
    assert ids.dtype == np.int32
    assert ids.shape == (4, spec.num_slots)
    missing, there = own.offset, own.first_value
    assert ids[:, 1].tolist() == [there, missing, there, there]
    numbers = ids[:, 2:5].view(np.float32)
    first = (np.float32(images[0]) - mean)[:2] / deviation[:2]
    np.testing.assert_allclose(numbers[0], [*first, 0], rtol=1e-5)
    # Nothing for a missing one; no further than 10 deviations; nothing where no
    # training vector differs.
    np.testing.assert_array_equal(numbers[1:], [[0, 0, 0], [10, -10, 0], [10, -10, 0]])
    others = [True] + [False] * 4 + [True] * 3 + [False] * 3
    assert (ids[:, others] == ids[0, others]).all()
    alone = Encoder(spec)(features_of(images, [[0, 0]] * 4), ["image"])
    np.testing.assert_array_equal(alone, ids[:, 1:5])


WRONG = [[1.0, NAN, 2.0], [1.0, float("inf"), 2.0], [NAN, NAN, float("-inf")]]


@pytest.mark.parametrize("image", [*WRONG, [1.0, 2.0], [1.0] * 4, [1.0]])
@pytest.mark.parametrize("traced", [False, True])
def test_what_is_no_vector_is_refused_with_its_name(spec, image, traced):
    encoder = Encoder(spec)

    def encode(image):
        return encoder({**features_of([[1.0] * 3], [[0.0] * 2]), "image": image})

    if traced:
        signature = [tf.TensorSpec([None, None], tf.float32)]
        encode = tf.function(encode, input_signature=signature)
    with pytest.raises(tf.errors.InvalidArgumentError, match="image must be 3 finite"):
        encode(tf.constant([image]))


def test_signature_and_parsing(spec):
    encoder = Encoder(spec)
    assert encoder.signature()["image"].shape.as_list() == [None, 3]
    example = tf.train.Example()
    example.features.feature["image"].float_list.value.extend([1, 2, 3])
    records = [b"", example.SerializeToString()]
    parsed = tf.io.parse_example(records, encoder.parsing())["image"].numpy()
    np.testing.assert_array_equal(parsed, [[NAN] * 3, [1, 2, 3]])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("mean", [1, 2]), ("mean", [1, 2, NAN]), ("mean", "abc")),
        *(("deviation", [1, 2, -1]), ("deviation", []), ("deviation", None)),
    ],
)
def test_a_damaged_standardization_names_the_file(tmp_path, key, value):
    spec_of(tmp_path / "features", *drawn(20))
    path = tmp_path / "features" / "features.json"
    config = json.loads(path.read_text())
    config["fields"][1][key] = value
    path.write_text(json.dumps(config))
    with pytest.raises(InputError, match="features.json: "):
        FeatureSpec.load(tmp_path / "features")


def test_the_days_after_keep_means_and_deviations(tmp_path):
    first = spec_of(tmp_path / "day1" / "features", *drawn(50))
    growth = Growth(tmp_path / "day1")
    growth.check(SCHEMA)
    images, texts = drawn(30, seed=1)
    second = spec_of(
        tmp_path / "day2", [[x * 2 for x in i] for i in images], texts, growth
    )
    for before, after in zip(first.fields, second.fields):
        assert (before.mean, before.deviation) == (after.mean, after.deviation)
    added = sum(1 for image in images if image)
    before, after = (s.fields[1].row_counts() for s in (first, second))
    assert (after - before).tolist() == [30 - added, added]


def test_a_vector_of_another_length_cannot_go_on(tmp_path):
    longer = Schema.from_dict({"label": "click", "fields": [{**IMAGE, "length": 4}]})
    shorter = Schema.from_dict({"label": "click", "fields": [IMAGE]})
    with pytest.raises(InputError, match="Field 'image': `length` was 3.*Received: 4"):
        check_fields(shorter, longer)
    spec_of(tmp_path / "features", *drawn(20))
    with pytest.raises(InputError, match=r"ranges to fit anew: \['age'\].*: 'image'"):
        Growth(tmp_path, refit=("image",)).check(SCHEMA)
