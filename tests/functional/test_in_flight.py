"""The number of requests in flight in the error log when a server stops: all of them, not only those that threads
run.

A client sends `Expect: 100-continue`. The interim response proves that the loop has received the head, whether a
thread runs the request or not.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.functional.support.harness import Process, Server, wait_until
from tests.functional.support.wire import Client, NoResponseError, encode_request

APPLICATION = """\
import os, time

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/big":
        body = b"x" * 8_000_000
    else:
        body = environ["wsgi.input"].read() or b"ok"
        with open("holding", "a") as file:
            file.write("x")
        while os.path.exists("hold"):
            time.sleep(0.01)
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]

if __name__ == "__main__":
    import starman

    starman.run(app, listen="127.0.0.1:0", workers=2, threads=1)
"""

CUT = r"and may take 30 s to finish; a second signal aborts them\n"


class Site:
    """An application that holds requests as long as there is a file, and a server that runs it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.hold = directory / "hold"
        self.hold.touch()
        (directory / "site_app.py").write_text(APPLICATION)

    def serve(self, threads: int, workers: int = 1) -> Server:
        arguments = ("--threads", str(threads), "--workers", str(workers))
        return Server("site_app:app", *arguments, cwd=self.directory, env={"PYTHONDONTWRITEBYTECODE": "1"})

    def held(self, count: int) -> bool:
        """Wait until so many requests have been called."""
        file = self.directory / "holding"
        return wait_until(lambda: file.exists() and file.stat().st_size == count, 30)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.hold.unlink(missing_ok=True)


@contextlib.contextmanager
def clients_of(port: int) -> Iterator[Callable[[], Client]]:
    """Makes clients, and closes them at the end."""
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(Client(("127.0.0.1", port), 60))


def announce(client: Client) -> None:
    """Send the head of a request, and wait until the loop has received it."""
    client.send(encode_request("POST", "/", [("Expect", "100-continue"), ("Content-Length", "4")]))
    assert client.read_head().status == 100


def announced(client: Client) -> Client:
    """Announce a request, then send its body."""
    announce(client)
    client.send(b"body")
    return client


def finish(site: Site, clients: list[Client]) -> None:
    """Let the requests go, and read their responses."""
    site.hold.unlink()
    for client in clients:
        assert client.read().body == b"body"


@pytest.mark.parametrize("workers", [1, 2])
def test_requests_that_wait_for_a_thread_are_counted(site: Site, workers: int) -> None:
    with site.serve(1, workers) as server, clients_of(server.port) as connect:
        clients = [announced(connect()) for _ in range(5)]
        server.signal(signal.SIGTERM)
        server.wait_for(rf"stopping: 5 requests are in flight {CUT}")
        finish(site, clients)
        assert server.wait() == 0
    assert server.log.count("stopping: ") == 1


def test_an_embedded_server_counts_as_well(site: Site) -> None:
    running = Process([sys.executable, "-W", "error", "site_app.py"], cwd=site.directory)
    try:
        port = int(running.wait_for(r"ready: .*:(\d+)", 30)[1])
        with clients_of(port) as connect:
            clients = [announced(connect()) for _ in range(5)]
            running.signal(signal.SIGTERM)
            running.wait_for(rf"stopping: 5 requests are in flight {CUT}")
            finish(site, clients)
            assert running.wait() == 0
    finally:
        running.kill()


def test_without_threads_requests_are_counted_while_the_loop_runs_one(site: Site) -> None:
    with site.serve(0) as server, clients_of(server.port) as connect:
        client = connect()
        client.send(3 * encode_request("GET", "/"))
        assert site.held(1)
        server.signal(signal.SIGTERM)
        server.wait_for(rf"stopping: 3 requests are in flight {CUT}")
        site.hold.unlink()
        assert [client.read().body for _ in range(3)] == [b"ok"] * 3
        assert server.wait() == 0


def test_bodies_that_arrive_and_responses_that_are_sent_are_counted(site: Site) -> None:
    with site.serve(2) as server, clients_of(server.port) as connect:
        reader, gone, uploader = connect(), connect(), connect()
        reader.send(encode_request("GET", "/big"))
        assert reader.socket.recv(1) == b"H"
        announced(gone)
        clients = [announced(connect()) for _ in range(2)]
        assert site.held(2)
        gone.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        gone.close()
        announce(uploader)
        server.signal(signal.SIGTERM)
        server.wait_for(rf"stopping: 5 requests are in flight {CUT}")
        finish(site, clients)
        uploader.send(b"body")
        assert uploader.read().body == b"body"
        left = 8_000_000
        while received := reader.socket.recv(1 << 20):
            left -= len(received)
        assert left <= 0
        assert server.wait() == 0


def test_requests_that_a_second_signal_cuts_are_counted(site: Site) -> None:
    with site.serve(1) as server, clients_of(server.port) as connect:
        clients = [announced(connect()) for _ in range(3)]
        assert site.held(1)
        server.signal(signal.SIGTERM)
        server.wait_for(rf"stopping: 3 requests are in flight {CUT}")

        def is_cut() -> bool:
            server.signal(signal.SIGTERM)
            return "stopping at once" in server.log

        assert wait_until(is_cut)
        assert server.wait() == 1
        server.wait_for(r"stopping at once: all workers are killed while serving POST / \(for \d+\.\d s\) and 2 more\n")
        for client in clients:
            with pytest.raises(NoResponseError):
                client.read()


def test_a_worker_that_cannot_count_does_not_delay_the_message_for_long(site: Site) -> None:
    with site.serve(1) as server, clients_of(server.port) as connect:
        client = announced(connect())
        assert site.held(1)
        (worker,) = server.worker_pids()
        os.kill(worker, signal.SIGSTOP)
        server.signal(signal.SIGTERM)
        server.wait_for(r"stopping: at least 1 request is in flight and may take 30 s to finish; a second signal aborts it\n")
        os.kill(worker, signal.SIGCONT)
        finish(site, [client])
        assert server.wait() == 0


def test_an_idle_server_has_none_in_flight(site: Site) -> None:
    site.hold.unlink()
    with site.serve(1) as server, clients_of(server.port) as connect:
        client = connect()
        assert client.get("/").body == b"ok"
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    assert re.search(r"\[INFO\] stopping: no request is in flight\n.*\[INFO\] starman \S+ has ended\n$", server.log)
