"""Sends records to syslog: a UNIX datagram socket such as /dev/log, or UDP, in the format of RFC 5424. Never waits.

The socket is opened again when the daemon has been restarted. What a UNIX socket does not take at once is kept and
tried again. UDP has no such answer: a message is lost when no daemon receives it, and the loss is only counted if the
kernel reports it (ICMP).
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket

from starman.errors import SettingError
from starman.log.formats import CRITICAL, DEBUG, ERROR, INFO, WARNING, Format, Record, bounded, escaped, timestamp
from starman.log.output import Output, duplicate_high
from starman.log.syslog_target import VALID, SyslogTarget, parse_target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    Output_ = TypeVar("Output_", bound="SyslogOutput")

# RFC 5424 §6.2.1: the facility "daemon", and the severities.
_FACILITY = 3
_SEVERITIES = {DEBUG: 7, INFO: 6, WARNING: 4, ERROR: 3, CRITICAL: 2}
# RFC 5424 §6.2: the longest values of HOSTNAME and APP-NAME.
_MOST_HOST, _MOST_NAME = 255, 48
_NAME = "starman"
# The longest message (bytes). A longer text is several messages. rsyslog takes 8 KiB unless it is configured
# otherwise.
MOST_BYTES = 8000
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

# The daemon is away, and may come back.
_AWAY = (errno.ECONNREFUSED, errno.ENOENT, errno.ENOTCONN, errno.ECONNRESET, errno.EPIPE, errno.EBADF, errno.EDESTADDRREQ)
_FULL = (errno.EAGAIN, errno.ENOBUFS)


def open_syslog(setting: str, text: str, make: Callable[[SyslogTarget], Output_]) -> Output_:
    """The output for the value `text` of a setting, made by `make`. Raises SettingError that says what is missing."""
    target = parse_target(text)
    try:
        return make(target)
    except OSError as error:
        away = "no syslog daemon has made this socket" if error.errno == errno.ENOENT else error.strerror or str(error)
        advice = "start the daemon, or name another socket or host" if target.path else "check the name"
        raise SettingError(f"{setting}: cannot send to syslog at {target}: {away}; {advice} ({VALID})") from None


class SyslogOutput(Output):
    """One thread at a time. A fork may go on with the same socket. `write` takes one message."""

    __slots__ = ("_address", "_family", "_refused")

    takes_text = False

    def __init__(self, target: SyslogTarget) -> None:
        """Raises OSError if there is no such socket or host, or no descriptor is left."""
        self._borrowed = False
        self.most_bytes = 0
        self.fd = -1
        self._refused = 0
        self._address: Any = target.path
        self._family = socket.AF_UNIX
        if not target.path:
            # Looked up once, because a lookup may wait.
            found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_DGRAM)
            self._family, self._address = found[0][0], found[0][4]
        self._connect()

    def _connect(self) -> None:
        self.close()
        with socket.socket(self._family, socket.SOCK_DGRAM) as made:
            made.connect(self._address)
            made.setblocking(False)
            self.fd = duplicate_high(made.fileno())
        found = os.fstat(self.fd)
        self._identity = found.st_dev, found.st_ino, found.st_rdev

    def same_as(self, fd: int) -> bool:
        """No descriptor of a program leads to this output."""
        return False

    def has_room(self, size: int) -> bool:
        """A message is taken as a whole, or not at all."""
        return True

    def write(self, data: bytes) -> int:
        """Send one message: `data` without its line feed. See `Output.write`."""
        message = data.removesuffix(b"\n")
        for attempt in range(2):
            try:
                if not self.usable:
                    self._connect()
                os.write(self.fd, message)
                return len(data)
            except OSError as error:
                if error.errno == errno.EMSGSIZE and len(message) > 1:
                    message = message[: len(message) // 2]
                    with contextlib.suppress(OSError):
                        os.write(self.fd, message)
                    return len(data)
                if error.errno in _FULL:
                    raise BlockingIOError(error.errno, error.strerror) from None
                if error.errno not in _AWAY:
                    raise
                if self._family != socket.AF_UNIX:
                    # The answer (ICMP) to an earlier message, which is lost. This one was not sent.
                    self._refused += 1
                    if attempt:
                        raise
                    continue
                if attempt:
                    raise BlockingIOError(errno.EAGAIN, error.strerror) from None
                self.close()
        return len(data)

    def take_lost(self) -> int:
        """How many messages were refused (UDP) since the last call."""
        refused, self._refused = self._refused, 0
        return refused

    def wait(self, seconds: float) -> bool:
        """See `Output.wait`. A socket without a daemon is never ready."""
        return self.usable and super().wait(seconds)

    def move(self, fd: int) -> None:
        """The output does not follow a descriptor."""

    def renew(self) -> None:
        """Open the socket again, if there is one (USR1). Otherwise `write` tries."""
        with contextlib.suppress(OSError):
            self._connect()


class SyslogFormat(Format):
    """`<PRI>1 TIMESTAMP HOST starman PID MSGID - MESSAGE` (RFC 5424 §6); the traditional format for systemd's journal.

    The message is the record in the format of the settings: JSON, or its text.
    """

    __slots__ = ("_body", "_host", "_journal", "_name")

    whole = True

    def __init__(self, body: Callable[[], Format], *, journal: bool, message_id: str = "error") -> None:
        """`body` returns the format of the settings. `message_id`: MSGID, which tells the error log from the access
        log."""
        self._body = body
        self._journal = journal
        self._host = _word(os.uname().nodename, _MOST_HOST)
        self._name = message_id

    def encode(self, record: Record) -> list[bytes]:
        """See `Format`. A text that is too long for one message is several, of whole lines."""
        body = self._body()
        if body.whole:
            messages = [entry.rstrip(b"\n") for entry in body.encode(record)]
        else:
            text = escaped(bounded(record.text).rstrip()).encode("utf-8", "backslashreplace")
            messages = list(_parts(text))
        head = self.head(_SEVERITIES[record.level], record.instant, record.pid)
        return [head + message + b"\n" for message in messages]

    def head(self, severity: int, instant: float, pid: int) -> bytes:
        """What precedes a message."""
        priority = _FACILITY * 8 + severity
        if self._journal:
            return f"<{priority}>{_traditional(instant)} {_NAME}[{pid}]: ".encode("ascii")
        return f"<{priority}>1 {timestamp(instant)} {self._host} {_NAME[:_MOST_NAME]} {pid} {self._name} - ".encode("ascii")


def _traditional(instant: float) -> str:
    """`Nov 30 16:52:06`, in English whatever the locale (RFC 3164 §4.1.2)."""
    import time

    local = time.localtime(instant)
    return f"{_MONTHS[local.tm_mon - 1]} {local.tm_mday:2d} {local.tm_hour:02d}:{local.tm_min:02d}:{local.tm_sec:02d}"


def _word(text: str, most: int) -> str:
    """`text` as a value of a header: printable ASCII without spaces; "-" for none."""
    return "".join(character for character in text if "!" <= character <= "~")[:most] or "-"


def _parts(text: bytes) -> list[bytes]:
    """`text` in parts of at most MOST_BYTES, of whole lines if they are not longer."""
    parts: list[bytes] = []
    part = b""
    for line in text.split(b"\n"):
        for start in range(0, max(len(line), 1), MOST_BYTES):
            piece = line[start : start + MOST_BYTES]
            if part and len(part) + len(piece) >= MOST_BYTES:
                parts.append(part)
                part = b""
            part = part + b"\n" + piece if part else piece
    parts.append(part)
    return parts
