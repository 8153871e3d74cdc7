"""Started requests are finished: QUIT, TERM and HUP under load lose nothing; a killed worker loses only its own
requests.

A request counts as started when its head was sent before the signal, on a connection that was served before.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from tests.functional.conftest import Events
from tests.functional.support.applications import digest, pattern
from tests.functional.support.harness import Server, wait_until
from tests.functional.support.wire import Client, NoResponseError, TruncatedError, encode_request

CLIENTS = 12
WARM_UP = 3


@dataclass(slots=True)
class Outcome:
    """What one client has seen. Instants are monotonic."""

    complete: int = 0
    unanswered: list[float] = field(default_factory=list)
    truncated: list[str] = field(default_factory=list)
    first_pid: int = 0


class Load:
    """Clients that send one request after the other on kept connections, until `stop`.

    With `reconnect`, a client opens another connection when its own ends; otherwise it is done.
    """

    def __init__(self, server: Server, reconnect: bool) -> None:
        self.outcomes = [Outcome() for _ in range(CLIENTS)]
        self.stopping = threading.Event()
        self._server = server
        self._reconnect = reconnect
        self._warm = threading.Barrier(CLIENTS + 1)
        self._pool = ThreadPoolExecutor(CLIENTS)
        self._done: list[Future[None]] = [self._pool.submit(self._run, outcome) for outcome in self.outcomes]

    def wait_until_warm(self) -> None:
        """Return when each client has been served on its connection."""
        self._warm.wait(30)

    def finish(self) -> list[Outcome]:
        """Wait for all clients; what they have seen. An unexpected error of a client is raised here."""
        for future in self._done:
            future.result(60)
        self._pool.shutdown()
        return self.outcomes

    def _run(self, outcome: Outcome) -> None:
        client = self._server.client()
        outcome.first_pid = int(client.get("/pid").body)
        for _ in range(WARM_UP):
            self._request(client, outcome)
        self._warm.wait(30)
        while not self.stopping.is_set():
            if self._request(client, outcome):
                continue
            client.close()
            if not self._reconnect:
                return
            client = self._server.client()
        client.close()

    @staticmethod
    def _request(client: Client, outcome: Outcome) -> bool:
        """Make one request; whether the connection can be used again."""
        sent = time.monotonic()
        try:
            client.send(encode_request("POST", "/slow/0.02?name=", body=b"x"))
            sent = time.monotonic()
            response = client.read()
        except (NoResponseError, BrokenPipeError, ConnectionResetError):
            outcome.unanswered.append(sent)
            return False
        except TruncatedError as error:
            outcome.truncated.append(str(error))
            return False
        assert (response.status, response.body) == (200, b"slow \n")
        outcome.complete += 1
        return response.persistent


@contextmanager
def two_workers(env: dict[str, str]) -> Iterator[Server]:
    with Server("tests.functional.support.applications:app", "--workers", "2", "--threads", "4", env=env) as server:
        yield server


@pytest.mark.parametrize("signum", [signal.SIGQUIT, signal.SIGTERM, signal.SIGINT])
def test_stopping_under_load_loses_no_started_request(server_env: dict[str, str], signum: signal.Signals) -> None:
    with two_workers(server_env) as server:
        load = Load(server, reconnect=False)
        load.wait_until_warm()
        signalled = time.monotonic()
        server.signal(signum)
        outcomes = load.finish()
        assert [outcome.truncated for outcome in outcomes] == [[]] * CLIENTS
        lost = [sent - signalled for outcome in outcomes for sent in outcome.unanswered if sent < signalled]
        assert lost == [], server.log
        assert server.wait() == 0


def test_restarting_under_load_loses_no_started_request(server_env: dict[str, str]) -> None:
    with two_workers(server_env) as server:
        before = set(server.worker_pids())
        load = Load(server, reconnect=True)
        load.wait_until_warm()
        signalled = time.monotonic()
        server.signal(signal.SIGHUP)
        replaced = wait_until(lambda: len(server.worker_pids()) == 2 and not before & set(server.worker_pids()), 20)
        load.stopping.set()
        outcomes = load.finish()
        assert replaced, server.log
        assert [outcome.truncated for outcome in outcomes] == [[]] * CLIENTS
        assert [sent for outcome in outcomes for sent in outcome.unanswered if sent < signalled] == [], server.log


def test_pipelined_requests_that_were_sent_are_answered(server_env: dict[str, str], events: Events) -> None:
    with two_workers(server_env) as server, server.client() as client:
        assert client.get("/hello").status == 200
        client.send(encode_request("GET", "/slow/0.2?name=first") * 3)
        events.wait_for("start first")
        server.signal(signal.SIGQUIT)
        assert [response.body for response in client.read_many(["GET"] * 3)] == [b"slow first\n"] * 3
        assert client.at_end()


def test_an_upload_under_way_is_received_and_answered() -> None:
    body = pattern(3_000_000)
    request = encode_request("POST", "/digest", body=body)
    with (
        Server("tests.functional.support.applications:app", "--workers", "1") as server,
        server.client() as client,
        server.client() as idle,
    ):
        assert client.get("/hello").status == idle.get("/hello").status == 200
        client.send(request[:1_500_000])
        server.signal(signal.SIGQUIT)
        assert idle.at_end()  # so the worker has heard of it
        for offset in range(1_500_000, len(request), 100_000):
            client.send(request[offset : offset + 100_000])
        response = client.read()
        assert response.body == digest(body)
        assert response.get("Connection") == "close"
        assert client.at_end()


def test_a_slow_reader_gets_the_whole_response(server_env: dict[str, str]) -> None:
    with two_workers(server_env) as server, server.client() as client:
        client.send(encode_request("GET", "/stream/20000000?step=100000"))
        assert client.read_head().status == 200
        server.signal(signal.SIGQUIT)
        rest = client.read_to_end()
        assert rest.endswith(b"\r\n0\r\n\r\n")
        assert len(rest) > 20_000_000 - 200_000


def test_idle_connections_do_not_delay_the_end(server_env: dict[str, str]) -> None:
    with two_workers(server_env) as server, server.client() as client, server.client() as fresh:
        assert client.get("/hello").status == 200
        started = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - started < 10
        assert client.at_end()
        assert fresh.at_end()


def test_a_killed_worker_is_replaced_and_only_its_own_requests_are_lost(server_env: dict[str, str]) -> None:
    with two_workers(server_env) as server:
        load = Load(server, reconnect=True)
        load.wait_until_warm()
        victim, sibling = server.worker_pids()
        killed = time.monotonic()
        kill_worker(server, victim)
        assert wait_until(lambda: len(server.worker_pids()) == 2 and victim not in server.worker_pids()), server.log
        counts = [outcome.complete for outcome in load.outcomes]
        assert wait_until(lambda: all(now.complete > then + 3 for now, then in zip(load.outcomes, counts, strict=True)))
        load.stopping.set()
        outcomes = load.finish()
        assert sibling in server.worker_pids()
        for outcome in outcomes:
            lost = len(outcome.unanswered) + len(outcome.truncated)
            assert lost <= (1 if outcome.first_pid == victim else 0), (outcome, victim)
            assert all(sent > killed - 5 for sent in outcome.unanswered)


def kill_worker(server: Server, pid: int) -> None:
    """SIGKILL one worker of this server, and nothing else."""
    assert pid in server.children()
    os.kill(pid, signal.SIGKILL)
