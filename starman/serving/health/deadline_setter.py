"""`starman.deadline` in the environ: lets the application change the deadline of the request that it handles."""

from __future__ import annotations

import math
from threading import get_ident
from typing import TYPE_CHECKING

from starman import log

if TYPE_CHECKING:
    from collections.abc import Callable

    from starman.serving.executors.executor import Executor


class DeadlineSetter:
    """One for all requests of a service: finds the request by the thread that calls."""

    __slots__ = ("_executor", "_on_set")

    def __init__(self, executor: Executor, on_set: Callable[[], None]) -> None:
        """`on_set`: called in the loop after a deadline was set."""
        self._executor = executor
        self._on_set = on_set

    def __call__(self, seconds: float | None) -> None:
        """Let the request that this thread handles take `seconds` from now on; 0 or None: as long as it likes.

        The thread of a request. Raises RuntimeError in any other thread, TypeError and ValueError for other values.
        """
        limit = _limit_of(seconds)
        ident = get_ident()
        for running, request in self._executor.running():
            if running == ident:
                request.set_time_limit(limit)
                if limit:
                    self._executor.post(self._on_set)
                return
        raise RuntimeError("starman.deadline was called outside of the thread that handles the request")


class IneffectiveDeadline:
    """`starman.deadline` with `--threads 0`: takes the same values, and changes nothing, because nothing can end a
    request while the loop runs it. So an application need not ask how the server is run."""

    __slots__ = ("_logged",)

    def __init__(self) -> None:
        self._logged = False

    def __call__(self, seconds: float | None) -> None:
        """Log once that there is no deadline. Raises TypeError and ValueError for other values."""
        if _limit_of(seconds) and not self._logged:
            self._logged = True
            log.info("starman.deadline has no effect with --threads 0: only the timeouts of the worker apply")


def _limit_of(seconds: float | None) -> float:
    limit = 0.0 if seconds is None else float(seconds)
    if not (limit >= 0.0 and math.isfinite(limit)):
        raise ValueError(f"starman.deadline takes a number of seconds, at least 0, or None, not {seconds!r}")
    return limit
