"""Certificates for a day, and what a server with TLS needs of them, by `openssl`."""

import ssl
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import grpc

CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
LEAF = """\
basicConstraints = critical, CA:FALSE
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = DNS:{name}
"""


@dataclass
class Pair:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path


def make_authority(folder, name="authority"):
    """One that vouches for others."""
    pair = Pair(folder / f"{name}.pem", folder / f"{name}.key")
    _openssl(
        *("req", "-x509", *CURVE, "-days", "1", "-subj", f"/CN={name}"),
        *("-keyout", pair.key, "-out", pair.certificate),
        *("-addext", "keyUsage = critical, keyCertSign"),
    )
    return pair


def make_certificate(folder, authority, name):
    """One of the host, or the client, of that name."""
    pair = Pair(folder / f"{name}.pem", folder / f"{name}.key")
    request, extensions = folder / f"{name}.csr", folder / f"{name}.ext"
    extensions.write_text(LEAF.format(name=name))
    _openssl(
        *("req", "-new", *CURVE, "-subj", f"/CN={name}"),
        *("-keyout", pair.key, "-out", request),
    )
    _openssl(
        *("x509", "-req", "-in", request, "-out", pair.certificate, "-days", "1"),
        *("-CA", authority.certificate, "-CAkey", authority.key, "-CAcreateserial"),
        *("-extfile", extensions),
    )
    return pair


@dataclass
class ServerCredentials:
    """What a server shows, and what it wants to see.

    Args:
        own: Its certificate and key.
        clients: Authority that must vouch for a client's certificate; by default no
            certificate is wanted.
        token: Bearer token that requests must have; by default none.
        seen: The tokens of the requests until now.
    """

    own: Pair
    clients: Pair | None = None
    token: str | None = None
    seen: list = field(default_factory=list)

    def of_grpc(self):
        """For `grpc.Server.add_secure_port`."""
        own = self.own.key.read_bytes(), self.own.certificate.read_bytes()
        clients = self.clients and self.clients.certificate.read_bytes()
        return grpc.ssl_server_credentials([own], clients, self.clients is not None)

    def wrapped(self, socket):
        """A listening socket, with TLS."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.own.certificate, self.own.key)
        if self.clients is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.clients.certificate)
        return context.wrap_socket(socket, server_side=True)

    def allow(self, headers):
        """Whether a request with these headers has the token."""
        self.seen.append(headers.get("authorization"))
        return self.token is None or self.seen[-1] == f"Bearer {self.token}"


def _openssl(*arguments):
    subprocess.run(["openssl", *arguments], check=True, stderr=subprocess.DEVNULL)
