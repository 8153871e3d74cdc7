"""starman.serving.accepting.connection_limit: the limit, and that a lack of descriptors costs no request."""

from __future__ import annotations

import errno
import os
import resource
import weakref
from types import SimpleNamespace
from typing import Any, cast

import pytest

from starman.config.kinds import AUTO
from starman.serving.accepting import connection_limit as module
from starman.serving.accepting.connection_limit import ConnectionLimit
from starman.serving.resource_shortage import ShortageLog
from starman.serving.sending.thread_socket import ThreadSocket
from tests.functional.support.wire import encode_request
from tests.unit.serving.running import Running


def limit(monkeypatch: pytest.MonkeyPatch, soft: int, most: int, count: int = 0) -> ConnectionLimit:
    monkeypatch.setattr(module.resource, "getrlimit", lambda which: (soft, soft))
    context = SimpleNamespace(connections=set(range(count)), shortages=ShortageLog())
    return ConnectionLimit(cast("Any", context), most)


@pytest.mark.parametrize(
    ("soft", "most"),
    [(100, 50), (256, 192), (1024, 896), (20_000, 18_976), (1_048_576, 65_536), (resource.RLIM_INFINITY, 65_536)],
)
def test_auto_leaves_a_reserve_for_the_application(soft: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not limit(monkeypatch, soft, AUTO, most - 1).is_reached(0)
    assert limit(monkeypatch, soft, AUTO, most - 1).is_reached(1)
    assert limit(monkeypatch, soft, AUTO, most).is_reached(0)


def test_what_the_application_has_open_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of a new descriptor shows it: here it is 200, of 256, with 20 connections."""
    free = [200]
    monkeypatch.setattr(module, "_lowest_free", lambda: free[0])
    reached = limit(monkeypatch, 256, 1000, 20)
    reached.count_accepted(191)
    assert not reached.is_reached(0)
    reached.count_accepted(200)
    assert reached.is_reached(0)
    assert not reached.make_room(0)
    free[0] = 100
    assert not reached.is_reached(0)


def test_an_application_that_uses_all_descriptors_leaves_some_connections(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "_lowest_free", lambda: 200)
    few = limit(monkeypatch, 256, 1000, 3)
    few.count_accepted(200)
    assert not few.is_reached(0)
    assert not few.is_reached(12)
    assert few.is_reached(13)
    few._context.shortages.close()
    assert "the application uses so many descriptors that at most 16 connections are accepted" in capfd.readouterr().err


@pytest.mark.parametrize("size", [5, 3_000_000])
def test_without_a_descriptor_for_its_duplicate_a_request_is_answered_by_the_loop(
    size: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    real = ThreadSocket.open

    def none_is_left(thread_socket: ThreadSocket, fd: int) -> None:
        if fd >= 0:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        real(thread_socket, fd)

    def application(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"x" * size]

    monkeypatch.setattr(ThreadSocket, "open", none_is_left)
    with Running(application) as running, running.client() as client:
        client.send(encode_request("GET", "/") * 3)
        assert [response.body for response in client.read_many(["GET"] * 3)] == [b"x" * size] * 3
        assert client.request("POST", "/", body=b"y" * 100).status == 200
    assert "no descriptor is left for a thread to send a response" in capfd.readouterr().err


class Idle:
    """A connection that may be closed. Takes the place of `Connection` in the test below."""

    def __init__(self, since: float) -> None:
        self.since = since

    def eviction_rank(self, now: float) -> tuple[int, float]:
        return 1, self.since

    def evict(self) -> None:
        pass


@pytest.mark.parametrize(
    ("soft", "most", "limited_by"),
    [(1024, 20, "max_connections"), (256, 1000, "the descriptors that are left are kept for the application")],
)
def test_the_log_names_the_limit_for_which_a_connection_is_closed(
    soft: int, most: int, limited_by: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "Connection", Idle)
    monkeypatch.setattr(module, "_lowest_free", lambda: 200)
    full = limit(monkeypatch, soft, most)
    full._context.connections.update(map(Idle, range(20)))  # type: ignore[call-overload]
    full.count_accepted(200)
    assert full.is_reached(0) is (most == 20)
    if most == 20:
        assert full.make_room(0)
    full._context.shortages.close()
    assert f"idle connections are closed to make room for new ones: 20 are open ({limited_by})" in capfd.readouterr().err


def test_a_search_keeps_no_connection_in_memory_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a flood of new connections, those that were found idle end, and nothing may keep them in memory."""
    monkeypatch.setattr(module, "Connection", Idle)
    monkeypatch.setattr(module, "_PAUSE", 0.0)
    monkeypatch.setattr(module, "_SEARCH_PAUSE_FACTOR", 0)
    full = limit(monkeypatch, 1024, 3)
    clients = [Idle(since) for since in (2.0, 1.0, 3.0)]
    full._context.connections.update(clients)  # type: ignore[attr-defined]
    assert full.evict_one()
    found = list(map(weakref.ref, clients))
    full._context.connections.clear()  # type: ignore[attr-defined]
    clients.clear()
    assert any(ref() is not None for ref in found)
    full.tick()
    assert [ref() for ref in found] == [None] * 3
