"""Births: how molds and workers come to be. Performs what the supervisor has decided; decides nothing."""

from __future__ import annotations

import gc

from starman.process.forking import fork
from starman.process.long_text import prepared
from starman.process.messages import FROM_MOLD, FROM_WORKER, Role, Spawn
from starman.process.worker.mold import become_mold

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from starman.process.channel import Channel
    from starman.process.master.links import Link, Links
    from starman.process.master.scoreboard_reader import ScoreboardReader
    from starman.process.messages import Message
    from starman.process.spec import WorkerSpec
    from starman.process.supervision import actions


class Births:
    """The master's way to new children. Its loop alone calls."""

    __slots__ = ("_abandon", "_links", "_on_exit", "_on_spawned", "_reader", "_spec")

    def __init__(
        self,
        spec: WorkerSpec,
        links: Links,
        reader: ScoreboardReader,
        abandon: Callable[[], None],
        born: Callable[[Link, int], None],
        died: Callable[[int, str], None],
    ) -> None:
        """`abandon` has a fresh fork close what is the master's. `born` is told the link of a child whose process id is known,
        `died` the number of one that could not be, and how."""
        self._abandon = abandon
        self._spec = spec
        self._links = links
        self._reader = reader
        self._on_spawned = born
        self._on_exit = died

    def fork_mold(self, action: actions.ForkMold) -> None:
        channel = self._open(action.child, FROM_MOLD)
        if channel is None:
            return
        # The mold's collector then leaves the headers of what it inherits alone, and the pages stay shared.
        gc.freeze()
        try:
            pid = fork()
        except OSError as error:
            gc.unfreeze()
            channel.close()
            self._on_exit(action.child, f"could not be forked ({error.strerror})")
            return
        if pid == 0:
            become_mold(channel, self._spec, self._abandon)
        gc.unfreeze()
        channel.close()
        link = self._links.find_link(action.child)
        assert link is not None
        self._on_spawned(link, pid)

    def spawn_mold(self, action: actions.SpawnMold) -> None:
        self._ask(action.origin, action.child, Spawn(Role.MOLD, 0, settings=action.settings))

    def spawn(self, action: actions.SpawnWorker) -> None:
        self._ask(action.mold, action.child, Spawn(Role.WORKER, action.slot, settings=action.settings))

    def _ask(self, mold: int, number: int, order: Spawn) -> None:
        """Have a mold fork the child `number`, whose channel goes with the order."""
        channel = self._open(number, FROM_WORKER if order.role is Role.WORKER else FROM_MOLD)
        if channel is None:
            return
        if order.role is Role.WORKER:
            order.place = self._reader.assign_place(number)
        born, link = self._links.find_link(number), self._links.find_link(mold)
        assert born is not None
        born.slot = order.slot
        board = self._spec.scoreboard.fd
        fds = [*channel.fds(), board] if order.place and board >= 0 else channel.fds()
        asked = link is not None and self._send(link, order, fds)
        channel.close()
        if not asked:
            self._on_exit(number, "could not be forked (its mold does not answer)")

    def _send(self, link: Link, order: Spawn, fds: list[int]) -> bool:
        parts, order.settings = prepared(order.settings)
        for part in parts:
            self._links.send(link, part)
        return self._links.send(link, order, fds)

    def _open(self, number: int, kinds: tuple[type[Message], ...]) -> Channel | None:
        """The child's end of a new link; None, and the child is dead, when descriptors run out."""
        try:
            return self._links.open_link(number, kinds)
        except OSError as error:
            self._on_exit(number, f"could not be forked ({error.strerror})")
            return None
