"""starman.serving.underway: what the error log says of a service that is cut."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable

import pytest

from tests.functional.harness import wait_until
from tests.functional.wire import encode_request
from tests.unit.serving.running import SECONDS, Running, reset
from tests.unit.serving.test_connection import Gate, big

pytestmark = pytest.mark.usefixtures("fast")


def requests_of(running: Running) -> int:
    """How many requests the service has in flight, as its loop sees it."""
    return seen_by_loop(running, lambda: running.service.requests)


def uploads_of(running: Running) -> int:
    """How many bodies arrive."""
    shared = running.service._running[1]  # type: ignore[index]
    return seen_by_loop(running, lambda: sum(getattr(client, "_upload", None) is not None for client in shared.connections))


def seen_by_loop(running: Running, count: Callable[[], int]) -> int:
    found: list[int] = []
    seen = threading.Event()

    def look() -> None:
        found.append(count())
        seen.set()

    running.call(look)
    assert seen.wait(SECONDS)
    return found[0]


def test_requests_that_run_and_wait_are_named(capfd: pytest.CaptureFixture[str]) -> None:
    gate = Gate()
    with Running(gate, threads=1, graceful_timeout=0.1) as running:
        first, second = running.client(), running.client()
        first.send(encode_request("GET", "/gate") + encode_request("DELETE", "/behind"))
        assert gate.entered.wait(SECONDS)
        second.send(encode_request("GET", "/" + 200 * "x"))
        assert wait_until(lambda: requests_of(running) == 3)
        running.drain()
        running.join()
        gate.opened.set()
        assert gate.closed.wait(SECONDS)
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
        assert wait_until(lambda: uploads_of(running) == 1)
        running.drain()
        running.join()
    assert "1 connection is reset while the body of POST /upload still arrived\n" in capfd.readouterr().err


def test_finished_responses_are_counted(capfd: pytest.CaptureFixture[str]) -> None:
    with Running(big, graceful_timeout=0.3) as running:
        client = running.client(4096)
        client.send(encode_request("GET", "/big"))
        assert client.socket.recv(1)
        assert wait_until(lambda: requests_of(running) == 0)
        running.drain()
        running.join()
    assert "1 connection is reset while 1 finished response had not been read whole\n" in capfd.readouterr().err


def test_requests_whose_clients_have_gone_are_counted(capfd: pytest.CaptureFixture[str]) -> None:
    gate = Gate()
    with Running(gate, graceful_timeout=0.3) as running:
        client = running.client()
        client.send(encode_request("GET", "/gate"))
        assert gate.entered.wait(SECONDS)
        reset(client)
        assert wait_until(lambda: requests_of(running) == 0)
        running.drain()
        running.join()
        gate.opened.set()
        assert gate.closed.wait(SECONDS)
    assert "graceful_timeout is over (0.3 s): 1 thread is left in a request whose client has gone\n" in capfd.readouterr().err


def test_a_cut_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    gate = Gate()
    with Running(gate, graceful_timeout=60) as running:
        running.client().send(encode_request("GET", "/gate"))
        assert gate.entered.wait(SECONDS)
        running.call(running.service.cut)
        running.join()
        gate.opened.set()
        assert gate.closed.wait(SECONDS)
    assert "the drain is cut short: 1 connection is reset while serving GET /gate (for " in capfd.readouterr().err
