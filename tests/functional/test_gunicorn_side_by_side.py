"""A Flask and a Django project, with the settings and hooks that are used most, under both servers.

Pages, schemes, addresses, log lines and what hooks write are the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.functional.support.harness import wait_until
from tests.functional.support.side_by_side import GUNICORN, STARMAN, Answer, Running, running

pytest.importorskip("gunicorn")

FLASK = """\
import os
import flask
from werkzeug.middleware.proxy_fix import ProxyFix

application = flask.Flask(__name__)
application.config["SECRET_KEY"] = "x"


@application.route("/page/<name>", methods=["GET", "POST"])
def page(name):
    request = flask.request
    return {"name": name, "scheme": request.scheme, "address": request.remote_addr, "form": request.form, "args": request.args,
            "url": flask.url_for("page", name="x", _external=True), "colour": os.environ.get("COLOUR"),
            "root": request.root_path, "environ": {name: str(request.environ.get(name)) for name in (
                "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "RAW_URI", "SERVER_PROTOCOL", "REMOTE_ADDR", "HTTP_X_FORWARDED_FOR",
                "wsgi.url_scheme", "wsgi.multithread", "wsgi.multiprocess", "CONTENT_TYPE", "CONTENT_LENGTH", "SERVER_NAME")}}


@application.route("/away")
def away():
    return flask.redirect(flask.url_for("page", name="x", _external=True))


@application.route("/stream")
def stream():
    return flask.Response((f"{number}\\n" for number in range(3)), mimetype="text/plain")


@application.route("/fail")
def fail():
    raise ValueError("x")


fixed = ProxyFix(application, x_for=1, x_proto=1, x_host=1)
"""

DJANGO = """\
import os
import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponseRedirect, JsonResponse, StreamingHttpResponse
from django.urls import path

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x", DEBUG=False,
                   SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https") if os.environ.get("SECURE") else None,
                   MIDDLEWARE=["django.middleware.common.CommonMiddleware"], LOGGING_CONFIG=None)


def page(request, name):
    return JsonResponse({"name": name, "scheme": request.scheme, "address": request.META["REMOTE_ADDR"], "form": request.POST,
                         "args": request.GET, "url": request.build_absolute_uri("/x"), "colour": os.environ.get("COLOUR"),
                         "secure": request.is_secure()})


def away(request):
    return HttpResponseRedirect(request.build_absolute_uri("/page/x"))


def stream(request):
    return StreamingHttpResponse((f"{number}\\n" for number in range(3)), content_type="text/plain")


def fail(request):
    raise ValueError("x")


urlpatterns = [path("page/<name>", page), path("away", away), path("stream", stream), path("fail", fail)]
application = get_wsgi_application()
"""

CONFIGURATION = """\
import multiprocessing
import os

bind = "127.0.0.1:0"
workers = 1 if multiprocessing.cpu_count() else 2
worker_class = "gthread"
threads = 2
timeout = "120"
graceful_timeout = 20
keepalive = 5
max_requests = 1000
max_requests_jitter = 50
worker_tmp_dir = None
accesslog = "access.log"
errorlog = "-"
loglevel = "info"
preload_app = bool(os.environ.get("PRELOAD"))
raw_env = ["COLOUR=red"]
"""
REQUESTS: list[tuple[str, str, bytes | None, dict[str, str]]] = [
    ("GET", "/page/a", None, {}),
    ("GET", "/page/b%20c?x=1&y=%C3%A9", None, {"User-Agent": 'agent "x"', "Referer": "http://y/"}),
    ("POST", "/page/a", b"field=1&other=2", {"Content-Type": "application/x-www-form-urlencoded"}),
    ("HEAD", "/page/a", None, {}),
    ("GET", "/away", None, {}),
    ("GET", "/stream", None, {}),
    ("GET", "/fail", None, {}),
    ("GET", "/nothing", None, {}),
    ("DELETE", "/page/a", None, {}),
]
# From 127.0.0.1, which both servers trust without being told.
FORWARDED: list[tuple[str, str, bytes | None, dict[str, str]]] = [
    ("GET", "/page/a", None, {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "y"}),
    ("GET", "/page/a", None, {"X-Forwarded-Proto": "http"}),
    ("GET", "/away", None, {"X-Forwarded-Proto": "https"}),
    ("GET", "/page/a", None, {"X-Forwarded-Ssl": "on"}),
    ("GET", "/shop/page/a", None, {"SCRIPT_NAME": "/shop"}),
]
PROJECTS = {"flask": (FLASK, "project"), "proxy fix": (FLASK, "project:fixed"), "django": (DJANGO, "project")}


# Each hook notes its name, and what must be the same for both servers.
HOOKS = """

def note(*words):
    with open("notes", "a") as file:
        file.write(" ".join(map(str, words)) + "\\n")


def on_starting(server):
    note("on_starting", server.address, server.cfg.workers, server.cfg.timeout)


def when_ready(server):
    note("when_ready", server.address)


def pre_fork(server, worker):
    note("pre_fork", worker.nr, worker.wsgi if hasattr(worker, "wsgi") else None)


def post_fork(server, worker):
    import os
    note("post_fork", worker.pid == os.getpid(), worker.ppid == os.getppid() == server.pid, worker.age)


def post_worker_init(worker):
    note("post_worker_init", type(worker.wsgi).__name__, type(worker.app.callable).__name__)


def pre_request(worker, req):
    note("pre_request", req.method, req.path, req.query, req.uri, req.version, sorted(req.headers))


def post_request(worker, req, environ, resp):
    note("post_request", req.path, environ["PATH_INFO"], resp.status, resp.status_code, resp.sent)


def child_exit(server, worker):
    note("child_exit", worker.age)


def worker_exit(server, worker):
    note("worker_exit", worker.age)


def on_exit(server):
    note("on_exit")
"""


@contextmanager
def _running_project(server: str, tmp_path: Path, project: tuple[str, str], configuration: str = "") -> Iterator[Running]:
    """The server with a project, in a folder of its own. `configuration`: more lines of gunicorn.conf.py."""
    code, name = project
    directory = tmp_path / server
    directory.mkdir()
    (directory / "project.py").write_text(code)
    (directory / "gunicorn.conf.py").write_text(CONFIGURATION + configuration)
    with running(server, directory, [name]) as found:
        yield found


@pytest.fixture(params=PROJECTS)
def servers(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Running, Running]]:
    """Both servers with the same project, gunicorn first."""
    with ExitStack() as stack:
        found = []
        for server in (GUNICORN, STARMAN):
            found.append(stack.enter_context(_running_project(server, tmp_path, PROJECTS[request.param])))
        yield found[0], found[1]


def test_pages_and_log_lines_are_the_same(servers: tuple[Running, Running]) -> None:
    theirs, ours = servers
    for method, target, body, fields in [*REQUESTS, *FORWARDED]:
        expected = theirs.request(method, target, body, fields)
        assert ours.request(method, target, body, fields) == expected, (method, target, fields)
    # A thread logs after its response, so the next request may be logged before.
    count = len(REQUESTS) + len(FORWARDED)
    assert wait_until(lambda: len(ours.lines("access.log")) >= count and len(theirs.lines("access.log")) >= count)
    assert sorted(ours.lines("access.log")) == sorted(theirs.lines("access.log"))


def test_hooks_receive_the_same(tmp_path: Path) -> None:
    notes = []
    for server in (GUNICORN, STARMAN):
        with _running_project(server, tmp_path, PROJECTS["flask"], HOOKS) as found:
            for method, target, body, fields in REQUESTS:
                found.request(method, target, body, fields)
        lines = (found.directory / "notes").read_text().splitlines()
        # Of requests one by one, because gunicorn notes when it begins to wait for the next one.
        notes.append(sorted(line for line in lines if "/ready" not in line))
    assert notes[1] == notes[0]
    assert len({line.split()[0] for line in notes[0]}) == 10


def _answers_of_both(tmp_path: Path, configuration: str, targets: list[tuple[str, dict[str, str]]]) -> list[list[Answer]]:
    """The answers to GET of these targets under both servers, gunicorn first, of the Flask project."""
    answers = []
    for server in (GUNICORN, STARMAN):
        with _running_project(server, tmp_path, PROJECTS["flask"], configuration) as found:
            answers.append([found.request("GET", target, None, fields) for target, fields in targets])
    return answers


@pytest.mark.parametrize("line", ['raw_env.append("SCRIPT_NAME=/shop")', 'os.environ["SCRIPT_NAME"] = "/shop"'])
def test_script_name_in_the_environment_is_the_prefix_of_the_application(tmp_path: Path, line: str) -> None:
    stated_by_the_proxy = {"SCRIPT_NAME": "/shop"}
    targets: list[tuple[str, dict[str, str]]] = [
        ("/shop/page/a", {}),
        ("/shop/page/b%20c?x=1", {}),
        ("/shop/page/a", stated_by_the_proxy),
    ]
    theirs, ours = _answers_of_both(tmp_path, f"{line}\n", targets)
    assert ours == theirs
    for status, _, content in ours:
        assert status == 200
        assert b'"SCRIPT_NAME":"/shop"' in content


def test_what_pre_request_changes_reaches_the_application(tmp_path: Path) -> None:
    hook = 'def pre_request(worker, req):\n    req.scheme = "https"\n    req.headers.append(("X-FORWARDED-FOR", "10.0.0.9"))\n'
    theirs, ours = _answers_of_both(tmp_path, hook, [("/page/a", {}), ("/page/a", {"X-Forwarded-For": "10.0.0.8"})])
    assert ours == theirs
    assert b'"scheme":"https"' in ours[0][2]
    assert b"10.0.0.8,10.0.0.9" in ours[1][2]


def test_with_chdir_modules_are_found_there_first_then_in_the_directory_of_the_start(tmp_path: Path) -> None:
    code = (
        "import colour\n\n\ndef application(environ, start):\n    start('200 OK', [])\n    return [colour.NAME, colour.there]\n"
    )
    answers = []
    for server in (GUNICORN, STARMAN):
        directory = tmp_path / server
        (directory / "src").mkdir(parents=True)
        (directory / "src/project.py").write_text(code)
        (directory / "src/colour.py").write_text("from shade import NAME\nthere = b' from src'\n")
        (directory / "colour.py").write_text("NAME = b'wrong'\n")
        (directory / "shade.py").write_text("NAME = b'red'\n")
        with running(server, directory, ["--chdir", "src", "-b", "127.0.0.1:0", "project"]) as found:
            answers.append(found.request("GET", "/")[2])
    assert answers == [b"red from src"] * 2
