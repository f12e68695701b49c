"""The course of a search, with a stand-in for training.

Here a trial's score is computed from its settings at once; `test_tuning.py` trains.
"""

import dataclasses
import json
import math
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from keras_tuner.engine.trial import TrialStatus

import edcn_tf
from edcn_tf.errors import InputError
from edcn_tf.features.spec import FeatureSpec
from edcn_tf.tuning import Objective, retraining, search
from edcn_tf.tuning import tuner as tuner_module
from edcn_tf.tuning.oracles import ORACLES, make_oracle
from edcn_tf.tuning.process import ProcessError
from edcn_tf.tuning.results import COMPLETED, FAILED
from edcn_tf.tuning.search_space import SearchSpace
from edcn_tf.tuning.tuner import read_results

BASE = {"epochs": 9, "embedding_dim": 4}
SPACE = {
    "bridge": ["hadamard", "concat", "add"],
    "learning_rate": {"low": 0.001, "high": 0.1, "log": True},
    "dropout": {"low": 0.0, "high": 0.5},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    lines = ["click,user"] + [f"{n % 3 == 0:d},u{n % 7}" for n in range(200)]
    (folder / "log.csv").write_text("\n".join(lines) + "\n")
    schema = {"label": "click", "fields": [{"name": "user"}]}
    edcn_tf.prepare(
        folder / "log.csv", edcn_tf.Schema.from_dict(schema), folder / "data"
    )
    return folder / "data"


@pytest.fixture(autouse=True)
def trained(monkeypatch):
    """The tasks that were trained, by a stand-in that computes their AUC."""
    tasks = []

    def run_apart(function, task, log):
        tasks.append(task)
        if task.config["learning_rate"] > 1:
            raise ProcessError("the loss became nan")
        parameters = 1000 if task.config["bridge"] == "hadamard" else 500
        if task.max_parameters and parameters > task.max_parameters:
            raise ProcessError("too large")
        epochs = task.until or task.config["epochs"]
        Path(task.run).mkdir(parents=True, exist_ok=True)
        distance = abs(math.log10(task.config["learning_rate"]) + 1.6)
        auc = 0.8 - 0.05 * distance - 0.01 * task.config["dropout"] + 0.001 * epochs
        return {
            "auc": auc,
            "log_loss": 1.3 - auc,
            "parameters": parameters,
            "epochs": epochs,
            "best_epoch": epochs,
            "training_seconds": 1.0,
            "latency_ms": 2.0,
            "peak_memory_mib": 100.0,
        }

    for module in (tuner_module, retraining):
        monkeypatch.setattr(module, "run_apart", run_apart)
    return tasks


def find(data, out, space=None, **options):
    path = out.parent / f"{out.name}.yaml"
    path.write_text(yaml.safe_dump(space or SPACE))
    options = {"tuner": "random", "trials": 6, "retrain_trials": 0, **options}
    base = {**BASE, **options.pop("base", {})}
    return search(data, out, space=path, base=base, **options)


def timeless(results):
    times = {"began": 0, "ended": 0, "search_memory_mib": 0}
    return [dataclasses.replace(result, **times) for result in results]


@pytest.mark.parametrize("tuner", ORACLES)
def test_the_first_trial_is_the_default(data, tmp_path, tuner):
    find(data, tmp_path / "out", tuner=tuner, trials=3)
    first = read_results(tmp_path / "out")[0]
    default = {"bridge": "hadamard", "learning_rate": 0.01, "dropout": 0.1}
    assert first.settings == pytest.approx(default)


@pytest.mark.parametrize("tuner", ORACLES)
def test_a_seed_gives_the_same_trials_and_another_seed_others(data, tmp_path, tuner):
    for name, seed in [("a", 0), ("b", 0), ("c", 1)]:
        find(data, tmp_path / name, tuner=tuner, trials=5, base={"seed": seed})
    a, b, c = (timeless(read_results(tmp_path / name)) for name in "abc")
    assert len(a) == 5
    assert a == b
    assert a[1:] != c[1:]


def test_the_best_is_that_of_the_objective(data, tmp_path):
    best = find(data, tmp_path / "auc", trials=8)
    results = read_results(tmp_path / "auc")
    highest = max(results, key=lambda r: r.auc)
    assert best.learning_rate == highest.settings["learning_rate"]
    charged = Objective("log_loss", latency_charge=0.01)
    find(data, tmp_path / "loss", trials=8, objective=charged)
    for result in read_results(tmp_path / "loss"):
        assert result.score == pytest.approx(result.log_loss + 0.02)
    text = (tmp_path / "auc/best.yaml").read_text()
    assert text.startswith(f"# trial {highest.number} ")


def test_hyperband_has_many_short_trials_and_few_long_ones(data, tmp_path, trained):
    """Nine epochs, factor 3: 9 + 3 + 1, then 5 + 2, then 3 trials."""
    find(data, tmp_path / "out", tuner="hyperband", trials=23)
    results = read_results(tmp_path / "out")
    assert [r.epochs for r in results[:13]] == [1] * 9 + [3] * 3 + [9]
    assert sorted(r.epochs for r in results[13:]) == [3] * 5 + [9] * 5
    first = sorted(results[:9], key=lambda r: -r.score)
    assert {r.continues for r in results[9:12]} == {r.number for r in first[:3]}
    assert trained[9].continues.endswith(f"trial_0{results[9].continues}/run")


def test_thirty_trials_are_one_round_of_brackets(data, tmp_path):
    find(data, tmp_path / "out", tuner="hyperband", trials=30, base={"epochs": 26})
    epochs = [r.epochs for r in read_results(tmp_path / "out")]
    assert sorted(epochs) == [3] * 12 + [9] * 10 + [26] * 8


def test_a_failed_trial_is_recorded_and_the_search_goes_on(data, tmp_path):
    space = {**SPACE, "learning_rate": [0.01, 0.02, 10.0]}
    find(data, tmp_path / "out", space, trials=12)
    results = read_results(tmp_path / "out")
    assert {r.status for r in results} == {COMPLETED, FAILED}
    for result in results:
        failed = result.settings["learning_rate"] == 10
        assert (result.status == FAILED) == failed
        assert ("loss became nan" in result.reason) == failed


def test_hyperband_replaces_what_failed(data, tmp_path):
    space = {**SPACE, "learning_rate": [0.01, 10.0]}
    find(data, tmp_path / "out", space, tuner="hyperband", trials=40)
    results = read_results(tmp_path / "out")
    completed = [r for r in results if r.status == COMPLETED]
    assert len(completed) < len(results)
    assert [r.epochs for r in completed[:13]] == [1] * 9 + [3] * 3 + [9]


@pytest.mark.parametrize("tuner", ORACLES)
def test_ten_failures_in_a_row_stop_it(data, tmp_path, tuner):
    space = {**SPACE, "learning_rate": {"low": 10.0, "high": 20.0}}
    with pytest.raises(InputError, match="10 trials in a row failed.*became nan"):
        find(data, tmp_path / "out", space, tuner=tuner, trials=30)
    results = read_results(tmp_path / "out")
    assert [r.status for r in results] == [FAILED] * 10


def test_hours(data, tmp_path):
    find(data, tmp_path / "out", hours=1e-9)
    assert len(read_results(tmp_path / "out")) == 1
    find(data, tmp_path / "out", hours=1)  # goes on
    assert len(read_results(tmp_path / "out")) == 6


def test_a_finished_search_takes_further_trials(data, tmp_path, trained):
    out = tmp_path / "out"
    find(data, out, trials=3)
    first = read_results(out)
    with pytest.raises(InputError, match="finished.*more trials"):
        find(data, out, trials=3)
    find(data, out, trials=6)
    assert read_results(out)[:3] == first
    assert len(trained) == 6
    find(data, tmp_path / "at_once", trials=6)
    assert timeless(read_results(out)) == timeless(read_results(tmp_path / "at_once"))


def test_another_search_in_its_directory(data, tmp_path):
    find(data, tmp_path / "out", trials=1)
    with pytest.raises(InputError, match="another tuner"):
        find(data, tmp_path / "out", trials=2, tuner="bayesian")
    with pytest.raises(InputError, match="another space"):
        find(data, tmp_path / "out", {**SPACE, "l2": [1.0, 2.0]}, trials=2)
    (tmp_path / "other").mkdir()
    with pytest.raises(InputError, match="holds no search"):
        find(data, tmp_path / "other")


def test_what_is_set_and_varied_all_the_same_is_told(data, tmp_path, capsys):
    space = {**SPACE, "batch_size": [512, 1024], "temperature": [1.0, 2.0]}
    space["gate"] = ["lhuc", "softmax"]
    told = "Not kept in all trials, since the space varies them: "
    base = {"batch_size": 700, "gate": "lhuc", "temperature": 2.0, "seed": 3}
    find(data, tmp_path / "out", space, trials=1, base=base)
    assert (
        f"{told}batch_size=700 gate=lhuc temperature=2; the first trial has "
        "batch_size=512 gate=lhuc. To keep a value, give a --space without its key\n"
    ) in capsys.readouterr().out
    [first] = read_results(tmp_path / "out")
    assert (first.settings["batch_size"], first.settings["gate"]) == (512, "lhuc")
    # What is not set is not told, though the default of the width depends on the data.
    space = {**SPACE, "embedding_dim": [8, 16], "epochs": [2, 3]}
    options = {"tuner": "random", "trials": 1, "retrain_trials": 0}
    search(data, tmp_path / "other", space=space, **options)
    assert told not in capsys.readouterr().out


@pytest.mark.parametrize("changes", [{"tuner": "grid"}, {"base": {"epochs": 0}}])
def test_arguments(data, tmp_path, changes):
    with pytest.raises(InputError, match="must be"):
        find(data, tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


class Killed(BaseException):
    """As a kill, at a chosen write of the oracle's state."""


@pytest.mark.parametrize("tuner", ORACLES)
def test_killed_at_each_write(data, tmp_path, monkeypatch, tuner, trained):
    """Whichever file was the last to be written, the search goes on the same."""
    trials = 5
    find(data, tmp_path / "whole", tuner=tuner, trials=trials)
    expected = timeless(read_results(tmp_path / "whole"))
    number = len(trained)
    trained.clear()
    writes, kills = 0, 0
    write = tuner_module.write_json

    def killing_write(path, value):
        nonlocal writes, kills
        writes += 1
        if writes > 2 + kills % 8:  # two are those of its start
            writes, kills = 0, kills + 1
            raise Killed
        write(path, value)

    for module in ("tuner", "oracles"):
        monkeypatch.setattr(f"edcn_tf.tuning.{module}.write_json", killing_write)
    for _ in range(200):
        try:
            find(data, tmp_path / "out", tuner=tuner, trials=trials)
            break
        except Killed:
            writes = 0
    assert kills > trials
    assert timeless(read_results(tmp_path / "out")) == expected
    # What had its result written was not trained again.
    assert number <= len(trained) <= 2 * number


def oracle_of(data, folder, name="random", **options):
    options = {"trials": 6, "epochs": 9, "seed": 0, **options}
    oracle = make_oracle(name, Objective(), **options)
    space = oracle.get_space()
    spec = FeatureSpec.load(data / "features")
    SearchSpace(spec, SPACE, BASE).declare_hyperparameters(space)
    oracle.update_space(space)
    oracle._set_project_dir(str(folder), "search")
    return oracle


def test_a_trial_that_its_state_does_not_know_is_drawn_anew(data, tmp_path):
    oracle = oracle_of(data, tmp_path)
    oracle.save()
    trial = oracle.create_trial("me")
    state = oracle.get_state()
    again = oracle_of(data, tmp_path)
    path = tmp_path / "search/oracle.json"
    without = {**state, "start_order": [], "ongoing_trials": {}}
    path.write_text(json.dumps(without))
    again.reload()
    assert again.trials == {}
    assert again.create_trial("me").trial_id == trial.trial_id
    shutil.rmtree(tmp_path / "search")


def test_a_finished_trial_is_not_handed_out_again(data, tmp_path):
    oracle = oracle_of(data, tmp_path)
    trial = oracle.create_trial("me")
    state = oracle.get_state()  # in which it runs
    oracle.update_trial(trial.trial_id, {"score": 0.5})
    trial.status = TrialStatus.COMPLETED
    oracle.end_trial(trial)
    (tmp_path / "search/oracle.json").write_text(json.dumps(state))
    again = oracle_of(data, tmp_path)
    again.reload()
    assert again.create_trial("me").trial_id != trial.trial_id
    assert again.end_order == [trial.trial_id]


def test_hours_of_earlier_processes_count(data, tmp_path, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("edcn_tf.tuning.oracles.time.monotonic", lambda: now[0])
    oracle = oracle_of(data, tmp_path, hours=1)
    now[0] += 3000
    oracle.create_trial("me")
    again = oracle_of(data, tmp_path, hours=1)
    again.reload()
    assert again.seconds == 3000
    now[0] += 601
    again._retry_queue.clear()
    assert again.create_trial("other").status == TrialStatus.STOPPED


def test_what_a_finished_search_was_of(data, tmp_path, monkeypatch):
    """More trials, or others trained anew, go on; also where that was killed."""
    out, anew = tmp_path / "out", {"retrain_trials": 1, "retrain_seeds": 2}
    find(data, out, trials=3)
    with pytest.raises(InputError, match="holds a finished search of 3 trials"):
        find(data, out, trials=3)
    find(data, out, trials=3, **anew)
    with pytest.raises(InputError, match="holds a finished search of 3 trials"):
        find(data, out, trials=3, **anew)

    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sys.modules[search.__module__], "retrain", killed)
        with pytest.raises(KeyboardInterrupt):
            find(data, out, trials=5, **anew)
    assert len((out / "trials.csv").read_text().splitlines()) == 1 + 3  # as it was
    find(data, out, trials=5, **anew)
    assert len((out / "trials.csv").read_text().splitlines()) == 1 + 5


def test_the_default_too_may_have_too_many_parameters(data, tmp_path):
    space = {**SPACE, "bridge": ["hadamard", "add"]}
    limited = {"max_parameters": 600, "retrain_trials": 1, "retrain_seeds": 2}
    best = find(data, tmp_path / "out", space, trials=6, **limited)
    assert best.to_dict()["bridge"] == "add"
    assert "# trial " in (tmp_path / "out/best.yaml").read_text()
