"""starman.standard_streams: descriptors 0, 1 and 2 where a process starts without them, or an application closes
them."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from starman import log, standard_streams
from starman.serving.accepting.listening import ListeningSocket
from starman.serving.sending.thread_socket import ThreadSocket
from tests.unit.process.forked import run_forked

NUMBERS = pytest.mark.parametrize("numbers", [(0,), (1,), (2,), (0, 1, 2)], ids=str)


def close(numbers: tuple[int, ...]) -> None:
    for number in numbers:
        os.close(number)


def without_streams() -> None:
    """As Python starts when descriptors 0, 1 and 2 are closed."""
    close((0, 1, 2))
    sys.stdin = sys.stdout = sys.stderr = None


def target(fd: int) -> str:
    return os.readlink(f"/proc/self/fd/{fd}")


def test_missing_descriptors_are_opened() -> None:
    def in_child() -> str:
        without_streams()
        errors = standard_streams.open_missing()
        assert [target(fd) for fd in range(3)] == [os.devnull] * 3
        assert all(os.get_inheritable(fd) for fd in range(3))
        assert [stream.fileno() for stream in (sys.stdin, sys.stdout, sys.stderr)] == [0, 1, 2]
        print("nowhere", file=sys.stderr, flush=True)
        return str(errors)

    assert run_forked(in_child) == "2"


def test_a_file_that_has_got_such_a_number_stays_and_is_no_stream(tmp_path: Path) -> None:
    path = tmp_path / "file"

    def in_child() -> str:
        without_streams()
        files = [os.open(path, os.O_RDWR | os.O_CREAT) for _ in range(3)]
        assert files == [0, 1, 2]
        errors = standard_streams.open_missing()
        assert errors > 2
        assert target(errors) == os.devnull
        assert [target(fd) for fd in range(3)] == [str(path)] * 3
        for stream in (sys.stdout, sys.stderr):
            print("nowhere", file=stream, flush=True)
        return path.read_text()

    assert run_forked(in_child) == ""


def in_child_with_log(function: Callable[[], object], numbers: tuple[int, ...]) -> str:
    """What the error log of a process has when `function` was called there, behind the close of these descriptors."""
    reading, writing = os.pipe()

    def in_child() -> str:
        os.dup2(writing, 2)
        os.close(writing)
        assert log.open_own_descriptor()
        function()
        assert all(target(fd) == os.devnull for fd in (0, 1) if fd in numbers)
        assert target(2) == target(reading)
        assert all(os.get_inheritable(fd) for fd in numbers)
        return os.read(reading, 65_536).decode() if numbers else ""

    try:
        return run_forked(in_child)
    finally:
        os.close(reading)
        os.close(writing)


def said(text: str) -> list[str]:
    return [line.partition("the application closed ")[2] for line in text.splitlines()]


def lines(numbers: tuple[int, ...]) -> list[str]:
    """What the log says of descriptors that were closed."""
    all_lines = (
        "standard input (descriptor 0), which now leads to /dev/null",
        "standard output (descriptor 1), which now leads to /dev/null",
        "standard error (descriptor 2), which now leads to the error log",
    )
    return [all_lines[number] for number in numbers]


@NUMBERS
def test_what_an_application_has_closed_is_opened_again(numbers: tuple[int, ...]) -> None:
    def close_and_restore() -> None:
        close(numbers)
        standard_streams.restore()

    assert said(in_child_with_log(close_and_restore, numbers)) == lines(numbers)


def test_what_is_open_stays_and_nothing_is_said() -> None:
    assert in_child_with_log(standard_streams.restore, ()) == ""


@NUMBERS
def test_no_accepted_connection_has_such_a_number(numbers: tuple[int, ...]) -> None:
    with ListeningSocket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def close_and_accept() -> None:
            with socket.create_connection(listener.getsockname()):
                close(numbers)
                accepted, _ = listener.accept()
                assert accepted.fileno() > 2
                accepted.close()

        assert said(in_child_with_log(close_and_accept, numbers)) == lines(numbers)


@NUMBERS
def test_no_duplicate_of_a_connection_has_such_a_number(numbers: tuple[int, ...]) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:

        def close_and_open() -> None:
            close(numbers)
            thread_socket = ThreadSocket()
            thread_socket.open(ours.fileno())
            assert thread_socket.fd > 2
            assert os.path.sameopenfile(thread_socket.fd, ours.fileno())

        assert said(in_child_with_log(close_and_open, numbers)) == lines(numbers)
