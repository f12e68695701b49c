"""The PredictionService, by gRPC."""

import contextlib

import grpc
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from .refusal import Refused, invalid

DEFAULT_SIGNATURE = "serving_default"


class GrpcService(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, standin):
        self._standin = standin

    def Predict(self, request, context):
        with self._called("Predict", request, context) as (model, name):
            answer = model.predict(name, tensors_of(request), request.output_filter)
            response = predict_pb2.PredictResponse()
            self._tell(response.model_spec, name)
            for key, array in answer.items():
                # As repeated values, which is how TF Serving answers.
                response.outputs[key].CopyFrom(
                    tf.compat.v1.make_tensor_proto(
                        array.tolist(), array.dtype, array.shape
                    )
                )
            return response

    def GetModelMetadata(self, request, context):
        with self._called("GetModelMetadata", request, context) as (model, _):
            if not request.metadata_field:
                raise invalid(
                    "GetModelMetadataRequest must specify at least one metadata_field"
                )
            if other := sorted({*request.metadata_field} - {"signature_def"}):
                raise invalid(f"Metadata field %s is not supported{other[0]}")
            response = get_model_metadata_pb2.GetModelMetadataResponse()
            self._tell(response.model_spec, "")
            response.metadata["signature_def"].Pack(model.signature_map())
            return response

    def Classify(self, request, context):
        with self._called("Classify", request, context) as (model, name):
            response = classification_pb2.ClassificationResponse()
            for row in model.classify(name, examples_of(request)):
                added = response.result.classifications.add()
                for label, score in row:
                    added.classes.add(label=label, score=score)
            self._tell(response.model_spec, name)
            return response

    def Regress(self, request, context):
        with self._called("Regress", request, context) as (model, name):
            response = regression_pb2.RegressionResponse()
            for value in model.regress(name, examples_of(request)):
                response.result.regressions.add(value=value)
            self._tell(response.model_spec, name)
            return response

    @contextlib.contextmanager
    def _called(self, method, request, context):
        """The model that is asked, and the name of the signature."""
        spec = request.model_spec
        version = spec.version.value if spec.HasField("version") else None
        try:
            self._standin.admit(dict(context.invocation_metadata()))
            if not request.HasField("model_spec"):
                raise invalid("Missing ModelSpec")
            model = self._standin.called(method, spec.name, version, spec.version_label)
            yield model, spec.signature_name or DEFAULT_SIGNATURE
        except Refused as refused:
            context.abort(grpc.StatusCode[refused.code], refused.message)

    def _tell(self, spec, signature):
        spec.name, spec.signature_name = self._standin.name, signature
        spec.version.value = self._standin.version


def tensors_of(request):
    """Input name -> array of a PredictRequest."""
    arrays = {}
    for alias, proto in request.inputs.items():
        try:
            arrays[alias] = tf.make_ndarray(proto)
        except (TypeError, ValueError):
            raise invalid(f"tensor parsing error: {alias}") from None
    return arrays


def examples_of(request):
    """Serialized tf.Examples of a ClassificationRequest or RegressionRequest."""
    given = request.input
    if given.HasField("example_list"):
        return [e.SerializeToString() for e in given.example_list.examples]
    # A message is merged with another by writing one after the other.
    context = given.example_list_with_context.context.SerializeToString()
    examples = given.example_list_with_context.examples
    return [context + example.SerializeToString() for example in examples]
