"""starman inside of another program: the program's event loop, Ctrl-C and standard error."""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.functional.support.harness import Process, wait_until
from tests.functional.support.wire import Client, NoResponseError, encode_request, refuses

LOOPS = ["asyncio", "uvloop", "task"]


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Path]:
    """As long as this file exists, a request for /hold runs."""
    path = tmp_path / "hold"
    path.touch()
    yield path
    path.unlink(missing_ok=True)


@contextmanager
def program(loop: str, hold: Path | None = None, **settings: object) -> Iterator[Process]:
    command = [sys.executable, "-W", "error", "-m", "tests.functional.support.embedded", loop, json.dumps(settings)]
    running = Process(command, env={"EMBEDDED_HOLD": str(hold)})
    try:
        yield running
    finally:
        running.kill()


def port_of(text: str) -> int:
    found = re.search(r"ready: .*:(\d+)", text)
    assert found is not None, text
    return int(found[1])


@pytest.mark.parametrize("loop", LOOPS)
def test_ctrl_c_ends_serve_without_a_traceback(loop: str, hold: Path) -> None:
    """What is in flight is finished, then the program goes on behind `serve`."""
    with program(loop, hold) as running:
        running.wait_for("ready", 30)
        port = port_of(running.log)
        with Client(("127.0.0.1", port)) as client:
            client.send(encode_request("GET", "/hold"))
            running.wait_for("holding")
            running.signal(signal.SIGINT)
            running.wait_for("stopping: 1 request is in flight and may take 30 s to finish; a second cancellation aborts it")
            assert wait_until(lambda: refuses(port))
            hold.unlink()
            assert client.read().body == b"ok"
        assert running.wait() == 0
        running.wait_for(r"starman \S+ has ended\nafter\nended\n")
    assert "Traceback" not in running.log


def test_all_requests_are_counted_when_serve_is_cancelled(hold: Path) -> None:
    """One runs, one waits for the thread, and the body of one has still to arrive."""
    with program("asyncio", hold, threads=1) as running:
        running.wait_for("ready", 30)
        address = "127.0.0.1", port_of(running.log)
        with Client(address) as runs, Client(address) as waits, Client(address) as arrives:
            runs.send(encode_request("GET", "/hold"))
            running.wait_for("holding")
            for client in (waits, arrives):
                client.send(encode_request("POST", "/", [("Expect", "100-continue"), ("Content-Length", "4")]))
                assert client.read_head().status == 100
            waits.send(b"body")
            running.signal(signal.SIGINT)
            running.wait_for("stopping: 3 requests are in flight and may take 30 s to finish; a second cancellation aborts them")
            hold.unlink()
            arrives.send(b"body")
            assert [client.read().body for client in (runs, waits, arrives)] == [b"ok"] * 3
        assert running.wait() == 0


def test_what_outlives_graceful_timeout_is_named(hold: Path) -> None:
    with program("asyncio", hold, graceful_timeout=0.3) as running:
        running.wait_for("ready", 30)
        with Client(("127.0.0.1", port_of(running.log))) as client:
            client.send(encode_request("GET", "/hold?x"))
            running.wait_for("holding")
            running.signal(signal.SIGINT)
            with pytest.raises(NoResponseError):
                client.read()
        hold.unlink()
        assert running.wait() == 0
        running.wait_for(
            r"graceful_timeout is over \(0\.3 s\): 1 connection is reset while serving GET /hold\?x \(for \d\.\d s\)\n"
        )


def test_error_log_is_a_file_beside_the_callers_standard_error(tmp_path: Path) -> None:
    path = tmp_path / "error.log"
    with program("asyncio", error_log=str(path)) as running:
        assert wait_until(lambda: path.exists() and "ready" in path.read_text(), 30)
        with Client(("127.0.0.1", port_of(path.read_text()))) as client:
            assert client.get("/fail").status == 500
        assert wait_until(lambda: "LookupError: in the application" in path.read_text())
        running.signal(signal.SIGINT)
        assert running.wait() == 0
        running.wait_for("a line after the end")
    logged = path.read_text()
    assert re.search(r"\[INFO\] stopping: .*\n.* has ended\n$", logged)
    assert re.fullmatch(r"after\nended\n\[.*\] a line after the end\n", running.log)


def test_an_error_log_that_cannot_be_written_is_a_wrong_setting(tmp_path: Path) -> None:
    with program("asyncio", error_log=str(tmp_path)) as running:
        assert running.wait() == 1
        running.wait_for(f"SettingError: error_log: cannot write {tmp_path}: Is a directory")


def test_run_in_a_running_loop_is_refused_with_advice() -> None:
    with program("run") as running:
        assert running.wait() == 1
        running.wait_for(
            r"StartError: starman.run cannot be called in a running event loop: use `await starman.serve\(...\)` there"
        )
