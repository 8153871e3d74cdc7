"""How many connections wait in the kernel for a listener to accept them, and how many may wait there (Linux).

The kernel reports both by sock_diag(7), for the inode of a socket. So the observer needs no descriptor of a listener:
with one, the kernel would go on to accept connections after the last worker has closed its own.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from starman.process.host.listeners import Listener

_SOCK_DIAG = 4
# struct nlmsghdr: length, type, flags, sequence number, port.
_HEADER = struct.Struct("=IHHII")
_DONE, _BY_FAMILY = 3, 20
_REQUEST, _DUMP = 0x1, 0x300
# struct unix_diag_req: family, protocol, states, inode, what to show, cookie. With struct unix_diag_msg, attributes
# follow, each with its length and type.
_UNIX_QUERY = struct.Struct("=BBHIIIII")
_SHOW_QUEUE, _QUEUE_ATTRIBUTE = 0x10, 4
_UNIX_ANSWER_BYTES = 16
_ATTRIBUTE = struct.Struct("=HH")
_QUEUE = struct.Struct("=II")
# struct inet_diag_req_v2: family, protocol, states, and an address, which a dump ignores.
_INET_QUERY = struct.Struct("=BBxxI48x")
_LISTENING = 1 << 10
# struct inet_diag_msg: the queue, its limit, and the inode behind other fields.
_INET_ANSWER = struct.Struct("=4x48x4xII4xI")
_ALL = 0xFFFFFFFF
# How long (seconds) the kernel may take, and how much it sends at once (bytes).
_SECONDS = 0.2
_RECEIVED = 65_536

# The address of a listener, its family, and the inode of its socket.
Watched = tuple[str, int, int]


def note_listeners(listeners: Iterable[Listener]) -> list[Watched]:
    """What `read_backlogs` needs of these listeners, which may be closed then. Those of a server that stops are closed
    already, and left out."""
    found: list[Watched] = []
    for listener in listeners:
        descriptor = listener.socket.fileno()
        if descriptor >= 0:
            found.append((listener.url, listener.socket.family, os.fstat(descriptor).st_ino))
    return found


def read_backlogs(watched: Iterable[Watched]) -> list[tuple[str, int, int]]:
    """The address of each listener, how many connections wait there, and how many may; without those that are closed,
    or for which the system does not say."""
    found = []
    queues: dict[int, dict[int, tuple[int, int]]] = {}
    for url, family, inode in watched:
        try:
            if family == socket.AF_UNIX:
                queue = _read_unix(inode)
            else:
                if family not in queues:
                    queues[family] = dict(_read_tcp(family))
                queue = queues[family].get(inode)
        except (AttributeError, OSError, struct.error):  # another system, or a sandbox
            continue
        if queue is not None:
            found.append((url, *queue))
    return found


def _ask(query: bytes, flags: int) -> Iterator[bytes]:
    """The answers of the kernel to a query, without their headers."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as netlink:
        netlink.settimeout(_SECONDS)
        netlink.send(_HEADER.pack(_HEADER.size + len(query), _BY_FAMILY, _REQUEST | flags, 1, 0) + query)
        while True:
            received = netlink.recv(_RECEIVED)
            while received:
                length, kind, _, _, _ = _HEADER.unpack_from(received)
                if kind != _BY_FAMILY:  # the end of a dump, or an error
                    return
                yield received[_HEADER.size : length]
                received = received[(length + 3) & ~3 :]
            if not flags:
                return


def _read_tcp(family: int) -> Iterator[tuple[int, tuple[int, int]]]:
    """The queue of each TCP listener of this network namespace, by inode."""
    for answer in _ask(_INET_QUERY.pack(family, socket.IPPROTO_TCP, _LISTENING), _DUMP):
        waiting, limit, inode = _INET_ANSWER.unpack_from(answer)
        yield inode, (waiting, limit)


def _read_unix(inode: int) -> tuple[int, int] | None:
    for answer in _ask(_UNIX_QUERY.pack(socket.AF_UNIX, 0, 0, _ALL, inode, _SHOW_QUEUE, _ALL, _ALL), 0):
        at = _UNIX_ANSWER_BYTES
        while at + _ATTRIBUTE.size <= len(answer):
            length, name = _ATTRIBUTE.unpack_from(answer, at)
            if name == _QUEUE_ATTRIBUTE:
                waiting, limit = _QUEUE.unpack_from(answer, at + _ATTRIBUTE.size)
                return waiting, limit
            at += max(_ATTRIBUTE.size, (length + 3) & ~3)
    return None
