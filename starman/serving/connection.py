"""The loop's side of one connection: reads, parses, offers exchanges, and keeps the time.

Everything here runs in the loop; threads reach it through `Writer`, which posts to the loop.
"""

from __future__ import annotations

import asyncio
import time
from enum import Enum, auto
from functools import partial
from queue import SimpleQueue
from typing import cast

from starman import log
from starman.errors import ProtocolError
from starman.proto.messages import EndOfBody, RequestHead
from starman.proto.request import RequestParser
from starman.serving.clock import Progress
from starman.serving.ending import LINGER_SECONDS, half_close, reset_on_close
from starman.serving.exchange import Exchange
from starman.serving.filerest import FileRest
from starman.serving.remainder import Remainder, direct_descriptor
from starman.serving.shared import Shared
from starman.serving.upload import Upload
from starman.serving.writer import Rest, Turn, Writer
from starman.wsgi.body import RequestBody
from starman.wsgi.environ import Environ, for_connection

# How many requests of one connection may wait behind the one that runs, before its socket is left unread. With a body: one.
_MOST_PENDING = 32

# After this long (seconds) without a request, a connection gives its second descriptor back.
_REST = 1.0


class _Phase(Enum):
    """OPEN → LINGERING (our last byte is sent) → CLOSED; or at once OPEN → CLOSED, when the peer is gone."""

    OPEN = auto()
    LINGERING = auto()
    CLOSED = auto()


class Connection(asyncio.Protocol):
    """One client's connection."""

    __slots__ = (
        "_base",
        "_eof",
        "_fd",
        "_heads",
        "_linger_until",
        "_loop",
        "_parser",
        "_paused",
        "_phase",
        "_progress",
        "_refusal",
        "_remainder",
        "_shared",
        "_template",
        "_transport",
        "_upload",
        "_wildcard",
        "_writer",
    )

    _transport: asyncio.Transport
    _remainder: Remainder
    _base: Environ

    def __init__(self, shared: Shared, loop: asyncio.AbstractEventLoop, template: Environ, wildcard: bool) -> None:
        """`template` is the environ of the listener; `wildcard` whether SERVER_NAME is the connection's own address."""
        self._shared = shared
        self._loop = loop
        self._template = template
        self._wildcard = wildcard
        self._parser = RequestParser(shared.limits)
        self._writer = Writer(self, shared.pool.post)
        self._phase = _Phase.OPEN
        self._upload: Upload | None = None
        self._refusal: ProtocolError | None = None
        self._heads = 0
        self._progress = Progress()
        self._linger_until = 0.0
        self._paused = False
        self._eof = False

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self._transport = cast("asyncio.Transport", transport)
        self._fd = direct_descriptor(self._transport)
        server = transport.get_extra_info("sockname") if self._wildcard else None
        self._base = for_connection(self._template, transport.get_extra_info("peername"), server)
        self._remainder = Remainder(self, self._loop, self._transport, self._writer)
        self._shared.connections.add(self)

    def data_received(self, data: bytes) -> None:
        """The client has sent something."""
        if self._phase is _Phase.OPEN:
            self._parser.receive(data)
            if not self._paused:
                self._advance()

    def eof_received(self) -> bool:
        """The client will send no more; it may still wait for answers (half-close, RFC 9112 §9.6)."""
        self._eof = True
        if self._phase is _Phase.LINGERING:
            self._transport.close()
        else:
            self.on_turn()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, in whatever way."""
        self._phase = _Phase.CLOSED
        self._parser.close()
        self._remainder.end()
        self._writer.lose()
        self._discard_upload()
        self._shared.connections.discard(self)

    def resume_writing(self) -> None:
        """The transport's buffer is empty: its high-water mark is 0 (hazard 4)."""
        self._remainder.on_room()

    # Reading

    def _advance(self) -> None:
        """Turn what was received into exchanges, until more is needed or the connection has to wait."""
        parser = self._parser
        try:
            while (event := parser.next_event()) is not None:
                if isinstance(event, RequestHead):
                    self._on_head(event)
                elif isinstance(event, bytes):
                    self._on_body(event)
                else:
                    self._on_end_of_body(event)
                if self._paused:
                    return
        except ProtocolError as error:
            self._refuse(error)

    def _on_head(self, head: RequestHead) -> None:
        self._heads += 1
        if head.body_length != 0:
            self._upload = Upload(head, self._shared.body_memory_bytes)
            if head.expects_continue and not self._parser.unread_bytes and not self._writer.wake_when_done():
                self._continue()
            return
        self._offer(head, None)
        if head.upgrade and self._writer.wake_when_done():
            # What follows may be of another protocol: that shows when this request is answered.
            self._pause()

    def _on_body(self, data: bytes) -> None:
        upload = self._upload
        assert upload is not None
        upload.body.write(data)
        if upload.body.wants_spooling:
            # The loop never writes to the disk: a thread does, and the socket is left unread meanwhile.
            upload.spooling = True
            self._pause()
            self._shared.in_thread(upload.spool, partial(self._spooled, upload))

    def _on_end_of_body(self, end: EndOfBody) -> None:
        upload, self._upload = self._upload, None
        assert upload is not None
        upload.body.trailers = end.trailers
        self._offer(upload.head, upload.body)

    def _offer(self, head: RequestHead, body: RequestBody | None) -> None:
        """A request is complete: it runs now, or when those before it are answered."""
        if not head.persistent:
            self._parser.close()
        writer = self._writer
        exchange = Exchange(self._shared, writer, self._base, head, body)
        try:
            now = writer.offer(exchange, self._fd, self._transport.get_write_buffer_size() > 0)
        except OSError as error:  # no descriptor left for the duplicate
            log.error(f"a connection is dropped: {error}")
            exchange.drop()
            self.cut()
            return
        if now:
            self._shared.pool.put(exchange)
        elif (body is not None or writer.pending_count >= _MOST_PENDING) and writer.wake_when_done():
            self._pause()

    def _continue(self) -> None:
        """Ask for the body, if it is waited for."""
        if self._upload is not None:
            self._transport.write(self._upload.interim())

    def _spooled(self, upload: Upload, error: OSError | None) -> None:
        """The disk is done, or has failed."""
        upload.spooled()
        if self._phase is not _Phase.OPEN:
            return
        if error is not None:
            log.error(f"the spool file of a request body failed: {error}")
            self._refuse(ProtocolError(500, "Internal Server Error"))
            return
        self._resume()
        if self._eof:
            self.on_turn()

    def _pause(self) -> None:
        self._paused = True
        self._transport.pause_reading()

    def _resume(self) -> None:
        self._paused = False
        if not self._transport.is_closing():
            self._transport.resume_reading()
            self._advance()

    # Between exchanges

    def on_turn(self) -> None:
        """Do what waited for the end of the running exchanges, in its order; if they still run, be called again."""
        if self._phase is not _Phase.OPEN or self._spooling:
            return
        if self._writer.turn is Turn.ENDING:
            self._linger()
            return
        if self._writer.wake_when_done():
            return
        if self._refusal is not None:
            self._transport.write(self._shared.refuse(self._refusal, self._base["REMOTE_ADDR"], quietly=self._eof))
            self._linger()
        elif self._paused:
            self._resume()
            if self._eof:
                self.on_turn()
        elif self._eof and not self._parser.at_start:
            self._refuse(ProtocolError(400, "the request is incomplete"))
        elif self._eof:
            self._linger()
        else:
            self._continue()

    @property
    def _spooling(self) -> bool:
        return self._upload is not None and self._upload.spooling

    def _discard_upload(self) -> None:
        if self._upload is not None:
            self._upload.discard()
            self._upload = None

    def _refuse(self, error: ProtocolError) -> None:
        """Answer with an error of our own, after the responses that come before it, and close."""
        self._parser.close()
        self._discard_upload()
        self._refusal = error
        self.on_turn()

    def _linger(self) -> None:
        """Say that nothing more will be sent, and read on a while: a reset would destroy what was (RFC 9112 §9.6)."""
        self._phase = _Phase.LINGERING
        self._linger_until = time.monotonic() + LINGER_SECONDS
        self._parser.close()
        self._writer.lose()
        if self._eof:
            self._transport.close()
        else:
            half_close(self._transport, paused=self._paused)

    # Writing what a thread could not

    def take_over(self, rest: Rest) -> None:
        """A thread hands over what its socket did not take."""
        if self._phase is _Phase.OPEN and not self._transport.is_closing():
            self._progress.forget()
            self._remainder.take(rest)
        elif isinstance(rest, FileRest):
            rest.close()

    def remainder_written(self) -> None:
        """What was handed over is written: the next exchange may run."""
        following = self._writer.drained()
        if following is not None:
            self._shared.pool.put(following)

    def let_go(self, reply: SimpleQueue[bytes]) -> None:
        """The application takes the connection: close the transport, and with the duplicate open no FIN is sent (hazard 3)."""
        reply.put(self._parser.take_unread())
        if self._phase is not _Phase.CLOSED:
            self._phase = _Phase.CLOSED
            self._transport.abort()

    def cut(self) -> None:
        """End the connection at once, with a reset; whoever runs its exchange is told at the next send (hazard 1)."""
        if self._phase is _Phase.CLOSED:
            return
        self._phase = _Phase.CLOSED
        self._remainder.end()
        reset_on_close(self._transport)
        self._writer.lose()
        self._transport.abort()

    # Time

    def check(self, now: float) -> None:
        """Enforce the timeouts, from the worker's tick: nothing of this costs a request anything. `now` is monotonic."""
        if self._phase is _Phase.LINGERING:
            if now >= self._linger_until:
                self._transport.abort()
            return
        turn = self._writer.turn
        if turn is Turn.FREE:
            self._check_receiving(now)
        elif turn in (Turn.STREAMING, Turn.FINISHING, Turn.RETURNED):
            shared, left = self._shared, self._remainder.left
            if self._progress.is_slow(turn, left, now, timeout=shared.write_timeout, rate=shared.min_send_rate):
                self.cut()
        else:
            self._progress.forget()

    def _check_receiving(self, now: float) -> None:
        shared, progress, upload = self._shared, self._progress, self._upload
        timeout = shared.header_timeout
        if self._refusal is not None or self._spooling:
            progress.forget()  # nobody can tell how fast the client is
        elif upload is not None:
            if progress.is_slow(upload, upload.body.length, now, timeout=timeout, rate=shared.min_body_rate):
                self._refuse(ProtocolError(408, "the body did not arrive in time"))
        elif not self._parser.at_start:
            if progress.is_slow(self._heads, 0, now, timeout=timeout):
                self._refuse(ProtocolError(408, "the request head did not arrive in time"))
        else:
            progress.forget()
            idle = now - self._writer.idle_since
            if idle >= (shared.keepalive_timeout if self._heads else timeout):
                self._linger()
            elif idle >= _REST:
                self._writer.rest()

    def close_if_idle(self, since: float) -> None:
        """The worker drains: close, unless a request is under way, or was until after `since` (monotonic)."""
        writer = self._writer
        if self._phase is _Phase.OPEN and writer.turn is Turn.FREE and self._parser.at_start and writer.idle_since <= since:
            self._transport.close()
            writer.lose()
