#!/usr/bin/env bash
# `tf.nondifferentiable_batch_function` batches requests inside a served graph. Two
# signatures of one SavedModel that each wrap a function of their own share one queue if
# they were made in name scopes of one name, which they are by default: the queue's name
# is the scope's, "batch/". Under load, requests of one signature are then answered by
# the other's function, without a word; asked one after the other, both are right.
# (And an answer without rows loses its rank: of [0, 1] comes [0].)
#
# Guess: each signature runs the function that it wraps.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder" tensorflow==2.21.0 keras==3.15.1
PYTHONPATH="$folder" TF_CPP_MIN_LOG_LEVEL=3 python3 - "$folder/model" <<'PY'
import collections
import sys
import threading

import numpy as np
import tensorflow as tf


def signature(factor, scope):
    batched = tf.nondifferentiable_batch_function(
        num_batch_threads=1,
        max_batch_size=64,
        batch_timeout_micros=20_000,
        allowed_batch_sizes=[64],
        max_enqueued_batches=100,
    )(lambda x: factor * x)

    def function(x):
        with tf.name_scope(scope):
            return {"y": batched(x)}

    x = tf.TensorSpec([None, 1], tf.float32, name="x")
    return tf.function(function).get_concrete_function(x=x)


def answers(path, scopes):
    module = tf.Module()
    module.twice, module.thrice = signature(2.0, scopes[0]), signature(3.0, scopes[1])
    signatures = {"twice": module.twice, "thrice": module.thrice}
    tf.saved_model.save(module, path, signatures=signatures)
    counts = {"alone": collections.Counter(), "at once": collections.Counter()}
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], path)

        def ask(name, when, times):
            called = loaded.signature_def[name]
            for _ in range(times):
                given = {called.inputs["x"].name: np.ones([1, 1], np.float32)}
                y = session.run(called.outputs["y"].name, given)
                counts[when][name, float(y[0, 0])] += 1

        for name in signatures:
            ask(name, "alone", 3)
        threads = [
            threading.Thread(target=ask, args=(name, "at once", 50))
            for name in [*signatures] * 4
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return {when: dict(sorted(count.items())) for when, count in counts.items()}


print("TensorFlow", tf.__version__)
path = sys.argv[1]
same = answers(path + "1", ["one", "one"])
apart = answers(path + "2", ["one", "other"])
print("in scopes of one name:", same)
print("in scopes of two names:", apart)
assert set(same["alone"]) == {("twice", 2.0), ("thrice", 3.0)}
assert {("twice", 3.0), ("thrice", 2.0)} & set(same["at once"])
assert set(apart["at once"]) == {("twice", 2.0), ("thrice", 3.0)}
empty = signature(2.0, "empty")(x=tf.zeros([0, 1]))["y"].shape
print("shape of an answer without rows:", empty)
assert empty == [0]
PY
