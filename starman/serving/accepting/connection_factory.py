"""Makes the protocol of each accepted socket: a `Connection`, or on TLS first a `Handshake`. With `proxy_protocol`, a
`ProxyHeaderReader` comes before both. Loop only."""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from collections.abc import Callable
from functools import partial
from typing import cast

from starman.hooks import worker_number
from starman.serving.accepting.proxy_header import ProxyHeaderReader, ProxyHeaderRules
from starman.serving.connections.connection import Connection
from starman.serving.context import SOFTWARE, ServiceContext
from starman.serving.tls.handshake import Handshake
from starman.wsgi.environ import for_connection, template

# Makes the protocol of a connection from its socket and the address of its client.
MakeProtocol = Callable[[socket.socket, object], asyncio.Protocol]


class ConnectionFactory:
    """Makes the connections of one worker."""

    __slots__ = ("_context", "_multiprocess", "_proxy_header", "_set_deadline", "_threads", "_tls_context")

    def __init__(
        self,
        context: ServiceContext,
        *,
        threads: int,
        multiprocess: bool,
        tls_context: ssl.SSLContext | None,
        proxy_header: ProxyHeaderRules | None = None,
        set_deadline: Callable[[float | None], None] | None = None,
    ) -> None:
        """`threads` and `multiprocess` are for the environ. `tls_context` is needed if a listener is secure.
        `proxy_header`: the rules for the header with which every connection begins; None: there is none.
        `set_deadline`: `starman.deadline` of the environ; None: it has none."""
        self._context = context
        self._threads = threads
        self._multiprocess = multiprocess
        self._tls_context = tls_context
        self._proxy_header = proxy_header
        self._set_deadline = set_deadline

    def for_listener(self, listener: socket.socket, secure: bool) -> MakeProtocol:
        """Return a function that makes the connections of a listener. `secure` says whether its clients use TLS.

        On a wildcard address, each connection has its own SERVER_NAME.
        """
        is_unix = listener.family == socket.AF_UNIX
        wildcard = not is_unix and listener.getsockname()[0] in ("0.0.0.0", "::")
        environ = template(
            # A UNIX listener needs a name and a port too: frameworks require both, and omit the scheme's default port
            # from URLs.
            server=("localhost", 443 if secure else 80) if is_unix else listener.getsockname()[:2],
            secure=secure,
            errors=sys.stderr,
            threads=self._threads > 1,
            processes=self._multiprocess,
            software=SOFTWARE,
        )
        environ["starman.worker_number"] = worker_number()
        if self._context.on_harakiri is not None:
            environ["starman.harakiri"] = False
        if self._set_deadline is not None:
            environ["starman.deadline"] = self._set_deadline
        context, loop, tls_context = self._context, asyncio.get_running_loop(), self._tls_context

        def make(sock: socket.socket, peer: object) -> asyncio.Protocol:
            # The address comes from accept(2): the transport would call getpeername(2) again.
            base = for_connection(environ, peer, sock.getsockname() if wildcard else None)
            trusted = context.forwarding.trusts(peer)
            if secure:
                assert tls_context is not None
                return Handshake(context, tls_context, base, trusted)
            return cast("asyncio.Protocol", Connection(context, loop, base, sock.fileno(), trusted))

        rules = self._proxy_header
        if rules is None:
            return make
        # From the end of the header on, all is as if the client that the header names had connected.
        return lambda sock, peer: ProxyHeaderReader(context, rules, peer, partial(make, sock))
