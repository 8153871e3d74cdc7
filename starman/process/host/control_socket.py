"""The control socket of the master: its name or path, and its end. `starman-uv status` and other commands connect to
it; the observer process accepts.

On Linux it has a name in the abstract namespace, `starman/` and the process id of the master, which needs no file
system. Abstract names belong to the network namespace, so a container has its own; a second server with the same
process id in another PID namespace adds "-2" to the name. Every process may connect to an abstract name, so the
observer checks the user of each client. A path has mode 0600.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys

from starman import log
from starman.process.host import unix_socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from starman.config.settings import Settings
    from starman.process.handover import HandedControl

# `--control`: the name in the abstract namespace, or no control socket.
AUTO = "auto"
OFF = "off"
# What the abstract names begin with.
PREFIX = "starman/"
_BACKLOG = 128
# How many names are tried.
_NAMES = 9


class ControlSocket:
    """The listening socket.

    name: the path, or "@" and the abstract name. file: device and inode of the file; None for an abstract name.
    """

    __slots__ = ("_pid", "file", "name", "socket")

    def __init__(self, listener: socket.socket, name: str, file: tuple[int, int] | None) -> None:
        self.socket = listener
        self.name = name
        self.file = file
        self._pid = os.getpid()

    def fileno(self) -> int:
        """The descriptor, for poll(2); -1 when closed."""
        return self.socket.fileno()

    def abandon(self) -> None:
        """In a fresh fork: close the descriptor."""
        self.socket.close()

    def close(self) -> None:
        """Close the socket. The process that has made it removes its file."""
        self.socket.close()
        if self.file is not None and os.getpid() == self._pid:
            unix_socket.remove(self.name, self.file)


def open_control_socket(
    settings: Settings, absolute: Callable[[str], str], handed: HandedControl | None = None
) -> ControlSocket | None:
    """Open the control socket of this master, or take over that of its older image. None: there is none.

    `absolute` makes a path of the settings absolute. A server starts without a control socket if it cannot be made.
    For the default, the log says so at level debug only, because sandboxes may forbid it.
    """
    if handed is not None:
        os.set_inheritable(handed.fd, False)
        return ControlSocket(socket.socket(fileno=handed.fd), handed.name, handed.file)
    control = settings.control
    if control == OFF:
        return None
    try:
        if control != AUTO:
            return _open_path(absolute(control))
        if has_abstract_names():
            return _open_abstract()
        log.debug("no control socket: this system has no abstract names; --control PATH makes one")
    except (OSError, unix_socket.OccupiedError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        if control == AUTO:
            log.debug(f"no control socket, so `starman-uv status` does not find this server: {reason}")
        else:
            log.warning(f"{settings.source('control')}: no control socket at {control}: {reason}")
    return None


def has_abstract_names() -> bool:
    """Whether this system has abstract names of sockets."""
    return sys.platform == "linux"


def _open_abstract() -> ControlSocket:
    first = f"{PREFIX}{os.getpid()}"
    for name in (first, *(f"{first}-{number}" for number in range(2, _NAMES + 1))):
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(f"\0{name}")
            return _listening(listener, f"@{name}", None)
        except OSError as error:
            listener.close()
            last = error
    raise last


def _open_path(path: str) -> ControlSocket:
    unix_socket.remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        return _listening(listener, path, unix_socket.bind(listener, path, 0o600, (-1, -1)))
    except BaseException:
        listener.close()
        raise


def _listening(listener: socket.socket, name: str, file: tuple[int, int] | None) -> ControlSocket:
    try:
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError:
        if file is not None:
            with contextlib.suppress(OSError):
                unix_socket.remove(name, file)
        raise
    return ControlSocket(listener, name, file)
