"""No threads (`--threads 0`): the loop itself runs the exchanges, for an application that is fast and never blocks.

The loop runs the queued requests between two polls, one request of each connection in a round. It never waits for a
slow reader: a response stops behind the block that its client's socket does not take, and goes on when the loop has
sent that block. A response also stops when its time is over: without that, a client that reads faster than the
application makes blocks would keep the loop from everything else.

The application does not notice. Each exchange has a context of its own (`contextvars`), as a thread has, because parts
of other exchanges run between its own. And it finds no running loop: with one, Django would refuse its database, and
`asyncio.run` would fail.
"""

from __future__ import annotations

import sys
import time
from asyncio import _get_running_loop, _set_running_loop
from contextvars import Context
from math import inf
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final

from starman import application_forks
from starman.errors import Disconnected
from starman.serving.exchange import Exchange
from starman.serving.exchange_body import Body
from starman.serving.executors.executor import Executor
from starman.serving.monitor import RequestRecorder, no_recorder, record_thread
from starman.serving.sending.spool import keep_block
from starman.serving.sending.writer_state import DEAD, STREAMING
from starman.wsgi.call import Call
from starman.wsgi.resumable_call import ResumableCall

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable

    from starman.proto.events import RequestHead
    from starman.proto.response import DateLines, RequestFacts
    from starman.serving.context import ServiceContext
    from starman.serving.executors.queued_request import QueuedRequest
    from starman.serving.sending.writer import Writer
    from starman.wsgi.environ import Environ

# After so long (seconds) the loop polls its sockets, even if requests still wait.
_LONGEST_TURN: Final = 0.005
# After so long (seconds) a response stops at its next block, and other requests run.
_LONGEST_PIECE: Final = 0.001
# A request that takes so long (seconds) is slow. For so long (seconds) after a slow request no response is held back:
# another slow one may follow, and nothing can write what is held while the loop runs it.
_SLOW: Final = 0.005
_WARY: Final = 1.0
# How long (seconds) another thread, such as the one that waits for connections, waits before it requests the GIL. Each
# poll releases the GIL for a moment, too short to take it and long enough to restart the wait: with Python's own 5 ms,
# a response that was made without a break kept other clients waiting for 7 s.
_SWITCH_INTERVAL: Final = _LONGEST_PIECE / 2


class InlineExchange(Exchange):
    """A request that the loop runs, in one piece or in several. It is the Output of its Call. Loop only."""

    __slots__ = ("_call", "_environ", "_own_context", "_until", "may_pause")

    _environ: Environ

    def __init__(self, context: ServiceContext, writer: Writer, base: Environ, head: RequestHead, body: Body | None) -> None:
        super().__init__(context, writer, base, head, body)
        self._call: ResumableCall | None = None
        # Empty, like the context of a new thread.
        self._own_context = Context()
        self._until = 0.0
        self.may_pause = False
        # No other protocol: the application would block the loop with it, and wait for the loop.
        head.upgrade = False

    def run(self) -> QueuedRequest | None:
        """Call the application, or go on with its response. Returns the connection's next request: this exchange again
        if its time is over; None also if the client has to read first."""
        return self._own_context.run(self._run)

    def _run(self) -> QueuedRequest | None:
        self._until = time.monotonic() + _LONGEST_PIECE
        call = self._call
        if call is not None:
            call.resume_call(self._environ)
            return self._finish(call, self._environ)
        if self._writer.state is DEAD:
            return self.end_lost()
        return super().run()

    @property
    def has_begun(self) -> bool:
        """Whether the application was called: then the request is in the queue to go on."""
        return self._call is not None

    def thread_wait(self, now: float) -> float:
        """As in `Exchange`; 0.0 once the application was called."""
        return super().thread_wait(now) if self._call is None else 0.0

    def is_gone(self, now: float) -> bool:
        """As in `Exchange`; False once the application was called, which then has to end its response itself."""
        return self._call is None and super().is_gone(now)

    def _new_call(self, facts: RequestFacts, date_lines: DateLines) -> Call:
        return ResumableCall(facts, self, date_lines)

    def must_pause(self) -> bool:
        """Whether the client has to read first, or the time of this piece is over."""
        return self._writer.state is STREAMING or time.monotonic() >= self._until

    def resume(self) -> None:
        """Go on, unless the client has gone meanwhile. Raises Disconnected."""
        if self._writer.state is DEAD:
            raise Disconnected

    def _finish(self, call: Call, environ: Environ) -> QueuedRequest | None:
        if isinstance(call, ResumableCall) and call.paused:
            application_forks.end_child()
            self._call, self._environ = call, environ
            if self._writer.state is STREAMING:
                return None
            self.queued_at = time.monotonic()
            return self
        # The call refers to this exchange. Without the cycle everything is freed at once.
        self._call, self._environ = None, {}
        self._context.executor.finished += 1
        return super()._finish(call, environ)

    def _hold_up(self, unsent: memoryview) -> bool:
        """Leave the rest of a block to the loop, and go on when it is sent. False: the application cannot stop here.
        Raises OSError if it cannot be kept."""
        if not self.may_pause:
            return False
        block = keep_block(unsent, self._context.spool_limits)
        try:
            self._writer.stream(self, block, self._on_block_sent)
        except Disconnected:
            block.close()
            raise
        return True

    def _on_block_sent(self) -> None:
        """The block is sent, or the client has gone."""
        self.queued_at = time.monotonic()
        self._context.executor.put(self)


class Inline(Executor):
    """Runs requests in the loop, without threads. Loop only, except `post`."""

    __slots__ = ("_counter", "_ident", "_interval", "_recorder", "_wary_until")

    def __init__(self, loop: AbstractEventLoop, *, recorder_of: Callable[[int], RequestRecorder | None] = lambda _: None) -> None:
        """In the thread of the loop. `recorder_of(0)`: where the loop records its request, as
        `Heartbeat.request_recorder`."""
        super().__init__(loop, 0, holds_blocks=False)  # nothing can flush while the application makes the next block
        self._recorder = recorder_of(0) or no_recorder()
        self._counter = self.request_counts.new_counter()
        record_thread(self._recorder[1])
        self._ident = get_ident()
        self._interval = _SWITCH_INTERVAL
        self._wary_until = 0.0

    def start(self) -> None:
        """Let other threads run between pieces of responses, by a short switch interval.

        It applies to the whole process.
        """
        self._interval = sys.getswitchinterval()
        sys.setswitchinterval(min(self._interval, _SWITCH_INTERVAL))

    def stop(self) -> None:
        """All connections are gone: close() the responses that are still being made."""
        while self._queue:
            self._run_some(len(self._queue))
        sys.setswitchinterval(self._interval)

    @property
    def busy(self) -> bool:
        """Whether a request waits: the loop itself can only ask between two requests."""
        return bool(self._queue)

    @property
    def awake(self) -> int:
        """0: there are no threads."""
        return 0

    def running(self) -> list[tuple[int, QueuedRequest]]:
        """None: while a request runs, the loop cannot ask."""
        return []

    def lose(self, ident: int, request: QueuedRequest) -> None:
        """Not called, because nothing runs while the loop does."""

    def start_missing(self) -> None:
        """Does nothing."""

    def put(self, request: QueuedRequest) -> None:
        """Queue a request, or one whose response goes on."""
        self._queue.append(request)
        if not self._turn_due:
            self._schedule_turn(polls=0)

    def begin_wait(self) -> bool:
        """False: the loop must not wait."""
        return False

    def end_wait(self) -> None:
        """Not called, because `begin_wait` gives no permission."""

    def post(self, callback: Callable[..., object], *arguments: Any) -> None:
        """Have the loop call `callback` soon. Any thread. Raises RuntimeError when the loop is closed."""
        if get_ident() == self._ident:
            self._loop.call_soon(callback, *arguments)
        else:
            self._loop.call_soon_threadsafe(callback, *arguments)

    def _take_turn(self) -> None:
        """The events of a poll are parsed: run one request of each connection, or as many as there is time for."""
        if self._waits_for_arrivals():
            return
        self.longest_queue = max(self.longest_queue, len(self._queue))
        try:
            self._run_some(len(self._queue), time.monotonic() + _LONGEST_TURN)
        finally:  # an application's signal handler may raise in there
            self._turn_due = False
            if self._queue:
                self._schedule_turn(polls=0)
        if self._queue and self.on_backlog is not None:
            self.on_backlog()

    def _run_some(self, count: int, until: float = inf) -> None:
        """Run `count` of the waiting requests; end at `until` (monotonic)."""
        loop = _get_running_loop()
        _set_running_loop(None)
        try:
            began = time.monotonic()
            if began >= self._wary_until:
                self.corking.attend(began)
            for _ in range(count):
                self._run_first()
                now = time.monotonic()
                if now - began >= _SLOW:
                    self._wary_until = now + _WARY
                    self.corking.attended = False
                self.corking.after_request(now, follows=True)
                if now >= until:
                    break
                began = now
        finally:
            _set_running_loop(loop)
            self.corking.leave()

    def _run_first(self) -> None:
        exchange = self._queue.popleft()
        record, busy = self._recorder
        try:
            record(exchange.queued_at, exchange.head.method, exchange.head.target)
            following = exchange.run()
        except BaseException as error:  # a defect of the server must cost neither the loop nor a client that waits forever
            exchange.abandon(error)
            following = None
        busy[0] = 0
        if exchange.status_code >= 0:  # it has ended, and does not only pause
            self._counter.count(exchange, time.monotonic())
        if following is not None:
            # Behind the requests of other connections.
            self._queue.append(following)
