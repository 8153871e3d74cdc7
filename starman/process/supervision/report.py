"""What the master reports of itself and its workers to the observer: plain data. Decides nothing.

Instants are monotonic. The observer adds what it reads itself, and makes the status document (`starman.observer`).
"""

from __future__ import annotations

from starman import log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from starman.process.supervision.child import Worker
    from starman.process.supervision.supervisor import Supervisor


def make_report(supervisor: Supervisor) -> dict[str, Any]:
    """The state of the supervisor: its phase, roll-out and workers."""
    status = supervisor.server_status()
    black_box = supervisor.children.black_box
    return {
        "phase": status.phase.value,
        "restarting": status.restarting,
        "generation": supervisor.rollout.generation,
        "ready": status.ready,
        "wanted": status.wanted,
        "log_lines": log.counts(),
        "respawns": dict(supervisor.children.respawns.reasons),
        "workers": [_worker_report(worker) for worker in supervisor.children.workers()],
        "lost_workers": black_box.lost,
        "lost_count": black_box.lost_count,
        "slow_requests": black_box.slow,
        "replacements": black_box.replaced,
        "replacement_count": black_box.replaced_count,
        "upgraded_at": black_box.upgraded_at,
        "failed_restart": black_box.failed_restart,
        "failed_restart_count": black_box.failed_restart_count,
    }


def _worker_report(worker: Worker) -> dict[str, Any]:
    return {
        "child": worker.number,
        "number": worker.slot,
        "pid": worker.pid,
        "state": worker.state.value,
        "generation": worker.generation,
        "requested_at": worker.requested_at,
        "ready_at": worker.ready_at,
        "deadline": worker.deadline,
        "to_replace": worker.to_replace,
        "silent": worker.silent,
    }
