"""The server itself: two ports, one model, and the faults that a test orders."""

import contextlib
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import ThreadingHTTPServer

import grpc
from tensorflow_serving.apis import prediction_service_pb2_grpc

from .batching_parameters import read_batching_parameters
from .grpc_service import GrpcService
from .model import Model, newest_version
from .refusal import Refused, invalid
from .rest_handler import RestHandler
from .warm_up import warm_up

OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.so_reuseport", 0),
]
CALLS_AT_ONCE = 64


class Standin:
    """Serves a model on two free ports of this machine until it is closed.

    Args:
        path: The model's base directory (its newest version is served), or the
            directory of a version.
        name: The model's name; that of the base directory by default.
        labels: Label -> version.
        port: The gRPC port, or 0 for a free one.
        rest_api_port: The REST port, likewise.
        batching: `BatchingParameters`, or their text form, for `--enable_batching`;
            None serves each request alone.
        enable_model_warmup: Whether warm-up requests are replayed first.
        credentials: With TLS: what it shows and wants to see
            (`helpers.certificates.ServerCredentials`).

    Attributes:
        grpc: Address of the gRPC server, `"localhost:PORT"`, with TLS after `grpcs://`.
        rest: Address of the REST server, `"http://localhost:PORT"`, or `https://`.
        calls: Names of the methods that were called, in order; REST calls under the
            gRPC names.
        rows: First dimensions of the inputs of each predict request.
        batches: Rows of each batch that ran, with those that filled it up.
        connections: How many there have been to the REST server.

    Raises:
        Refused: If TF Serving would not load the version, or not start.
    """

    def __init__(
        self,
        path,
        name=None,
        *,
        labels=None,
        port=0,
        rest_api_port=0,
        batching=None,
        enable_model_warmup=True,
        credentials=None,
    ):
        version = newest_version(path)
        if isinstance(batching, str):
            batching = read_batching_parameters(batching)
        self.name, self.version = name or version.parent.name, int(version.name)
        self.labels = labels or {}
        self.calls, self.connections = [], 0
        self._open, self._failures, self._delay = [], [], 0.0
        self._model = Model(version, batching)
        self.rows, self.batches = self._model.rows, self._model.batches
        try:
            if enable_model_warmup:
                warm_up(self._model, version)
        except BaseException:
            self._model.close()
            raise
        self._grpc = grpc.server(ThreadPoolExecutor(CALLS_AT_ONCE), options=OPTIONS)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            GrpcService(self), self._grpc
        )
        self.credentials, place = credentials, f"localhost:{port}"
        if credentials is None:
            self.grpc = f"localhost:{self._grpc.add_insecure_port(place)}"
        else:
            port = self._grpc.add_secure_port(place, credentials.of_grpc())
            self.grpc = f"grpcs://localhost:{port}"
        handler = type("Handler", (RestHandler,), {"standin": self})
        self._http = _HttpServer(("localhost", rest_api_port), handler)
        self.rest = f"http://localhost:{self._http.server_port}"
        if credentials is not None:
            self._http.socket = credentials.wrapped(self._http.socket)
            self.rest = f"https://localhost:{self._http.server_port}"
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
        self._model.close()

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

    def connected(self, connection):
        """Notes a REST connection."""
        self.connections += 1
        self._open.append(connection)

    def admit(self, headers):
        """Refuses a request without the token.

        Raises:
            Refused: UNAUTHENTICATED.
        """
        if self.credentials is not None and not self.credentials.allow(headers):
            raise Refused("UNAUTHENTICATED", "no such token")

    def called(self, method, name, version, label):
        """Notes a call, which may be made to fail, and gives the model asked for.

        Raises:
            Refused: If it is not served here.
        """
        self.noted(method)
        wanted = f"Latest({name})"
        if label:
            if name != self.name or label not in self.labels:
                raise invalid(f"Unrecognized servable version label: {label}")
            version = self.labels[label]
        if version is not None:
            wanted = f"Specific({name}, {version})"
        if name != self.name or version not in (None, self.version):
            raise Refused("NOT_FOUND", f"Servable not found for request: {wanted}")
        return self._model

    def status(self, name, version):
        """State of the versions of a model; a label in the path changes nothing.

        Raises:
            Refused: If it is not served here.
        """
        self.noted("GetModelStatus")
        if version is not None and (name, version) != (self.name, self.version):
            raise Refused(
                "NOT_FOUND", f"Could not find version {version} of model {name}"
            )
        if name != self.name:
            raise Refused("NOT_FOUND", f"Could not find any versions of model {name}")
        return {
            "version": str(self.version),
            "state": "AVAILABLE",
            "status": {"error_code": "OK", "error_message": ""},
        }

    def noted(self, method):
        """Notes a call, late or with an error where a test wants that."""
        self.calls.append(method)
        # Before the wait: a call that nobody waits for any more fails no later one.
        code = self._failures.pop(0) if self._failures else None
        time.sleep(self._delay)
        if code:
            raise Refused(code, "made to fail")


class _HttpServer(ThreadingHTTPServer):
    request_queue_size = 128  # clients that connect at once
