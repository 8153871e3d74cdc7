"""`--check` reports what a start would report, without a start, and beside a running server."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.functional.support.certificates import Pair
from tests.functional.support.commands import run, starman
from tests.functional.support.harness import Process, Server, environment, free_ports, wait_until

HELLO = """\
import time

def app(environ, start_response):
    start_response("200 OK", [])
    return [b"hello"]

def forever():
    while True:
        time.sleep(1000)

"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "site_app.py").write_text(HELLO)
    return tmp_path


def check(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return starman("--check", *arguments, "site_app:app", cwd=site)


def test_every_listener_is_bound_and_released(site: Path) -> None:
    (port,) = free_ports()
    places = (f"127.0.0.1:{port}", "unix:app.sock", f"@starman-check-{os.getpid()}")
    arguments = [argument for where in places for argument in ("--listen", where)]
    for _ in range(2):
        done = check(site, *arguments)
        assert (done.returncode, done.stderr) == (0, "")
        for where in places:
            assert f"{where}: can be bound" in done.stdout
    assert not (site / "app.sock").exists()


def test_an_address_in_use_is_an_error_before_the_application_is_loaded(site: Path) -> None:
    (site / "site_app.py").write_text("open('loaded', 'w')\n" + HELLO)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = check(site, "--listen", f"127.0.0.1:{port}")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"starman: cannot listen on 127.0.0.1:{port}: address already in use")
        assert not (site / "loaded").exists()
        # Nor is it the server's because there is a pid file: its process has to listen there.
        (site / "pid").write_text(f"{os.getppid()}\n")
        done = check(site, "--listen", f"127.0.0.1:{port}", "--pid", "pid")
        assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.parametrize("second", [":PORT", "*:PORT", "0.0.0.0:PORT:ssl", "localhost:PORT"])
def test_listeners_that_overlap_are_an_error_as_at_the_start(site: Path, second: str) -> None:
    (port,) = free_ports()
    first, second = f"127.0.0.1:{port}", second.replace("PORT", str(port))
    arguments = ["--listen", first, "--listen", second]
    if second.endswith(":ssl"):
        arguments += Pair(site, "localhost").arguments
    checked, started = check(site, *arguments), starman(*arguments, "site_app:app", cwd=site)
    assert (checked.returncode, checked.stdout) == (started.returncode, started.stdout) == (1, "")
    shown = second.replace(f":{port}", f"0.0.0.0:{port}") if second.startswith(":") else second
    for done in (checked, started):
        assert f"cannot listen on {shown}: it overlaps with the listener {first}; remove one of them\n" in done.stderr


def test_one_port_at_different_hosts_or_families_is_no_overlap(site: Path) -> None:
    (port,) = free_ports()
    places = (f"127.0.0.1:{port}", f"127.0.0.2:{port}", f"[::]:{port}")
    done = check(site, *(argument for where in places for argument in ("--listen", where)))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("where", ["127.0.0.1:PORT", "unix:app.sock", "@starman-running-PID"])
def test_the_server_that_runs_is_no_error(site: Path, where: str) -> None:
    where = where.replace("PORT", str(free_ports()[0])).replace("PID", str(os.getpid()))
    with Server("site_app:app", "--workers", "1", "--pid", "pid", cwd=site, listen=where) as server:
        done = check(site, "--listen", where, "--pid", "pid")
        assert (done.returncode, done.stderr) == (0, "")
        assert re.search(rf"{re.escape(where)}: in use by the running server \(process {server.pid}, pid file pid\)", done.stdout)
        done = check(site, "--listen", where)
        assert (done.returncode, done.stdout) == (1, "")
        if not where.startswith("127"):
            return
        assert "in use. If your running starman holds it, repeat the check with that server's --pid FILE\n" in done.stderr
        with server.client() as client:
            assert client.get("/").body == b"hello"


def test_inherited_sockets_are_not_tried_without_a_supervisor(site: Path) -> None:
    done = check(site, "--listen", "fd://7")
    assert done.returncode == 0
    assert done.stderr == "starman: fd://7 is not checked: the socket is inherited when the server starts\n"


def test_without_another_process_nothing_can_be_loaded(site: Path) -> None:
    """As under RLIMIT_NPROC or the pids.max of a cgroup."""
    code = (
        "import os, sys\n"
        "def fork():\n"
        "    raise BlockingIOError(11, 'Resource temporarily unavailable')\n"
        "os.fork = fork\n"
        "from starman.cli import main\n"
        "sys.exit(main(['--check', '--listen', '127.0.0.1:0', 'site_app:app']))\n"
    )
    done = run([sys.executable, "-c", code], site)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "starman: cannot create a process to load the application: Resource temporarily unavailable\n"


@pytest.mark.parametrize("hanging", ["forever()", "sum(range(10**12))  # native code that holds the interpreter's lock"])
def test_an_import_that_hangs_ends_with_its_stacks_at_the_boot_deadline(hanging: str, site: Path) -> None:
    (site / "site_app.py").write_text(f"{HELLO}def hang():\n    {hanging}\n\nhang()\n")
    done = check(site, "--listen", "127.0.0.1:0", "--boot-timeout", "5")
    assert (done.returncode, done.stdout) == (1, "")
    first, rest = done.stderr.split("\n", 1)
    assert first == "starman: the application was not ready to serve within 5 s (boot_timeout); its stacks follow"
    assert re.search(r'File ".*site_app.py", line \d+ in hang\n', rest)
    assert "stack_dumps.py" not in rest


def test_ctrl_c_and_a_kill_leave_no_process_behind(site: Path) -> None:
    (site / "site_app.py").write_text(HELLO + "print('loading', flush=True)\nforever()\n")
    for signum in (signal.SIGINT, signal.SIGKILL):
        process = Process([sys.executable, "-m", "starman", "--check", "--listen", "127.0.0.1:0", "site_app:app"], cwd=site)
        try:
            process.wait_for("loading", 30)
            process.signal(signum)
            assert process.wait() == (130 if signum is signal.SIGINT else -signum)
            assert wait_until(lambda process=process: not process.session_pids(), 5), process.session_pids()  # type: ignore[misc]
        finally:
            process.kill()


@pytest.mark.parametrize(("status", "returned"), [(0, 1), (3, 3)])
def test_an_application_that_ends_the_process_is_an_error(status: int, returned: int, site: Path) -> None:
    (site / "site_app.py").write_text(f"import os\nos._exit({status})\n")
    done = check(site, "--listen", "127.0.0.1:0")
    assert (done.returncode, done.stdout) == (returned, "")
    assert (
        done.stderr
        == f"starman: the process that loads the application exited with status {status} before the check was complete\n"
    )


@pytest.mark.parametrize("replaced", ["None", "io.StringIO()"])
def test_an_application_that_replaces_the_standard_streams_hides_no_report(replaced: str, site: Path) -> None:
    (site / "site_app.py").write_text(f"import io, sys\nsys.stdout = sys.stderr = {replaced}\n" + HELLO)
    done = check(site, "--listen", "127.0.0.1:0")
    assert (done.returncode, done.stderr) == (0, "")
    assert "application  site_app:app: loaded" in done.stdout


def test_a_reader_that_needs_no_more_of_the_report_is_no_error(site: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "starman", "--check", "--listen", "127.0.0.1:0", "site_app:app"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, cwd=site, env=environment(), timeout=60, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")
