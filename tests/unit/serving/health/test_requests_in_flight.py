"""starman.serving.health.requests_in_flight: what the error log says of a service that is stopped."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import TypeVar

import pytest

from starman.serving.sending.writer_state import RETURNED, WriterState
from tests.functional.support.harness import wait_until
from tests.functional.support.wire import encode_request
from tests.unit.serving.applications import Gate, big
from tests.unit.serving.running import SECONDS, Running, reset

pytestmark = pytest.mark.usefixtures("fast")

Seen = TypeVar("Seen")


def requests_of(running: Running) -> int:
    """The number of requests in flight, read in the service's loop."""
    return seen_by_loop(running, lambda: running.service.requests)


def connections_of(running: Running) -> int:
    """The number of connections, read in the service's loop."""
    return seen_by_loop(running, lambda: len(running.service._running[1].connections))  # type: ignore[index]


def writer_state_of(running: Running) -> WriterState:
    """The writer state of the only connection, read in the service's loop."""

    def look() -> WriterState:
        (client,) = running.service._running[1].connections  # type: ignore[index]
        state: WriterState = client._writer.state  # type: ignore[attr-defined]
        return state

    return seen_by_loop(running, look)


def seen_by_loop(running: Running, count: Callable[[], Seen]) -> Seen:
    found: list[Seen] = []
    seen = threading.Event()

    def look() -> None:
        found.append(count())
        seen.set()

    running.call(look)
    assert seen.wait(SECONDS)
    return found[0]


def drain_until_timeout(running: Running, gate: Gate) -> None:
    """Drain while the gate holds a request, so that graceful_timeout ends the service; then let the request end."""
    running.drain()
    running.join()
    gate.opened.set()
    assert gate.closed.wait(SECONDS)


def test_requests_that_run_and_wait_are_named(capfd: pytest.CaptureFixture[str]) -> None:
    gate = Gate()
    with Running(gate, threads=1, graceful_timeout=0.1) as running:
        first, second = running.client(), running.client()
        first.send(encode_request("GET", "/gate") + encode_request("DELETE", "/behind"))
        assert gate.entered.wait(SECONDS)
        second.send(encode_request("GET", "/" + 200 * "x"))
        assert wait_until(lambda: requests_of(running) == 3)
        drain_until_timeout(running, gate)
    said = capfd.readouterr().err
    assert re.search(
        r"graceful_timeout is over \(0\.1 s\): 2 connections are reset while serving "
        r"GET /gate \(for \d\.\d s\), DELETE /behind \(for \d\.\d s\), GET /x{106}\.\.\. \(for \d\.\d s\)\n",
        said,
    ), said


def test_bodies_that_arrive_are_named(capfd: pytest.CaptureFixture[str]) -> None:
    with Running(big, graceful_timeout=0.1) as running:
        client = running.client()
        client.send(b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
        assert wait_until(lambda: requests_of(running) == 1)
        running.drain()
        running.join()
    assert "1 connection is reset while the body of POST /upload still arrived\n" in capfd.readouterr().err


def test_finished_responses_are_counted(capfd: pytest.CaptureFixture[str]) -> None:
    with Running(big, graceful_timeout=0.3) as running:
        client = running.client(4096)
        client.send(encode_request("GET", "/big"))
        assert client.socket.recv(1)
        assert wait_until(lambda: writer_state_of(running) is RETURNED)
        assert requests_of(running) == 1
        running.drain()
        running.join()
    assert "1 connection is reset while 1 finished response had not been read whole\n" in capfd.readouterr().err


def test_requests_without_a_client_are_counted(capfd: pytest.CaptureFixture[str]) -> None:
    gate = Gate()
    with Running(gate, graceful_timeout=0.3) as running:
        client = running.client()
        client.send(encode_request("GET", "/gate"))
        assert gate.entered.wait(SECONDS)
        reset(client)
        assert wait_until(lambda: connections_of(running) == 0)
        assert requests_of(running) == 1
        drain_until_timeout(running, gate)
    assert "graceful_timeout is over (0.3 s): 1 thread is left in a request whose client has gone\n" in capfd.readouterr().err


def test_everything_that_is_in_flight_is_counted(capfd: pytest.CaptureFixture[str]) -> None:
    """Three clients: one has left while its request runs, one has a request that waits, one sends a body."""
    gate = Gate()
    with Running(gate, threads=1, graceful_timeout=0.1) as running:
        gone, waits, sends, idle = (running.client() for _ in range(4))
        assert idle.get("/").status == 200
        gone.send(encode_request("GET", "/gate"))
        assert gate.entered.wait(SECONDS)
        waits.send(encode_request("GET", "/waits"))
        sends.send(b"POST /sends HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
        assert wait_until(lambda: requests_of(running) == 3)
        reset(gone)
        assert wait_until(lambda: connections_of(running) == 3)
        assert requests_of(running) == 3
        drain_until_timeout(running, gate)
    said = capfd.readouterr().err
    assert re.search(
        r"graceful_timeout is over \(0\.1 s\): 2 connections are reset while serving GET /waits \(for \d\.\d s\), "
        r"while the body of POST /sends still arrived, while 1 request of clients that have gone still runs\n",
        said,
    ), said


def test_a_lost_request_is_forgotten_when_it_is_done() -> None:
    gate = Gate()
    with Running(gate) as running:
        client = running.client()
        client.send(encode_request("GET", "/gate"))
        assert gate.entered.wait(SECONDS)
        reset(client)
        assert wait_until(lambda: connections_of(running) == 0)
        gate.opened.set()
        assert gate.closed.wait(SECONDS)
        assert wait_until(lambda: requests_of(running) == 0)
        assert wait_until(lambda: seen_by_loop(running, lambda: len(running.service._running[1].lost)) == 0)  # type: ignore[index]


def test_a_response_that_others_wait_behind_is_counted_too() -> None:
    with Running(big) as running:
        client = running.client(4096)
        client.send(encode_request("GET", "/big") + 2 * encode_request("GET", "/small"))
        assert client.socket.recv(1)
        assert wait_until(lambda: writer_state_of(running) is RETURNED)
        assert requests_of(running) == 3


def test_an_abort_is_logged(capfd: pytest.CaptureFixture[str]) -> None:
    gate = Gate()
    with Running(gate, graceful_timeout=60) as running:
        running.client().send(encode_request("GET", "/gate"))
        assert gate.entered.wait(SECONDS)
        running.call(running.service.abort)
        running.join()
        gate.opened.set()
        assert gate.closed.wait(SECONDS)
    assert "the drain is cut short: 1 connection is reset while serving GET /gate (for " in capfd.readouterr().err
