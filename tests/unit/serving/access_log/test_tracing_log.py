"""starman.serving.access_log.tracing_log: everything reaches the access log behind it, and what matches is noted."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from hypothesis import given

from starman.serving.access_log import tracing_log as module
from starman.serving.access_log.logged_request import LoggedRequest
from starman.serving.access_log.trace_filter import TraceFilter
from starman.serving.access_log.tracing_log import TracingLog
from tests.unit.serving.access_log.environs import ANY_ENVIRON, environ

PLACE = {"worker": 3, "pid": 123}


class Inner:
    """The access log behind a trace: notes its calls."""

    make_request = LoggedRequest

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def add(self, *arguments: Any) -> None:
        self.calls.append(("add", *arguments))

    def add_request(self, *arguments: Any) -> None:
        self.calls.append(("add_request", *arguments))

    def add_not_run(self, *arguments: Any) -> None:
        self.calls.append(("add_not_run", *arguments))

    def add_refusal(self, *arguments: Any) -> None:
        self.calls.append(("add_refusal", *arguments))


def made(status: int = 200, **more: object) -> LoggedRequest:
    return LoggedRequest(environ(**more), status, 5, None, (0.25, 0.5), 7)


def taken(traced: TracingLog) -> list[dict[str, Any]]:
    return [json.loads(line) for line in traced.take(1 << 20)]


def test_everything_reaches_the_access_log() -> None:
    inner = Inner()
    traced = TracingLog(inner, [TraceFilter(statuses=["5xx"])], PLACE)
    first, second = made(), made(503)
    traced.add(first.environ, 200, 5)
    traced.add_request(first)
    traced.add_not_run(second)
    traced.add_refusal("192.0.2.9", 431)
    assert inner.calls == [
        ("add", first.environ, 200, 5),
        ("add_request", first),
        ("add_not_run", second),
        ("add_refusal", "192.0.2.9", 431),
    ]
    assert [record["status"] for record in taken(traced)] == [503]
    assert not traced.has_records


def test_a_record() -> None:
    traced = TracingLog(None, [TraceFilter()], PLACE)
    request = made(0, REQUEST_URI="/a?b=" + 3000 * "c")
    traced.add_request(request)
    traced.add_refusal("192.0.2.9", 400)
    traced.add(request.environ, 200, 5)
    whole, refused = taken(traced)
    assert whole == {
        "time": round(request.unix_time, 6),
        "client": "192.0.2.7",
        "method": "GET",
        "target": "/a?b=" + 1995 * "c" + "…",
        "protocol": "HTTP/1.1",
        "status": 499,
        "seconds": 0.75,
        "queue_seconds": 0.25,
        "body_bytes": 5,
        "received_bytes": 7,
        "worker": 3,
        "pid": 123,
    }
    assert (refused["client"], refused["status"], refused["method"], refused["target"]) == ("192.0.2.9", 400, None, None)


@given(ANY_ENVIRON)
def test_any_environ_makes_a_line_of_ascii(spoiled: dict[str, Any]) -> None:
    traced = TracingLog(None, [TraceFilter(paths=["*"]), TraceFilter()], PLACE)
    traced.add_request(LoggedRequest(spoiled, 200, 0, None, (0.0, 0.0), 0))
    (line,) = traced.take(1 << 20)
    assert line.isascii()
    assert b"\n" not in line


def test_a_batch_has_a_size_and_at_least_one_record() -> None:
    traced = TracingLog(None, [TraceFilter()], PLACE)
    for _ in range(10):
        traced.add_request(made())
    size = len(traced.take(1)[0])
    assert len(traced.take(3 * size)) == 2
    assert len(traced.take(1 << 20)) == 7
    assert traced.take(1 << 20) == []


def test_what_nobody_takes_is_lost_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_RECORDS", 100)
    traced = TracingLog(None, [TraceFilter()], PLACE)

    def add() -> None:
        for _ in range(500):
            traced.add_request(made())

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = len(taken(traced))
    # Threads that look at the same moment may each add one more.
    assert 100 <= kept <= 103
    assert traced.has_records
    assert traced.take_lost() == 2000 - kept
    assert traced.take_lost() == 0
