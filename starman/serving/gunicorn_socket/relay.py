"""Relays between a client and an application that has taken its connection, if bytes were received after the request.

These bytes cannot be put back into the kernel, but must be read first, however the application reads: by recv,
recvmsg, a file, or after select() on the descriptor. So the application gets one end of a pair of sockets, and the
loop passes on what arrives at either side. This is rare: most clients wait for the response to their handshake. Loop
only.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

from starman import log
from starman.serving.connections.lingering import Lingering, half_close, reset_on_close, unacknowledged
from starman.serving.connections.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from starman.serving.context import ServiceContext


class Relay:
    """A relay. It takes over the transport of a connection, and its place in `ServiceContext.connections`.

    socket: the application's end of the pair of sockets.
    """

    __slots__ = (
        "_application",
        "_client",
        "_close",
        "_context",
        "_ended",
        "_fin_sent",
        "_forwards",
        "_lost",
        "_progress",
        "_task",
        "socket",
    )

    def __init__(self, client: asyncio.Transport, context: ServiceContext, unread: bytes, *, ended: bool) -> None:
        """Pass on `unread` first, and then the end of the client's stream if it has `ended`. Changes nothing if it
        raises OSError."""
        ours, self.socket = socket.socketpair()
        ours.setblocking(False)
        self._client = client
        self._application: asyncio.Transport | None = None
        self._context = context
        self._progress = Progress()
        self._ended = False  # whether the client has ended its stream
        self._forwards = True  # whether bytes of the client are passed on
        self._lost = False  # whether the client's connection is closed
        self._fin_sent = False  # whether FIN was sent to the client
        self._close: Callable[[], None] | None = None  # set when the application has returned
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
            self.reset()
            return
        if self._client.is_closing():
            application.abort()
            return
        self._application = application
        application.set_write_buffer_limits(high=0)
        self.send_to_application(unread)
        if ended:
            self.client_has_ended()
        elif self._forwards and not application.get_write_buffer_size():  # else reading resumes when there is room
            self._client.resume_reading()

    # Both directions

    def send_to_application(self, data: bytes) -> None:
        """Pass bytes of the client on to the application."""
        if self._forwards and self._application is not None:
            self._application.write(data)

    def send_to_client(self, data: bytes) -> None:
        """Send bytes of the application to the client."""
        if not self._client.is_closing():
            self._client.write(data)

    def wait_for_application(self, waits: bool) -> None:
        """Pause or resume reading from the client, while the application does not read."""
        if self._forwards and not self._client.is_closing():
            (self._client.pause_reading if waits else self._client.resume_reading)()

    def wait_for_client(self, waits: bool) -> None:
        """Pause or resume reading from the application, while the client does not read."""
        if self._application is not None:
            (self._application.pause_reading if waits else self._application.resume_reading)()

    def client_has_ended(self) -> None:
        """The client has ended its stream: pass the end on."""
        self._ended = True
        if self._forwards and self._application is not None:
            with contextlib.suppress(OSError):
                self._application.write_eof()
        self._close_if_both_have_ended()

    def application_has_ended(self) -> None:
        """The application has ended its stream, and all is passed on: send FIN, and linger if it has returned."""
        if self._client.is_closing():
            return
        if not self._fin_sent:
            self._fin_sent = True
            half_close(self._client, paused=False)
        if self._close is not None:
            self._linger()
        else:
            self._close_if_both_have_ended()

    def application_is_lost(self) -> None:
        """The application's end is closed: it neither sends nor reads any more."""
        self._application = None
        self._forwards = False
        if self._lost:
            self._context.connections.discard(self)
        else:
            self.application_has_ended()

    def client_is_lost(self) -> None:
        """The client's connection is closed. The application may still read earlier bytes."""
        self._lost = True
        self._forwards = False
        if self._application is not None:
            self._application.close()
        else:
            self._context.connections.discard(self)
        self._end_application()

    # Ending

    def _close_if_both_have_ended(self) -> None:
        """Close the client's side. Its end must not depend on a child that uses the connection and never returns."""
        if self._ended and self._fin_sent:
            self._client.close()

    def end(self, close: Callable[[], None]) -> None:
        """The application has returned and ended its stream: pass everything on, then call `close`, which closes its
        socket."""
        self._close = close
        self._forwards = False
        if self._client.is_closing():
            self._end_application()
            return
        self._client.pause_reading()
        if self._fin_sent:
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

    # The methods of a client (`clients.Client`)

    def check_timeouts(self, now: float) -> None:
        """Reset a client that does not read what the application has left for it. `now` is monotonic."""
        if self._close is not None:
            left = unacknowledged(self._client)
            if self._progress.is_slow("what is left", left, now, timeout=self._context.write_timeout):
                self.reset()

    def close_if_idle(self, since: float) -> None:
        """Does nothing: the connection belongs to the application."""

    def reset(self) -> None:
        """Reset the connection at once."""
        if not self._lost:
            reset_on_close(self._client)
            self._client.abort()
        if self._application is not None:
            self._application.abort()


class _ClientSide(asyncio.Protocol):
    """The protocol of the client's transport. Calls a `Relay`."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def data_received(self, data: bytes) -> None:
        self._relay.send_to_application(data)

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
    """The protocol of the application's end of the pair. Calls a `Relay`."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def data_received(self, data: bytes) -> None:
        self._relay.send_to_client(data)

    def eof_received(self) -> bool:
        self._relay.application_has_ended()
        return True

    def pause_writing(self) -> None:
        self._relay.wait_for_application(True)

    def resume_writing(self) -> None:
        self._relay.wait_for_application(False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._relay.application_is_lost()
