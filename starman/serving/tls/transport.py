"""The TLS transport of a connection after the handshake: encrypts what is written, decrypts what is read. Loop only.

It uses the loop's plain transport and the memory buffers of the ssl module. The loop's own TLS would not do: it calls
bytes written while the transport below still holds them, so a slow reader would lose the end of its response at close;
it has no half-close, which lingering needs; it keeps 256 KiB for every connection; and failed handshakes are
tracebacks in the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import deque
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, cast

from starman.serving.connections.lingering import shut_down

if TYPE_CHECKING:
    from starman.serving.connections.connection import Connection
    from starman.serving.refusallog import RefusalLog

# So many bytes are encrypted at once, after all earlier ones have left: so a slow reader does not cost a second copy.
_PIECE = 65_536

# So many pieces in a row are sent to a client that takes them all, before other connections are served.
_MOST_IN_A_ROW = 16

# At most this many bytes of TLS itself may wait: answers to the key updates of a client that does not read them.
_MOST_ANSWERS = 4 * _PIECE


class _State(Enum):
    """OPEN → HALF_CLOSING (the last byte is written) → HALF_CLOSED (it is encrypted) → CLOSED (the peer has ended).
    From each of these states also CLOSING → CLOSED."""

    OPEN = auto()
    HALF_CLOSING = auto()
    HALF_CLOSED = auto()
    CLOSING = auto()
    CLOSED = auto()


class Session:
    """The TLS state of a connection, without I/O: encrypted bytes go into `incoming`, and come from `outgoing`."""

    __slots__ = ("incoming", "object", "outgoing")

    def __init__(self, tls_context: ssl.SSLContext) -> None:
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.object = tls_context.wrap_bio(self.incoming, self.outgoing, server_side=True)


class TlsTransport(asyncio.Transport, asyncio.Protocol):
    """The transport of a `Connection`, and the protocol of the plain transport. Its high-water mark is always 0."""

    __slots__ = (
        "_backlog",
        "_backlog_bytes",
        "_connection",
        "_ended",
        "_loop",
        "_peer",
        "_plain",
        "_refusals",
        "_session",
        "_state",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        plain: asyncio.Transport,
        session: Session,
        connection: Connection,
        refusals: RefusalLog,
        peer: str,
    ) -> None:
        """`session` has done its handshake. The high-water mark of `plain` is 0. `refusals` logs TLS errors of the
        client, whose address is `peer`."""
        super().__init__()
        self._loop = loop
        self._plain = plain
        self._session = session
        self._connection = connection
        self._refusals = refusals
        self._peer = peer
        self._backlog: deque[memoryview] = deque()
        self._backlog_bytes = 0
        self._state = _State.OPEN
        self._ended = False

    def start(self) -> None:
        """Connect the connection, and give it the bytes that came with the end of the handshake."""
        self._plain.set_protocol(self)
        self._connection.connection_made(self)
        self._read()

    # The transport, for the connection

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """As of the plain transport, except that `ssl_object` is the session's."""
        return self._session.object if name == "ssl_object" else self._plain.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Call `protocol` instead of the connection from now on."""
        self._connection = cast("Connection", protocol)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Does nothing: the mark is always 0."""

    def get_write_buffer_size(self) -> int:
        """Return how many bytes have not left yet, on both sides of the encryption."""
        return self._backlog_bytes + self._plain.get_write_buffer_size()

    def is_closing(self) -> bool:
        """Return whether `close` or `abort` was called, or the peer is gone."""
        return self._state in (_State.CLOSING, _State.CLOSED) or self._plain.is_closing()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send `data`, which must not change afterwards."""
        if self._state is _State.OPEN and data:
            self._backlog.append(memoryview(data))
            self._backlog_bytes += len(data)
            self._flush()

    def write_eof(self) -> None:
        """Send close_notify and FIN after all that was written. Later bytes of the peer are dropped, except for its
        FIN."""
        if self._state is _State.OPEN:
            self._state = _State.HALF_CLOSING
            self._flush()

    def pause_reading(self) -> None:
        """As of the plain transport."""
        self._plain.pause_reading()

    def resume_reading(self) -> None:
        """As of the plain transport."""
        self._plain.resume_reading()

    def close(self) -> None:
        """Close after all bytes are written."""
        if self._state is _State.HALF_CLOSED:
            self._state = _State.CLOSED
            shut_down(self._plain)
        elif self._state is not _State.CLOSED:
            self._state = _State.CLOSING
            self._flush()

    def abort(self) -> None:
        """Close now. Bytes that were written may be lost."""
        self._drop_backlog()
        self._plain.abort()

    # The protocol, for the plain transport

    def data_received(self, data: bytes) -> None:
        """Decrypt bytes of the client."""
        if self._state is _State.OPEN:
            self._session.incoming.write(data)
            self._read()
        elif self._state in (_State.HALF_CLOSING, _State.HALF_CLOSED):
            self._connection.data_received(data)  # a `Lingering`, which counts the bytes and drops them

    def eof_received(self) -> bool:
        """The client's FIN. Without close_notify before it the stream may be truncated: the request's framing shows
        it."""
        if not self._ended:
            self._ended = True
            self._connection.eof_received()
        return True

    def resume_writing(self) -> None:
        """The plain transport is empty."""
        self._flush()
        self._notify_connection()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed, for any reason."""
        self._drop_backlog()
        self._connection.connection_lost(exc)
        del self._connection  # it refers back to this object

    # Both directions

    def _read(self) -> None:
        """Decrypt what has arrived, send what TLS itself answers, and pass the data on."""
        pieces: list[bytes] = []
        ended = False
        try:
            while piece := self._session.object.read(_PIECE):
                pieces.append(piece)
            ended = True
        except ssl.SSLZeroReturnError:
            ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self._send_outgoing()
            self._fail(reason(error))
            return
        self._send_outgoing()
        if self._plain.get_write_buffer_size() > _MOST_ANSWERS:
            self._fail("the client requests key updates and does not read the answers")
            return
        if pieces:
            self._connection.data_received(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if ended and not self._ended and not self.is_closing():
            self._ended = True
            self._connection.eof_received()

    def _fail(self, why: str) -> None:
        self._refusals.add(f"TLS with {self._peer} broke: {why}")
        self.abort()

    def _flush(self) -> None:
        """Encrypt and send, as long as the plain transport takes all at once."""
        backlog, plain = self._backlog, self._plain
        for _ in range(_MOST_IN_A_ROW):
            if not backlog or plain.get_write_buffer_size() or plain.is_closing():
                break
            count = self._session.object.write(backlog[0][:_PIECE])
            self._backlog_bytes -= count
            if count < len(backlog[0]):
                backlog[0] = backlog[0][count:]
            else:
                backlog.popleft()
            self._send_outgoing()
        else:
            if backlog and not plain.get_write_buffer_size():
                self._loop.call_soon(self.resume_writing)
        if not backlog:
            self._finish()

    def _notify_connection(self) -> None:
        """Tell the connection that all is written, even if only TLS has written: a request may wait for this."""
        if not self.get_write_buffer_size() and self._state is not _State.CLOSED:
            self._connection.resume_writing()

    def _finish(self) -> None:
        """All is encrypted: send close_notify, and close or half-close, if that is due."""
        if self._state not in (_State.HALF_CLOSING, _State.CLOSING):
            return
        with contextlib.suppress(ssl.SSLError):  # it expects the peer's close_notify, which is not waited for
            self._session.object.unwrap()
        self._send_outgoing()
        if self._state is _State.CLOSING:
            self._state = _State.CLOSED
            shut_down(self._plain)
        else:
            self._state = _State.HALF_CLOSED
            with contextlib.suppress(OSError):  # asyncio's loop calls shutdown(2) at once, and the peer may be gone
                self._plain.write_eof()

    def _send_outgoing(self) -> None:
        data = self._session.outgoing.read()
        if data and not self._plain.is_closing():
            self._plain.write(data)

    def _drop_backlog(self) -> None:
        self._state = _State.CLOSED
        self._backlog.clear()
        self._backlog_bytes = 0


def reason(error: ssl.SSLError) -> str:
    """Return the reason of an error in words, such as "unsupported protocol"."""
    return (error.reason or error.strerror or str(error)).replace("_", " ").lower()
