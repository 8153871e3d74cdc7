"""Applications that fork: nothing of the server runs in the children, and descriptors in the children keep nothing
open."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.functional.support.certificates import Pair, TlsClient
from tests.functional.support.commands import run
from tests.functional.support.harness import Process, Server, wait_until
from tests.functional.support.wire import Client, encode_request, refuses

APPLICATION = "tests.functional.support.parenting:app"
# With threads, and with the loop itself as the thread that forks.
MODES = [("--threads", "2"), ("--threads", "0")]


class Site:
    """A server of the application, and the files that its children leave."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.stay = directory / "stay"
        self.stay.touch()

    def start(
        self, *arguments: str, listen: str = "127.0.0.1:0", workers: str = "1", app: str = APPLICATION, **env: str
    ) -> Server:
        """Warnings are none of these tests' matter: Python 3.12 and later warn of each fork beside threads."""
        env["FORKS_DIRECTORY"] = str(self.directory)
        return Server(app, "--workers", workers, *arguments, listen=listen, env=env, warnings="ignore")

    def noted(self, name: str) -> str:
        """What a child has noted under that name, once it has; it is forgotten then."""
        path = self.directory / name
        assert wait_until(path.exists, 20), f"no child has noted {name}"
        text = path.read_text()
        path.unlink()
        return text


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.stay.unlink(missing_ok=True)


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def end(pid: int) -> None:
    """Kill a child that a test has left."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("mode", MODES)
def test_a_child_answers_no_client(site: Site, mode: Sequence[str]) -> None:
    """Exactly one response a request, and the next request of the connection has its own, however the child ends."""
    with site.start(*mode) as server, server.client() as client:
        worker = client.get("/pid").body
        for path, answer in [
            ("exit", b"/exit 7"),
            ("return", b"/return 0"),
            ("raise", b"/raise 1"),
            ("write", b"0"),
            ("stream", b"first,0"),
            ("end-stream", b"whole"),
            ("terminal", b"/terminal terminal 4"),
            ("process", b"/process hello -15"),
            ("pool", b"/pool 6"),
        ]:
            assert client.get(f"/{path}").body == answer
            assert client.get("/pid").body == worker
        assert site.noted("ended") == "0"
    assert server.log.count("a word of the child") == 1  # what stood in its buffers is written
    failed = server.log.partition("a process that the application forked ends, because its call failed")[2]
    assert "LookupError: in the child" in failed
    assert server.log.count("[ERROR]") == 1


@pytest.mark.parametrize("mode", MODES)
def test_pipelined_requests_are_the_parents(site: Site, mode: Sequence[str]) -> None:
    """What waits behind the request that forks is not answered by the child as well."""
    with site.start(*mode) as server, server.client() as client:
        client.send(b"".join(encode_request("GET", path) for path in ("/return", "/pid", "/exit", "/pid")))
        bodies = [client.read().body for _ in range(4)]
        assert bodies[0] == b"/return 0"
        assert bodies[2] == b"/exit 7"
        assert bodies[1] == bodies[3] == client.get("/pid").body


def test_a_child_answers_no_client_on_tls(site: Site, tmp_path: Path) -> None:
    pair = Pair(tmp_path, "localhost")
    with (
        site.start(*pair.arguments, "--threads", "2", listen="127.0.0.1:0:ssl") as server,
        TlsClient(server.port, pair) as client,
    ):
        worker = client.get("/pid").body
        for path, answer in [("exit", b"/exit 7"), ("return", b"/return 0"), ("stream", b"first,0")]:
            assert client.get(f"/{path}").body == answer
            assert client.get("/pid").body == worker


def test_a_child_cannot_wait_for_the_rest_of_a_body(site: Site) -> None:
    """With --stream-body the loop feeds the body: in the child there is none, so a read is an error. The parent reads
    on."""
    with site.start("--threads", "2", "--stream-body") as server, server.client() as client:
        client.send(b"POST /read HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nab")
        assert site.noted("read") == "5"
        client.send(b"cd")
        assert client.read().body == b"/read 5 abcd"


@pytest.mark.parametrize("mode", [*MODES, ("--preload-app",)])
def test_a_signal_to_a_child_is_the_childs(site: Site, mode: Sequence[str]) -> None:
    """TERM ends the child, as multiprocessing and any script expect, and the worker goes on."""
    with site.start(*mode) as server, server.client() as client, server.client() as other:
        worker = client.get("/pid").body
        for signum in (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            client.send(encode_request("GET", "/signal"))
            os.kill(int(site.noted("child")), signum)
            assert client.read().body == b"/signal %d" % -signum
        assert client.get("/pid").body == worker
        if "0" not in mode:
            assert other.get("/pid").body == worker
    assert "is replaced" not in server.log
    assert "draining" not in server.log


@pytest.mark.parametrize("mode", [*MODES, ("--preload-app", "--access-log")])
def test_a_child_has_no_socket_of_the_server(site: Site, tmp_path: Path, mode: Sequence[str]) -> None:
    """Of its descriptors no socket leads anywhere but to the process itself, and no file but the streams that it was
    given."""
    arguments = [*mode, str(tmp_path / "access.log")] if mode[-1] == "--access-log" else list(mode)
    with site.start(*arguments) as server, server.client() as idle, server.client() as client:
        idle.get("/pid")
        worker = int(client.get("/pid").body.split()[1])
        named = socket_inodes(server.port)
        assert len(named & sockets_of(worker)) >= 3  # a listener and two connections
        child = int(client.get("/live-on").body.split()[1])
        site.noted("child")
        assert not named & sockets_of(child)
        assert str(tmp_path / "access.log") not in links_of(child)
        assert "anon_inode:[eventpoll]" not in links_of(child)
        channel = links_of(worker) - links_of(child)
        assert len([link for link in channel if link.startswith("socket:")]) >= len(named & sockets_of(worker)) + 1
        site.stay.unlink()
        assert wait_until(lambda: not alive(child), 20)


def links_of(pid: int) -> set[str]:
    """What the descriptors of a process lead to, above the standard streams."""
    found = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            if int(fd) > 2:
                found.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return found


def sockets_of(pid: int) -> set[str]:
    return {link.strip("socket:[]") for link in links_of(pid) if link.startswith("socket:")}


def socket_inodes(port: int) -> set[str]:
    """The kernel's numbers of the TCP sockets that are bound to a port of this machine."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return {fields[9] for fields in map(str.split, lines) if int(fields[1].partition(":")[2], 16) == port}


@pytest.mark.parametrize("env", [{"FORKS_POOL": "in a request"}, {"FORKS_POOL": "at import"}])
@pytest.mark.parametrize("mode", [(), ("--preload-app",)])
def test_a_process_pool_ends_with_its_worker(site: Site, mode: Sequence[str], env: dict[str, str]) -> None:
    """The pool of a module: across HUP, and when the server ends, after which another starts on the same port at
    once."""
    # Of a mold that has started its pool, no worker can use it.
    path = "pid" if mode and env["FORKS_POOL"] == "at import" else "executor"
    with site.start(*mode, **env) as server:
        with server.client() as client:
            client.get(f"/{path}")
        before = set(server.session_pids())
        server.signal(signal.SIGHUP)
        server.wait_for(r"restarted: 1 worker is new", 30)
        with server.client() as client:
            client.get(f"/{path}")
        assert wait_until(lambda: set(server.session_pids()) & before <= {server.pid, *molds(server)}, 20), server.log
        assert len(server.session_pids()) <= len(before)
        port = server.port
    assert server.session_pids() == []
    with site.start(*mode, listen=f"127.0.0.1:{port}", **env) as again, again.client() as client:
        assert client.get("/pid").status == 200
    for log in (server.log, again.log):
        assert "exit functions" not in log
        assert "[ERROR]" not in log


def molds(server: Server) -> list[int]:
    found = []
    for pid in server.session_pids():
        with contextlib.suppress(FileNotFoundError):
            if b"starman mold" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def test_a_child_that_lives_on_keeps_nothing_of_the_server(site: Site) -> None:
    """A daemon that a request has started: idle connections close, the server ends, its port is free, and the daemon
    goes on."""
    with site.start() as server, server.client() as idle, server.client() as client:
        idle.get("/pid")
        assert client.get("/daemon").body == b"/daemon 0"
        daemon = int(site.noted("child"))
        try:
            server.signal(signal.SIGQUIT)
            assert idle.at_end()
            assert client.at_end()
            assert server.wait() == 0
            assert refuses(server.port)
            assert alive(daemon)
            with site.start(listen=f"127.0.0.1:{server.port}"):
                assert alive(daemon)
            site.stay.unlink()
            site.noted("done")
            assert wait_until(lambda: not alive(daemon), 20)
        finally:
            end(daemon)


def test_a_connection_ends_although_another_process_has_it(site: Site) -> None:
    """A fork that Python does not notice: no hook closes what the child has, so the server shuts down what it
    closes."""
    with site.start() as server, server.client() as idle, server.client() as half_closed, server.client() as client:
        idle.get("/pid")
        half_closed.get("/pid")
        client.get("/exit")
        client.get("/c")
        child = int(site.noted("child"))
        try:
            half_closed.socket.shutdown(socket.SHUT_WR)
            assert half_closed.at_end()
            server.signal(signal.SIGHUP)
            server.wait_for("restarted: 1 worker is new", 30)
            assert idle.at_end()
        finally:
            end(child)


def test_a_worker_waits_for_its_pools_no_longer_than_it_may(site: Site) -> None:
    """A process of multiprocessing that does not end: multiprocessing would wait for it for ever, at exit."""
    with site.start("--graceful-timeout", "2") as server, server.client() as client:
        assert client.get("/at-exit").body == b"/at-exit started"
        server.signal(signal.SIGQUIT)
        assert server.wait(20) == 0
        warned = server.wait_for(
            r"the exit functions of the application have taken (\d\.\d) s, and are cut short; these processes live on: (.*)"
        )
        assert 1.0 <= float(warned[1]) <= 2.0
        child = int(re.findall(r"\((\d+)\)", warned[2])[0])
        assert alive(child)
        assert "_exit_function" in server.log.partition(warned[0])[2]
        site.stay.unlink()
        assert wait_until(lambda: not alive(child), 20)
    assert "did not end in time" not in server.log


@pytest.mark.parametrize("mode", [(), ("--preload-app",)])
def test_a_module_may_fork(site: Site, mode: Sequence[str]) -> None:
    """Its child does not become a second worker, and its sys.exit is no failed start."""
    with site.start(*mode, FORKS_AT_IMPORT="1") as server, server.client() as client:
        worker = int(client.get("/pid").body.split()[1])
        assert server.worker_pids() == [worker]
        assert wait_until(lambda: set(server.session_pids()) == {server.pid, worker, *molds(server)}, 20)
    assert "cannot load" not in server.log


def test_a_connection_that_the_application_has_taken_over_is_its_childs_as_well(site: Site) -> None:
    with site.start("--threads", "2") as server, server.client() as client:
        client.send(encode_request("GET", "/socket", [("Connection", "Upgrade"), ("Upgrade", "words")]))
        assert client.read_to_end() == b"parent,child,0"


EMBEDDED = """
import asyncio, sys
import uvloop
import starman
from tests.functional.support.parenting import app

async def main():
    await starman.serve(app, listen="127.0.0.1:0", threads=2)

sys.exit((uvloop.run if sys.argv[1] == "uvloop" else asyncio.run)(main()))
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_child_of_an_embedded_server_answers_no_client(site: Site, loop: str) -> None:
    """`serve` in a loop of the caller's: the same, and the caller's signals stay as they are."""
    command = [sys.executable, "-W", "ignore", "-c", EMBEDDED, loop]
    server = Process(command, env={"FORKS_DIRECTORY": str(site.directory)})
    try:
        port = int(server.wait_for(r"ready: .*:(\d+)", 30)[1])
        with Client(("127.0.0.1", port)) as client, Client(("127.0.0.1", port)) as idle:
            idle.get("/pid")
            for path, answer in [("exit", b"/exit 7"), ("return", b"/return 0"), ("stream", b"first,0"), ("pool", b"/pool 6")]:
                assert client.get(f"/{path}").body == answer
                assert client.get("/pid").body == b"/pid %d" % server.pid
            child = int(client.get("/live-on").body.split()[1])
            site.noted("child")
            assert not socket_inodes(port) & sockets_of(child)
        server.signal(signal.SIGTERM)
        assert server.wait() == -signal.SIGTERM
        assert refuses(port)
        assert alive(child)
    finally:
        site.stay.unlink()
        server.kill()


@pytest.mark.parametrize("variable", [{"FORKS_POOL": "at import"}, {"FORKS_AT_IMPORT": "1"}])
def test_a_check_leaves_no_process(site: Site, variable: dict[str, str]) -> None:
    """It reports once, and its output ends, for whatever reads it."""
    command = [sys.executable, "-W", "ignore", "-m", "starman", "--check", APPLICATION]
    done = run(command, env={"FORKS_DIRECTORY": str(site.directory), **variable})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("loaded") == 1
