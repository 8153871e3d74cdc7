"""The listening sockets of one worker, as its acceptor has them."""

from __future__ import annotations

import _socket
import select
import socket
from typing import Protocol

from starman.output import FIRST_FREE
from starman.standard import out_of_the_way


class Listening(Protocol):
    """What is needed of a listener: its socket, bound, listening and non-blocking, and whether TLS is spoken there."""

    @property
    def socket(self) -> socket.socket:
        """The listening socket."""

    @property
    def secure(self) -> bool:
        """Whether TLS is spoken there."""


class ListeningSocket(socket.socket):
    """A listener, and what it accepts: their families and types are plain numbers. To make members of an enum of them, five times
    for each connection, takes 3 µs. Not the bare socket below it: uvloop would not know it for a socket, and close it twice."""

    __slots__ = ()
    family = _socket.socket.family  # type: ignore[assignment]
    type = _socket.socket.type  # type: ignore[assignment]

    def accept(self) -> tuple[socket.socket, object]:
        descriptor, address = self._accept()  # type: ignore[attr-defined]
        if descriptor < FIRST_FREE:
            descriptor = out_of_the_way(descriptor)
        return ListeningSocket(self.family, self.type, self.proto, descriptor), address


def waits(listener: socket.socket) -> bool:
    """Whether a connection waits to be accepted."""
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    return bool(poll.poll(0))
