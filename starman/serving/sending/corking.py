"""Corking: hold small responses, and blocks of one response, for up to a millisecond, to write them together.

Responses. A write to a socket runs the kernel's network code, and often the receiver's too. It displaces what the
processor has cached of the interpreter and the application: a Flask request right behind another request takes a third
less time than one behind a write. So small responses are held back while other requests are about to run. The only
request, and a request that takes longer than `LONGEST`, are answered at once: there, holding back would gain nothing.

Blocks. PEP 3333 wants each block to be on its way while the application makes the next one, and one write for each
block is the plain way. But an application that makes rows of a table has a dozen of them ready in the time of one
write. So after the first few blocks, blocks are held together as long as each one comes at once behind the one before
(`Pace`). A block that the application had to wait for is written at once, with everything that was held before it.

The bytes are held by the connection's `Writer`, ahead of everything that the connection sends later. `Corking` only
has the list of writers that hold something. The executor flushes the list after a request. If its thread is busy or
blocked with the next request or block, the loop flushes: after each slice of a park and at its end, or by a timer
while it does not park. A thread that adds a writer checks afterwards that the loop still flushes, and the loop flushes
after it has declared that it no longer does: so one of the two sees the other, and nothing stays behind.

Must not import an executor.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from starman.serving.sending.writer_state import THREAD

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from starman.serving.executors.queued_request import QueuedRequest
    from starman.serving.sending.writer import Writer

# How long (seconds) anything is held, and how large (bytes) a response may be to be held.
LONGEST: Final = 0.001
LARGEST: Final = 16_384
# A block that comes within this time (seconds) behind the one before was probably ready: a write takes 5 to 10 µs.
AT_ONCE: Final = 0.0001
# How many blocks have to come at once before the next one is expected to.
CONVINCING: Final = 3


class Pace:
    """How quickly the blocks of one response follow each other. The thread's that runs the request.

    Instants are monotonic.
    """

    __slots__ = ("_last", "_streak")

    def __init__(self, now: float) -> None:
        """The first block is made."""
        self._last = now
        self._streak = 0

    def is_rapid(self, now: float) -> bool:
        """The next block is made. Returns whether the block behind it is likely to come at once."""
        self._streak = self._streak + 1 if now - self._last <= AT_ONCE else 0
        self._last = now
        return self._streak > CONVINCING


class Corking:
    """The writers of one worker that hold something back. Any side may call: the steps of a deque are atomic.

    writers: the writers that hold something. A writer may be in it twice, or hold nothing any more: that does no harm.
    attended: whether the executor is going to call `leave`, which flushes. The loop sets it (`attend`), any thread
    resets it.
    """

    __slots__ = ("_holds_blocks", "_loop", "_queue", "_timer_runs", "_until", "attended", "writers")

    def __init__(self, loop: AbstractEventLoop, queue: deque[QueuedRequest], *, holds_blocks: bool) -> None:
        """`queue`: the requests that wait for the executor.

        `holds_blocks`: whether the loop can flush while a request runs.
        """
        self._loop = loop
        self._queue = queue
        self._holds_blocks = holds_blocks
        # The instant (monotonic) from which on nothing stays held. Any thread sets it: a stale value only costs a
        # batch.
        self._until = 0.0
        # Whether the loop flushes by a timer. Any thread sets it, the loop resets it.
        self._timer_runs = False
        self.attended = False
        self.writers: deque[Writer] = deque()

    # The thread of a request

    def hold_response(self, writer: Writer, request: QueuedRequest, head: bytes, data: bytes) -> bool:
        """Hold the last part of a response back, if it is small and another request is about to run.

        False: send it now.
        """
        if not self.attended or len(head) + len(data) > LARGEST or not (self._queue or writer.pending):
            return False
        return writer.hold(request, head + data, self.writers) and self._checked()

    def hold_block(self, writer: Writer, request: QueuedRequest, block: bytes) -> bool:
        """Hold a block of a response back, if the loop can flush it while the application makes the next one.

        False: send it.
        """
        # The state is read without the lock, so that no timer starts for a connection that cannot hold anything.
        if not self._holds_blocks or writer.state is not THREAD or writer.thread_socket.fd < 0:
            return False
        if not self.attended and not self._start_timer():
            return False
        return writer.hold(request, block, self.writers) and self._checked()

    def _checked(self) -> bool:
        """Something was added: flush it if the loop will not. True."""
        if not (self.attended or self._timer_runs):
            self.flush()
        return True

    # The executor

    def attend(self, now: float) -> None:
        """Requests are about to run, and `leave` will follow: hold responses back from now on (monotonic). Loop."""
        self._until = now + LONGEST
        self.attended = True

    def leave(self) -> None:
        """Hold no more responses back, and write what is held. Loop."""
        # In this order: a thread adds a writer first, then checks `attended`.
        self.attended = False
        self.flush()

    def after_request(self, now: float, *, follows: bool) -> None:
        """A request has ended: write what is held, unless another request `follows` at once and the time is not
        over."""
        if not (follows and self.attended) or now >= self._until:
            self.flush()
            self._until = now + LONGEST

    def flush(self) -> None:
        """Write everything that is held, in order. Any side."""
        writers = self.writers
        while writers:
            try:
                writer = writers.popleft()
            except IndexError:  # another side has taken the last one
                return
            writer.flush()

    # The timer

    def _start_timer(self) -> bool:
        """Have the loop flush every millisecond, as long as it finds something. Any thread.

        False: the loop is closed.
        """
        if not self._timer_runs:
            self._timer_runs = True
            try:
                # Not by `Executor.post`: a park that begins meanwhile flushes by itself, and need not end. And not the
                # flush itself: it would find nothing yet, and the loop would be woken once more for each few blocks.
                self._loop.call_soon_threadsafe(self._schedule_flush)
            except RuntimeError:
                self._timer_runs = False
        return self._timer_runs

    def _schedule_flush(self) -> None:
        self._loop.call_later(LONGEST, self._flush_by_timer)

    def _flush_by_timer(self) -> None:
        # Reset before the check: a thread adds a writer first, then checks this.
        self._timer_runs = False
        if self.writers:
            self.flush()
            self._timer_runs = True
            self._schedule_flush()
