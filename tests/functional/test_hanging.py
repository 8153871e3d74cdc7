"""Processes that hang before they serve: a mold that does not fork, an application with an endless import."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import pytest

from tests.functional.support.harness import NotReadyError, Server, wait_until

HELLO = """\
import os, time
from starman import hooks

def forever():
    while True:
        time.sleep(1000)

def hang_once_there_is_a_file():
    if os.path.exists("hang"):
        os.unlink("hang")
        forever()

def app(environ, start_response):
    start_response("200 OK", [])
    return [b"%d" % os.getpid()]

"""
MODES = pytest.mark.parametrize("mode", ["--no-preload-app", "--preload-app"])


def serve(directory: Path, more: str, *arguments: str, workers: int = 1) -> Server:
    (directory / "site_app.py").write_text(HELLO + more)
    return Server("site_app:app", "--workers", str(workers), *arguments, cwd=directory)


def molds(server: Server) -> list[int]:
    found = []
    for pid in server.children():
        try:
            title = Path(f"/proc/{pid}/cmdline").read_text()
        except FileNotFoundError:
            continue
        if "starman mold" in title:
            found.append(pid)
    return found


def kill_worker(server: Server) -> None:
    (worker,) = server.worker_pids()
    os.kill(worker, signal.SIGKILL)


def is_back(server: Server, *before: int) -> None:
    """Another worker serves, and no process of `before` is left."""
    assert wait_until(lambda: bool(server.worker_pids()) and not set(before) & set(server.session_pids()), 30), server.log
    with server.client() as client:
        assert int(client.get("/").body) in server.worker_pids()


@MODES
def test_a_mold_that_is_stopped_is_replaced(tmp_path: Path, mode: str) -> None:
    with serve(tmp_path, "", mode, "--boot-timeout", "5") as server:
        stopped = molds(server)[-1]  # the one that forks workers: with preloading, the younger
        os.kill(stopped, signal.SIGSTOP)
        before = server.worker_pids()
        kill_worker(server)
        server.wait_for(rf"ERROR\] the mold \({stopped}\).* is killed: it did not fork worker 1 within 5 s \(boot_timeout\)")
        server.wait_for(rf"ERROR\] the mold \({stopped}\).* has failed: it did not fork worker 1 within 5 s .*; next attempt in")
        is_back(server, stopped, *before)


def test_a_mold_that_is_held_by_a_hook_is_replaced_and_shows_where(tmp_path: Path) -> None:
    with serve(tmp_path, "hooks.before_fork(hang_once_there_is_a_file)\n", "--preload-app", "--boot-timeout", "5") as server:
        held = molds(server)[-1]
        (tmp_path / "hang").touch()
        kill_worker(server)
        server.wait_for(
            rf"the mold \({held}\).* is killed: it did not fork worker 1 within 5 s \(boot_timeout\); its stacks follow"
        )
        server.wait_for(r"in hang_once_there_is_a_file")
        is_back(server, held)


def test_a_mold_whose_child_is_held_by_a_hook_is_replaced_with_that_child(tmp_path: Path) -> None:
    more = "os.register_at_fork(after_in_child=hang_once_there_is_a_file)\n"
    with serve(tmp_path, more, "--preload-app", "--boot-timeout", "5") as server:
        held = molds(server)[-1]
        (tmp_path / "hang").touch()
        kill_worker(server)
        server.wait_for(rf"the mold \({held}\).* has failed: it did not fork worker 1")
        is_back(server, held)
        # The master, two molds, a worker: what hung in between is gone.
        assert wait_until(lambda: len(server.session_pids()) == 4), server.session_pids()


@MODES
@pytest.mark.parametrize("hanging", ["forever()", "sum(range(10**12))  # native code that holds the interpreter's lock"])
def test_an_import_that_hangs_fails_the_start_and_shows_where(tmp_path: Path, mode: str, hanging: str) -> None:
    more = f"def hang():\n    {hanging}\n\nhang()\n"
    with pytest.raises(NotReadyError) as refused, serve(tmp_path, more, mode, "--boot-timeout", "5", workers=3):
        pass
    log = refused.value.log
    assert refused.value.status == 1
    assert len(re.findall(r"is killed: it was not ready within 5 s \(boot_timeout\); its stacks follow", log)) == 1
    assert re.search(r'File ".*site_app.py", line \d+ in hang\n', log)
    last = log.strip().splitlines()[-1]
    assert re.fullmatch(
        r"starman: (worker \d \(\d+\)|the mold \(\d+\),.*) could not start: it was not ready within 5 s \(boot_timeout\)",
        last,
    )


@MODES
def test_an_import_that_hangs_gives_a_restart_up_and_shows_where(tmp_path: Path, mode: str) -> None:
    with serve(tmp_path, "", mode, "--boot-timeout", "5") as server:
        # Python uses a cached module if its source has the same size and second.
        (tmp_path / "site_app.py").write_text(HELLO + "forever()  # now\n")
        began = time.monotonic()
        server.signal(signal.SIGHUP)
        server.wait_for(r"is killed: it was not ready within 5 s \(boot_timeout\); its stacks follow")
        server.wait_for(r'File ".*site_app.py", line 6 in forever')
        server.wait_for(r"restart given up, the old workers stay: .* it was not ready within 5 s")
        assert time.monotonic() - began >= 5
        with server.client() as client:
            assert client.get("/").status == 200
