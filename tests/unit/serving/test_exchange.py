"""starman.serving.exchange: one request, run over a real writer, with nothing around it."""

from __future__ import annotations

import errno
import gc
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import starman.serving.exchange
from starman.config.settings import Settings
from starman.serving import response_sender as module
from starman.serving.access_log.logged_request import LoggedRequest
from starman.serving.dates import DateLinesCache
from starman.serving.exchange import Exchange
from starman.serving.load_shedding import LoadShedding
from starman.serving.metrics.refusal_counts import RefusalCounts
from starman.serving.metrics.request_counts import RequestCounts
from starman.serving.sending.corking import Corking
from starman.serving.sending.spool import SpoolLimits
from starman.serving.sending.thread_socket import ThreadSocket
from starman.serving.sending.writer import Writer
from starman.serving.sending.writer_state import WriterState
from starman.wsgi.body import RequestBody
from starman.wsgi.body_memory import BodyMemory
from tests.functional.support.harness import wait_until
from tests.unit.serving.fakes import SECONDS, Bridge
from tests.unit.wsgi.heads import request

Start = Callable[..., Any]
Capture = pytest.CaptureFixture[str]


class FakeLog:
    make_request = LoggedRequest

    def __init__(self) -> None:
        self.lines: list[tuple[Any, ...]] = []
        self.requests: list[LoggedRequest] = []

    def add_request(self, request: LoggedRequest) -> None:
        self.requests.append(request)

    def add(self, environ: dict[str, Any], status_code: int, body_bytes: int) -> None:
        self.lines.append((environ.get("REQUEST_URI"), status_code, body_bytes))

    def add_not_run(self, request: LoggedRequest) -> None:
        self.lines.append((request.environ["REQUEST_URI"], request.status_code))

    def add_refusal(self, peer: str, status_code: int) -> None:
        self.lines.append((peer, status_code))


class FakeExecutor:
    """An executor that lets threads wait, or not. No other request waits, and blocks are held until the corking is
    flushed."""

    def __init__(self, loop: Any) -> None:
        self.permits = 1
        self.request_counts = RequestCounts()
        self.corking = Corking(loop, deque(), holds_blocks=True)
        self.corking.attended = True

    def begin_wait(self) -> bool:
        self.permits -= 1
        if self.permits < 0:
            self.permits = 0
            return False
        return True

    def end_wait(self) -> None:
        self.permits += 1


class FakeShortages:
    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []

    def add(self, kind: str, details: str) -> None:
        self.said.append((kind, details))


class FakeShared:
    """What an exchange needs of what connections share."""

    def __init__(self, application: Callable[..., Any], loop: Any) -> None:
        self.request_timeout = 0.0
        self.application = application
        self.date_lines = DateLinesCache("fake")
        self.access_log = FakeLog()
        self.logs_details = False
        self.keepalive = True
        self.draining = False
        self.executor = FakeExecutor(loop)
        self.spool_limits = SpoolLimits(1 << 20, 1 << 20)
        self.shortages = FakeShortages()
        self.refusal_counts = RefusalCounts()
        self.shedding = LoadShedding(Settings.of())


class Stage:
    """A bridge, and exchanges on it."""

    def __init__(self, application: Callable[..., Any]) -> None:
        self.bridge = Bridge()
        self.writer = self.bridge.writer
        self.context = FakeShared(application, self.bridge.loop)

    def offer(self, data: bytes = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n", body: RequestBody | None = None) -> Exchange:
        head, _, _ = request(data)
        base = {"REMOTE_ADDR": "192.0.2.7", "wsgi.url_scheme": "http"}
        return self.bridge.offer(Exchange(self.context, self.writer, base, head, body))  # type: ignore[arg-type,no-any-return]

    def received(self) -> bytes:
        self.bridge.client.setblocking(False)
        try:
            return self.bridge.client.recv(1 << 20)
        except BlockingIOError:
            return b""


@pytest.fixture
def stage() -> Iterator[Callable[..., Stage]]:
    stages: list[Stage] = []

    def make(application: Callable[..., Any]) -> Stage:
        stages.append(Stage(application))
        return stages[-1]

    yield make
    for each in stages:
        each.bridge.close()


Make = Callable[[Callable[..., Any]], Stage]


def hello(environ: dict[str, Any], start_response: Start) -> list[bytes]:
    start_response("200 OK", [])
    return [b"hello"]


def test_a_request_and_its_response(stage: Make) -> None:
    s = stage(hello)
    assert s.offer().run() is None
    assert s.received().endswith(b"\r\n\r\nhello")
    assert s.context.access_log.lines == [("/x", 200, 5)]
    assert s.writer.state is WriterState.FREE


def test_nothing_of_a_request_waits_for_the_garbage_collector(stage: Make) -> None:
    class Thing:
        pass

    seen: list[weakref.ref[Thing]] = []

    def application(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        environ["thing"] = thing = Thing()
        seen.append(weakref.ref(thing))
        return hello(environ, start_response)

    s = stage(application)
    gc.disable()
    try:
        s.offer().run()
        s.offer(b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n").run()
        assert [thing() for thing in seen] == [None, None]
    finally:
        gc.enable()


def test_the_next_exchange_of_the_client_is_returned(stage: Make) -> None:
    s = stage(hello)
    first, second = s.offer(), s.offer()
    assert first.run() is second
    assert second.run() is None


@pytest.mark.parametrize(
    ("data", "keepalive", "draining", "pending", "persists"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", True, False, False, True),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", True, False, False, False),
        (b"GET / HTTP/1.0\r\n\r\n", True, False, False, False),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", True, False, False, True),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", False, False, False, False),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", True, True, False, False),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", True, True, True, True),
    ],
)
def test_whether_the_connection_persists(
    data: bytes, keepalive: bool, draining: bool, pending: bool, persists: bool, stage: Make
) -> None:
    s = stage(hello)
    s.context.keepalive, s.context.draining = keepalive, draining
    exchange = s.offer(data)
    if pending:
        s.offer()
    exchange.run()
    assert (b"Connection: close" in s.received()) is not persists
    assert s.writer.state is (WriterState.ENDING if not persists else WriterState.THREAD if pending else WriterState.FREE)


class Gathering:
    """A response in blocks of one byte, each made so many seconds after the one before."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, gaps: list[float], *fields: tuple[str, str]) -> None:
        self.now, self.gaps, self.fields = 1000.0, gaps, fields
        self.seen: list[bytes] = []
        monkeypatch.setattr(module, "monotonic", lambda: self.now)

    def __call__(self, environ: dict[str, Any], start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", list(self.fields))
        for number, gap in enumerate(self.gaps):
            self.now += gap
            yield b"%d" % (number % 10)
            self.seen.append(self.stage.received())
        self.seen.append(self.stage.received())

    def run(self, stage: Make) -> list[bytes]:
        """What the client has got behind each block, then of the end, then at last."""
        self.stage = stage(self)
        self.stage.offer(b"GET /x HTTP/1.0\r\n\r\n" if not self.fields else b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n").run()
        self.seen[0] = self.seen[0].rpartition(b"\r\n\r\n")[2]
        return [*self.seen, self.stage.received()]


QUICK = [0.0] * 9


def test_blocks_that_come_at_once_are_gathered(stage: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    gathering = Gathering(monkeypatch, QUICK, ("Content-Length", "9"))
    assert gathering.run(stage) == [b"0", b"1", b"2", b"3", b"", b"", b"", b"", b"45678", b"", b""]
    assert list(gathering.stage.context.executor.corking.writers) == [gathering.stage.writer], "told of once"


def test_one_that_had_to_be_waited_for_takes_those_before_along_at_once(stage: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    gaps = [0.0] * 6 + [0.01, 0.0, 0.0]
    gathering = Gathering(monkeypatch, gaps, ("Content-Length", "10"))
    assert gathering.run(stage) == [b"0", b"1", b"2", b"3", b"", b"", b"456", b"7", b"8", b"", b""]


def test_blocks_that_are_waited_for_leave_one_by_one(stage: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    gathering = Gathering(monkeypatch, [0.0002] * 9, ("Content-Length", "9"))
    assert gathering.run(stage) == [*(b"%d" % number for number in range(9)), b"", b""]


def test_nothing_is_gathered_if_no_block_can_be_held(stage: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    gathering = Gathering(monkeypatch, QUICK, ("Content-Length", "9"))
    monkeypatch.setattr(Corking, "hold_block", lambda *arguments: False)
    assert gathering.run(stage) == [*(b"%d" % number for number in range(9)), b"", b""]


def test_the_loop_is_not_asked_in_vain(stage: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    # On TLS nothing can be held back, nor while the loop writes.
    gathering = Gathering(monkeypatch, QUICK, ("Content-Length", "9"))
    asked: list[None] = []
    monkeypatch.setattr(Corking, "_start_timer", lambda self: asked.append(None))
    monkeypatch.setattr(Writer, "hold", lambda *arguments: asked.append(None))
    monkeypatch.setattr(FakeExecutor, "begin_wait", lambda self: False)
    monkeypatch.setattr(ThreadSocket, "open", lambda self, fd: None)
    gathering.run(stage)
    assert asked == []


def test_what_the_loop_writes_meanwhile_is_told_of_again(stage: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    gathering = Gathering(monkeypatch, QUICK, ("Content-Length", "9"))

    def at_once(self: Corking) -> bool:
        self.flush()
        return True

    monkeypatch.setattr(Corking, "_checked", at_once)
    assert gathering.run(stage) == [*(b"%d" % number for number in range(9)), b"", b""]


def test_what_is_gathered_at_the_end_of_a_connection_is_left_to_the_corking(stage: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    # Without a length and chunks, nothing is written behind the last block.
    gathering = Gathering(monkeypatch, QUICK)
    assert gathering.run(stage)[-1] == b""
    gathering.stage.context.executor.corking.flush()
    assert gathering.stage.received() == b"45678"
    assert gathering.stage.writer.state is WriterState.ENDING


def test_early_hints_are_not_gathered(stage: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "monotonic", lambda: 1000.0)
    received = []

    def application(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        for _ in range(9):
            environ["wsgi.early_hints"]([("Link", "</x>")])
            received.append(s.received())
        return hello(environ, start_response)

    s = stage(application)
    s.offer().run()
    assert len(received) == 9
    assert all(hints.startswith(b"HTTP/1.1 103 ") for hints in received)


def body_of(data: bytes, memory_bytes: int = 100) -> RequestBody:
    body = RequestBody(BodyMemory(memory_bytes, 1 << 30))
    body.write(data)
    return body


def test_the_body_is_read_and_given_back(stage: Make) -> None:
    kept: list[Any] = []

    def application(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        kept.append(environ["wsgi.input"])
        start_response("200 OK", [])
        return [environ["CONTENT_LENGTH"].encode(), b":", environ["wsgi.input"].read()]

    s = stage(application)
    body = body_of(b"x" * 1000)
    body.spool()
    s.offer(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", body).run()
    assert s.received().endswith(b"1000:" + b"x" * 1000)
    assert kept[0].closed


@pytest.mark.parametrize(("code", "status"), [(errno.ENOSPC, b"503"), (errno.EMFILE, b"503"), (errno.EIO, b"500")])
def test_a_body_that_cannot_be_read_is_refused(stage: Make, monkeypatch: pytest.MonkeyPatch, code: int, status: bytes) -> None:
    def fail(body: RequestBody) -> None:
        raise OSError(code, "a failure")

    monkeypatch.setattr(RequestBody, "reader", fail)
    s = stage(hello)
    exchange, waiting = s.offer(body=body_of(b"x")), s.offer(body=body_of(b"y"))
    assert exchange.run() is None
    received = s.received()
    assert received.startswith(b"HTTP/1.1 " + status)
    assert (b"\r\nRetry-After: 5\r\n" in received) is (status == b"503")
    assert s.context.access_log.lines == [("192.0.2.7", int(status))]
    assert s.writer.state is WriterState.ENDING
    assert waiting is not None
    assert s.context.shortages.said == [("the spool file of a request body failed", f"[Errno {code}] a failure")]
    assert s.context.refusal_counts.answered() == {int(status): 1}


def test_a_client_that_left_while_queued_is_not_served(stage: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starman.serving.exchange, "_LONG_IN_QUEUE", -1.0)
    calls: list[int] = []

    def application(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        calls.append(1)
        return hello(environ, start_response)

    s = stage(application)
    s.offer().run()
    assert calls == [1]
    exchange = s.offer(body=body_of(b"x"))
    s.bridge.client.close()
    assert exchange.run() is None
    assert calls == [1]
    assert s.context.access_log.lines == [("/x", 200, 5), ("/x", 499)]
    assert s.writer.state is WriterState.ENDING


def test_a_log_that_needs_details_gets_them(stage: Make) -> None:
    def application(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        time.sleep(0.01)
        start_response("200 OK", [("X-Field", "value")])
        return [environ["wsgi.input"].read()]

    s = stage(application)
    s.context.logs_details = True
    exchange = s.offer(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", body_of(b"hello"))
    time.sleep(0.01)
    exchange.run()
    (request,) = s.context.access_log.requests
    assert (request.status_code, request.body_bytes, request.bytes_received) == (200, 5, 5)
    assert 0.01 <= request.queue_seconds < SECONDS
    assert 0.01 <= request.application_seconds < SECONDS
    assert request.response_head is not None
    assert request.response_head.last_value("x-field") == "value"


def test_the_head_of_a_failed_application_is_not_logged(stage: Make) -> None:
    def application(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        start_response("200 OK", [("X-Field", "value")])
        raise ValueError

    s = stage(application)
    s.context.logs_details = True
    s.offer().run()
    (request,) = s.context.access_log.requests
    assert (request.status_code, request.response_head) == (500, None)


def test_a_large_response_frees_the_thread(stage: Make) -> None:
    def application(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        start_response("200 OK", [])
        return [b"x" * 1_000_000]

    s = stage(application)
    s.offer().run()
    assert s.writer.state is WriterState.RETURNED
    s.bridge.loop.run_all()
    assert len(s.bridge.connection.buffer) > 500_000
    assert s.context.access_log.lines == [("/x", 200, 1_000_000)]


def test_a_stream_waits_for_the_loop(stage: Make) -> None:
    def application(environ: dict[str, Any], start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"x" * 1_000_000
        yield b"end"

    s = stage(application)
    exchange = s.offer()
    thread = threading.Thread(target=exchange.run)
    thread.start()
    s.bridge.loop.run_one(wait=True)
    assert s.writer.state is WriterState.STREAMING
    received = b""
    while not s.bridge.connection.flush():
        received += s.received()
    s.bridge.connection.on_queue_sent()
    thread.join(SECONDS)
    assert not thread.is_alive()
    s.bridge.loop.run_all()
    while not s.bridge.connection.flush():
        received += s.received()
    while not received.endswith(b"0\r\n\r\n"):
        received += s.received()
    assert received.endswith(b"x\r\n3\r\nend\r\n0\r\n\r\n")


def test_a_client_that_goes_is_logged_as_such(stage: Make) -> None:
    s = stage(hello)
    exchange = s.offer()
    s.bridge.client.close()
    assert exchange.run() is None
    assert s.context.access_log.lines == [("/x", 0, 0)]
    s.bridge.loop.run_all()
    assert s.bridge.connection.write_failures == 1


def test_an_end_that_could_be_taken_for_the_bodys_is_a_cut(stage: Make) -> None:
    def application(environ: dict[str, Any], start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"begun"
        raise RuntimeError("boom")

    s = stage(application)
    s.offer(b"GET / HTTP/1.0\r\n\r\n").run()
    assert s.writer.state is WriterState.DEAD
    s.bridge.loop.run_all()
    assert s.bridge.connection.write_failures == 1


def test_a_defect_behind_the_response_does_not_lose_the_next_exchange(stage: Make) -> None:
    """It is dropped, and the client reset: not left waiting for ever."""
    s = stage(hello)

    def fail(*arguments: object) -> None:
        raise RuntimeError("a defect")

    s.context.access_log.add = fail  # type: ignore[method-assign]
    body = body_of(b"y" * 1000)
    body.spool()
    file = body.reader()
    exchange, _ = s.offer(), s.offer(body=body)
    with pytest.raises(RuntimeError, match="a defect"):
        exchange.run()
    exchange.abandon(RuntimeError("a defect"))  # as the pool does
    assert s.writer.state is WriterState.DEAD
    s.writer.lose()  # as the loop does, which is told of that
    assert wait_until(lambda: file.closed)


# Files


def wrapping(path: Path) -> Callable[..., Any]:
    def application(environ: dict[str, Any], start_response: Start) -> Any:
        from starman.wsgi.filewrapper import FileWrapper

        start_response("200 OK", [])
        return FileWrapper(path.open("rb"))

    return application


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file"


def test_a_small_file_goes_with_its_head(stage: Make, path: Path) -> None:
    path.write_bytes(b"small")
    s = stage(wrapping(path))
    s.offer().run()
    assert s.received().endswith(b"Content-Length: 5" + s.context.date_lines.lines_at(0.0).both_and_end.encode() + b"small")


def test_the_loop_gets_a_descriptor_of_its_own(stage: Make, path: Path) -> None:
    path.write_bytes(bytes(1_000_000))
    before = len(os.listdir("/proc/self/fd"))
    s = stage(wrapping(path))
    s.offer().run()
    s.bridge.loop.run_all()
    (rest,) = s.bridge.connection.files
    assert os.fstat(rest.fd).st_size == 1_000_000  # though the application's is closed
    assert rest.offset + rest.count == 1_000_000
    s.bridge.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_file_for_a_client_that_has_gone_leaves_no_descriptor(stage: Make, path: Path) -> None:
    path.write_bytes(bytes(1_000_000))
    s = stage(wrapping(path))
    exchange = s.offer()
    before = len(os.listdir("/proc/self/fd"))
    s.bridge.client.close()
    exchange.run()
    assert len(os.listdir("/proc/self/fd")) == before - 2  # the client's, and the duplicate
    assert s.context.access_log.lines == [("/x", 0, 0)]


@pytest.mark.parametrize("size", [100, 1_000_000])
@pytest.mark.parametrize("failing", ["pread", "dup", "sendfile"])
def test_a_file_that_fails_leaves_no_client_waiting(
    size: int, failing: str, stage: Make, path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    path.write_bytes(bytes(size))
    s = stage(wrapping(path))
    exchange = s.offer()

    def fail(*arguments: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, failing, fail)
    exchange.run()
    monkeypatch.undo()
    if (size == 100) is not (failing == "pread"):
        assert s.writer.state in (WriterState.FREE, WriterState.RETURNED)
    else:
        assert s.writer.state is WriterState.ENDING
        # A small one is read before its head is sent.
        words = "the application failed" if failing == "pread" else "a file could not be sent whole"
        assert words in capfd.readouterr().err


def test_a_file_that_shrinks_at_once(stage: Make, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(bytes(100_000))
    s = stage(wrapping(path))
    monkeypatch.setattr(os, "sendfile", lambda out, fd, offset, count: 0)
    s.offer().run()
    assert s.writer.state is WriterState.ENDING
