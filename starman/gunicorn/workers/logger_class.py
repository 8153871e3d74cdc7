"""Makes the logger that hooks receive: gunicorn's, or one of the class that the setting logger_class names."""

from __future__ import annotations

import importlib

from starman import log
from starman.errors import HookError
from starman.gunicorn.known_settings import PLAIN_LOGGERS
from starman.gunicorn.stand_in_logger import Logger
from starman.loading import application_traceback
from starman.log.tracebacks import exception_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from starman.gunicorn.workers.config import Config


def make_logger(logger_class: object, cfg: Config) -> Logger:
    """A logger of a class, or of the name of one (module.Class). A class that is not derived from gunicorn's is not
    used, with a warning. Raises HookError if it cannot be imported or made. Main thread, while the stand-in for
    gunicorn is installed."""
    if isinstance(logger_class, str) and logger_class in PLAIN_LOGGERS:
        return Logger(cfg)
    try:
        found = _imported(logger_class) if isinstance(logger_class, str) else logger_class
        if isinstance(found, type) and issubclass(found, Logger):
            return found(cfg)
    except Exception as error:
        raise HookError(f"logger_class failed: {exception_line(error)}", application_traceback(error)) from error
    log.warning(f"logger_class has no effect: {found!r} is not derived from gunicorn.glogging.Logger")
    return Logger(cfg)


def _imported(name: str) -> object:
    module, _, last = name.replace(":", ".").rpartition(".")
    return getattr(importlib.import_module(module), last)
