"""Finds the servers of this machine that this user may command: by the abstract names of their control sockets.

Linux only. /proc/net/unix lists the names of this network namespace, and a name contains a process id of the namespace
that its server is in. So a server in a container is found from inside the container only. Containers that share the
network of the host see the names of each other: the process with this id holds the socket, or the name is ignored.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import struct

from starman.process.host.control_socket import PREFIX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_NAME = re.compile(rf"@({re.escape(PREFIX)}(\d+)(?:-\d+)?)$")
# The flag of a socket that listens, in the fourth column of /proc/net/unix (__SO_ACCEPTCON).
_LISTENS = "00010000"
_LIST = "/proc/net/unix"
_UCRED = struct.Struct("=3i")


class FoundServer:
    """A server that runs. pid: of its master. address: of its control socket, for `connect`. title: the title of the
    master's process."""

    __slots__ = ("address", "pid", "title", "uid")

    def __init__(self, pid: int, uid: int, address: str, title: str) -> None:
        self.pid = pid
        self.uid = uid
        self.address = address
        self.title = title


def can_find_servers() -> bool:
    """Whether this system lists the names of sockets. It does not where /proc is missing or hidden."""
    return os.access(_LIST, os.R_OK)


def find_servers(*, of_any_user: bool = False) -> list[FoundServer]:
    """The servers of this user; for root, and if `of_any_user`, those of all users. By process id."""
    own = 0 if of_any_user else os.geteuid()
    found: dict[int, FoundServer] = {}
    for name, pid, inode in _names():
        uid = _owner(pid)
        if uid is not None and (own == 0 or uid == own) and _holds(pid, inode, name):
            found.setdefault(pid, FoundServer(pid, uid, f"\0{name}", _title(pid)))
    return [found[pid] for pid in sorted(found)]


def _names() -> Iterator[tuple[str, int, str]]:
    """The name, the process id in it, and the inode of each control socket."""
    try:
        with open(_LIST, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return
    for line in lines:
        found = _NAME.search(line)
        if found:
            words = line.split()
            if words[3] == _LISTENS:
                yield found[1], int(found[2]), words[6]


def _holds(pid: int, inode: str, name: str) -> bool:
    """Whether a process has the socket with this inode and name open."""
    folder = f"/proc/{pid}/fd"
    try:
        for number in os.listdir(folder):
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                if os.readlink(f"{folder}/{number}") == f"socket:[{inode}]":
                    return True
    except OSError:
        return _listens(pid, name)  # the process has another group, or more capabilities
    return False


def _listens(pid: int, name: str) -> bool:
    """Whether this process listens at the name, if the system says so."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.setblocking(False)
        try:
            connection.connect(f"\0{name}")
        except BlockingIOError:
            return True  # too many clients wait there to ask
        except OSError:
            return False
        return listener_pid(connection) in (pid, None)


def listener_pid(connection: socket.socket) -> int | None:
    """The process that has called listen(2), 0 if it is in another PID namespace; None: the system does not say."""
    try:
        return int(_UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))[0])
    except (OSError, AttributeError):
        return None


def _owner(pid: int) -> int | None:
    """The effective user of a process; None: there is no such process. The owner of its folder would be root for a
    process that has changed its user."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            fields = dict(line.split(":", 1) for line in file if ":" in line)
        return int(fields["Uid"].split()[1])
    except (OSError, KeyError, ValueError, IndexError):
        return None


def _title(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            text = file.read().replace(b"\0", b" ").decode("utf-8", "replace").strip()
    except OSError:
        return ""
    return "".join(character if character.isprintable() else "?" for character in text)[:100]
