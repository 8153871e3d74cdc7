"""A client of the control socket: connects to one server, and exchanges one JSON object a line."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct

from starman.commands.servers import FoundServer, can_find_servers, find_servers, listener_pid
from starman.process.host.control_socket import PREFIX, has_abstract_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

# How long (seconds) an answer may take: the first one includes the start of the observer.
ANSWER_SECONDS = 15.0
_TIMEVAL = struct.Struct("@ll")


class CommandError(Exception):
    """The command has failed. The text says why, and what to do."""


class WrongUsageError(CommandError):
    """The command line is wrong."""


class Client:
    """A connection to the control socket of one server."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._file = connection.makefile("rb")

    def request(self, command: str, **fields: object) -> dict[str, Any]:
        """Send a command, and return its answer. Raises CommandError."""
        try:
            # A server that refuses this client may have said so and closed already: its answer is read all the same.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self._socket.sendall(json.dumps({"command": command, **fields}).encode() + b"\n")
            return self.read()
        except OSError as error:
            raise CommandError(f"the server does not answer: {error.strerror or 'timed out'}") from None

    def read(self) -> dict[str, Any]:
        """The next line. Raises CommandError, OSError, TimeoutError."""
        line = self._file.readline()
        if not line:
            raise CommandError("the server has closed the connection: it has ended, or its observer was replaced")
        try:
            answer: dict[str, Any] = json.loads(line)
        except ValueError:
            raise CommandError("the answer of the server is not understood: is it another version?") from None
        if "error" in answer:
            raise CommandError(answer["error"])
        return answer

    def follow(self) -> Iterator[dict[str, Any]]:
        """The lines that the server sends from now on, however long each takes. Raises CommandError."""
        self._socket.settimeout(None)
        while True:
            try:
                yield self.read()
            except OSError as error:
                raise CommandError(f"the server does not answer: {error.strerror}") from None

    def fileno(self) -> int:
        """The descriptor, for poll(2)."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the connection."""
        self._file.close()
        self._socket.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def connect(pid: int | None, control: str | None) -> Client:
    """Connect to the server with this master process, or at this path of a control socket; both None: the only server
    of this user. Raises CommandError."""
    if control is not None:
        return Client(_connected(control, f"no starman answers at {control}"))
    server = _choose(pid)
    connection = _connected(server.address, f"starman {server.pid} does not answer")
    if listener_pid(connection) not in (server.pid, None):
        connection.close()
        raise CommandError(f"another process has taken the address of the control socket of starman {server.pid}")
    return Client(connection)


def _choose(pid: int | None) -> FoundServer:
    if not has_abstract_names():
        raise CommandError("this system has no abstract addresses: start the server with --control PATH, and name that path here")
    if not can_find_servers():
        if pid is None:
            raise WrongUsageError("/proc cannot be read here, so no server is found: choose one by --pid, or by --control PATH")
        return FoundServer(pid, os.geteuid(), f"\0{PREFIX}{pid}", "")
    servers = find_servers()
    if pid is not None:
        chosen = [server for server in servers if server.pid == pid]
        if not chosen and any(server.pid == pid for server in find_servers(of_any_user=True)):
            raise CommandError(f"starman {pid} runs as another user: only that user and root may use its control socket")
        if not chosen:
            raise CommandError(f"no starman of this user has the process id {pid}{_list(servers)}")
        return chosen[0]
    if not servers:
        raise CommandError(
            "no starman of this user runs here (servers of other users, in other containers, and with --control are not found; "
            "--control PATH names a socket)"
        )
    if len(servers) > 1:
        raise WrongUsageError(f"{len(servers)} servers run here: choose one by --pid{_list(servers)}")
    return servers[0]


def _list(servers: list[FoundServer]) -> str:
    return "".join(f"\n  --pid {server.pid}  {server.title}{_of_user(server.uid)}" for server in servers)


def _of_user(uid: int) -> str:
    return "" if uid == os.geteuid() else f" (user {uid})"


def _connected(address: str, failure: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # While the backlog is full, a blocking connect waits. With a timeout, Python's connect would fail at once.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.pack(int(ANSWER_SECONDS), 0))
        connection.connect(address)
        connection.settimeout(ANSWER_SECONDS)
    except OSError as error:
        connection.close()
        raise CommandError(f"{failure}: {error.strerror or error}") from None
    return connection
