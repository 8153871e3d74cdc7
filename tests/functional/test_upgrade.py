"""SIGUSR2: the installed version takes over in the same process, with its listeners; a failed trial changes
nothing.

"Installed" is a copy of the package, which the test changes while the server runs.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import sys
from pathlib import Path

import pytest

from tests.functional.support.certificates import Pair, TlsClient
from tests.functional.support.code import MODES, answers, molds
from tests.functional.support.harness import Process, free_ports, wait_until
from tests.functional.support.installation import REPLACED, Installation, upgrade
from tests.functional.support.load import Load
from tests.functional.support.observing import all_say, descriptors, rss
from tests.functional.support.tools import find_tool
from tests.functional.support.wire import Client


@pytest.fixture
def installed(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


@MODES
def test_the_new_version_takes_over_under_load(installed: Installation, mode: str) -> None:
    with installed.serve(mode) as server, Load(server.client, "/pid") as load:
        before, files = set(server.worker_pids()), descriptors(server.pid)
        installed.install("9.9.9")
        installed.site.write("two")
        installed.configure('server_header = "new"\n')
        upgrade(server)
        assert "upgrading to starman 9.9.9 on Python 3." in server.log
        assert "starman 9.9.9 has taken over and replaces the 2 old workers" in server.log
        load.wait_for_turns(10)
        assert wait_until(lambda: len(server.worker_pids()) == 2, 30)
        assert not before & set(server.worker_pids())
        assert all_say(server, "new")
        assert answers(server) == {"two"}
        assert wait_until(lambda: len(molds(server)) == (2 if mode == "--preload-app" else 1), 30)
        assert wait_until(lambda: descriptors(server.pid) == files, 30)
    assert load.failures == []


def test_five_upgrades_and_restarts_leave_the_master_as_it_was(installed: Installation) -> None:
    with installed.serve() as server, Load(server.client, "/pid") as load:
        sizes: list[int] = []
        files = descriptors(server.pid)
        for number in range(1, 6):
            server.signal(signal.SIGUSR2)
            server.wait_for("has taken over", 60, number)
            server.wait_for(REPLACED, 60, 2 * number - 1)
            server.signal(signal.SIGHUP)
            server.wait_for(REPLACED, 60, 2 * number)
            load.wait_for_turns(3)
            assert wait_until(lambda: len(server.worker_pids()) == 2 and len(molds(server)) == 1, 30)
            # The trial's channel may be there for a moment more.
            assert wait_until(lambda: descriptors(server.pid) == files, 30)
            sizes.append(rss(server.pid))
    assert load.failures == []
    # One more than the other by what the allocator pleases, and not by what is left behind.
    assert max(sizes) < 1.1 * min(sizes), sizes


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("cli.py", "the process that tried it exited with status 1"),
        ("serving/service.py", "SyntaxError"),
        ("process/handover.py", "hands over in format 0, not [1-9][0-9]*: stop the server and start it again"),
    ],
)
def test_a_version_that_fails_its_trial_changes_nothing(installed: Installation, file: str, reason: str) -> None:
    with installed.serve() as server:
        before, files = server.worker_pids(), descriptors(server.pid)
        text = (installed.package / file).read_text()
        other = re.sub(r"^FORMAT = .*", "FORMAT = 0", text, flags=re.MULTILINE)
        installed.break_file(file, other if other != text else "this is no Python\n")
        server.signal(signal.SIGUSR2)
        server.wait_for(f"upgrade given up, nothing has changed: .*{reason}", 60)
        # The process that tried it may be there for a moment more.
        assert wait_until(lambda: server.worker_pids() == before, 30)
        assert wait_until(lambda: descriptors(server.pid) == files, 30)
        installed.break_file(file, text)
        upgrade(server)
        assert wait_until(lambda: not set(before) & set(server.worker_pids()), 30)


@pytest.mark.parametrize(
    ("settings", "code", "reason"),
    [
        ("threads = -1\n", "", "starman.toml: threads: .*from 0 to 10000"),
        ("", "raise RuntimeError('not today')", "RuntimeError: not today"),
        ("", "os._exit(3)", "the process that tried it exited with status 3"),
    ],
)
def test_an_application_or_setting_that_fails_the_trial_changes_nothing(
    installed: Installation, settings: str, code: str, reason: str
) -> None:
    with installed.serve() as server:
        before = server.worker_pids()
        installed.configure(settings)
        installed.site.write("two", f"\n{code}\n")
        server.signal(signal.SIGUSR2)
        server.wait_for(f"upgrade given up, nothing has changed: (.|\n)*{reason}", 60)
        assert wait_until(lambda: server.worker_pids() == before, 30)
        assert answers(server) == {"one"}


def test_an_interpreter_that_is_gone_changes_nothing(installed: Installation) -> None:
    directory = installed.site.directory
    python = directory / "python"
    python.symlink_to(sys.executable)
    env = {"PYTHONPATH": os.pathsep.join([str(directory), *(path for path in sys.path if "site-packages" in path)])}
    server = Process([str(python), "-m", "starman", "--listen", "127.0.0.1:0"], directory, env)
    try:
        server.wait_for("ready: 2 workers", 60)
        python.unlink()
        server.signal(signal.SIGUSR2)
        server.wait_for("upgrade given up, nothing has changed: .*No such file", 60)
        python.symlink_to(sys.executable)
        server.signal(signal.SIGUSR2)
        server.wait_for("has taken over", 60)
        server.wait_for(REPLACED, 60)
        assert server.stop() == 0
    finally:
        server.kill()


def test_workers_that_fail_after_the_trial_leave_the_old_ones_serving(installed: Installation) -> None:
    with installed.serve() as server:
        before = server.worker_pids()
        # Only a worker has a process title with a number in it; the trial has none.
        broken = "\nif b'worker' in open('/proc/self/cmdline', 'rb').read():\n    raise RuntimeError('only in workers')\n"
        installed.site.write("two", broken)
        server.signal(signal.SIGUSR2)
        server.wait_for("restart given up, the old workers stay: .*only in workers", 60)
        assert wait_until(lambda: server.worker_pids() == before, 30)
        assert answers(server) == {"one"}
        # One that dies cannot be had back as it was: what there is now is tried, and waits between attempts.
        os.kill(before[0], signal.SIGKILL)
        server.wait_for("only in workers; next attempt in", 30)
        installed.site.write("three")
        server.signal(signal.SIGHUP)
        server.wait_for(REPLACED, 60)
        assert wait_until(lambda: answers(server) == {"three"}, 30)


def test_what_ttin_has_added_stays_and_the_listeners_too(installed: Installation, tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    with installed.serve(listen=["127.0.0.1:0", str(path)]) as server:
        inode = path.stat().st_ino
        server.signal(signal.SIGTTIN)
        assert wait_until(lambda: len(answers(server, "/pid")) == 3, 30)
        upgrade(server)
        server.wait_for("restarted: 3 workers are new")
        assert path.stat().st_ino == inode
        assert server.stop() == 0
        assert not path.exists()


def test_a_request_in_flight_is_finished_by_its_worker(installed: Installation, tmp_path: Path) -> None:
    gate, running = tmp_path / "gate", tmp_path / "running"
    gate.touch()
    installed.site.write(
        "one",
        "\nplain = app\ndef app(environ, start_response):\n    open('running', 'w').close()\n"
        "    while os.path.exists('gate'):\n        time.sleep(0.01)\n    return plain(environ, start_response)\n",
    )
    with installed.serve("--workers", "1", "--graceful-timeout", "120") as server, server.client(120) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert wait_until(running.exists, 30)
        (old,) = server.worker_pids()
        opened = descriptors(old)
        installed.site.write("two")
        upgrade(server)
        # It drains: it has closed its listener.
        assert wait_until(lambda: descriptors(old) < opened, 30)
        gate.unlink()
        response = client.read()
        assert (response.status, response.body, response.persistent) == (200, b"one", False)


def test_a_stop_during_an_upgrade_is_obeyed(installed: Installation) -> None:
    for signum in (signal.SIGTERM, signal.SIGQUIT):
        server = installed.serve()
        try:
            server.signal(signal.SIGUSR2)
            server.wait_for("upgrading to", 60)
            server.signal(signum)
            assert server.wait() == 0
        finally:
            server.kill()


def test_signals_that_arrive_during_the_exec_are_not_lost(installed: Installation) -> None:
    with installed.serve() as server:
        server.signal(signal.SIGUSR2)
        server.wait_for("upgrading to", 60)
        for signum in (signal.SIGUSR1, signal.SIGHUP, signal.SIGTTIN):
            server.signal(signum)
        server.wait_for("has taken over", 60)
        server.wait_for("one worker more: 3", 30)
        assert wait_until(lambda: len(server.worker_pids()) == 3, 30)
        server.wait_for("the logs are reopened", 30)
        server.wait_for("restarted: 3 workers are new", 60)


def test_settings_of_a_restart_that_the_trial_has_not_seen_are_not_lost(installed: Installation) -> None:
    gate = installed.site.directory / "gate"
    # Only a worker has a process title with a number in it; the trial has none.
    wait = "\nwhile b'worker' in open('/proc/self/cmdline', 'rb').read() and os.path.exists('gate'):\n    time.sleep(0.01)\n"
    with installed.serve("--boot-timeout", "120") as server:
        gate.touch()
        installed.site.write("two", wait)
        victim = server.worker_pids()[0]
        os.kill(victim, signal.SIGKILL)
        # The upgrade waits for the worker that comes in its place; without one yet, it would not.
        assert wait_until(lambda: victim not in server.worker_pids() and len(server.worker_pids()) == 2, 30)
        server.signal(signal.SIGUSR2)
        server.wait_for("upgrading to", 60)
        installed.configure('server_header = "new"\n')
        server.signal(signal.SIGHUP)
        server.wait_for("restarting the workers with fresh code", 30)
        assert "has taken over" not in server.log
        gate.unlink()
        server.wait_for("has taken over", 60)
        assert wait_until(lambda: all_say(server, "new"), 60)


def test_as_the_first_process_of_a_container(installed: Installation) -> None:
    unshare = find_tool("unshare")
    command = [unshare, "--pid", "--fork", "--mount-proc", "--kill-child", sys.executable, "-m", "starman"]
    env = {"PYTHONPATH": str(installed.site.directory)}
    server = Process([*command, "--listen", "127.0.0.1:0"], installed.site.directory, env)
    try:
        server.wait_for(r"\[1\] \[INFO\] starman \S+ ready: 2 workers", 60)
        (master,) = server.children()
        installed.install("9.9.9")
        os.kill(master, signal.SIGUSR2)
        server.wait_for(r"\[1\] \[INFO\] starman 9.9.9 has taken over", 60)
        server.wait_for(REPLACED, 60)
        assert server.children() == [master]
        os.kill(master, signal.SIGTERM)
        assert server.wait() == 0
    finally:
        server.kill()


def test_a_program_that_embeds_the_server_is_not_upgraded(installed: Installation) -> None:
    directory = installed.site.directory
    program = directory / "program.py"
    program.write_text("import starman\n\nstarman.run('site_app:app', listen='127.0.0.1:0')\n")
    server = Process([sys.executable, str(program)], directory)
    try:
        server.wait_for("ready: 2 workers", 60)
        server.signal(signal.SIGUSR2)
        server.wait_for("no upgrade: this server runs inside another program; restart that program instead", 30)
        assert server.stop() == 0
    finally:
        server.kill()


def test_a_worker_that_falls_silent_after_an_upgrade_is_seen_on_the_old_scoreboard(installed: Installation) -> None:
    with installed.serve("--worker-timeout", "5") as server:
        upgrade(server)
        assert wait_until(lambda: len(server.worker_pids()) == 2, 30)
        frozen = server.worker_pids()[0]
        os.kill(frozen, signal.SIGSTOP)
        server.wait_for(rf"worker \d \({frozen}\) is replaced: its loop has been silent", 60)
        server.wait_for(rf"worker \d \({frozen}\) was killed by SIGKILL|worker \d \({frozen}\) is still silent", 60)
        assert "worker_timeout does not apply" not in server.log
        assert wait_until(lambda: frozen not in server.worker_pids() and len(server.worker_pids()) == 2, 30)


def deploy(server: Process) -> None:
    """HUP to start_server, until it has heard it: it misses one that comes in the instant before it waits for its
    children."""
    for seconds in (10, 10, 60):
        server.signal(signal.SIGHUP)
        with contextlib.suppress(AssertionError):
            server.wait_for("received HUP", seconds)
            return
    raise AssertionError(f"start_server does not hear HUP:\n{server.log}")


def test_below_start_server_which_sees_the_same_process_and_deploys_as_before(installed: Installation, tmp_path: Path) -> None:
    pair = Pair(tmp_path, "localhost")
    plain, tls = free_ports(2)
    options = [f"--port=127.0.0.1:{plain}", f"--port=127.0.0.1:{tls}"]
    starman = [sys.executable, "-m", "starman", "--listen", f"127.0.0.1:{tls}:ssl", *pair.arguments]
    server = Process([find_tool("start_server"), *options, "--", *starman], tmp_path, {"PYTHONPATH": str(tmp_path)})
    try:
        server.wait_for("ready: 2 workers", 60)
        (master,) = server.children()
        with Load(lambda: Client(("127.0.0.1", plain))) as load, Load(lambda: TlsClient(tls, pair)) as secure:
            os.kill(master, signal.SIGUSR2)
            server.wait_for("has taken over", 60)
            server.wait_for(REPLACED, 60)
            assert server.children() == [master]
            load.wait_for_turns()
            secure.wait_for_turns()
            deploy(server)
            server.wait_for(rf"old worker {master} died, status:0", 60)
            load.wait_for_turns()
            secure.wait_for_turns()
        assert (load.failures, secure.failures) == ([], [])
        assert server.stop(signal.SIGTERM) == 0
    finally:
        server.kill()


def test_what_cannot_change_live_does_not_change_by_an_upgrade_either(installed: Installation) -> None:
    with installed.serve() as server:
        address = server.address
        installed.configure('backlog = 7\npid = "other.pid"\nserver_header = "new"\n')
        upgrade(server)
        assert "backlog stays 2048: it cannot change while the server runs (starman.toml: backlog: 7)" in server.log
        assert "pid stays none" in server.log
        assert not (installed.site.directory / "other.pid").exists()
        assert server.address == address
        assert all_say(server, "new")


def test_pid_file_directory_error_log_and_notify_socket_stay_in_use(installed: Installation, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(tmp_path / "notify"))
        notify.settimeout(60)
        command = [sys.executable, "-m", "starman", "--chdir", str(elsewhere), "--pid", "a.pid", "--error-log", "error.log"]
        env = {"PYTHONPATH": str(tmp_path), "NOTIFY_SOCKET": str(tmp_path / "notify")}
        server = Process([*command, "--include", str(tmp_path), "--listen", "127.0.0.1:0"], tmp_path, env)
        log = elsewhere / "error.log"
        try:
            wait_for_notice(notify, b"READY=1")
            pid_file = elsewhere / "a.pid"
            assert int(pid_file.read_text()) == server.pid
            server.signal(signal.SIGUSR2)
            assert wait_until(lambda: re.search(REPLACED, log.read_text()) is not None, 60), log.read_text()
            wait_for_notice(notify, b"READY=1")
            assert int(pid_file.read_text()) == server.pid
            assert Path(f"/proc/{server.pid}/cwd").readlink() == elsewhere
            assert server.stop() == 0
            wait_for_notice(notify, b"STOPPING=1")
            assert not pid_file.exists()
        finally:
            server.kill()


def wait_for_notice(notify: socket.socket, text: bytes) -> None:
    """Wait until systemd, which the test plays, has been told this."""
    while text not in notify.recv(4096).splitlines():
        continue
