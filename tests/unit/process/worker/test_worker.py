"""starman.process.worker.worker: what a service does at signals and at the end of the master. The service is a
fake."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import warnings
from collections.abc import Callable, Coroutine
from typing import Any

from starman.config.addresses import parse_address
from starman.config.settings import Settings
from starman.process.channel import Channel
from starman.process.forking import install_handlers
from starman.process.host.listeners import Listener, open_listeners
from starman.process.message_base import Message
from starman.process.messages import Draining, Failed, Ready, Spawned
from starman.process.scoreboard import Scoreboard, WorkerPage
from starman.process.worker import worker as module
from starman.process.worker.monitor import WorkerMonitor
from starman.process.worker.server_resources import ServerResources
from starman.process.worker.shared_imports import import_service
from starman.process.worker.worker import run_worker
from starman.process.worker_spec import Program, WorkerSpec
from tests.unit.process.forked import run_forked


class FakeService:
    """Serves no clients; notes the calls."""

    def __init__(self, *, fails: bool = False) -> None:
        self.calls: list[str] = []
        self.fails = fails
        self.requests = 0
        self.end = asyncio.Event()

    async def run(self, started: Callable[[], None]) -> None:
        started()
        if self.fails:
            raise RuntimeError("the loop is broken")
        await self.end.wait()

    def drain(self) -> None:
        self.calls.append("drain")

    def abort(self) -> None:
        self.calls.append("abort")
        self.end.set()

    def abandon(self) -> tuple[list[int], list[int]]:
        return [], []

    def reopen_logs(self, done: Callable[[], None]) -> None:
        self.calls.append("reopen")
        done()


def messages(channel: Channel) -> list[Message]:
    """All messages up to the end of file."""
    found = []
    while (received := channel.receive_message()) is not None:
        found.append(received[0])
    return found


def in_loop(
    scenario: Callable[[FakeService, Channel, list[Listener]], Coroutine[Any, Any, None]], page: WorkerPage | None = None
) -> None:
    """Run a lifetime beside `scenario` in a child's loop. `scenario` gets the service, the master's end, and the
    listeners. `page`: the worker's page of the scoreboard."""

    def in_child() -> str:
        async def both() -> None:
            ours, theirs = Channel.pair()
            listeners = open_listeners([parse_address("127.0.0.1:0")], Settings.of())
            service = FakeService()
            monitor = WorkerMonitor(theirs, 1, page, Settings.of())
            spec = WorkerSpec(Settings.of(), listeners, Program(lambda _: None), import_service)  # type: ignore[arg-type, return-value]
            lifetime = module._Lifetime(theirs, service, ServerResources(listeners, theirs), monitor, spec)
            running = asyncio.ensure_future(lifetime.run())
            await asyncio.sleep(0)
            await scenario(service, ours, listeners)
            service.end.set()
            await running

        install_handlers(stop_ends=False)
        asyncio.run(both())
        return "fine"

    assert run_forked(in_child) == "fine"


async def pass_events() -> None:
    """Let the loop handle all events that have arrived, signals and descriptors alike."""
    for _ in range(3):
        await asyncio.sleep(0.01)


def test_a_stop_signal_drains_says_so_and_closes_the_listeners() -> None:
    async def scenario(service: FakeService, master: Channel, listeners: list[Listener]) -> None:
        address = listeners[0].socket.getsockname()
        os.kill(os.getpid(), signal.SIGQUIT)
        await pass_events()
        assert service.calls == ["drain"]
        assert [master.receive_if_any(), master.receive_if_any()] == [(Ready(), []), (Draining(), [])]
        with socket.socket() as client:
            assert client.connect_ex(address) != 0

    in_loop(scenario)


def test_requests_are_counted_when_the_signal_comes_and_again_when_the_loop_hears_of_it() -> None:
    """The loop of a worker without threads may run the application, and hear of the signal much later."""
    board = Scoreboard.create()
    page = board.map_page(1)

    async def scenario(service: FakeService, master: Channel, listeners: list[Listener]) -> None:
        def count() -> int | None:
            entry = board.read_page(1)
            assert entry is not None
            return entry.in_flight

        assert count() is None
        service.requests = 3
        os.kill(os.getpid(), signal.SIGTERM)
        assert count() == 3
        assert service.calls == []
        service.requests = 2
        await pass_events()
        assert service.calls == ["drain"]
        assert count() == 2

    in_loop(scenario, page)


def test_a_count_that_fails_does_not_raise_in_the_application() -> None:
    async def scenario(service: FakeService, master: Channel, listeners: list[Listener]) -> None:
        service.requests = -1  # does not fit
        os.kill(os.getpid(), signal.SIGTERM)
        await pass_events()
        assert service.calls == ["drain"]

    in_loop(scenario, Scoreboard.create().map_page(1))


def test_hazard_08_a_second_stop_cuts_only_after_a_second() -> None:
    async def scenario(service: FakeService, master: Channel, listeners: list[Listener]) -> None:
        for signum in (signal.SIGTERM, signal.SIGQUIT, signal.SIGTERM):
            os.kill(os.getpid(), signum)
        await pass_events()
        assert service.calls == ["drain"]
        await asyncio.sleep(module.SECOND_STOP)
        os.kill(os.getpid(), signal.SIGTERM)
        await pass_events()
        assert service.calls == ["drain", "abort"]

    in_loop(scenario)


def test_the_end_of_the_master_drains() -> None:
    async def scenario(service: FakeService, master: Channel, listeners: list[Listener]) -> None:
        master.close()
        await pass_events()
        assert service.calls == ["drain"]

    in_loop(scenario)


def spoken_by_worker(load: Callable[[], Any], *, fails: bool = False) -> tuple[list[Message], int]:
    """All messages of a whole worker from its fork to its exit, and its exit status. Its service ends at once."""

    def make_service(*_: object, **__: object) -> FakeService:
        service = FakeService(fails=fails)
        service.end.set()
        return service

    ours, theirs = Channel.pair()
    spec = WorkerSpec(Settings.of(disable_proctitle=True), [], Program(lambda _: load()), lambda: make_service)
    spec.scoreboard = board = Scoreboard.create()
    with warnings.catch_warnings():
        # pytest-xdist has a thread, and CPython 3.15 raises its warning of a fork with threads, an error here.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        warnings.simplefilter("error")
        try:
            ours.close()
            run_worker(theirs, 1, board.map_page(1, board.fd), spec, None)
        finally:
            os._exit(99)
    theirs.close()
    spoken = messages(ours)
    ours.close()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert spoken[0] == Spawned(0), "itself"
    return spoken[1:], status


def test_a_whole_life() -> None:
    assert spoken_by_worker(lambda: None) == ([Ready()], 0)


def test_an_application_that_cannot_be_loaded_is_reported_with_its_details() -> None:
    from starman.errors import LoadError

    def load() -> None:
        raise LoadError("there is no app", "Traceback...")

    assert spoken_by_worker(load) == ([Failed("there is no app", "Traceback...")], 1)


def test_whatever_else_goes_wrong_at_boot_is_reported_too() -> None:
    def load() -> None:
        raise SystemExit("not today")

    (failed,), status = spoken_by_worker(load)
    assert isinstance(failed, Failed)
    assert failed.message == "SystemExit: not today"
    assert "in load" in failed.details
    assert status == 1


def test_a_service_that_fails_later_ends_the_worker_with_status_1() -> None:
    assert spoken_by_worker(lambda: None, fails=True) == ([Ready()], 1)
