"""The descriptors and signal handlers of a process of the server that a child forked by its application must give up."""

from __future__ import annotations

import contextlib
import os
import signal
import socket

from starman import application_forks, thread_io
from starman.process.forking import is_ours

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, Protocol

    from starman.process.channel import Channel
    from starman.process.host.listeners import Listener

    class Abandonable(Protocol):
        """A service, as a child sees it."""

        def abandon(self) -> tuple[list[int], list[int]]:
            """See `Service.abandon`."""


# Where the system lists the descriptors of the process that looks: Linux, and others.
_LISTINGS = ("/proc/self/fd", "/dev/fd")
_ANY_HOST = ("0.0.0.0", "::")


class ServerResources:
    """Registered with `appfork`: in a child of the application, all of it is given up.

    service: the service that uses these descriptors; None before there is one. With `signals`, the signal handlers that
    `forking` installs, and those that were noted, are given up too.
    """

    __slots__ = ("_channel", "_handlers", "_names", "_signals", "service")

    def __init__(self, listeners: Sequence[Listener], channel: Channel | None = None, *, signals: bool = True) -> None:
        """`channel` leads to the master. The listeners' addresses are read now: listeners may be closed by the time of a fork."""
        self._names = [listener.socket.getsockname() for listener in listeners]
        self._channel = channel
        self._signals = signals
        self._handlers: list[tuple[int, Any]] = []
        self.service: Abandonable | None = None
        application_forks.watch(self.abandon)

    def note_handler(self, signum: int) -> None:
        """The present handler of that signal is ours. Main thread."""
        self._handlers.append((signum, signal.getsignal(signum)))

    def release(self) -> None:
        """Stop watching: nothing is given up in later children."""
        application_forks.unwatch(self.abandon)

    def abandon(self) -> None:
        """Call in a child that the application has forked: restore the system's default for each signal whose handler is ours,
        and point each descriptor of ours at /dev/null. Every step is taken, even if another one fails."""
        signal.set_wakeup_fd(-1)
        if self._signals:
            for signum in signal.valid_signals():
                with contextlib.suppress(OSError, ValueError):
                    if self._is_ours(signum):
                        signal.signal(signum, signal.SIG_DFL)
        if self._channel is not None and self._channel.stacks >= 0:
            # The master would take the child's stacks for those of this process.
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
        return is_ours(handler) or (signum, handler) in self._handlers


def server_sockets(names: Sequence[Any], kept: Iterable[int] = ()) -> list[int]:
    """The descriptors of this process that are listeners bound to these addresses, or connections accepted there, including all
    duplicates, but not `kept` ones and their duplicates."""
    spared = {_identity(fd) for fd in kept}
    return [fd for fd in _descriptors() if _is_at(fd, names) and _identity(fd) not in spared]


def point_nowhere(fds: Iterable[int]) -> None:
    """Point each of these descriptors at /dev/null. They stay open, because an object may still hold such a number and close it,
    when it would otherwise be another file's."""
    null = -1
    for fd in fds:
        if fd < 0:
            continue
        try:
            if null < 0:
                null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, fd, inheritable=False)
        except OSError:
            # No descriptor is left, or there is no /dev/null here.
            with contextlib.suppress(OSError):
                os.close(fd)
    if null >= 0:
        os.close(null)


def _descriptors() -> list[int]:
    for listing in _LISTINGS:
        with contextlib.suppress(OSError):
            return [int(name) for name in os.listdir(listing)]
    return list(range(os.sysconf("SC_OPEN_MAX")))


def _is_at(fd: int, names: Sequence[Any]) -> bool:
    try:
        # The family that is claimed does not matter: that of a UNIX socket has room for the name of any.
        stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fd)
    except OSError:
        return False
    try:
        name = stream.getsockname()
    except OSError:  # no socket
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
    except OSError:  # it is closed
        return None
    return found.st_dev, found.st_ino
