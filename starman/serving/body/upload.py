"""Gathers a request body before the application is called, which is the default. Loop only.

A thread writes to the disk what does not fit into memory.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Protocol

from starman.errors import ProtocolError
from starman.proto.events import EndOfBody, RequestHead
from starman.serving.blocking_jobs import JobCancelledError, NoThreadError
from starman.serving.body.expect_continue import ExpectContinue
from starman.serving.resource_shortage import refuse_body
from starman.wsgi.body import RequestBody

if TYPE_CHECKING:
    from collections.abc import Callable

    from starman.serving.connections.progress import Progress
    from starman.serving.context import ServiceContext
    from starman.serving.executors.queued_request import QueuedRequest

# At least this many bytes of a body must be missing before a `BodyReceiver` reads them: the change of protocol has a
# cost.
_DIRECT_BYTES = 65_536


class Source(Protocol):
    """The methods of `Connection` that an `Upload` calls."""

    def receive_directly(self, upload: Upload) -> None:
        """Have the rest of the body read straight into its memory, if possible. All received bytes must have been
        added."""

    def pause_reading(self) -> None:
        """Leave the socket unread."""

    def resume_reading(self) -> None:
        """Read on."""

    def queue_request(self, head: RequestHead, body: RequestBody | None, make_exchange: Callable[..., QueuedRequest]) -> None:
        """The request is complete: make an exchange of it."""

    def refuse_request(self, error: ProtocolError) -> None:
        """The request cannot be completed: answer with an error."""


class Upload:
    """The body of one request, from the head to the end of the body."""

    __slots__ = ("_context", "_discarded", "_expectation", "_is_direct", "_is_small", "_source", "body", "head", "spooling")

    # Whether the application is called before the body is complete.
    streamed = False

    def __init__(self, head: RequestHead, source: Source, context: ServiceContext) -> None:
        """Raises ProtocolError (503) before reading if there is no room for a body of the declared length."""
        self.head = head
        self._context = context
        body_length = head.body_length
        if body_length is not None and body_length > context.body_memory.each_bytes and not context.spool_space.has(body_length):
            raise self._refusal(OSError(errno.ENOSPC, f"{body_length} bytes are more than are left (spool_limit)"))
        self.body = RequestBody(context.body_memory, body_length, context.spool_space)
        self.spooling = False
        self._source = source
        self._expectation = ExpectContinue() if head.expects_continue else None
        self._discarded = False
        # Whether memory for the whole body is free, as it is for most: then `add_data` has nothing to check.
        self._is_small = body_length is not None and body_length <= context.body_memory.free_bytes
        self._is_direct = False

    def add_data(self, data: bytes) -> None:
        """Add the next bytes of the body."""
        body = self.body
        if self._is_small:
            body.write(data)
            return
        if body.missing - len(data) >= _DIRECT_BYTES and not self._is_direct:
            self._is_direct = True
            body.make_room()
            self._source.receive_directly(self)
        body.write(data)
        if body.wants_spooling:
            self._spool()

    def get_buffer(self) -> memoryview:
        """Return memory for the next bytes of the body."""
        return memoryview(bytearray(_DIRECT_BYTES)) if self._discarded else self.body.room()

    def buffer_filled(self, count: int) -> bool:
        """Count bytes that were read into `get_buffer`. Return whether the body is complete."""
        self.body.filled(count)
        if self.body.wants_spooling:
            self._spool()
        return not self.body.missing

    def _spool(self) -> None:
        """Write the body to its file, in a thread: the loop never writes to the disk. Leave the socket unread
        meanwhile."""
        self.spooling = True
        self._source.pause_reading()
        self._context.in_thread(self.body.spool, self._spooled)

    def complete(self, end: EndOfBody) -> None:
        """The body is complete: queue the request."""
        if end.trailers:
            self.body.trailers = decoded(end.trailers)
        self._source.queue_request(self.head, self.body, self._context.make_exchange)

    def continue_response(self) -> bytes:
        """Return 100 Continue if the client waits for it, else b""."""
        return b"" if self._expectation is None else self._expectation.next_response(self.body.length)

    def is_slow(self, progress: Progress, now: float) -> bool:
        """Return whether the client is too slow. `progress` is the connection's. `now` is monotonic."""
        context = self._context
        return progress.is_slow(self.head, self.body.length, now, timeout=context.header_timeout, rate=context.min_body_rate)

    def discard(self) -> None:
        """Release memory and disk, as soon as no thread uses them: the request will not be run."""
        self._discarded = True
        if not self.spooling:
            self.body.discard()

    def fail(self, error: ProtocolError) -> bool:
        """Discard the body. Return False: no exchange answers the client, so the connection must."""
        self.discard()
        return False

    def _spooled(self, error: Exception | None) -> None:
        """The thread has written the body to its file, or has failed."""
        self.spooling = False
        if self._discarded or isinstance(error, JobCancelledError):
            self.body.discard()
        elif isinstance(error, NoThreadError):
            self._source.refuse_request(ProtocolError(503, f"no thread can be started to store the body: {error}"))
        elif error is not None:
            self._source.refuse_request(self._refusal(error))
        else:
            self._source.resume_reading()

    def _refusal(self, error: Exception) -> ProtocolError:
        return refuse_body(error, self.head, self._context.shortages)


def decoded(trailers: list[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    """Return trailer fields as WSGI has fields: bytes decoded as latin-1."""
    return [(str(name, "latin-1"), str(value, "latin-1")) for name, value in trailers]
