"""The worker process: from the fork to its exit. Loads the application unless its mold has, runs the service, obeys signals.

What is served, and how, is the service's; this module never sees a connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import time

import anyio

from starman import hooks, log, standard_streams, thread_io
from starman.errors import StarmanError, StartError
from starman.log.tracebacks import formatted, named
from starman.process import parent_death
from starman.process.exiting import LEAST_SECONDS, disown_children, leave
from starman.process.forking import (
    HANDLED,
    SECOND_STOP,
    adopt_error_log,
    ignore_failing_writes,
    reseed,
    show_stacks,
    take_signals,
)
from starman.process.messages import Doomed, Draining, Failed, Ready, Reopen, Reopened
from starman.process.worker.loop_errors import report
from starman.process.worker.malloc import give_back_zeros, keep_free_pages
from starman.process.worker.monitor import WorkerMonitor
from starman.process.worker.server_resources import ServerResources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any, NoReturn

    from starman.process.channel import Channel
    from starman.process.scoreboard import Place
    from starman.process.spec import Serving, WorkerSpec
    from starman.wsgi.call import Application


def run_worker(channel: Channel, slot: int, place: Place | None, spec: WorkerSpec, application: Application | None) -> NoReturn:
    """Be the worker of `slot`, from a fresh fork with its signals blocked to its end. `place` is its page of the scoreboard, if
    there is one left.

    `application` is what the mold has loaded; None: load it. The master learns over `channel` how far it is, and its end of file
    tells that the master is gone: the worker then finishes its requests and ends. Never returns. Main thread only.
    """
    channel.announce()
    # Hazard 8: handlers first, then unblock, and only then what may start a thread: a thread that started with signals
    # blocked would hand the mask on to the programs that it starts.
    take_signals(stop_ends=True)
    thread_io.keep_open()
    status = 1
    lifetime = None
    try:
        spec.title(f"worker {slot}")
        resources = ServerResources(spec.listeners, channel)
        make_service = spec.import_service()
        if application is None:
            application = spec.load_application()
            hooks.run_after_fork()
            spec.warm_up(application)
            # As the mold does with what it has loaded: a collection of all generations then takes no 27 ms of Flask's hello.
            gc.collect()
            gc.freeze()
        else:
            reseed()
            disown_children()
            hooks.run_after_fork()
        standard_streams.restore()
        ignore_failing_writes()
        settings = spec.settings
        monitor = WorkerMonitor(channel, slot, place, settings)
        service = make_service(application, settings, spec.listeners, multiprocess=settings.workers > 1, monitor=monitor)
        resources.service = service
        lifetime = _Lifetime(channel, service, resources, monitor, spec)
        anyio.run(lifetime.run, backend="asyncio", backend_options={"use_uvloop": True})
        status = 0
    except StarmanError as error:
        channel.send(Failed(str(error), error.details))
    except BaseException as error:  # SystemExit too: an application's module may call sys.exit
        if lifetime is None or not lifetime.ready:
            channel.send(Failed(named(error), formatted(error)))
        else:
            log.error(f"worker {slot} failed\n{formatted(error)}")
    if lifetime is not None and lifetime.ready:
        leave(status, lifetime.seconds_left(), first=hooks.run_worker_exit)
    leave(status)


class _Lifetime:
    """One run of a service under its loop: what signals, the master's end and harakiri mean to it. All methods are the loop's.

    ready: whether it has accepted connections.
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
        monitor.on_harakiri = self._on_harakiri
        monitor.on_give_up = self._on_give_up
        self._stopped_at: float | None = None
        self._stop_now = False
        self.ready = False

    async def run(self) -> None:
        """Run the service until it has drained."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(report)
        keep_free_pages()
        give_back_zeros(loop)  # 250 kB for reading, of which most rounds use the first few
        for signum in (signal.SIGQUIT, signal.SIGTERM):
            # From here on a stop drains. Before, it ended the process (`take_signals`), so there is no moment without a handler.
            loop.add_signal_handler(signum, self._on_stop_signal)
            self._report_requests_at_signal(signum)
            self._resources.note_handler(signum)
        loop.add_reader(self._channel.fileno(), self._read_channel)
        measuring = loop.create_task(self._monitor.measure_memory())
        try:
            await self._service.run(self._on_started)
        finally:
            measuring.cancel()
            # The loop takes its handlers with it when it closes; a stop signal then would kill the process while it runs
            # what is registered with atexit.
            signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
            loop.remove_reader(self._channel.fileno())

    def seconds_left(self) -> float:
        """How long (seconds) the exit functions may take after the service has ended: the rest of graceful_timeout."""
        if self._stopped_at is None or self._stop_now:
            return LEAST_SECONDS
        return max(LEAST_SECONDS, self._stopped_at + self._graceful_timeout - time.monotonic())

    def _on_started(self) -> None:
        self.ready = True
        # It may have a request by now, and hears of the master's end by its channel.
        parent_death.untie()
        hooks.run_worker_ready()
        self._monitor.start()
        self._channel.send(Ready())

    def _on_stop_signal(self) -> None:
        """QUIT or TERM: drain; a second one: cut."""
        if self._stopped_at is None:
            self._drain()
        elif time.monotonic() - self._stopped_at >= SECOND_STOP:
            self._stop_now = True
            self._service.cut()

    def _report_requests_at_signal(self, signum: int) -> None:
        """Have the requests counted as soon as the signal comes. The loop's own handler has to wait while the loop runs the
        application (`--threads 0`)."""
        loop_handler: Any = signal.getsignal(signum)

        def report_then_stop(signum: int, frame: FrameType | None) -> None:
            self._report_requests()
            loop_handler(signum, frame)

        signal.signal(signum, report_then_stop)
        signal.siginterrupt(signum, False)

    def _report_requests(self) -> None:
        """Let the master know how many requests are in flight. Loop, or a signal handler."""
        # An error would be raised in the application. Without a count, the master counts the requests that threads run.
        with contextlib.suppress(Exception):
            self._monitor.in_flight(self._service.requests)

    def _report_reopened(self) -> None:
        self._channel.send(Reopened())

    def _on_harakiri(self) -> None:
        """The master decides when: others may be draining. Without a word of it, the service goes on."""
        if self._stopped_at is None and not self._channel.send(Doomed("its application wishes so (starman.harakiri)")):
            self._drain()

    def _on_give_up(self, reason: str) -> None:
        """The loop cannot go on: have the master replace this worker."""
        if not self.ready:
            raise StartError(reason)
        if self._stopped_at is None:
            log.error(f"this worker cannot go on, and finishes its requests: {reason}")
            if not self._channel.send(Doomed(reason)):
                self._drain()

    def _drain(self) -> None:
        self._stopped_at = time.monotonic()
        self._monitor.draining = True
        self._report_requests()
        self._channel.send(Draining())
        self._service.drain()
        # The service accepts on duplicates, which it closes. As long as anybody holds this one, the kernel would take
        # connections that nobody serves.
        for listener in self._listeners:
            with contextlib.suppress(OSError):  # the application has closed its descriptor
                listener.close()

    def _read_channel(self) -> None:
        """The order to open the logs again, or the end of file when the master is gone."""
        try:
            received = self._channel.poll()
        except (BlockingIOError, InterruptedError):
            return
        if received is not None:
            message, fds = received
            if isinstance(message, Reopen):
                adopt_error_log(fds)
                self._service.reopen_logs(self._report_reopened)
        else:
            asyncio.get_running_loop().remove_reader(self._channel.fileno())
            if self._stopped_at is None:
                show_stacks()  # nobody reads the pipe any more
                log.warning("the master is gone: this worker finishes what it has, and ends")
            self._on_stop_signal()
