"""starman.thread_io: how much a thread has read and written, also after a change of the user."""

from __future__ import annotations

import os
import sys

import pytest

from starman import thread_io
from tests.unit.process.forked import run_forked

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the file is Linux's")

NOBODY = 65_534


def move(count: int) -> int:
    """Read and write so many bytes each; how many of them were counted."""
    before = thread_io.bytes_moved()
    with open("/dev/zero", "rb", buffering=0) as zeros, open("/dev/null", "wb", buffering=0) as null:
        null.write(zeros.read(count))
    return thread_io.bytes_moved() - before


def become_undumpable() -> None:
    """As a process is that has changed its user: /proc gives its files to root."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    else:
        import ctypes

        ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE


def test_bytes_are_counted_by_the_kernel() -> None:
    assert 2_000_000 <= move(1_000_000) < 2_010_000


def test_a_file_that_is_kept_open_can_be_read_after_a_change_of_the_user() -> None:
    def look() -> str:
        thread_io.keep_open()
        become_undumpable()
        with pytest.raises(PermissionError):
            os.close(os.open(thread_io.PATH, os.O_RDONLY))
        return str(move(1_000_000))

    assert 2_000_000 <= int(run_forked(look)) < 2_010_000


def test_without_a_kept_file_the_change_of_the_user_makes_it_unreadable() -> None:
    def look() -> str:
        become_undumpable()
        thread_io.keep_open()
        with pytest.raises(PermissionError):
            thread_io.bytes_moved()
        return str(thread_io.descriptors())

    assert run_forked(look) == "[]"


def test_a_descriptor_that_the_application_has_closed_is_not_read() -> None:
    """Its number may be that of a file of the application."""

    def look() -> str:
        thread_io.keep_open()
        (kept,) = thread_io.descriptors()
        with open("/proc/self/status", "rb") as other:
            os.dup2(other.fileno(), kept)
            become_undumpable()
            with pytest.raises(PermissionError):
                thread_io.bytes_moved()
            found = thread_io.descriptors()
        os.close(kept)
        with pytest.raises(PermissionError):
            thread_io.bytes_moved()
        return str(found + thread_io.descriptors())

    assert run_forked(look) == "[]"
