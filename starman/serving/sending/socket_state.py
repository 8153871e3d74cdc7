"""Questions to the operating system about a connection's socket that transports cannot answer."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import socket
import struct
import termios
from typing import Final

# Probe a silent peer after so many seconds, again at this interval (seconds), and give it up after so many probes.
_PROBES: Final = {"TCP_KEEPIDLE": 60, "TCP_KEEPALIVE": 60, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 6}


def held_by_the_kernel(fd: int) -> int:
    """How many bytes the kernel has not delivered to the peer yet (Linux: SIOCOUTQ, tcp(7)); 0 where the system does
    not tell."""
    try:
        answer = fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(4))
    except (OSError, ValueError):  # ValueError: there is no descriptor any more
        return 0
    held: int = struct.unpack("i", answer)[0]
    return held


def has_unread(fd: int) -> bool:
    """Whether the socket has unread input. Closing such a socket sends a reset."""
    try:
        answer = fcntl.ioctl(fd, termios.FIONREAD, bytes(4))
    except (OSError, ValueError):  # ValueError: there is no descriptor any more
        return False
    return answer != bytes(4)


def is_reset(fd: int) -> bool:
    """Whether the peer has reset the connection. A FIN is not a reset."""
    poll = select.poll()
    poll.register(fd, 0)
    return any(events & (select.POLLHUP | select.POLLERR | select.POLLNVAL) for _, events in poll.poll(0))


def has_finished(fd: int) -> bool:
    """Whether the peer has shut down its sending side or closed (Linux). False where the system does not tell."""
    flag: int = getattr(select, "POLLRDHUP", 0)
    poll = select.poll()
    poll.register(fd, flag)
    return any(events & flag for _, events in poll.poll(0))


def send_keepalives(fd: int) -> None:
    """Have the system probe a silent peer, and report the connection as broken when the peer does not answer (tcp(7)).

    Does nothing for a socket that is not TCP.
    """
    sock = socket.socket(fileno=os.dup(fd))
    with sock, contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _PROBES.items():
            if hasattr(socket, name):  # TCP_KEEPALIVE is TCP_KEEPIDLE on macOS
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
