"""One client's connection: parses requests, queues exchanges, sends what threads could not, enforces timeouts.

All methods run in the loop. Threads reach the connection only through its `Writer`, which posts to the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Final, cast

from starman.errors import ProtocolError
from starman.proto.events import EndOfBody, RequestHead
from starman.proto.request import RequestParser
from starman.serving.body.receiver import LARGE_READ, BodyReceiver
from starman.serving.body.streaming_exchange import StreamedUpload
from starman.serving.body.upload import Upload
from starman.serving.connections.closing import LINGERING, OPEN
from starman.serving.connections.lingering import shut_down, unacknowledged
from starman.serving.connections.progress import Progress
from starman.serving.connections.timeouts import IDLE_SECONDS, TimedConnection
from starman.serving.context import ServiceContext
from starman.serving.exchange_body import Body
from starman.serving.executors.queued_request import QueuedRequest
from starman.serving.sending.loop_side import Unsent
from starman.serving.sending.send_queue import SendQueue
from starman.serving.sending.writer import Writer
from starman.serving.sending.writer_state import ENDING, FREE
from starman.wsgi.environ import Environ

# A connection is left unread while this many requests wait behind the running one. After a request with a body: one.
_MOST_PENDING: Final = 32

# How long (seconds) heads and bodies of one connection are parsed before other connections are served: one read may
# bring 40,000 chunks of one byte, or several heads that take milliseconds each.
TIME_SLICE: Final = 0.001

# A connection is not closed to make room for this long (seconds) after its last response: the response may still be
# held back.
_JUST_NOW: Final = 0.02


class Connection(TimedConnection):
    """One connection. It implements asyncio.Protocol without inheriting: a compiled class cannot have a plain base."""

    __slots__ = ("_base", "_fd", "_loop", "_request_base", "_trusted", "_yielding")

    def __init__(self, context: ServiceContext, loop: asyncio.AbstractEventLoop, base: Environ, fd: int, trusted: bool) -> None:
        """`base` is the connection's environ. Threads write to `fd`, past the transport; -1 on TLS: only the loop
        writes. `trusted`: whether the peer is a trusted proxy."""
        self._context = context
        self._loop = loop
        self._base = base
        self._request_base = base  # as a trusted proxy has changed it, for a request that is not queued yet
        self._trusted = trusted
        self._fd = fd
        self._parser = RequestParser(context.limits, context.field_splitter)
        self._writer = Writer(self, context.executor.post)
        self._phase = OPEN
        self._send_queue = None  # made when needed: most connections never need one
        self._upload = self._refusal = None
        self._heads = 0
        self._progress = Progress()
        self._paused = self._yielding = self._eof = False
        self._idle = False  # whether `Clients` has it as idle; kept here too, because every read checks it

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self._transport = cast("asyncio.Transport", transport)
        # With any other mark, bytes may wait without a pause, or `resume_writing` may come while bytes still wait
        # (hazard 4).
        self._transport.set_write_buffer_limits(high=0)
        self._context.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed, for any reason."""
        self._context.connections.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse bytes of the client."""
        if self._phase is OPEN:
            if self._idle:
                self._idle = False
                self._context.connections.set_active(self)
            self._parser.receive_data(data)
            if not self._paused:
                if len(data) < LARGE_READ:
                    self._parse()
                else:
                    self._parse(time.monotonic() + TIME_SLICE)
                    self.yield_to_others()
        elif self._phase is LINGERING:
            self.become_lingering().data_received(data)

    def eof_received(self) -> bool:
        """The client has ended its stream. It may still wait for responses (half-close, RFC 9112 §9.6)."""
        self._eof = True
        self._writer.thread_socket.peer_finished = True
        if self._phase is LINGERING:
            self._transport.close()
        else:
            self.on_exchanges_done()
        return True

    def pause_writing(self) -> None:
        """Does nothing. The transport's buffer is not empty: its high-water mark is 0."""

    def resume_writing(self) -> None:
        """The transport's buffer is empty: write what comes next in the send queue."""
        self._get_send_queue().send_next()

    # Reading

    def _parse(self, until: float = 0.0) -> None:
        """Parse the received bytes into exchanges, until more bytes are needed or the connection is paused.

        Yields to other connections at `until` (monotonic); 0 means TIME_SLICE after the first event.
        """
        parser = self._parser
        try:
            while (event := parser.next_event()) is not None:
                if isinstance(event, RequestHead):
                    self._on_head(event)
                    if parser.exhausted:
                        return
                elif isinstance(event, bytes):
                    assert self._upload is not None
                    self._upload.add_data(event)
                else:
                    self._on_end(event)
                    if self._paused:
                        return
                    continue  # saves reading the clock: it is read at the events before and after the end of a body
                if self._paused:
                    return
                now = time.monotonic()
                if until == 0.0:
                    until = now + TIME_SLICE
                elif now > until:
                    self.yield_to_others()
                    return
        except ProtocolError as error:
            self.refuse_request(error)

    def _find_client(self, head: RequestHead) -> None:
        """Have a refused request logged with the client that a trusted proxy states."""
        if head.noted is not None:
            with contextlib.suppress(ProtocolError):
                self._request_base = self._context.forwarding.apply(self._base, head, self._trusted)

    def _on_head(self, head: RequestHead) -> None:
        self._heads += 1
        # Decided before a SCRIPT_NAME that a proxy states is removed from the path.
        streams = head.body_length != 0 and bool(self._context.stream_paths) and self._context.streams(head)
        if head.noted is not None:
            self._request_base = self._context.forwarding.apply(self._base, head, self._trusted)
        if head.body_length != 0:
            if streams:
                expected = head.expects_continue and not self._parser.unread_bytes
                self._upload = stream = StreamedUpload(head, self, self._context, expected=expected)
                self.queue_request(head, stream.stream, self._context.make_streamed_exchange)
                return
            self._upload = upload = Upload(head, self, self._context)
            if head.expects_continue and not self._parser.unread_bytes and not self._writer.wake_when_done():
                self._transport.write(upload.continue_response())
            return
        if not head.persistent:
            self._parser.close()
        self.queue_request(head, None, self._context.make_exchange)
        self._request_base = self._base
        if head.upgrade and self._writer.wake_when_done():
            # The following bytes may belong to another protocol. The response to this request decides.
            self.pause_reading()

    def _on_end(self, end: EndOfBody) -> None:
        upload, self._upload = self._upload, None
        assert upload is not None
        upload.complete(end)
        self._request_base = self._base
        if not upload.head.persistent:
            self._parser.close()
        elif upload.head.upgrade and self._writer.wake_when_done():
            self.pause_reading()  # the following bytes may belong to another protocol

    def queue_request(self, head: RequestHead, body: Body | None, make_exchange: Callable[..., QueuedRequest]) -> None:
        """Make an exchange of a request with a complete, absent or streamed body. It runs now or after others."""
        writer = self._writer
        exchange = make_exchange(self._context, writer, self._request_base, head, body)
        try:
            now = writer.offer(exchange, self._fd, self._transport.get_write_buffer_size() > 0)
        except OSError as error:
            # No descriptor is left for a duplicate of the socket: the loop sends the response, as on TLS.
            self._context.shortages.add("no descriptor is left for a thread to send a response, so the loop sends it", str(error))
            now = writer.offer(exchange, -1, self._transport.get_write_buffer_size() > 0)
        if now:
            self._context.executor.put(exchange)
        elif (body is not None or len(writer.pending) >= _MOST_PENDING) and writer.wake_when_done():
            self.pause_reading()

    def receive_directly(self, upload: Upload) -> None:
        """Have the rest of a body read straight into the memory of `upload`. Not on TLS, which must decrypt it."""
        if self._fd >= 0:
            BodyReceiver(self, self._transport, self._parser, upload)

    def yield_to_others(self) -> None:
        """Pause reading until the loop has served the other connections once, unless reading is paused already."""
        if not self._paused:
            self.pause_reading()
            # If the parser is closed, no bytes are needed before all requests are answered.
            if not (self._parser.closed and self._writer.wake_when_done()):
                self._yielding = True
                self._loop.call_soon(self.resume_reading, True)

    def pause_reading(self) -> None:
        """Leave the socket unread."""
        self._paused = True
        self._yielding = False  # the caller has another reason to pause, which ends in another way
        self._transport.pause_reading()

    def resume_reading(self, if_yielding: bool = False) -> None:
        """Parse what was received, and read on. `if_yielding`: only if reading pauses for `yield_to_others`."""
        if self._phase is not OPEN or (if_yielding and not self._yielding):
            return
        self._paused = self._yielding = False
        if not self._transport.is_closing():
            self._transport.resume_reading()
            self._parse(time.monotonic() + TIME_SLICE)
        if self._eof or self._writer.state is ENDING:
            self.on_exchanges_done()

    def on_body_demand(self, upload: StreamedUpload) -> None:
        """The application waits for its streamed body, has read most of the buffer, or has returned: read on if
        `upload` is still the current one."""
        if self._paused and self._upload is upload:
            self.resume_reading()

    # After exchanges

    def on_exchanges_done(self) -> None:
        """Close, refuse or read on: no exchange should run any more. If one still runs, be called again later."""
        upload = self._upload
        if self._phase is not OPEN:
            return
        if self._writer.state is ENDING:  # nothing else matters, not even a body that is being written to the disk
            self.linger()
        elif upload is not None and upload.spooling:
            return
        elif upload is not None and self._eof and not self._paused:
            self.refuse_request(ProtocolError(400, "the request is incomplete"))
        elif not self._writer.wake_when_done():
            self._after_exchanges()

    def _after_exchanges(self) -> None:
        """Continue when no exchange runs or waits."""
        if self._refusal is not None:
            self._transport.write(self._context.refuse(self._refusal, self._request_base["REMOTE_ADDR"], quietly=self._eof))
            self.linger()
        elif self._parser.closed:  # a streamed body has failed
            self.linger()
        elif self._paused:
            if not self._yielding:
                self.resume_reading()
        elif self._eof and not self._parser.between_messages:
            self.refuse_request(ProtocolError(400, "the request is incomplete"))
        elif self._eof:
            self.linger()
        elif self._upload is not None:
            self._transport.write(self._upload.continue_response())

    def refuse_request(self, error: ProtocolError) -> None:
        """Answer with an error and close, after the responses to earlier requests."""
        if isinstance(error.head, RequestHead):
            self._find_client(error.head)
        upload, self._upload = self._upload, None
        if self._parser.begins_head_request if upload is None else upload.head.method == b"HEAD":
            error.to_head = True
        self._parser.close()
        if upload is None or not upload.streamed:
            self._refusal = error
        if upload is not None and upload.fail(error):
            self._context.refusal_counts.note(error.status)
            if not self._eof:
                self._context.log_refusal(error, self._request_base["REMOTE_ADDR"])
        self.on_exchanges_done()

    # Sending what a thread could not send

    def take_over(self, unsent: Unsent) -> None:
        """Send `unsent`, which a thread's socket did not take."""
        if self._phase is OPEN:
            self._get_send_queue().add_unsent(unsent)
        elif not isinstance(unsent, memoryview):
            unsent.close()

    def _get_send_queue(self) -> SendQueue:
        self._send_queue = send_queue = self._send_queue or SendQueue(
            self, self._loop, self._transport, self._writer, self._context.spool_limits.memory
        )
        return send_queue

    def send_queue_written(self, taken: int) -> bool:
        """The send queue is written: run the next exchange. Return False if a thread has handed over more."""
        complete, following = self._writer.on_queue_sent(taken)
        if following is not None:
            following.runnable_at = time.monotonic()
            self._context.executor.put(following)
        return complete

    def check_timeouts(self, now: float) -> None:
        """Enforce the timeouts. The worker's tick calls this, so a request pays nothing. `now` is monotonic."""
        error = self.enforce_timeouts(now)
        if error is not None:
            self.refuse_request(error)
        elif self._idle and self._phase is OPEN:
            self._context.connections.set_idle(self, self._writer.idle_since + self._context.keepalive_timeout)

    def eviction_rank(self, now: float) -> tuple[int, float] | None:
        """Return the rank among the connections that may be closed to make room for a new one; None if it must stay.

        The lowest rank goes first; of equal ranks, the connection that is idle for longest. Rank 1: no request is
        under way. Rank 2: part of a head has arrived, and nothing more for a second. `now` is monotonic.
        """
        if self._phase is not OPEN or self._upload is not None or self._refusal is not None or self._transport.is_closing():
            return None
        since, at_start = self._writer.idle_since, self._parser.between_messages
        if self._writer.state is not FREE or now - since < (_JUST_NOW if at_start else IDLE_SECONDS):
            return None
        return None if self._has_unread() or unacknowledged(self._transport) else (1 if at_start else 2, since)

    def evict(self) -> None:
        """Close this connection to make room for another one. Requires an `eviction_rank`."""
        if not self._parser.between_messages:
            error = ProtocolError(503, "there are too many connections, and this request is not complete")
            self._transport.write(self._context.refuse(error, self._base["REMOTE_ADDR"], quietly=False))
        shut_down(self._transport)
        self._writer.lose()
