"""Redirects what a worker or mold prints (descriptors 1 and 2) to a pipe, and logs it (`--capture-output`).

Programs that the application starts inherit the descriptors, so their output is logged as well.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys

from starman import log, standard_streams
from starman.process.forking import flush_streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from starman.process.channel import Channel

# How often (milliseconds) the reading thread looks whether it is to end.
_POLL_MILLISECONDS = 1000


def redirect(channel: Channel) -> None:
    """In a fresh fork: redirect descriptors 1 and 2 to the pipe of the channel, if it has one. Main thread."""
    if channel.output < 0:
        return
    log.flush_first(None)
    if not log.has_own_output():
        log.warning("capture_output has no effect in this process: the error log has no descriptor of its own")
        return
    flush_streams()
    standard_streams.keep_output()
    for fd in (1, 2):
        os.dup2(channel.output, fd)
    os.close(channel.output)
    channel.output = -1
    log.keep_descriptor_2()
    for stream in (sys.stdout, sys.stderr):
        # By default, Python keeps lines back until 8 kB of them have come. With PYTHONUNBUFFERED, it writes the line
        # feed by itself, and the lines of several threads mix.
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.reconfigure(line_buffering=True, write_through=False)  # type: ignore[union-attr]


def start_reading(channel: Channel) -> None:
    """In a worker: log what is printed from now on, by a thread, and before each record of the worker. Main thread,
    after the signals are unblocked."""
    if channel.output_reader < 0 or channel.output >= 0:
        return
    import threading

    from starman.log.captured import OutputReader

    reader = OutputReader(channel.output_reader)
    channel.output_reader = -1
    process = os.getpid()

    def read_before(last: bool) -> None:
        # A child that the application forks must not take the lines of the worker.
        if os.getpid() == process:
            if last:
                reader.read_last()
            else:
                reader.read()

    def read_on() -> None:
        poll = select.poll()
        poll.register(reader.fd, select.POLLIN)
        while os.getpid() == process:
            if poll.poll(_POLL_MILLISECONDS) and not reader.read_on():
                return

    try:
        threading.Thread(target=read_on, name="starman-output", daemon=True).start()
    except RuntimeError as error:
        log.warning(f"what the application prints is only logged before other records: {error}")
    log.flush_first(read_before)
