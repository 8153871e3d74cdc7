"""`python -m bench.tricks [--json]`: what each memory trick of starman saves, measured by switching off one at a time.

For each trick the server is started anew, `--rounds` times, interleaved: one preloaded worker with 4 threads, so that
it gets all requests. Their number is fixed, because memory depends on it. Then the program reads
/proc/PID/smaps_rollup of the worker: once right after the load, and once when the worker has been idle for 6 s,
because an idle worker gives memory back after 5 s. A figure is the median of all rounds. USS and PSS: see
`bench.memory`. Linux only; needs Django.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import django_project
from bench.memory import MEGABYTE
from bench.processes import descendants, pss, title, uss
from bench.results import BenchError
from bench.scenarios import Scenario
from bench.servers import Server, Start
from bench.serving import Cores, Running, prepare_process, serving
from bench.without import TRICKS

# One, so that it gets all requests: a worker that gets few has less memory.
WORKERS = 1


@dataclass(frozen=True, slots=True)
class Load:
    """`requests` on each of the connections, for the paths in turn; POST with a body of `upload_bytes` if they are not
    0."""

    connections: int
    requests: int
    paths: tuple[str, ...] = ("/",)
    upload_bytes: int = 0


APPLICATIONS = {
    "hello": (Scenario("hello", "a constant"), Load(32, 300)),
    "django": (
        Scenario("django", "a project of ordinary size", django_project.APPLICATION),
        Load(8, 10 * len(django_project.PATHS), django_project.PATHS),
    ),
    "upload": (Scenario("upload", "bodies of 1 MB"), Load(32, 20, upload_bytes=1_000_000)),
}


@dataclass(frozen=True, slots=True)
class Weight:
    """The memory of the workers of one start, in bytes: one figure for each worker."""

    application: str
    without: str
    uss: tuple[int, ...]
    pss: tuple[int, ...]
    idle_uss: tuple[int, ...]


def main() -> int:
    """Measure, and print a table or JSON on standard output."""
    parser = argparse.ArgumentParser(prog="python -m bench.tricks", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print a line of JSON for each start, in bytes")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is started")
    parser.add_argument("--idle", type=float, default=6.0, metavar="SECONDS", help="time between the two readings")
    parser.add_argument("--application", action="append", choices=APPLICATIONS, help="only this; repeatable")
    parser.add_argument("--without", action="append", choices=TRICKS, help="only this trick, beside nothing; repeatable")
    arguments = parser.parse_args()
    prepare_process()
    tricks = ["nothing", *(trick for trick in arguments.without or TRICKS if trick != "nothing")]
    found = []
    with _project():
        for number in range(arguments.rounds):
            for name in arguments.application or ("hello", "django"):
                for trick in tricks:
                    try:
                        weight = weigh(name, trick, arguments.idle)
                    except BenchError as error:
                        print(f"bench: {name} without {trick}: {error}", file=sys.stderr)
                        return 1
                    found.append(weight)
                    if arguments.json:
                        print(json.dumps(asdict(weight)), flush=True)
            print(f"round {number + 1} of {arguments.rounds} is done", file=sys.stderr)
    if not arguments.json:
        print("\n".join(_table(found)))
    return 0


def weigh(name: str, trick: str, idle_seconds: float) -> Weight:
    """Start the server without a trick, load it, and read the memory of its worker. Raises BenchError."""
    scenario, load = APPLICATIONS[name]
    with serving(_starman(trick), scenario, Cores(), WORKERS) as running:
        running.await_ready()
        _ask_all(running, load)
        workers = [pid for pid in descendants(running.pid) if "starman worker" in title(pid)]
        if len(workers) != WORKERS:
            raise BenchError(f"{len(workers)} workers instead of {WORKERS}")
        busy = tuple(map(uss, workers)), tuple(map(pss, workers))
        time.sleep(idle_seconds)
        running.check()
        return Weight(name, trick, *busy, tuple(map(uss, workers)))


def _starman(trick: str) -> Server:
    def command(start: Start) -> list[str]:
        counts = ["--workers", str(start.workers), "--threads", str(start.threads), "--preload-app"]
        place = ["--listen", f"127.0.0.1:{start.port}"]
        return [sys.executable, "-m", "bench.without", trick, *counts, *place, start.application]

    return Server(f"starman without {trick}", "starman", command, "#d55e00")


def _ask_all(running: Running, load: Load) -> None:
    """Make all requests of the load. Raises BenchError if one fails."""
    body = bytes(load.upload_bytes) or None

    def ask(first: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=60)
        try:
            for number in range(first, first + load.requests):
                path = load.paths[number % len(load.paths)]
                connection.request("POST" if body else "GET", path, body)
                response = connection.getresponse()
                response.read()
                if response.status != 200:
                    raise BenchError(f"{path}: {response.status}")
        finally:
            connection.close()

    with ThreadPoolExecutor(load.connections) as pool:
        try:
            list(pool.map(ask, range(load.connections)))
        except (OSError, http.client.HTTPException) as error:
            raise BenchError(f"a request failed: {error!r}") from error
    running.check()


@contextmanager
def _project() -> Iterator[None]:
    """The Django project in a temporary directory, importable by the servers that are started meanwhile."""
    with tempfile.TemporaryDirectory(prefix="bench-django-") as directory:
        django_project.write(Path(directory))
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [directory, os.environ.get("PYTHONPATH", "")]))
        yield


def _table(found: list[Weight]) -> list[str]:
    """A line for each application and trick: medians, and how much more memory a worker has without the trick."""
    lines = [f"{'MB':8}{'without':20}{'USS':>8}{'more':>8}{'PSS':>8}{'more':>8}{'USS, idle':>12}{'more':>8}"]
    base: dict[str, tuple[float, float, float]] = {}
    for name, trick in dict.fromkeys((each.application, each.without) for each in found):
        group = [each for each in found if (each.application, each.without) == (name, trick)]
        values = (
            _median([value for each in group for value in each.uss]),
            _median([value for each in group for value in each.pss]),
            _median([value for each in group for value in each.idle_uss]),
        )
        more = [value - least for value, least in zip(values, base.setdefault(name, values), strict=True)]
        cells = "".join(f"{value:{width}.2f}{extra:+8.2f}" for value, extra, width in zip(values, more, (8, 8, 12), strict=True))
        lines.append(f"{name:8}{trick:20}{cells}")
    return lines


def _median(values: list[int]) -> float:
    return statistics.median(values) / MEGABYTE


if __name__ == "__main__":
    sys.exit(main())
