"""starman.process.master.master, in a child of the test's process: cases that the functional tests cannot provoke."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from starman.config.settings import Settings
from starman.errors import LoadError, StartError
from starman.process import forking, scoreboard
from starman.process.channel import Channel
from starman.process.forking import GUARDED
from starman.process.host import rlimits
from starman.process.host.errorlog import ErrorLog
from starman.process.host.listeners import Listener
from starman.process.master import executor, links, signals
from starman.process.master import master as module
from starman.process.master.executor import Executor
from starman.process.master.links import Links
from starman.process.master.master import Master
from starman.process.master.trial import Trial
from starman.process.messages import Spawned
from starman.process.prctl import is_subreaper
from starman.process.supervision import actions
from starman.process.worker_spec import Program, WorkerSpec
from tests.unit.process.forked import run_forked


class FakeService:
    """A service that is ready at once, and ends when it drains."""

    @classmethod
    def rehearse(cls, settings: Settings) -> None:
        pass

    def __init__(self, *_: object, **__: object) -> None:
        self.end = asyncio.Event()

    async def run(self, started: Callable[[], None]) -> None:
        started()
        await self.end.wait()

    @property
    def requests(self) -> int:
        return 0

    def drain(self) -> None:
        self.end.set()

    cut = drain


def load() -> Any:
    return lambda: None


def make_master(
    load_application: Callable[[], Any] = load,
    application: Any = None,
    import_service: Callable[[], Any] = lambda: FakeService,
    **settings: object,
) -> Master:
    """A master of two workers that listens nowhere."""
    chosen = Settings.of(workers=2, disable_proctitle=True, **settings)
    listeners: list[Listener] = []
    program = Program(lambda _: load_application(), application, lambda _: "app")
    return Master(WorkerSpec(chosen, listeners, program, import_service), ErrorLog(None))


def when_ready(monkeypatch: pytest.MonkeyPatch, act: Callable[[Master], None]) -> None:
    """Have `act` called with the master as soon as the log says that the server is ready."""
    log_ready = Executor._log_ready

    def log_ready_and_act(self: Executor, action: actions.LogReady) -> None:
        log_ready(self, action)
        master = self.events
        assert isinstance(master, Master)
        act(master)

    monkeypatch.setattr(Executor, "_log_ready", log_ready_and_act)


def stop_when_ready(monkeypatch: pytest.MonkeyPatch, signum: signal.Signals = signal.SIGTERM) -> None:
    """Have the server stop as soon as it is ready."""
    when_ready(monkeypatch, lambda _: os.kill(os.getpid(), signum))


def failure(master: Master) -> str:
    """Why the start of `master` fails."""
    try:
        master.run()
    except StartError as error:
        return f"{error}|{error.details}"
    return "the start did not fail"


@pytest.mark.parametrize("preload", [False, True])
def test_a_whole_life_leaves_the_process_as_it_was(monkeypatch: pytest.MonkeyPatch, preload: bool) -> None:
    stop_when_ready(monkeypatch)

    def in_child() -> str:
        handlers = {signum: signal.getsignal(signum) for signum in signal.Signals}
        descriptors = set(os.listdir("/proc/self/fd"))
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        assert make_master(preload_app=preload).run() == 0
        assert {signum: signal.getsignal(signum) for signum in signal.Signals} == handlers
        # The process of a real master ends next. The signals stay blocked, so that none can change how it ends.
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask | GUARDED
        assert set(os.listdir("/proc/self/fd")) == descriptors
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
        return "fine"

    assert run_forked(in_child) == "fine"


@pytest.mark.parametrize("embedded_by", ["callable", "argument"])
def test_an_embedded_master_reaps_no_children_of_the_program(monkeypatch: pytest.MonkeyPatch, embedded_by: str) -> None:
    stop_when_ready(monkeypatch)

    def in_child() -> str:
        child = subprocess.Popen(["sh", "-c", "exit 42"])
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        if embedded_by == "callable":
            assert make_master(application=lambda: None).run() == 0
        else:
            assert make_master().run(embedded=True) == 0
        return str(child.wait())

    assert run_forked(in_child) == "42"


def test_the_log_warns_of_threads_of_an_embedding_program(monkeypatch: pytest.MonkeyPatch) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(forking.log, "warning", warnings.append)
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    forking.warn_of_threads()
    stop.set()
    thread.join()
    assert len(warnings) == 1
    assert "threads; they do not exist in the workers" in warnings[0]


def test_the_start_fails_with_an_application_that_cannot_be_loaded() -> None:
    def broken() -> Any:
        raise LoadError("there is no app", "Traceback...")

    assert run_forked(lambda: failure(make_master(broken))) == "there is no app|Traceback..."
    assert run_forked(lambda: failure(make_master(broken, preload_app=True))) == "there is no app|Traceback..."


def test_the_start_fails_with_a_mold_that_cannot_import_the_serving_side() -> None:
    def broken() -> Any:
        raise ImportError("no uvloop")

    reason = run_forked(lambda: failure(make_master(import_service=broken)))
    assert reason.startswith("the mold failed: ImportError: no uvloop|Traceback")


def test_the_start_fails_without_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    master = make_master()

    def in_child() -> str:
        monkeypatch.setattr(executor, "fork", refuse)
        return failure(master)

    assert (
        "the mold, which forks workers, could not be forked (Resource temporarily unavailable) before it was ready"
        in run_forked(in_child)
    )


def test_the_start_fails_without_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = Channel.pair

    def in_child() -> str:
        made = []

        def pair() -> Any:
            # One for the mold, none for the workers.
            if made:
                raise OSError(errno.EMFILE, "Too many open files")
            made.append(1)
            return pairs()

        monkeypatch.setattr(links.MasterEnd, "pair", pair)
        return failure(make_master())

    assert "worker 1 could not be forked (Too many open files)" in run_forked(in_child)


@pytest.mark.parametrize("missing", [(scoreboard.Scoreboard, "create"), (signals.os, "pipe")])
def test_a_failed_start_leaves_the_process_as_it_was(monkeypatch: pytest.MonkeyPatch, missing: tuple[Any, str]) -> None:
    def refuse() -> None:
        raise OSError(errno.ENFILE, "Too many open files in system")

    def in_child() -> str:
        def state() -> object:
            handlers = [signal.getsignal(signum) for signum in signal.Signals]
            return handlers, signal.pthread_sigmask(signal.SIG_BLOCK, ()), os.listdir("/proc/self/fd"), is_subreaper()

        before = state()
        monkeypatch.setattr(*missing, refuse)
        reason = failure(make_master())
        assert state() == before
        return reason

    assert run_forked(in_child) == "the master process cannot start: Too many open files in system|"


def test_an_error_in_the_loop_does_not_end_the_master(monkeypatch: pytest.MonkeyPatch) -> None:
    stop_when_ready(monkeypatch)
    reports: list[str] = []
    pauses: list[float] = []
    monkeypatch.setattr(module.log, "critical", reports.append)
    monkeypatch.setattr(module.time, "sleep", pauses.append)

    def in_child() -> str:
        master = make_master()
        act = Master._perform_plan
        rounds = []

        def fail_once(self: Master) -> int | None:
            rounds.append(1)
            if len(rounds) == 2:
                raise KeyError("a fault")
            return act(self)

        monkeypatch.setattr(Master, "_perform_plan", fail_once)
        assert master.run() == 0
        assert pauses == [1.0]
        assert len(reports) == 1
        assert "KeyError: 'a fault'" in reports[0]
        return "fine"

    assert run_forked(in_child) == "fine"


def test_an_action_that_fails_does_not_keep_the_others_from_being_performed(monkeypatch: pytest.MonkeyPatch) -> None:
    stop_when_ready(monkeypatch)
    reports: list[str] = []
    pauses: list[float] = []
    signalled: list[int] = []
    send_signal = Executor.send_signal
    monkeypatch.setattr(module.log, "error", reports.append)
    monkeypatch.setattr(module.time, "sleep", pauses.append)

    def send_then_refuse(self: Executor, number: int, signum: int) -> None:
        signalled.append(signum)
        send_signal(self, number, signum)
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Executor, "send_signal", send_then_refuse)

    def in_child() -> str:
        assert make_master().run() == 0
        assert signalled == [signal.SIGTERM] * 2
        assert len(reports) == 1, "each kind of failure once"
        assert reports[0].startswith("the master could not carry out Drain: PermissionError: ")
        assert pauses == []
        return "fine"

    assert run_forked(in_child) == "fine"


def test_a_worker_that_cannot_be_ordered_counts_as_dead_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only at its deadline."""

    def refuse(self: Links, *_: object) -> bool:
        raise MemoryError("no memory")

    monkeypatch.setattr(Links, "send", refuse)
    assert "worker 1 could not be forked (no memory)" in run_forked(lambda: failure(make_master(boot_timeout=600)))


def test_a_killed_worker_that_is_forgotten_reopens_no_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    awaited: list[bool] = []

    def forget_a_worker(master: Master) -> None:
        # As if this worker had been ordered to reopen its logs, then frozen so that not even SIGKILL ends it.
        link = next(link for link in master._links if link.page)
        master._log_reopen._awaited[link.number] = 1
        master._executor.perform(actions.Forget(link.number))
        awaited.append(master._log_reopen.busy)
        os.kill(os.getpid(), signal.SIGTERM)

    when_ready(monkeypatch, forget_a_worker)
    assert run_forked(lambda: (make_master(graceful_timeout=1).run(), awaited)) == "(0, [False])"


def test_a_process_id_that_is_not_a_childs_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of the system, the master itself, or another worker: the master would signal it."""
    reports: list[str] = []
    taken: list[object] = []
    expected: list[object] = []
    monkeypatch.setattr(module.log, "error", reports.append)

    def report_wrong_processes(master: Master) -> None:
        one, other = (link for link in master._links if link.page)
        pid, one.pid = one.pid, None
        assert pid is not None
        assert other.pid is not None
        wrong = [0, 1, os.getpid(), os.getppid(), other.pid]
        for wrong_pid in wrong:
            master.on_spawned(one, wrong_pid)
            taken.append(one.pid)
        master.on_spawned(one, pid)
        taken.append(one.pid)
        expected.extend([*([None] * len(wrong)), pid])
        reports[:] = [report.split(" ", 2)[2] for report in reports]
        os.kill(os.getpid(), signal.SIGTERM)

    when_ready(monkeypatch, report_wrong_processes)

    def in_child() -> str:
        assert make_master().run() == 0
        assert taken == expected
        return str(reports)

    assert run_forked(in_child) == str(["does not belong to this server, and is ignored"] * 5)


def test_a_stop_ends_the_trials_that_are_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def start_trials(master: Master) -> None:
        trials = [child for child in master._uncounted.values() if isinstance(child, Trial)]
        for trial in trials:
            trial.start(lambda _: time.sleep(60), 60)  # type: ignore[arg-type, return-value]
            link = master._links.find_link(trial.number)
            assert link is not None
            assert link.pid is not None
            tried.append(link.pid)
        os.kill(os.getpid(), signal.SIGTERM)

    when_ready(monkeypatch, start_trials)

    def in_child() -> str:
        assert make_master().run() == 0
        return str([end_of(pid) for pid in tried])

    assert run_forked(in_child) == f"[{-signal.SIGKILL}, {-signal.SIGKILL}]"


def end_of(pid: int) -> int:
    """How a child has ended. If the master has reaped it already: by SIGKILL."""
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:
        return -signal.SIGKILL


def test_an_upgrade_that_takes_too_long_ends_while_settings_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[tuple[str, bool]] = []

    def try_an_upgrade(master: Master) -> None:
        def note(text: str) -> None:
            found.append((text, master._reload.busy))
            os.kill(os.getpid(), signal.SIGTERM)

        reading, trying = master._uncounted[module._READING], master._uncounted[module._TRYING]
        monkeypatch.setattr(module.log, "error", note)
        reading.deadline = time.monotonic() + 5
        trying.start(lambda _: time.sleep(10), 0.1)  # type: ignore[arg-type, return-value]

    when_ready(monkeypatch, try_an_upgrade)
    assert run_forked(lambda: (make_master().run(), found)) == str(
        (0, [("upgrade given up, nothing has changed: the process that tried it did not answer within 0.1 s", True)])
    )


def test_an_invalid_message_is_logged_and_the_next_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    reports: list[str] = []
    monkeypatch.setattr(links.log, "error", reports.append)
    signals = module.SignalQueue()
    held = links.Links(signals)
    theirs = held.open_link(1)
    theirs._socket.send(b"what?")
    theirs.send(Spawned(os.getpid()))
    theirs.close()
    (link,) = held.wait_for_messages(5)
    assert list(held.read_messages(link)) == [Spawned(os.getpid())]
    assert link.ended_at is not None
    assert len(reports) == 1
    held.close()
    signals.close()


def test_hazard_17_the_limit_of_descriptors() -> None:
    def in_child() -> str:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = min(hard, rlimits.MOST_DESCRIPTORS)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        rlimits.raise_descriptor_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (wanted, hard)
        rlimits.raise_descriptor_limit()
        return "fine"

    assert run_forked(in_child) == "fine"
