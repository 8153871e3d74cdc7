"""What the hook on_starting changes of gunicorn's loggers, on its way to workers.

In gunicorn, on_starting runs in the process that forks workers, so a filter that it adds to the access log counts in
each worker. Here it runs in the hook process. So that process leaves copies of the filters, by `pickle`, in a file in
memory, and each worker (or the mold, with preload_app) adds them to its own loggers. Main thread.
"""

from __future__ import annotations

import logging
import os
import pickle

from starman import log
from starman.gunicorn import configuration_reader as reading
from starman.gunicorn.log_handlers import ACCESS, ERROR
from starman.log.tracebacks import exception_line

_LOGGERS = (ERROR, ACCESS)
_ADVICE = "do it in post_fork, which runs in each worker"


def seen() -> dict[str, tuple[list[object], list[object], int]]:
    """The filters, the handlers and the level of each logger."""
    loggers = {name: logging.getLogger(name) for name in _LOGGERS}
    return {name: ([*logger.filters], [*logger.handlers], logger.level) for name, logger in loggers.items()}


def leave(before: dict[str, tuple[list[object], list[object], int]], hook: str) -> None:
    """In the hook process: leave for workers what `hook` has changed since `before`. Logs what cannot be copied."""
    changes: list[tuple[str, int | None, list[bytes]]] = []
    for name, (filters, handlers, level) in before.items():
        logger = logging.getLogger(name)
        if logger.handlers != handlers:
            log.warning(f"{hook} changes the handlers of {name}, which has no effect in workers: {_ADVICE}")
        copies = []
        for added in logger.filters:
            if added not in filters:
                try:
                    copies.append(pickle.dumps(added))
                except Exception as error:
                    log.warning(
                        f"{hook} adds a filter to {name} that cannot be copied to workers ({exception_line(error)}): {_ADVICE}"
                    )
        if copies or logger.level != level:
            changes.append((name, logger.level if logger.level != level else None, copies))
    if changes and reading.logger_changes < 0:
        log.warning(f"{hook} changes the logger {changes[0][0]}, which has no effect in workers on this system: {_ADVICE}")
    elif changes:
        data = pickle.dumps(changes)
        os.ftruncate(reading.logger_changes, 0)
        os.pwrite(reading.logger_changes, data, 0)


def warn(before: dict[str, tuple[list[object], list[object], int]], hook: str) -> None:
    """In the hook process: log that what `hook` has changed since `before` has no effect."""
    after = seen()
    for name in _LOGGERS:
        if after[name] != before[name]:
            log.warning(f"{hook} changes the logger {name}, which has no effect in workers: {_ADVICE}")


def take_over() -> None:
    """In a worker or mold: make the changes that `leave` has left."""
    if reading.logger_changes < 0:
        return
    data = os.pread(reading.logger_changes, os.fstat(reading.logger_changes).st_size, 0)
    for name, level, copies in pickle.loads(data) if data else ():
        logger = logging.getLogger(name)
        if level is not None:
            logger.setLevel(level)
        for copy in copies:
            try:
                logger.addFilter(pickle.loads(copy))
            except Exception as error:
                log.warning(f"a filter of on_starting for {name} cannot be copied ({exception_line(error)}): {_ADVICE}")
