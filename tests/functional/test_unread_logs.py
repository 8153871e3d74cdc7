"""A standard error that is closed or has no reader delays neither the master nor a loop, and harms no client."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.support.commands import starman
from tests.functional.support.harness import REPOSITORY, Server, environment, wait_until
from tests.functional.support.wire import Client, encode_request

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
    """The server, on the UNIX socket `s` in `directory`, when it answers, with any standard error."""
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
        with open(reading, "rb", 0) as reader:
            assert reader.read(filled) == b"." * filled
            # The master writes its lines by itself, as soon as there is room.
            assert select.select([reader], [], [], 30)[0]
            process.send_signal(signal.SIGTERM)
            text = reader.read().decode()
        assert process.wait(30) == 0
    assert "restarting the workers with fresh code" in text
    assert all(line.startswith("[") for line in text.splitlines())


@pytest.mark.parametrize("threads", ["2", "0"])
def test_a_standard_error_without_a_reader_does_not_stop_the_loops(directory: Path, threads: str) -> None:
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


def test_a_standard_error_whose_reader_is_gone_harms_no_client(directory: Path) -> None:
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
        master = process.pid
        if "-D" in arguments:
            assert process.wait(30) == 0
            master = int((directory / "pid").read_text())
        # A worker answers before the master says that it is ready.
        assert not arguments or wait_until(lambda: "ready: 1 worker" in (directory / "error.log").read_text(), 30)
        expected = [os.devnull, os.devnull, f"{directory}/error.log" if arguments else os.devnull]
        for pid in (master, worker):
            assert [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3)] == expected
        os.kill(master, signal.SIGTERM)
        assert process.wait(30) == 0
        assert wait_until(lambda: not (directory / "s").exists(), 30)
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
            server.wait_for(
                r"\[WARNING\] the application closed standard error \(descriptor 2\), which now leads to the error log"
            )
            with server.client() as new:
                assert new.get("/print").status == 200
                assert new.get("/error").status == 500
            (worker,) = server.worker_pids()
            links = [os.readlink(f"/proc/{worker}/fd/{fd}") for fd in range(3)]
            assert links[:2] == [os.devnull] * 2
            assert links[2].startswith("pipe:")
        server.wait_for("ValueError: secret")
        server.wait_for("for the log only")


def test_what_an_application_has_closed_is_opened_again_in_a_moment(directory: Path) -> None:
    """Without a new connection or a request that would need a descriptor."""
    with Server("app:app", "--workers", "1", "--threads", "1", cwd=directory) as server, server.client() as client:
        assert client.get("/close?0,1,2").status == 200
        for name in (r"standard input \(descriptor 0\)", r"standard output \(descriptor 1\)", r"standard error \(descriptor 2\)"):
            server.wait_for(rf"\[WARNING\] the application closed {name}")


@pytest.mark.parametrize(
    ("option", "status", "message"),
    [
        ("--error-log", 2, "error_log: cannot write {}: it is a FIFO that no process reads\n"),
        ("--access-log", 1, "access_log: cannot write {}: it is a FIFO that no process reads\n"),
        ("--pid", 2, "pid: cannot write {}: it is a FIFO, not an ordinary file\n"),
        ("--config", 2, "{}: cannot read the file: no process wrote to this FIFO within 5 s\n"),
    ],
)
def test_a_fifo_without_a_process_at_its_other_end_ends_the_start_with_one_line(
    directory: Path, option: str, status: int, message: str
) -> None:
    path = directory / "fifo"
    os.mkfifo(path)
    done = starman("--workers", "1", "--listen", f"{directory}/s", option, str(path), "app:app", cwd=directory)
    assert done.returncode == status
    assert message.format(path) in done.stderr
    assert "Traceback" not in done.stderr
    assert path.is_fifo()


def test_a_pid_file_replaces_nothing_but_a_file(directory: Path) -> None:
    (directory / "pid").mkdir()
    done = starman("--listen", f"{directory}/s", "--pid", "pid", "app:app", cwd=directory)
    assert done.returncode == 2
    assert f"pid: cannot write {directory}/pid: it is a directory, not an ordinary file\n" in done.stderr
    assert (directory / "pid").is_dir()


def test_the_settings_may_come_from_a_pipe(directory: Path) -> None:
    command = [sys.executable, "-m", "starman", "--config", "/dev/fd/0", "--print-config", "app:app"]
    done = subprocess.run(
        command, input="workers = 7\n", capture_output=True, text=True, timeout=60, check=True, env=environment(), cwd=directory
    )
    assert re.search(r"^workers +7 ", done.stdout, re.MULTILINE)


def test_reopening_waits_for_no_reader(directory: Path) -> None:
    """A FIFO without a reader is refused, and the old files stay in use; a FIFO with a reader is taken."""
    logs = [directory / "error.log", directory / "access.log"]
    arguments = ("--error-log", str(logs[0]), "--access-log", str(logs[1]))
    with running(directory, "--workers", "1", *arguments, stderr=subprocess.DEVNULL) as process:
        for path in logs:
            path.rename(f"{path}.old")
            os.mkfifo(path)
        process.send_signal(signal.SIGUSR1)
        old = directory / "error.log.old"
        assert wait_until(lambda: "the logs are reopened" in old.read_text(), 30)
        text = old.read_text()
        assert "the error log stays as it is, because it cannot be opened again: it is a FIFO that no process reads\n" in text
        assert f"the access log still goes to the old file: cannot reopen {logs[1]}: it is a FIFO that no process reads\n" in text
        answered(directory)
        readers = [os.open(path, os.O_RDONLY | os.O_NONBLOCK) for path in logs]
        process.send_signal(signal.SIGUSR1)
        received = ""
        deadline = time.monotonic() + 30
        while "the logs are reopened" not in received and time.monotonic() < deadline:
            with contextlib.suppress(BlockingIOError):
                received += os.read(readers[0], 1 << 16).decode()
        assert "the logs are reopened" in received
        answered(directory)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        taken = os.read(readers[1], 1 << 16).decode()
        assert ((directory / "access.log.old").read_text() + taken).count("GET / ") == 3
        assert "GET / " in taken
        for fd in readers:
            os.close(fd)


@pytest.mark.parametrize("threads", ["1", "0"])
def test_an_access_log_without_a_reader_holds_no_thread(directory: Path, threads: str) -> None:
    """Not even the only one: requests are answered, and lines that are lost are counted."""
    path = directory / "fifo"
    os.mkfifo(path)
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with Server(
        "app:app", "--workers", "1", "--threads", threads, "--access-log", str(path), cwd=directory, listen=f"{directory}/s"
    ) as server:
        target = "/" + "x" * 6000
        for _ in range(20):
            with server.client() as client:
                for _ in range(10):
                    client.send(encode_request("GET", target) * 10)
                    assert {response.status for response in client.read_many(["GET"] * 10)} == {200}
        server.wait_for(r"\d+ lines of the access log are lost: nothing read them in time", 30)
    os.close(reading)


def test_a_descriptor_of_the_embedding_program_is_not_taken_for_standard_error(directory: Path) -> None:
    """It was started without standard descriptors, and a file of its own has got number 2."""
    script = """
import asyncio, os, sys
import starman

files = [open("victim", "wb", 0) for _ in range(3)]
assert [file.fileno() for file in files] == [0, 1, 2]

def app(environ, start_response):
    environ["wsgi.errors"].write("an error of the application\\n")
    print("printed", file=sys.stderr)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]

asyncio.run(starman.serve(app, listen="./s"))
"""
    (directory / "program.py").write_text(script)
    with contextlib.ExitStack() as stack:
        process = subprocess.Popen(
            ["bash", "-c", 'exec "$@" <&- >&- 2>&-', "bash", sys.executable, "program.py"],
            cwd=directory,
            env=environment({"PYTHONPATH": str(REPOSITORY)}),
            start_new_session=True,
        )
        stack.callback(process.wait)
        stack.callback(process.kill)
        assert wait_until(lambda: listens(directory), 30)
        assert answered(directory) == process.pid
        with Client(f"{directory}/s", 20.0) as client:
            client.send(b"GET / HTTP/1.1\\r\\n\\r\\n")
            assert client.read().status == 400
        assert (directory / "victim").read_bytes() == b""
