"""Runs blocking work of the loop in threads of anyio: writing spool files, switching the access log. Loop only."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

import anyio.to_thread

from starman import log
from starman.log.tracebacks import format_exception

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import TaskGroup


class NoThreadError(Exception):
    """No thread can be started: a limit (RLIMIT_NPROC, pids.max of the cgroup) is reached, or memory is short."""


class JobCancelledError(Exception):
    """The service has ended: the job was not run, or its result was not waited for."""


class Jobs:
    """Runs jobs for protocols and signal handlers.

    A job is a task of the service's task group, started by another task of the group. A callback of the loop cannot
    start it: a callback is in no task, and may run in the empty context of the thread that has posted it, in which
    anyio finds no event loop if sniffio is installed.
    """

    __slots__ = ("_open", "_waiting", "_wanted")

    def __init__(self) -> None:
        self._open = False
        self._waiting: deque[tuple[Callable[[], None], Callable[[Exception | None], None]]] = deque()
        self._wanted = asyncio.Event()

    def accept_jobs(self, tasks: TaskGroup) -> None:
        """Run jobs from now on, as tasks of `tasks`. A task of this group must make the call."""
        self._open = True
        tasks.start_soon(self._start_all, tasks)

    def refuse_jobs(self) -> None:
        """Run no new jobs from now on. Jobs that were started before still run."""
        self._open = False
        self._wanted.set()

    def start_job(self, job: Callable[[], None], done: Callable[[Exception | None], None]) -> None:
        """Run `job` in a thread, then call `done` in the loop.

        `done` gets None after success, else the exception of `job`, NoThreadError, or JobCancelledError if the task
        group is cancelled or has ended. In each case the thread has finished by then.
        """
        if self._open:
            self._waiting.append((job, done))
            self._wanted.set()
        else:
            asyncio.get_running_loop().call_soon(_finish, done, JobCancelledError())

    async def _start_all(self, tasks: TaskGroup) -> None:
        try:
            while self._open:
                await self._wanted.wait()
                self._wanted.clear()
                while self._waiting:
                    tasks.start_soon(_run, *self._waiting.popleft())
        finally:
            self._open = False
            while self._waiting:
                _finish(self._waiting.popleft()[1], JobCancelledError())


async def run_in_thread(job: Callable[[], None], *, abandon: bool = False) -> Exception | None:
    """Run `job` in a thread, and wait for it. Return its exception, NoThreadError if it was not run, or None after
    success.

    With `abandon`, a cancellation ends the wait at once, and the thread goes on.
    """

    def attempt() -> Exception | None:
        try:
            job()
        except Exception as error:
            return error
        return None

    try:
        return await anyio.to_thread.run_sync(attempt, abandon_on_cancel=abandon)
    except (RuntimeError, MemoryError) as error:  # no thread; `attempt` returns exceptions of the job
        return NoThreadError(str(error) or type(error).__name__)


async def _run(job: Callable[[], None], done: Callable[[Exception | None], None]) -> None:
    error: Exception | None = JobCancelledError()
    try:
        error = await run_in_thread(job)
    finally:
        _finish(done, error)


def _finish(done: Callable[[Exception | None], None], error: Exception | None) -> None:
    try:
        done(error)
    except Exception as failure:  # a defect of starman must not end the group, and with it the worker
        log.error(f"the callback of a job failed\n{format_exception(failure)}")
