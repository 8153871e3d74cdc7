"""Thousands of idle connections cost little, and every one of them can be used again."""

from __future__ import annotations

import contextlib
import resource
import socket
from collections.abc import Iterator

import pytest

from tests.functional.support.harness import Server, wait_until
from tests.functional.support.vitals import descriptors, private_bytes
from tests.functional.support.wire import Client

CONNECTIONS = 2000

# docs/performance.md: it is less than half of this.
MOST_BYTES_EACH = 8000


@pytest.fixture
def enough_descriptors() -> Iterator[None]:
    """For the clients; the server sees to it itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS + 500
    assert hard == resource.RLIM_INFINITY or hard >= wanted, f"the limit of descriptors is {hard}, and {wanted} are needed"
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_idle_connections_stay_usable_and_cost_little(server_env: dict[str, str], enough_descriptors: None) -> None:
    arguments = ["--workers", "1", "--threads", "4", "--keepalive-timeout", "120"]
    with (
        Server("tests.functional.support.applications:app", *arguments, env=server_env) as server,
        contextlib.ExitStack() as stack,
    ):
        (worker,) = server.worker_pids()
        sockets = count(worker)
        for _ in range(100):
            with server.client() as client:
                assert client.get("/hello").body == b"hello\n"
        assert wait_until(lambda: count(worker) == sockets), count(worker)
        before = private_bytes(worker)
        clients: list[Client] = []
        for _ in range(CONNECTIONS):
            clients.append(stack.enter_context(server.client()))
            assert clients[-1].get("/hello").body == b"hello\n"
        # Each has given its duplicate back.
        assert wait_until(lambda: count(worker) == sockets + CONNECTIONS), count(worker)
        each = (private_bytes(worker) - before) / CONNECTIONS
        print(f"\n{each:.0f} bytes of private memory for an idle connection")
        for client in clients:
            assert client.get("/hello").body == b"hello\n"
        assert each < MOST_BYTES_EACH
        for client in clients:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def count(worker: int) -> int:
    """How many sockets a worker has open."""
    return sum(name.startswith("socket:") for name in descriptors(worker))
