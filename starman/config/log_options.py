"""The table of settings of the logs, which `starman.config.options` includes. The master imports this module."""

from __future__ import annotations

from starman.config import kinds
from starman.config.option import option


class LogOptions:
    """Declares the settings of the logs."""

    __slots__ = ()

    error_log: str | None = option(
        None,
        "Logs",
        kinds.ERROR_LOG,
        "Append errors and events to this file. None or -: standard error.",
        fixed=True,
    )
    access_log: str = option(
        "off", "Logs", kinds.ACCESS_LOG, "Append an access log in combined format to this file. -: standard output."
    )
