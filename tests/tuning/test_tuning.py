"""Search: what it finds trains to the same score, and nothing is lost on the way."""

import csv
import dataclasses
import json
import math
import os
import re
import signal
import socket
import subprocess
import time

import numpy as np
import pytest
import yaml

import edcn_tf
from edcn_tf.errors import InputError
from edcn_tf.records.encoded import encode_rows
from edcn_tf.tuning import Objective, parallel, search
from edcn_tf.tuning.objective import FIGURES
from edcn_tf.tuning.process import ProcessError, run_apart
from edcn_tf.tuning.results import COMPLETED, FAILED, TrialResult
from edcn_tf.tuning.trial import Task, run_task
from edcn_tf.tuning.tuner import read_results
from helpers.small_log import edcn_command, history, prepare_small_log, set_options

BASE = {"batch_size": 128, "epochs": 3, "embedding_dim": 4, "l2": 1.0}
SPACE = {
    "bridge": ["hadamard", "concat", "add"],
    "learning_rate": {"low": 0.003, "high": 0.1, "log": True},
    "dropout": {"low": 0.0, "high": 0.5},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return prepare_small_log(tmp_path_factory.mktemp("tuning"), 2000)


@pytest.fixture
def space(tmp_path):
    """Writes a space and gives its path."""

    def write(parameters):
        path = tmp_path / f"space-{len(list(tmp_path.glob('space-*')))}.yaml"
        path.write_text(yaml.safe_dump(parameters))
        return path

    return write


def tune(data, out, space, **options):
    options = {"tuner": "random", "trials": 3, "retrain_trials": 0, **options}
    base = {**BASE, **options.pop("base", {})}
    return search(data, out, space=space, base=base, **options)


def command(data, out, space, *options):
    options = [*set_options(BASE), *options]
    return edcn_command("tune", data, "--out", out, "--space", space, *options)


def run_of(out, result):
    """The run directory of a trial."""
    (path,) = (
        path
        for path in out.glob("search/trial_*/run")
        if int(path.parent.name[len("trial_") :]) == result.number
    )
    return path


def seen(results):
    """What must not depend on kills, nor on the machine's speed."""
    return [
        (r.number, r.status, r.settings, r.epochs, r.best_epoch, r.continues)
        for r in results
    ]


@pytest.mark.usefixtures("optimized_graphs")
def test_best_yaml_trains_to_the_score_of_its_trial(data, tmp_path, space):
    found = tune(data, tmp_path / "out", space(SPACE), trials=2)
    results = read_results(tmp_path / "out")
    assert [r.number for r in results] == [0, 1]
    best = max(results, key=lambda r: r.score)
    config = edcn_tf.TrainingConfig.load(tmp_path / "out/best.yaml")
    assert config == found
    assert {key: config.to_dict()[key] for key in best.settings} == best.settings
    result = edcn_tf.train(data, tmp_path / "run", config)
    assert result["valid_auc"] == pytest.approx(best.auc, abs=1e-6)
    assert result["valid_log_loss"] == pytest.approx(best.log_loss, abs=1e-6)
    assert result["best_epoch"] == best.best_epoch
    assert result["parameters"] == best.parameters


@pytest.mark.usefixtures("optimized_graphs")
def test_hyperband_goes_on_with_the_best(data, tmp_path, space):
    """A trial that goes on is the same as one that had all its epochs at once."""
    out = tmp_path / "out"
    tune(data, out, space(SPACE), tuner="hyperband", trials=4)
    results = read_results(out)
    later = [r for r in results if r.continues is not None]
    assert later
    for result in later:
        earlier = results[result.continues]
        assert result.settings == earlier.settings
        assert result.epochs > earlier.epochs
    config = edcn_tf.TrainingConfig.load(run_of(out, later[0]) / "config.yaml")
    assert later[0].epochs == config.epochs == 3
    whole = edcn_tf.train(data, tmp_path / "whole", config)
    assert whole["valid_auc"] == pytest.approx(later[0].auc, abs=1e-6)
    left = list(out.glob("search/*/run/checkpoints"))
    assert len(left) < len(results)  # only what another trial may go on from


@pytest.mark.parametrize(
    "tuner, trials, kills, retrained",
    [
        pytest.param("hyperband", 4, 3, 0, marks=pytest.mark.slow),
        pytest.param("hyperband", 9, 10, 2, marks=pytest.mark.slow),
        pytest.param("bayesian", 6, 10, 1, marks=pytest.mark.slow),
    ],
)
def test_a_killed_search_goes_on(
    data, tmp_path, space, tuner, trials, kills, retrained
):
    """Killed at random moments, it ends as one that was left alone."""
    path = space(SPACE)
    options = ["--tuner", tuner, "--trials", trials, "--retrain", retrained]
    options += ["--retrain-seeds", 2]
    whole, out = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(command(data, whole, path, *options), check=True)
    random = np.random.default_rng(trials)
    kept, killed = {}, 0
    for _ in range(kills):
        process = subprocess.Popen(command(data, out, path, *options))
        _wait_for_a_change(out, process)
        time.sleep(random.uniform(0, 2))
        if process.poll() is not None:
            break
        process.kill()
        process.wait()
        killed += 1
        for result in read_results(out):
            assert kept.setdefault(result.number, result) == result
    assert killed == kills or trials > 4
    assert killed > 2
    if not (out / "best.yaml").exists():
        subprocess.run(command(data, out, path, *options), check=True)
    results, expected = read_results(out), read_results(whole)
    for number, result in kept.items():
        assert results[number] == result  # not run again
    assert seen(results) == seen(expected)
    for result, other in zip(results, expected):
        assert result.auc == pytest.approx(other.auc, abs=1e-5)
        epochs = [int(row["epoch"]) for row in history(run_of(out, result))]
        assert len(epochs) == len(set(epochs))  # no epoch twice
    assert (out / "best.yaml").read_text() == (whole / "best.yaml").read_text()


def _wait_for_a_change(out, process):
    """Until a search has done something that it had not done before."""

    def state():
        return [str(p) for p in out.glob("*/*/run/checkpoints/*")] + [
            str(p) for p in out.glob("*/*/*/history.csv")
        ]

    before, deadline = state(), time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if state() != before:
            return
        time.sleep(0.02)


def test_failed_trials_are_recorded_and_the_search_goes_on(data, tmp_path, space):
    path = space({**SPACE, "learning_rate": [0.01, 1e30]})
    tune(data, tmp_path / "out", path, trials=4)
    results = read_results(tmp_path / "out")
    assert len(results) == 4
    for result in results:
        diverges = result.settings["learning_rate"] > 1
        assert result.status == (FAILED if diverges else COMPLETED)
        assert ("loss became" in result.reason) == diverges
        assert math.isnan(result.score) == diverges
    assert {r.status for r in results} == {COMPLETED, FAILED}


def test_a_limit_of_parameters(data, tmp_path):
    """A model that is too large is not trained."""
    encode_rows(data, tmp_path / "encoded")
    known = {"data": str(data), "encoded": str(tmp_path / "encoded"), "config": BASE}
    large = Task(**known, run=str(tmp_path / "large"), max_parameters=100)
    with pytest.raises(InputError, match="parameters, more than the 100 of"):
        run_task(large)
    assert not (tmp_path / "large").exists()
    figures = run_task(
        Task(**known, run=str(tmp_path / "run"), max_parameters=10_000, until=1)
    )
    assert 100 < figures["parameters"] <= 10_000


@pytest.mark.slow
def test_the_best_are_trained_anew_beside_the_default(data, tmp_path, space):
    out = tmp_path / "out"
    tune(data, out, space(SPACE), trials=2, retrain_trials=1, retrain_seeds=2)
    runs = {path.parents[1].name for path in out.glob("retrained/*/seed-*/model.keras")}
    assert runs == {"default", "trial-1"}
    figures = [
        json.loads(p.read_text()) for p in out.glob("retrained/*/*/figures.json")
    ]
    assert len(figures) == 4 and all(0.4 < f["test_auc"] < 1 for f in figures)
    page = (out / "report.html").read_text()
    assert "default" in page
    with open(out / "trials.csv") as file:
        assert len(list(csv.DictReader(file))) == 2


@pytest.mark.slow
def test_chief_and_workers(data, tmp_path, space):
    """Real processes, three of them, by KerasTuner's own protocol."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    out, path = tmp_path / "out", space(SPACE)
    options = ["--tuner", "random", "--trials", "4", "--retrain", "0"]
    common = {"KERASTUNER_ORACLE_IP": "127.0.0.1", "KERASTUNER_ORACLE_PORT": str(port)}

    def start(name):
        environment = {**os.environ, **common, "KERASTUNER_TUNER_ID": name}
        return subprocess.Popen(
            command(data, out, path, *options),
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )

    chief = start("chief")
    while not (out / "search.json").exists():
        assert chief.poll() is None
        time.sleep(0.1)
    workers = [start("one"), start("two")]
    told = [process.communicate(timeout=240)[0] for process in [*workers, chief]]
    assert [process.returncode for process in [*workers, chief]] == [0, 0, 0]
    results = read_results(out)
    assert [r.number for r in results] == list(range(4))
    assert all(r.status == COMPLETED for r in results)
    mine = [set(re.findall(r"  trial (\d+): ", text)) for text in told[:2]]
    assert mine[0] and mine[1] and not mine[0] & mine[1]
    assert len(mine[0] | mine[1]) == 4
    assert (out / "best.yaml").exists()


def test_parallel_variables(monkeypatch):
    for name in parallel.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert parallel.role() == parallel.ALONE
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    with pytest.raises(InputError, match="KERASTUNER_TUNER_ID is not set"):
        parallel.role()
    monkeypatch.setenv("KERASTUNER_ORACLE_PORT", "8000")
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief")
    assert parallel.role() == parallel.CHIEF
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "worker-1")
    assert parallel.role() == parallel.WORKER


def test_objective():
    figures = {"auc": 0.8, "log_loss": 0.5, "latency_ms": 3.0, "parameters": 2_000_000}
    assert Objective().score(figures) == 0.8
    assert Objective("auc", 0.01, 0.02).score(figures) == pytest.approx(0.73)
    charged = Objective("log_loss", 0.01, 0.02)
    assert charged.score(figures) == pytest.approx(0.57)
    results = [
        TrialResult(number=n, status=COMPLETED, settings={}, score=s)
        for n, s in enumerate([0.2, 0.3, 0.1])
    ]
    assert [r.number for r in Objective().best(results)] == [1, 0, 2]
    assert [r.number for r in charged.best(results)] == [2, 0, 1]
    with pytest.raises(InputError, match="objective"):
        Objective("accuracy")
    with pytest.raises(InputError, match="latency_charge"):
        Objective(latency_charge=-1)
    assert set(FIGURES) <= {f.name for f in dataclasses.fields(TrialResult)}


def returns(value):
    print("told", value)
    return value + 1


def raises(kind):
    raise kind("a reason\nof two lines")


def ends(kind):
    if kind == "status":
        os._exit(3)
    os.kill(os.getpid(), kind)
    time.sleep(60)


def test_process(tmp_path):
    log = tmp_path / "log.txt"
    assert run_apart(returns, 1, log=log) == 2
    assert "told 1" in log.read_text()
    with pytest.raises(ProcessError, match="^ValueError: a reason of two lines"):
        run_apart(raises, ValueError, log=log)
    with pytest.raises(ProcessError, match=r"^a reason\\nof two lines"):  # its escape
        run_apart(raises, InputError, log=log)
    with pytest.raises(ProcessError, match="memory runs out"):
        run_apart(ends, signal.SIGKILL, log=log)
    with pytest.raises(ProcessError, match="SIGSEGV"):
        run_apart(ends, signal.SIGSEGV, log=log)
    with pytest.raises(ProcessError, match="status 3"):
        run_apart(ends, "status", log=log)
