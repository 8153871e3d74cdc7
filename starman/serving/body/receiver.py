"""The rest of a large body on its way from the socket straight into its memory, past the parser, which only counts it. Loop only.

Read as all else is, each piece would be copied out of the loop's buffer, and then again behind those before it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from starman.proto.request import RequestParser
    from starman.serving.body.upload import Upload

# After a read of so many bytes others have their turn: libuv would read from this connection 32 times in a row.
LARGE_READ = 65_536


class Receiving(Protocol):
    """The methods of `Connection` that a `BodyReceiver` calls."""

    def data_received(self, data: bytes) -> None:
        """Parse `data`; b"" to go on behind the body."""

    def let_others_go_first(self) -> None:
        """Read on after the other connections have been served once."""

    def eof_received(self) -> bool:
        """The client has ended its stream."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""

    def resume_writing(self) -> None:
        """The transport's buffer is empty."""


class BodyReceiver(asyncio.BufferedProtocol):
    """The protocol of a transport in its connection's place, until the body is complete."""

    __slots__ = ("_connection", "_parser", "_transport", "_upload")

    def __init__(self, connection: Receiving, transport: asyncio.Transport, parser: RequestParser, upload: Upload) -> None:
        self._connection = connection
        self._transport = transport
        self._parser = parser
        self._upload = upload
        transport.set_protocol(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the loop is to read to."""
        return self._upload.room()

    def buffer_updated(self, nbytes: int) -> None:
        """It has."""
        if self._parser.closed:  # the request is refused, or the connection at its end
            self._transport.set_protocol(cast("asyncio.Protocol", self._connection))
            self._connection.data_received(bytes(nbytes))
            return
        self._parser.skip_body_bytes(nbytes)
        if self._upload.filled(nbytes):
            connection = self._connection
            self._transport.set_protocol(cast("asyncio.Protocol", connection))
            # uvloop keeps the methods that it has called: nothing is to hang on them.
            del self._connection, self._transport, self._parser, self._upload
            connection.data_received(b"")
        elif nbytes >= LARGE_READ:
            self._connection.let_others_go_first()

    # As the connection itself

    def eof_received(self) -> bool:
        """The client will send no more."""
        return self._connection.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._connection.connection_lost(exc)

    def resume_writing(self) -> None:
        """The transport's buffer is empty."""
        self._connection.resume_writing()
