"""starman.serving.health.slow_requests: which requests are slow, and how many are logged."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from starman.proto.events import RequestHead
from starman.serving.executors.queued_request import RequestState
from starman.serving.health.slow_requests import SlowRequestLog
from starman.serving.health.stack_log import MOST_LOGGED, PERIOD

Capture = pytest.CaptureFixture[str]


class Request(RequestState):
    def __init__(self, target: bytes, started_at: float) -> None:
        head = RequestHead()
        head.method, head.target = b"GET", target
        super().__init__(head)
        self.started_at = started_at


def test_a_slow_request_is_logged_once_with_its_stack(capfd: Capture) -> None:
    requests = SlowRequestLog(30.0, None)
    running: list[tuple[int, Any]] = [(threading.get_ident(), Request(b"/slow", 100.0))]
    for now in range(100, 130):
        requests.check(running, float(now))
    assert capfd.readouterr().err == ""
    for now in range(130, 300):
        requests.check(running, float(now))
    said = capfd.readouterr().err
    assert "slow request: GET /slow has run for 30.0 s so far; its stack:\n" in said
    assert ", in test_a_slow_request_is_logged_once_with_its_stack\n" in said
    assert said.count("GET /slow has run") == 1
    running[0] = (threading.get_ident(), Request(b"/next", 300.0))
    requests.check(running, 330.0)
    assert capfd.readouterr().err.count("GET /next has run") == 1


def test_time_in_the_queue_and_waits_for_the_client_do_not_count() -> None:
    request = Request(b"/", 0.0)
    assert request.application_seconds(1e9) == 0.0
    request.started_at = 100.0
    assert request.application_seconds(110.0) == 10.0
    request.waiting_since = 104.0
    assert request.application_seconds(110.0) == 4.0
    request.waited, request.waiting_since = 6.0, 0.0
    assert request.application_seconds(112.0) == 6.0
    request.begin_wait()
    request.end_wait()
    assert request.waiting_since == 0.0
    assert 6.0 <= request.waited < 16.0


def test_only_some_are_logged_and_the_others_counted(capfd: Capture) -> None:
    requests = SlowRequestLog(1.0, None)
    running: list[tuple[int, Any]] = [(-1, Request(b"/", 1.0)) for _ in range(MOST_LOGGED + 3)]
    requests.check(running, 10.0)
    assert capfd.readouterr().err.count("slow request: ") == MOST_LOGGED
    requests.check([], 10.0 + PERIOD)
    assert f"3 more slow requests are not logged: the limit is {MOST_LOGGED} in {PERIOD:g} s\n" in capfd.readouterr().err
    requests.check(running[:1], 100.0)
    assert capfd.readouterr().err.count("slow request: ") == 1


def test_without_a_limit_none_is_slow(capfd: Capture) -> None:
    SlowRequestLog(0.0, None).check([(-1, Request(b"/", 1.0))], 1e6)
    assert capfd.readouterr().err == ""
