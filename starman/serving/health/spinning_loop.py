"""Detects a loop that spins: it uses a CPU and does nothing, because a descriptor that it polls was closed, for
example.

The worker's tick checks this, so a request pays nothing. Linux only: other systems do not tell what a thread has read
and written.
"""

from __future__ import annotations

from collections.abc import Callable

from starman import log, thread_io

# The loop spins if all of the following is true for SPIN_SECONDS.
SPIN_SECONDS = 10.0
# The loop uses at least this part of a CPU.
SPIN_SHARE = 0.25
# The loop uses more CPU time (seconds) than this for each request that ends and each connection that is accepted. A
# request or connection takes about a tenth of this. Probes of a monitoring system take almost nothing, so they do not
# hide a spinning loop.
WORK_SECONDS = 0.005
# The loop moves fewer bytes than this from tick to tick. Wake-ups by other threads move some, and so does this check.
SPIN_BYTES = 4096


class SpinningLoopDetector:
    """Checks one loop. All methods must be called in this loop."""

    __slots__ = (
        "_began_at",
        "_computed",
        "_done",
        "_inline",
        "_left_at",
        "_left_with",
        "_measure",
        "_moved",
        "_said",
        "_unknown",
    )

    def __init__(self, measure: Callable[[], int] = thread_io.bytes_moved, *, inline: bool = False) -> None:
        """`measure` returns how many bytes the loop's thread has moved, or raises OSError. `inline` says that the
        application runs in the loop, so that one request may take any time."""
        self._measure = measure
        self._inline = inline
        # When the loop began to spin, perhaps (None: it does not), and the CPU time that it has used since then.
        self._began_at: float | None = None
        self._computed = 0.0
        # The values at the last check, and at the end of the last tick.
        self._done = self._moved = 0
        self._left_at: float | None = None
        self._left_with = 0.0
        # Why the last measurement has failed, and whether that is logged.
        self._unknown: OSError | None = None
        self._said = False

    def end_tick(self, now: float, computed: float) -> None:
        """Note the end of a tick. `computed` is the CPU time of the loop's thread, in seconds. `now` is monotonic."""
        self._left_at, self._left_with = now, computed

    def check(self, now: float, computed: float, done: int) -> str | None:
        """Check at the beginning of a tick. `done` is the number of requests ever finished plus connections ever
        accepted.

        Return a reason for `report` if the loop spins, else None.
        """
        if self._left_at is None:
            return None
        used, began_at = computed - self._left_with, self._left_at
        self._done, newly_done = done, done - self._done
        works = newly_done > 0 if self._inline else newly_done * WORK_SECONDS >= used
        if used < SPIN_SHARE * (now - began_at) or works:
            self._began_at = None
            return None
        moved_before = self._moved
        try:
            self._moved, self._unknown = self._measure(), None
        except FileNotFoundError:  # not Linux
            return None
        except OSError as error:
            self._unknown = error
        if self._began_at is None or self._moved - moved_before >= SPIN_BYTES:
            self._began_at, self._computed = began_at, used
            return None
        self._computed += used
        seconds = now - self._began_at
        if seconds < SPIN_SECONDS:
            return None
        self._began_at = None
        return f"its loop has used {100 * self._computed / seconds:.0f} % of a CPU for {seconds:.0f} s"

    def report(self, found: str, give_up: Callable[[str], object]) -> None:
        """Call `give_up` with the reason that `check` has returned.

        If the system does not give the number of bytes, the loop may be receiving a large body: then only log once.
        """
        if self._unknown is None:
            give_up(f"{found}, and it has done almost nothing")
        elif not self._said:
            self._said = True
            log.warning(
                f"this worker may spin: {found}, and almost no request has ended. It is not replaced, because {thread_io.PATH} "
                f"cannot be read: {self._unknown.strerror} (has the application changed its user?)"
            )
