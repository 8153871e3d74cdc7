"""The commands for a server that runs: `starman-uv status`, `scale`, `reload`, `stop`, and their control socket."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import stat
import threading
import time
from pathlib import Path

import pytest

from tests.functional.support.commands_for_servers import command, control, run_for, status_of
from tests.functional.support.harness import Server, wait_until

APPLICATION = """\
import time

def app(environ, start_response):
    if environ["PATH_INFO"] == "/slow":
        time.sleep(30)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"fine"]
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "site_app.py").write_text(APPLICATION)
    return tmp_path


def observers(server: Server) -> list[int]:
    """The process ids of the observers of `server`."""
    found = []
    for pid in server.session_pids():
        try:
            title = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        found += [pid] if title.startswith(b"starman observer") else []
    return found


def test_status_shows_workers_and_running_requests(site: Path) -> None:
    with Server("site_app:app", "--workers", "2", "--graceful-timeout", "1", cwd=site) as server:
        assert observers(server) == [], "none runs before a client comes"
        with server.client() as client:
            assert client.get("/").body == b"fine"
        waiting = server.client()
        waiting.send(b"GET /slow?x=1 HTTP/1.1\r\nHost: a\r\n\r\n")
        assert wait_until(lambda: any(worker["requests"] for worker in status_of(server)["workers"]))
        status = status_of(server)
        assert (status["pid"], status["phase"], status["workers_ready"], status["threads"]) == (server.pid, "running", 2, 4)
        assert status["name"] == "site_app:app"
        assert [worker["number"] for worker in status["workers"]] == [1, 2]
        assert {worker["pid"] for worker in status["workers"]} == set(server.worker_pids())
        assert all(worker["memory"]["private"] > 100_000 and worker["loop_silent_seconds"] < 5 for worker in status["workers"])
        ((number, request),) = [(worker["number"], each) for worker in status["workers"] for each in worker["requests"]]
        assert request["request"] == "GET /slow?x=1"
        roles = [process["role"].split(" (")[0] for process in status["processes"]]
        assert sorted(roles) == ["a mold", "master", "the observer"]
        text = run_for(server, "status")
        assert "running: 2 of 2 workers ready" in text
        assert f"worker {number}  thread {request['thread']}  GET /slow?x=1" in text
        assert len(observers(server)) == 1
        waiting.close()
        assert re.fullmatch(r"stopped, after \d+\.\d s\n", run_for(server, "stop"))
        assert server.wait() == 0
        assert wait_until(lambda: not server.session_pids())


def test_scale_changes_the_number_of_workers(site: Path) -> None:
    with Server("site_app:app", "--workers", "1", cwd=site) as server:
        assert re.fullmatch(r"scaled: 4 workers serve, after \d+\.\d s\n", run_for(server, "scale", "4"))
        server.wait_for("workers scaled from 1: 4")
        assert status_of(server)["workers_ready"] == 4
        assert run_for(server, "scale", "1", "--no-wait") == ""
        assert wait_until(lambda: len(server.worker_pids()) == 1)
        done = command("scale", "--pid", str(server.pid), "0")
        assert done.returncode == 2
        assert "'0' is not a whole number from 1 to 1024" in done.stderr


def test_reload_serves_fresh_code(site: Path) -> None:
    with Server("site_app:app", "--workers", "2", cwd=site) as server:
        before = status_of(server)["generation"]
        (site / "site_app.py").write_text(APPLICATION.replace("fine", "new code"))
        assert re.fullmatch(r"restarted: 2 new workers serve, after \d+\.\d s\n", run_for(server, "reload"))
        assert "restarted: 2 workers are new" in server.log
        # An old worker may still accept, until it has read its order to drain.
        assert wait_until(lambda: answer(server) == b"new code")
        assert status_of(server)["generation"] > before


def answer(server: Server) -> bytes:
    with server.client() as client:
        return client.get("/").body


def test_a_server_that_stops_still_answers(site: Path) -> None:
    with Server("site_app:app", "--workers", "1", "--graceful-timeout", "3", cwd=site) as server:
        with server.client() as client:
            client.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
            assert wait_until(lambda: b"/slow" in b"".join(page_lines(server)))
            server.signal(signal.SIGTERM)
            server.wait_for("stopping: 1 request is in flight")
            assert observers(server) == [], "the master forks it itself: no mold is left"
            status = status_of(server)
            assert status["phase"] == "stopping"
            assert [worker["state"] for worker in status["workers"]] == ["draining"]
            assert status["workers"][0]["requests"][0]["request"] == "GET /slow"
        assert server.wait() == 0
        assert wait_until(lambda: not server.session_pids())


def page_lines(server: Server) -> list[bytes]:
    """What the scoreboard holds, read without an observer."""
    for fd in os.listdir(f"/proc/{server.pid}/fd"):
        path = f"/proc/{server.pid}/fd/{fd}"
        if "starman-scoreboard" in os.readlink(path):
            with open(path, "rb") as file:
                return [file.read(65_536)]
    return []


def test_a_path_has_mode_0600_and_is_removed(site: Path) -> None:
    path = site / "control.sock"
    with Server("site_app:app", "--workers", "1", "--control", "control.sock", cwd=site) as server:
        found = path.stat()
        assert (stat.S_ISSOCK(found.st_mode), stat.S_IMODE(found.st_mode)) == (True, 0o600)
        assert json.loads(command("status", "--json", "--control", str(path)).stdout)["pid"] == server.pid
        by_variable = command("status", "--json", env={"STARMAN_CONTROL": str(path)})
        assert json.loads(by_variable.stdout)["pid"] == server.pid
        done = command("status", "--pid", str(server.pid))
        assert done.returncode == 1
        assert f"no starman of this user has the process id {server.pid}" in done.stderr
    assert not path.exists()
    done = command("status", "--control", str(path))
    assert done.returncode == 1
    assert f"no starman answers at {path}: No such file or directory" in done.stderr


def test_off_and_a_path_that_cannot_be_made_start_without(site: Path) -> None:
    with Server("site_app:app", "--workers", "1", "--control", "off", cwd=site) as server:
        assert command("status", "--pid", str(server.pid)).returncode == 1
    with Server("site_app:app", "--workers", "1", "--control", "/nowhere/at/all", cwd=site) as server:
        assert "--control: no control socket at /nowhere/at/all: No such file or directory" in server.log


def test_an_upgrade_keeps_the_socket_and_replaces_the_observer(site: Path) -> None:
    with Server("site_app:app", "--workers", "1", "--control", "control.sock", cwd=site) as server:
        words = ("status", "--json", "--control", str(site / "control.sock"))
        assert json.loads(command(*words).stdout)["phase"] == "running"
        (before,) = observers(server)
        server.signal(signal.SIGUSR2)
        server.wait_for("has taken over")
        assert json.loads(command(*words).stdout)["pid"] == server.pid
        assert wait_until(lambda: before not in observers(server))
    assert not (site / "control.sock").exists()


def test_the_service_goes_on_without_its_observer(site: Path) -> None:
    with Server("site_app:app", "--workers", "1", cwd=site) as server:
        status_of(server)
        (first,) = observers(server)
        os.kill(first, signal.SIGKILL)
        server.wait_for("the observer was killed by SIGKILL.*; it is started again when it is needed")
        status_of(server)
        (second,) = observers(server)
        os.kill(second, signal.SIGSTOP)
        client = control(server)
        client.sendall(b'{"command": "status"}\n')
        run = threading.Thread(target=server.wait_for, args=("the observer does not respond, and is killed", 40.0))
        run.start()
        until = time.monotonic() + 5
        while time.monotonic() < until:
            with server.client() as visitor:
                assert visitor.get("/").body == b"fine"
        # Neither a signal nor a restart waits for the stopped one.
        server.signal(signal.SIGHUP)
        server.wait_for("restarted: 1 worker is new")
        run.join()
        client.close()
        assert status_of(server)["workers_ready"] == 1


def test_the_black_box_keeps_what_a_killed_worker_was_serving(site: Path) -> None:
    with Server("site_app:app", "--workers", "1", "--max-requests", "3", cwd=site) as server:
        with server.client() as client:
            client.send(b"GET /slow?order=7 HTTP/1.1\r\nHost: a\r\n\r\n")
            assert wait_until(lambda: b"/slow" in b"".join(page_lines(server)))
            (worker,) = server.worker_pids()
            os.kill(worker, signal.SIGKILL)
            server.wait_for("while serving GET /slow")
        assert wait_until(lambda: status_of(server)["workers_ready"] == 1)
        for _ in range(3):
            with server.client() as client:
                assert client.get("/").body == b"fine"
        server.wait_for("is replaced: it has served 3 requests")
        status = status_of(server)
        (lost,) = status["lost_workers"]
        assert (lost["number"], lost["pid"]) == (1, worker)
        assert "was killed by SIGKILL" in lost["how"]
        assert "while serving GET /slow?order=7 (for " in lost["how"]
        assert [entry["reason"] for entry in status["replacements"]] == ["it has served 3 requests (max_requests)"]
        text = run_for(server, "status")
        assert "lost workers, the last one first:" in text
        assert f"worker 1 ({worker}) was killed by SIGKILL" in text


def test_top_repeats_the_status(site: Path) -> None:
    with Server("site_app:app", "--workers", "2", cwd=site) as server:
        text = run_for(server, "top", "--count", "3", "--interval", "0.1", "--sort", "memory")
        assert text.count("running: 2 of 2 workers ready") == 3
        assert "\x1b" not in text, "standard output is no terminal"
        done_wrong = command("top", "--pid", str(server.pid), "--interval", "0")
        assert done_wrong.returncode == 2
        assert "'0' is not a number of seconds from 0.1 to 3600" in done_wrong.stderr


def test_report_is_one_file_without_secrets(site: Path) -> None:
    log = site / "error.log"
    arguments = ("--workers", "1", "--env", "API_KEY=hush-hush", "--error-log", str(log))
    with Server("site_app:app", *arguments, cwd=site, ready=False) as server:
        assert wait_until(lambda: log.exists() and "ready" in log.read_text())
        report = site / "report.txt"
        assert run_for(server, "report", str(report)) == ""
        text = report.read_text()
        assert stat.S_IMODE(report.stat().st_mode) == 0o600
        for part in (
            "== Versions",
            "uvloop ",
            "== Status",
            "workers ready",
            "== Stacks",
            "worker 1 (",
            "== Error log",
            "ready: 1 worker",
        ):
            assert part in text
        assert "API_KEY=(hidden)" in text
        assert "hush-hush" not in text
        again = command("report", "--pid", str(server.pid), str(report))
        assert again.returncode == 1
        assert f"cannot write {report}: File exists" in again.stderr


def test_clients_of_the_control_socket_cannot_harm(site: Path) -> None:
    with Server("site_app:app", "--workers", "1", cwd=site) as server:
        silent = [control(server) for _ in range(3)]
        for nonsense in (
            b"\xff\xfe\n",
            b"{}\n",
            b"[" * 4000 + b"\n",
            b'{"command": 7}\n',
            b'{"command": "x"}\n',
            b"x" * 100_000 + b"\n",
        ):
            with control(server) as client, client.makefile("rb") as lines:
                with contextlib.suppress(OSError):  # a long line is not read to its end
                    client.sendall(nonsense)
                with contextlib.suppress(OSError):
                    assert "error" in json.loads(lines.readline())
        with control(server) as client, client.makefile("rb") as lines:
            for _ in range(2):
                client.sendall(b'{"command": "scale", "workers": true}\n')
                assert json.loads(lines.readline()) == {"error": "scale takes a number of workers, from 1 to 1024"}
        many = []
        for _ in range(1000):
            client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            client.connect(f"\0starman/{server.pid}")  # waits while the backlog is full
            many.append(client)
        with server.client() as visitor:
            assert visitor.get("/").body == b"fine"
        many[-1].settimeout(10.0)
        assert b"has 64 clients already" in many[-1].recv(1000)
        for client in (*silent, *many):
            client.close()
        assert wait_until(lambda: command("status", "--pid", str(server.pid)).returncode == 0)
        assert len(observers(server)) == 1
        assert "Traceback" not in server.log
        assert "ERROR" not in server.log


def test_the_error_without_a_server_says_what_to_do() -> None:
    done = command("status", "--pid", "1")
    assert done.returncode == 1
    assert "no starman of this user has the process id 1" in done.stderr
    done = command("status", "--what")
    assert done.returncode == 2
    assert "unrecognized arguments: --what" in done.stderr


def test_several_servers_must_be_told_apart(site: Path) -> None:
    arguments = ("--workers", "1")
    with Server("site_app:app", *arguments, cwd=site) as first, Server("site_app:app", *arguments, cwd=site) as second:
        done = command("status")
        assert done.returncode == 2
        assert "servers run here: choose one by --pid" in done.stderr
        for server in (first, second):
            assert f"  --pid {server.pid}  starman master site_app:app" in done.stderr
