"""Makes self-signed certificates for localhost and 127.0.0.1, by the openssl command."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

from tests.functional.support.tools import run_tool
from tests.functional.support.wire import Client

NAMES = "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1"


class Pair:
    """A certificate and its key, each in a file."""

    def __init__(self, directory: Path, name: str) -> None:
        self.certificate = directory / f"{name}.crt"
        self.key = directory / f"{name}.key"
        options = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
        files = ["-keyout", str(self.key), "-out", str(self.certificate)]
        run_tool("openssl", "req", *options, "-subj", f"/CN={name}", "-addext", NAMES, *files)

    @property
    def arguments(self) -> list[str]:
        """The arguments of the server's command line."""
        return ["--ssl-cert", str(self.certificate), "--ssl-key", str(self.key)]


class TlsClient(Client):
    """A raw client that speaks TLS. `context` None: it trusts only `pair`."""

    socket: ssl.SSLSocket

    def __init__(
        self, port: int, pair: Pair, *, context: ssl.SSLContext | None = None, receive_bytes: int = 0, timeout: float = 20.0
    ) -> None:
        """`receive_bytes`: the kernel's buffer for received data, so that a slow reader soon blocks the server; 0:
        the default."""
        super().__init__(("127.0.0.1", port), timeout)
        if receive_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket = secured(self.socket, context or trusting(pair))


def secured(sock: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
    """Shake hands with localhost. Closes the socket if that fails."""
    try:
        return context.wrap_socket(sock, server_hostname="localhost")
    except BaseException:
        sock.close()
        raise


def trusting(pair: Pair) -> ssl.SSLContext:
    """An SSL context of a client."""
    return ssl.create_default_context(cafile=str(pair.certificate))
