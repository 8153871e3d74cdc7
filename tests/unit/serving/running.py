"""A real Service in a loop of its own, in a thread of the test process, with raw sockets as its clients."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import anyio
import pytest

from starman.config.settings import Settings
from starman.serving import drain as drain_module
from starman.serving import service as service_module
from starman.serving.connections import connection as connection_module
from starman.serving.connections import lingering as lingering_module
from starman.serving.connections import timeouts as timeouts_module
from starman.serving.service import Service
from tests.functional.support.wire import Address, Client

SECONDS = 20.0


def descriptors() -> list[str]:
    """Return the targets of the open descriptors of this process, as /proc shows them."""
    names = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # a thread has closed it meanwhile
            names.append(os.readlink(f"/proc/self/fd/{fd}"))
    return names


def open_descriptors(kind: str = "") -> int:
    """Return how many descriptors are open with a target that begins with `kind`."""
    return sum(name.startswith(kind) for name in descriptors())


def hasten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the service check its timeouts often, and shorten them."""
    monkeypatch.setattr(service_module, "_TICK", 0.02)
    monkeypatch.setattr(drain_module, "_LINGER", 0.05)
    monkeypatch.setattr(drain_module, "_LONGEST_PAUSE", 0.01)
    monkeypatch.setattr(connection_module, "IDLE_SECONDS", 0.05)
    monkeypatch.setattr(timeouts_module, "IDLE_SECONDS", 0.05)
    monkeypatch.setattr(lingering_module, "LINGER_SECONDS", 0.3)


def kind_of_service(name: str, directory: Path) -> dict[str, Any]:
    """Return the arguments of `Running` for a kind of loop, socket or service."""
    kinds: dict[str, dict[str, Any]] = {
        "uvloop": {},
        "unix": {"path": directory / "s"},
        "asyncio": {"use_uvloop": False},
        "inline": {"in_loop": True},
        "stream": {"stream_body": True},
    }
    return kinds[name]


class Listening:
    """A listener for an Acceptor."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.secure = False


class Running:
    """A service that runs inside a `with` block, on a loopback port or, given `path`, a UNIX socket. `in_loop`:
    without threads.

    At the end it has to stop within seconds, to leave no descriptor open, and to have had no error in its loop.
    """

    def __init__(
        self,
        application: Callable[..., Any],
        *,
        path: Path | None = None,
        use_uvloop: bool = True,
        monitor: Any = None,
        in_loop: bool = False,
        **settings: object,
    ) -> None:
        self._application = application
        self._path = path
        self._uvloop = use_uvloop
        self._monitor = monitor
        self._settings = Settings.of(**{"threads": 2, **settings, **({"threads": 0} if in_loop else {})})
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._clients: list[Client] = []
        self.loop_errors: list[dict[str, Any]] = []

    def __enter__(self) -> Running:
        if self._uvloop:
            _open_what_uvloop_keeps()
        self._descriptors = open_descriptors()
        self._threads = set(threading.enumerate())
        if self._path is None:
            self._socket = socket.create_server(("127.0.0.1", 0))
            self.address: Address = self._socket.getsockname()
        else:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.bind(str(self._path))
            self._socket.listen()
            self.address = str(self._path)
        self._thread.start()
        if not self._started.wait(SECONDS):
            raise AssertionError(f"the service did not start: {self._failure!r}")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for client in self._clients:
            client.close()
        try:
            if self._thread.is_alive():
                if error is None:
                    self._wait_for_returns()
                with contextlib.suppress(RuntimeError):  # its loop has just been closed: it has ended by itself
                    self.call(self.service.abort)
            self.join()
        finally:
            self._socket.close()
        if error is None:
            assert self.loop_errors == [], self.loop_errors
            assert self._failure is None
            self._check_nothing_is_left()

    def call(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call `function` in the loop."""
        self.loop.call_soon_threadsafe(function, *arguments)

    def drain(self) -> None:
        """Begin a drain, and wait until it has begun."""

        async def begin() -> None:
            self.service.drain()
            while self.service._drain._scope is None:
                await anyio.sleep(0)

        asyncio.run_coroutine_threadsafe(begin(), self.loop).result(SECONDS)

    def join(self) -> None:
        """Wait for the end of the service."""
        self._thread.join(SECONDS)
        assert not self._thread.is_alive(), "the service does not end"

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    def client(self, receive_bytes: int | None = None) -> Client:
        """Return a new connection. `receive_bytes` is its SO_RCVBUF, for slow readers."""
        if receive_bytes is None:
            client = Client(self.address, SECONDS)
        else:
            client = Client.__new__(Client)
            sock = socket.socket(socket.AF_UNIX if self._path else socket.AF_INET)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
            sock.settimeout(SECONDS)
            sock.connect(self.address)
            client.socket, client._buffer, client._within_response = sock, bytearray(), False
        self._clients.append(client)
        return client

    def _run(self) -> None:
        try:
            anyio.run(self._serve, backend="asyncio", backend_options={"use_uvloop": self._uvloop})
        except BaseException as error:
            self._failure = error

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.loop.set_exception_handler(lambda loop, context: self.loop_errors.append(context))
        listeners = [Listening(self._socket)]
        self.service = Service(self._application, self._settings, listeners, multiprocess=False, monitor=self._monitor)
        await self.service.run(self._started.set)

    def _wait_for_returns(self) -> None:
        """Let threads that are leaving a request post to the loop what they have left. Clients are answered before."""
        until = time.monotonic() + 0.2
        while self._requests_run() and time.monotonic() < until:
            time.sleep(0.001)

    def _requests_run(self) -> bool:
        running = self.service._running
        return running is not None and running[1].executor.busy

    def _check_nothing_is_left(self) -> None:
        """Wait for the threads of the pool, which end after their requests."""
        until = time.monotonic() + SECONDS
        for thread in set(threading.enumerate()) - self._threads:
            if thread.name.startswith("starman-"):
                thread.join(max(0.0, until - time.monotonic()))
                assert not thread.is_alive(), f"{thread.name} does not end"
        left = open_descriptors() - self._descriptors
        if left > 0:
            raise AssertionError(f"{left} descriptors are left open, of {descriptors()}")


@functools.cache
def _open_what_uvloop_keeps() -> None:
    """Make libuv open its pipe for signals, which it opens once and never closes."""
    anyio.run(anyio.sleep, 0, backend="asyncio", backend_options={"use_uvloop": True})


def reset(client: Client) -> None:
    """Close with a reset."""
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
