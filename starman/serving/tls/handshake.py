"""A client during the TLS handshake: enforces the timeout, and answers clients that do not use TLS. Loop only."""

from __future__ import annotations

import asyncio
import ssl
import time
from enum import Enum, auto
from typing import TYPE_CHECKING, cast

from starman.errors import ProtocolError
from starman.serving.connections.connection import Connection
from starman.serving.connections.lingering import Lingering, half_close, reset_on_close, shut_down
from starman.serving.metrics.refusal_counts import TLS_FAILURES
from starman.serving.tls.transport import Session, TlsTransport, reason

if TYPE_CHECKING:
    from starman.serving.context import ServiceContext
    from starman.wsgi.environ import Environ

# The first byte of every TLS connection: a record of the type "handshake" (RFC 8446 §5.1).
_HANDSHAKE_RECORD = 0x16

# A handshake is not closed to make room for another client before it has lasted this long (seconds).
_LEAST_AGE = 0.5


class _Phase(Enum):
    """SILENT → SHAKING → DONE. A connection takes over then, or a `Lingering` if the client was refused."""

    SILENT = auto()
    SHAKING = auto()
    DONE = auto()


class Handshake(asyncio.Protocol):
    """A client before it is a `Connection`. It is in `ServiceContext.connections`, for the tick and the drain."""

    __slots__ = ("_base", "_context", "_deadline", "_phase", "_session", "_tls_context", "_transport", "_trusted")

    _transport: asyncio.Transport
    _session: Session

    def __init__(self, context: ServiceContext, tls_context: ssl.SSLContext, base: Environ, trusted: bool) -> None:
        """`base` is the environ of the connection to be. `trusted`: whether the client is a trusted proxy."""
        self._context = context
        self._tls_context = tls_context
        self._base = base
        self._trusted = trusted
        self._phase = _Phase.SILENT
        self._deadline = time.monotonic() + context.handshake_timeout

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=0)
        self._context.connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Go on with the handshake, or refuse a client that does not use TLS."""
        if self._phase is _Phase.SILENT:
            if data[0] != _HANDSHAKE_RECORD:
                error = ProtocolError(400, "this port uses TLS: use https")
                self._transport.write(self._context.refuse(error, self._peer, quietly=False))
                self._linger()
                return
            self._session = Session(self._tls_context)
            self._phase = _Phase.SHAKING
        if self._phase is _Phase.SHAKING:
            self._session.incoming.write(data)
            self._continue_handshake()

    def eof_received(self) -> bool:
        """The client has ended its stream during the handshake. Return False: the transport closes."""
        if self._phase is _Phase.SHAKING:
            self._note_failure("the client ended it")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        self._phase = _Phase.DONE
        self._context.connections.discard(self)

    def _continue_handshake(self) -> None:
        session = self._session
        try:
            session.object.do_handshake()
        except ssl.SSLWantReadError:
            self._send_outgoing()
        except ssl.SSLError as error:
            self._note_failure(reason(error))
            self._send_outgoing()  # an alert, which tells the client the reason
            self._linger()
        else:
            self._send_outgoing()
            self._phase = _Phase.DONE
            self._context.connections.discard(self)
            loop = asyncio.get_running_loop()
            connection = Connection(self._context, loop, self._base, -1, self._trusted)
            TlsTransport(loop, self._transport, session, connection, self._context.refusals, self._peer).start()

    def _note_failure(self, why: str) -> None:
        """Log and count a handshake that has failed."""
        self._context.refusal_counts.closed[TLS_FAILURES] += 1
        self._context.refusals.add(f"TLS handshake with {self._peer} failed: {why}")

    def _send_outgoing(self) -> None:
        data = self._session.outgoing.read()
        if data:
            self._transport.write(data)

    def _linger(self) -> None:
        self._phase = _Phase.DONE
        self._context.connections.discard(self)
        half_close(self._transport, paused=False)
        Lingering(self._transport, self._context)

    @property
    def _peer(self) -> str:
        return cast("str", self._base["REMOTE_ADDR"])

    # The methods of a client (`clients.Client`)

    def check_timeouts(self, now: float) -> None:
        """Enforce ssl_handshake_timeout. `now` is monotonic."""
        if now >= self._deadline:
            if self._phase is _Phase.SHAKING:
                self._note_failure("it took too long")
            self._transport.abort()

    def close_if_idle(self, since: float) -> None:
        """Close if the client has sent nothing, and connected before `since` (monotonic). Called during a drain."""
        if self._phase is _Phase.SILENT and self._deadline - self._context.handshake_timeout <= since:
            shut_down(self._transport)

    def reset(self) -> None:
        """End the connection at once, with a reset."""
        reset_on_close(self._transport)
        self._transport.abort()

    def eviction_rank(self, now: float) -> tuple[int, float] | None:
        """As `Connection.eviction_rank`. Handshakes rank before connections, the oldest first. None: it is new, or
        done."""
        since = self._deadline - self._context.handshake_timeout
        begun = self._phase in (_Phase.SILENT, _Phase.SHAKING) and not self._transport.is_closing()
        return (0, since) if begun and now - since >= _LEAST_AGE else None

    def evict(self) -> None:
        """Close at once, to make room for another client."""
        self.reset()
