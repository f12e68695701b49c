"""A table of 2 GB: what its export takes of memory, in processes of their own."""

import subprocess
import sys

import pytest

from helpers.peak_memory import peak_of

ROWS = 1 << 25  # of 16 float32: 2.1 GB

MAKE = """
import sys, pathlib, pyarrow as pa, tensorflow as tf, edcn_tf
from edcn_tf.training.callback import save_model
from edcn_tf.features.writing import FeatureCounter
run, rows = pathlib.Path(sys.argv[1]), int(sys.argv[2])
run.mkdir()
fields = [{"name": "user", "hash_buckets": rows}, {"name": "item", "min_count": 1}]
schema = edcn_tf.Schema.from_dict({"label": "click", "fields": fields})
counter = FeatureCounter(schema)
counter.add(pa.record_batch({"user": ["a"], "item": ["x"], "click": [0]}))
model = edcn_tf.EDCN(counter.write(run / "features"))
model.build((None, 2))
model.compile()
save_model(model, run / "model.keras")
with tf.io.TFRecordWriter(str(run / "sample.tfrecord")) as writer:
    writer.write(tf.train.Example().SerializeToString())
"""

EXPORT = """
import sys, edcn_tf
edcn_tf.export.export_run(sys.argv[1], sys.argv[2])
"""


@pytest.mark.slow
def test_an_export_takes_the_model_and_less_than_one_gigabyte(tmp_path):
    run, models = str(tmp_path / "run"), tmp_path / "models"
    subprocess.run([sys.executable, "-c", MAKE, run, str(ROWS)], check=True)
    table = ROWS * 16 * 4
    peak = peak_of([sys.executable, "-c", EXPORT, run, str(models)])
    assert table < peak < table + 1e9
    # The verifying process by itself.
    from edcn_tf.export import verification

    peak = peak_of([sys.executable, verification.__file__, str(models / "1")])
    assert table < peak < table + 1e9
