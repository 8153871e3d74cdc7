"""Loads the application in a worker or mold of `starman-uv gunicorn`, with gunicorn's loggers and request hooks."""

from __future__ import annotations

import os
import sys

from starman import server
from starman.config.option import OPTIONS
from starman.errors import LoadError
from starman.gunicorn import configuration_reader as reading
from starman.gunicorn.log_handlers import connect_loggers, note_configured
from starman.gunicorn.mapping.tables import HOOKS_MODULE
from starman.gunicorn.workers.access_logger import open_for_loggers
from starman.gunicorn.workers.stand_in_modules import offer_stand_in
from starman.gunicorn.workers.surroundings import SERVER_SOFTWARE, VARIABLE, arguments_of
from starman.loading import add_directories
from starman.log.tracebacks import exception_line, format_exception
from starman.serving.access_log import opening

TYPE_CHECKING = False
if TYPE_CHECKING:
    from starman.config.settings import Settings
    from starman.wsgi.call import Application


def load(settings: Settings) -> Application:
    """Import the application that `settings` name. Raises StarmanError."""
    enter_surroundings()
    offer_stand_in(_install_stand_in)
    connect_loggers()
    add_directories(settings)  # the configuration of logging may name classes of the project
    configure_logging(settings.value("log_config") if "log_config" in OPTIONS else None)
    note_configured()
    opening.replacement = open_for_loggers
    application = server.load(settings)
    module = sys.modules.get(HOOKS_MODULE)
    return application if module is None else module.current.wrapped(application, settings.worker_timeout)


def _install_stand_in() -> None:
    from starman.gunicorn.stand_in import install

    install()


def enter_surroundings() -> None:
    """Give this process the `sys.argv` and the variable that it has in gunicorn. Main thread, before `raw_env` is
    applied, which may set the variable to another value."""
    if reading.origin is not None:
        sys.argv = arguments_of(reading.program, reading.origin[0])
    os.environ[VARIABLE] = SERVER_SOFTWARE


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
