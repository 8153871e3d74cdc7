"""Loads the application with `--reload`: a failure is logged and shown in the browser, and does not end the process.

Runs in a worker or mold. Imports `starman.wsgi`, which the master must not.
"""

from __future__ import annotations

import os

from starman import log
from starman.errors import StarmanError
from starman.log.tracebacks import exception_line, format_exception
from starman.wsgi.failure_page import make_failure_page

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from starman.config.settings import Settings
    from starman.process.watching.reports import LoadedFiles
    from starman.wsgi.call import Application


def load_or_explain(load: Callable[[], Application], loaded_files: LoadedFiles, settings: Settings, *, logs: bool) -> Application:
    """Call `load`, and report the loaded files to the watcher. Returns what it returns; if it fails, an application
    that shows the failure to local clients.

    logs: write the failure to the log. One of several workers does.
    """
    try:
        application = load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit too: a module may call sys.exit
        known = isinstance(error, StarmanError)
        message = str(error) if known else exception_line(error)
        details = error.details if isinstance(error, StarmanError) else format_exception(error)
        directories = [os.path.abspath(directory) for directory in settings.include]
        loaded_files.report_failure(error, directories)
        if logs:
            log.error(f"{message}; waiting for a change of its files\n{details}".rstrip("\n"))
        return make_failure_page(message, details)
    loaded_files.report()
    return application
