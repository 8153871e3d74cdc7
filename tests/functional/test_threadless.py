"""If no further thread can be started (RLIMIT_NPROC, pids.max of a cgroup), a worker goes on with the threads that
it has."""

from __future__ import annotations

import hashlib
import re
import signal
import sys
from pathlib import Path

import pytest

from tests.functional.support.applications import pattern
from tests.functional.support.harness import NotReadyError, Server, wait_until

APPLICATION = "tests.functional.support.threadless:app"
# Beyond `body_buffer`: a thread is needed to write it to the disk.
BODY = pattern(2_000_000)


def test_what_needs_a_thread_is_refused_or_waits(tmp_path: Path) -> None:
    access = tmp_path / "access"
    arguments = ["--workers", "1", "--threads", "2", "--access-log", str(access), "--max-worker-memory", "2000000000"]
    with Server(APPLICATION, *arguments) as server:
        pid = str(server.worker_pids()[0])
        with server.client() as client:
            assert client.get("/limit").body.decode().split()[0] == pid
            # Threads that have been started before, and have nothing to do, may take a few.
            for _ in range(4):
                with server.client() as uploading:
                    response = uploading.request("POST", "/", body=BODY)
                    assert response.status in (200, 503)
            access.rename(tmp_path / "old")
            server.signal(signal.SIGUSR1)
            assert client.get("/still-served").status == 200
            assert client.get("/free").body.decode().split()[0] == pid
        server.wait_for("the logs are reopened", timeout=30)
        with server.client() as client:
            response = client.request("POST", "/again", body=BODY)
            assert response.body.decode().split() == [pid, hashlib.md5(BODY).hexdigest()]
        # All of it is in the log, in the order of the requests.
        assert wait_until(lambda: "/again" in access.read_text(), 30)
        assert "/still-served" in (tmp_path / "old").read_text() + access.read_text()
        assert [str(each) for each in server.worker_pids()] == [pid]
        assert "Traceback" not in server.log


def test_a_body_that_no_thread_can_store_is_a_503() -> None:
    """Anyio keeps threads that have nothing to do: here it has none yet."""
    with Server(APPLICATION, "--workers", "1", "--threads", "2") as server, server.client() as client:
        client.get("/limit")
        with server.client() as uploading:
            response = uploading.request("POST", "/", body=BODY)
            assert (response.status, response.persistent) == (503, False)
        server.wait_for(r"refused 127\.0\.0\.1: 503 no thread can be started to store the body: can't start new thread")
        assert client.get("/free").status == 200
        with server.client() as uploading:
            assert uploading.request("POST", "/", body=BODY).status == 200


def test_without_any_thread_the_logs_and_the_measuring_wait(tmp_path: Path) -> None:
    """Not even one that anyio has kept. The application runs in the loop."""
    access, old = tmp_path / "access", tmp_path / "old"
    arguments = ["--workers", "1", "--threads", "0", "--access-log", str(access), "--max-worker-memory", "2000000000"]
    with Server(APPLICATION, *arguments) as server:
        pids = server.worker_pids()
        with server.client() as client:
            client.get("/limit-all")
            server.wait_for("cannot write the access log, will try again: can't start new thread", 30)
            # A thread that was measuring at that moment is idle afterwards, and is used again until it is retired too.
            measured = r"the memory of this worker cannot be measured for now \(max_worker_memory\): can't start new"
            assert wait_until(lambda: client.get("/limit-all").status == 200 and re.search(measured, server.log) is not None, 30)
            access.rename(old)
            server.signal(signal.SIGUSR1)
            server.wait_for("reopening the logs")
            assert client.get("/still-served").status == 200
            assert client.get("/free").status == 200
            server.wait_for("the logs are reopened", timeout=30)
            assert client.get("/again").status == 200
            assert wait_until(lambda: access.exists() and "/again" in access.read_text(), 30)
            assert "/still-served" in old.read_text() + access.read_text()
            assert client.get("/limit-all").status == 200
            assert client.get("/last").status == 200
        assert server.worker_pids() == pids
    # Written by the loop at the end.
    assert "/last" in access.read_text()
    assert "Traceback" not in server.log


LIMITED = """
import threading
start = threading.Thread.start
def limited(self):
    if self.name {condition}:
        raise RuntimeError("can't start new thread")
    start(self)
threading.Thread.start = limited
def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


def test_a_worker_whose_pool_cannot_be_started_says_why(tmp_path: Path) -> None:
    (tmp_path / "limited.py").write_text(LIMITED.format(condition="== 'starman-2'"))
    with pytest.raises(NotReadyError) as failure:
        Server("limited:app", "--workers", "1", "--threads", "4", cwd=tmp_path)
    assert "the threads of a worker cannot be started: can't start new thread" in failure.value.log
    assert failure.value.status == 1


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no thread waits for connections")
def test_without_a_thread_that_waits_for_connections_the_loop_does(tmp_path: Path) -> None:
    (tmp_path / "limited.py").write_text(LIMITED.format(condition="== 'starman-accept'"))
    with Server("limited:app", "--workers", "2", cwd=tmp_path) as server:
        server.wait_for("connections are spread over the workers less evenly: can't start new thread", count=2)
        for _ in range(10):
            with server.client() as client:
                assert client.get("/").body == b"ok"
