"""Fork safety: what a mold that has loaded the application holds, and that no fork hands on whole: threads, sockets, databases.

Names them for the error log; repairs nothing, which the application's hooks do (docs/hooks.md). Sockets and files are found by
/proc, which Linux alone has; elsewhere only Python's threads are. Main thread of a mold.
"""

from __future__ import annotations

import os
import sys

from starman.process.worker.native_threads import native_threads

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Set

_DESCRIPTORS = "/proc/self/fd"
_SQLITE_MAGIC = b"SQLite format 3\0"
# Whom a connection leads to: by the port of its peer, and by a part of its peer's path.
_PORTS = {
    5432: "PostgreSQL", 6432: "PgBouncer", 3306: "MySQL", 33060: "MySQL", 1433: "SQL Server", 1521: "Oracle",
    6379: "Redis", 27017: "MongoDB", 11211: "memcached", 5672: "AMQP", 9092: "Kafka", 9042: "Cassandra",
}  # fmt: skip
_PATHS = {".s.PGSQL.": "PostgreSQL", "mysql": "MySQL", "mariadb": "MySQL", "redis": "Redis", "mongodb": "MongoDB"}


def open_sockets() -> frozenset[str]:
    """The sockets that this process has open now, by the kernel's names for them. None are found where there is no /proc."""
    return frozenset(target for _, target in _descriptors() if target.startswith("socket:"))


def socket_names(fds: list[int]) -> frozenset[str]:
    """The kernel's names for these descriptors of sockets."""
    return frozenset(target for fd, target in _descriptors() if fd in fds)


def fork_hazards(known: Set[str]) -> list[str]:
    """A line for each thread, socket and database that workers would inherit, and what to do about it. `known` sockets, as
    `sockets` gives them, are ours."""
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
    """The descriptors above the standard streams, and what each is."""
    for name in _listed(_DESCRIPTORS):
        if int(name) > 2:
            try:
                yield int(name), os.readlink(f"{_DESCRIPTORS}/{name}")
            except OSError:  # the one that this listing had
                continue


def _describe(fd: int) -> str:
    """A socket in words: its kind, its address, and whom it leads to. "" for one that a thread has closed meanwhile, or that is
    something else by now."""
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
        # It is the application's.
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
    """Read by the descriptor itself: to open and close the file once more would take SQLite's locks on it away (fcntl(2))."""
    try:
        return os.pread(fd, len(_SQLITE_MAGIC), 0) == _SQLITE_MAGIC
    except OSError:
        return False


def _listed(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory), key=int)
    except (OSError, ValueError):
        return []
