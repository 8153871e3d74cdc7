"""serving.sending.corking and thread_socket: responses that are held back while other requests wait, never for
long."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starman.serving.executors import inline as inline_module
from starman.serving.sending import corking as corking_module
from starman.serving.sending import thread_socket as thread_socket_module
from starman.serving.sending.corking import AT_ONCE, CONVINCING, LARGEST, LONGEST, Corking, Pace
from starman.serving.sending.spool import SpoolLimits
from starman.serving.sending.thread_socket import MOST_HELD
from starman.serving.sending.writer import Writer
from starman.serving.sending.writer_state import WriterState
from tests.functional.support.harness import wait_until
from tests.functional.support.wire import Client, encode_request
from tests.unit.serving.fakes import Bridge, FakeExchange, bridge
from tests.unit.serving.running import SECONDS, Running

Start = Callable[..., Any]


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What was written, a system call each."""
    made: list[bytes] = []

    class Watched:
        dup, close = staticmethod(os.dup), staticmethod(os.close)

        @staticmethod
        def write(fd: int, data: bytes) -> int:
            made.append(data)
            return os.write(fd, data)

        @staticmethod
        def writev(fd: int, pieces: tuple[bytes, ...]) -> int:
            made.append(b"".join(pieces))
            return os.writev(fd, pieces)

    monkeypatch.setattr(thread_socket_module, "os", Watched)
    return made


def held_back(b: Bridge, *responses: bytes) -> Any:
    """Requests of one connection with responses that are held back; the last of them has still to return."""
    corked: deque[Writer] = deque()
    exchanges = [b.offer() for _ in responses]
    for number, (exchange, response) in enumerate(zip(exchanges, responses, strict=True)):
        if number:
            assert b.writer.release(exchanges[number - 1], True) is exchange
        assert b.writer.hold(exchange, response, corked)
    assert list(corked) == [b.writer], "it adds itself once"
    return exchanges[-1]


# The writer


def test_pipelined_responses_leave_in_one_write(writes: list[bytes]) -> None:
    with bridge() as b:
        b.writer.release(held_back(b, b"one ", b"two ", b"three"), True)
        assert (b.writer.state, writes) == (WriterState.FREE, [])
        b.writer.flush()
        b.writer.flush()
        assert (b.client.recv(100), writes) == (b"one two three", [b"one two three"])


def test_many_pieces_leave_in_one_write_and_large_ones_uncopied(writes: list[bytes]) -> None:
    with bridge() as b:
        exchange = held_back(b, *[b"%d," % number for number in range(900)])
        b.writer.flush()
        assert writes == [b"".join(b"%d," % number for number in range(900))]
        assert b.client.recv(1 << 16) == writes.pop()
        b.writer.release(exchange, True)
        pieces = [os.urandom(MOST_HELD // 7) for _ in range(6)]
        left = MOST_HELD - len(b"".join(pieces))
        exchange = held_back(b, *pieces)
        assert not b.writer.hold(exchange, b"-" * (left + 1), deque()), "too much"
        assert b.writer.hold(exchange, b"-" * left, deque())
        rest = b.writer.send(exchange, b"head", b"data")
        assert rest is not None
        assert writes == [b"".join(pieces) + b"-" * left + b"headdata"]
        assert writes[0].endswith(rest)
        assert b.client.recv(1 << 20) == writes[0][: -len(rest)]


def test_what_is_written_next_comes_behind_it_in_the_same_write(writes: list[bytes]) -> None:
    with bridge() as b:
        exchange = held_back(b, b"one ")
        b.offer()
        exchange = b.writer.release(exchange, True)
        assert b.writer.send(exchange, b"two ", b"three") is None
        assert (b.client.recv(100), writes) == (b"one two three", [b"one two three"])


@pytest.mark.parametrize("what", ["ask", "rest", "abandon", "detach"])
def test_nothing_overtakes_it(what: str) -> None:
    with bridge() as b:
        exchange = held_back(b, b"held")
        if what in ("ask", "rest"):
            b.writer.release(exchange, True)
            assert not b.writer.wake_when_done() if what == "ask" else b.writer.close_idle()
        elif what == "abandon":
            b.writer.abandon(exchange)
        else:
            thread = threading.Thread(target=b.writer.detach, args=(exchange,))
            thread.start()
            b.loop.run_one(wait=True)
            thread.join(SECONDS)
        assert b.client.recv(100) == b"held"


@pytest.mark.parametrize("persistent", [True, False])
def test_what_does_not_fit_is_written_by_the_loop(persistent: bool) -> None:
    with bridge() as b:
        response = os.urandom(MOST_HELD)
        b.writer.release(held_back(b, response), persistent)
        b.writer.flush()
        assert b.writer.state is WriterState.RETURNED
        assert read_all(b, len(response)) == response
        b.loop.run_all()
        assert b.writer.state is (WriterState.FREE if persistent else WriterState.DEAD)


def test_what_does_not_fit_comes_before_the_response_that_is_being_made() -> None:
    with bridge() as b:
        response = os.urandom(MOST_HELD)
        exchange = held_back(b, response)
        b.offer()
        exchange = b.writer.release(exchange, True)
        b.writer.flush()
        assert b.writer.state is WriterState.SPOOLING
        rest = b.writer.send(exchange, b"and ", b"more")
        assert rest == b"and more"
        b.writer.hand_over(exchange, rest, last=True)
        assert read_all(b, len(response) + 8) == response + b"and more"
        assert b.writer.release(exchange, True) is None
        assert b.writer.state is WriterState.FREE


def read_all(b: Bridge, count: int) -> bytes:
    """What the client reads while the loop writes."""
    data = b""
    while len(data) < count:
        b.loop.run_all()
        if b.connection.flush():
            b.connection.on_queue_sent()
        data += b.client.recv(1 << 20)
    b.connection.on_queue_sent()
    return data


def test_a_connection_ends_when_its_last_response_is_written() -> None:
    with bridge() as b:
        b.writer.release(held_back(b, b"held"), False)
        assert b.writer.state is WriterState.RETURNED
        assert b.connection.on_queue_sent() is None  # as after the loop's own 100 Continue
        assert (b.writer.state, b.connection.times_done) == (WriterState.RETURNED, 0)
        b.writer.flush()
        assert b.writer.state is WriterState.ENDING
        b.loop.run_all()
        assert b.connection.times_done == 1
        assert b.client.recv(100) == b"held"


@pytest.mark.parametrize("persistent", [True, False])
def test_a_client_that_is_gone_is_cut(persistent: bool) -> None:
    with bridge() as b:
        b.writer.release(held_back(b, b"held"), persistent)
        b.client.close()
        b.writer.flush()
        assert b.writer.state is WriterState.DEAD
        b.loop.run_all()
        assert b.connection.write_failures == 1
        b.writer.flush()


def test_what_is_held_for_a_lost_connection_is_forgotten(writes: list[bytes]) -> None:
    with bridge() as b:
        exchange = held_back(b, b"held")
        b.writer.lose()
        b.writer.flush()
        assert b.writer.release(exchange, True) is None
        assert writes == []


def test_only_a_running_exchange_with_a_descriptor_has_its_response_held() -> None:
    with bridge() as b:
        exchange = b.offer()
        b.writer.keep(exchange, memoryview(b"begun"), SpoolLimits(1 << 20, 0), last=False)
        assert not b.writer.hold(exchange, b"not held", deque())
    with bridge() as b:
        fake: Any = FakeExchange()
        assert b.writer.offer(fake, -1, False)
        assert not b.writer.hold(fake, b"not held", deque())
    with bridge() as b:
        b.offer()
        assert not b.writer.hold(fake, b"not held", deque())


def test_the_corking_is_emptied_in_order_and_once(writes: list[bytes]) -> None:
    one, two = Bridge(), Bridge()
    corking = Corking(one.loop, deque(), holds_blocks=True)  # type: ignore[arg-type]
    try:
        for b, response in ((one, b"1"), (two, b"2"), (one, b"3")):
            exchange = b.offer()
            b.writer.hold(exchange, response, corking.writers)
            b.writer.release(exchange, True)
        corking.flush()
        assert (writes, list(corking.writers)) == ([b"13", b"2"], [])
    finally:
        one.close()
        two.close()


class Timers:
    """The methods of a loop that a Corking calls. posted: the callbacks to call soon; timers: the callbacks to call
    later, each behind its number of seconds."""

    def __init__(self) -> None:
        self.posted: list[Callable[[], None]] = []
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def call_soon_threadsafe(self, callback: Callable[[], None]) -> None:
        self.posted.append(callback)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        self.timers.append((seconds, callback))


class Flushed:
    """A writer that counts how often it is flushed."""

    def __init__(self) -> None:
        self.flushes = 0

    def flush(self) -> None:
        self.flushes += 1


def test_the_loop_is_woken_once_and_then_flushes_by_a_timer() -> None:
    # When the flush itself was posted, it ran before anything was held, and was posted again every few blocks: a long
    # response of 64 kB each had 0.75 of the rate of one without holding back.
    loop, writer = Timers(), Flushed()
    corking = Corking(loop, deque(), holds_blocks=True)  # type: ignore[arg-type]
    for _ in range(3):
        assert corking._start_timer()
    assert len(loop.posted) == 1
    loop.posted.pop()()
    assert corking._timer_runs, "a thread that adds something now need not write it"
    for found in (True, True, False):
        if found:
            corking.writers.append(writer)  # type: ignore[arg-type]
        [(seconds, flush)] = loop.timers
        assert seconds == LONGEST
        loop.timers.clear()
        flush()
        assert corking._timer_runs is found
    assert (writer.flushes, loop.posted, loop.timers) == (2, [], [])
    assert corking._start_timer()
    assert len(loop.posted) == 1


# The pace of blocks

GAPS = st.lists(st.sampled_from([0.0, AT_ONCE / 2, AT_ONCE, AT_ONCE * 1.01, AT_ONCE * 2, 1.0]), max_size=40)


def verdicts(gaps: list[float]) -> list[bool]:
    now = 1000.0
    pace = Pace(now)
    found = []
    for gap in gaps:
        now += gap
        found.append(pace.is_rapid(now))
    return found


def test_the_first_blocks_are_not_believed_to_be_followed() -> None:
    assert verdicts([0.0] * (CONVINCING + 2)) == [False] * CONVINCING + [True, True]


def test_one_that_had_to_be_waited_for_begins_anew() -> None:
    run = [0.0] * (CONVINCING + 1)
    assert verdicts([*run, 2 * AT_ONCE, *run]) == [False] * CONVINCING + [True, False] + [False] * CONVINCING + [True]


@given(GAPS)
def test_those_that_are_have_come_at_once_one_behind_the_other(gaps: list[float]) -> None:
    # What was added and taken away again is not exactly what it was.
    rapid = [gap <= AT_ONCE * 0.999 for gap in gaps]
    slow = [gap > AT_ONCE * 1.001 for gap in gaps]
    for number, verdict in enumerate(verdicts(gaps)):
        last = slice(max(0, number - CONVINCING), number + 1)
        if verdict:
            assert number >= CONVINCING
            assert not any(slow[last])
        elif number >= CONVINCING:
            assert not all(rapid[last])


# The pool


class Application:
    """/slow blocks, or computes, until it is told to go on; all else is quick. Targets of another size are answered at
    length."""

    def __init__(self, *, computes: bool = False) -> None:
        self.entered, self.go_on = threading.Event(), threading.Event()
        self.computes = computes
        self.size = 2

    def __call__(self, environ: dict[str, Any], start_response: Start) -> list[bytes]:
        if environ["PATH_INFO"] == "/slow":
            self.entered.set()
            while self.computes and not self.go_on.is_set():
                pass
            assert self.go_on.wait(SECONDS)
        start_response("200 OK", [])
        return [b"x" * self.size]


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What was held back."""
    responses: list[bytes] = []
    hold = Writer.hold

    def note(self: Writer, exchange: Any, data: bytes, corked: deque[Writer]) -> bool:
        held = hold(self, exchange, data, corked)
        if held:
            responses.append(data)
        return held

    monkeypatch.setattr(Writer, "hold", note)
    return responses


def at_once(running: Running, *sent: tuple[Any, bytes]) -> None:
    """Have the loop find all of this in one poll: let it stand still meanwhile, for longer than it is in the mode
    POOL."""
    stands, goes_on = threading.Event(), threading.Event()

    def stand() -> None:
        stands.set()
        goes_on.wait(SECONDS)

    running.call(stand)
    assert stands.wait(SECONDS)
    for client, data in sent:
        client.send(data)
    time.sleep(0.1)
    goes_on.set()


@pytest.mark.parametrize("computes", [False, True])
def test_no_client_waits_for_the_request_behind_its_own(computes: bool, held: list[bytes]) -> None:
    application = Application(computes=computes)
    with Running(application) as running, running.client() as quick, running.client() as slow:
        for client in (quick, slow):
            client.get("/")
        for _ in range(50):
            application.entered.clear()
            application.go_on.clear()
            at_once(running, (quick, encode_request("GET", "/quick")), (slow, encode_request("GET", "/slow")))
            assert quick.read().body == b"xx"
            assert not application.go_on.is_set()
            assert application.entered.wait(SECONDS)
            application.go_on.set()
            assert slow.read().body == b"xx"
            if held:
                return
        raise AssertionError("in 50 attempts no response was held back")


def test_what_is_large_is_not_held_back(held: list[bytes]) -> None:
    application = Application()
    application.size = LARGEST
    with Running(application) as running, running.client() as one, running.client() as other:
        for client in (one, other):
            client.get("/")
        at_once(running, *((client, encode_request("GET", "/") * 3) for client in (one, other)))
        for client in (one, other):
            assert [response.body for response in client.read_many(["GET"] * 3)] == [b"x" * LARGEST] * 3
        assert held == []


# Blocks


class Bursts:
    """Answers with a hundred blocks at once and then, while it blocks or computes, with nothing until it is told to go
    on."""

    def __init__(self, *, computes: bool) -> None:
        self.go_on = threading.Event()
        self.computes = computes

    def __call__(self, environ: dict[str, Any], start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Length", "101")])
        for number in range(100):
            yield b"%d" % (number % 10)
        while self.computes and not self.go_on.is_set():
            pass
        assert self.go_on.wait(SECONDS)
        yield b"."


def in_full(client: Client, count: int) -> bytes:
    """That many bytes of the body of a response, which may have more."""
    data = bytearray()
    while len(data.partition(b"\r\n\r\n")[2]) < count:
        received = client.socket.recv(1 << 16)
        assert received, "the connection has ended"
        data += received
    return bytes(data.partition(b"\r\n\r\n")[2])


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine, too, the blocks of a burst come at once."""
    monkeypatch.setattr(corking_module, "AT_ONCE", SECONDS)


@pytest.mark.parametrize("computes", [False, True])
@pytest.mark.parametrize("others", [0, 1])
def test_what_was_gathered_does_not_wait_for_the_next_block(
    computes: bool, others: int, unhurried: None, writes: list[bytes]
) -> None:
    application = Bursts(computes=computes)
    with Running(application, threads=1 + others) as running:
        clients = [running.client() for _ in range(1 + others)]
        for _ in range(5):
            application.go_on.clear()
            writes.clear()
            at_once(running, *((client, encode_request("GET", "/")) for client in clients))
            for client in clients:
                assert in_full(client, 100) == b"0123456789" * 10
            assert len(writes) < 40 * len(clients)
            application.go_on.set()
            for client in clients:
                assert client.socket.recv(10) == b"."


def test_a_client_that_reads_slowly_gets_all_in_order(unhurried: None, held: list[bytes]) -> None:
    blocks = [b"%d," % number * (number % 700) for number in range(3000)]

    def application(environ: dict[str, Any], start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield from blocks

    with Running(application) as running:
        client = running.client(receive_bytes=4096)
        for _ in range(2):
            client.send(encode_request("GET", "/"))
            time.sleep(0.1)
            assert client.read().body == b"".join(blocks)
    assert held


def test_without_threads_blocks_leave_one_by_one(unhurried: None, writes: list[bytes]) -> None:
    application = Bursts(computes=False)
    application.go_on.set()
    with Running(application, in_loop=True) as running:
        assert len(running.client().get("/").body) == 101
    assert len(writes) == 101


@pytest.mark.parametrize("in_loop", [False, True])
def test_pipelined_requests_of_many_are_answered_in_order(
    in_loop: bool, held: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A busy machine may well leave a request waiting for 5 ms, and behind such a one nothing is held.
    monkeypatch.setattr(inline_module, "_SLOW", SECONDS)

    def application(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        start_response("200 OK", [])
        return [environ["REQUEST_URI"].encode()]

    with Running(application, in_loop=in_loop) as running:
        clients = [running.client() for _ in range(5)]
        for client in clients:
            client.get("/")
        requests = b"".join(encode_request("GET", f"/{number}") for number in range(20))
        for _ in range(5):
            at_once(running, *((client, requests) for client in clients))
            for client in clients:
                assert [response.body for response in client.read_many(["GET"] * 20)] == [b"/%d" % n for n in range(20)]
        assert held


def test_without_threads_nothing_is_held_back_for_a_while_behind_a_slow_request(
    held: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def application(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        if environ["PATH_INFO"] == "/slow":
            time.sleep(inline_module._SLOW)
        start_response("200 OK", [])
        return [b"done"]

    def counted(*paths: str) -> int:
        before = len(held)
        at_once(running, *((client, encode_request("GET", path)) for client, path in zip(clients, paths, strict=True)))
        for client in clients:
            client.read()
        return len(held) - before

    monkeypatch.setattr(inline_module, "_SLOW", 0.5)  # for a busy machine
    monkeypatch.setattr(inline_module, "_WARY", 100.0)
    with Running(application, in_loop=True) as running:
        clients = [running.client() for _ in range(3)]
        for client in clients:
            client.get("/")
        assert counted("/", "/", "/") == 2
        assert counted("/slow", "/", "/") <= 1
        assert counted("/", "/", "/") == 0


def test_a_response_that_is_held_back_as_a_park_ends_does_not_wait_for_its_close(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread has seen the park; it ends, and the corking is empty yet; only then does the thread add its
    response."""
    go_on, races = threading.Event(), threading.Event()
    hold = Writer.hold

    class Response(list[bytes]):
        def close(self) -> None:
            go_on.wait(SECONDS)

    def application(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Length", "5")])
        return Response([b"first"]) if environ["PATH_INFO"] == "/first" else [b"other"]

    def late(self: Writer, exchange: Any, data: bytes, corked: deque[Writer]) -> bool:
        if data.endswith(b"first"):
            assert wait_until(lambda: not exchange._context.executor._parked, SECONDS)
            time.sleep(0.05)  # the loop empties the corking
            races.set()
        return hold(self, exchange, data, corked)

    monkeypatch.setattr(Writer, "hold", late)
    with Running(application, threads=2) as running, running.client() as one, running.client() as other:
        for client in (one, other):
            client.get("/")
        for _ in range(50):
            go_on.clear()
            at_once(running, (one, encode_request("GET", "/first")), (other, encode_request("GET", "/other")))
            assert one.read().body == b"first"
            go_on.set()
            assert other.read().body == b"other"
            if races.is_set():
                return
        raise AssertionError("in 50 attempts no response was held back")
