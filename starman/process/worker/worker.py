"""Runs a worker process from its fork to its exit: loads the application, runs the service, stops on signals.

The service handles connections and requests; this module must not. Imports the serving side for type checks only.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import time
from functools import partial

import anyio

from starman import hooks, log, standard_streams, thread_io
from starman.errors import StarmanError, StartError
from starman.log.tracebacks import exception_line, format_exception
from starman.process import parent_death
from starman.process.exiting import LEAST_SECONDS, disown_children, exit_worker
from starman.process.forking import (
    HANDLED,
    SECOND_STOP,
    ignore_failing_writes,
    install_handlers,
    replace_error_log,
    reseed_numpy,
)
from starman.process.messages import Draining, DrainRequest, Failed, Ready, Reopen, Reopened
from starman.process.observer_messages import Trace
from starman.process.worker import output_capture
from starman.process.worker.hook_process import report_misplaced_hooks
from starman.process.worker.loop_errors import report
from starman.process.worker.malloc import keep_free_pages
from starman.process.worker.monitor import WorkerMonitor
from starman.process.worker.server_resources import ServerResources
from starman.process.worker.stack_dumps import enable_stack_dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any, NoReturn

    from starman.process.channel import Channel
    from starman.process.scoreboard import WorkerPage
    from starman.process.watching.reports import LoadedFiles
    from starman.process.worker_spec import Serving, WorkerSpec
    from starman.wsgi.call import Application

# How often (seconds) a worker looks for modules that were imported meanwhile, with `reload`.
_REPORT_SECONDS = 0.5


def run_worker(
    channel: Channel, slot: int, page: WorkerPage | None, spec: WorkerSpec, application: Application | None
) -> NoReturn:
    """Run the worker of `slot` until its exit. Call it in a fresh fork with all signals blocked.

    `page`: the worker's page of the scoreboard; None if it has none. `application`: what the mold has loaded; None:
    load it here. `channel` reports progress to the master. At its end of file, the master is gone, and the worker
    finishes its requests and exits. Never returns. Main thread only.
    """
    channel.send_spawned()
    # Hazard 8: install the handlers, unblock signals, and only then start threads. A thread that started with signals
    # blocked would pass the mask on to the programs that it starts.
    install_handlers(stop_ends=True)
    output_capture.start_reading(channel)
    thread_io.keep_open()
    status = 1
    lifetime = None
    try:
        spec.set_title(f"worker {slot}")
        resources = ServerResources(spec.listeners, channel)
        make_service = spec.import_service()
        loaded_files = spec.loaded_files()
        application, preloaded = _prepare(application, slot, spec, loaded_files), application is not None
        if not preloaded:
            report_misplaced_hooks(channel)
        standard_streams.restore()
        ignore_failing_writes()
        settings = spec.settings
        monitor = WorkerMonitor(channel, slot, page, settings)
        service = make_service(application, settings, spec.listeners, multiprocess=settings.workers > 1, monitor=monitor)
        resources.service = service
        lifetime = _Lifetime(channel, service, resources, monitor, spec)
        lifetime.loaded_files = loaded_files
        anyio.run(lifetime.run, backend="asyncio", backend_options={"use_uvloop": True})
        status = 0
    except StarmanError as error:
        channel.send(Failed(str(error), error.details, spec.program.failed_status(error)))
    except BaseException as error:  # SystemExit too: an application's module may call sys.exit
        if lifetime is None or not lifetime.ready:
            channel.send(Failed(exception_line(error), format_exception(error), spec.program.failed_status(error)))
        else:
            log.error(f"worker {slot} failed\n{format_exception(error)}")
    if lifetime is not None and lifetime.ready:
        exit_worker(status, lifetime.seconds_left(), first=partial(hooks.run_logged, "worker_exit"))
    exit_worker(status)


def _prepare(preloaded: Application | None, slot: int, spec: WorkerSpec, loaded_files: LoadedFiles | None) -> Application:
    """Load the application, unless the mold has preloaded it, and run the application's hooks. Raises StarmanError;
    with `loaded_files`, a failure becomes an application that shows it."""

    def load() -> Application:
        if preloaded is not None:
            reseed_numpy()
            disown_children()
            hooks.run_after_fork()
            return preloaded
        application = spec.load_application()
        hooks.run_after_fork()
        spec.warm_up(application)
        return application

    if loaded_files is None:
        application = load()
    else:
        from starman.process.watching.broken_application import load_or_explain

        application = load_or_explain(load, loaded_files, spec.settings, logs=slot == 1)
    if preloaded is None:
        # As a mold does after preloading. Without it, a collection of all generations takes 27 ms (hello on Flask).
        gc.collect()
        gc.freeze()
    return application


class _Lifetime:
    """One run of the service: reacts to signals, the master's messages and end, and harakiri. Methods run in the loop,
    unless they say otherwise.

    ready: whether the worker has accepted connections. loaded_files: reports modules that requests import; None
    without `reload`.
    """

    __slots__ = (
        "_channel",
        "_graceful_timeout",
        "_listeners",
        "_monitor",
        "_resources",
        "_service",
        "_stop_now",
        "_stopped_at",
        "loaded_files",
        "ready",
    )

    def __init__(
        self,
        channel: Channel,
        service: Serving,
        resources: ServerResources,
        monitor: WorkerMonitor,
        spec: WorkerSpec,
    ) -> None:
        self._resources = resources
        self._channel = channel
        self._listeners = spec.listeners
        self._graceful_timeout = spec.settings.graceful_timeout
        self._service = service
        self._monitor = monitor
        monitor.harakiri.on_end_requested = self._on_harakiri
        monitor.harakiri.on_give_up = self._on_give_up
        self._stopped_at: float | None = None
        self._stop_now = False
        self.loaded_files: LoadedFiles | None = None
        self.ready = False

    async def run(self) -> None:
        """Run the service until it has drained, or was stopped at once."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(report)
        keep_free_pages()
        for signum in (signal.SIGQUIT, signal.SIGTERM):
            # From here on, a stop signal drains. Before, it ended the process (`install_handlers`): a handler is
            # always installed.
            loop.add_signal_handler(signum, self._on_stop_signal)
            self._report_requests_at_signal(signum)
            self._resources.note_handler(signum)
        loop.add_reader(self._channel.fileno(), self._read_channel)
        measuring = loop.create_task(self._monitor.recycle_request.measure_memory())
        try:
            await self._service.run(self._on_started)
        finally:
            measuring.cancel()
            # The loop removes its handlers when it closes. A stop signal would then kill the process while it runs
            # functions registered with atexit.
            signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
            loop.remove_reader(self._channel.fileno())

    def seconds_left(self) -> float:
        """How long (seconds) exit functions may take: what is left of graceful_timeout. Main thread, after the loop
        has ended."""
        if self._stopped_at is None or self._stop_now:
            return LEAST_SECONDS
        return max(LEAST_SECONDS, self._stopped_at + self._graceful_timeout - time.monotonic())

    def _on_started(self) -> None:
        self.ready = True
        # From now on the worker may have requests to finish. It notices the master's end by the channel.
        parent_death.untie()
        hooks.run_logged("worker_ready")
        self._monitor.heartbeat.start()
        self._channel.send(Ready())
        if self.loaded_files is not None:
            self._report_files(self.loaded_files)

    def _report_files(self, loaded_files: LoadedFiles) -> None:
        """Report modules that were imported since the start, now and at intervals."""
        loaded_files.report()
        asyncio.get_running_loop().call_later(_REPORT_SECONDS, self._report_files, loaded_files)

    def _on_stop_signal(self) -> None:
        """QUIT or TERM: drain. A second signal stops the service at once."""
        if self._stopped_at is None:
            self._drain()
        elif time.monotonic() - self._stopped_at >= SECOND_STOP:
            self._stop_now = True
            self._service.abort()

    def _report_requests_at_signal(self, signum: int) -> None:
        """Write the number of requests to the scoreboard as soon as the signal comes. The loop's own handler waits
        while the loop runs the application (`--threads 0`)."""
        loop_handler: Any = signal.getsignal(signum)

        def report_then_stop(signum: int, frame: FrameType | None) -> None:
            self._report_requests()
            loop_handler(signum, frame)

        signal.signal(signum, report_then_stop)
        signal.siginterrupt(signum, False)

    def _report_requests(self) -> None:
        """Write the number of requests in flight to the scoreboard, for the master. Loop, or a signal handler."""
        # From a signal handler, an error would be raised in the application. Without this number, the master uses the
        # number of requests that threads run.
        with contextlib.suppress(Exception):
            self._monitor.heartbeat.write_in_flight(self._service.requests)

    def _report_reopened(self) -> None:
        self._channel.send(Reopened())

    def _on_harakiri(self) -> None:
        """The application requests the end of this worker."""
        if self._stopped_at is None:
            self._request_drain("its application has asked for it (starman.harakiri)")

    def _on_give_up(self, reason: str) -> None:
        """The loop cannot continue: have the master replace this worker. Raises StartError if the worker has not been
        ready."""
        if not self.ready:
            raise StartError(reason)
        if self._stopped_at is None:
            log.error(f"this worker cannot continue, and finishes its requests: {reason}")
            self._request_drain(reason)

    def _request_drain(self, reason: str) -> None:
        """Request the end of this worker. The master decides when, because other workers may be draining; until then,
        the service goes on. Without a master, drain now."""
        if not self._channel.send(DrainRequest(reason)):
            self._drain()

    def _drain(self) -> None:
        self._stopped_at = time.monotonic()
        self._monitor.heartbeat.draining = True
        self._report_requests()
        self._channel.send(Draining())
        self._service.drain()
        hooks.run_logged("worker_stopping")
        # The service accepts on duplicates of the listeners, which it closes. If the whole server stops, the kernel
        # goes on to accept connections, which no process serves, until all descriptors of a listener are closed.
        for listener in self._listeners:
            with contextlib.suppress(OSError):  # the application has closed the descriptor
                listener.close()

    def _read_channel(self) -> None:
        """Read the channel: an order to open the logs again, or to trace requests, or the end of file when the master
        is gone."""
        try:
            received = self._channel.receive_if_any()
        except (BlockingIOError, InterruptedError):
            return
        if received is not None:
            message, fds = received
            if isinstance(message, Reopen):
                replace_error_log(fds)
                self._service.reopen_logs(self._report_reopened)
            elif isinstance(message, Trace):
                self._service.trace(message.filters, fds)
        else:
            asyncio.get_running_loop().remove_reader(self._channel.fileno())
            if self._stopped_at is None:
                enable_stack_dumps()  # to the error log: the pipe has no reader any more
                log.warning("the master is gone: this worker finishes its requests and exits")
            self._on_stop_signal()
