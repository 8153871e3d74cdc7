"""Exit statuses that are lost: the parent program or the application ignores SIGCHLD, or reaps the children."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.functional.support.commands import run
from tests.functional.support.harness import Process, Server, wait_until

HELLO = """\
import os, signal, threading, time

def app(environ, start_response):
    start_response("200 OK", [])
    return [f"{os.getpid()}".encode()]

"""
# Written to a module, these run where the application is imported.
IGNORES = "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
REAPS = """\
def reap():
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            time.sleep(0.0005)

threading.Thread(target=reap, daemon=True).start()
"""


def ignoring_sigchld(*arguments: str) -> list[str]:
    """The command of a server with a parent process that ignores SIGCHLD, as a shell does after `trap '' CHLD`."""
    code = "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.executable, sys.argv[1:])"
    return [sys.executable, "-c", code, sys.executable, "-m", "starman", *arguments]


def replaced(server: Server) -> str:
    """Kill the one worker, and wait for its successor; the line that the log has about it."""
    before = server.worker_pids()
    os.kill(before[0], signal.SIGKILL)
    line = server.wait_for(r"worker 1 \(\d+\) was killed by SIGKILL.*").group()
    assert wait_until(lambda: server.worker_pids() not in ([], before), 20)
    with server.client() as client:
        assert int(client.get("/").body) == server.worker_pids()[0]
    return line


@pytest.mark.parametrize("more", [IGNORES, REAPS])
def test_an_application_that_takes_the_exit_statuses_of_its_mold(tmp_path: Path, more: str) -> None:
    (tmp_path / "site_app.py").write_text(HELLO + more)
    with Server("site_app:app", "--workers", "1", "--preload-app", cwd=tmp_path) as server:
        for _ in range(3):
            replaced(server)
    assert "the mold" not in re.sub("the mold has loaded|before the mold forks", "", server.log)


def test_a_server_that_is_started_with_sigchld_ignored(tmp_path: Path) -> None:
    (tmp_path / "site_app.py").write_text(HELLO)
    server = Process(ignoring_sigchld("--workers", "1", "--listen", "127.0.0.1:0", "site_app:app"), cwd=tmp_path)
    try:
        server.wait_for("ready: 1 worker", 30)
        (worker,) = (pid for pid in server.children() if "worker" in Path(f"/proc/{pid}/cmdline").read_text())
        os.kill(worker, signal.SIGKILL)
        server.wait_for(r"worker 1 \(\d+\) was killed by SIGKILL")
        # Programs that the application starts have it as usual, too: bit 16 of the mask is SIGCHLD.
        status = Path(f"/proc/{server.children()[-1]}/status").read_text()
        assert int(re.search(r"SigIgn:\s*(\w+)", status)[1], 16) >> (signal.SIGCHLD - 1) & 1 == 0  # type: ignore[index]
        assert server.stop() == 0
    finally:
        server.kill()


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--check", "site_app:app"], 0, "site_app:app: loaded"),
        (["--check", "site_app:missing"], 1, "has no 'missing'"),
        (["-D", "--listen", "127.0.0.1:0", "site_app:missing"], 1, "has no 'missing'"),
    ],
)
def test_commands_that_wait_for_a_child_with_sigchld_ignored(
    tmp_path: Path, arguments: Sequence[str], status: int, words: str
) -> None:
    (tmp_path / "site_app.py").write_text(HELLO)
    done = run(ignoring_sigchld(*arguments), tmp_path)
    assert (done.returncode, words in done.stdout + done.stderr, "Traceback" in done.stderr) == (status, True, False), done


def test_a_program_that_reaps_every_child_of_its_own_can_be_a_daemon(tmp_path: Path) -> None:
    """The status of the process in between is taken by a thread of the program that embeds the server."""
    (tmp_path / "site_app.py").write_text(HELLO)
    program = tmp_path / "program.py"
    program.write_text(
        f"import os, signal, threading, time, starman\n{REAPS}\n"
        "starman.run('site_app:missing', daemonize=True, workers=1, listen='127.0.0.1:0', error_log='log')\n"
    )
    done = run([sys.executable, str(program)], tmp_path)
    assert done.returncode == 1, done
    assert "has no 'missing'" in done.stderr
    assert "Traceback" not in done.stderr
