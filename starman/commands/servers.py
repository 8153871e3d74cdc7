"""Finds the servers of this machine that this user may command: by the abstract names of their control sockets.

Linux only. /proc/net/unix lists the names of this network namespace, so a server in a container is found from inside
the container, and from outside only if it uses the network of the host.
"""

from __future__ import annotations

import os
import re

from starman.process.host.control_socket import PREFIX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_NAME = re.compile(rf"@({re.escape(PREFIX)}(\d+)(?:-\d+)?)$")
# The flag of a socket that listens, in the fourth column of /proc/net/unix (__SO_ACCEPTCON).
_LISTENS = "00010000"


class FoundServer:
    """A server that runs. pid: of its master. address: of its control socket, for `connect`. title: the title of the
    master's process."""

    __slots__ = ("address", "pid", "title", "uid")

    def __init__(self, pid: int, uid: int, address: str, title: str) -> None:
        self.pid = pid
        self.uid = uid
        self.address = address
        self.title = title


def find_servers() -> list[FoundServer]:
    """The servers of this user; for root, those of all users. By process id."""
    own = os.geteuid()
    found: dict[int, FoundServer] = {}
    for name, pid in _names():
        uid = _owner(pid)
        if uid is not None and (own == 0 or uid == own):
            found.setdefault(pid, FoundServer(pid, uid, f"\0{name}", _title(pid)))
    return [found[pid] for pid in sorted(found)]


def _names() -> Iterator[tuple[str, int]]:
    try:
        with open("/proc/net/unix", encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return
    for line in lines:
        found = _NAME.search(line)
        if found and line.split()[3] == _LISTENS:
            yield found[1], int(found[2])


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
