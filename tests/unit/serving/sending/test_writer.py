"""starman.serving.sending.writer: which request may send, against its table, and the hazards that it is made for."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from starman.errors import Disconnected
from starman.serving.executors.queued_request import EXPIRED
from starman.serving.sending.expiry import Ending, close_spool, expire, finish_in_time, set_time_limit
from starman.serving.sending.sendfile import FileRange, send_some
from starman.serving.sending.spool import SpoolLimits
from starman.serving.sending.thread_socket import MOST_HELD
from starman.serving.sending.writer import Writer
from starman.serving.sending.writer_state import TRANSITIONS, WriterState
from tests.functional.support.harness import wait_until
from tests.unit.serving.fakes import SECONDS, Bridge, FakeExchange, bridge
from tests.unit.serving.running import descriptors

MUCH = b"x" * 1_000_000

# The first blocks that are kept are in memory, those behind them in a file.
LIMITS = SpoolLimits(20_000, 1 << 30)
NO_FILE = SpoolLimits(20_000, 0)


Outcome = list[BaseException | None]


def in_thread(function: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[threading.Thread, Outcome]:
    """Run `function`, and note how it ended."""
    outcome: Outcome = []

    def run() -> None:
        try:
            function(*arguments, **options)
            outcome.append(None)
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcome


def read_all(client: socket.socket) -> bytes:
    data = b""
    while block := client.recv(1 << 20):
        data += block
    return data


# The table


def test_the_table_is_closed_and_dead_is_the_end() -> None:
    assert set(TRANSITIONS) == set(WriterState)
    assert TRANSITIONS[WriterState.DEAD] == frozenset()
    assert all(WriterState.DEAD in after for state, after in TRANSITIONS.items() if state is not WriterState.DEAD)


def reach_thread(b: Bridge) -> Any:
    return b.offer()


def held_back(b: Bridge, response: bytes = b"held") -> Any:
    exchange = b.offer()
    assert b.writer.hold(exchange, response, deque())
    return exchange


def reach_streaming(b: Bridge) -> tuple[threading.Thread, Outcome]:
    exchange = b.offer()
    ending = in_thread(b.writer.hand_over, exchange, memoryview(b"rest"), last=False)
    b.loop.run_one(wait=True)
    assert b.writer.state is WriterState.STREAMING
    return ending


def reach_finishing(b: Bridge) -> Any:
    exchange = b.offer()
    b.writer.hand_over(exchange, memoryview(b"rest"), last=True)
    b.loop.run_all()
    return exchange


def reach_spooling(b: Bridge) -> Any:
    exchange = b.offer()
    b.writer.keep(exchange, memoryview(b"kept"), LIMITS, last=False)
    b.loop.run_all()
    assert b.writer.state is WriterState.SPOOLING
    return exchange


def reach_spooled(b: Bridge) -> Any:
    exchange = reach_spooling(b)
    b.connection.flush()
    assert b.connection.on_queue_sent() is None
    assert b.writer.state is WriterState.SPOOLED
    return exchange


def reach_returned(b: Bridge, persistent: bool = True) -> None:
    assert b.writer.release(reach_finishing(b), persistent) is None


def reach_written(b: Bridge) -> Any:
    exchange = reach_finishing(b)
    b.connection.flush()
    assert b.connection.on_queue_sent() is None
    return exchange


def _keep(b: Bridge, exchange: Any, *, last: bool = False) -> None:
    b.writer.keep(exchange, memoryview(b"more"), LIMITS, last=last)


def _wait(b: Bridge, exchange: Any) -> None:
    thread, _ = in_thread(b.writer.hand_over, exchange, memoryview(b"more"), last=False)
    b.loop.run_one(wait=True)
    b.writer.lose()
    thread.join(SECONDS)


def _streaming_then(b: Bridge, end: Callable[[], object]) -> None:
    thread, _ = reach_streaming(b)
    end()
    thread.join(SECONDS)


def _pending_then(b: Bridge, end: Callable[[], object]) -> None:
    b.offer()
    end()


DRIVES: dict[tuple[WriterState, WriterState], Callable[[Bridge], object]] = {
    (WriterState.FREE, WriterState.THREAD): lambda b: b.offer(),
    (WriterState.FREE, WriterState.RETURNED): lambda b: b.offer(buffered=True),
    (WriterState.FREE, WriterState.DEAD): lambda b: b.writer.lose(),
    (WriterState.THREAD, WriterState.THREAD): lambda b: b.writer.release(_with_pending(b, reach_thread), True),
    (WriterState.THREAD, WriterState.FREE): lambda b: b.writer.release(reach_thread(b), True),
    (WriterState.THREAD, WriterState.STREAMING): lambda b: _streaming_then(b, b.writer.lose),
    (WriterState.THREAD, WriterState.SPOOLING): reach_spooling,
    (WriterState.THREAD, WriterState.FINISHING): reach_finishing,
    (WriterState.THREAD, WriterState.RETURNED): lambda b: b.writer.release(held_back(b), False),
    (WriterState.THREAD, WriterState.ENDING): lambda b: b.writer.release(reach_thread(b), False),
    (WriterState.THREAD, WriterState.DEAD): lambda b: b.writer.abandon(reach_thread(b)),
    (WriterState.STREAMING, WriterState.THREAD): lambda b: _streaming_then(b, b.connection.on_queue_sent),
    (WriterState.STREAMING, WriterState.DEAD): lambda b: _streaming_then(b, b.writer.lose),
    (WriterState.SPOOLING, WriterState.SPOOLING): lambda b: _keep(b, reach_spooling(b)),
    (WriterState.SPOOLING, WriterState.SPOOLED): reach_spooled,
    (WriterState.SPOOLING, WriterState.STREAMING): lambda b: _wait(b, reach_spooling(b)),
    (WriterState.SPOOLING, WriterState.FINISHING): lambda b: _keep(b, reach_spooling(b), last=True),
    (WriterState.SPOOLING, WriterState.RETURNED): lambda b: b.writer.release(reach_spooling(b), True),
    (WriterState.SPOOLING, WriterState.DEAD): lambda b: (reach_spooling(b), b.writer.lose()),
    (WriterState.SPOOLED, WriterState.THREAD): lambda b: b.writer.send(reach_spooled(b), b"", b"x"),
    (WriterState.SPOOLED, WriterState.FREE): lambda b: b.writer.release(reach_spooled(b), True),
    (WriterState.SPOOLED, WriterState.STREAMING): lambda b: _wait(b, reach_spooled(b)),
    (WriterState.SPOOLED, WriterState.SPOOLING): lambda b: _keep(b, reach_spooled(b)),
    (WriterState.SPOOLED, WriterState.FINISHING): lambda b: _keep(b, reach_spooled(b), last=True),
    (WriterState.SPOOLED, WriterState.ENDING): lambda b: b.writer.release(reach_spooled(b), False),
    (WriterState.SPOOLED, WriterState.DEAD): lambda b: b.writer.abandon(reach_spooled(b)),
    (WriterState.FINISHING, WriterState.RETURNED): reach_returned,
    (WriterState.FINISHING, WriterState.WRITTEN): reach_written,
    (WriterState.FINISHING, WriterState.DEAD): lambda b: (reach_finishing(b), b.writer.lose()),
    (WriterState.RETURNED, WriterState.THREAD): lambda b: (reach_returned(b), b.offer(), b.connection.on_queue_sent()),
    (WriterState.RETURNED, WriterState.FREE): lambda b: (reach_returned(b), b.connection.on_queue_sent()),
    (WriterState.RETURNED, WriterState.ENDING): lambda b: (reach_returned(b, False), b.connection.on_queue_sent()),
    (WriterState.RETURNED, WriterState.DEAD): lambda b: (reach_returned(b), b.writer.lose()),
    (WriterState.WRITTEN, WriterState.THREAD): lambda b: b.writer.release(_with_pending(b, reach_written), True),
    (WriterState.WRITTEN, WriterState.FREE): lambda b: b.writer.release(reach_written(b), True),
    (WriterState.WRITTEN, WriterState.ENDING): lambda b: b.writer.release(reach_written(b), False),
    (WriterState.WRITTEN, WriterState.DEAD): lambda b: (reach_written(b), b.writer.lose()),
    (WriterState.ENDING, WriterState.DEAD): lambda b: (b.writer.release(reach_thread(b), False), b.writer.lose()),
}


def _with_pending(b: Bridge, reach: Callable[[Bridge], Any]) -> Any:
    exchange = reach(b)
    b.offer()
    return exchange


def test_there_is_a_way_for_every_row_of_the_table() -> None:
    assert set(DRIVES) == {(state, after) for state, allowed in TRANSITIONS.items() for after in allowed}


@pytest.mark.parametrize("row", DRIVES, ids=lambda row: f"{row[0].name}-{row[1].name}")
def test_every_transition_of_the_table_happens(row: tuple[WriterState, WriterState]) -> None:
    with bridge() as b:
        DRIVES[row](b)
        assert row in b.writer.seen
        assert all(after in TRANSITIONS[state] for state, after in b.writer.seen)


# The model: a client, a loop and a thread that do whatever hypothesis pleases


class World(RuleBasedStateMachine):
    """One connection. The model is the bytes the client must get, in order, and the exchange that runs."""

    def __init__(self) -> None:
        super().__init__()
        self.b = Bridge()
        self.writer = self.b.writer
        self.running: Any = None
        self.waiting: list[Any] = []
        self.offered: list[Any] = []
        self.expected = bytearray()
        self.received = bytearray()
        self.lost = False
        self.asked = False
        self.times_before = 0
        self.ended = False
        self.stream: tuple[threading.Thread, Outcome] | None = None
        self.sent_at_start = 0
        self.late: Any = None  # the exchange whose deadline has passed, until its thread returns

    # The loop

    @rule(buffered_if_free=st.booleans())
    def offer(self, buffered_if_free: bool) -> None:
        free = self.writer.state is WriterState.FREE
        over = self.writer.state in (WriterState.ENDING, WriterState.DEAD)
        exchange = FakeExchange(len(self.offered))
        now = self.writer.offer(exchange, self.b.connection.socket.fileno(), free and buffered_if_free)  # type: ignore[arg-type]
        self.offered.append(exchange)
        if over:
            assert not now
            assert exchange.drops == 1
        elif now:
            assert free
            self.running = exchange
            self.sent_at_start = len(self.expected)
        else:
            self.waiting.append(exchange)

    @rule()
    def loop_runs_what_was_posted(self) -> None:
        self.b.loop.run_one()
        self.lost = self.lost or self.b.connection.lost

    @rule()
    def loop_writes(self) -> None:
        if not self.lost and self.b.connection.flush():
            following = self.b.connection.on_queue_sent()
            self._started(following)
            self._stream_ends()

    @rule()
    def loop_waits_for_the_end(self) -> None:
        before = self.writer.state
        if not self.lost:
            asked = self.writer.wake_when_done()
            assert (
                before is not WriterState.FREE or not asked or self.writer.state is WriterState.RETURNED
            )  # what was held did not fit
            assert asked is (self.writer.state is not WriterState.FREE)
            assert self.writer.state is WriterState.DEAD or not self.writer.thread_socket.held
            if asked and before is not WriterState.ENDING:
                self.asked = True
                self.times_before = self.b.connection.times_done

    @precondition(lambda self: self.running is not None)
    @rule(complete=st.booleans(), close_delimited=st.booleans())
    def the_deadline_passes(self, complete: bool, close_delimited: bool) -> None:
        before = self.writer.state
        begun = len(self.expected) > self.sent_at_start
        self.running.time_limit = 1.0
        complete = complete and begun
        call: Any = SimpleNamespace(has_begun=begun, is_complete=complete, ends_with_connection=close_delimited)
        ending = expire(self.writer, self.running, call, b"<504>")
        if before is WriterState.STREAMING:
            assert ending is Ending.NOT_NOW
            return
        assert self.running.time_limit == EXPIRED
        self.late, self.running = self.running, None
        if ending is Ending.ANSWERED:
            self.expected += b"<504>"
        self.ended = True
        gone = before is WriterState.DEAD
        assert gone <= (ending is Ending.GONE)
        assert gone or ending is Ending.GONE or (ending is Ending.ANSWERED) is not begun
        assert gone or (ending is Ending.COMPLETE) is complete

    @precondition(lambda self: self.late is not None)
    @rule(data=st.binary(min_size=1, max_size=50))
    def a_late_thread_gets_nowhere(self, data: bytes) -> None:
        with pytest.raises(Disconnected):
            self.writer.send(self.late, b"", data)
        assert not self.writer.hold(self.late, data, deque())
        with pytest.raises(Disconnected):
            self.writer.keep(self.late, memoryview(data), LIMITS, last=True)
        set_time_limit(self.writer, self.late, 5.0)
        assert self.late.time_limit == EXPIRED

    @precondition(lambda self: self.late is not None)
    @rule(fails=st.booleans())
    def a_late_thread_returns(self, fails: bool) -> None:
        late, self.late = self.late, None
        if fails:
            self.writer.abandon(late)
        else:
            assert not finish_in_time(self.writer, late)
        close_spool(self.writer)
        assert self.writer.release(late, True) is None

    @rule()
    def loop_rests(self) -> None:
        self.writer.close_idle()
        assert (self.writer.thread_socket.fd < 0) or self.writer.state is not WriterState.FREE

    @rule()
    def loop_loses_the_connection(self) -> None:
        self.b.connection.lose()
        self.lost = True
        self._stream_ends()

    # The thread

    @precondition(lambda self: self.running is not None and self.stream is None)
    @rule(
        data=st.binary(min_size=1, max_size=50),
        times=st.sampled_from([1, 200, 2000]),
        last=st.booleans(),
        waits=st.booleans(),
    )
    def thread_sends(self, data: bytes, times: int, last: bool, waits: bool) -> None:
        data *= times
        may = self.writer.state in (WriterState.THREAD, WriterState.SPOOLING, WriterState.SPOOLED)
        adds = self.writer.state is WriterState.SPOOLING
        try:
            unsent = self.writer.send(self.running, data[:7], data[7:])
        except Disconnected:
            assert not may
            return
        assert may
        assert not adds or unsent == data
        self.expected += data
        if unsent is not None:
            if not waits:
                self.writer.keep(self.running, unsent, LIMITS, last=last)
            elif last:
                self.writer.hand_over(self.running, unsent, last=True)
            else:
                self.stream = in_thread(self.writer.hand_over, self.running, unsent, last=False)
                while self.writer.state is not WriterState.STREAMING:
                    pass

    @precondition(lambda self: self.running is not None and self.stream is None)
    @rule(data=st.binary(min_size=1, max_size=50), times=st.sampled_from([1, 200, 2000]))
    def thread_holds_back(self, data: bytes, times: int) -> None:
        data *= times
        held = self.writer.thread_socket.held_size
        corked: deque[Writer] = deque()
        is_held = self.writer.hold(self.running, data, corked)
        may = self.writer.state is WriterState.THREAD and held + len(data) <= MOST_HELD
        assert is_held is may
        assert list(corked) == ([self.writer] if may and not held else [])
        if is_held:
            self.expected += data
            assert self.writer.thread_socket.held_size == held + len(data)

    @rule()
    def either_side_empties_the_corking(self) -> None:
        self.writer.flush()
        assert not self.writer.thread_socket.held

    @precondition(lambda self: self.running is not None and self.stream is None)
    @rule(persistent=st.booleans())
    def thread_returns(self, persistent: bool) -> None:
        exchange, self.running = self.running, None
        if self.writer.state in (WriterState.THREAD, WriterState.WRITTEN, WriterState.FINISHING) and not persistent:
            self.ended = True
        self._started(self.writer.release(exchange, persistent))

    @precondition(lambda self: self.running is not None and self.stream is None)
    @rule()
    def thread_abandons(self) -> None:
        exchange, self.running = self.running, None
        self.writer.abandon(exchange)
        assert self.writer.release(exchange, False) is None

    @rule()
    def a_stale_exchange_gets_nowhere(self) -> None:
        stale: Any = FakeExchange()
        with pytest.raises(Disconnected):
            self.writer.send(stale, b"", b"forged")
        assert not self.writer.hold(stale, b"forged", deque())
        with pytest.raises(Disconnected):
            self.writer.hand_over(stale, memoryview(b"forged"), last=True)
        with pytest.raises(Disconnected):
            self.writer.keep(stale, memoryview(b"forged"), LIMITS, last=True)
        assert self.writer.release(stale, False) is None
        self.writer.abandon(stale)

    # The client

    @rule(size=st.sampled_from([1, 1000, 1 << 20]))
    def client_reads(self, size: int) -> None:
        self.b.client.setblocking(False)
        with contextlib.suppress(BlockingIOError, ConnectionResetError):
            self.received += self.b.client.recv(size)

    # What must hold

    def _started(self, exchange: Any) -> None:
        if exchange is not None:
            assert self.running is None
            assert exchange is self.waiting.pop(0)
            self.running = exchange
            self.sent_at_start = len(self.expected)

    def _stream_ends(self) -> None:
        if self.stream is not None and self.writer.state is not WriterState.STREAMING:
            thread, outcome = self.stream
            thread.join(SECONDS)
            assert len(outcome) == 1, "the thread was not woken"
            (error,) = outcome
            assert (error is None) is (self.writer.state is WriterState.THREAD)
            assert error is None or isinstance(error, Disconnected)
            self.stream = None

    @invariant()
    def the_table_is_obeyed(self) -> None:
        for state, after in self.writer.seen:
            assert after in TRANSITIONS[state] or state is after is WriterState.DEAD

    @invariant()
    def bytes_arrive_whole_in_order_and_once(self) -> None:
        assert self.expected.startswith(self.received)

    @invariant()
    def the_dead_have_no_descriptor_and_nothing_pending(self) -> None:
        if self.writer.state is WriterState.DEAD:
            assert self.writer.thread_socket.fd < 0
        if self.writer.state in (WriterState.DEAD, WriterState.ENDING) and not len(
            self.writer.pending
        ):  # the loop has heard of it
            assert all(exchange.drops == 1 for exchange in self.waiting)
            self.waiting.clear()
        assert len(self.writer.pending) == len(self.waiting)

    @invariant()
    def only_a_spooling_writer_has_a_spool(self) -> None:
        if self.late is not None:
            return
        if self.running is None or self.writer.state not in (WriterState.SPOOLING, WriterState.SPOOLED, WriterState.DEAD):
            assert self.writer._spool is None

    @invariant()
    def one_that_ran_is_never_dropped(self) -> None:
        assert self.running is None or self.running.drops == 0
        assert all(exchange.drops <= 1 for exchange in self.offered)

    @invariant()
    def no_wake_is_lost(self) -> None:
        if self.asked and self.writer.state in (WriterState.FREE, WriterState.ENDING):
            while self.b.loop.run_one():
                pass
            self.lost = self.lost or self.b.connection.lost
            assert self.b.connection.times_done > self.times_before or self.lost
            self.asked = False

    def teardown(self) -> None:
        self.writer.flush()
        while self.received != self.expected and not self.lost and self.writer.state is not WriterState.DEAD:
            self.loop_runs_what_was_posted()
            self.loop_writes()
            self.client_reads(1 << 20)
            self.bytes_arrive_whole_in_order_and_once()
        if self.writer.state in (WriterState.DEAD, WriterState.ENDING):
            self.b.loop.run_all()
            assert (self.writer.state, len(self.writer.pending)) == (WriterState.DEAD, 0)
        self.b.connection.lose()
        self._stream_ends()
        assert self.stream is None
        if self.running is not None:
            self.writer.release(self.running, True)
        if self.late is not None:
            self.a_late_thread_returns(fails=False)
        assert self.writer._spool is None
        assert self.writer.thread_socket.fd == -1
        self.b.loop.run_all()
        self.b.close()


TestWorld = World.TestCase
TestWorld.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_no_descriptor_is_left_or_closed_twice() -> None:
    """A number that is closed twice would close another file: watch it through the numbers that the system gives
    out."""
    with bridge() as b:
        for _ in range(20):
            exchange = b.offer()
            number = b.writer.thread_socket.fd
            b.writer.release(exchange, True)
            b.writer.close_idle()
            with tempfile.TemporaryFile() as file:
                assert file.fileno() == number  # it is free again
                b.writer.close_idle()
                os.fstat(file.fileno())
        exchange = b.offer()
        b.writer.lose()
        with tempfile.TemporaryFile() as file:
            b.writer.lose()
            b.writer.abandon(exchange)
            b.writer.release(exchange, True)
            os.fstat(file.fileno())


# Offering, and the order of exchanges


def test_exchanges_of_a_connection_run_in_order_one_at_a_time() -> None:
    with bridge() as b:
        first, second, third = (FakeExchange(number) for number in range(3))
        assert b.writer.offer(first, b.connection.socket.fileno(), False)  # type: ignore[arg-type]
        assert not b.writer.offer(second, b.connection.socket.fileno(), False)  # type: ignore[arg-type]
        assert not b.writer.offer(third, b.connection.socket.fileno(), False)  # type: ignore[arg-type]
        assert len(b.writer.pending) == 2
        assert b.writer.release(first, True) is second  # type: ignore[arg-type]
        assert b.writer.release(first, True) is None  # type: ignore[arg-type]
        assert b.writer.release(second, True) is third  # type: ignore[arg-type]
        assert not len(b.writer.pending)
        assert b.writer.release(third, True) is None  # type: ignore[arg-type]
        assert b.writer.state is WriterState.FREE


def test_after_the_last_response_what_waits_is_dropped() -> None:
    with bridge() as b:
        first, second = b.offer(), b.offer()
        assert b.writer.release(first, False) is None
        assert b.writer.state is WriterState.ENDING
        late = b.offer()
        assert late.drops == 1
        b.loop.run_all()
        assert b.connection.times_done == 1
        assert second.drops == 1
        later = b.offer()
        assert later.drops == 1


def _send_last(b: Bridge) -> Any:
    exchange = b.offer()
    assert b.writer.send(exchange, b"la", b"st") is None
    return exchange


def _hand_over_last(b: Bridge) -> Any:
    exchange = b.offer()
    b.writer.hand_over(exchange, memoryview(b"last"), last=True)
    return exchange


def _keep_last(b: Bridge) -> Any:
    exchange = b.offer()
    b.writer.keep(exchange, memoryview(b"last"), LIMITS, last=True)
    return exchange


@pytest.mark.parametrize("write", [_send_last, lambda b: held_back(b, b"last"), _hand_over_last, _keep_last])
def test_the_write_of_the_last_bytes_tells_the_client_that_nothing_follows(write: Callable[[Bridge], Any]) -> None:
    with bridge() as b:
        b.client.setblocking(False)
        assert b.writer.release(write(b), False) is None
        b.writer.flush()
        if b.writer.state is WriterState.RETURNED:
            assert not b.writer.thread_socket.finished
            b.loop.run_one()  # it takes over
            b.connection.flush()
            b.connection.on_queue_sent()
        assert (b.writer.state, b.writer.thread_socket.finished) == (WriterState.ENDING, True)
        assert b.client.recv(100) == b"last"
        assert b.client.recv(100) == b""
        assert not b.connection.lost, "the loop has still to look"


@pytest.fixture
def patient() -> Iterator[None]:
    """The application has a default for its sockets."""
    socket.setdefaulttimeout(SECONDS)
    yield
    socket.setdefaulttimeout(None)


@pytest.mark.parametrize("size", [10_000, 100_000])
def test_nothing_is_said_before_what_was_held_back_and_did_not_fit(size: int, patient: None) -> None:
    with bridge() as b:
        b.client.setblocking(False)
        held = b"x" * size
        assert b.writer.release(held_back(b, held), False) is None
        before = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                before += b.connection.socket.send(b" " * size)
        began = time.monotonic()
        b.writer.flush()
        assert time.monotonic() - began < SECONDS / 2
        assert (b.writer.state, b.writer.thread_socket.finished) == (WriterState.RETURNED, False)
        received = b""
        b.loop.run_all()
        while not b.connection.flush():
            received += b.client.recv(1 << 20)
        assert not b.writer.thread_socket.finished
        b.connection.on_queue_sent()
        assert b.writer.thread_socket.finished
        assert received + read_all(b.client) == b" " * before + held


def test_a_client_that_has_reset_is_told_nothing(tcp: Bridge) -> None:
    exchange = tcp.offer()
    tcp.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    tcp.client.close()
    assert tcp.writer.release(exchange, False) is None
    assert (tcp.writer.state, tcp.writer.thread_socket.finished) == (WriterState.ENDING, False)


def test_without_a_descriptor_the_loop_tells_that_nothing_follows() -> None:
    """TLS."""
    with bridge() as b:
        exchange = FakeExchange()
        assert b.writer.offer(exchange, -1, False)  # type: ignore[arg-type]
        assert b.writer.release(exchange, False) is None  # type: ignore[arg-type]
        assert (b.writer.state, b.writer.thread_socket.finished) == (WriterState.ENDING, False)


def segments(sock: socket.socket) -> int:
    """How many have come, tcpi_segs_in of tcp(7)."""
    count: int = struct.unpack_from("I", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192), 140)[0]
    return count


@pytest.mark.skipif(sys.platform != "linux", reason="MSG_MORE and this tcp_info are Linux's")
def test_the_last_bytes_and_the_end_are_one_segment(tcp: Bridge) -> None:
    exchange = held_back(tcp, b"last")
    before = segments(tcp.client)
    assert tcp.writer.release(exchange, False) is None
    tcp.writer.flush()
    assert read_all(tcp.client) == b"last"
    assert segments(tcp.client) == before + 1


class Unheld(FakeExchange):
    """What it is dropped for may take its time, and have a lock of its own."""

    def __init__(self, writer: Writer) -> None:
        super().__init__()
        self.writer = writer

    def drop(self) -> None:
        assert not self.writer._lock.locked()
        super().drop()

    def lose(self) -> None:
        self.drop()


@pytest.mark.parametrize("end", ["lost", "last", "failed", "detached", "offered late", "offered to the dead"])
def test_nothing_is_dropped_under_the_lock(end: str) -> None:
    b = Bridge()
    exchange, waiting = b.offer(), Unheld(b.writer)
    if not end.startswith("offered"):
        b.offer(waiting)
    if end == "lost":
        b.connection.lose()
    elif end == "failed":
        b.client.close()
        with pytest.raises(Disconnected):
            b.writer.send(exchange, b"", b"x")
    elif end == "detached":
        thread, outcome = in_thread(lambda: os.close(b.writer.detach(exchange)[0]))
        b.loop.run_one(wait=True)
        thread.join(SECONDS)
        assert outcome == [None]
        b.connection.lose()  # the transport's connection_lost
    else:
        b.writer.release(exchange, False)
        if end == "offered to the dead":
            b.loop.run_all()
        if end != "last":
            b.offer(waiting)
    b.loop.run_all()
    assert waiting.drops == 1
    b.close()


def test_no_descriptor_for_the_duplicate_is_the_callers_to_handle() -> None:
    with bridge() as b:
        with pytest.raises(OSError, match="Bad file descriptor"):
            b.writer.offer(FakeExchange(), 1 << 20, False)  # type: ignore[arg-type]
        assert b.writer.state is WriterState.FREE
        b.offer()
        assert b.writer.state is WriterState.THREAD


def test_the_end_of_all_exchanges_is_announced_once() -> None:
    with bridge() as b:
        assert not b.writer.wake_when_done()
        exchange = b.offer()
        assert b.writer.wake_when_done()
        assert b.writer.wake_when_done()
        b.writer.release(exchange, True)
        b.writer.release(b.offer(), True)
        b.loop.run_all()
        assert b.connection.times_done == 1


# Files


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(300_000))
    return path


def opened(path: Path, offset: int = 0, count: int | None = None) -> FileRange:
    return FileRange(os.open(path, os.O_RDONLY), offset, path.stat().st_size - offset if count is None else count)


def test_a_file_goes_as_far_as_the_socket_takes_it(path: Path) -> None:
    with bridge() as b:
        exchange, file_range = b.offer(), opened(path, 1000, 200_000)
        data = b""
        while file_range.count:
            before = file_range.count
            b.writer.send_file(exchange, file_range)
            assert file_range.offset == 1000 + 200_000 - file_range.count
            if file_range.count == before:
                data += b.client.recv(1 << 20)
        b.connection.socket.shutdown(socket.SHUT_WR)
        data += read_all(b.client)
        assert data == path.read_bytes()[1000:201_000]
        file_range.close()
        file_range.close()


def test_a_file_to_a_dead_client(path: Path) -> None:
    with bridge() as b:
        exchange, file_range = b.offer(), opened(path)
        b.client.close()
        with pytest.raises(Disconnected):
            b.writer.send_file(exchange, file_range)
        assert b.writer.state is WriterState.DEAD
        b.loop.run_all()
        assert b.connection.write_failures == 1
        file_range.close()


def test_hazard_17_a_file_that_has_shrunk_is_an_error(path: Path) -> None:
    with bridge() as b:
        exchange, file_range = b.offer(), opened(path)
        os.truncate(path, 0)
        with pytest.raises(EOFError):
            b.writer.send_file(exchange, file_range)
        file_range.close()


def test_hazard_17_sendfile_on_a_full_socket_is_no_error(path: Path) -> None:
    with bridge() as b:
        exchange, file_range = b.offer(), opened(path)
        b.writer.send_file(exchange, file_range)
        while send_some(b.connection.socket.fileno(), file_range):
            pass
        before = file_range.count
        b.writer.send_file(exchange, file_range)
        assert file_range.count == before
        file_range.close()


# The hazards


def test_hazard_01_write_half_is_revocable() -> None:
    with bridge() as b:
        exchange = b.offer()
        assert b.writer.send(exchange, b"", b"begun") is None
        b.connection.lose()  # while the application computes
        with pytest.raises(Disconnected):
            b.writer.send(exchange, b"", b"more")
        with pytest.raises(Disconnected):
            b.writer.hand_over(exchange, memoryview(b"more"), last=True)
        assert b.writer.release(exchange, True) is None
        b.connection.socket.close()
        assert read_all(b.client) == b"begun"


def test_hazard_01_a_thread_that_waits_for_room_is_woken_by_the_loss() -> None:
    with bridge() as b:
        thread, outcome = reach_streaming(b)
        b.connection.lose()
        thread.join(SECONDS)
        assert len(outcome) == 1
        assert isinstance(outcome[0], Disconnected)


def test_hazard_01_the_loss_may_come_between_the_room_and_the_thread() -> None:
    with bridge() as b:
        for _ in range(200):
            with bridge() as c:
                thread, outcome = reach_streaming(c)
                c.connection.on_queue_sent()
                c.writer.lose()
                thread.join(SECONDS)
                assert len(outcome) == 1
        del b


def test_hazard_02_fd_is_never_closed_under_a_write() -> None:
    """While threads write, the loop loses connections and others open files under the freed numbers: nothing may land
    there."""
    victims: list[Any] = []
    stop = threading.Event()
    written = [0]

    def write(b: Bridge, exchange: Any) -> None:
        try:
            while True:
                b.writer.send(exchange, b"", b"response")
                written[0] += 1
        except Disconnected:
            pass

    until = time.monotonic() + 1.0
    while time.monotonic() < until:
        bridges = [Bridge() for _ in range(3)]
        ends = [in_thread(write, b, b.offer()) for b in bridges]
        before = written[0]
        while written[0] == before:
            pass
        for b in bridges:
            b.connection.lose()
            victims += [tempfile.TemporaryFile(buffering=0) for _ in range(2)]  # noqa: SIM115 - closed below
        for thread, outcome in ends:
            thread.join(SECONDS)
            assert outcome == [None]
        for victim in victims:
            assert os.fstat(victim.fileno()).st_size == 0, "a response was written into another file"
            victim.close()
        victims.clear()
        for b in bridges:
            b.close()
    stop.set()
    assert written[0]


def test_hazard_02_the_descriptor_of_a_file_under_way_is_the_loops_to_close(path: Path) -> None:
    """Abandoned by the thread while the loop watches the duplicate: the loop has to hear of it first."""
    with bridge() as b:
        exchange, file_range = b.offer(), opened(path)
        b.writer.send_file(exchange, file_range)
        b.writer.hand_over(exchange, file_range, last=True)
        b.loop.run_all()
        number = b.writer.thread_socket.fd
        b.writer.abandon(exchange)
        assert b.writer.thread_socket.fd == number
        os.fstat(number)
        b.loop.run_all()
        assert b.connection.write_failures == 1
        assert b.writer.state is WriterState.DEAD
        assert b.writer.thread_socket.fd == -1


def test_hazard_04_a_thread_gets_the_write_half_only_with_nothing_buffered() -> None:
    with bridge() as b:
        b.connection.buffer += b"HTTP/1.1 100 Continue\r\n\r\n"
        exchange = b.offer(buffered=True)
        assert b.writer.state is WriterState.RETURNED
        with pytest.raises(Disconnected):
            b.writer.send(exchange, b"", b"too early")
        assert b.connection.flush()
        assert b.connection.on_queue_sent() is exchange
        b.writer.send(exchange, b"", b"response")
        assert b.client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\nresponse"


def test_hazard_04_drained_is_harmless_when_nothing_was_handed_over() -> None:
    with bridge() as b:
        assert b.connection.on_queue_sent() is None
        exchange = b.offer()
        assert b.connection.on_queue_sent() is None
        assert b.writer.state is WriterState.THREAD
        b.writer.lose()
        assert b.connection.on_queue_sent() is None
        assert b.writer.release(exchange, True) is None
        assert b.writer.state is WriterState.DEAD


@pytest.mark.parametrize("last", [False, True])
def test_hazard_04_what_is_on_its_way_to_the_loop_is_not_written_yet(last: bool) -> None:
    with bridge() as b:
        exchange = reach_spooling(b)
        b.writer.keep(exchange, memoryview(b" and more"), LIMITS, last=last)
        assert b.connection.flush()
        assert b.writer.on_queue_sent(b.connection.taken) == (False, None)
        assert b.writer.state is (WriterState.FINISHING if last else WriterState.SPOOLING)
        b.loop.run_all()
        assert b.connection.flush()
        assert b.writer.on_queue_sent(b.connection.taken) == (True, None)
        assert b.writer.state is (WriterState.WRITTEN if last else WriterState.SPOOLED)
        assert b.client.recv(100) == b"kept and more"


# What is kept


def kept_files() -> int:
    return sum(name.endswith("(deleted)") for name in descriptors())


def test_a_file_of_what_is_kept_goes_when_the_client_does() -> None:
    before = kept_files()
    with bridge() as b:
        exchange = reach_spooling(b)
        b.writer.keep(exchange, memoryview(MUCH), LIMITS, last=False)
        b.loop.run_all()
        assert kept_files() == before + 2  # each side has a descriptor
        b.connection.lose()
        with pytest.raises(Disconnected):
            b.writer.keep(exchange, memoryview(MUCH), LIMITS, last=False)
        b.writer.release(exchange, False)
        assert wait_until(lambda: kept_files() == before)  # a large one is closed in a thread of its own
        late = FakeExchange()
        with pytest.raises(Disconnected):
            b.writer.keep(late, memoryview(MUCH), LIMITS, last=True)  # type: ignore[arg-type]
        assert kept_files() == before


def test_what_cannot_be_kept_is_an_error_and_leaves_no_file() -> None:
    before = kept_files()
    with bridge() as b:
        exchange = b.offer()
        with pytest.raises(OSError, match="more than 0 bytes"):
            b.writer.keep(exchange, memoryview(MUCH), NO_FILE, last=False)
        assert b.writer.state is WriterState.THREAD
        b.writer.abandon(exchange)
        b.writer.release(exchange, False)
        assert kept_files() == before


@pytest.fixture
def tcp() -> Any:
    """A bridge over TCP: (bridge, client)."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
    b = Bridge()
    b.connection.socket.close()
    b.client.close()
    accepted.setblocking(False)
    b.connection.socket, b.client = accepted, client
    yield b
    b.close()


def test_hazard_05_reset_is_seen_by_poll(tcp: Bridge) -> None:
    tcp.offer()
    assert not tcp.writer.client_is_gone()
    tcp.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    tcp.client.close()
    assert tcp.writer.client_is_gone()


def test_hazard_05_a_fin_is_no_reset(tcp: Bridge) -> None:
    exchange = tcp.offer()
    tcp.client.sendall(b"unread")
    tcp.client.shutdown(socket.SHUT_WR)
    assert tcp.connection.socket.recv(100) == b"unread"
    assert tcp.connection.socket.recv(100) == b""
    assert not tcp.writer.client_is_gone()
    tcp.writer.send(exchange, b"", b"answer")
    assert tcp.client.recv(100) == b"answer"


def test_hazard_05_half_close_and_close_of_a_unix_client() -> None:
    with bridge() as b:
        b.offer()
        b.client.shutdown(socket.SHUT_WR)
        assert not b.writer.client_is_gone()
        b.client.close()
        assert b.writer.client_is_gone()


def test_hazard_05_without_a_descriptor_only_the_loop_knows_whether_the_client_is_gone() -> None:
    """TLS."""
    with bridge() as b:
        exchange = FakeExchange()
        assert b.writer.offer(exchange, -1, False)  # type: ignore[arg-type]
        assert not b.writer.client_is_gone()
        b.writer.lose()
        assert b.writer.client_is_gone()


def test_without_a_descriptor_all_is_handed_over() -> None:
    """TLS: a thread writes nothing itself."""
    with bridge() as b:
        exchange = FakeExchange()
        b.writer.offer(exchange, -1, False)  # type: ignore[arg-type]
        assert b.writer.thread_socket.fd < 0
        assert b.writer.thread_socket.fd == -1
        assert b.writer.send(exchange, b"", b"data") == b"data"  # type: ignore[arg-type]
        b.writer.hand_over(exchange, memoryview(b"data"), last=True)  # type: ignore[arg-type]
        b.loop.run_all()
        assert b.connection.buffer == b"data"
        assert b.writer.release(exchange, True) is None  # type: ignore[arg-type]
        assert b.writer.state is WriterState.RETURNED
        b.connection.on_queue_sent()
        assert b.writer.state is WriterState.FREE


def test_hazard_05_a_failed_send_tells_the_loop() -> None:
    with bridge() as b:
        exchange, waiting = b.offer(), b.offer()
        b.client.close()
        with pytest.raises(Disconnected):
            b.writer.send(exchange, b"", b"x")
        assert b.writer.state is WriterState.DEAD
        b.loop.run_all()
        assert (b.connection.write_failures, waiting.drops) == (1, 1)


def test_a_loop_that_is_gone_does_not_keep_a_thread_from_failing() -> None:
    def closed(*arguments: object) -> None:
        raise RuntimeError("Event loop is closed")

    b = Bridge()
    writer = Writer(b.connection, closed)
    exchange: Any = FakeExchange()
    writer.offer(exchange, b.connection.socket.fileno(), False)
    b.client.close()
    with pytest.raises(Disconnected):
        writer.send(exchange, b"", b"x")
    assert writer.state is WriterState.DEAD
    b.close()


def test_hazard_11_both_sides_of_every_hand_off_take_the_lock() -> None:
    """Real threads: the loop offers while threads return, and asks now and then to be woken when all are done. All
    run, in order, once."""
    ran: list[int] = []
    ready: SimpleQueue[Any] = SimpleQueue()

    def work(writer: Writer) -> None:
        while (exchange := ready.get()) is not None:
            while exchange is not None:
                ran.append(exchange.name)
                exchange = writer.release(exchange, True)

    with bridge() as b:
        threads = [in_thread(work, b.writer) for _ in range(3)]
        times = 0
        for number in range(6000):
            exchange: Any = FakeExchange(number)
            if b.writer.offer(exchange, b.connection.socket.fileno(), False):
                ready.put(exchange)
            if number % 50 == 49 and b.writer.wake_when_done():
                b.loop.run_one(wait=True)  # or a wake is lost
                times += 1
        if b.writer.wake_when_done():
            b.loop.run_one(wait=True)
            times += 1
        assert (b.connection.times_done, b.writer.state) == (times, WriterState.FREE)
        for _ in threads:
            ready.put(None)
        for thread, outcome in threads:
            thread.join(SECONDS)
            assert outcome == [None]
    assert ran == list(range(6000))


def test_hazard_11_handing_over_races_with_the_loss() -> None:
    """A thread hands over while the loop loses the connection: it always comes back, with one of two answers."""
    until = time.monotonic() + 1.0
    answers = set()
    while time.monotonic() < until:
        with bridge() as b:
            exchange = b.offer()
            thread, outcome = in_thread(b.writer.hand_over, exchange, memoryview(b"rest"), last=False)
            b.loop.run_one(wait=True)
            other, _ = in_thread(b.connection.on_queue_sent)
            b.connection.lose()
            for each in (thread, other):
                each.join(SECONDS)
                assert not each.is_alive(), "a thread waits for ever"
            answers.add(type(outcome[0]))
    assert answers <= {type(None), Disconnected}


# Detaching


def test_a_detached_connection_is_the_applications() -> None:
    b = Bridge()
    exchange, waiting = b.offer(), b.offer()
    taken: list[tuple[int, bytes]] = []
    thread, outcome = in_thread(lambda: taken.append(b.writer.detach(exchange)))
    b.loop.run_one(wait=True)
    thread.join(SECONDS)
    assert outcome == [None]
    fd, unread = taken[0]
    assert (unread, b.writer.state, b.writer.thread_socket.fd) == (b"unread", WriterState.DEAD, -1)
    b.connection.lose()  # the transport's connection_lost
    assert waiting.drops == 1
    os.write(fd, b"mine")
    assert b.client.recv(10) == b"mine"
    with pytest.raises(Disconnected):
        b.writer.detach(exchange)
    os.close(fd)
    b.close()
