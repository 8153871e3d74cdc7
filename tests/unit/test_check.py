"""starman.check: what becomes of the child that loads the application, even where it would not end with its parent."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from starman import check as module
from starman.config.settings import Settings
from starman.process.forking import FORCED_STACKS, STACKS
from starman.process.host.inherited import InheritedSockets
from starman.process.host.listeners import Listener
from starman.process.master.stack_pipe import StackReader, open_pipe

HANGING = f"""
import os, signal, sys, time
signal.signal({int(STACKS)}, lambda *_: None)
signal.signal({int(FORCED_STACKS)}, lambda *_: os.write(int(sys.argv[1]), b"forced"))
print(flush=True)
time.sleep(600)
"""


@pytest.fixture
def pipe() -> Iterator[tuple[StackReader, int]]:
    """The pipe for the stacks of the child."""
    reader, writing = open_pipe()
    yield reader, writing
    reader.close()
    os.close(writing)


@pytest.fixture
def child(pipe: tuple[StackReader, int]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that goes on when it is asked for its stacks, and writes a word when it is forced."""
    command = [sys.executable, "-c", HANGING, str(pipe[1])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, pass_fds=[pipe[1]]) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        yield process
        process.kill()


def is_reaped(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_child_that_takes_too_long_is_forced_and_killed(
    child: subprocess.Popen[bytes], pipe: tuple[StackReader, int], capfd: pytest.CaptureFixture[str]
) -> None:
    assert module._wait(child.pid, 0.1, pipe[0]) is None
    assert is_reaped(child.pid)
    line = "the application was not ready to serve within 0.1 s (boot_timeout); its stacks follow"
    assert capfd.readouterr().err == f"starman: {line}\nforced\n"


def test_ctrl_c_ends_the_child(
    child: subprocess.Popen[bytes], pipe: tuple[StackReader, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module.time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        module._wait(child.pid, 600, pipe[0])
    assert is_reaped(child.pid)


@pytest.mark.parametrize("seconds", [600.0, 0.0])
def test_a_process_that_has_ended_is_not_killed(
    seconds: float, pipe: tuple[StackReader, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its number may be another's by then. 0.0: it ends when it is asked for its stacks."""
    killed: list[int] = []
    monkeypatch.setattr(module, "_kill", killed.append)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as child:
        if seconds:
            child.kill()
        assert module._wait(child.pid, seconds, pipe[0]) == (-signal.SIGKILL if seconds else None)
        assert killed == []
        assert is_reaped(child.pid)


def test_the_status_is_the_childs(pipe: tuple[StackReader, int]) -> None:
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.exit(7)"]) as child:
        assert module._wait(child.pid, 600, pipe[0]) == 7


def test_no_client_can_connect_to_what_is_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that it made would be reset a moment later."""
    listening: list[int] = []
    close = Listener.close

    def look_and_close(self: Listener) -> None:
        listening.append(self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
        close(self)

    monkeypatch.setattr(Listener, "close", look_and_close)
    bound, notes = module._bind(Settings.of(listen=["127.0.0.1:0"]), InheritedSockets.from_environ({}), (-1, -1))
    assert (bound, notes) == (["127.0.0.1:0: can be bound"], [])
    assert listening == [0]
