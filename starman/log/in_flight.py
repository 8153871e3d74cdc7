"""Describes requests in flight for the error log: method, target and age, the oldest first."""

from __future__ import annotations

import math

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# How many requests a line of the log names.
MOST_NAMED = 8


def printable(field: bytes) -> str:
    """Escape a method or target, which clients choose, for a line of the log."""
    return field.decode("latin-1").encode("unicode_escape").decode("ascii")


def counted(number: int, noun: str, verb: str = "") -> str:
    """`1 request`, `2 requests`; with the verb "are": `1 request is`, `2 requests are`."""
    words = f"{number} {noun if number == 1 else f'{noun}s'}"
    return f"{words} {'is' if number == 1 else 'are'}" if verb else words


def stopping_line(count: int, seconds: float, second: str, *, complete: bool = True) -> str:
    """The line of the log when a server begins to stop with `count` requests in flight. `second`: what would cut
    them. `complete`: whether there are no others."""
    if not count and complete:
        return "stopping: no request is in flight"
    them = "it" if count == 1 else "them"
    requests = counted(count, "request", "are") if complete else f"at least {counted(count, 'request', 'are')}"
    return f"stopping: {requests} in flight and may take {seconds:g} s to finish; {second} aborts {them}"


def while_serving(requests: Sequence[tuple[str, float]], now: float, others: int = 0) -> str:
    """` while serving GET /x (for 2.1 s), GET /y (for 0.3 s)`; "" for none.

    Each request is its line and the instant at which it began, on the same clock as `now`. At most MOST_NAMED are
    named. `others`: the number of further requests in flight, with unknown request lines.
    """
    if not requests:
        return f" with {counted(others, 'request')} in flight" if others else ""
    oldest = sorted(requests, key=lambda request: request[1])
    names = [f"{line} (for {_age(since, now)})" for line, since in oldest[:MOST_NAMED]]
    more = len(oldest) - len(names) + others
    return f" while serving {', '.join(names)}{f' and {more} more' if more else ''}"


def _age(since: float, now: float) -> str:
    """The age of a request, or "an unknown time" if the worker has recorded no valid start."""
    age = now - since
    return f"{max(0.0, age):.1f} s" if math.isfinite(age) else "an unknown time"
