"""starman.serving.drain: the graceful stop of a service, and the abort that cuts it short."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from starman.config.settings import Settings
from starman.serving.service import Service
from tests.functional.support.wire import NoResponseError, TruncatedError, encode_request
from tests.unit.serving.applications import HELLO, Gate, big, echo
from tests.unit.serving.running import SECONDS, Running

pytestmark = pytest.mark.usefixtures("fast")

Start = Callable[..., Any]


def test_a_drain_finishes_what_is_in_flight_and_says_so(options: dict[str, Any]) -> None:
    gate = Gate()
    with Running(gate, graceful_timeout=SECONDS, **options) as running:
        busy, idle = running.client(), running.client()
        assert idle.get("/").persistent
        busy.send(encode_request("GET", "/gate"))
        assert gate.entered.wait(SECONDS)
        running.drain()
        running.drain()
        assert idle.at_end()
        assert not running.ended
        gate.opened.set()
        response = busy.read()
        assert (response.status, len(response.body), response.get("Connection")) == (200, 100_000, "close")
        assert busy.at_end()
        running.join()


def test_a_drain_answers_what_was_pipelined(options: dict[str, Any]) -> None:
    gate = Gate()
    with Running(gate, graceful_timeout=SECONDS, **options) as running, running.client() as client:
        client.send(encode_request("GET", "/gate") + HELLO + HELLO)
        assert gate.entered.wait(SECONDS)
        running.drain()
        gate.opened.set()
        responses = client.read_many(["GET"] * 3)
        assert [response.persistent for response in responses] == [True, True, False]
        assert client.at_end()
        running.join()


def test_a_request_that_comes_early_in_the_drain_is_answered(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("starman.serving.drain._LINGER", SECONDS)
    with Running(echo, graceful_timeout=SECONDS, **options) as running, running.client() as client:
        client.get("/")
        running.drain()
        response = client.get("/late")
        assert (response.body, response.persistent) == (b"/late|", False)
        running.join()


def test_a_drain_waits_for_a_slow_reader(options: dict[str, Any]) -> None:
    with Running(big, graceful_timeout=SECONDS, **options) as running, running.client(4096) as client:
        client.send(encode_request("GET", "/big"))
        client.read_head()
        running.drain()
        assert len(client._read_exactly(8 << 20)) == 8 << 20
        running.join()


def test_after_graceful_timeout_open_connections_are_reset(options: dict[str, Any], capfd: pytest.CaptureFixture[str]) -> None:
    gate = Gate()
    with Running(gate, graceful_timeout=0.2, **options) as running, running.client() as client:
        client.send(encode_request("GET", "/gate"))
        assert gate.entered.wait(SECONDS)
        running.drain()
        with pytest.raises(NoResponseError):
            client.read()
        running.join()
        gate.opened.set()
        assert gate.closed.wait(SECONDS)
    said = capfd.readouterr().err
    assert "graceful_timeout is over (0.2 s): 1 connection is reset while serving GET /gate (for " in said


def test_an_abort_ends_at_once(options: dict[str, Any]) -> None:
    gate = Gate(blocks=1000)
    with Running(gate, graceful_timeout=60, **options) as running:
        slow, busy = running.client(4096), running.client()
        gate.opened.set()
        slow.send(encode_request("GET", "/gate"))
        slow.read_head()
        gate.opened.clear()
        gate.entered.clear()
        busy.send(encode_request("GET", "/gate"))
        assert gate.entered.wait(SECONDS)
        began = time.monotonic()
        running.drain()
        running.call(running.service.abort)
        with pytest.raises(TruncatedError):
            slow._read_chunks()
        with pytest.raises(NoResponseError):
            busy.read()
        running.join()
        assert time.monotonic() - began < SECONDS, "graceful_timeout is a minute"
        gate.opened.set()


def test_an_abort_before_the_drain(options: dict[str, Any]) -> None:
    with Running(echo, graceful_timeout=60, **options) as running, running.client() as client:
        client.get("/")
        running.call(running.service.abort)
        assert client.at_end()
        running.join()


def test_a_drain_before_the_start_serves_no_client() -> None:
    async def main() -> list[str]:
        service = Service(echo, Settings.of(graceful_timeout=1), [], multiprocess=False)
        service.drain()
        events: list[str] = []
        await service.run(lambda: events.append("started"))
        return events

    assert asyncio.run(main()) == ["started"]


def test_clients_that_wait_to_be_accepted_are_served_by_the_drain(options: dict[str, Any]) -> None:
    """Hazard 13: the kernel has accepted these connections already."""
    with Running(echo, graceful_timeout=SECONDS, **options) as running:
        held, release = threading.Event(), threading.Event()

        def hold() -> None:
            held.set()
            release.wait(SECONDS)

        running.call(hold)
        assert held.wait(SECONDS)
        clients = [running.client() for _ in range(20)]
        for client in clients:
            client.send(HELLO)
        running.call(running.service.drain)
        release.set()
        assert [client.read().body for client in clients] == [b"/hello|"] * 20
        running.join()
