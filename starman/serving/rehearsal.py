"""Rehearsal: before the mold forks workers, it serves requests of its own on a private socket. Linux only.

Everything that happens only once happens here: lazy imports, bytecode that specialises itself, caches that fill. The
workers share the resulting memory; without a rehearsal each would have a copy, of 1.2 MB (docs/performance.md).
Nothing else remains, even after a failure: the loop is closed, and the threads have ended.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Protocol

import anyio

from starman.config.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from starman.serving.monitor import Monitor, RequestRecorder
    from starman.wsgi.environ import Environ

# Something that happens once per service, such as the start of a thread, must be repeated until its bytecode
# specialises.
_REPETITIONS = 2
# Bytecode specialises after some tens of runs. Later connections meet the state that the first one has left.
_ROUNDS = 40
_CONNECTIONS = 4
_REQUEST = b"GET /?a=b HTTP/1.1\r\nHost: localhost\r\nUser-Agent: starman\r\nAccept: */*\r\n\r\n"
_BODY = b"Hello, world!\n"
# The rehearsal is given up after this time (seconds), on a machine that is too busy.
_TIMEOUT = 5.0


class RehearsedService(Protocol):
    """The methods of `Service` that a rehearsal calls."""

    async def run(self, started: Callable[[], None]) -> None:
        """Serve until a drain ends."""

    def drain(self) -> None:
        """Begin to drain."""


def rehearse(make_service: Callable[..., RehearsedService], settings: Settings) -> None:
    """Run a service a few times with the threads and the access log of `settings`, and send requests to it. Main
    thread, without a loop. Linux only.

    The application is not called, and the access log goes to the null device. The threads have ended on return, unless
    the machine is so busy that they need seconds to end: the caller has to check before it forks. Raises the exception
    of whatever fails.
    """
    if sys.platform != "linux":
        return
    for _ in range(_REPETITIONS):
        try:
            _run_once(make_service, _rehearsed_settings(settings))
        finally:
            _wait_for_threads()


def _rehearsed_settings(settings: Settings) -> Settings:
    """Settings for a rehearsal of `settings`: the defaults, but for its threads and the access log."""
    if settings.access_log in (None, "off"):
        return Settings.of(threads=settings.threads)
    return Settings.of(
        threads=settings.threads,
        access_log=os.devnull,
        access_log_format=settings.access_log_format,
        access_log_skip=settings.access_log_skip,
        access_log_errors=settings.access_log_errors,
    )


def _run_once(make_service: Callable[..., RehearsedService], settings: Settings) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        # An empty name: the kernel chooses an unused abstract one, which is in no directory.
        listener.bind("")
        listener.listen()
        monitor: Monitor = _NoMonitor()
        service = make_service(_application, settings, [_Listener(listener)], multiprocess=True, monitor=monitor)
        anyio.run(_send_requests, service, listener.getsockname(), backend="asyncio", backend_options={"use_uvloop": True})


def _wait_for_threads() -> None:
    deadline = time.monotonic() + _TIMEOUT
    for thread in threading.enumerate():
        if thread is not threading.main_thread():
            thread.join(max(0.0, deadline - time.monotonic()))


async def _send_requests(service: RehearsedService, address: bytes) -> None:
    loop = asyncio.get_running_loop()
    started = anyio.Event()
    with anyio.fail_after(_TIMEOUT), ExitStack() as stack:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(service.run, started.set)
            await started.wait()
            clients = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(_CONNECTIONS)]
            for client in clients:
                client.setblocking(False)
                client.connect(address)
            for _ in range(_ROUNDS):
                for client in clients:
                    client.send(_REQUEST)
                for client in clients:
                    await loop.sock_recv(client, 4096)
            stack.close()
            service.drain()


def _application(environ: Environ, start_response: Callable[..., object]) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(_BODY)))])
    return [_BODY]


class _Listener:
    """A listener, as far as a service needs one."""

    __slots__ = ("secure", "socket")

    def __init__(self, opened: socket.socket) -> None:
        self.socket = opened
        self.secure = False


class _NoMonitor:
    """A monitor that does nothing, and reports no siblings."""

    @property
    def heartbeat(self) -> _NoMonitor:
        return self

    siblings = harakiri = slow_requests = recycle_request = heartbeat
    metrics = None

    def request_recorder(self, thread: int) -> RequestRecorder | None:
        return None

    def tick(self, finished: int, connections: int, busy: int) -> None:
        pass

    def write_in_flight(self, requests: int) -> None:
        pass

    def publish_load(self, connections: int, *, crowded: bool) -> None:
        pass

    def fewest_connections(self) -> int | None:
        return 0

    def is_alone(self) -> bool:
        return False

    def give_up(self, reason: str) -> None:
        pass

    def request_end(self) -> None:
        pass

    def request(self, reason: str) -> None:
        pass

    def report(self, line: str, seconds: float, stack: str, *, timed_out: bool) -> None:
        pass

    def send_due(self, now: float) -> None:
        pass
