"""SIGUSR1: every process opens renamed logs again, and no line is lost."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.functional.support.harness import Server, wait_until
from tests.functional.support.load import Load

APPLICATION = """\
import os, sys, time

if os.path.exists("slow"):
    open("loading", "w").close()
    while os.path.exists("slow"):
        time.sleep(0.01)

def app(environ, start_response):
    if environ["PATH_INFO"] == "/complain":
        sys.stderr.write(environ["QUERY_STRING"] + "\\n")
        sys.stderr.flush()
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


class Site:
    """A directory with an application, its logs, and servers that write them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.error = directory / "error.log"
        self.access = directory / "access.log"
        (directory / "logging_app.py").write_text(APPLICATION)

    def serve(self, *arguments: str) -> Server:
        """A server of two workers, ready; its error log is a file."""
        logs = ("--error-log", "error.log", "--access-log", "access.log")
        server = Server("logging_app:app", "--workers", "2", *logs, *arguments, cwd=self.directory, ready=False)
        try:
            self.wait_for("ready: 2 workers")
        except AssertionError:
            server.kill()
            raise
        server.listeners = self.error.read_text().rpartition(" on ")[2].strip()
        return server

    def wait_for(self, text: str) -> None:
        """Wait until the present error log has this text."""
        assert wait_until(lambda: self.error.exists() and text in self.error.read_text(), 30), f"{text!r} is in no error log"

    def rotate(self, server: Server, number: int) -> tuple[Path, Path]:
        """Rename both logs, have them reopened, and wait until that is done; the paths of the old ones."""
        old = self.directory / f"error.{number}", self.directory / f"access.{number}"
        self.error.rename(old[0])
        self.access.rename(old[1])
        server.signal(signal.SIGUSR1)
        self.wait_for("the logs are reopened")
        return old


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_rotating_under_load_loses_no_line_and_leaves_the_old_files_alone(site: Site) -> None:
    with site.serve() as server, Load(server.client) as load:
        sizes: dict[Path, int] = {}
        for number in range(5):
            load.wait_for_turns(20)
            sizes |= {path: path.stat().st_size for path in site.rotate(server, number)}
        load.wait_for_turns(20)
        with server.client() as client:
            for number in range(8):
                client.get(f"/complain?line-{number}")
        site.wait_for("line-7")
        assert {path: path.stat().st_size for path in sizes} == sizes
    assert load.failures == []
    requests = sum(load.answers.values()) + 8
    lines = [line for path in site.directory.glob("access.*") for line in path.read_text().splitlines()]
    assert len(lines) == requests
    assert all(line.endswith('"-" "-"') for line in lines)
    assert all("line-" not in path.read_text() for path in sizes)


@pytest.mark.parametrize("mode", ["--no-preload-app", "--preload-app"])
def test_workers_forked_after_a_rotation_write_to_the_new_files(site: Site, mode: str) -> None:
    with site.serve(mode) as server:
        site.rotate(server, 0)
        server.signal(signal.SIGHUP)
        site.wait_for("restarted: 2 workers are new")
        with server.client() as client:
            client.get("/complain?from-a-new-worker")
        site.wait_for("from-a-new-worker")


def test_a_worker_that_is_still_loading_follows_when_it_is_ready(site: Site) -> None:
    with site.serve() as server:
        slow = site.directory / "slow"
        slow.touch()
        server.signal(signal.SIGTTIN)
        assert wait_until((site.directory / "loading").exists, 30)
        site.error.rename(site.directory / "error.0")
        server.signal(signal.SIGUSR1)
        site.wait_for("reopening the logs")
        assert "the logs are reopened" not in site.error.read_text()
        slow.unlink()
        site.wait_for("the logs are reopened")


def test_a_log_that_cannot_be_opened_again_stays_in_use(site: Site) -> None:
    with site.serve() as server:
        old = site.directory / "error.0"
        site.error.rename(old)
        site.error.mkdir()
        access = site.directory / "access.0"
        site.access.rename(access)
        site.access.mkdir()
        server.signal(signal.SIGUSR1)
        assert wait_until(lambda: "the logs are reopened" in old.read_text(), 30)
        assert "the error log stays as it is, because it cannot be opened again" in old.read_text()
        assert old.read_text().count("the access log still goes to the old file") == 2
        with server.client() as client:
            client.get("/still-logged")
        assert wait_until(lambda: "/still-logged" in access.read_text(), 30)


def test_rotating_leaks_no_descriptor(site: Site) -> None:
    with site.serve() as server:
        pids = [server.pid, *server.children()]
        before = {pid: len(os.listdir(f"/proc/{pid}/fd")) for pid in pids}
        for number in range(10):
            site.rotate(server, number)
        assert wait_until(lambda: {pid: len(os.listdir(f"/proc/{pid}/fd")) for pid in pids} == before)
