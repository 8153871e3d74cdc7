"""Loads the application in a worker or mold of `starman-uv gunicorn`, with gunicorn's loggers and request hooks."""

from __future__ import annotations

import logging
import sys

from starman import log, server
from starman.config.option import OPTIONS
from starman.errors import LoadError
from starman.gunicorn.mapping_tables import HOOKS_MODULE
from starman.gunicorn.stand_in_logger import write_record
from starman.log.tracebacks import exception_line, format_exception

TYPE_CHECKING = False
if TYPE_CHECKING:
    from starman.config.settings import Settings
    from starman.wsgi.call import Application

_LEVELS = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR)


def load(settings: Settings) -> Application:
    """Import the application that `settings` name. Raises StarmanError."""
    connect_loggers()
    configure_logging(settings.value("log_config") if "log_config" in OPTIONS else None)
    application = server.load(settings)
    module = sys.modules.get(HOOKS_MODULE)
    return application if module is None else module.current.wrapped(application)


def connect_loggers() -> None:
    """Have the loggers "gunicorn.error" and "gunicorn.access" write to the error log.

    Applications take the handlers and the level of the first for their own loggers.
    """
    for name in ("gunicorn.error", "gunicorn.access"):
        logger = logging.getLogger(name)
        logger.propagate = False
        if not logger.handlers:
            logger.addHandler(ErrorLogHandler())
            logger.setLevel(next((level for level in _LEVELS if log.enabled(level)), logging.CRITICAL))


def configure_logging(config: object) -> None:
    """Configure `logging` for the application, too, as gunicorn does. `config`: the value of log_config. Raises
    LoadError."""
    import logging.config

    try:
        if isinstance(config, dict):
            logging.config.dictConfig(config)
        elif isinstance(config, str):
            logging.config.fileConfig(config, disable_existing_loggers=False)
    except Exception as error:
        raise LoadError(f"cannot configure logging: {exception_line(error)}", format_exception(error)) from None


class ErrorLogHandler(logging.Handler):
    """Writes records of `logging` to starman's error log. Any thread."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record, with its traceback."""
        try:
            text = record.getMessage()
            if record.exc_info and record.exc_info[1] is not None:
                text = f"{text}\n{format_exception(record.exc_info[1])}"
        except Exception:
            self.handleError(record)
            return
        write_record(record.levelno, text)
