"""Hooks: functions that run at points in the life of the server, its workers and its requests.

See docs/hooks.md. The application, or the module of the setting `hooks`, registers them while it is imported, so they
exist in the process that has imported it (the mold, a worker, or the hook process) and in the processes forked from
it. The master has none.
"""

from __future__ import annotations

from starman import application_forks, log
from starman.errors import HookError
from starman.log.tracebacks import class_name, exception_line, format_exception, safe_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    AnyHook = TypeVar("AnyHook", bound=Callable[..., object])
    Hook = TypeVar("Hook", bound=Callable[[], object])
    WorkerHook = TypeVar("WorkerHook", bound=Callable[["EndedWorker"], object])
    RequestHook = TypeVar("RequestHook", bound=Callable[[dict[str, Any]], object])
    ResponseHook = TypeVar("ResponseHook", bound=Callable[[dict[str, Any], int], object])
    ChangeHook = TypeVar("ChangeHook", bound=Callable[[int, int], object])

# The points that run in the mold or in workers, and those that run in the hook process.
WORKER_POINTS = (
    *("before_fork", "after_fork", "worker_ready", "worker_stopping", "worker_exit"),
    *("request_started", "request_finished"),
)
SERVER_POINTS = (
    *("starting", "ready", "reloading", "workers_changed"),
    *("worker_ended", "worker_lost", "stopping", "stopped"),
)

__all__ = [
    "EndedWorker",
    "after_fork",
    "before_fork",
    "ready",
    "reloading",
    "request_finished",
    "request_started",
    "starting",
    "stopped",
    "stopping",
    "worker_ended",
    "worker_exit",
    "worker_lost",
    "worker_number",
    "worker_place",
    "worker_ready",
    "worker_stopping",
    "workers_changed",
]

# What cleans up runs in reverse order of registration.
_REVERSED = frozenset({"before_fork", "request_finished", "worker_stopping", "worker_exit", "stopping", "stopped"})
# By the point, in the order of registration.
_hooks: dict[str, list[Callable[..., object]]] = {point: [] for point in (*WORKER_POINTS, *SERVER_POINTS)}
# How many hooks of each point of the server the module of the setting `hooks` has registered.
_of_module: dict[str, int] = {}
# The number and the place of the worker that this process is, and, in the mold, the number of the worker that it forks
# next.
_number: list[int] = []
_next_number: list[int] = []
_place: list[int] = []


class EndedWorker:
    """A worker that has ended, as `worker_ended` and `worker_lost` receive it.

    number: its number, from 1, which its successor has too. pid: its process id. signal: the name of the signal that
    has killed it ("SIGKILL"); None: it exited by itself. status: its exit status; None: a signal has killed it. Both
    are None if the system does not tell. expected: whether the worker ended in order, after its requests.
    """

    __slots__ = ("expected", "number", "pid", "signal", "status")

    def __init__(self, number: int, pid: int, wait_status: int | None, *, expected: bool) -> None:
        """`wait_status`: as os.waitpid returns it; None: not known."""
        from os import WIFSIGNALED, waitstatus_to_exitcode

        self.number = number
        self.pid = pid
        self.signal: str | None = None
        self.status: int | None = None
        if wait_status is not None and WIFSIGNALED(wait_status):
            self.signal = _signal_name(-waitstatus_to_exitcode(wait_status))
        elif wait_status is not None:
            self.status = waitstatus_to_exitcode(wait_status)
        self.expected = expected

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={getattr(self, name)!r}" for name in ("number", "pid", "signal", "status", "expected"))
        return f"EndedWorker({values})"


def worker_number() -> int | None:
    """The number of the worker that runs this code, from 1 to the number of workers; None in any other process, and in
    `starman.serve`. A worker that replaces another one has the same number. Any thread."""
    return _number[0] if _number else None


def worker_place() -> int | None:
    """A number that no other living worker of this server has, from 1: the smallest that was free when the worker
    started. While workers replace each other, old and new ones have different places. None where `worker_number` is
    None, and if the server has more workers than places (about 1,000). Any thread."""
    return _place[0] if _place else None


# Points in the mold and in workers


def before_fork(function: Hook) -> Hook:
    """Call `function()` before each fork of a worker, with `preload_app`: to close what workers must not share, such
    as open connections. Hooks run in reverse order of registration. An exception makes the start of that worker fail.

    Usable as a decorator, like the other functions here: returns `function`. Raises TypeError if it is not callable.
    Call from the thread that imports the application.
    """
    return _register("before_fork", function)


def after_fork(function: Hook) -> Hook:
    """Call `function()` in each new worker, in its main thread, before it serves: right after the fork with
    `preload_app`, else after the worker has loaded the application. An exception makes the start of the worker
    fail."""
    return _register("after_fork", function)


def worker_ready(function: Hook) -> Hook:
    """Call `function()` in each worker when it accepts connections, in its main thread. The event loop waits for it,
    so move long work to a thread. An exception is logged."""
    return _register("worker_ready", function)


def worker_stopping(function: Hook) -> Hook:
    """Call `function()` in each worker when it begins to stop, in its main thread, while its requests still run. The
    event loop waits for it. Hooks run in reverse order of registration. An exception is logged."""
    return _register("worker_stopping", function)


def worker_exit(function: Hook) -> Hook:
    """Call `function()` in each worker that stops gracefully, in its main thread, after its requests have finished
    and before the functions registered with atexit. Hooks run in reverse order of registration. An exception is
    logged."""
    return _register("worker_exit", function)


def request_started(function: RequestHook) -> RequestHook:
    """Call `function(environ)` before each call of the application, in the thread of the request. An exception is
    logged, and the request goes on. Register it before the worker is ready."""
    return _register("request_started", function)


def request_finished(function: ResponseHook) -> ResponseHook:
    """Call `function(environ, status)` after each call of the application, in the thread of the request, when the
    response is sent or given up. `status`: its status code; 0 if the client left before its end. Hooks run in
    reverse order of registration. An exception is logged. Register it before the worker is ready."""
    return _register("request_finished", function)


# Points in the hook process, which runs if the setting `hooks` names a module


def starting(function: Hook) -> Hook:
    """Call `function()` in the hook process before any process loads the application. The start waits for it, within
    `boot_timeout`; an exception makes the start fail. Not called again in a later hook process of the same server."""
    return _register("starting", function)


def ready(function: Hook) -> Hook:
    """Call `function()` in the hook process when all workers of the start are ready. Called again in each hook process
    that replaces another one, after a restart or a failure. An exception is logged."""
    return _register("ready", function)


def reloading(function: Hook) -> Hook:
    """Call `function()` in the hook process when a restart (SIGHUP) begins. An exception is logged."""
    return _register("reloading", function)


def workers_changed(function: ChangeHook) -> ChangeHook:
    """Call `function(old, new)` in the hook process when the number of workers has changed: by SIGTTIN, SIGTTOU or a
    restart. An exception is logged."""
    return _register("workers_changed", function)


def worker_ended(function: WorkerHook) -> WorkerHook:
    """Call `function(worker)`, with an EndedWorker, in the hook process after the end of each worker, whatever the
    reason. An exception is logged."""
    return _register("worker_ended", function)


def worker_lost(function: WorkerHook) -> WorkerHook:
    """Call `function(worker)`, with an EndedWorker, in the hook process after each worker that did not end in order:
    it crashed, was killed or could not start, and has run no `worker_exit` hooks. Runs after `worker_ended`. An
    exception is logged."""
    return _register("worker_lost", function)


def stopping(function: Hook) -> Hook:
    """Call `function()` in the hook process when the server begins to stop. Hooks run in reverse order of
    registration. An exception is logged."""
    return _register("stopping", function)


def stopped(function: Hook) -> Hook:
    """Call `function()` in the hook process after the last worker has ended. The server ends when these hooks have
    run, or after 10 s. Hooks run in reverse order of registration. An exception is logged."""
    return _register("stopped", function)


# For the processes of the server


def set_worker(number: int, place: int) -> None:
    """This process is the worker with this number and place (0: none). In a worker, before any code of the application
    runs there."""
    _number[:] = [number]
    _place[:] = [place] if place else []


def note_module() -> None:
    """The module of the setting `hooks` is imported: everything registered so far is its own, or the hook process has
    it too."""
    _of_module.update((point, len(_hooks[point])) for point in SERVER_POINTS)


def remove_server_hooks() -> None:
    """Remove what a module has registered for the hook process, because it could not be loaded whole."""
    for point in SERVER_POINTS:
        _hooks[point].clear()


def misplaced_points() -> list[str]:
    """The points of the server for which other code than the module of the setting `hooks` has registered functions.
    The hook process does not have them. Call it after the application is loaded."""
    return [point for point in SERVER_POINTS if len(_hooks[point]) > _of_module.get(point, 0)]


def is_registered(point: str) -> bool:
    """Whether there are hooks of this point. Any thread."""
    return bool(_hooks[point])


def next_worker_number() -> int | None:
    """In a `before_fork` hook: the number of the worker that is about to be forked. Main thread."""
    return _next_number[0] if _next_number else None


def run_before_fork(number: int) -> None:
    """Run the hooks, for the worker `number`. Raises HookError for the first that fails. In the mold."""
    _next_number[:] = [number]
    _run_all("before_fork")


def run_after_fork() -> None:
    """Run the hooks. Raises HookError for the first that fails. In a worker, main thread, before its loop."""
    _run_all("after_fork")


def run_starting() -> None:
    """Run the hooks. Raises HookError for the first that fails. In the hook process."""
    _run_all("starting")


def run_logged(point: str, *arguments: object) -> None:
    """Run the hooks of `point` with these arguments. Never raises: exceptions are logged. Main thread of a worker or
    of the hook process; for hooks of requests, the thread of the request."""
    for hook in _in_order(point):
        try:
            _run(point, hook, *arguments)
        except HookError as error:
            log.error(f"{error}\n{error.details}")


def _run_all(point: str) -> None:
    for hook in _in_order(point):
        _run(point, hook)


def _in_order(point: str) -> list[Callable[..., object]]:
    return _hooks[point][::-1] if point in _REVERSED else list(_hooks[point])


def _register(point: str, function: AnyHook) -> AnyHook:
    if not callable(function):
        raise TypeError(f"a {point} hook must be a function, not {function!r}")
    _hooks[point].append(function)
    return function


def _run(point: str, hook: Callable[..., object], *arguments: object) -> None:
    try:
        hook(*arguments)
        application_forks.end_child()
    except HookError:  # it names the hook of gunicorn that has failed
        raise
    except BaseException as error:  # SystemExit too: a hook must not bypass the orderly end of the process
        application_forks.end_child(error)
        details = format_exception(error, lambda frames: frames and frames.tb_next)
        raise HookError(f"the {point} hook {_name(hook)} failed: {exception_line(error)}", details) from error


def _name(hook: Callable[..., object]) -> str:
    """The name of a hook for the error log. Never raises: a hook may be any callable object."""
    try:
        return f"{safe_text(hook.__module__)}.{safe_text(hook.__qualname__)}"
    except BaseException:
        return class_name(hook)


def _signal_name(signum: int) -> str:
    from signal import Signals

    try:
        return Signals(signum).name
    except ValueError:
        return f"signal {signum}"
