"""Counts why workers have ended, while the server runs. Pure."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from starman.process.supervision.child import Worker


class Respawns:
    """reasons: how many workers have ended for each reason: silent (killed by the watchdog), failed_start, recycled
    (it has asked for its end), restarted (a restart, an upgrade, or fewer workers wanted), crashed."""

    __slots__ = ("reasons",)

    def __init__(self) -> None:
        self.reasons = dict.fromkeys(("crashed", "failed_start", "recycled", "restarted", "silent"), 0)

    def count(self, worker: Worker) -> None:
        """The worker has ended."""
        if worker.silent:
            reason = "silent"
        elif worker.failure is not None:
            reason = "failed_start"
        elif not worker.ending:
            reason = "crashed"
        else:
            reason = "recycled" if worker.to_replace else "restarted"
        self.reasons[reason] += 1
