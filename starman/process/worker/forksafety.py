"""Finds what a preloaded application holds and a fork breaks: threads, sockets, and connections to SQLite databases.

The findings go to the error log. Nothing is repaired here: the application does so in its hooks (docs/hooks.md).
Native threads, sockets and files are found by /proc, so on Linux only; Python's threads are found everywhere. Main
thread of a mold.
"""

from __future__ import annotations

import os
import sys

from starman.process.own_descriptors import list_descriptors
from starman.process.worker.native_threads import native_threads

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Set

_SQLITE_MAGIC = b"SQLite format 3\0"
# The product at the other end of a connection, by the peer's port, and by a part of the peer's path.
_PORTS = {
    5432: "PostgreSQL", 6432: "PgBouncer", 3306: "MySQL", 33060: "MySQL", 1433: "SQL Server", 1521: "Oracle",
    6379: "Redis", 27017: "MongoDB", 11211: "memcached", 5672: "AMQP", 9092: "Kafka", 9042: "Cassandra",
}  # fmt: skip
_PATHS = {".s.PGSQL.": "PostgreSQL", "mysql": "MySQL", "mariadb": "MySQL", "redis": "Redis", "mongodb": "MongoDB"}


def open_sockets() -> frozenset[str]:
    """The kernel's names ("socket:[4711]") of all sockets that this process has open. Empty where there is no
    /proc."""
    return frozenset(target for _, target in _descriptors() if target.startswith("socket:"))


def socket_names(fds: list[int]) -> frozenset[str]:
    """The kernel's names of the sockets with these descriptors. Empty where there is no /proc."""
    return frozenset(target for fd, target in _descriptors() if fd in fds)


def fork_hazards(known: Set[str]) -> list[str]:
    """A log line, with advice, for each thread, socket and database that workers would inherit. `known`: the server's
    own sockets, as `open_sockets` names them; they are left out."""
    return [*_threads(), *_sockets_and_databases(known)]


def _threads() -> Iterator[str]:
    danger = "does not exist in the workers, and a lock that it holds is held there for ever"
    threading = sys.modules.get("threading")
    if threading is not None:
        for thread in threading.enumerate():
            if thread is not threading.main_thread():
                yield f"preloading has started the thread {thread.name!r}, which {danger}: start it in an after_fork hook"
    for native in native_threads():
        advice = f"set {native.remedy}, or start it" if native.remedy else "start it"
        yield f"preloading has started a native thread of {native.library}, which {danger}: {advice} in an after_fork hook"


def _sockets_and_databases(known: Set[str]) -> Iterator[str]:
    share = "which all workers would share: close it in a before_fork hook, and open another after the fork"
    for fd, target in _descriptors():
        if target.startswith("socket:"):
            if target not in known and (described := _describe(fd)):
                yield f"preloading has left open {described}, {share}"
        elif _is_sqlite(fd):
            yield f"preloading has left open a connection to the SQLite database {target}, {share}"


def _descriptors() -> Iterator[tuple[int, str]]:
    """The open descriptors above 2, with the target of each link in /proc."""
    for fd in list_descriptors() or ():
        if fd > 2:
            try:
                yield fd, os.readlink(f"/proc/self/fd/{fd}")
            except OSError:  # the descriptor that listed them
                continue


def _describe(fd: int) -> str:
    """A socket in words: its kind, and its address or its peer's. "" if a thread has closed the descriptor meanwhile,
    or it is not a socket any more."""
    import socket

    try:
        sock = socket.socket(fileno=fd)
    except OSError:
        return ""
    try:
        kinds = {socket.AF_INET: "an IPv4", socket.AF_INET6: "an IPv6", socket.AF_UNIX: "a UNIX"}
        kind = kinds.get(sock.family, "a special")
        local, peer = _address(sock, "getsockname"), _address(sock, "getpeername")
        if peer is not None:
            return f"{_service(peer) or f'{kind} connection'} to {_shown(peer)} (descriptor {fd})"
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return f"{kind} socket that listens on {_shown(local)} (descriptor {fd})"
        return f"{kind} socket at {_shown(local)} (descriptor {fd})"
    except OSError:
        return ""
    finally:
        # The descriptor belongs to the application.
        sock.detach()


def _address(sock: socket.socket, which: str) -> object:
    try:
        found: object = getattr(sock, which)()
    except OSError:
        return None
    return found


def _service(peer: object) -> str | None:
    if isinstance(peer, tuple) and len(peer) >= 2:
        name = _PORTS.get(peer[1])
    else:
        name = next((name for part, name in _PATHS.items() if part in str(peer)), None)
    return None if name is None else f"a connection, probably of {name},"


def _shown(address: object) -> str:
    if isinstance(address, tuple) and len(address) >= 2:
        return f"[{address[0]}]:{address[1]}" if ":" in str(address[0]) else f"{address[0]}:{address[1]}"
    if isinstance(address, bytes):
        return "@" + address[1:].decode("utf-8", "backslashreplace")
    return str(address or "no address")


def _is_sqlite(fd: int) -> bool:
    """Whether the file is an SQLite database. Reads through the descriptor itself: opening and closing the file again
    would release SQLite's locks on it (fcntl(2))."""
    try:
        return os.pread(fd, len(_SQLITE_MAGIC), 0) == _SQLITE_MAGIC
    except OSError:
        return False
