"""TLS behind its handshake: a transport that encrypts what the loop writes and decrypts what it reads. Loop only.

Over the loop's plain transport, by the memory buffers of the ssl module, and not by the loop's own TLS. That one calls written
what the transport below it still holds, so a slow reader would lose the end of its response when we close; it knows no
half-close, which lingering needs; it keeps 256 KiB for every connection; and its failed handshakes are tracebacks in the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import deque
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, cast

from starman.serving.lingering import shut_down
from starman.wsgi.environ import endpoint

if TYPE_CHECKING:
    from starman.serving.connection import Connection
    from starman.serving.refusallog import RefusalLog

# How much (bytes) is encrypted at once, and only when all before it has left: a slow reader then costs no second copy.
_PIECE = 65_536

# How many pieces leave in a row to a client that takes them all, before others have their turn.
_MOST_IN_A_ROW = 16

# What may pend (bytes) that nobody here wrote: answers to a client's key updates, who then does not read them.
_MOST_ANSWERS = 4 * _PIECE


class _State(Enum):
    """OPEN → HALF_CLOSING → HALF_CLOSED → CLOSED: our last byte is written, encrypted, acknowledged by the peer's end. Or, from
    any of them, CLOSING → CLOSED."""

    OPEN = auto()
    HALF_CLOSING = auto()
    HALF_CLOSED = auto()
    CLOSING = auto()
    CLOSED = auto()


class Session:
    """The TLS state of one connection, without I/O: bytes of the network go into `incoming` and are taken from `outgoing`."""

    __slots__ = ("incoming", "object", "outgoing")

    def __init__(self, tls_context: ssl.SSLContext) -> None:
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.object = tls_context.wrap_bio(self.incoming, self.outgoing, server_side=True)


class TlsTransport(asyncio.Transport, asyncio.Protocol):
    """The transport of a Connection, and the protocol of the plain transport below it. Its high-water mark is always 0."""

    __slots__ = (
        "_backlog",
        "_backlog_bytes",
        "_connection",
        "_ended",
        "_loop",
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
    ) -> None:
        """`session` has its handshake behind it. The mark of `plain` is 0. `refusals` is told what breaks TLS."""
        super().__init__()
        self._loop = loop
        self._plain = plain
        self._session = session
        self._connection = connection
        self._refusals = refusals
        self._backlog: deque[memoryview] = deque()
        self._backlog_bytes = 0
        self._state = _State.OPEN
        self._ended = False

    def start(self) -> None:
        """Tell the connection that it is made, and what came with the end of the handshake."""
        self._plain.set_protocol(self)
        self._connection.connection_made(self)
        self._read()

    # The transport, for the connection

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """As of the plain transport; `ssl_object` is the session's."""
        return self._session.object if name == "ssl_object" else self._plain.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Let `protocol` be told from now on what the connection was told."""
        self._connection = cast("Connection", protocol)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing: the mark is 0."""

    def get_write_buffer_size(self) -> int:
        """All that has still to leave, on both sides of the encryption."""
        return self._backlog_bytes + self._plain.get_write_buffer_size()

    def is_closing(self) -> bool:
        """Whether `close` or `abort` was called, or the peer is gone."""
        return self._state in (_State.CLOSING, _State.CLOSED) or self._plain.is_closing()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send `data`, which must not change any more."""
        if self._state is _State.OPEN and data:
            self._backlog.append(memoryview(data))
            self._backlog_bytes += len(data)
            self._flush()

    def write_eof(self) -> None:
        """Send close_notify and FIN behind all that was written. What comes from the peer is then nobody's, but for its end."""
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
        """Close behind all that was written."""
        if self._state is _State.HALF_CLOSED:
            self._state = _State.CLOSED
            shut_down(self._plain)
        elif self._state is not _State.CLOSED:
            self._state = _State.CLOSING
            self._flush()

    def abort(self) -> None:
        """Close now; what was written may be lost."""
        self._forget()
        self._plain.abort()

    # The protocol, for the plain transport

    def data_received(self, data: bytes) -> None:
        """Encrypted bytes of the client."""
        if self._state is _State.OPEN:
            self._session.incoming.write(data)
            self._read()
        elif self._state in (_State.HALF_CLOSING, _State.HALF_CLOSED):
            self._connection.data_received(data)  # lingering, which counts what it drops

    def eof_received(self) -> bool:
        """The client's FIN. Without a close_notify before it somebody may have cut the stream: framing finds that out."""
        if not self._ended:
            self._ended = True
            self._connection.eof_received()
        return True

    def resume_writing(self) -> None:
        """The plain transport is empty."""
        self._flush()
        self._tell()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, in whatever way."""
        self._forget()
        self._connection.connection_lost(exc)
        del self._connection  # which leads back here: see there

    # Both ways

    def _read(self) -> None:
        """Decrypt what has arrived, answer what TLS itself asks, and pass the rest on."""
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
            self._break(reason(error))
            return
        self._send_outgoing()
        if self._plain.get_write_buffer_size() > _MOST_ANSWERS:
            self._break("it asks for new keys and reads no answer")
            return
        if pieces:
            self._connection.data_received(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if ended and not self._ended and not self.is_closing():
            self._ended = True
            self._connection.eof_received()

    def _break(self, why: str) -> None:
        peer = endpoint(self._plain.get_extra_info("peername"))[0]
        self._refusals.add(f"TLS with {peer} broke: {why}")
        self.abort()

    def _flush(self) -> None:
        """Encrypt and send, as long as the plain transport takes it at once."""
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

    def _tell(self) -> None:
        """Tell the connection when all is written, whoever wrote it: a request may wait behind what TLS says by itself."""
        if not self.get_write_buffer_size() and self._state is not _State.CLOSED:
            self._connection.resume_writing()

    def _finish(self) -> None:
        """All is encrypted: say the end that was asked for."""
        if self._state not in (_State.HALF_CLOSING, _State.CLOSING):
            return
        with contextlib.suppress(ssl.SSLError):  # it wants to read the peer's close_notify, which we do not wait for
            self._session.object.unwrap()
        self._send_outgoing()
        if self._state is _State.CLOSING:
            self._state = _State.CLOSED
            shut_down(self._plain)
        else:
            self._state = _State.HALF_CLOSED
            with contextlib.suppress(OSError):  # asyncio's own loop shuts down at once, and the peer may be gone
                self._plain.write_eof()

    def _send_outgoing(self) -> None:
        data = self._session.outgoing.read()
        if data and not self._plain.is_closing():
            self._plain.write(data)

    def _forget(self) -> None:
        self._state = _State.CLOSED
        self._backlog.clear()
        self._backlog_bytes = 0


def reason(error: ssl.SSLError) -> str:
    """What went wrong, in words: "unsupported protocol"."""
    return (error.reason or error.strerror or str(error)).replace("_", " ").lower()
