"""Whatever an application raises, its client gets a response, its thread goes on, and the log names request and
exception."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.support.harness import REPOSITORY, Server
from tests.functional.support.wire import NoResponseError

THREADS = 2

# What is raised before a response has begun, and the class that the log names.
FAILURES = {
    "/raise/syntax": "SyntaxError",
    "/raise/unprintable": "UnprintableError",
    "/raise/unsettable": "UnsettableError",
    "/raise/endless": "EndlessError",
    "/raise/group": "Group",
    "/raise/base": "Ending",
    "/raise/exit": "SystemExit",
    "/raise/interrupt": "KeyboardInterrupt",
    "/raise/generator": "GeneratorExit",
    "/raise/memory": "MemoryError",
    "/recurse": "RecursionError",
    "/chain": "ValueError",
    "/status": "SystemExit",
    "/fields": "TypeError",
    "/exc_info": "Ending",
    "/iterable": "Ending",
    "/file": "UnprintableError",
    "/errors": "ValueError",
    "/stderr_none": "ValueError",
    "/stderr_print": "ValueError",
}
# What is spoilt when the response is complete: it arrives.
BLOCKING = """
import signal

signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGQUIT})


def app(environ, start_response):
    start_response("200 OK", [])
    return [b"blocked"]
"""

SPOILT = ["/closing", "/mutated", "/colliding", "/held"]


@pytest.fixture(scope="module", params=[THREADS, 0], ids=["threads", "loop"])
def server(request: pytest.FixtureRequest, directory: Path) -> Iterator[Server]:
    arguments = ["--workers", "1", "--threads", str(request.param), "--access-log", str(directory / "access")]
    # What is raised in __del__ is Python's to report, and pytest's warnings are not the server's.
    with Server("tests.functional.support.hostile:app", *arguments, warnings="default") as running:
        yield running


def counted(server: Server) -> tuple[str, int]:
    """The worker's process id, and how many threads its pool has."""
    with server.client() as client:
        pid, threads = client.get("/count").body.decode().split()
    return pid, int(threads)


@pytest.mark.parametrize("path", FAILURES)
def test_each_failure_is_a_500_and_an_entry_in_the_log(path: str, server: Server) -> None:
    before = counted(server)
    for number in range(THREADS + 1):
        with server.client() as client:
            response = client.get(f"{path}?{number}")
            assert (response.status, response.persistent) == (500, False)
        # The lines of an entry are indented, all but the first.
        request = re.escape(f"GET {path}?{number}")
        server.wait_for(rf"\[ERROR\] the application failed: {request}\n(?:  .*\n)*?  .*{FAILURES[path]}", timeout=20)
    assert counted(server) == before


@pytest.mark.parametrize("path", SPOILT)
def test_what_is_spoilt_behind_a_response_costs_no_client_anything(path: str, server: Server) -> None:
    before = counted(server)
    for _ in range(THREADS + 1):
        with server.client() as client:
            assert client.request("POST", path, body=b"x" * 100_000).body == b"ok"
            assert client.get("/ok").body == b"ok"
    assert counted(server) == before


def test_hostile_texts_cost_no_client_anything(server: Server) -> None:
    """Compiled code looks past what their class does."""
    before = counted(server)
    for _ in range(THREADS + 1):
        with server.client() as client:
            assert client.get("/value").status in (200, 500)
    assert counted(server) == before


def test_an_environ_that_cannot_be_read_is_no_obstacle_to_the_log(server: Server) -> None:
    before = counted(server)
    for _ in range(THREADS + 1):
        with server.client() as client:
            assert client.get("/mutated_failing").status == 500
    server.wait_for(r"the application failed: <\S*Raising> <\S*Raising>\r?\n", count=THREADS + 1, timeout=20)
    assert counted(server) == before


@pytest.mark.parametrize("path", ["/exhaust", "/exhaust/blocks"])
@pytest.mark.parametrize("threads", [2, 0])
def test_a_process_without_memory_answers_and_goes_on(path: str, threads: int) -> None:
    """Not a byte is left when the application fails; what it holds is free when its frames are."""
    with Server("tests.functional.support.hostile:app", "--workers", "1", "--threads", str(threads)) as server:
        before = counted(server)
        for number in range(3):
            with server.client() as client:
                try:
                    response = client.get(f"{path}?{number}")
                except NoResponseError:
                    pass  # the answer itself had no memory: the connection is reset at once
                else:
                    assert response.status == 500
            # SystemError: the interpreter itself has not found the memory to raise the MemoryError.
            server.wait_for(
                rf"GET {path}\?{number}\n(?:  .*\n)*?  .*(?:MemoryError|SystemError: error return without)", timeout=20
            )
            with server.client() as client:
                assert client.get("/ok").body == b"ok"
        assert counted(server) == before


def test_an_exception_that_is_put_into_an_idle_thread_does_not_end_it() -> None:
    """As a library for timeouts does that is late."""
    with Server("tests.functional.support.hostile:app", "--workers", "1", "--threads", "1") as server:
        before = counted(server)
        for number in range(1, 4):
            with server.client() as client:
                assert client.get("/later").body == b"ok"
                server.wait_for("put it", count=number, timeout=20)
                # The thread wakes up for this request: it is answered, or cut, but does not hang.
                with contextlib.suppress(NoResponseError):
                    client.get("/ok")
            assert counted(server) == before


def test_of_an_exception_that_shows_a_large_body_only_a_part_is_logged(server: Server) -> None:
    """Escaping the whole text would stop the process for seconds, and so all other clients."""
    before = counted(server)
    with server.client(timeout=60) as client:
        assert client.request("POST", "/shown", body=b"x" * 20_000_000).status == 500
    server.wait_for(
        r"the application failed: POST /shown\n(  .*\n)+?  \.\.\. 19\d{6} characters left out \.\.\.\n(  x+\n)+  the end\n", 60
    )
    with server.client() as client:
        assert client.get("/ok").body == b"ok"
    assert counted(server) == before


def test_an_application_that_blocks_signals_does_not_keep_its_worker_from_stopping(tmp_path: Path) -> None:
    (tmp_path / "blocking.py").write_text(BLOCKING)
    with Server(
        "blocking:app", "--workers", "1", "--graceful-timeout", "10", cwd=tmp_path, env={"PYTHONPATH": str(REPOSITORY)}
    ) as server:
        server.wait_for("the application has blocked signals that this worker needs, which are unblocked: SIGQUIT, SIGTERM")
        with server.client() as client:
            assert client.get("/").body == b"blocked"
        assert server.stop() == 0
    assert "did not end in time" not in server.log
