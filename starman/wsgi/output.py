"""The interface through which a call of an application sends its response."""

from __future__ import annotations

from typing import Protocol

from starman import application_forks
from starman.errors import Disconnected


class Output(Protocol):
    """Sends the bytes of one call. `send`, `send_file` and `on_empty_block` raise Disconnected; the first two may
    block."""

    def harakiri(self) -> None:
        """End this worker after the response (`starman.harakiri` in the environ). May be called more than once."""

    def may_persist(self) -> bool:
        """Whether client and server allow the connection to persist after this response. Called when the head is
        made."""

    def on_empty_block(self, sent: int) -> None:
        """Note an empty block, after `sent` bytes of the body: the application has nothing to send at the moment."""

    def send(self, data: bytes, *, last: bool, head: bytes = b"") -> None:
        """Send `head`, then `data`. `last`: the response is complete, so the call need not wait for a slow client."""

    def send_file(self, head: bytes, fd: int, offset: int, count: int) -> None:
        """Send `head`, then `count` bytes of the file, and end the response. Does not close the descriptor."""


def client_disconnected() -> Disconnected:
    """The exception to raise when a send fails because the client has disconnected. Does not return in a child that
    the application has forked: such a child ends here (`starman.application_forks`)."""
    application_forks.end_child()
    return Disconnected()
