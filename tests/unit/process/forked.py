"""Run a function in a fork of the test process, when it changes the process for good."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable

from starman.process.forking import fork


def run_forked(function: Callable[[], object]) -> str:
    """Return str(function()) from a child. An exception in the child fails the test, with its traceback."""
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
