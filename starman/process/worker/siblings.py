"""The load of the workers that share listeners, on the scoreboard: each worker publishes its own, and reads the
others'."""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from starman.process.scoreboard import WorkerPage


class SiblingLoad:
    """The `Siblings` of a worker's service, by which its acceptor balances connections. Loop only."""

    __slots__ = ("_page",)

    def __init__(self, page: WorkerPage | None) -> None:
        """`page`: the worker's page of the scoreboard; None if it has none, and then no siblings are seen."""
        self._page = page

    def publish_load(self, connections: int, *, crowded: bool) -> None:
        """Publish the number of connections, and whether the worker is crowded, for the other workers to balance
        by."""
        if self._page is not None:
            self._page.write_load(connections, crowded=crowded)

    def fewest_connections(self) -> int | None:
        """The fewest connections that another worker has, of those that accept and are not crowded. None: there is
        none."""
        return None if self._page is None else self._page.fewest_connections(time.monotonic())

    def is_alone(self) -> bool:
        """Whether the scoreboard shows no other worker."""
        return self._page is not None and self._page.is_alone(time.monotonic())
