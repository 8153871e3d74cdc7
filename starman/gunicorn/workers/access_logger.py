"""The access log by way of gunicorn's logger, where the user has changed that logger.

A filter or handler of the logger "gunicorn.access", or a class of loggers with methods of its own, then decides what
is written, for each request. Without any of them, requests use starman's access log directly, and pay nothing.
"""

from __future__ import annotations

import datetime
import logging
from types import SimpleNamespace
from typing import TYPE_CHECKING

from starman import log
from starman.gunicorn.known_settings import KNOWN_SETTINGS
from starman.gunicorn.log_handlers import ACCESS, AccessLogHandler, has_filters, is_changed
from starman.gunicorn.stand_in_logger import Logger, SafeAtoms
from starman.gunicorn.workers.look_alikes import Request, Response
from starman.log.tracebacks import format_exception
from starman.serving.access_log.access_log import AccessLog
from starman.serving.access_log.opening import is_on, line_filter_of

if TYPE_CHECKING:
    from typing import Any

    from starman.config.settings import Settings
    from starman.gunicorn.workers.config import Config
    from starman.serving.access_log.logged_request import LoggedRequest

# Where the lines go of a logger that writes an access log of its own, while the settings ask for none.
_NOWHERE = "/dev/null"

# The logger that the hooks of this process use; None: the configuration has no hooks. Main thread.
logger: Logger | None = None


def open_for_loggers(settings: Settings) -> AccessLog | None:
    """The access log that goes through gunicorn's logger, if that is changed; else None. Main thread of a worker, when
    its hooks have run and the application is loaded. Raises SettingError as `AccessLog` does."""
    own_access = logger is not None and type(logger).access is not Logger.access
    changes_lines = logger is not None and not logger._has_own_atoms
    if not own_access and not is_on(settings):
        return None
    filtered = settings.access_log == "logging" and has_filters(ACCESS)
    if not (own_access or changes_lines or filtered or is_changed(ACCESS)):
        return None
    found = LoggerAccessLog(settings, logger or Logger(_configuration(settings)))
    for handler in logging.getLogger(ACCESS).handlers:
        if isinstance(handler, AccessLogHandler):
            handler.write = found.add_record
    return found


def _configuration(settings: Settings) -> object:
    """What `Logger` needs of gunicorn's settings, if there are no hooks."""
    text = settings.access_log_format
    return SimpleNamespace(
        access_log_format=KNOWN_SETTINGS["access_log_format"].default if text == "combined" else text, loglevel="info"
    )


class LoggerAccessLog(AccessLog):
    """The access log of a worker whose lines go through gunicorn's logger. Any thread."""

    __slots__ = ("_failed", "_logger")

    def __init__(self, settings: Settings, logger: Logger) -> None:
        target = settings.access_log if is_on(settings) else _NOWHERE
        line_filter = line_filter_of(settings)
        super().__init__(str(target), settings.access_log_format, line_filter, in_loop=not settings.threads)
        self.needs_details = True
        self._logger = logger
        self._failed = False
        logger.access_log_enabled = is_on(settings)

    def add_request(self, request: LoggedRequest) -> None:
        """Log a request by the logger. Thread."""
        self.add_not_run(request)
        if self._bytes >= self._batch_bytes:
            self._write_batch()

    def add_not_run(self, request: LoggedRequest) -> None:
        """As `add_request`, for a request that did not run. Either side: so this writes nothing itself."""
        if self._leaves_out(request):
            return
        try:
            seen = Request(request.environ)
            seconds = datetime.timedelta(seconds=request.seconds)
            self._logger.access(_LoggedResponse(seen, request, self._logger.cfg), seen, request.environ, seconds)
        except Exception as error:  # of the user's filter, handler or class; or an environ without its keys
            if not self._failed:
                self._failed = True
                log.error(
                    "the logger gunicorn.access failed; the access log has a line nevertheless, and further failures are "
                    f"not logged\n{format_exception(error)}"
                )
            self._append(self._format.line(request))

    def add_record(self, record: logging.LogRecord) -> None:
        """Add the line of a record. Unless a filter, formatter or class has changed it, the line is the one that
        starman writes without them. Any thread."""
        atoms: Any = record.args
        handlers = logging.getLogger(ACCESS).handlers
        formatter = next((handler.formatter for handler in handlers if isinstance(handler, AccessLogHandler)), None)
        as_usual = type(atoms) is SafeAtoms and not atoms.changed and record.msg is self._logger.cfg.access_log_format
        if as_usual and formatter is None and atoms.request is not None:
            self._append(self._format.line(atoms.request))
            return
        text = record.getMessage() if formatter is None else formatter.format(record)
        self._append(text.encode("utf-8", "backslashreplace") + b"\n")


class _LoggedResponse(Response):
    """A response that is over. logged: what starman logs of the request."""

    def __init__(self, request: Request, logged: LoggedRequest, cfg: Config) -> None:
        super().__init__(request, cfg)
        self.logged = logged
        self.status_code = logged.status_code
        self.status = str(logged.status_code)
        self.sent = logged.body_bytes
        self.headers_sent = True
        head = logged.response_head
        if head is not None:
            lines = head.field_lines().decode("latin-1").split("\r\n")
            self.headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines if line)]
            self.response_length = head.content_length
            if head.content_length is not None:
                self.headers.append(("Content-Length", str(head.content_length)))
