"""The commands that the control socket accepts: what each does, and what it answers."""

from __future__ import annotations

from starman.config.kinds import MOST_WORKERS
from starman.serving.access_log.trace_filter import TraceFilter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from starman.observer.master_link import MasterLink
    from starman.observer.status import StatusReader


async def run_command(request: dict[str, Any], master: MasterLink, status: StatusReader) -> dict[str, Any]:
    """Carry out `request`, and return the fields of its answer; of a `trace`, only its filter. Raises ValueError for a
    request that is wrong, and MasterSilentError."""
    match request["command"]:
        case "status":
            return {"status": await status.read()}
        case "stacks":
            return {"processes": await status.read_stacks(force=request.get("force") is True)}
        case "settings":
            return status.read_settings()
        case "trace":
            return {"trace": TraceFilter.parse(request.get("filter", {}))}
        case "scale":
            workers = request.get("workers")
            if not isinstance(workers, int) or isinstance(workers, bool) or not 1 <= workers <= MOST_WORKERS:
                raise ValueError(f"scale takes a number of workers, from 1 to {MOST_WORKERS}")
            master.scale(workers)
        case "reload":
            master.restart()
        case "stop":
            master.stop()
        case _:
            raise ValueError("an unknown command; this version has: reload, scale, settings, stacks, status, stop, trace")
    return {}
