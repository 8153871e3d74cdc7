"""`starman-uv trace`: filters, restarts and new workers, clients that do not read, and the end of the observer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.functional.support.commands_for_servers import command, status_of
from tests.functional.support.harness import REPOSITORY, Server, environment, wait_until
from tests.functional.test_commands import observers

APPLICATION = """\
import os, time

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/slow":
        time.sleep(0.3)
    elif path == "/held":
        while not os.path.exists("released"):
            time.sleep(0.02)
    elif path == "/stuck":
        time.sleep(3)
    elif path == "/fail":
        raise ValueError("on purpose")
    start_response("404 Not Found" if path.startswith("/no") else "200 OK", [("Content-Type", "text/plain")])
    return [b"fine"]
"""
REPLACED = "restarted: 2 workers are new"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "site_app.py").write_text(APPLICATION)
    return tmp_path


class Trace:
    """A running `starman-uv trace --json`, whose output is read as it comes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.requests: list[dict[str, Any]] = []
        self.errors: list[str] = []
        assert process.stdout is not None
        assert process.stderr is not None
        streams = ((process.stdout, self._add), (process.stderr, self.errors.append))
        self.readers = [threading.Thread(target=self._read, args=both) for both in streams]
        for reader in self.readers:
            reader.start()

    @staticmethod
    def _read(stream: Any, into: Any) -> None:
        with stream:
            for line in stream:
                into(line)

    def _add(self, line: str) -> None:
        self.requests.append(json.loads(line))

    def targets(self) -> list[str]:
        return [request["target"] for request in self.requests]


@contextmanager
def tracing(server: Server, *options: str) -> Iterator[Trace]:
    """A trace that has begun in all workers."""
    words = [sys.executable, "-u", "-W", "error", "-m", "starman", "trace", "--pid", str(server.pid), "--json", *options]
    process = subprocess.Popen(
        words, cwd=REPOSITORY, env=environment(None), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    trace = Trace(process)
    try:
        yield trace
    finally:
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) in (0, 1)
        for reader in trace.readers:
            reader.join()


def get(server: Server, path: str) -> int:
    with server.client() as client:
        return client.get(path).status


def begun(server: Server, trace: Trace, count: int = 2) -> None:
    """Wait until this many workers trace: send requests until each has shown one."""
    assert wait_until(lambda: get(server, "/begun") == 200 and len({r["pid"] for r in trace.requests}) >= count, 20)
    settled(server, trace)
    trace.requests.clear()


def settled(server: Server, trace: Trace) -> None:
    """Wait until the requests before have arrived: a worker sends every 0.1 s."""
    count = -1
    while count != len(trace.requests):
        count = len(trace.requests)
        threading.Event().wait(0.5)


@pytest.mark.parametrize("threads", ["2", "0"])
def test_requests_are_shown_as_they_finish(site: Path, threads: str) -> None:
    with (
        Server("site_app:app", "--workers", "1", "--threads", threads, "--header-timeout", "1", cwd=site) as server,
        tracing(server) as trace,
    ):
        begun(server, trace, 1)
        assert [get(server, path) for path in ("/a?b=c", "/slow", "/no", "/fail")] == [200, 200, 404, 500]
        with server.client() as client:
            client.send(b"GET / HTTP/1.1\r\n\r\n")
            assert client.read().status == 400
        assert wait_until(lambda: len(trace.requests) == 5, 10)
        # A failed request is not over before its traceback is formatted, after the response.
        shown = sorted(((r["method"], r["target"], r["status"]) for r in trace.requests), key=lambda shown: shown[2])
        assert shown == [
            ("GET", "/a?b=c", 200),
            ("GET", "/slow", 200),
            (None, None, 400),
            ("GET", "/no", 404),
            ("GET", "/fail", 500),
        ]
        assert 0.3 <= trace.requests[1]["seconds"] < 3
        assert trace.requests[0]["pid"] == server.worker_pids()[0]
        assert trace.requests[0]["worker"] == 1
        assert trace.requests[0]["client"] == "127.0.0.1"
        assert trace.requests[0]["body_bytes"] == 4
        assert trace.errors == []


def test_filters_and_two_clients_at_once(site: Path) -> None:
    with (
        Server("site_app:app", "--workers", "2", cwd=site) as server,
        tracing(server, "--status", "5XX,404") as errors,
        tracing(server, "--path", "/slow*", "--min-duration", "0.2", "--method", "get") as slow,
        tracing(server) as everything,
    ):
        begun(server, everything)
        for path in ("/a", "/slow", "/no", "/fail", "/slow"):
            get(server, path)
        assert wait_until(lambda: len(everything.requests) == 5 and len(slow.requests) == len(errors.requests) == 2, 10)
        assert sorted(errors.targets()) == ["/fail", "/no"]
        assert slow.targets() == ["/slow", "/slow"]
        everything.process.send_signal(signal.SIGINT)
        assert everything.process.wait(20) == 0
        get(server, "/no")
        assert wait_until(lambda: len(errors.requests) == 3, 10)


def test_the_table_and_its_end_after_a_number_of_requests(site: Path) -> None:
    with Server("site_app:app", "--workers", "1", cwd=site) as server:
        stop = threading.Event()

        def ask() -> None:
            while not stop.wait(0.05):
                get(server, "/a%1B%5B2J?b")

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            done = command("trace", "--pid", str(server.pid), "--count", "2", timeout=30)
        finally:
            stop.set()
            asking.join()
        assert (done.returncode, done.stderr) == (0, "")
        header, *rows = done.stdout.splitlines()
        assert header.split() == ["time", "worker", "status", "seconds", "queued", "bytes", "client", "request"]
        assert len(rows) == 2
        for row in rows:
            assert row.split()[1:3] == ["1", "200"]
            assert row.endswith("  127.0.0.1        GET /a%1B%5B2J?b")


@pytest.mark.parametrize("mode", ["--preload-app", "--no-preload-app"])
def test_new_workers_join_the_trace(site: Path, mode: str) -> None:
    with Server("site_app:app", "--workers", "2", mode, cwd=site) as server, tracing(server) as trace:
        begun(server, trace)
        server.signal(signal.SIGHUP)
        server.wait_for(REPLACED)
        for _ in range(10):
            get(server, "/after-restart")
        assert wait_until(lambda: trace.targets().count("/after-restart") == 10, 10)
        old = server.worker_pids()
        os.kill(old[0], signal.SIGKILL)
        assert wait_until(lambda: len(server.worker_pids()) == 2 and old[0] not in server.worker_pids(), 15)
        new = [pid for pid in server.worker_pids() if pid not in old]
        assert wait_until(lambda: get(server, "/replaced") and any(r["pid"] in new for r in trace.requests), 15)


def test_requests_that_finish_while_a_worker_ends_are_shown(site: Path) -> None:
    with Server("site_app:app", "--workers", "1", cwd=site) as server, tracing(server) as trace:
        begun(server, trace, 1)
        with server.client() as client:
            client.send(b"GET /held HTTP/1.1\r\nHost: a\r\n\r\n")
            assert wait_until(lambda: any(worker["requests"] for worker in status_of(server)["workers"]))
            server.signal(signal.SIGHUP)
            server.wait_for("restarted: 1 worker is new")
            (site / "released").touch()
            assert client.read().status == 200
        assert wait_until(lambda: "/held" in trace.targets(), 10)


def test_the_end_of_the_observer_ends_the_trace_and_the_work_for_it(site: Path) -> None:
    with Server("site_app:app", "--workers", "1", cwd=site) as server:
        with tracing(server) as trace:
            begun(server, trace, 1)
            sockets = len(os.listdir(f"/proc/{server.worker_pids()[0]}/fd"))
            (observer,) = observers(server)
            os.kill(observer, signal.SIGKILL)
            assert trace.process.wait(20) == 1
            assert wait_until(lambda: trace.errors != [], 5)
            assert trace.errors == ["starman: the server has closed the connection: it has ended, or its observer was replaced\n"]
        get(server, "/")
        assert wait_until(lambda: len(os.listdir(f"/proc/{server.worker_pids()[0]}/fd")) < sockets, 10)
        with tracing(server) as again:
            begun(server, again, 1)


def test_a_client_that_does_not_read_slows_no_request_and_hears_what_it_has_missed(site: Path) -> None:
    total = 60_000
    with Server("site_app:app", "--workers", "1", "--threads", "2", cwd=site) as server, tracing(server) as trace:
        begun(server, trace, 1)
        trace.process.send_signal(signal.SIGSTOP)
        with server.client() as client:
            sent = 0
            while sent < total:
                client.send(50 * b"GET /many HTTP/1.1\r\nHost: a\r\n\r\n")
                assert all(client.read().status == 200 for _ in range(50))
                sent += 50
        trace.process.send_signal(signal.SIGCONT)

        def missing() -> int:
            return sum(int(line.split()[1]) for line in trace.errors)

        assert wait_until(lambda: len(trace.requests) + missing() >= total, 60), (len(trace.requests), trace.errors)
        assert len(trace.requests) + missing() == total
        assert missing() > 0
        assert trace.errors[0].endswith("missing here: more have finished than could be shown\n")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (("--status", "700"), "argument --status: '700' is not a status: give a number such as 404, or a class such as 5xx"),
        (("--method", "GET,a b"), "argument --method: 'A B' is not a method"),
        (("--path", ""), "argument --path: paths: at most 20 values, each of 1 to 200 characters"),
        (("--min-duration", "fast"), "argument --min-duration: 'fast' is not a number of seconds from 0 to 86400"),
        (("--count", "-1"), "argument --count: '-1' is not a whole number from 0 to 999999999"),
    ],
)
def test_wrong_options(options: tuple[str, ...], error: str) -> None:
    done = command("trace", *options)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == f"starman-uv trace: error: {error}"
