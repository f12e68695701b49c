"""How requests reach TF Serving by gRPC."""

import numpy as np
import pyarrow as pa

from .served_model import ServingError, read_signatures

TENSOR_TYPES = {  # of tensorflow/core/framework/types.proto
    pa.float32(): 1,
    pa.int32(): 3,
    pa.binary(): 7,
    pa.int64(): 9,
}
CHANNEL = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # After a refused connection the next try would wait a second by default.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
]


class GrpcTransport:
    """TF Serving's PredictionService."""

    def __init__(self, address, model):
        # They take seconds, which REST does without.
        import grpc
        from tensorflow import make_ndarray
        from tensorflow_serving.apis import (
            get_model_metadata_pb2,
            predict_pb2,
            prediction_service_pb2_grpc,
        )

        self._grpc, self._make_ndarray = grpc, make_ndarray
        self._metadata, self._predict = get_model_metadata_pb2, predict_pb2
        self._model = model
        self._channel = grpc.insecure_channel(address, CHANNEL)
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    def signatures(self, seconds):
        """Name -> `Signature`, as the server has them."""
        from google.protobuf.json_format import MessageToDict

        request = self._metadata.GetModelMetadataRequest(
            metadata_field=["signature_def"]
        )
        self._name_model(request.model_spec)
        answer = self._ask(self._stub.GetModelMetadata, request, seconds)
        found = self._metadata.SignatureDefMap()
        answer.metadata["signature_def"].Unpack(found)
        return read_signatures(MessageToDict(found, preserving_proto_field_name=True))

    def predict(self, name, signature, tensors, seconds):
        """Name -> array of each output of the signature called `name`."""
        request = self._predict.PredictRequest()
        self._name_model(request.model_spec)
        request.model_spec.signature_name = name
        for key, (shape, values) in tensors.items():
            proto = request.inputs[key]
            proto.dtype = TENSOR_TYPES[values.type]
            for size in shape:
                proto.tensor_shape.dim.add(size=size)
            if values.type == pa.binary():
                proto.string_val.extend(values.to_pylist())
            else:
                proto.tensor_content = values.to_numpy().tobytes()
        answer = self._ask(self._stub.Predict, request, seconds)
        outputs = {}
        for key, proto in answer.outputs.items():
            array = self._make_ndarray(proto)
            if array.dtype == object:
                array = np.char.decode(array.astype(bytes), "utf-8")
            outputs[key] = array
        return outputs

    def close(self):
        self._channel.close()

    def _name_model(self, spec):
        spec.name = self._model.name
        if self._model.version is not None:
            spec.version.value = self._model.version
        elif self._model.version_label is not None:
            spec.version_label = self._model.version_label

    def _ask(self, method, request, seconds):
        try:
            return method(request, timeout=seconds)
        except self._grpc.RpcError as error:
            raise ServingError(error.details(), error.code().name) from None
