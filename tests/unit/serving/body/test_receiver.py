"""starman.serving.body.receiver, by real sockets: what is read is what was sent, and all memory is given back."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from starman.serving import context as shared_module
from starman.wsgi.body import SPOOL_BATCH_BYTES
from starman.wsgi.body_memory import FREE_BYTES, BodyMemory
from tests.functional.support.harness import wait_until
from tests.functional.support.wire import Client, encode_chunks, encode_request
from tests.unit.serving.running import SECONDS, Running, hasten, kind_of_service, reset

Start = Callable[..., Any]
MEBIBYTE = 1 << 20
LARGE = os.urandom(3 * MEBIBYTE)
CHUNKED = ("Transfer-Encoding", "chunked")


@pytest.fixture(autouse=True)
def short_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    hasten(monkeypatch)


@pytest.fixture(params=["uvloop", "unix", "asyncio", "inline"])
def options(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    return kind_of_service(request.param, tmp_path)


@pytest.fixture
def memories(monkeypatch: pytest.MonkeyPatch) -> list[BodyMemory]:
    """The body memory of each service that is started."""
    made: list[BodyMemory] = []

    def make(each_bytes: int, total_bytes: int) -> BodyMemory:
        made.append(BodyMemory(each_bytes, total_bytes))
        return made[-1]

    monkeypatch.setattr(shared_module, "BodyMemory", make)
    return made


def echo(environ: dict[str, Any], start_response: Start) -> list[bytes]:
    start_response("200 OK", [])
    return [environ["wsgi.input"].read()]


def left(running: Running, memory: BodyMemory) -> int:
    """How much memory is left, as the loop sees it."""
    found: list[int] = []
    running.call(lambda: found.append(memory.available))
    assert wait_until(lambda: bool(found))
    return found[0]


BOUNDS = (FREE_BYTES, 65_536, SPOOL_BATCH_BYTES, MEBIBYTE, MEBIBYTE + SPOOL_BATCH_BYTES)


@pytest.mark.parametrize("body_memory", ["64M", "300K", 0])
def test_bodies_of_lengths_around_every_bound(body_memory: object, options: dict[str, Any], memories: list[BodyMemory]) -> None:
    with Running(echo, body_memory=body_memory, **options) as running, running.client() as client:
        total = memories[0].available
        for size in (bound + more for bound in BOUNDS for more in (-1, 0, 1)):
            assert client.request("POST", "/", body=LARGE[:size]).body == LARGE[:size]
        blocks = [LARGE[:100_000], LARGE[:1], LARGE[:MEBIBYTE], LARGE[:5]]
        client.send(encode_request("POST", "/", [CHUNKED]) + encode_chunks(blocks))
        assert client.read().body == b"".join(blocks)
        assert wait_until(lambda: left(running, memories[0]) == total)


def test_pipelined_bodies_in_pieces_of_any_size(options: dict[str, Any], memories: list[BodyMemory]) -> None:
    sizes = [200_000, 10, 1_500_000, 0, 700_000, 66_000]
    wire = b"".join(encode_request("POST", "/", body=LARGE[:size]) + encode_request("HEAD", "/") for size in sizes)
    with Running(echo, **options) as running, running.client() as client:
        total = memories[0].available

        def send() -> None:
            at, piece = 0, 1
            while at < len(wire):
                client.send(wire[at : at + piece])
                at += piece
                piece = piece * 7 % 300_007

        sender = threading.Thread(target=send)
        sender.start()
        responses = client.read_many(["POST", "HEAD"] * len(sizes))
        sender.join()
        assert [response.body for response in responses[::2]] == [LARGE[:size] for size in sizes]
        assert wait_until(lambda: left(running, memories[0]) == total)


def begin(client: Client, size: int = 800_000, *fields: tuple[str, str]) -> None:
    """Send a head, and a body without its last bytes."""
    client.send(encode_request("POST", "/", [("Content-Length", str(size + 10)), *fields]) + LARGE[:size])


@pytest.mark.parametrize("body_memory", ["64M", "300K"])
@pytest.mark.parametrize("end", ["reset", "half-close", "too slow", "drain", "cut"])
def test_what_ends_a_body_on_its_way_gives_its_memory_back(
    end: str, body_memory: str, options: dict[str, Any], memories: list[BodyMemory]
) -> None:
    settings = {"header_timeout": 0.5} if end == "too slow" else {"graceful_timeout": 0.2} if end == "drain" else {}
    with Running(echo, body_memory=body_memory, **settings, **options) as running:
        total = memories[0].available
        client = running.client()
        begin(client)
        assert wait_until(lambda: left(running, memories[0]) < total)
        if end == "reset":
            reset(client)
        elif end == "half-close":
            client.socket.shutdown(socket.SHUT_WR)
            assert client.read().status == 400
        elif end == "too slow":
            assert client.read().status == 408
            client.send(LARGE[:10])  # these bytes arrive, and are dropped
            assert client.at_end()
        elif end == "drain":
            running.drain()
            running.join()
        else:
            running.call(running.service.abort)
            running.join()
        if running.ended:
            assert wait_until(lambda: memories[0].available == total)
        else:
            assert wait_until(lambda: left(running, memories[0]) == total)


def test_what_ends_a_request_gives_its_memory_back(options: dict[str, Any], memories: list[BodyMemory]) -> None:
    kept: list[Any] = []

    def application(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        path = environ["PATH_INFO"]
        if path == "/raises":
            raise ValueError
        if path == "/closes":
            environ["wsgi.input"].close()
        if path == "/keeps":
            kept.append(environ["wsgi.input"])
        start_response("200 OK", [])
        return [b"%d" % left_then(memories[0])]

    def left_then(memory: BodyMemory) -> int:
        return memory._available + sum(memory._released)

    with Running(application, max_body="2M", **options) as running:
        total = memories[0].available
        for path, status in (("/", 200), ("/raises", 500), ("/closes", 200), ("/keeps", 200)):
            response = running.client().request("POST", path, body=LARGE[:500_000])
            assert response.status == status
            if status == 200:
                assert int(response.body) == total - 500_000 + FREE_BYTES
            assert wait_until(lambda: left(running, memories[0]) == total)
        assert kept[0].read() == LARGE[:500_000]
        client = running.client()
        client.send(encode_request("POST", "/", [("Content-Length", "3000000")]))
        assert client.read().status == 413
        client = running.client()
        client.send(encode_request("POST", "/", [CHUNKED]) + b"%x\r\n" % 500_000 + LARGE[:500_000] + b"\r\n")
        assert wait_until(lambda: left(running, memories[0]) < total)
        client.send(b"%x\r\n" % 3_000_000)
        assert client.read().status == 413
        assert wait_until(lambda: left(running, memories[0]) == total)


def test_a_client_that_is_gone_before_its_turn(memories: list[BodyMemory]) -> None:
    entered, opened = threading.Event(), threading.Event()

    def application(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        entered.set()
        assert opened.wait(SECONDS)
        start_response("200 OK", [])
        return [b""]

    with Running(application, threads=1) as running:
        total = memories[0].available
        first, second = running.client(), running.client()
        first.send(encode_request("GET", "/"))
        assert entered.wait(SECONDS)
        second.send(encode_request("POST", "/", body=LARGE[:500_000]) + encode_request("POST", "/", body=LARGE[:400_000]))
        assert wait_until(lambda: left(running, memories[0]) == total - 900_000 + 2 * FREE_BYTES)
        reset(second)
        opened.set()
        assert first.read().status == 200
        assert wait_until(lambda: left(running, memories[0]) == total)


def test_others_have_their_turn_between_large_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that sends faster than the body is read does not monopolise the loop."""
    turns = 0

    def another_turn() -> None:
        nonlocal turns
        turns += 1
        running.loop.call_soon(another_turn)

    with Running(echo, body_buffer="8M", body_memory="64M") as running, running.client() as client:
        running.call(another_turn)
        for _ in range(3):
            before = turns
            assert client.request("POST", "/", body=LARGE * 2).body == LARGE * 2
            assert turns > before + 1
