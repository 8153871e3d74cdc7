"""The table of settings of the logs, which `starman.config.options` includes. The master imports this module."""

from __future__ import annotations

from starman.config import log_kinds
from starman.config.option import option


class LogOptions:
    """Declares the settings of the logs."""

    __slots__ = ()

    error_log: str | None = option(
        None,
        "Logs",
        log_kinds.ERROR_LOG,
        "Append errors and events to this file. None or -: standard error. syslog: send them to /dev/log; "
        "syslog:PATH: to this UNIX socket; syslog:HOST:PORT: by UDP.",
        fixed=True,
    )
    log_level: str = option(
        "info",
        "Logs",
        log_kinds.LEVEL,
        "Write only records of this level and above to the error log. What the application prints has no level.",
    )
    log_format: str = option(
        "text",
        "Logs",
        log_kinds.FORMAT,
        "Write the error log as text, or as JSON with one object a line, tracebacks included.",
    )
    access_log: str = option(
        "off", "Logs", log_kinds.ACCESS_LOG, "Append an access log in combined format to this file. -: standard output."
    )
