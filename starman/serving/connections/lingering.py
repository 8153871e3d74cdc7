"""Lingering close (RFC 9112 §9.6): read on after the last response until the client has received it. Loop only.

If a connection is closed while input is unread, or input arrives after the close, the kernel sends a reset and drops
all bytes that the client has not acknowledged. So the sending direction is closed first, and the rest later.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from typing import TYPE_CHECKING, Final, cast

from starman.application_forks import has_forked
from starman.serving.connections.progress import Progress
from starman.serving.sending.socket_state import held_by_the_kernel

if TYPE_CHECKING:
    from starman.serving.context import ServiceContext

# How long (seconds) a connection is read on after its client has acknowledged everything.
LINGER_SECONDS = 2.0

# How many bytes of a client are read and dropped between two ticks. Further bytes wait in the kernel, which makes the
# client stop: a client that was refused must not keep a worker busy with reading.
MOST_DROPPED: Final = 1_048_576

_ON_WITHOUT_DELAY: Final = struct.pack("ii", 1, 0)


class Lingering(asyncio.Protocol):
    """The protocol of a half-closed transport. It takes the place of the connection, in `ServiceContext.connections`
    too."""

    __slots__ = ("_context", "_dropped", "_paused", "_progress", "_since", "_transport", "_unacknowledged")

    def __init__(self, transport: asyncio.Transport, context: ServiceContext) -> None:
        """Take over a transport that is being read and has a high-water mark of 0."""
        self._transport = transport
        self._context = context
        self._progress = Progress()
        self._unacknowledged = -1  # bytes that the client had not acknowledged at the last tick; -1 before the first
        self._since = 0.0  # when `_unacknowledged` last changed, monotonic
        self._dropped = 0
        self._paused = False
        transport.set_protocol(self)
        context.connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Drop bytes of the client."""
        self._dropped += len(data)
        if self._dropped >= MOST_DROPPED and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """Close: the client has ended its stream, so nothing can cause a reset any more."""
        self._transport.close()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        self._context.connections.discard(self)

    # The methods of a client (`clients.Client`)

    def check_timeouts(self, now: float) -> None:
        """Close when the client has had everything for LINGER_SECONDS; reset if it reads too slowly. `now` is
        monotonic."""
        transport, context = self._transport, self._context
        left = unacknowledged(transport)
        if left != self._unacknowledged:
            self._unacknowledged = left
            self._since = now
        if left and self._progress.is_slow("a response", left, now, timeout=context.write_timeout, rate=context.min_send_rate):
            reset_on_close(transport)
            transport.abort()
        elif not left and now - self._since >= LINGER_SECONDS:
            transport.abort()
        else:
            self._dropped = 0
            if self._paused:
                self._paused = False
                transport.resume_reading()

    def close_if_idle(self, since: float) -> None:
        """Close if the client has stopped reading: the kernel sends what is left. Called while the worker drains."""
        idle = self._unacknowledged >= 0 and time.monotonic() - self._since >= LINGER_SECONDS
        if idle and not self._transport.get_write_buffer_size():
            self._transport.abort()

    def reset(self) -> None:
        """Close at once. Send a reset only if bytes are lost, because the kernel has not taken them yet."""
        if self._transport.get_write_buffer_size():
            reset_on_close(self._transport)
        self._transport.abort()


def unacknowledged(transport: asyncio.Transport) -> int:
    """Return how many bytes the client has not acknowledged (FIN counts as one); 0 where the system does not tell."""
    sock = transport.get_extra_info("socket")
    return transport.get_write_buffer_size() + held_by_the_kernel(cast("int", sock.fileno()))


def half_close(transport: asyncio.Transport, *, paused: bool, done: bool = False) -> None:
    """Send FIN, unless that is `done`, and read on. `paused` says whether reading is paused."""
    if paused:
        transport.resume_reading()
    if done:
        return
    with contextlib.suppress(OSError):  # asyncio's loop calls shutdown(2) at once, and the peer may be gone
        transport.write_eof()


def close(transport: asyncio.Transport) -> None:
    """Close after everything is written, so that the client sees the end even if a child of the application has the
    socket."""
    if has_forked():
        shut_down(transport)
    else:
        transport.close()


def shut_down(transport: asyncio.Transport) -> None:
    """Close by shutdown(2), so that the client sees the end even if a child of this process has the socket too.

    If bytes are still to be written, only close the transport, which writes them first.
    """
    secured = transport.get_extra_info("ssl_object") is not None  # `TlsTransport` shuts down after its close_notify
    if not (secured or transport.get_write_buffer_size()) and (fd := transport.get_extra_info("socket").fileno()) >= 0:
        # As in `ThreadSocket.finish`: the family of the socket does not matter for shutdown(2).
        stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fd)
        with contextlib.suppress(OSError):  # the client is gone
            stream.shutdown(socket.SHUT_RDWR)
        stream.detach()
    transport.close()


def reset_on_close(transport: asyncio.Transport) -> None:
    """Make the close of the connection's last descriptor send a reset at once, even if bytes are unsent."""
    with contextlib.suppress(OSError):
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ON_WITHOUT_DELAY)
