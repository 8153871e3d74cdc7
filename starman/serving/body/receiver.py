"""Reads the rest of a large body from the socket straight into the body's memory, past the parser. Loop only.

The parser only counts these bytes. Otherwise each piece would be copied twice: out of the loop's buffer, and then
behind the pieces before it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from starman.proto.request import RequestParser
    from starman.serving.body.upload import Upload

# After a read of this size (bytes) other connections are served: libuv would read from this one 32 times in a row.
LARGE_READ = 65_536


class Receiving(Protocol):
    """The methods of `Connection` that a `BodyReceiver` calls."""

    def data_received(self, data: bytes) -> None:
        """Parse `data`; b"" means to go on after the body."""

    def yield_to_others(self) -> None:
        """Read on after the other connections have been served once."""

    def eof_received(self) -> bool:
        """The client has ended its stream."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""

    def resume_writing(self) -> None:
        """The transport's buffer is empty."""


class BodyReceiver(asyncio.BufferedProtocol):
    """The protocol of a transport until the body is complete. It stands in for the connection."""

    __slots__ = ("_connection", "_parser", "_transport", "_upload")

    def __init__(self, connection: Receiving, transport: asyncio.Transport, parser: RequestParser, upload: Upload) -> None:
        self._connection = connection
        self._transport = transport
        self._parser = parser
        self._upload = upload
        transport.set_protocol(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the memory that the loop reads to."""
        return self._upload.get_buffer()

    def buffer_updated(self, nbytes: int) -> None:
        """Count the bytes that were read. Give the transport back to the connection when the body is complete."""
        if self._parser.closed:  # the request is refused, or the connection is ending
            self._transport.set_protocol(cast("asyncio.Protocol", self._connection))
            self._connection.data_received(bytes(nbytes))
            return
        self._parser.skip_body_bytes(nbytes)
        if self._upload.buffer_filled(nbytes):
            connection = self._connection
            self._transport.set_protocol(cast("asyncio.Protocol", connection))
            # uvloop keeps the methods that it has called, and with them this object: it must not keep the rest alive.
            del self._connection, self._transport, self._parser, self._upload
            connection.data_received(b"")
        elif nbytes >= LARGE_READ:
            self._connection.yield_to_others()

    # Passed on to the connection

    def eof_received(self) -> bool:
        """The client has ended its stream."""
        return self._connection.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        self._connection.connection_lost(exc)

    def resume_writing(self) -> None:
        """The transport's buffer is empty."""
        self._connection.resume_writing()
