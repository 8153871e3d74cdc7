"""Rehearsal: the mold plays a worker's whole life, before it forks any, with connections to nobody but itself.

What happens for the first time, happens there: modules that are imported when they are needed, bytecode that specialises itself,
caches that fill. The workers share the outcome, where each would have had a copy of its own: 1.2 MB each (docs/performance.md).
Nothing of it stays but that, also when it fails: the loop is closed, the threads have ended.
"""

from __future__ import annotations

import asyncio
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

    from starman.serving.monitor import Line
    from starman.wsgi.environ import Environ

# What happens once in a life, as a thread's start, has to happen more than once for its bytecode to specialise itself.
_LIVES = 3
# Bytecode has specialised itself after some tens of runs; a second connection meets what the first has left.
_ROUNDS = 40
_CONNECTIONS = 4
_REQUEST = b"GET /?a=b HTTP/1.1\r\nHost: localhost\r\nUser-Agent: starman\r\nAccept: */*\r\n\r\n"
_BODY = b"Hello, world!\n"
# On a machine that is too busy it is given up. Seconds.
_LONGEST = 5.0


class RehearsedService(Protocol):
    """The methods of `Service` that a rehearsal calls."""

    async def run(self, started: Callable[[], None]) -> None:
        """Serve until a drain ends."""

    def drain(self) -> None:
        """Begin to drain."""


def rehearse(make_service: Callable[..., RehearsedService], threads: int) -> None:
    """Play the life of a worker with so many `threads`, some times. Nothing elsewhere than on Linux. Main thread, no loop.

    Its threads have ended behind it, unless the machine is so busy that they need seconds for that: who forks then has to look.
    The application is not called, and nothing logged. Raises what goes wrong.
    """
    if sys.platform != "linux":
        return
    for _ in range(_LIVES):
        try:
            _live(make_service, threads)
        finally:
            _wait_for_threads()


def _live(make_service: Callable[..., RehearsedService], threads: int) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        # Without a name: the kernel chooses an abstract one, in no directory, that nobody knows.
        listener.bind("")
        listener.listen()
        settings = Settings.of(threads=threads)
        service = make_service(_application, settings, [_Listener(listener)], multiprocess=True, monitor=_Nobody())
        anyio.run(_play, service, listener.getsockname(), backend="asyncio", backend_options={"use_uvloop": True})


def _wait_for_threads() -> None:
    deadline = time.monotonic() + _LONGEST
    for thread in threading.enumerate():
        if thread is not threading.main_thread():
            thread.join(max(0.0, deadline - time.monotonic()))


async def _play(service: RehearsedService, address: bytes) -> None:
    loop = asyncio.get_running_loop()
    started = anyio.Event()
    with anyio.fail_after(_LONGEST), ExitStack() as stack:
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
    """What a service needs of a listener."""

    __slots__ = ("secure", "socket")

    def __init__(self, opened: socket.socket) -> None:
        self.socket = opened
        self.secure = False


class _Nobody:
    """The monitor of a life that nobody looks at, among siblings that have no connections."""

    def line(self, thread: int) -> Line | None:
        return None

    def tick(self, finished: int, connections: int, busy: int) -> None:
        pass

    def in_flight(self, requests: int) -> None:
        pass

    def note(self, connections: int, *, crowded: bool) -> None:
        pass

    def fewest(self) -> int | None:
        return 0

    def alone(self) -> bool:
        return False

    def give_up(self, reason: str) -> None:
        pass

    def harakiri(self) -> None:
        pass
