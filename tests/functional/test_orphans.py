"""No process of a server that has ended, or could not start, stays behind and holds its address, whatever the
application does.

Linux only, as is the mechanism in the server.
"""

from __future__ import annotations

import signal
import socket
import sys
from pathlib import Path

import pytest

from tests.functional.support.harness import Process, Server, free_ports, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="macOS has no signal for the end of a parent")

HELLO = """\
import os, signal, time
from starman import hooks

def note():
    with open("here", "a") as file:
        file.write("x")

def sleep():
    note()
    while True:
        time.sleep(1000)

def app(environ, start_response):
    start_response("200 OK", [])
    return [b"hello"]

"""
# How an application may hold the process that loads it, or one that is forked; each notes that it does.
AT_IMPORT = "sleep()\n"
DEAF = "for signum in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}: signal.signal(signum, signal.SIG_IGN)\nsleep()\n"
IN_CHILD = "os.register_at_fork(after_in_child=sleep)\n"
# Only in the second of the two forks that lead to a worker.
IN_GRANDCHILD = """\
forks = []
def second():
    forks.append(1)
    if len(forks) == 2:
        sleep()
os.register_at_fork(after_in_child=second)
"""
IN_PARENT = "os.register_at_fork(after_in_parent=sleep)\n"
BEFORE_FORK = "hooks.before_fork(sleep)\n"
AFTER_FORK = "hooks.after_fork(sleep)\n"
# As a debugger does: `os.fork` is another function, and what it does in the child may wait for a server that never
# answers.
PATCHED = """\
fork = os.fork
def patched():
    pid = fork()
    if pid == 0:
        sleep()
    return pid
os.fork = patched
"""
PRELOADED = [AT_IMPORT, DEAF, IN_CHILD, IN_GRANDCHILD, IN_PARENT, BEFORE_FORK, AFTER_FORK, PATCHED]
CASES = [("--preload-app", more) for more in PRELOADED] + [("--no-preload-app", more) for more in (AT_IMPORT, DEAF, AFTER_FORK)]


def start(directory: Path, more: str, *arguments: str) -> tuple[Process, int]:
    """A server of one worker that never becomes ready, when it hangs; and its port."""
    (directory / "site_app.py").write_text(HELLO + more)
    (port,) = free_ports()
    command = [sys.executable, "-m", "starman", "--workers", "1", "--listen", f"127.0.0.1:{port}", *arguments, "site_app:app"]
    server = Process(command, cwd=directory)
    assert wait_until((directory / "here").exists, 30), server.log
    return server, port


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen()
        except OSError:
            return False
        return True


@pytest.mark.parametrize(("mode", "more"), CASES)
def test_a_master_that_is_killed_takes_what_still_starts_along(tmp_path: Path, mode: str, more: str) -> None:
    server, port = start(tmp_path, more, mode)
    try:
        server.signal(signal.SIGKILL)
        server.wait()
        assert wait_until(lambda: not server.session_pids()), server.session_pids()
        # A process may be a zombie while the last of its threads still holds the listener.
        assert wait_until(lambda: is_free(port))
    finally:
        server.kill()


@pytest.mark.parametrize(("mode", "more"), CASES)
def test_a_start_that_fails_leaves_nothing_behind(tmp_path: Path, mode: str, more: str) -> None:
    server, port = start(tmp_path, more, mode, "--boot-timeout", "3")
    try:
        assert server.wait() == 1
        assert wait_until(lambda: not server.session_pids()), server.session_pids()
        # A process may be a zombie while the last of its threads still holds the listener.
        assert wait_until(lambda: is_free(port))
        assert "(boot_timeout)" in server.log
    finally:
        server.kill()


def test_a_worker_that_serves_finishes_its_requests_when_the_master_is_killed(tmp_path: Path) -> None:
    (tmp_path / "site_app.py").write_text(HELLO.replace('start_response("200', 'note(); time.sleep(1.5); start_response("200'))
    with Server("site_app:app", "--workers", "1", "--preload-app", cwd=tmp_path) as server, server.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert wait_until((tmp_path / "here").exists, 10)
        server.signal(signal.SIGKILL)
        assert client.read().body == b"hello"
        assert wait_until(lambda: not server.session_pids())
