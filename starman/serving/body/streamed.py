"""A request that is called when its head is there, and reads its body as it arrives (`--stream-body`): its two sides.

`StreamedUpload` is the loop's, `StreamedExchange` the thread's; between them is a `BodyStream`. If the body breaks off, in
whatever way, the application's read raises BodyError, and nothing that it sends afterwards leaves: the exchange answers in its
place while no response has begun, and resets the connection when one has.
"""

from __future__ import annotations

import contextlib
from enum import Enum, auto
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from starman.errors import Disconnected, ProtocolError
from starman.proto.events import EndOfBody, RequestHead
from starman.proto.response import interim, refusal
from starman.serving.body.stream import BodyStream
from starman.serving.body.upload import decoded
from starman.serving.exchange import Exchange
from starman.serving.progress import Progress
from starman.wsgi.call import Call
from starman.wsgi.output import client_disconnected

if TYPE_CHECKING:
    from starman.serving.context import ServiceContext
    from starman.serving.executors.queued_request import QueuedRequest
    from starman.serving.sending.writer import Writer
    from starman.wsgi.environ import Environ


class StreamedSource(Protocol):
    """The methods of `Connection` that a `StreamedUpload` calls."""

    def pause(self) -> None:
        """Leave the socket unread."""

    def on_demand(self, upload: StreamedUpload) -> None:
        """The application reads, or is done: the socket may have to be read on. The application's thread posts the call."""


class StreamedUpload:
    """The body between its head and its end; the application may have returned meanwhile, and then it is dropped. Loop only."""

    __slots__ = ("_context", "_progress", "_source", "head", "stream")

    streamed = True
    spooling = False

    def __init__(self, head: RequestHead, source: StreamedSource, context: ServiceContext, *, expected: bool) -> None:
        """`expected`: none of the body has come, and none will before 100 Continue."""
        self.head = head
        self.stream = BodyStream(head.body_length, self._demand, expected=expected)
        self._source = source
        self._context = context
        # Its own: the connection's is for the response, which may be on its way at the same time.
        self._progress = Progress()

    def take(self, data: bytes) -> None:
        """The next piece of the body."""
        if self.stream.feed(data):
            self._source.pause()

    def end(self, end: EndOfBody) -> None:
        """The body is complete."""
        self.stream.end(decoded(end.trailers))

    def interim(self) -> bytes:
        """Nothing: the exchange says 100 Continue, when the application reads."""
        return b""

    def is_slow(self, progress: Progress, now: float) -> bool:
        """Whether the client takes too long. Only the time counts that somebody has waited for its bytes."""
        context, stream = self._context, self.stream
        waited = stream.waited(now)
        return self._progress.is_slow(
            self.head, stream.received, waited, timeout=context.header_timeout, rate=context.min_body_rate
        )

    def discard(self) -> None:
        """The connection is gone."""
        self.stream.fail(None)

    def fail(self, error: ProtocolError) -> bool:
        """There will be no end. Whether an exchange tells the client."""
        return self.stream.fail(error)

    def _demand(self) -> None:
        """The application waits, or the buffer is low again. Thread."""
        with contextlib.suppress(RuntimeError):  # the loop is gone; then so is the connection
            self._context.executor.post(self._source.on_demand, self)


class _Response(Enum):
    """What has left of the application's response. NONE → DUE (its head is made) → BEGUN → COMPLETE."""

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
        # Nothing can follow a body that may not be read to its end.
        head.upgrade = False

    def run(self) -> QueuedRequest | None:
        """As of any exchange; not if the body has failed already."""
        if self._stream.failed:
            self.drop()
            failure = self._stream.failure
            return self._writer.release(self, False) if failure is None else self._refuse(failure.status, str(failure))
        self._stream.before_wait = self._continue
        return super().run()

    def may_persist(self) -> bool:
        """Only if what is missing of the body is worth waiting for: it has to be read before the next request."""
        self._response = _Response.DUE
        return self._stream.will_end and super().may_persist()

    def nothing_yet(self, sent: int) -> None:
        """As of any exchange; raises Disconnected once the body has failed."""
        if self._stream.failed:
            raise Disconnected
        super().nothing_yet(sent)

    def send(self, data: bytes, *, last: bool, head: bytes = b"") -> None:
        """As of any exchange; raises Disconnected once the body has failed."""
        self._begin()
        super().send(data, head=head, last=last)
        if last:
            self._response = _Response.COMPLETE

    def send_file(self, head: bytes, fd: int, offset: int, count: int) -> None:
        """As of any exchange; raises Disconnected once the body has failed."""
        self._begin()
        super().send_file(head, fd, offset, count)
        self._response = _Response.COMPLETE

    def _begin(self) -> None:
        if self._stream.failed:
            raise client_disconnected()
        if self._response is _Response.DUE:
            self._response = _Response.BEGUN

    def _continue(self) -> None:
        """Ask for the body with 100 Continue, which comes before a response (RFC 9110 §15.2)."""
        if self._response is _Response.NONE:
            with contextlib.suppress(Disconnected):  # the read that wants to wait will say so
                Exchange.send(self, b"", head=interim(100), last=False)

    def _break_off(self, call: Call) -> None:
        """The application is done, and its body has failed: then so has its response, unless that was complete before."""
        call.persistent = False
        failure = self._stream.failure
        if self._response is _Response.BEGUN:
            self._writer.abandon(self)
        elif failure is not None and self._response is not _Response.COMPLETE:
            call.status_code = failure.status
            to_head = self.head.method == b"HEAD"
            call.body_sent = 0 if to_head else len(str(failure).encode()) + 1
            with contextlib.suppress(Disconnected):
                stamp = self._context.stamps.at(monotonic())
                Exchange.send(self, refusal(failure.status, str(failure), stamp, to_head=to_head), last=True)
