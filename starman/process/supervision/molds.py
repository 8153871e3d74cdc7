"""The molds that can fork, by generation: which are needed, and which are retired. Pure; part of the supervisor."""

from __future__ import annotations

from starman.process.supervision.actions import ForkMold, SpawnMold
from starman.process.supervision.rollout import PRISTINE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from starman.process.supervision.backoff import Backoff
    from starman.process.supervision.child import Child, Mold
    from starman.process.supervision.children import Children
    from starman.process.supervision.rollout import Rollout
    from starman.process.supervision.slots import Slot


class Molds:
    """One pristine mold, and one for each generation that preloads. `Children` also contains the retired molds."""

    __slots__ = ("_backoff", "_children", "_molds", "_rollout")

    def __init__(self, children: Children, rollout: Rollout, backoff: Backoff) -> None:
        """`backoff` decides when a mold may be started again."""
        self._children = children
        self._rollout = rollout
        self._backoff = backoff
        self._molds: dict[int, Mold] = {}

    def remove_mold(self, child: Child) -> bool:
        """Remove `child`, which has exited. Returns whether it was one of these molds."""
        if self._molds.get(child.generation) is not child:
            return False
        del self._molds[child.generation]
        return True

    def mold_for(self, generation: int) -> Mold | None:
        """The mold that forks workers of this generation; None when it cannot fork now."""
        mold = self._molds.get(generation if self._rollout.terms_of(generation).preload else PRISTINE)
        return mold if mold is not None and mold.ready and mold.failure is None else None

    @property
    def pristine_number(self) -> int | None:
        """The number of the mold that can fork processes without the application; None when it cannot fork now."""
        mold = self.mold_for(PRISTINE)
        return None if mold is None else mold.number

    def plan_molds(self, slots: Iterable[Slot], now: float, *, only_pristine: bool = False) -> None:
        """Start the molds that workers of `slots` may need, and retire the others. `only_pristine`: start no mold yet
        that loads the application."""
        generations = () if only_pristine else self._rollout.used_generations(slots)
        wanted = {PRISTINE, *(number for number in generations if self._rollout.terms_of(number).preload)}
        for generation in self._molds.keys() - wanted:
            self._children.retire_mold(self._molds.pop(generation), now)
        pristine = self._molds.get(PRISTINE)
        for generation in sorted(wanted - self._molds.keys()):
            starting = sum(mold.starting for mold in self._molds.values())
            if not self._backoff.allows(now, starting):
                return
            if generation == PRISTINE:
                self._molds[generation] = mold = self._children.add_mold(generation, now)
                self._children.add_action(ForkMold(mold.number))
            elif pristine is not None and pristine.ready and pristine.failure is None:
                self._molds[generation] = mold = self._children.add_mold(generation, now)
                mold.forked_by = pristine.number
                settings = self._rollout.terms_of(generation).settings
                self._children.add_action(SpawnMold(mold.number, generation, pristine.number, settings))
