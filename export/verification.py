"""Replay recorded requests on a SavedModel as TF Serving loads it. Run as a program.

    python verification.py MODELS/NAME/VERSION

Needs TensorFlow alone and blocks Keras, whose import would make models load that TF
Serving cannot serve. The model is loaded by TensorFlow's session loader, the one that
TF Serving uses. Prints the largest difference from the recorded scores; exit status 1
and a line that says why if the model does not load or a score differs by over 1e-6.
"""

import json
import os
import sys

TOLERANCE = 1e-6
BATCHES = (1, 2, 7, 512)


def main(directory):
    sys.modules["keras"] = None
    import numpy as np
    import tensorflow as tf

    extra = os.path.join(directory, "assets.extra")
    with open(os.path.join(extra, "golden_scores.json"), encoding="utf-8") as file:
        golden = json.load(file)
    expected = np.array(golden["probability"], np.float32)
    path = os.path.join(extra, "golden_requests.tfrecord")
    records = tf.constant([r.numpy() for r in tf.data.TFRecordDataset(path)])
    features = {
        name: value.numpy()
        for name, value in tf.io.parse_example(
            records, {n: _parsing(tf, f) for n, f in golden["features"].items()}
        ).items()
    }
    inputs = {
        "serving_default": features,
        "ids": {"ids": np.array(golden["ids"], np.int32)},
    }
    worst = 0.0
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], directory)
        for name, feed in inputs.items():
            signature = loaded.signature_def[name]
            start = 0
            for size in BATCHES:
                rows = slice(start, start + size)
                start += size
                answer = session.run(
                    signature.outputs["probability"].name,
                    {signature.inputs[k].name: v[rows] for k, v in feed.items()},
                )
                difference = np.abs(answer[:, 0] - expected[rows])
                row = int(np.argmax(difference))
                if not difference[row] <= TOLERANCE:  # NaN fails too
                    sys.exit(
                        f"signature {name!r}, request {rows.start + row + 1}: scored "
                        f"{answer[row, 0]}, but {expected[rows][row]} when it was "
                        "trained"
                    )
                worst = max(worst, float(difference[row]))
    print(worst)


def _parsing(tf, feature):
    missing = {"string": "", "int64": -(2**63), "float32": float("nan")}
    missing, dtype = missing[feature["dtype"]], tf.dtypes.as_dtype(feature["dtype"])
    if feature["multiple"]:
        return tf.io.FixedLenSequenceFeature([], dtype, True, missing)
    return tf.io.FixedLenFeature([], dtype, missing)


if __name__ == "__main__":
    main(sys.argv[1])
