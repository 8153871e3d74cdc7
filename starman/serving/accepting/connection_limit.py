"""Limits the connections of a worker, and chooses which one to close when there is no room for a new one. Loop only.

There are two limits: a number (`max_connections`), and the descriptors of the process, of which some are reserved for
the application. The kernel gives each new descriptor the lowest free number. So the number of a new socket shows how
many descriptors the server and the application use.
"""

from __future__ import annotations

import contextlib
import os
import resource
import time
from collections import deque
from typing import TYPE_CHECKING

from starman.config.kinds import AUTO
from starman.serving.accepting.proxy_header import ProxyHeaderReader
from starman.serving.connections.connection import Connection
from starman.serving.tls.handshake import Handshake

if TYPE_CHECKING:
    from starman.serving.context import ServiceContext

    Evictable = Connection | Handshake | ProxyHeaderReader

# The default maximum. An idle connection takes 4 KB, so these take 260 MB.
_MOST = 65_536
# The descriptors reserved for the application: an eighth, within these bounds, and at most half of all.
_LEAST_RESERVE, _MOST_RESERVE = 64, 1024
# This many connections may use reserved descriptors: an application that uses up the others must not stop the service.
_LEAST_CONNECTIONS = 16
# How long (seconds) to wait before the next search for a connection to close. Longer if the last search took long.
_PAUSE = 0.05
_SEARCH_PAUSE_FACTOR = 10
# At most this many connections are closed per tick.
_MOST_AT_ONCE = 256
# The two limits, for the error log.
_A_NUMBER = "max_connections"
_DESCRIPTORS = "the descriptors that are left are kept for the application"
# The usual soft limit of descriptors, for a system that does not tell it.
_USUAL_LIMIT = 1024


class ConnectionLimit:
    """The connection limit of one worker.

    total: how many connections were ever accepted.
    """

    __slots__ = ("_candidates", "_ceiling", "_context", "_is_over", "_most", "_next_search_at", "total")

    def __init__(self, context: ServiceContext, most: int) -> None:
        """`most` is max_connections; AUTO means as many as there are descriptors."""
        try:
            soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        except OSError:
            soft = _USUAL_LIMIT  # a sandbox forbids getrlimit(2); the master has logged it
        if soft == resource.RLIM_INFINITY:
            soft = 1 << 30
        self._ceiling = soft - min(max(soft // 8, _LEAST_RESERVE), _MOST_RESERVE, soft // 2)
        self._most = min(self._ceiling, _MOST) if most == AUTO else most
        self._context = context
        # The connections that may be closed, in this order, as of the last search.
        self._candidates: deque[tuple[tuple[int, float], Evictable]] = deque()
        self._next_search_at = 0.0
        self.total = 0
        # Whether the last accepted connection has a descriptor that is reserved for the application.
        self._is_over = False

    def is_reached(self, pending: int) -> bool:
        """Return whether there is no room for another connection; `pending` ones are being made. Then call
        `make_room`."""
        if self._is_over:
            self._is_over = _lowest_free() >= self._ceiling
        count = len(self._context.connections) + pending
        return count >= self._most or (self._is_over and count >= _LEAST_CONNECTIONS)

    def make_room(self, pending: int) -> bool:
        """Close an idle connection for a new one. False means that none is idle, and nothing may be accepted."""
        limit = _DESCRIPTORS if self._is_over else _A_NUMBER
        if self.evict_one(limit):
            return True
        if pending:  # these connections will be idle or busy in a moment
            return False
        self._context.shortages.add(
            "no connection is accepted for now, because none is idle that could be closed",
            f"{len(self._context.connections)} are open ({limit})",
        )
        return False

    def count_accepted(self, fd: int) -> None:
        """Count a connection that was accepted as descriptor `fd`, and enforce the reserve of descriptors."""
        self.total += 1
        if fd < self._ceiling:
            return
        if len(self._context.connections) < _LEAST_CONNECTIONS:
            self._is_over = True
            self._context.shortages.add(
                f"the application uses so many descriptors that at most {_LEAST_CONNECTIONS} connections are accepted",
                f"a new connection is descriptor {fd}, of {self._ceiling} without the reserve (ulimit -n)",
            )
        elif not self.evict_one():
            self._is_over = True

    def tick(self) -> None:
        """Close idle connections to restore the reserve: a connection with a request takes a second descriptor.

        Forget the last search as soon as the next one is allowed: its list keeps closed connections in memory.
        """
        if len(self._context.connections) * 4 > self._ceiling:
            for _ in range(min(_lowest_free() - self._ceiling + 1, _MOST_AT_ONCE)):
                if not self.evict_one():
                    break
        if self._candidates and time.monotonic() >= self._next_search_at:
            self._candidates.clear()

    def evict_one(self, limit: str = _DESCRIPTORS) -> bool:
        """Close the connection that is idle for longest, but none with a request under way. False: there is none.

        `limit` is the one that is reached.
        """
        client = self._next_candidate()
        if client is None:
            return False
        self._context.shortages.add(
            "idle connections are closed to make room for new ones",
            f"{len(self._context.connections)} are open ({limit})",
        )
        client.evict()
        return True

    def _next_candidate(self) -> Evictable | None:
        now = time.monotonic()
        for search in (False, True):
            if search and now < self._next_search_at:
                break
            if search:
                found = [(rank, client) for client in self._context.connections if (rank := _rank(client, now)) is not None]
                self._candidates = deque(sorted(found, key=lambda each: each[0]))  # type: ignore[arg-type]
                self._next_search_at = now + max(_PAUSE, (time.monotonic() - now) * _SEARCH_PAUSE_FACTOR)
            while self._candidates:
                rank, client = self._candidates.popleft()
                if client in self._context.connections and _rank(client, now) == rank:
                    return client
        return None


def _rank(client: object, now: float) -> tuple[int, float] | None:
    return client.eviction_rank(now) if isinstance(client, Connection | Handshake | ProxyHeaderReader) else None


def _lowest_free() -> int:
    """Return the number of the next descriptor."""
    with contextlib.suppress(OSError):
        fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        os.close(fd)
        return fd
    return 1 << 30
