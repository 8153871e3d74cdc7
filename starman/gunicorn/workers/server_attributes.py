"""Attributes that hooks set on `server`, on their way to the hook process that follows at a restart, and to workers.

In gunicorn, one master runs all hooks of the server, also after a restart, and workers are its forks. Here a restart
starts another hook process. So each hook process leaves copies of these attributes, by `pickle`, in a file in memory.
Main thread.
"""

from __future__ import annotations

import fcntl
import os
import pickle
from contextlib import contextmanager

from starman import log
from starman.gunicorn import configuration_reader as reading
from starman.log.tracebacks import exception_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from starman.gunicorn.workers.look_alikes import Server

# What the file has, as this process has last written it, and the attributes that a warning has named.
_left = b""
_named: set[str] = set()


def leave(server: Server, hook: str) -> None:
    """In the hook process, after the hook `hook`: leave the attributes. Logs, once for each, what cannot be copied."""
    global _left  # noqa: PLW0603
    copies: dict[str, bytes] = {}
    for name, value in server.own_attributes().items():
        try:
            copies[name] = pickle.dumps(value)
        except Exception as error:
            _warn(name, f"{hook} sets server.{name}, which cannot be copied ({exception_line(error)})")
    data = pickle.dumps(copies)
    if data == _left or not (copies or _left):
        return
    if reading.server_attributes < 0:
        _warn("", f"{hook} sets attributes of server, which cannot be copied on this system")
        return
    with _locked(fcntl.LOCK_EX):
        os.ftruncate(reading.server_attributes, 0)
        os.pwrite(reading.server_attributes, data, 0)
    _left = data


def take_over(server: Server) -> None:
    """Set the attributes on `server`, as the hook process has last left them."""
    if reading.server_attributes < 0:
        return
    with _locked(fcntl.LOCK_SH):
        data = os.pread(reading.server_attributes, os.fstat(reading.server_attributes).st_size, 0)
    for name, copy in pickle.loads(data).items() if data else ():
        try:
            setattr(server, name, pickle.loads(copy))
        except Exception as error:
            _warn(name, f"server.{name} cannot be copied ({exception_line(error)})")


def _warn(name: str, reason: str) -> None:
    if name not in _named:
        _named.add(name)
        log.warning(f"{reason}: workers do not have it, and after a restart, no hook has it")


@contextmanager
def _locked(kind: int) -> Iterator[None]:
    """No other process writes meanwhile. The lock ends with this process, if it is killed."""
    fcntl.lockf(reading.server_attributes, kind)
    try:
        yield
    finally:
        fcntl.lockf(reading.server_attributes, fcntl.LOCK_UN)
