"""The look-alike of gunicorn's logger: hooks write to it (`server.log`, `worker.log`), and configurations derive from
it.

Its lines go to starman's error log. Any thread may call the methods.
"""

from __future__ import annotations

import os
import re
import time

from starman import log
from starman.log.tracebacks import format_exception
from starman.serving.access_log.logged_request import basic_user

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from collections.abc import Mapping
    from typing import Any

DEBUG, INFO, WARNING, ERROR, CRITICAL = 10, 20, 30, 40, 50


# What could end a line of the access log, or control a terminal.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f]")


class SafeAtoms(dict[str, object]):
    """The atoms of one request, as `gunicorn.glogging.SafeAtoms`: texts are escaped, and a missing atom is "-".

    request: what starman logs of the request, if the atoms are its own; None: they differ. changed: whether an atom
    was set since.
    """

    request: object = None
    changed = False

    def __init__(self, atoms: Mapping[str, object]) -> None:
        super().__init__((name, _escaped(value) if isinstance(value, str) else value) for name, value in atoms.items())

    def __getitem__(self, name: str) -> object:
        return self.get(name.lower() if name.startswith("{") else name, "-")

    def __setitem__(self, name: str, value: object) -> None:
        self.changed = True
        super().__setitem__(name, value)


class Logger:
    """Has the methods and attributes of `gunicorn.glogging.Logger`. cfg: gunicorn's settings, or None.

    access_log_enabled: whether the server has an access log; set by the worker.
    """

    LOG_LEVELS = {"critical": CRITICAL, "error": ERROR, "warning": WARNING, "info": INFO, "debug": DEBUG}  # noqa: RUF012
    loglevel = INFO
    error_fmt = "%(asctime)s [%(process)d] [%(levelname)s] %(message)s"
    datefmt = "[%Y-%m-%d %H:%M:%S %z]"
    access_fmt = "%(message)s"
    syslog_fmt = "[%(process)d] %(message)s"
    atoms_wrapper_class: type[Any] = SafeAtoms
    access_log_enabled = False

    def __init__(self, cfg: Any = None) -> None:
        self.cfg = cfg
        self.error_handlers: list[object] = []
        self.access_handlers: list[object] = []
        self.logfile: object = None
        self.setup(cfg)

    def setup(self, cfg: Any) -> None:
        """Connect the loggers to starman's logs. Classes derived from this one add to it."""
        from starman.gunicorn.log_handlers import connect_loggers

        self.cfg = cfg
        self.loglevel = self.LOG_LEVELS.get(str(getattr(cfg, "loglevel", "info")).lower(), INFO)
        connect_loggers()

    @property
    def error_log(self) -> logging.Logger:
        """The logger "gunicorn.error" of the standard library."""
        import logging

        return logging.getLogger("gunicorn.error")

    @error_log.setter
    def error_log(self, logger: logging.Logger) -> None:
        """Ignored: derived classes set the same logger."""

    @property
    def access_log(self) -> logging.Logger:
        """The logger "gunicorn.access" of the standard library."""
        import logging

        return logging.getLogger("gunicorn.access")

    @access_log.setter
    def access_log(self, logger: logging.Logger) -> None:
        """Ignored: derived classes set the same logger."""

    def access(self, resp: Any, req: Any, environ: Any, request_time: Any) -> None:
        """Log a request. Called for each one if a derived class has its own `access`, `atoms` or `now`, or if the
        logger "gunicorn.access" was changed. Thread of the request."""
        if not self.access_log_enabled:
            return
        atoms = self.atoms_wrapper_class(self.atoms(resp, req, environ, request_time))
        if type(atoms) is SafeAtoms and self._has_own_atoms:
            atoms.request = resp.logged
        logger = self.access_log
        if logger.getEffectiveLevel() > INFO:
            return
        # Not `logger.info`: it would look for its caller, and log nothing after a `dictConfig` of the application
        # that does not name the logger.
        record = logger.makeRecord(logger.name, INFO, __file__, 0, self.cfg.access_log_format, (atoms,), None, "access")
        found = logger.filter(record)
        if found:
            logger.callHandlers(record if found is True else found)

    @property
    def _has_own_atoms(self) -> bool:
        """Whether no derived class changes the atoms."""
        return type(self).atoms is Logger.atoms and type(self).now is Logger.now

    def atoms(self, resp: Any, req: Any, environ: Any, request_time: Any) -> dict[str, object]:
        """The values of a request, by the names that access_log_format uses."""
        microseconds = request_time.days * 86_400_000_000 + request_time.seconds * 1_000_000 + request_time.microseconds
        seconds, rest = divmod(microseconds, 1_000_000)
        status = resp.status
        atoms: dict[str, object] = {
            "h": environ.get("REMOTE_ADDR", "-"),
            "l": "-",
            "u": basic_user(environ.get("HTTP_AUTHORIZATION")) or "-",
            "t": self.now(),
            "r": f"{environ['REQUEST_METHOD']} {environ['RAW_URI']} {environ['SERVER_PROTOCOL']}",
            "s": status.split(None, 1)[0] if isinstance(status, str) else status,
            "m": environ.get("REQUEST_METHOD"),
            "U": environ.get("PATH_INFO"),
            "q": environ.get("QUERY_STRING"),
            "H": environ.get("SERVER_PROTOCOL"),
            "b": str(resp.sent),
            "B": resp.sent,
            "f": environ.get("HTTP_REFERER", "-"),
            "a": environ.get("HTTP_USER_AGENT", "-"),
            "T": seconds,
            "D": microseconds,
            "M": microseconds // 1000,
            "L": f"{seconds}.{rest:06d}",
            "p": f"<{os.getpid()}>",
        }
        for form, pairs in (("{%s}i", req.headers), ("{%s}o", resp.headers), ("{%s}e", environ.items())):
            atoms.update((form % str(name).lower(), value) for name, value in pairs)
        return atoms

    def now(self) -> str:
        """The time as the access log has it."""
        return time.strftime("[%d/%b/%Y:%H:%M:%S %z]")

    def reopen_files(self) -> None:
        """Called by gunicorn at USR1; never called here."""

    def close_on_exec(self) -> None:
        """Called by gunicorn before it executes a program; never called here."""

    def _set_handler(self, log: logging.Logger, output: object, fmt: logging.Formatter, stream: object = None) -> None:
        """Have the handlers of a logger use a format. Derived classes call it; the output stays starman's."""
        for handler in log.handlers:
            handler.setFormatter(fmt)

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
        from starman.gunicorn.log_handlers import ERROR as NAME
        from starman.gunicorn.log_handlers import is_changed, write_record

        level = lvl if isinstance(lvl, int) else self.LOG_LEVELS.get(str(lvl).lower(), INFO)
        if is_changed(NAME):  # filters, or handlers of the user
            self.error_log.log(level, msg, *args, **kwargs)  # type: ignore[arg-type]
            return
        if not log.enabled(level):
            return
        text = _formatted(msg, args)
        found = _exception(kwargs.get("exc_info"))
        if found is not None:
            text = f"{text}\n{format_exception(found)}"
        write_record(level, text)


def _escaped(text: str) -> str:
    text = text.replace('"', '\\"')
    return text if text.isprintable() else _CONTROLS.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


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
