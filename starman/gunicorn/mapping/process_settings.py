"""What becomes of gunicorn's settings of processes, of the application and of reload."""

from __future__ import annotations

import os

from starman.gunicorn.configuration import ConfigurationError
from starman.gunicorn.mapping.outcomes import Outcomes
from starman.gunicorn.mapping.worker_class import WorkerClass, worker_class

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from starman.gunicorn.configuration import Resolved


def _chosen_class(resolved: Resolved) -> WorkerClass:
    threads, connections = resolved.number("threads"), resolved.number("worker_connections")
    return worker_class(resolved.value("worker_class"), threads, connections, resolved.module_directories)


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
    for text in resolved.texts("raw_paste_global_conf"):
        name, _, value = text.replace("\\=", "\0").partition("=")
        conf[name.replace("\0", "=")] = value.replace("\0", "=")
    uri = f"config:{os.path.abspath(str(resolved.value('paste')))}"
    load = f"paste.deploy.loadapp({uri!r}, relative_to={os.getcwd()!r}, global_conf={conf or None!r})"
    outcomes.use("paste", eval=load, modules=["paste.deploy"])


def _workers(resolved: Resolved, outcomes: Outcomes) -> None:
    count = resolved.number("workers")
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
    seconds = resolved.number("timeout")
    settings: dict[str, object] = {"worker_timeout": seconds}
    if seconds == 0 or seconds > 60:
        settings["boot_timeout"] = seconds or 86_400
    if seconds and _chosen_class(resolved).sync:
        settings["request_timeout"] = seconds
    outcomes.use("timeout", **settings)


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


def _raw_env(resolved: Resolved, outcomes: Outcomes) -> None:
    for text in resolved.texts("raw_env"):
        if "=" not in text:
            raise ConfigurationError(f"{resolved.values['raw_env'].source}: {text!r} must be NAME=VALUE")
    outcomes.use("raw_env", env=resolved.texts("raw_env"))


def _reload(resolved: Resolved, outcomes: Outcomes) -> None:
    """starman watches files only for a terminal, so a daemon starts without."""
    if resolved.value("reload") and resolved.value("daemon"):
        outcomes.cannot("reload", "a daemon does not watch files; send HUP after a change, or start without daemon")
    else:
        outcomes.use("reload", reload=resolved.value("reload"))


def _reload_engine(resolved: Resolved, outcomes: Outcomes) -> None:
    outcomes.use("reload_engine", reload_engine="poll" if resolved.value("reload_engine") == "poll" else "auto")


def _control_socket_disable(resolved: Resolved, outcomes: Outcomes) -> None:
    outcomes.use("control_socket_disable", control="off" if resolved.value("control_socket_disable") else "auto")


PROCESS_SETTINGS: dict[str, Callable[[Resolved, Outcomes], None]] = {
    "wsgi_app": _wsgi_app,
    "paste": _paste,
    "workers": _workers,
    "worker_class": _worker_class,
    "threads": _threads,
    "timeout": _timeout,
    "user": _accounts("user"),
    "group": _accounts("group"),
    "pythonpath": _include,
    "raw_env": _raw_env,
    "reload": _reload,
    "reload_engine": _reload_engine,
    "control_socket_disable": _control_socket_disable,
}
