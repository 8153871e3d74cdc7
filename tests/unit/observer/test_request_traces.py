"""starman.observer.request_traces: filters for the workers, requests for each client, losses, and sockets that end."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import pytest

from starman.observer import request_traces as module
from starman.observer.master_link import MasterSilentError
from starman.observer.request_traces import RequestTraces
from starman.serving.access_log.trace_filter import TraceFilter, parse_filters


def record(status: int) -> bytes:
    return json.dumps({"method": "GET", "target": "/", "status": status, "seconds": 0.1}).encode()


def statuses(taken: bytes) -> list[Any]:
    """The statuses of the requests, and the numbers of lost ones as negative numbers."""
    lines = [json.loads(line) for line in taken.splitlines()]
    return [line["request"]["status"] if "request" in line else -line["lost"] for line in lines]


async def until(condition: Any) -> None:
    for _ in range(200):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("in vain")


def test_workers_get_the_filters_of_all_clients() -> None:
    orders: list[str] = []

    async def run() -> None:
        traces = RequestTraces(orders.append)
        first = traces.subscribe(TraceFilter(statuses=["5xx"]))
        second = traces.subscribe(TraceFilter(methods=["POST"]))
        await until(lambda: orders)
        assert len(orders) == 1
        assert sorted(str(each.fields()) for each in parse_filters(orders[0])) == sorted(
            str(each.filter.fields()) for each in (first, second)
        )
        traces.unsubscribe(first)
        await until(lambda: len(orders) == 2)
        assert [each.methods for each in parse_filters(orders[1])] == [("POST",)]
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        traces.add_source(theirs.detach())
        traces.unsubscribe(second)
        await until(lambda: len(orders) == 3)
        assert orders[2] == ""
        assert ours.recv(10) == b""
        ours.close()

    asyncio.run(run())


def test_each_client_gets_what_matches_and_hears_of_losses() -> None:
    async def run() -> None:
        traces = RequestTraces(lambda _: None)
        errors = traces.subscribe(TraceFilter(statuses=["5xx"]))
        traces.subscribe(TraceFilter(paths=["*"]))
        everything = traces.subscribe(TraceFilter())
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        traces.add_source(theirs.detach())
        ours.send(b"\n".join((b"0", record(200), record(500))))
        for nonsense in (b"nonsense", b"0\n[]", b"0\n{}", b"0\n[1", b"0\nnull", b"0\n" + 50_000 * b"["):
            ours.send(nonsense)
        ours.send(b"7")
        await until(everything.changed.is_set)
        await asyncio.sleep(0.1)
        assert statuses(errors.take(10)) == [500, -7]
        assert statuses(everything.take(1)) == [200, -7]
        assert everything.changed.is_set()
        assert statuses(everything.take(10)) == [500]
        assert not everything.changed.is_set()
        ours.close()
        await until(lambda: not traces._sources)

    asyncio.run(run())


def test_a_client_that_does_not_read_loses_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 3)

    async def run() -> None:
        subscription = RequestTraces(lambda _: None).subscribe(TraceFilter())
        for status in range(200, 210):
            subscription.add(record(status))
        assert statuses(subscription.take(10)) == [200, 201, 202, -7]

    asyncio.run(run())


def test_too_many_filters_are_refused_and_a_silent_master_is_no_error() -> None:
    def silent(_: str) -> None:
        raise MasterSilentError("does not read messages")

    async def run() -> None:
        traces = RequestTraces(silent)
        long = TraceFilter(paths=[f"/{number:0199}" for number in range(20)])
        for _ in range(3):
            traces.subscribe(long)
        with pytest.raises(ValueError, match="too many traces at a time"):
            traces.subscribe(long)
        await asyncio.sleep(0.1)

    asyncio.run(run())
