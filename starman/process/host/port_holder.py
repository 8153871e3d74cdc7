"""Tells whether a process listens at an address. Linux only: reads /proc and the peer of a UNIX socket."""

from __future__ import annotations

import os
import socket

from starman.config.addresses import AddressKind
from starman.process.channel import CREDENTIALS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from starman.config.addresses import Address

# <net/tcp_states.h>
_LISTEN = "0A"


def listens(pid: int, address: Address) -> bool:
    """Whether process `pid` listens at `address`. For TCP, only the port is compared, not the interface. True as well
    if this user may not inspect the process; False where the kernel does not tell."""
    if address.kind is not AddressKind.TCP:
        return _peer(address) == pid
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except PermissionError:
        return True
    except OSError:
        return False
    return bool(_inodes(address.port) & {_inode(pid, name) for name in names})


def _peer(address: Address) -> int | None:
    """The process that called listen(2) on a UNIX socket; None if the kernel does not tell. Makes a short
    connection."""
    name = b"\0" + os.fsencode(address.path) if address.kind is AddressKind.ABSTRACT else os.fsencode(address.path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            # Non-blocking: a connect to a server with a full backlog would block.
            probe.setblocking(False)
            probe.connect(name)
            pid, _, _ = CREDENTIALS.unpack(probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size))
        except (OSError, AttributeError):
            return None
    return int(pid)


def _inode(pid: int, name: str) -> str:
    """The inode of the socket behind a descriptor; "" if the descriptor is not a socket."""
    try:
        target = os.readlink(f"/proc/{pid}/fd/{name}")
    except OSError:
        return ""
    return target.removeprefix("socket:[").removesuffix("]") if target.startswith("socket:[") else ""


def _inodes(port: int) -> set[str]:
    """The inodes of all sockets, of any process, that listen on a TCP port."""
    found = set()
    for file in ("tcp", "tcp6"):
        try:
            with open(f"/proc/net/{file}", encoding="ascii", errors="replace") as opened:
                rows = opened.read().splitlines()[1:]
        except OSError:
            continue
        # proc_net_tcp(5): the local address and port in hexadecimal, the state, and the inode as field 10.
        for row in map(str.split, rows):
            if row[3] == _LISTEN and int(row[1].rpartition(":")[2], 16) == port:
                found.add(row[9])
    return found
