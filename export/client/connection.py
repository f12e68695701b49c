"""Where a server is, and by what it and the client show who they are."""

import re
import ssl
import urllib.parse
from collections.abc import Callable
from typing import Any, NamedTuple

from edcn_tf.errors import InputError
from edcn_tf.files import StrPath

# Seconds after which a connection that nobody used is opened anew: balancers and
# firewalls forget such connections after a few minutes, and tell nobody.
MOST_IDLE = 60
SCHEMES = {  # -> whether it is REST, and whether TLS
    "grpc": (False, False),
    "grpcs": (False, True),
    "http": (True, False),
    "https": (True, True),
}
TOKEN = re.compile(r"[!-~]+")  # what a header takes: ASCII without spaces


class Address(NamedTuple):
    """Of a server: `place` is HOST:PORT for gRPC, a URL for REST."""

    place: str
    is_rest: bool
    is_secure: bool


def read_address(address: str) -> Address:
    """What an address says.

    Raises:
        InputError: If it is none.
    """
    try:
        url = urllib.parse.urlsplit(
            address if "://" in address else f"grpc://{address}"
        )
        is_rest, is_secure = SCHEMES[url.scheme]
        if is_rest and url.hostname and url.port != 0:
            return Address(address, is_rest, is_secure)
        if not is_rest and url.hostname and url.port and address.endswith(url.netloc):
            return Address(url.netloc, is_rest, is_secure)
    except (KeyError, TypeError, ValueError):
        pass
    raise InputError(
        "Expected HOST:PORT for gRPC or http://HOST:PORT for REST; with TLS, "
        f"grpcs://HOST:PORT or https://HOST:PORT. Received: {address!r}"
    )


class Credentials:
    """What TLS needs, and the token that goes with each request.

    Args:
        ca: File with the certificates (PEM) of those who may vouch for the server; by
            default those that gRPC or, for REST, the system brings.
        certificate: File with the client's own certificate, and those between it and
            the server's `ca`.
        key: File with its key, not encrypted; by default it is in `certificate`.
        token: Bearer token, or a function that gives the one of now.

    Raises:
        InputError: If a file cannot be read, or is not what it should be.
    """

    def __init__(
        self,
        ca: StrPath | None = None,
        certificate: StrPath | None = None,
        key: StrPath | None = None,
        token: str | Callable[[], str] | None = None,
    ) -> None:
        if key is not None and certificate is None:
            raise InputError(f"Give `certificate` with its `key`. Received: {key}")
        self._roots = _read(ca)
        self._certificate, self._key = _read(certificate), _read(key or certificate)
        self._token = token
        # By it, so that both ways find the same faults, before anything is sent.
        try:
            self.context = ssl.create_default_context(cafile=ca)
        except ssl.SSLError as error:
            raise InputError(f"{ca}: expected certificates in PEM: {error}") from None
        if certificate is not None:
            try:
                # Without a password it would be asked for at the terminal.
                self.context.load_cert_chain(certificate, key, password="")
            except ssl.SSLError as error:
                raise InputError(
                    f"{certificate}: expected a certificate in PEM, with its key, not "
                    f"encrypted, {f'in {key}' if key else 'after it'}: {error}"
                ) from None

    def of_channel(self) -> Any:
        """As gRPC takes them."""
        import grpc

        return grpc.ssl_channel_credentials(self._roots, self._key, self._certificate)

    def headers(self) -> dict[str, str]:
        """What goes with a request.

        Raises:
            InputError: If the token is none; it is not shown.
        """
        token = self._token() if callable(self._token) else self._token
        if token is None and self._token is None:
            return {}
        if not isinstance(token, str) or not TOKEN.fullmatch(token):
            raise InputError(
                "`token` must be a text of letters, digits and signs, without spaces. "
                f"Received: a {type(token).__name__} that is not shown here"
            )
        return {"authorization": f"Bearer {token}"}


def read_credentials(address: Address, **given: Any) -> Credentials | None:
    """Those of an address with TLS; None without it, where there may be none.

    Raises:
        InputError: If they are given for an address without TLS, or are wrong.
    """
    if address.is_secure:
        return Credentials(**given)
    for name, value in given.items():
        if value is not None:
            raise InputError(
                f"`{name}` is for TLS: expected an address that begins with grpcs:// "
                f"or https://. Received: {address.place!r}"
            )
    return None


def _read(path: StrPath | None) -> bytes | None:
    if path is None:
        return None
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
