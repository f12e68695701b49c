"""Replay recorded requests on a SavedModel as TF Serving loads it. Run as a program.

    python verification.py MODELS/NAME/VERSION

Needs TensorFlow and tensorflow-serving-api alone, and blocks Keras, whose import would
make models load that TF Serving cannot serve. The model is loaded twice by
TensorFlow's C++ session loader, the one that TF Serving uses: by way of `tf.compat.v1`
and of TensorFlow's C API. Prints what was replayed as a line of JSON; exit status 1 and
a line that says why if the model does not load, a request fails, or an answer differs
from the recorded one by more than the tolerance that is recorded too (1e-6, but for a
model whose own scores differ by more between batch sizes).
"""

import collections
import contextlib
import itertools
import json
import os
import sys

# That of edcn_tf.schema, which must not be imported here.
MISSING = {"string": b"", "int64": -(2**63), "float32": float("nan")}


def main(directory):
    sys.modules["keras"] = sys.modules["edcn_tf"] = None
    # Python leaves a program's folder out of its path if PYTHONSAFEPATH is set.
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import c_api
    import tensorflow as tf

    extra = os.path.join(directory, "assets.extra")
    recorded = os.path.join(extra, "recorded_requests.tfrecord")
    warm_up = os.path.join(extra, "tf_serving_warmup_requests")
    with open(os.path.join(extra, "features.json"), encoding="utf-8") as file:
        features = json.load(file)
    tolerance, fields = features["tolerance"], features["fields"]
    largest = 0.0
    for name, load in {"tf.compat.v1": _v1, "C API": c_api.Session}.items():
        with load(directory) as session:
            asked = collections.Counter()
            # Of those that differ, first the one whose field can be found.
            worst = max(
                _differences(session, _requests(tf, recorded), asked),
                key=lambda found: _gravity(found, tolerance),
            )
            if not worst["size"] <= tolerance:
                where = _row(worst)
                if worst["signature"] == "serving_default":
                    ids = _ids(_requests(tf, recorded), worst)
                    where += _field(session, worst, ids, fields, tolerance)
                sys.exit(f"loaded by {name}: {where}")
            largest = max(largest, worst["size"])
            warmed = 0
            for signature, inputs, _ in _requests(tf, warm_up):
                session.run(signature, inputs)
                warmed += 1
            signatures = sorted(session.signatures)
    unproven = set(signatures) - set(asked)
    if unproven:
        sys.exit(f"signature {min(unproven)!r} has no recorded request")
    result = {
        "largest_difference": largest,
        "tolerance": tolerance,
        "signatures": signatures,
        "requests": asked.total(),
        "warm_up_requests": warmed,
    }
    print(json.dumps(result))


def _requests(tf, path):
    """Of a TFRecord file of PredictionLogs, one by one: (signature, inputs, outputs).

    All at once they would take more memory than replaying them.
    """
    from tensorflow_serving.apis import prediction_log_pb2

    for record in tf.compat.v1.io.tf_record_iterator(path):
        log = prediction_log_pb2.PredictionLog.FromString(record).predict_log
        arrays = [
            {name: tf.make_ndarray(tensor) for name, tensor in tensors.items()}
            for tensors in (log.request.inputs, log.response.outputs)
        ]
        yield (log.request.model_spec.signature_name, *arrays)


@contextlib.contextmanager
def _v1(directory):
    """A session by way of `tf.compat.v1`, with the methods of `c_api.Session`."""
    import tensorflow as tf

    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], directory)
        yield _V1(session, loaded.signature_def)


class _V1:
    def __init__(self, session, signature_defs):
        self.session = session
        # One that only initializes variables is not for requests.
        self.signatures = {
            name: signature
            for name, signature in signature_defs.items()
            if not name.startswith("__")
        }

    def run(self, signature, inputs):
        signature = self.signatures[signature]
        return self.session.run(
            {name: tensor.name for name, tensor in signature.outputs.items()},
            {signature.inputs[name].name: value for name, value in inputs.items()},
        )


def _differences(session, requests, asked):
    """Of each request the worst difference, counted by signature in `asked`."""
    for signature, inputs, expected in requests:
        number = asked[signature]
        asked[signature] += 1
        yield {**_replay(session, signature, inputs, expected), "number": number}


def _replay(session, signature, inputs, expected):
    """Where an answer differs most from the recorded one."""
    import numpy as np

    answer = session.run(signature, inputs)
    worst = {"size": 0.0, "signature": signature}
    if sorted(answer) != sorted(expected):
        sys.exit(
            f"signature {signature!r} answers {sorted(answer)}, recorded were "
            f"{sorted(expected)}"
        )
    for name, value in expected.items():
        if answer[name].shape != value.shape:
            sys.exit(
                f"signature {signature!r}: {name!r} has the shape "
                f"{answer[name].shape}, recorded was {value.shape}"
            )
        if value.dtype == object:
            difference = np.where(answer[name] == value, 0.0, np.inf)
        else:
            difference = np.abs(answer[name].astype(np.float64) - value)
        difference = np.where(np.isnan(difference), np.inf, difference)
        place = np.unravel_index(np.argmax(difference), difference.shape)
        if difference[place] >= worst["size"]:
            worst = {
                "size": float(difference[place]),
                "signature": signature,
                "inputs": inputs,
                "output": name,
                "place": [int(i) for i in place],
                "answered": answer[name][place],
                "recorded": value[place],
            }
    return worst


def _gravity(difference, tolerance):
    size = difference["size"]
    differs = not size <= tolerance
    return differs, differs and difference["signature"] == "serving_default", size


def _row(worst):
    rows = len(next(iter(worst["inputs"].values())))
    row, *rest = worst["place"]
    inner = f" at {rest}" if worst["signature"] in ("rank", "explain") else ""
    return (
        f"signature {worst['signature']!r}, row {row + 1} of a request of {rows}: "
        f"{worst['output']!r}{inner} is {worst['answered']}, but {worst['recorded']} "
        "when it was trained"
    )


def _ids(requests, worst):
    """Of the request to `ids` that has the rows of one to `serving_default`."""
    ids = (inputs["ids"] for signature, inputs, _ in requests if signature == "ids")
    return next(itertools.islice(ids, worst["number"], None))


def _field(session, worst, ids, fields, tolerance):
    """Which field of the worst row is encoded in another way, if that is the cause.

    In the raw features and in the recorded ids alike, one field after the other is
    replaced by a missing value: without the field that differs, both agree.
    """
    import numpy as np

    inputs, row = worst["inputs"], worst["place"][0]
    raw = {name: value[row : row + 1] for name, value in inputs.items()}
    ids = ids[row : row + 1]

    def apart(raw, ids):
        scores = session.run("serving_default", raw), session.run("ids", {"ids": ids})
        return np.abs(np.subtract(*[s["probability"] for s in scores])).item()

    if apart(raw, ids) <= tolerance:
        return "; its ids give the same, so it is not the encoding that differs"
    ends = list(itertools.accumulate(field["slots"] for field in fields))
    left = {}
    for name in [field["name"] for field in fields if field["name"] in raw]:
        without, missing = ids.copy(), raw[name]
        for field, end in zip(fields, ends):
            if field["name"] == name:
                missing = np.full_like(raw[name], MISSING[field["dtype"]])
            elif name not in field.get("of", ()):  # a cross is missing with its part
                continue
            without[:, end - field["slots"] : end] = 0
            without[:, end - field["slots"]] = field["missing_id"]
        left[name] = apart({**raw, name: missing}, without)
    name = min(left, key=left.get)
    return f"; field {name!r} is encoded in another way: {raw[name][0]!r}"


if __name__ == "__main__":
    main(sys.argv[1])
