"""Applications that attack their master: they lie about their process, corrupt its channel, overwrite its memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from starman.process import scoreboard as scoreboard_module
from tests.functional.support.code import MODES
from tests.functional.support.harness import REPOSITORY, Process, Server, wait_until

APPLICATION = """
import array, ctypes, os, re, socket, struct, threading, time

def channel():
    for name in os.listdir("/proc/self/fd"):
        try:
            found = socket.socket(fileno=os.dup(int(name)))
        except OSError:
            continue
        if (found.family, found.type) == (socket.AF_UNIX, socket.SOCK_SEQPACKET):
            return found
        found.close()

def send(packet, fds=()):
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    with channel() as found:
        try:
            found.sendmsg([packet], rights, socket.MSG_DONTWAIT)
        except (BlockingIOError, BrokenPipeError):
            pass

def rubbish():
    for packet in (b"", b"what?", bytes(1000), b"\\xff", b"Spawned\\0" + b"1" * 9000, b"x" * 60_000):
        for _ in range(20):
            send(packet, [0] * 50)

def forge():
    for packet in (b"Spawned\\0001", b"Loaded", b"Approved\\0of\\0it", b"Spawn\\0mold\\0001\\0001\\0", b"Failed\\0no\\0no"):
        send(packet)
    with channel() as found:
        child = os.fork()
        if child == 0:  # it has lost the channel, but not this duplicate
            for packet in (b"Recycle\\0a child of the application says so", b"Draining"):
                found.send(packet)
            os._exit(0)
        os.waitpid(child, 0)

def flood():
    with channel() as found:
        while True:
            try:
                found.send(b"Recycle\\0for no reason")
            except BlockingIOError:
                time.sleep(0.001)

def board():
    with open("/proc/self/maps") as file:
        lines = [line.split() for line in file if "starman-scoreboard" in line]
    return {line[1]: [int(end, 16) for end in line[0].split("-")] for line in lines}

def beats():
    '''Where the worker notes when its loop was last alive: in a page that it can write to, and that begins with its number.'''
    for mode, (start, end) in board().items():
        for page in range(start, end, 4096) if "w" in mode else ():
            if ctypes.string_at(page, 4) == struct.pack("=I", os.getpid()):
                return page + 16

def scribble(place, forged):
    while True:
        ctypes.memmove(place, struct.pack("=d", forged), 8)
        time.sleep(0.001)

def block(forged):
    threading.Thread(target=scribble, args=(beats(), forged), daemon=True).start()
    time.sleep(600)

def reach():
    '''What can be written of the memory of others: the descriptors and mappings of the scoreboard.'''
    fds = [name for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")]
    found = [os.readlink(f"/proc/self/fd/{name}") for name in fds]
    maps = [f"{mode} {end - start}" for mode, (start, end) in sorted(board().items())]
    return f"{sum('scoreboard' in name for name in found)} {maps}"

def pid():
    with open("/proc/self/stat") as file:
        return file.read().split()[0]

ROUTES = {"/rubbish": rubbish, "/forge": forge, "/flood": flood, "/reach": reach, "/pid": pid}
ROUTES["/infinite"] = lambda: block(float("inf"))
ROUTES["/future"] = lambda: block(time.monotonic() + 3600)

def app(environ, start_response):
    body = str(ROUTES.get(environ["PATH_INFO"], str)()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    (tmp_path / "hostile.py").write_text(APPLICATION)
    return tmp_path


def serve(directory: Path, *arguments: str) -> Server:
    return Server("hostile:app", *arguments, cwd=directory, warnings="default", env={"PYTHONDONTWRITEBYTECODE": "1"})


def get(server: Server, path: str = "/") -> str:
    with server.client() as client:
        return client.get(path).body.decode()


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


@pytest.fixture
def victim() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has nothing to do with the server."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        yield process
        process.kill()


@MODES
def test_the_master_signals_no_process_that_is_not_its_own(hostile: Path, victim: subprocess.Popen[bytes], mode: str) -> None:
    with (hostile / "hostile.py").open("a") as file:
        file.write(f"\nos.getpid = lambda: {victim.pid}\n")
    with serve(hostile, "--workers", "2", mode) as server:
        before = server.worker_pids()
        server.signal(signal.SIGHUP)
        server.wait_for("restarted: 2 workers are new", 60)
        assert wait_until(lambda: not set(before) & set(server.worker_pids()), 30)
        assert get(server, "/pid") in map(str, server.worker_pids())
        server.signal(signal.SIGTTOU)
        assert wait_until(lambda: len(server.worker_pids()) == 1, 30)
        # Killed, it is known by its true number too.
        (worker,) = server.worker_pids()
        os.kill(worker, signal.SIGKILL)
        server.wait_for(rf"worker 1 \({worker}\) was killed by SIGKILL", 30)
        assert wait_until(lambda: len(server.worker_pids()) == 1, 30)
    assert victim.poll() is None


FORKS_ANOTHER = """
_fork = os.fork

def fork():
    return _fork() and {victim}

os.fork = fork
"""


def test_a_mold_that_reports_another_process_makes_the_master_signal_none(hostile: Path, victim: subprocess.Popen[bytes]) -> None:
    """Its application has replaced os.fork, and the mold reports the result. The workers then say which processes they
    are."""
    with (hostile / "hostile.py").open("a") as file:
        file.write(FORKS_ANOTHER.format(victim=victim.pid))
    with serve(hostile, "--workers", "2", "--preload-app") as server:
        server.wait_for(f"process {victim.pid} does not belong to this server, and is ignored", count=2)
        before = server.worker_pids()
        server.signal(signal.SIGHUP)
        server.wait_for("restarted: 2 workers are new", 60)
        assert wait_until(lambda: not set(before) & set(server.worker_pids()), 30)
        assert get(server, "/pid") in map(str, server.worker_pids())
    assert victim.poll() is None


def test_rubbish_in_the_channel_costs_the_master_nothing(hostile: Path) -> None:
    with serve(hostile, "--workers", "2") as server:
        workers, before = server.worker_pids(), descriptors(server.pid)
        for _ in range(4):
            get(server, "/rubbish")
        server.wait_for("ignored a message from process")
        # What it is told afterwards, it has understood afterwards.
        server.signal(signal.SIGUSR1)
        server.wait_for("the logs are reopened")
        assert descriptors(server.pid) == before
        assert server.worker_pids() == workers
        assert server.log.count("[ERROR]") <= 2
        assert max(map(len, server.log.splitlines())) < 300


@MODES
def test_forged_messages_do_nothing(hostile: Path, mode: str) -> None:
    with serve(hostile, "--workers", "2", mode) as server:
        workers = server.worker_pids()
        get(server, "/forge")
        server.wait_for("ignored a message from process")
        server.signal(signal.SIGUSR1)
        server.wait_for("the logs are reopened")
        assert server.worker_pids() == workers
        assert "is replaced" not in server.log


def test_a_worker_that_sends_without_end_is_replaced(hostile: Path) -> None:
    with serve(hostile, "--workers", "2") as server:
        before = server.worker_pids()
        with server.client() as client:
            client.send(b"GET /flood HTTP/1.1\r\nHost: a\r\n\r\n")
            found = server.wait_for(r"process (\d+) has sent over 1000 messages in 10 s: its channel is closed", 30)
            assert int(found[1]) in before
            assert wait_until(lambda: int(found[1]) not in server.worker_pids() and len(server.worker_pids()) == 2, 30)
            assert get(server) == ""


@MODES
def test_a_worker_can_write_to_its_own_page_only(hostile: Path, mode: str) -> None:
    with serve(hostile, "--workers", "2", mode) as server:
        assert get(server, "/reach") == f"0 ['r--s {scoreboard_module._SIZE}', 'rw-s 4096']"
        for pid in server.children():
            if pid not in server.worker_pids():
                assert "starman-scoreboard" not in Path(f"/proc/{pid}/maps").read_text()


@pytest.mark.parametrize("forged", ["/infinite", "/future"])
def test_a_worker_that_forges_its_beats_is_watched_all_the_same(hostile: Path, forged: str) -> None:
    with serve(hostile, "--workers", "1", "--threads", "0", "--worker-timeout", "1") as server:
        (worker,) = server.worker_pids()
        with server.client() as client:
            client.send(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % forged.encode())
            server.wait_for(rf"worker 1 \({worker}\) is replaced: its loop has been silent", 30)
            assert wait_until(lambda: worker not in server.worker_pids() and len(server.worker_pids()) == 1, 30)
        assert get(server, "/pid") == str(server.worker_pids()[0])


WITHOUT_KILL = """
import ctypes, os, sys
PR_CAPBSET_DROP, CAP_KILL = 24, 5
assert ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_KILL, 0, 0, 0) == 0
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
CHANGED_USER = """
import os
os.setresuid(65534, 65534, 65534)

def app(environ, start_response):
    start_response("200 OK", [])
    return [b"%d" % os.getuid()]
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change its user")
@pytest.mark.parametrize("end", ["--graceful-timeout=30", "--graceful-timeout=0"])
def test_workers_that_may_not_be_signalled_are_replaced_and_ended(tmp_path: Path, end: str) -> None:
    """In a container without CAP_KILL, an application becomes another user: the kernel refuses the master's
    signals."""
    (tmp_path / "changed.py").write_text(CHANGED_USER)
    arguments = ["-W", "error", "-m", "starman", "--workers", "2", "--listen", "127.0.0.1:0", end, "changed:app"]
    server = Process([sys.executable, "-c", WITHOUT_KILL, *arguments], cwd=tmp_path, env={"PYTHONPATH": str(REPOSITORY)})
    try:
        server.wait_for("ready: ", 60)
        before = server.children()
        server.signal(signal.SIGHUP)
        server.wait_for("restarted: 2 workers are new", 60)
        assert wait_until(lambda: len(set(before) & set(server.children())) == 1, 30), "all but the mold are replaced"
        server.wait_for(r"process \d+ may not be signalled \(SIGTERM\): its channel is closed, and it ends by itself", count=2)
        assert server.stop(signal.SIGTERM) == 0
        assert "the master failed" not in server.log
    finally:
        server.kill()
