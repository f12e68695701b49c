"""PredictionLogs as TF Serving's request logger makes them."""

import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    input_pb2,
    prediction_log_pb2,
    regression_pb2,
)

MODEL = "clicks"


def predict_log(signature, inputs, outputs, version=1):
    """A PredictionLog of Predict: the request, the answer, and what is known of both.

    Args:
        signature: Its name; "" is what a client sends that does not say one.
        inputs, outputs: Name -> array; no outputs where responses are not logged.
        version: Of the model that answered.
    """
    log = _begun(signature or "serving_default", version)
    request, response = log.predict_log.request, log.predict_log.response
    request.model_spec.name = MODEL
    request.model_spec.signature_name = signature
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    response.model_spec.CopyFrom(log.log_metadata.model_spec)
    for name, value in (outputs or {}).items():
        response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
    return log


def classify_log(examples, scores, version=1, context=None):
    """Of Classify, with the classes "0" and "1"."""
    log = _begun("classify", version)
    log.classify_log.request.input.CopyFrom(input_of(examples, context))
    log.classify_log.response.model_spec.CopyFrom(log.log_metadata.model_spec)
    log.classify_log.response.result.CopyFrom(classes_of(scores))
    return log


def regress_log(examples, scores, version=1):
    """Of Regress."""
    log = _begun("regress", version)
    log.regress_log.request.input.CopyFrom(input_of(examples))
    log.regress_log.response.model_spec.CopyFrom(log.log_metadata.model_spec)
    log.regress_log.response.result.CopyFrom(values_of(scores))
    return log


def multi_inference_log(examples, scores, version=1):
    """Of MultiInference, which asks classify and regress at once."""
    log = _begun("classify", version)
    call = log.multi_inference_log
    call.request.input.CopyFrom(input_of(examples))
    for signature in ("classify", "regress"):
        call.request.tasks.add().model_spec.signature_name = signature
        result = call.response.results.add()
        result.model_spec.CopyFrom(log.log_metadata.model_spec)
        if signature == "classify":
            result.classification_result.CopyFrom(classes_of(scores))
        else:
            result.regression_result.CopyFrom(values_of(scores))
    return log


def input_of(examples, context=None):
    """tf.Examples, serialized, as the classify API sends them."""
    given = input_pb2.Input()
    holder = given.example_list
    if context is not None:
        holder = given.example_list_with_context
        holder.context.ParseFromString(context)
    for example in examples:
        holder.examples.add().ParseFromString(example)
    return given


def classes_of(scores):
    result = classification_pb2.ClassificationResult()
    for score in scores:
        classes = result.classifications.add()
        classes.classes.add(label="0", score=1 - score)
        classes.classes.add(label="1", score=score)
    return result


def values_of(scores):
    result = regression_pb2.RegressionResult()
    for score in scores:
        result.regressions.add(value=score)
    return result


def write_logs(path, logs, compression=None):
    """Writes PredictionLogs, or any bytes, as a TFRecord file; returns its path."""
    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for log in logs:
            data = log if isinstance(log, bytes) else log.SerializeToString()
            writer.write(data)
    return path


def _begun(signature, version):
    log = prediction_log_pb2.PredictionLog()
    told = log.log_metadata
    told.model_spec.name = MODEL
    told.model_spec.version.value = version
    told.model_spec.signature_name = signature
    told.sampling_config.sampling_rate = 0.1
    told.saved_model_tags.append("serve")
    told.timestamp_secs = 1_770_000_000
    return log
