"""Requests with a body that the application reads as it arrives (`--stream-body`).

The application is called when the head has arrived. `StreamedUpload` is the loop's side, `StreamedExchange` the
thread's side; a `BodyStream` connects them. If the body fails, the application's read raises BodyError, and everything
that it sends afterwards is dropped. The exchange then sends an error response if no response has begun, and resets the
connection otherwise.
"""

from __future__ import annotations

import contextlib
from enum import Enum, auto
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from starman.errors import Disconnected, ProtocolError
from starman.proto.events import EndOfBody, RequestHead
from starman.proto.response import refusal
from starman.serving.body.expect_continue import CONTINUE
from starman.serving.body.stream import BodyStream
from starman.serving.body.upload import decoded
from starman.serving.connections.progress import Progress
from starman.serving.exchange import Exchange
from starman.wsgi.call import Call
from starman.wsgi.output import client_disconnected

if TYPE_CHECKING:
    from starman.serving.context import ServiceContext
    from starman.serving.executors.queued_request import QueuedRequest
    from starman.serving.sending.writer import Writer
    from starman.wsgi.environ import Environ


class StreamedSource(Protocol):
    """The methods of `Connection` that a `StreamedUpload` calls."""

    def pause_reading(self) -> None:
        """Leave the socket unread."""

    def on_body_demand(self, upload: StreamedUpload) -> None:
        """The application reads, or has returned: the socket may have to be read on. Posted by the application's
        thread."""


class StreamedUpload:
    """Feeds the body to its stream. The rest is dropped after the application has returned. Loop only."""

    __slots__ = ("_context", "_progress", "_source", "head", "stream")

    streamed = True
    spooling = False

    def __init__(self, head: RequestHead, source: StreamedSource, context: ServiceContext, *, expected: bool) -> None:
        """`expected`: the client waits for 100 Continue, and has sent nothing of the body."""
        self.head = head
        self.stream = BodyStream(head.body_length, self._demand, expected=expected)
        self._source = source
        self._context = context
        # Not the progress of the connection: that measures the response, which may be sent at the same time.
        self._progress = Progress()

    def add_data(self, data: bytes) -> None:
        """Feed the next bytes of the body."""
        if self.stream.feed_data(data):
            self._source.pause_reading()

    def complete(self, end: EndOfBody) -> None:
        """Feed the end of the body."""
        self.stream.feed_eof(decoded(end.trailers))

    def continue_response(self) -> bytes:
        """Return nothing: the exchange sends 100 Continue when the application reads."""
        return b""

    def is_slow(self, progress: Progress, now: float) -> bool:
        """Return whether the client is too slow. Only the time counts during which its bytes were waited for."""
        context, stream = self._context, self.stream
        waited = stream.seconds_waited(now)
        return self._progress.is_slow(
            self.head, stream.received, waited, timeout=context.header_timeout, rate=context.min_body_rate
        )

    def discard(self) -> None:
        """The connection is closed."""
        self.stream.fail(None)

    def fail(self, error: ProtocolError) -> bool:
        """The body will not be complete. Return whether the exchange answers the client."""
        return self.stream.fail(error)

    def _demand(self) -> None:
        """Make the loop read on: the application waits, or the buffer is low again. Thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed, and so is the connection
            self._context.executor.post(self._source.on_body_demand, self)


class _Response(Enum):
    """How much of the application's response is sent: NONE → DUE (its head is made) → BEGUN → COMPLETE."""

    NONE = auto()
    DUE = auto()
    BEGUN = auto()
    COMPLETE = auto()


class StreamedExchange(Exchange):
    """The request, run by a thread. It is the Output of its Call."""

    __slots__ = ("_response", "_stream")

    def __init__(self, context: ServiceContext, writer: Writer, base: Environ, head: RequestHead, body: BodyStream) -> None:
        super().__init__(context, writer, base, head, body)
        self._stream = body
        self._response = _Response.NONE
        # No other protocol can follow a body that may not be read to its end.
        head.upgrade = False

    def run(self) -> QueuedRequest | None:
        """Run as any exchange does, unless the body has failed already."""
        if self._stream.failed:
            failure = self._stream.failure
            if failure is None:
                return self.end_lost()
            self.drop()
            return self._refuse(failure.status, str(failure))
        self._stream.before_wait = self._continue
        return super().run()

    def application_seconds(self, now: float) -> float:
        """As in `QueuedRequest`, also without waits for the body."""
        return super().application_seconds(now) - self._stream.seconds_waited(now)

    def _bytes_received(self) -> int:
        return self._stream.received

    def may_persist(self) -> bool:
        """Return whether the connection is kept: only if the missing part of the body is small enough to be read."""
        self._response = _Response.DUE
        return self._stream.will_end and super().may_persist()

    def on_empty_block(self, sent: int) -> None:
        """As in `Exchange`; raises Disconnected once the body has failed."""
        if self._stream.failed:
            raise Disconnected
        super().on_empty_block(sent)

    def send(self, data: bytes, *, last: bool, head: bytes = b"") -> None:
        """As in `Exchange`; raises Disconnected once the body has failed."""
        self._begin()
        super().send(data, head=head, last=last)
        if last:
            self._response = _Response.COMPLETE

    def send_file(self, head: bytes, fd: int, offset: int, count: int) -> None:
        """As in `Exchange`; raises Disconnected once the body has failed."""
        self._begin()
        super().send_file(head, fd, offset, count)
        self._response = _Response.COMPLETE

    def _begin(self) -> None:
        if self._stream.failed:
            raise client_disconnected()
        if self._response is _Response.DUE:
            self._response = _Response.BEGUN

    def _continue(self) -> None:
        """Send 100 Continue, unless a response has begun (`expect_continue`)."""
        if self._response is _Response.NONE:
            with contextlib.suppress(Disconnected):  # the read that is about to wait raises it
                self._send_own(CONTINUE, last=False)

    def _break_off(self, call: Call) -> None:
        """The application has returned, and its body has failed: so has its response, unless that is complete."""
        call.persistent = False
        failure = self._stream.failure
        if self._response is _Response.BEGUN:
            self._writer.abandon(self)
        elif failure is not None and self._response is not _Response.COMPLETE:
            call.status_code = failure.status
            to_head = self.head.method == b"HEAD"
            call.body_sent = 0 if to_head else len(str(failure).encode()) + 1
            with contextlib.suppress(Disconnected):
                date_lines = self._context.date_lines.lines_at(monotonic())
                self._send_own(refusal(failure.status, str(failure), date_lines, to_head=to_head), last=True)
