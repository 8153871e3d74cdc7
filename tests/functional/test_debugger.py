"""A debugger that replaces `os.fork`, as debugpy does: the server starts, restarts and ends without a client of the
debugger.

The application plays the debugger. Its children wait for a client for ever, unless the fork was made an exception.
"""

from __future__ import annotations

from pathlib import Path
from signal import SIGHUP

from tests.functional.support.harness import Server

APPLICATION = """\
import contextlib, os, sys, time, types

state = types.SimpleNamespace(follows=True)


@contextlib.contextmanager
def skip_subprocess_arg_patch():
    state.follows = False
    try:
        yield
    finally:
        state.follows = True


def fork(system_fork=os.fork):
    follows = state.follows
    child = system_fork()
    if child == 0 and follows:
        time.sleep(600)
    return child


pydevd = sys.modules["pydevd"] = types.ModuleType("pydevd")
pydevd._is_attached = lambda: False
pydevd.skip_subprocess_arg_patch = skip_subprocess_arg_patch
os.fork = fork


def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "5")])
    return [b"hello"]
"""


def test_workers_do_not_wait_for_a_client_of_the_debugger(tmp_path: Path) -> None:
    (tmp_path / "debugged.py").write_text(APPLICATION)
    arguments = ("--preload-app", "--workers", "2", "--boot-timeout", "20")
    with Server("debugged:app", *arguments, cwd=tmp_path) as server:
        with server.client() as client:
            assert client.get("/").status == 200
        server.signal(SIGHUP)
        server.wait_for("restarted: 2 workers are new", 30)
        with server.client() as client:
            assert client.get("/").status == 200
