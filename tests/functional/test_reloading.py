"""--reload: a save brings new code, a broken file is shown and waits for the fix, and no connection is refused."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.functional.support.harness import REPOSITORY, Process, Server, wait_until
from tests.functional.support.wire import Client

APPLICATION = """\
import time
{before}
BODY = {body!r}.encode()

def app(environ, start_response):
    if environ["PATH_INFO"] == "/events":
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        return events()
    if environ["PATH_INFO"] == "/socket":
        taken = environ["gunicorn.socket"]
        taken.sendall(b"HTTP/1.1 101 Switching Protocols\\r\\n\\r\\n")
        while taken.recv(100):
            pass
        return []
    if environ["PATH_INFO"] == "/lazy":
        import lazy
        body = lazy.NAME.encode()
    else:
        body = BODY
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]

def events():
    while True:
        yield b"data: tick\\n\\n"
        time.sleep(0.05)
"""
ENGINES = ["poll", "watchfiles"]


class Site:
    """An application that a developer edits."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / "app.py"

    def save(self, body: str, before: str = "") -> None:
        """Save the application as an editor does, in place."""
        self.file.write_text(APPLICATION.format(body=body, before=before))

    def serve(self, *arguments: str) -> Server:
        path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        return Server("app:app", "--reload", *arguments, cwd=self.directory, env={"PYTHONPATH": path})


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path)
    site.save("one")
    return site


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    if request.param == "watchfiles" and importlib.util.find_spec("watchfiles") is None:
        pytest.skip("watchfiles is not installed")
    return str(request.param)


def get(server: Server, path: str = "/", **fields: str) -> tuple[int, str]:
    with server.client() as client:
        response = client.get(path, *((name.replace("_", "-"), value) for name, value in fields.items()))
        return response.status, response.body.decode()


def soon(server: Server, status: int, text: str, path: str = "/") -> bool:
    """Whether the server answers so before long."""

    def answers() -> bool:
        found, body = get(server, path)
        return found == status and text in body

    return wait_until(answers, 20.0)


def watching(server: Server) -> Server:
    """Wait until the server watches the files of the first worker, which it reports when it has loaded them."""
    server.wait_for("watching the files of the application")
    return server


@pytest.mark.parametrize("mode", ["--no-preload-app", "--preload-app"])
def test_a_save_brings_new_code(site: Site, engine: str, mode: str) -> None:
    with site.serve("--reload-engine", engine, mode) as server:
        assert f"({'polling' if engine == 'poll' else engine})" in watching(server).log
        assert "1 worker × 4 threads" in server.log  # noqa: RUF001
        assert get(server) == (200, "one")
        # Of the same size, and within the same second: Python would take its cached bytecode for current.
        for body in ("two", "six", "ten"):
            site.save(body)
            assert soon(server, 200, body)
        assert "reloading: app.py" in server.log


def test_once_a_change_is_known_no_old_page_is_served(site: Site, engine: str) -> None:
    with site.serve("--reload-engine", engine) as server:
        watching(server)
        (site.directory / "gate").touch()
        site.save("new", before="import os\nwhile os.path.exists('gate'): time.sleep(0.01)")
        server.wait_for("reloading: app.py")
        with server.client() as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert not select.select([client.socket], [], [], 0.5)[0], "the request waits for the new code"
            (site.directory / "gate").unlink()
            assert client.read().body == b"new"


@pytest.mark.parametrize("mode", ["--no-preload-app", "--preload-app"])
@pytest.mark.parametrize(
    ("broken", "shown"),
    [
        ("def", "SyntaxError: invalid syntax"),
        ("import no_such_module", "No module named &#x27;no_such_module&#x27;"),
        ("raise ValueError('<b>' + 'bold')", "ValueError: &lt;b&gt;bold"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_a_broken_file_is_shown_until_it_is_fixed(site: Site, engine: str, mode: str, broken: str, shown: str) -> None:
    with site.serve("--reload-engine", engine, mode) as server:
        watching(server)
        site.save("two", before=broken)
        assert soon(server, 500, shown)
        server.wait_for(re.escape("waiting for a change of its files"))
        assert re.search(r'File ".*app\.py", line 2', server.log)
        with server.client() as client:
            response = client.get("/")
            assert response.get("Content-Type") == "text/html; charset=utf-8"
            assert response.get("Cache-Control") == "no-store"
            assert "app.py&quot;, line 2" in response.body.decode()
        assert get(server, X_Forwarded_For="192.0.2.7") == (500, "Internal Server Error\n")
        site.save("two")
        assert soon(server, 200, "two")


def test_a_broken_file_at_the_first_start_waits_for_the_fix(site: Site, engine: str) -> None:
    site.save("one", before="import missing")
    with site.serve("--reload-engine", engine) as server:
        watching(server)
        assert soon(server, 500, "No module named &#x27;missing&#x27;")
        (site.directory / "missing.py").write_text("")
        assert soon(server, 200, "one")


def test_a_broken_module_of_hooks_waits_for_the_fix(site: Site, engine: str) -> None:
    """At the first start, and later."""
    module = site.directory / "own_hooks.py"
    good = "from starman import hooks\n@hooks.starting\n@hooks.ready\ndef note():\n    open('notes', 'a').write('hook\\n')\n"
    notes = site.directory / "notes"
    module.write_text(f"{good}import missing\n")
    with site.serve("--reload-engine", engine, "--hooks", "own_hooks.py") as server:
        watching(server)
        server.wait_for("No module named 'missing'; no hooks of the server run until its files change")
        assert soon(server, 500, "No module named &#x27;missing&#x27;")
        assert not notes.exists()
        module.write_text(good)
        assert soon(server, 200, "one")
        assert wait_until(lambda: notes.exists() and notes.read_text().startswith("hook"))
        module.write_text(f"{good}def\n")
        server.wait_for("SyntaxError.*; no hooks of the server run until its files change")
        assert soon(server, 500, "SyntaxError")
        before = notes.read_text()
        module.write_text(good)
        assert soon(server, 200, "one")
        assert wait_until(lambda: len(notes.read_text()) > len(before))


def test_an_application_that_is_missing_may_be_created(site: Site, engine: str) -> None:
    site.file.unlink()
    with site.serve("--reload-engine", engine) as server:
        watching(server)
        assert soon(server, 500, "cannot load")
        site.save("one")
        assert soon(server, 200, "one")


def test_a_process_that_dies_at_the_import_waits_for_the_fix(site: Site) -> None:
    with site.serve() as server:
        watching(server)
        site.save("two", before="import os; os._exit(3)")
        server.wait_for("before it was ready; next attempt in")
        site.save("six")
        assert soon(server, 200, "six")


@pytest.mark.parametrize("mode", ["--no-preload-app", "--preload-app"])
def test_a_change_during_a_slow_import_counts(site: Site, engine: str, mode: str) -> None:
    with site.serve("--reload-engine", engine, mode) as server:
        watching(server)
        site.save("old", before="open('importing', 'w').close(); time.sleep(30)")
        assert wait_until((site.directory / "importing").exists, 20.0)
        site.save("new")
        started = time.monotonic()
        assert get(server) == (200, "new")
        assert time.monotonic() - started < 15, "the slow start was given up"


def test_a_change_during_the_first_import_counts(site: Site, engine: str) -> None:
    slow = "open('importing', 'w').close(); time.sleep(1.5)"
    site.save("old", before=slow)

    def save_again() -> None:
        assert wait_until((site.directory / "importing").exists, 20.0)
        time.sleep(0.3)
        site.save("new")

    editing = threading.Thread(target=save_again)
    editing.start()
    with site.serve("--reload-engine", engine) as server:
        editing.join()
        assert soon(server, 200, "new")


def test_a_burst_of_saves_is_few_reloads(site: Site, engine: str) -> None:
    modules = [site.directory / f"part{number}.py" for number in range(20)]
    for module in modules:
        module.write_text("")
    imports = "import " + ", ".join(module.stem for module in modules)
    site.save("one", before=imports)
    with site.serve("--reload-engine", engine) as server:
        watching(server)
        assert get(server) == (200, "one")
        time.sleep(0.5)  # until the files are reported
        for module in modules:
            module.write_text("VALUE = 1")
            time.sleep(0.01)
        site.save("two", before=imports)
        assert soon(server, 200, "two")
        server.wait_for(r"reloading: .* and \d+ more")
        assert len(re.findall("reloading:", server.log)) <= 7, "of 21 saves; some, because the machine may be busy"


def test_a_module_that_a_request_has_imported_is_watched(site: Site, engine: str) -> None:
    lazy = site.directory / "lazy.py"
    lazy.write_text("NAME = 'early'")
    with site.serve("--reload-engine", engine) as server:
        watching(server)
        assert get(server, "/lazy") == (200, "early")
        time.sleep(1.0)  # a worker looks for new modules twice a second
        lazy.write_text("NAME = 'late!'")
        assert soon(server, 200, "late!", "/lazy")


def test_extra_files_and_globs(site: Site, engine: str) -> None:
    templates = site.directory / "templates" / "shop"
    templates.mkdir(parents=True)
    (templates / "page.html").write_text("a")
    (site.directory / "notes.txt").write_text("a")
    globs = ["--reload-extra-files", "templates/**/*.html", "--reload-extra-files", "*.cfg"]
    with site.serve("--reload-engine", engine, *globs) as server:
        watching(server)
        (site.directory / "notes.txt").write_text("b")
        (templates / "page.html").write_text("b")
        server.wait_for("reloading: templates/shop/page.html")
        (templates / "new.html").write_text("b")
        server.wait_for("reloading: templates/shop/new.html")
        (site.directory / "site.cfg").write_text("b")
        server.wait_for("reloading: site.cfg")
        assert "notes.txt" not in server.log
        assert soon(server, 200, "one")


@pytest.mark.parametrize("path", ["/events", "/socket"])
def test_a_stream_or_socket_of_the_old_code_is_cut_within_a_second(site: Site, engine: str, path: str) -> None:
    with site.serve("--reload-engine", engine) as server:
        watching(server)
        with server.client() as client:
            upgrade = b"Connection: Upgrade\r\nUpgrade: raw\r\n" if path == "/socket" else b""
            client.send(b"GET %s HTTP/1.1\r\nHost: a\r\n%s\r\n" % (path.encode(), upgrade))
            assert client.read_head().status in (101, 200)
            site.save("two")
            saved = time.monotonic()
            assert soon(server, 200, "two"), "new code does not wait for the stream"
            read_to_the_end(client)
            assert time.monotonic() - saved < 15, "noticed, and then within a second; graceful_timeout would be 30 s"


def read_to_the_end(client: Client) -> None:
    with contextlib.suppress(ConnectionResetError):
        client.read_to_end()


def test_no_connection_is_refused(site: Site) -> None:
    refused: list[OSError] = []
    stop = threading.Event()

    def connect(address: tuple[str, int]) -> None:
        while not stop.is_set():
            try:
                socket.create_connection(address, 30).close()
            except OSError as error:
                refused.append(error)
            time.sleep(0.001)

    with site.serve() as server:
        watching(server)
        host, port = server.address[:2]
        connecting = threading.Thread(target=connect, args=((host, port),))
        connecting.start()
        try:
            for body in ("two", "six", "ten"):
                site.save(body)
                assert soon(server, 200, body)
        finally:
            stop.set()
            connecting.join()
    assert refused == []


def test_signals_work_as_without_reload(site: Site) -> None:
    with site.serve() as server:
        watching(server)
        server.signal(signal.SIGTTIN)
        server.wait_for("one worker more: 2")
        server.signal(signal.SIGHUP)
        server.wait_for("restarted: 2 workers are new")
        server.signal(signal.SIGUSR2)
        server.wait_for("has taken over and replaces")
        server.wait_for("restarted: 2 workers are new", count=2)
        server.wait_for("watching the files of the application", count=2)
        site.save("two")
        assert soon(server, 200, "two")


def test_a_watcher_that_dies_is_replaced(site: Site) -> None:
    with site.serve() as server:
        watching(server)
        found = server.wait_for(r"\[(\d+)\] \[INFO\] watching the files")
        os.kill(int(found[1]), signal.SIGKILL)
        server.wait_for("the process that watches files was killed by SIGKILL")
        server.wait_for("watching the files of the application", count=2)
        site.save("two")
        assert soon(server, 200, "two")


def test_nothing_is_left_behind(site: Site) -> None:
    with site.serve() as server:
        watching(server)
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert wait_until(lambda: not server.session_pids(), 10.0)


def run_python(site: Site, code: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=site.directory, env=env, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_callable_cannot_be_reloaded(site: Site) -> None:
    done = run_python(site, "import starman, app; starman.run(app.app, reload=True, listen='127.0.0.1:0')")
    assert "SettingError: run(reload=...): a callable is loaded already" in done.stderr
    assert '"module:app"' in done.stderr
    done = run_python(site, "import asyncio, starman; asyncio.run(starman.serve('app:app', reload=True, listen='127.0.0.1:0'))")
    assert "SettingError: run(reload=...): serve runs inside the process of its caller" in done.stderr


def test_run_with_a_name_reloads_and_names_what_it_cannot_reload(site: Site) -> None:
    (site.directory / "early.py").write_text("")
    program = site.directory / "program.py"
    program.write_text("import early, starman\nstarman.run('app:app', reload=True, listen='127.0.0.1:0')")
    server = Process([sys.executable, str(program)], site.directory, {"PYTHONPATH": str(REPOSITORY)})
    try:
        port = int(server.wait_for(r"ready: .*127\.0\.0\.1:(\d+)")[1])
        server.wait_for("watching the files of the application")
        assert "the calling program has imported these modules, which stay as they are: early" in server.log
        site.save("two")

        def new() -> bool:
            with Client(("127.0.0.1", port)) as client:
                return client.get("/").body == b"two"

        assert wait_until(new, 20.0)
        assert server.stop() == 0
    finally:
        server.kill()


def test_an_engine_that_is_not_installed_is_an_error(site: Site) -> None:
    # A directory without a loader in front hides the package.
    code = (
        "import importlib.util, sys; from starman.cli import main; found = importlib.util.find_spec;"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'watchfiles' else found(name, *rest);"
        "sys.exit(main(['--reload', '--reload-engine', 'watchfiles', '-l', '127.0.0.1:0', 'app:app']))"
    )
    done = run_python(site, code)
    assert done.returncode == 2
    assert "--reload-engine: the package watchfiles is not installed: pip install watchfiles" in done.stderr
