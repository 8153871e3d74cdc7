"""The order of one connection's exchanges, and its sending side: the bridge between the loop and the threads.

At any time the sending side belongs to the thread that runs the connection's exchange, or to the loop, as the state
says. Every decision by the state, every change of it, and every write by a thread happen under `_lock`. So the loop
can take the sending side away from a thread that goes on running (hazard 1), and no descriptor is closed during a
write (hazard 2).

The thread writes to a duplicate of the connection's descriptor (hazard 2). On TLS there is none: the loop sends
everything.
"""

from __future__ import annotations

import contextlib
import threading
from queue import SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING

from starman.errors import Disconnected
from starman.serving.sending.loop_side import LoopSide, OnSent, RelayAnswer, Unsent
from starman.serving.sending.sendfile import FileRange
from starman.serving.sending.spool import Spool, SpoolLimits
from starman.serving.sending.thread_socket import ThreadSocket
from starman.serving.sending.writer_state import (
    DEAD,
    ENDING,
    FINISHING,
    FREE,
    RETURNED,
    SPOOLED,
    SPOOLING,
    STREAMING,
    THREAD,
    WHEN_SENT,
    WRITTEN,
)
from starman.wsgi.output import client_disconnected

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable

    from starman.serving.executors.queued_request import QueuedRequest
    from starman.serving.sending.writer_state import WriterState


class Writer:
    """The sending side and the order of exchanges of one connection. Each method says which side may call it.

    state, running, pending: what the sending side does, and the exchanges that run and wait. Without the lock they can
    change. thread_socket: the duplicate. The thread that runs an exchange may read its descriptor, and the loop that
    sends a file.
    """

    __slots__ = (
        *("_call_loop", "_handed", "_lock", "_loop_side", "_on_sent", "_persistent", "_spool"),
        *("_wake_loop", "idle_since", "pending", "running", "state", "thread_socket"),
    )

    def __init__(self, loop_side: LoopSide, call_loop: Callable[..., object]) -> None:
        """`call_loop`: `Executor.post`, which also ends a park (hazard 10)."""
        self._loop_side = loop_side
        self._call_loop = call_loop
        self._lock = threading.Lock()
        self.state = FREE
        self.thread_socket = ThreadSocket()
        self.running: QueuedRequest | None = None
        self.pending: list[QueuedRequest] = []  # few: a deque takes 600 bytes
        self._persistent = True
        self._on_sent: OnSent | None = None  # called with the lock held
        self._wake_loop = False
        self._handed = 0  # how many parts were handed over to the loop
        self._spool: Spool | None = None  # of the thread: SPOOLING, SPOOLED; DEAD, until the thread notices
        self.idle_since = monotonic()

    # The loop's side. Each request takes the lock without `with`, which makes two bound methods: 0.2 µs on 3.11.

    def offer(self, exchange: QueuedRequest, fd: int, buffered: bool) -> bool:
        """Queue an exchange. Loop. True: it can run now. `fd`: the transport's, -1 on TLS. `buffered`: it has unsent
        bytes."""
        self._lock.acquire()
        try:
            state = self.state
            if state is not ENDING and state is not DEAD:
                if self.thread_socket.fd < 0:
                    self.thread_socket.open(fd)
                if state is FREE and not buffered:
                    self.state = THREAD
                    self.running = exchange
                    return True
                if state is FREE:
                    self.state = RETURNED
                self.pending.append(exchange)
                return False
        finally:
            self._lock.release()
        exchange.drop()
        return False

    def on_queue_sent(self, taken: int) -> tuple[bool, QueuedRequest | None]:
        """All `taken` parts are sent (hazard 4). Loop. Returns whether no other is on its way, and the exchange to run
        next."""
        with self._lock:
            if taken != self._handed:
                return False, None
            if self.state is RETURNED and not self.thread_socket.held:
                return True, self._next()
            if self.state in WHEN_SENT:
                self.state = WHEN_SENT[self.state]
                self._call_on_sent()
            return True, None

    def wake_when_done(self) -> bool:
        """Have `on_exchanges_done` called when all exchanges are done. Loop. False: they are done, and it is not
        called."""
        with self._lock:
            self._write_held()
            self._wake_loop = self.state is not FREE
            return self._wake_loop

    def lose(self) -> bool:
        """The connection is gone: drop the waiting exchanges. Loop. True: one runs, and its next send raises
        Disconnected."""
        with self._lock:
            self._die()
        while self.pending:
            self.pending.pop(0).lose()
        return self.running is not None

    def close_idle(self) -> bool:
        """Close the duplicate: an application's select() fails above descriptor 1023. Loop. False: the connection is
        not idle."""
        with self._lock:
            self._write_held()
            if self.state is not FREE:
                return False
            self.thread_socket.close()
            return True

    # The thread's side

    def send(self, exchange: QueuedRequest, head: bytes, data: bytes) -> memoryview | None:
        """Write what the socket takes now. Thread. Returns what it did not take; None: it took all. Raises
        Disconnected."""
        self._lock.acquire()
        try:
            if self.running is exchange and self.state is THREAD and self.thread_socket.fd >= 0:
                return self.thread_socket.write(head, data)
        except OSError:
            self._failed()
            raise Disconnected from None
        finally:
            self._lock.release()
        return self.send(exchange, head, data) if self._notices_room(exchange) else memoryview(head + data)

    def hold(self, exchange: QueuedRequest, data: bytes, corked: deque[Writer]) -> bool:
        """Hold `data` back until `flush` or the next write, and join `corked`. Thread. False: not now, or too much."""
        self._lock.acquire()
        try:
            if self.running is not exchange or self.state is not THREAD or self.thread_socket.fd < 0:
                return False
            if self.thread_socket.held is None:
                corked.append(self)
            return self.thread_socket.hold(data)
        finally:
            self._lock.release()

    def send_file(self, exchange: QueuedRequest, file_range: FileRange) -> None:
        """Have the kernel send what the socket takes, and move `file_range` on. Thread. Raises Disconnected,
        OSError."""
        with self._lock:
            if not self._may_write(exchange) or self.thread_socket.fd < 0:
                return
            try:
                self.thread_socket.send_file(file_range)
            except (BrokenPipeError, ConnectionError):
                self._failed()
                raise Disconnected from None

    def hand_over(self, exchange: QueuedRequest, unsent: Unsent, *, last: bool) -> None:
        """Have the loop send `unsent`. Thread. Raises Disconnected. Waits, unless it is the `last`, for write_timeout
        at most."""
        if last:
            self._give(exchange, unsent, FINISHING, None, None)
            return
        room = threading.Event()
        self.stream(exchange, unsent, room.set)
        room.wait()
        with self._lock:
            self._check(exchange)

    def stream(self, exchange: QueuedRequest, unsent: Unsent, on_sent: OnSent) -> None:
        """Have the loop send `unsent`. Thread. `on_sent` is called once, when it has, or when the connection is
        lost."""
        self._give(exchange, unsent, STREAMING, None, on_sent)

    def keep(self, exchange: QueuedRequest, unsent: memoryview, limits: SpoolLimits, *, last: bool) -> None:
        """Have the loop send `unsent`, kept in memory or a file as `limits` say, without waiting. Thread. Raises
        Disconnected; OSError if it cannot be kept: then it is lost, and the response has to be abandoned."""
        spool = self._spool or Spool(limits)
        try:
            self._give(exchange, spool.add(unsent, last=last), FINISHING if last else SPOOLING, spool, None)
        finally:
            if self._spool is not spool:
                spool.close()

    def release(self, exchange: QueuedRequest, persistent: bool) -> QueuedRequest | None:
        """The exchange has ended. Thread. Returns the exchange of this connection to run next."""
        self._lock.acquire()
        try:
            if self.running is not exchange:
                client_disconnected()
                return None
            self.running = None
            self._persistent = self._persistent and persistent
            if self.state is THREAD or self.state is WRITTEN:
                return self._next()
            spool, self._spool = self._spool, None
            following = self._next() if self.state is SPOOLED else None
            if self.state is FINISHING or self.state is SPOOLING:
                self.state = RETURNED
            elif self.state is DEAD:
                client_disconnected()
        finally:
            self._lock.release()
        if spool is not None:
            spool.close()
        return following

    def abandon(self, exchange: QueuedRequest) -> None:
        """The response broke off in the middle: reset the connection, so that the client notices. Thread."""
        with self._lock:
            if self.running is not exchange:
                return
            self._write_held()
            if self.state is THREAD or self.state is SPOOLED:
                self._failed()
            elif self.state is not DEAD:  # the loop sends, perhaps a file to the duplicate, so the loop closes it
                self._call_loop(self._loop_side.reset)

    def duplicate(self, exchange: QueuedRequest) -> int:
        """Another descriptor of the connection, to inspect it. Thread, which closes it soon. Raises Disconnected,
        OSError."""
        with self._lock:
            self._check(exchange)
            return self.thread_socket.duplicate()

    def detach(self, exchange: QueuedRequest) -> tuple[int, RelayAnswer]:
        """Take the connection: its descriptor, and the answer to `detach_transport`. Thread. Raises Disconnected."""
        with self._lock:
            self._write_held()
            self._check(exchange)
            fd = self.thread_socket.give()
            self._die()
        reply: SimpleQueue[RelayAnswer] = SimpleQueue()
        self._call_loop(self._loop_side.detach_transport, reply)
        return fd, reply.get()

    def client_is_gone(self, *, finished: bool = False) -> bool:
        """Whether the client has reset the connection (hazard 5), or, if `finished`, has ended its stream. Thread."""
        with self._lock:
            return self.state is DEAD or self.thread_socket.is_reset() or (finished and self.thread_socket.has_peer_finished())

    def _notices_room(self, exchange: QueuedRequest) -> bool:
        """Take the sending side back if the loop has sent everything that was kept. Raises Disconnected."""
        with self._lock:
            if not self._may_write(exchange) or self.state is THREAD:
                return False
            self.state = THREAD
            spool, self._spool = self._spool, None
        if spool is not None:
            spool.close()
        return True

    def _give(
        self, exchange: QueuedRequest, unsent: Unsent | None, then: WriterState, spool: Spool | None, on_sent: OnSent | None
    ) -> None:
        """Hand `unsent` over to the loop. None: what was added to the file of `spool`."""
        with self._lock:
            may_write = self._may_write(exchange)
            if unsent is None and spool is not None:
                unsent = spool.share(anew=may_write)
            used, self._spool = self._spool, spool if then is SPOOLING else None
            self._on_sent = on_sent
            self.state = then
            self._handed += 1
        if used is not None and used is not spool:
            used.close()
        self._call_loop(self._loop_side.take_over, unsent)

    def flush(self) -> None:
        """Write what is held back. Either side."""
        self._lock.acquire()
        try:
            self._write_held()
        finally:
            self._lock.release()

    # Both; the lock is held

    def _write_held(self) -> None:
        if not self.thread_socket.held:
            return
        try:
            ends = self.state is RETURNED and not self._persistent
            unsent = self.thread_socket.finish() if ends else self.thread_socket.write(b"", b"")
        except OSError:
            self._failed()
            return
        if unsent is not None:
            if self.state is not RETURNED:  # another exchange may run: its response comes behind this one
                self.state = SPOOLING if self.state is THREAD else RETURNED
            self._handed += 1
            self._call_loop(self._loop_side.take_over, unsent)
        elif self.state is RETURNED:
            self._next()

    def _may_write(self, exchange: QueuedRequest) -> bool:
        """Whether the thread may write. False: the loop sends, and the thread may only hand over more. Raises
        Disconnected."""
        if self.running is exchange and self.state in (THREAD, SPOOLED, SPOOLING):
            return self.state is not SPOOLING
        raise client_disconnected()

    def _next(self) -> QueuedRequest | None:
        if not self._persistent:
            if self.thread_socket.held:
                self.state = RETURNED
                return None
            self.state = ENDING
            with contextlib.suppress(OSError):  # the connection is reset, as the loop will see
                self.thread_socket.finish()
            self._call_loop(self._loop_side.on_exchanges_done)
            return None
        if self.pending:
            self.state = THREAD
            self.running = following = self.pending.pop(0)
            following.runnable_at = 0.0
            return following
        self.state = FREE
        self.idle_since = monotonic()
        if self._wake_loop:
            self._wake_loop = False
            self._call_loop(self._loop_side.on_exchanges_done)
        return None

    def _failed(self) -> None:
        self._die()
        with contextlib.suppress(RuntimeError):  # the loop may be closed
            self._call_loop(self._loop_side.reset)

    def _die(self) -> None:
        self.state = DEAD
        self.thread_socket.close()
        self._call_on_sent()

    def _check(self, exchange: QueuedRequest) -> None:
        if self.running is not exchange or self.state is not THREAD:
            raise client_disconnected()

    def _call_on_sent(self) -> None:
        on_sent, self._on_sent = self._on_sent, None
        if on_sent is not None:
            on_sent()
