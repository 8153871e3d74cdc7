"""`starman-uv reload`, `scale` and `stop` wait for their outcome, say what it is, and fail if it is not as wanted."""

from __future__ import annotations

import os
import re
import signal
import threading
from pathlib import Path

import pytest

from tests.functional.support.commands_for_servers import command, run_for, status_of
from tests.functional.support.harness import Server, wait_until
from tests.functional.test_commands import observers

APPLICATION = """\
import time

def app(environ, start_response):
    if environ["PATH_INFO"] == "/slow":
        time.sleep(1.5)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"fine"]
"""
RESTARTED = r"restarted: 2 new workers serve, after \d+\.\d s\n"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "site_app.py").write_text(APPLICATION)
    return tmp_path


@pytest.mark.parametrize("mode", ["--preload-app", "--no-preload-app"])
def test_a_reload_of_code_that_does_not_start_fails_and_says_why(site: Path, mode: str) -> None:
    with Server("site_app:app", "--workers", "2", mode, cwd=site) as server:
        generation = status_of(server)["generation"]
        (site / "site_app.py").write_text("import no_such_module\n")
        done = command("reload", "--pid", str(server.pid))
        assert (done.returncode, done.stdout) == (1, "")
        first, *details = done.stderr.splitlines()
        assert first.startswith("starman: the restart is given up, and the old workers stay: ")
        assert "No module named 'no_such_module'" in done.stderr
        assert any("site_app.py" in line for line in details)
        status = status_of(server)
        assert (status["generation"], status["workers_ready"], status["failed_restart_count"]) == (generation, 2, 1)
        assert "ago  a restart was given up: " in run_for(server, "status")
        (site / "site_app.py").write_text(APPLICATION)
        assert re.fullmatch(RESTARTED, run_for(server, "reload"))


def test_a_reload_of_wrong_settings_fails_and_says_why(site: Path) -> None:
    (site / "starman.toml").write_text('app = "site_app:app"\nworkers = 2\n')
    with Server(None, cwd=site) as server:
        (site / "starman.toml").write_text('app = "site_app:app"\nworkers = 0\n')
        done = command("reload", "--pid", str(server.pid))
        assert (done.returncode, done.stdout) == (1, "")
        assert re.match("starman: the restart is given up, and the old workers stay: .*workers: .*from 1 to", done.stderr)


def test_a_reload_that_takes_longer_than_its_timeout_goes_on(site: Path) -> None:
    with Server("site_app:app", "--workers", "2", cwd=site) as server:
        (site / "site_app.py").write_text(f"import time\ntime.sleep(1.5)\n{APPLICATION}")
        done = command("reload", "--pid", str(server.pid), "--timeout", "0.3")
        assert done.returncode == 1
        assert done.stderr == "starman: after 0.3 s, still waiting for the new workers; the server goes on with it\n"
        server.wait_for("restarted: 2 workers are new", 30)


def test_two_reloads_at_once_both_end_well(site: Path) -> None:
    with Server("site_app:app", "--workers", "2", cwd=site) as server:
        printed: list[str] = []
        clients = [threading.Thread(target=lambda: printed.append(run_for(server, "reload"))) for _ in range(2)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        assert len(printed) == 2
        assert all(re.fullmatch(RESTARTED, line) for line in printed)
        assert status_of(server)["workers_ready"] == 2


def test_a_reload_while_the_server_stops_fails(site: Path) -> None:
    with Server("site_app:app", "--workers", "1", "--graceful-timeout", "5", cwd=site) as server:
        status_of(server)
        with server.client() as client:
            client.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
            assert wait_until(lambda: any(worker["requests"] for worker in status_of(server)["workers"]))
            server.signal(signal.SIGTERM)
            assert wait_until(lambda: status_of(server)["phase"] == "stopping")
            done = command("reload", "--pid", str(server.pid))
            assert (done.returncode, done.stderr) == (1, "starman: the server is stopping\n")
            done = command("scale", "--pid", str(server.pid), "3")
            assert (done.returncode, done.stderr) == (1, "starman: the server is stopping\n")
            assert client.read().status == 200
        assert server.wait() == 0


def test_a_stop_waits_for_requests_in_flight_also_without_its_observer(site: Path) -> None:
    with Server("site_app:app", "--workers", "1", "--graceful-timeout", "10", cwd=site) as server:
        with server.client() as client:
            client.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
            assert wait_until(lambda: any(worker["requests"] for worker in status_of(server)["workers"]))
            printed: list[str] = []
            stopping = threading.Thread(target=lambda: printed.append(run_for(server, "stop")))
            stopping.start()
            server.wait_for("stopping: ")
            os.kill(observers(server)[0], signal.SIGKILL)
            assert client.read().status == 200
            stopping.join()
        assert re.fullmatch(r"stopped, after \d+\.\d s\n", printed[0])
        assert server.wait() == 0


def test_a_stop_by_the_path_of_the_control_socket(site: Path) -> None:
    path = site / "control.sock"
    with Server("site_app:app", "--workers", "1", "--control", str(path), cwd=site) as server:
        done = command("stop", "--control", str(path))
        assert (done.returncode, done.stderr) == (0, "")
        assert re.fullmatch(r"stopped, after \d\.\d s\n", done.stdout)
        assert server.wait() == 0
