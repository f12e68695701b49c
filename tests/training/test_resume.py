"""An interrupted run goes on, and ends as one that was left alone."""

import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import edcn_tf
from edcn_tf.evaluation.scoring import load_run
from edcn_tf.records.encoded import encode_rows
from edcn_tf.training.callback import TrainingCallback
from edcn_tf.training.checkpoints.checkpoint import (
    latest_checkpoint,
    restore_checkpoint,
)
from edcn_tf.training.compiling import compiled_model
from helpers.forked import edcn
from helpers.small_log import edcn_command, history, prepare_small_log, set_options


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return prepare_small_log(tmp_path_factory.mktemp("resume"), 1500)


SMALL = {
    **{"epochs": 3, "batch_size": 64, "steps_per_execution": 2},
    **{"embedding_dim": 4, "num_layers": 1},
}


def config(**settings):
    return edcn_tf.TrainingConfig.from_dict({**SMALL, **settings})


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """Of a setting, the run that was left alone: trained once."""
    runs = {}

    def run_of(settings):
        key = json.dumps(settings.to_dict())
        if key not in runs:
            run = tmp_path_factory.mktemp("whole") / "run"
            edcn_tf.train(data, run, settings)
            runs[key] = run
        return runs[key]

    return run_of


def command(data, run, settings):
    return edcn_command("train", data, "--out", run, *set_options(settings))


def wait_for(condition, process):
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, "it ended by itself"
        assert time.monotonic() < deadline, "not in two minutes"
        time.sleep(0.02)


PROGRAM = """
import sys, edcn_tf
config = edcn_tf.TrainingConfig.from_dict(
    {"epochs": 200, "batch_size": 64, "embedding_dim": 4, "patience": 200}
)
edcn_tf.train(sys.argv[1], sys.argv[2], config)
"""


def test_a_killed_run_goes_on_from_its_last_epoch(data, tmp_path):
    run = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(data), str(run)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: list(run.glob("checkpoints/epoch-0000[3-9]*")), process)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    model, spec = load_run(run)  # the best one so far is whole
    assert model.count_params() > 0
    with pytest.raises(edcn_tf.InputError, match="unfinished run of another setting"):
        edcn_tf.train(data, run, config(epochs=2))
    epoch, step, path = latest_checkpoint(run)
    assert step == 0
    model = compiled_model(edcn_tf.TrainingConfig.load(run / "config.yaml"), spec)
    model.optimizer.build(model.trainable_variables)
    assert restore_checkpoint(path, model).epoch == epoch
    steps = int(model.optimizer.iterations)
    rows = json.loads((data / "summary.json").read_text())["splits"]["train"]["rows"]
    assert steps == epoch * -(-rows // 64)  # the optimizer goes on, not anew
    assert np.abs(model.optimizer.variables[2]).max() > 0


def test_the_same_command_goes_on_and_finishes(data, tmp_path, monkeypatch):
    run, settings = tmp_path / "run", config(epochs=5)

    begin = TrainingCallback.on_epoch_begin

    def stop(self, epoch, logs=None):
        if epoch == 3:
            raise KeyboardInterrupt
        begin(self, epoch, logs)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingCallback, "on_epoch_begin", stop)
        with pytest.raises(KeyboardInterrupt):
            edcn_tf.train(data, run, settings)
    assert not (run / "result.json").exists()
    result = edcn_tf.train(data, run, settings)
    assert result["epochs"] == 5
    assert [int(row["epoch"]) for row in history(run)] == [0, 1, 2, 3, 4]
    [kept] = (run / "checkpoints").iterdir()  # for a later run to start from
    assert kept.name == f"epoch-{result['best_epoch']:05d}-step-000000000"


def test_a_run_killed_after_its_last_epoch_gives_its_result(data, tmp_path):
    settings = config(epochs=2)
    first = edcn_tf.train(data, tmp_path / "run", settings, until=1)
    again = edcn_tf.train(data, tmp_path / "run", settings, until=1)
    assert again == first and again["parameters"] > 0


def weights_of(run):
    model, _ = load_run(run)
    return {v.path.partition("/")[2]: v.numpy() for v in model.weights}


@pytest.mark.parametrize("cached", [False, True])
def test_a_run_in_parts_is_the_run_in_one(data, whole, tmp_path, cached):
    """The order of rows too follows from seed and epoch alone."""
    encoded = tmp_path / "encoded" if cached else None
    if cached:
        encode_rows(data, encoded)
    settings = config(epochs=4, learning_rate=0.1, patience=1, drops=3)
    one = whole(settings)
    expected = json.loads((one / "result.json").read_text())
    for until in (1, 3):
        part = edcn_tf.train(
            data, tmp_path / "parts", settings, until=until, encoded=encoded
        )
        assert (part["epochs"], part["finished"]) == (until, False)
        assert not (tmp_path / "parts/result.json").exists()
    parts = edcn_tf.train(data, tmp_path / "parts", settings, encoded=encoded)
    assert parts["finished"]
    assert parts["valid_auc"] == pytest.approx(expected["valid_auc"], abs=1e-6)
    assert parts["best_epoch"] == expected["best_epoch"]
    expected = weights_of(one)
    for path, found in weights_of(tmp_path / "parts").items():
        np.testing.assert_allclose(found, expected[path], atol=1e-5, err_msg=path)


def assert_same(run, whole):
    """Two finished runs: figures, history and weights."""
    found, expected = (
        json.loads((each / "result.json").read_text()) for each in (run, whole)
    )
    for key in ("valid_auc", "valid_log_loss"):
        assert found[key] == pytest.approx(expected[key], abs=1e-6)
    assert found["best_epoch"] == expected["best_epoch"]
    for row, other in zip(history(run), history(whole), strict=True):
        for key in ("epoch", "loss", "val_auc", "val_log_loss", "learning_rate"):
            assert float(row[key]) == pytest.approx(float(other[key]), abs=1e-5), key
    expected = weights_of(whole)
    for path, value in weights_of(run).items():
        np.testing.assert_allclose(value, expected[path], atol=1e-5, err_msg=path)


class Stopped(BaseException):
    pass


@pytest.mark.parametrize(
    "stops", [[3], pytest.param([1, 1, 1], marks=pytest.mark.slow), [9, 12, 2, 7]]
)
def test_stopped_within_an_epoch_it_goes_on_at_that_step(
    data, whole, tmp_path, monkeypatch, stops
):
    """An epoch has 19 steps, that is 10 calls of two."""
    settings = config(checkpoint_minutes=0, learning_rate=0.1)
    after = TrainingCallback.on_train_batch_end
    steps = []
    for calls in stops:
        left = calls

        def stop(self, batch, logs=None):
            nonlocal left
            after(self, batch, logs)
            left -= 1
            if not left:
                steps.append(self.state.step)
                raise Stopped

        with monkeypatch.context() as patch:
            patch.setattr(TrainingCallback, "on_train_batch_end", stop)
            with pytest.raises(Stopped):
                edcn_tf.train(data, tmp_path / "run", settings)
    assert any(steps)
    edcn_tf.train(data, tmp_path / "run", settings)
    assert_same(tmp_path / "run", whole(settings))


@pytest.mark.usefixtures("optimized_graphs")
def test_sigterm_has_a_checkpoint_written_first(data, tmp_path):
    settings = {**SMALL, "epochs": 20, "patience": 20, "steps_per_execution": 1}
    run = tmp_path / "run"
    process = subprocess.Popen(
        command(data, run, settings), stdout=subprocess.PIPE, text=True
    )
    wait_for(lambda: latest_checkpoint(run), process)
    process.send_signal(signal.SIGTERM)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert "stopped by SIGTERM after" in told
    epoch, step, _ = latest_checkpoint(run)
    assert f"after {epoch} epochs and {step} steps; the same command" in told
    again = edcn_tf.train(data, run, config(**settings))
    whole = edcn_tf.train(data, tmp_path / "whole", config(**settings))
    assert again["valid_auc"] == pytest.approx(whole["valid_auc"], abs=1e-6)
    assert len(history(run)) == 20


def test_an_epoch_whose_line_was_not_written_is_in_the_history(data, whole, tmp_path):
    """Killed between the checkpoint and `history.csv`, or within the latter."""
    run, settings = tmp_path / "run", config()
    edcn_tf.train(data, run, settings, until=2)
    lines = (run / "history.csv").read_text().splitlines(keepends=True)
    (run / "history.csv").write_text("".join(lines[:2]) + lines[2][:7])
    edcn_tf.train(data, run, settings)
    assert [int(row["epoch"]) for row in history(run)] == [0, 1, 2]
    assert_same(run, whole(settings))


def test_the_last_epoch_s_line_too(data, tmp_path):
    """Killed there, training has ended, but the run is not finished."""
    run, settings = tmp_path / "run", config(epochs=2)
    edcn_tf.train(data, run, settings, until=1)
    (run / "history.csv").unlink()
    edcn_tf.train(data, run, settings, until=1)
    assert [int(row["epoch"]) for row in history(run)] == [0]


@pytest.mark.parametrize("what", ["vocabulary", "sampling"])
def test_other_data_under_the_same_name(data, tmp_path, what):
    """Its ids would be those of other values: never gone on with."""
    copy, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(data, copy)
    unfinished(copy, run)
    before = sorted(path.name for path in run.rglob("*"))
    if what == "vocabulary":
        lines = next((copy / "features/vocabulary").glob("*user*"))
        first, second, *rest = lines.read_text().splitlines()
        lines.write_text("\n".join([second, first, *rest]) + "\n")
    else:
        summary = json.loads((copy / "summary.json").read_text())
        summary["negative_sampling_rate"] = 0.5
        (copy / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(edcn_tf.InputError, match="unfinished run on other data than"):
        edcn_tf.train(copy, run, config())
    assert sorted(path.name for path in run.rglob("*")) == before
    assert edcn_tf.train(data, run, config())["finished"]


@pytest.mark.slow
@pytest.mark.usefixtures("optimized_graphs")
def test_twenty_kills(data, tmp_path):
    """Each at a random moment of a real process: it ends as if there had been none."""
    settings = {**SMALL, "epochs": 40, "patience": 40, "checkpoint_minutes": 0}
    subprocess.run(command(data, tmp_path / "whole", settings), check=True)
    run, random, kills = tmp_path / "run", np.random.default_rng(0), 0
    while kills < 20:
        process = subprocess.Popen(
            command(data, run, settings), stdout=subprocess.DEVNULL
        )
        before = latest_checkpoint(run)
        wait_for(lambda before=before: latest_checkpoint(run) != before, process)
        time.sleep(random.uniform(0, 0.5))
        assert process.poll() is None, f"it ended after {kills} kills"
        process.kill()
        process.wait()
        kills += 1
    subprocess.run(command(data, run, settings), check=True)
    assert_same(run, tmp_path / "whole")


def unfinished(data, run):
    edcn_tf.train(data, run, config(), until=1)
    return latest_checkpoint(run)[2]


def test_a_damaged_checkpoint_is_no_fresh_start(data, tmp_path):
    checkpoint = unfinished(data, tmp_path / "run")
    (values,) = checkpoint.glob("variables.data*")
    whole = values.read_bytes()
    for damage in (whole[: len(whole) // 2], b"", whole[:-9] + b"damaged!!"):
        values.write_bytes(damage)
        with pytest.raises(edcn_tf.InputError, match="epoch-00001.*is damaged"):
            edcn_tf.train(data, tmp_path / "run", config())
    values.write_bytes(whole)
    assert edcn_tf.train(data, tmp_path / "run", config())["epochs"] == 3


def test_two_processes_in_one_directory(data, tmp_path):
    run, settings = tmp_path / "run", {**SMALL, "epochs": 200, "patience": 200}
    process = subprocess.Popen(command(data, run, settings), stdout=subprocess.DEVNULL)
    try:
        wait_for(lambda: latest_checkpoint(run), process)
        with pytest.raises(edcn_tf.InputError, match="another process trains there"):
            edcn_tf.train(data, run, config(**settings))
    finally:
        process.kill()
        process.wait()


FULL_DISK = """
import resource, sys
import edcn_tf
limit = int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
from edcn import main
sys.exit(main(["train", sys.argv[1], "--out", sys.argv[2],
    *[f"--set={setting}" for setting in sys.argv[4:]]]))
"""


def test_a_full_disk(data, tmp_path):
    """By a limit on a file's size, at which the system refuses to write on."""
    checkpoint = unfinished(data, tmp_path / "run")
    sets = [f"{key}={value}" for key, value in SMALL.items()]
    ended = subprocess.run(
        [sys.executable, "-c", FULL_DISK, data, tmp_path / "run", "2000", *sets],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert ended.returncode != 0
    told = [line for line in ended.stderr.splitlines() if line.startswith("edcn train")]
    assert len(told) == 1 and "too large" in told[0].lower()
    assert latest_checkpoint(tmp_path / "run")[2] == checkpoint
    assert edcn_tf.train(data, tmp_path / "run", config())["epochs"] == 3


def test_deterministic_runs_are_equal_bit_for_bit(data, tmp_path):
    settings = {**SMALL, "dropout": 0.3, "unseen_rate": 0.1}
    options = [*set_options(settings), "--deterministic"]
    for name in "ab":
        status, _, err = edcn("train", data, "--out", name, *options, cwd=tmp_path)
        assert status == 0, err
    one, other = (weights_of(tmp_path / name) for name in "ab")
    assert one.keys() == other.keys()
    for path, value in one.items():
        np.testing.assert_array_equal(value, other[path], err_msg=path)
    assert "deterministic: true" in (tmp_path / "a/config.yaml").read_text()
