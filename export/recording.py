"""Requests that are stored with a version: recorded ones with answers, and warm-up."""

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from edcn_tf.field import MISSING
from edcn_tf.files import write_json

from .request_sizes import RequestCosts
from .scoring import BATCH_SIZES
from .signatures import slot_ranges, without_value

RECORDED = "recorded_requests.tfrecord"
FEATURES = "features.json"
WARM_UP = "tf_serving_warmup_requests"  # the name that TF Serving looks for
# Of the recorded requests, where `RequestCosts` lets them be so large.
ROWS_AND_CANDIDATES = {1: 512, 2: 7, 7: 3, 512: 1}
CANDIDATES = 32  # of each user in a warm-up request
ODD_ROWS = 200
TOLERANCE = 1e-6  # of an answer, against the recorded one
LARGEST_TOLERANCE = 1e-4
# What each field is once; a string that no log holds is unseen.
EXTREMES = {
    "string": [
        "\u2603 unseen \U0001f600".encode(),
        b"\xff\xfe is no UTF-8",
        b"x" * 5000,
        b"a\0b",
        b" ",
    ],
    "int64": [0, -1, 2**63 - 1, -(2**63) + 1],
    "float32": [np.inf, -np.inf, 0.0, -0.0, 3.4e38, -3.4e38, 1e-45],
}


def record(directory, servable, model, records, batch_sizes=BATCH_SIZES):
    """Writes the requests of a version, and the answers that the model gives here.

    The answers come from the model and the encoder as training uses them, row by row
    of the log, not from the signatures that they are to prove. A request that would
    take too much memory (`RequestCosts`) is recorded in several parts, and a warm-up
    request has fewer candidates or is left out.

    Args:
        directory: The version's `assets.extra`.
        servable: The `Servable`.
        model: Ids to probability.
        records: Serialized tf.Examples, such as rows of the validation split.
        batch_sizes: Numbers of rows to warm up, where they are not too large.
    """
    rows = _Rows(servable, model, records)
    costs = rows.costs
    with tf.io.TFRecordWriter(str(directory / RECORDED)) as writer:
        start = 0
        for number, candidates in ROWS_AND_CANDIDATES.items():
            chosen = np.arange(start, start + number)
            start += number
            for name in servable.served:
                for part in _parts(chosen, costs.most_rows(name)):
                    inputs, outputs = _request(rows, name, part, candidates)
                    writer.write(_log(name, inputs, outputs))
    with tf.io.TFRecordWriter(str(directory / WARM_UP)) as writer:
        for name in servable.served:
            for size in costs.fitting(name, batch_sizes):
                chosen = np.arange(size) % rows.number
                inputs, _ = _request(rows, name, chosen, CANDIDATES, answer=False)
                writer.write(_log(name, inputs))
    features = _features(servable.encoder.spec)
    write_json(directory / FEATURES, {**features, "tolerance": rows.tolerance()})


def _parts(rows, most):
    return np.split(rows, range(most, len(rows), most))


def _request(rows, signature, chosen, candidates, answer=True):
    """Inputs of a signature, and, if wanted, the outputs that it should give."""
    if signature == "rank":
        candidates = min(candidates, rows.costs.most_candidates(len(chosen)))
        others = np.arange(len(chosen) * candidates) % rows.number
        others = others.reshape(len(chosen), candidates)
        inputs = rows.rank_features(chosen, others)
        return inputs, answer and {"probability": rows.rank_scores(chosen, others)}
    if signature in ("examples", "classify", "regress"):
        inputs = {"inputs": rows.records[chosen]}
    elif signature == "ids":
        inputs = {"ids": rows.ids[chosen]}
    else:
        names = [field.name for field in rows.schema.inputs]
        if signature == "fresh":
            names += [field.name for field in rows.schema.statistics]
        inputs = rows.features(chosen, names)
    if not answer:
        return inputs, None
    if signature == "explain":
        return inputs, rows.explanations(chosen)
    holds_statistics = signature in ("examples", "classify", "regress", "fresh")
    scores = (rows.own_scores if holds_statistics else rows.scores)[chosen]
    if signature == "classify":
        classes = np.array([[b"0", b"1"]] * len(chosen), object)
        return inputs, {"classes": classes, "scores": np.hstack([1 - scores, scores])}
    return inputs, {"outputs" if signature == "regress" else "probability": scores}


class _Rows:
    """Rows of the log, odd ones first, with ids and scores.

    `ids` and `scores` are those of requests that hold no statistics, `own_scores` with
    those that a record itself holds.
    """

    def __init__(self, servable, model, records):
        self.model, self.encoder = model, servable.encoder
        self.calibration = servable.calibration
        self.schema = self.encoder.spec.schema
        self.fields = self.schema.fields
        self.number = sum(ROWS_AND_CANDIDATES)
        odd = _odd_records(self.schema, records)
        step = max(1, -(-len(odd) // ODD_ROWS))
        everything = [*odd[::step], *records]
        everything *= -(-self.number // len(everything))
        self.records = np.array(everything[: self.number], object)
        self.costs = RequestCosts.of(model, self.schema, self.records)
        # Hundreds of calls: traced once, for eagerly they take most of an export.
        self._traced = tf.function(
            lambda ids: self.calibration(model(ids, training=False)), autograph=False
        ).get_concrete_function(
            tf.TensorSpec([None, self.encoder.spec.num_slots], tf.int32)
        )
        plain = np.array([_plain(each, self.schema) for each in self.records], object)
        self.ids = self._in_parts(self._encode, plain)
        self.scores = self.own_scores = self.score(self.ids)
        if self.schema.statistics:
            self.own_scores = self.score(self._in_parts(self._encode, self.records))

    def _in_parts(self, function, rows):
        parts = _parts(rows, self.costs.most_rows("serving_default"))
        return np.concatenate([function(tf.constant(part)).numpy() for part in parts])

    def _encode(self, records):
        return self.encoder(tf.io.parse_example(records, self.encoder.parsing()))

    def features(self, chosen, names):
        """Name -> array `[B]` or `[B, length]` of some fields of some rows."""
        parsing = {name: self.encoder.parsing()[name] for name in names}
        parsed = tf.io.parse_example(self.records[chosen], parsing)
        dtypes = {field.name: field.dtype for field in self.schema.fields}
        return {
            name: (
                value.to_tensor(MISSING[dtypes[name]])
                if isinstance(value, tf.RaggedTensor)
                else value
            ).numpy()
            for name, value in parsed.items()
        }

    def tolerance(self):
        """How far an answer may be from the recorded one: 1e-6, if float32 allows it.

        A wide model with large weights differs by more from itself, as the order of
        additions follows the size of a batch; then eight times as much as that.
        """
        ids = np.concatenate([self.ids, self.without_a_field()])[::2]
        alone = np.concatenate([self.score(ids[i : i + 1]) for i in range(len(ids))])
        noise = float(np.abs(alone - self.score(ids)).max())
        return min(max(8 * noise, TOLERANCE), LARGEST_TOLERANCE)

    def without_a_field(self):
        """The ids, with another field of each row unseen, as `explain` asks."""
        ids = self.ids.copy()
        _, _, others, _ = slot_ranges(self.encoder.spec)
        starts = np.cumsum([0, *[field.slots for field in self.fields]])
        for row in range(self.number):
            start = starts[row % len(self.fields)]
            ids[row, start] = others[start]
        return ids

    def score(self, ids):
        """`[B, S]` -> `[B, 1]`: the probability that is to be served."""
        return self._in_parts(self._traced, ids)

    def rank_features(self, chosen, others):
        """The user's features of some rows, the candidates' of `others` `[B, N]`."""
        users, candidates = (
            [f.name for f in self.schema.inputs if f.candidate == is_candidate]
            for is_candidate in (False, True)
        )
        of_rows = self.features(np.arange(others.max() + 1), candidates)
        of_candidates = {name: value[others] for name, value in of_rows.items()}
        return {**self.features(chosen, users), **of_candidates}

    def rank_scores(self, chosen, others):
        """`[B, N]`: scores of whole rows, put together for each candidate."""
        users, candidates = np.repeat(chosen, others.shape[1]), others.ravel()
        of = {f.name: candidates if f.candidate else users for f in self.fields}
        parts, start = [], 0
        for field in self.fields:
            if field.parts or field.counted:  # perhaps of a user's row and another
                values = {}
                for name in (*field.parts, *field.counted):
                    values |= self.features(of[name], [name])
                parts.append(self.encoder(values, [field.name]).numpy())
            else:
                parts.append(self.ids[of[field.name], start : start + field.slots])
            start += field.slots
        return self.score(np.hstack(parts)).reshape(others.shape)

    def explanations(self, chosen):
        ids, scores = self.ids[chosen], self.scores[chosen]
        _, _, others, _ = slot_ranges(self.encoder.spec)
        contributions, start = [], 0
        for field in self.fields:
            without = ids.copy()
            end = start + field.slots
            without[:, start:end] = without_value(field, others[start:end])
            start = end
            contributions.append(scores - self.score(without))
        names = [[field.name.encode() for field in self.fields]] * len(chosen)
        gates = self.model.gates() if hasattr(self.model, "gates") else {}
        return {
            "probability": scores,
            "contributions": np.hstack(contributions),
            "fields": np.array(names, object),
            **{
                f"{tower}_gates": np.repeat(weights.numpy()[None], len(chosen), axis=0)
                for tower, weights in gates.items()
            },
        }


def _plain(record, schema):
    """A serialized tf.Example without what it says of statistics."""
    if not schema.statistics:
        return record
    example = tf.train.Example.FromString(record)
    for field in schema.statistics:
        example.features.feature.pop(field.name, None)
    return example.SerializeToString()


def _odd_records(schema, records):
    """Rows with a field missing, unseen, or at the limits of its type."""
    base = tf.train.Example()
    odd = [base.SerializeToString()]  # everything is missing
    if records:
        base.ParseFromString(records[0])
    along = {main.name: others for main, *others in schema.sequences}
    lengths = {
        other.name: len(_values_of(base, main))
        for main, *others in schema.sequences
        for other in others
    }
    for field in schema.statistics:
        for counts in ([0, 0], [3, 7], [7, 7], [0, 1e6], [1e6, 1e7]):
            example = tf.train.Example()
            example.CopyFrom(base)
            _set(example, field, counts * len(field.counted))
            odd.append(example.SerializeToString())
    for field in schema.inputs:
        values = [[], *[[value] for value in EXTREMES[field.dtype]]]
        if field.is_vector:
            finite = [value for value in values if np.isfinite(value).all()]
            values = [value * field.length for value in finite]
        if field.is_list:
            first, second = EXTREMES[field.dtype][:2]
            empty = b"" if field.dtype == "string" else MISSING[field.dtype]
            values += [[first] * (field.max_length + 3), [empty, second, empty]]
        if field.name in lengths:  # along another, whose length it has
            length = lengths[field.name]
            values = [(value or _missing(field))[:1] * length for value in values]
        for value in values:
            example = tf.train.Example()
            example.CopyFrom(base)
            _set(example, field, value)
            for other in along.get(field.name, ()):
                _set(example, other, _missing(other) * len(value))
            odd.append(example.SerializeToString())
    return odd


def _missing(field):
    missing = MISSING[field.dtype]
    return [missing.encode() if field.dtype == "string" else missing]


def _set(example, field, values):
    example.features.feature[field.name].Clear()
    if values:
        _values_of(example, field).extend(values)


def _values_of(example, field):
    lists = {"string": "bytes_list", "int64": "int64_list", "float32": "float_list"}
    return getattr(example.features.feature[field.name], lists[field.dtype]).value


def _log(signature, inputs, outputs=None):
    """A serialized PredictionLog, as TF Serving logs and replays requests."""
    request = predict_pb2.PredictRequest()
    request.model_spec.signature_name = signature
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    log = prediction_log_pb2.PredictLog(request=request)
    for name, value in (outputs or {}).items():
        log.response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
    return prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString()


def _features(spec):
    """What verification has to know to find the field that differs: JSON."""
    fields = [
        {
            "name": field.field.name,
            "dtype": field.field.dtype,
            "slots": field.field.slots,
            "missing_id": field.offset,
            "of": field.field.parts,
        }
        for field in spec.fields
    ]
    return {"schema": spec.schema.to_dict(), "fields": fields}
