"""Measures the time from the save of a file to the first response of the new code: `python -m bench reload`.

Each server has a copy of the same small application, and all run at the same time, idle but for the one that is
measured. A round saves a file of each server in turn, then asks for the page until the new text comes. The import of
the application alone is measured beside them.
"""

from __future__ import annotations

import argparse
import http.client
import importlib.util
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

# How often (seconds) the page is asked for after a save, and how long at most.
ASK_SECONDS = 0.005
LONGEST_SECONDS = 30.0
# How long (seconds) between two saves: a server has then seen that nothing has changed.
PAUSE_SECONDS = 0.7

_FLASK = {
    "app.py": """\
from flask import Flask

TEXT = "{text}"
app = Flask(__name__)


@app.get("/")
def page():
    return TEXT
"""
}
_DJANGO = {
    "site_settings.py": """\
SECRET_KEY = "for the bench only"
DEBUG = True
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "app"
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes"]
DATABASES = {{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}}}
""",
    "app.py": """\
import os

from django.http import HttpResponse
from django.urls import path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_settings")
TEXT = "{text}"


def page(request):
    return HttpResponse(TEXT)


urlpatterns = [path("", page)]
""",
    "site_wsgi.py": """\
import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_settings")

from django.core.wsgi import get_wsgi_application

app = get_wsgi_application()
# Loaded by the first request otherwise.
import app as urls
""",
}

Command = Callable[[str, int], list[str]]


@dataclass
class Reloader:
    """A server that reloads. command: its argv, for "module:app" and a port. needs: the package that must be there."""

    name: str
    needs: str
    command: Command
    seconds: list[float] = field(default_factory=list)
    failure: str = ""


def _python(*arguments: str) -> list[str]:
    return [sys.executable, "-m", *arguments]


def _starman(engine: str) -> Command:
    return lambda app, port: _python("starman", "--reload", "--reload-engine", engine, "-l", f"127.0.0.1:{port}", app)


def _gunicorn(app: str, port: int) -> list[str]:
    return _python("gunicorn", "--reload", "--threads", "4", "-b", f"127.0.0.1:{port}", app)


def _uvicorn(app: str, port: int) -> list[str]:
    return _python("uvicorn", "--reload", "--interface", "wsgi", "--port", str(port), "--log-level", "warning", app)


def _flask_run(app: str, port: int) -> list[str]:
    return _python("flask", "--app", app.partition(":")[0], "run", "--reload", "--port", str(port))


def _runserver(_: str, port: int) -> list[str]:
    return _python(
        "django", "runserver", f"127.0.0.1:{port}", "--settings", "site_settings", "--pythonpath", ".", "--skip-checks"
    )


def _common() -> list[Reloader]:
    return [
        Reloader("starman, watchfiles", "watchfiles", _starman("watchfiles")),
        Reloader("starman, poll", "starman", _starman("poll")),
        Reloader("gunicorn --reload", "gunicorn", _gunicorn),
        Reloader("uvicorn --reload", "uvicorn", _uvicorn),
    ]


def measure(name: str, rounds: int) -> tuple[float, list[Reloader]]:
    """Measure the scenario `name`, "flask" or "django". Returns the seconds of the import, and the servers that are
    installed."""
    files, module, own = (
        (_FLASK, "app", Reloader("flask run --reload", "flask", _flask_run))
        if name == "flask"
        else (_DJANGO, "site_wsgi", Reloader("manage.py runserver", "django", _runserver))
    )
    servers = [server for server in [*_common(), own] if importlib.util.find_spec(server.needs) is not None]
    with ExitStack() as cleanup:
        scratch = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="bench-reload-")))
        sites = []
        for number, server in enumerate(servers):
            site = scratch / str(number)
            site.mkdir()
            _save(site, files, "start")
            port = _free_port()
            output = cleanup.enter_context((scratch / f"{number}.log").open("wb"))
            command = server.command(f"{module}:app", port)
            process = subprocess.Popen(command, cwd=site, stdout=output, stderr=output, start_new_session=True)
            cleanup.callback(_end, process)
            sites.append((server, site, port))
        for server, _, port in sites:
            if _wait(port, "start") is None:
                server.failure = "did not start"
        time.sleep(2 * PAUSE_SECONDS)
        for turn in range(rounds):
            for server, site, port in sites:
                if server.failure:
                    continue
                text = f"text {turn}"
                saved = time.perf_counter()
                _save(site, {"app.py": files["app.py"]}, text)
                answered = _wait(port, text)
                if answered is None:
                    server.failure = f"no new code within {LONGEST_SECONDS:g} s"
                else:
                    server.seconds.append(answered - saved)
                time.sleep(PAUSE_SECONDS)
        return _import_seconds(scratch / "0", module, rounds), servers


def _save(site: Path, files: dict[str, str], text: str) -> None:
    for name, content in files.items():
        (site / name).write_text(content.format(text=text))


def _wait(port: int, text: str) -> float | None:
    """The instant at which a page with `text` has come; None if none comes. A refused connection is tried again."""
    deadline = time.perf_counter() + LONGEST_SECONDS
    while time.perf_counter() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LONGEST_SECONDS)
        try:
            connection.request("GET", "/")
            if text in connection.getresponse().read().decode():
                return time.perf_counter()
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(ASK_SECONDS)
    return None


def _import_seconds(site: Path, module: str, rounds: int) -> float:
    """The median time that `import module` takes in a process that has imported nothing."""
    code = f"import time; begun = time.perf_counter(); import {module}; print(time.perf_counter() - begun)"
    found = []
    for _ in range(max(3, rounds // 3)):
        done = subprocess.run([sys.executable, "-c", code], cwd=site, capture_output=True, text=True, timeout=60, check=True)
        found.append(float(done.stdout))
    return statistics.median(found)


def _free_port() -> int:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return int(chosen.getsockname()[1])


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)


def table(name: str, imported: float, servers: Iterable[Reloader]) -> str:
    """A table in Markdown: the median, the fastest and the slowest time of each server."""
    lines = [
        f"{name}, whose import takes {imported:.2f} s:\n",
        "| | median s | without the import | fastest | slowest |",
        "|---|---|---|---|---|",
    ]
    for server in servers:
        if server.failure or not server.seconds:
            lines.append(f"| {server.name} | {server.failure or 'not measured'} | | | |")
            continue
        middle = statistics.median(server.seconds)
        span = f"{min(server.seconds):.2f} | {max(server.seconds):.2f}"
        lines.append(f"| {server.name} | {middle:.2f} | {middle - imported:.2f} | {span} |")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Measure, and print a table for each application. Exit status 1 if a server of ours fails."""
    parser = argparse.ArgumentParser(prog="python -m bench reload", description=__doc__)
    parser.add_argument("names", nargs="*", choices=["flask", "django", []], metavar="flask|django", help="which application")
    parser.add_argument("--rounds", type=int, default=9, help="how many saves of each server (default: 9)")
    given = parser.parse_args(arguments)
    failed = False
    for name in given.names or ["flask", "django"]:
        if importlib.util.find_spec(name) is None:
            print(f"{name} is not installed", file=sys.stderr)
            continue
        imported, servers = measure(name, given.rounds)
        print(table(name.capitalize(), imported, servers), end="\n\n")
        failed = failed or any(server.failure for server in servers if server.name.startswith("starman"))
    return 1 if failed else 0
