"""Connections that come all at once, or at the last moment: none waits long, and no accepted one is lost."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.support.harness import Server
from tests.functional.support.wire import Client, encode_request

# Half a millisecond of computing, as a page takes, or a wait.
APPLICATION = """\
import time

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path.startswith("/sleep/"):
        time.sleep(float(path.split("/")[2]))
    else:
        end = time.perf_counter() + 0.0005
        while time.perf_counter() < end:
            pass
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APPLICATION)
    return tmp_path


@contextlib.contextmanager
def kept_busy(server: Server, clients: int) -> Iterator[None]:
    """Clients that send requests on their connections without a pause."""
    enough = threading.Event()

    def ask() -> None:
        with server.client() as client:
            while not enough.is_set():
                assert client.get("/").status == 200

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        enough.set()
        for thread in threads:
            thread.join()


def connections(server: Server, count: int, target: str) -> list[Client]:
    """New connections, each with a request that is sent already."""
    made = []
    for _ in range(count):
        made.append(server.client())
        made[-1].send(encode_request("GET", target))
    return made


def test_hazard_09_new_connections_do_not_starve_while_the_loop_gives_way(site: Path) -> None:
    # One accept for each iteration of a loop that is parked meanwhile was 6 ms for each connection. The bound is far
    # above that, because the machine may be busy: it finds only clients that starve. The unit tests of hazard 9 (pool,
    # inline, service) find the rest, without a clock.
    with Server(None, "--workers", "1", cwd=site) as server, kept_busy(server, 8):
        began = time.monotonic()
        for client in connections(server, 100, "/"):
            with client:
                assert client.read().status == 200
        assert time.monotonic() - began < 15, "half a millisecond each, and the load beside it"


@pytest.mark.parametrize(("workers", "threads"), [(1, 1), (2, 4)])
def test_hazard_13_what_has_connected_before_a_stop_is_served(site: Path, workers: int, threads: int) -> None:
    # Most of these are in the kernel's queue, or in the worker's, when the stop comes.
    with Server(None, "--workers", str(workers), "--threads", str(threads), cwd=site) as server:
        clients = connections(server, 40, "/sleep/0.03")
        server.signal(signal.SIGTERM)
        for client in clients:
            with client:
                assert client.read().body == b"ok"
        assert server.wait() == 0
