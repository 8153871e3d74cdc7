"""Closes a connection: by lingering, by shutdown, by a reset, or by detaching it for the application. Loop only.

This is the closing half of `Connection`, which inherits from `ClosableConnection`. Must not import `connection`.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from starman import log
from starman.serving.connections.lingering import Lingering, close, half_close, reset_on_close, shut_down, unacknowledged
from starman.serving.gunicorn_socket.relay import Relay
from starman.serving.sending.loop_side import RelayAnswer
from starman.serving.sending.socket_state import has_unread
from starman.serving.sending.writer_state import FREE

if TYPE_CHECKING:
    import asyncio
    from queue import SimpleQueue

    from starman.errors import ProtocolError
    from starman.proto.request import RequestParser
    from starman.serving.body.streaming_exchange import StreamedUpload
    from starman.serving.body.upload import Upload
    from starman.serving.context import ServiceContext
    from starman.serving.sending.send_queue import SendQueue
    from starman.serving.sending.writer import Writer


class Phase(Enum):
    """OPEN → LINGERING (the last byte is sent) → CLOSED; or OPEN → CLOSED at once, if the peer is gone."""

    OPEN = auto()
    LINGERING = auto()
    CLOSED = auto()


# Module globals, because reading an attribute of an Enum class costs 0.24 µs on 3.11.
OPEN: Final = Phase.OPEN
LINGERING: Final = Phase.LINGERING
CLOSED: Final = Phase.CLOSED


class ClosableConnection:
    """The part of a `Connection` that closes it. `Connection` sets all attributes."""

    __deletable__ = ("_writer",)  # for mypyc
    __slots__ = (
        "_context",
        "_eof",
        "_parser",
        "_paused",
        "_phase",
        "_refusal",
        "_send_queue",
        "_transport",
        "_upload",
        "_writer",
    )

    _eof: bool
    _parser: RequestParser
    _paused: bool
    _phase: Phase
    _refusal: ProtocolError | None
    _send_queue: SendQueue | None
    _context: ServiceContext
    _transport: asyncio.Transport
    _upload: Upload | StreamedUpload | None
    _writer: Writer

    def connection_lost(self, exc: Exception | None) -> None:
        """Release everything that belongs to the connection, which is closed for whatever reason."""
        self._phase = CLOSED
        self._parser.close()
        if self._send_queue is not None:
            self._send_queue.end()
        if self._writer.lose():
            self._context.lost.append(self._writer)
        if self._upload is not None:
            self._upload.discard()
        # These objects refer back to this connection (a refusal by its traceback). Breaking the cycles frees
        # everything at once.
        self._send_queue = self._upload = self._refusal = None
        del self._writer

    def linger(self) -> None:
        """Begin a lingering close (RFC 9112 §9.6): send FIN, and read until the client has received everything."""
        self._phase = LINGERING
        self._parser.close()
        self._writer.lose()
        if self._eof:
            close(self._transport)
        else:
            half_close(self._transport, paused=self._paused, done=self._writer.thread_socket.finished)

    def become_lingering(self) -> Lingering:
        """Let a `Lingering` take over the transport: the client has not closed by the next tick, or it sends more."""
        lingering = Lingering(self._transport, self._context)
        self.connection_lost(None)
        return lingering

    def _has_unread(self) -> bool:
        """Return whether bytes of the client wait in the kernel.

        After a pause of the whole process, the loop runs timers before it reads: a connection that seems idle may have
        a request waiting in its socket.
        """
        return has_unread(self._transport.get_extra_info("socket").fileno())

    def close_if_idle(self, since: float) -> None:
        """Close if no request is under way and none was after `since` (monotonic). Called while the worker drains."""
        writer = self._writer
        if self._phase is OPEN and writer.state is FREE and self._parser.between_messages and writer.idle_since <= since:
            if self._has_unread():
                return
            if unacknowledged(self._transport):
                self.linger()
            else:
                shut_down(self._transport)
                writer.lose()

    def detach_transport(self, reply: SimpleQueue[RelayAnswer]) -> None:
        """Detach the connection from the loop, because the application takes it (`gunicorn.socket`).

        Put None into `reply` after closing the transport. The client sees no FIN, because the application's duplicate
        of the descriptor stays open (hazard 3). If bytes were received after the request, keep the transport and put a
        `Relay` that leads to it; put an OSError if the relay cannot be made.
        """
        unread = self._parser.take_unread()
        relay: RelayAnswer = None
        try:
            if unread and self._phase is OPEN:
                relay = Relay(self._transport, self._context, unread, ended=self._eof)
                self.connection_lost(None)
        except OSError as error:
            log.error(f"a connection is dropped: {error}")
            relay = error
            self.reset()
        finally:
            reply.put(relay)
        if self._phase is not CLOSED:
            self._phase = CLOSED
            self._transport.abort()

    def reset(self) -> None:
        """Reset the connection at once. A thread that runs its exchange notices at the next send (hazard 1).

        No reset is sent if the connection is lingering and the kernel has all bytes: the response is complete.
        """
        if self._phase is CLOSED:
            return
        if self._send_queue is not None:
            self._send_queue.end()
        if self._phase is OPEN or self._transport.get_write_buffer_size():
            reset_on_close(self._transport)
        self._phase = CLOSED
        self._writer.lose()
        self._transport.abort()
