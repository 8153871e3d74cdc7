"""Counts refused messages and connections, for the metrics. Loop only, unless a method says otherwise."""

from __future__ import annotations

from collections import Counter, deque
from typing import Final

# The names of connections that were closed without an answer of HTTP.
TLS_FAILURES: Final = "tls_failures"
PROXY_FAILURES: Final = "proxy_failures"


class RefusalCounts:
    """closed: how many connections were closed without an answer of HTTP: TLS_FAILURES, PROXY_FAILURES."""

    __slots__ = ("_answered", "_news", "closed")

    def __init__(self) -> None:
        self._answered: Counter[int] = Counter()
        # Appending to a deque is one step, so threads need no lock.
        self._news: deque[int] = deque()
        self.closed: Counter[str] = Counter()

    def note(self, status_code: int) -> None:
        """A message is answered with an error by the server, in place of the application. Any thread."""
        self._news.append(status_code)

    def answered(self) -> Counter[int]:
        """How many messages were answered so, by status code."""
        while self._news:
            self._answered[self._news.popleft()] += 1
        return self._answered
