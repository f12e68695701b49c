"""How many rows a second are prepared, and read back for training."""

import importlib.util
import os
import tempfile
import time

import tensorflow as tf

from edcn_tf.directories import PreparedData
from edcn_tf.features.encoder import Encoder
from edcn_tf.features.spec import FeatureSpec
from edcn_tf.framing import refuse_damaged
from edcn_tf.logs.formats import SCHEMAS
from edcn_tf.logs.synthetic.writing import synthesize
from edcn_tf.preparation.local import prepare
from edcn_tf.records.reading import read_records
from edcn_tf.records.writing import record_files

BATCH = 2048
PASSES = 3


def benchmark_prepare(rows=400_000):
    """`edcn prepare` of a log with Criteo's 40 columns, processes started included."""
    with tempfile.TemporaryDirectory() as folder:
        log = os.path.join(folder, "log.tsv")
        synthesize(log, rows)
        print(f"{rows:,} rows of 40 columns, {os.cpu_count()} processors\n")
        print(f"{'':<28}{'rows/s':>12}{'records, B a row':>20}")
        ways = {
            f"{workers} writing process{'es' * (workers > 1)}": {"workers": workers}
            for workers in dict.fromkeys([1, os.cpu_count()])
        }
        if importlib.util.find_spec("apache_beam"):
            ways["--runner DirectRunner"] = {"runner": "DirectRunner"}
        for name, options in ways.items():
            data = os.path.join(folder, name)
            start = time.perf_counter()
            prepare([log], SCHEMAS["criteo"], data, format="criteo", **options)
            seconds = time.perf_counter() - start
            files = record_files(PreparedData(data).records("*"))
            size = sum(map(os.path.getsize, files))
            print(f"{name:<28}{rows / seconds:>12,.0f}{size / rows:>20.0f}")


def benchmark_input(rows=400_000):
    """Reading, parsing and encoding of records with Criteo's 40 columns."""
    with tempfile.TemporaryDirectory() as folder:
        log, data = os.path.join(folder, "log.tsv"), os.path.join(folder, "data")
        synthesize(log, rows)
        prepare(
            [log], SCHEMAS["criteo"], data, format="criteo", split=(1, 0, 0), workers=1
        )
        spec = FeatureSpec.load(PreparedData(data).features)
        pattern = PreparedData(data).records("train")
        files = record_files(pattern)
        encoder = Encoder(spec)
        refuse_damaged(files)
        records = tf.data.TFRecordDataset(files).batch(BATCH)
        variants = {
            "records alone": records,
            "parsed, not encoded": records.map(
                lambda r: tf.io.parse_example(r, encoder.parsing()),
                num_parallel_calls=tf.data.AUTOTUNE,
            ).prefetch(tf.data.AUTOTUNE),
            "read_records": read_records(pattern, spec, BATCH),
            "read_records, shuffle": read_records(pattern, spec, BATCH, shuffle=True),
            # Its first pass writes the file, the later ones read ids from it.
            "read_records, cache(FILE)": read_records(pattern, spec, BATCH).cache(
                os.path.join(folder, "ids")
            ),
        }
        print(
            f"{rows:,} rows of 40 columns, batches of {BATCH}, {os.cpu_count()} "
            f"processors; the best of {PASSES} passes\n"
        )
        print(f"{'':<28}{'rows/s':>12}")
        for name, dataset in variants.items():
            seconds = min(_seconds(dataset) for _ in range(PASSES))
            print(f"{name:<28}{rows / seconds:>12,.0f}")


def _seconds(dataset):
    start = time.perf_counter()
    for _ in dataset:
        pass
    return time.perf_counter() - start
