"""A vocabulary that goes on from that of the days before."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
import tensorflow as tf

from edcn import main
from edcn_tf import FeatureSpec, InputError, Schema, prepare
from edcn_tf.features.growth import Growth
from edcn_tf.features.hashing import hash_bucket

FIELDS = [
    {"name": "user", "min_count": 2},
    {"name": "price", "kind": "numeric", "buckets": 3},
    {"name": "device", "hash_buckets": 4},
]


def log(path, users, prices=None, **columns):
    """A CSV log; the last row is for validation."""
    rows = len(users)
    table = {"user": users, "price": prices or [float(i % 6) for i in range(rows)]}
    table["device"] = [f"d{i % 5}" for i in range(rows)]
    table["click"] = [i % 2 for i in range(rows)]
    pa.csv.write_csv(pa.table({**table, **columns}), path)
    return path


def prepared(folder, name, users, fields=FIELDS, prices=None, **options):
    """The FeatureSpec of a day all of whose rows train."""
    path = log(folder / f"{name}.csv", users, prices)
    schema = Schema.from_dict({"label": "click", "fields": fields})
    summary = prepare({"train": [path]}, schema, folder / name, **options)
    return FeatureSpec.load(folder / name / "features"), summary


def lines(path):
    return path.read_text().split("\n")[:-1]


@pytest.fixture
def first(tmp_path):
    users = ["a"] * 4 + ["b"] * 3 + ["c"] * 2 + ["rare", None]
    return prepared(tmp_path, "day1", users)[0]


def test_the_first_day_is_what_it_was(first):
    [user, *_] = first.fields
    assert lines(user.vocabulary) == ["a", "b", "c"]
    assert lines(user.counts) == ["1", "1", "4", "3", "2"]
    assert (first.day, user.last_seen) == (1, None)
    np.testing.assert_array_equal(user.days_last_seen(), [1, 1, 1])
    stored = json.loads((first.directory / "features.json").read_text())
    assert "day" not in stored and not (first.directory / "last_seen").exists()


def test_two_days_by_hand(tmp_path, first):
    """b comes once, which is enough to stay; d is new, once is not enough for it."""
    users = ["c"] * 5 + ["d"] * 3 + ["b", "once", None, None]
    spec, summary = prepared(tmp_path, "day2", users, vocabulary_of=tmp_path / "day1")
    [user, price, device] = spec.fields
    assert spec.day == 2
    # c 2 + 5, a 4, b 3 + 1, d 3: the most frequent first, equal ones by their bytes.
    assert lines(user.vocabulary) == ["c", "a", "b", "d"]
    assert lines(user.last_seen) == ["2", "1", "2", "2"]
    # Missing 1 + 2, unseen 1 ("rare") + 1 ("once").
    assert lines(user.counts) == ["3", "2", "7", "4", "4", "3"]
    assert price.boundaries == first.fields[1].boundaries
    for before, now, values in [
        (first.fields[1], price, 6),
        (first.fields[2], device, 5),
    ]:
        counts = [i % values for i in range(len(users))]
        if values == 6:
            places = np.searchsorted(price.boundaries, counts, side="right")
        else:
            places = hash_bucket(tf.constant([f"d{i}" for i in counts]), 4).numpy()
        today = np.bincount(1 + np.array(places), minlength=now.rows)
        np.testing.assert_array_equal(now.row_counts(), before.row_counts() + today)
    # The summary is of this day alone.
    [told, *_] = summary["fields"]
    assert told == {
        "name": "user",
        "rows": 6,
        "values": 4,
        "missing": round(2 / 12, 4),
        "unseen": round(1 / 12, 4),
        "new": 1,
        "forgotten": 0,
    }
    assert (summary["day"], summary["vocabulary_of"]) == (2, str(tmp_path / "day1"))


@pytest.mark.parametrize(
    ("days", "kept"), [(1, ["d"]), (2, ["a", "b", "d"]), (3, ["a", "b", "c", "d"])]
)
def test_what_is_forgotten(tmp_path, first, days, kept):
    """a and b were last seen on day 2, c on day 1, d on day 3."""
    prepared(tmp_path, "day2", ["a", "b", "a"], vocabulary_of=tmp_path / "day1")
    spec, summary = prepared(
        tmp_path,
        "day3",
        ["d", "d", "x"],
        vocabulary_of=tmp_path / "day2",
        forget_after=days,
    )
    assert sorted(lines(spec.fields[0].vocabulary)) == kept
    assert summary["fields"][0]["forgotten"] == 4 - len(kept)
    assert summary["fields"][0]["new"] == 1
    # What a forgotten value had is forgotten, too: nothing moves to the unseen ones.
    assert lines(spec.fields[0].counts)[1] == "2"  # "rare" and "x"


def test_a_value_that_was_forgotten_is_new_again(tmp_path, first):
    prepared(
        tmp_path, "day2", ["d", "d"], vocabulary_of=tmp_path / "day1", forget_after=1
    )
    spec, _ = prepared(
        tmp_path, "day3", ["a", "b", "b"], vocabulary_of=tmp_path / "day2"
    )
    assert sorted(lines(spec.fields[0].vocabulary)) == ["b", "d"]


def test_the_largest_vocabulary_keeps_its_size(tmp_path, first):
    """Those with the highest counts of all days; what is too much today is unseen."""
    fields = [{**FIELDS[0], "max_size": 2}, *FIELDS[1:]]
    spec, _ = prepared(
        tmp_path,
        "day2",
        ["c"] * 3 + ["b", "d", "d"],
        fields,
        vocabulary_of=tmp_path / "day1",
    )
    assert lines(spec.fields[0].vocabulary) == ["c", "a"]
    assert lines(spec.fields[0].counts) == ["1", "4", "5", "4"]


def test_ranges_can_be_fitted_anew(tmp_path, first):
    prices = [100.0 + i for i in range(9)]
    kept, _ = prepared(
        tmp_path, "kept", ["a"] * 9, FIELDS, prices, vocabulary_of=tmp_path / "day1"
    )
    anew, _ = prepared(
        tmp_path,
        "anew",
        ["a"] * 9,
        FIELDS,
        prices,
        vocabulary_of=tmp_path / "day1",
        refit=["price"],
    )
    assert kept.fields[1].boundaries == first.fields[1].boundaries
    assert anew.fields[1].boundaries == (103.0, 106.0)
    assert lines(anew.fields[1].counts) == ["0", "3", "3", "3"]


def test_fields_come_and_go(tmp_path, first):
    fields = [FIELDS[0], FIELDS[2], {"name": "click2", "dtype": "int64"}]
    path = log(tmp_path / "2.csv", ["a", "a"], click2=[7, 7])
    schema = Schema.from_dict({"label": "click", "fields": fields})
    prepare(
        {"train": [path]}, schema, tmp_path / "day2", vocabulary_of=tmp_path / "day1"
    )
    spec = FeatureSpec.load(tmp_path / "day2/features")
    assert [own.field.name for own in spec.fields] == ["user", "device", "click2"]
    assert lines(spec.fields[2].last_seen) == ["2"]
    assert lines(spec.fields[0].vocabulary)[0] == "a"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"fields": [{"name": "user", "hash_buckets": 4}]}, "`hash_buckets` was None"),
        ({"fields": [{"name": "user", "dtype": "int64"}]}, "`dtype` was 'string'"),
        ({"fields": [{"name": "user", "kind": "numeric"}]}, "'user'.*`kind` was"),
        ({"fields": [{"name": "user", "unseen_rows": 2}]}, "`unseen_rows` was 1"),
        ({"fields": [{"name": "device", "hash_buckets": 5}]}, "was 4, which"),
        ({"fields": FIELDS[::-1]}, "must stay in their order.*'user', 'price'"),
        (
            {"fields": [{"name": "price", "kind": "numeric", "buckets": 4}]},
            "keeps its 3 ranges by quantile.*--refit price.*4 by quantile",
        ),
        ({"refit": ["user"]}, r"Only numeric fields.*\['price'\].*'user'"),
        ({"forget_after": 0}, "at least 1. Received: 0"),
        ({"vocabulary_of": "nowhere"}, "nowhere/features/features.json: No such"),
        ({"vocabulary_of": None, "forget_after": 2}, "needs an earlier vocabulary"),
    ],
)
def test_what_cannot_be_gone_on_with(tmp_path, first, changes, expected):
    options = {"vocabulary_of": tmp_path / "day1", "fields": FIELDS, **changes}
    with pytest.raises(InputError, match=expected) as caught:
        prepared(tmp_path, "day2", ["a"], **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "day2").exists()


def test_a_list_of_days_that_was_cut_short(tmp_path, first):
    prepared(tmp_path, "day2", ["a"], vocabulary_of=tmp_path / "day1")
    path = tmp_path / "day2/features/last_seen/000-user.txt"
    path.write_text("2\n")
    with pytest.raises(InputError, match="000-user.txt: must have as many lines"):
        FeatureSpec.load(tmp_path / "day2/features")


def test_values_are_read_as_they_are(tmp_path):
    values = ['say "hi"', "東", " x ", "7", "a,b\tc", "\\N"]
    spec, _ = prepared(tmp_path, "day1", values * 2)
    assert sorted(spec.fields[0].values().to_pylist()) == sorted(values)
    fields = [{"name": "n", "dtype": "int64", "min_count": 1}]
    path = log(tmp_path / "n.csv", ["a"] * 3, n=[-7, 2**63 - 1, 0])
    schema = Schema.from_dict({"label": "click", "fields": fields})
    prepare({"train": [path]}, schema, tmp_path / "n")
    own = FeatureSpec.load(tmp_path / "n/features").fields[0]
    assert sorted(own.values().to_pylist()) == [-7, 0, 2**63 - 1]
    assert Growth(tmp_path / "n").new_and_forgotten(own) == (0, 0)


def test_a_pipeline_makes_the_same(tmp_path, first):
    made = [
        prepared(
            tmp_path,
            name,
            ["b", "d", "d", "e"],
            vocabulary_of=tmp_path / "day1",
            **options,
        )
        for name, options in [("one", {}), ("many", {"runner": "DirectRunner"})]
    ]
    assert made[0][1] | {"logs": None} == made[1][1] | {"logs": None}
    for path in (tmp_path / "one/features").rglob("*.txt"):
        same = tmp_path / "many/features" / path.relative_to(tmp_path / "one/features")
        assert path.read_bytes() == same.read_bytes()


def test_the_command(tmp_path, first, capsys):
    path = log(tmp_path / "next.csv", ["d"] * 40)
    arguments = ["prepare", path, "--out", tmp_path / "day2", "--forget-after", 1]
    arguments += ["--vocabulary-of", tmp_path / "day1"]
    assert main([str(argument) for argument in arguments]) == 0
    out = capsys.readouterr().out
    [user] = [line for line in out.splitlines() if line.startswith("user")]
    assert user.split() == ["user", "1", "0.00%", "0.00%", "1", "3"]
    assert "--warm-start RUN" in out


def test_a_history_of_values_none_of_which_had_a_row(tmp_path):
    history = {"name": "history", "kind": "sequence", "of": "user", "max_length": 2}
    fields = [{"name": "user", "min_count": 3}, history]
    schema = Schema.from_dict({"label": "click", "fields": fields})
    for day, users in enumerate((["a", "b", "a"], ["a", "b", "a", "a"]), 1):
        table = {
            "user": users,
            "history": ["a|b"] * len(users),
            "click": [0] * len(users),
        }
        pa.csv.write_csv(pa.table(table), tmp_path / f"{day}.csv")
        earlier = {"vocabulary_of": tmp_path / "1"} if day > 1 else {}
        prepare(
            {"train": [tmp_path / f"{day}.csv"]}, schema, tmp_path / f"{day}", **earlier
        )
    user, history = FeatureSpec.load(tmp_path / "2" / "features").fields
    assert lines(user.vocabulary) == ["a"]
    # Missing, unseen (six of the first day, four b of the second) and a.
    assert lines(history.counts) == ["0", "10", "4"]
