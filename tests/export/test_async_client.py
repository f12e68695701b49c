"""`AsyncClient` asks as `Client` does, and its event loop goes on meanwhile."""

import asyncio
import time

import numpy as np
import pytest

import edcn_tf
from edcn_tf.export.client import AsyncClient, Client
from edcn_tf.export.client.errors import (
    DeadlineExceededError,
    NotFoundError,
    UnavailableError,
)
from helpers.certificates import ServerCredentials, make_authority, make_certificate
from helpers.parts_model import CANDIDATES, PARTS, Parts
from helpers.serving import Standin

SLOW = 30.0  # seconds: where a test is not of deadlines


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("async") / "parts"
    Parts().save(path / "1")
    return path


@pytest.fixture(scope="module")
def server(model):
    with Standin(model) as server:
        yield server


def asked(server, ask, **options):
    """What `ask(client)` gives, in an event loop of its own."""

    async def run():
        options.setdefault("deadline", SLOW)
        async with AsyncClient(server.grpc, "parts", **options) as client:
            return await ask(client)

    return asyncio.run(run())


def same(answer, expected):
    np.testing.assert_allclose(answer, expected, rtol=0, atol=1e-6)


def test_answers_are_those_of_client(server):
    async def ask(client):
        return [
            await client.signatures(),
            await client.predict(PARTS),
            await client.explain(PARTS),
            await client.rank({"user": "ab"}, CANDIDATES),
            await client.predict([]),
        ]

    signatures, probabilities, explained, ranking, none = asked(server, ask)
    with Client(server.grpc, "parts", deadline=SLOW) as client:
        assert signatures == client.signatures()
        same(probabilities, client.predict(PARTS))
        assert (probabilities.dtype, none.shape) == (np.float32, (0,))
        expected = client.explain(PARTS)
        assert set(explained) == set(expected)
        same(explained["contributions"], expected["contributions"])
        assert (explained["fields"] == expected["fields"]).all()
        same(ranking, client.rank({"user": "ab"}, CANDIDATES))


def test_many_calls_wait_at_once(server):
    async def ask(client):
        await client.signatures()
        server.calls.clear()
        with server.delayed(2):
            tasks = [asyncio.create_task(client.predict(PARTS)) for _ in range(8)]
            until = time.monotonic() + 60
            while len(server.calls) < 8 and time.monotonic() < until:
                await asyncio.sleep(0.01)
            assert not any(task.done() for task in tasks)
        return await asyncio.gather(*tasks)

    for answer in asked(server, ask):
        same(answer, [0.10, 0.015, 0.09])


def test_mistakes_are_told_before_anything_is_sent(server):
    async def ask(client):
        await client.signatures()
        server.calls.clear()
        await client.predict([{**PARTS[0], "user": 5}])

    with pytest.raises(edcn_tf.InputError, match="row 1, field 'user': expected text"):
        asked(server, ask)
    assert server.calls == []


def test_passing_faults_are_tried_again(server):
    async def ask(client):
        await client.signatures()
        server.calls.clear()
        server.fail("UNAVAILABLE", times=2)
        return await client.predict(PARTS)

    same(asked(server, ask), [0.10, 0.015, 0.09])
    assert server.calls == ["Predict"] * 3
    server.fail("NOT_FOUND", times=1)
    with pytest.raises(NotFoundError, match="made to fail"):
        asked(server, lambda client: client.signatures())


def test_the_deadline_is_of_the_whole_call(server):
    async def ask(client):
        await client.signatures()
        server.calls.clear()
        with server.delayed(0.3):
            await client.predict(PARTS)

    start = time.monotonic()
    with pytest.raises(DeadlineExceededError):
        asked(server, ask, batch_size=1, deadline=0.7)
    assert time.monotonic() - start < 5
    assert len(server.calls) <= 3  # the last of which was given up
    same(asked(server, lambda client: client.predict(PARTS)), [0.10, 0.015, 0.09])


def test_a_call_can_be_cancelled(server):
    async def ask(client):
        await client.signatures()
        with server.delayed(2):
            task = asyncio.create_task(client.predict(PARTS))
            await asyncio.sleep(0.2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        return await client.predict(PARTS)

    same(asked(server, ask), [0.10, 0.015, 0.09])


def test_a_client_belongs_to_one_event_loop(server):
    client = AsyncClient(server.grpc, "parts", deadline=SLOW)

    async def ask():
        return await client.predict(PARTS)

    asyncio.run(ask())
    with pytest.raises(edcn_tf.InputError, match="belongs to the event loop"):
        asyncio.run(ask())


def test_a_client_that_asked_nothing_can_be_closed():
    async def close():
        async with AsyncClient("localhost:1", "parts") as client:
            pass
        return client

    client = asyncio.run(close())
    assert client._transport._loop is None  # it had no channel to close


def test_no_server():
    async def ask():
        async with AsyncClient("localhost:1", "parts", deadline=2) as client:
            await client.predict(PARTS)

    with pytest.raises(UnavailableError, match="begins with grpcs://"):
        asyncio.run(ask())


def test_rest_is_refused(server):
    with pytest.raises(edcn_tf.InputError, match="asyncio.to_thread. Received: 'http:"):
        AsyncClient(server.rest, "parts")


def test_tls_and_a_token(model, tmp_path):
    authority = make_authority(tmp_path)
    own = make_certificate(tmp_path, authority, "localhost")
    wanted = ServerCredentials(own, authority, "s3cret")
    options = {
        "ca": authority.certificate,
        "certificate": own.certificate,
        "key": own.key,
        "token": lambda: "s3cret",
    }
    with Standin(model, credentials=wanted) as server:
        answer = asked(server, lambda client: client.predict(PARTS), **options)
    same(answer, [0.10, 0.015, 0.09])
    assert set(wanted.seen) == {"Bearer s3cret"}
