"""What a PredictionLog asked, and which probability it was answered with."""

from typing import NamedTuple

import numpy as np

from edcn_tf.field import MISSING
from edcn_tf.logs.tfrecord import parsed_features

NOT_ROWS = {  # signatures whose requests are no traffic of raw values
    "ids": "requests of ids, of which raw values cannot be told",
    "explain": "requests of explain, which people ask",
}
KINDS = ("predict_log", "classify_log", "regress_log", "multi_inference_log")
POSITIVE = "1"  # the class whose score is the probability


class Unfit(Exception):
    """A record that is not what it has to be."""


class Asked(NamedTuple):
    """Rows of a request, and their scores.

    Attributes:
        columns: Name of each field and statistic -> its values row by row, and the
            number of values of each row; None in its place for single values.
        scores: `[B]` float64.
    """

    columns: dict
    scores: np.ndarray


def asked(log, schema, version=None):
    """`Asked` of a PredictionLog, or the reason why it is left out, a text.

    Args:
        log: The PredictionLog.
        schema: The `Schema`.
        version: Number of the version that must have answered; any if None.

    Raises:
        Unfit: If its inputs are not the schema's, or it holds no answer.
    """
    kind = log.WhichOneof("log_type")
    if kind not in KINDS:
        return f"requests of another kind: {kind}"
    call = getattr(log, kind)
    specs = _model_specs(call, kind)
    answered = next((s.version.value for s in specs if s.HasField("version")), None)
    if version is not None and answered not in (None, version):
        return f"requests answered by version {answered}"
    if kind == "predict_log":
        found = _predicted(call, specs[-1].signature_name or "serving_default", schema)
    else:
        found = _classified(call, kind, schema)
    if isinstance(found, str):
        return found
    scores = found.scores
    if not (np.isfinite(scores) & (scores >= 0) & (scores <= 1)).all():
        raise Unfit(f"a probability must be in [0, 1]. Received: {scores.tolist()[:9]}")
    return found


def _model_specs(call, kind):
    """Those of the answer, which knows the version, and then of the request."""
    if kind == "multi_inference_log":
        answers = [result.model_spec for result in call.response.results]
        return [*answers, *(task.model_spec for task in call.request.tasks)]
    return [call.response.model_spec, call.request.model_spec]


def _predicted(call, signature, schema):
    if signature in NOT_ROWS:
        return NOT_ROWS[signature]
    inputs = {name: _array(name, proto) for name, proto in call.request.inputs.items()}
    if signature in ("examples", "classify", "regress"):
        _check_names(signature, inputs, ["inputs"])
        columns = _of_examples(inputs["inputs"].ravel(), schema)
        rows = inputs["inputs"].size
    else:
        fields = {field.name: field for field in schema.inputs}
        if signature == "fresh":
            fields |= {field.name: field for field in schema.statistics}
        _check_names(signature, inputs, fields)
        columns, rows = _of_tensors(signature, inputs, fields)
        nothing = np.zeros(0, np.float32), np.zeros(rows, np.int64)
        columns |= {f.name: nothing for f in schema.statistics if f.name not in fields}
    output = {"classify": "scores", "regress": "outputs"}.get(signature, "probability")
    if output not in call.response.outputs:
        raise Unfit(f"holds no answer {output!r} to {signature}; log responses too")
    scores = _array(output, call.response.outputs[output])
    scores = scores[:, -1] if signature == "classify" and scores.ndim == 2 else scores
    return _with_scores(columns, scores.ravel(), rows)


def _classified(call, kind, schema):
    """Of Classify, Regress and MultiInference, whose inputs are tf.Examples."""
    given = call.request.input
    if given.WhichOneof("kind") == "example_list_with_context":
        context = given.example_list_with_context.context.SerializeToString()
        # Features that both have are the example's: of two entries the last counts.
        examples = [
            context + each.SerializeToString()
            for each in given.example_list_with_context.examples
        ]
    else:
        examples = [each.SerializeToString() for each in given.example_list.examples]
    answer = call.response
    if kind == "multi_inference_log":
        if not answer.results:
            raise Unfit("holds no answer; log responses too")
        answer = answer.results[0]
        is_classes = answer.WhichOneof("result") == "classification_result"
        both = answer.regression_result, answer.classification_result
        result = both[is_classes]
    else:
        is_classes, result = kind == "classify_log", answer.result
    if is_classes:
        scores = [
            next((c.score for c in each.classes if c.label == POSITIVE), np.nan)
            for each in result.classifications
        ]
    else:
        scores = [each.value for each in result.regressions]
    columns = _of_examples(np.array(examples, object), schema)
    return _with_scores(columns, np.array(scores, np.float64), len(examples))


def _with_scores(columns, scores, rows):
    if len(scores) != rows:
        raise Unfit(f"has {rows} rows, but {len(scores)} scores; log responses too")
    return Asked(columns, scores.astype(np.float64))


def _check_names(signature, inputs, expected):
    if set(inputs) != set(expected):
        raise Unfit(
            f"asks {signature} with inputs that are not the model's, which are "
            f"{sorted(expected)}; is it another model's log? Received: {sorted(inputs)}"
        )


def _array(name, proto):
    import tensorflow as tf

    try:
        return tf.make_ndarray(proto)
    except (TypeError, ValueError) as error:
        raise Unfit(f"{name!r} cannot be read: {str(error)[:200]}") from None


def _of_tensors(signature, inputs, fields):
    """Columns of a request's tensors, and its number of rows (of candidates)."""
    is_rank = signature == "rank"
    shapes = {name: value.shape for name, value in inputs.items()}
    candidates = [
        inputs[name].shape[:2] for name, f in fields.items() if is_rank and f.candidate
    ]
    users = len(next(iter(inputs.values()))) if all(shapes.values()) else 0
    each = candidates[0][1] if candidates and len(candidates[0]) == 2 else 1
    columns = {}
    for name, field in fields.items():
        of_candidate, value = is_rank and field.candidate, inputs[name]
        dtype = "float32" if field.is_statistic else field.dtype
        lead = (users, each) if of_candidate else (users,)
        has_list = field.is_list or field.is_vector or field.is_statistic
        fits = {"string": "OS", "int64": "i", "float32": "f"}[dtype]
        if value.ndim != len(lead) + has_list or value.shape[: len(lead)] != lead:
            raise Unfit(f"its inputs do not fit each other. Received: {shapes}")
        if value.dtype.kind not in fits:
            raise Unfit(f"{name!r} must be {dtype}. Received: {value.dtype}")
        value = value.reshape(int(np.prod(lead)), *value.shape[len(lead) :])
        if not of_candidate:
            value = np.repeat(value, each, axis=0)
        lengths = np.full(len(value), value.shape[1]) if has_list else None
        columns[name] = value.ravel(), lengths
    return columns, users * each


def _of_examples(records, schema):
    """Columns of serialized tf.Examples."""
    fields = (*schema.inputs, *schema.statistics)
    dtypes = {
        field.name: "float32" if field.is_statistic else field.dtype for field in fields
    }
    parsed = parsed_features(records, dtypes)
    if parsed is None:
        raise Unfit("holds a tf.Example that does not fit the schema")
    columns = {}
    for field in fields:
        values, lengths = parsed[field.name]
        if not (field.is_list or field.is_vector or field.is_statistic):
            if (lengths > 1).any():
                raise Unfit(f"{field.name!r} holds a list, but the schema says no")
            values, lengths = _single(values, lengths, field.dtype), None
        columns[field.name] = values, lengths
    return columns


def _single(values, lengths, dtype):
    missing = b"" if dtype == "string" else MISSING[dtype]
    column = np.full(len(lengths), missing, values.dtype)
    column[lengths == 1] = values
    return column
