"""Blocking work that the loop has done in threads of anyio's: a body's spool file, the access log. Loop only."""

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
    """The operating system starts no further thread: a limit is reached (RLIMIT_NPROC, pids.max of the cgroup), or memory."""


class JobCancelledError(Exception):
    """The service has ended: the job was not run, or nothing has waited for its result."""


class Jobs:
    """Runs the jobs that protocols and signal handlers ask for.

    A job is a task of the service's group, and only a task can ask the group for it: a callback of the loop is in no task, and
    may run in the empty context of the thread that has posted it. anyio finds no event loop there if sniffio is installed.
    """

    __slots__ = ("_open", "_waiting", "_wanted")

    def __init__(self) -> None:
        self._open = False
        self._waiting: deque[tuple[Callable[[], None], Callable[[Exception | None], None]]] = deque()
        self._wanted = asyncio.Event()

    def begin(self, tasks: TaskGroup) -> None:
        """From now on jobs are run, as tasks of `tasks`. Called by a task of the group."""
        self._open = True
        tasks.start_soon(self._start_all, tasks)

    def end(self) -> None:
        """From now on `start` runs no job; jobs that were started before still run."""
        self._open = False
        self._wanted.set()

    def start(self, job: Callable[[], None], done: Callable[[Exception | None], None]) -> None:
        """Run `job` in a thread, then call `done` in the loop with the exception of `job`, with NoThreadError, or with None
        when all went well. If the group is cancelled or has ended, `done` gets JobCancelledError; the thread has finished then.
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
    """Run `job` in a thread, and wait for it. Returns what it raised, NoThreadError if it was not run, None when all went well.

    abandon: whether a cancellation ends the wait at once; the thread goes on.
    """

    def attempt() -> Exception | None:
        try:
            job()
        except Exception as error:
            return error
        return None

    try:
        return await anyio.to_thread.run_sync(attempt, abandon_on_cancel=abandon)
    except (RuntimeError, MemoryError) as error:  # the thread cannot be started; exceptions of the job itself are returned
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
    except Exception as failure:  # a defect of ours must not end the group, and with it the worker
        log.error(f"the callback of a job failed\n{format_exception(failure)}")
