"""Random resets, breaks and delays on both sides: no byte reaches the wrong client, and nothing is left afterwards.

FAULTS_SECONDS is the length of the test (`make faults`: 60). FAULTS_SEED repeats a run with the seed that it
printed.
"""

from __future__ import annotations

import json
import os
import random
import re
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from starman.serving.accepting import exclusive_epoll
from tests.functional.support.certificates import Pair
from tests.functional.support.faulty import SECRET, marked
from tests.functional.support.harness import Server, wait_until
from tests.functional.support.observing import kinds
from tests.functional.support.visitors import Visitor
from tests.functional.support.vitals import descriptors, private_bytes, thread_count

SECONDS = float(os.environ.get("FAULTS_SECONDS", "6"))
SEED = int(os.environ.get("FAULTS_SEED", random.SystemRandom().randrange(1 << 32)))
VISITORS = 12
APPLICATION_THREADS = 4
# The loop's, the application's, the one that waits for connections (Linux), and the one that writes the access log.
THREADS = 1 + APPLICATION_THREADS + exclusive_epoll.available + 1
MEBIBYTE = 1024 * 1024

# anyio keeps a thread that wrote a spool file for 10 s more; then it ends at the next use, which the access log is.
SETTLE_SECONDS = 30.0

# What the allocator may keep of the busiest moment. A leak of one object a connection would be more.
MOST_GROWTH = 24 * MEBIBYTE

# Seconds: short for the test, and long for a machine that has other things to do.
TIMEOUT = 5

OPTIONS = {
    "workers": 1,
    "threads": APPLICATION_THREADS,
    "body-buffer": "64K",
    "header-timeout": TIMEOUT,
    "keepalive-timeout": TIMEOUT,
    "write-timeout": TIMEOUT,
    "ssl-handshake-timeout": TIMEOUT,
}
DEFECTS = re.compile(
    r"inside starman|checking its timeouts failed|Exception in callback|never retrieved|never awaited|Warning|\[WARNING\]"
)


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path, "localhost")


@pytest.fixture
def server(tmp_path: Path, pair: Pair) -> Iterator[Server]:
    """One worker, so that it is the one that is looked at; a plain listener and one of TLS; a directory for spool
    files."""
    (tmp_path / "spool").mkdir()
    options = OPTIONS | {"access-log": tmp_path / "access.log"}
    arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    listen = ["127.0.0.1:0", "127.0.0.1:0:ssl"]
    # glibc would keep freed memory, tens of MB by chance, for the next request of it: without that, growth is a leak.
    malloc = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    env = {"TMPDIR": str(tmp_path / "spool"), **malloc}
    with Server("tests.functional.support.faulty:app", *arguments, *pair.arguments, listen=listen, env=env) as running:
        yield running


def visit(server: Server, pair: Pair, seconds: float, seed: str) -> list[Visitor]:
    """Let visitors come for some time. Raises what one of them has found wrong."""
    ports = (server.ports[0], server.ports[1])
    visitors = [Visitor(ports, pair, random.Random(f"{seed}-{number}")) for number in range(VISITORS)]
    until = time.monotonic() + seconds
    with ThreadPoolExecutor(VISITORS) as pool:
        list(pool.map(lambda visitor: visitor.run(until), visitors))
    return visitors


def alive(server: Server) -> dict[str, int]:
    """How many objects of connections and requests there are in the worker, those of this question left out."""
    with server.client() as client:
        own = {"Connection": 1, "RequestParser": 1, "Writer": 1, "SendQueue": 1, "Progress": 1}
        own |= {"Exchange": 1, "RequestHead": 1, "Call": 1}
        found: dict[str, int] = json.loads(client.get("/alive/00000/0").body)
        return {name: count - own.get(name, 0) for name, count in found.items() if count != own.get(name, 0)}


def at_rest(server: Server, worker: int) -> Counter[str]:
    """The open descriptors of a worker without clients, after the first one: libuv opens its spare descriptor for the
    first."""
    before = kinds(descriptors(worker))["socket:[N]"]
    with server.client() as client:
        assert client.get("/whole/00000/16").body == marked("00000", 16)
    assert wait_until(lambda: kinds(descriptors(worker))["socket:[N]"] == before)
    return kinds(descriptors(worker))


@pytest.fixture
def held() -> Iterator[list[socket.socket]]:
    """Sockets that visitors have left open."""
    sockets: list[socket.socket] = []
    yield sockets
    for sock in sockets:
        sock.close()


def test_cuts_resets_and_delays_of_both_sides(server: Server, pair: Pair, tmp_path: Path, held: list[socket.socket]) -> None:
    print(f"FAULTS_SEED={SEED} repeats this run")
    (worker,) = server.worker_pids()
    opened = at_rest(server, worker)
    # Once without looking: memory, caches and threads then are as large as this makes them.
    held += [sock for visitor in visit(server, pair, SECONDS / 3, f"{SEED}-before") for sock in visitor.held]
    assert wait_until(lambda: not alive(server), SETTLE_SECONDS), alive(server)
    memory = private_bytes(worker)

    visitors = visit(server, pair, SECONDS, str(SEED))
    held += [sock for visitor in visitors for sock in visitor.held]
    print(f"{sum(visitor.visits for visitor in visitors)} visits, {sum(visitor.verified_bytes for visitor in visitors)} bytes")
    assert sum(visitor.visits for visitor in visitors) > 10 * SECONDS

    # Also those of clients that left silently: their connections are still open at the client's end.
    assert wait_until(lambda: not alive(server), SETTLE_SECONDS), alive(server)
    assert wait_until(lambda: kinds(descriptors(worker)) == opened, SETTLE_SECONDS), kinds(descriptors(worker)) - opened
    assert wait_until(lambda: thread_count(worker) == THREADS, SETTLE_SECONDS), thread_count(worker)
    assert list((tmp_path / "spool").iterdir()) == []
    growth = private_bytes(worker) - memory
    print(f"private memory has grown by {growth // 1024} KiB")
    assert growth < MOST_GROWTH
    assert server.worker_pids() == [worker]
    assert DEFECTS.search(server.log) is None, DEFECTS.findall(server.log)
    assert SECRET in server.log
