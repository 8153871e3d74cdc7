"""The working directory by its name: releases behind a symbolic link, and applications that change the directory."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.functional.support.certificates import Pair, TlsClient
from tests.functional.support.code import MODES, answers
from tests.functional.support.harness import Process, Server, wait_until

APPLICATION = """\
import pathlib

import helper, site_module

def app(environ, start_response):
    body = f"{helper.VERSION} {site_module.VERSION} {pathlib.Path('version').read_text()}".encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


class Releases:
    """A directory with releases and the link to the one in use, as a deployment has them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.current = directory / "current"

    def deploy(self, name: str) -> None:
        """Replace the release in use, which is removed, by another one."""
        before = self.current.resolve() if self.current.exists() else None
        release = self.directory / "releases" / name
        (release / "lib").mkdir(parents=True)
        (release / "app.py").write_text(APPLICATION)
        (release / "site_module.py").write_text(f"VERSION = {name!r}\n")
        (release / "lib" / "helper.py").write_text(f"VERSION = {name!r}\n")
        (release / "version").write_text(name)
        (release / "starman.toml").write_text(f"server_header = {name!r}\n")
        link = self.directory / "next"
        link.symlink_to(release)
        link.rename(self.current)
        if before is not None:
            shutil.rmtree(before)

    def serve(self, way: str, *arguments: str) -> Server:
        """A server in the release that is in use: entered by --chdir, or by the shell that has started it."""
        env = {"PYTHONDONTWRITEBYTECODE": "1"}
        arguments = ("--workers", "2", "--include", "lib", "--access-log", "access.log", *arguments)
        if way == "chdir":
            arguments = ("--config", "current/starman.toml", "--chdir", "current", *arguments)
            return Server(None, *arguments, cwd=self.directory, env=env)
        return Server(None, *arguments, cwd=self.current, env={**env, "PWD": str(self.current)})


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    made = Releases(tmp_path)
    made.deploy("one")
    return made


def serves(server: Server, name: str) -> Callable[[], bool]:
    """Whether every worker serves the release of that name, with its own settings."""

    def all_do() -> bool:
        with server.client() as client:
            if client.get("/").get("Server") != name:
                return False
        return answers(server) == {f"{name} {name} {name}"}

    return all_do


@MODES
@pytest.mark.parametrize("way", ["chdir", "shell"])
def test_a_deploy_that_switches_a_link_and_removes_the_old_release(releases: Releases, way: str, mode: str) -> None:
    with releases.serve(way, mode) as server:
        assert serves(server, "one")()
        releases.deploy("two")
        server.signal(signal.SIGHUP)
        server.wait_for("restarted: 2 workers are new", 60)
        assert wait_until(serves(server, "two"), 30)
        worker = server.worker_pids()[0]
        os.kill(worker, signal.SIGKILL)
        assert wait_until(lambda: worker not in server.worker_pids() and len(server.worker_pids()) == 2, 30)
        assert wait_until(serves(server, "two"), 30)
        releases.deploy("three")
        server.signal(signal.SIGUSR2)
        server.wait_for("has taken over", 60)
        server.wait_for("restarted: 2 workers are new", 60, count=2)
        assert wait_until(serves(server, "three"), 30)
        releases.deploy("four")
        server.signal(signal.SIGHUP)
        server.wait_for("restarted: 2 workers are new", 60, count=3)
        assert wait_until(serves(server, "four"), 30)
        assert "given up" not in server.log
    assert "GET /" in (releases.current / "access.log").read_text()


def test_a_worker_that_dies_before_the_restart_finds_the_new_release(releases: Releases) -> None:
    with releases.serve("shell") as server:
        releases.deploy("two")
        before = server.worker_pids()
        for worker in before:
            os.kill(worker, signal.SIGKILL)
        assert wait_until(lambda: not set(before) & set(server.worker_pids()) and len(server.worker_pids()) == 2, 30)
        assert wait_until(lambda: answers(server) == {"two two two"}, 30)


def test_a_link_that_leads_nowhere_gives_the_restart_up(releases: Releases) -> None:
    with releases.serve("chdir", "--include", "more") as server:
        releases.current.unlink()
        (releases.directory / "current").write_text("not a directory")
        server.signal(signal.SIGHUP)
        server.wait_for("restart given up, the old workers stay: .*starman.toml: cannot read the file: Not a directory", 30)
        assert answers(server) == {"one one one"}


def test_a_start_in_a_directory_that_was_removed(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    command = ["/bin/sh", "-c", 'rmdir ../gone; exec "$@"', "sh", sys.executable, "-W", "error", "-m", "starman"]
    server = Process(command, cwd=gone)
    assert server.wait(60) == 1
    assert server.log.splitlines()[-1] == "starman: cannot use the working directory: No such file or directory"


CHANGING = """import os
os.chdir("/")

def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "4")])
    return [b"fine"]
"""


@MODES
@pytest.mark.parametrize("target", ["sub/wandering.py:app", "sub.wandering:app"])
def test_an_application_that_changes_the_directory(tmp_path: Path, mode: str, target: str) -> None:
    """At its import, or at that of a module before it: relative paths mean what they meant before."""
    pair = Pair(tmp_path, "localhost")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "wandering.py").write_text(CHANGING)
    (tmp_path / "first.py").write_text('import os\nos.chdir("/")\n')
    arguments = ["--ssl-cert", "localhost.crt", "--ssl-key", "localhost.key", "--access-log", "access.log", "--modules", "first"]
    env = {"PYTHONDONTWRITEBYTECODE": "1"}
    with Server(target, mode, "--workers", "1", *arguments, listen="127.0.0.1:0:ssl", cwd=tmp_path, env=env) as server:
        for _ in range(2):
            with TlsClient(server.port, pair) as client:
                assert client.get("/").body == b"fine"
            (worker,) = server.worker_pids()
            server.signal(signal.SIGHUP)
            assert wait_until(lambda worker=worker: worker not in server.worker_pids(), 60)  # type: ignore[misc]
        server.signal(signal.SIGUSR2)
        server.wait_for("has taken over", 60)
        server.wait_for("restarted: 1 worker is new", 60, count=3)
        with TlsClient(server.port, pair) as client:
            assert client.get("/").body == b"fine"
    assert (tmp_path / "access.log").read_text().count("GET /") == 3
    assert "ERROR" not in server.log
