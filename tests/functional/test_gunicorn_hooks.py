"""Hooks of a gunicorn configuration: which run, in which process, and what they receive."""

from __future__ import annotations

import os
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from signal import SIGABRT, SIGHUP, SIGKILL, SIGTTIN

import pytest

from tests.functional.support.harness import NotReadyError, Server, wait_until
from tests.functional.support.side_by_side import PLAIN

APPLICATION = """\
import logging
import os

logger = logging.getLogger("shop")
logger.handlers = logging.getLogger("gunicorn.error").handlers
logger.setLevel(logging.getLogger("gunicorn.error").level)
SET_BY_POST_FORK = os.environ.get("WORKER")


def application(environ, start_response):
    if environ["PATH_INFO"] == "/log":
        logger.info("the application says %s", "hello")
    start_response("200 OK", [])
    return [f"{SET_BY_POST_FORK} {os.getpid()}".encode()]
"""
HOOKS = """\
import os

bind = "127.0.0.1:0"
workers = 1


def note(*words):
    with open("notes", "a") as file:
        file.write(" ".join(map(str, (os.getpid(), *words))) + "\\n")


def on_starting(server):
    server.own = "kept"
    note("on_starting", server.pid, server.cfg.workers)


def when_ready(server):
    note("when_ready", getattr(server, "own", None))


def on_reload(server):
    note("on_reload")


def nworkers_changed(server, new_value, old_value):
    note("nworkers_changed", new_value, old_value)


def child_exit(server, worker):
    note("child_exit", worker.pid, worker.age)


def on_exit(server):
    server.log.info("the server ends")
    note("on_exit")


def pre_fork(server, worker):
    worker.own = "kept"
    note("pre_fork", worker.wsgi is None, worker.pid, worker.age, server.worker_age)


def post_fork(server, worker):
    os.environ["WORKER"] = str(worker.age)
    note("post_fork", worker.pid, worker.age, worker.own, server.pid)


def post_worker_init(worker):
    note("post_worker_init", worker.app.callable.__name__, worker.wsgi.__name__)


def worker_int(worker):
    note("worker_int", worker.pid)


def worker_abort(worker):
    note("worker_abort", worker.pid)


def worker_exit(server, worker):
    note("worker_exit", worker.pid, worker.own)
"""
REQUEST_HOOKS = """

def pre_request(worker, req):
    note("pre_request", req.method, req.path, dict(req.headers).get("X-OWN"))


def post_request(worker, req, environ, resp):
    note("post_request", req.path, environ["PATH_INFO"], resp.status_code, resp.sent, worker.nr)
"""


def serving(directory: Path, *arguments: str, env: Mapping[str, str | None] | None = None) -> Server:
    (directory / "shop.py").write_text(APPLICATION)
    changes = {**PLAIN, "PWD": str(directory), **(env or {})}
    return Server(None, "gunicorn", *arguments, "shop", listen=(), cwd=directory, env=changes)


def page(server: Server, path: str = "/", fields: Mapping[str, str] | None = None) -> str:
    with urllib.request.urlopen(urllib.request.Request(server.url + path, headers=dict(fields or {})), timeout=20) as response:
        return str(response.read(), "ascii")


class Notes:
    """What the hooks have noted in a directory."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "notes"

    def of(self, name: str) -> list[list[str]]:
        """The notes of one hook: the process, then its words."""
        lines = [line.split() for line in self._file.read_text().splitlines()] if self._file.exists() else []
        return [[words[0], *words[2:]] for words in lines if words[1] == name]

    def wait(self, name: str, count: int = 1) -> list[list[str]]:
        """The notes of one hook, once there are `count`."""
        assert wait_until(lambda: len(self.of(name)) >= count), f"{name}: {self._file.read_text()}"
        return self.of(name)


STATE = """
import threading

bind = "127.0.0.1:0"


class Counter:
    def __init__(self):
        self.ended = 0


def note(*words):
    with open("notes", "a") as file:
        file.write(" ".join(map(str, words)) + "\\n")


def on_starting(server):
    server.state = Counter()
    server.lock = threading.Lock()


def child_exit(server, worker):
    server.state.ended += 1
    note("-", "child_exit", server.state.ended)


def post_fork(server, worker):
    note("-", "post_fork", server.state.ended, hasattr(server, "lock"))
"""


@pytest.mark.parametrize("preload", [False, True])
def test_attributes_of_the_server_outlive_restarts(tmp_path: Path, preload: bool) -> None:
    """In gunicorn, one process runs these hooks from the start to the end, and workers are its forks."""
    (tmp_path / "gunicorn.conf.py").write_text(STATE + f"\npreload_app = {preload}\n")
    notes = Notes(tmp_path)
    with serving(tmp_path) as server:
        for ended in range(1, 4):
            server.signal(SIGHUP)
            assert notes.wait("child_exit", ended)[-1] == ["-", str(ended)]
        # A new worker starts before the old one ends.
        assert notes.of("post_fork") == [["-", str(ended), "False"] for ended in (0, 0, 1, 2)]
    assert server.log.count("the hook on_starting of gunicorn.conf.py sets server.lock, which cannot be copied (TypeError") == 1


@pytest.mark.parametrize("preload", [False, True])
def test_each_hook_runs_in_its_process(tmp_path: Path, preload: bool) -> None:
    (tmp_path / "gunicorn.conf.py").write_text(HOOKS + f"\npreload_app = {preload}\n")
    notes = Notes(tmp_path)
    with serving(tmp_path) as server:
        master = str(server.pid)
        ((hook_process, *starting),) = notes.wait("on_starting")
        assert starting == [master, "1"]
        assert notes.wait("when_ready") == [[hook_process, "kept"]]
        number, worker = page(server).split()
        assert number == ("None" if preload else "1")  # the mold has no number
        assert notes.of("post_fork") == [[worker, worker, "1", "kept", master]]
        assert notes.of("post_worker_init") == [[worker, "application", "application"]]
        ((forker, without_application, *told),) = notes.of("pre_fork")
        assert told == ["[booting]", "1", "1"]
        assert (forker != worker, without_application) == (preload, str(not preload))
        assert hook_process not in (master, worker, forker)
        assert not {master} & {words[0] for name in ("pre_fork", "post_fork", "when_ready") for words in notes.of(name)}

        server.signal(SIGTTIN)
        assert notes.wait("nworkers_changed", 2) == [[hook_process, "1", "None"], [hook_process, "2", "1"]]
        second = notes.wait("post_worker_init", 2)[1][0]
        assert notes.of("pre_fork")[1][2:] == ["[booting]", "2", "2"]
        os.kill(int(second), SIGKILL)
        assert notes.wait("child_exit") == [[hook_process, second, "2"]]
        notes.wait("post_worker_init", 3)

        server.signal(SIGHUP)
        assert notes.wait("on_reload") == [[hook_process]]
        follower, own = notes.wait("when_ready", 2)[1]
        assert (follower != hook_process, own) == (True, "kept")
        assert [worker, worker, "kept"] in notes.wait("worker_exit", 2)
        assert notes.of("worker_int") == []  # as in gunicorn, only at INT and QUIT
        assert notes.of("nworkers_changed")[2:] == [[hook_process, "2", "2"]]
        assert notes.of("on_exit") == []
        assert len(notes.of("on_starting")) == 1
    assert len(notes.of("on_exit")) == 1
    assert "the server ends" in server.log
    stopped = {words[0] for words in notes.of("worker_int")}  # by QUIT
    assert len(stopped) == 2
    assert stopped <= {words[0] for words in notes.of("worker_exit")}
    ended = {words[1] for words in notes.of("child_exit")}
    assert ended == {words[0] for words in notes.of("post_fork")}


def test_a_signal_to_abort_runs_its_hook(tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text(HOOKS)
    notes = Notes(tmp_path)
    with serving(tmp_path) as server:
        worker = page(server).split()[1]
        os.kill(int(worker), SIGABRT)
        assert notes.wait("worker_abort") == [[worker, worker]]
        assert notes.wait("child_exit")[0][1] == worker
        assert wait_until(lambda: page(server).split()[1] != worker)


@pytest.mark.parametrize("preload", [False, True])
def test_hooks_of_requests(tmp_path: Path, preload: bool) -> None:
    (tmp_path / "gunicorn.conf.py").write_text(HOOKS + REQUEST_HOOKS + f"\npreload_app = {preload}\n")
    notes = Notes(tmp_path)
    with serving(tmp_path) as server:
        number, worker = page(server, "/a?b=1", {"X-Own": "z"}).split()
        assert notes.wait("post_request") == [[worker, "/a", "/a", "200", str(len(f"{number} {worker}")), "1"]]
        assert notes.of("pre_request") == [[worker, "GET", "/a", "z"]]
        page(server)
        assert notes.wait("post_request", 2)[1][-1] == "2"


def test_without_hooks_there_is_no_process_for_them(tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text("bind = '127.0.0.1:0'\n")
    with serving(tmp_path) as server:
        titles = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in server.session_pids()]
        assert not [title for title in titles if b"starman hooks" in title]
        assert page(server).startswith("None ")


STARTING_HOOKS = ("on_starting(server)", "pre_fork(server, worker)", "post_fork(server, worker)", "post_worker_init(worker)")


@pytest.mark.parametrize("preload", [False, True])
@pytest.mark.parametrize("hook", STARTING_HOOKS)
def test_a_hook_that_fails_before_the_server_is_ready_fails_the_start(tmp_path: Path, hook: str, preload: bool) -> None:
    """The error names the hook and its file, and nothing of starman."""
    configuration = f"bind = '127.0.0.1:0'\npreload_app = {preload}\ndef {hook}:\n    1 / 0\n"
    (tmp_path / "gunicorn.conf.py").write_text(configuration)
    with pytest.raises(NotReadyError) as failed:
        serving(tmp_path)
    name = hook.partition("(")[0]
    assert f"the hook {name} of gunicorn.conf.py failed: ZeroDivisionError: division by zero" in failed.value.log
    assert f'gunicorn.conf.py", line 4, in {name}' in failed.value.log
    assert "starman.gunicorn" not in failed.value.log
    assert "partial" not in failed.value.log


def test_a_hook_that_fails_later_is_logged_with_its_name(tmp_path: Path) -> None:
    names = ("when_ready", "on_reload", "on_exit", "child_exit", "nworkers_changed", "worker_int", "worker_exit")
    body = "(*arguments):\n    if arguments[-1] is not None:\n        raise KeyError('raised')\n"
    hooks = "".join(f"def {name}{body}" for name in names)
    (tmp_path / "gunicorn.conf.py").write_text(f"bind = '127.0.0.1:0'\n{hooks}")
    with serving(tmp_path) as server:
        server.signal(SIGHUP)
        server.wait_for("restarted: ")
    for name in names:
        server.wait_for(f"the hook {name} of gunicorn.conf.py failed: KeyError: 'raised'")
    assert "partial" not in server.log
    assert server.status == 0


HANGING = """
import threading
import time

bind = "127.0.0.1:0"
timeout = 1


def worker_abort(worker):
    worker.log.error("aborted: %s %s", worker.pid, worker.aborted)
    for thread in threading.enumerate():
        worker.log.error("thread %s", thread.name)


def child_exit(server, worker):
    server.log.error("ended: %s", worker.pid)
"""


def test_a_worker_that_hangs_runs_worker_abort(tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text(HANGING)
    (tmp_path / "shop.py").write_text(
        "import asyncio, os, time\n"
        "def application(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    if environ['PATH_INFO'] == '/hang':\n"
        "        LOOP.call_soon_threadsafe(time.sleep, 60)\n"
        "    return [str(os.getpid()).encode()]\n"
        "from starman import hooks\n"
        "@hooks.worker_ready\n"
        "def note():\n"
        "    global LOOP\n"
        "    LOOP = asyncio.get_running_loop()\n"
    )
    with Server(None, "gunicorn", "shop", listen=(), cwd=tmp_path, env={**PLAIN, "PWD": str(tmp_path)}) as server:
        time.sleep(1.5)  # longer than timeout: an idle worker does not hang
        worker = page(server, "/hang")
        server.wait_for(f"aborted: {worker} True")
        server.wait_for("thread MainThread")
        server.wait_for(f"ended: {worker}")
        assert server.log.count("aborted:") == 1
        assert wait_until(lambda: page(server) != worker)


def test_the_loggers_of_gunicorn_write_to_the_error_log(tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text("bind = '127.0.0.1:0'\n")
    with serving(tmp_path) as server:
        page(server, "/log")
        server.wait_for(r"\[INFO\] the application says hello")


def test_hooks_are_read_again_at_a_restart(tmp_path: Path) -> None:
    conf = tmp_path / "gunicorn.conf.py"
    conf.write_text("bind = '127.0.0.1:0'\n")
    with serving(tmp_path) as server:
        assert page(server).startswith("None ")
        conf.write_text(HOOKS)
        server.signal(SIGHUP)
        assert wait_until(lambda: page(server).startswith("1 "))
        assert Notes(tmp_path).wait("when_ready")


def test_an_application_may_import_the_real_gunicorn(tmp_path: Path) -> None:
    pytest.importorskip("gunicorn")
    (tmp_path / "gunicorn.conf.py").write_text(HOOKS + "import gunicorn\nassert gunicorn.__stand_in__\n")
    (tmp_path / "real.py").write_text(
        "import gunicorn.http.wsgi\n"
        "def application(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    return [gunicorn.http.wsgi.__name__.encode()]\n"
    )
    changes = {**PLAIN, "PWD": str(tmp_path)}
    with Server(None, "gunicorn", "real", listen=(), cwd=tmp_path, env=changes, warnings="default") as server:
        assert page(server) == "gunicorn.http.wsgi"


@pytest.mark.parametrize(
    "patch", ["from gevent import monkey\nmonkey.patch_all()", "import gevent.monkey\ngevent.monkey.patch_all()"]
)
def test_patches_of_gevent_in_the_configuration_have_no_effect(tmp_path: Path, patch: str) -> None:
    pytest.importorskip("gevent")
    patching = f"{patch}\nimport eventlet\neventlet.monkey_patch()\n"
    (tmp_path / "gunicorn.conf.py").write_text(patching + HOOKS + "\nworker_class = 'gevent'\nthreads = 2\n")
    with serving(tmp_path) as server:
        assert (server.threads, page(server).split()[0]) == (2, "1")
        assert Notes(tmp_path).wait("when_ready")
