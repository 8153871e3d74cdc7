"""starman.application_forks: which forks count as the application's, and how their children end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from starman import application_forks

called: list[str] = []


def abandon() -> None:
    called.append("abandon")


@pytest.fixture
def watched() -> Iterator[None]:
    called.clear()
    application_forks.watch(abandon)
    yield
    application_forks.unwatch(abandon)


def forked(fork: Callable[[], int], child: Callable[[], str]) -> str:
    """What `child` returns in a process that was made by `fork`."""
    read_fd, write_fd = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = fork()
    if pid == 0:
        try:
            os.write(write_fd, child().encode())
        finally:
            os._exit(0)
    os.close(write_fd)
    with open(read_fd, encoding="utf-8") as file:
        text = file.read()
    os.waitpid(pid, 0)
    return text


def state() -> str:
    return f"{called} {application_forks.in_child()}"


@pytest.mark.usefixtures("watched")
def test_a_child_of_the_application_gives_up_what_is_watched() -> None:
    assert forked(os.fork, state) == "['abandon'] True"
    assert application_forks.has_forked()
    assert not application_forks.in_child()
    assert called == []


@pytest.mark.usefixtures("watched")
def test_its_children_are_nothing_new() -> None:
    assert forked(os.fork, lambda: forked(os.fork, state)) == "['abandon'] True"


@pytest.mark.usefixtures("watched")
def test_a_process_of_the_servers_own_watches_for_itself() -> None:
    def own() -> str:
        before = state()
        application_forks.watch(lambda: called.append("own"))
        return f"{before} {forked(os.fork, state)}"

    assert forked(application_forks.fork, own) == "[] False ['own'] True"


@pytest.mark.usefixtures("watched")
def test_a_thread_of_the_application_may_fork_meanwhile() -> None:
    """Only the thread that forks for the server is left alone."""
    found: list[str] = []

    def fork_beside() -> int:
        thread = threading.Thread(target=lambda: found.append(forked(os.fork, state)))
        thread.start()
        thread.join()
        return os.fork()

    original, appfork_fork = os.fork, application_forks.fork
    application_forks._own.add(threading.get_ident())
    try:
        assert forked(fork_beside, state) == "[] False"
    finally:
        application_forks._own.discard(threading.get_ident())
    assert found == ["['abandon'] True"]
    assert (os.fork, application_forks.fork) == (original, appfork_fork)


@pytest.mark.usefixtures("watched")
def test_signals_are_blocked_until_all_is_given_up() -> None:
    """Else a signal to a fresh child would reach a handler of the server's."""
    blocked: list[bool] = []

    def look() -> None:
        blocked.append(signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, ()))

    application_forks.watch(look)
    try:
        after = forked(os.fork, lambda: f"{blocked} {signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, ())}")
    finally:
        application_forks.unwatch(look)
    assert after == "[True] False"
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_what_fails_does_not_keep_the_rest(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise OSError("no descriptor is left")

    called.clear()
    application_forks.watch(fail)
    application_forks.watch(abandon)
    try:
        assert forked(os.fork, state) == "['abandon'] True"
    finally:
        application_forks.unwatch(fail)
        application_forks.unwatch(abandon)
    assert "may still hold sockets of the server: OSError: no descriptor is left" in capfd.readouterr().err


@pytest.mark.usefixtures("watched")
def test_a_server_that_is_started_in_a_child_is_one_of_its_own() -> None:
    def serve() -> str:
        application_forks.watch(abandon)
        application_forks.end_child()
        return "goes on"

    assert forked(os.fork, serve) == "goes on"


def test_elsewhere_no_call_ends_a_process() -> None:
    application_forks.end_child()
    application_forks.end_child(SystemExit(3))


SCRIPT = """
import os, sys
from starman import application_forks
application_forks.watch(lambda: None)
pid = os.fork()
if pid == 0:
    sys.stdout.write("of the child\\n")
    application_forks.end_child({error})
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        ("", 0, ""),
        ("SystemExit()", 0, ""),
        ("SystemExit(7)", 7, ""),
        ("SystemExit(-1)", 255, ""),
        ("SystemExit(True)", 1, ""),
        ("SystemExit('a reason')", 1, "a reason\n"),
        ("ValueError('a mistake')", 1, "ValueError: a mistake"),
    ],
)
def test_a_child_ends_as_a_script_does(error: str, status: int, said: str) -> None:
    command = [sys.executable, "-c", SCRIPT.format(error=error)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2], timeout=60)
    assert done.stdout.splitlines() == ["of the child", str(status)]
    assert said in done.stderr
    assert bool(said) == bool(done.stderr)
