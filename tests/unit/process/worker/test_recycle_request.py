"""starman.process.worker.recycle_request, by the ticks of a monitor: when a worker requests its replacement."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from starman.config.settings import Settings
from starman.process.channel import Channel
from starman.process.messages import Recycle
from starman.process.worker import recycle_request as module
from starman.process.worker.monitor import WorkerMonitor


@pytest.fixture
def pair() -> Iterator[tuple[Channel, Channel]]:
    """The master's end, and the worker's."""
    ends = Channel.pair()
    yield ends
    for end in ends:
        end.close()


def said(master: Channel) -> list[object]:
    found: list[object] = []
    while True:
        try:
            received = master.receive_if_any()
        except BlockingIOError:
            return found
        assert received is not None
        found.append(received[0])


def test_it_requests_its_replacement_once_and_not_while_it_drains(pair: tuple[Channel, Channel]) -> None:
    monitor = WorkerMonitor(pair[1], 1, None, Settings.of(max_requests=5))
    monitor.heartbeat.tick(5, 0, 0)
    monitor.heartbeat.start()
    monitor.heartbeat.tick(4, 0, 0)
    assert said(pair[0]) == []
    monitor.heartbeat.tick(5, 0, 0)
    monitor.heartbeat.tick(6, 0, 0)
    assert said(pair[0]) == [Recycle("it has served 5 requests (max_requests)")]
    late = WorkerMonitor(pair[1], 1, None, Settings.of(max_requests=5))
    late.heartbeat.start()
    late.heartbeat.draining = True
    late.heartbeat.tick(5, 0, 0)
    assert said(pair[0]) == []


def test_what_could_not_be_said_is_said_again(pair: tuple[Channel, Channel]) -> None:
    monitor = WorkerMonitor(pair[1], 1, None, Settings.of(max_requests=5))
    monitor.heartbeat.start()
    while pair[1].send(Recycle("x" * 4000)):
        pass
    monitor.heartbeat.tick(5, 0, 0)
    said(pair[0])
    monitor.heartbeat.tick(7, 0, 0)
    assert said(pair[0]) == [Recycle("it has served 7 requests (max_requests)")]


def test_memory_is_measured_only_when_it_is_bounded(pair: tuple[Channel, Channel], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "used_bytes", lambda: 3 << 20)

    async def weigh(monitor: WorkerMonitor) -> None:
        task = asyncio.ensure_future(monitor.recycle_request.measure_memory())
        while not (task.done() or monitor.recycle_request._memory_bytes):
            await asyncio.sleep(0.001)
        task.cancel()

    free = WorkerMonitor(pair[1], 1, None, Settings.of())
    asyncio.run(weigh(free))
    assert free.recycle_request._memory_bytes == 0
    bound = WorkerMonitor(pair[1], 1, None, Settings.of(max_worker_memory="2M"))
    bound.heartbeat.start()
    asyncio.run(weigh(bound))
    bound.heartbeat.tick(0, 0, 0)
    assert said(pair[0]) == [Recycle("it holds 3.0 MiB (max_worker_memory)")]
