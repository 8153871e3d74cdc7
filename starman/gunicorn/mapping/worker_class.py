"""What becomes of gunicorn's classes of workers: starman's workers always run the application in threads."""

from __future__ import annotations

import sys

from starman.config.option import nearest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# Threads of a worker in place of greenlets, unless `threads` says more.
GREEN_THREADS = 64
_PLAIN = {"sync", "syncworker", "gthread", "threadworker"}
_GREEN = {
    *("gevent", "gevent_wsgi", "gevent_pywsgi", "geventworker", "geventpywsgiworker", "basegeventworker"),
    *("eventlet", "eventletworker", "tornado", "tornadoworker", "meinheldworker"),
}
# What gunicorn offers, for the advice about a name that it does not have.
_OFFERED = ("sync", "gthread", "gevent", "tornado", "eventlet")
_ASGI = ("asgi", "uvicorn", "hypercorn", "aiohttp", "daphne")


class WorkerClass:
    """How the workers of one class are run.

    name: the class, as it was given. threads: of each worker. sync: whether one request after the other is run.
    warning: what differs, or "". refusal: why it cannot be run, or "".
    """

    __slots__ = ("name", "refusal", "sync", "threads", "warning")

    def __init__(self, name: str, threads: int, *, sync: bool = False, warning: str = "", refusal: str = "") -> None:
        self.name = name
        self.threads = threads
        self.sync = sync
        self.warning = warning
        self.refusal = refusal


def worker_class(value: object, threads: int, connections: int, places: Sequence[str] = ()) -> WorkerClass:
    """How to run workers of the class `value` (a class, or its name), with gunicorn's `threads` and
    `worker_connections`. `places`: the directories in which modules are found, besides sys.path."""
    names = [f"{base.__module__}.{base.__qualname__}" for base in value.__mro__[:-1]] if isinstance(value, type) else [str(value)]
    name, threads = names[0], max(1, threads)
    lasts = [each.replace("#", ".").rpartition(".")[2].lower() for each in names]
    if any(part in each.lower() for each in names for part in _ASGI):
        return WorkerClass(name, threads, refusal=f"{name} serves ASGI applications, and starman serves WSGI applications only")
    if lasts[0] in _PLAIN:
        return WorkerClass(name, threads, sync=lasts[0].startswith("sync") and threads == 1)
    own = "" if len(lasts) == 1 or lasts[0] in _GREEN else f"; the methods of {name} are not called"
    if any(last in _GREEN for last in lasts):
        count = threads if threads > 1 else max(1, min(connections, GREEN_THREADS))
        return WorkerClass(
            name,
            count,
            warning=f"{name} becomes threads, {count} in each worker, which run as many requests at a time; --threads N sets "
            f"another number{own}",
        )
    if any(last in _PLAIN for last in lasts):
        return WorkerClass(name, threads, warning=f"the workers run threads, {threads} each{own}")
    if isinstance(value, str) and (reason := _missing(value, places)):
        return WorkerClass(name, threads, refusal=reason)
    return WorkerClass(
        name,
        threads,
        warning=f"the class {name} is not used: the workers run threads, {threads} each, and call the application by WSGI",
    )


def _missing(name: str, places: Sequence[str]) -> str:
    """Why there is no class of this name, which ends gunicorn, too; "" if there may be one. Imports nothing, so it
    finds out about modules only."""
    if name.startswith("egg:"):
        distribution, _, entry = name.removeprefix("egg:").partition("#")
        if distribution != "gunicorn":
            return ""  # an entry point of another package
        name = entry
    module, _, _ = name.rpartition(".")
    if not module:
        meant = nearest(name, _OFFERED) or f"; write {', '.join(_OFFERED)}, or MODULE.CLASS"
        return f"there is no class of workers {name!r}{meant}"
    if not module.startswith("gunicorn.") and not _exists(module, [*places, *sys.path]):
        return f"the class of workers {name} cannot be imported: there is no module {module}"
    return ""


def _exists(module: str, path: Sequence[str]) -> bool:
    """Whether the module can be found, with its packages. Executes none of them."""
    if module in sys.modules:
        return True
    parts = module.split(".")
    within: Sequence[str] | None = path
    for end in range(1, len(parts) + 1):
        name = ".".join(parts[:end])
        finders = [finder for finder in sys.meta_path if hasattr(finder, "find_spec")]
        specs = (finder.find_spec(name, within) for finder in finders)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is None:
            return False
        within = spec.submodule_search_locations
        if within is None:
            return end == len(parts)
    return True
