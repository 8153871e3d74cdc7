"""Settings that are too long for one message between processes: a server that starts with them restarts, respawns
and upgrades."""

from __future__ import annotations

import os
import platform
import signal
import sys
from pathlib import Path

import pytest

from tests.functional.support.code import MODES, sockets
from tests.functional.support.harness import REPOSITORY, Process, Server, wait_until
from tests.functional.support.observing import all_say, descriptors
from tests.functional.support.sandbox import FORBIDDING, NUMBERS
from tests.functional.support.wire import Client

REPLACED = r"restarted: 2 workers are new"
EXPRESSION = """'{filler}' and (lambda environ, start_response: (start_response("200 OK", []), [b"served"])[1])"""
APPLICATION = """
def app(environ, start_response):
    start_response("200 OK", [])
    return [b"served"]
"""
KINDS = pytest.mark.parametrize("kind", ["expression", "paths"])


class Site:
    """A directory with a starman.toml that has long settings."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "site_app.py").write_text(APPLICATION)

    def configure(self, name: str, kind: str) -> None:
        """Settings of that kind, with `name` as the Server field of the responses."""
        lines = [f'server_header = "{name}"', "workers = 2"]
        if kind == "expression":
            lines.append(f"eval = '''{EXPRESSION.format(filler=name * (200_000 // len(name)))}'''")
        else:
            paths = ", ".join(f'"/{name}/{number}"' for number in range(3_000))
            lines += ['app = "site_app:app"', f"warm_up = [{paths}]"]
        draft = self.directory / "draft"
        draft.write_text("\n".join(lines))
        draft.replace(self.directory / "starman.toml")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@MODES
@KINDS
def test_long_settings_restart_respawn_and_upgrade(site: Site, kind: str, mode: str) -> None:
    site.configure("first", kind)
    with Server(None, mode, cwd=site.directory, env={"PYTHONDONTWRITEBYTECODE": "1"}) as server:
        assert all_say(server, "first")
        files = descriptors(server.pid)
        # What has not changed can be handed on, and what has changed too.
        for count, name in enumerate(("first", "second"), 1):
            site.configure(name, kind)
            server.signal(signal.SIGHUP)
            server.wait_for(REPLACED, 60, count)
            assert all_say(server, name)
        # The workers of later have the settings of the restart, not those that the file has by now.
        site.configure("third", kind)
        assert wait_until(lambda: len(server.worker_pids()) == 2, 30)
        before = server.worker_pids()
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        assert wait_until(lambda: len(server.worker_pids()) == 2 and not set(before) & set(server.worker_pids()), 60)
        assert all_say(server, "second")
        server.signal(signal.SIGUSR2)
        server.wait_for("has taken over", 60)
        server.wait_for(REPLACED, 60, 3)
        assert all_say(server, "third")
        server.signal(signal.SIGHUP)
        server.wait_for(REPLACED, 60, 4)
        assert all_say(server, "third")
        assert wait_until(lambda: descriptors(server.pid) == files, 30)
        assert wait_until(lambda: len(server.worker_pids()) == 2, 30)
        for pid in server.worker_pids():
            assert not [name for name in sockets(pid) if "starman-handover" in name]
        assert "given up" not in server.log
        assert "Traceback" not in server.log


@pytest.mark.skipif(platform.machine() not in NUMBERS, reason="the numbers of the system calls are not known")
def test_an_upgrade_with_long_settings_does_without_memory_files(site: Site, tmp_path: Path) -> None:
    site.configure("first", "expression")
    memfd_create = str(NUMBERS[platform.machine()][0])
    arguments = ["-W", "error", "-m", "starman", "--listen", "127.0.0.1:0"]
    spools = tmp_path / "spools"
    spools.mkdir()
    env = {"PYTHONPATH": str(REPOSITORY), "TMPDIR": str(spools)}
    server = Process([sys.executable, "-c", FORBIDDING, "1", memfd_create, *arguments], cwd=tmp_path, env=env)
    try:
        port = int(server.wait_for(r"ready: .*:(\d+)", 60)[1])
        server.signal(signal.SIGUSR2)
        server.wait_for("has taken over", 60)
        server.wait_for(REPLACED, 60)
        with Client(("127.0.0.1", port)) as client:
            assert client.get("/").body == b"served"
        assert server.stop(signal.SIGTERM) == 0
        assert "ERROR" not in server.log
        assert list(spools.iterdir()) == []
    finally:
        server.kill()
