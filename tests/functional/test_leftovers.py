"""No process outlives its test: pytest runs tests that leave processes, and is killed while they run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from tests import leftovers
from tests.functional.support.harness import Process, wait_until

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds the processes in /proc")

# A server in the background, which is in a session of its own, and one of the harness.
RUNS = """\
import os, pathlib, subprocess, sys, time
from tests.functional.support.harness import Server, environment

def test_servers():
    command = [sys.executable, "-m", "starman", "-D", "--workers", "1", "--listen", "./s"]
    subprocess.run([*command, "tests.functional.support.applications:app"], env=environment(), check=True)
    with Server("tests.functional.support.applications:app", "--workers", "1"):
        pathlib.Path("started.new").write_text(str(os.getpid()))
        os.rename("started.new", "started")
        time.sleep(600)
"""

LEAVES = """\
import os, subprocess, sys
import pytest

def leave():
    subprocess.run(["setsid", "--fork", "sleep", "600"], check=True)

@pytest.fixture(scope="module")
def fixture():
    leave()

def test_that_leaves_one():
    leave()

def test_that_leaves_none():
    subprocess.run(["true"], check=True)

def test_with_a_fixture(fixture):
    pass
"""


# Two starts of pytest and one of a server, on a machine that is at its limit.
SECONDS = 120.0


class Inner(Process):
    """pytest on a file with this text, in `directory`. Its processes are known by a variable."""

    def __init__(self, directory: Path, text: str, *arguments: str) -> None:
        (directory / "test_inner.py").write_text(text)
        self.directory = directory
        self._mark = uuid.uuid4().hex
        options = ["-p", "tests.conftest", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(directory)]
        command = [sys.executable, "-m", "pytest", *options, *arguments, "test_inner.py"]
        # It is no worker of the xdist that may run this test.
        others = {name: None for name in os.environ if name.startswith("PYTEST_")}
        super().__init__(command, directory, {**others, "TEST_INNER": self._mark, "COLUMNS": "250"})

    def wait_until_started(self) -> None:
        """Return when the servers run."""
        started = self.directory / "started"
        wait_until(lambda: started.exists() or self.status is not None, SECONDS)
        assert started.exists(), self.log

    def left(self) -> list[leftovers.Leftover]:
        """What is alive of it, the guards too."""
        return leftovers.find(self._mark)

    def kill(self) -> None:
        leftovers.end(self._mark, grace=0)
        super().kill()


@pytest.mark.parametrize(
    ("signum", "arguments"),
    [(signal.SIGKILL, ()), (signal.SIGTERM, ()), (signal.SIGINT, ()), (signal.SIGKILL, ("-n", "1"))],
    ids=["KILL", "TERM", "INT", "KILL-xdist"],
)
def test_servers_end_with_a_pytest_that_is_killed(tmp_path: Path, signum: signal.Signals, arguments: tuple[str, ...]) -> None:
    inner = Inner(tmp_path, RUNS, *arguments)
    try:
        inner.wait_until_started()
        commands = " ".join(each.command for each in inner.left())
        assert commands.count("starman master") == 2, commands
        inner.signal(signum)
        assert inner.wait(SECONDS) != 0
        assert wait_until(lambda: not inner.left(), SECONDS), inner.left()
    finally:
        inner.kill()


def test_servers_end_with_a_worker_of_xdist_that_is_killed(tmp_path: Path) -> None:
    inner = Inner(tmp_path, RUNS, "-n", "1", "--max-worker-restart", "0")
    try:
        inner.wait_until_started()
        os.kill(int((tmp_path / "started").read_text()), signal.SIGKILL)
        assert inner.wait(SECONDS) == 1
        assert "crashed while running 'test_inner.py::test_servers'" in inner.log
        assert wait_until(lambda: not inner.left(), SECONDS), inner.left()
    finally:
        inner.kill()


def test_a_test_that_leaves_a_process_fails(tmp_path: Path) -> None:
    inner = Inner(tmp_path, LEAVES, "-rA")
    try:
        assert inner.wait(SECONDS) == 1, inner.log
        assert wait_until(lambda: not inner.left(), SECONDS), inner.left()
    finally:
        inner.kill()
    said = r"processes left behind: \d+ \(sleep 600\), started by test_inner\.py::"
    inner.wait_for(rf"ERROR test_inner\.py::test_that_leaves_one - \S*: {said}test_that_leaves_one \(call\)\n")
    inner.wait_for(rf"ERROR test_inner\.py::test_with_a_fixture - \S*: {said}test_with_a_fixture \(setup\)\n")
    assert inner.log.count("ERROR test_inner.py") == 2
    inner.wait_for("3 passed, 2 errors")


def test_a_process_whose_number_is_taken_is_spared(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen(["sleep", "600"]) as other:
        try:
            looks = iter([[leftovers.Leftover(other.pid, "", "")]])
            monkeypatch.setattr(leftovers, "find", lambda own: next(looks, []))
            assert leftovers.end(uuid.uuid4().hex, grace=0) == []
            assert other.poll() is None
        finally:
            other.kill()


def test_a_process_in_the_middle_of_an_exec_is_found() -> None:
    again = 'exec sh -c "$1" sh "$1"'
    with subprocess.Popen(["sh", "-c", again, "sh", again], env={**os.environ, leftovers.VARIABLE: "mark-of-exec"}) as other:
        try:
            assert wait_until(lambda: bool(leftovers.find("mark-of-exec")), SECONDS)
            missed = sum(not leftovers.find("mark-of-exec") for _ in range(300))
            assert (missed, other.poll()) == (0, None)
        finally:
            other.kill()
