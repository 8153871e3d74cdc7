"""A sandbox that forbids system calls (seccomp): the log says so once, and the server goes on without them."""

from __future__ import annotations

import errno
import platform
import signal
import sys
from pathlib import Path

import pytest

from tests.functional.support.harness import REPOSITORY, Process
from tests.functional.support.sandbox import FORBIDDING, NUMBERS
from tests.functional.support.wire import Client

APPLICATION = """
def app(environ, start_response):
    file = open("large", "rb")
    start_response("200 OK", [("Content-Length", "5000000")])
    return environ["wsgi.file_wrapper"](file)
"""
LARGE = bytes(range(250)) * 20_000


@pytest.mark.skipif(platform.machine() not in NUMBERS, reason="the numbers of the system calls are not known")
@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOSYS], ids=["EPERM", "ENOSYS"])
def test_system_calls_that_are_forbidden(tmp_path: Path, error: int) -> None:
    (tmp_path / "large").write_bytes(LARGE)
    (tmp_path / "files.py").write_text(APPLICATION)
    numbers = ",".join(map(str, NUMBERS[platform.machine()]))
    arguments = ["-W", "error", "-m", "starman", "--workers", "2", "--listen", "127.0.0.1:0", "files:app"]
    command = [sys.executable, "-c", FORBIDDING, str(error), numbers, *arguments]
    server = Process(command, cwd=tmp_path, env={"PYTHONPATH": str(REPOSITORY)})
    try:
        port = int(server.wait_for(r"ready: .*:(\d+)", 60)[1])

        def served() -> bytes:
            with Client(("127.0.0.1", port)) as client:
                return client.get("/").body

        assert served() == LARGE
        server.signal(signal.SIGHUP)
        server.wait_for("restarted: 2 workers are new", 60)
        assert served() == LARGE
        server.signal(signal.SIGUSR2)
        server.wait_for("has taken over", 60)
        server.wait_for("restarted: 2 workers are new", 60, count=2)
        assert served() == LARGE
        assert server.stop(signal.SIGTERM) == 0
        # Once for each start of the program.
        assert server.log.count("every worker can write to the whole scoreboard") == 2
        assert 1 <= server.log.count("the limit of open descriptors cannot be read") <= 2
        assert 1 <= server.log.count("files are sent by read and write") <= 6
        assert "ERROR" not in server.log
        assert "Traceback" not in server.log
    finally:
        server.kill()
