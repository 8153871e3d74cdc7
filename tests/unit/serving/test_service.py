"""starman.serving.service: the start, the end, and what runs beside the connections."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest

from starman.config.settings import Settings
from starman.errors import SettingError
from starman.serving import service as service_module
from starman.serving.access_log.access_log import AccessLog
from starman.serving.connections.clients import Clients
from starman.serving.connections.connection import Connection
from starman.serving.executors.pool import Pool
from starman.serving.service import Service
from tests.functional.support.harness import wait_until
from tests.functional.support.wire import encode_request
from tests.unit.serving.applications import HELLO, Gate, big, echo
from tests.unit.serving.running import SECONDS, Listening, Running, open_descriptors, reset

pytestmark = pytest.mark.usefixtures("fast")

Start = Callable[..., Any]


@pytest.mark.parametrize("end", ["abort", "cancelled", "no time"])
@pytest.mark.parametrize("use_uvloop", [True, False])
def test_a_socket_accepted_at_the_very_end_becomes_no_connection_afterwards(end: str, use_uvloop: bool) -> None:
    """Its connection would be made after the end, without a timeout, in a process that embeds the service."""

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as stack:
            service = Service(echo, Settings.of(graceful_timeout=0.001), [Listening(listener)], multiprocess=False)
            started = asyncio.Event()
            running = asyncio.create_task(service.run(started.set))
            await started.wait()
            # All in one round of the loop: the service finds in the kernel what has arrived by then.
            clients = [stack.enter_context(socket.create_connection(listener.getsockname())) for _ in range(3)]
            for client in clients:
                client.setblocking(False)
                client.send(HELLO[:5])
            {"abort": service.abort, "cancelled": running.cancel, "no time": service.drain}[end]()
            with contextlib.suppress(asyncio.CancelledError):
                await running
            loop = asyncio.get_running_loop()
            for client in clients:
                with contextlib.suppress(ConnectionResetError):
                    assert await asyncio.wait_for(loop.sock_recv(client, 1000), SECONDS) == b""

    anyio.run(main, backend="asyncio", backend_options={"use_uvloop": use_uvloop})


def test_many_clients_leave_no_descriptor_open(options: dict[str, Any]) -> None:
    with Running(big, threads=4, **options) as running:
        running.client().get("/small")
        before = open_descriptors()
        for turn in range(60):
            client = running.client(65_536)
            client.send(encode_request("GET", "/big" if turn % 2 else "/small"))
            if turn % 3:
                client.read()
            if turn % 5:
                client.close()
            else:
                reset(client)
        until = time.monotonic() + SECONDS
        while open_descriptors() > before and time.monotonic() < until:
            time.sleep(0.01)
        assert open_descriptors() <= before


def test_hazard_17_an_idle_connection_gives_its_duplicate_back() -> None:
    with Running(echo) as running:
        before = open_descriptors("socket:")
        clients = [running.client() for _ in range(20)]
        for client in clients:
            client.get("/")
        until = time.monotonic() + SECONDS
        while open_descriptors("socket:") != before + 40 and time.monotonic() < until:
            time.sleep(0.01)
        assert open_descriptors("socket:") == before + 40  # the clients' and the server's, and no duplicate
        for client in clients:
            assert client.get("/again").body == b"/again|"


def test_a_tick_without_memory_does_not_end_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = threading.Semaphore(0)

    def retry() -> None:
        failed.release()
        raise MemoryError

    with Running(echo, keepalive_timeout=0.1) as running, running.client() as client:
        with monkeypatch.context() as patched:
            patched.setattr(service_module.log, "write_pending", retry)
            assert failed.acquire(timeout=SECONDS)
            assert failed.acquire(timeout=SECONDS)
        assert client.get("/").body == b"/|"
        assert client.at_end()  # the next ticks check its timeout


def test_the_access_log_is_written_by_the_tick_and_at_the_end(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "log"
    with Running(echo, access_log=str(path), **options) as running, running.client() as client:
        client.get("/one")
        until = time.monotonic() + SECONDS
        while "/one" not in path.read_text() and time.monotonic() < until:
            time.sleep(0.01)
        assert '"GET /one HTTP/1.1" 200 5 "-" "-"\n' in path.read_text()
        client.get("/two")
        client.send(b"BAD\r\n\r\n")
        assert client.read().status == 400
    text = path.read_text()
    assert '"GET /two HTTP/1.1" 200 5 "-" "-"\n' in text
    assert '"-" 400 - "-" "-"\n' in text


def test_reopening_the_logs_at_the_very_end_does_not_wait(
    tmp_path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    closing, reopened, go_on = threading.Event(), threading.Event(), threading.Event()
    real = AccessLog.close

    def close(log: AccessLog) -> None:
        closing.set()
        assert go_on.wait(SECONDS)
        real(log)

    monkeypatch.setattr(AccessLog, "close", close)
    monkeypatch.setattr(service_module, "_LAST_LINES", SECONDS)
    with Running(echo, access_log=str(tmp_path / "log"), **options) as running:
        running.drain()
        assert closing.wait(SECONDS)
        running.call(running.service.reopen_logs, reopened.set)
        try:
            assert reopened.wait(SECONDS)
        finally:
            go_on.set()
        running.join()


def test_an_access_log_that_cannot_be_opened(tmp_path: Path) -> None:
    service = Service(echo, Settings.of(access_log=str(tmp_path)), [], multiprocess=False)
    with pytest.raises(SettingError, match=r"access_log: cannot write .*: Is a directory"):
        asyncio.run(service.run(lambda: None))


def test_what_the_application_is_told(options: dict[str, Any]) -> None:
    environs: list[dict[str, Any]] = []

    def application(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        environs.append(environ)
        return echo(environ, start_response)

    with Running(application, **options) as running, running.client() as client:
        client.get("/")
        (environ,) = environs
        assert environ["wsgi.multithread"] is True
        assert environ["wsgi.multiprocess"] is False
        assert environ["SERVER_NAME"]
        assert environ["SERVER_PORT"].isdigit()
        assert environ["REMOTE_ADDR"] == "127.0.0.1"
        if not options.get("path"):
            assert environ["SERVER_PORT"] == str(running.address[1])
            assert environ["REMOTE_PORT"] == str(client.socket.getsockname()[1])


def test_hazard_16_an_application_that_never_returns_does_not_keep_the_service(options: dict[str, Any]) -> None:
    gate = Gate()
    with Running(gate, graceful_timeout=0.1, threads=1, **options) as running:
        running.client().send(encode_request("GET", "/gate"))
        assert gate.entered.wait(SECONDS)
        running.drain()
        running.join()
        assert not gate.closed.is_set()
        gate.opened.set()


def test_many_clients_at_once(options: dict[str, Any]) -> None:
    def application(environ: dict[str, Any], start_response: Start) -> Iterator[bytes] | list[bytes]:
        return echo(environ, start_response)

    failures: list[BaseException] = []
    with Running(application, threads=4, **options) as running:

        def work(number: int) -> None:
            try:
                client = running.client()
                for turn in range(50):
                    body = os.urandom(turn * 10)
                    assert client.request("POST", f"/{number}/{turn}", body=body).body == b"/%d/%d|" % (number, turn) + body
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS)
    assert failures == []


class Monitor:
    """A monitor that notes all calls, and drains the service at `harakiri`."""

    def __init__(self) -> None:
        self.ticks: list[tuple[int, int, int]] = []
        self.wishes = 0
        self.service: Service | None = None
        self.heartbeat = self.siblings = self.harakiri = self.slow_requests = self
        self.metrics = None

    def request_recorder(self, thread: int) -> None:
        return None

    def tick(self, finished: int, connections: int, busy: int) -> None:
        self.ticks.append((finished, connections, busy))

    def write_in_flight(self, requests: int) -> None:
        pass

    def publish_load(self, connections: int, *, crowded: bool) -> None:
        return None  # the worker may be crowded: a loaded machine delays a thread by 5 ms

    def is_alone(self) -> bool:
        return False

    def send_due(self, now: float) -> None:
        pass

    def fewest_connections(self) -> None:
        return None

    def request_end(self) -> None:
        self.wishes += 1
        assert self.service is not None
        self.service.drain()


def wishing(environ: Any, start_response: Any) -> list[bytes]:
    environ["starman.harakiri"] = True
    return echo(environ, start_response)


def test_a_monitor_gets_ticks_and_harakiri_and_a_waiting_client_is_left_to_others(options: dict[str, Any]) -> None:
    monitor = Monitor()
    with Running(wishing, monitor=monitor, **options) as running, running.client() as client:
        monitor.service = running.service
        assert wait_until(lambda: (0, 1, 0) in monitor.ticks)
        assert client.get("/").get("Connection") == "close"
        # From here on it accepts no connection, drain or not: this one stays in the kernel for another process.
        running.client()
        running.join()
        assert monitor.wishes == 1
        running._socket.settimeout(SECONDS)
        running._socket.accept()[0].close()


def test_without_a_monitor_harakiri_does_nothing(options: dict[str, Any]) -> None:
    def asking(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        wish, environ["starman.harakiri"] = environ.get("starman.harakiri"), True
        return [repr(wish).encode()]

    with Running(asking, **options) as running, running.client() as client:
        for _ in range(2):
            response = client.get("/")
            assert (response.body, response.persistent) == (b"None", True)


def test_hazard_9_the_pool_hears_of_each_connection_that_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    welcomed: list[int] = []
    welcome = Pool.welcome
    monkeypatch.setattr(Pool, "welcome", lambda self: (welcomed.append(1), welcome(self)))
    with Running(echo) as running:
        for _ in range(3):
            with running.client() as client:
                client.get("/")
                client.get("/")
    assert len(welcomed) == 3


@pytest.mark.parametrize("use_uvloop", [True, False])
def test_small_responses_do_not_wait_for_acknowledgements(use_uvloop: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loops set TCP_NODELAY: starman must not unset it, and each loop must set it."""
    made = Connection.connection_made
    found: list[int] = []

    def look(self: Connection, transport: asyncio.BaseTransport) -> None:
        found.append(transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        made(self, transport)

    monkeypatch.setattr(Connection, "connection_made", look)
    with Running(echo, use_uvloop=use_uvloop) as running, running.client() as client:
        client.get("/")
    assert found == [1]


class Slow:
    """A client that takes 0.2 ms to check."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.checks = 0

    def check_timeouts(self, now: float) -> None:
        self.checks += 1
        self._clock.now += 0.0002

    def close_if_idle(self, since: float) -> None: ...

    def reset(self) -> None: ...


class Clock:
    """A stand-in for the module `time`, so that a pause of the machine changes nothing here."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class OnlyClients:
    """The part of the ServiceContext that checking timeouts needs."""

    def __init__(self, *clients: Slow) -> None:
        self.connections = Clients()
        for client in clients:
            self.connections.add(client)

    def check(self, due: list[Any]) -> None:
        """Check clients once."""
        service_module._check_clients(self, due)  # type: ignore[arg-type]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(service_module, "time", clock)
    return clock


def test_timeouts_are_checked_a_millisecond_at_a_time(clock: Clock) -> None:
    """Checking ten thousand connections at once took 30 ms, during which no request was served."""
    clients = [Slow(clock) for _ in range(48)]
    context = OnlyClients(*clients)
    due = context.connections.due(clock.now)
    looks = []
    while due:
        left = len(due)
        context.check(due)
        looks.append(left - len(due))
    assert all(4 <= look <= 6 for look in looks[:-1]), looks
    assert {each.checks for each in clients} == {1}


def test_a_client_that_has_gone_since_is_not_checked(clock: Clock) -> None:
    here, gone = Slow(clock), Slow(clock)
    context = OnlyClients(here, gone)
    due = context.connections.due(clock.now)
    context.connections.discard(gone)
    context.check(due)
    assert (here.checks, gone.checks, due) == (1, 0, [])
