"""How the client reaches a server: TLS, certificates, tokens, kept connections."""

import os
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import edcn_tf
from edcn import main
from edcn_tf.export.client import Client, ServingError, grpc_transport, rest_transport
from edcn_tf.export.client.errors import UnauthenticatedError, UnavailableError
from helpers.certificates import ServerCredentials, make_authority, make_certificate
from helpers.forwarder import Forwarder
from helpers.parts_model import PARTS, Parts
from helpers.serving import Standin

SLOW = 30.0  # seconds: where a test is not of deadlines
EXPECTED = [0.10, 0.015, 0.09]
ROW = '{"user": "ab", "tags": ["x", "yz"], "price": 5}'


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("connections") / "parts"
    Parts().save(path / "1")
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Name -> certificate and key."""
    folder = tmp_path_factory.mktemp("certificates")
    authority, other = make_authority(folder), make_authority(folder, "other")
    return {
        "authority": authority,
        "other": other,
        "server": make_certificate(folder, authority, "localhost"),
        "elsewhere": make_certificate(folder, authority, "elsewhere"),
        "client": make_certificate(folder, authority, "client"),
        "stranger": make_certificate(folder, other, "stranger"),
    }


@pytest.fixture(scope="module")
def plain(model):
    with Standin(model) as server:
        yield server


@pytest.fixture(scope="module")
def secure(model, files):
    """With TLS alone."""
    with Standin(model, credentials=ServerCredentials(files["server"])) as server:
        yield server


@pytest.fixture(scope="module")
def strict(model, files):
    """Which wants the client's certificate and a token."""
    wanted = ServerCredentials(files["server"], files["authority"], "s3cret")
    with Standin(model, credentials=wanted) as server:
        yield server


@pytest.fixture(params=["grpc", "rest"])
def transport(request):
    return request.param


def scores(server, transport, **options):
    options = {"deadline": SLOW, "retries": 0, **options}
    with Client(getattr(server, transport), "parts", **options) as client:
        return client.predict(PARTS)


def same(answer, expected):
    np.testing.assert_allclose(answer, expected, rtol=0, atol=1e-6)


def known(files, name="client"):
    pair, ca = files[name], files["authority"].certificate
    return {"ca": ca, "certificate": pair.certificate, "key": pair.key}


def test_a_server_with_a_certificate(secure, transport, files):
    assert getattr(secure, transport).startswith(("grpcs://", "https://"))
    same(scores(secure, transport, ca=files["authority"].certificate), EXPECTED)
    same(scores(secure, transport, ca=str(files["authority"].certificate)), EXPECTED)


@pytest.mark.parametrize("ca", [None, "other"])
def test_a_server_that_nobody_vouches_for_is_sent_nothing(secure, transport, files, ca):
    secure.calls.clear()
    ca = ca and files[ca].certificate
    with pytest.raises(UnavailableError, match="that `ca` vouches for"):
        scores(secure, transport, ca=ca, token="s3cret")
    assert secure.calls == []


def test_a_certificate_of_another_host(model, transport, files):
    other = ServerCredentials(files["elsewhere"])
    with Standin(model, credentials=other) as server:
        with pytest.raises(UnavailableError):
            scores(server, transport, ca=files["authority"].certificate)
    assert other.seen == []


def test_tls_on_one_side_alone(plain, secure, transport, files):
    address = getattr(secure, transport).removeprefix("grpcs://")
    with Client(address.replace("https", "http"), "parts", retries=0) as client:
        with pytest.raises(ServingError, match="grpcs://|REST port"):
            client.predict(PARTS)
    address = getattr(plain, transport).replace("http", "https")
    address = address if "://" in address else f"grpcs://{address}"
    with Client(address, "parts", ca=files["authority"].certificate) as client:
        with pytest.raises(UnavailableError, match="begins with grpcs:// or https://"):
            client.predict(PARTS)


def test_the_client_shows_its_certificate_and_a_token(
    strict, transport, files, tmp_path
):
    same(scores(strict, transport, **known(files), token="s3cret"), EXPECTED)
    both = tmp_path / "both.pem"  # in one file
    pair = files["client"]
    both.write_text(pair.certificate.read_text() + pair.key.read_text())
    given = {**known(files), "certificate": both, "key": None}
    same(scores(strict, transport, **given, token="s3cret"), EXPECTED)


@pytest.mark.parametrize("name", [None, "stranger"])
def test_a_client_that_nobody_vouches_for(strict, transport, files, name):
    strict.credentials.seen.clear()
    given = known(files, name) if name else {"ca": files["authority"].certificate}
    with pytest.raises(UnavailableError):
        scores(strict, transport, **given, token="s3cret")
    assert strict.credentials.seen == []


@pytest.mark.parametrize("token", [None, "wrong"])
def test_a_client_without_the_token(strict, transport, files, token):
    strict.calls.clear()
    with pytest.raises(UnauthenticatedError, match="a `token` that has not") as caught:
        scores(strict, transport, **known(files), token=token)
    assert (caught.value.code, strict.calls) == ("UNAUTHENTICATED", [])
    assert "\n" not in str(caught.value)
    assert "wrong" not in str(caught.value)


def test_a_token_may_change(strict, transport, files):
    tokens = iter(["s3cret", "s3cret", "old"])
    address = getattr(strict, transport)
    with Client(address, "parts", **known(files), token=lambda: next(tokens)) as client:
        client.deadline = SLOW
        same(client.predict(PARTS), EXPECTED)  # the metadata, and the rows
        with pytest.raises(UnauthenticatedError):
            client.predict(PARTS)


@pytest.mark.parametrize("token", ["", "two words", "line\nline", "schlüssel", 5])
def test_a_token_that_is_none_is_not_sent_nor_shown(secure, transport, files, token):
    with pytest.raises(edcn_tf.InputError, match="`token` must be a text") as caught:
        scores(secure, transport, ca=files["authority"].certificate, token=token)
    assert str(token) == "" or str(token) not in str(caught.value)


@pytest.mark.parametrize("address", ["localhost:1", "http://localhost:1"])
@pytest.mark.parametrize("name", ["ca", "certificate", "token"])
def test_what_is_for_tls_needs_it(address, name):
    with pytest.raises(edcn_tf.InputError, match=f"`{name}` is for TLS: expected an a"):
        Client(address, "parts", **{name: "some"})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ca": "none.pem"}, "none.pem: No such file or directory"),
        ({"certificate": "none.pem"}, "none.pem: No such file or directory"),
        ({"ca": "empty.pem"}, "empty.pem: expected certificates in PEM"),
        ({"certificate": "empty.pem"}, "empty.pem: expected a certificate in PEM"),
        ({"certificate": "client.pem"}, "client.pem: expected a certificate in PEM, "),
        (
            {"certificate": "client.pem", "key": "stranger.key"},
            "not encrypted, in .*stranger.key: .*MISMATCH",
        ),
        ({"key": "client.key"}, "Give `certificate` with its `key`. Received: "),
    ],
)
@pytest.mark.parametrize("scheme", ["grpcs", "https"])
def test_files_are_checked_first(scheme, given, message, files):
    folder = files["client"].key.parent
    (folder / "empty.pem").write_text("")
    given = {name: folder / file for name, file in given.items()}
    with pytest.raises(edcn_tf.InputError, match=message) as caught:
        Client(f"{scheme}://localhost:1", "parts", **given)
    assert "\n" not in str(caught.value)


def test_the_command(strict, transport, files, tmp_path, capsys):
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    command = ["request", getattr(strict, transport), "--model", "parts", "--row", ROW]
    tls = [f"--{name}={path}" for name, path in known(files).items()]
    options = [*tls, "--deadline", str(SLOW)]
    assert main([*command, *options, "--token-file", str(token)]) == 0
    assert float(capsys.readouterr().out) == pytest.approx(0.1)
    for given, message in (
        ([], "UNAUTHENTICATED: "),
        (["--token-file", str(tmp_path / "none")], "No such file"),
    ):
        assert main([*command, *options, *given]) == 1
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert message in err and "UNAVAILABLE" not in err


@pytest.fixture
def forwarder(plain, transport):
    with Forwarder(int(getattr(plain, transport).rsplit(":", 1)[1])) as forwarder:
        scheme = "http://" if transport == "rest" else ""
        forwarder.address = f"{scheme}localhost:{forwarder.port}"
        yield forwarder


def test_a_connection_serves_many_requests(forwarder, transport):
    with Client(forwarder.address, "parts", deadline=SLOW) as client:
        client.signatures()
        with ThreadPoolExecutor(4) as pool:
            for answer in pool.map(client.predict, [PARTS] * 60):
                same(answer, EXPECTED)
        most = {"grpc": 1, "rest": 4}[transport]
        assert 1 <= forwarder.count <= most


def until(condition, seconds):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def test_a_connection_that_nobody_uses_is_not_kept(forwarder, transport, monkeypatch):
    """Something on the way may have forgotten it, which only time would tell."""
    channel = {**dict(grpc_transport.CHANNEL), "grpc.client_idle_timeout_ms": 1000}
    monkeypatch.setattr(grpc_transport, "CHANNEL", list(channel.items()))
    monkeypatch.setattr(rest_transport, "MOST_IDLE", 0.0)
    with Client(forwarder.address, "parts", deadline=SLOW) as client:
        client.predict(PARTS)
        if transport == "grpc":
            assert until(lambda: forwarder.open == 0, 10)
        counted = forwarder.count
        same(client.predict(PARTS), EXPECTED)
        assert forwarder.count == counted + 1
        assert until(lambda: forwarder.open <= 1, 10)


def test_an_answer_that_breaks_off_is_asked_for_again(plain):
    """A server that ends in the middle of it, by REST; then one that is well."""
    asked = []

    def serve(listening):
        for _ in range(2):
            connection, _ = listening.accept()
            asked.append(connection.recv(1 << 16))
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
            connection.close()

    with socket.create_server(("localhost", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        address = f"http://localhost:{listening.getsockname()[1]}"
        with Client(address, "parts", deadline=SLOW, retries=1) as client:
            with pytest.raises(UnavailableError, match="the answer breaks off"):
                client.predict(PARTS)
        thread.join()
    assert len(asked) == 2


def test_connections_of_a_burst_are_closed(plain, monkeypatch):
    """Though there is always one that was used just now."""
    monkeypatch.setattr(rest_transport, "MOST_IDLE", 0.5)
    with Client(plain.rest, "parts", deadline=SLOW) as client:
        with plain.delayed(0.2), ThreadPoolExecutor(6) as pool:
            list(pool.map(client.predict, [PARTS] * 6))
        idle = client._transport._idle
        assert len(idle) > 1
        assert until(lambda: client.predict(PARTS) is not None and len(idle) <= 1, 20)


@pytest.mark.skipif(sys.platform != "linux", reason="of Linux")
def test_a_dead_connection_is_given_up_soon(plain):
    """The kernel is asked to, after seconds in place of a quarter of an hour."""
    with Client(plain.grpc, "parts", deadline=SLOW) as client:
        client.predict(PARTS)
        port, found = int(plain.grpc.rsplit(":", 1)[1]), set()
        for number in os.listdir("/proc/self/fd"):
            try:
                connection = socket.socket(fileno=os.dup(int(number)))
            except OSError:  # closed meanwhile, or no socket
                continue
            with connection:
                try:
                    is_ours = connection.getpeername()[1] == port
                except OSError:
                    continue
                if is_ours:
                    found.add(
                        connection.getsockopt(
                            socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT
                        )
                    )
    assert found == {5000}


@pytest.mark.slow
def test_a_server_is_looked_for_every_second_however_long_it_is_away():
    """gRPC by itself would wait longer after each try, up to two minutes."""
    times = []

    def refuse():
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:  # closed
                return
            connection.close()
            times.append(time.monotonic())

    with socket.create_server(("localhost", 0)) as listening:
        threading.Thread(target=refuse, daemon=True).start()
        address = f"localhost:{listening.getsockname()[1]}"
        end = time.monotonic() + 15
        with Client(address, "parts", retries=0) as client:
            while time.monotonic() < end:
                with pytest.raises(UnavailableError):
                    client.signatures()
                time.sleep(0.05)
        listening.shutdown(socket.SHUT_RDWR)
    assert len(times) > 10
    assert np.diff([*times, end]).max() < 2
