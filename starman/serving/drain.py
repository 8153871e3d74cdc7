"""The graceful stop of a worker's service: it accepts no more, finishes its requests, and closes idle connections.

A drain ends when no connection is left, or after graceful_timeout. What is left then is reset, and the log names it.
What makes a worker drain is decided in `process.worker.worker`. Loop only.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio

from starman import log
from starman.log.in_flight import counted
from starman.serving.health.requests_in_flight import count_in_flight, describe_in_flight

if TYPE_CHECKING:
    from collections.abc import Callable

    from starman.serving.accepting.acceptor import Acceptor
    from starman.serving.context import ServiceContext

# How long (seconds) idle connections are kept after a drain begins: a request may be on its way.
_LINGER = 0.5

# How often (seconds) a drain checks which connections have become idle. It begins with short pauses, and doubles them
# up to the second number, because most drains end at once: a service that is idle, or a rehearsal.
_FIRST_PAUSE = 0.001
_LONGEST_PAUSE = 0.05


class Drain:
    """The drain of one service. All methods run in the loop.

    requested: whether the service is to drain, or drains already.
    """

    __slots__ = ("_abort_requested", "_event", "_scope", "requested")

    def __init__(self) -> None:
        self.requested = False
        self._abort_requested = False
        self._event: anyio.Event | None = None
        self._scope: anyio.CancelScope | None = None

    def request(self) -> None:
        """Have the service drain. May be called again, and before the service runs."""
        self.requested = True
        if self._event is not None:
            self._event.set()

    def abort(self) -> None:
        """Have the service drain, and end the drain now: whatever is left is reset."""
        self._abort_requested = True
        self.request()
        if self._scope is not None:
            self._scope.cancel()

    async def wait_for_request(self) -> None:
        """Return as soon as a drain is requested."""
        if not self.requested:
            self._event = anyio.Event()
            await self._event.wait()

    async def finish_requests(
        self, context: ServiceContext, acceptor: Acceptor, seconds: float, report_in_flight: Callable[[int], None] | None
    ) -> None:
        """Stop accepting. Return when all connections are closed, or after `seconds`, or when aborted; then log what
        is left.

        `report_in_flight` is called with the number of requests in flight, several times a second; None: not needed.
        """
        context.draining = True
        acceptor.stop()
        with anyio.move_on_after(seconds) as self._scope:
            if self._abort_requested:
                self._scope.cancel()
            begun_at = time.monotonic()
            pause = _FIRST_PAUSE
            while True:
                # Sleep first: a socket that was just accepted becomes a connection in one of the next rounds of the
                # loop.
                await anyio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                if report_in_flight is not None:
                    report_in_flight(count_in_flight(context))
                if not (context.connections or acceptor.busy or context.executor.busy):
                    break
                since = time.monotonic() - _LINGER
                if since >= begun_at:
                    for connection in list(context.connections):
                        connection.close_if_idle(since)
        if context.connections or context.executor.busy:
            self._log_resets(context, seconds)

    def _log_resets(self, context: ServiceContext, seconds: float) -> None:
        why = "the drain is cut short" if self._abort_requested else f"graceful_timeout is over ({seconds:g} s)"
        if context.connections:
            log.warning(f"{why}: {counted(len(context.connections), 'connection', 'are')} reset{describe_in_flight(context)}")
        else:
            threads = counted(max(1, context.executor.awake), "thread", "are")
            log.warning(f"{why}: {threads} left in a request whose client has gone")
