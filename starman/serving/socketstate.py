"""What the system tells of a connection's socket beyond what transports say."""

from __future__ import annotations

import fcntl
import select
import struct
import termios


def held_by_the_kernel(fd: int) -> int:
    """How many bytes a socket has taken and its peer has not; 0 where the system does not tell (Linux does: SIOCOUTQ, tcp(7))."""
    try:
        answer = fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(4))
    except (OSError, ValueError):  # ValueError: there is no descriptor any more
        return 0
    held: int = struct.unpack("i", answer)[0]
    return held


def is_reset(fd: int) -> bool:
    """Whether the peer has reset the connection. A FIN is no reset."""
    poll = select.poll()
    poll.register(fd, 0)
    return any(events & (select.POLLHUP | select.POLLERR | select.POLLNVAL) for _, events in poll.poll(0))
