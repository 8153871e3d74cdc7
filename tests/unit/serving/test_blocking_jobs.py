"""starman.serving.blocking_jobs: blocking work in threads."""

from __future__ import annotations

import asyncio
import threading
from contextvars import Context
from typing import NoReturn

import anyio
import pytest
import sniffio

from starman.serving.blocking_jobs import JobCancelledError, Jobs, NoThreadError, run_in_thread


@pytest.mark.parametrize("use_uvloop", [True, False])
def test_a_job_may_be_started_in_any_context(use_uvloop: bool) -> None:
    """A callback that a thread has posted runs in an empty context: neither sniffio nor anyio finds a loop there."""
    ran: list[object] = []

    async def main() -> None:
        jobs = Jobs()
        finished = anyio.Event()
        async with anyio.create_task_group() as tasks:
            jobs.accept_jobs(tasks)

            def done(error: Exception | None) -> None:
                ran.append((error, sniffio.current_async_library()))
                finished.set()

            def job() -> None:
                ran.append(threading.current_thread() is threading.main_thread())

            asyncio.get_running_loop().call_soon(jobs.start_job, job, done, context=Context())
            with anyio.fail_after(10):
                await finished.wait()
            jobs.refuse_jobs()
            jobs.start_job(lambda: ran.append("late"), lambda _: None)

    anyio.run(main, backend="asyncio", backend_options={"use_uvloop": use_uvloop})
    assert ran == [False, (None, "asyncio")]


def test_the_error_of_a_job_is_told_from_that_of_its_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> NoReturn:
        raise RuntimeError("the job's own")

    def start(self: threading.Thread) -> NoReturn:
        raise RuntimeError("can't start new thread")

    async def main() -> tuple[Exception | None, ...]:
        nothing, own = await run_in_thread(lambda: None), await run_in_thread(fail)
        return nothing, own

    async def main_without_threads() -> Exception | None:
        return await run_in_thread(lambda: None)

    nothing, own = anyio.run(main)
    assert nothing is None
    assert type(own) is RuntimeError
    assert str(own) == "the job's own"
    monkeypatch.setattr(threading.Thread, "start", start)
    missing = anyio.run(main_without_threads)
    assert isinstance(missing, NoThreadError)
    assert str(missing) == "can't start new thread"


def test_what_follows_a_job_cannot_end_the_group(capfd: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        jobs = Jobs()
        finished = anyio.Event()

        def fail(error: Exception | None) -> NoReturn:
            finished.set()
            raise ValueError("a defect")

        async with anyio.create_task_group() as tasks:
            jobs.accept_jobs(tasks)
            jobs.start_job(lambda: None, fail)
            with anyio.fail_after(10):
                await finished.wait()
            jobs.refuse_jobs()

    anyio.run(main)
    assert "ValueError: a defect" in capfd.readouterr().err


def test_jobs_of_a_group_that_is_cancelled_or_has_ended_are_finished_as_well() -> None:
    """Otherwise a body would keep its memory and its file if a thread is writing the file then."""
    finished: list[tuple[str, type[object]]] = []
    release, running = threading.Event(), threading.Event()
    ran: list[str] = []

    def job() -> None:
        running.set()
        assert release.wait(20)
        ran.append("running")

    async def main() -> None:
        jobs = Jobs()
        async with anyio.create_task_group() as tasks:
            jobs.accept_jobs(tasks)
            jobs.start_job(job, lambda error: finished.append(("running", type(error))))
            while not running.is_set():
                await anyio.sleep(0.001)
            jobs.start_job(lambda: ran.append("waiting"), lambda error: finished.append(("waiting", type(error))))
            tasks.cancel_scope.cancel()
            asyncio.get_running_loop().call_later(0.01, release.set)
        assert ran == ["running"]
        jobs.start_job(lambda: ran.append("late"), lambda error: finished.append(("late", type(error))))
        await anyio.sleep(0)

    anyio.run(main)
    assert ran == ["running"]
    assert dict(finished) == {"running": type(None), "waiting": JobCancelledError, "late": JobCancelledError}
