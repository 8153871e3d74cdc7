"""Runs the server in the background: two forks, a new session, and a pipe for the result of the start.

The command that was started waits at the pipe until the server is ready or has failed, and exits with that status.
"""

from __future__ import annotations

import contextlib
import os
import sys

from starman import log
from starman.errors import StarmanError, StartError
from starman.log.tracebacks import exception_line, format_exception
from starman.process.forking import flush_streams
from starman.process.status import Phase

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from starman.process.status import ServerStatus

_READY = b"\0"


class Daemon:
    """The daemon's end of the pipe. An observer of the master: it reports once that the server is ready."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def on_status(self, server_status: ServerStatus, now: float) -> None:
        """See `Observer`. As soon as the server is ready, have the waiting command exit with status 0."""
        if self._fd >= 0 and server_status.phase is Phase.RUNNING:
            self._send_result(_READY)

    def failed(self, error: BaseException) -> None:
        """Have the command print the error and exit with its status, if it still waits."""
        if self._fd < 0:
            return
        if isinstance(error, StarmanError):
            status, text, details = error.exit_status, str(error), error.details
        else:
            status, text, details = 1, exception_line(error), format_exception(error)
        message = f"{text}\n{details}" if details else text
        self._send_result(bytes([status]) + message.encode("utf-8", "backslashreplace"))

    def next_instant(self) -> float | None:
        """See `Observer`."""
        return None

    def abandon(self) -> None:
        """See `Observer`. While a process holds the pipe, the command cannot see that the server has died."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def close(self) -> None:
        """See `Observer`. The pipe stays open, because the command may still wait for an error."""

    def _send_result(self, message: bytes) -> None:
        try:
            while message:
                message = message[os.write(self._fd, message) :]
        except OSError:
            pass  # the command was interrupted
        self.abandon()


def daemonize() -> Daemon:
    """Return in a child without a terminal, with standard streams at /dev/null. The calling process never
    returns: it waits until the server is ready or has failed, prints the reason of a failure, and exits with that
    status.

    Raises StartError when no process can be created. Main thread only.
    """
    ours, theirs = os.pipe()
    flush_streams()
    try:
        child = os.fork()
    except OSError as error:
        raise StartError(f"daemonize: cannot create a process: {error.strerror}") from None
    if child:
        os.close(theirs)
        _wait(ours, child)
    os.close(ours)
    daemon = Daemon(theirs)
    # The new session has no terminal. After the second fork, the process does not lead the session, so it cannot get
    # one.
    os.setsid()
    try:
        if os.fork():
            os._exit(0)
    except OSError as error:
        daemon.failed(StartError(f"daemonize: cannot create a process: {error.strerror}"))
        os._exit(1)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    if null > 2:
        os.close(null)
    log.renew_own_descriptor()
    return daemon


def _wait(pipe: int, child: int) -> NoReturn:
    """In the command that was started: wait for the daemon's result, and exit."""
    status, message = 1, b""
    try:
        # The status does not matter. ECHILD: SIGCHLD is ignored here, or the calling program waits for every child.
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child, 0)
        with open(pipe, "rb") as reader:
            message = reader.read()
        if message == _READY:
            status = 0
        else:
            # Without a result, the daemon was killed.
            message = message or b"\1the server ended before it was ready"
            print(f"starman: {message[1:].decode('utf-8', 'replace')}", file=sys.stderr)
            status = message[0]
    finally:
        flush_streams()
        os._exit(status)
