"""What a thread's socket did not take, written by the loop as the client reads: bytes by the transport, files by sendfile.

On TLS, where there is no descriptor to write to, files go by the transport as well, a block at a time.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from typing import Protocol

from starman import log
from starman.serving.progress import Progress
from starman.serving.sending.file_range import FileRange, send_some
from starman.serving.sending.loop_side import Rest
from starman.serving.sending.response_memory import UNLIMITED, ResponseMemory, UnsentMemory
from starman.serving.sending.socket_state import held_by_the_kernel
from starman.serving.sending.writer import Writer

# How much (bytes) of a file is read at a time where sendfile cannot be used, and when memory is short.
_BLOCK = 262_144
_SMALL_BLOCK = 16_384


class Handler(Protocol):
    """Who is told how it ends. Called in the loop."""

    def send_queue_written(self, taken: int) -> bool:
        """All is written that was taken, in `taken` times, and the transport's buffer is empty. False: more is on its way."""

    def reset(self) -> None:
        """It cannot be written."""

    def linger(self) -> None:
        """End the connection properly: nothing more can be written, but everything written so far should arrive."""


class SendQueue:
    """What one connection's client has still to be sent, in order. Loop only."""

    __slots__ = (
        *(
            "_charged",
            "_ended",
            "_handler",
            "_kept",
            "_loop",
            "_memory",
            "_passed",
            "_progress",
            "_queue",
            "_taken",
            "_transport",
        ),
        *("_watches", "_writer"),
    )

    def __init__(
        self,
        handler: Handler,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        writer: Writer,
        memory: ResponseMemory = UNLIMITED,
    ) -> None:
        """The transport's high-water mark must be 0 (hazard 4). `memory` is the worker's budget for unread responses."""
        self._handler = handler
        self._loop = loop
        self._transport = transport
        self._writer = writer
        self._memory = memory
        self._queue: deque[UnsentMemory | FileRange] = deque()
        # Given to the transport: rests in memory, and how many bytes of a file.
        self._kept: list[UnsentMemory] = []
        self._charged = 0
        # Of what is on its way. None: nothing is, or nobody has looked since it began.
        self._progress: Progress | None = None
        self._taken = 0
        self._passed = 0
        self._watches = False
        self._ended = False

    def take(self, rest: Rest) -> None:
        """Write `rest` behind what is still to be written, then tell the handler. A file that is last there has grown."""
        if self._transport.is_closing():
            self.end()
        if self._ended:
            if not isinstance(rest, memoryview):
                rest.close()
            return
        self._taken += 1
        if isinstance(rest, memoryview):  # not counted yet: a thread waits for it, or it was held back to leave with others
            self._memory.overdraw(len(rest))
            rest = UnsentMemory(rest, self._memory, len(rest))
        queue = self._queue
        if not queue or queue[-1] is not rest:
            queue.append(rest)
        self.on_room()

    def on_room(self) -> None:
        """Go on: the transport may have written what it had. It calls back only if it had to wait."""
        queue, transport = self._queue, self._transport
        while queue:
            rest = queue[0]
            if isinstance(rest, UnsentMemory):
                del queue[0]
                self._kept.append(rest)
                self._passed += len(rest.data)
                transport.write(rest.data)
            elif rest.count:
                # Behind the bytes before it: where the kernel sends it, it goes past the transport.
                if not transport.get_write_buffer_size():
                    self._forget_memory()
                    self._begin_file(rest)
                return
            elif len(queue) > 1:
                del queue[0]
                rest.close()
            else:
                break  # it may grow still
        if not transport.get_write_buffer_size():
            self._forget_memory()
            self._progress = None
            if self._handler.send_queue_written(self._taken) and queue:
                self._close_rests()

    def is_slow(self, now: float, *, timeout: float, rate: int) -> bool:
        """As `Progress.is_slow`, of the client's reading since it had something to read. While the loop writes, or is about to.

        Counts what the client has taken, for what is left may grow meanwhile. What the kernel holds for it is not taken: it
        tells of room only when a third of its buffer is free, and a slow reader may need minutes for that much.
        """
        if self._progress is None:
            self._progress = Progress()
        fd = self._writer.thread_socket.fd
        if fd < 0:
            fd = self._transport.get_extra_info("socket").fileno()
        taken = self._passed - self._transport.get_write_buffer_size() - held_by_the_kernel(fd)
        return self._progress.is_slow("what remains", taken, now, timeout=timeout, rate=rate)

    def end(self) -> None:
        """The connection ends: forget what is left. While the duplicate is open, for the loop watches it."""
        self._ended = True
        self._unwatch()
        self._close_rests()
        self._forget_memory()

    def _close_rests(self) -> None:
        queue = self._queue
        while queue:
            queue.popleft().close()

    def _forget_memory(self) -> None:
        """The transport has sent everything that it was given."""
        while self._kept:
            self._kept.pop().close()
        if self._charged:
            self._memory.give_back(self._charged)
            self._charged = 0

    def _begin_file(self, rest: FileRange) -> None:
        if self._writer.thread_socket.fd < 0:
            self._write_block(rest)
        elif not self._watches:
            self._watches = True
            self._loop.add_writer(self._writer.thread_socket.fd, self._send_file, rest)

    def _unwatch(self) -> None:
        if self._watches:
            self._watches = False
            self._loop.remove_writer(self._writer.thread_socket.fd)

    def _write_block(self, rest: FileRange) -> None:
        """Give the transport, which has none left, a block."""
        size = min(rest.count, _BLOCK if self._memory.left >= _BLOCK else _SMALL_BLOCK)
        try:
            block = os.pread(rest.fd, size, rest.offset)
            if not block:
                raise EOFError("the file is shorter than it was")
        except (OSError, EOFError) as error:
            self._failed(rest, error)
            return
        rest.offset += len(block)
        self._passed += len(block)
        self._memory.overdraw(len(block))
        self._charged += len(block)
        self._transport.write(block)
        if not self._transport.get_write_buffer_size():
            # Not at once: a client that takes all that it is given would keep others from their turn.
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        if self._queue:
            self.on_room()

    def _send_file(self, rest: FileRange) -> None:
        try:
            sent = send_some(self._writer.thread_socket.fd, rest)
        except (BrokenPipeError, ConnectionError):
            self._handler.reset()
            return
        except (OSError, EOFError) as error:
            self._failed(rest, error)
            return
        rest.offset += sent
        self._passed += sent
        if not rest.count:
            self._unwatch()
            self.on_room()

    def _failed(self, rest: FileRange, error: Exception) -> None:
        log.error(f"a file could not be sent whole: {error}")
        if rest.is_spool:
            self._handler.reset()
        else:
            # The application's file is shorter than promised: the client gets what there is, and sees that it is not all.
            self.end()
            self._handler.linger()
