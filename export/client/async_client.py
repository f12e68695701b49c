"""The client of TF Serving for programs on an event loop."""

import asyncio
from typing import Any

import numpy as np

from edcn_tf.errors import InputError

from .base_client import BaseClient
from .connection import Address, Credentials
from .grpc_transport import AioGrpcTransport
from .served_model import Model, Signature


class AsyncClient(BaseClient):
    """`Client` for asyncio, by gRPC: what waits for the server is awaited.

    ```python
    async with AsyncClient("localhost:8500", model="clicks") as client:
        first, second = await asyncio.gather(
            client.predict(rows), client.rank(user, candidates)
        )
    ```

    Any number of calls may wait at once, on one connection. Rows, arguments, answers
    and errors are those of `Client`. While rows are checked and packed, and while a
    function for the `token` runs, the event loop does nothing else; nor while a client
    is made, the first of which imports TensorFlow.

    Raises:
        InputError: As `Client`; also for an address of REST, and if it is awaited in
            another event loop than at first.
    """

    def _reach(
        self, address: Address, model: Model, credentials: Credentials | None
    ) -> AioGrpcTransport:
        if address.is_rest:
            raise InputError(
                "AsyncClient asks by gRPC: expected HOST:PORT or grpcs://HOST:PORT; by "
                "REST, call a Client's methods with asyncio.to_thread. "
                f"Received: {address.place!r}"
            )
        return AioGrpcTransport(address, model, credentials)

    async def _pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection."""
        await self._transport.close()

    async def signatures(self) -> dict[str, Signature]:
        """As `Client.signatures`."""
        return await self._signatures(self._end())

    async def predict(
        self, rows: Any, signature: str = "serving_default"
    ) -> np.ndarray:
        """As `Client.predict`."""
        return await self._predicted(rows, signature)

    async def explain(self, rows: Any) -> dict[str, np.ndarray]:
        """As `Client.explain`."""
        return await self._explained(rows)

    async def rank(self, user: Any, candidates: Any) -> np.ndarray:
        """As `Client.rank`."""
        return await self._ranked(user, candidates)
