"""The set of a worker's clients, and which of them a tick has to check for timeouts. Loop only.

Most of many connections are idle: nothing is due for them before the end of keepalive_timeout, unless the client sends
something. So a tick skips the idle clients, and checks the active ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Protocol


class Client(Protocol):
    """A member of the set: a connection, or a protocol that comes before or after one (TLS handshake, relay,
    lingering)."""

    def check_timeouts(self, now: float) -> None:
        """Enforce the timeouts. `now` is monotonic."""

    def close_if_idle(self, since: float) -> None:
        """Close if nothing is under way and nothing was after `since` (monotonic). Called while the worker drains."""

    def reset(self) -> None:
        """End the connection at once, with a reset."""


class Clients:
    """A set of clients, each active or idle."""

    __slots__ = ("_active", "_idle")

    def __init__(self) -> None:
        self._active: set[Client] = set()
        # Until when (monotonic) each client is idle. Nearly in order of that instant: every client is idle for the
        # same time after its last response, and a tick notices the end of the response.
        self._idle: dict[Client, float] = {}

    def __len__(self) -> int:
        return len(self._active) + len(self._idle)

    def __iter__(self) -> Iterator[Client]:
        return chain(self._active, self._idle)

    def __contains__(self, client: Client) -> bool:
        return client in self._active or client in self._idle

    def active(self) -> list[Client]:
        """Return the clients that are not idle. An idle client has no request in flight."""
        return list(self._active)

    def count_active(self) -> int:
        """Return how many clients are not idle. A client becomes idle a second after its last response."""
        return len(self._active)

    def add(self, client: Client) -> None:
        """Add a new client, as an active one."""
        self._active.add(client)

    def discard(self, client: Client) -> None:
        """Remove a client, if it is in the set."""
        self._active.discard(client)
        self._idle.pop(client, None)

    def set_idle(self, client: Client, until: float) -> None:
        """Skip `client` until `until` (monotonic), or until `set_active`."""
        if client in self._active:
            self._active.remove(client)
            self._idle[client] = until

    def set_active(self, client: Client) -> None:
        """Check `client` at each tick again: it has sent something."""
        if self._idle.pop(client, None) is not None:
            self._active.add(client)

    def due(self, now: float) -> list[Client]:
        """Return the clients to check now: the active ones, and the idle ones that are due, which become active."""
        expired = []
        for client, until in self._idle.items():
            if until > now:
                break
            expired.append(client)
        for client in expired:
            self.set_active(client)
        return self.active()
