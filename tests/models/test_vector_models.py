"""Models of data with vectors, against the float64 reference; and what they learn."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from edcn_tf import SparseAdam, make_model
from edcn_tf.evaluation.metrics import auc
from edcn_tf.models.flops import count_flops, unknown_operations
from edcn_tf.models.widths import widths
from helpers import layer_check, reference
from helpers.layer_check import assert_close
from helpers.vectors import projected, slots_of

FIELDS = [
    {"name": "user", "slots": 1, "rows": 4, "pooling": "mean", "unseen": 2},
    {"name": "image", "slots": 6, "rows": 2, "pooling": "mean", "vector": 6},
    {"name": "tags", "slots": 2, "rows": 3, "pooling": "mean"},
    {"name": "text", "slots": 3, "rows": 2, "pooling": "mean", "vector": 11},
]
SPEC = {"fields": FIELDS, "num_rows": 12}
ROWS = 6
RANDOM = np.random.default_rng(4)
USERS = RANDOM.integers(1, 5, (ROWS, 1))
TAGS = np.array([[7, 0], [8, 9], [7, 7], [9, 8], [0, 0], [7, 9]])
IMAGES = np.array([6, 6, 5, 6, 6, 5]), RANDOM.normal(size=(ROWS, 5))
TEXTS = np.array([11, 10, 11, 11, 11, 11]), RANDOM.normal(size=(ROWS, 2))
for ids, numbers in (IMAGES, TEXTS):
    numbers[np.isin(ids, (5, 10))] = 0
IDS = np.concatenate([USERS, slots_of(*IMAGES), TAGS, slots_of(*TEXTS)], 1)
IDS = IDS.astype(np.int32)
PARTS = {"user": USERS, "image": IMAGES, "tags": TAGS, "text": TEXTS}
LABELS = np.array([[1.0], [0.0], [0.0], [1.0], [0.0], [1.0]])


def made(name, **options):
    options = {"embedding_dim": 3, **options}
    options = {key: value for key, value in options.items() if value is not None}
    model = make_model(SPEC, name, **options)
    model.build((None, IDS.shape[1]))
    layer_check.randomize(model, scale=0.6)
    return model


def embedded(weights, layer):
    """`[B, F, D]` of an embedding layer of one width."""
    own = reference.part(weights, layer)
    columns = []
    for field in FIELDS:
        ids = PARTS[field["name"]]
        if "vector" in field:
            kernel = own[f"projection_{field['name']}"]
            columns.append(projected(own["table"], kernel, ids[0], np.float32(ids[1])))
        else:
            columns.append(reference.pooled(own["table"], ids, [field])[:, 0])
    return np.stack(columns, axis=1)


def expected_logits(model, weights):
    fields = embedded(weights, "embedding")
    if "bias" in weights:  # of logistic regression
        return fields.sum(axis=1) + weights["bias"]
    linear = None
    if model.linear is not None:
        linear = embedded(weights, "linear")[:, :, 0]
    options = model.get_config()
    if isinstance(options["deep_units"], tuple):
        options["deep_units"] = list(options["deep_units"])
    flat = fields.reshape(ROWS, -1)
    return reference.parallel_logits(weights, flat, model.widths, options, linear)


MEMBERS = {
    **{name: {} for name in ("edcn", "deepfm", "fm", "xdeepfm", "dcn_v2", "pnn")},
    "autoint": {"embedding_dim": 4},
    "logistic_regression": {"embedding_dim": None},
}


@pytest.fixture(params=MEMBERS)
def model(request):
    return made(request.param, **MEMBERS[request.param])


def test_logits_equal_the_formula(model):
    expected = expected_logits(model, layer_check.named_weights(model))
    assert np.ptp(expected) > 0.01
    assert_close(model.logits(IDS), expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("name", ["edcn", "deepfm", "logistic_regression"])
def test_gradients_of_projections_equal_finite_differences(name):
    model = made(name, **MEMBERS[name])
    weights = layer_check.named_weights(model)
    with tf.GradientTape() as tape:
        logits = model.logits(IDS)
        losses = tf.nn.sigmoid_cross_entropy_with_logits(np.float32(LABELS), logits)
        loss = tf.reduce_mean(losses)
    names = {
        f"{embedding.name}/projection_{field}": projection.value
        for embedding in model.embeddings
        for field, projection in embedding.projections.items()
    }
    assert len(names) == 2 * len(model.embeddings)
    for name, gradient in zip(names, tape.gradient(loss, list(names.values()))):
        numeric = reference.numeric_gradient(
            lambda: reference.log_loss(LABELS, expected_logits(model, weights)),
            weights[name],
        )
        assert numeric.any()
        np.testing.assert_allclose(gradient, numeric, rtol=2e-3, atol=2e-5)


@pytest.mark.parametrize(
    ("name", "embedding_dim"),
    [
        *(("edcn", 3), ("edcn", [2, 4, 2, 3]), ("deepfm", 3)),
        *(("dcn_v2_stacked", 3), ("dcn_v2_stacked", [2, 4, 2, 3])),
    ],
)
def test_ranking_equals_scoring_the_rows(name, embedding_dim):
    """A vector of the user, one of the candidate."""
    model = made(name, embedding_dim=embedding_dim)
    is_own, parts = [False, True, True, False], np.split(IDS, [1, 7, 9], axis=1)
    users = np.concatenate([parts[0], parts[3]], 1)[:2]
    items = np.concatenate([parts[1], parts[2]], 1)
    logits = model.logits_of_candidates(
        model.embed(users, ["user", "text"]),
        model.embed(items, ["image", "tags"]),
        is_own,
    )
    of = [0, 0, 0, 1, 1, 1]  # each of the two users has three of the six items
    rows = np.concatenate([users[of, :1], items, users[of, 1:]], axis=1)
    assert_close(logits, model.logits(rows), rtol=1e-4, atol=1e-5)


def test_a_model_that_is_saved_scores_alike(tmp_path):
    model = made("deepfm", l2=1.0)
    model.save(tmp_path / "model.keras")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of Keras, for weights that it passes over
        loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(IDS), model(IDS))
    assert loaded.get_config()["spec"] == SPEC
    names = [weight.path.split("/", 1)[1] for weight in loaded.weights]
    assert sum("projection_" in name for name in names) == 4


def test_widths_by_the_number_of_numbers():
    fields = [{**FIELDS[1], "slots": 1 + length} for length in (1, 16, 128, 10_000)]
    assert widths("auto", fields) == [8, 12, 20, 60]


def test_operations_of_a_projection_are_counted():
    with_vectors = make_model(SPEC, "edcn", embedding_dim=3)
    without = [
        {key: value for key, value in field.items() if key != "vector"}
        | ({"slots": 1} if "vector" in field else {})
        for field in FIELDS
    ]
    plain = make_model({**SPEC, "fields": without}, "edcn", embedding_dim=3)
    more = count_flops(with_vectors)["embedding"] - count_flops(plain)["embedding"]
    # Products, a division and an addition for each component, of 5 and 2 numbers.
    assert more == 2 * 3 * (5 + 2) + 2 * (3 + 3)
    assert unknown_operations(with_vectors) == []


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("name", ["edcn", "deepfm", "logistic_regression"])
def test_learns_what_a_vector_alone_tells(name, mixed):
    random = np.random.default_rng(0)
    numbers = random.normal(size=(2000, 5))
    ids = np.concatenate(
        [
            random.integers(1, 5, (2000, 1)),
            slots_of(np.full(2000, 6), numbers),
            random.integers(7, 10, (2000, 2)),
            slots_of(np.full(2000, 10), np.zeros((2000, 2))),
        ],
        axis=1,
    )
    labels = (random.random(2000) < reference.sigmoid(2 * numbers[:, 0])) * 1.0
    options = {} if name == "logistic_regression" else {"l2": 1.0}
    dtype = "mixed_bfloat16" if mixed else "float32"
    keras.utils.set_random_seed(1)
    model = make_model(SPEC, name, dtype=dtype, **options)
    model.compile(SparseAdam(1e-2), "binary_crossentropy")
    model.fit(ids[:1500], labels[:1500], batch_size=64, epochs=3, verbose=0)
    scores = model.predict(ids[1500:], verbose=0)[:, 0]
    best = auc(labels[1500:], numbers[1500:, 0])
    assert auc(labels[1500:], scores) > best - 0.03 > 0.8
