"""Tells systemd how the server is (sd_notify(3)), by datagrams to $NOTIFY_SOCKET, and feeds its watchdog."""

from __future__ import annotations

import errno
import os
import socket
import time

from starman import log
from starman.process.status import Phase

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from starman.process.status import ServerStatus

# Loops beat twice a second. However short systemd's time is, a worker is taken to be alive for so long (seconds) after
# a beat.
_LIVELY = 2.0
# When systemd's queue is full, how long (seconds) to wait before the next attempt.
_RETRY = 0.1
# The variables that are ours alone: a program that the application starts must not speak for the server.
VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class SystemdNotifier:
    """An observer that speaks systemd's protocol. Nothing happens if systemd does not listen.

    variables: those of VARIABLES that were there, for a successor that is executed in this process.
    """

    __slots__ = ("_address", "_ping_at", "_seen", "_unsent", "_watchdog", "variables")

    def __init__(self, variables: dict[str, str]) -> None:
        self.variables = variables
        self._address = _address(variables.get("NOTIFY_SOCKET", ""))
        # Half of what systemd waits, as sd_watchdog_enabled(3) advises; None: it has no watchdog for this process.
        self._watchdog = _watchdog_seconds(variables)
        self._ping_at = 0.0
        self._seen: ServerStatus | None = None
        self._unsent: list[str] = []

    @classmethod
    def from_environ(cls, environ: MutableMapping[str, str]) -> SystemdNotifier:
        """Read VARIABLES and take them away. Call it in the process that was started, before it forks: one names its
        id."""
        return cls({name: environ.pop(name) for name in VARIABLES if name in environ})

    def see(self, server_status: ServerStatus, now: float) -> None:
        """Tell what has changed, and that the server makes progress."""
        if self._address is None:
            return
        if self._seen is None or _state(server_status) != _state(self._seen):
            self._unsent.append("\n".join(_news(self._seen, server_status)))
        self._seen = server_status
        if self._watchdog is not None and now >= self._ping_at and not is_down(server_status):
            if is_heard(server_status, now - max(2 * self._watchdog, _LIVELY)):
                self._unsent.append("WATCHDOG=1")
            # Loops that are silent are listened to again at the next time: nothing announces a beat.
            self._ping_at = now + self._watchdog
        while self._unsent and self._address is not None and self._send(self._address, self._unsent[0]):
            del self._unsent[0]

    def next_instant(self) -> float | None:
        """See `Observer`."""
        if self._address is None:
            return None
        if self._unsent:
            return time.monotonic() + _RETRY
        if self._watchdog is None or self._seen is None:
            return None
        # Without a worker there is nothing to say, until something happens.
        return None if is_down(self._seen) else self._ping_at

    def abandon(self) -> None:
        """See `Observer`: no descriptor is kept."""

    def close(self) -> None:
        """See `Observer`: systemd sees the end by itself."""

    def _send(self, address: str | bytes, text: str) -> bool:
        """Whether `text` is done with: sent, or for nobody, and then all others are too."""
        try:
            # A socket for each: a kept one would be one more descriptor to close in every fork.
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto(text.encode(), address)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EINTR, errno.ENOBUFS, errno.EMFILE, errno.ENFILE):
                return False
            log.warning(f"systemd cannot be told how the server is: {error.strerror}")
            self._address = None
        return True


def is_down(server_status: ServerStatus) -> bool:
    """Whether nobody serves who should."""
    return server_status.phase is Phase.RUNNING and server_status.ready == 0


def is_heard(server_status: ServerStatus, since: float) -> bool:
    """Whether the loop of a worker that serves has been alive since then, as far as that is known. That the master
    runs is shown by the call."""
    return server_status.phase is not Phase.RUNNING or server_status.alive_at is None or server_status.alive_at >= since


def _state(server_status: ServerStatus) -> tuple[object, ...]:
    """What there is to tell of; beats are not."""
    return server_status.phase, server_status.restarting, server_status.ready, server_status.wanted


def _news(before: ServerStatus | None, now: ServerStatus) -> list[str]:
    """What to say of the step from one server_status to the next."""
    lines = []
    if now.phase is Phase.STOPPING:
        if before is None or before.phase is not Phase.STOPPING:
            lines.append("STOPPING=1")
    elif now.phase is Phase.RUNNING:
        was_ready = before is not None and before.phase is Phase.RUNNING and not before.restarting
        if now.restarting and was_ready:
            # In systemd's clock, CLOCK_MONOTONIC, so that it knows a reload of now from an earlier one.
            lines += ["RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}"]
        elif not now.restarting and not was_ready:
            lines += ["READY=1", f"MAINPID={os.getpid()}"]
    return [*lines, f"STATUS={now.words()}"]


def _address(text: str) -> str | bytes | None:
    """The address in $NOTIFY_SOCKET: a path, or "@" and an abstract name. None for no address."""
    if text.startswith("@"):
        return b"\0" + os.fsencode(text[1:])
    if text.startswith("/"):
        return text
    if text:
        log.warning(f"NOTIFY_SOCKET is {text!r}, neither a path nor an abstract name: systemd is not told how the server is")
    return None


def _watchdog_seconds(variables: dict[str, str]) -> float | None:
    microseconds = variables.get("WATCHDOG_USEC", "")
    own = str(os.getpid())
    if (
        not (microseconds.isascii() and microseconds.isdigit() and len(microseconds) <= 20)
        or variables.get("WATCHDOG_PID", own) != own
    ):
        return None
    return int(microseconds) / 2_000_000 or None
