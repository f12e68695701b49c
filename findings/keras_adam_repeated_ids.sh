#!/usr/bin/env bash
# A batch of a CTR model looks up an id many times, so the gradient of its embedding
# table comes as IndexedSlices in which that id repeats. Keras' Adam adds up the pieces
# for its first moment, but squares them one by one for its second: a row that occurs a
# hundred times in a batch moves ten times as far as with the same gradient, dense.
# Frequent ids are trained at another learning rate than rare ones, without a word.
#
# Guess: a sparse gradient gives the step that the dense one gives.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder" tensorflow==2.21.0 keras==3.15.1
PYTHONPATH="$folder" TF_CPP_MIN_LOG_LEVEL=3 python3 - <<'PY'
import keras
import numpy as np
import tensorflow as tf


def moved(sparse):
    variable = keras.Variable(np.zeros((4, 1), "float32"))
    optimizer = keras.optimizers.Adam(1e-3)
    optimizer.build([variable])
    for _ in range(5):
        gradient = tf.IndexedSlices(
            tf.fill([101, 1], 0.01), tf.constant([1] * 100 + [2]), tf.constant([4, 1])
        )
        if not sparse:
            gradient = tf.convert_to_tensor(gradient)
        optimizer.apply([gradient], [variable])
    return [round(float(number), 4) for number in variable.numpy().ravel()]


dense, sparse = moved(sparse=False), moved(sparse=True)
print("Keras", keras.__version__, "TensorFlow", tf.__version__)
print("dense gradient ", dense)
print("sparse gradient", sparse)
assert dense[1] == -0.005 and sparse[1] == -0.05, (dense, sparse)
assert dense[2] == sparse[2] == -0.005, (dense, sparse)
PY
