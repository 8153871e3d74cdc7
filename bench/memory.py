"""Measures the memory of workers after load, for starman and other servers: `python -m bench.memory [--json]`.
Linux only.

For workers, USS (unique set size): the memory of one process alone, which its end would free; Private_Clean and
Private_Dirty of /proc/PID/smaps_rollup. For the master, PSS: a page that n processes share counts 1/n.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import asdict, dataclass

from bench import report
from bench.processes import descendants, family, pss, title, uss
from bench.results import BenchError
from bench.scenarios import Scenario
from bench.servers import GRANIAN, GUNICORN_GTHREAD, GUNICORN_GTHREAD_PRELOAD, STARMAN, STARMAN_PRELOAD, Server
from bench.serving import Cores, ask, prepare_process, serving

SERVERS = (STARMAN, STARMAN_PRELOAD, GUNICORN_GTHREAD, GUNICORN_GTHREAD_PRELOAD, GRANIAN)
SCENARIOS = (
    Scenario("hello", "a constant", servers=SERVERS, workers=(3,)),
    Scenario(
        "django", "a Django project without a database", "bench.django_application:application", servers=SERVERS, workers=(3,)
    ),
)
MEGABYTE = 1024 * 1024
LOAD_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Footprint:
    """The memory of one server, in bytes: USS of each worker, PSS of the master, PSS of all processes together."""

    scenario: str
    server: str
    version: str
    workers: tuple[int, ...]
    master: int
    total: int


def main() -> int:
    """Measure, and print a table or JSON on standard output."""
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print JSON, in bytes")
    arguments = parser.parse_args()
    prepare_process()
    cores = Cores.choose()
    found = []
    for scenario in SCENARIOS:
        for server in scenario.servers:
            version = server.version()
            if version is None:
                print(f"{server.name} is left out, it is not installed: {server.install}", file=sys.stderr)
                continue
            try:
                found.append(measure(server, version, scenario, cores))
            except BenchError as error:
                print(f"bench: {server.name}: {error}", file=sys.stderr)
                return 1
    if arguments.json:
        print(json.dumps({"machine": report.machine(cores), "results": [asdict(footprint) for footprint in found]}, indent=2))
    else:
        print("\n".join(_table(found)))
    return 0


def measure(server: Server, version: str, scenario: Scenario, cores: Cores) -> Footprint:
    """Start a server, load it, and read the memory of its processes when it is idle again. Raises BenchError."""
    (expected,) = scenario.workers
    with serving(server, scenario, cores, expected) as running:
        running.await_ready()
        ask(running, scenario.load, LOAD_SECONDS, "")
        # A server of one process for all would have no descendants; molds and helpers (Python's resource tracker) do
        # not serve.
        workers = [
            pid for pid in descendants(running.pid) if not any(word in title(pid) for word in ("mold", "resource_tracker"))
        ]
        if len(workers) != expected:
            raise BenchError(f"{server.name} has {len(workers)} workers, not {expected}")
        return Footprint(
            scenario.name,
            server.name,
            version,
            tuple(sorted(uss(worker) for worker in workers)),
            pss(running.pid),
            sum(pss(each) for each in family(running.pid)),
        )


def _table(found: list[Footprint]) -> list[str]:
    lines = [f"{'MB':8}{'server':36}{'worker, USS (mean)':>20}{'least':>8}{'most':>8}{'master, PSS':>14}{'all, PSS':>10}"]
    for each in found:
        mean, least, most = statistics.mean(each.workers), each.workers[0], each.workers[-1]
        numbers = [f"{value / MEGABYTE:.2f}" for value in (mean, least, most, each.master, each.total)]
        widths = (20, 8, 8, 14, 10)
        cells = "".join(number.rjust(width) for number, width in zip(numbers, widths, strict=True))
        lines.append(f"{each.scenario:8}{f'{each.server} {each.version}':36}{cells}")
    return lines


if __name__ == "__main__":
    sys.exit(main())
