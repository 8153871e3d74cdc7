"""serving.sending.send_queue over a transport that takes what the test lets it take: what counts as a client's
progress."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any, cast

import pytest

from starman.serving.connections.progress import RATE_GRACE
from starman.serving.sending.response_memory import UNLIMITED, ResponseMemory
from starman.serving.sending.send_queue import SendQueue
from starman.serving.sending.sendfile import FileRange

TIMEOUT = 60.0
RATE = 500


class FakeTransport:
    """What is written waits until the test takes it."""

    def __init__(self) -> None:
        self.waiting = 0

    def set_write_buffer_limits(self, high: int) -> None:
        assert high == 0

    def write(self, data: memoryview) -> None:
        self.waiting += len(data)

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def is_closing(self) -> bool:
        return False

    def get_extra_info(self, name: str) -> Any:
        assert name == "socket"
        return SimpleNamespace(fileno=lambda: -1)


class FakeHandler:
    """Says whether all was taken that was handed over."""

    def __init__(self) -> None:
        self.complete = True

    def send_queue_written(self, taken: int) -> bool:
        return self.complete

    def reset(self) -> None:
        raise AssertionError("nothing fails here")

    linger = reset


class FakeLoop:
    """Notes what it is to call when a descriptor can be written to."""

    def __init__(self) -> None:
        self.writers: dict[int, Any] = {}

    def add_writer(self, fd: int, callback: Any, *arguments: Any) -> None:
        self.writers[fd] = callback, arguments

    def remove_writer(self, fd: int) -> None:
        del self.writers[fd]


class Sending:
    """A SendQueue, its socket, and its callbacks."""

    def __init__(self, memory: ResponseMemory = UNLIMITED) -> None:
        self.transport, self.handler = FakeTransport(), FakeHandler()
        self.loop = FakeLoop()
        writer = SimpleNamespace(thread_socket=SimpleNamespace(fd=-1))
        self.writer = writer
        self.send_queue = SendQueue(
            self.handler, cast("Any", self.loop), cast("Any", self.transport), cast("Any", writer), memory
        )

    def take(self, count: int) -> None:
        """The client takes so many bytes."""
        self.transport.waiting -= count
        if not self.transport.waiting:
            self.send_queue.send_next()

    def is_slow(self, now: float) -> bool:
        return self.send_queue.is_slow(now, timeout=TIMEOUT, rate=RATE)


def test_a_client_is_measured_from_the_first_look() -> None:
    sending = Sending()
    sending.send_queue.add_unsent(memoryview(bytes(100_000)))
    assert not sending.is_slow(1000.0)
    assert not sending.is_slow(1000.0 + TIMEOUT / 10)
    assert sending.is_slow(1000.0 + TIMEOUT)


def test_one_that_takes_a_little_is_slow_after_its_grace() -> None:
    sending = Sending()
    sending.send_queue.add_unsent(memoryview(bytes(100_000)))
    assert not sending.is_slow(1000.0)
    sending.take(RATE)
    assert not sending.is_slow(1000.0 + RATE_GRACE + 1.0)
    assert sending.is_slow(1000.0 + RATE_GRACE + 1.1)


@pytest.mark.parametrize("complete", [True, False])
def test_what_a_client_took_long_ago_is_no_measure_of_the_next_response(complete: bool) -> None:
    """The thread has handed it over, and a tick comes before the loop has taken it over."""
    sending = Sending()
    sending.handler.complete = complete
    sending.send_queue.add_unsent(memoryview(bytes(100_000)))
    assert not sending.is_slow(1000.0)
    sending.take(100_000)
    assert not sending.is_slow(2000.0)
    sending.send_queue.add_unsent(memoryview(bytes(100_000)))
    assert not sending.is_slow(2000.5)
    assert sending.is_slow(2000.0 + TIMEOUT)


def test_the_memory_of_what_a_client_has_taken_is_returned_before_a_file_follows() -> None:
    """The file may take hours."""
    memory = ResponseMemory(1000)
    sending = Sending(memory)
    sending.writer.thread_socket.fd = 7
    sending.send_queue.add_unsent(memoryview(bytes(600)))
    rest = FileRange(os.memfd_create("test"), 0, 100)
    sending.send_queue.add_unsent(rest)
    assert (memory.bytes_left, sending.loop.writers) == (400, {})
    sending.take(600)
    assert (memory.bytes_left, list(sending.loop.writers)) == (1000, [7])
    sending.send_queue.end()
    assert (rest.fd, sending.loop.writers, memory.bytes_left) == (-1, {}, 1000)
