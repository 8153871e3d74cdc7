"""The stacks of workers and molds in the error log: one entry for each process, which it names."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.functional.support.harness import Server, wait_for_idle_threads, wait_until
from tests.functional.support.wire import encode_request

APPLICATION = """
import ctypes, json, os

def deep(levels):
    return deep(levels - 1) if levels else json.dumps({"numbers": [1, 2, 3]})

def count_sheep():
    open("fifo").close()  # until there is a writer

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/pid":
        pass
    elif path == "/deep":
        for levels in range(40):
            deep(levels)
    elif path == "/hold":
        sum(range(10**12))  # native code that holds the interpreter's lock, and that no signal interrupts
    elif path == "/fork":
        child = os.fork()
        if child == 0:
            ctypes.string_at(0)
        os.waitpid(child, 0)
    elif path == "/crash":
        ctypes.string_at(0)
    else:
        with open("sleeping", "ab", buffering=0) as file:
            file.write(b".")
        count_sheep()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"""
IMPORT = """
os.write(2, b"process %d is loading\\n" % os.getpid())
while os.path.exists("gate"):
    pass
"""
FRAMES = r'    File ".*app.py", line \d+ in count_sheep\n    File ".*app.py", line \d+ in app\n'
BUSY = rf"  Thread 0x[0-9a-f]+.*\n{FRAMES}"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APPLICATION)
    os.mkfifo(tmp_path / "fifo")
    return tmp_path


def wake(directory: Path) -> None:
    """End the request that blocks."""
    os.close(os.open(directory / "fifo", os.O_WRONLY))


def entries(server: Server) -> list[str]:
    """The entries with stacks, complete."""
    return re.findall(r"^\[.*\] \[(?:INFO|ERROR)\] (stacks of .*\n(?:  .*\n)*)", server.log, re.MULTILINE)


def test_the_stacks_of_several_processes_at_once_can_be_told_apart(directory: Path) -> None:
    with Server("app:app", "--workers", "3", "--threads", "2", cwd=directory) as server, server.client() as client:
        client.send(encode_request("GET", "/sheep?a"))
        wait_for_idle_threads(directory)
        workers = server.worker_pids()
        (mold,) = set(server.children()) - set(workers)
        for pid in [*workers, mold, server.pid]:
            os.kill(pid, signal.SIGRTMIN)
        assert wait_until(lambda: len(entries(server)) == 5, 20)
        found = entries(server)
        heads = [(entry, re.match(r"stacks of worker (\d) \((\d+)\)", entry)) for entry in found]
        named = {int(head[2]): (int(head[1]), entry) for entry, head in heads if head is not None}
        assert sorted(named) == sorted(workers)
        assert sorted(number for number, _ in named.values()) == [1, 2, 3]
        wake(directory)
        busy = int(client.read().body)
        for pid, (number, entry) in named.items():
            title = rf"stacks of worker {number} \({pid}\)"
            if pid == busy:
                serving = r" while serving GET /sheep\?a \(for \d\.\d s\)"
                assert re.match(rf"{title}{serving}\n{BUSY}", entry), entry
                assert re.search(r"\n  waiting for work: .*\b1 thread of the pool", entry), entry
            else:
                assert re.match(rf"{title}\n", entry), entry
                assert "count_sheep" not in entry
                assert "\n  waiting for work: " in entry
        assert f"stacks of a mold ({mold}), which forks workers\n  waiting for work: the mold, which waits for orders\n" in found
        assert any(entry.startswith("stacks of the master\n") for entry in found)


@pytest.mark.parametrize("threads", ["4", "0"])
def test_a_busy_worker_goes_on_however_often_its_stacks_are_requested(threads: str, directory: Path) -> None:
    """Its threads call and return all the time, so a handler that does not hold the interpreter's lock reads frames
    that are gone: it crashed the worker within ten signals."""
    over = threading.Event()

    def request() -> set[int]:
        pids = set()
        with server.client() as client:
            while not over.is_set():
                pids.add(int(client.get("/deep").body))
        return pids

    with Server("app:app", "--workers", "1", "--threads", threads, cwd=directory) as server, ThreadPoolExecutor(6) as executor:
        (worker,) = server.worker_pids()
        clients = [executor.submit(request) for _ in range(6)]
        try:
            for _ in range(300):
                os.kill(worker, signal.SIGRTMIN)
                time.sleep(0.005)
        finally:
            over.set()
        assert {pid for client in clients for pid in client.result()} == {worker}
        with server.client() as client:
            assert int(client.get("/pid").body) == worker
        assert server.worker_pids() == [worker]
        assert wait_until(lambda: len(entries(server)) > 0, 20)
    assert "Fatal Python error" not in server.log


def test_a_call_in_the_loop_is_named_although_it_waits_in_the_system(directory: Path) -> None:
    with Server("app:app", "--workers", "1", "--threads", "0", cwd=directory) as server, server.client() as client:
        client.send(encode_request("GET", "/sheep"))
        (worker,) = server.worker_pids()
        assert wait_until((directory / "sleeping").exists, 20)
        os.kill(worker, signal.SIGRTMIN)
        head = rf"stacks of worker 1 \({worker}\) while serving GET /sheep \(for \d\.\d s\)\n  Current thread 0x[0-9a-f]+.*\n"
        server.wait_for(f"{head}{FRAMES}", 20)
        wake(directory)
        assert int(client.read().body) == worker


@pytest.mark.parametrize(
    ("mode", "title"),
    [("--no-preload-app", r"worker 1 \({}\)"), ("--preload-app", r"a mold \({}\), which forks workers")],
)
def test_an_import_is_named_and_goes_on(mode: str, title: str, directory: Path) -> None:
    code = (directory / "app.py").read_text()
    with Server("app:app", "--workers", "1", mode, cwd=directory) as server:
        (directory / "app.py").write_text(code + IMPORT)
        (directory / "gate").touch()
        server.signal(signal.SIGHUP)
        loading = server.wait_for(r"process (\d+) is loading", 30)[1]
        os.kill(int(loading), signal.SIGRTMIN)
        frames = r'(?:    File "<frozen.*\n)?    File ".*app\.py", line \d+ in <module>\n'
        server.wait_for(rf"stacks of {title.format(loading)}\n  Current thread 0x.*\n{frames}", 20)
        (directory / "gate").unlink()
        server.wait_for("restarted: 1 worker is new", 30)


def test_native_code_that_holds_the_lock_is_named(directory: Path) -> None:
    """The interpreter can do nothing more there."""
    with Server("app:app", "--workers", "1", "--worker-timeout", "1", cwd=directory) as server, server.client() as client:
        worker = int(client.get("/pid").body)
        client.send(encode_request("GET", "/hold"))
        server.wait_for(rf"worker 1 \({worker}\) is still silent", 30)
    entry = next(entry for entry in entries(server) if f"({worker})" in entry)
    assert re.match(rf"stacks of worker 1 \({worker}\) while serving GET /hold \(for \d\.\d s\)\n", entry)
    assert re.search(r'    File ".*app\.py", line \d+ in app\n', entry)
    assert server.log.index("its stacks follow") < server.log.index("stacks of worker 1") < server.log.index("is still silent")


def test_the_stacks_of_a_crash_come_before_its_line(directory: Path) -> None:
    with Server("app:app", "--workers", "2", cwd=directory) as server, server.client() as client:
        worker = int(client.get("/pid").body)
        client.send(encode_request("GET", "/crash"))
        killed = server.wait_for(rf"worker (\d) \({worker}\) was killed by SIGSEGV", 30)
    (entry,) = entries(server)
    assert entry.startswith(f"stacks of worker {killed[1]} ({worker}) while serving GET /crash (for ")
    assert "\n  Fatal Python error: Segmentation fault\n" in entry
    assert re.search(r'    File ".*app\.py", line \d+ in app\n', entry)
    assert server.log.index("stacks of worker") < killed.start()


def test_a_child_of_the_application_that_crashes_is_not_taken_for_its_worker(directory: Path) -> None:
    with Server("app:app", "--workers", "1", cwd=directory, warnings="ignore") as server, server.client() as client:
        worker = int(client.get("/fork").body)
        server.wait_for(r"(?m)^Fatal Python error: Segmentation fault$")
        assert int(client.get("/pid").body) == worker
    assert entries(server) == []


def test_a_worker_of_before_an_upgrade_still_shows_its_stacks(directory: Path) -> None:
    with Server("app:app", "--workers", "1", cwd=directory) as server, server.client() as client:
        worker = server.worker_pids()[0]
        client.send(encode_request("GET", "/sheep"))
        wait_for_idle_threads(directory)
        server.signal(signal.SIGUSR2)
        server.wait_for("has taken over", 30)
        os.kill(worker, signal.SIGRTMIN)
        server.wait_for(rf"stacks of worker 1 \({worker}\) while serving GET /sheep \(for \d\.\d s\)\n{BUSY}", 20)
        wake(directory)
        assert int(client.read().body) == worker


def test_a_worker_whose_master_is_gone_writes_its_stacks_itself(directory: Path) -> None:
    with Server("app:app", "--workers", "1", cwd=directory) as server, server.client() as client:
        worker = server.worker_pids()[0]
        client.send(encode_request("GET", "/sheep"))
        wait_for_idle_threads(directory)
        os.kill(server.pid, signal.SIGKILL)
        server.wait(20)
        assert wait_until(lambda: "the master is gone" in server.log, 20)
        waiting = r"(?:  .*\n)*  waiting for work: .*\bthe event loop \(waiting, or in native code\)"
        entry = re.compile(rf"\[{worker}\] \[INFO\] stacks of this process\n{BUSY}{waiting}")

        def is_logged() -> bool:
            # Again and again: the loop may still be closing its listeners.
            os.kill(worker, signal.SIGRTMIN)
            return entry.search(server.log) is not None

        assert wait_until(is_logged, 20), server.log
        wake(directory)
        assert int(client.read().body) == worker
