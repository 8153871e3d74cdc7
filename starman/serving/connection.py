"""The loop's side of one connection: reads, parses, offers exchanges, and keeps the time.

Everything here runs in the loop; threads reach it through `Writer`, which posts to the loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, cast

from starman.errors import ProtocolError
from starman.proto.events import EndOfBody, RequestHead
from starman.proto.request import RequestParser
from starman.serving.body.receiver import LARGE_READ, BodyReceiver
from starman.serving.body.streamed import StreamedExchange, StreamedUpload
from starman.serving.body.upload import Upload
from starman.serving.closing import LINGERING, OPEN, Ending
from starman.serving.context import ServiceContext
from starman.serving.disconnection import has_left
from starman.serving.exchange import Body
from starman.serving.executors.queued_request import QueuedRequest
from starman.serving.lingering import shut_down, unacknowledged
from starman.serving.progress import Progress
from starman.serving.sending.loop_side import Rest
from starman.serving.sending.send_queue import SendQueue
from starman.serving.sending.writer import Writer
from starman.serving.sending.writer_state import ENDING, FREE, LOOP_WRITES
from starman.wsgi.environ import Environ

# How many requests of one connection may wait behind the one that runs, before its socket is left unread. With a body: one.
_MOST_PENDING: Final = 32

# After this long (seconds) without a request, a connection is idle: it gives back the second descriptor that threads write to.
IDLE_SECONDS: Final = 1.0

# How long (seconds) heads and bodies of one connection are parsed before other connections are served: one read may bring 40,000
# chunks of one byte, or several heads that take milliseconds each.
TIME_SLICE: Final = 0.001

# For so long (seconds) after its last response, a connection is not closed to make room: the response may still be held back.
_JUST_NOW: Final = 0.02


class Connection(Ending):
    """One client's connection. An asyncio.Protocol by what it does: a compiled class cannot have an interpreted one for base."""

    __slots__ = ("_base", "_fd", "_heads", "_loop", "_progress", "_rests", "_yields")

    def __init__(self, context: ServiceContext, loop: asyncio.AbstractEventLoop, base: Environ, fd: int) -> None:
        """`base` is the environ of the connection; `fd` to which threads may write past the transport, -1 on TLS."""
        self._context = context
        self._loop = loop
        self._base = base
        self._fd = fd
        self._parser = RequestParser(context.limits, context.field_splitter)
        self._writer = Writer(self, context.executor.post)
        self._phase = OPEN
        self._send_queue = None  # most connections never have one
        self._upload = self._refusal = None
        self._heads = 0
        self._progress = Progress()
        self._paused = self._yields = self._eof = False
        self._rests = False  # whether `Clients` may have it at rest: asked at each read, so here as well

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self._transport = cast("asyncio.Transport", transport)
        # With any other high-water mark bytes may pend without a pause, or a resume come while some still do (hazard 4).
        self._transport.set_write_buffer_limits(high=0)
        self._context.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, in whatever way."""
        self._context.connections.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """The client has sent something."""
        if self._phase is OPEN:
            if self._rests:
                self._rests = False
                self._context.connections.wake(self)
            self._parser.receive_data(data)
            if not self._paused:
                if len(data) < LARGE_READ:
                    self._advance()
                else:
                    self._advance(time.monotonic() + TIME_SLICE)
                    self.let_others_go_first()
        elif self._phase is LINGERING:
            self.linger_on().data_received(data)

    def eof_received(self) -> bool:
        """The client will send no more; it may still wait for answers (half-close, RFC 9112 §9.6)."""
        self._eof = True
        if self._phase is LINGERING:
            self._transport.close()
        else:
            self.on_exchanges_done()
        return True

    def pause_writing(self) -> None:
        """The transport's buffer is not empty: its high-water mark is 0."""

    def resume_writing(self) -> None:
        """It is again."""
        self._remaining().on_room()

    # Reading

    def _advance(self, until: float = 0.0) -> None:
        """WriterState what was received into exchanges, until more is needed or the connection has to wait.

        `until`: when other connections have their turn, monotonic; 0: TIME_SLICE after the first event.
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
                    self._upload.take(event)
                else:
                    self._on_end(event)
                    if self._paused:
                        return
                    continue  # the clock is read at the events before and after an end
                if self._paused:
                    return
                now = time.monotonic()
                if until == 0.0:
                    until = now + TIME_SLICE
                elif now > until:
                    self.let_others_go_first()
                    return
        except ProtocolError as error:
            self.refuse(error)

    def _on_head(self, head: RequestHead) -> None:
        self._heads += 1
        if head.body_length != 0:
            if self._context.stream_paths and self._context.streams(head):
                expected = head.expects_continue and not self._parser.unread_bytes
                self._upload = stream = StreamedUpload(head, self, self._context, expected=expected)
                self.offer(head, stream.stream, StreamedExchange)
                return
            self._upload = upload = Upload(head, self, self._context)
            if head.expects_continue and not self._parser.unread_bytes and not self._writer.wake_when_done():
                self._transport.write(upload.interim())
            return
        if not head.persistent:
            self._parser.close()
        self.offer(head, None, self._context.make_exchange)
        if head.upgrade and self._writer.wake_when_done():
            # What follows may be of another protocol: that shows when this request is answered.
            self.pause()

    def _on_end(self, end: EndOfBody) -> None:
        upload, self._upload = self._upload, None
        assert upload is not None
        upload.end(end)
        if not upload.head.persistent:
            self._parser.close()
        elif upload.head.upgrade and self._writer.wake_when_done():
            self.pause()  # as behind a head without a body

    def offer(self, head: RequestHead, body: Body | None, make_exchange: Callable[..., QueuedRequest]) -> None:
        """A request is complete, or streams: it runs now, or when those before it are answered."""
        writer = self._writer
        exchange = make_exchange(self._context, writer, self._base, head, body)
        try:
            now = writer.offer(exchange, self._fd, self._transport.get_write_buffer_size() > 0)
        except OSError as error:  # no descriptor is left for the duplicate: the loop sends, as on TLS
            self._context.shortages.add("no descriptor is left for a thread to send a response, so the loop sends it", str(error))
            now = writer.offer(exchange, -1, self._transport.get_write_buffer_size() > 0)
        if now:
            self._context.executor.put(exchange)
        elif (body is not None or writer.pending_count >= _MOST_PENDING) and writer.wake_when_done():
            self.pause()

    def take_in(self, upload: Upload) -> None:
        """Have the rest of a body read into its memory; TLS decrypts it first."""
        if self._fd >= 0:
            BodyReceiver(self, self._transport, self._parser, upload)

    def let_others_go_first(self) -> None:
        """Read on when they have had their turn, unless the socket is left unread anyhow."""
        if not self._paused:
            self.pause()
            if not (self._parser.closed and self._writer.wake_when_done()):  # else nothing is wanted before all is answered
                self._yields = True
                self._loop.call_soon(self.resume, True)

    def pause(self) -> None:
        """Leave the socket unread."""
        self._paused = True
        self._yields = False  # for a reason of its own, which ends otherwise
        self._transport.pause_reading()

    def resume(self, in_turn: bool = False) -> None:
        """Read on, at first what is here already. `in_turn`: if it still waits for its turn only."""
        if self._phase is not OPEN or (in_turn and not self._yields):
            return
        self._paused = self._yields = False
        if not self._transport.is_closing():
            self._transport.resume_reading()
            self._advance(time.monotonic() + TIME_SLICE)
        if self._eof or self._writer.turn is ENDING:
            self.on_exchanges_done()

    def on_demand(self, upload: StreamedUpload) -> None:
        """The application waits for more of its body, has read most of what is here, or is done and leaves the rest to us."""
        if self._paused and self._upload is upload:
            self.resume()

    # Between exchanges

    def on_exchanges_done(self) -> None:
        """Do what waited for the end of the running exchanges, in its order; if they still run, be called again."""
        upload = self._upload
        if self._phase is not OPEN:
            return
        if self._writer.turn is ENDING:  # whatever is on its way, and be it to the disk
            self.linger()
        elif upload is not None and upload.spooling:
            return
        elif upload is not None and self._eof and not self._paused:
            self.refuse(ProtocolError(400, "the request is incomplete"))
        elif not self._writer.wake_when_done():
            self._go_on()

    def _go_on(self) -> None:
        """No exchange runs or waits."""
        if self._refusal is not None:
            self._transport.write(self._context.refuse(self._refusal, self._base["REMOTE_ADDR"], quietly=self._eof))
            self.linger()
        elif self._parser.closed:  # a streamed body has failed
            self.linger()
        elif self._paused:
            if not self._yields:
                self.resume()
        elif self._eof and not self._parser.between_messages:
            self.refuse(ProtocolError(400, "the request is incomplete"))
        elif self._eof:
            self.linger()
        elif self._upload is not None:
            self._transport.write(self._upload.interim())

    def refuse(self, error: ProtocolError) -> None:
        """Answer with an error of our own, after the responses that come before it, and close."""
        upload, self._upload = self._upload, None
        if self._parser.begins_head_request if upload is None else upload.head.method == b"HEAD":
            error.to_head = True
        self._parser.close()
        if upload is None or not upload.streamed:
            self._refusal = error
        if upload is not None and upload.fail(error) and not self._eof:
            self._context.log_refusal(error, self._base["REMOTE_ADDR"])
        self.on_exchanges_done()

    # Writing what a thread could not

    def take_over(self, rest: Rest) -> None:
        """A thread hands over what its socket did not take."""
        if self._phase is OPEN:
            self._remaining().take(rest)
        elif not isinstance(rest, memoryview):
            rest.close()

    def _remaining(self) -> SendQueue:
        self._send_queue = send_queue = self._send_queue or SendQueue(
            self, self._loop, self._transport, self._writer, self._context.spool_limits.memory
        )
        return send_queue

    def send_queue_written(self, taken: int) -> bool:
        """What was handed over is written: the next exchange may run. Returns False if more is on its way."""
        complete, following = self._writer.drained(taken)
        if following is not None:
            self._context.executor.put(following)
        return complete

    # Time

    def check(self, now: float) -> None:
        """Enforce the timeouts, from the worker's tick: nothing of this costs a request anything. `now` is monotonic."""
        if self._phase is LINGERING:
            self.linger_on().check(now)
            return
        turn, upload = self._writer.turn, self._upload
        if upload is not None and (turn is FREE or upload.streamed):
            if upload.spooling:
                self._progress.forget()  # nobody can tell how fast the client is
            elif upload.is_slow(self._progress, now):
                self.refuse(ProtocolError(408, "the body did not arrive in time"))
        elif turn is FREE:
            self._check_receiving(now)
        if turn in LOOP_WRITES:
            if self._remaining().is_slow(now, timeout=self._context.write_timeout, rate=self._context.min_send_rate):
                self.cut()
        elif turn is not FREE and has_left(self._transport, self._writer, self._progress, now, finished=self._eof):
            self.cut()

    def _check_receiving(self, now: float) -> None:
        if self._refusal is not None:
            self._progress.forget()
        elif not self._parser.between_messages:
            if self._progress.is_slow(self._heads, 0, now, timeout=self._context.header_timeout):
                self.refuse(ProtocolError(408, "the request head did not arrive in time"))
        else:
            self._progress.forget()
            idle = now - self._writer.idle_since
            if idle >= (self._context.keepalive_timeout if self._heads else self._context.header_timeout):
                if not self._is_asked():
                    self.linger()
            elif idle >= IDLE_SECONDS and self._writer.rest() and self._heads:
                self._rests = True
                self._context.connections.rest(self, now - idle + self._context.keepalive_timeout)

    def expendable(self, now: float) -> tuple[int, float] | None:
        """The rank among connections that may be closed to make room; None: it may not be closed. The lowest rank goes first,
        and of one rank the longest idle.

        1: no request is under way. 2: a part of a head has come, and no more for a second. `now` is monotonic.
        """
        if self._phase is not OPEN or self._upload is not None or self._refusal is not None or self._transport.is_closing():
            return None
        since, at_start = self._writer.idle_since, self._parser.between_messages
        if self._writer.turn is not FREE or now - since < (_JUST_NOW if at_start else IDLE_SECONDS):
            return None
        return None if self._is_asked() or unacknowledged(self._transport) else (1 if at_start else 2, since)

    def evict(self) -> None:
        """Close this connection to make room for another one. Only if it is `expendable`."""
        if not self._parser.between_messages:
            error = ProtocolError(503, "there are too many connections, and this request is not complete")
            self._transport.write(self._context.refuse(error, self._base["REMOTE_ADDR"], quietly=False))
        shut_down(self._transport)
        self._writer.lose()
