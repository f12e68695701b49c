#!/usr/bin/env bash
# Where requests wait to be scored as one batch, each has a deadline of its own. With
# `tf.nondifferentiable_batch_function` the whole batch runs under that of the request
# that came last: if it has passed when the batch's turn comes, the requests beside it,
# which have all the time in the world, fail too, with INTERNAL, as if the model were
# broken.
#
# Guess: a request that is late fails alone.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder" tensorflow==2.21.0 keras==3.15.1
PYTHONPATH="$folder" TF_CPP_MIN_LOG_LEVEL=3 python3 - "$folder/model" <<'PY'
import collections
import sys
import threading
import time

import numpy as np
import tensorflow as tf


@tf.nondifferentiable_batch_function(
    num_batch_threads=1,
    max_batch_size=1_000_000,
    batch_timeout_micros=0,
    allowed_batch_sizes=[8],
    max_enqueued_batches=100,
)
def slow(x):
    matrix = tf.random.normal([1500, 1500])
    for _ in range(6):
        matrix = tf.tanh(0.03 * matrix @ matrix)
    return x + 0.0 * tf.reduce_sum(matrix)


module = tf.Module()
row = tf.TensorSpec([None, 1], tf.float32, name="x")
module.ask = tf.function(lambda x: {"y": slow(x)}).get_concrete_function(x=row)
tf.saved_model.save(module, sys.argv[1], signatures={"ask": module.ask})
ends, message = collections.Counter(), None
with tf.compat.v1.Session(graph=tf.Graph()) as session:
    loaded = tf.compat.v1.saved_model.load(session, ["serve"], sys.argv[1])
    signature = loaded.signature_def["ask"]

    def ask(name, timeout_in_ms=0):
        global message
        given = {signature.inputs["x"].name: np.ones([1, 1], np.float32)}
        options = tf.compat.v1.RunOptions(timeout_in_ms=timeout_in_ms)
        try:
            session.run(signature.outputs["y"].name, given, options=options)
            ends[name, "answered"] += 1
        except tf.errors.OpError as error:
            ends[name, type(error).__name__] += 1
            if name == "patient":
                message = " ".join(str(error).split())

    ask("first")
    for _ in range(10):
        threads = []
        for name, timeout_in_ms in [
            ("first", 0),  # keeps the only thread busy
            *[("patient", 0)] * 3,
            ("hasty", 20),  # the last of the batch that waits meanwhile
        ]:
            threads.append(threading.Thread(target=ask, args=(name, timeout_in_ms)))
            threads[-1].start()
            time.sleep(0.01)
        for thread in threads:
            thread.join()
print("TensorFlow", tf.__version__)
for (name, end), number in sorted(ends.items()):
    print(f"{name}: {number} times {end}")
print(message)
assert ends["first", "answered"] == 11
assert ends["patient", "InternalError"] > 0
assert "Missing 0-th output" in message
PY
