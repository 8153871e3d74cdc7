"""Enforces the timeouts of one connection: header and keep-alive timeout, body rate, write timeout. Loop only.

This is the timed part of `Connection`, which inherits from `TimedConnection`. Must not import `connection`. The
timeout of a TLS handshake is in `tls/handshake.py`; whether a transfer is too slow, `progress.py` calculates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starman.errors import ProtocolError
from starman.serving.connections.closing import LINGERING, ClosableConnection
from starman.serving.connections.disconnection import has_left
from starman.serving.sending.writer_state import FREE, LOOP_WRITES

if TYPE_CHECKING:
    from starman.serving.connections.progress import Progress

# After this long (seconds) without a request, a connection is idle: it gives back the second descriptor that threads
# write to.
IDLE_SECONDS: Final = 1.0


class TimedConnection(ClosableConnection):
    """The part of a `Connection` that enforces its timeouts. `Connection` sets all attributes.

    _heads: how many request heads have arrived. _progress: how fast the present head or body arrives.
    _idle: whether no request has come for IDLE_SECONDS, so that no timeout is due before the keep-alive timeout.
    """

    __slots__ = ("_heads", "_idle", "_progress")

    _heads: int
    _idle: bool
    _progress: Progress

    def enforce_timeouts(self, now: float) -> ProtocolError | None:
        """Close or reset a connection whose time is over; return the 408 for a request that arrives too slowly.

        `now` is monotonic.
        """
        if self._phase is LINGERING:
            self.become_lingering().check_timeouts(now)
            return None
        error = None
        state, upload = self._writer.state, self._upload
        if upload is not None and (state is FREE or upload.streamed):
            if upload.spooling:
                self._progress.forget()  # while the disk writes, the client's rate is unknown
            elif upload.is_slow(self._progress, now):
                error = ProtocolError(408, "the body did not arrive in time")
        elif state is FREE:
            error = self._enforce_header_and_keepalive_timeout(now)
        if state in LOOP_WRITES:
            queue = self._send_queue  # None: what a thread has handed over is still on its way to the loop
            if queue is not None and queue.is_slow(now, timeout=self._context.write_timeout, rate=self._context.min_send_rate):
                self.reset()
        elif state is not FREE and has_left(self._transport, self._writer, self._progress, now, finished=self._eof):
            self.reset()
        return error

    def _enforce_header_and_keepalive_timeout(self, now: float) -> ProtocolError | None:
        """Enforce the timeouts of a connection on which no request runs and no body arrives; return the 408 for a head
        that arrives too slowly."""
        if self._refusal is not None:
            self._progress.forget()
        elif not self._parser.between_messages:
            if self._progress.is_slow(self._heads, 0, now, timeout=self._context.header_timeout):
                return ProtocolError(408, "the request head did not arrive in time")
        else:
            self._progress.forget()
            idle = now - self._writer.idle_since
            if idle >= (self._context.keepalive_timeout if self._heads else self._context.header_timeout):
                if not self._has_unread():
                    self.linger()
            elif idle >= IDLE_SECONDS and self._writer.close_idle() and self._heads:
                self._idle = True
        return None
