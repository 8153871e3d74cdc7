"""starman.process.worker.stack_dumps: signals that write stacks, and the stack for signal handlers."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

import pytest

from starman.process.forking import STACKS
from starman.process.worker import stack_dumps
from starman.process.worker.stack_dumps import (
    MAX_BYTES,
    StackHandler,
    _signal_stack,
    enable_stack_dumps,
    log_own_stacks,
    open_dump_pipe,
)
from starman.process.worker.stacks import arrange_stacks
from tests.unit.process.forked import run_forked


def dump_during(action: Callable[[], object]) -> str:
    """The text that a child process writes at signals, which it sends itself in `action`."""

    def in_child() -> str:
        reading, writing = open_dump_pipe()
        enable_stack_dumps(writing)
        action()
        return os.read(reading, MAX_BYTES).decode()

    return run_forked(in_child)


def send() -> None:
    os.kill(os.getpid(), STACKS)


def test_a_dump_shows_what_the_signal_has_interrupted_first() -> None:
    text = arrange_stacks(dump_during(send))
    assert text.splitlines()[0].startswith("Current thread ")
    assert f'File "{__file__}"' in text.splitlines()[1]
    assert text.splitlines()[1].endswith(" in send")


def test_a_system_call_is_interrupted_and_goes_on() -> None:
    def wait() -> None:
        threading.Timer(0.2, os.kill, (os.getpid(), STACKS)).start()
        began = time.monotonic()
        time.sleep(0.5)
        assert time.monotonic() - began >= 0.5

    assert f'File "{__file__}"' in dump_during(wait)


def test_signals_in_quick_succession_do_not_nest() -> None:
    """A handler that runs inside another one writes nothing. They would reach the limit of recursion."""

    def nest() -> None:
        handler = signal.getsignal(STACKS)
        assert isinstance(handler, StackHandler)
        dump = handler._dump

        def dump_and_send(fd: int) -> None:
            send()
            time.sleep(0)  # the handler runs here at the latest
            dump(fd)

        handler._dump = dump_and_send
        send()

    assert dump_during(nest).count("most recent call first") == 1


@pytest.mark.parametrize("error", [MemoryError, RecursionError])
def test_a_dump_that_fails_is_not_raised_into_the_application(error: type[Exception]) -> None:
    def fail() -> None:
        handler = signal.getsignal(STACKS)
        assert isinstance(handler, StackHandler)
        dump = handler._dump

        def raise_error(fd: int) -> None:
            raise error

        handler._dump = raise_error
        send()
        handler._dump = dump
        send()

    assert "most recent call first" in dump_during(fail)


def test_the_exception_of_an_alarm_passes() -> None:
    """An application limits the time of a call with it."""

    def be_alarmed() -> None:
        def alarm(*_: object) -> None:
            raise TimeoutError

        signal.signal(signal.SIGALRM, alarm)
        handler = signal.getsignal(STACKS)
        assert isinstance(handler, StackHandler)
        dump = handler._dump

        def dump_and_alarm(fd: int) -> None:
            dump(fd)
            os.kill(os.getpid(), signal.SIGALRM)

        handler._dump = dump_and_alarm
        with pytest.raises(TimeoutError):
            send()

    assert "most recent call first" in dump_during(be_alarmed)


def test_without_a_pipe_the_process_logs_its_stacks(capfd: pytest.CaptureFixture[str]) -> None:
    def in_child() -> str:
        enable_stack_dumps()
        send()
        return ""

    run_forked(in_child)
    entry = capfd.readouterr().err
    assert "[INFO] stacks of this process\n  Current thread " in entry
    assert entry.splitlines()[2].endswith(" in send")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere faulthandler's stack is not replaced")
def test_a_fork_has_a_stack_for_signal_handlers_of_its_own() -> None:
    """On a stack shared by parent and child, the handlers of both would overwrite each other."""

    def in_child() -> str:
        enable_stack_dumps()
        (start,) = _signal_stack
        assert isinstance(start, ctypes.c_char)
        assert start.value == b"\0"

        def in_grandchild() -> str:
            start.value = b"x"
            return "written"

        assert run_forked(in_grandchild) == "written"
        return repr(start.value)

    assert run_forked(in_child) == repr(b"\0")


def test_own_stacks(capfd: pytest.CaptureFixture[str]) -> None:
    log_own_stacks("this test")
    text = capfd.readouterr().err
    assert "[INFO] stacks of this test\n" in text
    assert f'File "{__file__}"' in text


def test_own_stacks_without_a_descriptor(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """A signal handler of the master calls the function, so an exception would interrupt any place of the loop."""

    def none_is_left() -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(stack_dumps, "open_dump_pipe", none_is_left)
    log_own_stacks("this test")
    assert "[ERROR] the stacks of this test cannot be shown: Too many open files\n" in capfd.readouterr().err
