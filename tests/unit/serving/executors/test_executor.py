"""starman.serving.executors.executor: requests in the queue whose clients leave, while all threads are stuck."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from starman.serving.executors import executor as module
from tests.functional.support.harness import wait_until
from tests.functional.support.wire import Client, encode_request
from tests.unit.serving.applications import Gate, Start
from tests.unit.serving.running import SECONDS, Running, reset

pytestmark = pytest.mark.usefixtures("fast")

X_FORWARDED_FOR = ("X-Forwarded-For", "192.0.2.1")


class Stuck:
    """A service whose only thread is in a request to /gate, and what it has called and logged."""

    def __init__(self, log: Path, **options: Any) -> None:
        self.gate = Gate()
        self.called: list[str] = []
        self.log = log
        self.running = Running(self._call, threads=1, access_log=str(log), **options)

    def __enter__(self) -> Stuck:
        self.running.__enter__()
        self.first = self.running.client()
        self.first.send(encode_request("GET", "/gate"))
        assert self.gate.entered.wait(SECONDS)
        return self

    def __exit__(self, *error: Any) -> None:
        self.gate.opened.set()
        self.running.__exit__(*error)

    def _call(self, environ: dict[str, Any], start_response: Start) -> Any:
        self.called.append(environ["PATH_INFO"])
        return self.gate(environ, start_response)

    def sent(self, data: bytes) -> Client:
        """A client that has sent a request."""
        client = self.running.client()
        client.send(data)
        return client

    def waiting(self, data: bytes) -> Client:
        """A client whose request waits."""
        client, before = self.running.client(), self.queued()
        client.send(data)
        assert wait_until(lambda: self.queued() > before, SECONDS)
        return client

    def queued(self) -> int:
        assert self.running.service._running is not None
        return len(self.running.service._running[1].executor._queue)

    def lost(self, path: str) -> bool:
        """Whether the log says that the client of `path` has left, and nothing but the other requests waits."""
        return wait_until(lambda: f' {path} HTTP/1.1" 499 - ' in self.log.read_text(), SECONDS)

    def answers(self, client: Client) -> int:
        self.gate.opened.set()
        return client.read().status


@pytest.fixture(params=["uvloop", "asyncio"])
def stuck(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stuck]:
    with Stuck(tmp_path / "access.log", use_uvloop=request.param == "uvloop") as running:
        yield running


def test_a_reset_takes_the_request_from_the_queue(stuck: Stuck) -> None:
    gone, kept = stuck.waiting(encode_request("POST", "/gone", body=b"x" * 5000)), stuck.waiting(encode_request("GET", "/kept"))
    reset(gone)
    assert stuck.lost("/gone")
    assert stuck.queued() == 1
    assert stuck.answers(kept) == 200
    assert stuck.called == ["/gate", "/kept"]


def test_the_requests_behind_it_go_as_well(stuck: Stuck) -> None:
    gone = stuck.waiting(b"".join(encode_request("GET", f"/{number}") for number in range(3)))
    reset(gone)
    assert all(stuck.lost(f"/{number}") for number in range(3))
    assert stuck.queued() == 0
    assert stuck.called == ["/gate"]


def test_a_proxy_that_closes_has_left_at_once(stuck: Stuck) -> None:
    gone = stuck.waiting(encode_request("GET", "/gone", [X_FORWARDED_FOR]))
    gone.socket.shutdown(socket.SHUT_WR)
    assert stuck.lost("/gone")
    assert gone.at_end()
    assert stuck.queued() == 0


def test_a_client_that_half_closes_has_left_after_a_time(stuck: Stuck, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = stuck.waiting(encode_request("GET", "/kept"))
    kept.socket.shutdown(socket.SHUT_WR)
    other = stuck.waiting(encode_request("GET", "/other", [X_FORWARDED_FOR]))
    other.socket.shutdown(socket.SHUT_WR)
    assert stuck.lost("/other"), "the queue was looked at"
    assert stuck.queued() == 1
    monkeypatch.setattr("starman.serving.exchange.HALF_CLOSED_SECONDS", 0.05)
    assert stuck.lost("/kept")
    assert kept.at_end()
    assert stuck.queued() == 0


def test_a_half_closed_client_gets_its_answer_in_time(stuck: Stuck) -> None:
    kept = stuck.waiting(encode_request("GET", "/kept"))
    kept.socket.shutdown(socket.SHUT_WR)
    assert stuck.answers(kept) == 200


def test_a_half_closed_client_does_not_wait_for_a_thread_while_its_own_request_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its first request takes longer than a half-closed client may wait for a thread. The next one runs after it."""
    monkeypatch.setattr("starman.serving.exchange.HALF_CLOSED_SECONDS", 0.02)
    monkeypatch.setattr("starman.serving.exchange._LONG_IN_QUEUE", 0.0)
    gate = Gate()
    with Running(gate, threads=1) as running, running.client() as client:
        client.send(encode_request("GET", "/gate") + encode_request("GET", "/1") + encode_request("GET", "/2"))
        client.socket.shutdown(socket.SHUT_WR)
        assert gate.entered.wait(SECONDS)
        wait_until(lambda: False, 0.1)
        gate.opened.set()
        assert [response.body for response in client.read_many(["GET"] * 3)] == [b"x" * 100_000, b"/1|", b"/2|"]


def test_a_closed_unix_socket_is_not_half_closed(tmp_path: Path) -> None:
    with Stuck(tmp_path / "access.log", path=tmp_path / "s") as stuck:
        kept, gone = stuck.waiting(encode_request("GET", "/kept")), stuck.waiting(encode_request("GET", "/gone"))
        kept.socket.shutdown(socket.SHUT_WR)
        gone.close()
        assert stuck.lost("/gone")
        assert stuck.answers(kept) == 200
        assert stuck.called == ["/gate", "/kept"]


def test_many_that_leave_do_not_hold_up_the_loop(stuck: Stuck, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOP_SLICE", 0.0)
    clients = [stuck.waiting(encode_request("GET", f"/{number}")) for number in range(20)]
    for client in clients:
        reset(client)
    assert wait_until(lambda: stuck.queued() == 0, SECONDS)
    assert all(stuck.lost(f"/{number}") for number in range(20))


def test_a_defect_while_one_is_ended_costs_the_others_nothing(stuck: Stuck, monkeypatch: pytest.MonkeyPatch) -> None:
    bad, gone = stuck.waiting(encode_request("GET", "/bad")), stuck.waiting(encode_request("GET", "/gone"))
    assert stuck.running.service._running is not None
    executor = stuck.running.service._running[1].executor
    request = executor._queue[0]
    kind = type(request)
    plain: Callable[..., Any] = kind.end_lost

    def end_lost(self: Any) -> Any:
        if self is request:
            raise MemoryError
        return plain(self)

    monkeypatch.setattr(kind, "end_lost", end_lost)
    reset(bad)
    reset(gone)
    assert stuck.lost("/gone")
    assert stuck.queued() == 0
    # Both are counted: no thread has run them, and none will.
    counted = {key[2]: sum(found.counts) for key, found in executor.request_counts.totals().series.items()}
    assert counted == {500: 1, 499: 1}
