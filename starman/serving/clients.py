"""The clients of one worker: who is connected, and whose timeouts are to be looked after at which tick. Loop only.

Of many connections most are idle, and of those nothing is due before the end of keepalive_timeout, unless the client sends
something. They rest until then, and cost a tick nothing; the others are looked after at each.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Protocol


class Client(Protocol):
    """One client, as the service looks after it: a connection, or a handshake that is to become one."""

    def check(self, now: float) -> None:
        """Enforce the timeouts. `now` is monotonic."""

    def close_if_idle(self, since: float) -> None:
        """The worker drains: close, unless something is under way, or was until after `since` (monotonic)."""

    def cut(self) -> None:
        """End it at once, with a reset."""


class Clients:
    """A set of clients, each awake or at rest."""

    __slots__ = ("_awake", "_resting")

    def __init__(self) -> None:
        self._awake: set[Client] = set()
        # Each with the instant until which it rests. They begin to in the order of these instants, or nearly: all rest as long
        # after their last response, and whether that has come is seen once a tick.
        self._resting: dict[Client, float] = {}

    def __len__(self) -> int:
        return len(self._awake) + len(self._resting)

    def __iter__(self) -> Iterator[Client]:
        return chain(self._awake, self._resting)

    def __contains__(self, client: Client) -> bool:
        return client in self._awake or client in self._resting

    def awake(self) -> list[Client]:
        """Those that are not at rest. A client at rest has no request in flight."""
        return list(self._awake)

    def add(self, client: Client) -> None:
        """It has connected, and is awake."""
        self._awake.add(client)

    def discard(self, client: Client) -> None:
        """It has gone, if it was there."""
        self._awake.discard(client)
        self._resting.pop(client, None)

    def rest(self, client: Client, until: float) -> None:
        """Nothing is due of this one before `until` (monotonic), or before it wakes."""
        if client in self._awake:
            self._awake.remove(client)
            self._resting[client] = until

    def wake(self, client: Client) -> None:
        """Something has happened."""
        if self._resting.pop(client, None) is not None:
            self._awake.add(client)

    def due(self, now: float) -> list[Client]:
        """Whose timeouts are to be looked after now: all who are awake, and who has rested long enough, which wakes them."""
        rested = []
        for client, until in self._resting.items():
            if until > now:
                break
            rested.append(client)
        for client in rested:
            self.wake(client)
        return self.awake()
