"""The hook process (`--hooks`): which events it is told of, when, and what its failures cost."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.functional.support.harness import NotReadyError, Process, Server, environment, wait_until
from tests.functional.support.wire import NoResponseError

APPLICATION = """\
import os, signal

def app(environ, start_response):
    if environ["PATH_INFO"] == "/die":
        os.kill(os.getpid(), signal.SIGKILL)
    if environ["PATH_INFO"] == "/exit":
        os._exit(0)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"%d" % os.getpid()]
"""

HOOKS = """\
import os, signal, sys, time
from starman import hooks

VERSION = "one"

def note(*words):
    with open("notes.txt", "a") as file:
        file.write(" ".join(map(str, words)) + "\\n")

def told(point):
    def tell(*values):
        note(point, os.getpid(), *(value if isinstance(value, int) else f"{value.number} {value.pid} {value.signal} "
             f"{value.status} {value.expected}" for value in values))
    return tell

note("import", os.getpid(), hooks.worker_number(), "site_app" in sys.modules, VERSION)
for point in hooks.SERVER_POINTS + hooks.WORKER_POINTS:
    getattr(hooks, point)(told(point))
"""

MODES = pytest.mark.parametrize("mode", ["--no-preload-app", "--preload-app"])


class Site:
    """An application, a module of hooks, and the notes that the hooks take."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "site_app.py").write_text(APPLICATION)
        self.write("")

    def write(self, more: str, hooks: str = HOOKS) -> None:
        """Append `more` to the module of hooks."""
        (self.directory / "site_hooks.py").write_text(hooks + more)

    def serve(self, *arguments: str, hooks: str = "site_hooks") -> Server:
        workers = () if "--workers" in arguments else ("--workers", "2")
        env = {"PYTHONDONTWRITEBYTECODE": "1"}
        return Server("site_app:app", "--hooks", hooks, *workers, *arguments, cwd=self.directory, env=env)

    def fails(self, *arguments: str, hooks: str = "site_hooks") -> NotReadyError:
        with pytest.raises(NotReadyError) as refused, self.serve(*arguments, hooks=hooks):
            pass
        return refused.value

    def notes(self, *points: str) -> list[str]:
        """The notes taken so far, of these points only."""
        path = self.directory / "notes.txt"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line for line in lines if not points or line.split()[0] in points]

    def wait_for(self, *points: str, count: int = 1) -> list[str]:
        """The notes of these points, as soon as there are `count` of them."""
        assert wait_until(lambda: len(self.notes(*points)) >= count), self.notes()
        return self.notes(*points)

    def forget(self) -> None:
        (self.directory / "notes.txt").unlink()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def request(server: Server, path: str) -> bytes:
    with server.client() as client:
        return client.get(path).body


def kill_worker(server: Server) -> int:
    """Have a worker kill itself in a request. Returns its process id."""
    with server.client() as client:
        pid = int(client.get("/").body)
        with pytest.raises(NoResponseError):
            client.get("/die")
    return pid


def points(notes: list[str]) -> list[str]:
    return [note.split()[0] for note in notes]


# A whole life.


@MODES
def test_the_hooks_of_the_server_run_in_one_process_from_its_start_to_its_end(site: Site, mode: str) -> None:
    with site.serve(mode) as server:
        workers = server.worker_pids()
        site.wait_for("ready")
        (process,) = server.hook_pids()
        server.signal(signal.SIGTTIN)
        site.wait_for("workers_changed")
        server.signal(signal.SIGTTOU)
        site.wait_for("workers_changed", count=2)
        site.wait_for("worker_ended")
        assert server.stop() == 0
    of_process = [note for note in site.notes() if note.split()[1] == str(process)]
    assert points(of_process) == [
        *("import", "starting", "ready", "workers_changed", "workers_changed", "worker_ended", "stopping"),
        *("worker_ended", "worker_ended", "stopped"),
    ]
    assert of_process[0] == f"import {process} None False one", "the application is not loaded there"
    assert of_process[3:5] == [f"workers_changed {process} 2 3", f"workers_changed {process} 3 2"]
    ended = [note.split()[2:] for note in of_process if note.startswith("worker_ended")]
    assert ended[0][0] == "3"
    assert {tuple(each[:2]) for each in ended[1:]} == {("1", str(workers[0])), ("2", str(workers[1]))}
    assert all(each[2:] == ["None", "0", "True"] for each in ended)
    # The starting hooks come before any process loads the application.
    assert site.notes()[:2] == of_process[:2]


@MODES
def test_workers_run_their_own_hooks_and_have_stable_numbers(site: Site, mode: str) -> None:
    (site.directory / "site_app.py").write_text(APPLICATION + "import site_hooks; site_hooks.note('application')\n")
    with site.serve(mode) as server:
        workers = server.worker_pids()
    imports = [note.split() for note in site.notes("import")]
    if mode == "--preload-app":
        assert [words[2:] for words in imports] == [["None", "False", "one"]] * 2, "in the hook process and in the mold"
    else:
        assert {tuple(words[1:]) for words in imports[1:]} == {
            (str(pid), str(number), "False", "one") for number, pid in enumerate(workers, 1)
        }
    for point in ("after_fork", "worker_ready", "worker_stopping", "worker_exit"):
        assert {note.split()[1] for note in site.notes(point)} == {str(pid) for pid in workers}, point
    # Imported before the application.
    assert points(site.notes("import", "application"))[:2] == ["import", "import"]


@MODES
def test_a_lost_worker_is_reported_also_after_a_kill(site: Site, mode: str) -> None:
    with site.serve(mode) as server:
        pid = kill_worker(server)
        (line,) = site.wait_for("worker_lost")
        _, process, number, lost, name, status, expected = line.split()
        assert (int(process), lost, name, status, expected) == (server.hook_pids()[0], str(pid), "SIGKILL", "None", "False")
        assert site.notes("worker_ended") == [line.replace("worker_lost", "worker_ended")]
        server.wait_for("was killed by SIGKILL")
        wait_until(lambda: len(server.worker_pids()) == 2)
        # Its successor has the same number.
        with server.client() as client, pytest.raises(NoResponseError):
            client.get("/exit")
        after = site.wait_for("worker_lost", count=2)[1].split()
        assert after[4:] == ["None", "0", "False"]
        assert after[2] in ("1", "2")
        assert number in ("1", "2")


def test_a_worker_that_cannot_start_is_lost_too(site: Site) -> None:
    with site.serve("--workers", "1") as server:
        (site.directory / "site_app.py").write_text("raise ValueError('broken')\n")
        server.signal(signal.SIGHUP)
        server.wait_for("restart given up")
        (line,) = site.wait_for("worker_lost")
        assert line.split()[2] == "1"
        assert line.split()[4:] == ["None", "1", "False"]


# Restarts and upgrades.


@MODES
def test_a_restart_brings_fresh_hooks(site: Site, mode: str) -> None:
    with site.serve(mode) as server:
        site.wait_for("ready")
        (process,) = server.hook_pids()
        site.write("", HOOKS.replace('"one"', '"two"'))
        server.signal(signal.SIGHUP)
        server.wait_for("restarted: 2 workers are new")
        site.wait_for("ready", count=2)
        assert wait_until(lambda: len(server.hook_pids()) == 1)
        (successor,) = server.hook_pids()
        assert successor != process
        site.wait_for("worker_ended", count=2)
        server.stop()
    assert site.notes("starting") == [f"starting {process}"]
    assert site.notes("reloading") == [f"reloading {process}"]
    assert site.notes("ready") == [f"ready {process}", f"ready {successor}"]
    assert f"import {successor} None False two" in site.notes("import")
    assert site.notes("stopped") == [f"stopped {successor}"]
    # The end of each worker is reported once: two that were replaced, and two at the end.
    assert len(site.notes("worker_ended")) == 4
    assert site.notes("worker_lost") == []


def test_a_broken_module_gives_a_restart_up_and_the_hooks_stay(site: Site) -> None:
    with site.serve() as server:
        site.wait_for("ready")
        before = server.hook_pids()
        site.write("\nraise ValueError('broken hooks')\n")
        server.signal(signal.SIGHUP)
        server.wait_for(
            r"restart given up, the old workers stay: .*cannot load 'site_hooks' \(--hooks\): ValueError: broken hooks"
        )
        assert server.hook_pids() == before
        server.signal(signal.SIGTTIN)
        assert site.wait_for("workers_changed") == [f"workers_changed {before[0]} 2 3"]


def test_an_upgrade_starts_a_new_hook_process(site: Site) -> None:
    with site.serve() as server:
        site.wait_for("ready")
        (process,) = server.hook_pids()
        server.signal(signal.SIGUSR2)
        server.wait_for("restarted: 2 workers are new", 60)
        site.wait_for("ready", count=2)
        assert wait_until(lambda: len(server.hook_pids()) == 1)
        (successor,) = server.hook_pids()
        assert successor != process
        site.wait_for("worker_ended", count=2)
        server.stop()
    assert site.notes("starting") == [f"starting {process}"]
    assert site.notes("stopped") == [f"stopped {successor}"]
    assert len(site.notes("worker_ended")) == 4


def test_the_log_is_reopened_by_the_hook_process(site: Site) -> None:
    site.write(
        "\n@hooks.workers_changed\ndef say(old, new):\n    print('a line of the hook process', file=sys.stderr, flush=True)\n"
    )
    path = site.directory / "error.log"
    command = [
        sys.executable,
        "-m",
        "starman",
        "site_app:app",
        "--hooks",
        "site_hooks",
        "--workers",
        "1",
        "--listen",
        "127.0.0.1:0",
    ]
    server = Process([*command, "--error-log", str(path)], cwd=site.directory)
    try:
        site.wait_for("ready")
        path.rename(site.directory / "error.log.1")
        server.signal(signal.SIGUSR1)
        assert wait_until(lambda: path.exists() and "the logs are reopened" in path.read_text())
        server.signal(signal.SIGTTIN)
        assert wait_until(lambda: "a line of the hook process" in path.read_text())
    finally:
        server.stop()


# What goes wrong.


@MODES
def test_failing_starting_hooks_end_the_start(site: Site, mode: str) -> None:
    site.write("\n@hooks.starting\ndef prepare(): raise ValueError('no directory')\n")
    refused = site.fails(mode)
    assert refused.status == 1
    assert "starman: the starting hook site_hooks.prepare failed: ValueError: no directory" in refused.log
    assert "in prepare" in refused.log
    assert site.notes("import") == site.notes("import")[:1], "no other process has begun"


def test_starting_hooks_that_hang_end_the_start_and_show_where(site: Site) -> None:
    site.write("\n@hooks.starting\ndef hang(): time.sleep(600)\n")
    refused = site.fails("--boot-timeout", "5")
    assert refused.status == 1
    assert re.search(r"the hook process \(\d+\) is killed: it was not ready within 5 s \(boot_timeout\)", refused.log)
    assert "in hang" in refused.log


@pytest.mark.parametrize(
    ("hooks", "words"),
    [
        ("nowhere", r"cannot load 'nowhere' \(--hooks\): No module named 'nowhere'; looked in "),
        ("nowhere.py", r"cannot load 'nowhere.py' \(--hooks\): no such file: .*/nowhere.py"),
        ("not-a-module", r"cannot load 'not-a-module' \(--hooks\): write a module \(package.module\), or the path of a file"),
    ],
)
def test_a_module_that_is_not_there_is_an_error(site: Site, hooks: str, words: str) -> None:
    refused = site.fails(hooks=hooks)
    assert re.search(words, refused.log)


def test_the_hooks_may_be_a_file(site: Site) -> None:
    (site.directory / "conf").mkdir()
    (site.directory / "site_hooks.py").rename(site.directory / "conf" / "site_hooks.py")
    with site.serve(hooks="conf/site_hooks.py"):
        site.wait_for("ready")


def test_failing_hooks_are_logged_and_the_others_run(site: Site) -> None:
    site.write("", HOOKS.replace("for point in", "hooks.ready(lambda: 1 / 0)\nfor point in"))
    with site.serve() as server:
        site.wait_for("ready")
        server.wait_for(r"the ready hook site_hooks.<lambda> failed: ZeroDivisionError(.|\n)*Traceback")
        assert "starman/hooks.py" not in server.log


def test_its_death_costs_nothing_but_the_hooks_that_it_ran(site: Site) -> None:
    site.write("\n@hooks.workers_changed\ndef die(old, new):\n    if new == 3: os.kill(os.getpid(), signal.SIGKILL)\n")
    with site.serve() as server:
        site.wait_for("ready")
        (process,) = server.hook_pids()
        workers = server.worker_pids()
        time.sleep(1.1)  # one that dies at once is started again after a pause
        server.signal(signal.SIGTTIN)
        server.wait_for(
            rf"the hook process \({process}\) was killed by SIGKILL.* while it ran the workers_changed hooks; it is replaced"
        )
        lost = kill_worker(server)
        site.wait_for("ready", count=2)
        (line,) = site.wait_for("worker_lost")
        assert line.split()[3] == str(lost)
        assert set(workers) - {lost} <= set(server.worker_pids())


def test_hooks_that_hang_disturb_neither_the_service_nor_the_end(site: Site) -> None:
    site.write("\n@hooks.ready\ndef hang(): note('hangs'); time.sleep(600)\n")
    with site.serve() as server:
        site.wait_for("hangs")
        kill_worker(server)
        server.wait_for("was killed by SIGKILL")
        server.signal(signal.SIGHUP)
        server.wait_for("restarted: 2 workers are new")
        assert request(server, "/")
        started = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - started < 25
        # Of the master and the hook process, each with a limit of its own, one is first.
        assert re.search(r"has not finished .* in time: it is killed|hooks still run 10 s after", server.log)


def test_a_second_stop_signal_ends_hooks_too(site: Site) -> None:
    site.write("\n@hooks.stopped\ndef hang(): note('hangs'); time.sleep(600)\n")
    with site.serve() as server:
        server.signal(signal.SIGTERM)
        site.wait_for("hangs")
        time.sleep(1.1)  # a second signal counts from then on
        server.signal(signal.SIGTERM)
        assert server.wait(20) == 0


def test_a_killed_master_takes_its_hook_process_along(site: Site) -> None:
    with site.serve() as server:
        site.wait_for("ready")
        os.kill(server.pid, signal.SIGKILL)
        assert wait_until(lambda: not server.session_pids(), 15)


def test_a_stop_signal_to_the_whole_group_leaves_the_last_hooks_to_run(site: Site) -> None:
    with site.serve() as server:
        site.wait_for("ready")
        os.killpg(server.pid, signal.SIGTERM)
        assert server.wait() == 0
    assert points(site.notes())[-1] == "stopped"


def test_the_port_is_free_while_the_last_hooks_run(site: Site) -> None:
    site.write("\n@hooks.stopped\ndef wait(): note('waits'); time.sleep(3)\n")
    with site.serve() as server:
        server.signal(signal.SIGTERM)
        site.wait_for("waits")
        with site.serve("--listen", f"127.0.0.1:{server.port}"):
            pass


# Hooks in the wrong place.


@MODES
@pytest.mark.parametrize("hooks", ["", "site_hooks"])
def test_hooks_of_the_application_that_need_the_hook_process_are_named_once(site: Site, mode: str, hooks: str) -> None:
    text = "\nfrom starman import hooks\nhooks.worker_lost(print)\nhooks.ready(print)\nhooks.after_fork(int)\n"
    (site.directory / "site_app.py").write_text(APPLICATION + text)
    named = ("--hooks", hooks) if hooks else ()
    with Server("site_app:app", "--workers", "2", mode, *named, cwd=site.directory) as server:
        server.signal(signal.SIGHUP)
        server.wait_for("restarted")
    found = re.findall(r"WARNING\] hooks at ready, worker_lost do not run: the application registers them.*--hooks", server.log)
    assert len(found) == 1


def test_the_module_of_the_application_may_be_that_of_the_hooks(site: Site) -> None:
    (site.directory / "site_app.py").write_text(APPLICATION + HOOKS)
    with site.serve(hooks="site_app") as server:
        site.wait_for("ready")
    assert "do not run" not in server.log


def test_a_callable_has_a_hook_process_too(site: Site) -> None:
    program = "import site_app, starman\nstarman.run(site_app.app, hooks='site_hooks', workers=1, listen='127.0.0.1:0')\n"
    process = Process([sys.executable, "-c", program], cwd=site.directory)
    try:
        site.wait_for("ready")
    finally:
        process.stop()
    assert points(site.notes("starting", "stopped")) == ["starting", "stopped"]
    (starting,) = site.notes("starting")
    assert int(starting.split()[1]) != process.pid


def test_hooks_that_hang_during_an_upgrade_end_by_themselves(site: Site) -> None:
    site.write("\n@hooks.ready\ndef hang():\n    note('hangs')\n    if not os.path.exists('upgraded'): time.sleep(600)\n")
    with site.serve() as server:
        site.wait_for("hangs")
        before = server.hook_pids()
        (site.directory / "upgraded").touch()
        server.signal(signal.SIGUSR2)
        server.wait_for("restarted: 2 workers are new", 60)
        site.wait_for("hangs", count=2)
        server.wait_for("hooks still run 10 s after their hook process was told to end: it ends now")
        assert wait_until(lambda: len(server.hook_pids()) == 1)
        assert server.hook_pids() != before


def test_check_imports_the_module_of_hooks(site: Site) -> None:
    site.write("\nraise ValueError('broken hooks')\n")
    command = [sys.executable, "-m", "starman", "--check", "site_app:app", "--hooks", "site_hooks", "--listen", "127.0.0.1:0"]
    done = subprocess.run(command, cwd=site.directory, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "cannot load 'site_hooks' (--hooks): ValueError: broken hooks" in done.stderr
