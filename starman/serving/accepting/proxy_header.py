"""A client until its header of the PROXY protocol has arrived: enforces trust and the timeout. Loop only.

The header is the first of all bytes, also on TLS. With the setting it is required, without it there is none: whether
bytes are a header is never guessed, because then any client could state any address.
"""

from __future__ import annotations

import asyncio
import time
from enum import Enum, auto
from typing import TYPE_CHECKING, cast

from starman.config.trusted_peers import UNIX, TrustedPeers
from starman.proto.proxy_protocol import V1, V2, ProxyHeaderError, ProxyHeaderParser
from starman.serving.connections.lingering import reset_on_close, shut_down
from starman.serving.metrics.refusal_counts import PROXY_FAILURES
from starman.wsgi.environ import endpoint

if TYPE_CHECKING:
    from collections.abc import Callable

    from starman.config.settings import Settings
    from starman.serving.context import ServiceContext

# A client is not closed to make room for another one before it has waited this long (seconds).
_LEAST_AGE = 0.5

_VERSIONS = {"on": frozenset((V1, V2)), "v1": frozenset((V1,)), "v2": frozenset((V2,))}


class ProxyHeaderRules:
    """Which peers may state the addresses of clients, and in which versions of the header. Frozen.

    versions: V1, V2 or both. peers: `proxy_allow_ips`.
    """

    __slots__ = ("peers", "versions")

    def __init__(self, versions: frozenset[int], peers: TrustedPeers) -> None:
        self.versions = versions
        self.peers = peers

    @classmethod
    def of(cls, settings: Settings) -> ProxyHeaderRules | None:
        """The rules of `settings`; None: connections have no header."""
        versions = _VERSIONS.get(settings.proxy_protocol)
        return None if versions is None else cls(versions, TrustedPeers(settings.proxy_allow_ips))


class _Phase(Enum):
    """SILENT → BEGUN → DONE. The connection or the handshake takes over then, or the client was refused."""

    SILENT = auto()
    BEGUN = auto()
    DONE = auto()


class ProxyHeaderReader(asyncio.Protocol):
    """A client before it is a `Connection` or a `Handshake`.

    It is in `ServiceContext.connections`, for the tick and the drain.
    """

    __slots__ = ("_begin", "_begun_at", "_context", "_parser", "_peer", "_phase", "_rules", "_transport")

    _transport: asyncio.Transport

    def __init__(
        self,
        context: ServiceContext,
        rules: ProxyHeaderRules,
        peer: object,
        begin: Callable[[object], asyncio.Protocol],
    ) -> None:
        """`peer`: the address of the socket's peer, as accept(2) returns it. `begin` is given the client's address in
        the same form, and makes the protocol that takes over."""
        self._context = context
        self._rules = rules
        self._peer = peer
        self._begin = begin
        self._parser = ProxyHeaderParser(rules.versions)
        self._phase = _Phase.SILENT
        self._begun_at = time.monotonic()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected. Refuse it if its address is not trusted, whatever it sends."""
        self._transport = cast("asyncio.Transport", transport)
        self._context.connections.add(self)
        if not self._rules.peers.trusts(str(self._peer[0]) if isinstance(self._peer, tuple) else ""):
            self._refuse("it is not in proxy_allow_ips")

    def data_received(self, data: bytes) -> None:
        """Go on with the header. When it is complete, the connection or the handshake takes over."""
        if self._phase is _Phase.DONE:
            return
        self._phase = _Phase.BEGUN
        try:
            header = self._parser.receive_data(data)
            if header is None:
                return
            protocol = self._begin(self._peer if header.client is None else header.client)
        except ProxyHeaderError as error:
            self._refuse(str(error))
            return
        except OSError:  # getsockname(2) fails when the client has left already (macOS)
            self.reset()
            return
        self._phase = _Phase.DONE
        self._context.connections.discard(self)
        rest = self._parser.take_rest(header)
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        if rest:
            protocol.data_received(rest)
        else:
            self._context.executor.welcome()  # the first request follows the header, as it else follows the connect

    def eof_received(self) -> bool:
        """The client has ended its stream before the end of the header. Return False: the transport closes.

        Not logged if it has sent nothing: that is how load balancers check whether a port is open."""
        if self._phase is _Phase.BEGUN:
            self._refuse("it has ended the connection within its PROXY protocol header")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        self._phase = _Phase.DONE
        self._context.connections.discard(self)

    def _refuse(self, reason: str) -> None:
        """Log the refusal, and close without an answer: the client may speak TLS, or anything else."""
        self._phase = _Phase.DONE
        name = endpoint(self._peer)[0] if isinstance(self._peer, tuple) else UNIX
        self._context.refusal_counts.closed[PROXY_FAILURES] += 1
        self._context.refusals.add(f"refused {name}: {reason}")
        self._transport.abort()

    # The methods of a client (`clients.Client`)

    def check_timeouts(self, now: float) -> None:
        """Enforce header_timeout. `now` is monotonic."""
        if self._phase is not _Phase.DONE and now - self._begun_at >= self._context.header_timeout:
            self._refuse(f"its PROXY protocol header did not arrive within {self._context.header_timeout:g} s")

    def close_if_idle(self, since: float) -> None:
        """Close if the client has sent nothing, and connected before `since` (monotonic). Called during a drain."""
        if self._phase is _Phase.SILENT and self._begun_at <= since:
            shut_down(self._transport)

    def reset(self) -> None:
        """End the connection at once, with a reset."""
        reset_on_close(self._transport)
        self._transport.abort()

    def eviction_rank(self, now: float) -> tuple[int, float] | None:
        """As `Connection.eviction_rank`. These clients rank before connections, the oldest first. None: it is new, or
        done."""
        waits = self._phase is not _Phase.DONE and not self._transport.is_closing()
        return (0, self._begun_at) if waits and now - self._begun_at >= _LEAST_AGE else None

    def evict(self) -> None:
        """Close at once, to make room for another client."""
        self.reset()
