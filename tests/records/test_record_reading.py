import collections
import itertools

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from edcn_tf.errors import InputError
from edcn_tf.features.encoder import Encoder
from edcn_tf.features.writing import FeatureCounter
from edcn_tf.field import Field
from edcn_tf.records.reading import _group_key, read_records, reading
from edcn_tf.records.writing import RecordWriter
from edcn_tf.schema import Schema

ROWS = 500
SCHEMA = Schema(
    label="click",
    fields=(
        Field(name="row", dtype="int64", min_count=1),
        Field(name="tags", multiple=True, min_count=1, max_length=3),
        Field(name="price", kind="numeric"),
    ),
    group="user",
    weight="weight",
)


def batch_of(start, stop):
    rows = range(start, stop)
    return pa.record_batch(
        {
            "row": pa.array(rows, pa.int64()),
            "tags": pa.array([[f"t{i % 7}"] * (i % 3) for i in rows]),
            "price": pa.array([i / 8 for i in rows], pa.float32()),
            "click": pa.array([i % 5 == 0 for i in rows]).cast(pa.int64()),
            "user": pa.array([f"u{i % 11}" if i % 13 else None for i in rows]),
            "weight": pa.array([i / 4 for i in rows], pa.float32()),
        }
    )


def make_spec(directory, schema):
    counter = FeatureCounter(schema)
    counter.add(batch_of(0, ROWS))
    return counter.write(directory / "features")


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    return make_spec(tmp_path_factory.mktemp("pipeline"), SCHEMA)


@pytest.fixture(scope="module")
def plain_spec(tmp_path_factory):
    schema = Schema(label="click", fields=SCHEMA.fields)
    return make_spec(tmp_path_factory.mktemp("pipeline"), schema)


def write_files(prefix, num_files, compression=None):
    for number in range(num_files):
        writer = RecordWriter(str(prefix), compression=compression, first=number)
        bounds = np.linspace(0, ROWS, num_files + 1).astype(int)
        writer.write(batch_of(bounds[number], bounds[number + 1]))
        writer.close()
    return f"{prefix}-*"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp("files") / "train", 3)


def row_numbers(dataset, spec):
    """The rows of one pass, in their order, by the field that counts them."""
    names = spec.fields[0].row_names()
    offset = spec.fields[0].offset
    return [
        int(names[id - offset]) for batch in dataset for id in batch[0].numpy()[:, 0]
    ]


def whole(dataset):
    """One pass as arrays, sorted by row."""
    columns = [np.concatenate(c) for c in zip(*dataset.as_numpy_iterator())]
    order = np.argsort(columns[0][:, 0])
    return [column[order] for column in columns]


def test_what_a_batch_holds(files, spec):
    dataset = read_records(files, spec, 64, group=True)
    assert [(e.dtype, e.shape.as_list()) for e in dataset.element_spec] == [
        (tf.int32, [None, 5]),
        (tf.float32, [None]),
        (tf.float32, [None]),
        (tf.int64, [None]),
    ]
    sizes = [len(batch[0]) for batch in dataset]
    assert sizes == [64] * 7 + [52]
    assert len(read_records(files, spec, 64).element_spec) == 3


def test_without_weight_and_group(files, plain_spec):
    ids, labels = whole(read_records(files, plain_spec, 100))
    assert ids.shape == (ROWS, 5)
    assert labels.sum() == ROWS / 5


def test_values_are_those_written(files, spec):
    encoder = Encoder(spec)
    ids, labels, weights, groups = whole(
        read_records(files, spec, 77, group=True, encoder=encoder)
    )
    columns = batch_of(0, ROWS).to_pydict()
    expected = encoder(
        {
            "row": tf.constant(columns["row"], tf.int64),
            "tags": tf.ragged.constant(columns["tags"], ragged_rank=1),
            "price": tf.constant(columns["price"], tf.float32),
        }
    ).numpy()
    order = np.argsort(expected[:, 0])
    np.testing.assert_array_equal(ids, expected[order])
    np.testing.assert_array_equal(labels, np.array(columns["click"])[order])
    np.testing.assert_array_equal(
        weights, np.array(columns["weight"], np.float32)[order]
    )
    users = np.array([user or "" for user in columns["user"]])[order]
    pairs = set(zip(users, groups.tolist()))
    assert len(pairs) == 12 == len({group for _, group in pairs})


def test_numbers_of_a_group_are_told_apart():
    groups = _group_key(tf.constant([0.2, 0.9, -0.5, 0.0, -0.0]))
    assert groups.dtype == tf.int64
    assert len(set(groups.numpy().tolist())) == 4 and groups[3] == groups[4]


def test_a_group_that_is_an_int64_field(tmp_path, files):
    schema = Schema(label="click", fields=SCHEMA.fields, group="row")
    spec = make_spec(tmp_path, schema)
    dataset = read_records(files, spec, 100, group=True)
    groups = np.concatenate([batch[-1] for batch in dataset.as_numpy_iterator()])
    assert sorted(groups) == list(range(ROWS))


@pytest.mark.parametrize("num_files", [1, 2, 20])
@pytest.mark.parametrize("compression", [None, "GZIP"])
@pytest.mark.parametrize("shuffle", [False, True])
def test_rows_do_not_depend_on_the_files(
    tmp_path, files, spec, num_files, compression, shuffle
):
    pattern = write_files(tmp_path / "other", num_files, compression)
    found = whole(read_records(pattern, spec, 64, shuffle=shuffle, group=True))
    for one, other in zip(found, whole(read_records(files, spec, 501, group=True))):
        np.testing.assert_array_equal(one, other)


def test_one_file_is_read_in_its_order(tmp_path, spec):
    pattern = write_files(tmp_path / "one", 1)
    assert row_numbers(read_records(pattern, spec, 7), spec) == list(range(ROWS))


def test_without_shuffle_each_pass_is_the_same(files, spec):
    dataset = read_records(files, spec, 64)
    assert row_numbers(dataset, spec) == row_numbers(dataset, spec)


def test_several_patterns(tmp_path, files, spec):
    other = write_files(tmp_path / "other", 2)
    found = row_numbers(read_records([files, other], spec, 64), spec)
    assert collections.Counter(found) == dict.fromkeys(range(ROWS), 2)


@pytest.mark.parametrize("window, num_files", [(40, 3), (1 << 17, 1)])
def test_shuffle(tmp_path, spec, monkeypatch, window, num_files):
    files = write_files(tmp_path / "train", num_files)
    monkeypatch.setattr("edcn_tf.records.reading.SHUFFLE_ROWS", window)

    def passes(seed):
        dataset = read_records(files, spec, 64, shuffle=True, seed=seed)
        return [row_numbers(dataset, spec) for _ in range(2)]

    first, again = passes(1)
    assert sorted(first) == sorted(again) == list(range(ROWS))
    assert first != list(range(ROWS))
    assert first != again  # another order each epoch
    assert passes(1) == [first, again]
    assert passes(2)[0] not in (first, again)


@pytest.mark.parametrize("window, num_files", [(40, 3), (1 << 17, 1)])
def test_order_by_epoch(tmp_path, spec, monkeypatch, window, num_files):
    """It follows from seed and epoch, however often the data set was read before."""
    files = write_files(tmp_path / "train", num_files)
    monkeypatch.setattr("edcn_tf.records.reading.SHUFFLE_ROWS", window)
    epoch = tf.Variable(0, dtype=tf.int64)

    def passes(seed, epochs):
        dataset = read_records(files, spec, 64, shuffle=True, seed=seed, epoch=epoch)
        orders = []
        for number in epochs:
            epoch.assign(number)
            orders.append(row_numbers(dataset, spec))
        return orders

    orders = passes(1, [0, 1, 2])
    assert all(sorted(order) == list(range(ROWS)) for order in orders)
    assert len(set(map(tuple, orders))) == 3
    assert passes(1, [2, 0]) == [orders[2], orders[0]]
    assert passes(2, [0])[0] not in orders
    fixed = read_records(files, spec, 64, shuffle=True, seed=1, epoch=2)
    assert row_numbers(fixed, spec) == orders[2]


def test_an_epoch_needs_a_seed(files, spec):
    with pytest.raises(ValueError, match="seed"):
        read_records(files, spec, 64, shuffle=True, epoch=1)


def test_no_file(tmp_path, spec):
    with pytest.raises(InputError, match="absent.*no such TFRecord file"):
        read_records(f"{tmp_path}/absent-*", spec, 8)


def test_a_group_that_the_schema_does_not_name(files, plain_spec):
    with pytest.raises(InputError, match="group"):
        read_records(files, plain_spec, 8, group=True)


# Records that do not fit


def example(**features):
    built = tf.train.Example()
    for name, value in features.items():
        feature = built.features.feature[name]
        if isinstance(value, int):
            feature.int64_list.value.append(value)
        elif isinstance(value, float):
            feature.float_list.value.append(value)
        else:
            feature.bytes_list.value.append(value)
    return built.SerializeToString()


def write_examples(path, examples):
    compression = "GZIP" if path.suffix == ".gz" else None
    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for one in examples:
            writer.write(one)


GOOD = {"row": 1, "price": 2.0, "click": 1, "weight": 1.0, "user": b"u"}


def without(name):
    return {key: value for key, value in GOOD.items() if key != name}


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(
    "bad, word",
    [
        ({**GOOD, "click": 2}, "must be 0 or 1"),
        ({**GOOD, "click": -1}, "must be 0 or 1"),
        (without("click"), "click"),
        (without("weight"), "weight"),
        ({**GOOD, "click": 1.0}, "click"),
        ({**GOOD, "row": b"1"}, "row"),
        ({**GOOD, "price": 2}, "price"),
        ({**GOOD, "tags": 5}, "tags"),
        ({**GOOD, "user": 5}, "user"),
    ],
    ids=str,
)
def test_an_unfit_record_is_named(tmp_path, spec, suffix, bad, word):
    write_examples(tmp_path / f"a.tfrecord{suffix}", [example(**GOOD)] * 5)
    path = tmp_path / f"b.tfrecord{suffix}"
    write_examples(path, [*[example(**GOOD)] * 6, example(**bad), example(**GOOD)])
    pattern = f"{tmp_path}/*.tfrecord{suffix}"
    with pytest.raises(InputError) as caught:
        with reading(pattern, spec):
            list(read_records(pattern, spec, 4, group=True))
    message = str(caught.value)
    assert message.startswith(f"{path}: record 7 does not fit the schema: ")
    assert word in message
    assert "\n" not in message


def test_a_record_that_is_no_example(tmp_path, spec):
    path = tmp_path / "a.tfrecord"
    write_examples(path, [example(**GOOD), b"\xff\xff not a tf.Example"])
    with pytest.raises(InputError, match=f"{path}: record 2 "):
        with reading(str(path), spec):
            list(read_records(str(path), spec, 4))


def test_a_damaged_record_is_named(tmp_path, spec):
    pattern = write_files(tmp_path / "t", 2)
    path = tmp_path / "t-00001.tfrecord"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(InputError, match=f"{path}: record 250 is damaged or cut"):
        with reading(pattern, spec):
            list(read_records(pattern, spec, 4))


def test_the_group_does_not_matter_where_it_is_not_read(tmp_path, spec):
    path = tmp_path / "a.tfrecord"
    write_examples(path, [example(**{**GOOD, "user": 5})])
    with reading(str(path), spec):
        assert len(list(read_records(str(path), spec, 4))) == 1


def test_other_errors_pass_through(files, spec):
    with pytest.raises(KeyError):
        with reading(files, spec):
            raise KeyError("mine")
    # An error that no record explains is not blamed on one.
    with pytest.raises(tf.errors.ResourceExhaustedError):
        with reading(files, spec):
            raise tf.errors.ResourceExhaustedError(None, None, "out of memory")


def weights_of(dataset):
    return [weight for batch in dataset for weight in batch[2].numpy()]


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize(("num_files", "number"), [(4, 2), (2, 2), (1, 2), (2, 3)])
def test_parts_are_all_rows_and_equal(tmp_path, spec, num_files, number, shuffle):
    pattern = write_files(tmp_path / "t", num_files)
    parts = [
        weights_of(
            read_records(pattern, spec, 7, shuffle=shuffle, shard=(index, number))
        )
        for index in range(number)
    ]
    assert sorted(itertools.chain(*parts)) == [row / 4 for row in range(ROWS)]
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= num_files


def test_files_of_equal_size_are_shared_whole(tmp_path, spec):
    pattern = write_files(tmp_path / "t", 2)
    first = weights_of(read_records(pattern, spec, 7, shard=(0, 2)))
    assert sorted(first) in (
        [row / 4 for row in range(ROWS // 2)],
        [row / 4 for row in range(ROWS // 2, ROWS)],
    )


def test_files_of_unequal_size_are_not(tmp_path, spec):
    write_files(tmp_path / "t", 1)
    write_examples(tmp_path / "t-00001.tfrecord", [example(**GOOD)] * 10)
    parts = [
        weights_of(read_records(f"{tmp_path}/t-*", spec, 7, shard=(index, 2)))
        for index in range(2)
    ]
    assert [len(part) for part in parts] == [ROWS // 2 + 5] * 2


@pytest.mark.parametrize("shard", [(2, 2), (-1, 2)])
def test_a_part_that_is_none(files, spec, shard):
    with pytest.raises(ValueError, match=r"Received: \("):
        read_records(files, spec, 7, shard=shard)
