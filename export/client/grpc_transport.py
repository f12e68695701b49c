"""How requests reach TF Serving by gRPC."""

import asyncio

import numpy as np
import pyarrow as pa

from edcn_tf.errors import InputError

from .connection import MOST_IDLE
from .errors import serving_error
from .served_model import read_signatures

TENSOR_TYPES = {  # of tensorflow/core/framework/types.proto
    pa.float32(): 1,
    pa.int32(): 3,
    pa.binary(): 7,
    pa.int64(): 9,
}
CHANNEL = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # After a refused connection the next try would wait a second by default, and two
    # minutes after many.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # A connection whose other end is gone without a word is given up when it has not
    # taken what was sent for 5 s, not only after a quarter of an hour. Linux does that
    # (TCP_USER_TIMEOUT), and gRPC asks for it where there are pings. Servers take one
    # every 5 minutes, during calls; who sends more is cut off.
    ("grpc.keepalive_time_ms", 310_000),
    ("grpc.keepalive_timeout_ms", 5000),
    ("grpc.client_idle_timeout_ms", 1000 * MOST_IDLE),
]


class GrpcTransport:
    """TF Serving's PredictionService, on one connection for all threads.

    Its coroutines never wait: what they call blocks.
    """

    def __init__(self, address, model, credentials):
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
        self._make_stub = prediction_service_pb2_grpc.PredictionServiceStub
        self._address, self._model, self._credentials = address, model, credentials
        self._open(grpc)

    def _open(self, grpc):
        """Makes the channel, by `grpc` or `grpc.aio`."""
        if self._credentials is None:
            self._channel = grpc.insecure_channel(self._address.place, CHANNEL)
        else:
            self._channel = grpc.secure_channel(
                self._address.place, self._credentials.of_channel(), CHANNEL
            )
        self._stub = self._make_stub(self._channel)

    async def signatures(self, seconds):
        """Name -> `Signature`, as the server has them."""
        from google.protobuf.json_format import MessageToDict

        request = self._metadata.GetModelMetadataRequest(
            metadata_field=["signature_def"]
        )
        self._name_model(request.model_spec)
        answer = await self._ask("GetModelMetadata", request, seconds)
        found = self._metadata.SignatureDefMap()
        answer.metadata["signature_def"].Unpack(found)
        return read_signatures(MessageToDict(found, preserving_proto_field_name=True))

    async def predict(self, name, signature, tensors, seconds):
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
        answer = await self._ask("Predict", request, seconds)
        outputs = {}
        for key, proto in answer.outputs.items():
            array = self._make_ndarray(proto)
            if array.dtype == object:
                array = np.char.decode(array.astype(bytes), "utf-8")
            outputs[key] = array
        return outputs

    async def close(self):
        self._channel.close()

    def _name_model(self, spec):
        spec.name = self._model.name
        if self._model.version is not None:
            spec.version.value = self._model.version
        elif self._model.version_label is not None:
            spec.version_label = self._model.version_label

    async def _ask(self, method, request, seconds):
        headers = self._credentials.headers() if self._credentials else {}
        try:
            return await self._call(method, request, seconds, tuple(headers.items()))
        except self._grpc.RpcError as error:
            raise serving_error(error.code().name, error.details()) from None

    async def _call(self, method, request, seconds, metadata):
        ask = getattr(self._stub, method)
        return ask(request, timeout=seconds, metadata=metadata)


class AioGrpcTransport(GrpcTransport):
    """The same for an event loop, which goes on while they wait."""

    _loop = None

    def _open(self, grpc):
        """Nothing yet: the channel belongs to the event loop that runs then."""

    async def _call(self, method, request, seconds, metadata):
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
            super()._open(self._grpc.aio)
        if self._loop is not loop:
            raise InputError(
                "An AsyncClient belongs to the event loop that first awaited it: make "
                "one in each. Received: another loop"
            )
        call = await super()._call(method, request, seconds, metadata)
        return await call

    async def close(self):
        if self._loop is not None:
            await self._channel.close()
