"""--daemonize, --pid, --chdir and --umask as a start script uses them: output, exit status, and files left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.support.code import HELLO
from tests.functional.support.commands import starman
from tests.functional.support.harness import REPOSITORY, Process, Server, environment, wait_until
from tests.functional.support.wire import Client

APPLICATION = """\
import os, sys, time

def app(environ, start_response):
    print("printed"); print("complained", file=sys.stderr, flush=True)
    body = repr([os.getcwd(), os.getsid(0), [os.readlink(f"/proc/self/fd/{fd}") for fd in (0, 1, 2)]]).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


class Daemon:
    """A server that was started in the background, in `directory`, with its pid file `server.pid`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / "server.pid"
        self.pid = 0

    def start(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command to its end. Its exit status tells whether it has started a server."""
        with (self.directory / "stdin").open("wb+") as stdin:
            command = [sys.executable, "-W", "error", "-m", "starman", "--daemonize", "--workers", "2", *arguments]
            done = subprocess.run(
                [*command, "--pid", "server.pid", "site_app:app"],
                cwd=self.directory,
                env=environment(),
                stdin=stdin,
                capture_output=True,
                text=True,
                # With the pipes of a server in the background this would never end.
                timeout=60,
                check=False,
            )
        if done.returncode == 0:
            self.pid = int(self.file.read_text())
        return done

    def client(self) -> Client:
        return Client(str(self.directory / "site.sock"))

    def processes(self) -> list[int]:
        """The live processes of its session."""
        found = []
        for name in os.listdir("/proc"):
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{int(name)}/stat").read_text().rpartition(")")[2].split() if name.isdigit() else []
                if self.pid and fields and int(fields[3]) == self.session and fields[0] not in "ZX":
                    found.append(int(name))
        return found

    @property
    def session(self) -> int:
        with contextlib.suppress(ProcessLookupError):
            self._session = os.getsid(self.pid)
        return self._session

    def stop(self) -> None:
        """End it, and whatever is left of it."""
        if not self.pid:
            return
        try:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)
            assert wait_until(lambda: not self.processes(), 30), self.processes()
        finally:
            for pid in self.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    (tmp_path / "site_app.py").write_text(APPLICATION)
    made = Daemon(tmp_path)
    yield made
    made.stop()


def test_it_serves_when_the_command_returns(daemon: Daemon) -> None:
    done = daemon.start("--listen", "./site.sock", "--error-log", "error.log")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    with daemon.client() as client:
        directory, session, streams = eval(client.get("/").body)
    log = str(daemon.directory / "error.log")
    assert (directory, streams) == (str(daemon.directory), ["/dev/null", "/dev/null", log])
    # It can get no terminal: its session has no leader any more.
    assert session == os.getsid(daemon.pid) not in (os.getsid(0), daemon.pid)
    text = Path(log).read_text()
    assert f"[{daemon.pid}] [INFO] starman " in text
    assert "complained\n" in text
    assert "printed" not in text
    daemon.stop()
    assert not daemon.file.exists()
    assert not (daemon.directory / "site.sock").exists()


def test_without_an_error_log_it_says_what_that_means(daemon: Daemon) -> None:
    done = daemon.start("--listen", "./site.sock")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.endswith(
        "[WARNING] --daemonize: without error_log, later errors are not logged; set error_log to a file\n"
    )


@pytest.mark.parametrize("preload", ["--preload-app", "--no-preload-app"])
def test_a_start_that_fails_is_the_commands_failure(daemon: Daemon, preload: str) -> None:
    (daemon.directory / "site_app.py").write_text("raise RuntimeError('the reason')\n")
    done = daemon.start("--listen", "./site.sock", "--error-log", "error.log", preload)
    assert done.returncode == 1
    assert done.stderr.startswith(
        "starman: cannot load 'site_app:app': RuntimeError: the reason\nTraceback (most recent call last):\n"
    )
    assert not daemon.file.exists()
    assert not (daemon.directory / "site.sock").exists()


def test_other_failures_have_their_status(daemon: Daemon) -> None:
    (daemon.directory / "site.sock").write_text("precious")
    done = daemon.start("--listen", "./site.sock", "--error-log", "error.log")
    assert (done.returncode, done.stderr) == (
        1,
        "starman: cannot listen on unix:./site.sock: a file that is not a socket is in its place\n",
    )
    done = daemon.start("--error-log", "none/error.log", "--listen", f"@starman-daemon-{os.getpid()}")
    assert (done.returncode, done.stderr) == (2, "starman: error_log: cannot write none/error.log: No such file or directory\n")
    done = daemon.start("--chdir", "none", "--error-log", "error.log")
    assert (done.returncode, done.stderr) == (2, "starman: --chdir: cannot change to none: No such file or directory\n")


def test_a_server_that_is_killed_at_its_start(daemon: Daemon) -> None:
    # The worker lives on: if it held what the command waits on, that would wait with it.
    (daemon.directory / "site_app.py").write_text(
        # Not by getppid(): for a moment, the parent is a process in between.
        "import os, signal, time\n\nos.kill(int(open('server.pid').read()), signal.SIGKILL)\ntime.sleep(60)\n"
    )
    done = daemon.start("--listen", "./site.sock", "--error-log", "error.log", "--workers", "1")
    assert (done.returncode, done.stderr) == (1, "starman: the server ended before it was ready\n")


def test_a_second_one_is_refused_by_the_pid_file(daemon: Daemon) -> None:
    assert daemon.start("--listen", "./site.sock", "--error-log", "error.log").returncode == 0
    done = daemon.start("--listen", "./other.sock", "--error-log", "error.log")
    reason = f"starman: pid: {daemon.file} belongs to process {daemon.pid}, which is alive\n"
    assert (done.returncode, done.stderr) == (1, reason)
    assert daemon.file.read_text() == f"{daemon.pid}\n"
    assert not (daemon.directory / "other.sock").exists()


def test_the_file_of_a_killed_master_is_stale(daemon: Daemon) -> None:
    assert daemon.start("--listen", "./site.sock", "--error-log", "error.log").returncode == 0
    killed = daemon.pid
    os.kill(killed, signal.SIGKILL)
    assert wait_until(lambda: not daemon.processes(), 30)
    assert daemon.file.read_text() == f"{killed}\n"
    assert daemon.start("--listen", "./site.sock", "--error-log", "error.log").returncode == 0
    assert daemon.pid != killed
    with daemon.client() as client:
        assert client.get("/").status == 200


def test_hup_and_the_pid_file_in_the_background(daemon: Daemon) -> None:
    assert daemon.start("--listen", "./site.sock", "--error-log", "error.log").returncode == 0
    (daemon.directory / "site_app.py").write_text(HELLO % "the new code")
    os.kill(daemon.pid, signal.SIGHUP)
    assert wait_until(lambda: "2 workers are new" in (daemon.directory / "error.log").read_text(), 30)

    def is_new() -> bool:
        with daemon.client() as client:
            return client.get("/").body == b"from the new code"

    assert wait_until(is_new)  # an old worker may take one more before it hears that it is to drain
    assert daemon.file.read_text() == f"{daemon.pid}\n"


# The others, in the foreground.


def test_chdir_and_umask(tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "site_app.py").write_text(HELLO % "the site")
    # The file of settings is looked for where the command was given; what it names is relative to the new directory.
    (tmp_path / "starman.toml").write_text('chdir = "site"\numask = "077"\npid = "server.pid"\naccess_log = "access.log"\n')
    with Server("site_app:app", "--workers", "1", listen="./site.sock", cwd=tmp_path, ready=False) as server:
        server.wait_for("ready: ", 30)
        with Client(str(site / "site.sock")) as client:
            assert client.get("/").body == b"from the site"
        assert (site / "server.pid").read_text() == f"{server.pid}\n"
        assert {name: stat.S_IMODE((site / name).stat().st_mode) for name in ("server.pid", "access.log", "site.sock")} == {
            "server.pid": 0o644,
            "access.log": 0o600,
            "site.sock": 0o700,
        }
    assert sorted(path.name for path in site.iterdir() if path.suffix in (".pid", ".sock")) == []


def test_check_changes_the_directory_too(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "only_there.py").write_text(HELLO % "there")
    assert starman("--check", "--chdir", "site", "only_there:app", cwd=tmp_path).returncode == 0
    done = starman("--check", "--chdir", "none", "only_there:app", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "starman: --chdir: cannot change to none: No such file or directory\n")
    done = starman("--check", "--chdir", "site", "--user", "no-such-user", "only_there:app", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "starman: --user: no user is called 'no-such-user'\n")


def test_a_pid_file_lasts_until_the_last_worker_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "server.pid"
    command = [sys.executable, "-m", "starman", "examples/hello.py", "--pid", str(path)]
    server = Process([*command, "--listen", f"@starman-pidfile-{os.getpid()}"], REPOSITORY)
    try:
        server.wait_for("ready: ", 30)
        assert path.read_text() == f"{server.pid}\n"
        for pid in server.children():
            os.kill(pid, signal.SIGKILL)
        server.wait_for("was killed by SIGKILL", 30, 3)
        assert path.read_text() == f"{server.pid}\n"
        assert server.stop() == 0
        assert not path.exists()
    finally:
        server.kill()
