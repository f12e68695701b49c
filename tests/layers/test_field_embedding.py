import functools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from edcn_tf.layers import FieldEmbedding, large_table
from helpers import layer_check, reference
from helpers.layer_check import Case, assert_close

FIELDS = [
    {"name": "user", "slots": 1, "pooling": "mean"},
    {"name": "tags", "slots": 3, "pooling": "mean"},
    {"name": "item", "slots": 1, "pooling": "sum"},
    {"name": "words", "slots": 2, "pooling": "sum"},
]
PLAIN_FIELDS = [{"name": n, "slots": 1, "pooling": "mean"} for n in "abc"]
# Ids 10 and 11 stand for unseen values; one field has none.
UNSEEN_FIELDS = [{**f, "unseen": u} for f, u in zip(FIELDS, (10, 11, None, 11))]
NUM_ROWS = 12
COUNTS = np.array([9, 5, 0, 1, 2, 3, 8, 1, 4, 7, 2, 6])
# The same with the ranges that fields of unequal width need: 11 rows and padding.
RANGES = [{**f, "rows": r} for f, r in zip(FIELDS, (3, 4, 2, 2))]
WIDTHS = [2, 3, 2, 1]


def ids_of(fields):
    """Ids with unused slots at the ends of lists, some lists empty."""

    def make(rows):
        random = np.random.default_rng(rows)
        columns = []
        for field in fields:
            ids = random.integers(1, NUM_ROWS, (rows, field["slots"]))
            if field["slots"] > 1:
                used = random.integers(0, field["slots"] + 1, (rows, 1))
                used[0] = 0
                ids[np.arange(field["slots"]) >= used] = 0
            columns.append(ids)
        return [np.concatenate(columns, axis=1).astype(np.int32)]

    return make


def ids_in_ranges(rows):
    """Ids of `RANGES`, each in its field's range, with unused slots."""
    random = np.random.default_rng(rows)
    columns, first = [], 1
    for field in RANGES:
        ids = random.integers(first, first + field["rows"], (rows, field["slots"]))
        if field["slots"] > 1:
            ids[random.random(ids.shape) < 0.3] = 0
        first += field["rows"]
        columns.append(ids)
    return [np.concatenate(columns, axis=1).astype(np.int32)]


def embedding_case(fields, **options):
    config = {
        "fields": fields,
        "num_rows": NUM_ROWS,
        "embedding_dim": 2,
        "embeddings_initializer": keras.initializers.serialize(
            keras.initializers.RandomUniform(0.37, 0.73)
        ),
        **options,
    }
    return Case(
        functools.partial(FieldEmbedding, **config),
        ids_of(fields),
        lambda w, ids, training: reference.pooled(w["table"], ids, fields),
        config,
    )


def unequal_table(weights):
    """The rows of all fields, each row a list of its own width."""
    rows, taken = [np.zeros(1)], {width: 1 for width in WIDTHS}
    for field, width in zip(RANGES, WIDTHS):
        for _ in range(field["rows"]):
            rows.append(weights[f"table_{width}"][taken[width]])
            taken[width] += 1
    return rows


def unequal(weights, ids, training):
    """Each field of its own width, by way of a table of that width alone."""
    table, columns, start = unequal_table(weights), [], 0
    for field, width in zip(RANGES, WIDTHS):
        own = np.array([r if len(r) == width else np.zeros(width) for r in table])
        slots = ids[:, start : start + field["slots"]]
        start += field["slots"]
        columns.append(reference.pooled(own, slots, [field])[:, 0])
    return np.concatenate(columns, axis=1)


def unequal_case(**options):
    config = {"fields": RANGES, "num_rows": 12, "embedding_dim": WIDTHS, **options}
    return Case(
        functools.partial(FieldEmbedding, **config), ids_in_ranges, unequal, config
    )


CASES = {
    "plain": embedding_case(PLAIN_FIELDS),
    "lists": embedding_case(FIELDS),
    "unequal": unequal_case(),
}
# Checked as a layer only: the counts are no part of a config, and draws are random.
MORE_CASES = {
    "l2": embedding_case(FIELDS, l2=0.37),
    "unseen": embedding_case(UNSEEN_FIELDS, unseen_rate=0.37, seed=3),
    "unequal_l2": unequal_case(l2=0.37),
}


class TestCases(layer_check.LayerTests):
    """What must hold for each of them."""


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FieldEmbedding(FIELDS, 0, 2), "num_rows.*Received: 0"),
        (lambda: FieldEmbedding(FIELDS, 3, 0), "embedding_dim.*Received: 0"),
        (lambda: FieldEmbedding(FIELDS, 3, 2, l2=-1.0), "l2.*Received: -1.0"),
        (lambda: FieldEmbedding(FIELDS, 3, 2, unseen_rate=1), "unseen_rate.*: 1"),
        (lambda: FieldEmbedding(FIELDS, 3, 2, unseen_rate=-0.1), "unseen_rate.*: -0.1"),
        (lambda: FieldEmbedding([{**FIELDS[0], "slots": 0}], 3, 2), "slots.*: 0"),
        (
            lambda: FieldEmbedding([{**FIELDS[0], "pooling": "max"}], 3, 2),
            "pooling.*Received: .*'max'",
        ),
        (lambda: FieldEmbedding(FIELDS, 12, [2, 3]), r"each of the 4.*\[2, 3\]"),
        (lambda: FieldEmbedding(FIELDS, 12, [2, 0, 1, 1]), "embedding_dim.*: 0"),
        (lambda: FieldEmbedding(FIELDS, 12, WIDTHS), "unequal width.*`rows`"),
        (lambda: FieldEmbedding(RANGES, 13, WIDTHS), r"add up to 12.*\[3, 4, 2, 2\]"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_wrong_input_shapes():
    with pytest.raises(ValueError, match=r"\[B, 7\].*Received: \(2, 6\)"):
        FieldEmbedding(FIELDS, 3, 2)(np.ones((2, 6), np.int32))
    layer = FieldEmbedding(FIELDS, 3, 2, l2=0.1, row_counts=[1, 2])
    with pytest.raises(ValueError, match=r"row_counts.*\(3,\).*Received: \(2,\)"):
        layer(np.ones((2, 7), np.int32))


def test_pooling_by_hand():
    layer = FieldEmbedding(FIELDS, num_rows=8, embedding_dim=2)
    layer(np.zeros((1, 7), np.int32))
    table = np.array([[i, 10 * i] for i in range(8)], np.float32)
    table[0] = 99  # padding must not be seen
    layer.table.assign(table)
    ids = np.array(
        [
            # user, three tags (mean), item, two words (sum)
            [1, 2, 4, 0, 3, 5, 6],
            [7, 2, 2, 5, 7, 4, 0],
            [1, 0, 0, 0, 2, 0, 0],
            [1, 0, 6, 0, 2, 0, 3],
        ]
    )
    assert_close(
        layer(ids),
        [
            [[1, 10], [3, 30], [3, 30], [11, 110]],
            [[7, 70], [3, 30], [7, 70], [4, 40]],
            [[1, 10], [0, 0], [2, 20], [0, 0]],
            [[1, 10], [6, 60], [2, 20], [3, 30]],
        ],
    )


@pytest.mark.parametrize("fields", [PLAIN_FIELDS, FIELDS])
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_gradient_of_the_table_is_sparse(fields, dtype):
    layer = FieldEmbedding(fields, NUM_ROWS, 2, l2=0.1, row_counts=COUNTS, dtype=dtype)
    (ids,) = ids_of(fields)(5)

    @tf.function
    def gradient_of_the_table(ids):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.cast(layer(ids, training=True), tf.float32))
            loss += layer.losses[0]
        return tape.gradient(loss, layer.table)

    layer.build(ids.shape)
    gradient = gradient_of_the_table(ids)
    assert isinstance(gradient, tf.IndexedSlices)
    assert gradient.values.dtype == tf.float32
    assert set(gradient.indices.numpy()) <= set(ids.ravel())
    assert not tf.convert_to_tensor(gradient)[0].numpy().any()  # padding


def l2_layer(fields, **kwargs):
    layer = FieldEmbedding(fields, NUM_ROWS, 2, l2=0.37, row_counts=COUNTS, **kwargs)
    layer.build((None, sum(field["slots"] for field in fields)))
    layer_check.randomize(layer)
    return layer


def test_l2_by_hand():
    layer = FieldEmbedding(
        [{"name": "tags", "slots": 2, "pooling": "sum"}],
        num_rows=4,
        embedding_dim=2,
        l2=0.5,
        row_counts=[7, 2, 4, 0],
    )
    layer(np.zeros((1, 2), np.int32))
    layer.table.assign([[9, 9], [1, 2], [3, 0], [0, 2]])
    layer(np.array([[1, 2], [1, 0], [3, 3], [0, 0]]), training=True)
    # 5/2 + 9/4; 5/2 and padding; 4 twice, counted once at least; nothing
    assert_close(layer.losses, [0.5 * (4.75 + 2.5 + 8 + 0) / 4])


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("fields", [PLAIN_FIELDS, FIELDS])
def test_l2_only_in_training(fields, dtype):
    layer = l2_layer(fields, dtype=dtype)
    (ids,) = ids_of(fields)(6)
    table = layer.table.numpy().astype(np.float64)
    layer(ids, training=True)
    assert_close(layer.losses, [reference.l2(table, ids, COUNTS, 0.37)])
    layer(ids, training=False)
    assert layer.losses == []
    layer(ids)
    assert layer.losses == []


def test_l2_gradient():
    layer = l2_layer(FIELDS)
    (ids,) = ids_of(FIELDS)(6)
    table = layer.table.numpy().astype(np.float64)
    with tf.GradientTape() as tape:
        layer(ids, training=True)
        (loss,) = layer.losses
    expected = reference.numeric_gradient(
        lambda: reference.l2(table, ids, COUNTS, 0.37), table
    )
    gradient = tf.convert_to_tensor(tape.gradient(loss, layer.table))
    assert_close(gradient, expected, rtol=1e-4, atol=1e-6)


def test_l2_of_an_epoch_is_that_of_the_table():
    """Whatever the batches, their mean is (l2 / N) ||E||^2."""
    ids = ids_of(FIELDS)(40)[0]
    counts = np.bincount(ids.ravel(), minlength=NUM_ROWS)
    assert counts.min() > 0
    layer = FieldEmbedding(FIELDS, NUM_ROWS, 2, l2=0.37, row_counts=counts)
    losses = []
    for batch in np.split(ids, 4):
        layer(batch, training=True)
        losses += layer.losses
    squares = np.sum(layer.table.numpy().astype(np.float64)[1:] ** 2)
    assert_close(np.mean(losses), 0.37 / 40 * squares)


def test_counts_are_saved_with_the_model(tmp_path):
    layer = l2_layer(FIELDS)
    model = layer_check.functional(layer, ids_of(FIELDS)(2))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras").layers[-1]
    expected = 1 / np.maximum(COUNTS, 1)
    expected[0] = 0
    assert_close(loaded.inverse_counts, expected)


def test_unseen_rate_replaces_ids_in_training_only():
    layer = FieldEmbedding(UNSEEN_FIELDS, NUM_ROWS, 1, unseen_rate=0.25, seed=1)
    ids = np.tile(np.array([[1, 2, 0, 0, 3, 4, 0]], np.int32), (2000, 1))
    layer(ids)
    layer.table.assign(np.arange(NUM_ROWS)[:, None])
    np.testing.assert_array_equal(layer(ids)[:, :, 0], np.tile([1, 2, 3, 4], (2000, 1)))
    user, tags, item, words = layer(ids, training=True).numpy()[:, :, 0].T
    # The one tag that is used may become 11; padding stays padding.
    for values, own, unseen in [(user, 1, 10), (tags, 2, 11), (words, 4, 11)]:
        assert set(values) == {own, unseen}
        assert np.mean(values == unseen) == pytest.approx(0.25, abs=0.04)
    np.testing.assert_array_equal(item, 3)
    again = layer(ids, training=True).numpy()[:, 0, 0]
    assert 0 < np.mean(again != user) < 1  # drawn anew


def test_the_table_stays_float32_and_out_of_xla():
    layer = FieldEmbedding(PLAIN_FIELDS, 5, 2, dtype="bfloat16")
    assert layer(np.ones((2, 3), np.int32)).dtype == tf.bfloat16
    assert layer.table.dtype == "float32"
    assert not layer.supports_jit


def test_l2_leaves_out_what_was_put_in_place_of_an_id():
    """The unseen row's count does not hold replacements: its L2 would be huge."""
    field = {"name": "user", "slots": 1, "pooling": "mean", "unseen": 1}
    layer = FieldEmbedding(
        [field],
        num_rows=4,
        embedding_dim=1,
        l2=1.0,
        row_counts=[0, 0, 500, 500],
        unseen_rate=0.5,
        seed=0,
        embeddings_initializer="ones",
    )
    output = layer(np.full((1000, 1), 2), training=True)
    assert output.shape == (1000, 1, 1)
    # 1 / 500 for each of about half the rows, 0 for the others.
    assert float(layer.losses[0]) == pytest.approx(0.5 / 500, rel=0.1)


def test_a_large_table_is_made_and_stored_in_parts(monkeypatch, tmp_path):
    """Parts of two rows: no two alike, the same with the same seed, and kept."""
    monkeypatch.setattr(large_table, "PART_SIZE", 8)
    fields = [{"name": "user", "slots": 1, "pooling": "mean"}]

    def made(**kwargs):
        initializer = keras.initializers.RandomNormal(stddev=3.0, seed=5)
        layer = FieldEmbedding(fields, 1001, 4, **kwargs)
        layer.embeddings_initializer = initializer
        layer.build((None, 1))
        return layer

    table = made().table.numpy()
    assert len(np.unique(table)) == table.size
    assert abs(table.std() - 3) < 0.1
    np.testing.assert_array_equal(table, made().table.numpy())
    ids = keras.Input([1], dtype="int32")
    layer = made(l2=2.0, row_counts=np.arange(1001))
    model = keras.Model(ids, layer(ids))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras").layers[-1]
    for name in ("table", "inverse_counts"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(layer, name))
    model.save_weights(tmp_path / "a.weights.h5")
    for rows, width in [(1000, 4), (1002, 4), (1001, 5)]:
        other = keras.Model(ids, FieldEmbedding(fields, rows, width, l2=2.0)(ids))
        with pytest.raises(ValueError, match=f"has not the shape .{rows}, {width}"):
            other.load_weights(tmp_path / "a.weights.h5")
    monkeypatch.setattr(large_table, "PART_SIZE", 100)  # of another version
    loaded = keras.saving.load_model(tmp_path / "model.keras").layers[-1]
    np.testing.assert_array_equal(loaded.table, layer.table)


# Fields of unequal width


def made_unequal(**options):
    layer, inputs = layer_check.made(unequal_case(**options))
    return layer, inputs[0]


def test_unequal_widths_by_hand():
    """Widths 1, 2, 1: the first and the last field share a table."""
    fields = [
        {"name": "a", "slots": 1, "pooling": "mean", "rows": 2},
        {"name": "b", "slots": 1, "pooling": "mean", "rows": 1},
        {"name": "c", "slots": 2, "pooling": "mean", "rows": 2},
    ]
    layer = FieldEmbedding(fields, 6, [1, 2, 1])
    layer.build((None, 4))
    narrow, wide = layer.tables
    assert (narrow.shape, wide.shape) == ((5, 1), (2, 2))
    narrow.assign([[99.0], [1.0], [2.0], [4.0], [5.0]])  # padding, a, a, c, c
    wide.assign([[99.0, 99.0], [3.0, 30.0]])
    ids = np.array([[1, 3, 4, 5], [2, 3, 5, 0]])
    assert_close(layer(ids), [[1, 3, 30, 4.5], [2, 3, 30, 5]])
    assert layer.compute_output_shape((None, 4)) == (None, 4)


def test_equal_widths_are_one_table_however_they_are_given():
    layer = FieldEmbedding(FIELDS, NUM_ROWS, [3, 3, 3, 3])
    layer.build((None, 7))
    assert layer.table.shape == (NUM_ROWS, 3)
    assert layer.compute_output_shape((None, 7)) == (None, 4, 3)


def test_some_of_the_fields_of_unequal_width():
    layer, ids = made_unequal()
    everything = layer(ids).numpy()
    slots = {"user": [0], "tags": [1, 2, 3], "item": [4], "words": [5, 6]}
    columns = {"user": [0, 1], "tags": [2, 3, 4], "item": [5, 6], "words": [7]}
    for names in (["user"], ["words", "user"], ["item", "tags", "user"]):
        own = ids[:, [i for name in names for i in slots[name]]]
        expected = everything[:, [i for name in names for i in columns[name]]]
        assert_close(layer.embed(own, names), expected)


def test_gradients_of_unequal_tables_are_sparse():
    layer, ids = made_unequal(l2=0.1)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(ids, training=True)) + layer.losses[0]
    gradients = tape.gradient(loss, list(layer.tables))
    for gradient in gradients:
        assert isinstance(gradient, tf.IndexedSlices)
        assert not tf.convert_to_tensor(gradient)[0].numpy().any()  # padding


def test_l2_of_unequal_widths():
    layer = FieldEmbedding(RANGES, NUM_ROWS, WIDTHS, l2=0.37, row_counts=COUNTS)
    (ids,) = ids_in_ranges(6)
    layer(ids, training=True)
    table = unequal_table(layer_check.named_weights(layer))
    expected = sum(
        np.sum(table[i] ** 2) / max(COUNTS[i], 1) for i in ids.ravel() if i != 0
    )
    assert_close(layer.losses, [0.37 * expected / 6])


def test_unequal_tables_are_stored_in_parts(monkeypatch, tmp_path):
    layer, ids = made_unequal()
    model = layer_check.functional(layer, [ids])
    monkeypatch.setattr(large_table, "PART_SIZE", 4)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(ids), model(ids))
    config = layer.get_config()
    assert json.loads(json.dumps(config)) == config
