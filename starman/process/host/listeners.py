"""Opens and closes the listening sockets. The master opens them once; molds and workers inherit them.

Accepts no connections, and must not import the serving side. No locks: only one thread opens and closes.
"""

from __future__ import annotations

import errno
import os
import socket

from starman.config.addresses import ALL_DUAL_STACK, Address, AddressKind, parse_address
from starman.errors import ListenError
from starman.process.host import unix_socket
from starman.process.host.privileges import group_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

    from starman.config.settings import Settings
    from starman.process.handover import HandedListener

# The reasons in error messages. Other errors are described in the system's words.
_REASONS = {
    errno.EADDRINUSE: "address already in use",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EADDRNOTAVAIL: "no interface of this machine has that address",
    errno.EAFNOSUPPORT: "this machine does not support that address family",
    errno.ENOENT: "its directory does not exist",
}
# A name may resolve to an address that this machine does not have: "localhost" to ::1 in containers without IPv6.
_ABSENT = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


class Listener:
    """One listening socket.

    socket: non-blocking and close-on-exec. Never shut it down: shutdown(2) would stop the socket in all processes that
            share it (hazard 12).
    address: the address in the settings. secure: whether clients must use TLS. url: the address as it is logged:
             http://127.0.0.1:5000, https://[::1]:5443, unix:/run/app.sock, unix:@name.
    file: a UNIX socket's absolute path, device and inode, if this server is to remove the file; otherwise None.
    """

    __slots__ = ("_owner", "address", "file", "secure", "socket", "url")

    def __init__(self, opened: socket.socket, address: Address, file: tuple[str, int, int] | None = None) -> None:
        self.socket = opened
        self.address = address
        self.secure = address.secure and opened.family != socket.AF_UNIX
        # The kernel's name of a UNIX socket may differ: `unix_socket` may have bound it elsewhere and then moved the
        # file.
        self.url = url_of(opened, "https" if self.secure else "http") if file is None else f"unix:{file[0]}"
        self.file = file
        self._owner = os.getpid()

    def __repr__(self) -> str:
        return f"<Listener {self.url}>"

    def close(self) -> None:
        """Close this process's descriptor. Idempotent.

        Only the process that bound a UNIX socket also removes its file (hazard 12: a worker that removed it would make
        the whole server unreachable), and only if the path still leads to that file: another server may have bound its
        own there.
        """
        if self.file is not None and os.getpid() == self._owner:
            path, device, inode = self.file
            self.file = None
            unix_socket.remove(path, (device, inode))
        self.socket.close()


def open_listeners(
    addresses: Iterable[Address],
    settings: Settings,
    owner: tuple[int, int] = (-1, -1),
    *,
    listens: bool = True,
    beside: Sequence[Listener] = (),
) -> list[Listener]:
    """Open the listeners at `addresses`. A host name that resolves to several addresses gets a listener for each.

    Uses backlog, socket_mode and socket_group of `settings`. `owner`: the uid and gid of the files of UNIX sockets,
    where -1 leaves one as it is; socket_group overrides the gid. `listens` False: only bind, so that no client can
    connect. `beside`: listeners that were opened before, with which no address may overlap. Raises ListenError (one
    line) for the first address that fails, after closing the listeners that this call has opened.
    """
    opened: list[Listener] = []
    try:
        for address in addresses:
            if address.kind is AddressKind.TCP and (beside or opened):
                _refuse_overlap(address, [*beside, *opened])
            # One by one: if a name fails at its second address, the listener of the first is closed as well.
            for listener in _open(address, settings, owner, settings.backlog if listens else None):
                opened.append(listener)
    except BaseException:
        for listener in opened:
            listener.close()
        raise
    return opened


def take_over_listeners(handed: Iterable[HandedListener]) -> list[Listener]:
    """The listeners that the program before an upgrade has left open in this process."""
    listeners = []
    for old in handed:
        opened = socket.socket(fileno=old.fd)
        opened.set_inheritable(False)
        opened.setblocking(False)
        address = parse_address(old.address)
        listeners.append(Listener(opened, address.secured() if old.secure else address, old.file))
    return listeners


def _open(address: Address, settings: Settings, owner: tuple[int, int], backlog: int | None) -> Iterator[Listener]:
    try:
        if address.kind is AddressKind.TCP:
            yield from _open_tcp(address, backlog)
        elif address.kind is AddressKind.UNIX:
            yield _open_unix(address, settings, owner, backlog)
        elif address.kind is AddressKind.ABSTRACT:
            yield _open_abstract(address, backlog)
        else:
            yield _adopt(address, backlog)
    except socket.gaierror as error:
        raise _refusal(address, f"the host name cannot be resolved ({error.strerror})") from None
    except OSError as error:
        raise _refusal(address, _reason(address, error)) from None


def _refuse_overlap(address: Address, others: Sequence[Listener]) -> None:
    """Raise ListenError if a listener of this server overlaps with `address`: both have the same port, and the same
    host, or one has all hosts.

    Linux only says that the address is in use, and not even that before both listen. Other systems may let both
    listen, and a connection then goes to either.
    """
    try:
        wanted = resolve(address)
    except OSError:
        return  # reported when the address is opened
    for other in others:
        if other.socket.family not in (socket.AF_INET, socket.AF_INET6):
            continue
        host, port = other.socket.getsockname()[:2]
        dual_stack = ALL_DUAL_STACK in (address.host, other.address.host)
        for family, name in wanted:
            same_host = host == name[0] or {host, name[0]} & {"0.0.0.0", "::"}
            if port == name[1] and same_host and (dual_stack or family == other.socket.family):
                raise _refusal(address, f"it overlaps with the listener {other.address}; remove one of them")


def _reason(address: Address, error: OSError) -> str:
    reason = _REASONS.get(error.errno or 0) or error.strerror or str(error)
    if address.kind is AddressKind.TCP and error.errno == errno.EACCES:
        return f"{reason}: a port below 1024 needs privileges"
    return reason


def _refusal(address: Address, reason: str) -> ListenError:
    return ListenError(f"cannot listen on {address}: {reason}")


def _open_tcp(address: Address, backlog: int | None) -> Iterator[Listener]:
    """One listener for each address of this machine that the host resolves to. For "*", one for both families, or else
    for IPv4."""
    opened = 0
    absent: OSError | None = None
    for family, host in resolve(address):
        if opened and address.host == ALL_DUAL_STACK:
            return
        try:
            listener = _bind_tcp(address, family, host, backlog)
        except OSError as error:
            if error.errno not in _ABSENT:
                raise
            absent = error
            continue
        opened += 1
        yield listener
    if absent is not None and not opened:
        raise absent


def resolve(address: Address) -> list[tuple[int, tuple[Any, ...]]]:
    """Resolve a TCP address to families and socket addresses, without duplicates, in the resolver's order. Raises
    gaierror."""
    if address.host == ALL_DUAL_STACK:
        return [(socket.AF_INET6, ("::", address.port)), (socket.AF_INET, ("0.0.0.0", address.port))]
    # A str would be encoded by IDNA, whose tables would stay in the master's memory.
    host = address.host.encode("ascii") if address.host.isascii() else address.host
    found = socket.getaddrinfo(host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((family, host) for family, _, _, _, host in found))


def _bind_tcp(address: Address, family: int, host: tuple[Any, ...], backlog: int | None) -> Listener:
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        # A restarted server can then bind while connections of the previous one are in TIME_WAIT.
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # "*" serves both families with one socket. At other IPv6 addresses, IPv4 has a listener of its own.
            only = 0 if address.host == ALL_DUAL_STACK else 1
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        opened.bind(host)
        return _listen(opened, address, backlog)
    except BaseException:
        opened.close()
        raise


def _listen(opened: socket.socket, address: Address, backlog: int | None, file: tuple[str, int, int] | None = None) -> Listener:
    opened.setblocking(False)
    if backlog is not None:
        opened.listen(backlog)
    return Listener(opened, address, file)


def _open_unix(address: Address, settings: Settings, owner: tuple[int, int], backlog: int | None) -> Listener:
    path = os.path.abspath(address.path)
    try:
        unix_socket.remove_stale(path)
    except unix_socket.OccupiedError as error:
        raise _refusal(address, str(error)) from None
    if settings.socket_group is not None:
        owner = owner[0], _gid(settings.socket_group)
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        file = unix_socket.bind(opened, path, settings.socket_mode, owner)
        try:
            return _listen(opened, address, backlog, (path, *file))
        except BaseException:
            unix_socket.remove(path, file)
            raise
    except BaseException:
        opened.close()
        raise


def _gid(group: str | int) -> int:
    try:
        return group_id(group)
    except KeyError:
        raise ListenError(f"socket_group: no group is called {group!r}") from None


def _open_abstract(address: Address, backlog: int | None) -> Listener:
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        opened.bind(b"\0" + os.fsencode(address.path))
        return _listen(opened, address, backlog)
    except BaseException:
        opened.close()
        raise


def _adopt(address: Address, backlog: int | None) -> Listener:
    """Adopt a descriptor that the server was started with. The file of a UNIX socket stays: its opener removes it."""
    try:
        opened = socket.socket(fileno=address.fd)
    except OSError as error:
        reason = "no such descriptor was inherited" if error.errno == errno.EBADF else "that descriptor is not a socket"
        raise _refusal(address, reason) from None
    try:
        if opened.type != socket.SOCK_STREAM or opened.family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
            raise _refusal(address, "that socket is neither TCP nor a UNIX stream")
        opened.set_inheritable(False)
        if _listens(opened):
            opened.setblocking(False)
            return Listener(opened, address)
        return _listen(opened, address, backlog)
    except BaseException:
        # The descriptor stays open: it is not ours to close.
        opened.detach()
        raise


def _listens(opened: socket.socket) -> bool:
    """Whether the socket listens already. False where the system does not tell (macOS): to listen again does no
    harm."""
    try:
        return bool(opened.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError as error:
        if error.errno != errno.ENOPROTOOPT:
            raise
        return False


def url_of(opened: socket.socket, scheme: str) -> str:
    """The URL of a bound socket. `scheme`: for TCP sockets."""
    name = opened.getsockname()
    if opened.family == socket.AF_INET:
        return f"{scheme}://{name[0]}:{name[1]}"
    if opened.family == socket.AF_INET6:
        return f"{scheme}://[{name[0]}]:{name[1]}"
    if isinstance(name, bytes):
        return f"unix:@{os.fsdecode(name[1:])}"
    return f"unix:{name}"
