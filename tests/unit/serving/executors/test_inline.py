"""starman.serving.executors.inline: the application in the loop's own thread, where nothing may block."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import os
import socket
import sys
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starman.serving import service as service_module
from starman.serving.connections import progress as progress_module
from starman.serving.executors import inline as inline_module
from starman.serving.executors.inline import Inline
from tests.functional.support.wire import Client, TruncatedError, encode_request
from tests.unit.serving.fakes import FakeHead, FakeLoop
from tests.unit.serving.running import SECONDS, Running, reset

pytestmark = pytest.mark.usefixtures("fast")

Start = Callable[..., Any]
BLOCK = b"x" * 65_536

# What of a stream may be made and not yet read: a block, and what the kernel holds for a socket of either side that
# was given little room, which it takes as half of what it may use.
SMALL = 16_384
MOST_AHEAD = 6 * len(BLOCK)


class Application:
    """/stream/N yields N different blocks, /for-ever no end of them, /write writes 20; all else is its path. made: by
    target."""

    def __init__(self) -> None:
        self.threads: set[int] = set()
        self.order: list[str] = []
        self.environ: dict[str, Any] = {}
        self.made: Counter[str] = Counter()
        self.closed = threading.Semaphore(0)

    def __call__(self, environ: dict[str, Any], start_response: Start) -> Any:
        self.threads.add(threading.get_ident())
        self.environ = environ
        path = environ["PATH_INFO"]
        self.order.append(path)
        write = start_response("200 OK", [])
        if path.startswith("/stream/"):
            return self.stream(environ["RAW_URI"], int(path.removeprefix("/stream/")))
        if path == "/for-ever":
            return self.stream(environ["RAW_URI"], 1 << 40)
        if path == "/write":
            for _ in range(20):
                write(BLOCK)
            return []
        return [path.encode()]

    def stream(self, target: str, count: int) -> Iterator[bytes]:
        try:
            for number in range(count):
                self.made[target] += 1
                yield block(number)
        finally:
            self.closed.release()


def block(number: int) -> bytes:
    return b"%08d" % number * (len(BLOCK) // 8)


def stream(count: int) -> bytes:
    """What /stream/N is."""
    return b"".join(map(block, range(count)))


@contextmanager
def frugal(application: Callable[..., Any], **settings: Any) -> Iterator[Running]:
    """A service, without threads unless `settings` say otherwise, with small buffers of its sockets."""
    with Running(application, **({"in_loop": True} | settings)) as running:
        running._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
        yield running


def test_the_application_runs_in_the_loop_and_nowhere_else() -> None:
    application = Application()
    others = threading.enumerate()  # those of other tests, which may be about to end
    with Running(application, in_loop=True) as running, running.client() as client:
        assert client.get("/").body == b"/"
        assert application.threads == {running._thread.ident}
        assert application.environ["wsgi.multithread"] is False
        ours = [thread for thread in threading.enumerate() if thread not in others]
        assert not [thread for thread in ours if thread.name.startswith("starman-")]


def test_the_application_does_not_see_the_loop_it_runs_in() -> None:
    """Else Django refuses its database, and a coroutine could not be run to its end."""

    async def coroutine() -> bytes:
        await asyncio.sleep(0)
        return b"whole"

    def application(environ: dict[str, Any], start_response: Start) -> Iterator[bytes]:
        with pytest.raises(RuntimeError, match="no running event loop"):
            asyncio.get_running_loop()
        start_response("200 OK", [])
        yield asyncio.run(coroutine())

    with Running(application, in_loop=True) as running, running.client() as client:
        for _ in range(3):
            assert client.get("/").body == b"whole"
        assert _running_loop(running) is running.loop


def _running_loop(running: Running) -> asyncio.AbstractEventLoop:
    async def ask() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    return asyncio.run_coroutine_threadsafe(ask(), running.loop).result(SECONDS)


def test_a_stream_keeps_its_context_and_no_other_request_sees_it() -> None:
    """At its end, Flask's stream_with_context takes back what it has set at the beginning: an error in another
    context."""
    who = ContextVar("who", default="nobody")
    seen: list[str] = []

    def application(environ: dict[str, Any], start_response: Start) -> Iterator[bytes]:
        seen.append(who.get())
        path = environ["PATH_INFO"]
        token = who.set(path)
        start_response("200 OK", [])
        for _ in range(20 if path.startswith("/stream") else 1):
            yield BLOCK
            assert who.get() == path
        if path.startswith("/stream"):
            who.reset(token)
            assert who.get() == "nobody"

    with frugal(application) as running, running.client() as other:
        slow = [running.client(SMALL) for _ in range(2)]
        for number, client in enumerate(slow):
            client.send(encode_request("GET", f"/stream/{number}") * 2)
        for _ in range(10):
            assert other.get("/other").body == BLOCK
        for client in slow:
            hurry(client)
            assert [client.read().body for _ in range(2)] == [BLOCK * 20] * 2
        assert set(seen) == {"nobody"}


def hurry(client: Client) -> None:
    """Let a slow reader take all that comes."""
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)


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


def test_slow_readers_of_endless_streams_hold_up_no_other() -> None:
    """20 of them, each of which gets more whenever it reads, while others are served, and nothing is kept for them."""
    application = Application()
    with frugal(application, response_buffer=0, response_spool=10 * len(BLOCK)) as running, running.client() as other:
        readers = [running.client(SMALL) for _ in range(20)]
        for number, reader in enumerate(readers):
            reader.send(encode_request("GET", f"/for-ever?{number}"))
        for turn in range(1, 6):
            for number, reader in enumerate(readers):
                assert other.get("/quick").body == b"/quick"
                _read(reader.socket, 5 * len(BLOCK))
                made = application.made[f"/for-ever?{number}"] * len(BLOCK)
                assert made <= turn * 5 * len(BLOCK) + MOST_AHEAD
        for reader in readers:
            reset(reader)
        for _ in readers:
            assert application.closed.acquire(timeout=SECONDS)


def _read(sock: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        received = sock.recv(min(65_536, count - len(data)))
        assert received
        data += received
    return bytes(data)


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


def test_other_threads_may_interrupt_a_piece_of_a_stream() -> None:
    """Else that of the client in the test before this, or the one that waits for connections, waits for seconds."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.25)
    try:
        with Running(Application(), in_loop=True) as running:
            assert sys.getswitchinterval() < inline_module._LONGEST_PIECE
            running.call(running.service.drain)
            running.join()
        assert sys.getswitchinterval() == 0.25
    finally:
        sys.setswitchinterval(before)


def test_a_stream_is_made_as_it_is_read_and_arrives_whole() -> None:
    application = Application()
    with frugal(application, response_buffer=0, response_spool=0) as running, running.client(SMALL) as client:
        client.send(encode_request("GET", "/stream/60"))
        assert client.socket.recv(1, socket.MSG_PEEK)
        running.client().get("/")
        assert application.made["/stream/60"] * len(BLOCK) <= MOST_AHEAD
        assert client.read().body == stream(60)
        assert application.closed.acquire(timeout=SECONDS)
        assert client.get("/next").body == b"/next"


def test_what_is_written_is_kept_for_a_slow_reader() -> None:
    with Running(Application(), in_loop=True, response_buffer=1000) as running, running.client(4096) as slow:
        slow.send(encode_request("GET", "/write"))
        assert running.client().get("/").body == b"/"
        hurry(slow)
        assert slow.read().body == BLOCK * 20


def test_a_client_that_leaves_in_mid_stream_ends_it() -> None:
    application = Application()
    with Running(application, in_loop=True) as running:
        client = running.client(4096)
        client.send(encode_request("GET", "/for-ever"))
        assert client.socket.recv(1)
        reset(client)
        assert application.closed.acquire(timeout=SECONDS)


def test_a_client_that_leaves_while_nothing_is_sent_ends_it_too() -> None:
    """No send fails: the loop finds it by a check of the connection."""
    closed = threading.Event()

    def application(environ: dict[str, Any], start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", [])
        try:
            yield b"begun"
            while True:
                yield b""
        finally:
            closed.set()

    with Running(application, in_loop=True) as running:
        client = running.client()
        client.send(encode_request("GET", "/"))
        assert client.read_head().status == 200
        reset(client)
        assert closed.wait(SECONDS)


def test_what_waits_when_the_service_is_cut_is_not_run() -> None:
    """Each takes a turn of its own, so the others wait, and their clients go."""
    ran: list[str] = []
    entered, opened = threading.Event(), threading.Event()

    def application(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        ran.append(environ["PATH_INFO"])
        if len(ran) == 1:
            entered.set()
            assert opened.wait(SECONDS)
        elif len(ran) == 3:
            running.service.abort()
        time.sleep(0.006)
        start_response("200 OK", [])
        return []

    with Running(application, in_loop=True) as running:
        clients = [running.client() for _ in range(60)]
        clients[0].send(encode_request("GET", "/first"))
        assert entered.wait(SECONDS)
        for client in clients[1:]:
            client.send(encode_request("GET", "/"))
        opened.set()
        running.join()
        assert len(ran) < 40


def test_a_cut_service_closes_what_is_still_made() -> None:
    application = Application()
    with Running(application, in_loop=True) as running:
        client = running.client(4096)
        client.send(encode_request("GET", "/for-ever"))
        assert client.socket.recv(1)
        running.call(running.service.abort)
        running.join()
        assert application.closed.acquire(blocking=False)


def test_a_drain_finishes_a_stream_that_is_read() -> None:
    application = Application()
    with Running(application, in_loop=True, graceful_timeout=SECONDS) as running, running.client(4096) as client:
        client.send(encode_request("GET", "/stream/60"))
        assert client.socket.recv(1, socket.MSG_PEEK)
        running.drain()
        hurry(client)
        assert client.read().body == stream(60)
        running.join()


def test_an_error_in_mid_stream_is_a_visible_cut() -> None:
    def application(environ: dict[str, Any], start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield BLOCK * 50
        yield BLOCK
        raise RuntimeError("on purpose")

    with Running(application, in_loop=True) as running, running.client(4096) as client:
        client.send(encode_request("GET", "/"))
        data = b""
        while received := client.socket.recv(65_536):
            data += received
        assert data.count(b"x") >= 51 * len(BLOCK)
        assert not data.endswith(b"0\r\n\r\n")


def test_a_client_that_reads_too_slowly_is_cut_and_the_iterable_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "RATE_GRACE", 0.1)
    application = Application()
    with frugal(application, min_send_rate=1 << 30) as running, running.client(SMALL) as client:
        client.send(encode_request("GET", "/for-ever"))
        assert application.closed.acquire(timeout=SECONDS)
        with pytest.raises((TruncatedError, ConnectionResetError)):
            client.read()
        assert running.client().get("/next").body == b"/next"


def test_no_connection_is_given_away() -> None:
    """An application that speaks another protocol would hold the loop, and wait for it."""
    application = Application()
    with Running(application, in_loop=True) as running, running.client() as client:
        client.send(encode_request("GET", "/", [("Connection", "Upgrade"), ("Upgrade", "websocket")]))
        assert client.read().body == b"/"
        assert "gunicorn.socket" not in application.environ
        assert client.get("/next").body == b"/next"


class Monitor:
    """Notes the line of the one that runs, and what the loop tells of itself."""

    def __init__(self) -> None:
        self.lines: list[tuple[float, float, bytes]] = []
        self.busy = memoryview(bytearray(9))
        self.finished: list[int] = []
        self.heartbeat = self.siblings = self.harakiri = self.slow_requests = self
        self.metrics = None

    def request_recorder(self, thread: int) -> tuple[Callable[[float, bytes, bytes], object], memoryview]:
        assert thread == 0
        return self._note, self.busy

    def _note(self, since: float, method: bytes, target: bytes) -> None:
        self.busy[0] = 1
        self.lines.append((time.monotonic(), since, method + b" " + target))

    def tick(self, finished: int, connections: int, busy: int) -> None:
        assert self.busy[0] == 0
        self.finished.append(finished)

    def write_in_flight(self, requests: int) -> None:
        pass

    def publish_load(self, connections: int, *, crowded: bool) -> None:
        pass

    def is_alone(self) -> bool:
        return False

    def send_due(self, now: float) -> None:
        pass

    def fewest_connections(self) -> int | None:
        return None

    def request_end(self) -> None:
        pass


def test_what_runs_is_noted_piece_by_piece_and_counted_once() -> None:
    monitor = Monitor()
    with frugal(Application(), monitor=monitor) as running, running.client(SMALL) as client:
        for _ in range(2):
            client.send(encode_request("GET", "/stream/60"))
            assert client.read().body == stream(60)
        del monitor.finished[:]
        while not monitor.finished:
            time.sleep(0.01)
        assert monitor.finished[0] == 2
    assert len(monitor.lines) > 10
    assert {line for _, _, line in monitor.lines} == {b"GET /stream/60"}
    # Each has waited since the one before it, at the longest.
    assert all(since >= before for (before, _, _), (_, since, _) in itertools.pairwise(monitor.lines))


def test_a_log_without_a_reader_does_not_stop_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Nor does it find that a thread writes already.
    monkeypatch.setattr(service_module, "_TICK", 60.0)
    path = tmp_path / "log"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    try:
        with Running(Application(), in_loop=True, access_log=str(path)) as running, running.client() as client:
            for _ in range(1500):
                assert client.get("/" + "x" * 100).status == 200
            running.call(running.service.drain)
            while not running.ended:
                with contextlib.suppress(BlockingIOError):
                    os.read(reader, 65_536)
                time.sleep(0.001)
    finally:
        os.close(reader)


def test_a_response_that_pauses_does_not_wait_in_the_queue(tmp_path: Path) -> None:
    path = tmp_path / "log"

    def application(environ: dict[str, Any], start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", [])
        for _ in range(3):
            time.sleep(0.01)
            yield b"block"

    line_format = "%(s)s %(b)s %(queue_time)s %(application_time)s"
    with Running(application, in_loop=True, access_log=str(path), access_log_format=line_format) as running:
        assert running.client().get("/").body == b"block" * 3
    status, size, queue_time, application_time = path.read_text().split()
    assert (status, size) == ("200", "15")
    assert float(application_time) >= 0.03
    assert float(queue_time) < float(application_time)


def test_what_a_request_has_is_free_at_its_end() -> None:
    """Without the garbage collector, which would have to find a circle."""

    class Thing:
        pass

    def application(environ: dict[str, Any], start_response: Start) -> Iterator[bytes]:
        environ["thing"] = thing = Thing()
        things.append(weakref.ref(thing))
        start_response("200 OK", [])
        return map(block, range(20))

    things: list[weakref.ref[Thing]] = []
    gc.disable()
    try:
        with frugal(application) as running, running.client(SMALL) as client:
            client.send(encode_request("GET", "/"))
            assert client.read().body == stream(20)
            assert running.client().get("/").status == 200  # behind which the first is over
            assert things[0]() is None
    finally:
        gc.enable()


# The queue, without sockets


class FakeExchange:
    """One of `count` pieces or pipelined requests of the client `name`."""

    head = FakeHead()
    queued_at = 0.0
    status_code = 200
    is_counted = True

    def __init__(self, name: int, count: int, ran: list[int]) -> None:
        self.name, self.count, self.ran = name, count, ran

    def run(self) -> FakeExchange | None:
        self.ran.append(self.name)
        self.count -= 1
        return self if self.count else None


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8))
def test_each_exchange_has_one_turn_in_each_round(counts: list[int]) -> None:
    loop, ran = FakeLoop(), list[int]()
    pool = Inline(loop)  # type: ignore[arg-type]
    pool._loop = loop  # type: ignore[assignment]
    for name, count in enumerate(counts):
        pool.put(FakeExchange(name, count, ran))  # type: ignore[arg-type]
    loop.run_all()
    expected = [name for turn in range(max(counts)) for name, count in enumerate(counts) if count > turn]
    assert ran == expected
    assert not pool.busy


def test_hazard_9_a_turn_waits_for_the_first_request_of_a_connection_that_was_accepted() -> None:
    loop, ran = FakeLoop(), list[int]()
    pool = Inline(loop)  # type: ignore[arg-type]
    pool.put(FakeExchange(0, 1, ran))  # type: ignore[arg-type]
    pool.welcome()
    for _ in range(2):
        assert loop.run_one()
        assert ran == []
    pool.put(FakeExchange(1, 1, ran))  # type: ignore[arg-type]
    loop.run_one()
    assert ran == [0, 1]


def test_a_long_turn_ends_and_says_that_requests_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(1000))
    monkeypatch.setattr(inline_module, "time", SimpleNamespace(monotonic=lambda: float(next(now))))
    loop, ran, backlogs = FakeLoop(), list[int](), list[int]()
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


def test_an_error_between_two_exchanges_does_not_end_the_queue() -> None:
    """In the main thread an application may have signal handlers, and they may raise anywhere: here in what notes that
    it ran."""

    class Raising(FakeExchange):
        def run(self) -> FakeExchange | None:
            raise KeyboardInterrupt

        def abandon(self, error: BaseException) -> None:
            raise error

    loop, ran = FakeLoop(), list[int]()
    pool = Inline(loop)  # type: ignore[arg-type]
    pool.put(Raising(0, 1, ran))  # type: ignore[arg-type]
    pool.put(FakeExchange(1, 1, ran))  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        loop.run_one()
    pool.put(FakeExchange(2, 1, ran))  # type: ignore[arg-type]
    loop.run_all()
    assert ran == [1, 2]


def test_the_last_ones_are_run_at_the_end() -> None:
    loop, ran = FakeLoop(), list[int]()
    pool = Inline(loop)  # type: ignore[arg-type]
    for name in range(2):
        pool.put(FakeExchange(name, 2, ran))  # type: ignore[arg-type]
    pool.stop()
    assert ran == [0, 1, 0, 1]
    assert not pool.busy
