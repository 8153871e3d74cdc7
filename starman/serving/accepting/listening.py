"""The listening sockets of one worker, as its acceptor uses them."""

from __future__ import annotations

import _socket
import select
import socket
from typing import Protocol

from starman.log.output import FIRST_FREE
from starman.standard_streams import move_descriptor_up


class Listening(Protocol):
    """A listener: a socket that is bound, listening and non-blocking, and whether its clients use TLS."""

    @property
    def socket(self) -> socket.socket:
        """The listening socket."""

    @property
    def secure(self) -> bool:
        """Whether clients use TLS."""


class ListeningSocket(socket.socket):
    """A listener or an accepted socket. Its family and type are plain numbers.

    `socket.socket` makes enum members of them, five times for each connection, which takes 3 µs. `_socket.socket`
    itself would not do: uvloop does not recognise it as a socket, and would close it twice.
    """

    __slots__ = ()
    family = _socket.socket.family  # type: ignore[assignment]
    type = _socket.socket.type  # type: ignore[assignment]

    def accept(self) -> tuple[socket.socket, object]:
        descriptor, address = self._accept()  # type: ignore[attr-defined]
        if descriptor < FIRST_FREE:
            descriptor = move_descriptor_up(descriptor)
        return ListeningSocket(self.family, self.type, self.proto, descriptor), address


def has_waiting_connection(listener: socket.socket) -> bool:
    """Return whether a connection waits to be accepted."""
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    return bool(poll.poll(0))
