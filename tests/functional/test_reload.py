"""SIGHUP: settings are read again, workers are replaced under load, errors change nothing, the master stays as it
is."""

from __future__ import annotations

import os
import signal

import pytest

from tests.functional.support.code import MODES, Code, answers, molds
from tests.functional.support.harness import Server, wait_until
from tests.functional.support.load import Load
from tests.functional.support.observing import all_say, rss

# Much less than any of the modules that the master does without (tomllib alone takes 0.5 MB), but above what a page
# more or less in one of its pools makes. KiB.
FLAT = 200


class Configured:
    """A site with a starman.toml."""

    def __init__(self, code: Code) -> None:
        self.code = code
        self.file = code.directory / "starman.toml"

    def configure(self, text: str) -> None:
        """In one step: the server may read at any time, and would find half a file."""
        draft = self.file.with_suffix(".draft")
        draft.write_text(text)
        draft.replace(self.file)

    def serve(self, *arguments: str) -> Server:
        """A server with workers and application as the file says."""
        return Server(None, *arguments, cwd=self.code.directory, env={"PYTHONDONTWRITEBYTECODE": "1"})


@pytest.fixture
def site(code: Code) -> Configured:
    configured = Configured(code)
    configured.configure('app = "site_app:app"\nworkers = 2\n')
    return configured


def restart(server: Server, count: int = 1) -> None:
    """Restart, and wait until the `count`th restart is over."""
    server.signal(signal.SIGHUP)
    server.wait_for(r"restarted: \d+ workers? (is|are) new", 60, count)


@MODES
def test_settings_of_the_file_change_with_their_workers(site: Configured, mode: str) -> None:
    with site.serve(mode) as server:
        master = server.pid
        site.configure('app = "site_app:app"\nworkers = 3\nserver_header = "second"\n')
        restart(server)
        assert all_say(server, "second")
        assert "the number of workers changes from 2 to 3" in server.log
        assert wait_until(lambda: len(server.worker_pids()) == 3)
        site.configure('app = "site_app:app"\nworkers = 1\nserver_header = "third"\n')
        restart(server, 2)
        assert all_say(server, "third")
        assert wait_until(lambda: len(server.worker_pids()) == 1)
        assert server.pid == master


@MODES
def test_a_worker_that_is_forked_later_has_the_settings_of_the_restart(site: Configured, mode: str) -> None:
    with site.serve(mode) as server:
        site.configure('app = "site_app:app"\nworkers = 2\nserver_header = "second"\n')
        restart(server)
        site.configure('app = "site_app:app"\nserver_header = "not-yet"\n')
        # Those of before may still be about to end.
        made = 2 if mode == "--preload-app" else 1
        assert wait_until(lambda: len(molds(server)) == made and len(server.worker_pids()) == 2, 30)
        for mold in molds(server):
            os.kill(mold, signal.SIGKILL)
        server.wait_for(r"the mold \(\d+\), which forks workers, was killed by SIGKILL", count=made)
        workers = server.worker_pids()
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        assert wait_until(lambda: len(server.worker_pids()) == 2 and not set(workers) & set(server.worker_pids()), 30)
        assert all_say(server, "second")


def test_another_application_and_preloading_come_with_a_restart(site: Configured) -> None:
    with site.serve() as server:
        (site.code.directory / "other_app.py").write_text(site.code.file.read_text().replace("'one'", "'other'"))
        site.configure('app = "other_app:app"\nworkers = 2\npreload-app = true\n')
        assert len(molds(server)) == 1
        restart(server)
        assert wait_until(lambda: answers(server) == {"other"}, 30)
        assert wait_until(lambda: len(molds(server)) == 2, 30)


def test_the_command_line_and_the_environment_still_come_first(site: Configured) -> None:
    with site.serve("--server-header", "from-argv") as server:
        site.configure('app = "site_app:app"\nworkers = 2\nserver_header = "from-file"\nrestart_batch = 2\n')
        restart(server)
        assert all_say(server, "from-argv")


def test_what_cannot_change_is_refused_by_name_and_the_rest_is_done(site: Configured) -> None:
    with site.serve() as server:
        address = server.address
        site.configure('app = "site_app:app"\nworkers = 2\nbacklog = 7\nerror_log = "x.log"\nserver_header = "second"\n')
        restart(server)
        assert "backlog stays 2048: it cannot change while the server runs (starman.toml: backlog: 7)" in server.log
        assert "error_log stays none: it cannot change while the server runs (starman.toml: error_log: x.log)" in server.log
        assert not (site.code.directory / "x.log").exists()
        assert server.address == address
        assert all_say(server, "second")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("workers = [", r"restart given up, the old workers stay: starman.toml:\d+: invalid TOML"),
        ('app = "site_app:app"\nworkers = 0\n', "restart given up, .*: starman.toml: workers: .*from 1 to 1024"),
        ('app = "site_app:app"\nwrokers = 3\n', "unknown setting 'wrokers'; did you mean 'workers'"),
        ('app = "missing:app"\nworkers = 3\n', "restart given up, the old workers stay: .*No module named 'missing'"),
        (
            'app = "site_app:app"\nworkers = 3\naccess_log = "missing/access.log"\n',
            "restart given up, the old workers stay: .*access_log: cannot write",
        ),
    ],
)
@MODES
def test_what_is_wrong_leaves_the_service_as_it_was(site: Configured, mode: str, text: str, reason: str) -> None:
    with site.serve(mode) as server:
        workers = server.worker_pids()
        site.configure(text)
        server.signal(signal.SIGHUP)
        server.wait_for(reason)
        assert wait_until(lambda: server.worker_pids() == workers)
        assert answers(server) == {"one"}
        # Also for later clients.
        os.kill(workers[0], signal.SIGKILL)
        assert wait_until(lambda: workers[0] not in server.worker_pids() and len(server.worker_pids()) == 2, 30)
        assert answers(server) == {"one"}
        site.configure('app = "site_app:app"\nworkers = 2\nserver_header = "mended"\n')
        restart(server)
        assert all_say(server, "mended")


def test_a_batch_is_replaced_at_a_time(site: Configured) -> None:
    loading = site.code.directory / "loading"
    gate = site.code.directory / "gate"
    with site.serve("--workers", "4", "--restart-batch", "3") as server:
        before = server.worker_pids()
        gate.touch()
        more = (
            f"\nwith open({str(loading)!r}, 'a') as file:\n    file.write('x')\n"
            f"while os.path.exists({str(gate)!r}):\n    time.sleep(0.01)\n"
        )
        site.code.write("two", more)
        server.signal(signal.SIGHUP)
        assert wait_until(lambda: loading.exists() and loading.read_text() == "xxx", 30)
        assert set(before) < set(server.worker_pids()), "none goes before its successor is ready"
        gate.unlink()
        server.wait_for("restarted: 4 workers are new", 30)
        assert loading.read_text() == "xxxx"
        assert wait_until(lambda: answers(server) == {"two"}, 30)


@MODES
def test_twenty_restarts_under_load_lose_nothing_and_leave_the_master_as_it_was(site: Configured, mode: str) -> None:
    with site.serve(mode, "--access-log", "access.log") as server, Load(server.client, "/pid") as load:

        def step(number: int) -> None:
            site.configure(f'app = "site_app:app"\nworkers = {2 + number % 2}\nheader_timeout = {10 + number}\nbacklog = 9\n')
            restart(server, number)
            load.wait_for_turns(3)

        # The first few fill pools and caches.
        for number in range(1, 6):
            step(number)
        assert wait_until(lambda: len(server.worker_pids()) == 3, 30)
        descriptors, memory = len(os.listdir(f"/proc/{server.pid}/fd")), rss(server.pid)
        for number in range(6, 26):
            step(number)
        grown = rss(server.pid) - memory
        # Not more: at the first look the link of a dead one may have been open still.
        assert wait_until(lambda: len(os.listdir(f"/proc/{server.pid}/fd")) <= descriptors, 30)
    assert load.failures == []
    assert grown < FLAT, f"the master has grown by {grown} KiB"


def test_signals_of_one_restart_in_quick_succession_end_with_the_newest_settings(site: Configured) -> None:
    with site.serve() as server:
        for number in range(10):
            site.configure(f'app = "site_app:app"\nworkers = 2\nserver_header = "number-{number}"\n')
            server.signal(signal.SIGHUP)
        assert all_say(server, "number-9")
        server.wait_for("restarted: 2 workers are new", 60)
        assert "given up" not in server.log
