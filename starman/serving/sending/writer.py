"""The bridge of one connection between the loop and the threads: its order of exchanges, and its sending side.

At any time the sending side belongs to the thread that runs the connection's exchange, or to the loop. Whose turn it is stands in
`turn`, and every look at it, every change of it and every write by a thread happens under `_lock`: so the loop can take the
sending side away from a thread that lives on (hazard 1), and a descriptor is never closed under a write (hazard 2).

The thread writes to a duplicate of the connection's descriptor, never to the loop's own: libuv closes that one by itself on a
read error, and its number is reused at once (hazard 2). On TLS there is none: each send takes nothing, and all is handed over.
"""

from __future__ import annotations

import contextlib
import threading
from queue import SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING

from starman.errors import Disconnected
from starman.serving.sending.file_range import FileRange
from starman.serving.sending.loop_side import LoopSide, OnRoom, RelayAnswer, Rest
from starman.serving.sending.spool import Spool, SpoolLimits
from starman.serving.sending.thread_socket import ThreadSocket
from starman.serving.sending.writer_state import (
    DEAD,
    ENDING,
    FINISHING,
    FREE,
    ON_DRAIN,
    RETURNED,
    SPOOLED,
    SPOOLING,
    STREAMING,
    THREAD,
    WRITTEN,
)
from starman.wsgi.output import client_disconnected

if TYPE_CHECKING:
    from collections.abc import Callable

    from starman.proto.events import RequestHead
    from starman.serving.executors.queued_request import QueuedRequest
    from starman.serving.sending.writer_state import WriterState


class Writer:
    """One connection's sending side and order of exchanges. Methods say which side may call them.

    turn: whose turn it is. Either side may read it, but without the lock it can change at once.
    thread_socket: what a thread writes to. The thread that runs an exchange may read its number, and the loop for a file.
    empty_block: the request whose response gave the last empty block, and after how many bytes. Set by a thread; see `silence`.
    """

    __slots__ = (
        *("_call_loop", "_exchange", "_handed", "_lock", "_loop_side", "_on_room", "_pending", "_persistent", "_spool"),
        *("_wake_loop", "empty_block", "idle_since", "thread_socket", "turn"),
    )

    def __init__(self, loop_side: LoopSide, call_loop: Callable[..., object]) -> None:
        """`call_loop` posts to the loop, as `Pool.post` does, which also ends a park (hazard 10)."""
        self._loop_side = loop_side
        self._call_loop = call_loop
        self._lock = threading.Lock()
        self.turn = FREE
        self.thread_socket = ThreadSocket()
        self._exchange: QueuedRequest | None = None
        self._pending: list[QueuedRequest] = []  # few, and a deque is 600 bytes
        self._persistent = True
        self._on_room: OnRoom | None = None  # called under the lock, when there is room again, or when there will be none
        self._wake_loop = False
        self._handed = 0  # how many times something was
        self._spool: Spool | None = None  # the thread's, in the turns SPOOLING and SPOOLED; in DEAD, until it has noticed
        self.idle_since = monotonic()
        self.empty_block: tuple[RequestHead, int] | None = None

    # The loop's side. For each request the lock is taken by hand: a `with` makes two bound methods, 0.2 µs on 3.11.

    def offer(self, exchange: QueuedRequest, fd: int, buffered: bool) -> bool:
        """Queue an exchange of this connection. Loop. True: its turn is now, give it to the pool.
        `fd`: the transport's descriptor, open during its callbacks; -1 on TLS. `buffered`: the transport has unsent bytes."""
        self._lock.acquire()
        try:
            turn = self.turn
            if turn is not ENDING and turn is not DEAD:
                if self.thread_socket.fd < 0:
                    self.thread_socket.open(fd)
                if turn is FREE and not buffered:
                    self.turn = THREAD
                    self._exchange = exchange
                    return True
                if turn is FREE:
                    self.turn = RETURNED
                self._pending.append(exchange)
                return False
        finally:
            self._lock.release()
        exchange.drop()
        return False

    def drained(self, taken: int) -> tuple[bool, QueuedRequest | None]:
        """All that the loop has taken over is written, and the transport's buffer is empty (hazard 4). Loop.
        `taken`: how many parts the loop has taken over. Returns whether these are all, and an exchange for the pool to run."""
        with self._lock:
            if taken != self._handed:
                return False, None
            if self.turn is RETURNED and not self.thread_socket.held:
                return True, self._next()
            after = ON_DRAIN.get(self.turn)
            if after is not None:
                self.turn = after
                self._tell_of_room()
            return True, None

    def wake_when_done(self) -> bool:
        """Ask for `on_exchanges_done` when all exchanges are done. Loop. False: they are done now, and nothing will come."""
        with self._lock:
            self._write_held()
            self._wake_loop = self.turn is not FREE
            return self._wake_loop

    def lose(self) -> bool:
        """The connection is gone. Loop. Drops exchanges that wait, without the lock; one that runs (True) hears by a send."""
        with self._lock:
            self._die()
        while self._pending:
            self._pending.pop(0).drop()
        return self._exchange is not None

    def rest(self) -> bool:
        """Give the duplicate back: an application's select() fails above descriptor 1023. Loop. False: it is not idle."""
        with self._lock:
            self._write_held()
            if self.turn is not FREE:
                return False
            self.thread_socket.close()
            self.empty_block = None
            return True

    def silence(self) -> tuple[RequestHead, int] | None:
        """`empty_block`, if it belongs to the response that is being made. Loop."""
        exchange, block = self._exchange, self.empty_block
        return block if exchange is not None and block is not None and block[0] is exchange.head else None

    @property
    def pending_count(self) -> int:
        """How many requests of this client wait for their turn. Either side, for a look."""
        return len(self._pending)

    # The thread's side

    def send(self, exchange: QueuedRequest, head: bytes, data: bytes) -> memoryview | None:
        """Write what the socket takes now. Thread. Returns what it does not take, None when it has all; raises Disconnected."""
        self._lock.acquire()
        try:
            if self._exchange is exchange and self.turn is THREAD and self.thread_socket.fd >= 0:
                return self.thread_socket.write(head, data)
        except OSError:
            self._failed()
            raise Disconnected from None
        finally:
            self._lock.release()
        return self.send(exchange, head, data) if self._notices_room(exchange) else memoryview(head + data)

    def hold(self, exchange: QueuedRequest, data: bytes) -> int:
        """Hold back, until `flush`, or until more is written. Thread. How many pieces are held then; 0: not this one, send it."""
        self._lock.acquire()
        try:
            mine = self._exchange is exchange and self.turn is THREAD and self.thread_socket.fd >= 0
            return self.thread_socket.hold(data) if mine else 0
        finally:
            self._lock.release()

    def send_file(self, exchange: QueuedRequest, rest: FileRange) -> None:
        """Let the kernel send of a file what the socket takes now, and move `rest` on. Thread. Raises Disconnected, OSError."""
        with self._lock:
            if not self._may_write(exchange) or self.thread_socket.fd < 0:
                return
            try:
                self.thread_socket.send_file(rest)
            except (BrokenPipeError, ConnectionError):
                self._failed()
                raise Disconnected from None

    def hand_over(self, exchange: QueuedRequest, rest: Rest, *, last: bool) -> None:
        """Let the loop write the rest. Thread. Waits until that is done, unless it is the `last` of the response. The loop bounds
        the wait: it cuts a connection that takes nothing for write_timeout. Raises Disconnected."""
        if last:
            self._give(exchange, rest, FINISHING, None, None)
            return
        room = threading.Event()
        self.stream(exchange, rest, room.set)
        room.wait()
        with self._lock:
            self._check(exchange)

    def stream(self, exchange: QueuedRequest, rest: Rest, on_room: OnRoom) -> None:
        """As `hand_over`, but does not wait: `on_room` is called, once, when that is done or the connection is lost."""
        self._give(exchange, rest, STREAMING, None, on_room)

    def keep(self, exchange: QueuedRequest, rest: memoryview, limits: SpoolLimits, *, last: bool) -> None:
        """Let the loop write the rest, from memory or a file, as `limits` say, and do not wait. Thread. Raises Disconnected, and
        OSError if it cannot be kept: then the response has lost a piece, and is to be abandoned."""
        spool = self._spool or Spool(limits)
        try:
            self._give(exchange, spool.add(rest, last=last), FINISHING if last else SPOOLING, spool, None)
        finally:
            if self._spool is not spool:
                spool.close()

    def release(self, exchange: QueuedRequest, persistent: bool) -> QueuedRequest | None:
        """The application has returned. Thread. Returns the exchange to run next on this connection."""
        self._lock.acquire()
        try:
            if self._exchange is not exchange:
                client_disconnected()
                return None
            self._exchange = None
            self._persistent = self._persistent and persistent
            if self.turn is THREAD or self.turn is WRITTEN:
                return self._next()
            spool, self._spool = self._spool, None
            following = self._next() if self.turn is SPOOLED else None
            if self.turn is FINISHING or self.turn is SPOOLING:
                self.turn = RETURNED
            elif self.turn is DEAD:
                client_disconnected()
        finally:
            self._lock.release()
        if spool is not None:
            spool.close()
        return following

    def abandon(self, exchange: QueuedRequest) -> None:
        """The response broke off in its middle: reset the connection, so that the client sees it. Thread."""
        with self._lock:
            if self._exchange is not exchange:
                return
            self._write_held()
            if self.turn is THREAD or self.turn is SPOOLED:
                self._failed()
            elif self.turn is not DEAD:  # the loop writes, perhaps a file to the duplicate: the closing is the loop's, too
                self._call_loop(self._loop_side.reset)

    def duplicate(self, exchange: QueuedRequest) -> int:
        """Another descriptor of the connection, to look at it. Thread, which closes it soon. Raises Disconnected, OSError."""
        with self._lock:
            self._check(exchange)
            return self.thread_socket.duplicate()

    def detach(self, exchange: QueuedRequest) -> tuple[int, RelayAnswer]:
        """Take the connection from the server: its descriptor, and what `let_go` puts in between. Thread. Raises Disconnected."""
        with self._lock:
            self._write_held()
            self._check(exchange)
            fd = self.thread_socket.give()
            self._die()
        reply: SimpleQueue[RelayAnswer] = SimpleQueue()
        self._call_loop(self._loop_side.let_go, reply)
        return fd, reply.get()

    def client_is_gone(self) -> bool:
        """Whether the client has reset the connection (hazard 5). Thread. A FIN is no reset."""
        with self._lock:
            return self.turn is DEAD or self.thread_socket.is_reset()

    def _notices_room(self, exchange: QueuedRequest) -> bool:
        """Whether the loop has caught up with what was kept, so that the thread may write again. Raises Disconnected."""
        with self._lock:
            if not self._may_write(exchange) or self.turn is THREAD:
                return False
            self.turn = THREAD
            spool, self._spool = self._spool, None
        if spool is not None:
            spool.close()
        return True

    def _give(
        self, exchange: QueuedRequest, rest: Rest | None, then: WriterState, spool: Spool | None, on_room: OnRoom | None
    ) -> None:
        """`rest` None: what was added to the file of `spool`."""
        with self._lock:
            may_write = self._may_write(exchange)
            if rest is None and spool is not None:
                rest = spool.share(anew=may_write)
            used, self._spool = self._spool, spool if then is SPOOLING else None
            self._on_room = on_room
            self.turn = then
            self._handed += 1
        if used is not None and used is not spool:
            used.close()
        self._call_loop(self._loop_side.take_over, rest)

    def flush(self) -> None:
        """Write what was held back. Either side."""
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
            ends = self.turn is RETURNED and not self._persistent
            rest = self.thread_socket.finish() if ends else self.thread_socket.write(b"", b"")
        except OSError:
            self._failed()
            return
        if rest is not None:
            if self.turn is not RETURNED:  # another exchange may run by now: it goes on, and its response comes behind this
                self.turn = SPOOLING if self.turn is THREAD else RETURNED
            self._handed += 1
            self._call_loop(self._loop_side.take_over, rest)
        elif self.turn is RETURNED:
            self._next()

    def _may_write(self, exchange: QueuedRequest) -> bool:
        """Whether the socket is the thread's now. False: the loop writes, and the thread may add to that. Raises Disconnected."""
        if self._exchange is exchange and self.turn in (THREAD, SPOOLED, SPOOLING):
            return self.turn is not SPOOLING
        raise client_disconnected()

    def _check(self, exchange: QueuedRequest) -> None:
        if self._exchange is not exchange or self.turn is not THREAD:
            raise client_disconnected()

    def _next(self) -> QueuedRequest | None:
        if not self._persistent:
            if self.thread_socket.held:
                self.turn = RETURNED
                return None
            self.turn = ENDING
            with contextlib.suppress(OSError):  # it is reset, as the loop will see
                self.thread_socket.finish()
            self._call_loop(self._loop_side.on_exchanges_done)
            return None
        if self._pending:
            self.turn = THREAD
            self._exchange = self._pending.pop(0)
            return self._exchange
        self.turn = FREE
        self.idle_since = monotonic()
        if self._wake_loop:
            self._wake_loop = False
            self._call_loop(self._loop_side.on_exchanges_done)
        return None

    def _failed(self) -> None:
        self._die()
        with contextlib.suppress(RuntimeError):  # the loop itself may be gone by now
            self._call_loop(self._loop_side.reset)

    def _die(self) -> None:
        self.turn = DEAD
        self.thread_socket.close()
        self._tell_of_room()

    def _tell_of_room(self) -> None:
        on_room, self._on_room = self._on_room, None
        if on_room is not None:
            on_room()
