"""Preloading for operators and applications: warm-up requests, hooks, and warnings of what workers would inherit."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from bench.processes import uss
from tests.functional.support.harness import NotReadyError, Process, Server, wait_until

APPLICATION = """\
import os
from starman import hooks

def note(line):
    with open("notes.txt", "a") as file:
        file.write(f"{line}\\n")

def app(environ, start_response):
    if environ.get("starman.warm_up"):
        note(" ".join([str(os.getpid()), environ["SCRIPT_NAME"], environ["PATH_INFO"], environ["QUERY_STRING"],
                       environ["HTTP_HOST"], environ["REQUEST_METHOD"], repr(environ["starman.warm_up"])]))
    answer = ANSWERS.get(environ["PATH_INFO"], "200 OK")
    if isinstance(answer, Exception):
        raise answer
    start_response(answer, [("Content-Type", "text/plain")])
    return broken() if environ["PATH_INFO"] == "/broken" else [repr(STATE).encode()]

def broken():
    yield b"half"
    raise ValueError("in the middle")

STATE = {}
ANSWERS = {"/500": "500 No", "/404": "404 No", "/raises": ValueError("cold")}
"""

MODES = pytest.mark.parametrize("mode", ["--no-preload-app", "--preload-app"])


class Site:
    """An application's file, the notes it takes, and servers of it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.write("")

    def write(self, more: str) -> None:
        """Append `more` to the application's module."""
        (self.directory / "site_app.py").write_text(APPLICATION + more)

    def serve(self, *arguments: str, env: Mapping[str, str] | None = None) -> Server:
        workers = () if "--workers" in arguments else ("--workers", "2")
        whole = {"PYTHONDONTWRITEBYTECODE": "1", **(env or {})}
        return Server("site_app:app", *workers, *arguments, cwd=self.directory, env=whole)

    def fails(self, *arguments: str) -> str:
        """The log of a server that fails to start."""
        with pytest.raises(NotReadyError) as refused, self.serve(*arguments):
            pass
        assert refused.value.status not in (0, None)
        return refused.value.log

    def notes(self) -> list[str]:
        path = self.directory / "notes.txt"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def state(server: Server) -> str:
    with server.client() as client:
        return client.get("/").body.decode()


# Warm-up.


@MODES
def test_warm_up_requests_come_before_the_first_client(site: Site, mode: str) -> None:
    with site.serve(mode, "--path", "/shop", "--warm-up", "/shop/a?b=c", "--warm-up", "/shop") as server:
        workers = {str(pid) for pid in server.worker_pids()}
    notes = [note.split(" ") for note in site.notes()]
    pids = {note[0] for note in notes}
    if mode == "--preload-app":
        assert len(pids) == 1
        assert not pids & workers
    else:
        assert pids == workers
    for pid in pids:
        assert [note[1:] for note in notes if note[0] == pid] == [
            ["/shop", "/a", "b=c", "localhost", "GET", "True"],
            ["/shop", "", "", "localhost", "GET", "True"],
        ]


@MODES
@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/500", "the warm-up request for /500 was answered with 500"),
        ("/raises", "the warm-up request for /raises was answered with 500"),
        ("/broken", "the response to the warm-up request for /broken is incomplete"),
    ],
)
def test_a_failed_warm_up_ends_the_start(site: Site, mode: str, path: str, words: str) -> None:
    log = site.fails(mode, "--warm-up", path)
    assert words in log
    assert ("ValueError: " in log) == (path != "/500")
    assert "starman/process" not in log


def test_other_statuses_are_fine(site: Site) -> None:
    with site.serve("--warm-up", "/404") as server:
        assert state(server) == "{}"


@MODES
def test_a_failed_warm_up_gives_a_restart_up(site: Site, mode: str) -> None:
    with site.serve(mode, "--warm-up", "/") as server:
        before = server.worker_pids()
        site.write("\nANSWERS['/'] = '503 No'\n")
        server.signal(signal.SIGHUP)
        server.wait_for("restart given up, the old workers stay: .*the warm-up request for / was answered with 503")
        assert server.worker_pids() == before


def test_a_path_outside_of_the_mount_is_refused(site: Site) -> None:
    log = site.fails("--path", "/shop", "--warm-up", "/shopping")
    assert "--warm-up: warm_up /shopping is not below /shop" in log


# Hooks.

HOOKS = """
@hooks.before_fork
def before(): note(f"before {os.getpid()}")
@hooks.after_fork
def after(): STATE["pid"] = os.getpid(); note(f"after {os.getpid()}")
@hooks.worker_ready
def ready(): note(f"ready {os.getpid()}")
hooks.worker_exit(lambda: note(f"exit {os.getpid()}"))
import atexit
atexit.register(lambda: note(f"atexit {os.getpid()}"))
"""


@MODES
def test_hooks_run_where_and_when_they_should(site: Site, mode: str) -> None:
    site.write(HOOKS)
    with site.serve(mode) as server:
        workers = server.worker_pids()
        assert state(server) in [repr({"pid": pid}) for pid in workers]
        assert server.stop() == 0
    told = [tuple(note.split(" ")) for note in site.notes()]
    for pid in workers:
        assert [moment for moment, where in told if where == str(pid)] == ["after", "ready", "exit", "atexit"]
    before = [where for moment, where in told if moment == "before"]
    assert len(before) == (2 if mode == "--preload-app" else 0)
    assert len(set(before) - {str(pid) for pid in workers}) == (1 if mode == "--preload-app" else 0)


@MODES
def test_the_collector_leaves_alone_what_the_application_is_made_of(site: Site, mode: str) -> None:
    """A collection of all generations would go through it each time: 27 ms in the middle of a request of Flask's
    hello."""
    looks = "import gc\nclass Look:\n    def __repr__(self): return str(any(each is STATE for each in gc.get_objects()))\n"
    site.write(looks + "STATE['look'] = Look()\n")
    with site.serve(mode) as server:
        assert state(server) == "{'look': False}"


@MODES
@pytest.mark.parametrize("moment", ["before_fork", "after_fork"])
def test_a_hook_that_fails_around_the_fork_ends_the_start(site: Site, mode: str, moment: str) -> None:
    site.write(f"\n@hooks.{moment}\ndef reconnect(): raise ValueError('no database')\n")
    if (mode, moment) == ("--no-preload-app", "before_fork"):
        with site.serve(mode) as server:
            assert state(server) == "{}"
        return
    log = site.fails(mode)
    assert f"the {moment} hook site_app.reconnect failed: ValueError: no database" in log
    assert "def reconnect(): raise" in log
    assert "starman/process" not in log


@MODES
def test_a_hook_that_fails_gives_a_restart_up(site: Site, mode: str) -> None:
    with site.serve(mode) as server:
        before = server.worker_pids()
        site.write("\n@hooks.after_fork\ndef reconnect(): raise ValueError('no database')\n")
        server.signal(signal.SIGHUP)
        server.wait_for("restart given up, the old workers stay: .*the after_fork hook site_app.reconnect failed")
        # The worker that fails may still be there: the master logs its end as soon as its channel is closed.
        assert wait_until(lambda: server.worker_pids() == before)


@MODES
def test_hooks_that_fail_later_are_logged(site: Site, mode: str) -> None:
    site.write("\n@hooks.worker_ready\n@hooks.worker_exit\ndef report(): raise ValueError('nobody there')\n")
    with site.serve(mode) as server:
        server.wait_for("ERROR. the worker_ready hook site_app.report failed", count=2)
        assert state(server) == "{}"
        assert server.stop() == 0
        assert len(re.findall(r"ERROR. the worker_exit hook site_app.report failed", server.log)) == 2


def test_a_callable_is_preloaded_by_nature(site: Site) -> None:
    site.write(HOOKS)
    script = "import starman, site_app\nstarman.run(site_app.app, warm_up='/x', workers=1, listen='127.0.0.1:0')\n"
    (site.directory / "main.py").write_text(script)
    server = Process([sys.executable, "main.py"], cwd=site.directory)
    try:
        server.wait_for("starman .* ready: 1 worker")
        assert server.stop() == 0
    finally:
        server.kill()
    told = [note.split(" ") for note in site.notes()]
    mold, worker = told[0][0], told[2][1]
    assert told[0][2] == "/x"
    expected = [["before", mold], *([moment, worker] for moment in ("after", "ready", "exit"))]
    assert [note[:2] for note in told[1:]] == [*expected, ["atexit", str(server.pid)]]


# What workers would inherit.


def test_threads_sockets_and_databases_are_named_once(site: Site, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as elsewhere, socket.socket(socket.AF_UNIX) as database:
        port = elsewhere.getsockname()[1]
        database.bind(str(tmp_path / ".s.PGSQL.5432"))
        database.listen()
        site.write(f"""
import socket, sqlite3, threading
threading.Thread(target=threading.Event().wait, name="reporter", daemon=True).start()
client = socket.create_connection(("127.0.0.1", {port}))
listener = socket.create_server(("127.0.0.1", 0))
pool = socket.socket(socket.AF_UNIX)
pool.connect(".s.PGSQL.5432")
base = sqlite3.connect("base.sqlite3")
base.execute("create table t (a)")
base.commit()
""")
        with site.serve("--preload-app") as server:
            log = server.log
            assert state(server) == "{}"
    warnings = re.findall(r"WARNING\] (.*)", log)
    assert len(warnings) == 5, log
    text = "\n".join(warnings)
    assert "preloading has started the thread 'reporter'" in text
    assert f"an IPv4 connection to 127.0.0.1:{port} (descriptor" in text
    assert "an IPv4 socket that listens on 127.0.0.1:" in text
    assert f"a connection, probably of PostgreSQL, to {tmp_path / '.s.PGSQL.5432'} " in text
    assert f"the SQLite database {tmp_path / 'base.sqlite3'}" in text
    assert text.count("before_fork hook") == 4
    assert text.count("after_fork hook") == 1


def test_what_the_hooks_have_put_right_is_not_named(site: Site) -> None:
    site.write("""
import sqlite3
base = sqlite3.connect("base.sqlite3")
base.execute("create table t (a)")
base.commit()
hooks.before_fork(base.close)
""")
    with site.serve("--preload-app") as server:
        assert "WARNING" not in server.log


def test_without_preloading_nothing_is_inherited_and_nothing_named(site: Site) -> None:
    site.write("import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n")
    with site.serve() as server:
        assert "WARNING" not in server.log


def test_a_thread_of_c_code_is_named(site: Site) -> None:
    # Of the C library itself: a timer that is to call a function has a thread to call it in.
    site.write("""
import ctypes
ctypes.pythonapi.PyThread_start_new_thread.restype = ctypes.c_ulong
libc = ctypes.CDLL(None)
libc.pause.restype = ctypes.c_int
ctypes.pythonapi.PyThread_start_new_thread(ctypes.cast(libc.pause, ctypes.c_void_p), None)
""")
    with site.serve("--preload-app") as server:
        assert "preloading has started a native thread of starman mold" in server.log


def test_a_native_thread_is_named_by_its_library(site: Site) -> None:
    """Of numpy's OpenBLAS, which leaves its threads the name of the process."""
    site.write("import numpy\n")
    with site.serve("--preload-app", env={"OPENBLAS_NUM_THREADS": "2"}) as server:
        named = re.findall(r"has started a native thread of \S*openblas\S* \(OpenBLAS\), which does not exist", server.log)
        assert len(named) == 1, server.log
        assert ": set OPENBLAS_NUM_THREADS=1, or start it in an after_fork hook" in server.log
    with site.serve("--preload-app", env={"OPENBLAS_NUM_THREADS": "1"}) as server:
        assert "native thread" not in server.log


# Memory. How much exactly, `python -m bench.memory` says.


def test_a_preloaded_worker_is_small_with_immortal_objects_and_without(site: Site) -> None:
    with_immortal = worker_bytes(site)
    without = worker_bytes(site, "--disable-immortal-objects")
    assert max(with_immortal) < 6_500_000, with_immortal
    assert max(without) < 7_000_000, without
    if (3, 12) <= sys.version_info < (3, 14):
        assert max(with_immortal) + 500_000 < max(without), (with_immortal, without)


def worker_bytes(site: Site, *arguments: str) -> list[int]:
    """The private memory of each of three workers after a request."""
    with site.serve("--preload-app", "--workers", "3", *arguments) as server:
        assert state(server) == "{}"
        sizes = [uss(pid) for pid in server.worker_pids()]
        assert len(sizes) == 3
        # The rehearsal has left nothing behind in the molds.
        molds = [pid for pid in server.children() if pid not in server.worker_pids()]
        assert [len(os.listdir(f"/proc/{pid}/task")) for pid in molds] == [1, 1]
        assert "WARNING" not in server.log
        return sizes


# Random numbers.


def test_the_legacy_generator_of_numpy_is_seeded_anew_in_each_worker(site: Site) -> None:
    package = site.directory / "numpy"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "random.py").write_text("def seed(): open('seeded', 'a').write(f'{__import__(\"os\").getpid()}\\n')\n")
    site.write("import numpy.random\n")
    with site.serve("--preload-app") as server:
        workers = server.worker_pids()
    assert sorted((site.directory / "seeded").read_text().split()) == sorted(str(pid) for pid in workers)


# Databases of frameworks.

DJANGO = """
import django
from django.conf import settings
settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "site.sqlite3", "CONN_MAX_AGE": None}},
    ROOT_URLCONF="site_app", SECRET_KEY="x", ALLOWED_HOSTS=["*"],
)
django.setup()
from django.core.wsgi import get_wsgi_application
from django.db import connection, connections
from django.http import HttpResponse
from django.urls import path

def view(request):
    with connection.cursor() as cursor:
        cursor.execute("select count(*) from sqlite_master")
        return HttpResponse(str(cursor.fetchone()[0]))

urlpatterns = [path("", view)]
app = get_wsgi_application()
with connection.cursor() as cursor:
    cursor.execute("create table if not exists t (a)")
"""


def test_djangos_connections_are_closed_before_the_fork(site: Site) -> None:
    site.write(DJANGO)
    with site.serve("--preload-app", "--warm-up", "/") as server:
        server.wait_for("the SQLite database .*site.sqlite3")
    site.write(DJANGO + "\nhooks.before_fork(connections.close_all)\n")
    with site.serve("--preload-app", "--warm-up", "/") as server:
        assert state(server) == "1"
        assert "WARNING" not in server.log


SQLALCHEMY = """
from sqlalchemy import create_engine, text
engine = create_engine("sqlite:///shop.sqlite3")
with engine.begin() as connection:
    connection.execute(text("create table if not exists goods (name text)"))
    connection.execute(text("insert into goods values ('a kettle')"))

def app(environ, start_response):
    with engine.connect() as connection:
        name = connection.execute(text("select name from goods")).scalar_one()
    start_response("200 OK", [])
    return [name.encode()]
"""


def test_sqlalchemys_pool_is_disposed_of_before_the_fork(site: Site) -> None:
    site.write(SQLALCHEMY)
    with site.serve("--preload-app", "--warm-up", "/") as server:
        server.wait_for("the SQLite database .*shop.sqlite3")
    (site.directory / "shop.sqlite3").unlink()
    site.write(SQLALCHEMY + "\nhooks.before_fork(engine.dispose)\n")
    with site.serve("--preload-app", "--warm-up", "/", "--workers", "2") as server:
        assert {state(server) for _ in range(8)} == {"a kettle"}
        assert "WARNING" not in server.log
