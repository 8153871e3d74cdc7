"""starman.gunicorn.configuration: configuration files are executed, and sources override each other as in gunicorn.

Through the real command, because a configuration changes the process that executes it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.gunicorn.resolving import command


def printed(*arguments: str, cwd: Path, env: dict[str, str] | None = None) -> dict[str, tuple[str, str]]:
    """The rows of --to-toml: the value and source of each setting of starman."""
    done = command("--to-toml", *arguments, cwd=cwd, env=env)
    assert done.returncode == 0, done.stderr
    rows = (line.partition(" = ") for line in done.stdout.splitlines() if " = " in line and not line.startswith("#"))
    return {name: tuple(rest.split("  # ")) for name, _, rest in rows}  # type: ignore[misc]


def test_the_line_overrides_the_variable_and_that_the_file(tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text("workers = 2\ntimeout = 40\nbacklog = 100\nmax_requests = '7'\n")
    env = {"GUNICORN_CMD_ARGS": "--workers 3 --timeout 41", "WEB_CONCURRENCY": "9"}
    found = printed("-w", "4", "app:app", cwd=tmp_path, env=env)
    assert found["workers"] == ("4", "--workers")
    assert found["worker_timeout"] == ("41", "GUNICORN_CMD_ARGS: --timeout")
    assert found["backlog"] == ("100", "gunicorn.conf.py: backlog")
    assert found["max_requests"] == ("7", "gunicorn.conf.py: max_requests")
    assert found["keepalive_timeout"] == ("2", "gunicorn's default")


@pytest.mark.parametrize("location", ["conf/own.py", "file:conf/own.py", "python:conf.own", "./conf/own.py"])
def test_a_configuration_is_named_in_each_form(tmp_path: Path, location: str) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/__init__.py").touch()
    (tmp_path / "conf/own.py").write_text("workers = 3\nwsgi_app = 'shop'\n")
    (tmp_path / "gunicorn.conf.py").write_text("workers = 2\n")
    found = printed("-c", location, cwd=tmp_path)
    assert found["workers"][0] == "3"
    assert found["app"][0] == '"shop:application"'
    assert printed("app:app", cwd=tmp_path, env={"GUNICORN_CMD_ARGS": f"-c {location}"})["workers"][0] == "3"


def test_a_file_without_the_suffix_of_python_is_executed(tmp_path: Path) -> None:
    (tmp_path / "gunicorn_conf").write_text("workers = 3\n")
    assert printed("-c", "gunicorn_conf", "app:app", cwd=tmp_path)["workers"][0] == "3"


STYLES = """
import multiprocessing
import os
import sys
from pathlib import Path

import gunicorn
from gunicorn import glogging
from gunicorn.config import AccessLogFormat
from gunicorn.workers.sync import SyncWorker

import limits

gunicorn.SERVER_SOFTWARE = "nothing"
_HERE = Path(__file__).parent
pidfile = str(_HERE / "x.pid")
workers = min(multiprocessing.cpu_count() * 2 + 1, 3) if not os.environ.get("WORKERS") else os.environ["WORKERS"]
timeout = limits.TIMEOUT
os.environ["FROM_CONF"] = "line\\none"
sys.path.insert(0, str(_HERE / "lib"))
helper = 3


class Own(glogging.Logger):
    def setup(self, cfg):
        super().setup(cfg)


class OwnWorker(SyncWorker):
    pass


assert "%(h)s" in AccessLogFormat.default
assert gunicorn.__version__.count(".") == 2


def set_more(**values):
    globals().update(values)


set_more(max_requests=11, proc_name=None)
"""


def test_a_configuration_is_executed_like_a_module(tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text(STYLES)
    (tmp_path / "limits.py").write_text("TIMEOUT = '50'\n")
    found = printed("app:app", cwd=tmp_path, env={"WORKERS": "4"})
    assert found["workers"][0] == "4"
    assert found["worker_timeout"][0] == "50"
    assert found["max_requests"][0] == "11"
    assert found["pid"][0] == f'"{tmp_path}/x.pid"'
    assert found["env"][0] == '["FROM_CONF=line\\none"]'
    assert found["include"][0] == f'["{tmp_path}/lib"]'


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("workers = 'many'\n", "starman: gunicorn.conf.py: workers: invalid value 'many': invalid literal"),
        ("workers = None\n", "starman: gunicorn.conf.py: workers: invalid value None: not a whole number"),
        ("import nothing_there\n", "ModuleNotFoundError: No module named 'nothing_there'"),
        ("x = (\n", "SyntaxError"),
        ("post_fork = 3\n", "starman: gunicorn.conf.py: post_fork: invalid value 3: not a function"),
        ("from gunicorn import nothing\n", "ImportError: cannot import name 'nothing' from 'gunicorn'"),
        ("chdir = '/no/such/place'\n", "starman: gunicorn.conf.py: chdir: invalid value '/no/such/place'"),
    ],
)
def test_an_error_of_the_configuration_is_shown(tmp_path: Path, content: str, expected: str) -> None:
    (tmp_path / "gunicorn.conf.py").write_text(content)
    done = command("app:app", "--to-toml", cwd=tmp_path)
    assert done.returncode == 1
    assert expected in done.stderr
    assert "starman/gunicorn" not in done.stderr


def test_the_traceback_of_a_configuration_names_its_lines(tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text("def limit():\n    return 1 / 0\n\n\nworkers = limit()\n")
    done = command("app:app", cwd=tmp_path)
    assert done.returncode == 1
    assert "cannot read the configuration" in done.stderr
    assert "ZeroDivisionError" in done.stderr
    assert 'gunicorn.conf.py", line 2, in limit' in done.stderr


def test_an_end_of_the_configuration_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text("import sys\nsys.exit(3)\n")
    done = command("app:app", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (3, "starman: the configuration has ended its process by sys.exit(3)\n")
    (tmp_path / "gunicorn.conf.py").write_text("import os\nos.kill(os.getpid(), 9)\n")
    done = command("app:app", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (
        137,
        "starman: the process that reads the configuration was ended by signal 9 before it was done\n",
    )
    (tmp_path / "gunicorn.conf.py").write_text("import os\nif os.fork() == 0:\n    import time\n    time.sleep(3)\nos._exit(4)\n")
    done = command("app:app", cwd=tmp_path)
    assert (done.returncode, "exited with status 4 before it was done" in done.stderr) == (4, True)


@pytest.mark.parametrize(
    ("ending", "status", "expected"),
    [
        ("sys.exit('DATABASE_URL is not set')", 1, "has ended its process by sys.exit: DATABASE_URL is not set\n"),
        ("sys.exit('first\\nsecond')", 1, "has ended its process by sys.exit: first\nsecond\n"),
        ("sys.exit(0)", 0, "has ended its process by sys.exit(0)\n"),
        ("sys.exit()", 0, "has ended its process by sys.exit(0)\n"),
        ("sys.exit(-1)", 255, "has ended its process by sys.exit(-1)\n"),
        ("raise KeyboardInterrupt", 130, "was interrupted (KeyboardInterrupt)\n"),
    ],
)
def test_an_end_of_the_configuration_says_why(tmp_path: Path, ending: str, status: int, expected: str) -> None:
    (tmp_path / "gunicorn.conf.py").write_text(f"import sys\n{ending}\n")
    done = command("app:app", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (status, f"starman: the configuration {expected}")


@pytest.mark.parametrize(
    ("variable", "value", "option", "usable", "ours"),
    [
        ("PORT", "", "--bind", "127.0.0.1:8001", "STARMAN_PORT"),
        ("PORT", "tcp://10.0.0.1:8000", "--bind", "127.0.0.1:8001", "STARMAN_LISTEN"),
        ("WEB_CONCURRENCY", "", "--workers", "3", "STARMAN_WORKERS"),
        ("WEB_CONCURRENCY", "many", "--workers", "3", "STARMAN_WORKERS"),
        ("FORWARDED_ALLOW_IPS", "proxy", "--forwarded-allow-ips", "10.0.0.1", "STARMAN_FORWARDED_ALLOW_IPS"),
    ],
)
def test_a_bad_variable_of_the_platform_matters_only_where_it_is_used(
    tmp_path: Path, variable: str, value: str, option: str, usable: str, ours: str
) -> None:
    (tmp_path / "shop.py").write_text("def application(environ, start_response): ...\n")
    check = ("shop", "--check-config")
    done = command(*check, option, usable, cwd=tmp_path, env={variable: value})
    assert (done.returncode, option in done.stdout) == (0, True), done.stderr
    done = command(*check, cwd=tmp_path, env={variable: value, ours: usable.removeprefix("127.0.0.1:")})
    assert (done.returncode, ours in done.stdout) == (0, True), done.stderr
    done = command(*check, cwd=tmp_path, env={variable: value})
    assert done.returncode == 1
    assert done.stderr.startswith(f"starman: {variable}: invalid value {value!r}: ")


def test_a_variable_of_starman_overrides_one_of_the_platform(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("def application(environ, start_response): ...\n")
    done = command("shop", "--check-config", cwd=tmp_path, env={"PORT": "8001", "STARMAN_LISTEN": ":8002"})
    assert "STARMAN_LISTEN" in done.stdout
    assert "PORT" not in done.stdout


@pytest.mark.parametrize("option", ["--user", "--group"])
def test_an_unknown_account_is_an_error(tmp_path: Path, option: str) -> None:
    done = command("app:app", option, "nobody-at-all", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"starman: {option}: invalid value 'nobody-at-all': there is no such {option.removeprefix('--')}\n"


def test_a_level_that_does_not_exist_is_info_with_a_warning(tmp_path: Path) -> None:
    done = command("app:app", "--log-level", "verbose", "--to-toml", cwd=tmp_path)
    assert 'log_level = "info"  # --log-level' in done.stdout
    assert "--log-level: 'verbose' is none of debug, info, warning, error, critical, so info counts" in done.stderr


def test_a_variable_that_the_configuration_removes_is_removed(tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text("import os\nos.environ.pop('SECRET')\nos.environ['SERVER_SOFTWARE'] = 'x'\n")
    done = command("app:app", "--to-toml", cwd=tmp_path, env={"SECRET": "x"})
    assert 'unset_env = ["SECRET"]  # the configuration file' in done.stdout
    assert "SERVER_SOFTWARE" not in done.stdout  # gunicorn sets it after the file


def test_probable_mistakes_are_named(tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text(
        "preload = True\nkeep_alive = 5\nworkerz = 3\naccess_logformat = ''\nhost = 'x'\ncpu = 3\n"
    )
    done = command("app:app", "--check-config", cwd=tmp_path)
    lines = [line for line in done.stderr.splitlines() if "is no setting of gunicorn" in line]
    prefix = "starman: gunicorn.conf.py: "
    tail = "is no setting of gunicorn and has no effect; did you mean"
    assert lines == [
        f"{prefix}preload {tail} preload_app?",
        f"{prefix}keep_alive {tail} keepalive?",
        f"{prefix}workerz {tail} workers?",
        f"{prefix}access_logformat {tail} access_log_format?",
    ]


def test_the_check_names_a_file_once(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("def application(environ, start_response): ...\n")
    (tmp_path / "gunicorn.conf.py").write_text("workers = 2\nthreads = 2\n")
    done = command("shop", "--check-config", cwd=tmp_path)
    assert "settings     valid; from " in done.stdout, done.stderr
    assert done.stdout.count("gunicorn.conf.py") == 1


def test_a_second_application_is_named(tmp_path: Path) -> None:
    done = command("app:app", "other", "--check-config", cwd=tmp_path)
    assert "starman: only app:app is served: other is ignored\n" in done.stderr


WRAPPED = """
import gunicorn.http.wsgi as wsgi
original = wsgi.Response.default_headers
def without(*args):
    return [line for line in original(*args) if not line.startswith("Server:")]
wsgi.Response.default_headers = without
"""


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("import gunicorn\ngunicorn.SERVER_SOFTWARE = 'shop'\n", "shop"),
        ("import gunicorn\ngunicorn.SERVER = ''\n", "off"),
        ("import gunicorn.http.wsgi as x\nx.SERVER = 'web'\n", "web"),
        (WRAPPED, "off"),
        ("import gunicorn.http.wsgi as x\nclass Own(x.Response):\n    pass\nx.Response = Own\n", None),
        ("import gunicorn\n", None),
    ],
)
def test_a_changed_server_field_counts(tmp_path: Path, content: str, expected: str | None) -> None:
    (tmp_path / "gunicorn.conf.py").write_text(content)
    found = printed("app:app", cwd=tmp_path)
    assert found.get("server_header", (None,))[0] == (f'"{expected}"' if expected else None)


def test_script_name_is_the_path_of_the_application(tmp_path: Path) -> None:
    assert printed("app:app", cwd=tmp_path, env={"SCRIPT_NAME": "/shop"})["path"] == ('"/shop"', "SCRIPT_NAME")
    given = printed("-e", "SCRIPT_NAME=/own", "app:app", cwd=tmp_path, env={"SCRIPT_NAME": "/shop"})
    assert given["path"][0] == '"/own"'
    assert "path" not in printed("app:app", cwd=tmp_path, env={"SCRIPT_NAME": ""})
    refused = command("app:app", cwd=tmp_path, env={"SCRIPT_NAME": "backup.py"})
    assert refused.returncode == 1
    assert "SCRIPT_NAME is 'backup.py', but the path under which the application is begins with \"/\"" in refused.stderr
