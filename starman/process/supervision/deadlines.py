"""Deadlines of members that start: what happens to one that is late, and what the log says. Pure; part of the roster.

A late member gets a little longer to write the stacks of its threads to the error log: they show where an import hangs. A worker
that was not forked in time has no process yet. Then the mold that should have forked it writes its stacks, and is replaced.
"""

from __future__ import annotations

from starman.process.supervision.actions import AskStacks
from starman.process.supervision.child import Mold, State
from starman.process.supervision.watchdog import STACKS_SLACK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from starman.process.supervision.child import Member
    from starman.process.supervision.children import Crew
    from starman.process.supervision.rollout import Terms


class BootDeadlines:
    """The deadlines of one crew."""

    __slots__ = ("_asked_until", "_crew", "_terms_of")

    def __init__(self, crew: Crew, terms_of: Callable[[int], Terms]) -> None:
        """`terms_of` gives the terms of a generation."""
        self._crew = crew
        self._terms_of = terms_of
        self._asked_until = float("-inf")

    def extend(self, member: Member, now: float) -> bool:
        """The deadline of `member`, which is not ready, has passed. Sets its failure; returns whether it gets a little longer."""
        if member.failure is not None:
            return False  # it was extended before, or has said itself why it cannot start, and should have ended
        timeout = f"within {self._terms_of(member.generation).boot_timeout:g} s (boot_timeout)"
        if member.state is State.ASKED:
            member.failure = f"its mold did not fork it {timeout}", ""
            mold = None if member.origin is None else self._crew.find(member.origin)
            if isinstance(mold, Mold) and mold.ready and mold.failure is None:
                mold.failure = f"it did not fork {member.name} {timeout}", ""
                mold.deadline = now + STACKS_SLACK
                self._ask(mold, now)
            return False
        member.failure = f"it was not ready {timeout}", ""
        member.deadline = now + STACKS_SLACK
        # Members that start together hang in the same place, so the stacks of one are enough.
        if now >= self._asked_until:
            self._ask(member, now)
        return True

    def _ask(self, member: Member, now: float) -> None:
        assert member.failure is not None
        self._asked_until = now + STACKS_SLACK
        self._crew.order(AskStacks(member.number, f"{member.title()} is cut: {member.failure[0]}"))
