"""The black box: the last lost workers, slow requests and reasons of replacements, and the last restart that failed.
Pure; part of the supervisor.

The observer shows it (`starman-uv status`). The lists are bounded, because the master must stay small.
"""

from __future__ import annotations

from starman.process.supervision.child import State

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from starman.process.messages import SlowRequest
    from starman.process.supervision.child import Worker

# How many lost workers, slow requests and replacements are kept. A slow request takes up to 5 kB.
MOST_LOST = 10
MOST_SLOW = 10
MOST_REPLACED = 20
# How much of a text is kept, in characters: a worker with many threads was serving many requests.
_CHARACTERS = 2000


class BlackBox:
    """What is kept. Each entry has the number and process id of the worker, and the monotonic instant `at`.

    lost: `how` says how the worker ended, and what it was serving. replaced: `reason` says why. slow: a
    request that has run for long, with its stack. The newest is last. failed_restart: `reason` and `details` say why
    the last restart that was given up has failed, at the instant `at`; None: none has.
    lost_count, replaced_count, failed_restart_count: since the start of this master. upgraded_at: when this program
    has taken over from another one in the same process (SIGUSR2), monotonic; None: it has not.
    """

    __slots__ = (
        *("failed_restart", "failed_restart_count", "lost", "lost_count", "replaced", "replaced_count", "slow"),
        "upgraded_at",
    )

    def __init__(self) -> None:
        self.lost: list[dict[str, Any]] = []
        self.replaced: list[dict[str, Any]] = []
        self.slow: list[dict[str, Any]] = []
        self.failed_restart: dict[str, Any] | None = None
        self.failed_restart_count = 0
        self.lost_count = 0
        self.replaced_count = 0
        self.upgraded_at: float | None = None

    def on_replaced(self, worker: Worker, reason: str, now: float) -> None:
        """A worker is to be replaced; `reason` completes a sentence."""
        self.replaced_count += 1
        self.replaced = [*self.replaced, _entry(worker, now, "reason", reason)][-MOST_REPLACED:]

    def on_failed_restart(self, reason: str, details: str, now: float) -> None:
        """A restart is given up: the old workers stay."""
        self.failed_restart_count += 1
        # The end of a traceback names the error.
        self.failed_restart = {"at": now, "reason": reason[:_CHARACTERS], "details": details[-_CHARACTERS:]}

    def on_slow_request(self, worker: Worker, report: SlowRequest, now: float) -> None:
        """A worker reports a slow request. The message has limited what it holds."""
        entry = _entry(worker, now, "request", report.line)
        entry.update(seconds=report.seconds, timed_out=report.timed_out, stack=report.stack)
        self.slow = [*self.slow, entry][-MOST_SLOW:]

    def on_exit(self, worker: Worker, how: str, now: float, status: int | None) -> None:
        """A worker has exited; `how` completes a sentence. `status`: its wait status; None: not known. Call it before
        the state of the worker is GONE."""
        in_order = status == 0 or (status is None and worker.state is State.DRAINING)
        if not (in_order and worker.ending) or worker.failure is not None:
            self.lost_count += 1
            reason = how if worker.failure is None else f"has failed: {worker.failure[0]}"
            self.lost = [*self.lost, _entry(worker, now, "how", reason)][-MOST_LOST:]


def _entry(worker: Worker, now: float, key: str, text: str) -> dict[str, Any]:
    return {"number": worker.slot, "pid": worker.pid, "at": now, key: text[:_CHARACTERS]}
