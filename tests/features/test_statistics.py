"""What was counted of keys, and what becomes of it: against plain NumPy."""

import itertools

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from edcn_tf.features.statistics import lookup
from edcn_tf.features.statistics.counter import (
    FINGERPRINTS,
    NO_KEY,
    Counter,
    keys_of_columns,
)
from edcn_tf.features.statistics.counts import Events, counts_at, counts_before
from edcn_tf.features.statistics.smoothing import learned_strengths, smoothed


@pytest.mark.parametrize("number", [0, 1, 2, 7, 1000, 50_000])
@pytest.mark.parametrize("small", [False, True])
def test_every_key_is_found_and_no_other(number, small):
    random = np.random.default_rng(number)
    keys = random.choice(2**62, 2 * number) if not small else np.arange(2 * number)
    salt = lookup.salt_of(3)
    keys = np.unique(lookup.mixed(random.permutation(np.unique(keys)), salt))
    random.shuffle(keys)
    there, absent = keys[: len(keys) // 2], keys[len(keys) // 2 :]
    counts = random.random((len(there), 2)).astype(np.float32)
    table = lookup._Table(there, counts)
    assert table.width < 16  # of buckets with a key or less on average
    asked = np.concatenate([there, absent, [NO_KEY, 0, lookup.LARGEST]])
    found = table(tf.constant(asked, tf.int64)).numpy()
    np.testing.assert_array_equal(found[: len(there)], counts)
    assert not found[len(there) :].any()


def test_keys_are_mixed_alike_in_numpy_and_in_tensorflow():
    keys = np.array([0, 1, 5, 2**40, 2**63 - 2], np.int64)
    for number in (0, 1, 77):
        salt = lookup.salt_of(number)
        mixed = lookup.mixed(keys, salt)
        np.testing.assert_array_equal(lookup.mixed(tf.constant(keys), salt), mixed)
        assert (mixed >= 0).all() and len(np.unique(mixed)) == len(keys)
        exact = [(int(key) ^ int(salt)) * lookup.SPREAD % 2**63 for key in keys]
        assert mixed.tolist() == exact


TEXTS = ["a", "b", "&", "\\", "a&b", "b\\&a", " ", "ü ☃", None]
NUMBERS = [5, -6, 0, 2**63 - 1, None]
LISTS = [["x", "y"], ["x", "x", "a&b"], [], ["y", None]]


@pytest.mark.parametrize(
    "of",
    [
        *(("text",), ("number",), ("list",), ("text", "number")),
        *(("list", "text"), ("number", "list", "text")),
    ],
)
@pytest.mark.parametrize("buckets", [None, 7])
def test_keys_of_columns_are_those_of_tensors(of, buckets):
    rows = list(itertools.product(TEXTS, NUMBERS, LISTS))
    texts, numbers, lists = zip(*rows)
    batch = pa.record_batch(
        {
            "text": pa.array(texts, pa.string()),
            "number": pa.array(numbers, pa.int64()),
            "list": pa.array(lists, pa.list_(pa.string())),
        }
    )
    features = {
        "text": tf.constant([text or "" for text in texts]),
        "number": tf.constant(
            [-(2**63) if n is None else n for n in numbers], tf.int64
        ),
        "list": tf.ragged.constant(
            [[value or "" for value in each] for each in lists], dtype=tf.string
        ),
    }
    counter = Counter(of, hash_buckets=buckets)
    of_rows, keys = keys_of_columns(batch, counter)
    hashes = lookup.hashes_of(of, features)
    at = np.arange(len(texts))
    if "list" in of:
        at = hashes["list"].value_rowids().numpy()
        hashes = {
            name: part.flat_values if name == "list" else tf.gather(part, at)
            for name, part in hashes.items()
        }
    keys_of = lookup._keys_together([of], hashes)
    salt = lookup.salt_of(2)
    found = lookup._in_table(keys_of, np.int64(buckets or FINGERPRINTS), salt)[:, 0]
    there = found.numpy() != NO_KEY
    assert at[there].tolist() == of_rows.tolist()
    np.testing.assert_array_equal(found[there], lookup.mixed(keys, salt))
    if buckets is None:
        seen = {}
        for row, key in zip(of_rows, keys):  # the same for the same combination alone
            if "list" not in of:
                values = tuple(rows[row][("text", "number").index(n)] for n in of)
                assert seen.setdefault(key, values) == values
    else:
        assert set(keys) == set(range(buckets)) or len(set(keys)) <= buckets


def by_loop(events, keys, times, half_life):
    found = []
    for key, time in zip(keys, times):
        total = np.zeros(2)
        for own, then, amounts in zip(*events):
            if own == key and then < time:
                age = 1 if half_life is None else 0.5 ** ((time - then) / half_life)
                total += amounts * age
        found.append(total)
    return np.array(found).reshape(-1, 2)


@pytest.mark.parametrize("half_life", [None, 3.0, 0.05])
@pytest.mark.parametrize("rows", [0, 1, 200])
def test_counts_before_are_those_of_a_loop(rows, half_life):
    random = np.random.default_rng(rows)
    clicked = random.integers(0, 2, rows)
    events = Events(
        random.integers(-1, 6, rows),
        random.integers(0, 30, rows) / 2,
        np.column_stack([clicked, np.ones(rows)]).astype(float),
    )
    keys, times = random.integers(-1, 8, 90), random.uniform(-1, 17, 90)
    found = counts_before(events, keys, times, half_life)
    wanted = by_loop(events, keys, times, half_life)
    if half_life is None:
        np.testing.assert_array_equal(found, wanted)
    else:
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-300)
    keys, counts = counts_at(events, 7.5, half_life)
    # Up to a time, that one included.
    wanted = by_loop(events, keys, np.full(len(keys), 7.5 + 1e-9), half_life)
    np.testing.assert_allclose(counts, wanted, rtol=1e-6)
    assert list(keys) == sorted(set(events.keys[events.times <= 7.5]))


def test_ageing_has_no_limit_of_time():
    """Weights that grew from the first event on would pass every float."""
    times = np.arange(5000.0)
    events = Events(np.zeros(5000, int), times, np.ones((5000, 2)))
    found = counts_before(events, np.zeros(1, int), np.array([5000.0]), 0.5)
    assert found[0, 0] == pytest.approx(0.25 / (1 - 0.25))


def test_weights_of_other_keys_round_nothing_away():
    """A key whose rows all clicked would have more clicks than impressions."""
    random = np.random.default_rng(4)
    keys, times = random.integers(0, 20, 3000), random.random(3000)
    weights = np.where(keys < 10, 1e9, 1e-3) * random.random(3000)
    amounts = np.column_stack([weights * (keys % 3 == 0), weights])
    events = Events(keys, times, amounts)
    found = counts_before(events, keys, times)
    assert (found[:, 0] <= found[:, 1]).all()
    for row in range(0, 3000, 50):
        before = (keys == keys[row]) & (times < times[row])
        right = amounts[before].sum(axis=0)
        np.testing.assert_allclose(found[row], right, rtol=1e-12, atol=0)


def test_smoothing_by_hand():
    # Of three fields, of two, of the first alone.
    counts = np.array([[[1, 2], [3, 10], [20, 100]], [[0, 0], [0, 0], [0, 0]]])
    first = (20 + 5 * 0.1) / 105
    second = (3 + 4 * first) / 14
    third = (1 + 3 * second) / 5
    found = smoothed(counts, 0.1, (3.0, 4.0, 5.0))
    np.testing.assert_allclose(found, [third, 0.1])
    # With at least 3 impressions the first level has none.
    np.testing.assert_allclose(smoothed(counts, 0.1, (3.0, 4.0, 5.0), 3)[0], second)


def test_strengths_are_learned_from_what_they_predict():
    random = np.random.default_rng(0)
    # Rates that differ much between keys need little smoothing, equal ones much.
    for spread, low, high in ((1.0, 0.5, 5.0), (200.0, 50.0, 500.0)):
        rates = random.beta(spread * 0.3, spread * 0.7, 2000).repeat(10)
        shown = random.integers(0, 40, len(rates))
        clicks = random.binomial(shown, rates)
        labels = random.random(len(rates)) < rates
        counts = np.column_stack([clicks, shown])[:, np.newaxis]
        [strength] = learned_strengths(counts, labels.astype(int), 0.3)
        assert low <= strength <= high


def test_strengths_of_nothing():
    assert len(learned_strengths(np.zeros((0, 2, 2)), np.zeros(0), 0.3)) == 2
    nothing = np.zeros((3, 1, 2)), np.zeros(3), 0.3, 1, np.zeros(3)
    assert len(learned_strengths(*nothing)) == 1
