"""`gunicorn.socket`: the connection itself, for an application that speaks another protocol on it (WebSocket).

simple-websocket, flask-sock and Flask-SocketIO look for this name in the environ. Only a request that offers to switch
protocols has it. The connection stays the server's until the application calls a method that uses it, so a debugger or
a template that reads the whole environ takes nothing. Then the loop lets go of the connection first: a socket that
blocks for the application would block for the loop as well (hazard 3).
"""

from __future__ import annotations

import socket
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from starman.errors import Disconnected

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from starman.serving.gunicorn_socket.detached import DetachedConnection

_METHODS: Final = frozenset(name for name in dir(socket.socket) if name[0] != "_" and callable(getattr(socket.socket, name)))
_PROPERTIES: Final = frozenset(("family", "proto", "timeout", "type"))
# Methods that have an answer without taking the connection.
_ANSWERS: Final = {"getblocking": True, "gettimeout": None, "timeout": None}
_INSPECTIONS: Final = frozenset(("family", "get_inheritable", "getpeername", "getsockname", "getsockopt", "proto", "type"))


# The connections that applications have taken and still use. Threads of the application add and remove; other threads
# only copy it.
_taken: set[RawSocket] = set()


def taken_descriptors() -> list[int]:
    """Return the descriptors of the connections that applications have taken; -1 for a closed one. For inspection
    only."""
    return [raw.descriptor for raw in list(_taken)]


class NotConnectedError(Disconnected, ConnectionAbortedError):
    """The client is gone, or the request has ended. For the application this is a socket error."""


class RawSocket:
    """Stands in for a socket. Becomes one when the application calls a method that needs it. Threads of the
    application."""

    __slots__ = ("_detach", "_duplicate", "_has_copies", "_lock", "_released", "_taken")

    def __init__(self, detach: Callable[[], DetachedConnection], duplicate: Callable[[], int]) -> None:
        """`detach` takes the connection from the server. `duplicate` returns a descriptor for inspection, which the
        caller closes. Both raise Disconnected."""
        self._detach = detach
        self._duplicate = duplicate
        self._lock = threading.Lock()
        self._has_copies = False  # whether the application has other descriptors of the connection
        self._released = False
        self._taken: DetachedConnection | None = None

    def close(self) -> None:
        """As `socket.close`. The server lingers, so that no reset destroys bytes that were sent."""
        taken = self._take()
        taken.socket.close()
        # Otherwise a file or a duplicate made of it is still open: the connection ends when the application returns.
        if taken.socket.fileno() < 0 and not self._has_copies:
            with self._lock:
                taken.end()

    def detach(self) -> int:
        """As `socket.detach`."""
        taken = self._take()
        self._has_copies = True
        return taken.socket.detach()

    def dup(self) -> socket.socket:
        """As `socket.dup`."""
        taken = self._take()
        self._has_copies = True
        return taken.socket.dup()

    def setsockopt(self, level: int, option: int, *value: Any) -> None:
        """As `socket.setsockopt`. Options of the protocol, such as TCP_NODELAY, apply to the client's connection."""
        taken = self._take()
        (taken.socket if level == socket.SOL_SOCKET else taken.client_socket).setsockopt(level, option, *value)

    def release(self) -> None:
        """The application has returned: end the connection if it was taken, and prevent taking it later."""
        with self._lock:
            self._released = True
            if self._taken is not None:
                _taken.discard(self)
                self._taken.end()

    @property
    def descriptor(self) -> int:
        """The descriptor of the application; -1 before the connection is taken, and after it is closed."""
        return -1 if self._taken is None else self._taken.socket.fileno()

    @property
    def taken(self) -> bool:
        """Whether the application has taken the connection."""
        return self._taken is not None

    def __enter__(self) -> RawSocket:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of a socket. Calling a method takes the connection, unless it only inspects it."""
        taken = self._taken
        if taken is not None:
            return getattr(taken.client_socket if name in _INSPECTIONS else taken.socket, name)
        if name in _METHODS:
            return partial(self._call, name)
        if name in _PROPERTIES:
            return _ANSWERS[name] if name in _ANSWERS else self._inspect(name)
        raise AttributeError(f"a socket has no attribute {name!r}")

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *_METHODS, *_PROPERTIES})

    def __repr__(self) -> str:
        return f"<gunicorn.socket: {'not taken from the server' if self._taken is None else self._taken.socket!r}>"

    def __copy__(self) -> RawSocket:
        return self

    def __deepcopy__(self, memo: object) -> RawSocket:
        """Return this object: a copy of the environ has the same connection."""
        return self

    def __reduce_ex__(self, protocol: object) -> Any:
        raise TypeError("cannot pickle a connection (gunicorn.socket)")

    def _call(self, name: str, *arguments: Any, **named: Any) -> Any:
        """Call a method that was looked up before the connection was taken."""
        if self._taken is None:
            if name in _ANSWERS:
                return _ANSWERS[name]
            if name in _INSPECTIONS:
                return self._inspect(name, *arguments, **named)
        self._take()
        return getattr(self, name)(*arguments, **named)

    def _inspect(self, name: str, *arguments: Any, **named: Any) -> Any:
        try:
            descriptor = self._duplicate()
        except Disconnected:
            raise NotConnectedError("the client is gone, or the request has ended") from None
        with socket.socket(fileno=descriptor) as duplicate:
            found = getattr(duplicate, name)
            return found(*arguments, **named) if name in _METHODS else found

    def _take(self) -> DetachedConnection:
        with self._lock:
            if self._taken is None:
                if self._released:
                    raise NotConnectedError("the request has ended, and its connection was not taken before")
                try:
                    self._taken = self._detach()
                except Disconnected:
                    raise NotConnectedError("the client is gone") from None
                _taken.add(self)
            return self._taken
