"""Time and memory of what is large in one respect: `edcn benchmark limits`."""

import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from edcn_tf.field import Field
from edcn_tf.framing import record_dataset
from edcn_tf.logs.synthetic.writing import synthesize
from edcn_tf.schema import Schema

from .serving import measured_command

EDCN = os.path.join(os.path.dirname(sys.executable), "edcn")
QUICK = ("epochs=1", "batch_size=8192", "embedding_dim=8")
ROWS = 4_600_000  # of the synthetic log, about a GB
MIB = 1 << 20


def benchmark_limits(rows=ROWS):
    """Prepares, trains on (an epoch) and evaluates what is large in one respect.

    Each step is a command in a process of its own; its peak of memory is that of the
    largest process. The files made are removed again.

    Args:
        rows: Rows of the largest log; the other cases shrink with it.
    """
    print(f"{os.cpu_count()} processors\n")
    print(f"{'':<42}{'':<10}{'seconds':>9}{'peak, MiB':>11}")
    for title, size, steps in [
        ("a training split in {:,} files", 10_000, _many_files),
        ("{:,} values in each row's list", 10_000, _long_lists),
        ("a field of {:,} values", 10_000_000, _many_values),
        ("a log of {:,} rows", ROWS, _large_log),
    ]:
        size = max(20, int(size * min(1, rows / ROWS)))
        with tempfile.TemporaryDirectory() as folder:
            for step, command in steps(Path(folder), size):
                seconds, peak = measured_command(command)
                print(
                    f"{title.format(size):<42}{step:<10}"
                    f"{seconds:>9.1f}{peak / MIB:>11,.0f}",
                    flush=True,
                )


def _many_files(folder, size):
    log = _log(folder, np.random.default_rng(0).integers(1000, size=20 * size))
    yield "prepare", _prepare(folder, log, Field(name="field"))
    [file] = (folder / "data").glob("train-*")
    records = list(record_dataset(file).as_numpy_iterator())
    file.unlink()
    for number, start in enumerate(range(0, len(records), 16)):
        path = folder / f"data/train-{number:05d}.tfrecord"
        with tf.io.TFRecordWriter(str(path)) as writer:
            for record in records[start : start + 16]:
                writer.write(record)
    yield from _learn(folder)


def _long_lists(folder, size):
    random = np.random.default_rng(0)
    lists = [random.integers(1000, size=size) for _ in range(1000)]
    field = Field(name="field", multiple=True, max_length=size)
    yield "prepare", _prepare(folder, _log(folder, lists), field)
    yield from _learn(folder, "batch_size=64")


def _many_values(folder, size):
    field = Field(name="field", min_count=1)
    yield "prepare", _prepare(folder, _log(folder, np.arange(size)), field)
    yield from _learn(folder)


def _large_log(folder, size):
    log = folder / "log.tsv"
    synthesize(log, size)
    prepare = [EDCN, "prepare", log, "--format", "criteo", "--out", folder / "data"]
    yield "prepare", prepare
    yield from _learn(folder)


def _log(folder, values):
    """A Parquet file of one field, whose values are text, and a label."""
    flat = pa.array(np.concatenate(values) if isinstance(values, list) else values)
    texts = flat.cast(pa.string())
    if isinstance(values, list):
        ends = np.cumsum([0, *map(len, values)])
        texts = pa.ListArray.from_arrays(pa.array(ends, pa.int32()), texts)
    clicks = np.random.default_rng(1).random(len(texts)) < 0.3
    path = folder / "log.parquet"
    pq.write_table(pa.table({"field": texts, "click": clicks.astype(np.int8)}), path)
    return path


def _prepare(folder, log, field):
    path = folder / "schema.json"
    Schema(label="click", fields=(field,)).save(path)
    return [EDCN, "prepare", log, "--schema", path, "--out", folder / "data"]


def _learn(folder, *settings):
    data, run = folder / "data", folder / "run"
    options = [f"--set={setting}" for setting in (*QUICK, *settings)]
    yield "train", [EDCN, "train", data, "--out", run, *options]
    yield "evaluate", [EDCN, "evaluate", run, data]
