"""Workers that are replaced: by a limit, at the application's request, because their loop is lost, or after a kill.

Every reason leads to the same replacement, under load, and no client notices.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.functional.support.harness import Server, wait_for_idle_threads, wait_until
from tests.functional.support.load import Load
from tests.functional.support.wire import encode_request

APPLICATION = """\
import asyncio, ctypes, gc, os, re, time

LEAK = []

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/harakiri":
        environ["starman.harakiri"] = True
    elif path.startswith("/sleep/"):
        with open("sleeping", "a") as file:
            file.write("x")
        time.sleep(float(path.split("/")[2]))
    elif path == "/leak":
        LEAK.append(b"x" * (40 << 20))
    elif path == "/crash":
        ctypes.string_at(0)
    elif path == "/loop":
        loop = next(each for each in gc.get_objects() if isinstance(each, asyncio.AbstractEventLoop) and each.is_running())
        loop.call_soon_threadsafe(block_the_loop)
        time.sleep(600)
    elif path == "/interpreter":
        hold_the_interpreter()
    elif path == "/offers":
        start_response("200 OK", [])
        return [repr(environ["starman.harakiri"]).encode()]
    elif path == "/late":
        start_response("200 OK", [])
        return late(environ)
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]

def late(environ):
    yield str(os.getpid()).encode()
    environ["starman.harakiri"] = True

def block_the_loop():
    time.sleep(600)

def hold_the_interpreter():
    re.match("(a+)+$", "a" * 60 + "b")
"""

MODES = pytest.mark.parametrize("mode", ["--no-preload-app", "--preload-app"])


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "site_app.py").write_text(APPLICATION)
    return tmp_path


def serve(site: Path, *arguments: str, workers: int = 2) -> Server:
    return Server("site_app:app", "--workers", str(workers), *arguments, cwd=site, env={"PYTHONDONTWRITEBYTECODE": "1"})


def pid_of(server: Server, target: str = "/") -> int:
    """The worker that answers a new connection."""
    with server.client() as client:
        return int(client.get(target).body)


@contextmanager
def load(server: Server, *targets: str) -> Iterator[Load]:
    """Clients as long as the block lasts, which are answered with process ids; not one of their requests may fail."""
    with Load(server.client, *targets) as running:
        yield running
    assert running.failures == [], server.log


# Recycle.


@pytest.mark.parametrize(
    ("arguments", "targets", "reason"),
    [
        (["--max-requests", "100", "--max-requests-jitter", "50"], ["/"], r"it has served \d+ requests \(max_requests\)"),
        (["--max-worker-lifetime", "1"], ["/"], r"it is near the age of 1 s \(max_worker_lifetime\)"),
        (["--max-worker-memory", "1M"], ["/"], r"it holds \d+\.\d MiB \(max_worker_memory\)"),
        ([], ["/"] * 40 + ["/harakiri"], r"its application has asked for it \(starman\.harakiri\)"),
    ],
    ids=["requests", "lifetime", "memory", "harakiri"],
)
@MODES
def test_under_load_no_client_notices(site: Path, mode: str, arguments: list[str], targets: list[str], reason: str) -> None:
    with serve(site, mode, *arguments) as server:
        with load(server, *targets) as clients:
            server.wait_for(rf"worker \d \(\d+\) is replaced: {reason}", timeout=60, count=6)
        assert len(clients.answers) >= 4
        assert wait_until(lambda: len(server.worker_pids()) == 2, 30), "those that were replaced have ended"
    assert "ERROR" not in server.log
    assert "WARNING" not in server.log


def test_requests_are_counted_and_not_connections(site: Path) -> None:
    with serve(site, "--max-requests", "20", workers=1) as server:
        with server.client() as client:
            for _ in range(19):
                first = int(client.get("/").body)
            assert client.get("/").persistent
            server.wait_for(rf"worker 1 \({first}\) is replaced: it has served 20 requests")
        assert wait_until(lambda: first not in server.children())
        assert pid_of(server) != first


def test_a_kept_connection_is_closed_by_the_answer_and_the_next_one_is_served_by_the_successor(site: Path) -> None:
    with serve(site, "--max-requests", "5", workers=1) as server, server.client() as client:
        old = int(client.get("/").body)
        served = 1
        while (response := client.get("/sleep/0.01")).persistent:
            assert int(response.body) == old
            served += 1
            assert served < 2000
        assert response.get("Connection") == "close"
        assert pid_of(server) != old


def test_a_successor_that_fails_leaves_the_recycled_worker_serving(site: Path) -> None:
    with serve(site, "--max-requests", "5", workers=1) as server:
        (site / "site_app.py").write_text("raise ValueError('broken')\n")
        with load(server):
            server.wait_for("could not start: .*next attempt in 1.0 s", timeout=20)
        assert server.log.count("is replaced") == 1
        (site / "site_app.py").write_text(APPLICATION)
        (old,) = server.worker_pids()
        assert wait_until(lambda: old not in server.children(), 20), server.log
        assert pid_of(server) != old


def test_a_leak_is_ended_and_what_is_shared_is_none(site: Path) -> None:
    (site / "site_app.py").write_text(APPLICATION + "\nSHARED = b'x' * (200 << 20)\n")
    with serve(site, "--preload-app", "--max-worker-memory", "100M", workers=4) as server:
        # Private, the 200 MiB would have shown in the first of these seconds.
        assert not wait_until(lambda: "is replaced" in server.log, 2.5)
        with server.client() as client:
            old = int(client.get("/leak").body)
            for _ in range(2):
                assert client.get("/leak").status == 200
            server.wait_for(rf"\({old}\) is replaced: it holds 1\d\d\.\d MiB \(max_worker_memory\)", timeout=60)
        assert wait_until(lambda: old not in server.children(), 20)
        assert server.log.count("is replaced") == 1


# Harakiri.


@MODES
@pytest.mark.parametrize("workers", [1, 5])
@pytest.mark.parametrize("target", ["/harakiri", "/"])
def test_23_requests_meet_23_processes_with_harakiri_and_at_most_5_without(
    site: Path, mode: str, workers: int, target: str
) -> None:
    with serve(site, mode, workers=workers) as server:
        pids = [pid_of(server, target) for _ in range(23)]
    assert len(set(pids)) == 23 if target == "/harakiri" else len(set(pids)) <= workers
    assert "ERROR" not in server.log
    assert "WARNING" not in server.log


def test_harakiri_is_announced_to_the_client_and_lets_the_others_finish(site: Path) -> None:
    with serve(site, workers=1) as server, server.client() as slow, server.client() as wishing, server.client() as idle:
        old = int(idle.get("/").body)
        slow.send(encode_request("GET", "/sleep/1"))
        response = wishing.get("/harakiri")
        assert (int(response.body), response.get("Connection")) == (old, "close")
        assert wishing.at_end()
        assert pid_of(server) != old
        response = slow.read()
        assert (int(response.body), response.persistent) == (old, False)
        assert wait_until(lambda: old not in server.children())


def test_harakiri_may_come_late_in_a_response(site: Path) -> None:
    with serve(site, workers=1) as server:
        old = pid_of(server, "/late")
        assert wait_until(lambda: old not in server.children())
        assert pid_of(server) != old


def test_harakiri_is_offered(site: Path) -> None:
    with serve(site, workers=1) as server, server.client() as client:
        assert client.get("/offers").body == b"False"


# Lost.


@pytest.mark.parametrize(("target", "culprit"), [("/loop", "block_the_loop"), ("/interpreter", "hold_the_interpreter")])
def test_a_worker_whose_loop_is_silent_shows_its_stacks_is_killed_and_replaced(site: Path, target: str, culprit: str) -> None:
    with serve(site, "--worker-timeout", "1.5", workers=1) as server, server.client() as client:
        old = pid_of(server)
        client.send(encode_request("GET", target))
        said = server.wait_for(rf"worker 1 \({old}\) is replaced: its loop has been silent for .*")
        found = re.search(rf"for (\S+) s \(worker_timeout\) while serving .*GET {target} \(for \S+ s\); its stacks ", said[0])
        assert found is not None, said[0]
        assert 1.5 <= float(found[1]) < 15
        server.wait_for(rf'File ".*site_app\.py", line \d+ in {culprit}')
        server.wait_for(rf"worker 1 \({old}\) is still silent: it is killed while serving .*GET {target} ")
        assert wait_until(lambda: old not in server.children())
        assert pid_of(server) != old


def test_a_stopped_worker_is_killed_and_replaced_though_it_has_no_stacks(site: Path) -> None:
    with serve(site, "--worker-timeout", "1.5", workers=1) as server:
        old = pid_of(server)
        os.kill(old, signal.SIGSTOP)
        server.wait_for(rf"worker 1 \({old}\) is still silent", timeout=20)
        assert wait_until(lambda: old not in server.children())
        assert pid_of(server) != old


def test_a_worker_that_is_heard_again_in_time_loses_nothing(site: Path) -> None:
    with serve(site, "--worker-timeout", "1.5", workers=1) as server, server.client() as client:
        old = pid_of(server)
        client.send(encode_request("GET", "/sleep/5"))
        wait_for_idle_threads(site)
        os.kill(old, signal.SIGSTOP)
        server.wait_for(rf"worker 1 \({old}\) is replaced: its loop has been silent", timeout=20)
        os.kill(old, signal.SIGCONT)
        server.wait_for(rf"worker 1 \({old}\) responds again")
        response = client.read()
        assert (int(response.body), response.persistent) == (old, False)
        assert wait_until(lambda: old not in server.children())
        assert "is killed" not in server.log


def test_a_machine_that_stood_still_costs_no_worker(site: Path) -> None:
    with serve(site, "--worker-timeout", "2", workers=2) as server:
        pids = server.worker_pids()
        for pid in [*pids, server.pid]:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(4.5)
        # The worst order: the master wakes up first, and looks.
        os.kill(server.pid, signal.SIGCONT)
        time.sleep(0.3)
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        # Long enough for a silence to be held against them.
        time.sleep(3.5)
        assert pid_of(server) in pids
        assert server.worker_pids() == pids
    assert "is replaced" not in server.log


def test_long_requests_are_no_silence(site: Path) -> None:
    with serve(site, "--worker-timeout", "2", "--threads", "2", workers=1) as server:
        clients = [server.client() for _ in range(2)]
        for client in clients:
            client.send(encode_request("GET", "/sleep/5"))
        assert {client.read().status for client in clients} == {200}
        for client in clients:
            client.close()
    assert "is replaced" not in server.log


def test_the_stacks_of_a_worker_can_be_asked_for_at_any_time(site: Path) -> None:
    with serve(site, workers=1) as server, server.client() as client:
        worker = int(client.get("/").body)
        client.send(encode_request("GET", "/sleep/1"))
        wait_for_idle_threads(site)
        os.kill(worker, signal.SIGRTMIN)
        server.wait_for(r'File ".*site_app\.py", line \d+ in app')
        assert int(client.read().body) == worker


# Killed.


def test_a_killed_worker_leaves_the_names_of_its_requests(site: Path) -> None:
    with serve(site, workers=1) as server:
        clients = [server.client() for _ in range(3)]
        old = int(clients[2].get("/").body)
        clients[0].send(encode_request("GET", "/sleep/60?first"))
        wait_for_idle_threads(site)
        clients[1].send(encode_request("POST", "/sleep/61", body=b"x"))
        wait_for_idle_threads(site, 2)
        time.sleep(1.0)  # younger, it would have died at boot
        os.kill(old, signal.SIGKILL)
        line = server.wait_for(rf"worker 1 \({old}\) was killed by SIGKILL.*")[0]
        requests = r"GET /sleep/60\?first \(for \d+\.\d s\), POST /sleep/61 \(for \d+\.\d s\)"
        assert re.fullmatch(rf".*SIGKILL \(out of memory\?\) while serving {requests}; it is replaced", line), line
        for client in clients:
            client.close()


def test_a_crash_in_native_code_leaves_its_stack_and_its_request(site: Path) -> None:
    with serve(site, workers=1) as server, server.client() as client:
        old = int(client.get("/").body)
        time.sleep(1.0)
        client.send(encode_request("GET", "/crash"))
        server.wait_for(rf"worker 1 \({old}\) was killed by SIGSEGV \(a fault in native code\?.*\) while serving GET /crash")
        server.wait_for(r'File ".*site_app\.py", line \d+ in app')
        assert pid_of(server) != old


# The master.


def test_after_200_recyclings_the_master_is_as_it_was(site: Path) -> None:
    def descriptors() -> int:
        return len(os.listdir(f"/proc/{server.pid}/fd"))

    def private() -> int:
        text = Path(f"/proc/{server.pid}/smaps_rollup").read_text()
        return sum(map(int, re.findall(r"^Private_\w+: +(\d+) kB", text, re.MULTILINE)))

    def recycle(times: int) -> None:
        enough = server.log.count("is replaced") + times

        def are_replaced() -> bool:
            # A worker may answer two of these requests before it begins to drain, and is replaced once for both.
            pid_of(server, "/harakiri")
            return server.log.count("is replaced") >= enough

        assert wait_until(are_replaced, 120)
        assert wait_until(lambda: len(server.worker_pids()) == 2, 30)
        assert wait_until(lambda: len(server.session_pids()) == 4, 30), "the master, the mold and two workers"

    with serve(site) as server:
        recycle(50)
        before, memory = descriptors(), private()
        recycle(200)
        # Not more: at the first look the link of a dead one may have been open still.
        assert wait_until(lambda: descriptors() <= before), "the links of the dead are closed"
        assert private() - memory < 200, f"{memory} kB before, {private()} kB after"
