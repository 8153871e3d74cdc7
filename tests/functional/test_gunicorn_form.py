"""`starman-uv gunicorn …`: what stood behind `gunicorn` works, with real servers."""

from __future__ import annotations

import os
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from signal import SIGHUP, SIGUSR2

import pytest

from tests.functional.support.commands import run, starman
from tests.functional.support.harness import Server, free_ports, wait_until
from tests.functional.support.side_by_side import PLAIN

SHOP = """\
import os

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.environ.get('COLOUR')} {os.environ.get('SIZE')} {environ['wsgi.multithread']}".encode()]
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(SHOP)
    return tmp_path


def serving(*arguments: str, cwd: Path, env: Mapping[str, str | None] | None = None) -> Server:
    """A running `starman-uv gunicorn …` in the directory `cwd`."""
    return Server(None, "gunicorn", *arguments, listen=(), cwd=cwd, env={**PLAIN, "PWD": str(cwd), **(env or {})})


def page(server: Server) -> str:
    with urllib.request.urlopen(server.url, timeout=20) as response:
        return str(response.read(), "ascii")


def test_a_configuration_is_served_and_read_again_at_a_restart(project: Path) -> None:
    port = free_ports()[0]
    conf = project / "gunicorn.conf.py"
    text = f"""
import multiprocessing, os
import gunicorn
bind = f"127.0.0.1:{port}"
workers = min(multiprocessing.cpu_count(), 1)
raw_env = ["COLOUR=red"]
os.environ["SIZE"] = "large"
pid_of_configuration = open("pids", "a").write(f"{{os.getpid()}}\\n")
"""
    conf.write_text(text)
    with serving("shop", cwd=project) as server:
        assert (server.workers, server.threads, server.port) == (1, 1, port)
        assert page(server) == "red large False"
        conf.write_text(
            text.replace("red", "blue").replace("workers = min(multiprocessing.cpu_count(), 1)", "workers = threads = 2")
        )
        server.signal(SIGHUP)
        assert wait_until(lambda: page(server) == "blue large True")
        assert wait_until(lambda: len(server.worker_pids()) == 2)
        conf.write_text("workers = (\n")
        server.signal(SIGHUP)
        server.wait_for("restart given up, the old workers stay: cannot read the configuration .*SyntaxError")
        assert page(server) == "blue large True"
        pids = {int(line) for line in (project / "pids").read_text().split()}
        assert len(pids) == 2
        assert not pids & {server.pid, *server.session_pids()}


def test_an_upgrade_reads_the_configuration_again(project: Path) -> None:
    conf = project / "gunicorn.conf.py"
    conf.write_text('raw_env = "COLOUR=red"\nbind = "127.0.0.1:0"\n')
    with serving("shop", cwd=project) as server:
        assert page(server).startswith("red ")
        conf.write_text('raw_env = "COLOUR=blue"\nbind = "127.0.0.1:0"\n')
        server.signal(SIGUSR2)
        server.wait_for("has taken over")
        assert wait_until(lambda: page(server).startswith("blue "))


def test_warnings_are_in_the_error_log(project: Path) -> None:
    (project / "gunicorn.conf.py").write_text(
        'errorlog = "error.log"\nworker_class = "gevent"\nworker_connections = 8\npreload = 1\n'
    )
    port = free_ports()[0]
    address = f"127.0.0.1:{port}"
    log = project / "error.log"
    arguments = ["gunicorn", "shop", "-b", address]
    with Server(None, *arguments, listen=(), cwd=project, env={**PLAIN, "PWD": str(project)}, ready=False) as server:
        assert wait_until(lambda: log.exists() and " ready: 1 worker × 8 threads on " in log.read_text())  # noqa: RUF001
        assert "[WARNING] gunicorn.conf.py: worker_class: gevent becomes threads, 8 in each worker" in log.read_text()
        assert "[WARNING] gunicorn.conf.py: preload is no setting of gunicorn" in log.read_text()
        assert server.log == ""
        server.signal(SIGHUP)
        assert wait_until(lambda: "restarted: 1 worker is new" in log.read_text())
        assert log.read_text().count("preload is no setting of gunicorn") == 1, "the start has said so"
        (project / "gunicorn.conf.py").write_text('errorlog = "error.log"\nspew = True\n')
        server.signal(SIGHUP)
        assert wait_until(lambda: "gunicorn.conf.py: spew has no effect" in log.read_text())


def test_an_application_imports_the_stand_in_where_gunicorn_is_not_installed(project: Path) -> None:
    (project / "shop.py").write_text(
        "import sys\n"
        "from importlib.machinery import PathFinder\n"
        "find = PathFinder.find_spec\n"
        "PathFinder.find_spec = lambda name, *a: None if name == 'gunicorn' else find(name, *a)\n"
        "from gunicorn.http.errors import NoMoreData\nimport gunicorn.workers.sync\n" + SHOP
    )
    with serving("shop", "-b", "127.0.0.1:0", cwd=project) as server:
        assert page(server).startswith("None ")


def test_the_port_of_the_platform_is_the_default(project: Path) -> None:
    port = free_ports()[0]
    with serving("shop", cwd=project, env={"PORT": str(port), "WEB_CONCURRENCY": "2"}) as server:
        assert server.listeners == f"http://0.0.0.0:{port}"
        assert server.workers == 2


def test_a_unix_socket_is_open_to_all_users_as_in_gunicorn(project: Path) -> None:
    with serving("shop", "-b", "unix://x.sock", cwd=project) as server:
        assert server.listeners.endswith("x.sock")
        assert os.stat(project / "x.sock").st_mode & 0o777 == 0o777


def test_a_relative_configuration_is_in_the_directory_of_the_start(project: Path) -> None:
    (project / "app").mkdir()
    (project / "shop.py").rename(project / "app/shop.py")
    (project / "own.py").write_text("raw_env = ['COLOUR=red']\n")
    with serving("--chdir", "app", "-c", "own.py", "-b", "127.0.0.1:0", "shop", cwd=project) as server:
        assert page(server).startswith("red ")
        (project / "own.py").write_text("raw_env = ['COLOUR=blue']\n")
        server.signal(SIGHUP)
        assert wait_until(lambda: page(server).startswith("blue "))


def test_settings_of_starman_in_variables_stand_between_options_and_defaults(project: Path) -> None:
    env = {"STARMAN_SERVER_HEADER": "shop", "STARMAN_WORKERS": "2", "STARMAN_LISTEN": "127.0.0.1:1"}
    with serving("shop", "-b", "127.0.0.1:0", cwd=project, env=env) as server:
        assert server.workers == 2
        with urllib.request.urlopen(server.url, timeout=20) as response:
            assert response.headers["Server"] == "shop"


@pytest.mark.parametrize("arguments", [("--preload",), ()])
def test_the_name_of_the_processes_is_proc_name(project: Path, arguments: tuple[str, ...]) -> None:
    with serving("shop", "--name", "our shop", "-b", "127.0.0.1:0", *arguments, cwd=project) as server:
        titles = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in server.session_pids()]
        assert all(b" our shop" in title for title in titles), titles


def test_a_configuration_written_in_toml_serves_the_same(project: Path) -> None:
    (project / "gunicorn.conf.py").write_text("bind = '127.0.0.1:0'\nworkers = 1\nraw_env = 'COLOUR=red'\nwsgi_app = 'shop'\n")
    done = run([sys.executable, "-m", "starman", "gunicorn", "--to-toml"], project, PLAIN)
    assert done.returncode == 0, done.stderr
    (project / "starman.toml").write_text(done.stdout)
    with Server(None, listen=(), cwd=project, env={**PLAIN, "PWD": str(project)}) as server:
        assert page(server).startswith("red ")
    assert starman("--check", cwd=project).returncode == 0


ERRORS = {
    "no application": (),
    "unknown option": ("shop", "--wrokers", "3"),
    "not a number": ("shop", "-w", "many"),
    "ambiguous option": ("shop", "--worker", "3"),
    "no such file": ("shop", "-c", "nothing.py"),
    "no such module": ("shop", "-c", "python:nothing"),
    "broken file": ("shop", "-c", "broken.py"),
    "failing file": ("shop", "-c", "failing.py"),
    "wrong value": ("shop", "-c", "wrong.py"),
    "exit": ("shop", "-c", "leaving.py"),
    "check": ("shop", "--check-config"),
    "check of a broken application": ("broken", "--check-config"),
    "check of a missing application": ("nothing", "--check-config"),
    "check of a missing name": ("shop:nothing", "--check-config"),
    "print": ("shop", "--print-config"),
    "print of a broken application": ("broken", "--print-config"),
    "version": ("--version",),
    "help": ("--help",),
    "wrong chdir": ("shop", "--chdir", "/no/such/place"),
}


@pytest.mark.parametrize("arguments", ERRORS.values(), ids=ERRORS)
def test_the_exit_status_is_that_of_gunicorn(project: Path, arguments: tuple[str, ...]) -> None:
    pytest.importorskip("gunicorn")
    (project / "broken.py").write_text("x = (\n")
    (project / "failing.py").write_text("1 / 0\n")
    (project / "wrong.py").write_text("workers = 'many'\n")
    (project / "leaving.py").write_text("import sys\nsys.exit(7)\n")
    ours = run([sys.executable, "-m", "starman", "gunicorn", *arguments], project, PLAIN)
    theirs = run([sys.executable, "-m", "gunicorn", *arguments], project, PLAIN)
    assert ours.returncode == theirs.returncode, f"{ours.stderr}\n{theirs.stderr}"


def test_the_master_imports_nothing_of_the_configuration(project: Path) -> None:
    """What the command imports before it serves, and what stays in it."""
    script = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); from starman import server, cli\n"
        "def run_master(*a): print(*sorted(sys.modules)); return 0\n"
        "server.run_master = run_master; sys.exit(cli.main())"
    )
    path = str(Path(__file__).parents[2])
    done = run([sys.executable, "-S", "-c", script, path, "gunicorn", "shop"], project, PLAIN)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert {name for name in loaded if name.startswith("starman.gunicorn")} == {
        "starman.gunicorn",
        "starman.gunicorn.configuration_reader",
    }
    assert not loaded & {"argparse", "inspect", "difflib", "gunicorn", "ipaddress", "shlex", "starman.loading"}


def test_reload_serves_changed_code(project: Path) -> None:
    (project / "gunicorn.conf.py").write_text("bind = '127.0.0.1:0'\nreload = True\nreload_engine = 'poll'\n")
    with serving("shop", cwd=project) as server:
        assert page(server).startswith("None ")
        (project / "shop.py").write_text(SHOP.replace("os.environ.get('COLOUR')", "'changed'"))
        assert wait_until(lambda: page(server).startswith("changed "))


def test_a_file_of_paste_is_served(project: Path) -> None:
    """With a stand-in for PasteDeploy, which records how it is called."""
    (project / "paste").mkdir()
    (project / "paste/__init__.py").touch()
    (project / "paste/deploy.py").write_text(
        "def loadapp(uri, relative_to, global_conf):\n"
        "    def application(environ, start_response):\n"
        "        start_response('200 OK', [])\n"
        "        return [f'{uri} {relative_to} {global_conf}'.encode()]\n"
        "    return application\n"
    )
    (project / "shop.ini").write_text("[app:main]\n")
    arguments = ["--paste", "shop.ini#main", "--paste-global", "a=b", "-b", "127.0.0.1:0"]
    with serving(*arguments, cwd=project) as server:
        assert page(server) == f"config:{project}/shop.ini#main {project} {{'a': 'b'}}"
