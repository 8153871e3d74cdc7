"""Adapts `run` and `serve` to the program that calls them: its event loop, its Ctrl-C and its standard error.

Imports asyncio only where it is used, because `run` imports this module in the process that becomes the master.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys

from starman import log
from starman.errors import SettingError, StartError
from starman.log.in_flight import stopping_line
from starman.log.output import open_for_appending
from starman.log.syslog_target import is_syslog
from starman.process.host.errorlog import ErrorLog
from starman.version import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starman.config.settings import Settings
    from starman.serving.service import Service


def refuse_running_loop() -> None:
    """Raise StartError if this thread runs an event loop: `run` would block it, and its workers would share its
    descriptors."""
    events = sys.modules.get("asyncio.events")
    if events is not None and events._get_running_loop() is not None:
        raise StartError("starman.run cannot be called in a running event loop: use `await starman.serve(...)` there")


def refuse_reload_of_callable(settings: Settings) -> None:
    """Raise SettingError if `settings` have the callable reloaded that was given to `run`."""
    if settings.reload:
        raise SettingError(
            f"{settings.source('reload')}: a callable is loaded already, and cannot be loaded again when its files change; "
            'pass its name to run, as "module:app"'
        )


def refuse_reload_in_loop(settings: Settings) -> None:
    """Raise SettingError if `settings` have `serve` reload the application."""
    if settings.reload:
        raise SettingError(
            f"{settings.source('reload')}: serve runs inside the process of its caller, which cannot load code again; use "
            "starman.run or the command starman-uv"
        )


@contextlib.contextmanager
def error_log(path: str | None, errors: int = 2) -> Iterator[None]:
    """Write the error log to the file at `path`; None: to standard error, which is descriptor `errors`. The standard
    error of the calling program is not redirected. Raises SettingError if the file cannot be written."""
    opened = errors != 2 and path is None and log.open_own_descriptor(errors)
    if is_syslog(path):
        with ErrorLog(path):
            yield
        return
    if path is not None:
        try:
            fd = open_for_appending(path)
        except OSError as error:
            raise SettingError(f"error_log: cannot write {path}: {error.strerror}") from None
        try:
            opened = log.open_own_descriptor(fd)
        finally:
            os.close(fd)
        if not opened:
            log.warning(f"error_log: {path} is not used, because this process already writes to another error log")
    try:
        yield
    finally:
        log.finish()
        if opened:
            log.close_own_descriptor()


async def serve_until_cancelled(
    service: Service, started: Callable[[], None], close_listeners: Callable[[], None], seconds: float
) -> None:
    """Run the service until this task is cancelled, then drain it, for `seconds` at most; cancelled again, cut it.

    `started` is called when connections are accepted, and `close_listeners` when a drain begins: as long as a
    listener is open, the kernel takes connections that nothing will serve. Returns after Ctrl-C; raises any other
    cancellation again.
    """
    import asyncio

    serving = asyncio.ensure_future(service.run(started))
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        if not serving.done():
            log.info(stopping_line(service.requests, seconds, "a second cancellation"))
        service.drain()
        close_listeners()
        try:
            await asyncio.shield(serving)
        except asyncio.CancelledError:  # cancelled again: cut what is left
            service.abort()
            await serving
        log.info(f"starman {VERSION} has ended")
        if not interrupted():
            raise
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()


def interrupted() -> bool:
    """Whether Ctrl-C has cancelled the main task. `asyncio.run` and `asyncio.Runner` cancel the task once, and raise
    KeyboardInterrupt if the task ends as cancelled. Main thread."""
    import asyncio

    handler = signal.getsignal(signal.SIGINT)
    runner = getattr(getattr(handler, "func", None), "__self__", None)
    return isinstance(runner, asyncio.Runner) and getattr(runner, "_interrupt_count", 0) > 0
