"""One function for each setting of gunicorn whose value is not taken as it is: what it becomes in starman.

`mapping` calls them, by the table at the end.
"""

from __future__ import annotations

import os

from starman.config.access_log_format import read_format
from starman.gunicorn.bind import listen_addresses
from starman.gunicorn.configuration import ConfigurationError
from starman.gunicorn.known_settings import ACCESS_LOG_FORMAT, KNOWN_SETTINGS, PLAIN_LOGGERS
from starman.gunicorn.log_configuration import known_atoms, log_configuration
from starman.gunicorn.mapping_tables import HOOKS_MODULE
from starman.gunicorn.setting_outcomes import Outcomes
from starman.gunicorn.worker_class import WorkerClass, worker_class

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from starman.gunicorn.configuration import Resolved


def _chosen_class(resolved: Resolved) -> WorkerClass:
    threads, connections = _number(resolved, "threads"), _number(resolved, "worker_connections")
    return worker_class(resolved.value("worker_class"), threads, connections, resolved.module_directories)


def _number(resolved: Resolved, name: str) -> int:
    value = resolved.value(name)
    assert isinstance(value, int), KNOWN_SETTINGS[name].name
    return value


def texts_of(resolved: Resolved, name: str) -> list[str]:
    value = resolved.value(name)
    assert isinstance(value, list), KNOWN_SETTINGS[name].name
    return value


def _wsgi_app(resolved: Resolved, outcomes: Outcomes) -> None:
    if resolved.application:
        outcomes.ignore("wsgi_app", "the command line names the application")
    elif resolved.value("wsgi_app"):
        outcomes.use("wsgi_app", app=outcomes.given["app"].value)


def _paste(resolved: Resolved, outcomes: Outcomes) -> None:
    """As gunicorn does: the application that PasteDeploy makes of the file, with raw_paste_global_conf."""
    if resolved.value("paste") is None:
        return
    conf = {}
    for text in texts_of(resolved, "raw_paste_global_conf"):
        name, _, value = text.replace("\\=", "\0").partition("=")
        conf[name.replace("\0", "=")] = value.replace("\0", "=")
    uri = f"config:{os.path.abspath(str(resolved.value('paste')))}"
    load = f"paste.deploy.loadapp({uri!r}, relative_to={os.getcwd()!r}, global_conf={conf or None!r})"
    outcomes.use("paste", eval=load, modules=["paste.deploy"])


def _bind(resolved: Resolved, outcomes: Outcomes) -> None:
    binds = listen_addresses(texts_of(resolved, "bind"))
    settings: dict[str, object] = {"listen": binds}
    if any(address.startswith("unix:") for address in binds):
        # The files of gunicorn's sockets have the permissions 0777 but for its umask, whatever that of the process is.
        settings["socket_mode"] = 0o777 & ~_number(resolved, "umask")
    outcomes.use("bind", **settings)


def _backlog(resolved: Resolved, outcomes: Outcomes) -> None:
    outcomes.use("backlog", backlog=max(1, _number(resolved, "backlog")))


def _workers(resolved: Resolved, outcomes: Outcomes) -> None:
    count = _number(resolved, "workers")
    if not count:
        outcomes.warn("workers", "0 workers cannot serve, so one is started")
    outcomes.use("workers", workers=max(1, count))


def _worker_class(resolved: Resolved, outcomes: Outcomes) -> None:
    """`threads`, by worker_class and threads."""
    chosen = _chosen_class(resolved)
    if chosen.refusal:
        outcomes.refuse("worker_class", chosen.refusal)
        return
    if chosen.warning:
        outcomes.warn("worker_class", chosen.warning)
    outcomes.use("worker_class", threads=chosen.threads)


def _threads(resolved: Resolved, outcomes: Outcomes) -> None:
    outcomes.use("threads", threads=_chosen_class(resolved).threads)


def _timeout(resolved: Resolved, outcomes: Outcomes) -> None:
    """A silent worker, and, with sync workers, a request that takes too long."""
    seconds = _number(resolved, "timeout")
    settings: dict[str, object] = {"worker_timeout": seconds}
    if seconds == 0 or seconds > 60:
        settings["boot_timeout"] = seconds or 86_400
    if seconds and _chosen_class(resolved).sync:
        settings["request_timeout"] = seconds
    outcomes.use("timeout", **settings)


def _limits(name: str, most: int) -> Callable[[Resolved, Outcomes], None]:
    """A limit of requests, where 0 means none: then `most` counts."""

    def use(resolved: Resolved, outcomes: Outcomes) -> None:
        number = _number(resolved, name) or most
        settings = {name: number}
        if name != "limit_request_fields" and number > 32_768:
            settings["limit_request_head"] = 2 * number
        outcomes.use(name, **settings)

    return use


def _accounts(name: str) -> Callable[[Resolved, Outcomes], None]:
    """user or group. The id that the process has already changes nothing."""

    def use(resolved: Resolved, outcomes: Outcomes) -> None:
        value = resolved.value(name)
        if value is None or value == (os.geteuid() if name == "user" else os.getegid()):
            outcomes.ignore(name, "the process has it already")
        else:
            outcomes.use(name, **{name: value})

    return use


def _include(resolved: Resolved, outcomes: Outcomes) -> None:
    if resolved.python_path:
        # gunicorn puts each in front of those before it.
        outcomes.use("pythonpath", include=list(reversed(resolved.python_path)))


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


def _certfile(resolved: Resolved, outcomes: Outcomes) -> None:
    if resolved.value("certfile") is not None:
        outcomes.use("certfile", ssl_cert=resolved.value("certfile"), enable_ssl=True)


def _keyfile(resolved: Resolved, outcomes: Outcomes) -> None:
    if resolved.value("keyfile") is not None:
        outcomes.use("keyfile", ssl_key=resolved.value("keyfile"))


def _raw_env(resolved: Resolved, outcomes: Outcomes) -> None:
    for text in texts_of(resolved, "raw_env"):
        if "=" not in text:
            raise ConfigurationError(f"{resolved.values['raw_env'].source}: {text!r} must be NAME=VALUE")
    outcomes.use("raw_env", env=texts_of(resolved, "raw_env"))


def _forwarded_allow_ips(resolved: Resolved, outcomes: Outcomes) -> None:
    """gunicorn trusts UNIX sockets as well, without being told."""
    peers = texts_of(resolved, "forwarded_allow_ips")
    outcomes.use("forwarded_allow_ips", forwarded_allow_ips=peers if "*" in peers else [*peers, "unix"])


def _proxy_allow_ips(resolved: Resolved, outcomes: Outcomes) -> None:
    if resolved.value("proxy_protocol") == "off":
        outcomes.ignore("proxy_allow_ips", "proxy_protocol is off")
        return
    peers = texts_of(resolved, "proxy_allow_ips")
    outcomes.use("proxy_allow_ips", proxy_allow_ips=peers if "*" in peers else [*peers, "unix"])


def _proxy_protocol(resolved: Resolved, outcomes: Outcomes) -> None:
    if resolved.value("proxy_protocol") == "off":
        outcomes.ignore("proxy_protocol", "it is the default")
        return
    outcomes.use("proxy_protocol", proxy_protocol=resolved.value("proxy_protocol"))
    outcomes.warn("proxy_protocol", "connections without a header of the PROXY protocol are closed; gunicorn serves them")


def _secure_scheme_headers(resolved: Resolved, outcomes: Outcomes) -> None:
    value = resolved.value("secure_scheme_headers")
    assert isinstance(value, dict)
    outcomes.use("secure_scheme_headers", secure_scheme_headers=[f"{name}={text}" for name, text in value.items()])


def _list_of(name: str) -> Callable[[Resolved, Outcomes], None]:
    """A list of texts, under the same name."""

    def use(resolved: Resolved, outcomes: Outcomes) -> None:
        outcomes.use(name, **{name: texts_of(resolved, name)})

    return use


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


def _reload(resolved: Resolved, outcomes: Outcomes) -> None:
    """starman watches files only for a terminal, so a daemon starts without."""
    if resolved.value("reload") and resolved.value("daemon"):
        outcomes.cannot("reload", "a daemon does not watch files; send HUP after a change, or start without daemon")
    else:
        outcomes.use("reload", reload=resolved.value("reload"))


def _reload_engine(resolved: Resolved, outcomes: Outcomes) -> None:
    outcomes.use("reload_engine", reload_engine="poll" if resolved.value("reload_engine") == "poll" else "auto")


def _protocol(resolved: Resolved, outcomes: Outcomes) -> None:
    if resolved.value("protocol") == "http":
        outcomes.ignore("protocol", "starman speaks HTTP")
    else:
        outcomes.refuse("protocol", "starman speaks HTTP only; let the proxy in front use HTTP (proxy_pass)")


def _http_protocols(resolved: Resolved, outcomes: Outcomes) -> None:
    protocols = [part.strip() for part in str(resolved.value("http_protocols") or "h1").split(",")]
    if protocols == ["h1"]:
        outcomes.ignore("http_protocols", "starman speaks HTTP/1.1")
    elif "h1" in protocols:
        outcomes.cannot("http_protocols", "starman speaks HTTP/1.1 only")
    else:
        outcomes.refuse("http_protocols", "starman speaks HTTP/1.1 only; let the proxy in front speak HTTP/2")


def _control_socket_disable(resolved: Resolved, outcomes: Outcomes) -> None:
    outcomes.use("control_socket_disable", control="off" if resolved.value("control_socket_disable") else "auto")


FUNCTIONS: dict[str, Callable[[Resolved, Outcomes], None]] = {
    "wsgi_app": _wsgi_app,
    "paste": _paste,
    "bind": _bind,
    "backlog": _backlog,
    "workers": _workers,
    "worker_class": _worker_class,
    "threads": _threads,
    "timeout": _timeout,
    "limit_request_line": _limits("limit_request_line", 1 << 20),
    "limit_request_fields": _limits("limit_request_fields", 32_768),
    "limit_request_field_size": _limits("limit_request_field_size", 1 << 20),
    "user": _accounts("user"),
    "group": _accounts("group"),
    "pythonpath": _include,
    "accesslog": _accesslog,
    "errorlog": _errorlog,
    "loglevel": _loglevel,
    "logger_class": _logger_class,
    "capture_output": _capture_output,
    "access_log_format": _access_log_format,
    "syslog": _syslog,
    "certfile": _certfile,
    "keyfile": _keyfile,
    "raw_env": _raw_env,
    "reload": _reload,
    "reload_extra_files": _list_of("reload_extra_files"),
    "reload_engine": _reload_engine,
    "forwarder_headers": _list_of("forwarder_headers"),
    "forwarded_allow_ips": _forwarded_allow_ips,
    "secure_scheme_headers": _secure_scheme_headers,
    "proxy_protocol": _proxy_protocol,
    "proxy_allow_ips": _proxy_allow_ips,
    "logconfig": _log_config("logconfig"),
    "logconfig_json": _log_config("logconfig_json"),
    "logconfig_dict": _log_config("logconfig_dict"),
    "protocol": _protocol,
    "http_protocols": _http_protocols,
    "control_socket_disable": _control_socket_disable,
}
