"""How requests reach TF Serving by REST, with the standard library alone."""

import base64
import contextlib
import http.client
import json
import ssl
import time
import urllib.parse

import numpy as np
import pyarrow as pa

from .connection import MOST_IDLE
from .errors import serving_error
from .served_model import read_signatures

HTTP_CODES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",  # what a proxy says of a server that it cannot reach
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class RestTransport:
    """TF Serving's REST interface. Connections are kept for the next request.

    Its coroutines never wait: what they call blocks.
    """

    def __init__(self, address, model, credentials):
        self._url = url = urllib.parse.urlsplit(address.place)
        self._credentials = credentials
        self._path = f"{url.path.rstrip('/')}/v1/models/{_quoted(model.name)}"
        if model.version is not None:
            self._path += f"/versions/{model.version}"
        elif model.version_label is not None:
            self._path += f"/labels/{_quoted(model.version_label)}"
        # Connections, and when each was last used, of any thread: list.append and
        # list.pop are atomic.
        self._idle = []

    async def signatures(self, seconds):
        """Name -> `Signature`, as the server has them."""
        metadata = self._ask("GET", "/metadata", None, "metadata", seconds)
        return read_signatures(metadata["signature_def"])

    async def predict(self, name, signature, tensors, seconds):
        """Name -> array of each output of the signature called `name`."""
        inputs = {key: _nested(*tensor) for key, tensor in tensors.items()}
        # NaN and Infinity are bare words, which TF Serving's parser takes.
        body = json.dumps({"signature_name": name, "inputs": inputs})
        answer = self._ask("POST", ":predict", body.encode(), "outputs", seconds)
        if len(signature.outputs) == 1:
            answer = {next(iter(signature.outputs)): answer}
        return {
            key: np.array(value, _numpy_type(signature.outputs[key].dtype))
            for key, value in answer.items()
        }

    async def close(self):
        while self._idle:
            self._idle.pop()[0].close()

    def _ask(self, method, path, body, key, seconds):
        """What the server answers under `key`."""
        end = time.monotonic() + seconds
        # Before: what goes wrong with a token is not of the server.
        headers = self._credentials.headers() if self._credentials else {}
        try:
            status, text = self._exchange(method, path, body, headers, end)
        except TimeoutError:
            raise serving_error("DEADLINE_EXCEEDED", "no answer in time") from None
        except OSError as error:
            reason = f"cannot reach the server ({error})"
            raise serving_error("UNAVAILABLE", reason) from None
        except http.client.HTTPException as error:
            reason = f"no HTTP answer ({error!r}); is this the REST port?"
            raise serving_error("UNKNOWN", reason) from None
        try:
            answer = json.loads(text)
        except ValueError:
            answer = None
        if status == 200 and isinstance(answer, dict) and key in answer:
            return answer[key]
        reason = answer.get("error") if isinstance(answer, dict) else None
        reason = reason or f"not what was asked for: {text.decode(errors='replace')}"
        code = "UNKNOWN" if status == 200 else HTTP_CODES.get(status, f"HTTP {status}")
        raise serving_error(code, reason)

    def _exchange(self, method, path, body, headers, end):
        """Status and text of the answer; the whole of it may take until `end`."""
        while True:
            connection, is_new = self._connection(end)
            try:
                socket = connection.sock
                socket.settimeout(_remaining(end))
                connection.request(method, self._path + path, body, headers)
                socket.settimeout(_remaining(end))
                response = connection.getresponse()
                text = b""
                while not response.isclosed():
                    socket.settimeout(_remaining(end))
                    # To its end, whose reading frees the connection for the next.
                    text += response.read1(1 << 20) or response.read()
                if len(text) < int(response.headers.get("Content-Length", 0)):
                    raise ConnectionError("the answer breaks off")
            except BaseException as error:
                connection.close()
                # A kept connection may have been closed by the server meanwhile.
                if is_new or not isinstance(error, (ConnectionError, ssl.SSLError)):
                    raise
                continue
            if connection.sock:  # which the server wants to keep, too
                self._idle.append((connection, time.monotonic()))
                self._close_unused()
            return response.status, text

    def _close_unused(self):
        """Closes those that nobody has used for long, the first ones, after a burst."""
        with contextlib.suppress(IndexError):
            while time.monotonic() - self._idle[0][1] >= MOST_IDLE:
                self._idle.pop(0)[0].close()

    def _connection(self, end):
        """A connection, and whether it is a new one."""
        with contextlib.suppress(IndexError):
            while True:
                connection, since = self._idle.pop()
                if time.monotonic() - since < MOST_IDLE:
                    return connection, False
                connection.close()
        place = self._url.hostname, self._url.port
        if self._credentials is None:
            connection = http.client.HTTPConnection(*place, timeout=_remaining(end))
        else:
            connection = http.client.HTTPSConnection(
                *place, timeout=_remaining(end), context=self._credentials.context
            )
        connection.connect()
        return connection, True


def _nested(shape, values):
    """A tensor as lists; text in UTF-8 as it is, any other bytes in base 64."""
    if values.type != pa.binary():
        return values.to_numpy().reshape(shape).tolist()
    flat = np.empty(len(values), object)
    try:
        flat[:] = values.cast(pa.string()).to_pylist()
    except pa.ArrowInvalid:
        flat[:] = [_text(value) for value in values.to_pylist()]
    return flat.reshape(shape).tolist()


def _text(value):
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode()}


def _numpy_type(dtype):
    return np.str_ if dtype == "string" else np.dtype(dtype)


def _quoted(name):
    return urllib.parse.quote(name, safe="")


def _remaining(end):
    seconds = end - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds
