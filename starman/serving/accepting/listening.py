"""The listening sockets of one worker, in the form that its acceptor uses."""

from __future__ import annotations

import _socket
import select
import socket
from typing import Protocol

from starman.log.output import FIRST_FREE
from starman.standard_streams import move_descriptor_up


class Listening(Protocol):
    """A listener for the acceptor: its socket, bound, listening and non-blocking, and whether its clients use TLS."""

    @property
    def socket(self) -> socket.socket:
        """The listening socket."""

    @property
    def secure(self) -> bool:
        """Whether TLS is spoken there."""


class ListeningSocket(socket.socket):
    """A listener or an accepted socket, whose family and type are plain numbers: making enum members of them, five times for each
    connection, takes 3 µs. Not `_socket.socket` itself: uvloop would not recognise that as a socket, and would close it twice.
    """

    __slots__ = ()
    family = _socket.socket.family  # type: ignore[assignment]
    type = _socket.socket.type  # type: ignore[assignment]

    def accept(self) -> tuple[socket.socket, object]:
        descriptor, address = self._accept()  # type: ignore[attr-defined]
        if descriptor < FIRST_FREE:
            descriptor = move_descriptor_up(descriptor)
        return ListeningSocket(self.family, self.type, self.proto, descriptor), address


def waits(listener: socket.socket) -> bool:
    """Whether a connection waits to be accepted."""
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    return bool(poll.poll(0))
