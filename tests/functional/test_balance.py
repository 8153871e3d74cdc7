"""Connections are spread over the workers: each is woken in its turn, and a busy worker lets others accept first."""

from __future__ import annotations

import collections
import contextlib
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from starman.serving.accepting import exclusive_epoll
from tests.functional.support.harness import Server, wait_until
from tests.functional.support.wire import Client, encode_request

pytestmark = pytest.mark.skipif(not exclusive_epoll.available, reason="needs EPOLLEXCLUSIVE, which is Linux's")

# Answers with its process id. /wait waits until a file is there, and writes another file when it begins.
APPLICATION = """\
import os
import time
from pathlib import Path

def app(environ, start_response):
    if environ["PATH_INFO"] == "/wait":
        Path(f"begun-{os.getpid()}-{time.monotonic_ns()}").touch()
        while not Path("go").exists():
            time.sleep(0.005)
    start_response("200 OK", [])
    return [str(os.getpid()).encode()]
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APPLICATION)
    return tmp_path


def switches(pid: int) -> int:
    """How often the threads of a process have gone to sleep, which counts the events that have woken them."""
    found = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        with contextlib.suppress(OSError):
            found += next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("voluntary"))
    return found


def spread(server: Server, clients: list[Client]) -> list[int]:
    """How many of the clients' connections each worker has, found by a request on each."""
    for client in clients:
        client.send(encode_request("GET", "/"))
    counts = collections.Counter(client.read().body for client in clients)
    return [counts[str(pid).encode()] for pid in server.worker_pids()]


def test_kept_connections_are_spread_evenly(site: Path) -> None:
    with Server("app:app", "--workers", "4", cwd=site) as server, contextlib.ExitStack() as stack:
        clients = []
        for _ in range(64):
            clients.append(stack.enter_context(server.client()))
            assert clients[-1].get("/").status == 200
        counts = spread(server, clients)
        assert sum(counts) == 64
        assert all(12 <= count <= 20 for count in counts), counts


def burst(server: Server) -> list[int]:
    """How many of 64 connections each worker has that come all at once."""
    counts: collections.Counter[bytes] = collections.Counter()
    with contextlib.ExitStack() as stack:
        sockets = []
        for _ in range(64):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                sock.connect(server.address)
            sockets.append(sock)
        for sock in sockets:
            sock.settimeout(20)
            sock.sendall(encode_request("GET", "/"))
        for sock in sockets:
            counts[sock.recv(4096).rpartition(b"\r\n\r\n")[2]] += 1
    return [counts[str(pid).encode()] for pid in server.worker_pids()]


def test_so_are_those_that_come_all_at_once(site: Path) -> None:
    with Server("app:app", "--workers", "4", cwd=site) as server:
        # One of five: a worker that gets no processor at that moment cannot take its share, and the others do not wait
        # for long.
        bursts = [burst(server) for _ in range(5)]
        assert all(sum(counts) == 64 for counts in bursts)
        assert any(all(12 <= count <= 20 for count in counts) for counts in bursts), bursts


def test_one_worker_is_woken_for_a_connection(site: Path) -> None:
    with Server("app:app", "--workers", "4", cwd=site) as server:
        pids = server.worker_pids()
        others, began = 0, time.monotonic()
        for _ in range(40):
            before = {pid: switches(pid) for pid in pids}
            with server.client() as client:
                chosen = int(client.get("/").body)
            others += sum(switches(pid) - before[pid] for pid in pids if pid != chosen)
        # The ticks of idle loops are among them, two a second. A herd is three others a connection, each by more than
        # one thread.
        ticks = 3 * 2 * (time.monotonic() - began)
        assert others < 40 + 2 * ticks


@contextlib.contextmanager
def occupied(server: Server, site: Path, threads: int) -> Iterator[str]:
    """Make all threads of one worker wait, with a further request in its queue; its process id. It goes on at the
    end."""
    with contextlib.ExitStack() as stack:
        by_worker: dict[bytes, list[Client]] = collections.defaultdict(list)
        while not any(len(clients) > threads for clients in by_worker.values()):
            client = stack.enter_context(server.client())
            by_worker[client.get("/").body].append(client)
        pid, clients = next(pair for pair in by_worker.items() if len(pair[1]) > threads)
        for client in clients:
            client.send(encode_request("GET", "/wait"))
        assert wait_until(lambda: len(list(site.glob(f"begun-{pid.decode()}-*"))) == threads)
        time.sleep(0.2)  # the request in the queue counts only when it has waited for a while, which causes no event
        yield pid.decode()
        (site / "go").touch()
        for client in clients:
            assert client.read().body == pid


def test_a_busy_worker_lets_the_others_go_first(site: Path) -> None:
    with (
        Server("app:app", "--workers", "3", "--threads", "2", cwd=site) as server,
        contextlib.ExitStack() as stack,
        occupied(server, site, 2) as busy,
    ):
        # Three may still reach it: it stood in line when its threads were taken, was woken, and takes as many at once.
        clients = [stack.enter_context(server.client()) for _ in range(30)]
        for client in clients:
            client.send(encode_request("GET", "/"))
        answered = 0
        for client in clients:
            with contextlib.suppress(TimeoutError):
                client.socket.settimeout(10 if answered < 27 else 0.1)
                assert client.read().body != busy.encode()
                answered += 1
        assert answered >= 27


def test_when_all_are_busy_connections_are_accepted_all_the_same(site: Path) -> None:
    with Server("app:app", "--workers", "2", "--threads", "1", cwd=site) as server, contextlib.ExitStack() as stack:
        with occupied(server, site, 1) as first:
            other = next(pid for pid in server.worker_pids() if str(pid) != first)
            waiting = []
            while len(list(site.glob(f"begun-{other}-*"))) < 1:
                client = stack.enter_context(server.client())
                client.send(encode_request("GET", "/wait"))
                waiting.append(client)
                wait_until(lambda: len(list(site.glob(f"begun-{other}-*"))) == 1, 0.2)
            client = stack.enter_context(server.client())
            client.send(encode_request("GET", "/"))
        assert client.read().status == 200
        assert [client.read().status for client in waiting] == [200] * len(waiting)


def test_a_worker_that_was_alone_shares_with_those_that_come(site: Path) -> None:
    def all_share() -> bool:
        with contextlib.ExitStack() as stack:
            clients = []
            for _ in range(30):
                clients.append(stack.enter_context(server.client()))
                assert clients[-1].get("/").status == 200
            counts = spread(server, clients)
        return sum(counts) == 30 and max(counts) - min(counts) <= 5

    with Server("app:app", "--workers", "1", cwd=site) as server:
        for wanted in (3, 1, 3):
            time.sleep(3)  # until its own loop looks for connections, where it is alone
            assert wait_until(all_share, 10)  # at once, unless the workers themselves get no CPU
            while (workers := len(server.worker_pids())) != wanted:
                server.signal(signal.SIGTTIN if workers < wanted else signal.SIGTTOU)
                assert wait_until(lambda before=workers: len(server.worker_pids()) != before, 15)  # type: ignore[misc]
            # Each knows of the others at its next tick.
            assert wait_until(all_share, 20)
