"""starman.serving.inline: the application in the loop's own thread, where nobody may wait for anybody."""

from __future__ import annotations

import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starman.serving import inline as inline_module
from starman.serving.inline import Inline
from tests.functional.wire import encode_request
from tests.unit.serving.fakes import FakeHead, FakeLoop
from tests.unit.serving.running import SECONDS, Running, hasten, reset

Start = Callable[..., Any]
BLOCK = b"x" * 65_536


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    hasten(monkeypatch)


class Application:
    """/stream/N yields N blocks, /for-ever no end of them, /write writes 20; all else is its path."""

    def __init__(self) -> None:
        self.threads: set[int] = set()
        self.order: list[str] = []
        self.environ: dict[str, Any] = {}
        self.made = 0
        self.closed = threading.Semaphore(0)

    def __call__(self, environ: dict[str, Any], start_response: Start) -> Any:
        self.threads.add(threading.get_ident())
        self.environ = environ
        path = environ["PATH_INFO"]
        self.order.append(path)
        write = start_response("200 OK", [])
        if path.startswith("/stream/"):
            return self.stream(int(path.removeprefix("/stream/")))
        if path == "/for-ever":
            return self.stream(1 << 40)
        if path == "/write":
            for _ in range(20):
                write(BLOCK)
            return []
        return [path.encode()]

    def stream(self, count: int) -> Iterator[bytes]:
        try:
            for _ in range(count):
                self.made += 1
                yield BLOCK
        finally:
            self.closed.release()


def test_the_application_runs_in_the_loop_and_nowhere_else() -> None:
    application = Application()
    with Running(application, in_loop=True) as running, running.client() as client:
        assert client.get("/").body == b"/"
        assert application.threads == {running._thread.ident}
        assert application.environ["wsgi.multithread"] is False
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("starman-")]


def test_1000_pipelined_requests_do_not_recurse() -> None:
    with Running(Application(), in_loop=True) as running, running.client() as client:
        sender = threading.Thread(target=client.send, args=(b"".join(encode_request("GET", f"/{n}") for n in range(1000)),))
        sender.start()
        assert [client.read().body for _ in range(1000)] == [b"/%d" % n for n in range(1000)]
        sender.join()


def test_a_connection_has_one_request_before_others_have_theirs() -> None:
    """The first request of the long row holds the loop until all of the second client's is there."""
    application, entered, opened = Application(), threading.Event(), threading.Event()

    def gate(environ: dict[str, Any], start_response: Start) -> Any:
        if environ["PATH_INFO"] == "/0":
            entered.set()
            assert opened.wait(SECONDS)
        return application(environ, start_response)

    with Running(gate, in_loop=True) as running, running.client() as greedy, running.client() as other:
        other.get("/before")
        greedy.send(b"".join(encode_request("GET", f"/{n}") for n in range(30)))
        assert entered.wait(SECONDS)
        other.send(encode_request("GET", "/other"))
        opened.set()
        assert other.read().body == b"/other"
        for _ in range(30):
            greedy.read()
        assert application.order.index("/other") <= application.order.index("/3")


def test_slow_readers_of_endless_streams_hold_nobody_up() -> None:
    """20 of them, each of which gets more whenever it reads, while others are served, in memory that does not grow."""
    application = Application()
    with Running(application, in_loop=True) as running:
        readers = [running.client(4096) for _ in range(20)]
        for reader in readers:
            reader.send(encode_request("GET", "/for-ever"))
        with running.client() as client:
            for reader in readers:
                assert client.get("/quick").body == b"/quick"
                assert len(_read(reader.socket, 100_000)) == 100_000
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            for _ in range(3):
                for reader in readers:
                    _read(reader.socket, 100_000)
                assert client.get("/quick").body == b"/quick"
            assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000
        for reader in readers:
            reset(reader)
        for _ in readers:
            assert application.closed.acquire(timeout=SECONDS)


def _read(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        block = sock.recv(min(65_536, count - len(data)))
        assert block
        data += block
    return data


def test_a_stream_whose_reader_is_fast_lets_others_go_between() -> None:
    """Its socket always takes all, so only time ends its turn."""

    def application(environ: dict[str, Any], start_response: Start) -> Any:
        start_response("200 OK", [])
        return (b"" for _ in iter(ended.is_set, True)) if environ["PATH_INFO"] == "/spin" else [b"quick"]

    ended = threading.Event()
    with Running(application, in_loop=True) as running, running.client() as spinning, running.client() as client:
        spinning.send(encode_request("GET", "/spin"))
        for _ in range(20):
            assert client.get("/").body == b"quick"
        ended.set()
        assert spinning.read().body == b""


def test_a_stream_is_made_as_it_is_read_and_arrives_whole() -> None:
    application = Application()
    with Running(application, in_loop=True, response_buffer=0, response_spool=0) as running, running.client(4096) as client:
        client.send(encode_request("GET", "/stream/300"))
        assert client.socket.recv(1)
        running.client().get("/")
        assert application.made < 300
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        rest = _read(client.socket, 300 * len(BLOCK))
        assert rest.count(b"x") > 299 * len(BLOCK)
        assert application.closed.acquire(timeout=SECONDS)


def test_what_is_written_is_kept_for_a_slow_reader() -> None:
    with Running(Application(), in_loop=True, response_buffer=1000) as running, running.client(4096) as slow:
        slow.send(encode_request("GET", "/write"))
        assert running.client().get("/").body == b"/"
        slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        assert slow.read().body == BLOCK * 20


def test_who_leaves_in_mid_stream_ends_it() -> None:
    application = Application()
    with Running(application, in_loop=True) as running:
        client = running.client(4096)
        client.send(encode_request("GET", "/for-ever"))
        assert client.socket.recv(1)
        reset(client)
        assert application.closed.acquire(timeout=SECONDS)


def test_a_cut_service_closes_what_is_still_made() -> None:
    application = Application()
    with Running(application, in_loop=True) as running:
        client = running.client(4096)
        client.send(encode_request("GET", "/for-ever"))
        assert client.socket.recv(1)
        running.call(running.service.cut)
        running.join()
        assert application.closed.acquire(blocking=False)


def test_a_drain_finishes_a_stream_that_is_read() -> None:
    application = Application()
    with Running(application, in_loop=True, graceful_timeout=SECONDS) as running, running.client(4096) as client:
        client.send(encode_request("GET", "/stream/100"))
        assert client.socket.recv(1)
        running.drain()
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        assert _read(client.socket, 100 * len(BLOCK)).count(b"x") > 99 * len(BLOCK)


def test_an_error_in_mid_stream_is_a_visible_cut() -> None:
    def application(environ: dict[str, Any], start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield BLOCK * 50
        yield BLOCK
        raise RuntimeError("on purpose")

    with Running(application, in_loop=True) as running, running.client(4096) as client:
        client.send(encode_request("GET", "/"))
        data = b""
        while block := client.socket.recv(65_536):
            data += block
        assert data.count(b"x") >= 51 * len(BLOCK)
        assert not data.endswith(b"0\r\n\r\n")


def test_no_connection_is_given_away() -> None:
    """An application that speaks another protocol would hold the loop, and wait for it."""
    application = Application()
    with Running(application, in_loop=True) as running, running.client() as client:
        client.send(encode_request("GET", "/", [("Connection", "Upgrade"), ("Upgrade", "websocket")]))
        assert client.read().body == b"/"
        assert "gunicorn.socket" not in application.environ
        assert client.get("/next").body == b"/next"


# The queue, without sockets


class Loop(FakeLoop):
    call_soon = FakeLoop.call
    call_soon_threadsafe = FakeLoop.call


class FakeExchange:
    """One of `count` pieces or pipelined requests of the client `name`."""

    head = FakeHead()
    queued_at = 0.0

    def __init__(self, name: int, count: int, ran: list[int]) -> None:
        self.name, self.count, self.ran = name, count, ran

    def run(self) -> FakeExchange | None:
        self.ran.append(self.name)
        self.count -= 1
        return self if self.count else None


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8))
def test_everybody_has_one_turn_in_each_round(counts: list[int]) -> None:
    loop, ran = Loop(), list[int]()
    pool = Inline(loop)  # type: ignore[arg-type]
    pool._loop = loop  # type: ignore[assignment]
    for name, count in enumerate(counts):
        pool.put(FakeExchange(name, count, ran))  # type: ignore[arg-type]
    loop.run_all()
    expected = [name for turn in range(max(counts)) for name, count in enumerate(counts) if count > turn]
    assert ran == expected
    assert not pool.busy


def test_a_long_turn_ends_and_says_that_requests_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(1000))
    monkeypatch.setattr(inline_module, "time", SimpleNamespace(monotonic=lambda: float(next(now))))
    loop, ran, backlogs = Loop(), list[int](), list[int]()
    pool = Inline(loop)  # type: ignore[arg-type]
    pool.on_backlog = lambda: backlogs.append(len(ran))
    for name in range(3):
        pool.put(FakeExchange(name, 1, ran))  # type: ignore[arg-type]
    assert loop.run_one()
    assert ran == [0]
    assert backlogs == [1]
    assert pool.longest_wait(time.monotonic()) > 0
    loop.run_all()
    assert ran == [0, 1, 2]
