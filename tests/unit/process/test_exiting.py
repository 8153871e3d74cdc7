"""starman.process.exiting: what runs at the end of a process that has loaded an application, and for how long."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from starman.process.exiting import exit_worker
from starman.process.forking import fork

BEGINNING = """
import atexit, multiprocessing, os, sys, threading, time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from starman.process.exiting import exit_unserved, exit_worker
fork = multiprocessing.get_context("fork")
"""


def run(script: str) -> tuple[int, list[str], str, float]:
    """Run `script` in a process; returns status, lines of output, error log and seconds."""
    began = time.monotonic()
    command = [sys.executable, "-W", "ignore", "-c", BEGINNING + script]
    # The output ends when the last process has closed it.
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3], timeout=60)
    return done.returncode, done.stdout.splitlines(), done.stderr, time.monotonic() - began


@pytest.mark.parametrize("end", ["exit_worker(5, 30)", "exit_unserved(5)"])
def test_pools_end_with_their_process(end: str) -> None:
    """A process pool with processes that would live for ever, and a thread pool, which finishes what it has."""
    status, output, errors, _ = run(f"""
processes, threads = ProcessPoolExecutor(2, mp_context=fork), ThreadPoolExecutor(1)
processes.submit(os.getpid).result()
threads.submit(lambda: (time.sleep(0.2), print("finished", flush=True)))
{end}
""")
    assert (status, output, errors) == (5, ["finished"], "")


def test_everything_runs_in_order() -> None:
    """What is to be first, then pools, then atexit, the last registered first; what fails is logged, and the others
    run."""
    status, output, errors, _ = run("""
def fail():
    raise ValueError("in an exit function")
threading._register_atexit(print, "pools")
threading._register_atexit(fail)
atexit.register(print, "atexit")
exit_worker(0, 30, first=lambda: print("first"))
""")
    assert (status, output) == (0, ["first", "pools", "atexit"])
    assert "an exit function failed" in errors
    assert "ValueError: in an exit function" in errors


def test_an_exception_that_cannot_be_shown_ends_nothing_early() -> None:
    """The `traceback` module expects a number where this SyntaxError has a text."""
    status, output, errors, _ = run("""
def fail():
    raise SyntaxError("x", ("f", 1, "a", "text"))
atexit.register(print, "atexit")
threading._register_atexit(fail)
exit_worker(0, 30)
""")
    assert (status, output) == (0, ["atexit"])
    assert "an exit function failed" in errors
    assert "SyntaxError" in errors


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("ThreadPoolExecutor(1).submit(time.sleep, 30)", "_python_exit"),
        ("atexit.register(time.sleep, 30)", "exit_worker"),
        ("p = fork.Process(target=time.sleep, args=(3,), name='slow'); p.start()", "these processes live on: slow ("),
    ],
)
def test_the_exit_comes_in_time(script: str, expected: str) -> None:
    status, _, errors, seconds = run(f"{script}\nexit_worker(3, 1.0)")
    assert status == 3
    assert "the exit functions of the application have taken 1.0 s, and are cut short" in errors
    assert expected in errors
    assert 1.0 <= seconds < 25


def test_a_process_without_pools_exits_at_once() -> None:
    status, output, errors, seconds = run(
        "atexit.register(print, 'never')\nthreading.Thread(target=time.sleep, args=(30,)).start()\nexit_unserved(4)"
    )
    assert (status, output, errors) == (4, [], "")
    assert seconds < 25


@pytest.mark.parametrize(
    "script", ["pool = fork.Pool(2)", "fork.Process(target=time.sleep, args=(50,), daemon=True).start()"], ids=["pool", "daemon"]
)
def test_what_multiprocessing_has_started_ends_with_what_has_served_nothing(script: str) -> None:
    status, output, errors, seconds = run(f"{script}\nexit_unserved(0)")
    assert (status, output, errors) == (0, [], "")
    assert seconds < 25


def test_a_worker_has_no_children_of_its_mold() -> None:
    """The mold has started them for a preloaded application. The worker would kill them at its exit."""
    status, output, errors, _ = run("""
from starman.process.exiting import disown_children
from starman.process.forking import fork as fork_worker
child = fork.Process(target=time.sleep, args=(60,), daemon=True)
child.start()
worker = fork_worker()
if worker == 0:
    disown_children()
    exit_worker(0, 30)
print(os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]), child.is_alive())
child.kill()
""")
    assert (status, output, errors) == (0, ["0 True"], "")


def test_a_limit_of_centuries_is_one_that_can_be_waited_for() -> None:
    status, output, errors, _ = run("""
asked = threading.Event()
def sleep(seconds):
    print(seconds <= threading.TIMEOUT_MAX, flush=True)
    asked.set()
    threading.Event().wait()
time.sleep = sleep
exit_worker(6, 1e300, first=asked.wait)
""")
    assert (status, output, errors) == (6, ["True"], "")


SCRIPT = """
import atexit, os, sys
from starman.process.exiting import exit_worker
from starman.process.forking import fork
sys.stdout.write("written once\\n")
pid = fork()
if pid == 0:
    atexit.register(print, "at the end")
    sys.stdout.write("of the child\\n")
    try:
        exit_worker(3)
    finally:
        print("never")
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def test_hazard_16_the_end_of_a_worker() -> None:
    """Buffers are flushed before the fork and at the end, atexit runs, and code further up the stack does not."""
    written = subprocess.check_output([sys.executable, "-c", SCRIPT], text=True, cwd=Path(__file__).parents[3])
    assert written.splitlines() == ["written once", "of the child", "at the end", "3"]


def test_hazard_16_the_end_does_not_wait_for_threads_of_the_application() -> None:
    pid = fork()
    if pid == 0:
        threading.Thread(target=threading.Event().wait).start()
        exit_worker(0)
    assert os.waitpid(pid, 0)[1] == 0
