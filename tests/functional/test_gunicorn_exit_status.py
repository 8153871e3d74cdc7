"""The exit statuses of `starman-uv gunicorn …` and of gunicorn, when the server does not start."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.functional.support.commands import run, starman
from tests.functional.support.side_by_side import PLAIN

FILES = {
    "broken.py": "import nothing_there\n",
    "shop.py": "def application(environ, start_response): ...\n\ndef create(name): ...\n\ndef fail():\n    raise ValueError\n",
    "none.py": "application = None\n",
    "number.py": "application = 3\n",
    "post_fork.py": "def post_fork(server, worker):\n    1 / 0\n",
    "init.py": "def post_worker_init(worker):\n    1 / 0\n",
    "starting.py": "def on_starting(server):\n    1 / 0\n",
    "logging.ini": "[loggers]\nkeys = root\n",
}
CASES = {
    "no module": (3, "nothing"),
    "module that fails": (3, "broken"),
    "factory that fails": (3, "shop:fail()"),
    "hook of the worker": (3, "shop", "-c", "post_fork.py"),
    "hook after loading": (3, "shop", "-c", "init.py"),
    "no such name": (4, "shop:nothing"),
    "name that is no expression": (4, "shop:1+"),
    "None": (4, "none"),
    "not callable": (4, "number"),
    "wrong arguments": (4, "shop:create()"),
    "preloaded": (1, "--preload", "broken"),
    "preloaded without the name": (1, "--preload", "shop:nothing"),
    "checked": (1, "--check-config", "shop:nothing"),
    "hook of the server": (1, "shop", "-c", "starting.py"),
    "user": (1, "shop", "-u", "nobody-at-all"),
    "pid file": (1, "shop", "-p", "/no/such/place/pid"),
    "certificate": (1, "shop", "--certfile", "nothing"),
    "log configuration": (1, "shop", "--log-config", "logging.ini"),
    "missing log configuration": (1, "shop", "--log-config", "nothing.ini"),
    "option": (2, "shop", "--nothing"),
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_exit_status_is_that_of_gunicorn(project: Path, case: tuple[int, *tuple[str, ...]]) -> None:
    pytest.importorskip("gunicorn")
    status, *arguments = case
    arguments += ["-b", "127.0.0.1:0"]
    theirs = run([sys.executable, "-m", "gunicorn", "--no-control-socket", *arguments], project, PLAIN)
    ours = run([sys.executable, "-m", "starman", "gunicorn", *arguments], project, PLAIN)
    assert (ours.returncode, theirs.returncode) == (status, status), f"{ours.stderr}\n{theirs.stderr}"


def test_the_own_form_keeps_its_statuses(project: Path) -> None:
    for application in ("broken", "shop:nothing", "number"):
        assert starman(application, "--listen", "127.0.0.1:0", cwd=project).returncode == 1


@pytest.mark.parametrize("text", ["[loggers]\nkeys = root\n", "[formatters]\n", "not an ini file"])
def test_check_validates_the_configuration_of_the_logs(project: Path, text: str) -> None:
    (project / "logging.ini").write_text(text)
    done = starman("shop", "--check", "--listen", "127.0.0.1:0", "--log-config", "logging.ini", cwd=project)
    assert done.returncode == 2
    assert "starman: log_config: " in done.stderr
    done = run(
        [sys.executable, "-m", "starman", "gunicorn", "shop", "--check-config", "--log-config", "logging.ini"], project, PLAIN
    )
    assert done.returncode == 1
    assert "logging" in done.stderr


def test_check_empties_no_log(project: Path) -> None:
    (project / "server.log").write_text("a line of the running server\n")
    (project / "logging.toml").write_text(
        'version = 1\n[handlers.file]\nclass = "logging.FileHandler"\nfilename = "server.log"\nmode = "w"\n'
        '[loggers."starman.error"]\nhandlers = ["file"]\n'
    )
    done = starman("shop", "--check", "--listen", "127.0.0.1:0", "--log-config", "logging.toml", cwd=project)
    assert done.returncode == 0, done.stderr
    assert (project / "server.log").read_text() == "a line of the running server\n"
