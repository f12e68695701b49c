"""The client of TF Serving: rows, columns or tables to probabilities."""

import contextlib
import random
import time
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from edcn_tf.errors import InputError
from edcn_tf.files import StrPath
from edcn_tf.schema import Schema

from .feature_columns import Input, Tensor, read_columns, to_tensor
from .grpc_transport import GrpcTransport
from .rest_transport import CONNECTIONS, RestTransport
from .served_model import DTYPES, Model, ServingError, Signature, TensorInfo

__all__ = ["Client", "ServingError"]

RETRYABLE = ("UNAVAILABLE", "RESOURCE_EXHAUSTED")
# The model may have been replaced by a version with other inputs.
STALE = ("INVALID_ARGUMENT", "FAILED_PRECONDITION", "NOT_FOUND")
FIRST_PAUSE = 0.05  # seconds; doubled with each retry


class Client:
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
            `"http://HOST:PORT"` for REST (`--rest_api_port`, usually 8501). gRPC is
            the faster one.
        model: The model's name on the server.
        version: Its version, a number; the newest by default.
        version_label: Its version by label, such as `"stable"`.
        batch_size: At most this many rows (or candidates) are sent in one request;
            more are sent in several, one after the other.
        deadline: Seconds that a request may take, with all of its retries.
        retries: How often a request is sent again if the server cannot be reached or
            is overloaded (gRPC UNAVAILABLE and RESOURCE_EXHAUSTED; HTTP 503 and 429),
            after pauses of about 0.05, 0.1, 0.2, ... seconds, as long as the deadline
            allows. Nothing else is sent again.
        schema: The model's `Schema`, or its JSON file, where fields have a `column`:
            rows may then call a field by its name or by its column's.

    Raises:
        InputError: If an argument is not of this form, or a column of the schema has
            the name of another field.
    """

    def __init__(
        self,
        address: str,
        model: str,
        *,
        version: int | None = None,
        version_label: str | None = None,
        batch_size: int = 512,
        deadline: float = 1.0,
        retries: int = 3,
        schema: Schema | StrPath | None = None,
    ) -> None:
        if version is not None and version_label is not None:
            raise InputError(
                "Give a version or a version label, not both. "
                f"Received: version={version!r}, version_label={version_label!r}"
            )
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("retries", retries, 0),
        ):
            if not isinstance(value, int) or value < least:
                raise InputError(
                    f"`{name}` must be a whole number of at least {least}. "
                    f"Received: {value!r}"
                )
        if not deadline > 0:
            raise InputError(f"`deadline` must be above 0. Received: {deadline!r}")
        transport = _transport_of(address)
        self.address, self.model = address, model
        self.batch_size, self.deadline, self.retries = batch_size, deadline, retries
        self._transport = transport(address, Model(model, version, version_label))
        self._signatures: dict[str, Signature] | None = None
        self._aliases = _aliases(schema)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._transport.close()

    def signatures(self) -> dict[str, Signature]:
        """What the server's model takes and gives: name -> inputs and outputs.

        Returns:
            Name -> `Signature`, whose `inputs` and `outputs` map a name to its dtype
            and shape, -1 being any size. Asked of the server once.

        Raises:
            ServingError: If the server cannot be reached or has no such model.
        """
        signatures = self._signatures
        if signatures is None:
            signatures = self._signatures = self._retried(self._transport.signatures)
        return signatures

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
        return self._scored(signature, rows)["probability"][:, 0]

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
        outputs = self._scored("explain", rows)
        return {**outputs, "probability": outputs["probability"][:, 0]}

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
        with self._told_when_stale():
            signature = self._signature("rank")
            singles = self._signature("serving_default").inputs
            fields: dict[bool, dict[str, Input]] = {True: {}, False: {}}
            for name, info in signature.inputs.items():
                is_candidate = len(info.shape) > len(singles[name].shape)
                fields[is_candidate][name] = _field(name, singles[name])
            columns, _ = read_columns(user, fields[False], "user", self._aliases)
            of_user = _tensors(columns, fields[False], slice(None))
            columns, count = read_columns(
                candidates, fields[True], "candidate", self._aliases
            )
            scores = [np.empty(0, np.float32)]
            for part in self._parts(count):
                tensors = {
                    name: Tensor((1, *tensor.shape), tensor.values)  # [1, N, ...]
                    for name, tensor in _tensors(columns, fields[True], part).items()
                }
                outputs = self._ask("rank", signature, {**of_user, **tensors})
                scores.append(outputs["probability"][0])
            return np.concatenate(scores)

    def _scored(self, name: str, rows: Any) -> dict[str, np.ndarray]:
        """Name -> array, for all rows, of a signature's outputs."""
        with self._told_when_stale():
            signature = self._signature(name)
            fields = {name: _field(name, i) for name, i in signature.inputs.items()}
            columns, count = read_columns(rows, fields, aliases=self._aliases)
            parts = [
                self._ask(name, signature, _tensors(columns, fields, part))
                for part in self._parts(count)
            ] or [{key: _nothing(info) for key, info in signature.outputs.items()}]
            return {key: np.concatenate([p[key] for p in parts]) for key in parts[0]}

    def _signature(self, name: str) -> Signature:
        able = {
            name: signature
            for name, signature in self.signatures().items()
            if "probability" in signature.outputs
        }
        if name not in able:
            raise InputError(
                f"Model {self.model!r} at {self.address} gives probabilities by the "
                f"signatures {sorted(able)}. Received: {name!r}"
            )
        return able[name]

    def _parts(self, count: int) -> list[slice]:
        return [slice(i, i + self.batch_size) for i in range(0, count, self.batch_size)]

    def _ask(
        self, name: str, signature: Signature, tensors: dict[str, Tensor]
    ) -> dict[str, np.ndarray]:
        return self._retried(
            lambda seconds: self._transport.predict(name, signature, tensors, seconds)
        )

    def _retried(self, ask: Callable[[float], Any]) -> Any:
        """Calls with the seconds that are left, again while that may help."""
        end = time.monotonic() + self.deadline
        for retry in range(self.retries + 1):
            try:
                return ask(end - time.monotonic())
            except ServingError as error:
                # Jitter, so that many clients do not come back at the same time.
                pause = FIRST_PAUSE * 2**retry * random.uniform(0.5, 1.5)
                last = retry == self.retries or time.monotonic() + pause >= end
                if error.code not in RETRYABLE or last:
                    raise
            time.sleep(pause)

    @contextlib.contextmanager
    def _told_when_stale(self) -> Iterator[None]:
        """Forgets the signatures with an error that may come of their being old."""
        try:
            yield
        except (InputError, ServingError) as error:
            if getattr(error, "code", STALE[0]) in STALE:
                self._signatures = None
            raise


def _transport_of(address: str) -> type[GrpcTransport] | type[RestTransport]:
    try:
        url = urllib.parse.urlsplit(address if "://" in address else f"//{address}")
        if url.hostname and url.scheme in CONNECTIONS and url.port != 0:
            return RestTransport
        if url.hostname and url.port and url.netloc == address:
            return GrpcTransport
    except ValueError:
        pass
    raise InputError(
        "Expected HOST:PORT for gRPC or http://HOST:PORT for REST. "
        f"Received: {address!r}"
    )


def _aliases(schema: Schema | StrPath | None) -> dict[str, str]:
    """Column of the log -> field, where a schema has them differ."""
    if schema is None:
        return {}
    if not isinstance(schema, Schema):
        schema = Schema.load(schema)
    names = [field.name for field in schema.inputs]
    aliases: dict[str, str] = {}
    for field in schema.inputs:
        if field.column in names and field.column != field.name:
            raise InputError(
                f"Field {field.name!r}: its column is called like another field, so a "
                f"row cannot say which it means. Received: {field.column!r}"
            )
        if field.column in aliases:  # two fields of one column
            raise InputError(
                f"Fields {aliases[field.column]!r} and {field.name!r} are of one "
                f"column; a row must call them by name. Received: {field.column!r}"
            )
        if field.column is not None and field.column != field.name:
            aliases[field.column] = field.name
    return aliases


def _field(name: str, info: TensorInfo) -> Input:
    """What a row holds for a signature's input."""
    if info.dtype not in DTYPES.values():
        raise InputError(
            f"The model's input {name!r}: expected a type of {list(DTYPES.values())}. "
            f"Received: {info.dtype}"
        )
    is_list = len(info.shape) > 1
    # Vectors are the only numbers of a size that is known; `ids` are whole.
    is_vector = is_list and info.dtype == "float32" and info.shape[-1] > 0
    return Input(info.dtype, is_list, info.shape[-1] if is_vector else None)


def _tensors(
    columns: dict[str, Any], fields: dict[str, Input], part: slice
) -> dict[str, Tensor]:
    return {
        name: to_tensor(column[part], fields[name].dtype)
        for name, column in columns.items()
    }


def _nothing(info: TensorInfo) -> np.ndarray:
    shape = [0, *(max(size, 0) for size in info.shape[1:])]
    return np.empty(shape, str if info.dtype == "string" else info.dtype)
