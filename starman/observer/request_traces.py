"""Gives the finished requests that workers send to the clients of `starman-uv trace`. Loop only.

Workers get the filters of all clients, and each client gets what matches its own. A client that does not read loses
requests, and is told how many.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections import deque

from starman.observer.master_link import MasterSilentError
from starman.process.observer_messages import LONGEST_FILTERS
from starman.serving.access_log.trace_filter import TraceFilter, filters_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# How many requests wait for a client to read. Further ones are lost to it.
MOST_WAITING = 20_000
# How long (seconds) changes of the filters are gathered, so that the master gets few messages.
_GATHER_SECONDS = 0.05
# The largest packet of a worker (bytes): a record may be larger than `serving.request_trace.PACKET_BYTES`.
_PACKET_BYTES = 131_072
# How many packets of one worker are read at a time.
_MOST_PACKETS = 16


class Subscription:
    """One client's trace. `changed` is set when there is something to take."""

    __slots__ = ("_lines", "_lost", "changed", "filter")

    def __init__(self, chosen: TraceFilter) -> None:
        self.filter = chosen
        self.changed = asyncio.Event()
        self._lines: deque[bytes] = deque()
        self._lost = 0

    def add(self, line: bytes) -> None:
        """A request for the client, as a line of JSON."""
        if len(self._lines) >= MOST_WAITING:
            self._lost += 1
        else:
            self._lines.append(line)
        self.changed.set()

    def add_lost(self, count: int) -> None:
        """A worker has lost requests; some of them may not have been for this client."""
        self._lost += count
        self.changed.set()

    def take(self, most: int) -> bytes:
        """Lines for the client: at most this many requests, and how many were lost."""
        lines = [b'{"ok": true, "request": %s}\n' % self._lines.popleft() for _ in range(min(most, len(self._lines)))]
        if self._lost:
            lines.append(b'{"ok": true, "lost": %d}\n' % self._lost)
            self._lost = 0
        if not self._lines:
            self.changed.clear()
        return b"".join(lines)


class RequestTraces:
    """The traces of all clients, and the sockets of the workers."""

    __slots__ = ("_order", "_sources", "_subscriptions", "_timer")

    def __init__(self, order: Callable[[str], None]) -> None:
        """`order`: has the workers trace the requests that match these filters, a text; "" for none. May raise
        MasterSilentError."""
        self._order = order
        self._subscriptions: set[Subscription] = set()
        self._sources: set[socket.socket] = set()
        self._timer: asyncio.TimerHandle | None = None

    def subscribe(self, chosen: TraceFilter) -> Subscription:
        """Begin a trace. Raises ValueError when there are too many."""
        filters = [each.filter for each in self._subscriptions]
        if len(filters_text([*filters, chosen])) > LONGEST_FILTERS:
            raise ValueError("too many traces at a time: end another one, or use a shorter filter")
        subscription = Subscription(chosen)
        self._subscriptions.add(subscription)
        self._schedule_order()
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """End a trace."""
        self._subscriptions.discard(subscription)
        self._schedule_order()

    def _schedule_order(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_GATHER_SECONDS, self._give_order)

    def _give_order(self) -> None:
        self._timer = None
        if not self._subscriptions:
            for source in list(self._sources):
                self._close_source(source)
        with contextlib.suppress(MasterSilentError):  # it has ended, or the observer is about to be replaced
            self._order(filters_text([each.filter for each in self._subscriptions]))

    def add_source(self, fd: int) -> None:
        """Read the requests of one more worker from this socket, which is owned from now on."""
        source = socket.socket(fileno=fd)
        source.setblocking(False)
        self._sources.add(source)
        asyncio.get_running_loop().add_reader(fd, self._read, source)

    def _close_source(self, source: socket.socket) -> None:
        asyncio.get_running_loop().remove_reader(source.fileno())
        self._sources.discard(source)
        source.close()

    def _read(self, source: socket.socket) -> None:
        for _ in range(_MOST_PACKETS):
            try:
                packet = source.recv(_PACKET_BYTES)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                packet = b""
            if not packet:
                self._close_source(source)
                return
            # An application may have spoiled its worker, and the observer goes on with the others.
            with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError, RecursionError):
                self._distribute(packet)

    def _distribute(self, packet: bytes) -> None:
        lost, *lines = packet.split(b"\n")
        count = int(lost)
        for subscription in self._subscriptions:
            if count:
                subscription.add_lost(count)
        for line in lines:
            record = json.loads(line)
            for subscription in self._subscriptions:
                if subscription.filter.matches(record):
                    subscription.add(line)
