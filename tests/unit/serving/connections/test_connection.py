"""starman.serving.connections.connection, in a real Service: what clients can do to a connection, and a connection to
clients."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from starman.serving import drain as drain_module
from starman.serving import service as service_module
from starman.serving.connections import lingering as lingering_module
from starman.serving.connections import progress as progress_module
from starman.serving.connections.clients import Clients
from starman.serving.connections.connection import Connection
from starman.serving.exchange import Exchange
from starman.serving.executors.pool import Pool
from starman.serving.sending.send_queue import SendQueue
from starman.wsgi import body as body_module
from starman.wsgi.body import RequestBody
from starman.wsgi.spool_space import SpoolLease
from tests.functional.support.harness import wait_until
from tests.functional.support.wire import Client, TruncatedError, encode_request
from tests.unit.serving.applications import BIG, HELLO, Gate, Start, big, echo
from tests.unit.serving.running import SECONDS, Running, descriptors, reset

pytestmark = pytest.mark.usefixtures("fast")

Capture = pytest.CaptureFixture[str]


# For applications that wait for nothing: the application may also run in the loop.
inline_too = pytest.mark.parametrize("options", ["uvloop", "unix", "asyncio", "inline"], indirect=True)


# Keep-alive, pipelining, closing


@inline_too
def test_requests_of_every_kind(options: dict[str, Any]) -> None:
    with Running(echo, **options) as running, running.client() as client:
        for turn in range(3):
            assert client.get(f"/{turn}").body == b"/%d|" % turn
            assert client.request("POST", "/p", body=b"b" * 5000).body == b"/p|" + b"b" * 5000
            head = client.request("HEAD", "/h")
            assert (head.status, head.body, head.persistent) == (200, b"", True)
        client.send(b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        assert client.read().body == b"/c|abc"
        assert client.get("/last", ("Connection", "close")).get("Connection") == "close"
        assert client.at_end()


@inline_too
def test_a_request_byte_by_byte(options: dict[str, Any]) -> None:
    with Running(echo, **options) as running, running.client() as client:
        for byte in encode_request("POST", "/slow", body=b"body"):
            client.send(bytes((byte,)))
        assert client.read().body == b"/slow|body"


@inline_too
def test_pipelined_requests_are_answered_in_order(options: dict[str, Any]) -> None:
    with Running(echo, threads=4, **options) as running:
        clients = [running.client() for _ in range(3)]
        for turn in range(5):
            for client in clients:
                client.send(b"".join(encode_request("POST", f"/{turn}/{n}", body=b"%d" % n) for n in range(20)))
            for client in clients:
                bodies = [response.body for response in client.read_many(["POST"] * 20)]
                assert bodies == [b"/%d/%d|%d" % (turn, n, n) for n in range(20)]


@inline_too
def test_100_pipelined_requests_in_one_packet(options: dict[str, Any]) -> None:
    """With more requests than may wait, the connection stops reading, and goes on by itself."""
    with Running(echo, **options) as running, running.client() as client:
        for _ in range(3):
            client.send(b"".join(encode_request("GET", f"/{n}") for n in range(100)))
            assert [response.body for response in client.read_many(["GET"] * 100)] == [b"/%d|" % n for n in range(100)]


@inline_too
def test_pipelined_requests_and_a_half_close(options: dict[str, Any]) -> None:
    with Running(echo, **options) as running, running.client() as client:
        client.send(b"".join(encode_request("GET", f"/{n}") for n in range(100)))
        client.socket.shutdown(socket.SHUT_WR)
        assert [response.body for response in client.read_many(["GET"] * 100)] == [b"/%d|" % n for n in range(100)]
        assert client.at_end()


@inline_too
def test_nothing_is_served_behind_close(options: dict[str, Any]) -> None:
    seen: list[str] = []

    def application(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        seen.append(environ["PATH_INFO"])
        return echo(environ, start_response)

    with Running(application, **options) as running, running.client() as client:
        client.send(encode_request("GET", "/1") + encode_request("GET", "/2", [("Connection", "close")]) + HELLO)
        assert [response.body for response in client.read_many(["GET"] * 2)] == [b"/1|", b"/2|"]
        assert client.at_end()
    assert seen == ["/1", "/2"]


@inline_too
@pytest.mark.parametrize("last", [encode_request("GET", "/last", [("Connection", "close")]), b"GET /last HTTP/1.0\r\n\r\n"])
def test_a_client_that_sends_more_after_its_last_request_is_not_reset_at_once(last: bytes, options: dict[str, Any]) -> None:
    with Running(echo, **options) as running, running.client() as client:
        client.send(last)
        assert client.read().body == b"/last|"
        assert client.at_end()
        for _ in range(3):
            client.send(HELLO)


def test_a_bad_request_is_answered_behind_those_before_it(options: dict[str, Any]) -> None:
    gate = Gate()
    with Running(gate, **options) as running, running.client() as client:
        client.send(encode_request("GET", "/gate") + HELLO + b"BAD\r\n\r\n")
        assert gate.entered.wait(SECONDS)
        gate.opened.set()
        assert [response.status for response in client.read_many(["GET"] * 3)] == [200, 200, 400]
        assert client.at_end()


@inline_too
def test_a_refusal_survives_what_the_client_still_sends(options: dict[str, Any]) -> None:
    """RFC 9112 §9.6: a close with unread data would reset the connection, and destroy the response."""
    with Running(echo, max_body="1K", **options) as running, running.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
        with contextlib.suppress(OSError):
            client.send(b"x" * 1_000_000)
        response = client.read()
        assert (response.status, response.get("Connection")) == (413, "close")


@pytest.mark.parametrize(
    "last", [encode_request("GET", "/gate", [("Connection", "close")]), encode_request("GET", "/gate") + b"BAD\r\n\r\n"]
)
def test_nothing_is_read_behind_the_last_request_while_it_runs(last: bytes, options: dict[str, Any]) -> None:
    """Reading is limited: the client gets rid of what the kernels of both sides buffer, and of a read or two."""
    gate = Gate()
    with Running(gate, **options) as running, running.client() as client:
        client.send(last)
        assert gate.entered.wait(SECONDS)
        client.socket.settimeout(0.5)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 100_000_000:
                sent += client.socket.send(bytes(1 << 20))
        assert sent < 50_000_000
        client.socket.settimeout(SECONDS)
        gate.opened.set()
        assert client.read().status == 200


@pytest.mark.parametrize("use_uvloop", [True, False], ids=["uvloop", "asyncio"])
def test_the_end_of_an_idle_connection_destroys_no_response_that_is_on_its_way(use_uvloop: bool) -> None:
    """The kernel has the response, so the connection is idle: keepalive_timeout ends it long before the client has
    read all."""
    size, seconds = 500_000, 1.5
    body = os.urandom(size)

    def application(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        start_response("200 OK", [])
        return [body]

    settings = {"keepalive_timeout": 0.2, "header_timeout": 2}
    with Running(application, use_uvloop=use_uvloop, **settings) as running, running.client(receive_bytes=16_384) as client:
        client.send(encode_request("GET", "/"))
        assert client.read_head().status == 200
        received = client._buffer
        began, pace = time.monotonic(), threading.Event()
        while data := client.socket.recv(16_384):
            received += data
            if time.monotonic() - began > seconds / 2:
                client.send(b"x")  # the kernel resets a connection that is closed, but not one that lingers
            pace.wait(began + seconds * len(received) / size - time.monotonic())
        assert received[:size] == body


# Timeouts


@inline_too
def test_an_idle_connection_is_closed(options: dict[str, Any]) -> None:
    with Running(echo, keepalive_timeout=0.2, **options) as running, running.client() as client:
        began = time.monotonic()
        client.get("/")
        assert client.read_to_end() == b""
        assert 0.1 < time.monotonic() - began < SECONDS


def test_a_connection_that_says_nothing_is_closed(options: dict[str, Any]) -> None:
    with Running(echo, header_timeout=0.5, **options) as running, running.client() as client:
        assert client.read_to_end() == b""


@inline_too
def test_keep_alive_may_be_off(options: dict[str, Any]) -> None:
    with Running(echo, keepalive_timeout=0, **options) as running, running.client() as client:
        assert not client.get("/").persistent
        assert client.at_end()


def drip(client: Client, pieces: Iterator[bytes]) -> None:
    """Send a piece every 20 ms, until the server responds."""
    client.socket.settimeout(0.02)
    for piece in pieces:
        client.send(piece)
        try:
            client._receive()
            break
        except TimeoutError:
            pass
    client.socket.settimeout(SECONDS)


@pytest.mark.parametrize("begin", [b"G", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nX: "])
def test_a_head_that_takes_too_long_is_a_408(begin: bytes, options: dict[str, Any]) -> None:
    with Running(echo, header_timeout=0.5, **options) as running, running.client() as client:
        client.send(begin)
        assert client.read().status == 408
        assert client.at_end()


def test_a_dripping_head_is_a_408() -> None:
    with Running(echo, header_timeout=0.5) as running, running.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n")
        drip(client, iter([b"X: y\r\n"] * 90))
        assert client.read().status == 408


def test_a_second_head_has_a_time_of_its_own() -> None:
    with Running(echo, header_timeout=0.5, keepalive_timeout=5) as running, running.client() as client:
        client.get("/")
        client.send(b"GET /")
        assert client.read().status == 408


@pytest.fixture
def became_idle(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when a connection becomes idle."""
    begun, rest = threading.Event(), Clients.set_idle

    def notice(clients: Clients, client: Connection, until: float) -> None:
        rest(clients, client, until)
        begun.set()

    monkeypatch.setattr(Clients, "set_idle", notice)
    return begun


def test_a_connection_that_was_idle_is_checked_again(became_idle: threading.Event, options: dict[str, Any]) -> None:
    with Running(echo, header_timeout=0.5, keepalive_timeout=60, **options) as running, running.client() as client:
        for _ in range(2):
            assert client.get("/").persistent
            assert became_idle.wait(SECONDS)
            became_idle.clear()
        client.send(b"GET /")
        assert client.read().status == 408


def test_an_idle_connection_is_closed_in_time(became_idle: threading.Event, options: dict[str, Any]) -> None:
    with Running(echo, keepalive_timeout=0.4, **options) as running, running.client() as client:
        client.get("/")
        assert became_idle.wait(SECONDS)
        began = time.monotonic()
        assert client.read_to_end() == b""
        assert time.monotonic() - began < SECONDS


def test_a_client_that_leaves_while_its_connection_is_idle(became_idle: threading.Event, options: dict[str, Any]) -> None:
    others = connections()
    with Running(echo, keepalive_timeout=2 * SECONDS, **options) as running:
        for half in (True, False):
            with running.client() as client:
                client.get("/")
                assert became_idle.wait(SECONDS)
                became_idle.clear()
                if half:
                    client.socket.shutdown(socket.SHUT_WR)
                    assert client.at_end()
        assert_only(others)


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Objects in reference cycles stay."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("stream_body", [False, True])
@pytest.mark.parametrize("sent", [b"BAD\r\n\r\n", b"GET /", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc"])
def test_a_connection_that_was_refused_is_free_at_once(sent: bytes, stream_body: bool, no_collector: None) -> None:
    others = connections()
    with Running(echo, header_timeout=0.5, stream_body=stream_body) as running:
        with running.client() as client:
            client.send(sent)
            assert client.read_to_end().startswith(b"HTTP/1.1 4")
        assert_only(others)


def test_a_connection_with_a_reader_that_was_checked_is_freed_at_once(
    no_collector: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked, is_slow = threading.Event(), SendQueue.is_slow

    def notice(send_queue: SendQueue, now: float, *, timeout: float, rate: int) -> bool:
        slow = is_slow(send_queue, now, timeout=timeout, rate=rate)
        looked.set()
        return slow

    def large(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", [])
        return [bytes(1 << 23)] * 4

    monkeypatch.setattr(SendQueue, "is_slow", notice)
    others = connections()
    with Running(large) as running:
        with running.client(receive_bytes=4096) as client:
            client.send(encode_request("GET", "/"))
            assert looked.wait(SECONDS)
        assert_only(others)


def test_a_connection_that_was_left_unread_is_read_on_when_its_end_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread sends the end with the last response. The loop has nothing to send, but must notice when the client
    leaves."""
    monkeypatch.setattr(lingering_module, "LINGER_SECONDS", 2 * SECONDS)
    others, go_on = connections(), threading.Event()

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        go_on.wait(SECONDS)
        start_response("200 OK", [("Connection", "close")])
        return [b"last"]

    with Running(application) as running:
        with running.client() as client:
            client.send(encode_request("GET", "/") * 50)
            assert wait_until(lambda: any(one._paused for one in connections()), SECONDS)
            go_on.set()
            assert client.read_to_end().endswith(b"last")
        assert_only(others)


def connections() -> list[Connection]:
    """All connections that exist; another test may have left some."""
    return [thing for thing in gc.get_objects() if type(thing) is Connection]


def assert_only(others: list[Connection]) -> None:
    """All other connections must be freed soon."""
    assert wait_until(lambda: all(any(one is other for other in others) for one in connections()), SECONDS)


@inline_too
def test_a_body_that_does_not_come_is_a_408(options: dict[str, Any]) -> None:
    with Running(echo, header_timeout=0.5, **options) as running, running.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
        assert client.read().status == 408


SECONDS_STILL = 1.5


class StandingStill:
    """Replaces a module's `time`: once armed, the next read of the clock takes SECONDS_STILL, as on a busy machine."""

    thread_time = staticmethod(time.thread_time)

    def __init__(self) -> None:
        self.armed = False
        self.begun = threading.Event()

    def monotonic(self) -> float:
        if self.armed:
            self.armed = False
            self.begun.set()
            time.sleep(SECONDS_STILL)
        return time.monotonic()


@pytest.mark.parametrize("ends", ["drain", "keepalive_timeout"])
def test_a_request_that_waits_in_the_kernel_keeps_its_connection(ends: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a pause of the process, idle connections are checked before the loop has read what arrived meanwhile."""
    clock = StandingStill()
    monkeypatch.setattr(drain_module if ends == "drain" else service_module, "time", clock)
    timeouts: dict[str, Any] = {}
    # Shorter than the pause. Long enough for this thread, which arms the clock before the connection is closed.
    idle = SECONDS_STILL / 2
    if ends == "drain":
        monkeypatch.setattr(service_module, "_TICK", 60.0)
        monkeypatch.setattr(drain_module, "_LINGER", idle)
    else:
        timeouts[ends] = idle
    request = b"GET /asked HTTP/1.1\r\nHost: a\r\n\r\n"
    with Running(echo, **timeouts) as running, running.client() as client:
        client.send(request)
        assert client.read().status == 200
        if ends == "drain":
            running.drain()
        clock.armed = True
        assert clock.begun.wait(SECONDS)
        client.send(request)
        assert client.read().status == 200


@pytest.mark.parametrize("begun", [b"HEAD / HTTP/1.1\r\nHost:", b"HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc"])
def test_a_head_request_that_is_not_complete_is_answered_without_content(begun: bytes) -> None:
    with Running(echo, header_timeout=0.5) as running, running.client() as client:
        client.send(begun)
        answer = client.read_to_end()
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("framing", [b"Content-Length: 1000", b"Transfer-Encoding: chunked"])
def test_a_dripping_body_is_a_408_after_its_grace(framing: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "RATE_GRACE", 0.2)
    with Running(echo, header_timeout=5, min_body_rate=1000) as running, running.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % framing)
        drip(client, iter([b"1\r\nx\r\n" if b"chunked" in framing else b"x"] * 200))
        assert client.read().status == 408
        assert client.at_end()


def test_a_body_may_drip_where_no_rate_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "RATE_GRACE", 0.0)
    with Running(echo, header_timeout=5, min_body_rate=0) as running, running.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n")
        drip(client, iter([b"x"] * 20))
        assert client.read().status == 200


def test_pipelined_bodies_are_not_gathered_while_a_request_runs(options: dict[str, Any]) -> None:
    """One client cannot make the server hold a body for each request that it can pipeline."""
    gate = threading.Event()

    def application(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        gate.wait(SECONDS)
        return echo(environ, start_response)

    with Running(application, threads=1, **options) as running, running.client() as client:
        request = encode_request("POST", "/", body=b"x" * 1_000_000)
        sender = threading.Thread(target=lambda: [client.send(request) for _ in range(30)])
        sender.start()
        sent_all = sender.join(0.5) is None and not sender.is_alive()
        assert not sent_all, "30 MB were taken from a client that waits for its first answer"
        gate.set()
        for _ in range(30):
            assert client.read().status == 200
        sender.join()


# Half-close and reset


@pytest.mark.parametrize("target", ["/big", "/small"])
def test_a_half_closed_client_gets_its_whole_answer(target: str, options: dict[str, Any]) -> None:
    with Running(big, **options) as running, running.client() as client:
        client.send(encode_request("GET", target))
        client.socket.shutdown(socket.SHUT_WR)
        assert client.read().body == (BIG if target == "/big" else b"small")
        assert client.at_end()


@pytest.mark.parametrize("begin", [b"GET / HT", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabc"])
def test_a_half_close_in_mid_request_is_a_400(begin: bytes, options: dict[str, Any]) -> None:
    with Running(echo, **options) as running, running.client() as client:
        client.send(begin)
        client.socket.shutdown(socket.SHUT_WR)
        assert client.read().status == 400
        assert client.at_end()


def test_a_half_close_without_a_request_just_ends(options: dict[str, Any]) -> None:
    with Running(echo, **options) as running, running.client() as client:
        client.socket.shutdown(socket.SHUT_WR)
        assert client.read_to_end() == b""


def test_a_reset_while_the_application_runs(options: dict[str, Any]) -> None:
    gate = Gate(blocks=1000)
    with Running(gate, threads=1, **options) as running:
        client = running.client()
        client.send(encode_request("GET", "/gate") + HELLO)
        assert gate.entered.wait(SECONDS)
        reset(client)
        gate.opened.set()
        assert gate.closed.wait(SECONDS)
        assert running.client().get("/again").body == b"/again|"


def test_hazard_05_a_reset_of_a_half_closed_client_is_found(options: dict[str, Any]) -> None:
    gate = Gate(blocks=1000)
    with Running(gate, threads=1, **options) as running:
        client = running.client()
        client.send(encode_request("GET", "/gate"))
        client.socket.shutdown(socket.SHUT_WR)
        assert gate.entered.wait(SECONDS)
        reset(client)
        gate.opened.set()
        assert gate.closed.wait(SECONDS)
        assert running.client().get("/again").body == b"/again|"


def test_hazard_05_a_client_that_left_while_queued_is_not_served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    monkeypatch.setattr("starman.serving.exchange._LONG_IN_QUEUE", 0.0)
    gate = Gate()
    seen: list[str] = []

    def application(environ: dict[str, Any], start_response: Start) -> Any:
        seen.append(environ["PATH_INFO"])
        return gate(environ, start_response)

    with Running(application, threads=1, access_log=str(log)) as running:
        first, second = running.client(), running.client()
        first.send(encode_request("GET", "/gate"))
        assert gate.entered.wait(SECONDS)
        second.send(encode_request("POST", "/left", body=b"x"))
        second.socket.shutdown(socket.SHUT_WR)  # so the loop does not notice the reset
        third = running.client()
        third.send(encode_request("GET", "/third"))
        reset(second)
        gate.opened.set()
        assert third.read().body == b"/third|"
        first.read()
    assert seen == ["/gate", "/third"]
    assert log.read_text().count('"POST /left HTTP/1.1" 499 - ') == 1


# Slow readers


@inline_too
def test_a_slow_reader_of_a_whole_body_holds_no_thread(options: dict[str, Any]) -> None:
    with Running(big, threads=1, **options) as running:
        slow, quick = running.client(4096), running.client()
        slow.send(encode_request("GET", "/big") + encode_request("GET", "/small"))
        for _ in range(3):
            assert quick.get("/small").body == b"small"
        assert [response.body for response in slow.read_many(["GET"] * 2)] == [BIG, b"small"]


@inline_too
def test_a_slow_reader_of_a_stream_of_known_length_holds_no_thread(options: dict[str, Any]) -> None:
    """An iterable that is no list, with a Content-Length, as Flask and Django return."""

    def application(environ: dict[str, Any], start_response: Start) -> Any:
        start_response("200 OK", [("Content-Length", str(len(BIG)))] if environ["PATH_INFO"] == "/big" else [])
        return iter([BIG]) if environ["PATH_INFO"] == "/big" else [b"small"]

    with Running(application, threads=1, **options) as running:
        slow, quick = running.client(4096), running.client()
        slow.send(encode_request("GET", "/big"))
        assert quick.get("/small").body == b"small"
        assert slow.read().body == BIG


@pytest.mark.parametrize("rate", [0, 10_000_000])
def test_a_reader_below_the_rate_is_reset_after_its_grace(rate: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "RATE_GRACE", 0.1)
    with Running(big, threads=1, min_send_rate=rate) as running:
        client = running.client(4096)
        client.send(encode_request("GET", "/big"))
        outcome: Any = contextlib.nullcontext() if not rate else pytest.raises((TruncatedError, ConnectionResetError))
        with outcome:
            for _ in range(50):
                client._receive()
                time.sleep(0.01)  # makes the client slow
            assert client.read().body == BIG


@pytest.mark.parametrize("target", ["/big", "/gate"])
def test_a_reader_that_stops_is_reset_and_the_stream_closed(target: str, options: dict[str, Any]) -> None:
    gate = Gate(blocks=1000)
    gate.opened.set()

    def application(environ: dict[str, Any], start_response: Start) -> Any:
        return (big if target == "/big" else gate)(environ, start_response)

    with Running(application, threads=1, write_timeout=0.3, **options) as running:
        client = running.client(4096)
        client.send(encode_request("GET", target))
        if target == "/gate":
            assert gate.closed.wait(SECONDS)
        else:
            assert running.client().get("/small").body == b"small"
            time.sleep(0.6)  # the client stops reading
        with pytest.raises(TruncatedError):
            client.read()


def test_a_reader_that_is_slow_but_reads_is_not_reset() -> None:
    with Running(big, threads=1, write_timeout=1) as running:
        client = running.client(65_536)
        client.send(encode_request("GET", "/big"))
        client.read_head()
        left = len(BIG) - len(client._buffer)
        client._buffer.clear()
        until = time.monotonic() + 2.5
        while time.monotonic() < until:
            left -= len(client.socket.recv(min(left, 50_000)))
            time.sleep(0.05)
        while left:
            left -= len(client.socket.recv(left))
        assert client.get("/small").body == b"small"


def test_a_stream_waits_for_its_reader(options: dict[str, Any]) -> None:
    """Before the client reads, no more is taken from the iterable than the sockets hold."""
    taken: list[int] = []

    def application(environ: dict[str, Any], start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", [])
        for number in range(400):
            taken.append(number)
            yield bytes((number % 256,)) * 100_000

    with Running(application, threads=1, **options) as running:
        client = running.client(4096)
        client.send(HELLO)
        client.read_head()
        assert len(taken) < 200
        assert len(client._read_chunks()) == 40_000_000
        assert len(taken) == 400


@inline_too
def test_nothing_of_a_connection_waits_for_the_garbage_collector(options: dict[str, Any]) -> None:
    def alive() -> int:
        return sum(type(thing) is Connection for thing in gc.get_objects())

    with Running(echo, **options) as running:
        gc.collect()
        gc.disable()
        try:
            before = alive()
            for end in (Client.close, reset, lambda client: client.socket.shutdown(socket.SHUT_WR)):
                client = running.client()
                assert client.request("POST", "/", body=b"x" * 5000).status == 200
                end(client)
            assert wait_until(lambda: alive() == before)
        finally:
            gc.enable()


# Bodies and their spool file


@inline_too
def test_bodies_large_and_small(options: dict[str, Any]) -> None:
    with Running(echo, body_buffer="10K", **options) as running, running.client() as client:
        for size in (1, 10_240, 10_241, 300_000, 5_000_000):
            body = os.urandom(size)
            assert client.request("POST", "/", body=body).body == b"/|" + body
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(block), block) for block in (BIG[:70_000], BIG[:1], BIG[:400_000]))
        client.send(encode_request("POST", "/", [("Transfer-Encoding", "chunked")]) + chunks + b"0\r\n\r\n" + HELLO)
        assert client.read().body == b"/|" + BIG[:70_000] + BIG[:1] + BIG[:400_000]
        assert client.read().body == b"/hello|"


def _disk_is_full(*arguments: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@inline_too
def test_a_full_disk_is_a_503(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capfd: Capture) -> None:
    monkeypatch.setattr(RequestBody, "spool", _disk_is_full)
    with Running(echo, body_buffer=1000, **options) as running:
        for method in ("reads on", "stops"):
            client = running.client()
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n" + b"x" * 100_000)
            if method == "reads on":
                with contextlib.suppress(OSError):
                    client.send(b"x" * 100_000)
            response = client.read()
            assert (response.status, response.get("Connection"), response.get("Retry-After")) == (503, "close", "5")
        assert running.client().request("POST", "/", body=b"small").status == 200
    lines = [line for line in capfd.readouterr().err.splitlines() if "the spool file of a request body failed" in line]
    assert [line.partition("failed")[2] for line in lines] == [
        ": [Errno 28] No space left on device",
        ", 1 more time within 10 s; the last: [Errno 28] No space left on device",
    ]


def test_a_disk_that_is_full_when_the_body_is_complete_is_a_503(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    monkeypatch.setattr(RequestBody, "reader", _disk_is_full)
    with Running(echo, **options) as running, running.client() as client:
        client.send(encode_request("POST", "/", body=b"x") + HELLO)
        response = client.read()
        assert (response.status, response.get("Connection"), response.get("Retry-After")) == (503, "close", "5")
        assert client.at_end()
        assert running.client().get("/x").status == 200
    assert "No space left" in capfd.readouterr().err


def test_a_response_that_ends_the_connection_while_the_next_body_is_spooled(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client then stops in the middle of its body, and nothing else shows that the connection has to end."""
    spooling, go_on, gate = threading.Event(), threading.Event(), Gate()
    real = RequestBody.spool

    def spool(body: RequestBody) -> None:
        spooling.set()
        assert go_on.wait(SECONDS)
        real(body)

    def application(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        gate.entered.set()
        assert gate.opened.wait(SECONDS)
        start_response("200 OK", [("Content-Length", "9")])
        return [b"short" if environ["PATH_INFO"] == "/hello" else b"long enou"]

    monkeypatch.setattr(RequestBody, "spool", spool)
    with Running(application, body_buffer=1000, **options) as running:
        client = running.client()
        client.send(HELLO)
        assert gate.entered.wait(SECONDS)
        client.send(encode_request("POST", "/", body=b"x" * 100_000)[:50_000])
        assert spooling.wait(SECONDS)
        gate.opened.set()
        with pytest.raises(TruncatedError):
            client.read()
        go_on.set()
        assert running.client().get("/other").status == 200


def test_a_client_that_leaves_while_its_body_is_spooled(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    spooling, go_on = threading.Event(), threading.Event()
    real = RequestBody.spool

    def spool(body: RequestBody) -> None:
        spooling.set()
        assert go_on.wait(SECONDS)
        real(body)

    monkeypatch.setattr(RequestBody, "spool", spool)
    with Running(echo, body_buffer=1000, **options) as running:
        client = running.client()
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n" + b"x" * 50_000)
        assert spooling.wait(SECONDS)
        reset(client)
        assert running.client().get("/other").status == 200
        go_on.set()
        assert running.client().request("POST", "/", body=b"y" * 5000).status == 200


@pytest.fixture
def closers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the threads that close spool files of bodies."""
    names: list[str] = []
    real = body_module._close

    def close(file: BinaryIO, lease: SpoolLease) -> None:
        names.append(threading.current_thread().name)
        real(file, lease)

    monkeypatch.setattr(body_module, "_close", close)
    return names


def test_a_connection_ends_though_a_body_behind_its_last_response_is_spooled(
    closers: list[str], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    spooling, go_on = threading.Event(), threading.Event()
    real = RequestBody.spool

    def spool(body: RequestBody) -> None:
        spooling.set()
        assert go_on.wait(SECONDS)
        real(body)

    def application(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        assert spooling.wait(SECONDS)
        start_response("200 OK", [("Connection", "close")])
        return [b"last"]

    monkeypatch.setattr(RequestBody, "spool", spool)
    with Running(application, body_buffer=1000, **options) as running, running.client() as client:
        client.send(HELLO + b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n" + b"x" * 50_000)
        assert client.read().body == b"last"
        go_on.set()
        assert client.at_end()
    assert closers == ["starman-close"]


def spools() -> int:
    return sum(name.endswith("(deleted)") for name in descriptors())


@pytest.mark.parametrize("end", ["reset", "refused"])
def test_the_loop_closes_no_spool_file_of_an_upload(end: str, closers: list[str], options: dict[str, Any]) -> None:
    before = spools()
    with Running(echo, body_buffer=1000, max_body="100K", **options) as running:
        client = running.client()
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nC350\r\n" + b"x" * 50_000)
        assert wait_until(lambda: spools() == before + 1)
        if end == "reset":
            reset(client)
        else:
            client.send(b"\r\nFFFFF\r\n")
            assert client.read().status == 413
        assert running.client().get("/other").status == 200
        assert wait_until(lambda: spools() == before)
    assert closers == ["starman-close"]


def test_the_loop_closes_no_spool_file_of_a_request_that_is_not_run(
    closers: list[str], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = threading.Event()
    real = Connection.queue_request

    def offer(connection: Connection, head: Any, body: Any, kind: Any = Exchange) -> None:
        real(connection, head, body, kind)
        if body is not None:
            waits.set()

    monkeypatch.setattr(Connection, "queue_request", offer)
    gate = Gate()
    before = spools()
    with Running(gate, body_buffer=1000, **options) as running, running.client() as client:
        client.send(encode_request("GET", "/gate") + encode_request("POST", "/", body=b"x" * 50_000))
        assert gate.entered.wait(SECONDS)
        assert waits.wait(SECONDS)
        assert spools() == before + 1
        running.call(running.service.abort)
        running.join()
        gate.opened.set()
        assert wait_until(lambda: spools() == before)
    assert closers == ["starman-close"]


# Files


def file_application(path: Path) -> Callable[..., Any]:
    def application(environ: dict[str, Any], start_response: Start) -> Any:
        if environ["PATH_INFO"] == "/small":
            start_response("200 OK", [])
            return [b"small"]
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](path.open("rb"))

    return application


@pytest.mark.parametrize("size", [1, 65_536, 65_537, 10_000_000])
def test_files_go_whole(size: int, options: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(size))
    with Running(file_application(path), threads=1, **options) as running:
        slow, quick = running.client(4096), running.client()
        slow.send(encode_request("GET", "/file") * 2 + encode_request("GET", "/small"))
        assert quick.get("/small").body == b"small"
        bodies = [response.body for response in slow.read_many(["GET"] * 3)]
        assert bodies == [path.read_bytes(), path.read_bytes(), b"small"]


@inline_too
def test_hazard_17_a_file_that_shrinks_visibly_truncates_the_response(
    options: dict[str, Any], tmp_path: Path, capfd: Capture
) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(10_000_000))
    with Running(file_application(path), threads=1, **options) as running:
        client = running.client(4096)
        client.send(encode_request("GET", "/file"))
        client.read_head()
        os.truncate(path, 0)
        with pytest.raises(TruncatedError):
            client._read_exactly(10_000_000)
        assert running.client().get("/small").body == b"small"
    assert "a file could not be sent whole" in capfd.readouterr().err


@inline_too
def test_a_reader_of_a_file_that_stops_is_reset(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(10_000_000))
    with Running(file_application(path), threads=1, write_timeout=0.3, **options) as running:
        client = running.client(4096)
        client.send(encode_request("GET", "/file"))
        time.sleep(0.6)  # the client stops reading
        with pytest.raises(TruncatedError):
            client.read()


@inline_too
def test_a_reader_of_a_file_that_leaves(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(10_000_000))
    with Running(file_application(path), threads=1, **options) as running:
        for _ in range(3):
            client = running.client(4096)
            client.send(encode_request("GET", "/file"))
            client.read_head()
            reset(client)
        assert running.client().get("/small").body == b"small"


# Errors


@inline_too
def test_errors_in_mid_body_are_visible(options: dict[str, Any]) -> None:
    def application(environ: dict[str, Any], start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Length", "100")] if environ["PATH_INFO"] == "/length" else [])
        yield b"begun"
        raise RuntimeError("boom")

    with Running(application, **options) as running:
        for request in (
            encode_request("GET", "/length"),
            encode_request("GET", "/chunked"),
            b"GET /length HTTP/1.0\r\n\r\n",
        ):
            client = running.client()
            client.send(request)
            with pytest.raises(TruncatedError):
                client.read()
        client = running.client()
        client.send(b"GET /close HTTP/1.0\r\n\r\n")
        client.read_head()
        if isinstance(running.address, tuple):  # a UNIX socket knows no reset after the data is read
            with pytest.raises(ConnectionResetError):  # a FIN would look like the end of the body
                client.read_to_end()


@inline_too
def test_a_defect_of_ours_resets_the_connection_and_no_more(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    real = Exchange.may_persist

    def defective(exchange: Exchange) -> bool:
        if exchange.head.path == b"/defect":
            raise SystemExit("a defect")
        return real(exchange)

    def failing(self: Any, environ: Any, *arguments: Any) -> None:
        if environ["PATH_INFO"] == "/log":
            raise RuntimeError("a defect of the log")

    monkeypatch.setattr(Exchange, "may_persist", defective)
    monkeypatch.setattr("starman.serving.access_log.access_log.AccessLog.add", failing)
    with Running(echo, threads=1, access_log=os.devnull, **options) as running:
        client = running.client()
        assert client.get("/defect").status == 500
        client = running.client()
        client.send(encode_request("GET", "/log") + HELLO)
        assert client.read().body == b"/log|"
        assert client.at_end()  # instead of waiting for ever
        assert running.client().get("/fine").status == 200
    assert "an exchange failed inside starman" in capfd.readouterr().err


@inline_too
def test_an_application_that_empties_its_environ_spoils_only_the_log(tmp_path: Path, options: dict[str, Any]) -> None:
    def application(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        environ.clear()
        start_response("200 OK", [])
        return [b"x"]

    with Running(application, access_log=str(tmp_path / "log"), **options) as running, running.client() as client:
        client.send(HELLO * 3)
        assert [response.body for response in client.read_many(["GET"] * 3)] == [b"x"] * 3
        running.drain()  # `abort` would not wait for the thread that logs the last request
        running.join()
    assert (tmp_path / "log").read_text().count('"- - -" 200 1') == 3


def test_a_connection_ends_although_its_thread_cannot_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread without memory posts nothing to the loop. The response has failed: the tick resets the connection."""

    def application(environ: dict[str, Any], start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"begun"
        raise ValueError("in mid body")

    post = Pool.post

    def fail(self: Pool, callback: Callable[..., object], *arguments: Any) -> None:
        if getattr(callback, "__name__", "") == "cut":
            raise MemoryError
        post(self, callback, *arguments)

    monkeypatch.setattr(Pool, "post", fail)
    with Running(application, threads=1) as running:
        client = running.client()
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        assert client.read_head().status == 200
        with pytest.raises(ConnectionResetError):
            client.read_to_end()
