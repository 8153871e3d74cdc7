"""Counts refused messages and connections, for the metrics. Loop only."""

from __future__ import annotations

from collections import Counter


class RefusalCounts:
    """answered: how many messages were answered with an error before they became requests, by status code. closed: how
    many connections were closed without an answer of HTTP: `tls_failures`, `proxy_failures`."""

    __slots__ = ("answered", "closed")

    def __init__(self) -> None:
        self.answered: Counter[int] = Counter()
        self.closed: Counter[str] = Counter()
