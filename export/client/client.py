"""The client of TF Serving: rows, columns or tables to probabilities."""

import time
from collections.abc import Coroutine
from typing import Any

import numpy as np

from .base_client import BaseClient
from .connection import Address, Credentials
from .grpc_transport import GrpcTransport
from .rest_transport import RestTransport
from .served_model import Model, Signature


class Client(BaseClient):
    """Scores raw rows with a model that TF Serving serves.

    What the model takes (names, types, which fields are lists) is asked of the server,
    once, with the first request. Rows are checked against it before anything is sent.

    ```python
    with Client("localhost:8500", model="clicks") as client:
        probabilities = client.predict(
            [{"user_id": "u17", "tags": ["sport", "shoes"], "price": None}]
        )
    ```

    Rows come in one of these forms:

    - a list or array of rows, each a dict, a pandas Series (`df.iloc[0]`), a
      namedtuple, a dataclass, a `sqlite3.Row`, an Arrow struct, or a row of a NumPy
      structured array;
    - one such row alone, which is scored as a list of one;
    - a dict of columns: lists, arrays, Series. A dict with a value that is none of
      these is one row;
    - a pandas DataFrame, a pyarrow Table, a NumPy structured array, or whatever else
      has the Arrow C interface.

    A missing value is None, NaN, NA, NaT or an absent key. Lists may be of unequal
    length, vectors have that of their field. A text field takes text alone: only the
    log tells whether the number 17 is `"17"` or `"17.0"` there. A number field takes
    numbers, Decimals, and True and False as 1 and 0. Values may be scalars of NumPy or
    Arrow. Threads can share a client.

    Args:
        address: `"HOST:PORT"` for gRPC (TF Serving's `--port`, usually 8500), or
            `"http://HOST:PORT"` for REST (`--rest_api_port`, usually 8501); with TLS,
            `"grpcs://HOST:PORT"` or `"https://HOST:PORT"`. gRPC is the faster one.
        model: The model's name on the server.
        version: Its version, a number; the newest by default.
        version_label: Its version by label, such as `"stable"`.
        batch_size: At most this many rows (or candidates) are sent in one request;
            more are sent in several, one after the other.
        deadline: Seconds that a call may take, however many requests it is sent in and
            with all their retries.
        retries: How often a request is sent again if the server cannot be reached or
            is overloaded (gRPC UNAVAILABLE and RESOURCE_EXHAUSTED; HTTP 502, 503, 429)
            or failed by itself (INTERNAL, 500), after pauses of about 0.05, 0.1, 0.2,
            ... seconds, as long as the deadline allows. Nothing else is sent again,
            but by REST what a kept connection lost.
        schema: The model's `Schema`, or its JSON file, where fields have a `column`:
            rows may then call a field by its name or by its column's.
        ca: File with the certificates (PEM) of those who may vouch for the server; by
            default those that gRPC or, for REST, the system brings. This and what
            follows is for an address with TLS.
        certificate: File with the client's own certificate (PEM), if the server wants
            to see one.
        key: File with its key, not encrypted; by default it is in `certificate`.
        token: Bearer token that goes with each request, or a function that gives the
            one of now.

    Raises:
        InputError: If an argument is not of this form, a file of it cannot be read, or
            a column of the schema has the name of another field.
    """

    def _reach(
        self, address: Address, model: Model, credentials: Credentials | None
    ) -> GrpcTransport | RestTransport:
        transport = RestTransport if address.is_rest else GrpcTransport
        return transport(address, model, credentials)

    async def _pause(self, seconds: float) -> None:
        time.sleep(seconds)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        _result(self._transport.close())

    def signatures(self) -> dict[str, Signature]:
        """What the server's model takes and gives: name -> inputs and outputs.

        Returns:
            Name -> `Signature`, whose `inputs` and `outputs` map a name to its dtype
            and shape, -1 being any size. Asked of the server once.

        Raises:
            ServingError: If the server cannot be reached or has no such model; of a
                class for each status (`edcn_tf.export.client.errors`).
        """
        return _result(self._signatures(self._end()))

    def predict(self, rows: Any, signature: str = "serving_default") -> np.ndarray:
        """The probability of a click of each row.

        Args:
            rows: The rows, in any of the forms that the class takes.
            signature: Which signature answers: `serving_default` takes the raw
                fields, `examples` serialized tf.Examples as `{"inputs": [...]}`,
                `ids` encoded rows as `{"ids": [[...], ...]}`.

        Returns:
            `[rows]` float32; of one row alone an array of one.

        Raises:
            InputError: With row and field, if a value or a name does not fit the
                model's inputs. Nothing has been sent then.
            ServingError: If the server did not answer or refused.
        """
        return _result(self._predicted(rows, signature))

    def explain(self, rows: Any) -> dict[str, np.ndarray]:
        """The probability of each row and what each field contributes to it.

        Args:
            rows: The rows, in any of the forms that the class takes.

        Returns:
            Name -> array: `probability` `[rows]`, `contributions` `[rows, F]` and the
            `fields` they are of, `[rows, F]`; for models with gates `cross_gates` and
            `deep_gates` `[rows, L, F]`.

        Raises:
            InputError: As `predict`; also if the model has no signature `explain`.
            ServingError: As `predict`.
        """
        return _result(self._explained(rows))

    def rank(self, user: Any, candidates: Any) -> np.ndarray:
        """The probability of each of a user's candidates.

        Args:
            user: The fields of the user and the context: one row in any of the forms
                that the class takes; a dict is always a row.
            candidates: The candidates' fields: rows in any of the forms that the
                class takes.

        Returns:
            `[candidates]` float32, in their order.

        Raises:
            InputError: As `predict`; also if the model has no signature `rank`.
            ServingError: As `predict`.
        """
        return _result(self._ranked(user, candidates))


def _result(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine returns that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("a coroutine of `Client` waited")
