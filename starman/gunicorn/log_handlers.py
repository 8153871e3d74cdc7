"""The loggers "gunicorn.error" and "gunicorn.access" of `logging`, as applications, hooks and classes of loggers find
them: with a handler that leads to starman's logs.

Imports `logging`, so only processes that run code of the user import this module: molds, workers, the hook process.
"""

from __future__ import annotations

import logging

from starman import log
from starman.log.tracebacks import format_exception

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

ERROR, ACCESS = "gunicorn.error", "gunicorn.access"
_LEVELS = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR)

# How the loggers were when starman had connected and configured them. Main thread, before the worker is ready.
_plain: dict[str, tuple[object, ...]] = {}


class ErrorLogHandler(logging.Handler):
    """Writes records of `logging` to starman's error log. Any thread."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record, with its traceback."""
        try:
            if self.formatter is not None:
                text = self.format(record)
            else:
                text = record.getMessage()
                if record.exc_info and record.exc_info[1] is not None:
                    text = f"{text}\n{format_exception(record.exc_info[1])}"
        except Exception:
            self.handleError(record)
            return
        write_record(record.levelno, text)


class AccessLogHandler(ErrorLogHandler):
    """Writes records to the access log of a worker; to the error log where the logger does not write the access log.

    write: adds a record to the access log. Set in the main thread, before the worker is ready.
    """

    write: Callable[[logging.LogRecord], None] | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        if self.write is None:
            super().emit(record)
            return
        try:
            self.write(record)
        except Exception:
            self.handleError(record)


def connect_loggers() -> None:
    """Have the two loggers write to starman's logs. Applications take the handlers and the level of the first for
    their own loggers. May be called again."""
    for name, handler in ((ERROR, ErrorLogHandler), (ACCESS, AccessLogHandler)):
        logger = logging.getLogger(name)
        logger.propagate = False
        if not logger.handlers:
            logger.addHandler(handler())
            logger.setLevel(error_level() if name == ERROR else logging.INFO)
        _plain.setdefault(name, _state(logger))


def note_configured() -> None:
    """The setting log_config has configured the loggers: what they have now is no change."""
    for name in (ERROR, ACCESS):
        _plain[name] = _state(logging.getLogger(name))


def is_changed(name: str) -> bool:
    """Whether code of the user has changed a logger: its filters, handlers, level, or where its records go."""
    return name in _plain and _state(logging.getLogger(name)) != _plain[name]


def has_filters(name: str) -> bool:
    """Whether a logger, or one of its handlers, has filters."""
    logger = logging.getLogger(name)
    return bool(logger.filters) or any(handler.filters for handler in logger.handlers)


def error_level() -> int:
    """The level of `logging` that the setting log_level means."""
    return next((level for level in _LEVELS if log.enabled(level)), logging.CRITICAL)


def write_record(level: int, text: str) -> None:
    """Write to the error log at a level of `logging`."""
    for least, write in (
        (logging.CRITICAL, log.critical),
        (logging.ERROR, log.error),
        (logging.WARNING, log.warning),
        (logging.INFO, log.info),
    ):
        if level >= least:
            write(text)
            return
    log.debug(text)


def _state(logger: logging.Logger) -> tuple[object, ...]:
    """What counts as a change. `disabled` does not: `dictConfig` disables every logger that it does not name, and
    should not end the access log."""
    handlers = [(handler, handler.level, handler.formatter, *handler.filters) for handler in logger.handlers]
    return (logger.level, logger.propagate, tuple(logger.filters), tuple(handlers))
