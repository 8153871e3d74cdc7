"""The look-alike of gunicorn's logger: hooks write to it (`server.log`, `worker.log`), and configurations derive from
it.

Its lines go to starman's error log. Any thread may call the methods.
"""

from __future__ import annotations

from starman import log
from starman.log.tracebacks import format_exception

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging

DEBUG, INFO, WARNING, ERROR, CRITICAL = 10, 20, 30, 40, 50


class Logger:
    """Has the methods and attributes of `gunicorn.glogging.Logger`. cfg: gunicorn's settings, or None."""

    LOG_LEVELS = {"critical": CRITICAL, "error": ERROR, "warning": WARNING, "info": INFO, "debug": DEBUG}  # noqa: RUF012
    loglevel = INFO
    error_fmt = "%(asctime)s [%(process)d] [%(levelname)s] %(message)s"
    datefmt = "[%Y-%m-%d %H:%M:%S %z]"
    access_fmt = "%(message)s"
    syslog_fmt = "[%(process)d] %(message)s"

    def __init__(self, cfg: object = None) -> None:
        self.cfg = cfg
        self.loglevel = self.LOG_LEVELS.get(str(getattr(cfg, "loglevel", "info")).lower(), INFO)

    def setup(self, cfg: object) -> None:
        """Called by gunicorn when the settings have been read; never called here."""

    @property
    def error_log(self) -> logging.Logger:
        """The logger "gunicorn.error" of the standard library."""
        import logging

        return logging.getLogger("gunicorn.error")

    @property
    def access_log(self) -> logging.Logger:
        """The logger "gunicorn.access" of the standard library."""
        import logging

        return logging.getLogger("gunicorn.access")

    def critical(self, msg: object, *args: object, **kwargs: object) -> None:
        """Log an error. `msg` and `args` as for `logging`."""
        self.log(CRITICAL, msg, *args, **kwargs)

    def error(self, msg: object, *args: object, **kwargs: object) -> None:
        """Log an error. `msg` and `args` as for `logging`."""
        self.log(ERROR, msg, *args, **kwargs)

    def warning(self, msg: object, *args: object, **kwargs: object) -> None:
        """Log a warning. `msg` and `args` as for `logging`."""
        self.log(WARNING, msg, *args, **kwargs)

    def info(self, msg: object, *args: object, **kwargs: object) -> None:
        """Log an event. `msg` and `args` as for `logging`."""
        self.log(INFO, msg, *args, **kwargs)

    def debug(self, msg: object, *args: object, **kwargs: object) -> None:
        """Log a detail, if loglevel is debug. `msg` and `args` as for `logging`."""
        self.log(DEBUG, msg, *args, **kwargs)

    def exception(self, msg: object, *args: object, **kwargs: object) -> None:
        """Log an error with the traceback of the exception that is being handled."""
        self.log(ERROR, msg, *args, **{"exc_info": True, **kwargs})

    def log(self, lvl: object, msg: object, *args: object, **kwargs: object) -> None:
        """Log at a level, a number or its name. The setting log_level says what is written."""
        level = lvl if isinstance(lvl, int) else self.LOG_LEVELS.get(str(lvl).lower(), INFO)
        if not log.enabled(level):
            return
        text = _formatted(msg, args)
        found = _exception(kwargs.get("exc_info"))
        if found is not None:
            text = f"{text}\n{format_exception(found)}"
        write_record(level, text)


def write_record(level: int, text: str) -> None:
    """Write to the error log at a level of `logging`."""
    for least, write in ((CRITICAL, log.critical), (ERROR, log.error), (WARNING, log.warning), (INFO, log.info)):
        if level >= least:
            write(text)
            return
    log.debug(text)


def _formatted(msg: object, args: tuple[object, ...]) -> str:
    """`msg % args` as `logging` does it. Never raises for arguments that do not fit."""
    if not args:
        return str(msg)
    values: object = args[0] if len(args) == 1 and isinstance(args[0], dict) and args[0] else args
    try:
        return str(msg) % values
    except (TypeError, ValueError, KeyError):
        return f"{msg} {args!r}"


def _exception(info: object) -> BaseException | None:
    """The exception that `exc_info` of `logging` names: True, an exception, or a tuple of `sys.exc_info`."""
    if isinstance(info, BaseException):
        return info
    if isinstance(info, tuple):
        return info[1] if len(info) > 1 and isinstance(info[1], BaseException) else None
    if info:
        import sys

        return sys.exc_info()[1]
    return None
