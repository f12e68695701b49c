"""The whole way of a log whose users have histories, by the command line."""

import csv
import json

import numpy as np
import pytest

from edcn import main

SCHEMA = {
    "label": "click",
    "group": "user",
    "fields": [
        {"name": "user"},
        {"name": "item", "candidate": True},
        {"name": "past", "kind": "sequence", "of": "item", "max_length": 6},
        {"name": "since", "kind": "sequence", "buckets": 4, "along": "past"},
    ],
}
QUICK = "--set epochs=2 --set batch_size=64 --set embedding_dim=4"


def write_log(path, rows, first=0):
    """A user clicks what is of the kind that it clicked before."""
    random = np.random.default_rng(first)
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["click", "user", "item", "time"])
        for row in range(rows):
            user, item = random.integers(0, 20), random.integers(0, 30)
            click = int(random.random() < (0.85 if (user + item) % 2 else 0.15))
            writer.writerow([click, f"u{user}", f"i{item}", first + row])


def run(command):
    assert main(command.split()) == 0, command


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with data and a run of DIN's layer in EDCN."""
    folder = tmp_path_factory.mktemp("histories")
    write_log(folder / "log.csv", 700)
    (folder / "schema.json").write_text(json.dumps(SCHEMA))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run(
            "prepare log.csv --schema schema.json --out data --split-by time "
            "--history user:item:time"
        )
        run(f"train data --out run {QUICK} --set history=din --set history_units=[4]")
    return folder


@pytest.fixture(autouse=True)
def inside(place, monkeypatch):
    monkeypatch.chdir(place)


def test_it_is_exported_verified_and_answers(place, capsys):
    """By raw features, where a user's history is given once for its candidates."""
    from edcn_tf.export.c_api import Session

    run("export run --out models/clicks")
    assert "verified" in capsys.readouterr().out
    history = {
        "past": np.array([["i3", "i5"]], object),
        "since": np.array([[20, 1]], np.float32),
    }
    with Session("models/clicks/1") as session:
        rank = {
            "user": np.array(["u1"], object),
            "item": np.array([["i1", "i2"]], object),
        }
        ranked = session.run("rank", {**rank, **history})["probability"]
        rows = {
            "user": np.array(["u1"] * 2, object),
            "item": np.array(["i1", "i2"], object),
            **{name: np.repeat(value, 2, axis=0) for name, value in history.items()},
        }
        scores = session.run("serving_default", rows)["probability"]
        np.testing.assert_allclose(ranked[0], scores[:, 0], atol=1e-6)
        rows["since"] = rows["since"][:, :1]
        with pytest.raises(Exception, match="since must have as many values"):
            session.run("serving_default", rows)


def test_scores_that_were_logged_without_the_history(place, capsys):
    """`edcn verify --against` finds the field that was not there."""
    from edcn_tf.export.skew import compare_scores

    if not (place / "models/clicks/1").exists():
        run("export run --out models/clicks")
    with open("logged.csv", "w", newline="") as file:
        file.write("user,item,past,since\n")
        for i in range(60):
            file.write(f"u{i % 20},i{i % 7},i{i % 9}|i{i % 5},9|{i}\n")
    bare = (place / "logged.csv").read_text().splitlines()
    bare = [",".join([*line.split(",")[:2], "", ""]) for line in bare[1:]]
    (place / "bare.csv").write_text("\n".join(["user,item,past,since", *bare]) + "\n")
    run("predict run bare.csv --out bare_scores.csv")
    skew = compare_scores("models/clicks/1", ["logged.csv"], "bare_scores.csv")
    assert skew.differing > 0
    assert skew.fields[0].name == "past"
    assert skew.fields[0].as_if_missing == skew.differing


def test_the_report_shows_which_items_counted(place):
    run("report run")
    page = (place / "run/report.html").read_text()
    assert "<h2>Histories</h2>" in page
    assert page.count("Weights of the past items of user u") == 3
    assert "All weights of past" in page


@pytest.mark.slow
def test_a_report_without_weights_says_so(place):
    run(f"train data --out pooled {QUICK}")
    run("report pooled")
    page = (place / "pooled/report.html").read_text()
    assert "pools histories (past): all items of one count alike" in page


def test_it_is_evaluated_described_and_goes_on_from_day_to_day(place, capsys):
    run("evaluate run data")
    assert "log_loss" in capsys.readouterr().out
    run("describe run --figure drawn.svg")
    assert "LocalActivation" in capsys.readouterr().out
    assert "local activation of past" in (place / "drawn.svg").read_text()
    write_log(place / "day2.csv", 500, first=700)
    run(
        "prepare day2.csv --vocabulary-of data --out data2 --split-by time "
        "--history user:item:time"
    )
    run("train data2 --out run2 --warm-start run")
    assert "54 of 54 values have their embeddings" in capsys.readouterr().out


@pytest.mark.slow
def test_the_stacked_models_train(place, capsys):
    for model in ("dien", "bst"):
        run(f"train data --out {model} {QUICK} --set model={model}")
        run(f"evaluate {model} data")
    assert "log_loss" in capsys.readouterr().out


@pytest.mark.slow
def test_a_search_may_choose_what_becomes_of_it(place):
    import keras_tuner

    from edcn_tf import FeatureSpec
    from edcn_tf.tuning.search_space import SearchSpace

    spec = FeatureSpec.load("data/features")
    kinds = ["pooling", "din", "dien", "transformer"]
    space = SearchSpace(
        spec,
        {"history": kinds, "history_heads": [1, 2], "history_units": [None, [4]]},
        base={"embedding_dim": 4},
    )
    for kind in kinds:
        chosen = keras_tuner.HyperParameters()
        chosen.Fixed("history", kind)
        model = space.build(chosen)
        assert model.options["history"] == kind


def test_drift_of_histories_is_that_of_their_items(place, capsys):
    random = np.random.default_rng(3)
    lines = {"some.csv": ["user,item,past,since"], "none.csv": ["user,item,past,since"]}
    for _ in range(300):
        row = f"u{random.integers(20)},i{random.integers(30)}"
        past = random.integers(0, 30, 4)
        told = "|".join(f"i{item}" for item in past)
        since = "|".join(str(each) for each in 700 - 30 * np.arange(4)[::-1])
        lines["some.csv"].append(f"{row},{told},{since}")
        lines["none.csv"].append(f"{row},,")
    for name, rows in lines.items():
        (place / name).write_text("\n".join(rows) + "\n")
    assert main(["drift", "run", "some.csv"]) in (0, 3)
    told = capsys.readouterr().out
    assert "ALARM past" not in told and "\npast " in told and "\nsince " in told
    assert main(["drift", "run", "none.csv"]) == 3
    told = capsys.readouterr().out
    assert "ALARM past: 100.0% missing" in told
    assert "ALARM since: 100.0% missing" in told
