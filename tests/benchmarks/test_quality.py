"""The table of quality: its bootstrap, its figures, and that it goes on."""

import json
import shutil
import sys
import textwrap

import numpy as np
import pytest

import edcn_tf
from edcn_tf import benchmarks
from edcn_tf.benchmarks import quality, runs
from edcn_tf.benchmarks.quality import contenders, peers
from edcn_tf.benchmarks.quality.contenders import Contender
from edcn_tf.errors import InputError
from edcn_tf.evaluation import comparison, metrics


def plain_bootstrap(labels, scores, resamples, seed):
    """One resample at a time: the rows themselves, drawn, and the AUC of all pairs."""
    random = np.random.default_rng(seed)
    areas = []
    for _ in range(resamples):
        drawn = random.integers(len(labels), size=len(labels))
        positive, negative = drawn[labels[drawn] == 1], drawn[labels[drawn] == 0]
        areas.append([])
        for each in scores:
            above = each[positive][:, None] - each[negative]
            won = (above > 0) + (above == 0) / 2
            areas[-1].append(won.mean() if won.size else np.nan)
    return np.array(areas)


def test_the_bootstrap_is_that_of_drawn_rows(random, monkeypatch):
    """With ties, and with more resamples than a block has."""
    monkeypatch.setattr(comparison, "AT_ONCE", 50 * 60)
    labels = (random.random(60) < 0.4).astype(np.float32)
    scores = random.integers(9, size=(3, 60)) / 10 + 0.1 * labels
    found = comparison.bootstrap_auc(labels, scores, resamples=120, seed=3)
    assert found.shape == (120, 3)
    np.testing.assert_allclose(found, plain_bootstrap(labels, scores, 120, 3))


def test_the_bootstrap_by_hand(monkeypatch):
    """Rows drawn 2, 1, 0, 1 and 1, 1, 2, 0 times."""
    draws = iter([np.array([2, 1, 0, 1]), np.array([1, 1, 2, 0])])
    monkeypatch.setattr(comparison, "_draw", lambda random, rows: next(draws))
    found = comparison.bootstrap_auc([1, 0, 1, 0], [[0.6, 0.5, 0.1, 0.6]], resamples=2)
    # First: row 0 (twice) beats row 1 and ties with row 3: 2 (1 + 1/2) of 4 pairs.
    # Second: row 0 beats row 1, row 2 (twice) loses against it: 1 of 3 pairs.
    np.testing.assert_allclose(found, [[3 / 4], [1 / 3]])


def test_a_resample_without_a_class_is_nan_and_the_interval_leaves_it_out():
    found = comparison.bootstrap_auc([1, 0], [[0.9, 0.1]], resamples=20)
    # Both rows have to be drawn.
    assert set(found[~np.isnan(found)]) == {1.0}
    assert 0 < np.isnan(found).sum() < 20
    assert comparison.interval([0.1, np.nan, 0.1]) == pytest.approx((0.1, 0.1))


def test_the_interval_is_the_middle_95_percent():
    assert comparison.interval(np.arange(1001)) == (25, 975)


LABELS = np.array([1.0, 0.0, 1.0, 0.0, 1.0, 0.0] * 50)


def stub(name, noise, settings=({},)):
    """A contender whose validation AUC and scores are made up."""

    def train(folder, run, settings):
        trainings.append(run)
        path = folder / "runs" / run
        path.mkdir(parents=True, exist_ok=True)
        (path / "seed").write_text(str(settings["seed"]))
        valid_auc = 0.7 - abs(settings.get("l2", 1) - 3) / 100
        return path, {"valid_auc": valid_auc, "training_seconds": 2.0}

    def score(folder, run):
        scorings.append(run.name)
        random = np.random.default_rng(int((run / "seed").read_text()))
        return LABELS, 0.2 * LABELS + noise * random.random(len(LABELS))

    trainings, scorings = [], []
    made = Contender(name, name.upper(), settings, train, score)
    return made, trainings, scorings


def test_the_figures_of_the_table(monkeypatch, tmp_path, capsys):
    """Two seeds; of three settings the best on validation, judged once a seed."""
    grid = tuple({"l2": l2} for l2 in (1, 3, 10))
    linear, trainings, scorings = stub("linear", 0.5, grid)
    edcn, *_ = stub("edcn", 0.4)
    lines = {"linear": linear, "edcn": edcn}
    monkeypatch.setattr(quality, "our_contenders", lambda: lines)
    monkeypatch.setattr(quality, "PARTS", [("synthetic", "chance")])
    monkeypatch.setattr(quality, "prepared", lambda *args, **kwargs: 0.9)
    for _ in range(2):
        benchmarks.run("quality", out=tmp_path, seeds=2)
    assert trainings[:5] == [
        *("linear-l2=1-0", "linear-l2=3-0", "linear-l2=10-0"),
        *("linear-l2=3-0", "linear-l2=3-1"),
    ]
    assert scorings == ["linear-l2=3-0", "linear-l2=3-1"]  # not again

    written = json.loads((tmp_path / "quality.json").read_text())
    result = written["results"]["synthetic-chance"]
    scores = {  # [seeds, rows]
        name: 0.2 * LABELS
        + noise * np.array([np.random.default_rng(s).random(300) for s in range(2)])
        for name, noise in [("linear", 0.5), ("edcn", 0.4)]
    }
    found = result["models"]
    for name, each in scores.items():
        expected = [metrics.auc(LABELS, score) for score in each]
        assert found[name]["auc"] == pytest.approx(expected)
        expected = [metrics.log_loss(LABELS, score) for score in each]
        assert found[name]["log_loss"] == pytest.approx(expected)
    assert found["linear"]["settings"] == {"l2": 3}
    assert found["linear"]["settings_tried"] == 3
    assert found["edcn"]["settings_tried"] == 1
    assert found["linear"]["valid_auc"] == [0.7, 0.7]
    assert found["edcn"]["valid_auc"] == pytest.approx([0.68, 0.68])

    ahead = found["linear"]["ahead"]
    means = {name: np.mean(found[name]["auc"]) for name in found}
    assert ahead["auc"] == pytest.approx(means["edcn"] - means["linear"])
    both = np.concatenate([scores["edcn"], scores["linear"]])
    one, two, three, four = plain_bootstrap(LABELS, both, 1000, 0).T
    low, high = comparison.interval((one + two) / 2 - (three + four) / 2)
    assert (ahead["low"], ahead["high"]) == pytest.approx((low, high))
    assert low < ahead["auc"] < high

    table = (tmp_path / "quality.md").read_text()
    assert table in capsys.readouterr().out
    assert "| LINEAR | 3 | 0.7000" in table and "| EDCN | 1 | 0.6800" in table
    assert f"{ahead['auc']:+.4f} ({low:+.4f} to {high:+.4f})" in table
    assert f"EDCN goes {(means['edcn'] - 0.5) / 0.4:.1%} of the way" in table
    assert "(300 test rows, 50.0% positive)" in table
    figure = (tmp_path / "quality.svg").read_text()
    assert ">LINEAR<" in figure and ">EDCN<" not in figure
    assert ">synthetic, split by chance<" in figure


def test_models_are_trained_and_an_interrupted_call_goes_on(monkeypatch, tmp_path):
    """A small version for correctness: real runs on 2,000 rows."""
    quick = {"epochs": 1, "batch_size": 256}
    settings = {
        "logistic_regression": ({**quick, "l2": 1.0}, {**quick, "l2": 10.0}),
        "edcn": ({**quick, "embedding_dim": 2},),
    }
    monkeypatch.setattr(contenders, "SETTINGS", settings)
    monkeypatch.setattr(quality, "PARTS", [("synthetic", "chance")])
    benchmarks.run("quality", out=tmp_path / "out", seeds=1, rows=2000)
    written = (tmp_path / "out/quality.json").read_text()
    result = json.loads(written)["results"]["synthetic-chance"]
    assert result["test_rows"] == 200
    assert 0.5 < result["best_possible_auc"] < 1
    for figures in result["models"].values():
        [auc], [log_loss] = figures["auc"], figures["log_loss"]
        assert 0.3 < auc < 1 and 0.4 < log_loss < 1

    def again(*_, **__):
        raise AssertionError

    monkeypatch.setattr(runs, "train", again)
    monkeypatch.setattr(contenders, "score_run", again)
    benchmarks.run("quality", out=tmp_path / "out", seeds=1, rows=2000)
    assert (tmp_path / "out/quality.json").read_text() == written
    settings["edcn"] = ({**quick, "embedding_dim": 2, "num_layers": 3},)
    with pytest.raises(AssertionError):  # another setting is another run
        benchmarks.run("quality", out=tmp_path / "out", seeds=1, rows=2000)


def test_chosen_data_sets_alone(monkeypatch, tmp_path):
    made, *_ = stub("edcn", 0.4)
    monkeypatch.setattr(quality, "our_contenders", lambda: {"edcn": made})
    monkeypatch.setattr(quality, "prepared", lambda *args, **kwargs: None)
    benchmarks.run("quality", out=tmp_path, seeds=1, data=["flights"])
    written = json.loads((tmp_path / "quality.json").read_text())
    assert list(written["results"]) == ["flights-chance", "flights-time"]
    with pytest.raises(InputError, match="no data set 'films'"):
        benchmarks.run("quality", out=tmp_path, seeds=1, data=["films"])


@pytest.fixture
def four(monkeypatch):
    """EDCN, one of ours and two peers, made up; what is trained of each."""
    made = {
        name: stub(name, noise)
        for name, noise in [
            *(("dcn", 0.5), ("edcn", 0.4), ("catboost", 0.45), ("lightgbm", 0.6))
        ]
    }
    trainings = {name: trained for name, (_, trained, _) in made.items()}
    lines = {name: contender for name, (contender, *_) in made.items()}
    ours = {name: lines[name] for name in ("dcn", "edcn")}
    monkeypatch.setattr(quality, "our_contenders", lambda: ours)
    monkeypatch.setattr(
        quality, "peer_contenders", lambda _, names: {n: lines[n] for n in names[-2:]}
    )
    monkeypatch.setattr(quality, "prepared", lambda *args, **kwargs: None)
    return lines, trainings


def test_lines_are_added_to_the_table_that_is_there(four, tmp_path, capsys):
    """And are those that one call of them all would give."""
    options = {"seeds": 2, "data": ["flights"]}
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    benchmarks.run("quality", out=whole, peers="peers", **options)
    _, trainings = four
    for trained in trainings.values():
        trained.clear()
    models = [["lightgbm"], ["dcn"], ["edcn", "catboost"]]
    for names in models:
        options["split_by"] = "time"
        benchmarks.run("quality", out=parts, peers="peers", models=names, **options)
    assert trainings["dcn"] == ["dcn-0", "dcn-1"]
    assert trainings["lightgbm"] == ["lightgbm-0", "lightgbm-1"]
    found = json.loads((parts / "quality.json").read_text())["results"]
    assert list(found) == ["flights-time"]
    assert list(found["flights-time"]["models"]) == [
        *("dcn", "edcn", "catboost", "lightgbm")
    ]
    options["split_by"] = "chance"
    benchmarks.run("quality", out=parts, peers="peers", **options)
    for name in ("quality.json", "quality.md", "quality.svg"):
        assert (parts / name).read_text() == (whole / name).read_text()
    assert "left out" not in capsys.readouterr().out


def test_lines_beside_another_edcn_do_not_stay(four, tmp_path, capsys):
    options = {"out": tmp_path, "seeds": 1, "data": ["flights"]}
    benchmarks.run("quality", **options)
    path = tmp_path / "quality.json"
    known = json.loads(path.read_text())
    known["results"]["flights-time"]["models"]["edcn"]["auc"] = [0.5]
    path.write_text(json.dumps(known))
    benchmarks.run("quality", models=["edcn"], **options)
    told = "flights-time: dcn left out, which another EDCN was beside"
    assert told in capsys.readouterr().out
    found = json.loads(path.read_text())["results"]
    assert list(found["flights-time"]["models"]) == ["edcn"]
    assert list(found["flights-chance"]["models"]) == ["dcn", "edcn"]


def test_figures_of_other_seeds_do_not_stay(four, tmp_path, capsys):
    benchmarks.run("quality", out=tmp_path, seeds=1, data=["flights"])
    assert "written anew" not in capsys.readouterr().out
    benchmarks.run("quality", out=tmp_path, seeds=2, data=["movielens"])
    assert "quality.json: is of other seeds" in capsys.readouterr().out
    written = json.loads((tmp_path / "quality.json").read_text())
    assert list(written["results"]) == ["movielens-chance", "movielens-time"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {"models": ["dcm"]},
            "no model 'dcm' to compare; known are logistic_",
        ),
        ({"models": ["edcn", "catboost"]}, "catboost is a peer, which needs --peers"),
        ({"split_by": "user"}, "split_by must be one of .* Received: 'user'"),
        (
            {"data": ["synthetic"], "split_by": "time"},
            "No data set that is asked for has a split by time. Received: synthetic",
        ),
    ],
)
def test_what_cannot_be_asked_for(four, tmp_path, options, told):
    with pytest.raises(InputError, match=told):
        benchmarks.run("quality", out=tmp_path, seeds=1, **options)
    assert not list(tmp_path.iterdir())


def test_only_the_environments_that_are_asked_for_are_made(monkeypatch, tmp_path):
    made = []
    monkeypatch.setattr(
        peers, "python_of", lambda _, name, needed: made.append((name, needed))
    )
    monkeypatch.setattr(
        peers, "peers_in", lambda _, names: {"DeepCTR": made.append(names) or (0, 0)}
    )
    found = peers.peer_contenders(tmp_path, ["catboost"])
    assert list(found) == ["catboost"] and [name for name, _ in made] == ["trees"]
    made.clear()
    assert list(peers.peer_contenders(tmp_path, ["deepctr"])) == ["deepctr"]
    assert made == [["DeepCTR"]]
    assert tuple(peers.peer_contenders(tmp_path)) == peers.PEERS


def test_trees_have_an_equal_search(monkeypatch, tmp_path):
    """Each library its defaults and as many settings more, no two of them the same."""
    monkeypatch.setattr(peers, "python_of", lambda *_: None)
    tried = [each.settings for each in peers.tree_contenders(tmp_path).values()]
    assert {len(settings) for settings in tried} == {3}
    for settings in tried:
        assert settings[0] == {}
        assert len({json.dumps(each) for each in settings}) == 3


def test_a_run_of_another_setting_is_not_taken_for_this_one(monkeypatch, tmp_path):
    """Where a default has changed, which the run's name does not say."""
    run = tmp_path / "runs/edcn-0"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("l2: 20.0\n")
    (run / "result.json").write_text("{}")
    with pytest.raises(InputError, match="another setting; choose another --out"):
        runs.trained(tmp_path, "edcn-0", edcn_tf.TrainingConfig.from_dict({}))
    runs.trained(tmp_path, "edcn-0", edcn_tf.TrainingConfig.from_dict({"l2": 20.0}))


# The peer


@pytest.fixture
def folder(run, tmp_path):
    """Data of every kind of field, in a folder as the benchmark has it."""
    shutil.copytree(run.parent / "data", tmp_path / "folder/data")
    return tmp_path / "folder"


def test_a_peer_sees_the_same_rows(folder):
    """Each field counted from 1; padding, of lists of one tag or two, is 0."""
    path = peers._ids(folder)
    assert peers._ids(folder) == path
    spec = edcn_tf.FeatureSpec.load(folder / "data/features")
    with np.load(path) as arrays:
        fields = json.loads(str(arrays["fields"]))
        rows = {name: arrays[name] for name in arrays.files if name != "fields"}
    assert [field["name"] for field in fields] == [
        *("user", "age", "country", "tags", "price", "device_id", "site")
    ]
    assert [field["slots"] for field in fields] == [1, 1, 1, 3, 1, 1, 1]
    for split in ("train", "valid", "test"):
        files = f"{folder}/data/{split}-*.tfrecord"
        [(ids, labels)] = edcn_tf.read_records(files, spec, 1000)
        np.testing.assert_array_equal(rows[f"{split}_labels"], labels)
        own = rows[f"{split}_ids"]
        assert own.shape == (len(labels), 9) and own.dtype == np.int32
        column, padded = 0, []
        for field, known in zip(fields, spec.fields):
            for _ in range(field["slots"]):
                fused = ids[:, column].numpy()
                expected = np.where(fused == 0, 0, fused - known.offset + 1)
                np.testing.assert_array_equal(own[:, column], expected)
                assert expected.max() < field["values"] == known.rows + 1
                padded.append(expected.min() == 0)
                column += 1
        assert padded == [False] * 4 + [True] * 2 + [False] * 3


def program(path, lines):
    """A stand-in for the peer's Python, which is given program, ids, scores, JSON."""
    path.write_text(f"#!{sys.executable}\n" + textwrap.dedent(lines))
    path.chmod(0o755)
    return path


def test_a_peer_is_trained_once(folder, tmp_path):
    python = program(
        tmp_path / "python",
        """
        import json, sys
        import numpy as np
        _, script, ids, scores, settings = sys.argv
        assert script.endswith("with_deepctr.py")
        seed = json.loads(settings)["seed"]
        test = np.load(ids)["test_labels"] * 0.5 + seed / 10
        valid = -np.load(ids)["valid_labels"]
        np.savez(scores, valid=valid, test=test, training_seconds=3.5)
        """,
    )

    def trained(python, seed):
        command, settings = [python, "with_deepctr.py"], {"seed": seed}
        name = f"deepctr-{seed}"
        return peers._trained(folder, name, command, peers._ids, settings)

    run, result = trained(python, 4)
    assert result == {"valid_auc": 0.0, "training_seconds": 3.5}  # by our metrics
    labels, scores = peers._scorer(peers._ids)(folder, run)
    np.testing.assert_allclose(scores, 0.5 * labels + 0.4)
    fails = program(tmp_path / "fails", "raise ValueError('no such bridge')")
    assert trained(fails, 4) == (run, result)
    with pytest.raises(InputError, match="with_deepctr.py: ValueError: no such bri"):
        trained(fails, 5)
    assert not (folder / "runs/deepctr-5").exists()


def test_histories_are_compared_with_the_kind_that_is_best_on_validation(
    tmp_path, monkeypatch, capsys
):
    """Each kind, each stacked model, and the same models without a history."""
    from edcn_tf.benchmarks import histories

    prepared, folders = [], {}

    def judged(folder, contender, seeds):
        folders[contender.title] = folder.name
        best = contender.name == "edcn-history=dien"
        scores = LABELS * (0.5 + 0.1 * best) + np.linspace(0, 1, len(LABELS))
        return {
            "settings": {},
            "settings_tried": 4,
            **dict.fromkeys(("auc", "valid_auc"), [0.7 + 0.1 * best] * seeds),
            **dict.fromkeys(("log_loss", "training_seconds"), [0.5] * seeds),
            "scores": [(LABELS, scores)] * seeds,
        }

    monkeypatch.setattr(
        histories, "prepared", lambda *args, history, **_: prepared.append(history)
    )
    monkeypatch.setattr(histories, "judged_on", judged)
    monkeypatch.setattr(peers, "peers_in", lambda *_: {"DeepCTR": ("", sys.executable)})
    benchmarks.run("histories", out=tmp_path, seeds=2, peers=tmp_path)
    assert sorted(prepared) == [False, True]
    table = capsys.readouterr().out
    assert '"EDCN, history by dien" is ahead by' in table
    for title in ("DIN", "DIEN", "BST", "DIN of DeepCTR", "EDCN, history pooled"):
        assert f"| {title} |" in table
        assert folders[title] == "movielens-history-time"
    assert folders["EDCN, no history"] == "movielens-time"
    stored = json.loads((tmp_path / "histories.json").read_text())
    assert stored["ours"] == "edcn dien"
    assert (tmp_path / "histories.md").read_text() in table
