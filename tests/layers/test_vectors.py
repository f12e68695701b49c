"""Vectors among the fields of an embedding, against their formula."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from edcn_tf.layers import FieldEmbedding
from helpers import layer_check, reference
from helpers.layer_check import Case, assert_close
from helpers.vectors import projected, slots_of

# Ranges of 3, 2, 4 and 2 rows; a vector's are that of a missing one and its own.
FIELDS = [
    {"name": "user", "slots": 1, "rows": 3, "pooling": "mean", "unseen": 2},
    {"name": "image", "slots": 4, "rows": 2, "pooling": "mean", "vector": 5},
    {"name": "tags", "slots": 2, "rows": 4, "pooling": "mean"},
    {"name": "text", "slots": 3, "rows": 2, "pooling": "mean", "vector": 11},
]
NUM_ROWS = 12
COUNTS = np.array([9, 5, 3, 1, 2, 6, 8, 1, 4, 7, 2, 6])
WIDTHS = [3, 2, 3, 1]


def parts_of(rows):
    """Ids of each field, and the vectors: `(ids, numbers)` of each, None for none."""
    random = np.random.default_rng(rows)
    tags = random.integers(6, 10, (rows, 2))
    tags[0, 1] = 0
    parts = [(random.integers(1, 4, (rows, 1)), None)]
    for missing, length in ((4, 3), (10, 2)):
        ids = missing + (random.random(rows) < 0.7)
        numbers = random.normal(size=(rows, length)).astype(np.float32)
        numbers[ids == missing] = 0
        parts.append((ids, numbers))
    return [parts[0], parts[1], (tags, None), parts[2]]


def rows_of(parts):
    return np.concatenate(
        [ids if z is None else slots_of(ids, z) for ids, z in parts], axis=1
    ).astype(np.int32)


def inputs(rows):
    return [rows_of(parts_of(rows))]


def expected(weights, ids, training=False):
    """`[B, F, D]`, or `[B, d]` where a table of each width has its fields' rows."""
    is_uniform, columns = "table" in weights, []
    first, taken = 1, dict.fromkeys(WIDTHS, 1)
    for field, width, (own, z) in zip(FIELDS, WIDTHS, parts_of(len(ids))):
        table, shift = weights.get("table"), 0
        if not is_uniform:
            table = weights[f"table_{width}"]
            shift = first - taken[width]
            taken[width] += field["rows"]
        first += field["rows"]
        own = np.where(own, own - shift, 0)
        if z is None:
            columns.append(reference.pooled(table, own, [field])[:, 0])
        else:
            kernel = weights[f"projection_{field['name']}"]
            columns.append(projected(table, kernel, own, z))
    return np.stack(columns, axis=1) if is_uniform else np.concatenate(columns, axis=1)


def case(**options):
    config = {"fields": FIELDS, "num_rows": NUM_ROWS, "embedding_dim": 2, **options}
    return Case(functools.partial(FieldEmbedding, **config), inputs, expected, config)


CASES = {"uniform": case(), "unequal": case(embedding_dim=WIDTHS)}
MORE_CASES = {"l2": case(l2=0.37), "unseen": case(unseen_rate=0.4, seed=3)}


class TestCases(layer_check.LayerTests):
    """What must hold for each of them."""


def test_one_vector_by_hand():
    fields = [{"name": "v", "slots": 5, "rows": 2, "pooling": "mean", "vector": 2}]
    layer = FieldEmbedding(fields, 3, 2)
    layer(np.zeros((1, 5), np.int32))
    layer.table.assign([[99, 99], [7, 8], [10, 20]])
    layer.projections["v"].assign([[1, 0], [0, 1], [1, 1], [0, 2]])
    rows = slots_of([2, 1], [[1, 2, 3, 4], [0, 0, 0, 0]])
    # [1 + 3, 2 + 3 + 8] / sqrt(4) on the row of a vector; the row of none alone.
    assert_close(layer(rows), [[[12, 26.5]], [[7, 8]]])


def test_numbers_beside_the_id_of_a_missing_vector_count_nothing():
    """As in a request that gave an id of no meaning, whose place it takes."""
    layer = FieldEmbedding(FIELDS, NUM_ROWS, 2)
    parts = parts_of(5)
    missing = (np.full(5, 4), np.zeros((5, 3)))
    left = (np.full(5, 4), np.full((5, 3), np.nan))
    with_zeros = layer(rows_of([parts[0], missing, *parts[2:]]))
    np.testing.assert_array_equal(
        layer(rows_of([parts[0], left, *parts[2:]])), with_zeros
    )


@pytest.mark.parametrize("bits", [0x7F7FFFFF, 1, 0x80000000, 0x7F800000])
def test_the_bits_of_a_number_come_through(bits):
    """The largest, the smallest, -0 and infinity, none of which may become an id."""
    fields = [{"name": "v", "slots": 2, "rows": 2, "pooling": "mean", "vector": 2}]
    layer = FieldEmbedding(fields, 3, 1)
    layer(np.zeros((1, 2), np.int32))
    layer.table.assign([[0], [0], [0]])
    layer.projections["v"].assign([[1.0]])
    number = np.array([bits], np.uint32).view(np.float32)
    got = layer(slots_of([2], [number])).numpy().ravel()
    if bits != 1:  # which a processor may take for 0
        np.testing.assert_array_equal(got, number)


def l2(weights, parts, strength):
    """Of each id and of the projection of each vector that is there, over its count."""
    total = 0.0
    for field, (ids, z) in zip(FIELDS, parts):
        for row in ids:
            for i in np.atleast_1d(row):
                if i:
                    total += np.sum(weights["table"][i] ** 2) / COUNTS[i]
                if z is not None and i == field["vector"]:
                    kernel = weights[f"projection_{field['name']}"]
                    total += np.sum(kernel**2) / COUNTS[i]
    return strength * total / len(parts[0][0])


def test_l2_of_projections_and_its_gradient():
    layer = FieldEmbedding(FIELDS, NUM_ROWS, 2, l2=0.37, row_counts=COUNTS)
    rows, parts = inputs(6)[0], parts_of(6)
    layer(rows)
    layer_check.randomize(layer)
    weights = layer_check.named_weights(layer)
    with tf.GradientTape() as tape:
        layer(rows, training=True)
        [loss] = layer.losses
    assert_close(loss, l2(weights, parts, 0.37))
    kernel = weights["projection_image"]
    numeric = reference.numeric_gradient(lambda: l2(weights, parts, 0.37), kernel)
    assert_close(tape.gradient(loss, layer.projections["image"].value), numeric, 1e-3)


def test_some_of_the_fields():
    """As a ranking asks, of candidates and of users."""
    layer = FieldEmbedding(FIELDS, NUM_ROWS, 2)
    whole, parts = layer(inputs(5)[0]).numpy(), parts_of(5)
    some = layer.embed(rows_of([parts[1], parts[3]]), ["image", "text"])
    np.testing.assert_array_equal(some, whole[:, [1, 3]])
    others = layer.embed(rows_of([parts[0], parts[2]]), ["user", "tags"])
    np.testing.assert_array_equal(others, whole[:, [0, 2]])


def test_two_projections_do_not_start_alike():
    fields = [
        {"name": name, "slots": 4, "rows": 2, "pooling": "mean", "vector": number}
        for name, number in (("a", 2), ("b", 4))
    ]
    layer = FieldEmbedding(fields, 5, 3)
    layer(np.zeros((1, 8), np.int32))
    a, b = (layer.projections[name].numpy() for name in "ab")
    assert not np.isclose(a, b).any()
    assert not np.isclose(a, layer.table.numpy()[:3]).any()


def test_a_vector_of_no_numbers_is_refused():
    field = {"name": "v", "slots": 1, "pooling": "mean", "vector": 2}
    with pytest.raises(ValueError, match="a slot for its id and one for each number"):
        FieldEmbedding([field], 3, 2)
