"""Replaced workers that still finish requests do not pile up, however often workers are replaced."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.functional.support.harness import Server, wait_until
from tests.functional.support.wire import encode_request

# Large enough that the server has to keep what is left of a response for a client that does not read.
APPLICATION = """\
import os

BODY = b"x" * (8 << 20)

def app(environ, start_response):
    path = environ["PATH_INFO"]
    environ["starman.harakiri"] = path.startswith("/harakiri")
    body = BODY if path.endswith("/large") else b"%d" % os.getpid()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""

# The number is that of the moment: others may be starting, or one without a reader has just ended. The line is not
# repeated for a while.
WAITS = r"WARNING\] replacing workers waits: [1-4] replaced workers? (?:is|are) still finishing"


class SlowReaders:
    """Clients that request a large response, one after the other, and read nothing of it."""

    def __init__(self, server: Server, target: str) -> None:
        self.asked = 0
        self._server = server
        self._target = target
        self._sockets: list[socket.socket] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.wait(0.04):  # not more often: the stop has to end all of these requests
            with contextlib.suppress(OSError):
                client = socket.create_connection(("127.0.0.1", self._server.port), 5)
                self._sockets.append(client)
                client.sendall(encode_request("GET", self._target))
                self.asked += 1

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(20)
        for client in self._sockets:
            client.close()


@contextmanager
def slow_readers(server: Server, target: str) -> Iterator[SlowReaders]:
    readers = SlowReaders(server, target)
    try:
        yield readers
    finally:
        readers.stop()


def serve(directory: Path, *arguments: str) -> Server:
    (directory / "site_app.py").write_text(APPLICATION)
    return Server("site_app:app", "--workers", "2", "--preload-app", "--graceful-timeout", "60", *arguments, cwd=directory)


def most_workers(server: Server, seconds: float, meanwhile: Callable[[], None] = lambda: None) -> int:
    """The most workers that existed at once in this time, during which all requests were answered."""
    most = 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        meanwhile()
        most = max(most, min(len(server.worker_pids()) for _ in range(3)))
        with server.client() as client:
            assert client.get("/").status == 200
    return most


@pytest.mark.parametrize(
    ("arguments", "target"),
    [([], "/harakiri/large"), (["--max-requests", "1"], "/large"), (["--max-worker-lifetime", "0.3"], "/large")],
    ids=["harakiri", "max-requests", "lifetime"],
)
def test_workers_that_are_to_be_replaced_all_the_time_go_on_serving(tmp_path: Path, arguments: list[str], target: str) -> None:
    with serve(tmp_path, *arguments) as server, slow_readers(server, target) as readers:
        server.wait_for(WAITS, 30)
        before = readers.asked
        assert most_workers(server, 2) <= 4
        assert wait_until(lambda: readers.asked > before + 5), "new clients are served all the while"
        assert server.log.count("replacing workers waits") == 1


def test_restarts_one_after_the_other_keep_the_bound(tmp_path: Path) -> None:
    with serve(tmp_path) as server:
        with slow_readers(server, "/large"):
            assert most_workers(server, 4, lambda: server.signal(signal.SIGHUP)) <= 4
            server.wait_for(WAITS, 30)
        server.wait_for(r"restarted: 2 workers are new\n(?!(.*\n)*.*restarting)", 60)


def test_workers_that_others_end_keep_the_bound(tmp_path: Path) -> None:
    with serve(tmp_path) as server, slow_readers(server, "/large") as readers:
        told: set[int] = set()  # sent twice, the signal cuts
        most = 0
        until = time.monotonic() + 60
        while time.monotonic() < until:
            if len(told) >= 4:  # from now on, more would be too many
                until = min(until, time.monotonic() + 2)
            asked = readers.asked
            wait_until(partial(has_asked, readers, asked + 8), 1)
            for pid in set(server.worker_pids()) - told:
                told.add(pid)
                os.kill(pid, signal.SIGQUIT)
            most = max(most, len(server.worker_pids()))
        assert most == 4, "all four drain, and nothing is left to serve until one of them has ended"
        assert len(told) >= 4  # one that had no reader yet has ended at once
        server.wait_for(WAITS)


def has_asked(readers: SlowReaders, count: int) -> bool:
    return readers.asked >= count
