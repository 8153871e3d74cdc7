"""How long the search for native threads waits for one that runs."""

from __future__ import annotations

import struct

import pytest

from starman.process.worker import native_threads

LIBRARIES = [(0x1000, 0x2000, "libopenblas64.so")]
TASK = 7


class Machine:
    """A thread that runs for `running` seconds of its own CPU time, of which a second brings it `share`; then it
    waits. The clock of the machine goes on with each pause."""

    def __init__(self, running: float, share: float) -> None:
        self.running = running
        self.share = share
        self.now = 100.0

    def used(self) -> float:
        return min((self.now - 100.0) * self.share, self.running)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def monotonic(self) -> float:
        return self.now

    def read(self, path: str) -> bytes:
        name = path.rpartition("/")[2]
        if name == "schedstat":
            return b"%d 1 1\n" % int(self.used() * 1e9)
        if name == "comm":
            return b"starman mold\n"
        assert name == "syscall"
        return b"running\n" if self.used() < self.running else b"202 0 0 0 0 0 0 0x5000 0x6000\n"


@pytest.mark.parametrize(
    ("running", "share", "library", "seconds"),
    [
        (0.1, 1.0, "libopenblas64.so (OpenBLAS)", 0.1),
        (0.1, 0.05, "libopenblas64.so (OpenBLAS)", 2.0),
        (60.0, 1.0, "starman mold", 0.5),
        (60.0, 0.01, "starman mold", 5.0),
    ],
    ids=["waits soon", "gets little of the CPU", "never waits", "never waits and gets little"],
)
def test_a_thread_that_runs_is_given_time_of_its_own(
    monkeypatch: pytest.MonkeyPatch, running: float, share: float, library: str, seconds: float
) -> None:
    machine = Machine(running, share)
    monkeypatch.setattr(native_threads, "time", machine)
    monkeypatch.setattr(native_threads, "_read", machine.read)
    monkeypatch.setattr(native_threads, "_stack", lambda pointer: struct.pack("=QQ", 3, 0x1234))
    found = native_threads._describe(TASK, LIBRARIES, machine.now + native_threads._PATIENCE)
    assert found.library == library
    assert machine.now - 100.0 == pytest.approx(seconds, abs=0.05)
