"""A connection with input that is much work yields to other connections after each time slice.

Here a time slice is over at once: after every head, and after every piece of a body.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from starman.serving.body.upload import Upload
from starman.serving.connections import connection as connection_module
from starman.serving.connections import progress as progress_module
from starman.serving.connections.connection import Connection
from tests.functional.support.wire import encode_request
from tests.unit.serving.running import Running, hasten, kind_of_service

Start = Callable[..., Any]

HEAD = b"POST /%d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
SMALL_CHUNKS = b"1\r\nx\r\n" * 20_000
END = b"0\r\n\r\n"


@pytest.fixture(autouse=True)
def short_time_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    hasten(monkeypatch)
    monkeypatch.setattr(connection_module, "TIME_SLICE", -1.0)


@pytest.fixture(params=["uvloop", "unix", "asyncio", "stream"])
def options(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """The loops and kinds of sockets for which everything has to work, and bodies that are read as they arrive."""
    return kind_of_service(request.param, tmp_path)


def length(environ: dict[str, Any], start_response: Start) -> list[bytes]:
    """Answers with the target and the length of the body."""
    body = environ["wsgi.input"].read()
    start_response("200 OK", [])
    return [b"%s|%d" % (environ["REQUEST_URI"].encode(), len(body))]


def count_by_round(running: Running, counts: list[int]) -> None:
    """Append a new count in each round of the loop."""

    def another_round() -> None:
        counts.append(0)
        running.loop.call_soon(another_round)

    running.call(another_round)


def test_others_are_served_after_each_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces: list[int] = [0]
    take = Upload.add_data

    def count(self: Upload, data: bytes) -> None:
        pieces[-1] += 1
        take(self, data)

    monkeypatch.setattr(Upload, "add_data", count)
    with Running(length) as running, running.client() as client:
        count_by_round(running, pieces)
        client.send(HEAD % 0 + SMALL_CHUNKS + END)
        assert client.read().body == b"/0|20000"
    assert sum(pieces) >= 20_000 // 256
    assert max(pieces) == 1


def test_others_are_served_between_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first two heads of a small read are parsed together: the clock is not read before the second."""
    heads: list[int] = [0]
    offer = Connection.queue_request

    def count(self: Connection, *arguments: Any) -> None:
        heads[-1] += 1
        offer(self, *arguments)

    monkeypatch.setattr(Connection, "queue_request", count)
    with Running(length) as running, running.client() as client:
        count_by_round(running, heads)
        client.send(b"".join(encode_request("GET", f"/{n}") for n in range(30)))
        assert [response.body for response in client.read_many(["GET"] * 30)] == [b"/%d|0" % n for n in range(30)]
        assert max(heads) == 2
        heads[:] = [0]
        fields = [(f"X-{n}", "x" * 8000) for n in range(4)]
        client.send(b"".join(encode_request("GET", f"/{n}", fields) for n in range(30)))
        assert [response.body for response in client.read_many(["GET"] * 30)] == [b"/%d|0" % n for n in range(30)]
        assert max(heads) <= 2


def test_the_clock_is_read_within_a_read_of_small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    take = Upload.add_data

    def note(self: Upload, data: bytes) -> None:
        sizes.append(len(data))
        take(self, data)

    monkeypatch.setattr(Upload, "add_data", note)
    with Running(length) as running, running.client() as client:
        client.send(HEAD % 0 + SMALL_CHUNKS + END)
        assert client.read().body == b"/0|20000"
    assert max(sizes) <= 256


def test_bodies_arrive_whole_and_in_order(options: dict[str, Any]) -> None:
    with Running(length, **options) as running, running.client() as client:
        for _ in range(2):
            client.send(b"".join(HEAD % n + SMALL_CHUNKS[: n * 6000] + END + encode_request("GET", "/get") for n in range(5)))
            bodies = [response.body for response in client.read_many(["POST", "GET"] * 5)]
            assert bodies == [body for n in range(5) for body in (b"/%d|%d" % (n, n * 1000), b"/get|0")]
        large = os.urandom(3 << 20)
        assert client.request("POST", "/large", body=large).body == b"/large|%d" % len(large)


def test_a_half_close_waits_for_what_is_still_to_be_read(options: dict[str, Any]) -> None:
    with Running(length, **options) as running, running.client() as client:
        client.send(HEAD % 1 + SMALL_CHUNKS + END + HEAD % 2 + SMALL_CHUNKS + END)
        client.socket.shutdown(socket.SHUT_WR)
        assert [response.body for response in client.read_many(["POST", "POST"])] == [b"/1|20000", b"/2|20000"]
        assert client.at_end()


def test_what_is_wrong_later_in_the_body_is_refused(options: dict[str, Any]) -> None:
    with Running(length, **options) as running, running.client() as client:
        client.send(HEAD % 1 + SMALL_CHUNKS + b"nonsense\r\n")
        assert client.read().status == 400
        assert client.at_end()


def test_a_body_that_does_not_go_on_is_a_408(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "RATE_GRACE", 0.2)
    with Running(length, min_body_rate=100_000_000, **options) as running, running.client() as client:
        client.send(HEAD % 1 + SMALL_CHUNKS)
        assert client.read().status == 408
        assert client.at_end()


def test_a_client_that_leaves_in_its_time_slice(options: dict[str, Any]) -> None:
    with Running(length, **options) as running:
        for _ in range(5):
            client = running.client()
            client.send(HEAD % 1 + SMALL_CHUNKS)
            client.close()
        with running.client() as client:
            assert client.get("/next").body == b"/next|0"
