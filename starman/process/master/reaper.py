"""The reaper: waits for processes of ours that have ended, children and orphaned grandchildren alike. Decides nothing."""

from __future__ import annotations

import os
import signal
import sys

from starman.process.proc_stat import FIRST_FIELD, read_fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# <linux/prctl.h>
_SET_CHILD_SUBREAPER = 36
_GET_CHILD_SUBREAPER = 37
# What is likely behind a signal that nobody of ours has sent.
_CAUSES: dict[int, str] = {
    signal.SIGKILL: "out of memory?",
    signal.SIGSEGV: "a fault in native code?",
    signal.SIGBUS: "a fault in native code, or a file that was cut short?",
    signal.SIGILL: "native code for another processor?",
    signal.SIGFPE: "a fault in native code?",
    signal.SIGABRT: "native code gave up?",
    signal.SIGSYS: "a system call that is forbidden here?",
    signal.SIGXCPU: "over its limit of processor time?",
}
# How long a status is kept whose process has not yet said that it is ours. Seconds.
KEPT_SECONDS = 10.0
# How many generations down the master looks: pristine mold, mold, process in between, worker.
_GENERATIONS = 4


class Reaper:
    """Collects the exit statuses of watched processes.

    adopts: whether orphans are given to this process (a child subreaper, Linux). Where not, grandchildren are reaped by
            somebody else, and only the end of their channel tells that they have ended.
    """

    __slots__ = ("_early", "_everything", "_tracked", "_was_subreaper", "adopts")

    def __init__(self, *, everything: bool) -> None:
        """`everything`: reap unknown children too, which is right only when nobody else in this process waits for any."""
        self._everything = everything
        self._tracked: set[int] = set()
        self._early: dict[int, tuple[int, float]] = {}
        self._was_subreaper = _is_subreaper()
        self.adopts = _set_subreaper(True)

    def track(self, pid: int, since: float = float("-inf")) -> None:
        """`pid` is ours. It may have ended, and have been reaped, already.

        since: the process was made after this instant, such as that of the order to fork it. A status that was reaped earlier
        belongs to another process with the same number, and is dropped.
        """
        if pid in self._early and self._early[pid][1] < since:
            del self._early[pid]
        self._tracked.add(pid)

    def reap(self, now: float) -> Iterator[tuple[int, str]]:
        """The watched processes that have ended since the last call, and how: "exited with status 1"."""
        if self._everything:
            self._reap_all(now)
        else:
            self._reap_tracked(now)
        for pid in [pid for pid in self._early if pid in self._tracked]:
            self._tracked.discard(pid)
            yield pid, describe(self._early.pop(pid)[0])
        # Hazard 6: a status may come before its process has said its number, so it is kept, but briefly: numbers return.
        for pid in [pid for pid, (_, since) in self._early.items() if now - since > KEPT_SECONDS]:
            del self._early[pid]

    def _reap_all(self, now: float) -> None:
        # Hazard 17: twenty exits coalesce into one SIGCHLD, so until there is none left.
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
                continue  # not given to us, or taken by the program that embeds us
            if found:
                self._early[pid] = status, now

    @staticmethod
    def has_child(pid: int) -> bool:
        """Whether `pid` is a child of this process that is not reaped yet. If not, the number may be another process's by now."""
        try:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
        except (OSError, AttributeError):
            return True  # the system does not tell
        return True

    def owns_process(self, pid: int) -> bool:
        """Whether `pid` is a process of ours, a child's child included, so that it may be signalled and waited for.

        Where orphans are not given to this process, every process of the same session counts.
        """
        if pid <= 1 or pid == os.getpid():
            return False
        if not self.adopts:
            return _same_session(pid)
        # The process in between, its parent, may have ended between the two looks.
        return pid in self._early or self.has_child(pid) or _descends(pid) or self.has_child(pid)

    def close(self) -> None:
        """Put the process back as it was."""
        if not self._was_subreaper:
            _set_subreaper(False)


def describe(status: int) -> str:
    """How a process ended, from its wait status, to complete a sentence, with the likely cause of a signal."""
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
    """Whether this process is the parent of `pid`, or of its parent and so on. True where there is no /proc to tell."""
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


def _is_subreaper() -> bool:
    if sys.platform != "linux":
        return False
    try:
        import ctypes

        flag = ctypes.c_int()
        ctypes.CDLL(None).prctl(_GET_CHILD_SUBREAPER, ctypes.byref(flag), 0, 0, 0)
    except (ImportError, OSError, AttributeError):
        return False
    return bool(flag.value)


def _set_subreaper(wanted: bool) -> bool:
    """Have orphaned descendants become children of this process, or no longer. False where there is no such thing."""
    if sys.platform != "linux":
        return False
    try:
        # Imported here, not at the start: 0.3 MB that a mold need not have.
        import ctypes

        return bool(ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, int(wanted), 0, 0, 0) == 0)
    except (ImportError, OSError, AttributeError):
        return False
