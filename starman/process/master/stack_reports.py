"""Logs the stacks that workers and molds write to their pipes: one entry of the error log for each dump."""

from __future__ import annotations

from starman import log
from starman.process.worker.stacks import arranged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from starman.process.master.links import Link


class StackReports:
    """Logs the dumps of all children. Only the master's loop calls."""

    __slots__ = ("_describe_requests", "_links")

    def __init__(self, links: Iterable[Link], describe_requests: Callable[[Link, float], str]) -> None:
        """`describe_requests` names the requests that the worker of a link is serving, at an instant."""
        self._links = links
        self._describe_requests = describe_requests

    def next_instants(self) -> list[float]:
        """The monotonic instants at which dumps will be finished."""
        return [link.stacks.due for link in self._links if link.stacks is not None and link.stacks.due is not None]

    def log_finished(self, now: float) -> None:
        """Log the dumps that are finished."""
        for link in self._links:
            if link.stacks is not None and link.stacks.due is not None and link.stacks.due <= now:
                self._log_dump(link, now)

    def log_last(self, link: Link, now: float) -> None:
        """Log what is left of a child's dump. The child has ended."""
        if link.stacks is not None:
            link.stacks.read()
            if link.stacks.due is not None:
                self._log_dump(link, now)

    def _log_dump(self, link: Link, now: float) -> None:
        assert link.stacks is not None
        text = arranged(link.stacks.take_text())
        if text:
            write = log.error if text.startswith("Fatal") else log.info
            write(f"stacks of {link.title}{self._describe_requests(link, now)}\n{text}")
