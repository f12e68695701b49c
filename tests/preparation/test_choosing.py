"""`prepare(..., statistics="auto")`: what is added to a schema, and what is not."""

import dataclasses
import itertools
import json

import numpy as np
import pytest

import edcn
from edcn_tf import prepare
from edcn_tf.directories import PreparedData
from edcn_tf.errors import InputError
from edcn_tf.features.spec import FeatureSpec
from edcn_tf.features.statistics.counts import Events, counts_at, counts_before
from edcn_tf.field import Field
from edcn_tf.files import read_json
from edcn_tf.preparation.choosing import candidates, gains, greedy, rows
from edcn_tf.preparation.choosing.baseline import baseline_logits
from edcn_tf.schema import Schema

NAMES = ("a", "b", "c")
SCHEMA = Schema(label="click", fields=tuple(Field(name=name) for name in NAMES))
DAY = 86_400
START = 1_600_000_000


def write(path, columns):
    names = list(columns)
    lines = [",".join(names)]
    lines += [",".join(map(str, row)) for row in zip(*columns.values())]
    path.write_text("\n".join(lines) + "\n")
    return path


def drawn(seed, count, sizes):
    """Fields of so many values each, and what draws labels."""
    random = np.random.default_rng(seed)
    columns = {
        name: random.integers(0, size, count) for name, size in zip(NAMES, sizes)
    }
    return columns, random


def of_logits(logits, random):
    return (random.random(len(logits)) < 1 / (1 + np.exp(-logits))).astype(int)


def pair_log(path, count=12_000, seed=0):
    """Labels that hang on the pair (a, b) alone, each with an effect of its own."""
    columns, random = drawn(seed, count, (60, 40, 5))
    effects = random.normal(0, 2, (60, 40))
    columns["click"] = of_logits(effects[columns["a"], columns["b"]], random)
    return write(path, columns)


def added(directory):
    return read_json(PreparedData(directory).statistics)["added"]


def test_a_pair_that_the_label_hangs_on_is_taken(tmp_path, capsys):
    log = pair_log(tmp_path / "log.csv")
    summary = prepare(log, SCHEMA, tmp_path / "data", statistics="auto")
    told = capsys.readouterr().out
    (field,) = added(tmp_path / "data")
    assert set(field["of"]) == {"a", "b"}
    assert summary["added"] == [field["name"]]
    assert f"taken as {field['name']}" in told and "Nothing more was taken" in told
    spec = FeatureSpec.load(PreparedData(tmp_path / "data").features)
    assert [f.name for f in spec.schema.fields] == [*NAMES, field["name"]]
    stored = read_json(PreparedData(tmp_path / "data").statistics)
    gain = next(g for g in stored["rounds"][0]["gains"] if set(g["of"]) == {"a", "b"})
    assert gain["gain"] > 10 * gain["error"] > 0


@pytest.mark.parametrize("seed", range(6))
def test_nothing_is_taken_where_labels_are_drawn_by_chance(tmp_path, seed, capsys):
    columns, random = drawn(seed, 6000, (900, 60, 7))
    columns["click"] = (random.random(6000) < (0.5, 0.05)[seed % 2]).astype(int)
    log = write(tmp_path / "log.csv", columns)
    summary = prepare(log, SCHEMA, tmp_path / "data", seed=seed, statistics="auto")
    assert summary["added"] == [] == added(tmp_path / "data")
    assert "Nothing was taken: it must add" in capsys.readouterr().out


@pytest.mark.parametrize("protocol", ["frozen", "running"])
@pytest.mark.parametrize("seed", range(2))
def test_nothing_is_taken_where_only_the_rate_of_all_drifts(tmp_path, seed, protocol):
    columns, random = drawn(seed, 6000, (300, 60, 7))
    columns["time"] = START + np.sort(random.integers(0, 40 * DAY, 6000))
    columns["click"] = of_logits(np.linspace(-2, 1, 6000), random)
    log = write(tmp_path / "log.csv", columns)
    schema = dataclasses.replace(SCHEMA, timestamp="time")
    options = {"split_by": "time", "protocol": protocol, "statistics": "auto"}
    assert prepare(log, schema, tmp_path / "data", **options)["added"] == []


def test_a_cross_needs_rows_of_its_combinations(tmp_path):
    """A model would learn those of a few by heart; it can look up their rates."""
    for name, count, kind in (("few", 12_000, "statistic"), ("many", 90_000, "cross")):
        sizes = (60, 40, 5) if name == "few" else (30, 30, 5)
        columns, random = drawn(0, count, sizes)
        effects = random.normal(0, 2, sizes[:2])
        columns["click"] = of_logits(effects[columns["a"], columns["b"]], random)
        log = write(tmp_path / f"{name}.csv", columns)
        prepare(log, SCHEMA, tmp_path / name, statistics="auto")
        stored = read_json(PreparedData(tmp_path / name).statistics)
        gains_of = stored["rounds"][0]["gains"]
        tried = {gain["kind"] for gain in gains_of if {*gain["of"]} == {"a", "b"}}
        assert ("cross" in tried) == (kind == "cross")
        assert stored["added"][0]["kind"] == kind


def test_a_cross_of_three_comes_after_that_of_two(tmp_path):
    columns, random = drawn(3, 30_000, (12, 12, 8))
    pairs = random.normal(0, 1.5, (12, 12))
    triples = random.normal(0, 2, (12, 12, 8))
    a, b, c = columns.values()
    columns["click"] = of_logits(pairs[a, b] + triples[a, b, c], random)
    log = write(tmp_path / "log.csv", columns)
    prepare(log, SCHEMA, tmp_path / "data", statistics="auto")
    of = [set(field["of"]) for field in added(tmp_path / "data")]
    assert {"a", "b"} in of
    assert set(NAMES) in of[of.index({"a", "b"}) :]


def drifting_log(path):
    """Values of `a` that come and go in ten days, each with a rate of its own."""
    random = np.random.default_rng(4)
    count = 12_000
    times = np.sort(random.integers(0, 100 * DAY, count))
    values = times // (10 * DAY) * 30 + random.integers(0, 30, count)
    effects = random.normal(0, 1.5, 400)
    columns = {
        "a": values,
        "b": random.integers(0, 5, count),
        "c": random.integers(0, 9, count),
        "time": START + times,
        "click": of_logits(effects[values], random),
    }
    return write(path, columns)


def test_running_counts_are_taken_where_values_come_and_go(tmp_path):
    log = drifting_log(tmp_path / "log.csv")
    schema = dataclasses.replace(SCHEMA, timestamp="time")
    options = {"split_by": "time", "protocol": "running", "statistics": "auto"}
    prepare(log, schema, tmp_path / "data", **options)
    (field,) = added(tmp_path / "data")
    assert (field["name"], field["kind"], field["of"]) == ("a_rate", "statistic", ["a"])


def test_running_counts_of_rows_split_by_chance_go_by_time(tmp_path):
    log = drifting_log(tmp_path / "log.csv")
    schema = dataclasses.replace(SCHEMA, timestamp="time")
    summary = prepare(
        log, schema, tmp_path / "data", protocol="running", statistics="auto"
    )
    fields = added(tmp_path / "data")
    assert read_json(PreparedData(tmp_path / "data").statistics)["order"] == "time"
    assert [field["name"] for field in fields] == summary["added"]
    assert all(f["delay"] == "1d" for f in fields if f["kind"] == "statistic")


def test_the_same_log_gives_the_same_choice(tmp_path):
    log = pair_log(tmp_path / "log.csv")
    for name in ("one", "two"):
        prepare(log, SCHEMA, tmp_path / name, statistics="auto")
    one, two = (
        PreparedData(tmp_path / name).statistics.read_bytes() for name in ("one", "two")
    )
    assert one == two


def test_names_that_are_used_are_not_given_again(tmp_path):
    text = pair_log(tmp_path / "log.csv").read_text().splitlines()
    lines = [f"{text[0]},A_B_Cross,y", *(f"{line},1,1" for line in text[1:])]
    (tmp_path / "log.csv").write_text("\n".join(lines) + "\n")
    fields = (
        *SCHEMA.fields,
        Field(name="A_B_Cross"),
        Field(name="a_b_rate", column="y"),
        Field(name="b_a_rate", kind="cross", of=("a", "c")),
    )
    schema = dataclasses.replace(SCHEMA, fields=fields)
    prepare(tmp_path / "log.csv", schema, tmp_path / "data", statistics="auto")
    first, *rest = added(tmp_path / "data")
    assert first["name"] in ("a_b_cross_2", "a_b_rate_2", "b_a_rate_2")
    assert all(field["name"].endswith("_2") for field in rest)


def test_what_the_schema_has_is_not_added_again(tmp_path):
    log = pair_log(tmp_path / "log.csv")
    cross = Field(name="both", kind="cross", of=("a", "b"))
    schema = dataclasses.replace(SCHEMA, fields=(*SCHEMA.fields, cross))
    prepare(log, schema, tmp_path / "data", statistics="auto")
    assert all(field["kind"] == "statistic" for field in added(tmp_path / "data"))


def test_fields_do_not_pass_sixteen(tmp_path):
    text = pair_log(tmp_path / "log.csv").read_text().splitlines()
    more = [f"x{i}" for i in range(13)]
    lines = [",".join([text[0], *more]), *(line + ",1" * 13 for line in text[1:])]
    (tmp_path / "log.csv").write_text("\n".join(lines) + "\n")
    fields = (*SCHEMA.fields, *(Field(name=name) for name in more))
    schema = dataclasses.replace(SCHEMA, fields=fields)
    prepare(tmp_path / "log.csv", schema, tmp_path / "data", statistics="auto")
    assert added(tmp_path / "data") == []


def test_a_number_and_a_list_are_what_the_baseline_has(tmp_path):
    random = np.random.default_rng(5)
    numbers, tags = random.normal(0, 1, 4000), random.integers(0, 8, (4000, 2))
    effects = random.normal(0, 1.5, 8)
    columns = {
        "a": random.integers(0, 5, 4000),
        "number": [*numbers[:-2], "", ""],
        "tags": ["|".join(map(str, row)) for row in tags],
        "click": of_logits(2 * numbers + effects[tags].mean(axis=1), random),
    }
    log = write(tmp_path / "log.csv", columns)
    fields = (
        Field(name="a"),
        Field(name="number", kind="numeric"),
        Field(name="tags", multiple=True),
    )
    prepare(
        log, Schema(label="click", fields=fields), tmp_path / "d", statistics="auto"
    )
    stored = read_json(PreparedData(tmp_path / "d").statistics)
    assert stored["rounds"][0]["log_loss"] < 0.5 and stored["added"] == []


def test_weights_and_negatives_that_are_left_out_are_respected(tmp_path):
    columns, random = drawn(6, 12_000, (60, 40, 5))
    effects = random.normal(0, 2, (60, 40))
    clicks = of_logits(effects[columns["a"], columns["b"]] - 1, random)
    # Rows of no weight tell another story.
    silent = random.random(12_000) < 0.5
    columns["click"] = np.where(silent, random.integers(0, 2, 12_000), clicks)
    columns["weight"] = np.where(silent, 0, 2)
    log = write(tmp_path / "log.csv", columns)
    schema = dataclasses.replace(SCHEMA, weight="weight")
    options = {"negative_sampling_rate": 0.5, "statistics": "auto"}
    prepare(log, schema, tmp_path / "data", **options)
    assert set(added(tmp_path / "data")[0]["of"]) == {"a", "b"}
    stored = read_json(PreparedData(tmp_path / "data").statistics)
    kept = np.count_nonzero(~silent & (clicks == 1)) + 0.5 * np.count_nonzero(
        ~silent & (clicks == 0)
    )
    assert stored["rows"] == pytest.approx(0.8 * kept, rel=0.05)


def made_rows(protocol, by_time):
    random = np.random.default_rng(7)
    columns = {name: random.integers(-1, 6, 400) for name in ("a", "b")}
    times = np.sort(random.integers(0, 50, 400)).astype(float)
    table = {
        **{name: [None if v < 0 else str(v) for v in c] for name, c in columns.items()},
        rows.TIME: times,
        rows.CLICK: random.integers(0, 2, 400).astype(float),
        rows.WEIGHT: random.integers(1, 4, 400).astype(float),
    }
    import pyarrow as pa

    fields = [Field(name="a"), Field(name="b")]
    delay = 5.0 if by_time else None
    made = rows._as_rows(pa.table(table), fields, protocol, delay, 400)
    return made, times, delay


@pytest.mark.parametrize("of", [("a",), ("b", "a")])
@pytest.mark.parametrize(
    ("protocol", "by_time"), [("frozen", False), ("frozen", True), ("running", True)]
)
def test_counts_are_those_of_a_statistic(protocol, by_time, of):
    made, times, delay = made_rows(protocol, by_time)
    tables = candidates.Tables(made, np.arange(400) < made.fitted)
    keys = tables.keys(of)
    order = times if by_time else np.arange(400.0)
    amounts = np.column_stack([made.weights * made.labels, made.weights])
    events = Events(keys, order, amounts)
    counting = events if protocol == "running" else events.of(slice(made.fitted))
    expected = counts_before(counting, keys, order - (delay or 0))
    if protocol == "frozen":
        as_of = np.inf if not by_time else times[made.fitted - 1] - delay
        known, counts = counts_at(events.of(slice(made.fitted)), as_of)
        table = dict(zip(known, counts))
        for i in range(made.fitted, 400):
            expected[i] = table.get(keys[i], [0, 0])
    expected[keys < 0] = 0
    np.testing.assert_array_equal(tables._known(of), expected)
    assert expected.any()


def test_keys_are_combinations_and_missing_where_one_is():
    made, _, _ = made_rows("frozen", False)
    tables = candidates.Tables(made, np.arange(400) < made.fitted)
    keys, a, b = tables.keys(("a", "b")), made.columns["a"], made.columns["b"]
    assert ((keys < 0) == ((a < 0) | (b < 0))).all()
    for i, j in itertools.pairwise(np.flatnonzero(keys >= 0)):
        assert (keys[i] == keys[j]) == ((a[i], b[i]) == (a[j], b[j]))


def test_a_fitted_row_is_left_out_of_its_own_correction():
    made, _, _ = made_rows("frozen", False)
    state = gains.Logits(made, np.zeros(400), np.ones(400, bool))
    alone = np.arange(400)  # each row in a bin of its own
    own, judged = state._corrections(alone, state.fits[0], state.judged[0])
    assert not own.any() and not judged.any()
    changed = dataclasses.replace(made, labels=made.labels.copy())
    changed.labels[3] = 1 - changed.labels[3]
    bins = made.columns["a"]
    before = state._corrections(bins, state.fits[0], state.judged[0])[0]
    other = gains.Logits(changed, np.zeros(400), np.ones(400, bool))
    after = other._corrections(bins, other.fits[0], other.judged[0])[0]
    assert after[3] == pytest.approx(before[3])
    assert (after != before).any()


def test_the_baseline_of_a_row_has_not_seen_its_label():
    made, _, _ = made_rows("running", True)
    before, has_one = baseline_logits(made)
    changed = dataclasses.replace(made, labels=made.labels.copy())
    changed.labels[made.fitted :] = 1 - changed.labels[made.fitted :]
    after, _ = baseline_logits(changed)
    np.testing.assert_array_equal(before, after)
    assert not has_one[0] and has_one[made.fitted // 3 :].all()


def test_many_pairs_are_screened_by_fewer_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(greedy, "MOST_PAIRS", 1)
    monkeypatch.setattr(greedy, "SCREENED_ROWS", 5000)
    log = pair_log(tmp_path / "log.csv")
    prepare(log, SCHEMA, tmp_path / "data", statistics="auto")
    stored = read_json(PreparedData(tmp_path / "data").statistics)
    of = [tuple(sorted(gain["of"])) for gain in stored["rounds"][0]["gains"]]
    assert {each for each in of if len(each) > 1} == {("a", "b")}
    assert set(stored["added"][0]["of"]) == {"a", "b"}


def test_of_many_rows_the_newest_or_those_drawn_first_are_looked_at(
    tmp_path, monkeypatch
):
    log = drifting_log(tmp_path / "log.csv")
    schema = dataclasses.replace(SCHEMA, timestamp="time")
    monkeypatch.setattr(rows, "MOST_ROWS", 3000)
    seen = []
    as_rows = rows._as_rows
    monkeypatch.setattr(
        rows,
        "_as_rows",
        lambda table, *rest: seen.append(table) or as_rows(table, *rest),
    )
    for name, by in (("time", "time"), ("chance", "chance")):
        prepare(log, schema, tmp_path / name, split_by=by, statistics="auto")
    stored = read_json(PreparedData(tmp_path / "time").statistics)
    assert (stored["rows"], stored["of_rows"]) == (3000, 9600)
    times = np.sort(np.loadtxt(log, delimiter=",", skiprows=1)[:, 3])
    np.testing.assert_array_equal(seen[0][rows.TIME].to_numpy(), times[6600:9600])
    assert np.ptp(seen[1][rows.TIME].to_numpy()) > 95 * DAY
    assert seen[1][rows.DRAW].to_numpy().max() < 0.4


def test_the_order_of_files_changes_nothing_by_time(tmp_path):
    text = drifting_log(tmp_path / "log.csv").read_text().splitlines()
    for name, lines in (("x", text[1:6001]), ("y", text[6001:])):
        (tmp_path / f"{name}.csv").write_text("\n".join([text[0], *lines]) + "\n")
    schema = dataclasses.replace(SCHEMA, timestamp="time")
    options = {"split_by": "time", "protocol": "running", "statistics": "auto"}
    for names in ("xy", "yx"):
        logs = [tmp_path / f"{name}.csv" for name in names]
        prepare(logs, schema, tmp_path / names, **options)
    assert added(tmp_path / "xy") == added(tmp_path / "yx") != []


def test_it_tells_what_is_wrong(tmp_path):
    log = pair_log(tmp_path / "log.csv", 2000)

    def refused(told, **options):
        options = {"statistics": "auto", **options}
        with pytest.raises(InputError, match=told) as error:
            prepare(log, options.pop("schema", SCHEMA), tmp_path / "no", **options)
        assert "\n" not in str(error.value)
        assert not (tmp_path / "no").exists()

    refused("by 'auto', or not at all. Received: 'all'", statistics="all")
    refused("need the rows' times", protocol="running")
    few = tmp_path / "few.csv"
    few.write_text("\n".join(log.read_text().splitlines()[:100]) + "\n")
    with pytest.raises(InputError, match="at least 200 training rows"):
        prepare(few, SCHEMA, tmp_path / "no", statistics="auto")
    prepare(log, SCHEMA, tmp_path / "before")
    refused("its schema is taken as it is", vocabulary_of=tmp_path / "before")


def test_the_command_line_chooses(tmp_path, capsys):
    log = pair_log(tmp_path / "log.csv")
    SCHEMA.save(tmp_path / "schema.json")
    words = ["prepare", log, "--schema", tmp_path / "schema.json", "--out"]
    words += [tmp_path / "data", "--statistics", "auto"]
    assert edcn.main(list(map(str, words))) in (0, None)
    told = capsys.readouterr().out
    assert "taken as" in told
    (field,) = added(tmp_path / "data")
    fields = json.loads(PreparedData(tmp_path / "data").summary.read_text())["fields"]
    assert fields[-1]["name"] == field["name"]


def test_a_pipeline_has_the_same_choice(tmp_path):
    pytest.importorskip("apache_beam")
    log = pair_log(tmp_path / "log.csv")
    here = prepare(log, SCHEMA, tmp_path / "here", statistics="auto")
    there = prepare(
        log, SCHEMA, tmp_path / "there", runner="DirectRunner", statistics="auto"
    )
    assert here["added"] == there["added"] != []
    assert added(tmp_path / "here") == added(tmp_path / "there")
    assert [f["name"] for f in there["fields"]][-1] == there["added"][-1]
