"""The interface between a connection's `Writer`, which threads call, and the loop's side of the connection.

Must not import the connection or the `Relay`: both implement the protocols of this module.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from starman.serving.sending.response_memory import UnsentMemory
from starman.serving.sending.sendfile import FileRange

if TYPE_CHECKING:
    import socket
    from queue import SimpleQueue

Unsent = memoryview | UnsentMemory | FileRange


class ApplicationRelay(Protocol):
    """The methods of a `Relay` (`gunicorn_socket.relay`) that the application's side of a detached connection calls.

    socket: the application's end of the relay's pair of sockets.
    """

    socket: socket.socket

    def end(self, close: Callable[[], None]) -> None:
        """End the connection after everything is passed on, then call `close`. Loop."""

    def reset(self) -> None:
        """Reset the connection. Loop."""


# The answer to `detach_transport`. None: no relay is needed. OSError: the relay could not be made, and the connection
# is lost.
RelayAnswer = ApplicationRelay | OSError | None

# Called when the loop has sent what was handed over, or never will. The writer's lock is held: the call must not
# block.
OnSent = Callable[[], None]


class LoopSide(Protocol):
    """What a thread may ask of the connection, by way of the loop's queue only."""

    def take_over(self, unsent: Unsent) -> None:
        """Send `unsent` behind everything before it, then call `Writer.on_queue_sent`. A file that is last there and
        is taken over again has grown."""

    def on_exchanges_done(self) -> None:
        """The exchanges have come to an end: close, refuse or read on, whatever is due."""

    def reset(self) -> None:
        """Reset the connection: its socket is dead, or its response broke off."""

    def detach_transport(self, reply: SimpleQueue[RelayAnswer]) -> None:
        """Close the transport without sending anything to the peer, and put None into `reply`. If unread bytes were
        received, put the Relay that leads to the transport, or the OSError that prevents one."""
