"""Sends what a thread's socket did not take, as the client reads it: bytes by the transport, files by sendfile. Loop
only.

On TLS there is no descriptor to write to: files go by the transport as well, a block at a time.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from typing import Protocol

from starman import log
from starman.serving.connections.progress import Progress
from starman.serving.sending.loop_side import Unsent
from starman.serving.sending.response_memory import UNLIMITED, ResponseMemory, UnsentMemory
from starman.serving.sending.sendfile import FileRange, send_some
from starman.serving.sending.socket_state import held_by_the_kernel
from starman.serving.sending.writer import Writer

# How much (bytes) of a file is read at a time where sendfile cannot be used, and when memory is short.
_BLOCK = 262_144
_SMALL_BLOCK = 16_384


class Handler(Protocol):
    """The methods of `Connection` that a `SendQueue` calls."""

    def send_queue_written(self, taken: int) -> bool:
        """All `taken` parts are sent, and the transport's buffer is empty.

        Returns False if a thread has handed over more.
        """

    def reset(self) -> None:
        """Sending has failed: reset the connection."""

    def linger(self) -> None:
        """Nothing more can be sent: end the connection so that everything sent so far arrives."""


class SendQueue:
    """The parts of responses that are still to be sent to one client, in order. Loop only."""

    __slots__ = (
        *("_charged", "_ended", "_handler", "_kept", "_loop", "_memory", "_passed", "_progress", "_queue", "_taken"),
        *("_transport", "_watches", "_writer"),
    )

    def __init__(
        self,
        handler: Handler,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        writer: Writer,
        memory: ResponseMemory = UNLIMITED,
    ) -> None:
        """The transport's high-water mark must be 0 (hazard 4).

        `memory` is the worker's budget for unread responses.
        """
        self._handler = handler
        self._loop = loop
        self._transport = transport
        self._writer = writer
        self._memory = memory
        self._queue: deque[UnsentMemory | FileRange] = deque()
        # What the transport still holds: parts in memory, and how many bytes of a file were counted in `_memory`.
        self._kept: list[UnsentMemory] = []
        self._charged = 0
        # The progress of what is being sent. None: nothing is, or the tick has not measured it yet.
        self._progress: Progress | None = None
        self._taken = 0  # how many parts were ever taken
        self._passed = 0  # how many bytes were ever given to the transport, or to the kernel by sendfile
        self._watches = False  # whether the loop polls the duplicate for room for a file
        self._ended = False

    def add_unsent(self, unsent: Unsent) -> None:
        """Send `unsent` behind everything in the queue, then call the handler. The last file may come again, grown."""
        if self._transport.is_closing():
            self.end()
        if self._ended:
            if not isinstance(unsent, memoryview):
                unsent.close()
            return
        self._taken += 1
        if isinstance(unsent, memoryview):  # not counted yet: a thread waits for it, or it was held back
            self._memory.overdraw(len(unsent))
            unsent = UnsentMemory(unsent, self._memory, len(unsent))
        queue = self._queue
        if not queue or queue[-1] is not unsent:
            queue.append(unsent)
        self.send_next()

    def send_next(self) -> None:
        """Go on: the transport may have sent everything. It calls back only if it had to wait."""
        queue, transport = self._queue, self._transport
        while queue:
            unsent = queue[0]
            if isinstance(unsent, UnsentMemory):
                del queue[0]
                self._kept.append(unsent)
                self._passed += len(unsent.data)
                transport.write(unsent.data)
            elif unsent.count:
                # Only behind the bytes before it: sendfile bypasses the transport.
                if not transport.get_write_buffer_size():
                    self._forget_memory()
                    self._begin_file(unsent)
                return
            elif len(queue) > 1:
                del queue[0]
                unsent.close()
            else:
                break  # the file may still grow
        if not transport.get_write_buffer_size():
            self._forget_memory()
            self._progress = None
            if self._handler.send_queue_written(self._taken) and queue:
                self._close_queue()

    def is_slow(self, now: float, *, timeout: float, rate: int) -> bool:
        """As `Progress.is_slow`, of the client's reading since it had something to read. While the loop sends, or is
        about to.

        This counts what the client has taken, because what is left may grow. What the kernel holds is not taken: the
        kernel reports room only when a third of its buffer is free, and a slow reader may need minutes for that much.
        """
        if self._progress is None:
            self._progress = Progress()
        fd = self._writer.thread_socket.fd
        if fd < 0:
            fd = self._transport.get_extra_info("socket").fileno()
        taken = self._passed - self._transport.get_write_buffer_size() - held_by_the_kernel(fd)
        return self._progress.is_slow("what remains", taken, now, timeout=timeout, rate=rate)

    def end(self) -> None:
        """The connection ends: drop what is left. Call before the duplicate is closed, because the loop watches it."""
        self._ended = True
        self._unwatch()
        self._close_queue()
        self._forget_memory()

    def _close_queue(self) -> None:
        queue = self._queue
        while queue:
            queue.popleft().close()

    def _forget_memory(self) -> None:
        """The transport has sent everything that it was given: return the memory."""
        while self._kept:
            self._kept.pop().close()
        if self._charged:
            self._memory.release_bytes(self._charged)
            self._charged = 0

    def _begin_file(self, unsent: FileRange) -> None:
        if self._writer.thread_socket.fd < 0:
            self._write_block(unsent)
        elif not self._watches:
            self._watches = True
            self._loop.add_writer(self._writer.thread_socket.fd, self._send_file, unsent)

    def _unwatch(self) -> None:
        if self._watches:
            self._watches = False
            self._loop.remove_writer(self._writer.thread_socket.fd)

    def _write_block(self, unsent: FileRange) -> None:
        """Give a block to the transport, which has sent everything."""
        size = min(unsent.count, _BLOCK if self._memory.bytes_left >= _BLOCK else _SMALL_BLOCK)
        try:
            block = os.pread(unsent.fd, size, unsent.offset)
            if not block:
                raise EOFError("the file is shorter than it was")
        except (OSError, EOFError) as error:
            self._failed(unsent, error)
            return
        unsent.offset += len(block)
        self._passed += len(block)
        self._memory.overdraw(len(block))
        self._charged += len(block)
        self._transport.write(block)
        if not self._transport.get_write_buffer_size():
            # Not at once: a client that takes everything at once would keep the loop from other connections.
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        if self._queue:
            self.send_next()

    def _send_file(self, unsent: FileRange) -> None:
        try:
            sent = send_some(self._writer.thread_socket.fd, unsent)
        except (BrokenPipeError, ConnectionError):
            self._handler.reset()
            return
        except (OSError, EOFError) as error:
            self._failed(unsent, error)
            return
        unsent.offset += sent
        self._passed += sent
        if not unsent.count:
            self._unwatch()
            self.send_next()

    def _failed(self, unsent: FileRange, error: Exception) -> None:
        log.error(f"a file could not be sent whole: {error}")
        if unsent.is_spool:
            self._handler.reset()
        else:
            # The application's file is shorter than promised: the client gets what there is, and sees the response
            # break off.
            self.end()
            self._handler.linger()
