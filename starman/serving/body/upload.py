"""A request whose body is on its way, gathered before the application is called: the ordinary way. Loop only.

What does not fit into memory is written to the disk by a thread.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Protocol

from starman.errors import ProtocolError
from starman.proto.events import EndOfBody, RequestHead
from starman.proto.response import interim
from starman.serving.jobs import JobCancelledError, NoThreadError
from starman.serving.shortage import refusal_for
from starman.wsgi.body import RequestBody

if TYPE_CHECKING:
    from collections.abc import Callable

    from starman.serving.context import ServiceContext
    from starman.serving.executors.queued_request import QueuedRequest
    from starman.serving.progress import Progress

# So many bytes have to be missing for the rest of a body to be read past the parser: to change the way costs something, too.
_LARGE_REST = 65_536


class Source(Protocol):
    """What an upload may ask of the connection that it comes from."""

    def take_in(self, upload: Upload) -> None:
        """All that was received is taken: have the rest of the body read into its memory, if that can be done."""

    def pause(self) -> None:
        """Leave the socket unread."""

    def resume(self) -> None:
        """Read on."""

    def offer(self, head: RequestHead, body: RequestBody | None, make_exchange: Callable[..., QueuedRequest]) -> None:
        """The request is complete."""

    def refuse(self, error: ProtocolError) -> None:
        """It will not be."""


class Upload:
    """One request between its head and the end of its body."""

    __slots__ = ("_context", "_continue_due", "_discarded", "_is_small", "_source", "_taken_in", "body", "head", "spooling")

    # Whether the application is called before the body is complete.
    streamed = False

    def __init__(self, head: RequestHead, source: Source, context: ServiceContext) -> None:
        """Raises ProtocolError (503) when there is no room for a body of the length in the head, before any of it is read."""
        self.head = head
        self._context = context
        body_length = head.body_length
        if body_length is not None and body_length > context.body_memory.each_bytes and not context.spool_space.has(body_length):
            raise self._refusal(OSError(errno.ENOSPC, f"{body_length} bytes are more than are left (spool_limit)"))
        self.body = RequestBody(context.body_memory, body_length, context.spool_space)
        self.spooling = False
        self._source = source
        self._continue_due = head.expects_continue
        self._discarded = False
        # Whether nobody needs to be asked for its memory, as for most.
        self._is_small = body_length is not None and body_length <= context.body_memory.free_bytes
        self._taken_in = False

    def take(self, data: bytes) -> None:
        """The next piece of the body."""
        body = self.body
        if self._is_small:
            body.write(data)
            return
        if body.missing - len(data) >= _LARGE_REST and not self._taken_in:
            self._taken_in = True
            body.make_room()
            self._source.take_in(self)
        body.write(data)
        if body.wants_spooling:
            self._spool()

    def room(self) -> memoryview:
        """Where the next bytes of the body may be read to."""
        return memoryview(bytearray(_LARGE_REST)) if self._discarded else self.body.room()

    def filled(self, count: int) -> bool:
        """They are there. Whether the body is complete."""
        self.body.filled(count)
        if self.body.wants_spooling:
            self._spool()
        return not self.body.missing

    def _spool(self) -> None:
        """The loop never writes to the disk: a thread does, and the socket is left unread meanwhile."""
        self.spooling = True
        self._source.pause()
        self._context.in_thread(self.body.spool, self._spooled)

    def end(self, end: EndOfBody) -> None:
        """The body is complete."""
        if end.trailers:
            self.body.trailers = decoded(end.trailers)
        self._source.offer(self.head, self.body, self._context.make_exchange)

    def interim(self) -> bytes:
        """100 Continue, unless some of the body came without it (RFC 9110 §10.1.1), or it has been said."""
        due = self._continue_due and not self.body.length
        self._continue_due = False
        return interim(100) if due else b""

    def is_slow(self, progress: Progress, now: float) -> bool:
        """Whether the client takes too long. `progress` is the connection's, `now` monotonic."""
        context = self._context
        return progress.is_slow(self.head, self.body.length, now, timeout=context.header_timeout, rate=context.min_body_rate)

    def discard(self) -> None:
        """It will not become a request: give memory and disk back, as soon as nobody uses them."""
        self._discarded = True
        if not self.spooling:
            self.body.discard()

    def fail(self, error: ProtocolError) -> bool:
        """It will not become a request. Whether an exchange tells the client: there is none, so the connection does."""
        self.discard()
        return False

    def _spooled(self, error: Exception | None) -> None:
        """The disk is done, or has failed."""
        self.spooling = False
        if self._discarded or isinstance(error, JobCancelledError):
            self.body.discard()
        elif isinstance(error, NoThreadError):
            self._source.refuse(ProtocolError(503, f"no thread can be started to store the body: {error}"))
        elif error is not None:
            self._source.refuse(self._refusal(error))
        else:
            self._source.resume()

    def _refusal(self, error: Exception) -> ProtocolError:
        self._context.shortages.add("the spool file of a request body failed", str(error))
        return refusal_for(error, to_head=self.head.method == b"HEAD")


def decoded(trailers: list[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    """Trailer fields as WSGI has fields: bytes in latin-1's clothes."""
    return [(str(name, "latin-1"), str(value, "latin-1")) for name, value in trailers]
