"""Finds and ends the processes that tests leave behind, on Linux. Elsewhere there is no /proc, and nothing is found.

Every process that tests start inherits two environment variables: `TEST_RUNS`, which holds a unique mark of the pytest
process and, under xdist, of the controlling one; and `PYTEST_CURRENT_TEST`, by which pytest names the test. The kernel
shows both in /proc/PID/environ as they were at the last exec. So they identify a daemon in a session of its own, and a
child with a killed parent, without regard to names.

`python tests/leftovers.py PID MARK` is the guard: it waits until the pytest process PID has ended, in whatever way,
and then kills every process with the mark. It imports nothing of the project, so that it starts in a few milliseconds.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
import uuid
from typing import NamedTuple

VARIABLE = "TEST_RUNS"
# A process that has just been killed may need a moment to end on a loaded machine.
GRACE_SECONDS = 3.0
END_SECONDS = 30.0
EXEC_SECONDS = 1.0


class Leftover(NamedTuple):
    """A process with a mark: its pid, the test that started it ("" outside of a test), and its command line."""

    pid: int
    test: str
    command: str

    def __str__(self) -> str:
        return f"{self.pid} ({self.command.strip()}), started by {self.test or 'no test'}"


def mark() -> str:
    """Mark everything that this process will start, from now on. The mark."""
    own = uuid.uuid4().hex
    os.environ[VARIABLE] = " ".join(filter(None, (os.environ.get(VARIABLE), own)))
    return own


def watch(own: str) -> None:
    """Start the guard, which ends all processes with the mark `own` after this process. Nothing is done without
    /proc."""
    if not sys.platform.startswith("linux"):
        return
    # Without the mark itself, or it would be found; in a session of its own, which no Ctrl-C reaches.
    env = {**os.environ, VARIABLE: os.environ[VARIABLE].replace(own, "").strip()}
    command = [sys.executable, "-I", "-S", __file__, str(os.getpid()), own]
    subprocess.run(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True, check=True)


def find(own: str) -> list[Leftover]:
    """Every live process with the mark `own`."""
    try:
        names = os.listdir("/proc")
    except FileNotFoundError:
        return []
    marked = own.encode()
    found = []
    for name in names:
        # Kernel threads and zombies have no environment; another user's process may be unreadable.
        if name.isdigit() and (text := _environment(name)) and marked in text:
            test = b""
            for variable in text.split(b"\0"):
                if variable.startswith(b"PYTEST_CURRENT_TEST="):
                    test = variable.partition(b"=")[2]
            command = _read(f"/proc/{name}/cmdline").replace(b"\0", b" ")
            found.append(Leftover(int(name), os.fsdecode(test), os.fsdecode(command)))
    return found


def _environment(pid: str) -> bytes:
    """The environment of the process at its last exec; b"" if it has none.

    In the middle of an exec, a process shows neither environment nor arguments, but its program.
    """
    given_up = time.monotonic() + EXEC_SECONDS
    while True:
        text = _read(f"/proc/{pid}/environ")
        if text or _read(f"/proc/{pid}/cmdline") or not _has_program(pid) or time.monotonic() > given_up:
            return text or _read(f"/proc/{pid}/environ")
        time.sleep(0.001)


def _has_program(pid: str) -> bool:
    try:
        return bool(os.readlink(f"/proc/{pid}/exe"))
    except OSError:
        return False


def end(own: str, started_by: str = "", grace: float = GRACE_SECONDS) -> list[Leftover]:
    """Kill the processes with the mark `own` that live longer than `grace` seconds, and what they start meanwhile;
    these.

    `started_by` restricts this to tests with names, as in PYTEST_CURRENT_TEST, that begin with it.
    """
    begun = time.monotonic()
    ended: dict[int, Leftover] = {}
    empty = 0
    # A process may fork, behind the back of a single look through /proc, before it is killed.
    while empty < (2 if ended else 1) and time.monotonic() < begun + grace + END_SECONDS:
        found = [each for each in find(own) if each.test.startswith(started_by)]
        empty = 0 if found else empty + 1
        if found and time.monotonic() >= begun + grace:
            ended.update((each.pid, each) for each in found if _kill(each.pid, own))
        if found or ended:
            time.sleep(0.02)
    return list(ended.values())


def _kill(pid: int, own: str) -> bool:
    """Kill the process if it (still) has the mark; whether it had. Its number may be another process's by now."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        if own.encode() not in _read(f"/proc/{pid}/environ"):
            return False
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        return True
    finally:
        os.close(descriptor)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""


def _guard(pid: int, own: str) -> None:
    descriptor = os.pidfd_open(pid)
    if os.fork():
        return  # the tests wait for this process; the guard is no child of theirs, so that they have only their own
    select.select([descriptor], [], [])
    for each in end(own, grace=0):
        # Not those outside of a test: the workers of xdist, when what controls them was killed, and their guards.
        if each.test:
            print(f"tests left process {each}: killed", file=sys.stderr)


if __name__ == "__main__":
    _guard(int(sys.argv[1]), sys.argv[2])
