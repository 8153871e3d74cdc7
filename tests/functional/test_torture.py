"""Everything that can happen to a server's processes, while it serves clients of every kind: restarts, upgrades,
kills, deploys.

TORTURE_SECONDS is the length of all tests together (`make torture`: 600); each event happens at least once.
TORTURE_SEED repeats the order of the events of a run with the seed that it printed.
"""

from __future__ import annotations

import os
import random
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.functional.support.certificates import Pair, trusting
from tests.functional.support.code import title
from tests.functional.support.enduring import PATIENCE, Crowd, Kill, Secure
from tests.functional.support.harness import REPOSITORY, Process, Server, free_ports, wait_until
from tests.functional.support.observing import kinds
from tests.functional.support.tools import find_tool
from tests.functional.support.vitals import descriptors, private_bytes
from tests.functional.support.wire import Address

SECONDS = float(os.environ.get("TORTURE_SECONDS", "3")) / 3
SEED = int(os.environ.get("TORTURE_SEED", random.SystemRandom().randrange(1 << 32)))
APPLICATION = "tests.functional.support.tortured:app"
WORKERS = 3
MOST_WORKERS = 5
OPTIONS = ["--workers", str(WORKERS), "--max-requests", "200", "--max-requests-jitter", "50", "--body-buffer", "64K"]

RESTARTED = r"restarted: \d+ workers? (is|are) new"
# What must never be in the log: a master in trouble, a worker that had to be killed, an unexpected error.
DEFECTS = re.compile(
    r"the master failed|the mold failed|inside starman|Exception in callback|never awaited|is killed: it"
    r"|ignored a message|ignores an unexpected message"
)

# What the allocator of the master may keep. A leak of 1 KiB an event would be more in the long run.
MOST_GROWTH = 768 * 1024


class Torture:
    """What is done to one server, an event after the other, each followed to its end. `done` counts them."""

    def __init__(self, process: Process, crowd: Crowd, chance: random.Random) -> None:
        self.process = process
        self.crowd = crowd
        self.done: Counter[str] = Counter()
        self._chance = chance
        self._wanted = WORKERS
        self._molds = len(self.molds())

    @property
    def master(self) -> int:
        """The process that supervises. Below start_server it is another after each deploy."""
        if "starman master" in title(self.process.pid):
            return self.process.pid
        (master,) = self.process.children()
        return master

    def workers(self) -> list[int]:
        return [pid for pid in self.process.children(self.master) if "starman worker" in title(pid)]

    def molds(self) -> list[int]:
        return [pid for pid in self.process.children(self.master) if "starman mold" in title(pid)]

    def go_on(self, events: dict[Callable[[Torture], None], int], seconds: float) -> None:
        """Each of the events once, in any order; then any of them, by their weights, until `seconds` are over."""
        until = time.monotonic() + seconds
        first = self._chance.sample(list(events), len(events))
        while first or time.monotonic() < until:
            event = first.pop() if first else self._chance.choices(list(events), list(events.values()))[0]
            event(self)
            self.done[event.__name__] += 1
            self.crowd.wait_for_turns()
            assert self.crowd.failures() == [], f"after {event.__name__}:\n{self.process.log[-5000:]}"

    # The events

    def hup(self) -> None:
        with self._comes(RESTARTED):
            os.kill(self.master, signal.SIGHUP)

    def usr2(self) -> None:
        with self._comes("has taken over"), self._comes(RESTARTED):
            os.kill(self.master, signal.SIGUSR2)

    def ttin(self) -> None:
        if self._wanted < MOST_WORKERS:
            self._wanted += 1
            with self._comes(f"one worker more: {self._wanted}"):
                os.kill(self.master, signal.SIGTTIN)
        self._settle()

    def ttou(self) -> None:
        if self._wanted > 1:
            self._wanted -= 1
            with self._comes(f"one worker less: {self._wanted}"):
                os.kill(self.master, signal.SIGTTOU)
        self._settle()

    def kill_worker(self) -> None:
        self._kill(self._chance.choice(self.workers()))
        self._settle()

    def kill_mold(self) -> None:
        self._kill(self._chance.choice(self.molds()))
        self._settle()

    def kill_all(self) -> None:
        """Every worker and every mold: only the master, and what waits in the kernel for it, is left."""
        for pid in [*self.workers(), *self.molds()]:
            self._kill(pid)
        self._settle()

    def kill_in_a_restart(self) -> None:
        """The restart may be given up: that is an end, too."""
        with self._comes(f"{RESTARTED}|restart given up"):
            with self._comes("restarting the workers"):
                os.kill(self.master, signal.SIGHUP)
            self._kill(self._chance.choice([*self.workers(), *self.molds()]))
        self._settle()

    def deploy(self) -> None:
        """Of start_server: the next generation takes the place of this one."""
        with self._comes(r"old worker \d+ died, status:0\n"):
            self.process.signal(signal.SIGHUP)
        self._wanted = WORKERS

    def rest(self) -> None:
        """As many workers as at the start, and nothing else."""
        while self._wanted != WORKERS:
            (self.ttin if self._wanted < WORKERS else self.ttou)()
        self._settle()

    # Their parts

    @contextmanager
    def _comes(self, pattern: str) -> Iterator[None]:
        """What is done in the block is followed by one more line like that in the log."""
        before = len(re.findall(pattern, self.process.log))
        yield
        self.process.wait_for(pattern, PATIENCE, before + 1)

    def _settle(self) -> None:
        """No worker or mold is missing, and none is too much: those of before a restart may end behind its last
        line."""
        assert wait_until(lambda: len(self.workers()) == self._wanted, PATIENCE), self.process.log
        assert wait_until(lambda: len(self.molds()) == self._molds, PATIENCE), self.process.log

    def _kill(self, pid: int) -> None:
        """kill -9; one that is gone already is none. Only a worker has requests inside: the end of a mold excuses no
        failure."""
        serves = "starman worker" in title(pid)
        since = time.monotonic()
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        assert wait_until(lambda: pid not in self.process.session_pids(), PATIENCE)
        if serves:
            self.crowd.killed(Kill(pid, since, time.monotonic()))


class Record:
    """What is to be the same before and after: pid, descriptors, memory and family of the process that was started."""

    def __init__(self, torture: Torture) -> None:
        self.pid = torture.process.pid
        self.descriptors = kinds(descriptors(self.pid))
        self.memory = private_bytes(self.pid)
        self.molds = len(torture.molds())

    def compare(self, torture: Torture) -> str:
        """Fails the test if something is left of what has happened. The figures."""
        assert torture.process.status is None
        family = 1 + self.molds + WORKERS + (self.pid != torture.master)
        assert wait_until(lambda: len(torture.process.session_pids()) == family, PATIENCE), torture.process.session_pids()
        assert wait_until(lambda: kinds(descriptors(self.pid)) == self.descriptors, PATIENCE), (
            self.descriptors,
            kinds(descriptors(self.pid)),
        )
        memory = private_bytes(self.pid)
        # start_server's is its own affair, and what it shares with other programs comes and goes with those.
        assert self.pid != torture.master or memory - self.memory < MOST_GROWTH, f"{self.memory} bytes before, {memory} after"
        private = f"private memory {self.memory // 1024} KiB before, {memory // 1024} KiB after"
        return f"{private}; descriptors {self.descriptors.total()} before and after"


EVENTS: dict[Callable[[Torture], None], int] = {
    Torture.hup: 6,
    Torture.usr2: 3,
    Torture.ttin: 3,
    Torture.ttou: 3,
    Torture.kill_worker: 5,
    Torture.kill_mold: 3,
    Torture.kill_all: 1,
    Torture.kill_in_a_restart: 3,
}


def torture(process: Process, addresses: list[Address | Secure], events: dict[Callable[[Torture], None], int], seed: str) -> None:
    """Do it all, and print the figures."""
    print(f"TORTURE_SEED={SEED} repeats this run")
    crowd = Crowd(addresses, seed)
    tortured = Torture(process, crowd, random.Random(seed))
    tortured.rest()
    before = Record(tortured)
    started = time.monotonic()
    with crowd:
        tortured.go_on(events, SECONDS)
        tortured.rest()
    seconds = time.monotonic() - started
    assert crowd.failures() == [], process.log[-5000:]
    figures = before.compare(tortured)
    recycled = len(re.findall(r"is replaced: it has served", process.log))
    print(f"{seconds:.0f} s, {crowd.answers.total()} requests {dict(crowd.answers)}, {crowd.received} bytes of bodies verified")
    print(f"{tortured.done.total()} events {dict(tortured.done)}, {recycled} workers recycled by max_requests")
    print(f"failures 0; {crowd.lost()} inside killed processes, {crowd.crossed()} crossed the end of a long idle connection")
    print(figures)
    assert DEFECTS.search(process.log) is None, DEFECTS.findall(process.log)


@pytest.mark.parametrize("mode", ["--preload-app", "--no-preload-app"])
def test_a_server(tmp_path: Path, mode: str) -> None:
    path = str(tmp_path / "torture.sock")
    pair = Pair(tmp_path, "localhost")
    with Server(APPLICATION, mode, *OPTIONS, *pair.arguments, listen=["127.0.0.1:0", "127.0.0.1:0:ssl", path]) as server:
        plain, secure = server.ports
        torture(server, [("127.0.0.1", plain), Secure(secure, trusting(pair)), path], EVENTS, f"{SEED}{mode}")


def test_below_start_server(tmp_path: Path) -> None:
    path = str(tmp_path / "torture.sock")
    pair = Pair(tmp_path, "localhost")
    plain, secure = free_ports(2)
    stop = random.Random(SEED).choice(["TERM", "QUIT"])
    listeners = [f"--port=127.0.0.1:{plain}", f"--port=127.0.0.1:{secure}", f"--path={path}"]
    command = [
        find_tool("start_server"),
        *listeners,
        f"--signal-on-hup={stop}",
        "--",
        sys.executable,
        "-W",
        "error",
        "-m",
        "starman",
    ]
    # The address says which of the inherited sockets speaks TLS.
    arguments = [APPLICATION, *OPTIONS, "--listen", f"127.0.0.1:{secure}:ssl", *pair.arguments]
    process = Process([*command, *arguments], cwd=REPOSITORY)
    try:
        process.wait_for("ready: ", 60)
        events = EVENTS | {Torture.deploy: 10}
        torture(process, [("127.0.0.1", plain), Secure(secure, trusting(pair)), path], events, f"{SEED}start_server")
        assert process.stop(signal.SIGTERM) == 0
    finally:
        process.kill()
