"""The hooks of a gunicorn configuration: registers them with `starman.hooks`. Named by the setting `hooks`.

Executes the configuration in each process that runs hooks: in workers (or, with preload_app, in the mold), and in the
hook process, which outlives workers. The points, and which hook of gunicorn runs there:

- hook process: starting: on_starting; ready: when_ready; reloading: on_reload; workers_changed: nworkers_changed;
  worker_ended: child_exit; stopped: on_exit.
- worker: after the fork, before the application is loaded: pre_fork, post_fork; after that: post_worker_init;
  worker_stopping, after SIGQUIT: worker_int; SIGABRT: worker_abort; worker_exit: worker_exit. With preload_app,
  pre_fork runs in the mold, before the fork.
"""

from __future__ import annotations

import functools
import os
import signal
import sys

from starman import application_forks, hooks, log
from starman.application_environment import environment_at_start, replace_environment
from starman.errors import HookError, StarmanError
from starman.gunicorn import configuration_reader as reading
from starman.gunicorn.configuration import Resolved, resolve
from starman.gunicorn.known_settings import HOOKS
from starman.gunicorn.log_handlers import connect_loggers
from starman.gunicorn.stand_in import remove_if_installed
from starman.gunicorn.stand_in_logger import Logger
from starman.gunicorn.workers import access_logger, logger_changes, server_attributes
from starman.gunicorn.workers.abort_timer import AbortTimer
from starman.gunicorn.workers.config import Config
from starman.gunicorn.workers.logger_class import make_logger
from starman.gunicorn.workers.look_alikes import BOOTING, Server, Worker
from starman.gunicorn.workers.request_hooks import RequestHooks
from starman.gunicorn.workers.surroundings import SERVER_SOFTWARE, VARIABLE, arguments_of
from starman.loading import application_traceback
from starman.log.tracebacks import exception_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any


# The hooks of the server, by the point at which they run. They receive the server.
_OF_SERVER = {"starting": "on_starting", "ready": "when_ready", "reloading": "on_reload", "stopped": "on_exit"}


class GunicornHooks:
    """The hooks of one configuration in this process, and the objects that they receive. Main thread.

    worker: this worker; in a mold, the one that is about to be forked. None in the hook process.
    """

    def __init__(self, functions: dict[str, Callable[..., object]], resolved: Resolved, logger: Logger) -> None:
        """`functions`: the hooks of `resolved`, by their names."""
        self._functions = functions
        self._resolved = resolved
        self._application: object = None
        self._quits = False
        self._has_called = False
        self._worker_timeout = 0.0
        self.server = Server(logger.cfg, logger)
        self.worker: Worker | None = None

    def call(self, name: str, *arguments: object) -> None:
        """Call the hook `name`, if the configuration has it. Raises HookError, which names the hook."""
        if name not in self._functions:
            return
        in_hook_process = self.worker is None
        if in_hook_process and not self._has_called:
            self._has_called = True
            server_attributes.take_over(self.server)
        try:
            self._functions[name](*arguments)
        except BaseException as error:  # SystemExit too
            application_forks.end_child(error)
            raise HookError(f"{self._named(name)} failed: {exception_line(error)}", application_traceback(error)) from error
        if in_hook_process:
            server_attributes.leave(self.server, self._named(name))

    def _named(self, name: str) -> str:
        """A hook and its file, for the log."""
        place = self._resolved.values[name].source.removesuffix(f": {name}")
        return f"the hook {name} of {place}"

    def register(self) -> None:
        """Register the hooks at all points. Each process runs its own points only. In a worker that will load the
        application, call pre_fork and post_fork at once: tracing, for example, must be set up before the application
        is imported."""
        if hooks.worker_number() is not None:
            self._before_fork()
            self._after_fork()
        else:
            hooks.before_fork(self._before_fork)
            hooks.after_fork(self._after_fork)
        hooks.after_fork(self._initialised)
        if "worker_int" in self._functions:
            hooks.worker_ready(self._note_quit_signals)
            hooks.worker_stopping(self._interrupted)
        if "worker_abort" in self._functions:
            hooks.worker_ready(self._start_abort_timer)
        if "worker_exit" in self._functions:
            hooks.worker_exit(lambda: self.call("worker_exit", self.server, self.worker))
        if "nworkers_changed" in self._functions:
            # gunicorn calls it at the start and at each restart, too.
            hooks.starting(lambda: self.call("nworkers_changed", self.server, self.server.num_workers, None))
            hooks.reloading(lambda: self.call("nworkers_changed", self.server, self.server.num_workers, self.server.num_workers))
        for point, name in _OF_SERVER.items():
            if name in self._functions:
                getattr(hooks, point)(functools.partial(self._call_of_server, name))
        if "child_exit" in self._functions:
            hooks.worker_ended(self._on_worker_ended)
        hooks.workers_changed(self._on_workers_changed)

    def _call_of_server(self, name: str) -> None:
        """Call a hook of the server, and have what it changes of the loggers reach workers, if that is possible."""
        before = logger_changes.seen()
        self.call(name, self.server)
        (logger_changes.leave if name == "on_starting" else logger_changes.warn)(before, self._named(name))

    def wrapped(self, application: Callable[..., Any], worker_timeout: float) -> Callable[..., Any]:
        """The application, which is loaded now, with the request hooks around it, if there are any. `worker_timeout`:
        starman's setting."""
        self._application = application
        self._worker_timeout = worker_timeout
        if self.worker is not None:
            self.worker.app.callable = application
        before, after = self._functions.get("pre_request"), self._functions.get("post_request")
        return application if before is None and after is None else RequestHooks(application, self, before, after)

    def _before_fork(self) -> None:
        """In the mold before a fork, or in a worker before it loads the application."""
        number = hooks.worker_number() or hooks.next_worker_number() or 0
        self.server.worker_age = number
        server_attributes.take_over(self.server)
        self.worker = Worker(self.server, BOOTING, number)
        self.worker.app.callable = self._application
        self.call("pre_fork", self.server, self.worker)

    def _after_fork(self) -> None:
        worker = self.worker
        assert worker is not None
        worker.pid, worker.ppid, worker.age = os.getpid(), os.getppid(), hooks.worker_number() or 0
        self.server.pid = worker.ppid
        self.call("post_fork", self.server, worker)

    def _initialised(self) -> None:
        """In a worker that has the application."""
        assert self.worker is not None
        if "worker_abort" in self._functions:
            signal.signal(signal.SIGABRT, self._abort)
        self.call("post_worker_init", self.worker)
        self.worker.booted = True

    def _note_quit_signals(self) -> None:
        """Note SIGQUIT, before starman's handler: gunicorn calls worker_int at that signal only. The master sends it
        when SIGINT or SIGQUIT stops the server; in all other cases it sends SIGTERM."""
        handler: Any = signal.getsignal(signal.SIGQUIT)

        def noting(signum: int, frame: FrameType | None) -> None:
            self._quits = True
            handler(signum, frame)

        signal.signal(signal.SIGQUIT, noting)
        signal.siginterrupt(signal.SIGQUIT, False)

    def _interrupted(self) -> None:
        if self._quits:
            self.call("worker_int", self.worker)

    def _start_abort_timer(self) -> None:
        if self._worker_timeout:
            AbortTimer(self._worker_timeout).start()

    def _abort(self, signum: int, frame: FrameType | None) -> None:
        """SIGABRT, as gunicorn handles it: the hook, then the end of the worker."""
        assert self.worker is not None
        self.worker.alive, self.worker.aborted = False, True
        try:
            self.call("worker_abort", self.worker)
        except HookError as error:
            log.error(f"{error}\n{error.details}")
        finally:
            log.finish()
            os._exit(1)

    def _on_worker_ended(self, ended: hooks.EndedWorker) -> None:
        worker = Worker(self.server, ended.pid, ended.number)
        worker.alive = False
        self.call("child_exit", self.server, worker)

    def _on_workers_changed(self, old: int, new: int) -> None:
        self.server.num_workers = new
        self.call("nworkers_changed", self.server, new, old)


def _load() -> GunicornHooks:
    """Execute the configuration in the directory and environment of the start, and return its hooks. Raises
    HookError."""
    assert reading.origin is not None
    argv, directory = reading.origin
    here, applied = os.getcwd(), dict(os.environ)
    os.chdir(directory)
    replace_environment(environment_at_start())
    sys.argv = arguments_of(reading.program, argv)
    connect_loggers()
    try:
        resolved = resolve(argv, os.environ)
        if not any(text.startswith(f"{VARIABLE}=") for text in resolved.texts("raw_env")):
            applied[VARIABLE] = SERVER_SOFTWARE
        logger = make_logger(resolved.value("logger_class"), Config(resolved))
    except StarmanError as error:
        raise HookError(str(error), error.details) from None
    finally:
        os.chdir(here)
        replace_environment(applied)
    remove_if_installed()
    access_logger.logger = logger
    found: dict[str, Any] = {name: resolved.value(name) for name in HOOKS if resolved.value(name) is not None}
    return GunicornHooks(found, resolved, logger)


current = _load()
logger_changes.take_over()
current.register()
