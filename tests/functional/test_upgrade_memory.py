"""SIGUSR2 to a version with another layout of the shared memory: counts begin at 0, and the log says so."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from pathlib import Path

from tests.functional.support.commands_for_servers import status_of
from tests.functional.support.harness import Server, wait_until
from tests.functional.support.installation import Installation, upgrade
from tests.functional.support.metrics import REQUESTS, admin_url, total

ADMIN = ("--admin-listen", "127.0.0.1:0")
WARNING = (
    "the old version has another layout of the memory of its workers: counts of requests and connections begin at 0, "
    "and worker_timeout does not apply to the old workers while they end"
)
FORGETS = "replaces the 2 old workers; `starman-uv status` forgets earlier lost workers, replacements and slow requests"


def serve_some(installed: Installation, stack: contextlib.ExitStack) -> tuple[Server, str]:
    server = stack.enter_context(installed.serve(*ADMIN))
    url = admin_url(server)
    for _ in range(5):
        with server.client() as client:
            assert client.get("/").status == 200
    assert wait_until(lambda: total(url, REQUESTS) == 5)
    os.kill(server.worker_pids()[0], signal.SIGKILL)
    assert wait_until(lambda: status_of(server)["lost_count"] == 1)
    assert wait_until(lambda: len(server.worker_pids()) == 2)
    return server, url


def test_another_layout_begins_anew(tmp_path: Path) -> None:
    installed = Installation(tmp_path)
    with contextlib.ExitStack() as stack:
        server, url = serve_some(installed, stack)
        (scoreboard,) = installed.package.rglob("scoreboard.py")
        text = scoreboard.read_text()
        other = re.sub(r"starman scoreboard \d+", "starman scoreboard 99", text)
        assert other != text
        scoreboard.write_text(other)
        upgrade(server)
        assert server.log.count(WARNING) == 1
        assert server.log.count(FORGETS) == 1
        assert total(url, REQUESTS) == 0
        with server.client() as client:
            assert client.get("/").status == 200
        assert wait_until(lambda: total(url, REQUESTS) == 1)
        assert status_of(server)["lost_count"] == 0


def test_the_same_layout_keeps_the_counts_and_forgets_the_lists(tmp_path: Path) -> None:
    installed = Installation(tmp_path)
    with contextlib.ExitStack() as stack:
        server, url = serve_some(installed, stack)
        upgrade(server)
        assert "begin at 0" not in server.log
        assert server.log.count(FORGETS) == 1
        assert total(url, REQUESTS) == 5
        assert status_of(server)["lost_count"] == 0
