"""Hooks: what an application wants done around the fork of its workers, and at their beginning and end. See docs/hooks.md.

An application's own code registers them while it is imported, so they live in the process that has loaded it and in what is
forked from that. The mold and the workers run them; the master, which imports the mold's code, has none. Imports nothing of ours
but the ground.
"""

from __future__ import annotations

from starman import application_forks, log
from starman.errors import HookError
from starman.log.tracebacks import class_name, exception_line, format_exception, safe_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    Hook = TypeVar("Hook", bound=Callable[[], object])

__all__ = ["after_fork", "before_fork", "worker_exit", "worker_ready"]

# By the moment, in the order of registration.
_hooks: dict[str, list[Callable[[], object]]] = {name: [] for name in __all__}


def before_fork(function: Hook) -> Hook:
    """Have `function()` called in the mold before each fork of a worker, if the mold has loaded the application: for what workers
    must not share, such as open connections. The last registered comes first. What it raises fails that worker's start.

    A call or a decorator, as the others are; returns `function`. Raises TypeError for what cannot be called. Call it from the
    thread that imports the application.
    """
    return _register("before_fork", function)


def after_fork(function: Hook) -> Hook:
    """Have `function()` called in each new worker, in its main thread, before it serves: right after the fork when the mold has
    loaded the application, else once the worker has loaded it. What it raises fails the worker's start."""
    return _register("after_fork", function)


def worker_ready(function: Hook) -> Hook:
    """Have `function()` called in each worker when it accepts connections, in its main thread: the loop waits meanwhile, so
    whatever takes long belongs in a thread. What it raises is logged."""
    return _register("worker_ready", function)


def worker_exit(function: Hook) -> Hook:
    """Have `function()` called in each worker that ends in order, in its main thread, when its requests are finished and before
    what is registered with atexit. The last registered comes first. What it raises is logged."""
    return _register("worker_exit", function)


def run_before_fork() -> None:
    """Raises HookError for the first that fails. Mold."""
    for hook in _hooks["before_fork"][::-1]:
        _run("before_fork", hook)


def run_after_fork() -> None:
    """Raises HookError for the first that fails. Worker, main thread, before its loop."""
    for hook in list(_hooks["after_fork"]):
        _run("after_fork", hook)


def run_worker_ready() -> None:
    """Never raises. Worker, main thread."""
    for hook in list(_hooks["worker_ready"]):
        _run_logged("worker_ready", hook)


def run_worker_exit() -> None:
    """Never raises. Worker, main thread, when its loop has ended."""
    for hook in _hooks["worker_exit"][::-1]:
        _run_logged("worker_exit", hook)


def _register(moment: str, function: Hook) -> Hook:
    if not callable(function):
        raise TypeError(f"a {moment} hook must be a function without arguments, not {function!r}")
    _hooks[moment].append(function)
    return function


def _run_logged(moment: str, hook: Callable[[], object]) -> None:
    try:
        _run(moment, hook)
    except HookError as error:
        log.error(f"{error}\n{error.details}")


def _run(moment: str, hook: Callable[[], object]) -> None:
    try:
        hook()
        application_forks.end_child()
    except BaseException as error:  # SystemExit, too: no hook ends a process past its own order of things
        application_forks.end_child(error)
        details = format_exception(error, lambda frames: frames and frames.tb_next)
        raise HookError(f"the {moment} hook {_name(hook)} failed: {exception_line(error)}", details) from error


def _name(hook: Callable[[], object]) -> str:
    """The name of a hook for the error log. Never raises: a hook may be any callable object."""
    try:
        return f"{safe_text(hook.__module__)}.{safe_text(hook.__qualname__)}"
    except BaseException:
        return class_name(hook)
