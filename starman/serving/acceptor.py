"""New connections of one worker: accepts on the listeners it shares with its siblings, until the drain."""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from starman import log
from starman.serving.connection import Connection
from starman.serving.handshake import Handshake
from starman.serving.shared import SOFTWARE, Shared
from starman.wsgi.environ import template

# How many connections one wake-up accepts from a listener.
_MOST_AT_ONCE = 16

# How long (seconds) a listener is left alone when no descriptor is left for a connection.
_PAUSE = 0.5


Factory = Callable[[], asyncio.Protocol]


class Listening(Protocol):
    """What is needed of a listener: its socket, bound, listening and non-blocking, and whether TLS is spoken there."""

    @property
    def socket(self) -> socket.socket:
        """The listening socket."""

    @property
    def secure(self) -> bool:
        """Whether TLS is spoken there."""


class Acceptor:
    """Accepts on all listeners of a worker. Loop only.

    By add_reader and accept(2), not by create_server: that one's close unlinks a UNIX path which is shared (hazard 12), loses
    what it has just accepted (asyncio's own loop), and says nothing of what is still in the kernel's queue (hazard 13).
    """

    __slots__ = ("_listeners", "_loop", "_multiprocess", "_pending", "_shared", "_threads", "_tls")

    def __init__(self, shared: Shared, *, threads: int, multiprocess: bool, tls: ssl.SSLContext | None) -> None:
        """`threads` and `multiprocess` are told to the application. `tls` is needed where a listener is secure."""
        self._shared = shared
        self._threads = threads
        self._multiprocess = multiprocess
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._listeners: list[tuple[socket.socket, Factory]] = []
        self._pending: set[asyncio.Task[object]] = set()

    def start(self, listeners: Sequence[Listening]) -> None:
        """Begin to accept. The listeners' sockets stay the caller's: duplicates are used."""
        for listener in listeners:
            sock = listener.socket.dup()
            sock.setblocking(False)
            factory = self._factory(sock, listener.secure)
            self._listeners.append((sock, factory))
            self._loop.add_reader(sock.fileno(), self._accept, sock, factory)

    def stop(self) -> None:
        """Accept what the kernel already has for us, then no more: those clients may have sent their request (hazard 13).
        A doomed process leaves them to the others."""
        listeners, self._listeners = self._listeners, []
        for sock, factory in listeners:
            self._loop.remove_reader(sock.fileno())
            self._accept(sock, factory, 1 << 16)
            sock.close()

    @property
    def busy(self) -> bool:
        """Whether accepted sockets are still on their way to becoming connections."""
        return bool(self._pending)

    def _accept(self, listener: socket.socket, factory: Factory, most: int = _MOST_AT_ONCE) -> None:
        for _ in range(most):
            if self._shared.doomed:
                return
            try:
                sock, _address = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                log.error(f"cannot accept a connection: {error}")
                self._rest(listener, factory)
                return
            sock.setblocking(False)
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task: asyncio.Task[object] = self._loop.create_task(self._connect(factory, sock))
            self._pending.add(task)
            task.add_done_callback(self._pending.discard)

    async def _connect(self, factory: Factory, sock: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(factory, sock)
        except OSError:  # it is gone again
            sock.close()

    def _rest(self, listener: socket.socket, factory: Factory) -> None:
        """Look away from a listener for a moment, for want of descriptors: level-triggered, it would spin the loop."""

        def watch() -> None:
            if (listener, factory) in self._listeners:
                self._loop.add_reader(listener.fileno(), self._accept, listener, factory)

        if (listener, factory) in self._listeners:
            self._loop.remove_reader(listener.fileno())
            self._loop.call_later(_PAUSE, watch)

    def _factory(self, sock: socket.socket, secure: bool) -> Factory:
        """Makes the connections of one listener; on a wildcard address, each has a SERVER_NAME of its own."""
        wildcard = sock.family != socket.AF_UNIX and sock.getsockname()[0] in ("0.0.0.0", "::")
        # A UNIX listener needs a name and a port too: frameworks ask.
        server = ("localhost", 80) if sock.family == socket.AF_UNIX else sock.getsockname()[:2]
        environ = template(
            server=server,
            secure=secure,
            errors=sys.stderr,
            threads=self._threads > 1,
            processes=self._multiprocess,
            software=SOFTWARE,
        )
        if self._shared.on_harakiri is not None:
            environ["starman.harakiri"] = False
        connection = partial(Connection, self._shared, self._loop, environ, wildcard)
        if not secure:
            return connection
        assert self._tls is not None
        return partial(Handshake, self._shared, self._tls, connection)
