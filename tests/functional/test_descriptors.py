"""A worker with an event loop that cannot continue is replaced, and the log says why. The application has closed a
descriptor."""

from __future__ import annotations

import contextlib
import socket
import time
from pathlib import Path

import pytest

from tests.functional.support.harness import Server, wait_until
from tests.functional.support.wire import NoResponseError, TruncatedError

APPLICATION = "tests.functional.support.descriptors:app"
# So many connections are served in a row by a server that is well.
WELL = 16


def is_well(server: Server) -> bool:
    for _ in range(WELL):
        try:
            with server.client(10.0) as client:
                if client.get("/").status != 200:
                    return False
        except (NoResponseError, TruncatedError, ConnectionError, TimeoutError):
            return False
    return True


@pytest.mark.parametrize("descriptor", range(3, 21))
def test_a_server_recovers_whatever_an_application_closes(descriptor: int) -> None:
    """All of a worker's descriptors are among these, and some that are not open."""
    with Server(APPLICATION, "--workers", "2", "--graceful-timeout", "3", warnings="default") as server:
        with contextlib.suppress(NoResponseError, TruncatedError, TimeoutError), server.client(5.0) as client:
            client.get(f"/close/{descriptor}")
        assert wait_until(lambda: is_well(server), 40), server.log
        server.stop()


@pytest.mark.parametrize("threads", ["2", "0"])
def test_a_loop_that_spins_is_found_and_its_worker_replaced(threads: str) -> None:
    with Server(APPLICATION, "--workers", "1", "--threads", threads, "--graceful-timeout", "3") as server:
        with server.client() as client:
            pid = client.get("/spin").body.decode()
        server.wait_for(
            rf"\[{pid}\] \[ERROR\] this worker cannot continue, and finishes its requests: its loop has used \d+ % of a CPU "
            r"for \d+ s, and it has done almost nothing\n",
            timeout=60,
        )
        server.wait_for(rf"worker 1 \({pid}\) is replaced: its loop has used \d+ % of a CPU", timeout=30)
        assert wait_until(lambda: server.worker_pids() != [] and int(pid) not in server.worker_pids(), 30)
        with server.client() as client:
            assert client.get("/").body.decode() != pid


def test_probes_of_a_monitor_do_not_hide_a_loop_that_spins() -> None:
    with Server(APPLICATION, "--workers", "1", "--graceful-timeout", "3") as server, server.client() as client:
        pid = client.get("/spin").body.decode()

        def is_found() -> bool:
            try:
                server.wait_for(rf"\[{pid}\] \[ERROR\] this worker cannot continue, .*: its loop has used", timeout=1)
            except AssertionError:
                assert client.get("/").body.decode() == pid
                return False
            return True

        assert wait_until(is_found, 60), server.log


def test_connections_without_a_request_are_no_spin(tmp_path: Path) -> None:
    """They take CPU time, but the loop reads and writes nothing."""
    path = tmp_path / "flooded.sock"
    with Server(APPLICATION, "--workers", "1", listen=f"unix:{path}") as server:
        with server.client() as client:
            pid = client.get("/").body
        until = time.monotonic() + 5.0
        while time.monotonic() < until:
            with contextlib.suppress(BlockingIOError), socket.socket(socket.AF_UNIX) as probe:  # the backlog may be full
                probe.settimeout(10.0)
                probe.connect(str(path))
        assert "cannot continue" not in server.log

        def answered_by() -> bytes:
            with contextlib.suppress(BlockingIOError), server.client() as client:  # the backlog may still be full
                return client.get("/").body
            return b""

        assert wait_until(lambda: answered_by() == pid)
