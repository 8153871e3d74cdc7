"""What a thread's socket did not take, written by the loop as the client reads: bytes by the transport, files by sendfile.

On TLS, where there is no descriptor to write to, files go by the transport as well, a block at a time.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import struct
import termios
from typing import Protocol

from starman import log
from starman.serving.filerest import FileRest, send_some
from starman.serving.writer import Rest, Writer

# How much (bytes) of a file is read at a time, where sendfile cannot be used.
_BLOCK = 262_144


class Handler(Protocol):
    """Who is told how it ends. Called in the loop."""

    def remainder_written(self) -> None:
        """All of it is written, and the transport's buffer is empty."""

    def cut(self) -> None:
        """It cannot be written."""


class Remainder:
    """At most one remainder of one connection. Loop only."""

    __slots__ = ("_file", "_handler", "_loop", "_transport", "_writer")

    def __init__(self, handler: Handler, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, writer: Writer) -> None:
        """Sets the transport's high-water mark to 0: with any other, bytes may pend without a pause, or a resume come while
        some still do (hazard 4)."""
        self._handler = handler
        self._loop = loop
        self._transport = transport
        self._writer = writer
        self._file: FileRest | None = None
        transport.set_write_buffer_limits(high=0)

    @property
    def left(self) -> int:
        """How many bytes the client has still to take. Those that the kernel holds for it count: it tells of room only when a
        third of its buffer is free, and a slow reader may need minutes for that much."""
        ours = self._file.count if self._file is not None else self._transport.get_write_buffer_size()
        if self._writer.descriptor < 0:
            if self._file is not None:
                ours += self._transport.get_write_buffer_size()
            return ours + _held_by_the_kernel(self._transport.get_extra_info("socket").fileno())
        return ours + _held_by_the_kernel(self._writer.descriptor)

    def take(self, rest: Rest) -> None:
        """Write `rest`, then tell the handler."""
        if isinstance(rest, FileRest):
            self._file = rest
            if self._writer.descriptor < 0:
                self.on_room()
            else:
                self._loop.add_writer(self._writer.descriptor, self._send_file)
        else:
            self._transport.write(rest)
            self.on_room()

    def on_room(self) -> None:
        """The transport may have written what it had. It calls back only if it had to wait."""
        if self._file is not None and self._writer.descriptor < 0:
            self._write_file(self._file)
        elif self._file is None and not self._transport.get_write_buffer_size():
            self._handler.remainder_written()

    def end(self) -> None:
        """The connection ends: forget what is left. While the duplicate is open, for the loop watches it."""
        if self._file is not None:
            if self._writer.descriptor >= 0:
                self._loop.remove_writer(self._writer.descriptor)
            self._file.close()
            self._file = None

    def _write_file(self, rest: FileRest) -> None:
        """Give the transport a block, when it has none left."""
        if self._transport.get_write_buffer_size():
            return
        if not rest.count:
            self.end()
            self._handler.remainder_written()
            return
        try:
            block = os.pread(rest.fd, min(rest.count, _BLOCK), rest.offset)
            if not block:
                raise EOFError("the file is shorter than it was")
        except (OSError, EOFError) as error:
            log.error(f"a file could not be sent whole: {error}")
            self._handler.cut()
            return
        rest.offset += len(block)
        rest.count -= len(block)
        self._transport.write(block)
        if not self._transport.get_write_buffer_size():
            # Not at once: a client that takes all that it is given would keep others from their turn.
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        if self._file is not None:
            self._write_file(self._file)

    def _send_file(self) -> None:
        rest = self._file
        assert rest is not None
        try:
            sent = send_some(self._writer.descriptor, rest)
        except (BrokenPipeError, ConnectionError):
            self._handler.cut()
            return
        except (OSError, EOFError) as error:
            log.error(f"a file could not be sent whole: {error}")
            self._handler.cut()
            return
        rest.offset += sent
        rest.count -= sent
        if not rest.count:
            self.end()
            self._handler.remainder_written()


def direct_descriptor(transport: asyncio.Transport) -> int:
    """The descriptor to which bytes may be written past the transport, -1 on TLS. In a callback of the transport."""
    if transport.get_extra_info("ssl_object") is not None:
        return -1
    fd: int = transport.get_extra_info("socket").fileno()
    return fd


def _held_by_the_kernel(fd: int) -> int:
    """How many bytes a socket has taken and its peer has not; 0 where the system does not tell (Linux does: SIOCOUTQ, tcp(7))."""
    try:
        answer = fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(4))
    except (OSError, ValueError):  # ValueError: there is no descriptor any more
        return 0
    held: int = struct.unpack("i", answer)[0]
    return held
