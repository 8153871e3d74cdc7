"""starman.serving.request_trace: packets, losses, an observer that reads slowly or has gone, and what stays behind."""

from __future__ import annotations

import asyncio
import json
import socket
from types import SimpleNamespace
from typing import Any

import pytest

from starman.serving.access_log.logged_request import LoggedRequest
from starman.serving.access_log.trace_filter import TraceFilter, filters_text
from starman.serving.request_trace import RequestTrace
from tests.unit.serving.access_log.environs import environ

ALL = filters_text([TraceFilter()])


def pair() -> tuple[socket.socket, int]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(10)
    return ours, theirs.detach()


def made(path: str = "/a") -> LoggedRequest:
    return LoggedRequest(environ(REQUEST_URI=path), 200, 0, None, (0.0, 0.0), 0)


def read(packet: bytes) -> tuple[int, list[Any]]:
    """How many requests are lost, and the targets of the others."""
    lost, *lines = packet.split(b"\n")
    return int(lost), [json.loads(line)["target"] for line in lines]


def test_requests_are_sent_and_the_access_log_is_put_back() -> None:
    ours, fd = pair()
    context: Any = SimpleNamespace(access_log=None, logs_details=False)

    async def run() -> None:
        trace = RequestTrace(context, ALL, fd)
        assert context.logs_details
        context.access_log.add_request(made("/1"))
        assert read(await asyncio.to_thread(ours.recv, 1 << 16)) == (0, ["/1"])
        traced = context.access_log
        traced.add_request(made("/2"))
        trace.end()
        trace.end()
        assert (context.access_log, context.logs_details, trace.descriptor) == (None, False, -1)
        traced.add_request(made("/3"))  # a thread that has seen the trace just before

    asyncio.run(run())
    assert read(ours.recv(1 << 16)) == (0, ["/2"])
    assert ours.recv(1 << 16) == b""
    ours.close()


def test_an_observer_that_has_gone_ends_the_trace() -> None:
    ours, fd = pair()
    context: Any = SimpleNamespace(access_log=None, logs_details=False)
    ours.close()

    async def run() -> None:
        trace = RequestTrace(context, ALL, fd)
        context.access_log.add_request(made())
        for _ in range(200):
            if context.access_log is None:
                break
            await asyncio.sleep(0.02)
        assert (context.access_log, trace.descriptor) == (None, -1)

    asyncio.run(run())


def test_an_observer_that_does_not_read_costs_requests_which_are_counted() -> None:
    ours, fd = pair()
    context: Any = SimpleNamespace(access_log=None, logs_details=False)
    received: list[str] = []
    lost = 0

    async def run() -> None:
        nonlocal lost
        trace = RequestTrace(context, ALL, fd)
        for number in range(30_000):
            context.access_log.add_request(made(f"/{number}"))
            if number % 1000 == 0:
                await asyncio.sleep(0.05)
        ours.setblocking(False)
        for _ in range(100):
            try:
                more, targets = read(ours.recv(1 << 17))
            except BlockingIOError:
                await asyncio.sleep(0.05)
                continue
            lost += more
            received.extend(targets)
            if lost + len(received) == 30_000:
                break
        trace.end()

    asyncio.run(run())
    assert lost > 0
    assert lost + len(received) == 30_000
    assert received == sorted(received, key=lambda target: int(target[1:]))
    ours.close()


def test_filters_that_are_not_understood() -> None:
    ours, fd = pair()
    context: Any = SimpleNamespace(access_log=None, logs_details=False)

    async def run() -> None:
        with pytest.raises(ValueError, match="not a status"):
            RequestTrace(context, '[{"statuses": ["x"]}]', fd)

    asyncio.run(run())
    assert context.access_log is None
    assert ours.recv(10) == b""
    ours.close()
