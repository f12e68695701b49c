"""Which bins values are counted in, and the training split's counts."""

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

import edcn_tf
from edcn_tf.drift import bins as bins_module
from edcn_tf.drift.bins import REST, bins_of, merged
from edcn_tf.features.writing import FeatureCounter

FIELDS = [
    {"name": "item", "min_count": 2},
    {"name": "site", "unseen_rows": 3, "min_count": 1},
    {"name": "device", "hash_buckets": 4},
    {"name": "price", "kind": "numeric", "buckets": 4},
    {"name": "tags", "multiple": True, "max_length": 2},
    {"name": "image", "kind": "numeric", "length": 3},
    {"name": "pair", "kind": "cross", "of": ["item", "site"]},
]


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    """A FeatureSpec of 400 rows."""
    schema = edcn_tf.Schema.from_dict({"label": "click", "fields": FIELDS})
    number = np.arange(400)
    # a 200 times, b 100, c 60, then 10 values twice, 18 once; two are missing.
    item = ["a"] * 200 + ["b"] * 100 + ["c"] * 60
    item += [f"two{i // 2}" for i in range(20)] + [f"one{i}" for i in range(18)]
    item += [None] * 2
    image = pa.array([[1.0, 2.0, 3.0], []] * 200, pa.list_(pa.float32()))
    batch = pa.RecordBatch.from_pydict(
        {
            "item": item,
            "site": ["s"] * 400,
            "device": [f"d{i % 2}" for i in range(400)],
            "price": pa.array(number % 4, pa.float32()),
            "tags": [["x", "y", "z"]] * 300 + [[]] * 100,
            "image": image,
        }
    )
    counter = FeatureCounter(schema)
    counter.add(batch)
    return counter.write(tmp_path_factory.mktemp("features") / "features")


@pytest.fixture
def bins(spec):
    found, _ = bins_of(spec)
    return {each.name: each for each in found}


def test_frequent_values_have_bins_and_the_others_are_the_rest(bins):
    item = bins["item"]
    assert item.labels == ["a", "b", "c", REST]
    # The rows: missing, unseen, a, b, c, and those of values seen twice.
    assert item.place.tolist() == [0, 1, 2, 3, 4] + [5] * 10
    assert item.slots == slice(0, 1) and item.has_unseen and not item.is_ordered


def test_values_seen_no_more_than_min_count_times_count_as_unseen(bins):
    """18 are unseen; of one row less so would be the 20 of values seen twice."""
    assert bins["item"].counts.tolist() == [2, 38, 200, 100, 60, 0]
    assert bins["site"].counts.tolist() == [0, 0, 400]
    assert bins["pair"].counts.tolist() == [2, 38, 200, 100, 60, 0]


def test_the_estimate_of_unseen_values_is_that_of_another_sample(random, tmp_path):
    """Zipf's law: how many values of another day training has not seen twice."""
    schema = {"label": "click", "fields": [{"name": "item"}]}
    values = random.zipf(1.4, 40_000).astype(str)
    train, day = values[:20_000], values[20_000:]
    counter = FeatureCounter(edcn_tf.Schema.from_dict(schema))
    counter.add(pa.RecordBatch.from_pydict({"item": train}))
    spec = counter.write(tmp_path / "features")
    [bins], _ = bins_of(spec)
    expected = bins.counts[1] / bins.counts.sum()
    known = spec.fields[0].values().to_pylist()
    found = np.mean(~np.isin(day, known))
    assert found == pytest.approx(expected, rel=0.05)
    in_training = spec.fields[0].row_counts()[1] / 20_000
    assert found > 1.2 * in_training


def test_ranges_and_hash_buckets(bins):
    price, device = bins["price"], bins["device"]
    assert price.labels == ["[-inf, 1)", "[1, 2)", "[2, 3)", "[3, inf)"]
    assert price.counts.tolist() == [0, 0, 100, 100, 100, 100]
    assert price.is_ordered and not price.has_unseen
    assert not device.has_unseen
    assert device.counts.sum() == 400
    assert len(device.labels) == 3 and device.labels[-1] == REST


def test_numbers_count_as_the_sample_that_ranges_were_taken_of(spec, monkeypatch):
    monkeypatch.setattr(bins_module, "SAMPLE_SIZE", 100)
    found, _ = bins_of(spec)
    assert {each.name: each.drawn for each in found if each.drawn < 1} == {
        "price": 0.25
    }


def test_a_vector_is_there_or_not(spec, bins):
    image = bins["image"]
    assert image.slots == slice(6, 7)
    assert image.counts.tolist() == [200, 0, 200]
    assert list(bins_of(spec)[1]) == ["image"]


def test_lists_and_sampled_rows_are_compared_with_the_validation_split(spec, bins):
    """Training counts a list's values after the longest that is used, too."""
    assert bins["tags"].counts is None
    assert bins["tags"].slots == slice(4, 6)
    sampled, _ = bins_of(spec, sampled=True)
    assert all(each.counts is None for each in sampled)


def test_days_that_went_on_are_compared_with_the_validation_split(tmp_path):
    """Their counts are of all days: of the second, in which all is new, a fifth."""
    schema = {"label": "click", "fields": [{"name": "item"}]}
    schema = edcn_tf.Schema.from_dict(schema)
    days = {"first": (["a"] * 400, {}), "second": (["b"] * 100, {"vocabulary_of": 1})}
    for name, (items, options) in days.items():
        log = pa.table({"item": items, "click": [0, 1] * (len(items) // 2)})
        pa.csv.write_csv(log, tmp_path / f"{name}.csv")
        options = {key: tmp_path / "first" for key in options}
        files = {"train": [tmp_path / f"{name}.csv"]}
        edcn_tf.prepare(files, schema, tmp_path / name, **options)
    found = {}
    for name in days:
        spec = edcn_tf.FeatureSpec.load(tmp_path / name / "features")
        [found[name]], _ = bins_of(spec)
    assert found["first"].counts.tolist() == [0, 0, 400]
    assert found["second"].labels == ["a", "b"]
    assert found["second"].counts is None


@pytest.mark.parametrize(
    "reference, rows, is_ordered, expected",
    [
        ([40, 30, 30], 100, False, [0, 1, 2]),
        ([40, 2, 55, 3], 100, False, [0, 2, 1, 2]),  # the small ones together
        ([40, 2, 58], 100, False, [0, 0, 1]),  # too few: with the smallest
        ([40, 30, 30], 12, False, [0, 0, 0]),
        ([40, 2, 2, 4, 50, 2], 100, True, [0, 1, 1, 1, 2, 2]),
        ([1, 1, 1], 100, True, [0, 0, 0]),
        ([400, 20, 20, 40, 500, 20], 100, True, [0, 1, 1, 1, 2, 2]),
        ([40, 60], 0, True, [0, 0]),
    ],
)
def test_small_bins_go_together(reference, rows, is_ordered, expected):
    found = merged(np.array(reference, float), rows, is_ordered)
    assert found.tolist() == expected
