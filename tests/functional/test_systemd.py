"""systemd's protocols: sockets from the real systemd-socket-activate, and a notify socket in place of systemd."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.support.certificates import Pair, TlsClient
from tests.functional.support.harness import REPOSITORY, Process, environment, free_ports, wait_until
from tests.functional.support.tools import find_tool, run_tool
from tests.functional.support.wire import Client, encode_request

UNITS = REPOSITORY / "examples" / "deploy"
NAMES = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
APPLICATION = f"""\
import os, pathlib, time

while not pathlib.Path("go").exists():
    time.sleep(0.05)

def app(environ, start_response):
    body = repr([name for name in {NAMES!r} if name in os.environ]).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
# Passes the descriptors of its first argument as 3, 4, ..., under its own process id, as systemd does, and becomes the
# rest.
ACTIVATE = """\
import fcntl, os, sys
given = [int(fd) for fd in sys.argv[1].split(",") if fd]
for n, fd in enumerate([fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for fd in given]):
    os.dup2(fd, 3 + n)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(given)), "WATCHDOG_PID": str(os.getpid())}
os.execv(sys.argv[2], sys.argv[2:])
"""


class Manager:
    """A service manager: a notify socket, and the one service that it starts in `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.address = str(directory / "notify.sock")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.address)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.heard: list[str] = []
        self.service: Process | None = None

    def start(self, *arguments: str, fds: tuple[int, ...] = (), env: dict[str, str | None] | None = None) -> Process:
        """A service of two workers, with the descriptors `fds` from 3 on. The application waits for the file `go`."""
        (self.directory / "site_app.py").write_text(APPLICATION)
        server = [sys.executable, "-W", "error", "-m", "starman", "--workers", "2", "site_app:app", *arguments]
        command = [sys.executable, "-c", ACTIVATE, ",".join(map(str, fds)), *server]
        given = {"NOTIFY_SOCKET": self.address, "PYTHONDONTWRITEBYTECODE": "1", **(env or {})}
        self.service = Process(command, self.directory, given, pass_fds=fds)
        return self.service

    def go(self) -> None:
        """Let the application be imported."""
        (self.directory / "go").touch()

    def forget(self) -> None:
        """Hear, and forget, what has been said so far."""
        while select.select([self.socket], [], [], 0)[0]:
            self.socket.recv(65_536)

    def wait_for(self, pattern: str, timeout: float = 30.0) -> str:
        """Hear messages until one of them has a line that is `pattern`; that one. Fails the test if it does not
        come."""
        assert self.service is not None
        deadline = time.monotonic() + timeout
        while True:
            ended = self.service.status is not None
            while not select.select([self.socket], [], [], 0.1)[0]:
                if ended or time.monotonic() > deadline:
                    raise AssertionError(f"{pattern!r} was not said, but {self.heard}\n{self.service.log}")
                ended = self.service.status is not None
            data, ancillary, _, _ = self.socket.recvmsg(65_536, socket.CMSG_SPACE(12))
            ((_, _, credentials),) = ancillary
            # systemd listens to the main process alone (NotifyAccess=main).
            assert struct.unpack("iii", credentials)[0] == self.service.pid
            self.heard.append(data.decode())
            if re.search(f"^{pattern}$", self.heard[-1], re.MULTILINE):
                return self.heard[-1]


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path)
    yield made
    if made.service is not None:
        made.service.kill()
    made.socket.close()


def names_seen(client: Client) -> bytes:
    with client:
        return client.get("/").body


# Sockets


def test_socket_activation(tmp_path: Path) -> None:
    """The first connection starts the service, and is answered by it."""
    (tmp_path / "site_app.py").write_text(APPLICATION)
    (tmp_path / "go").touch()
    pair = Pair(tmp_path, "localhost")
    plain, tls = free_ports(2)
    path = str(tmp_path / "site.sock")
    kept = ("PYTHON", "LANG", "LC_", "PYTEST_", "TEST_")
    variables = [f"--setenv={name}={value}" for name, value in environment().items() if name.startswith(kept)]
    listen = [f"--listen=127.0.0.1:{plain}", f"--listen=127.0.0.1:{tls}", f"--listen={path}", "--fdname=web:https:local"]
    server = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "starman",
        "site_app:app",
        "--workers",
        "2",
        "--listen",
        f"127.0.0.1:{tls}:ssl",
    ]
    process = Process([find_tool("systemd-socket-activate"), *listen, *variables, *server, *pair.arguments], tmp_path)
    try:
        process.wait_for("Listening on", 30, 3)
        assert names_seen(Client(("127.0.0.1", plain), 60)) == b"[]"
        assert names_seen(TlsClient(tls, pair)) == b"[]"
        assert names_seen(Client(path)) == b"[]"
        urls = f"http://127.0.0.1:{plain} (web), https://127.0.0.1:{tls} (https), unix:{path} (local)"
        process.wait_for(re.escape(f"[{process.pid}] [INFO] sockets of systemd: {urls}\n"))
        assert process.stop(signal.SIGTERM) == 0
        assert os.path.exists(path)
    finally:
        process.kill()


def test_connections_wait_while_the_service_is_started_anew(manager: Manager) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        manager.go()
        service = manager.start(fds=(listener.fileno(),))
        manager.wait_for("READY=1")
        assert names_seen(Client(listener.getsockname())) == b"[]"
        service.signal(signal.SIGTERM)
        manager.wait_for("STOPPING=1")
        assert service.wait() == 0
        # No worker serves, and no client is refused.
        with Client(listener.getsockname(), 60) as waiting:
            waiting.send(encode_request("GET", "/"))
            manager.start(fds=(listener.fileno(),))
            assert waiting.read().status == 200


def test_sockets_that_were_meant_for_another_process(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        env: dict[str, str | None] = {"LISTEN_FDS": "1", "LISTEN_PID": "1"}
        command = [sys.executable, "-m", "starman", "examples/hello.py", "--workers", "1", "--listen", f"{tmp_path}/s.sock"]
        process = Process(command, env=env, pass_fds=[listener.fileno()])
        try:
            process.wait_for(r"\[WARNING\] LISTEN_FDS is for process 1, not for this one: its sockets are not used\n", 30)
            process.wait_for(f"ready: .* on unix:{tmp_path}/s.sock\n", 30)
            assert process.stop() == 0
        finally:
            process.kill()


# Type=notify


def test_ready_comes_when_the_workers_serve(manager: Manager) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        service = manager.start(fds=(listener.fileno(),))
        manager.wait_for("STATUS=starting: 0 of 2 workers ready")
        # The application is still being imported, for as long as it pleases us.
        assert not any("READY" in text for text in manager.heard)
        manager.go()
        assert f"MAINPID={service.pid}" in manager.wait_for("READY=1").splitlines()
        assert manager.heard[-1].endswith("\nSTATUS=2 of 2 workers ready")
        assert names_seen(Client(listener.getsockname())) == b"[]"

        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        service.signal(signal.SIGHUP)
        found = re.search(r"MONOTONIC_USEC=(\d+)\n", manager.wait_for("RELOADING=1"))
        assert found is not None
        assert before <= int(found[1]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        manager.wait_for("READY=1")

        service.signal(signal.SIGTERM)
        manager.wait_for("STOPPING=1")
        assert service.wait() == 0
    assert sum(text.startswith("READY") for text in manager.heard) == 2


def test_a_reload_that_fails_ends_too(manager: Manager) -> None:
    service = manager.start("--listen", "./site.sock")
    manager.go()
    manager.wait_for("READY=1")
    (manager.directory / "site_app.py").write_text("raise RuntimeError('the reason')\n")
    service.signal(signal.SIGHUP)
    manager.wait_for("RELOADING=1")
    manager.wait_for("READY=1")
    service.wait_for("the old workers stay")
    assert names_seen(Client(str(manager.directory / "site.sock"))) == b"[]"
    assert service.stop() == 0


def test_a_start_that_fails_is_never_ready(manager: Manager) -> None:
    service = manager.start("--listen", "./site.sock")
    (manager.directory / "site_app.py").write_text("raise RuntimeError('the reason')\n")
    manager.go()
    assert service.wait() == 1
    with pytest.raises(AssertionError):
        manager.wait_for("READY=1")
    assert [text.partition("=")[0] for text in manager.heard] == ["STATUS", "STOPPING"]


# The watchdog


def test_the_watchdog_is_fed_only_while_a_worker_serves(manager: Manager) -> None:
    service = manager.start("--listen", "./site.sock", env={"WATCHDOG_USEC": "200000"})
    manager.go()
    manager.wait_for("READY=1")
    for _ in range(3):
        manager.wait_for("WATCHDOG=1")
    (manager.directory / "site_app.py").write_text("raise RuntimeError('the reason')\n")
    for pid in service.children():
        if "starman worker" in Path(f"/proc/{pid}/cmdline").read_text():
            os.kill(pid, signal.SIGKILL)
    manager.wait_for("STATUS=0 of 2 workers ready")
    manager.heard.clear()
    service.wait_for("the reason", 30, 2)
    (manager.directory / "site_app.py").write_text(APPLICATION)
    manager.wait_for("STATUS=1 of 2 workers ready", 60)
    assert "WATCHDOG=1" not in manager.heard
    manager.wait_for("WATCHDOG=1")
    assert service.stop() == 0


def test_the_watchdog_starves_when_the_loops_of_all_workers_stand_still(manager: Manager) -> None:
    # Only systemd is to notice: worker_timeout is off.
    service = manager.start("--listen", "./site.sock", "--worker-timeout", "0", env={"WATCHDOG_USEC": "200000"})
    manager.go()
    manager.wait_for("READY=1")
    workers = [pid for pid in service.children() if "starman worker" in Path(f"/proc/{pid}/cmdline").read_text()]
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGSTOP)
    # Longer than a loop may be silent: the other one is heard.
    for _ in range(40):
        manager.wait_for("WATCHDOG=1")
    os.kill(workers[1], signal.SIGSTOP)
    assert wait_until(lambda: starves(manager), 30)
    for pid in workers:
        os.kill(pid, signal.SIGCONT)
    manager.wait_for("WATCHDOG=1")
    assert service.stop() == 0


def starves(manager: Manager) -> bool:
    """Whether nothing comes for five times what systemd would wait."""
    manager.forget()
    return select.select([manager.socket], [], [], 1.0)[0] == []


def test_the_watchdog_starves_when_the_master_stands_still(manager: Manager) -> None:
    service = manager.start("--listen", "./site.sock", env={"WATCHDOG_USEC": "200000"})
    manager.go()
    manager.wait_for("READY=1")
    manager.wait_for("WATCHDOG=1")
    service.signal(signal.SIGSTOP)
    assert wait_until(lambda: Path(f"/proc/{service.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
    assert starves(manager)
    service.signal(signal.SIGCONT)
    manager.wait_for("WATCHDOG=1")
    assert service.stop() == 0


# The units


@pytest.mark.parametrize("unit", sorted(path.name for path in UNITS.iterdir() if path.suffix in (".service", ".socket")))
def test_the_example_units_are_valid(unit: str, tmp_path: Path) -> None:
    for path in UNITS.iterdir():
        if path.suffix in (".service", ".socket"):
            # A program that is not there is an error, and this one is not there.
            (tmp_path / path.name).write_text(path.read_text().replace("/srv/app/.venv/bin/starman-uv", sys.executable))
    done = run_tool("systemd-analyze", "verify", "--man=no", str(tmp_path / unit))
    assert done.stdout + done.stderr == b""
