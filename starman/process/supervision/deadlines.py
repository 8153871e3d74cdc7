"""Deadlines of children that start: what happens to one that is late, and what the log says. Pure; part of the supervisor.

A late child gets a little longer to write the stacks of its threads to the error log: they show where an import hangs. A worker
that was not forked in time has no process yet. Then the mold that should have forked it writes its stacks, and is replaced.
"""

from __future__ import annotations

from starman.process.supervision.actions import DumpStacks
from starman.process.supervision.child import Mold, State
from starman.process.supervision.watchdog import STACKS_SLACK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from starman.process.supervision.child import Child
    from starman.process.supervision.children import Children
    from starman.process.supervision.rollout import Terms


class BootDeadlines:
    """The deadlines of one children."""

    __slots__ = ("_asked_until", "_children", "_terms_of")

    def __init__(self, children: Children, terms_of: Callable[[int], Terms]) -> None:
        """`terms_of` gives the terms of a generation."""
        self._children = children
        self._terms_of = terms_of
        self._asked_until = float("-inf")

    def extend(self, child: Child, now: float) -> bool:
        """The deadline of `child`, which is not ready, has passed. Sets its failure; returns whether it gets a little longer."""
        if child.failure is not None:
            return False  # it was extended before, or has said itself why it cannot start, and should have ended
        timeout = f"within {self._terms_of(child.generation).boot_timeout:g} s (boot_timeout)"
        if child.state is State.ASKED:
            child.failure = f"its mold did not fork it {timeout}", ""
            mold = None if child.origin is None else self._children.find(child.origin)
            if isinstance(mold, Mold) and mold.ready and mold.failure is None:
                mold.failure = f"it did not fork {child.name} {timeout}", ""
                mold.deadline = now + STACKS_SLACK
                self._ask(mold, now)
            return False
        child.failure = f"it was not ready {timeout}", ""
        child.deadline = now + STACKS_SLACK
        # Members that start together hang in the same place, so the stacks of one are enough.
        if now >= self._asked_until:
            self._ask(child, now)
        return True

    def _ask(self, child: Child, now: float) -> None:
        assert child.failure is not None
        self._asked_until = now + STACKS_SLACK
        self._children.order(DumpStacks(child.number, f"{child.title()} is cut: {child.failure[0]}"))
