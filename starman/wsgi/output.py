"""Where the bytes of one call of an application go: what `call` asks of its server."""

from __future__ import annotations

from typing import Protocol

from starman import application_forks
from starman.errors import Disconnected


class Output(Protocol):
    """Where a call's bytes go. Both sends may block. Both, and `nothing_yet`, raise Disconnected."""

    def harakiri(self) -> None:
        """The application asks for the end of its process (`starman.harakiri`). May be called more than once."""

    def may_persist(self) -> bool:
        """Whether client and server want to keep the connection after this response; asked when its head is due."""

    def nothing_yet(self, sent: int) -> None:
        """The application has given an empty block after `sent` bytes of its body: it has nothing to send at the moment."""

    def send(self, data: bytes, *, last: bool, head: bytes = b"") -> None:
        """Send `head`, then `data`. `last`: the response ends here, so the caller need not wait for a slow reader."""

    def send_file(self, head: bytes, fd: int, offset: int, count: int) -> None:
        """Send `head`, then `count` bytes of the file, and end the response. The descriptor is the caller's."""


def client_disconnected() -> Disconnected:
    """The exception to raise when a send fails because the client has disconnected. Does not return in a child that the
    application has forked: such a child ends here (`starman.application_forks`)."""
    application_forks.end_child()
    return Disconnected()
