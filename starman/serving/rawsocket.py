"""`gunicorn.socket`: the connection itself, for an application that wants to speak another protocol on it (WebSocket).

Offered under the name that simple-websocket, flask-sock and Flask-SocketIO look for, and only to a request that offers to
switch protocols. It is lazy: until the application uses it, the connection is the server's (hazard 3: a socket that is blocking
for the application would be blocking for the loop as well, so the loop must have let go of it first).
"""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


# Those that applications have taken over, and not given back.
_taken: set[RawSocket] = set()


def taken_over() -> list[int]:
    """The descriptors of the connections that applications have taken over. For a look."""
    return [raw.descriptor for raw in list(_taken)]


class RawSocket:
    """Stands for a socket, and becomes one at the first use, by the exchange's thread; then any thread of the application may."""

    __slots__ = ("_detach", "_socket", "_unread")

    def __init__(self, detach: Callable[[], tuple[int, bytes]]) -> None:
        """`detach` takes the connection from the server: its descriptor, and what was received behind the request."""
        self._detach = detach
        self._socket: socket.socket | None = None
        self._unread = b""

    def recv(self, size: int, flags: int = 0) -> bytes:
        """As `socket.recv`; what the server had already received comes first."""
        taken = self._take()
        if self._unread:
            data = self._unread[:size]
            if not flags & socket.MSG_PEEK:
                self._unread = self._unread[size:]
            return data
        return taken.recv(size, flags)

    def recv_into(self, buffer: memoryview | bytearray, size: int = 0, flags: int = 0) -> int:
        """As `socket.recv_into`."""
        data = self.recv(size or len(buffer), flags)
        buffer[: len(data)] = data
        return len(data)

    def release(self) -> None:
        """The application is done: end the connection, and wake what still reads from it in a thread of its own."""
        _taken.discard(self)
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()

    @property
    def descriptor(self) -> int:
        """That of the connection; -1 as long as it is the server's, or once it is closed."""
        return -1 if self._socket is None else self._socket.fileno()

    def __getattr__(self, name: str) -> Any:
        """All else is the socket's own: sendall, fileno, settimeout, getpeername, ..."""
        return getattr(self._take(), name)

    def _take(self) -> socket.socket:
        if self._socket is None:
            fd, self._unread = self._detach()
            taken = socket.socket(fileno=fd)
            taken.setblocking(True)
            self._socket = taken
            _taken.add(self)
        return self._socket
