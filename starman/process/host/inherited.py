"""Finds listening sockets that start_server (Server::Starter) or systemd has opened for the server.

Reads the environment variables of both protocols, and matches the sockets with the settings. `listeners` adopts the
descriptors. In this module, a *supervisor* is the program that has started the server, not `process.supervision`.
"""

from __future__ import annotations

import os
import socket

from starman.config.addresses import ALL_DUAL_STACK, ALL_IPV4, Address, AddressKind
from starman.errors import SettingError
from starman.process.host.listeners import resolve, url_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, MutableMapping

    from starman.config.settings import Settings

START_SERVER = "start_server"
SYSTEMD = "systemd"
# sd_listen_fds(3): the first descriptor that systemd passes.
FIRST_FD = 3


class InheritedSockets:
    """The sockets that a supervisor has passed to this process.

    passed_by: START_SERVER, SYSTEMD, both joined by "and", or "" without such a supervisor.
    fds: the descriptors, in their order, with the supervisor's name of each socket.
    generation: the number of this start under start_server, from "1"; "" without start_server.
    warnings: log lines about variables that are not used.
    """

    __slots__ = ("fds", "generation", "passed_by", "warnings")

    def __init__(self, passed_by: str, fds: dict[int, str], generation: str = "", warnings: Iterable[str] = ()) -> None:
        self.passed_by = passed_by
        self.fds = fds
        self.generation = generation
        self.warnings = tuple(warnings)

    @classmethod
    def from_environ(cls, environ: MutableMapping[str, str]) -> InheritedSockets:
        """Read the variables of both protocols and remove them, because programs that the application starts do not
        inherit the descriptors. SERVER_STARTER_GENERATION stays, for applications that show it.

        Call it in the process that was started, before it forks: systemd's variables hold its process id. Raises
        SettingError for a malformed variable.
        """
        supervisors = []
        fds: dict[int, str] = {}
        warnings = []
        ports = environ.pop("SERVER_STARTER_PORT", None)
        if ports is not None:
            supervisors.append(START_SERVER)
            fds.update(_server_starter(ports))
            if not fds:
                warnings.append("start_server has opened no socket, so a HUP cannot work: give start_server --port or --path")
        count, pid, names = (environ.pop(name, "") for name in ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"))
        environ.pop("LISTEN_PIDFDID", None)
        if count and pid == str(os.getpid()):
            supervisors.append(SYSTEMD)
            fds.update(_systemd(count, names))
        elif count and not supervisors:
            warnings.append(f"LISTEN_FDS is for process {pid or '(none)'}, not for this one: its sockets are not used")
        generation = environ.get("SERVER_STARTER_GENERATION", "") if START_SERVER in supervisors else ""
        return cls(" and ".join(supervisors), fds, generation, warnings)

    def check(self, settings: Settings) -> None:
        """Raises SettingError for settings that do not work under this supervisor."""
        if START_SERVER not in self.passed_by:
            return
        if settings.daemonize:
            raise SettingError(
                f"{settings.source('daemonize')}: start_server would start another server at once: use its own --daemonize"
            )
        if settings.pid is not None:
            raise SettingError(
                f"{settings.source('pid')}: two generations of the server cannot share a pid file: "
                "use start_server's own --pid-file"
            )

    def addresses(self, settings: Settings) -> tuple[Address, ...]:
        """The addresses to listen at: all inherited sockets if there are any, else the addresses in `settings`.

        With inherited sockets, each address in `settings` must be that of one of them; it chooses TLS for that socket.
        Raises SettingError for another address.
        """
        if not self.fds:
            return settings.addresses()
        opened = [_BoundSocket(fd) for fd in self.fds]
        secure = dict.fromkeys(self.fds, settings.enable_ssl)
        for address in settings.addresses() if settings.listens_somewhere else ():
            try:
                found = [place.fd for place in opened if place.is_at(address)]
            except socket.gaierror:
                found = []
            if not found:
                raise SettingError(self._not_passed(address, settings, opened))
            secure.update((fd, True) for fd in found if address.secure)
        return tuple(Address(AddressKind.FD, fd=fd, secure=secure[fd]) for fd in self.fds)

    def _not_passed(self, address: Address, settings: Settings, opened: Iterable[_BoundSocket]) -> str:
        source = next(name for name in ("listen", "socket", "host", "port") if settings.source(name) != "default")
        passed = ", ".join(place.text for place in opened)
        return f"{settings.source(source)}: {address} is not among the sockets that {self.passed_by} has opened ({passed})"

    def describe(self, urls: Iterable[str]) -> str:
        """A log line that lists the sockets and the supervisor. `urls`: those of the listeners, in the order of
        `fds`."""
        names = [f" ({name})" if self.passed_by == SYSTEMD and name else "" for name in self.fds.values()]
        generation = f", generation {self.generation}" if self.generation else ""
        return f"sockets of {self.passed_by}{generation}: {', '.join(map(str.__add__, urls, names))}"


class _BoundSocket:
    """The address at which an inherited socket is bound.

    text: the address for messages; "fd://N" if the descriptor is not a socket, for which `listeners` reports an error
    later.
    """

    __slots__ = ("_dual", "_host", "_path", "_port", "fd", "text")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.text = f"fd://{fd}"
        # TCP: the numeric host, the port, and whether the socket accepts IPv4 as well as IPv6. UNIX: the path, or NUL
        # and an abstract name.
        self._host, self._port, self._dual = "", -1, False
        self._path = b""
        try:
            opened = socket.socket(fileno=fd)
        except OSError:
            return
        try:
            self._read_name(opened)
        finally:
            opened.detach()

    def _read_name(self, opened: socket.socket) -> None:
        name = opened.getsockname()
        if opened.family == socket.AF_UNIX:
            self._path = os.fsencode(name)
        elif opened.family in (socket.AF_INET, socket.AF_INET6):
            self._host, self._port = name[:2]
            if opened.family == socket.AF_INET6:
                self._dual = self._host == "::" and not opened.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        else:
            return
        self.text = url_of(opened, "tcp").removeprefix("tcp://")

    def is_at(self, address: Address) -> bool:
        """Whether the socket is bound at `address`. Raises gaierror when the host name does not resolve."""
        if address.kind is AddressKind.FD:
            return self.fd == address.fd
        if address.kind is AddressKind.ABSTRACT:
            return self._path == b"\0" + os.fsencode(address.path)
        if address.kind is AddressKind.UNIX:
            # The socket may have been bound by a relative path.
            return self._path[:1] not in (b"", b"\0") and _absolute(self._path) == _absolute(address.path)
        if self._port != address.port:
            return False
        if self._dual and address.host in (ALL_IPV4, ALL_DUAL_STACK):
            return True
        return any(self._host == wanted[0] for _, wanted in resolve(address))


def _absolute(path: str | bytes) -> bytes:
    return os.path.abspath(os.fsencode(path))


def _server_starter(ports: str) -> dict[int, str]:
    """Parse SERVER_STARTER_PORT: "ADDRESS=FD", several joined by ";". The address of a UNIX socket is a path, which
    may contain both characters."""
    fds = {}
    begun = ""
    for piece in ports.split(";") if ports else ():
        name, _, digits = (begun + piece).rpartition("=")
        if name and digits.isascii() and digits.isdigit() and len(digits) < 10:
            fds[int(digits)] = name
            begun = ""
        else:
            begun += piece + ";"
    if begun:
        raise SettingError(f"SERVER_STARTER_PORT: {begun[:-1]!r} is not ADDRESS=DESCRIPTOR")
    return fds


def _systemd(count: str, names: str) -> dict[int, str]:
    """Parse LISTEN_FDS, the number of descriptors from FIRST_FD on, and LISTEN_FDNAMES, their names joined by ":"."""
    if not (count.isascii() and count.isdigit() and len(count) < 6):
        raise SettingError(f"LISTEN_FDS: {count!r} is not a number of descriptors")
    named = names.split(":") if names else []
    return {FIRST_FD + n: named[n] if n < len(named) else "" for n in range(int(count))}
