"""starman.serving.accepting.connection_factory: the environ of the connections of a listener."""

from __future__ import annotations

import asyncio
import socket
from types import SimpleNamespace
from typing import Any, cast

import pytest

from starman.config.settings import Settings
from starman.serving.accepting import connection_factory as module
from starman.serving.accepting.connection_factory import ConnectionFactory
from starman.wsgi.forwarded import Forwarding


@pytest.mark.parametrize(("secure", "port"), [(False, "80"), (True, "443")])
def test_a_unix_listener_has_the_port_of_its_scheme(secure: bool, port: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr(module, "Handshake" if secure else "Connection", lambda *arguments: arguments[2])
        context = cast("Any", SimpleNamespace(on_harakiri=None, forwarding=Forwarding(Settings.of())))
        factory = ConnectionFactory(context, threads=1, multiprocess=True, tls_context=cast("Any", "TLS"))
        with socket.socket(socket.AF_UNIX) as sock:
            environ: Any = factory.for_listener(sock, secure)(sock, "")
        scheme = "https" if secure else "http"
        assert (environ["wsgi.url_scheme"], environ["SERVER_NAME"], environ["SERVER_PORT"]) == (scheme, "localhost", port)

    asyncio.run(main())
