"""Systems other than Linux on x86-64, as far as Python shows them: the real server, in an interpreter without what
such a system lacks. docs/platforms.md lists the differences."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.functional.support.commands import starman
from tests.functional.support.harness import Server
from tests.functional.support.other_system import make_system
from tests.functional.support.wire import encode_request

# The system, and the size of a page: x86-64 has 4 KiB, Apple's processors 16, aarch64 4, 16 or 64.
SYSTEMS = [("freebsd14", 4096), ("darwin", 16384), ("musl", 65536)]
APPLICATION = """
import sys

def app(environ, start_response):
    start_response("200 OK", [])
    path = environ["PATH_INFO"]
    if path == "/large":
        return [bytes(5_000_000)]
    if path == "/file":
        return environ["wsgi.file_wrapper"](open(__file__, "rb"))
    return [b"%s %d" % (sys.platform.encode(), len(environ["wsgi.input"].read()))]
"""
GUNICORN = """
workers = 1
bind = "127.0.0.1:0"

def on_starting(server):
    server.left = "left by on_starting"

def post_fork(server, worker):
    server.log.info("the worker has: %s", server.left)
"""

Variables = Mapping[str, str | None]


@pytest.fixture(params=SYSTEMS, ids=lambda each: each[0])
def system(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Variables]:
    """The name of the system (as `sys.platform`), and the variables for it. The directory has an application."""
    name, page = request.param
    (tmp_path / "other_app.py").write_text(APPLICATION)
    return "linux" if name == "musl" else name, make_system(tmp_path / "system", name, page)


def get(server: Server, path: str, body: bytes = b"") -> bytes:
    with server.client() as client:
        fields = [("Content-Length", str(len(body)))] if body else []
        client.send(encode_request("POST" if body else "GET", path, fields) + body)
        response = client.read()
        assert response.status == 200
        return response.body


def test_a_life(system: tuple[str, Variables], tmp_path: Path) -> None:
    """Requests, a restart, an upgrade, more workers, and commands by a control socket with a path."""
    name, env = system
    control = tmp_path / "control"
    options = ("--workers", "2", "--control", str(control), "--max-worker-memory", "1g", "--pid", str(tmp_path / "pid"))
    with Server("other_app:app", "--preload-app", *options, cwd=tmp_path, env=env) as server:
        for what in ("start", "restart", "upgrade"):
            assert get(server, "/") == f"{name} 0".encode(), what
            assert get(server, "/", bytes(3_000_000)) == f"{name} 3000000".encode()
            assert get(server, "/large") == bytes(5_000_000)
            assert get(server, "/file") == APPLICATION.encode()
            status = starman("status", "--json", "--control", str(control), cwd=tmp_path, env=env)
            assert status.returncode == 0, status.stderr
            assert json.loads(status.stdout)["workers_ready"] == 2
            if what == "start":
                server.signal(signal.SIGHUP)
                server.wait_for("restarted: 2 workers are new", 60)
            if what == "restart":
                server.signal(signal.SIGUSR2)
                server.wait_for("has taken over", 60)
                server.wait_for("restarted: 2 workers are new", 60, 2)
        server.signal(signal.SIGTTIN)
        server.wait_for("one worker more: 3", 30)
        stacks = starman("stacks", "--control", str(control), cwd=tmp_path, env=env)
        assert stacks.returncode == 0, stacks.stderr
        assert "4 threads of the pool" in stacks.stdout
    assert " [ERROR] " not in server.log


def test_listeners(system: tuple[str, Variables], tmp_path: Path) -> None:
    """A UNIX socket, an inherited socket that listens already, and one that only is bound."""
    name, env = system
    path = tmp_path / "socket"
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        listeners = [f"fd://{listening.fileno()}", f"fd://{bound.fileno()}", f"unix:{path}"]
        fds = (listening.fileno(), bound.fileno())
        with Server("other_app:app", "--workers", "1", listen=listeners, cwd=tmp_path, env=env, pass_fds=fds):
            for address in (listening.getsockname(), bound.getsockname(), str(path)):
                with socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET) as client:
                    client.settimeout(30)
                    client.connect(address)
                    client.sendall(encode_request("GET", "/", [("Connection", "close")]))
                    with client.makefile("rb") as answer:
                        assert answer.read().endswith(b"%s 0" % name.encode())


def test_gunicorn(system: tuple[str, Variables], tmp_path: Path) -> None:
    """A configuration of gunicorn, with a hook that changes the server; logs that a process of their own writes."""
    name, env = system
    (tmp_path / "gunicorn.conf.py").write_text(GUNICORN)
    with Server(None, "gunicorn", "other_app:app", listen=(), cwd=tmp_path, env=env) as server:
        assert get(server, "/") == f"{name} 0".encode()
        server.wait_for("the worker has: left by on_starting")
        server.signal(signal.SIGHUP)
        server.wait_for("restarted: 1 worker is new", 60)
        server.wait_for("the worker has: left by on_starting", 30, 2)


def test_an_abstract_name_is_refused_where_there_is_none(system: tuple[str, Variables], tmp_path: Path) -> None:
    name, env = system
    done = starman("--check", "--listen", "@starman-test-other", "other_app:app", cwd=tmp_path, env=env)
    if name == "linux":
        assert done.returncode == 0, done.stderr
    else:
        assert done.returncode == 2
        assert "only Linux has abstract names of sockets: write the path of a UNIX socket" in done.stderr
