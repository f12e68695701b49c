"""A server that STANDS IN for TF Serving, whose program cannot be installed here.

    python tests/helpers/serving_standin.py MODELS/NAME --port 8500 --rest_api_port 8501

It speaks what clients of TF Serving speak: the gRPC PredictionService (Predict,
GetModelMetadata, Classify, Regress) by the protos of tensorflow-serving-api, and the
REST interface at /v1/models/NAME (status, metadata, :predict, :classify, :regress).
What it takes, what it refuses and with which status follows TF Serving's sources. The
model is loaded by TensorFlow's SavedModel session loader, as TF Serving loads it.

It shows that a client's requests are of the right form, and that a model answers them
with the right numbers. It does not show TF Serving's speed, its batching, its config
files, warm-up or change of versions: it serves one version, the newest that it finds
when it starts. Nor is it hardened: for tests and demonstrations.
"""

import argparse
import base64
import contextlib
import json
import re
import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf.json_format import MessageToDict
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

HTTP_STATUS = {
    "CANCELLED": 499,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "UNAUTHENTICATED": 401,
}
PATH = re.compile(
    r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?(/metadata|:\w+)?"
)


class Refused(Exception):
    """An error answer: name of the gRPC status code, and the message."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class Standin:
    """Serves a model on two free ports of this machine until it is closed.

    Args:
        path: The model's base directory (its newest version is served), or the
            directory of a version.
        name: The model's name; that of the base directory by default.
        labels: Label -> version.
        port: The gRPC port, or 0 for a free one.
        rest_api_port: The REST port, likewise.

    Attributes:
        grpc: Address of the gRPC server, `"localhost:PORT"`.
        rest: Address of the REST server, `"http://localhost:PORT"`.
        calls: Names of the methods that were called, in order; REST calls under the
            gRPC names.
        rows: First dimensions of the inputs of each predict request.
        connections: How many there have been to the REST server.
    """

    def __init__(self, path, name=None, *, labels=None, port=0, rest_api_port=0):
        path = Path(path).resolve()
        if not (path / "saved_model.pb").exists():
            versions = [p for p in path.glob("*") if p.name.isdigit()]
            path = max(versions, key=lambda p: int(p.name), default=path)
        self.name, self.version = name or path.parent.name, int(path.name)
        self.labels = labels or {}
        self.calls, self.rows = [], []
        self.connections, self._open = 0, []
        self._failures, self._delay = [], 0.0
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        with self._session.graph.as_default():
            loaded = tf.compat.v1.saved_model.load(self._session, ["serve"], str(path))
        self.signatures = {
            key: value
            for key, value in loaded.signature_def.items()
            if not key.startswith("__")
        }
        unlimited = [
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", -1),
            ("grpc.so_reuseport", 0),
        ]
        self._grpc = grpc.server(ThreadPoolExecutor(8), options=unlimited)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            _Service(self), self._grpc
        )
        self.grpc = f"localhost:{self._grpc.add_insecure_port(f'localhost:{port}')}"
        handler = type("Handler", (_Handler,), {"standin": self})
        self._http = ThreadingHTTPServer(("localhost", rest_api_port), handler)
        self.rest = f"http://localhost:{self._http.server_port}"
        self._grpc.start()
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Stops both servers."""
        self._grpc.stop(0).wait()
        self._http.shutdown()
        self.drop_connections()
        self._http.server_close()
        self._session.close()

    def drop_connections(self):
        """Closes the REST connections that clients keep open."""
        while self._open:
            with contextlib.suppress(OSError):  # closed already
                self._open.pop().shutdown(socket.SHUT_RDWR)

    def fail(self, code, times):
        """Answers the next so many requests with an error of that code."""
        self._failures += [code] * times

    @contextlib.contextmanager
    def delayed(self, seconds):
        """Answers every request so many seconds late, meanwhile."""
        self._delay = seconds
        try:
            yield
        finally:
            self._delay = 0.0

    def called(self, method, name, version, label):
        """Notes a call; refuses it if it is to fail or asks for another model."""
        self.calls.append(method)
        time.sleep(self._delay)
        if self._failures:
            raise Refused(self._failures.pop(0), "made to fail")
        wanted = f"Latest({name})"
        if label:
            if label not in self.labels:
                raise Refused(
                    "FAILED_PRECONDITION",
                    f"Unrecognized servable version label: {label}",
                )
            version = self.labels[label]
        if version is not None:
            wanted = f"Specific({name}, {version})"
        if name != self.name or version not in (None, self.version):
            raise Refused("NOT_FOUND", f"Servable not found for request: {wanted}")

    def predict(self, name, inputs):
        """Name -> array of the outputs of a signature."""
        signature = self.signatures.get(name)
        if signature is None:
            raise Refused(
                "FAILED_PRECONDITION", f'Serving signature key "{name}" not found.'
            )
        if set(inputs) != set(signature.inputs):
            extra = sorted(set(inputs) - set(signature.inputs))
            missing = sorted(set(signature.inputs) - set(inputs))
            raise Refused(
                "INVALID_ARGUMENT",
                f"input size does not match signature: {len(inputs)}!="
                f"{len(signature.inputs)}. Sent extra: {extra}. "
                f"Missing but required: {missing}.",
            )
        self.rows.append({array.shape[0] for array in inputs.values() if array.ndim})
        feed = {}
        for key, array in inputs.items():
            info = signature.inputs[key]
            dtype = tf.as_dtype(info.dtype)
            if array.dtype != dtype.as_numpy_dtype:
                raise Refused(
                    "INVALID_ARGUMENT",
                    f"Expects {key} to be {dtype.name} but {array.dtype} is provided",
                )
            feed[info.name] = array
        fetches = {key: info.name for key, info in signature.outputs.items()}
        try:
            return self._session.run(fetches, feed)
        except tf.errors.OpError as error:
            code = grpc.StatusCode(
                next(c.value for c in grpc.StatusCode if c.value[0] == error.error_code)
            )
            raise Refused(code.name, error.message) from None
        except ValueError as error:  # a shape that the signature does not take
            raise Refused("INVALID_ARGUMENT", str(error)) from None

    def classify(self, name, examples):
        """For each example a list of (label, score)."""
        signature = self._example_signature(name, {"classes", "scores"}, "classif")
        outputs = self._of_examples(signature, name, examples)
        rows = []
        for row in range(len(examples)):
            labels = outputs["classes"][row] if "classes" in outputs else None
            scores = outputs["scores"][row] if "scores" in outputs else None
            count = len(labels if labels is not None else scores)
            rows.append(
                [
                    (
                        "" if labels is None else labels[i].decode(),
                        0.0 if scores is None else scores[i],
                    )
                    for i in range(count)
                ]
            )
        return rows

    def regress(self, name, examples):
        """For each example a number."""
        signature = self._example_signature(name, {"outputs"}, "regress")
        values = self._of_examples(signature, name, examples)["outputs"]
        if values.shape not in [(len(examples),), (len(examples), 1)]:
            raise Refused(
                "INVALID_ARGUMENT",
                "Expected output Tensor shape to be either [batch_size] or "
                f"[batch_size, 1] but got {list(values.shape)}",
            )
        return values.ravel()

    def _example_signature(self, name, outputs, kind):
        signature = self.signatures.get(name)
        if signature is None:
            raise Refused(
                "INVALID_ARGUMENT", f"No signature was found with the name: {name}"
            )
        if len(signature.inputs) != 1:
            raise Refused("INVALID_ARGUMENT", "Expected one input Tensor.")
        if "inputs" not in signature.inputs or not outputs & set(signature.outputs):
            raise Refused(
                "FAILED_PRECONDITION",
                f"No {kind}ion inputs or outputs found in SignatureDef: {name}",
            )
        return signature

    def _of_examples(self, signature, name, examples):
        if not examples:
            raise Refused("INVALID_ARGUMENT", "Input is empty.")
        return self.predict(name, {"inputs": np.array(examples, object)})

    def signature_map(self):
        """What the server tells of its model."""
        found = get_model_metadata_pb2.SignatureDefMap()
        for key, value in self.signatures.items():
            found.signature_def[key].CopyFrom(value)
        return found


class _Service(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, standin):
        self._standin = standin

    def Predict(self, request, context):
        with self._called("Predict", request, context) as name:
            inputs = {k: tf.make_ndarray(v) for k, v in request.inputs.items()}
            response = predict_pb2.PredictResponse()
            self._tell(response.model_spec, name)
            for key, array in self._standin.predict(name, inputs).items():
                # As repeated values, which is how TF Serving answers.
                response.outputs[key].CopyFrom(
                    tf.compat.v1.make_tensor_proto(array.tolist(), array.dtype)
                )
            return response

    def GetModelMetadata(self, request, context):
        with self._called("GetModelMetadata", request, context):
            if list(request.metadata_field) != ["signature_def"]:
                raise Refused(
                    "INVALID_ARGUMENT",
                    "GetModelMetadataRequest must specify at least one metadata_field",
                )
            response = get_model_metadata_pb2.GetModelMetadataResponse()
            self._tell(response.model_spec, "")
            response.metadata["signature_def"].Pack(self._standin.signature_map())
            return response

    def Classify(self, request, context):
        with self._called("Classify", request, context) as name:
            response = classification_pb2.ClassificationResponse()
            self._tell(response.model_spec, name)
            for row in self._standin.classify(name, _examples(request.input)):
                added = response.result.classifications.add()
                for label, score in row:
                    added.classes.add(label=label, score=score)
            return response

    def Regress(self, request, context):
        with self._called("Regress", request, context) as name:
            response = regression_pb2.RegressionResponse()
            self._tell(response.model_spec, name)
            for value in self._standin.regress(name, _examples(request.input)):
                response.result.regressions.add(value=value)
            return response

    @contextlib.contextmanager
    def _called(self, method, request, context):
        spec = request.model_spec
        version = spec.version.value if spec.HasField("version") else None
        try:
            self._standin.called(method, spec.name, version, spec.version_label)
            yield spec.signature_name or "serving_default"
        except Refused as refused:
            context.abort(grpc.StatusCode[refused.code], str(refused))

    def _tell(self, spec, signature):
        spec.name, spec.signature_name = self._standin.name, signature
        spec.version.value = self._standin.version


def _examples(given):
    """Serialized tf.Examples of a `tensorflow.serving.Input`."""
    if given.HasField("example_list"):
        return [e.SerializeToString() for e in given.example_list.examples]
    context = given.example_list_with_context.context.SerializeToString()
    examples = given.example_list_with_context.examples
    return [context + example.SerializeToString() for example in examples]


class _Handler(BaseHTTPRequestHandler):
    """REST: `standin` is set by the class made of this one."""

    protocol_version = "HTTP/1.1"
    standin = None

    def setup(self):
        super().setup()
        self.standin.connections += 1
        self.standin._open.append(self.connection)

    def do_GET(self):
        self._answer(self._get)

    def do_POST(self):
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        self._answer(lambda *path: self._post(body, *path))

    def log_message(self, *_):
        pass

    def _answer(self, make):
        try:
            match = PATH.fullmatch(self.path)
            if match is None:
                raise Refused(
                    "INVALID_ARGUMENT",
                    f"Malformed request: {self.command} {self.path}",
                )
            status, answer = 200, make(*match.groups())
        except Refused as refused:
            status = HTTP_STATUS.get(refused.code, 500)
            answer = {"error": str(refused)}
        text = json.dumps(answer, indent=4).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)
        except ConnectionError:  # it waits no longer
            self.close_connection = True

    def _called(self, method, name, version, label):
        version = version and int(version)
        self.standin.called(method, unquote(name), version, label and unquote(label))

    def _get(self, name, version, label, what):
        spec = {"name": name, "signature_name": "", "version": self.standin.version}
        if what == "/metadata":
            self._called("GetModelMetadata", name, version, label)
            found = MessageToDict(
                self.standin.signature_map(),
                preserving_proto_field_name=True,
                always_print_fields_with_no_presence=True,
            )
            spec["version"] = str(spec["version"])
            return {"model_spec": spec, "metadata": {"signature_def": found}}
        self._called("GetModelStatus", name, version, label)
        state = {"error_code": "OK", "error_message": ""}
        number = str(self.standin.version)
        status = {"version": number, "state": "AVAILABLE", "status": state}
        return {"model_version_status": [status]}

    def _post(self, body, name, version, label, what):
        methods = {
            ":predict": ("Predict", self._predict),
            ":classify": ("Classify", self._classify),
            ":regress": ("Regress", self._regress),
        }
        if what not in methods:
            raise Refused("INVALID_ARGUMENT", f"Malformed request: POST {self.path}")
        method, answer = methods[what]
        self._called(method, name, version, label)
        try:
            request = json.loads(body)
        except ValueError as error:
            raise Refused("INVALID_ARGUMENT", f"JSON Parse error: {error}") from None
        if not isinstance(request, dict):
            raise Refused("INVALID_ARGUMENT", "JSON Value: Is not object")
        return answer(request, request.get("signature_name", "serving_default"))

    def _predict(self, request, name):
        if name not in self.standin.signatures:
            raise Refused(
                "INVALID_ARGUMENT",
                f'Serving signature name: "{name}" not found in signature def',
            )
        infos = self.standin.signatures[name].inputs
        if ("instances" in request) == ("inputs" in request):
            raise Refused(
                "INVALID_ARGUMENT", "Missing 'inputs' or 'instances' key, or both"
            )
        if "instances" in request:
            columns = _columns(request["instances"], infos)
        else:
            columns = request["inputs"]
            if not isinstance(columns, dict) or set(columns) == {"b64"}:
                if len(infos) > 1:
                    raise Refused(
                        "INVALID_ARGUMENT", "inputs is a plain value/list, but ..."
                    )
                columns = {next(iter(infos)): columns}
            for key in infos:
                if key not in columns:
                    raise Refused(
                        "INVALID_ARGUMENT",
                        f"Missing named input: {key} in 'inputs' object.",
                    )
        inputs = {key: _array(columns[key], infos[key]) for key in infos}
        outputs = self.standin.predict(name, inputs)
        nested = {key: _json(key, array) for key, array in outputs.items()}
        alone = len(nested) == 1
        if "inputs" in request:
            return {"outputs": next(iter(nested.values())) if alone else nested}
        rows = zip(*nested.values())
        return {
            "predictions": [row[0] if alone else dict(zip(nested, row)) for row in rows]
        }

    def _classify(self, request, name):
        rows = self.standin.classify(name, _json_examples(request))
        return {
            "results": [[[label, _number(score)] for label, score in r] for r in rows]
        }

    def _regress(self, request, name):
        values = self.standin.regress(name, _json_examples(request))
        return {"results": [_number(value) for value in values]}


def _columns(instances, infos):
    """Name -> values of a request in rows."""
    if not isinstance(instances, list) or not instances:
        raise Refused("INVALID_ARGUMENT", "No values in 'instances' array")
    if isinstance(instances[0], dict) and set(instances[0]) != {"b64"}:
        for number, row in enumerate(instances):
            if not isinstance(row, dict) or set(row) != set(infos):
                raise Refused(
                    "INVALID_ARGUMENT",
                    f"Failed to process element: {number} of 'instances' list. JSON "
                    f"object: {json.dumps(row)} keys must be equal to: "
                    f"{','.join(sorted(infos))}",
                )
        return {key: [row[key] for row in instances] for key in infos}
    if len(infos) > 1:
        raise Refused(
            "INVALID_ARGUMENT",
            "instances is a plain list, but expecting list of objects as multiple "
            "input tensors required as per tensorinfo_map",
        )
    return {next(iter(infos)): instances}


def _array(value, info):
    """A JSON value as an array; as strict with types as TF Serving."""
    dtype = tf.as_dtype(info.dtype)
    shape, first = [], value
    while isinstance(first, list):
        shape.append(len(first))
        first = first[0] if first else None
    flat = []

    def fill(part, level):
        if isinstance(part, list):
            if level >= len(shape) or len(part) != shape[level]:
                raise Refused(
                    "INVALID_ARGUMENT",
                    f"Encountered list at unexpected size: {len(part)} at level: "
                    f"{level} expected size: {shape[level : level + 1]}",
                )
            for item in part:
                fill(item, level + 1)
        elif level != len(shape):
            raise Refused(
                "INVALID_ARGUMENT",
                f"JSON Value: {json.dumps(part)} found at incorrect level: {level + 1}",
            )
        else:
            flat.append(_value(part, dtype))

    fill(value, 0)
    return np.array(flat, dtype.as_numpy_dtype).reshape(shape)


def _value(value, dtype):
    kind = type(value)
    if dtype == tf.string:
        if kind is str:
            return value.encode()
        if kind is dict and set(value) == {"b64"} and isinstance(value["b64"], str):
            return base64.b64decode(value["b64"])
    elif dtype.is_floating:
        if kind is float or (kind is int and abs(value) < 2**24):
            return value
    elif dtype.is_integer and kind is int and dtype.min <= value <= dtype.max:
        return value
    raise Refused(
        "INVALID_ARGUMENT",
        f"JSON Value: {json.dumps(value)} is not of expected type: {dtype.name}",
    )


def _json(name, array):
    """An array as nested lists, with the shortest numbers that are the same float."""
    if array.dtype == object:
        if name.endswith("_bytes"):
            texts = [{"b64": base64.b64encode(v).decode()} for v in array.ravel()]
        else:
            texts = [value.decode() for value in array.ravel()]
        flat = np.empty(array.size, object)
        flat[:] = texts
        return flat.reshape(array.shape).tolist()
    if array.dtype == np.float32:
        numbers = np.array([_number(value) for value in array.ravel()], np.float64)
        return numbers.reshape(array.shape).tolist()
    return array.tolist()


def _number(value):
    return float(str(value))


def _json_examples(request):
    """Serialized tf.Examples of the rows of a classify or regress request."""
    examples = request.get("examples")
    if not isinstance(examples, list) or not examples:
        raise Refused(
            "INVALID_ARGUMENT", "Expecting 'examples' value to be a list, not empty"
        )
    context = request.get("context", {})
    return [_example({**context, **row}).SerializeToString() for row in examples]


def _example(row):
    if not isinstance(row, dict):
        raise Refused("INVALID_ARGUMENT", "Example must be JSON object")
    example = tf.train.Example()
    for name, values in row.items():
        feature = example.features.feature[name]
        for value in values if isinstance(values, list) else [values]:
            if isinstance(value, dict) and set(value) == {"b64"}:
                kind, value = "bytes_list", base64.b64decode(value["b64"])
            elif isinstance(value, str):
                kind, value = "bytes_list", value.encode()
            elif isinstance(value, float):
                kind = "float_list"
            elif isinstance(value, int):
                kind, value = "int64_list", int(value)
            else:
                raise Refused(
                    "INVALID_ARGUMENT",
                    f"Feature: {name} has element with unexpected JSON type",
                )
            if feature.WhichOneof("kind") not in (None, kind):
                raise Refused(
                    "INVALID_ARGUMENT",
                    f"Unexpected element type in feature: {name}",
                )
            getattr(feature, kind).value.append(value)
    return example


def main():
    """Serves until it is interrupted."""
    sys.modules["keras"] = None  # its import would make more models load than do there
    parser = argparse.ArgumentParser(
        description="Stands in for TF Serving; for tests and demonstrations."
    )
    parser.add_argument("path", metavar="MODELS/NAME")
    parser.add_argument("--name", help="default: NAME")
    parser.add_argument("--port", type=int, default=8500, help="gRPC; default: 8500")
    parser.add_argument(
        "--rest_api_port", type=int, default=8501, help="REST; default: 8501"
    )
    args = parser.parse_args()
    with Standin(
        args.path, args.name, port=args.port, rest_api_port=args.rest_api_port
    ) as server:
        print(
            f"Stands in for TF Serving: model {server.name}, version {server.version}; "
            f"gRPC at {server.grpc}, REST at {server.rest}",
            flush=True,
        )
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
