"""Starts the real `python -m starman` for a test, on port 0, and always ends it.

Tests learn what the server does from its ready line and its log, never by sleeping. Every server is the leader of a
session of its own: that is how processes left behind are found, and the test that left them fails. Processes that have
left their session, and those of a pytest that was killed, are ended by `tests.leftovers`.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import itertools
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from signal import SIGKILL, SIGQUIT, Signals
from types import TracebackType
from typing import IO

from starman.config.platform_variables import PLATFORM_VARIABLES
from tests.functional.support.wire import Address, Client

REPOSITORY = Path(__file__).resolve().parents[3]
APPLICATION = "tests.functional.support.applications:app"
START_SECONDS = 30.0
STOP_SECONDS = 30.0
PORTS = 50  # of one test process

_READY = re.compile(r"starman \S+ ready: (?P<workers>\d+) workers? \xd7 (?P<threads>\d+) threads? on (?P<listeners>.+)")
_TCP_LISTENER = re.compile(r"https?://(?P<host>\[[^\]]*\]|[^:/\s]+):(?P<port>\d+)")
_UNIX_LISTENER = re.compile(r"(?:http\+)?unix:(?://)?(?P<path>\S+)")


class NotReadyError(Exception):
    """The server ended, or was silent for too long, before its ready line. The text is its standard error."""

    def __init__(self, reason: str, log: str, status: int | None) -> None:
        super().__init__(f"{reason}\n{log}")
        self.log = log
        self.status = status


class Process:
    """A server process, its log, and everything in its session. `Server` adds the command line.

    `command` runs with `cwd` and `environment(env)`; standard error is the log, standard output too. `pass_fds` are
    descriptors that it inherits under their numbers.
    """

    def __init__(
        self,
        command: Sequence[str],
        cwd: Path | str = REPOSITORY,
        env: Mapping[str, str | None] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self._changed = threading.Condition()
        self._text = ""
        self._status: int | None = None
        self.command = list(command)
        self._process = subprocess.Popen(
            self.command,
            cwd=cwd,
            env=environment(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=pass_fds,
        )
        self.pid = self._process.pid
        assert self._process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._waiter = threading.Thread(target=self._wait, daemon=True)
        self._reader.start()
        self._waiter.start()

    @property
    def log(self) -> str:
        """What the server has written so far."""
        with self._changed:
            return self._text

    @property
    def status(self) -> int | None:
        """The exit status (negative: the signal that killed it); None while the server runs."""
        with self._changed:
            return self._status

    def wait_for(self, pattern: str, timeout: float = 30.0, count: int = 1) -> re.Match[str]:
        """Wait until the log holds `count` matches of `pattern`; the last of them. Fails the test after `timeout`
        seconds."""
        found: list[re.Match[str]] = []

        def enough() -> bool:
            found[:] = re.finditer(pattern, self._text)
            return len(found) >= count

        with self._changed:
            self._changed.wait_for(lambda: enough() or self._status is not None, timeout)
        if not enough() and self._status is not None:
            self._reader.join(timeout)
        if not enough():
            raise AssertionError(f"{pattern!r} was not logged {count} times (exit status {self.status}):\n{self.log}")
        return found[count - 1]

    def wait(self, timeout: float = STOP_SECONDS) -> int:
        """Wait for the server to end by itself; its exit status. Fails the test after `timeout` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._status is not None, timeout)
        if self._status is None:
            raise AssertionError(f"the server still runs after {timeout} s:\n{self.log}")
        return self._status

    def signal(self, signum: Signals) -> None:
        """Send a signal to the server (for `Server`: to the master)."""
        self._process.send_signal(signum)

    def session_pids(self) -> list[int]:
        """Every live process of this server: the master, its molds and workers, and what they started."""
        return [pid for pid, stat in _processes() if stat.session == self.pid and stat.state not in "ZX"]

    def children(self, pid: int | None = None) -> list[int]:
        """The live children of `pid`; None means of the server itself.

        A worker may be ready before the process between it and its mold has ended, and becomes the master's child only
        then: so for the server this waits until there is none in between.
        """
        parent = self.pid if pid is None else pid
        wait_until(lambda: pid is not None or not self._forks_in_between(), 5.0)
        return [child for child, stat in _processes() if stat.parent == parent and stat.state not in "ZX"]

    def _forks_in_between(self) -> list[int]:
        """Processes of this server that are forks of a mold and not yet, or never, anything else."""
        processes = dict(_processes())
        return [
            pid
            for pid, stat in processes.items()
            if stat.session == self.pid
            and stat.state not in "ZX"
            and stat.parent != self.pid
            and stat.parent in processes
            and all("starman mold" in _read_text(f"/proc/{each}/cmdline") for each in (pid, stat.parent))
        ]

    def stop(self, signum: Signals = SIGQUIT, timeout: float = STOP_SECONDS) -> int:
        """End the server by `signum` and return its exit status. Fails the test if it, or a process of it, stays."""
        try:
            if self.status is None:
                self.signal(signum)
            status = self.wait(timeout)
            left = wait_until(lambda: not self.session_pids(), 5.0)
            assert left, f"processes left behind: {self.session_pids()}\n{self.log}"
            self._reader.join(5.0)
            return status
        finally:
            self.kill()

    def kill(self) -> None:
        """End everything of this server at once. Nothing happens if nothing is left."""

        def none_is_left() -> bool:
            pids = self.session_pids()
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, SIGKILL)
            return not pids

        wait_until(none_is_left, STOP_SECONDS)
        self._waiter.join(STOP_SECONDS)

    def _read(self, stream: IO[bytes]) -> None:
        with stream:
            for line in stream:
                with self._changed:
                    self._text += line.decode("utf-8", "replace")
                    self._changed.notify_all()

    def _wait(self) -> None:
        status = self._process.wait()
        with self._changed:
            self._status = status
            self._changed.notify_all()


class Server(Process):
    """`python -m starman APPLICATION ARGUMENTS… --listen …`, running and ready. A context manager.

    `listen` is one listener or several, in the syntax of --listen; () gives no --listen at all. `env` is added to the
    environment (which has no STARMAN_* of ours); None as a value takes a variable away. `warnings` is the
    interpreter's -W: "error" unless the application's own imports warn. With `ready` False the ready line is not
    waited for: its log goes elsewhere, and `address` is that of `listen`. Leaving the context stops the server
    gracefully, fails the test if it does not exit with status 0, and kills what is left in any case.
    """

    def __init__(
        self,
        app: str | None = APPLICATION,
        *arguments: str,
        listen: str | Sequence[str] = "127.0.0.1:0",
        cwd: Path | str = REPOSITORY,
        env: Mapping[str, str | None] | None = None,
        warnings: str = "error",
        ready: bool = True,
        pass_fds: Sequence[int] = (),
    ) -> None:
        listeners = [listen] if isinstance(listen, str) else list(listen)
        command = [sys.executable, "-W", warnings, "-m", "starman", *arguments]
        for listener in listeners:
            command += ["--listen", listener]
        if app is not None:
            command.append(app)
        super().__init__(command, cwd, env, pass_fds)
        self.workers = self.threads = 0
        self.listeners = ", ".join(listeners)
        if ready:
            self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        try:
            ready = self.wait_for(_READY.pattern, START_SECONDS)
        except AssertionError as error:
            status = self.status
            self.kill()
            raise NotReadyError("the server did not become ready", str(error), status) from None
        self.workers = int(ready["workers"])
        self.threads = int(ready["threads"])
        self.listeners = ready["listeners"].strip()
        # A worker may be ready before the process in between, which has forked it, is gone: only then it is the
        # master's child.
        wait_until(lambda: len(self.worker_pids()) >= self.workers, 5.0)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None:
            self.kill()
            print(self.log, file=sys.stderr)
            return
        if self.status is None:
            status = self.stop()
            assert status == 0, f"exit status {status}:\n{self.log}"
        self.kill()

    @property
    def ports(self) -> list[int]:
        """The ports of the TCP listeners, in the order of the command line."""
        return [int(found["port"]) for found in _TCP_LISTENER.finditer(self.listeners)]

    @property
    def port(self) -> int:
        """The port of the first TCP listener."""
        return self.ports[0]

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT` of the first TCP listener, with no slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def address(self) -> Address:
        """Where a `Client` connects: the first TCP listener, or else the UNIX socket's path."""
        if self.ports:
            return "127.0.0.1", self.port
        found = _UNIX_LISTENER.search(self.listeners) or re.match(r"(?P<path>\S+)", self.listeners)
        assert found is not None, self.listeners
        return found["path"].rstrip(",")

    def client(self, timeout: float = 20.0) -> Client:
        """A new raw connection to `address`."""
        return Client(self.address, timeout)

    def worker_pids(self) -> list[int]:
        """The workers, oldest first: the master's children that carry a worker's title or, untitled, have threads."""
        found = []
        for pid in self.children():
            title = _read_text(f"/proc/{pid}/cmdline")
            other = any(f"starman {role}" in title for role in ("mold", "hooks", "observer"))
            if "starman worker" in title or (not other and _thread_count(pid) > 1):
                found.append(pid)
        return found

    def hook_pids(self) -> list[int]:
        """The hook processes, oldest first."""
        return [pid for pid in self.children() if "starman hooks" in _read_text(f"/proc/{pid}/cmdline")]


def environment(changes: Mapping[str, str | None] | None = None) -> dict[str, str]:
    """This process's environment without variables that give settings, with the repository importable, and `changes`
    applied."""
    unwanted = ("STARMAN_", "PYTHONWARNINGS")
    result = {
        name: value for name, value in os.environ.items() if not name.startswith(unwanted) and name not in PLATFORM_VARIABLES
    }
    path = os.environ.get("PYTHONPATH", "")
    result["PYTHONUNBUFFERED"] = "1"
    result["PYTHONPATH"] = os.pathsep.join(part for part in (str(REPOSITORY), path) if part)
    for name, value in (changes or {}).items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = value
    return result


def free_ports(count: int = 1) -> list[int]:
    """Free TCP ports below the kernel's ephemeral range, from a block that no other test process uses while this one
    lives.

    Without the block, two test processes could both find a port free before either server binds it. Ports are handed
    out in turn, so two calls of one test do not return the same one.
    """
    found: list[int] = []
    for port in itertools.islice(_ports(), PORTS):
        with contextlib.suppress(OSError), socket.create_server(("0.0.0.0", port)):
            found.append(port)
        if len(found) == count:
            return found
    raise AssertionError("not enough ports are free")


@functools.cache
def _ports() -> Iterator[int]:
    """The ports of this process, over and over. An open file per block is locked until the process ends."""
    directory = Path(tempfile.gettempdir()) / f"starman-test-ports-{os.getuid()}"
    directory.mkdir(exist_ok=True)
    for start in range(20_000, 32_000, PORTS):
        descriptor = os.open(directory / str(start), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
        else:
            return itertools.cycle(range(start, start + PORTS))
    raise AssertionError("every block of ports is in use by another test process")


def wait_until(condition: Callable[[], bool], timeout: float = 30.0) -> bool:
    """Poll `condition` until it holds; whether it did within `timeout` seconds. Only for changes that cause no
    event."""
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            return False
        pause.wait(0.01)
    return True


def wait_for_idle_threads(directory: Path, count: int = 1) -> None:
    """Until an application that says so in a file of that directory, a byte each time, was asked `count` times for a
    /sleep/."""
    sleeping = directory / "sleeping"
    assert wait_until(lambda: sleeping.exists() and sleeping.stat().st_size == count, 30)


class _Stat:
    """The fields of /proc/PID/stat that the harness needs."""

    __slots__ = ("parent", "session", "started", "state")

    def __init__(self, text: str) -> None:
        # The second field is the name in parentheses, which may hold spaces and parentheses itself.
        fields = text.rpartition(")")[2].split()
        self.state = fields[0]
        self.parent = int(fields[1])
        self.session = int(fields[3])
        self.started = int(fields[19])  # clock ticks after the boot


def _processes() -> list[tuple[int, _Stat]]:
    """All processes, the oldest first. Their numbers begin again when the kernel has used them all."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and (text := _read_text(f"/proc/{name}/stat")):
            found.append((int(name), _Stat(text)))
    return sorted(found, key=lambda each: (each[1].started, each[0]))


def _thread_count(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/task"))
    except FileNotFoundError:
        return 0


def _read_text(path: str) -> str:
    try:
        return Path(path).read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
