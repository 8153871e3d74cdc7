"""Runs a function in a fork of the test's process, for what a process can do to itself only once."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable

from starman.process.forking import fork


def run_forked(function: Callable[[], object]) -> str:
    """The text of what `function` returns in a child; the child's traceback fails the test."""
    read_fd, write_fd = os.pipe()
    pid = fork()
    if pid == 0:
        status = 1
        try:
            try:
                text, status = str(function()), 0
            except BaseException:
                text = traceback.format_exc()
            os.write(write_fd, text.encode())
        finally:
            os._exit(status)
    os.close(write_fd)
    with open(read_fd, encoding="utf-8") as file:
        text = file.read()
    _, status = os.waitpid(pid, 0)
    assert status == 0, text
    return text
