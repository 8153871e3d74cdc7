"""Finds a loop that spins: it uses a CPU and does nothing, as when a descriptor was closed while the loop polls it.

The worker's tick checks it, so it costs a request nothing. Linux only: other systems do not tell what a thread reads and writes.
"""

from __future__ import annotations

from collections.abc import Callable

from starman import log, thread_io

# The loop spins when it uses this part of a CPU for so long (seconds),
SPIN_SHARE = 0.25
SPIN_SECONDS = 10.0
# while it uses more CPU time (seconds) than this for each request that ends and each connection that it accepts: about ten times
# what they take. Probes of a monitor, for example, take almost nothing, and do not hide a loop that spins.
WORK_SECONDS = 0.005
# and it moves fewer bytes than this from tick to tick. Wake-ups by other threads move some bytes, and so does the check itself.
SPIN_BYTES = 4096


class SpinWatch:
    """The watch over one loop. All methods are that loop's."""

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
        """`measure` tells how many bytes the loop's thread has moved, or raises OSError. With `inline`, the application runs in
        the loop, and one request may take any time."""
        self._measure = measure
        self._inline = inline
        # Since when the loop may be spinning (None: it is not), and the CPU time that it has used since.
        self._began_at: float | None = None
        self._computed = 0.0
        # As of the last look, and of the end of the last tick.
        self._done = self._moved = 0
        self._left_at: float | None = None
        self._left_with = 0.0
        # Why the last measurement has failed, and whether the log has it already.
        self._unknown: OSError | None = None
        self._said = False

    def leave(self, now: float, computed: float) -> None:
        """Call at the end of a tick; the loop's other work follows. `computed` is the CPU time of its thread, in seconds."""
        self._left_at, self._left_with = now, computed

    def look(self, now: float, computed: float, done: int) -> str | None:
        """Call when the next tick begins. `done`: how many requests have ever ended, and connections were accepted. Returns what
        to `report`; None: nothing."""
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
        """Act on what `look` has returned: call `give_up` with the reason. Where the system refuses the figures, the loop may be
        doing something useful, such as receiving a large body: then only log it, once."""
        if self._unknown is None:
            give_up(f"{found}, and it has done almost nothing")
        elif not self._said:
            self._said = True
            log.warning(
                f"this worker may spin: {found}, and almost no request has ended. It is not replaced, because {thread_io.PATH} "
                f"cannot be read: {self._unknown.strerror} (has the application changed its user?)"
            )
