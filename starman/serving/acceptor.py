"""New connections of one worker: accepts on the listeners it shares with its siblings, until the drain."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Sequence
from typing import Protocol

from starman import log
from starman.serving.connection import Connection
from starman.serving.shared import SOFTWARE, Shared
from starman.wsgi.environ import Environ, template

# How many connections one wake-up accepts from a UNIX listener.
_MOST_AT_ONCE = 16

# How long (seconds) a listener is left alone when no descriptor is left for a connection.
_PAUSE = 0.5


class Listening(Protocol):
    """What is needed of a listener: its socket, bound, listening and non-blocking."""

    @property
    def socket(self) -> socket.socket:
        """The listening socket."""


class Acceptor:
    """Accepts on all listeners of a worker. Loop only."""

    __slots__ = ("_backlog", "_loop", "_multiprocess", "_pending", "_readers", "_servers", "_shared", "_sockets", "_threads")

    def __init__(self, shared: Shared, *, backlog: int, threads: int, multiprocess: bool) -> None:
        """`backlog` as for listen(2); `threads` and `multiprocess` are told to the application."""
        self._shared = shared
        self._backlog = backlog
        self._threads = threads
        self._multiprocess = multiprocess
        self._loop = asyncio.get_running_loop()
        self._servers: list[asyncio.Server] = []
        self._readers: list[tuple[socket.socket, Environ]] = []
        self._sockets: list[tuple[socket.socket, Environ]] = []
        self._pending: set[asyncio.Task[object]] = set()

    async def start(self, listeners: Sequence[Listening]) -> None:
        """Begin to accept. The listeners' sockets stay the caller's: duplicates are used."""
        for listener in listeners:
            sock = listener.socket.dup()
            sock.setblocking(False)
            environ = self._template(sock)
            self._sockets.append((sock, environ))
            if sock.family == socket.AF_UNIX:
                # Not create_unix_server: its close unlinks the path, which is shared, on 3.13 (hazard 12).
                self._readers.append((sock, environ))
                self._loop.add_reader(sock.fileno(), self._accept, sock, environ)
            else:
                factory = self._factory(sock, environ)
                server = await self._loop.create_server(factory, sock=sock.dup(), backlog=self._backlog)
                self._servers.append(server)

    def stop(self) -> None:
        """Accept what the kernel already has for us, then no more: those clients may have sent their request (hazard 13)."""
        for server in self._servers:
            server.close()
        for sock, _ in self._readers:
            self._loop.remove_reader(sock.fileno())
        for sock, environ in self._sockets:
            self._accept(sock, environ, 1 << 16)
            sock.close()
        self._servers.clear()
        self._readers.clear()
        self._sockets.clear()

    @property
    def busy(self) -> bool:
        """Whether accepted sockets are still on their way to becoming connections."""
        return bool(self._pending)

    def _accept(self, listener: socket.socket, environ: Environ, most: int = _MOST_AT_ONCE) -> None:
        for _ in range(most):
            try:
                sock, _address = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                log.error(f"cannot accept a connection: {error}")
                self._rest(listener, environ)
                return
            sock.setblocking(False)
            connecting = self._loop.connect_accepted_socket(self._factory(listener, environ), sock)
            task: asyncio.Task[object] = self._loop.create_task(self._connect(connecting, sock))
            self._pending.add(task)
            task.add_done_callback(self._pending.discard)

    async def _connect(self, connecting: object, sock: socket.socket) -> None:
        try:
            await connecting  # type: ignore[misc]
        except OSError:
            sock.close()

    def _rest(self, listener: socket.socket, environ: Environ) -> None:
        """Look away from a listener for a moment: level-triggered, it would spin the loop."""
        if listener.fileno() < 0 or all(listener is not sock for sock, _ in self._readers):
            return
        self._loop.remove_reader(listener.fileno())

        def again() -> None:
            if any(listener is sock for sock, _ in self._readers):
                self._loop.add_reader(listener.fileno(), self._accept, listener, environ)

        self._loop.call_later(_PAUSE, again)

    def _factory(self, sock: socket.socket, environ: Environ):  # type: ignore[no-untyped-def]
        wildcard = sock.family != socket.AF_UNIX and sock.getsockname()[0] in ("0.0.0.0", "::")
        shared, loop = self._shared, self._loop
        return lambda: Connection(shared, loop, environ, wildcard)

    def _template(self, sock: socket.socket) -> Environ:
        """What requests of this listener have in common. A UNIX listener needs a name and a port too: frameworks ask."""
        server = ("localhost", 80) if sock.family == socket.AF_UNIX else sock.getsockname()[:2]
        return template(
            server=server,
            secure=False,
            errors=sys.stderr,
            threads=self._threads > 1,
            processes=self._multiprocess,
            software=SOFTWARE,
        )
