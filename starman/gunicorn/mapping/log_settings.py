"""What becomes of gunicorn's settings of the logs."""

from __future__ import annotations

from starman.config.access_log_format import read_format
from starman.gunicorn.configuration import ConfigurationError
from starman.gunicorn.known_settings import ACCESS_LOG_FORMAT, PLAIN_LOGGERS
from starman.gunicorn.log_configuration import known_atoms, log_configuration
from starman.gunicorn.mapping.outcomes import Outcomes
from starman.gunicorn.mapping.tables import HOOKS_MODULE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from starman.gunicorn.configuration import Resolved


def _accesslog(resolved: Resolved, outcomes: Outcomes) -> None:
    outcomes.use("accesslog", access_log=resolved.value("accesslog") or "off")


def _errorlog(resolved: Resolved, outcomes: Outcomes) -> None:
    outcomes.use("errorlog", error_log=resolved.value("errorlog") or "-")


def _capture_output(resolved: Resolved, outcomes: Outcomes) -> None:
    """Output goes to the error log if that is a file. On standard error, gunicorn leaves output as it is."""
    if resolved.value("capture_output") and (resolved.value("errorlog") or "-") == "-":
        outcomes.ignore("capture_output", "without a file for errorlog, output stays as it is, as in gunicorn")
    else:
        outcomes.use("capture_output", capture_output=resolved.value("capture_output"))


def _access_log_format(resolved: Resolved, outcomes: Outcomes) -> None:
    text = str(resolved.value("access_log_format") or "")
    if _has_own_logger(resolved):
        try:
            read_format(text)
        except ValueError:  # it has an atom that only the class has
            outcomes.ignore("access_log_format", "used by the class of logger_class")
            return
    text, unknown = known_atoms(text)
    for atom in unknown:
        outcomes.warn("access_log_format", f"there is no atom {atom}, so the log has - in its place, as in gunicorn")
    outcomes.use("access_log_format", access_log_format="combined" if text == ACCESS_LOG_FORMAT else text)


def _has_own_logger(resolved: Resolved) -> bool:
    return resolved.value("logger_class") not in PLAIN_LOGGERS


def _logger_class(resolved: Resolved, outcomes: Outcomes) -> None:
    """A class of loggers: processes that run hooks make an object of it."""
    if _has_own_logger(resolved):
        outcomes.use("logger_class", hooks=HOOKS_MODULE)
    else:
        default = resolved.is_default("logger_class")
        outcomes.ignore("logger_class", "it is the default" if default else "it logs as the default class does")


def _syslog(resolved: Resolved, outcomes: Outcomes) -> None:
    """syslog: the error log goes there instead of to errorlog, and the access log if there is no accesslog."""
    if not resolved.value("syslog"):
        outcomes.ignore("syslog", "it is the default")
        return
    address = str(resolved.value("syslog_addr"))
    if address.startswith("unix://"):
        target = f"syslog:{address.removeprefix('unix://').partition('#')[0]}"
    elif address.startswith("udp://"):
        host, _, port = address.removeprefix("udp://").partition(":")
        target = f"syslog:{host or 'localhost'}:{port or 514}"
    else:
        outcomes.cannot("syslog", "starman sends syslog by UDP or to a UNIX socket only")
        return
    if resolved.value("accesslog") or resolved.value("disable_redirect_access_to_syslog"):
        outcomes.use("syslog", error_log=target)
    else:
        outcomes.use("syslog", error_log=target, access_log=target)


def _loglevel(resolved: Resolved, outcomes: Outcomes) -> None:
    level = str(resolved.value("loglevel") or "info").lower()
    levels = ("debug", "info", "warning", "error", "critical")
    if level not in levels:
        outcomes.warn("loglevel", f"{level!r} is none of {', '.join(levels)}, so info counts, as in gunicorn")
    outcomes.use("loglevel", log_level=level if level in levels else "info")


def _log_config(name: str) -> Callable[[Resolved, Outcomes], None]:
    """One of the settings that configure `logging`. The access log goes to its logger, if the configuration has it."""

    def use(resolved: Resolved, outcomes: Outcomes) -> None:
        try:
            found = log_configuration(resolved)
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"{resolved.values[name].source}: {error}") from None
        if found is None or found.name != name:
            outcomes.ignore(name, "it is empty" if not resolved.value(name) else "another configuration of the logs counts")
        elif found.access:
            outcomes.use(name, log_config=found.config, access_log="logging")
        else:
            outcomes.use(name, log_config=found.config)

    return use


LOG_SETTINGS: dict[str, Callable[[Resolved, Outcomes], None]] = {
    "accesslog": _accesslog,
    "errorlog": _errorlog,
    "loglevel": _loglevel,
    "logger_class": _logger_class,
    "capture_output": _capture_output,
    "access_log_format": _access_log_format,
    "syslog": _syslog,
    "logconfig": _log_config("logconfig"),
    "logconfig_json": _log_config("logconfig_json"),
    "logconfig_dict": _log_config("logconfig_dict"),
}
