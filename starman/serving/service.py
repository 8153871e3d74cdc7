"""Serves in one worker, from the first accept to the end of the drain: the loop's tasks, and the tick. Loop only."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import anyio

from starman import log, standard_streams
from starman.errors import StartError
from starman.log.tracebacks import format_exception, keep_memory_reserve
from starman.serving.accepting.acceptor import Acceptor
from starman.serving.accepting.connection_factory import ConnectionFactory
from starman.serving.accepting.listening import Listening
from starman.serving.accepting.proxy_header import ProxyHeaderRules
from starman.serving.application_child import abandon_clients, descriptors_of
from starman.serving.blocking_jobs import Jobs, NoThreadError, run_in_thread
from starman.serving.body.streaming_exchange import StreamedExchange
from starman.serving.connections.clients import Client
from starman.serving.context import ServiceContext
from starman.serving.drain import Drain
from starman.serving.exchange import Exchange
from starman.serving.executors.executor import Executor
from starman.serving.executors.inline import Inline, InlineExchange
from starman.serving.executors.pool import Pool
from starman.serving.executors.shedding import SheddingInline, SheddingPool
from starman.serving.gunicorn_socket.rawsocket import taken_descriptors
from starman.serving.health.request_watch import RequestWatch
from starman.serving.health.requests_in_flight import count_in_flight, forget_lost
from starman.serving.health.spinning_loop import SpinningLoopDetector
from starman.serving.load_shedding import LoadShedding
from starman.serving.metrics.worker_metrics import publish_metrics
from starman.serving.monitor import Monitor
from starman.serving.rehearsal import rehearse
from starman.serving.request_hooks import add_request_hooks
from starman.serving.tls.context import server_context
from starman.wsgi.call import Application

if TYPE_CHECKING:
    from starman.config.settings import Settings
    from starman.serving.access_log.access_log import AccessLog
    from starman.serving.request_trace import RequestTrace

# How often (seconds) the tick checks timeouts, and the access log is written.
_TICK = 0.5

# How long (seconds) timeouts are checked before the loop serves connections again.
_CHECK_SLICE = 0.001

# How many rounds of the loop it may take to close the sockets of connections that are reset at the end.
_CLOSING_ROUNDS = 4

# How long (seconds) writing the last lines of the access log may take.
_LAST_LINES = 2.0


class Service:
    """Serves an application on listeners. All methods run in the loop."""

    def __init__(
        self,
        application: Application,
        settings: Settings,
        listeners: Sequence[Listening],
        *,
        multiprocess: bool,
        owns_loop: bool = True,
        monitor: Monitor | None = None,
    ) -> None:
        """`multiprocess` is the `wsgi.multiprocess` of the environ: whether the worker has siblings. `owns_loop` says
        that the loop runs nothing else, so it may stand still while a thread works (`schedule`). `monitor` supervises
        the worker; None if there is no supervisor.

        Reads the certificate if a listener is secure; raises SettingError when it cannot be used.
        """
        self._tls_context = server_context(settings) if any(listener.secure for listener in listeners) else None
        self._application = application
        self._settings = settings
        self._listeners = listeners
        self._multiprocess = multiprocess
        self._owns_loop = owns_loop
        self._monitor = monitor
        self._jobs = Jobs()
        self._access_log: AccessLog | None = None
        self._drain = Drain()
        self._running: tuple[asyncio.AbstractEventLoop, ServiceContext, Acceptor] | None = None
        self._trace: RequestTrace | None = None

    @classmethod
    def rehearse(cls, settings: Settings) -> None:
        """Serve requests of this process itself for a moment, so that forked processes share the memory (`rehearsal`).

        Main thread, without a loop. Raises the exception of whatever fails.
        """
        rehearse(cls, settings)

    async def run(self, started: Callable[[], None]) -> None:
        """Serve. Call `started` once connections are accepted; return when a drain has ended.

        Raises SettingError when the access log cannot be opened, and StartError when a thread cannot be started. When
        cancelled, resets the connections.
        """
        executor, context = self._prepare()
        watch = RequestWatch(self._settings, executor, asyncio.get_running_loop(), self._monitor)
        connections = ConnectionFactory(
            context,
            threads=self._settings.threads,
            multiprocess=self._multiprocess,
            tls_context=self._tls_context,
            proxy_header=ProxyHeaderRules.of(self._settings),
            set_deadline=watch.set_deadline,
        )
        acceptor = Acceptor(context, connections, self._monitor)
        self._running = asyncio.get_running_loop(), context, acceptor
        try:
            _start_executor(executor)
            async with anyio.create_task_group() as tasks:
                self._jobs.accept_jobs(tasks)
                acceptor.start(self._listeners)
                tasks.start_soon(self._tick, context, acceptor, watch)
                tasks.start_soon(watch.check_short_deadlines)
                if context.opened_log is not None:
                    self._access_log = context.opened_log
                    tasks.start_soon(self._flush_access_log, context.opened_log)
                started()
                await self._drain.wait_for_request()
                report_in_flight = None if self._monitor is None else self._monitor.heartbeat.write_in_flight
                await self._drain.finish_requests(context, acceptor, self._settings.graceful_timeout, report_in_flight)
                tasks.cancel_scope.cancel()
        finally:
            self._jobs.refuse_jobs()
            self._access_log = None
            acceptor.stop()
            with anyio.CancelScope(shield=True):
                await acceptor.wait_for_pending()
            for connection in list(context.connections):
                connection.reset()
            with anyio.CancelScope(shield=True):
                # The loop closes sockets in its next rounds, and the second socket of a relay after the first.
                for _ in range(_CLOSING_ROUNDS):
                    await anyio.sleep(0)
            executor.stop()
            context.refusals.close()
            context.shedding.close(time.monotonic())
            context.shortages.close()
            self._publish_metrics(context, acceptor)
            self.trace("", [])
            await _close_log(context.opened_log)
            self._running = None

    def _prepare(self) -> tuple[Executor, ServiceContext]:
        loop, threads, monitor = asyncio.get_running_loop(), self._settings.threads, self._monitor
        recorder_of = (lambda _: None) if monitor is None else monitor.heartbeat.request_recorder
        executor: Executor
        shedding = LoadShedding(self._settings)
        if threads:
            takes_turns, make_exchange = self._owns_loop, Exchange
            if shedding.is_on:
                executor = SheddingPool(threads, loop, shedding, takes_turns=takes_turns, recorder_of=recorder_of)
            else:
                executor = Pool(threads, loop, takes_turns=takes_turns, recorder_of=recorder_of)
        else:
            make_exchange = InlineExchange
            if shedding.max_queue:
                executor = SheddingInline(loop, shedding, recorder_of=recorder_of)
            else:
                executor = Inline(loop, recorder_of=recorder_of)
        on_harakiri = None if monitor is None else monitor.harakiri.request_end
        context = ServiceContext(self._application, self._settings, executor, make_exchange, self._jobs.start_job, on_harakiri)
        context.make_streamed_exchange, context.shedding = StreamedExchange, shedding
        add_request_hooks(context)
        return executor, context

    @property
    def requests(self) -> int:
        """How many requests are in flight (`count_in_flight`). A signal handler of the loop's thread may read this."""
        return 0 if self._running is None else count_in_flight(self._running[1])

    def drain(self) -> None:
        """Stop accepting, finish requests within graceful_timeout; then `run` returns. May be called again."""
        self._drain.request()

    def abort(self) -> None:
        """End now: reset all connections."""
        self._drain.abort()

    def reopen_logs(self, done: Callable[[], None]) -> None:
        """Switch the access log to the file at its path, then call `done`. After that no line goes to the old file,
        except for the last lines of a service that ends."""
        if self._access_log is None:
            done()
            return

        def reopened(error: Exception | None) -> None:
            if isinstance(error, NoThreadError):
                asyncio.get_running_loop().call_later(_TICK, self.reopen_logs, done)
            else:
                done()

        self._jobs.start_job(self._access_log.reopen, reopened)

    def trace(self, filters: str, fds: list[int]) -> None:
        """Send the finished requests that match one of `filters` over the socket `fds[0]`, instead of what was traced
        before; "": trace nothing. The service owns `fds`. See `request_trace`."""
        if self._trace is not None:
            self._trace.end()
            self._trace = None
        if self._running is None or not filters or not fds:
            for fd in fds:
                os.close(fd)
            return
        # Imported when it is first needed: most workers are never traced.
        from starman.serving.request_trace import RequestTrace

        self._trace = RequestTrace(self._running[1], filters, fds[0])

    def abandon(self) -> tuple[list[int], list[int]]:
        """Stop serving clients in a child that the application has forked. Takes no lock.

        Return two lists of descriptors: those that the child does not need, and those of connections that the
        application has taken over (`gunicorn.socket`), which the child keeps. Listeners and sockets of clients are in
        neither list.
        """
        if self._running is None:
            return [], taken_descriptors()
        loop, context, acceptor = self._running
        log_fd = -1 if context.opened_log is None else context.opened_log.descriptor
        trace_fd = -1 if self._trace is None else self._trace.descriptor
        abandon_clients(context)
        return [*descriptors_of(loop), *acceptor.descriptors(), log_fd, trace_fd], taken_descriptors()

    async def _tick(self, context: ServiceContext, acceptor: Acceptor, watch: RequestWatch) -> None:
        """Check timeouts and health every _TICK seconds."""
        spinning_loop = SpinningLoopDetector(inline=not self._settings.threads)
        while True:
            planned = time.monotonic() + _TICK
            spinning_loop.end_tick(planned - _TICK, time.thread_time())
            await anyio.sleep(_TICK)
            try:
                self._publish_metrics(context, acceptor, time.monotonic() - planned)
                due = self._run_checks(context, acceptor, spinning_loop, watch)
            except MemoryError:  # the application uses all memory for a moment: the next tick goes on
                continue
            while due:
                _check_clients(context, due)
                await anyio.sleep(0)

    def _run_checks(
        self,
        context: ServiceContext,
        acceptor: Acceptor,
        spinning_loop: SpinningLoopDetector,
        watch: RequestWatch,
    ) -> list[Client]:
        """Do all that a tick does, except for checking timeouts. Return the clients to check for timeouts."""
        if self._monitor is not None:
            spins = spinning_loop.check(time.monotonic(), time.thread_time(), context.executor.all_finished + acceptor.accepted)
            if spins is not None and (self._settings.threads or not context.executor.busy):
                spinning_loop.report(spins, self._monitor.harakiri.give_up)
            self._monitor.heartbeat.tick(context.executor.all_finished, len(context.connections), context.executor.awake)
        acceptor.tick()
        log.write_pending()
        standard_streams.restore()
        now = time.monotonic()
        if context.doomed and not self._drain.requested and context.spare(now):
            acceptor.resume()
        watch.check(context, now)
        context.executor.drop_gone(now)
        context.shedding.check(now)
        forget_lost(context)
        context.refusals.write_due(now)
        context.shortages.write_due(now)
        return context.connections.due(now)

    def _publish_metrics(self, context: ServiceContext, acceptor: Acceptor, late: float = 0.0) -> None:
        """Publish the metrics for the observer. `late`: how much too late (seconds) this tick is."""
        if self._monitor is not None and self._monitor.metrics is not None:
            publish_metrics(context, acceptor, self._monitor.metrics, time.monotonic(), max(0.0, late))

    async def _flush_access_log(self, access_log: AccessLog) -> None:
        """Write the access log. A task of its own: a pipe without a reader must not delay the timeouts."""
        fails = False
        while True:
            error = await run_in_thread(access_log.flush, abandon=True)
            if error is not None and not fails:
                log.error(f"cannot write the access log, will try again: {error}")
            fails = error is not None
            if fails or not access_log.has_unwritten:
                await anyio.sleep(_TICK)


def _start_executor(executor: Executor) -> None:
    try:
        keep_memory_reserve()
        executor.start()
    except (RuntimeError, MemoryError) as error:
        reason = str(error) or "out of memory"
        raise StartError(
            f"the threads of a worker cannot be started: {reason} (is there a limit, RLIMIT_NPROC or pids.max of the cgroup?)"
        ) from error


def _check_clients(context: ServiceContext, due: list[Client]) -> None:
    """Check some of the clients in `due`, for about a millisecond.

    A function of its own because of its variables: in the task, the last client would live until the next tick.
    """
    now = time.monotonic()
    until = now + _CHECK_SLICE
    while due and time.monotonic() < until:
        client = due.pop()
        if client in context.connections:  # it may have been removed since
            try:
                client.check_timeouts(now)
            except Exception as error:
                log.error(f"a connection is reset, because checking its timeouts failed\n{format_exception(error)}")
                client.reset()


async def _close_log(access_log: AccessLog | None) -> None:
    """Write the last lines, within _LAST_LINES seconds, and close the log."""
    if access_log is None:
        return
    with anyio.move_on_after(_LAST_LINES, shield=True):
        if isinstance(await run_in_thread(access_log.close, abandon=True), NoThreadError):
            access_log.close()
