"""Collects the exit statuses of children and orphaned grandchildren, and tells which processes belong to this server.

Decides nothing. Imports no other module of the master.
"""

from __future__ import annotations

import os
import signal

from starman.process.prctl import is_subreaper, set_subreaper
from starman.process.proc_stat import FIRST_FIELD, read_fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# The likely cause of a signal that did not come from the server.
_CAUSES: dict[int, str] = {
    signal.SIGKILL: "out of memory?",
    signal.SIGSEGV: "a fault in native code?",
    signal.SIGBUS: "a fault in native code, or a file that was truncated?",
    signal.SIGILL: "native code for another processor?",
    signal.SIGFPE: "a fault in native code?",
    signal.SIGABRT: "native code gave up?",
    signal.SIGSYS: "a system call that is forbidden here?",
    signal.SIGXCPU: "over its limit of processor time?",
}
# How long (seconds) to keep the status of a process that is not tracked yet.
KEPT_SECONDS = 10.0
# The generations below the master: pristine mold, mold, intermediate process, worker.
_GENERATIONS = 4


class Reaper:
    """Collects the exit statuses of tracked processes. Only the master's loop calls.

    adopts: whether the system makes orphaned descendants children of this process (a child subreaper, Linux). If not,
    another process reaps grandchildren, and only the end of file of its channel shows that a grandchild has ended.
    """

    __slots__ = ("_early", "_everything", "_tracked", "_was_subreaper", "adopts")

    def __init__(self, *, everything: bool) -> None:
        """everything: reap unknown children too. Only right if no other code of this process waits for children."""
        self._everything = everything
        self._tracked: set[int] = set()
        self._early: dict[int, tuple[int, float]] = {}
        self._was_subreaper = is_subreaper()
        self.adopts = set_subreaper(True)

    def track(self, pid: int, since: float = float("-inf")) -> None:
        """Report the end of process `pid` from now on. The process may have ended, and been reaped, already.

        since: an instant before the process was forked, such as the instant of the order. A status that was reaped
        earlier belongs to another process that had the same id, and is dropped.
        """
        if pid in self._early and self._early[pid][1] < since:
            del self._early[pid]
        self._tracked.add(pid)

    def reap(self, now: float) -> Iterator[tuple[int, int]]:
        """Yield the tracked processes that have ended since the last call, and the wait status of each."""
        if self._everything:
            self._reap_all(now)
        else:
            self._reap_tracked(now)
        for pid in [pid for pid in self._early if pid in self._tracked]:
            self._tracked.discard(pid)
            yield pid, self._early.pop(pid)[0]
        # Hazard 6: a process may be reaped before its id is reported, so its status is kept. Briefly, because the
        # system uses process ids again.
        for pid in [pid for pid, (_, since) in self._early.items() if now - since > KEPT_SECONDS]:
            del self._early[pid]

    def _reap_all(self, now: float) -> None:
        # Hazard 17: twenty exits may cause a single SIGCHLD, so reap until no status is left.
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                self._early[pid] = status, now
        except ChildProcessError:
            return

    def _reap_tracked(self, now: float) -> None:
        for pid in self._tracked:
            try:
                found, status = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                continue  # not a child of this process, or reaped by the embedding program
            if found:
                self._early[pid] = status, now

    @staticmethod
    def has_child(pid: int) -> bool:
        """Whether `pid` is a child of this process that is not reaped yet. If not, the id may belong to another
        process."""
        try:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
        except (OSError, AttributeError):
            return True  # unknown: the system does not support the call
        return True

    def owns_process(self, pid: int) -> bool:
        """Whether `pid` is a descendant of this process, so that the master may signal it and wait for it.

        Without adoption of orphans, every process of the same session counts.
        """
        if pid <= 1 or pid == os.getpid():
            return False
        if not self.adopts:
            return _same_session(pid)
        # Checked twice: if the intermediate process ends during `_descends`, the worker becomes a child of this
        # process.
        return pid in self._early or self.has_child(pid) or _descends(pid) or self.has_child(pid)

    def close(self) -> None:
        """Stop adopting orphans, unless this process did before."""
        if not self._was_subreaper:
            set_subreaper(False)


def describe(status: int) -> str:
    """How a process ended, from its wait status, with the likely cause of a signal. Completes a sentence: "exited with
    status 1"."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exited with status {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    notes = [_CAUSES[-code]] if -code in _CAUSES else []
    notes += ["core dumped"] if os.WCOREDUMP(status) else []
    return f"was killed by {name}" + (f" ({', '.join(notes)})" if notes else "")


def _same_session(pid: int) -> bool:
    try:
        return os.getsid(pid) == os.getsid(0)
    except OSError:
        return False


def _descends(pid: int) -> bool:
    """Whether this process is an ancestor of `pid`, at most _GENERATIONS up. True without /proc."""
    if not os.path.exists("/proc/self/stat"):
        return True
    for _ in range(_GENERATIONS):
        try:
            # proc(5): field 4, the parent.
            pid = int(read_fields(pid)[4 - FIRST_FIELD])
        except (OSError, ValueError, IndexError):
            return False
        if pid == os.getpid():
            return True
    return False
