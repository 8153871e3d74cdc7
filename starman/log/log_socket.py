"""Sends records to the log process, which passes them on to Python's `logging` (`--log-config`). Never waits.

A record is one packet on a socket pair that all processes share. The log process has the other end.
"""

from __future__ import annotations

import errno
import fcntl
import marshal
import os
import socket
import sys

from starman.log.formats import Format, Record, bounded
from starman.log.output import Output, duplicate_high

# The first byte of a packet: a record of the error log, lines of the access log, orders of the master.
ERRORS, ACCESS, REOPEN, END = b"E", b"A", b"R", b"X"
# How many characters of a text are sent: a packet has about 200 kB.
_MOST_CHARACTERS = 40_000
_KIND = socket.SOCK_DGRAM if sys.platform == "darwin" else socket.SOCK_SEQPACKET
# The size of a batch of lines of the access log is limited as on a pipe.
_MOST_BYTES = 4096


class LogSocketFormat(Format):
    """A packet with the fields of the record."""

    __slots__ = ()

    whole = True

    def encode(self, record: Record) -> list[bytes]:
        """See `Format`. The inverse is `decode`."""
        text = bounded(record.text, _MOST_CHARACTERS).rstrip()
        if not text.isascii():
            # Handlers cannot write lone surrogates, which undecodable file names have: the record would be lost.
            text = text.encode("utf-8", "backslashreplace").decode()
        return [ERRORS + marshal.dumps((record.instant, record.level, record.pid, text, record.captured))]


def decode(packet: bytes) -> Record:
    """The record in a packet of `LogSocketFormat`. Raises ValueError, EOFError or TypeError for any other packet."""
    instant, level, pid, text, captured = marshal.loads(packet[1:])
    record = Record(level, text, pid, captured=captured)
    record.instant = instant
    return record


class LogSocketOutput(Output):
    """One thread at a time. A fork goes on with the same socket. `write` takes one packet."""

    __slots__ = ("_prefix",)

    takes_text = False

    def __init__(self, fd: int, prefix: bytes = b"") -> None:
        """Use a duplicate of `fd`. `prefix` is put before what is written. Raises OSError without descriptors."""
        self._borrowed = False
        self._prefix = prefix
        self.most_bytes = _MOST_BYTES if prefix else 0
        self.fd = duplicate_high(fd)
        found = os.fstat(self.fd)
        self._identity = found.st_dev, found.st_ino, found.st_rdev

    def same_as(self, fd: int) -> bool:
        """No descriptor of a program leads to this output."""
        return False

    def has_room(self, size: int) -> bool:
        """A packet is taken as a whole, or not at all."""
        return True

    def write(self, data: bytes) -> int:
        """See `Output.write`."""
        if not self.usable:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        try:
            os.write(self.fd, self._prefix + data)
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                raise BlockingIOError(error.errno, error.strerror) from None
            raise
        return len(data)

    def move(self, fd: int) -> None:
        """The output does not follow a descriptor."""


def open_pair() -> tuple[int, LogSocketOutput]:
    """The reading end, which the log process inherits, and the output. Raises OSError."""
    reading, writing = socket.socketpair(socket.AF_UNIX, _KIND)
    with reading, writing:
        writing.setblocking(False)
        output = LogSocketOutput(writing.fileno())
        return fcntl.fcntl(reading.fileno(), fcntl.F_DUPFD_CLOEXEC, output.fd), output
