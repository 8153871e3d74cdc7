"""starman.serving.body.stream: a body between a loop that feeds it and a thread that reads it."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starman.errors import Disconnected, ProtocolError
from starman.serving.body.stream import FULL_BYTES, MOST_DROPPED, BodyError, BodyStream
from tests.unit.serving.fakes import SECONDS


class Loop:
    """Feeds a stream one piece for each demand, then ends it: so a reader always waits, and is always woken."""

    def __init__(self, pieces: list[bytes], length: int | None = None) -> None:
        self.pieces = pieces
        self.demands = 0
        self.stream = BodyStream(length, self.demand, expected=False)

    def demand(self) -> None:
        self.demands += 1
        if self.pieces:
            self.stream.feed_data(self.pieces.pop(0))
        else:
            self.stream.feed_eof([("A", "b")])


class Waiting:
    """A stream with a thread that reads it. Demands only set an event."""

    def __init__(self, length: int | None = None, expected: bool = False) -> None:
        self.demanded = threading.Event()
        self.stream = BodyStream(length, self.demanded.set, expected=expected)
        self._pool = ThreadPoolExecutor(1)

    def call(self, function: Callable[[BinaryIO], Any]) -> Future[Any]:
        """Call `function` with the reader in a thread. On return, the thread waits for bytes."""
        done = self._pool.submit(function, self.stream.reader())
        assert self.demanded.wait(SECONDS)
        self.demanded.clear()
        return done


# What the application reads

_READS: st.SearchStrategy[Callable[[BinaryIO], Any]] = st.one_of(
    st.integers(0, 40).map(lambda size: lambda file: file.read(size)),
    st.integers(0, 40).map(lambda size: lambda file: file.readline(size)),
    st.integers(0, 40).map(lambda hint: lambda file: file.readlines(hint)),
    st.just(lambda file: file.readline()),
    st.just(lambda file: next(file, None)),
    st.sampled_from([-1, None]).map(lambda size: lambda file: file.read(size)),
    st.just(list),
)


@given(
    pieces=st.lists(st.text("ab\n", min_size=1, max_size=30).map(str.encode), max_size=12),
    reads=st.lists(_READS, max_size=12),
    before=st.integers(0, 12),
)
def test_it_reads_as_a_file_would(pieces: list[bytes], reads: list[Callable[[BinaryIO], Any]], before: int) -> None:
    """For all pieces, any number of them before the first read, and all ways to read."""
    expected: Any = io.BufferedReader(io.BytesIO(b"".join(pieces)))  # type: ignore[arg-type]
    loop = Loop(list(pieces))
    for _ in range(min(before, len(pieces))):
        loop.demand()
    reader = loop.stream.reader()
    assert [read(reader) for read in reads] == [read(expected) for read in reads]
    assert reader.read() == expected.read()
    assert reader.read(1) == reader.readline() == reader.read() == b""
    assert loop.stream.trailers == [("A", "b")]


@given(pieces=st.lists(st.binary(min_size=1, max_size=300), max_size=40), most=st.integers(1, 500))
def test_what_is_taken_is_what_was_fed(pieces: list[bytes], most: int) -> None:
    loop = Loop(list(pieces))
    taken = []
    while data := loop.stream.read(most):
        assert len(data) <= most
        taken.append(data)
    assert b"".join(taken) == b"".join(pieces)
    assert loop.stream.received == len(b"".join(pieces))


def test_large_pieces_and_small_reads() -> None:
    body = bytes(range(256)) * 10_000
    loop = Loop([body[:FULL_BYTES], body[FULL_BYTES:]])
    reader = loop.stream.reader()
    assert b"".join(iter(lambda: reader.read(777), b"")) == body


def test_read1_does_not_wait_for_all_that_was_asked_for() -> None:
    loop = Loop([b"first", b"second"])
    reader: Any = loop.stream.reader()
    assert (reader.read1(100), reader.read1(100), reader.read1(100)) == (b"first", b"second", b"")


def test_it_cannot_seek() -> None:
    reader = Loop([b"x"]).stream.reader()
    assert not reader.seekable()
    assert not reader.writable()
    for act in (reader.tell, lambda: reader.seek(0), reader.fileno):
        with pytest.raises(io.UnsupportedOperation):
            act()


def test_reading_nothing_asks_for_nothing() -> None:
    loop = Loop([b"x"])
    assert loop.stream.reader().read(0) == b""
    assert loop.demands == 0


def test_trailers_are_of_chunked_bodies_only() -> None:
    loop = Loop([b"x"], length=1)
    assert loop.stream.reader().read() == b"x"
    assert loop.stream.trailers is None


# Waiting


def test_a_reader_waits_and_is_woken_by_a_piece_and_by_the_end() -> None:
    waiting = Waiting()
    done = waiting.call(lambda reader: (reader.readline(), reader.read()))
    assert not waiting.stream.feed_data(b"a line\n")
    assert waiting.demanded.wait(SECONDS)
    waiting.stream.feed_eof([])
    assert done.result(SECONDS) == (b"a line\n", b"")


@pytest.mark.parametrize(
    ("failure", "text"),
    [
        (None, "the client has gone in the middle"),
        (ProtocolError(413, "the body is longer than max_body"), "the body is longer than max_body"),
    ],
)
def test_a_failure_wakes_the_reader_and_stays(failure: ProtocolError | None, text: str) -> None:
    waiting = Waiting()
    done = waiting.call(lambda reader: reader.read(100))
    waiting.stream.feed_data(b"some")
    assert waiting.demanded.wait(SECONDS)
    assert waiting.stream.fail(failure)
    with pytest.raises(BodyError, match=text):
        done.result(SECONDS)
    with pytest.raises(OSError, match=text):
        waiting.stream.read(1)
    assert waiting.stream.failed
    assert waiting.stream.failure is failure
    assert not waiting.stream.fail(None), "only the first failure counts"
    assert waiting.stream.failure is failure
    waiting.stream.feed_eof([])
    assert waiting.stream.failed
    waiting.stream.close()
    assert waiting.stream.failed


def test_what_came_before_a_failure_is_not_given_out() -> None:
    stream = BodyStream(None, lambda: None, expected=False)
    stream.feed_data(b"x" * 100)
    stream.fail(None)
    with pytest.raises(BodyError):
        stream.read(1)
    assert not stream.feed_data(b"more")


def test_the_error_is_what_frameworks_and_calls_look_for() -> None:
    """Werkzeug and Django expect an OSError; a Call ends quietly on Disconnected."""
    error = BodyError("why")
    assert isinstance(error, OSError)
    assert isinstance(error, Disconnected)
    assert (str(error), error.args) == ("why", ("why",))


def test_closing_wakes_a_reader_that_was_left_behind() -> None:
    waiting = Waiting()
    done = waiting.call(lambda reader: reader.read())
    waiting.stream.close()
    with pytest.raises(BodyError, match="the request is over"):
        done.result(SECONDS)


def test_the_application_may_close_its_input() -> None:
    loop = Loop([b"x"])
    reader = loop.stream.reader()
    reader.close()
    with pytest.raises(ValueError, match="closed"):
        reader.read()
    assert not loop.stream.feed_data(b"y")


# Back pressure


def test_it_is_full_above_its_mark_and_asks_for_more_when_half_is_read() -> None:
    demands: list[None] = []
    stream = BodyStream(None, lambda: demands.append(None), expected=False)
    assert not stream.feed_data(b"x" * FULL_BYTES)
    assert stream.feed_data(b"y")
    stream.read(FULL_BYTES // 2)
    assert demands == []
    stream.read(1)
    assert demands == [None]
    stream.read(1)
    assert demands == [None], "once is enough"


def test_a_piece_that_fills_it_at_once_after_a_wait_is_asked_beyond_as_well() -> None:
    waiting = Waiting()
    done = waiting.call(lambda reader: len(reader.read(FULL_BYTES)))
    assert waiting.stream.feed_data(b"x" * (FULL_BYTES + 1))
    assert waiting.demanded.wait(SECONDS)
    assert done.result(SECONDS) == FULL_BYTES


def test_bytes_that_are_not_read_are_dropped() -> None:
    stream = BodyStream(None, lambda: None, expected=False)
    stream.feed_data(b"x")
    stream.close()
    for _ in range(10):
        assert not stream.feed_data(b"x" * FULL_BYTES)
    assert len(stream._arrived) == 0
    assert stream.received == 1 + 10 * FULL_BYTES
    stream.close()


# 100 Continue


def test_the_first_wait_is_announced_if_the_client_expects_that() -> None:
    waiting = Waiting(expected=True)
    said: list[str] = []
    waiting.stream.before_wait = lambda: said.append("100")
    done = waiting.call(lambda reader: reader.read())
    assert said == ["100"]
    waiting.stream.feed_data(b"x")
    assert waiting.demanded.wait(SECONDS)
    waiting.stream.feed_eof([])
    assert done.result(SECONDS) == b"x"
    assert said == ["100"]


def test_nothing_is_announced_when_the_body_came_without_it() -> None:
    said: list[str] = []
    loop = Loop([b"x"])
    stream = BodyStream(None, loop.demand, expected=True)
    loop.stream = stream
    stream.before_wait = lambda: said.append("100")
    stream.feed_data(b"y")
    assert stream.reader().read() == b"yx"
    assert said == []


# Whether it is worth reading to its end


@pytest.mark.parametrize(
    ("length", "expected", "received", "worth"),
    [
        (MOST_DROPPED, False, 0, True),
        (MOST_DROPPED + 1, False, 0, False),
        (MOST_DROPPED + 1, False, 1, True),
        (10, True, 0, False),
        (10, True, 1, True),
        (None, False, 0, False),
        (None, False, 100, False),
    ],
)
def test_whether_it_will_end(length: int | None, expected: bool, received: int, worth: bool) -> None:
    stream = BodyStream(length, lambda: None, expected=expected)
    if received:
        stream.feed_data(b"x" * received)
    assert stream.will_end is worth
    stream.feed_eof([])
    assert stream.will_end


def test_a_body_that_has_failed_will_not_end() -> None:
    stream = BodyStream(10, lambda: None, expected=False)
    stream.fail(None)
    assert not stream.will_end


# The time that counts


def test_only_waiting_counts() -> None:
    waiting = Waiting()
    stream = waiting.stream
    assert stream.seconds_waited(time.monotonic() + 1000) == 0
    done = waiting.call(lambda reader: reader.read(1))
    assert 999 < stream.seconds_waited(time.monotonic() + 1000) < 1000 + SECONDS
    stream.feed_data(b"x")
    assert done.result(SECONDS) == b"x"
    after = stream.seconds_waited(time.monotonic() + 1000)
    assert 0 <= after < SECONDS
    assert stream.seconds_waited(time.monotonic() + 2000) == after


def test_after_the_application_the_server_waits() -> None:
    stream = BodyStream(10, lambda: None, expected=False)
    stream.close()
    assert stream.seconds_waited(time.monotonic() + 1000) > 999
