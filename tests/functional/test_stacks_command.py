"""`starman-uv stacks`: the thread, request, age and line of everything that is stuck, within a second."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

from tests.functional.support.commands_for_servers import control, run_for
from tests.functional.support.harness import Server, wait_until

APPLICATION = """\
import threading, time

LOCK = threading.Lock()
LOCK.acquire()

def wait_for_lock():
    LOCK.acquire()

def spin():
    while True:
        pass

def app(environ, start_response):
    if environ["PATH_INFO"] == "/lock":
        wait_for_lock()
    if environ["PATH_INFO"] == "/busy":
        spin()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"fine"]
"""
LINES = APPLICATION.splitlines()


def line_of(text: str) -> int:
    """The number of the last line with `text`."""
    return max(number for number, line in enumerate(LINES, 1) if text in line)


def ask(server: Server, command: bytes) -> tuple[dict[str, object], float]:
    """The answer to a command, and how many seconds it took."""
    with control(server) as client, client.makefile("rb") as lines:
        began = time.monotonic()
        client.sendall(command + b"\n")
        return json.loads(lines.readline()), time.monotonic() - began


def test_stacks_shows_a_lock_and_a_busy_loop_within_a_second(tmp_path: Path) -> None:
    (tmp_path / "stuck_app.py").write_text(APPLICATION)
    arguments = ("--workers", "2", "--threads", "2", "--graceful-timeout", "0.5", "--worker-timeout", "0")
    with Server("stuck_app:app", *arguments, cwd=tmp_path) as server:
        clients = []
        for target in (b"/lock?a=1", b"/busy"):
            clients.append(server.client())
            clients[-1].send(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n")
        assert wait_until(lambda: len(re.findall(" for |GET", run_for(server, "status"))) >= 2)
        text = run_for(server, "stacks")
        path = tmp_path / "stuck_app.py"
        for target, inner, outer in (("/lock?a=1", "LOCK.acquire()", "wait_for_lock()"), ("/busy", "", "spin()")):
            found = re.search(
                rf"worker [12] \(\d+\)\n(?:  .*\n)*?  thread [12]: GET {re.escape(target)} \(for \d+\.\d s\)\n"
                rf"    {re.escape(str(path))}:(\d+) in (\w+)\n"
                rf"    {re.escape(str(path))}:{line_of('        ' + outer)} in app\n",
                text,
            )
            assert found, text
            if inner:
                assert (int(found[1]), found[2]) == (line_of("    " + inner), "wait_for_lock")
            else:
                assert int(found[1]) in (line_of("while True"), line_of("        pass"))
        _, seconds = ask(server, b'{"command": "stacks"}')
        assert seconds < 1.0

        # One worker is stopped: the others are shown in time, and the stopped one by what the kernel knows.
        (stopped,) = {int(pid) for pid in re.findall(r"worker 1 \((\d+)\)", text)}
        os.kill(stopped, signal.SIGSTOP)
        try:
            answer, seconds = ask(server, b'{"command": "stacks"}')
            assert seconds < 1.5
            assert [process["answered"] for process in answer["processes"]] == [False, True, True]  # type: ignore[attr-defined]
            text = run_for(server, "stacks")
            assert f"worker 1 ({stopped}) has not written its stacks: the process is stopped" in text
            assert f"kernel: thread {stopped} (" in text
        finally:
            os.kill(stopped, signal.SIGCONT)
        for client in clients:
            client.close()
        assert "stacks of" not in server.log
