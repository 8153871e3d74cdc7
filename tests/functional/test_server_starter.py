"""Under the real start_server: deploys that lose nothing, and every way in which it passes sockets."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.functional.support.certificates import Pair, TlsClient, trusting
from tests.functional.support.commands import starman
from tests.functional.support.harness import Process, environment, free_ports
from tests.functional.support.load import Load
from tests.functional.support.tools import find_tool
from tests.functional.support.wire import Client

APPLICATION = """\
import os

def app(environ, start_response):
    body = {version!r} if environ["PATH_INFO"] == "/" else str(sorted(name for name in os.environ if name in {names!r}))
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body.encode()]
"""
NAMES = ("SERVER_STARTER_PORT", "SERVER_STARTER_GENERATION")


class Site:
    """An application, and start_server running starman with it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.socket = str(directory / "site.sock")
        self.write("one")

    def write(self, version: str, more: str = "") -> None:
        """Have the application answer `version`; `more` stands at the end of its module."""
        (self.directory / "site_app.py").write_text(APPLICATION.format(version=version, names=NAMES) + more)

    def start(self, options: list[str], arguments: list[str], ready: bool = True) -> Process:
        """Run start_server with `options`, and starman with `arguments`. Returns when its workers serve."""
        server = [sys.executable, "-W", "error", "-m", "starman", "site_app:app", "--workers", "2", *arguments]
        command = [find_tool("start_server"), *options, "--", *server]
        started = Process(command, cwd=self.directory, env={"PYTHONDONTWRITEBYTECODE": "1"})
        if ready:
            try:
                started.wait_for("ready: ", 30)
            except AssertionError:
                started.kill()
                raise
        return started


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def ending() -> Iterator[Callable[[Process], Process]]:
    """Ends the processes that it was given, whatever has become of the test."""
    with ExitStack() as stack:

        def end(process: Process) -> Process:
            stack.callback(process.kill)
            return process

        yield end


def body(client: Client, target: str = "/") -> str:
    with client:
        return client.get(target).body.decode()


def deploy(server: Process, count: int) -> None:
    """HUP start_server, and wait until the old generation has ended; `count`: how many have ended by then."""
    server.signal(signal.SIGHUP)
    server.wait_for(r"old worker \d+ died, status:0\n", 60, count)


@pytest.mark.parametrize(("signum", "times"), [("TERM", 10), ("QUIT", 10)])
def test_hup_under_load_loses_nothing(site: Site, ending: Callable[[Process], Process], signum: str, times: int) -> None:
    pair = Pair(site.directory, "localhost")
    plain, tls = free_ports(2)
    options = [f"--port=127.0.0.1:{plain}", f"--port=127.0.0.1:{tls}", f"--path={site.socket}", f"--signal-on-hup={signum}"]
    # The address says which of the inherited sockets speaks TLS.
    server = ending(site.start(options, ["--listen", f"127.0.0.1:{tls}:ssl", *pair.arguments]))
    server.wait_for(rf"ready: .* on http://127.0.0.1:{plain}, https://127.0.0.1:{tls}, unix:{re.escape(site.socket)}\n")
    context = trusting(pair)
    connects: list[Callable[[], Client]] = [
        lambda: Client(("127.0.0.1", plain)),
        lambda: TlsClient(tls, pair, context=context),
        lambda: Client(site.socket),
    ]
    with ExitStack() as stack:
        loads = [stack.enter_context(Load(connect, kept=2, fresh=2)) for connect in connects]
        for generation in range(1, times + 1):
            site.write(f"generation {generation}")
            deploy(server, generation)
            for load in loads:
                load.wait_for_turns()
    assert [load.failures for load in loads] == [[], [], []], server.log
    last = f"generation {times}".encode()
    assert all(last in load.answers for load in loads)
    server.wait_for(rf"sockets of start_server, generation {times + 1}: http://127.0.0.1:{plain}, ")
    assert server.stop(signal.SIGTERM) == 0
    assert "WARNING" not in server.log
    assert "ERROR" not in server.log


def test_a_broken_generation_leaves_the_old_one_serving(site: Site, ending: Callable[[Process], Process]) -> None:
    # That a generation has lived for so long is all that start_server asks of it: it must be longer than the start
    # takes.
    server = ending(site.start(["--interval=12", f"--path={site.socket}"], []))
    site.write("two", "raise RuntimeError('the reason')\n")
    with Load(lambda: Client(site.socket)) as load:
        server.signal(signal.SIGHUP)
        server.wait_for("RuntimeError: the reason", 30)
        server.wait_for("seems to have failed to start", 30)
        load.wait_for_turns()
        assert set(load.answers) == {b"one"}
        site.write("two")
        server.wait_for(r"old worker \d+ died, status:0", 60)
        load.wait_for_turns()
    assert load.failures == []
    assert set(load.answers) == {b"one", b"two"}
    assert server.stop(signal.SIGTERM) == 0


def test_a_unix_socket_is_start_servers_to_remove(site: Site, ending: Callable[[Process], Process]) -> None:
    server = ending(site.start([f"--path={site.socket}"], []))
    deploy(server, 1)
    assert body(Client(site.socket)) == "one"
    assert server.stop(signal.SIGTERM) == 0
    assert not os.path.exists(site.socket)


@pytest.mark.parametrize("form", ["{port}", "127.0.0.1:{port}", "localhost:{port}", "[::1]:{port}", "{port}=9"])
def test_ports_in_every_form(site: Site, ending: Callable[[Process], Process], form: str) -> None:
    (port,) = free_ports()
    server = ending(site.start([f"--port={form.format(port=port)}"], []))
    with Client(("::1" if "::1" in form else "127.0.0.1", port)) as client:
        assert client.get("/").body == b"one"
    assert server.stop(signal.SIGTERM) == 0


def test_without_a_port_it_listens_by_itself(site: Site, ending: Callable[[Process], Process]) -> None:
    server = ending(site.start([], ["--listen", site.socket]))
    server.wait_for(r"\[WARNING\] start_server has opened no socket, so a HUP cannot work: give start_server --port or --path\n")
    assert body(Client(site.socket)) == "one"
    assert server.stop(signal.SIGTERM) == 0
    assert not os.path.exists(site.socket)


def test_what_programs_of_the_application_see(site: Site, ending: Callable[[Process], Process]) -> None:
    server = ending(site.start([f"--path={site.socket}"], []))
    assert body(Client(site.socket), "/names") == "['SERVER_STARTER_GENERATION']"
    assert server.stop(signal.SIGTERM) == 0


@pytest.mark.parametrize("written", ["{port}", "127.0.0.1:{port}", "localhost:{port}"])
def test_listen_may_name_what_was_passed(site: Site, written: str) -> None:
    with socket.create_server(("0.0.0.0" if written == "{port}" else "127.0.0.1", 0)) as passed:
        done = refused(site, passed, "--listen", written.format(port=passed.getsockname()[1]))
    assert "not among the sockets" not in done.stderr, done.stderr
    assert "No module named 'nowhere'" in done.stderr, done.stderr


def test_listen_elsewhere_is_refused(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as passed:
        place = f"127.0.0.1:{passed.getsockname()[1]}"
        done = refused(site, passed, "--listen", "127.0.0.1:5999")
    assert done.returncode == 2
    assert done.stderr == f"starman: --listen: 127.0.0.1:5999 is not among the sockets that start_server has opened ({place})\n"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--daemonize"], "starman: --daemonize: start_server would start another server at once: use its own --daemonize\n"),
        (
            ["--pid", "x.pid"],
            "starman: --pid: two generations of the server cannot share a pid file: use start_server's own --pid-file\n",
        ),
    ],
)
def test_what_cannot_be_under_start_server(site: Site, arguments: list[str], reason: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as passed:
        done = refused(site, passed, *arguments)
    assert (done.returncode, done.stderr) == (2, reason)


def test_a_descriptor_that_is_none(site: Site) -> None:
    done = starman("site_app:app", cwd=site.directory, env={"SERVER_STARTER_PORT": "5000=99"})
    assert (done.returncode, done.stderr) == (1, "starman: cannot listen on fd://99: no such descriptor was inherited\n")
    done = starman("site_app:app", cwd=site.directory, env={"SERVER_STARTER_PORT": "5000"})
    assert (done.returncode, done.stderr) == (2, "starman: SERVER_STARTER_PORT: '5000' is not ADDRESS=DESCRIPTOR\n")


def refused(site: Site, passed: socket.socket, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The end of a server that fails to start, at the latest at its application, with `passed` as start_server's
    socket."""
    fd = passed.fileno()
    return subprocess.run(
        [sys.executable, "-m", "starman", "nowhere:app", *arguments],
        cwd=site.directory,
        env=environment({"SERVER_STARTER_PORT": f"{passed.getsockname()[1]}={fd}", "SERVER_STARTER_GENERATION": "1"}),
        pass_fds=[fd],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
