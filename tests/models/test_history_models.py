"""Models with a history: towers on what a history layer makes of it, and DIN's kin."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from edcn_tf import SparseAdam, make_model
from edcn_tf.errors import InputError
from edcn_tf.layers import HistoryLayer
from edcn_tf.models.family import FAMILY
from helpers import history_reference, layer_check, reference
from helpers.history_reference import (
    evolution_weights,
    expected_activation,
    expected_transformer,
)
from helpers.layer_check import assert_close

FIELDS = [
    {"name": "user", "slots": 1, "rows": 4, "pooling": "mean", "unseen": 2},
    {"name": "past", "slots": 3, "rows": 5, "pooling": "mean", "unseen": 6},
    {"name": "item", "slots": 1, "rows": 5, "pooling": "mean", "unseen": 6},
    {"name": "since", "slots": 3, "rows": 3, "pooling": "mean", "unseen": None},
    {"name": "tags", "slots": 2, "rows": 3, "pooling": "sum", "unseen": None},
]
FIELDS[1].update(kind="sequence", of="item", along=None)
FIELDS[3].update(kind="sequence", of=None, along="past")
# user 1-4, item and past 5-9, since 10-12, tags 13-15.
SPEC = {"fields": FIELDS, "num_rows": 16}
IDS = np.array(
    [
        [1, 5, 0, 0, 7, 10, 0, 0, 13, 0],
        [2, 7, 8, 9, 8, 12, 11, 11, 14, 15],
        [3, 9, 9, 0, 9, 12, 12, 0, 15, 0],
        [4, 6, 0, 0, 6, 11, 0, 0, 14, 0],
        [1, 8, 7, 8, 5, 10, 10, 11, 15, 13],
    ],
    np.int32,
)
LABELS = np.array([[1.0], [0.0], [0.0], [1.0], [0.0]])
CASES = {
    "din": ("din", {}),
    "dien": ("dien", {}),
    "bst": ("bst", {}),
    "edcn": ("edcn", {}),
    "edcn, din": ("edcn", {"history": "din", "history_units": [5, 3]}),
    "edcn, dien": ("edcn", {"history": "dien", "auxiliary_weight": 0.5}),
    "edcn, transformer": (
        "edcn",
        {"history": "transformer", "history_heads": 1, "history_blocks": 2},
    ),
    "deepfm, transformer": ("deepfm", {"history": "transformer"}),
    "dcn, dien": ("dcn", {"history": "dien", "gate": "lhuc", "gate_fields": ["past"]}),
    "pnn, din": ("pnn", {"history": "din", "history_units": [4, 2]}),
}
EXACT = [case for case in CASES if case != "din" and case != "dien"]


def made(case, **more):
    name, options = CASES[case]
    model = make_model(SPEC, name, **{"embedding_dim": 2, **options, **more})
    model.build((None, 10))
    layer_check.randomize(model)
    return model


def expected_fields(model, w):
    """`[B, F, D]`, the history's fields from the papers' formulas."""
    table = w["embedding/table"]
    fields = reference.pooled(table, IDS, FIELDS)
    kind = model.options["history"]
    if kind == "pooling":
        return fields
    mask = IDS[:, 1:4] > 0
    history = np.concatenate([table[IDS[:, 1:4]], table[IDS[:, 5:8]]], axis=2)
    history = history * mask[:, :, None]
    item = table[IDS[:, 4]]
    candidate = np.concatenate([item, np.zeros_like(item)], axis=1)
    inputs = history, candidate, mask
    own = reference.part(w, "history_of_past")
    if kind == "din":
        pooled = expected_activation(own, *inputs, activation="dice")[0]
    elif kind == "dien":
        own = evolution_weights(own)
        pooled = history_reference.interest_evolution(*inputs, own)[0]
    else:
        blocks = model.options["history_blocks"]
        pooled = expected_transformer(own, *inputs, blocks=blocks)[0]
    fields[:, 1], fields[:, 3] = pooled[:, :2], pooled[:, 2:]
    return fields


@pytest.mark.parametrize("case", EXACT)
def test_forward_equals_the_formula(case):
    model = made(case)
    w = layer_check.named_weights(model)
    linear = None
    if model.linear is not None:
        linear = reference.pooled(w["linear/table"], IDS, FIELDS)[:, :, 0]
    e = expected_fields(model, w).reshape(5, -1)
    options = model.get_config()
    if options["gate_fields"] == ["past"]:
        options["gate_fields"] = ["f1"]  # as the reference counts them
    expected = reference.parallel_logits(w, e, model.widths, options, linear)
    assert np.ptp(expected) > 0.01
    assert_close(model.logits(IDS), expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("case", ["din", "dien"])
def test_din_and_dien_are_a_deep_network_on_the_history(case):
    options = {"history_units": [5, 3]} if case == "din" else {}
    model = made(case, deep_units=[6, 4], **options)
    w = layer_check.named_weights(model)
    h = expected_fields(model, w).reshape(5, -1)
    for layer in range(2):
        own = reference.part(w, f"deep_{layer}")
        norm = reference.part(own, "dice")
        h = h @ own["dense/kernel"] + own["dense/bias"]
        h = history_reference.dice(
            h, own["dice/alpha"], norm["moving_mean"], norm["moving_variance"]
        )
    expected = h @ w["output/kernel"] + w["output/bias"]
    assert np.ptp(expected) > 0.01
    assert_close(model.logits(IDS), expected, rtol=1e-4, atol=2e-5)
    assert model.options["structure"] == "parallel"
    assert model.options["explicit"] == model.options["bridge"] == "none"


@pytest.mark.parametrize("case", CASES)
def test_candidates_for_one_history_are_rows_put_together(case):
    model = made(case)
    users = ["user", "past", "since"]
    of_user = np.repeat(IDS[:, [0, 1, 2, 3, 5, 6, 7]], 2, axis=0)
    of_item = np.concatenate([IDS[:, [4, 8, 9]], IDS[::-1, [4, 8, 9]]], axis=1)
    of_item = of_item.reshape(10, 3)
    shared = model.embed(IDS[:, [0, 1, 2, 3, 5, 6, 7]], users)
    own = model.embed(of_item, ["item", "tags"])
    is_own = [field["name"] not in users for field in FIELDS]
    found = model.logits_of_candidates(shared, own, is_own)
    rows = np.concatenate([of_user[:, :4], of_item[:, :1]], axis=1)
    rows = np.concatenate([rows, of_user[:, 4:], of_item[:, 1:]], axis=1)
    assert_close(found, model.logits(rows), rtol=1e-4, atol=1e-5)
    assert np.ptp(found) > 0.01


@pytest.mark.parametrize("case", ["din", "dien", "bst", "edcn, dien"])
def test_it_learns_in_both_precisions(case):
    for dtype in ("float32", "mixed_bfloat16"):
        keras.utils.set_random_seed(0)
        name, options = CASES[case]
        counts = {"unseen_rate": 0.0, "dropout": 0.0}
        model = make_model(
            SPEC, name, **{"embedding_dim": 4, **options, **counts}, dtype=dtype
        )
        model.compile(SparseAdam(1e-2, average_decay=0.9), "binary_crossentropy")
        losses = model.fit(IDS, LABELS, epochs=8, verbose=0).history["loss"]
        assert losses[-1] < losses[0]
        assert model(IDS).dtype == tf.float32


def test_config_and_weights_come_back(tmp_path):
    before = {}
    for number, case in enumerate(CASES):
        model = made(case)
        config = json.loads(json.dumps(model.get_config()))
        assert type(model).from_config(config).get_config() == config
        before[str(number)] = model(IDS).numpy()
        layer_check.save_for_reload(tmp_path, str(number), model, [IDS])
    after = layer_check.reload_all(tmp_path)
    for name, outputs in before.items():
        assert_close(after[name], outputs, rtol=1e-6, atol=1e-7)


def test_history_and_candidate_are_one_row_of_the_table():
    """One gather, one sparse gradient, and of that only the rows of the batch."""
    model = made("edcn, din", unseen_rate=0.0)
    model.compile(SparseAdam(0.1), "binary_crossentropy")
    before = model.embedding.table.numpy()
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(IDS[:1], training=True))
    gradient = tape.gradient(loss, model.embedding.table.value)
    assert isinstance(gradient, tf.IndexedSlices)
    assert len(gradient.indices) == IDS.shape[1]
    model.train_on_batch(IDS[:1], LABELS[:1])
    moved = np.flatnonzero((model.embedding.table.numpy() != before).any(axis=1))
    # User, history, candidate, time since, tag; padding stays.
    assert moved.tolist() == [1, 5, 7, 10, 13]


def test_mini_batch_aware_regularization_is_the_l2_of_the_embedding():
    """DIN, equation 6, where no value occurs twice in the batch."""
    counts = np.arange(16.0) + 1
    options = {"l2": 3.0, "unseen_rate": 0.0}
    model = make_model(SPEC, "din", embedding_dim=2, **options)
    model.row_counts = model.embedding.row_counts = counts
    model.build((None, 10))
    ids = np.array(
        [[1, 5, 0, 0, 7, 10, 0, 0, 13, 0], [2, 8, 9, 0, 6, 11, 12, 0, 14, 15]]
    )
    model(ids, training=True)
    table, expected = model.embedding.table.numpy().astype(np.float64), 0.0
    for row in np.unique(ids[ids > 0]):
        expected += np.sum(table[row] ** 2) / counts[row]
    assert_close(model.embedding.losses, [3.0 * expected / len(ids)])


def test_fields_of_unequal_width_pool_their_histories():
    widths = {"user": 3, "past": 2, "item": 2, "since": 4, "tags": 2}
    model = make_model(SPEC, "dcn", embedding_dim=widths)
    model.build((None, 10))
    layer_check.randomize(model)
    w = layer_check.named_weights(model)
    tables = {name: w[f"embedding/table_{width}"] for name, width in widths.items()}
    # Rows in the tables of 3 (user), 4 (since) and 2 (item, then tags).
    firsts = {"user": 1, "past": 5, "item": 5, "since": 10, "tags": 8}
    e, start = [], 0
    for field in FIELDS:
        name = field["name"]
        slots = IDS[:, start : start + field["slots"]]
        start += field["slots"]
        shift = {"user": 0, "past": 4, "item": 4, "since": 9, "tags": 7}[name]
        own = np.where(slots > 0, slots - shift, 0)
        assert firsts[name] - shift >= 1
        e.append(reference.pooled(tables[name], own, [field])[:, 0])
    expected = reference.parallel_logits(
        w, np.concatenate(e, axis=1), model.widths, model.get_config()
    )
    assert_close(model.logits(IDS), expected, rtol=1e-4, atol=2e-5)


@keras.saving.register_keras_serializable(package="test_history_models")
class Newest(HistoryLayer):
    """The newest item, whatever the candidate: a layer of one's own."""

    def call(self, history, candidate, mask, training=False):
        last = tf.reduce_sum(tf.cast(mask, tf.int32), axis=1) - 1
        return tf.gather(history, tf.maximum(last, 0), batch_dims=1)


def test_a_layer_of_ones_own():
    model = made("edcn", history=Newest())
    assert [type(layer) for layer in model.histories] == [Newest]
    config = json.loads(json.dumps(model.get_config()))
    assert type(model).from_config(config).get_config() == config
    others = IDS.copy()
    others[1, 1] = 5  # the oldest
    assert_close(model.logits(others), model.logits(IDS))
    others[1, 3] = 5
    assert np.abs(model.logits(others) - model.logits(IDS)).max() > 1e-4


@pytest.mark.parametrize(
    ("fields", "options", "message"),
    [
        (FIELDS[:1], {"history": "din"}, "needs a field of kind 'sequence'"),
        (FIELDS, {"history": "gru"}, "`history` must be one of"),
        (
            FIELDS,
            {"history": "din", "embedding_dim": [3, 2, 2, 2, 2]},
            "fields of one width",
        ),
        (FIELDS, {"history_units": [3]}, "`history_units` goes with history='din'"),
        (FIELDS, {"history": "din", "history_units": []}, "a list of whole numbers"),
        (FIELDS, {"history": "dien", "history_heads": 4}, "goes with history="),
        (FIELDS, {"history": "transformer", "history_heads": 0}, "at least 1"),
        (FIELDS, {"deep_activation": "gelu"}, "`deep_activation` must be one of"),
        (
            [{**FIELDS[1], "of": None}],
            {"history": "dien"},
            "is not `of` a field that could be one",
        ),
        (
            FIELDS,
            {"embedding_dim": {"user": 2, "past": 3, "item": 2, "since": 2, "tags": 2}},
            "both must have one width",
        ),
    ],
)
def test_options_that_cannot_be(fields, options, message):
    with pytest.raises((ValueError, InputError), match=message):
        make_model({"fields": fields, "num_rows": 16}, "edcn", **options)


def test_the_members_of_the_family_that_need_a_history():
    needing = [name for name, member in FAMILY.items() if member.needs_history]
    assert needing == ["din", "dien", "bst"]
