"""Measures the servers of a scenario alternately: A B C, B C A, C A B, …, so that a noisy minute affects all alike."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

from bench import processes
from bench.progress import Progress
from bench.results import BenchError, Cell, Outcome, Result, Turn
from bench.scenarios import Scenario
from bench.servers import Server
from bench.serving import Cores, Running, ask, companions, serving

# What a server may fail of its requests before its rate is none.
ERROR_SHARE = 0.01
WARM_UP_SECONDS = 1.0
# Until a server has put away what a busy connection has and an idle one does not need, and what slow readers do not
# take.
SETTLE_SECONDS = 3.0
SAMPLE_SECONDS = 0.1
# A server is at rest when it has taken no more than a tick of the system's clock (10 ms) in this time, and does not
# wait for a core either; how long to wait for that.
QUIET_SECONDS = 0.1
QUIET_SHARE = 0.15
LONGEST_REST_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Options:
    """How a run measures: `rounds` of `seconds` for each server, by which load generator, on which cores."""

    rounds: int
    seconds: float
    cores: Cores
    generator: str = "auto"


@dataclass(slots=True)
class Entrant:
    """A server that takes part, with its results so far. `base`: its private memory after warming up."""

    server: Server
    version: str
    workers: int
    threads: int
    running: Running | None = None
    turns: list[Turn] = field(default_factory=list)
    failure: str = ""
    base: int = 0

    def cell(self) -> Cell:
        """The result, when all turns are done."""
        return Cell(self.server.name, self.version, self.workers, self.threads, tuple(self.turns), self.failure)


def entrants(scenario: Scenario, chosen: Sequence[str] | None = None) -> list[Entrant]:
    """The scenario's servers with a name that begins with one of `chosen`, if they are installed and able to take
    part."""
    found = []
    for server in scenario.servers:
        if chosen is not None and not server.name.startswith(tuple(chosen)):
            continue
        if (server.psgi and not scenario.psgi) or (version := server.version()) is None:
            continue
        counts = [workers for workers in scenario.workers if workers == 1 or server.multiple]
        found += [Entrant(server, version, workers, scenario.threads if server.threaded else 1) for workers in counts]
    return found


def compare(scenario: Scenario, taking_part: list[Entrant], options: Options, progress: Progress) -> Outcome:
    """Measure. A server that fails keeps the reason, and does not disturb the others."""
    runner = _Runner(scenario, options, options.cores.shared() if scenario.shared else options.cores)
    with ExitStack() as stack:
        for entrant in taking_part:
            with _failing(entrant):
                runner.start(entrant, stack)
        for entrant in taking_part:
            with _failing(entrant), _resting(entrant):
                runner.warm_up(entrant)
        for number in range(options.rounds):
            turned = number % max(1, len(taking_part))
            for entrant in [*taking_part[turned:], *taking_part[:turned]]:
                with _failing(entrant), _resting(entrant):
                    entrant.turns.append(runner.turn(entrant))
                told = entrant.failure or f"{entrant.turns[-1].result.rate:,.0f}/s"
                progress.step(f"{scenario.name}, round {number + 1} of {options.rounds}: {entrant.server.name} {told}")
    return Outcome(scenario.name, scenario.summary, tuple(entrant.cell() for entrant in taking_part))


@contextmanager
def _failing(entrant: Entrant) -> Iterator[None]:
    """Turn an exception into the entrant's failure. Only the first counts, because later steps all raise at once."""
    try:
        yield
    except (BenchError, OSError) as error:
        entrant.failure = entrant.failure or " ".join(str(error).split())


@contextmanager
def _resting(entrant: Entrant) -> Iterator[None]:
    """Continue when the server is idle, whether it failed or not."""
    try:
        yield
    finally:
        if entrant.running is not None:
            rest(entrant.running.pid)


class _Runner:
    """Measures one scenario."""

    def __init__(self, scenario: Scenario, options: Options, cores: Cores) -> None:
        self._scenario = scenario
        self._options = options
        self._cores = cores

    def start(self, entrant: Entrant, stack: ExitStack) -> None:
        """Start the server, which ends with `stack`."""
        entrant.running = stack.enter_context(serving(entrant.server, self._scenario, self._cores, entrant.workers))

    def warm_up(self, entrant: Entrant) -> None:
        """Wait until the server answers, and load it for a moment."""
        running = _alive(entrant)
        running.await_ready()
        self._ask(running, min(WARM_UP_SECONDS, self._options.seconds))
        if self._scenario.beside:
            time.sleep(SETTLE_SECONDS)
            entrant.base = _private(running)

    def turn(self, entrant: Entrant) -> Turn:
        """Measure one server's part of a round. Raises BenchError."""
        running = _alive(entrant)
        beside = self._scenario.beside
        if beside is None:
            return self._measure(running)
        alone = self._ask(running, self._options.seconds).rate
        with companions(beside, running, self._cores.client):
            time.sleep(SETTLE_SECONDS)
            running.await_ready()
            each = (_private(running) - entrant.base) / beside.connections
            turn = self._measure(running)
        return replace(turn, alone=alone, beside_bytes=each)

    def _measure(self, running: Running) -> Turn:
        before = processes.cpu_seconds(running.pid)
        with _highest(processes.family(running.pid), self._scenario.peak) as highest:
            result = self._ask(running, self._options.seconds)
        used = processes.cpu_seconds(running.pid) - before if before >= 0 else -1.0
        return Turn(result, used, max(processes.memory_bytes(processes.family(running.pid)), *highest))

    def _ask(self, running: Running, seconds: float) -> Result:
        result = ask(running, self._scenario.load, seconds, self._cores.client, self._options.generator)
        if not result.requests:
            raise BenchError(f"no request was answered well, {result.errors} errors")
        if result.errors > ERROR_SHARE * (result.requests + result.errors):
            raise BenchError(f"{result.errors} errors beside {result.requests} good responses")
        return result


def rest(pid: int) -> None:
    """Wait until a server has done what its clients have left behind: 32 requests may keep it, and with it the core,
    for seconds of the next one's turn."""
    until = time.monotonic() + LONGEST_REST_SECONDS
    before = processes.cpu_seconds(pid)
    while time.monotonic() < until:
        time.sleep(QUIET_SECONDS)
        now = processes.cpu_seconds(pid)
        if now - before <= QUIET_SHARE * QUIET_SECONDS and not processes.wants_cpu(pid):
            return
        before = now


def _alive(entrant: Entrant) -> Running:
    if entrant.failure or entrant.running is None:
        raise BenchError(entrant.failure or "not started")
    return entrant.running


def _private(running: Running) -> int:
    return sum(processes.uss(pid) for pid in processes.family(running.pid))


@contextmanager
def _highest(family: list[int], wanted: bool) -> Iterator[list[int]]:
    """With `wanted`, gather in a list the highest memory of some processes while the block runs."""
    found = [-1]
    if not wanted:
        yield found
        return
    over = threading.Event()

    def sample() -> None:
        while not over.wait(SAMPLE_SECONDS):
            found[0] = max(found[0], processes.memory_bytes(family))

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    with contextlib.ExitStack() as stack:
        stack.callback(sampler.join)
        stack.callback(over.set)
        yield found
