"""Requests the stacks of workers and molds, and logs what they write to their pipes: one entry of the error log for
each dump. Or collects what they write, for the observer."""

from __future__ import annotations

from starman import log
from starman.process.forking import FORCED_STACKS, STACKS
from starman.process.master.stack_pipe import FORCE_SECONDS
from starman.process.worker.stacks import arrange_stacks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from starman.process.master.link import Link


# How long (seconds) a collection for the observer waits for all children.
COLLECT_SECONDS = 0.8


class StackReports:
    """The dumps of all children. Only the master's loop calls."""

    __slots__ = ("_collected", "_collecting_until", "_describe_requests", "_late", "_links", "_requested", "_send_signal")

    def __init__(
        self,
        links: Iterable[Link],
        describe_requests: Callable[[Link, float], str],
        send_signal: Callable[[int, int], None],
    ) -> None:
        """`describe_requests` names the requests that the worker of a link is serving, at an instant. `send_signal`
        sends the child with a number a signal."""
        self._links = links
        self._describe_requests = describe_requests
        self._send_signal = send_signal
        # The children that have not written anything since the master requested their stacks: the instant at which to
        # force it, by the number of the child.
        self._requested: dict[int, float] = {}
        # A collection for the observer: until when it waits (None: there is none), and the dump of each child by its
        # number; None: it has not written anything yet.
        self._collecting_until: float | None = None
        self._collected: dict[int, str | None] = {}
        # The children that may write the stacks of a collection which is over. These are dropped.
        self._late: set[int] = set()

    def request(self, link: Link, now: float) -> None:
        """Have a child write its stacks, by force if it writes nothing within FORCE_SECONDS. A child without a pipe is
        not forced, because the master cannot see what it writes, and the force may crash it."""
        if link.stacks is not None and link.stacks.fd >= 0:
            self._requested[link.number] = now + FORCE_SECONDS
        self._send_signal(link.number, STACKS)

    def next_instants(self) -> list[float]:
        """The monotonic instants at which to call `log_finished`."""
        due = [link.stacks.due for link in self._links if link.stacks is not None and link.stacks.due is not None]
        until = [] if self._collecting_until is None else [self._collecting_until]
        return [*due, *self._requested.values(), *until]

    def collect(self, now: float, *, force: bool) -> None:
        """Have all children write their stacks, for `take_collected`. Does nothing while a collection is under way.

        force: also by FORCED_STACKS, as `request` does.
        """
        if self._collecting_until is not None:
            return
        self._collecting_until = now + COLLECT_SECONDS
        for link in self._links:
            if link.stacks is not None and link.stacks.fd >= 0 and link.pid is not None:
                self._collected[link.number] = None
                self._late.discard(link.number)
                if force:
                    self._requested[link.number] = now + FORCE_SECONDS
                self._send_signal(link.number, STACKS)

    def take_collected(self, now: float) -> list[tuple[str, int, int | None, str | None]] | None:
        """The result of the collection, once: title, number of the worker (0: another process), process id and stacks
        of each child. Stacks None: the child has written nothing in COLLECT_SECONDS. Returns None before, and without
        a collection."""
        if self._collecting_until is None or (self._collecting_until > now and None in self._collected.values()):
            return None
        self._collecting_until = None
        collected, self._collected = self._collected, {}
        self._late.update(number for number, dump in collected.items() if dump is None)
        return [(link.title, link.slot, link.pid, collected[link.number]) for link in self._links if link.number in collected]

    def log_finished(self, now: float) -> None:
        """Log the dumps that are finished, and force those that have not begun."""
        for link in self._links:
            if link.stacks is None:
                continue
            if link.stacks.due is not None:
                self._requested.pop(link.number, None)
                if link.stacks.due <= now:
                    self._log_dump(link, now)
            elif self._requested.get(link.number, now + 1) <= now:
                del self._requested[link.number]
                self._send_signal(link.number, FORCED_STACKS)

    def log_last(self, link: Link, now: float) -> None:
        """Log what is left of a child's dump. The child has ended."""
        self._requested.pop(link.number, None)
        self._collected.pop(link.number, None)
        self._late.discard(link.number)
        if link.stacks is not None:
            link.stacks.read()
            if link.stacks.due is not None:
                self._log_dump(link, now)

    def _log_dump(self, link: Link, now: float) -> None:
        assert link.stacks is not None
        dump = link.stacks.take_text()
        if link.number in self._collected:
            self._collected[link.number] = dump
        if (link.number in self._collected or link.number in self._late) and not dump.startswith("Fatal"):
            self._late.discard(link.number)
            return
        text = arrange_stacks(dump)
        if text:
            write = log.error if text.startswith("Fatal") else log.info
            write(f"stacks of {link.title}{self._describe_requests(link, now)}\n{text}")
