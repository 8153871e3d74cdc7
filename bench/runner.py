"""Starts the servers of a scenario, and measures them in turns: A B C A B C …, so that a noisy minute hits all alike."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import wrk
from bench.scenarios import Scenario
from bench.servers import Server, Start

REPOSITORY = Path(__file__).resolve().parent.parent
START_SECONDS = 20.0


class BenchError(Exception):
    """A server did not start, or died."""


@dataclass(frozen=True, slots=True)
class Cores:
    """Where server and client run. None: anywhere, because there is one core only or the system cannot pin."""

    server: int | None
    client: int | None

    @classmethod
    def choose(cls) -> Cores:
        """Two different cores of those that this process may use."""
        allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        if len(allowed) < 2 or shutil.which("taskset") is None:
            return cls(None, None)
        return cls(allowed[0], allowed[1])


@dataclass(frozen=True, slots=True)
class Measured:
    """All rounds of one server in one scenario. `ratios` are the first server's rate by this one's, round by round."""

    name: str
    version: str
    rounds: tuple[wrk.Result, ...]
    ratios: tuple[float, ...]

    def median(self, of: Callable[[wrk.Result], float]) -> float:
        """The median over the rounds."""
        return statistics.median(of(result) for result in self.rounds)

    @property
    def ratio(self) -> float:
        """The median of the ratios."""
        return statistics.median(self.ratios)

    @property
    def errors(self) -> int:
        """Failed requests of all rounds."""
        return sum(result.errors for result in self.rounds)


def measure(scenario: Scenario, rounds: int, seconds: int, cores: Cores, progress: Callable[[str], None]) -> list[Measured]:
    """Measure the installed servers of a scenario. `seconds` a round and server; a shorter run before warms them up.

    Raises BenchError and wrk.WrkError.
    """
    client = [*_pinned(cores.client), wrk.find()]
    servers = [(server, version) for server in scenario.servers if (version := server.version()) is not None]
    results: list[list[wrk.Result]] = [[] for _ in servers]
    with ExitStack() as stack:
        urls = [stack.enter_context(running(server, scenario, cores)) for server, _ in servers]
        for url in urls:
            wrk.run(client, url, scenario.connections, 1, scenario.keep_alive)
        for number in range(rounds):
            for (server, _), url, results_of_it in zip(servers, urls, results, strict=True):
                result = wrk.run(client, url, scenario.connections, seconds, scenario.keep_alive)
                results_of_it.append(result)
                progress(f"round {number + 1} of {rounds}: {server.name} {result.rate:,.0f}/s")
    measured = []
    for (server, version), results_of_it in zip(servers, results, strict=True):
        ratios = tuple(first.rate / result.rate for first, result in zip(results[0], results_of_it, strict=True) if result.rate)
        measured.append(Measured(server.name, version, tuple(results_of_it), ratios or (float("inf"),)))
    return measured


@contextmanager
def running(server: Server, scenario: Scenario, cores: Cores) -> Iterator[str]:
    """Start one server on a free port, wait until it answers, give its URL, and end it with all its processes."""
    with serving(server, scenario, cores) as (url, _):
        yield url


@contextmanager
def serving(server: Server, scenario: Scenario, cores: Cores) -> Iterator[tuple[str, int]]:
    """As `running`, with the process id of the server beside its URL."""
    port = _free_port()
    start = Start(scenario.application, port, scenario.workers, scenario.threads)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [*_pinned(cores.server), *server.command(start)],
            cwd=REPOSITORY,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            if not _answers(process, port, scenario.path):
                log.seek(0)
                raise BenchError(f"{server.name} did not start:\n{log.read().decode('utf-8', 'replace')}")
            yield f"http://127.0.0.1:{port}{scenario.path}", process.pid
            if process.poll() is not None:
                raise BenchError(f"{server.name} ended while it was measured, with status {process.returncode}")
        finally:
            _end(process)


def _answers(process: subprocess.Popen[bytes], port: int, path: str) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", path)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            time.sleep(0.05)
        finally:
            connection.close()
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        pass
    finally:
        # The server leads a process group of its own: whatever is left in it goes.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


def _pinned(core: int | None) -> list[str]:
    return [] if core is None else ["taskset", "--cpu-list", str(core)]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
