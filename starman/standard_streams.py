"""Keeps descriptors 0, 1 and 2 open as standard input, output and error, so that no other file gets these numbers.

C libraries and the interpreter write to descriptor 2. If the socket of a client had that number, the client would get
their output. Also prints a command's output.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys

from starman import log
from starman.errors import StarmanError
from starman.log.output import FIRST_FREE, duplicate_high

# The descriptor of standard output as it was before it was redirected (`keep_output`). The main thread adds to it.
_kept_outputs: list[int] = []
_NAMES = ("standard input", "standard output", "standard error")


def open_missing() -> int:
    """Call at the start of a program, before other files are opened: open /dev/null on each of 0, 1 and 2 that is
    closed, and create the missing streams of `sys`. Returns the descriptor of standard error. Main thread.

    In a program that embeds starman, descriptor 2 may be another file, for example of the event loop, and not
    standard error.
    """
    opened = set()
    with contextlib.suppress(OSError):  # without /dev/null nothing can be done
        while (fd := os.open(os.devnull, os.O_RDWR)) < FIRST_FREE:
            os.set_inheritable(fd, True)
            opened.add(fd)
        os.close(fd)
    errors = 2
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            fd = number if number in opened else os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            stream = open(fd, "w" if number else "r", 1, "utf-8", "backslashreplace", closefd=False)  # noqa: SIM115 - for good
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
            errors = fd if number == 2 else errors
    return errors


def keep_output() -> None:
    """Keep standard output by another descriptor, for the access log. Call it before descriptor 1 is redirected. Main
    thread."""
    if not _kept_outputs:
        with contextlib.suppress(OSError):
            _kept_outputs.append(duplicate_high(1))


def output_descriptor() -> int:
    """The descriptor that leads to standard output. Any thread."""
    return _kept_outputs[0] if _kept_outputs else 1


def restore() -> None:
    """Call after code of the application has run: reopen those of 0, 1 and 2 that it has closed, and log this.
    Descriptor 2 then leads to the error log, the others to /dev/null. Takes a few microseconds if all are open. Any
    thread."""
    for fd, name in enumerate(_NAMES):
        try:
            os.fstat(fd)
        except OSError:
            _reopen(fd, name)


def print_text(text: str) -> None:
    """Print `text` to standard output. A reader that needs no more of it, such as `head`, is no error.

    Raises StarmanError if the text cannot be written, for example to a full disk.
    """
    try:
        print(text, flush=True)
    except OSError as error:
        # Python writes the rest again when it exits.
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
        if not isinstance(error, BrokenPipeError):
            raise StarmanError(f"cannot write to standard output: {error.strerror}") from None


def move_descriptor_up(fd: int) -> int:
    """Replace a new descriptor below 3 (the application has closed that number) by a duplicate with a higher number,
    and restore the standard descriptor. Closes `fd` in any case. Raises OSError if no descriptor is left."""
    try:
        moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE)
    finally:
        os.close(fd)
        restore()
    return moved


def _reopen(fd: int, name: str) -> None:
    target = "the error log" if fd == 2 else os.devnull
    try:
        opened = _error_log() if fd == 2 else os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return
    # /dev/null may have got number `fd` itself. If another thread's new file has got it meanwhile, that file stays.
    if opened != fd and not _is_open(fd):
        os.dup2(opened, fd)
        os.close(opened)
    elif opened == fd:
        os.set_inheritable(fd, True)
    else:
        os.close(opened)
    log.warning(f"the application closed {name} (descriptor {fd}), which now leads to {target}")


def _error_log() -> int:
    """Another descriptor of the error log, blocking if possible, as programs expect of their standard error."""
    own = log.fileno()
    if own < FIRST_FREE:
        return os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    if os.get_blocking(own):
        return os.dup(own)
    try:
        return os.open(f"/proc/self/fd/{own}", os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError:
        return os.dup(own)


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
