"""Hooks: functions of the application that run before and after the fork of a worker, and at its start and end.

See docs/hooks.md. The application registers them while it is imported, so they exist in the process that has loaded
it (the mold or a worker) and in the processes forked from it. The master has none.
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
    """Call `function()` before each fork of a worker, with `preload_app`: to close what workers must not share, such
    as open connections. Hooks run in reverse order of registration. An exception makes the start of that worker fail.

    Usable as a decorator, like the other functions here: returns `function`. Raises TypeError if it is not callable.
    Call from the thread that imports the application.
    """
    return _register("before_fork", function)


def after_fork(function: Hook) -> Hook:
    """Call `function()` in each new worker, in its main thread, before it serves: right after the fork with
    `preload_app`, else after the worker has loaded the application. An exception makes the start of the worker fail."""
    return _register("after_fork", function)


def worker_ready(function: Hook) -> Hook:
    """Call `function()` in each worker when it accepts connections, in its main thread. The event loop waits for it,
    so move long work to a thread. An exception is logged."""
    return _register("worker_ready", function)


def worker_exit(function: Hook) -> Hook:
    """Call `function()` in each worker that stops gracefully, in its main thread, after its requests have finished
    and before the functions registered with atexit. Hooks run in reverse order of registration. An exception is
    logged."""
    return _register("worker_exit", function)


def run_before_fork() -> None:
    """Run the hooks. Raises HookError for the first that fails. In the mold."""
    for hook in _hooks["before_fork"][::-1]:
        _run("before_fork", hook)


def run_after_fork() -> None:
    """Run the hooks. Raises HookError for the first that fails. In a worker, main thread, before its loop."""
    for hook in list(_hooks["after_fork"]):
        _run("after_fork", hook)


def run_worker_ready() -> None:
    """Run the hooks. Never raises. In a worker, main thread."""
    for hook in list(_hooks["worker_ready"]):
        _run_logged("worker_ready", hook)


def run_worker_exit() -> None:
    """Run the hooks. Never raises. In a worker, main thread, after its loop."""
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
    except BaseException as error:  # SystemExit too: a hook must not bypass the orderly end of the process
        application_forks.end_child(error)
        details = format_exception(error, lambda frames: frames and frames.tb_next)
        raise HookError(f"the {moment} hook {_name(hook)} failed: {exception_line(error)}", details) from error


def _name(hook: Callable[[], object]) -> str:
    """The name of a hook for the error log. Never raises: a hook may be any callable object."""
    try:
        return f"{safe_text(hook.__module__)}.{safe_text(hook.__qualname__)}"
    except BaseException:
        return class_name(hook)
