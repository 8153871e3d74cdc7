"""Boot deadlines: what happens to a child that does not become ready in time. Pure; part of the supervisor.

A late child gets a little longer, to write the stacks of its threads to the error log: they show where an import
hangs. A worker that was not forked in time has no process yet. Then the mold that should have forked it writes its
stacks, and is replaced.
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
    """The boot deadlines of all children."""

    __slots__ = ("_children", "_stacks_until", "_terms_of")

    def __init__(self, children: Children, terms_of: Callable[[int], Terms]) -> None:
        """`terms_of` returns the terms of a generation."""
        self._children = children
        self._terms_of = terms_of
        self._stacks_until = float("-inf")

    def extend(self, child: Child, now: float) -> bool:
        """Handle the passed deadline of `child`, which is not ready, and set its failure. Returns whether the child
        gets a little longer."""
        if child.failure is not None:
            return False  # it was extended before, or has reported a failure and should have exited by now
        timeout = f"within {self._terms_of(child.generation).boot_timeout:g} s (boot_timeout)"
        if child.state is State.REQUESTED:
            child.failure = f"it was not forked {timeout}", ""
            mold = None if child.forked_by is None else self._children.find_child(child.forked_by)
            if isinstance(mold, Mold) and mold.ready and mold.failure is None:
                mold.failure = f"it did not fork {child.name} {timeout}", ""
                mold.deadline = now + STACKS_SLACK
                self._request_stacks(mold, now)
            return False
        child.failure = f"it was not ready {timeout}", ""
        child.deadline = now + STACKS_SLACK
        # Children that start together hang in the same place, so the stacks of one are enough.
        if now >= self._stacks_until:
            self._request_stacks(child, now)
        return True

    def _request_stacks(self, child: Child, now: float) -> None:
        assert child.failure is not None
        self._stacks_until = now + STACKS_SLACK
        self._children.add_action(DumpStacks(child.number, f"{child.log_name()} is killed: {child.failure[0]}"))
