"""Starts: what can be named, where the server listens, and that a failing start logs the reason once and exits."""

from __future__ import annotations

import signal
import socket
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.functional.support.code import HELLO
from tests.functional.support.commands import starman
from tests.functional.support.harness import REPOSITORY, Process, Server, free_ports
from tests.functional.support.wire import Client


def body_of(server: Server, target: str = "/") -> bytes:
    with server.client() as client:
        return client.get(target).body


# What can be named


@pytest.mark.parametrize(
    ("file", "arguments"),
    [
        ("app.py", []),
        ("wsgi.py", []),
        ("shop.py", ["shop"]),
        ("shop.py", ["shop:app"]),
        ("shop.py", ["shop.py"]),
        ("inner/shop.py", ["inner/shop.py:app"]),
        ("inner/shop.py", ["inner.shop:app"]),
        ("inner/shop.py", ["-I", "inner", "shop:app"]),
    ],
)
def test_applications_are_found(tmp_path: Path, file: str, arguments: Sequence[str]) -> None:
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(HELLO % file)
    with Server(None, "--workers", "1", *arguments, cwd=tmp_path) as server:
        assert body_of(server) == f"from {file}".encode()


def test_a_factory_and_an_expression(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        "def make_app(name, *, mark='.'):\n    def app(environ, start_response):\n        start_response('200 OK', [])\n"
        "        return [(name + mark).encode()]\n    return app\n"
    )
    with Server("shop:make_app('live', mark='!')", "--workers", "1", cwd=tmp_path) as server:
        assert body_of(server) == b"live!"
    with Server(None, "--workers", "1", "-M", "shop", "-e", "shop.make_app('inline')", cwd=tmp_path) as server:
        assert body_of(server) == b"inline."


def test_settings_come_from_every_place(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(HELLO % "app.py")
    (tmp_path / "starman.toml").write_text("workers = 1\nthreads = 7\n")
    with Server(None, "--threads", "2", cwd=tmp_path, env={"STARMAN_WORKERS": "3", "STARMAN_THREADS": "5"}) as server:
        assert (server.workers, server.threads) == (3, 2)


def test_variables_of_a_platform_replace_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(HELLO % "app.py")
    (port,) = free_ports(1)
    platform = {"PORT": str(port), "WEB_CONCURRENCY": "3"}
    with Server(None, cwd=tmp_path, env=platform, listen=()) as server:
        assert server.workers == 3
        assert f"on http://0.0.0.0:{port}" in server.log
    with Server(None, "--workers", "1", cwd=tmp_path, env=platform) as server:
        assert server.workers == 1


# What fails


def test_an_application_that_is_not_there(tmp_path: Path) -> None:
    done = starman("nowhere:app", "--workers", "1", "--listen", "127.0.0.1:0", cwd=tmp_path)
    assert done.returncode not in (0, None)
    assert "nowhere" in done.stderr
    assert f"{REPOSITORY / 'starman'}/" not in done.stderr  # no frames of the server


def test_an_application_that_is_broken(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import sys\n\nraise RuntimeError('the reason')\n")
    for more in ([], ["--preload-app"]):
        done = starman("broken:app", "--workers", "2", "--listen", "127.0.0.1:0", *more, cwd=tmp_path)
        assert done.returncode > 0
        assert "RuntimeError: the reason" in done.stderr
        assert "broken.py" in done.stderr
        assert "ready" not in done.stderr
        assert done.stderr.count("RuntimeError: the reason") <= 10, done.stderr


def test_check_reports_without_serving(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(HELLO % "app.py")
    assert starman("--check", cwd=tmp_path).returncode == 0
    assert starman("--check", "app:nothing", cwd=tmp_path).returncode != 0
    assert starman("--check", "--workers", "many", cwd=tmp_path).returncode == 2


@pytest.mark.parametrize("more", [["--check"], ["--listen", "127.0.0.1:0"], ["--listen", "127.0.0.1:0", "--preload-app"]])
def test_a_factory_without_parentheses_is_recognised(tmp_path: Path, more: list[str]) -> None:
    """Called with (environ, start_response), each request would be a 500."""
    (tmp_path / "shop.py").write_text("def create_app(config=None):\n    return lambda environ, start_response: []\n")
    done = starman("shop:create_app", *more, cwd=tmp_path)
    assert done.returncode == 1
    assert "cannot load 'shop:create_app': it cannot be called with (environ, start_response)" in done.stderr
    assert done.stderr.endswith("; did you mean shop:create_app()?\n")


@pytest.mark.parametrize("more", [["--check"], ["--listen", "127.0.0.1:0"], ["--listen", "127.0.0.1:0", "--preload-app"]])
def test_an_application_that_gevent_has_patched_is_refused_by_name(tmp_path: Path, more: list[str]) -> None:
    (tmp_path / "app.py").write_text(f"from gevent import monkey\nmonkey.patch_all()\n{HELLO % 'app.py'}")
    done = starman("app:app", *more, cwd=tmp_path)
    assert done.returncode == 1
    assert "cannot load 'app:app': gevent has monkey-patched this process (" in done.stderr
    assert done.stderr.endswith("so leave gevent's monkey-patching out\n")


def test_variables_of_a_kubernetes_service_are_ignored_and_mentioned_once(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(HELLO % "app.py")
    links: dict[str, str | None] = {
        "STARMAN_PORT": "tcp://10.0.0.1:80",
        "STARMAN_SERVICE_HOST": "10.0.0.1",
        "STARMAN_SERVICE_PORT": "80",
        "STARMAN_PORT_80_TCP": "tcp://10.0.0.1:80",
    }
    line = (
        "ignored, because they describe a Kubernetes Service: STARMAN_PORT, STARMAN_PORT_80_TCP, STARMAN_SERVICE_HOST and 1 more"
    )
    with Server(None, "--workers", "2", cwd=tmp_path, env=links) as server:
        assert body_of(server) == b"from app.py"
        server.signal(signal.SIGHUP)
        server.wait_for("2 workers are new")
    assert server.log.count(line) == 1
    done = starman("--check", "--listen", "127.0.0.1:0", cwd=tmp_path, env=links)
    assert (done.returncode, done.stderr.count(line)) == (0, 1)


def test_unknown_names_are_errors_with_the_nearest_one(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(HELLO % "app.py")
    option = starman("--worker", "2", cwd=tmp_path)
    variable = starman(cwd=tmp_path, env={"STARMAN_WORKER": "2"})
    (tmp_path / "starman.toml").write_text("worker = 2\n")
    key = starman(cwd=tmp_path)
    for done, nearest in ((option, "--workers"), (variable, "STARMAN_WORKERS"), (key, "workers")):
        assert done.returncode == 2
        assert nearest in done.stderr
        assert done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["stauts"], "status"),
        (["relaod"], "reload"),
        (["gunicron", "-w", "3"], "gunicorn"),
        (["nothing"], None),
        (["top:app"], None),
    ],
)
def test_a_misspelt_command_is_answered_with_the_command(tmp_path: Path, arguments: list[str], meant: str | None) -> None:
    done = starman(*arguments, cwd=tmp_path, env={"STARMAN_LISTEN": "127.0.0.1:0"})
    assert done.returncode != 0
    hint = [line for line in done.stderr.splitlines() if "did you mean the command" in line]
    assert hint == ([] if meant is None else [f"starman: did you mean the command starman-uv {meant}?"])


def test_a_port_in_use_is_one_line_and_a_status(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(HELLO % "app.py")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = starman("--listen", f"127.0.0.1:{taken.getsockname()[1]}", cwd=tmp_path)
    assert done.returncode > 0
    assert done.stderr.count("\n") == 1, done.stderr
    assert str(taken) not in done.stderr


# UNIX sockets


def test_a_stale_socket_is_replaced_and_a_live_one_refused(tmp_path: Path) -> None:
    path = tmp_path / "server.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with Server("examples/hello.py", "--workers", "1", listen=str(path)) as server:
        assert body_of(server) == b"Hello from starman\n"
        (tmp_path / "app.py").write_text(HELLO % "app.py")
        done = starman("--listen", str(path), cwd=tmp_path)
        assert done.returncode > 0
        assert str(path) in done.stderr
        assert body_of(server) == b"Hello from starman\n"
    assert not path.exists()


def test_a_file_in_the_way_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(HELLO % "app.py")
    (tmp_path / "server.sock").write_text("precious")
    assert starman("--listen", str(tmp_path / "server.sock"), cwd=tmp_path).returncode > 0
    assert (tmp_path / "server.sock").read_text() == "precious"


def test_socket_mode(tmp_path: Path) -> None:
    path = tmp_path / "server.sock"
    with Server("examples/hello.py", "--workers", "1", "--socket-mode", "0600", listen=str(path)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.skipif(sys.platform != "linux", reason="abstract sockets are Linux's")
def test_an_abstract_socket(tmp_path: Path) -> None:
    name = f"starman-test-{tmp_path.name}-{tmp_path.stat().st_ino}"
    with Server("examples/hello.py", "--workers", "1", listen=f"@{name}"), Client(f"\0{name}") as client:
        assert client.get("/").status == 200


def test_an_inherited_descriptor(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        descriptor = listener.fileno()
        command = [sys.executable, "-m", "starman", "examples/hello.py", "--workers", "1", "--listen", f"fd://{descriptor}"]
        process = Process(command, pass_fds=(descriptor,))
        try:
            process.wait_for("ready: ", 30)
            with Client(("127.0.0.1", listener.getsockname()[1])) as client:
                assert client.get("/").status == 200
            assert process.stop() == 0
        finally:
            process.kill()
