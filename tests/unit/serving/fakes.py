"""Fakes: a loop that only queues calls, a connection that notes calls, and a pair of sockets with small buffers."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any

from starman.serving.sending.loop_side import Unsent
from starman.serving.sending.response_memory import UnsentMemory
from starman.serving.sending.sendfile import FileRange
from starman.serving.sending.writer import Writer
from starman.serving.sending.writer_state import WriterState

SECONDS = 10.0


class FakeLoop:
    """Queues calls until the test runs them."""

    def __init__(self) -> None:
        self.queue: SimpleQueue[tuple[Callable[..., object], tuple[Any, ...]]] = SimpleQueue()

    def call(self, function: Callable[..., object], *arguments: Any) -> None:
        self.queue.put((function, arguments))

    call_soon = call_soon_threadsafe = call

    def call_later(self, delay: float, function: Callable[..., object], *arguments: Any) -> None:
        self.call(function, *arguments)

    def run_one(self, wait: bool = False) -> bool:
        """Run the next call. `wait`: until a thread has posted one."""
        try:
            function, arguments = self.queue.get(timeout=SECONDS) if wait else self.queue.get_nowait()
        except Empty:
            assert not wait, "no thread has posted anything"
            return False
        function(*arguments)
        return True

    def run_all(self) -> None:
        while self.run_one():
            pass


class FakeConnection:
    """The loop's side of a connection. Writes what is handed over when the test says so, as a transport would."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.buffer = bytearray()
        self.files: list[FileRange] = []
        self.taken = 0
        self.times_done = 0
        self.write_failures = 0
        self.lost = False
        self.writer: Writer | None = None

    def take_over(self, unsent: Unsent) -> None:
        if isinstance(unsent, FileRange):
            if self.lost:
                unsent.close()
            elif unsent not in self.files:
                self.files.append(unsent)
        else:
            data = unsent.data if isinstance(unsent, UnsentMemory) else unsent
            if not self.lost:
                self._read_files()
                self.buffer += data
            if isinstance(unsent, UnsentMemory):
                unsent.close()
        self.taken += 1

    def flush(self) -> bool:
        """Write what the socket takes. Return whether nothing is left."""
        self._read_files()
        try:
            while self.buffer:
                del self.buffer[: self.socket.send(self.buffer)]
        except BlockingIOError:
            return False
        return True

    def on_queue_sent(self) -> Any:
        """Tell the writer that all is written. Return the exchange to run now."""
        assert self.writer is not None
        complete, following = self.writer.on_queue_sent(self.taken)
        if complete:
            self._close_files()
        return following

    def _read_files(self) -> None:
        for file in self.files:
            while file.count:
                block = os.pread(file.fd, file.count, file.offset)
                assert block, "the file is shorter than was said"
                self.buffer += block
                file.offset += len(block)

    def _close_files(self) -> None:
        while self.files:
            self.files.pop().close()

    def on_exchanges_done(self) -> None:
        self.times_done += 1
        assert self.writer is not None
        if self.writer.state is WriterState.ENDING:
            self.lose()

    def reset(self) -> None:
        self.write_failures += 1
        self.lose()

    def detach_transport(self, reply: SimpleQueue[bytes]) -> None:
        self.lost = True
        self.socket.close()
        reply.put(b"unread")

    def lose(self) -> None:
        assert self.writer is not None
        self.lost = True
        self.buffer.clear()
        self._close_files()
        self.writer.lose()


class FakeHead:
    """The fields of a head that a thread notes."""

    method = b"GET"
    target = b"/"


class FakeExchange:
    """The fields and methods of an exchange that a Writer uses."""

    def __init__(self, name: object = None) -> None:
        self.name = name
        self.drops = 0
        self.time_limit = 0.0

    def drop(self) -> None:
        self.drops += 1

    def lose(self) -> None:
        self.drop()


class WatchedWriter(Writer):
    """Notes every change of its state, in `seen`."""

    __slots__ = ("_watched", "seen")

    def __init__(self, loop_side: Any, call_loop: Callable[..., object]) -> None:
        self.seen: list[tuple[WriterState, WriterState]] = []
        super().__init__(loop_side, call_loop)

    @property
    def state(self) -> WriterState:  # type: ignore[override]
        return self._watched

    @state.setter
    def state(self, state: WriterState) -> None:
        if hasattr(self, "_watched"):
            self.seen.append((self._watched, state))
        self._watched: WriterState = state


class Bridge:
    """A writer with its loop, its connection and its client."""

    def __init__(self) -> None:
        ours, self.client = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        ours.setblocking(False)
        self.client.settimeout(SECONDS)
        self.loop = FakeLoop()
        self.connection = FakeConnection(ours)
        self.writer = WatchedWriter(self.connection, self.loop.call)
        self.connection.writer = self.writer

    def offer(self, exchange: Any = None, buffered: bool = False) -> Any:
        """Offer an exchange, and return it."""
        exchange = exchange or FakeExchange()
        self.writer.offer(exchange, self.connection.socket.fileno(), buffered)
        return exchange

    def close(self) -> None:
        self.connection.lose()
        self.loop.run_all()
        self.connection.socket.close()
        self.client.close()


@contextmanager
def bridge() -> Iterator[Bridge]:
    made = Bridge()
    try:
        yield made
    finally:
        made.close()
