"""An application that closes the server's descriptors, or makes the loop spin. Plain PEP 3333, and a hook."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from typing import Any

import starman.serving.health.spinning_loop
from starman import hooks

# For the tests' sake: by default a spinning loop is found in ten seconds, and a quarter of a CPU may be more than a
# test gets.
starman.serving.health.spinning_loop.SPIN_SECONDS = 2.0
starman.serving.health.spinning_loop.SPIN_SHARE = 0.01

loops: list[asyncio.AbstractEventLoop] = []


@hooks.worker_ready
def remember() -> None:
    loops.append(asyncio.get_running_loop())


def spin() -> None:
    """Have the loop watch a pipe at its end, which reports an event without end."""
    reading, writing = os.pipe()
    loops[0].add_reader(reading, int)
    os.close(writing)


def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    what, _, number = environ["PATH_INFO"][1:].partition("/")
    pid = str(os.getpid()).encode()
    if what == "close":
        os.close(int(number))
    elif what == "spin":
        loops[0].call_soon_threadsafe(spin)
    start_response("200 OK", [("Content-Length", str(len(pid)))])
    return [pid]
