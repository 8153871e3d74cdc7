"""Starts servers, clients and companions on their cores, and ends them. Everything here ends in bounded time."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType

from bench import nginx, wrk
from bench.results import BenchError, Result, result_from
from bench.scenarios import Beside, Load, Scenario
from bench.servers import Server, Start

REPOSITORY = Path(__file__).resolve().parent.parent
START_SECONDS = 20.0
END_SECONDS = 5.0
# What a client may take beyond its time; with Load.whole its own limit comes first.
CLIENT_SECONDS = 15.0
WHOLE_SECONDS = 270.0
COMPANION_SECONDS = 45.0
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Cores:
    """The CPUs for servers and clients. Empty: any, because there is only one, or the system cannot pin processes."""

    server: str = ""
    client: str = ""

    @classmethod
    def choose(cls) -> Cores:
        """Two different cores, of those that this process may use."""
        allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        if len(allowed) < 2 or shutil.which("taskset") is None:
            return cls()
        return cls(str(allowed[0]), str(allowed[1]))

    def shared(self) -> Cores:
        """Both cores for servers and clients."""
        both = f"{self.server},{self.client}" if self.server else ""
        return Cores(both, both)


def prepare_process() -> None:
    """Raise the limit of descriptors for this process and its children, and have a signal that ends the process run
    every `finally`: servers lead sessions of their own, and would go on. Main thread only."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for number in ENDING_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, _end)


def _end(number: int, _: FrameType | None) -> None:
    for each in ENDING_SIGNALS:
        signal.signal(each, signal.SIG_IGN)  # a second one would cut short what ends the servers
    raise SystemExit(128 + number)


def pinned(cores: str) -> list[str]:
    """The command prefix that pins a process to these CPUs."""
    return ["taskset", "--cpu-list", cores] if cores else []


class Running:
    """A server process, and its address."""

    def __init__(self, server: Server, start: Start, path: str, cores: str) -> None:
        self.name = server.name
        self.port = start.port
        self.path = path
        self.url = f"http://127.0.0.1:{start.port}{path}"
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
        self._process = subprocess.Popen(
            [*pinned(cores), *server.command(start)],
            cwd=REPOSITORY,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        self.pid = self._process.pid

    def await_ready(self) -> None:
        """Return when the server answers with 200. Raises BenchError if it ends, or needs longer than
        START_SECONDS."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            self.check()
            if self._answers():
                return
            time.sleep(0.05)
        raise BenchError(f"did not answer within {START_SECONDS:.0f} s{self._last_words()}")

    def check(self) -> None:
        """Raises BenchError if the process has ended."""
        if (status := self._process.poll()) is not None:
            raise BenchError(f"ended with status {status}{self._last_words()}")

    def end(self) -> None:
        """End the server and all of its processes. Processes that ignore the signal are killed. After a signal to this
        process, all are killed at once."""
        try:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(END_SECONDS)
        finally:
            # The server leads a process group of its own: whatever is left in it goes.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._process.wait(END_SECONDS)
            self._log.close()

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", self.path)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode("utf-8", "replace").strip().splitlines()
        return f": {lines[-1]}" if lines else ""


def environment() -> dict[str, str]:
    """This process's environment, with this checkout importable, and without proxies."""
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return {**kept, "PYTHONPATH": os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH", "")]))}


@contextmanager
def serving(server: Server, scenario: Scenario, cores: Cores, workers: int = 1) -> Iterator[Running]:
    """Start a server on a free port, without waiting until it is ready, and end it with all its processes."""
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        threads = scenario.threads if server.threaded else 1
        start = Start(scenario.application, _free_port(), workers, threads, scenario.psgi, scratch)
        if scenario.nginx:
            start = replace(start, socket=f"{scratch}/server.sock")
            server = replace(server, command=nginx.in_front_of(server.command, pinned(cores.client)))
        running = Running(server, start, scenario.path, cores.server)
        try:
            yield running
        finally:
            running.end()


def ask(running: Running, load: Load, seconds: float, cores: str, generator: str = "auto") -> Result:
    """Run a client to its end. `generator`: "own" is ours; "wrk" and "auto" are wrk if it can make the load. Raises
    BenchError."""
    by_wrk = generator != "own" and wrk.find() is not None and wrk.can(load)
    if by_wrk:
        command = wrk.command(running.url, load, seconds)
    else:
        given = {"load": asdict(load), "port": running.port, "path": running.path, "seconds": seconds}
        command = [sys.executable, "-m", "bench.client", json.dumps(given)]
    limit = seconds + (WHOLE_SECONDS if load.whole else CLIENT_SECONDS)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        done = subprocess.run(
            [*pinned(cores), *command],
            cwd=REPOSITORY,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BenchError(f"the client had not ended {limit - seconds:.0f} s after its time") from None
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    running.check()
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines()
        raise BenchError(f"the client failed: {words[-1] if words else done.returncode}")
    result = wrk.parse(done.stdout) if by_wrk else result_from(json.loads(done.stdout))
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return replace(result, client_busy=round(used / result.seconds, 3) if result.seconds else 0.0)


@contextmanager
def companions(beside: Beside, running: Running, cores: str) -> Iterator[None]:
    """Open the connections beside a load, and close them. Raises BenchError if the server does not accept or keep
    them."""
    command = [sys.executable, "-m", "bench.companions", beside.kind, str(beside.connections), str(running.port)]
    process = subprocess.Popen(
        [*pinned(cores), *command], cwd=REPOSITORY, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        ready = select.select([process.stdout], [], [], COMPANION_SECONDS)[0]
        said = process.stdout.readline().strip() if ready else f"not open within {COMPANION_SECONDS:.0f} s"
        if said != str(beside.connections):
            raise BenchError(said or "the process of the connections beside the load failed")
        yield
    finally:
        process.stdin.close()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(END_SECONDS)
        process.stdout.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
