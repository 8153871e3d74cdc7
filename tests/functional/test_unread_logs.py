"""A standard error that nobody reads, or that is closed, holds up neither the master nor a loop, and harms no client."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.harness import REPOSITORY, Server, environment, wait_until
from tests.functional.wire import Client

APPLICATION = """
import os, sys

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/error":
        raise ValueError("\\n".join(["secret"] + ["x" * 900] * 50))
    if path == "/close":
        for fd in environ["QUERY_STRING"].split(","):
            os.close(int(fd))
    if path == "/print":
        print("for the log only", file=sys.stderr, flush=True)
        os.write(2, b"by descriptor 2\\n")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APPLICATION)
    return tmp_path


@contextlib.contextmanager
def running(directory: Path, *arguments: str, stderr: int, redirections: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """The server, on the UNIX socket `s` in `directory`, when it answers; whatever its standard error is."""
    command = [sys.executable, "-m", "starman", "--listen", f"{directory}/s", *arguments, "app:app"]
    if redirections:
        command = ["bash", "-c", f'exec "$@" {redirections}', "bash", *command]
    process = subprocess.Popen(
        command,
        cwd=directory,
        env=environment({"PYTHONPATH": str(REPOSITORY)}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        start_new_session=True,
    )
    try:
        assert wait_until(lambda: listens(directory), 30)
        assert answered(directory)
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def listens(directory: Path) -> bool:
    """Whether a connection can be made."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(f"{directory}/s") == 0


def answered(directory: Path, target: str = "/") -> int:
    """The process that has answered."""
    with Client(f"{directory}/s", 20.0) as client:
        return int(client.get(target).body)


def fill(fd: int) -> int:
    """Write to a pipe until it is full; how many bytes that were."""
    os.set_blocking(fd, False)
    count = 0
    try:
        while True:
            count += os.write(fd, b"." * 512)
    except BlockingIOError:
        os.set_blocking(fd, True)
        return count


def test_a_full_standard_error_does_not_stop_the_master(directory: Path) -> None:
    """It starts, restarts and ends, and the pipe that others share stays blocking."""
    reading, writing = os.pipe()
    filled = fill(writing)
    with running(directory, "--workers", "2", stderr=writing) as process:
        before = {answered(directory) for _ in range(20)}
        process.send_signal(signal.SIGHUP)
        assert wait_until(lambda: answered(directory) not in before, 30)
        assert os.get_blocking(writing)
        os.close(writing)
        with open(reading, "rb") as reader:
            assert reader.read(filled) == b"." * filled
            process.send_signal(signal.SIGTERM)
            text = reader.read().decode()
        assert process.wait(30) == 0
    assert "restarting the workers with fresh code" in text
    assert all(line.startswith("[") for line in text.splitlines())


@pytest.mark.parametrize("threads", ["2", "0"])
def test_a_standard_error_that_nobody_reads_does_not_stop_the_loops(directory: Path, threads: str) -> None:
    """Each error is an answer; what could not be kept is counted; no line is cut."""
    reading, writing = os.pipe()
    with running(directory, "--workers", "2", "--threads", threads, stderr=writing) as process:
        os.close(writing)
        for _ in range(60):
            with Client(f"{directory}/s", 20.0) as client:
                assert client.get("/error").status == 500
            with Client(f"{directory}/s", 20.0) as client:
                client.send(b"GET / HTTP/1.1\r\n\r\n")
                assert client.read().status == 400
        text = ""
        deadline = time.monotonic() + 30
        while " lost: nothing read them in time" not in text and time.monotonic() < deadline:
            text += os.read(reading, 1 << 16).decode()
        process.send_signal(signal.SIGTERM)
        while more := os.read(reading, 1 << 16):
            text += more.decode()
        assert process.wait(30) == 0
    lost = [int(count) for count in re.findall(r"\[WARNING\] (\d+) lines of the error log were lost: nothing read", text)]
    assert lost
    lines = text.splitlines()
    assert all(re.match(r"\[\d{4}-| {2}", line) for line in lines)
    # 50 lines of each error are counted; of its others, and of the refusals, some are among the lost.
    assert 60 * 50 <= sum(lost) + lines.count(f"  {'x' * 900}") <= 60 * (50 + 8)
    os.close(reading)


def test_a_standard_error_whose_reader_is_gone_harms_nobody(directory: Path) -> None:
    reading, writing = os.pipe()
    with running(directory, "--workers", "1", stderr=writing) as process:
        os.close(reading)
        os.close(writing)
        with Client(f"{directory}/s", 20.0) as client:
            assert client.get("/error").status == 500
        before = answered(directory)
        process.send_signal(signal.SIGHUP)
        assert wait_until(lambda: answered(directory) != before, 30)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_a_standard_error_that_was_given_non_blocking_loses_no_part_of_a_line(directory: Path) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with running(directory, "--workers", "1", stderr=writing) as process:
        os.close(writing)
        for _ in range(10):
            with Client(f"{directory}/s", 20.0) as client:
                assert client.get("/error").status == 500
        process.send_signal(signal.SIGTERM)
        with open(reading, "rb") as reader:
            text = reader.read().decode()
        assert process.wait(30) == 0
    assert text.splitlines().count(f"  {'x' * 900}") == 500


@pytest.mark.parametrize("redirections", ["<&- >&- 2>&-", ">&- 2>&-", "2>&-", "<&-"])
@pytest.mark.parametrize("arguments", [(), ("--error-log", "error.log"), ("-D", "--pid", "pid", "--error-log", "error.log")])
def test_standard_descriptors_that_are_closed_at_the_start(
    directory: Path, redirections: str, arguments: tuple[str, ...]
) -> None:
    """They are /dev/null, and no listener, scoreboard or client has their number."""
    with running(directory, "--workers", "1", *arguments, stderr=subprocess.DEVNULL, redirections=redirections) as process:
        worker = answered(directory, "/print")
        with Client(f"{directory}/s", 20.0) as client:
            assert client.get("/error").status == 500
        master = int((directory / "pid").read_text()) if "-D" in arguments else process.pid
        expected = [os.devnull, os.devnull, f"{directory}/error.log" if arguments else os.devnull]
        for pid in (master, worker):
            assert [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3)] == expected
        os.kill(master, signal.SIGTERM)
        assert process.wait(30) == 0
        assert wait_until(lambda: not Path(f"/proc/{master}").exists(), 30)
    if arguments:
        log = (directory / "error.log").read_text()
        assert all(re.match(r"\[\d{4}-| {2}|for the log only$|by descriptor 2$", line) for line in log.splitlines())
        for text in ("ready: 1 worker", "for the log only", "by descriptor 2", "ValueError: secret", "stopping"):
            assert text in log


@pytest.mark.parametrize("preload", [(), ("--preload-app",)])
def test_what_an_application_prints_reaches_no_client_after_it_has_closed_a_descriptor(
    directory: Path, preload: tuple[str, ...]
) -> None:
    """Neither by a new connection that would get the number, nor by the duplicate of one that is there."""
    with Server("app:app", "--workers", "1", "--threads", "1", *preload, cwd=directory) as server:
        with server.client() as kept, server.client() as closer, server.client() as other:
            assert kept.get("/").status == 200
            assert closer.get("/close?0,1,2").status == 200
            # An application that prints to what it has closed fails, until the next tick.
            assert kept.get("/print").status in (200, 500)
            assert other.get("/print").status in (200, 500)
            server.wait_for(r"\[WARNING\] the application has closed standard error \(descriptor 2\), which is the error log now")
            with server.client() as new:
                assert new.get("/print").status == 200
                assert new.get("/error").status == 500
            (worker,) = server.worker_pids()
            links = [os.readlink(f"/proc/{worker}/fd/{fd}") for fd in range(3)]
            assert links[:2] == [os.devnull] * 2
            assert links[2].startswith("pipe:")
        server.wait_for("ValueError: secret")
        server.wait_for("for the log only")
