"""`gunicorn.socket`: the connection itself, for an application that wants to speak another protocol on it (WebSocket).

Offered under the name that simple-websocket, flask-sock and Flask-SocketIO look for, and only to a request that offers to
switch protocols. The connection stays the server's until the application calls a method that uses it: a debugger or a template
that looks at everything in environ takes nothing. (Hazard 3: a socket that is blocking for the application would be blocking for
the loop as well, so the loop must have let go of it first.)
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

    from starman.serving.gunicorn_socket.detached import Detached

_METHODS: Final = frozenset(name for name in dir(socket.socket) if name[0] != "_" and callable(getattr(socket.socket, name)))
_PROPERTIES: Final = frozenset(("family", "proto", "timeout", "type"))
# Methods that are answered without taking the connection.
_KNOWN: Final = {"getblocking": True, "gettimeout": None, "timeout": None}
_LOOKS: Final = frozenset(("family", "get_inheritable", "getpeername", "getsockname", "getsockopt", "proto", "type"))


# Connections that applications have taken and are not done with.
_taken: set[RawSocket] = set()


def taken_over() -> list[int]:
    """The descriptors of connections that applications have taken; -1 for a closed one. For inspection."""
    return [raw.descriptor for raw in list(_taken)]


class NotConnectedError(Disconnected, ConnectionAbortedError):
    """The client is gone, or the request has ended. An application can treat this exception as a socket error."""


class RawSocket:
    """Stands for a socket, and becomes one when a method is called that needs it. Threads of the application call it."""

    __slots__ = ("_detach", "_duplicate", "_has_copies", "_lock", "_released", "_taken")

    def __init__(self, detach: Callable[[], Detached], duplicate: Callable[[], int]) -> None:
        """`detach` takes the connection from the server; `duplicate` gives a descriptor to look at it, which the caller closes.
        Both raise Disconnected."""
        self._detach = detach
        self._duplicate = duplicate
        self._lock = threading.Lock()
        self._has_copies = False  # the application has other descriptors of the connection
        self._released = False
        self._taken: Detached | None = None

    def close(self) -> None:
        """As `socket.close`. The server lingers, so that no reset destroys what was sent."""
        taken = self._take()
        taken.socket.close()
        # Else a file made of it is still open, or a duplicate: the connection then ends when the application returns.
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
        """As `socket.setsockopt`. Options of the connection, such as TCP_NODELAY, apply to the client's connection."""
        taken = self._take()
        (taken.socket if level == socket.SOL_SOCKET else taken.facts).setsockopt(level, option, *value)

    def release(self) -> None:
        """The application has returned: end the connection if it was taken, and prevent that it is taken later."""
        with self._lock:
            self._released = True
            if self._taken is not None:
                _taken.discard(self)
                self._taken.end()

    @property
    def descriptor(self) -> int:
        """The application's descriptor; -1 until the connection is taken, and once it is closed."""
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
        """The attributes of a socket. Calling a method takes the connection, unless the method only inspects it."""
        taken = self._taken
        if taken is not None:
            return getattr(taken.facts if name in _LOOKS else taken.socket, name)
        if name in _METHODS:
            return partial(self._call, name)
        if name in _PROPERTIES:
            return _KNOWN[name] if name in _KNOWN else self._look(name)
        raise AttributeError(f"a socket has no attribute {name!r}")

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *_METHODS, *_PROPERTIES})

    def __repr__(self) -> str:
        return f"<gunicorn.socket: {'not taken from the server' if self._taken is None else self._taken.socket!r}>"

    def __copy__(self) -> RawSocket:
        return self

    def __deepcopy__(self, memo: object) -> RawSocket:
        """A copy of environ has the same connection."""
        return self

    def __reduce_ex__(self, protocol: object) -> Any:
        raise TypeError("cannot pickle a connection (gunicorn.socket)")

    def _call(self, name: str, *arguments: Any, **named: Any) -> Any:
        """A method that was looked up before the connection was taken."""
        if self._taken is None:
            if name in _KNOWN:
                return _KNOWN[name]
            if name in _LOOKS:
                return self._look(name, *arguments, **named)
        self._take()
        return getattr(self, name)(*arguments, **named)

    def _look(self, name: str, *arguments: Any, **named: Any) -> Any:
        try:
            descriptor = self._duplicate()
        except Disconnected:
            raise NotConnectedError("the client is gone, or the request has ended") from None
        with socket.socket(fileno=descriptor) as duplicate:
            found = getattr(duplicate, name)
            return found(*arguments, **named) if name in _METHODS else found

    def _take(self) -> Detached:
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
