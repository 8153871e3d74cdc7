"""The table of settings of the logs, which `starman.config.options` includes. The master imports this module."""

from __future__ import annotations

from starman.config import kinds, log_kinds
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
    access_log: str = option("off", "Logs", log_kinds.ACCESS_LOG, "Append an access log to this file. -: standard output.")
    access_log_format: str = option(
        "combined",
        "Logs",
        log_kinds.ACCESS_LOG_FORMAT,
        "Write the access log in this format: combined, common, json (OpenTelemetry), ecs (Elastic), gcp (Google Cloud), "
        "or a text with atoms such as %(h)s. A text that begins with { is escaped as JSON.",
    )
    access_log_skip: tuple[str, ...] = option(
        (),
        "Logs",
        log_kinds.PATH_PATTERNS,
        "Leave requests of this URL path out of the access log. A * at the end stands for all paths that begin so.",
    )
    access_log_errors: bool = option(
        False, "Logs", kinds.FLAG, "Log only responses with a status of 400 or above in the access log."
    )
    log_config: str | dict[str, object] | None = option(
        None,
        "Logs",
        log_kinds.LOG_CONFIG,
        "Pass the error log to Python's logging, configured by this file: .json and .toml for dictConfig, any other name for "
        "fileConfig. The loggers are starman.error and starman.access.",
        fixed=True,
    )
    capture_output: bool = option(
        False,
        "Logs",
        kinds.FLAG,
        "Write what the application prints, to standard output or standard error, to the error log: each line as a record "
        "of its worker, in order with the other records of that worker.",
        fixed=True,
    )
