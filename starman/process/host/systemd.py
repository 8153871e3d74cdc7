"""Notifies systemd of the server's state (sd_notify(3)), by datagrams to $NOTIFY_SOCKET, and feeds systemd's
watchdog."""

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

# A worker counts as alive for at least this long (seconds) after a heartbeat, even if systemd's watchdog time is
# shorter. Workers beat twice a second.
_LIVELY = 2.0
# When systemd's queue is full, how long (seconds) to wait before the next attempt.
_RETRY = 0.1
# Variables that are removed from the environment: a program that the application starts must not send notifications.
VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class SystemdNotifier:
    """An observer of the master that notifies systemd. Does nothing without NOTIFY_SOCKET.

    variables: those of VARIABLES that were set, for the program that an upgrade executes in this process.
    """

    __slots__ = ("_address", "_ping_at", "_seen", "_unsent", "_watchdog", "variables")

    def __init__(self, variables: dict[str, str]) -> None:
        self.variables = variables
        self._address = _address(variables.get("NOTIFY_SOCKET", ""))
        # Half of systemd's time, as sd_watchdog_enabled(3) advises; None: systemd has no watchdog for this process.
        self._watchdog = _watchdog_seconds(variables)
        self._ping_at = 0.0
        self._seen: ServerStatus | None = None
        self._unsent: list[str] = []

    @classmethod
    def from_environ(cls, environ: MutableMapping[str, str]) -> SystemdNotifier:
        """Read and remove VARIABLES. Call it in the process that was started, before it forks: WATCHDOG_PID holds its
        id."""
        return cls({name: environ.pop(name) for name in VARIABLES if name in environ})

    def on_status(self, server_status: ServerStatus, now: float) -> None:
        """See `Observer`. Notify systemd of changes, and feed its watchdog while a worker's loop is alive."""
        if self._address is None:
            return
        if self._seen is None or _state(server_status) != _state(self._seen):
            self._unsent.append("\n".join(_changes(self._seen, server_status)))
        self._seen = server_status
        if self._watchdog is not None and now >= self._ping_at and not is_down(server_status):
            if has_live_loop(server_status, now - max(2 * self._watchdog, _LIVELY)):
                self._unsent.append("WATCHDOG=1")
            # If no loop was alive, check again at the next time: a heartbeat causes no event.
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
        # Without a ready worker, the watchdog is not fed. An event comes when a worker is ready.
        return None if is_down(self._seen) else self._ping_at

    def abandon(self) -> None:
        """See `Observer`. No descriptor is kept."""

    def close(self) -> None:
        """See `Observer`. systemd notices the end by itself."""

    def _send(self, address: str | bytes, text: str) -> bool:
        """Send one datagram. False: try again later. After an error that stays, no more is sent, and the result is
        True."""
        try:
            # A new socket for each datagram: an open one would have to be closed in every fork.
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto(text.encode(), address)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EINTR, errno.ENOBUFS, errno.EMFILE, errno.ENFILE):
                return False
            log.warning(f"systemd cannot be notified: {error.strerror}")
            self._address = None
        return True


def is_down(server_status: ServerStatus) -> bool:
    """Whether no worker is ready although the server runs."""
    return server_status.phase is Phase.RUNNING and server_status.ready == 0


def has_live_loop(server_status: ServerStatus, since: float) -> bool:
    """Whether the loop of a ready worker has been alive since the instant `since`. True as well if this is unknown, or
    before the server runs."""
    return server_status.phase is not Phase.RUNNING or server_status.alive_at is None or server_status.alive_at >= since


def _state(server_status: ServerStatus) -> tuple[object, ...]:
    """What systemd is notified of when it changes. Heartbeats are not part of it."""
    return server_status.phase, server_status.restarting, server_status.ready, server_status.wanted


def _changes(before: ServerStatus | None, now: ServerStatus) -> list[str]:
    """The lines of the datagram for a change from one status to the next."""
    lines = []
    if now.phase is Phase.STOPPING:
        if before is None or before.phase is not Phase.STOPPING:
            lines.append("STOPPING=1")
    elif now.phase is Phase.RUNNING:
        was_ready = before is not None and before.phase is Phase.RUNNING and not before.restarting
        if now.restarting and was_ready:
            # By CLOCK_MONOTONIC, systemd tells this reload from an earlier one.
            lines += ["RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}"]
        elif not now.restarting and not was_ready:
            lines += ["READY=1", f"MAINPID={os.getpid()}"]
    return [*lines, f"STATUS={now.describe()}"]


def _address(text: str) -> str | bytes | None:
    """Parse $NOTIFY_SOCKET: a path, or "@" and an abstract name. None if it is empty or malformed."""
    if text.startswith("@"):
        return b"\0" + os.fsencode(text[1:])
    if text.startswith("/"):
        return text
    if text:
        log.warning(f"NOTIFY_SOCKET is {text!r}, neither a path nor an abstract name: systemd is not notified")
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
