"""The hooks of a gunicorn configuration: registers them with `starman.hooks`. Named by the setting `hooks`.

Executes the configuration in each process that runs hooks: in workers (or, with preload_app, in the mold), and in the
hook process, which outlives workers. The points, and which hook of gunicorn runs there:

- hook process: starting: on_starting; ready: when_ready; reloading: on_reload; workers_changed: nworkers_changed;
  worker_ended: child_exit; stopped: on_exit.
- worker: after the fork, before the application is loaded: pre_fork, post_fork; after that: post_worker_init;
  worker_stopping: worker_int; SIGABRT: worker_abort; worker_exit: worker_exit. With preload_app, pre_fork runs in the
  mold, before the fork.
"""

from __future__ import annotations

import functools
import os
import signal

from starman import hooks, log
from starman.gunicorn import configuration_reader as reading
from starman.gunicorn.configuration import resolve
from starman.gunicorn.known_settings import HOOKS
from starman.gunicorn.stand_in import remove_if_installed
from starman.gunicorn.stand_in_logger import Logger
from starman.gunicorn.workers.look_alikes import Config, Server, Worker
from starman.gunicorn.workers.request_hooks import RequestHooks

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

    def __init__(self, functions: dict[str, Callable[..., object]], cfg: Config) -> None:
        self._functions = functions
        self._application: object = None
        self.server = Server(cfg, Logger(cfg))
        self.worker: Worker | None = None

    def call(self, name: str, *arguments: object) -> None:
        """Call the hook `name`, if the configuration has it."""
        if name in self._functions:
            self._functions[name](*arguments)

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
            hooks.worker_stopping(lambda: self.call("worker_int", self.worker))
        if "worker_exit" in self._functions:
            hooks.worker_exit(lambda: self.call("worker_exit", self.server, self.worker))
        if "nworkers_changed" in self._functions:
            # gunicorn calls it at the start, too.
            hooks.starting(lambda: self.call("nworkers_changed", self.server, self.server.num_workers, None))
        for point, name in _OF_SERVER.items():
            if name in self._functions:
                getattr(hooks, point)(functools.partial(self.call, name, self.server))
        if "child_exit" in self._functions:
            hooks.worker_ended(self._on_worker_ended)
        hooks.workers_changed(self._on_workers_changed)

    def wrapped(self, application: Callable[..., Any]) -> Callable[..., Any]:
        """The application, which is loaded now, with the request hooks around it, if there are any."""
        self._application = application
        if self.worker is not None:
            self.worker.app.callable = application
        before, after = self._functions.get("pre_request"), self._functions.get("post_request")
        return application if before is None and after is None else RequestHooks(application, self, before, after)

    def _before_fork(self) -> None:
        """In the mold before a fork, or in a worker before it loads the application."""
        self.worker = Worker(self.server, os.getpid(), hooks.worker_number() or 0)
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
        if "worker_abort" in self._functions:
            signal.signal(signal.SIGABRT, self._abort)
        self.call("post_worker_init", self.worker)

    def _abort(self, signum: int, frame: FrameType | None) -> None:
        """SIGABRT, as gunicorn handles it: the hook, then the end of the worker."""
        assert self.worker is not None
        self.worker.alive = False
        try:
            self.call("worker_abort", self.worker)
        except Exception:
            self.worker.log.exception("Exception in worker_abort hook")
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
    """Execute the configuration in the directory of the start, and return its hooks."""
    assert reading.origin is not None
    argv, directory = reading.origin
    here = os.getcwd()
    os.chdir(directory)
    try:
        resolved = resolve(argv, os.environ)
    finally:
        os.chdir(here)
    remove_if_installed()
    found: dict[str, Any] = {name: resolved.value(name) for name in HOOKS if resolved.value(name) is not None}
    return GunicornHooks(found, Config(resolved))


current = _load()
current.register()
