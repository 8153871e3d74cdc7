"""A connection that the application has taken for a protocol of its own, and its end. Threads and the loop.

The application has one socket, and the server keeps a duplicate. So the server can end the connection properly
(RFC 6455 §7.1.1, RFC 9112 §9.6) even if the application has closed its own socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
from typing import TYPE_CHECKING, Any, Final, cast

from starman.application_forks import in_child
from starman.log.output import FIRST_FREE
from starman.serving.connections.lingering import Lingering

if TYPE_CHECKING:
    from collections.abc import Callable

    from starman.serving.context import ServiceContext
    from starman.serving.sending.loop_side import ApplicationRelay

# How many bytes of a client are read at once while lingering.
_READ: Final = 65_536


class DetachedConnection:
    """A detached connection. Threads of the application make and use it; the loop ends it.

    socket: the application's. client_socket: the socket for queries about addresses and options; with a relay this is
    another one.
    """

    __slots__ = ("_context", "_ended", "_kept", "_relay", "client_socket", "socket")

    def __init__(self, descriptor: int, relay: ApplicationRelay | None, context: ServiceContext) -> None:
        """The loop does not use `descriptor` any more, unless there is a `relay`. Raises OSError."""
        connection = socket.socket(fileno=descriptor)
        try:
            with contextlib.suppress(OSError):  # the connection is reset: the first use shows it
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            ours = connection if relay is None else relay.socket
            ours.setblocking(True)
            self.socket = socket.socket(fileno=fcntl.fcntl(ours, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE))
            self.socket.setblocking(True)  # independent of socket.setdefaulttimeout
        except OSError:
            connection.close()
            if relay is not None:
                relay.socket.close()
                context.executor.post(relay.reset)
            raise
        self.client_socket = self.socket if relay is None else connection
        self._kept = ours
        self._relay = relay
        self._context = context
        self._ended = False

    def end(self) -> None:
        """Send FIN, and let the loop linger. May be called again, by one thread at a time.

        Another thread may go on reading. It gets the end of the stream when the loop closes the connection.
        """
        if self._ended or in_child():  # a child that the application has forked must not end the parent's connection
            return
        self._ended = True
        with contextlib.suppress(OSError):
            self._kept.shutdown(socket.SHUT_WR)
        try:
            self._context.executor.post(self._linger)
        except RuntimeError:  # the loop is closed
            self._close()

    def _linger(self) -> None:
        if self._relay is None:
            Lingering(SocketTransport(self._kept, self._close), self._context)
        else:
            self._relay.end(self._close)

    def _close(self) -> None:
        """Close all sockets, and wake the threads that wait for the connection."""
        with contextlib.suppress(OSError):
            self._kept.shutdown(socket.SHUT_RDWR)
        for each in (self._kept, self.socket, self.client_socket):
            with contextlib.suppress(OSError):  # the application has closed the descriptor by its number
                each.close()


class SocketTransport(asyncio.Transport):
    """The part of a transport that `Lingering` needs. Loop only.

    A transport of the loop would make the socket non-blocking for the application's threads, too.
    """

    __slots__ = ("_close", "_loop", "_protocol", "_socket")

    def __init__(self, sock: socket.socket, close: Callable[[], None]) -> None:
        """Only reads `sock`. Calls `close` at the end, which must close the socket."""
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._socket = sock
        self._close = close
        self._protocol: asyncio.Protocol | None = None

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Call `protocol` from now on."""
        self._protocol = cast("asyncio.Protocol", protocol)
        self.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return the socket for "socket"."""
        return self._socket if name == "socket" else default

    def get_write_buffer_size(self) -> int:
        """Return 0: the kernel has all bytes."""
        return 0

    def pause_reading(self) -> None:
        """Leave the socket unread."""
        self._loop.remove_reader(self._socket.fileno())

    def resume_reading(self) -> None:
        """Read on."""
        self._loop.add_reader(self._socket.fileno(), self._read)

    def close(self) -> None:
        """Close now. The kernel sends what it has."""
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            self.pause_reading()
            self._close()
            protocol.connection_lost(None)

    abort = close

    def _read(self) -> None:
        if self._protocol is None:
            return
        try:
            data = self._socket.recv(_READ, socket.MSG_DONTWAIT)
        except (BlockingIOError, InterruptedError):  # a thread of the application has read the bytes
            return
        except OSError:  # the connection is reset
            self.close()
            return
        if data:
            self._protocol.data_received(data)
        else:
            self._protocol.eof_received()
