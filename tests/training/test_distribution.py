"""Several devices and machines: the same model as from one process, only rows sent."""

import contextlib
import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
import types

import numpy as np
import pytest

import edcn_tf
from edcn_tf.training.workers import Workers, make_strategy
from helpers import distributed_fit

SECONDS = 300  # until a process counts as stuck, on however busy a machine
# At the end of an epoch one of two replicas has a row, and the other has none.
ROWS = {"train": 64 * 12 + 1, "valid": 64 * 3 + 1}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A log with a list and a weight, in which user and item together decide."""
    folder = tmp_path_factory.mktemp("distribution")
    random = np.random.default_rng(3)
    for split, rows in ROWS.items():
        lines = ["click,user,item,tags,weight,past"]
        for _ in range(rows):
            user, item = random.integers(0, 9), random.integers(0, 12)
            click = int(random.random() < (0.9 if (user + item) % 2 else 0.1))
            tags = "|".join(random.choice(list("abcd"), random.integers(0, 3)))
            past = "|".join(f"i{i}" for i in range(user % 4))
            lines.append(f"{click},u{user},i{item},{tags},{1 + user % 2},{past}")
        (folder / f"{split}.csv").write_text("\n".join(lines) + "\n")
    schema = {"label": "click", "weight": "weight"}
    schema["fields"] = [
        {"name": "user"},
        {"name": "item"},
        {"name": "tags", "multiple": True, "max_length": 2},
        {"name": "past", "kind": "sequence", "of": "item", "max_length": 3},
    ]
    logs = {split: [folder / f"{split}.csv"] for split in ROWS}
    edcn_tf.prepare(logs, edcn_tf.Schema.from_dict(schema), folder / "data")
    return folder / "data"


@contextlib.contextmanager
def processes(*commands):
    """Runs commands, each `(arguments, environment)`, side by side; leaves none."""
    started = []
    try:
        for arguments, environment in commands:
            started.append(
                subprocess.Popen(
                    arguments,
                    env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", **environment},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            )
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


def succeed(started):
    """Waits for all; returns their outputs."""
    deadline = time.monotonic() + SECONDS
    outputs = []
    for process in started:
        output, _ = process.communicate(timeout=deadline - time.monotonic())
        assert process.returncode == 0, output[-3000:]
        outputs.append(output)
    return outputs


def two_workers():
    """The environment of each of two workers at free ports of this machine."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(2)]
        for one in sockets:
            one.bind(("localhost", 0))
        addresses = [f"localhost:{one.getsockname()[1]}" for one in sockets]
    return [
        {
            "TF_CONFIG": json.dumps(
                {
                    "cluster": {"worker": addresses},
                    "task": {"type": "worker", "index": index},
                }
            )
        }
        for index in range(2)
    ]


def fits(kind, data, folder):
    """What one process, a mirrored one and two workers make of the same fit."""
    outs = {name: folder / f"{name}.npz" for name in ("mirrored", "first", "second")}

    def command(mode, name):
        arguments = [sys.executable, distributed_fit.__file__]
        arguments += [mode, data, outs[name], kind]
        return [str(argument) for argument in arguments]

    first, second = two_workers()
    with processes(
        (command("mirrored", "mirrored"), {}),
        (command("multi_worker", "first"), first),
        (command("multi_worker", "second"), second),
    ) as started:
        one = distributed_fit.fit(data, kind)
        succeed(started)
    return {"one": one, **{name: dict(np.load(out)) for name, out in outs.items()}}


@pytest.fixture(scope="module")
def clipped(data, tmp_path_factory):
    return fits("clipped", data, tmp_path_factory.mktemp("clipped"))


def assert_alike(one, other, tolerance):
    for name in one:
        if name.startswith(("history/", "weight/", "optimizer/", "averaged")):
            np.testing.assert_allclose(
                other[name], one[name], atol=tolerance, rtol=tolerance, err_msg=name
            )


@pytest.mark.parametrize("name", ["mirrored", "first", "second"])
def test_it_learns_what_one_process_learns(clipped, name):
    """Loss, AUC, weights, slots, averages; clipped by norm; rows of unequal weight."""
    one = clipped["one"]
    assert one["history/val_auc"][-1] > one["history/val_auc"][0] + 0.1  # it learns
    assert one["optimizer/0"] == 3 * 13  # steps; the end of an epoch is none
    assert_alike(one, clipped[name], 1e-4)


@pytest.mark.parametrize("name", ["mirrored", "first"])
def test_what_is_sent_follows_the_batch(clipped, data, name):
    spec = edcn_tf.FeatureSpec.load(data / "features")
    model = distributed_fit.compiled(spec, "clipped")
    model.build((None, spec.num_slots))
    table = model.embedding.table.shape
    dense = sum(np.prod(w.shape) for w in model.trainable_weights) - np.prod(table)
    sent = set(clipped[name]["sent"])
    # Numbers of rows of the batch; gradients of all but the table, in one piece; and
    # of the table how many rows, which, and their gradients, padded to equal length.
    expected = {
        "CollectiveReduceV2 float32 [1]",
        f"CollectiveReduceV2 float32 [{dense:.0f}]",
        "CollectiveGatherV2 int32 [-1]",
        f"CollectiveGatherV2 float32 [-1, {table[1]}]",
        "CollectiveGatherV2 float32 [-1, -1]",
    }
    if name == "first":
        expected.add("CollectiveReduceV2 int64 [1]")  # whether a worker has rows left
    assert sent == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["edcn", "linear", "adam", "history", "normalized", "mixed"]
)
def test_other_models_and_optimizers(kind, data, tmp_path):
    results = fits(kind, data, tmp_path)
    one = results.pop("one")
    # BatchNorm's variance is by another formula there; bfloat16 has three digits.
    tolerance = {"normalized": 1e-2, "mixed": 1e-1}.get(kind, 1e-4)
    for other in results.values():
        if kind in ("normalized", "mixed"):
            for name in ("history/loss", "history/val_loss"):
                np.testing.assert_allclose(other[name], one[name], atol=tolerance)
        else:
            assert_alike(one, other, tolerance)
    for name in results["first"]:  # both workers have the very same model
        if name.startswith(("weight/", "optimizer/")):
            np.testing.assert_array_equal(
                results["first"][name], results["second"][name], err_msg=name
            )


@pytest.mark.slow
def test_replicas_draw_apart(data, tmp_path):
    results = fits("random", data, tmp_path)
    seeds = [name for name in results["mirrored"] if name.startswith("seeds/")]
    assert len(seeds) == 3  # dropout of two layers, and unseen_rate
    for name in seeds:
        first, second = results["mirrored"][name]
        assert first != second
        assert results["first"][name] != results["second"][name]
    np.testing.assert_array_equal(
        results["first"]["weight/0"], results["second"]["weight/0"]
    )


def test_workers_of_no_strategy():
    workers = Workers()
    assert (workers.number, workers.index, workers.is_chief) == (1, 0, True)
    assert workers.of_chief([0.25, 3.0]) == [0.25, 3.0]
    assert workers.input(7, lambda batch_size, shard: (batch_size, shard)) == (7, None)


def test_the_batch_is_that_of_all_replicas():
    three = types.SimpleNamespace(num_replicas_in_sync=3, cluster_resolver=None)
    workers = Workers(three)
    assert workers.input(96, lambda *given: given) == (96, None)
    with pytest.raises(edcn_tf.InputError, match="multiple of 3. Received: 64"):
        workers.input(64, None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"cluster": {"worker": ["a:1", "b:2"]}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "chief", "index": 0}}',
        '{"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, '
        '"task": {"type": "worker", "index": 0}}',
    ],
)
def test_a_cluster_that_is_none(text, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(edcn_tf.InputError, match="environment variable TF_CONFIG"):
        make_strategy("multi_worker")


def training(data, run):
    """The commands of two workers that train together."""
    arguments = [sys.executable, "-c", "import sys, edcn; sys.exit(edcn.main())"]
    arguments += ["train", str(data), "--out", str(run), "--strategy", "multi_worker"]
    for setting in ("epochs=12", "batch_size=64", "embedding_dim=4", "patience=99"):
        arguments += ["--set", setting]
    return [(arguments, environment) for environment in two_workers()]


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_worker_is_killed_and_all_go_on(victim, data, tmp_path):
    run = tmp_path / "run"
    with processes(*training(data, run)) as started:
        deadline = time.monotonic() + SECONDS
        while not list(run.glob("checkpoints/epoch-0000[2-9]*")):
            assert time.monotonic() < deadline, "no second epoch"
            assert all(process.poll() is None for process in started)
            time.sleep(0.05)
        started[victim].send_signal(signal.SIGKILL)
        survivor = started[1 - victim]
        output, _ = survivor.communicate(timeout=SECONDS)
    assert survivor.returncode == 1
    assert f"Worker {1 - victim} of 2 stops: another has ended" in output
    assert "Traceback" not in output
    assert not (run / "result.json").exists()

    with processes(*training(data, run)) as started:
        chief, other = succeed(started)
    assert "Best epoch" in chief
    assert "Best epoch" not in other
    with open(run / "history.csv", newline="") as lines:
        epochs = [int(row["epoch"]) for row in csv.DictReader(lines)]
    assert epochs == list(range(12))  # none twice, none left out
    result = json.loads((run / "result.json").read_text())
    assert result["epochs"] == 12
    [kept] = (run / "checkpoints").iterdir()  # for a later run to start from
    assert kept.name == f"epoch-{result['best_epoch']:05d}-step-000000000"
    figures = edcn_tf.evaluate_run(run, data, "valid")
    assert figures["auc"] == pytest.approx(result["valid_auc"], abs=1e-6)


@pytest.mark.slow
def test_only_the_chief_needs_the_run_directory(data, tmp_path):
    """But to go on from a checkpoint all must see it."""
    commands = training(data, tmp_path / "run")
    arguments, environment = commands[1]
    elsewhere = [str(tmp_path / "other") if a.endswith("run") else a for a in arguments]
    with processes(commands[0], (elsewhere, environment)) as started:
        succeed(started)
    assert (tmp_path / "run" / "model.keras").exists()
    assert not (tmp_path / "other").exists()
