"""--capture-output: what an application prints is in the error log, whole, in order and with its worker."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import threading
from pathlib import Path

import pytest

from tests.functional.support.harness import Server, wait_until

APPLICATION = """
import ctypes, os, subprocess, sys, time

print("at import")
libc = ctypes.CDLL(None)
at_once = ctypes.PyDLL(None)  # its calls keep the interpreter's lock, so the thread that reads the output cannot run

def app(environ, start_response):
    path, query = environ["PATH_INFO"], environ["QUERY_STRING"]
    if path == "/print":
        print("to standard output")
        sys.stderr.write("to standard error\\n")
        os.write(1, b"by descriptor 1\\n")
        libc.puts(b"by C")
        libc.fflush(None)
        subprocess.run(["sh", "-c", "echo by a program; echo and its errors >&2"])
        raise ValueError("after the prints")
    if path == "/kill":
        at_once.write(1, b"last words\\n", 11)
        at_once.kill(os.getpid(), 9)
    if path == "/many":
        for number in range(500):
            print(f"{query} {number} " + "x" * (number % 300))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"""

PRINTS = [
    "to standard output",
    "to standard error",
    "by descriptor 1",
    "by C",
    "by a program",
    "and its errors",
]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APPLICATION)
    return tmp_path


def get(server: Server, target: str) -> bytes:
    with server.client() as client:
        return client.get(target).body


def listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


@pytest.mark.parametrize("preload", [False, True])
def test_prints_are_records_in_order_with_the_others(directory: Path, preload: bool) -> None:
    arguments = ["--preload-app"] if preload else []
    with Server("app:app", "--capture-output", "--workers", "1", *arguments, cwd=directory) as server:
        pid = int(get(server, "/"))
        get(server, "/print")
        server.wait_for("the application failed: GET /print")
        records = re.findall(rf"\[{pid}\] \[(\w+)\] (.*)", server.log)
        index = next(number for number, (_, text) in enumerate(records) if text.startswith("the application failed"))
        assert records[:index][-len(PRINTS) :] == [("OUTPUT", text) for text in PRINTS]
        server.wait_for(r"\[OUTPUT\] at import")
        with server.client() as client:
            client.send(b"GET /kill HTTP/1.1\r\nHost: x\r\n\r\n")
            server.wait_for(rf"\[{pid}\] \[OUTPUT\] last words")


def test_with_json_each_line_is_an_object(directory: Path) -> None:
    path = directory / "log"
    arguments = ("--capture-output", "--log-format", "json", "--error-log", str(path), "--log-level", "error")
    with Server("app:app", *arguments, cwd=directory, ready=False, listen=f"{directory}/s") as server:
        assert wait_until(lambda: listens(directory / "s"), 30)
        get(server, "/print")
        assert wait_until(lambda: "after the prints" in path.read_text(), 30)
    records = [json.loads(line) for line in path.read_text().splitlines()]
    found = [record["message"] for record in records if record.get("log.source") == "application output"]
    assert [text for text in found if text != "at import"] == PRINTS


def test_no_line_of_two_workers_is_torn_or_lost(directory: Path) -> None:
    with Server("app:app", "--capture-output", "--workers", "2", cwd=directory) as server:
        threads = [threading.Thread(target=get, args=(server, f"/many?{number}")) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        server.stop()
        lines = re.findall(r"\[OUTPUT\] (\d) (\d+) ?(x*)\n", server.log)
    for number in range(4):
        own = [(int(count), len(filling)) for query, count, filling in lines if query == str(number)]
        assert own == [(count, count % 300) for count in range(500)]


def test_logs_are_opened_again_and_the_access_log_stays_apart(directory: Path) -> None:
    path = directory / "log"
    arguments = ("--capture-output", "--error-log", str(path), "--access-log", "-", "--workers", "1")
    with Server("app:app", *arguments, cwd=directory, ready=False, listen=f"{directory}/s") as server:
        assert wait_until(lambda: path.exists() and " ready: " in path.read_text(), 30)
        path.rename(directory / "old")
        server.signal(signal.SIGUSR1)
        assert wait_until(lambda: path.exists() and "the logs are reopened" in path.read_text(), 30)
        get(server, "/print")
        assert wait_until(lambda: "after the prints" in path.read_text(), 30)
        assert all(f"[OUTPUT] {text}\n" in path.read_text() for text in PRINTS)
        server.wait_for('"GET /print HTTP/1.1" 500')
        assert "OUTPUT" not in server.log
    assert "GET /print HTTP/1.1" not in path.read_text()


def test_a_flood_that_nothing_reads_is_counted(directory: Path) -> None:
    """The application goes on, and the log says once how many lines are lost."""
    fifo = directory / "fifo"
    os.mkfifo(fifo)
    reading = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    arguments = ("--capture-output", "--error-log", str(fifo), "--workers", "1")
    with Server("app:app", *arguments, cwd=directory, ready=False, listen=f"{directory}/s") as server:
        assert wait_until(lambda: listens(directory / "s"), 30)
        # 68 kB each: more than the pipe of the application (1 MiB) and the queue of the log (1 MiB) hold together.
        for number in range(60):
            assert int(get(server, f"/many?{number}"))
        text = b""

        def read_until_lost() -> bool:
            nonlocal text
            with contextlib.suppress(BlockingIOError):  # until the worker's next tick
                text += os.read(reading, 1 << 16)
            return b" lines of the error log were lost: nothing read them in time" in text

        assert wait_until(read_until_lost, 60)
        os.close(reading)
