"""From rows to requests and from answers to probabilities: what both clients share.

What asks the server is written as coroutines. Those of `AsyncClient` wait for an event
loop; those of `Client` never wait, since all that they await blocks instead, so they
have their result at once.
"""

import contextlib
import math
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import numpy as np

from edcn_tf.checks import check_whole, is_number
from edcn_tf.errors import InputError
from edcn_tf.files import StrPath
from edcn_tf.schema import Schema

from .connection import Address, Credentials, read_address, read_credentials
from .errors import ServingError, serving_error
from .feature_columns import Input, Tensor, check_examples, read_columns, to_tensor
from .model_fields import fields_of, nothing, rank_fields, read_aliases
from .served_model import Model, Signature

FIRST_PAUSE = 0.05  # seconds; doubled with each retry


class BaseClient:
    """What `Client` and `AsyncClient` are made of; see there."""

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
        ca: StrPath | None = None,
        certificate: StrPath | None = None,
        key: StrPath | None = None,
        token: str | Callable[[], str] | None = None,
    ) -> None:
        if version is not None and version_label is not None:
            raise InputError(
                "Give a version or a version label, not both. "
                f"Received: version={version!r}, version_label={version_label!r}"
            )
        check_whole("`batch_size`", batch_size, 1)
        check_whole("`retries`", retries, 0)
        if not is_number(deadline) or not 0 < deadline < math.inf:
            raise InputError(
                f"`deadline` must be seconds, above 0. Received: {deadline!r}"
            )
        place = read_address(address)
        credentials = read_credentials(
            place, ca=ca, certificate=certificate, key=key, token=token
        )
        self.address, self.model = address, model
        self.batch_size, self.deadline, self.retries = batch_size, deadline, retries
        self._aliases = read_aliases(schema)
        self._known_signatures: dict[str, Signature] | None = None
        self._transport = self._reach(
            place, Model(model, version, version_label), credentials
        )

    def _reach(
        self, address: Address, model: Model, credentials: Credentials | None
    ) -> Any:
        """The transport by which the server is asked."""
        raise NotImplementedError

    async def _pause(self, seconds: float) -> None:
        raise NotImplementedError

    def _end(self) -> float:
        """When a call that begins now must have its answer."""
        return time.monotonic() + self.deadline

    async def _signatures(self, end: float) -> dict[str, Signature]:
        known = self._known_signatures  # which another thread may forget meanwhile
        if known is None:
            known = await self._retried(self._transport.signatures, end)
            self._known_signatures = known
        return known

    async def _scored(self, name: str, rows: Any) -> dict[str, np.ndarray]:
        """Name -> array, for all rows, of a signature's outputs."""
        end = self._end()
        with self._told_when_replaced():
            signature = await self._signature(name, end)
            fields = fields_of(signature)
            columns, count = read_columns(rows, fields, aliases=self._aliases)
            if name == "examples":
                check_examples(columns)
            parts = [
                await self._ask(name, signature, _tensors(columns, fields, part), end)
                for part in self._parts(count)
            ] or [{key: nothing(info) for key, info in signature.outputs.items()}]
            return {key: np.concatenate([p[key] for p in parts]) for key in parts[0]}

    async def _predicted(self, rows: Any, signature: str) -> np.ndarray:
        """The probability of each row."""
        return (await self._scored(signature, rows))["probability"][:, 0]

    async def _explained(self, rows: Any) -> dict[str, np.ndarray]:
        """The probability of each row, and what each field contributes to it."""
        outputs = await self._scored("explain", rows)
        return {**outputs, "probability": outputs["probability"][:, 0]}

    async def _ranked(self, user: Any, candidates: Any) -> np.ndarray:
        """The probability of each candidate."""
        end = self._end()
        with self._told_when_replaced():
            signature = await self._signature("rank", end)
            single = await self._signature("serving_default", end)
            of_user, of_candidate = rank_fields(signature, single)
            columns, _ = read_columns(user, of_user, "user", self._aliases)
            fixed = _tensors(columns, of_user, slice(None))
            columns, count = read_columns(
                candidates, of_candidate, "candidate", self._aliases
            )
            scores = [np.empty(0, np.float32)]
            for part in self._parts(count):
                tensors = {
                    name: Tensor((1, *tensor.shape), tensor.values)  # [1, N, ...]
                    for name, tensor in _tensors(columns, of_candidate, part).items()
                }
                outputs = await self._ask("rank", signature, {**fixed, **tensors}, end)
                scores.append(outputs["probability"][0])
            return np.concatenate(scores)

    async def _signature(self, name: str, end: float) -> Signature:
        able = {
            name: signature
            for name, signature in (await self._signatures(end)).items()
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

    async def _ask(
        self, name: str, signature: Signature, tensors: dict[str, Tensor], end: float
    ) -> dict[str, np.ndarray]:
        return await self._retried(
            lambda seconds: self._transport.predict(name, signature, tensors, seconds),
            end,
        )

    async def _retried(self, ask: Callable[[float], Awaitable[Any]], end: float) -> Any:
        """Asks with the seconds left until `end`, again while that may help."""
        for retry in range(self.retries + 1):
            seconds = end - time.monotonic()
            if seconds <= 0:
                raise serving_error("DEADLINE_EXCEEDED", "no time was left to ask")
            try:
                return await ask(seconds)
            except ServingError as error:
                # Jitter, so that many clients do not come back at the same time.
                pause = FIRST_PAUSE * 2**retry * random.uniform(0.5, 1.5)
                last = retry == self.retries or time.monotonic() + pause >= end
                if not error.passes or last:
                    raise
            await self._pause(pause)

    @contextlib.contextmanager
    def _told_when_replaced(self) -> Iterator[None]:
        """Forgets the signatures with an error that may come of their being old."""
        try:
            yield
        except (InputError, ServingError) as error:
            if getattr(error, "is_of_model", True):
                self._known_signatures = None
            raise


def _tensors(
    columns: dict[str, Any], fields: dict[str, Input], part: slice
) -> dict[str, Tensor]:
    return {
        name: to_tensor(column[part], fields[name].dtype)
        for name, column in columns.items()
    }
