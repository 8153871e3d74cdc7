"""Measures the private memory of a worker per idle keep-alive connection: `python -m bench.idle [CONNECTIONS]`.
Linux only.

There is one worker. Each connection makes one request, then idles for longer than the worker keeps its second
descriptor. The default of 10,000 connections needs a descriptor limit (`ulimit -Hn`) a little above that. The
scenario `idle` of the bench measures the same beside a load, and for other servers.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from bench.companions import open_idle
from bench.processes import descendants, uss
from bench.scenarios import Scenario
from bench.servers import STARMAN
from bench.serving import Cores, prepare_process, serving

SCENARIO = Scenario("idle", "a constant", servers=(STARMAN,))
CONNECTIONS = 10_000
IDLE_SECONDS = 3.0
ROUNDS = 3


def main() -> int:
    """Print the figure of each round."""
    connections = int(sys.argv[1]) if len(sys.argv) > 1 else CONNECTIONS
    prepare_process()
    with serving(STARMAN, SCENARIO, Cores()) as running:
        running.await_ready()
        worker = _worker_of(running.pid)
        before = uss(worker)
        for number in range(1, ROUNDS + 1):
            clients = open_idle(connections, running.port)
            time.sleep(IDLE_SECONDS)
            each = (uss(worker) - before) / connections
            print(f"round {number}: {connections} idle connections, {each:.0f} bytes each")
            for client in clients:
                client.close()
            time.sleep(IDLE_SECONDS)
            print(f"round {number}: none any more, {(uss(worker) - before) / 1e6:.1f} MB above the beginning")
    return 0


def _worker_of(master: int) -> int:
    """The child of the master that has threads: the mold has none."""
    return max(descendants(master), key=lambda pid: len(list(Path(f"/proc/{pid}/task").iterdir())))


if __name__ == "__main__":
    sys.exit(main())
