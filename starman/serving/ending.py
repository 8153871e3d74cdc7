"""The two ways a connection ends: in order, so that the last answer arrives, or at once, so that a break is seen. Loop only."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from enum import Enum, auto

# How long (seconds) a connection that has sent its last byte is read on (RFC 9112 §9.6).
LINGER_SECONDS = 2.0


class Phase(Enum):
    """Of a connection. OPEN → LINGERING (our last byte is sent) → CLOSED; or at once OPEN → CLOSED, when the peer is gone."""

    OPEN = auto()
    LINGERING = auto()
    CLOSED = auto()


# As globals: an attribute of an Enum class costs 0.24 µs on 3.11.
OPEN, LINGERING, CLOSED = Phase


_ON_WITHOUT_DELAY = struct.pack("ii", 1, 0)


def half_close(transport: asyncio.Transport, *, paused: bool, done: bool = False) -> None:
    """Say that nothing more will be sent, unless that was `done`, and read on: closing over unread input would send a reset, and
    a reset that overtakes the answer destroys it. `paused` whether the transport was told not to read."""
    if paused:
        transport.resume_reading()
    if done:
        return
    with contextlib.suppress(OSError):  # asyncio's own loop shuts down at once, and the peer may be gone
        transport.write_eof()


def reset_on_close(transport: asyncio.Transport) -> None:
    """Make the closing of the connection's last descriptor send a reset, at once, whatever is still unsent."""
    with contextlib.suppress(OSError):
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ON_WITHOUT_DELAY)
