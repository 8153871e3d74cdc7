"""Releases the server's descriptors and signal handlers in a child that the application forks.

Such a child inherits the listeners, the connections, the channel to the master and the signal handlers. It must not
serve, and it must not react to the server's signals. See `application_forks`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket

from starman import application_forks, thread_io
from starman.process.forking import is_own_handler
from starman.process.own_descriptors import list_descriptors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, Protocol

    from starman.process.channel import Channel
    from starman.process.host.listeners import Listener

    class Abandonable(Protocol):
        """The service, as far as such a child uses it."""

        def abandon(self) -> tuple[list[int], list[int]]:
            """See `Service.abandon`."""


_ANY_HOST = ("0.0.0.0", "::")


class ServerResources:
    """What a process of the server owns. `application_forks` calls `abandon` in each child that the application forks.

    service: the service that uses the descriptors; None before it exists.
    """

    __slots__ = ("_channel", "_handlers", "_names", "_signals", "service")

    def __init__(self, listeners: Sequence[Listener], channel: Channel | None = None, *, signals: bool = True) -> None:
        """`channel` leads to the master. `signals`: also reset the signal handlers that `forking` installs, and those
        given to `note_handler`. The listeners' addresses are read now, because listeners may be closed by the time of
        a fork."""
        self._names = [listener.socket.getsockname() for listener in listeners]
        self._channel = channel
        self._signals = signals
        self._handlers: list[tuple[int, Any]] = []
        self.service: Abandonable | None = None
        application_forks.watch(self.abandon)

    def note_handler(self, signum: int) -> None:
        """Have a child reset the present handler of this signal. Main thread."""
        self._handlers.append((signum, signal.getsignal(signum)))

    def release(self) -> None:
        """Unregister: later children keep everything."""
        application_forks.unwatch(self.abandon)

    def abandon(self) -> None:
        """Restore the default action of each signal that has one of our handlers, and point each of our descriptors at
        /dev/null. A step that fails does not prevent the others. Call it in a child that the application has
        forked."""
        signal.set_wakeup_fd(-1)
        if self._signals:
            for signum in signal.valid_signals():
                with contextlib.suppress(OSError, ValueError):
                    if self._is_ours(signum):
                        signal.signal(signum, signal.SIG_DFL)
        if self._channel is not None and self._channel.stacks >= 0:
            # On this descriptor, the master would take the child's stacks for those of its parent, the worker.
            with contextlib.suppress(OSError):
                os.dup2(2, self._channel.stacks, inheritable=False)
        kept: list[int] = []
        fds = [] if self._channel is None else [self._channel.fileno()]
        try:
            if self.service is not None:
                more, kept = self.service.abandon()
                fds += more
        finally:
            point_nowhere([*fds, *thread_io.descriptors(), *server_sockets(self._names, kept)])

    def _is_ours(self, signum: int) -> bool:
        handler = signal.getsignal(signum)
        return is_own_handler(handler) or (signum, handler) in self._handlers


def server_sockets(names: Sequence[Any], kept: Iterable[int] = ()) -> list[int]:
    """The descriptors of listeners that are bound to these addresses, and of connections that were accepted there.
    Duplicates are included. The descriptors in `kept` and their duplicates are left out."""
    spared = {_identity(fd) for fd in kept}
    return [fd for fd in _descriptors() if _is_at(fd, names) and _identity(fd) not in spared]


def point_nowhere(fds: Iterable[int]) -> None:
    """Point each of these descriptors at /dev/null. They stay open: an object may still hold such a number and close
    it later, when the number could already belong to another file."""
    null = -1
    for fd in fds:
        if fd < 0:
            continue
        try:
            if null < 0:
                null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, fd, inheritable=False)
        except OSError:
            # No descriptor is free, or there is no /dev/null.
            with contextlib.suppress(OSError):
                os.close(fd)
    if null >= 0:
        os.close(null)


def _descriptors() -> list[int]:
    listed = list_descriptors()
    return list(range(os.sysconf("SC_OPEN_MAX"))) if listed is None else listed


def _is_at(fd: int, names: Sequence[Any]) -> bool:
    try:
        # AF_UNIX, whatever the socket is: the family only sets the size of the buffer for the name, and any name fits
        # into that.
        stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fd)
    except OSError:
        return False
    try:
        name = stream.getsockname()
    except OSError:  # not a socket
        return False
    finally:
        stream.detach()
    return bool(name) and any(_matches(name, listener) for listener in names)


def _matches(name: Any, listener: Any) -> bool:
    if not (isinstance(name, tuple) and isinstance(listener, tuple)):
        return bool(name == listener)
    return len(name) == len(listener) and name[1] == listener[1] and (name[0] == listener[0] or listener[0] in _ANY_HOST)


def _identity(fd: int) -> tuple[int, int] | None:
    try:
        found = os.fstat(fd)
    except OSError:  # closed meanwhile
        return None
    return found.st_dev, found.st_ino
