"""Between a client and an application that has taken its connection, where bytes had been received behind the request.

The bytes cannot be put back into the kernel, but must come first, however the application reads: recv, recvmsg, a file, or
select() on the descriptor. So the application has one end of a pair of sockets, and the loop passes on what arrives at either
side. This is rare, because most clients wait for the answer to their handshake. Loop only.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

from starman import log
from starman.serving.lingering import Lingering, half_close, reset_on_close, unacknowledged
from starman.serving.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from starman.serving.context import ServiceContext


class Relay:
    """One of `ServiceContext.connections`, in the place of the connection whose transport it takes over.

    socket: the application's end of the pair.
    """

    __slots__ = (
        "_application",
        "_client",
        "_close",
        "_context",
        "_ended",
        "_forwards",
        "_lost",
        "_progress",
        "_task",
        "_told",
        "socket",
    )

    def __init__(self, client: asyncio.Transport, context: ServiceContext, unread: bytes, *, ended: bool) -> None:
        """`unread` is passed on first; `ended`: then the end of the client's stream. Raises OSError, and then changes nothing."""
        ours, self.socket = socket.socketpair()
        ours.setblocking(False)
        self._client = client
        self._application: asyncio.Transport | None = None
        self._context = context
        self._progress = Progress()
        self._ended = False  # whether the client has ended its stream
        self._forwards = True  # whether input of the client is passed on
        self._lost = False  # whether the client's connection is lost
        self._told = False  # whether the client was told that nothing more will come
        self._close: Callable[[], None] | None = None  # known once the application is done
        client.pause_reading()
        client.set_protocol(_ClientSide(self))
        context.connections.add(self)
        self._task = asyncio.get_running_loop().create_task(self._begin(ours, unread, ended))

    async def _begin(self, ours: socket.socket, unread: bytes, ended: bool) -> None:
        try:
            loop = asyncio.get_running_loop()
            application, _ = await loop.connect_accepted_socket(lambda: _ApplicationSide(self), ours)
        except OSError as error:
            ours.close()
            log.error(f"a connection that the application has taken is dropped: {error}")
            self.cut()
            return
        if self._client.is_closing():
            application.abort()
            return
        self._application = application
        application.set_write_buffer_limits(high=0)
        self.pass_on(unread)
        if ended:
            self.client_has_ended()
        elif self._forwards and not application.get_write_buffer_size():  # else it is read on when there is room
            self._client.resume_reading()

    # Both ways

    def pass_on(self, data: bytes) -> None:
        """The client has sent something."""
        if self._forwards and self._application is not None:
            self._application.write(data)

    def send(self, data: bytes) -> None:
        """The application has sent something."""
        if not self._client.is_closing():
            self._client.write(data)

    def wait_for_application(self, waits: bool) -> None:
        """Stop or resume reading from the client: the application has to read first, or has read."""
        if self._forwards and not self._client.is_closing():
            (self._client.pause_reading if waits else self._client.resume_reading)()

    def wait_for_client(self, waits: bool) -> None:
        """Stop or resume reading from the application: the client has to read first, or has read."""
        if self._application is not None:
            (self._application.pause_reading if waits else self._application.resume_reading)()

    def client_has_ended(self) -> None:
        """The client will send no more."""
        self._ended = True
        if self._forwards and self._application is not None:
            with contextlib.suppress(OSError):
                self._application.write_eof()
        self._close_if_both_have_ended()

    def application_has_ended(self) -> None:
        """The application will send no more, and everything that it sent is passed on."""
        if self._client.is_closing():
            return
        if not self._told:
            self._told = True
            half_close(self._client, paused=False)
        if self._close is not None:
            self._linger()
        else:
            self._close_if_both_have_ended()

    def application_is_lost(self) -> None:
        """The application will neither send nor read any more."""
        self._application = None
        self._forwards = False
        if self._lost:
            self._context.connections.discard(self)
        else:
            self.application_has_ended()

    def client_is_lost(self) -> None:
        """The connection is gone, in whatever way. The application may still read what came before."""
        self._lost = True
        self._forwards = False
        if self._application is not None:
            self._application.close()
        else:
            self._context.connections.discard(self)
        self._end_application()

    # The end

    def _close_if_both_have_ended(self) -> None:
        """The end of the application's side, even if a child of the application has used the connection and never returns."""
        if self._ended and self._told:
            self._client.close()

    def end(self, close: Callable[[], None]) -> None:
        """The application has returned and ended its stream. `close` closes its socket, once everything is passed on."""
        self._close = close
        self._forwards = False
        if self._client.is_closing():
            self._end_application()
            return
        self._client.pause_reading()
        if self._told:
            self._linger()

    def _linger(self) -> None:
        self._context.connections.discard(self)
        lingering = Lingering(self._client, self._context)
        if self._ended:
            lingering.eof_received()
        else:
            self._client.resume_reading()
        if self._application is not None:
            self._application.abort()
        self._end_application()

    def _end_application(self) -> None:
        close, self._close = self._close, None
        if close is not None:
            close()

    # As one of ServiceContext.connections

    def check(self, now: float) -> None:
        """Cut a client that does not take what the application has left for it. `now` is monotonic."""
        if self._close is not None:
            left = unacknowledged(self._client)
            if self._progress.is_slow("what is left", left, now, timeout=self._context.write_timeout):
                self.cut()

    def close_if_idle(self, since: float) -> None:
        """Does nothing: the connection belongs to the application."""

    def cut(self) -> None:
        """End it at once, with a reset."""
        if not self._lost:
            reset_on_close(self._client)
            self._client.abort()
        if self._application is not None:
            self._application.abort()


class _ClientSide(asyncio.Protocol):
    """The protocol of the client's transport: reports to a Relay."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def data_received(self, data: bytes) -> None:
        self._relay.pass_on(data)

    def eof_received(self) -> bool:
        self._relay.client_has_ended()
        return True

    def pause_writing(self) -> None:
        self._relay.wait_for_client(True)

    def resume_writing(self) -> None:
        self._relay.wait_for_client(False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._relay.client_is_lost()


class _ApplicationSide(asyncio.Protocol):
    """The protocol of the application's end of the pair: reports to a Relay."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def data_received(self, data: bytes) -> None:
        self._relay.send(data)

    def eof_received(self) -> bool:
        self._relay.application_has_ended()
        return True

    def pause_writing(self) -> None:
        self._relay.wait_for_application(True)

    def resume_writing(self) -> None:
        self._relay.wait_for_application(False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._relay.application_is_lost()
