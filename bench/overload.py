"""Measures servers at twice the capacity of their threads: `python -m bench.overload [--servers NAME,…]`.

Requests come at random instants, each on a connection of its own. A client gives up after PATIENCE and closes its
connection, as people and proxies do. What counts is the goodput: complete responses in that time, per second. Without
a limit the queue grows, until all threads work for clients that have given up.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import command, report
from bench.report import grid
from bench.results import BenchError
from bench.runner import entrants
from bench.scenarios import Scenario
from bench.servers import GRANIAN, GUNICORN_GTHREAD, STARMAN, STARMAN_SHEDDING, WAITRESS, Server
from bench.serving import Cores, prepare_process, serving
from bench.workloads import OVERLOAD_SECONDS
from starman.commands.option_types import seconds, whole_number

THREADS = 4
CAPACITY = THREADS / OVERLOAD_SECONDS
# Requests per second, and how long (seconds) a client waits for its response.
RATE = 2 * CAPACITY
PATIENCE = 2.0
SERVERS = (STARMAN_SHEDDING, STARMAN, GRANIAN, GUNICORN_GTHREAD, WAITRESS)
SCENARIO = Scenario("overload", "twice the capacity of the threads", "bench.workloads:overloaded", servers=SERVERS)
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@dataclass
class Round:
    """What one round has brought: the latencies (seconds) of good responses, and how many requests were refused or
    given up."""

    latencies: list[float] = field(default_factory=list)
    refused: int = 0
    given_up: int = 0

    def p99(self) -> float:
        """The 99th percentile of the good latencies; infinite if there are none."""
        ordered = sorted(self.latencies)
        return ordered[int(0.99 * (len(ordered) - 1))] if ordered else float("inf")


async def load(port: int, seconds: float, seed: int) -> Round:
    """Send requests at random instants for `seconds`, and wait for all of them."""
    found, instants = Round(), random.Random(seed)
    at = began = time.perf_counter()
    async with asyncio.TaskGroup() as requests:
        while at - began < seconds:
            await asyncio.sleep(max(at - time.perf_counter(), 0.0))
            requests.create_task(_ask(port, at, found))
            at += instants.expovariate(RATE)
    return found


async def _ask(port: int, began: float, found: Round) -> None:
    writer = None
    try:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(REQUEST)
            response = await reader.read()
        if b" 200 " in response.partition(b"\r\n")[0]:
            found.latencies.append(time.perf_counter() - began)
        else:
            found.refused += 1
    except (TimeoutError, OSError):
        found.given_up += 1
    finally:
        if writer is not None:
            writer.close()


def measure(servers: Sequence[Server], seconds: float, rounds: int) -> dict[str, list[Round]]:
    """Measure each server in each round, in turn."""
    found: dict[str, list[Round]] = {server.name: [] for server in servers}
    cores = Cores.choose()
    for number in range(rounds):
        for server in servers:
            with serving(server, SCENARIO, cores) as running:
                running.await_ready()
                found[server.name].append(asyncio.run(load(running.port, seconds, number)))
            print(f"round {number + 1}: {server.name}", file=sys.stderr)
    return found


def markdown(found: dict[str, list[Round]], seconds: float) -> str:
    """A table with the medians of the rounds."""
    rows = []
    for name, rounds in found.items():
        good = statistics.median(len(each.latencies) / seconds for each in rounds)
        late = statistics.median(each.p99() for each in rounds)
        sent = [len(each.latencies) + each.refused + each.given_up for each in rounds]
        refused = statistics.median(100 * each.refused / count for each, count in zip(rounds, sent, strict=True))
        given_up = statistics.median(100 * each.given_up / count for each, count in zip(rounds, sent, strict=True))
        rows.append((name, f"{good:.0f}", f"{late:.2f}", f"{refused:.0f}", f"{given_up:.0f}"))
    return grid(("server", "goodput, requests/s", "p99 of them, s", "refused, %", "given up, %"), rows)


def document(found: dict[str, list[Round]], seconds: float) -> dict[str, Any]:
    """All rounds, as a structure for JSON: the goodput a second, and the shares of the requests."""
    servers = {
        name: {
            "goodput": statistics.median(len(each.latencies) / seconds for each in rounds),
            "p99_seconds": statistics.median(each.p99() for each in rounds),
            "rounds": [
                {"good": len(each.latencies), "refused": each.refused, "given_up": each.given_up, "p99_seconds": each.p99()}
                for each in rounds
            ],
        }
        for name, rounds in found.items()
    }
    about = {**report.machine(Cores.choose()), "seconds": seconds, "load_after": [round(each, 2) for each in os.getloadavg()]}
    return {"about": about, "rate": RATE, "patience_seconds": PATIENCE, "servers": servers}


def main() -> int:
    """Measure, and print Markdown on standard output."""
    parser = argparse.ArgumentParser(prog="python -m bench.overload", description="Measure servers at twice their capacity.")
    parser.add_argument("--seconds", type=seconds(0.1, 3600), default=12.0, help="the length of a round (default: %(default)s)")
    parser.add_argument(
        "--rounds", type=whole_number(1, command.MOST_ROUNDS), default=3, help="how many rounds (default: %(default)s)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write JSON with every round")
    command.add_servers(parser)
    given = parser.parse_args()
    chosen = [entrant.server for entrant in entrants(SCENARIO, given.servers)]
    if not chosen:
        parser.error(
            f"none of these servers is measured here, or installed; there are {', '.join(each.name for each in SERVERS)}"
        )
    try:
        prepare_process()
        found = measure(chosen, given.seconds, given.rounds)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    if given.json:
        report.write_json(given.json, document(found, given.seconds))
    print(markdown(found, given.seconds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
