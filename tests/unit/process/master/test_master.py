"""starman.process.master.master, in a child of the test's process: what the functional tests cannot provoke."""

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
from starman.process import scoreboard
from starman.process.channel import Channel
from starman.process.forking import GUARDED
from starman.process.host import rlimits
from starman.process.host.errorlog import ErrorLog
from starman.process.host.listeners import Listener
from starman.process.master import births, executor, links, reaper, signals
from starman.process.master import master as module
from starman.process.master.links import Links
from starman.process.master.master import Master
from starman.process.messages import Spawned
from starman.process.spec import Program, WorkerSpec
from starman.process.supervision import actions
from tests.unit.process.forked import run_forked


class FakeService:
    """Ready at once; ends when told."""

    @classmethod
    def rehearse(cls, threads: int) -> None:
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


def stop_when_ready(monkeypatch: pytest.MonkeyPatch, signum: signal.Signals = signal.SIGTERM) -> None:
    """Have the server stop as soon as it has announced itself."""
    announce = Master._announce

    def announce_and_stop(self: Master, action: Any) -> None:
        announce(self, action)
        os.kill(os.getpid(), signum)

    monkeypatch.setattr(Master, "_announce", announce_and_stop)


def failure(master: Master) -> str:
    """Why its start fails."""
    try:
        master.run()
    except StartError as error:
        return f"{error}|{error.details}"
    return "it did not fail"


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the log of the server out of the log of the tests."""
    monkeypatch.setattr(module.log, "raw", lambda text: None)


@pytest.mark.parametrize("preload", [False, True])
def test_a_whole_life_leaves_the_process_as_it_was(monkeypatch: pytest.MonkeyPatch, preload: bool) -> None:
    stop_when_ready(monkeypatch)

    def in_child() -> str:
        handlers = {signum: signal.getsignal(signum) for signum in signal.Signals}
        descriptors = set(os.listdir("/proc/self/fd"))
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        assert make_master(preload_app=preload).run() == 0
        assert {signum: signal.getsignal(signum) for signum in signal.Signals} == handlers
        # Its own process would end now: nothing that arrives may change how.
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask | GUARDED
        assert set(os.listdir("/proc/self/fd")) == descriptors
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
        return "fine"

    assert run_forked(in_child) == "fine"


@pytest.mark.parametrize("embedded_by", ["callable", "argument"])
def test_embedded_it_reaps_no_children_of_the_program(monkeypatch: pytest.MonkeyPatch, embedded_by: str) -> None:
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


def test_threads_of_an_embedding_program_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(rlimits.log, "warning", warnings.append)
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    rlimits.warn_of_threads()
    stop.set()
    thread.join()
    assert len(warnings) == 1
    assert "threads; they do not exist in the workers" in warnings[0]


def test_the_application_that_cannot_be_loaded_is_the_reason() -> None:
    def broken() -> Any:
        raise LoadError("there is no app", "Traceback...")

    assert run_forked(lambda: failure(make_master(broken))) == "there is no app|Traceback..."
    assert run_forked(lambda: failure(make_master(broken, preload_app=True))) == "there is no app|Traceback..."


def test_a_mold_that_cannot_import_the_serving_side_is_the_reason() -> None:
    def broken() -> Any:
        raise ImportError("no uvloop")

    reason = run_forked(lambda: failure(make_master(import_service=broken)))
    assert reason.startswith("the mold failed: ImportError: no uvloop|Traceback")


def test_no_process_can_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    master = make_master()

    def in_child() -> str:
        monkeypatch.setattr(births, "fork", refuse)
        return failure(master)

    assert "the mold could not be forked (Resource temporarily unavailable) before it was ready" in run_forked(in_child)


def test_no_descriptor_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = Channel.pair

    def in_child() -> str:
        made = []

        def pair() -> Any:
            # The mold has one, the workers none.
            if made:
                raise OSError(errno.EMFILE, "Too many open files")
            made.append(1)
            return pairs()

        monkeypatch.setattr(links.MasterEnd, "pair", pair)
        return failure(make_master())

    assert "worker 1 could not be forked (Too many open files)" in run_forked(in_child)


@pytest.mark.parametrize("missing", [(scoreboard.Scoreboard, "create"), (signals.os, "pipe")])
def test_a_master_that_cannot_be_leaves_the_process_as_it_was(monkeypatch: pytest.MonkeyPatch, missing: tuple[Any, str]) -> None:
    def refuse() -> None:
        raise OSError(errno.ENFILE, "Too many open files in system")

    def in_child() -> str:
        def state() -> object:
            handlers = [signal.getsignal(signum) for signum in signal.Signals]
            return handlers, signal.pthread_sigmask(signal.SIG_BLOCK, ()), os.listdir("/proc/self/fd"), reaper._is_subreaper()

        before = state()
        monkeypatch.setattr(*missing, refuse)
        reason = failure(make_master())
        assert state() == before
        return reason

    assert run_forked(in_child) == "the master cannot take what it needs: Too many open files in system|"


def test_a_fault_of_the_masters_own_does_not_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    stop_when_ready(monkeypatch)
    reports: list[str] = []
    pauses: list[float] = []
    monkeypatch.setattr(module.log, "error", reports.append)
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


def test_an_action_that_fails_does_not_keep_the_others_from_being_done(monkeypatch: pytest.MonkeyPatch) -> None:
    stop_when_ready(monkeypatch)
    reports: list[str] = []
    pauses: list[float] = []
    drained: list[int] = []
    drain = executor.Orders.drain
    monkeypatch.setattr(module.log, "error", reports.append)
    monkeypatch.setattr(module.time, "sleep", pauses.append)

    def refuse_then_drain(self: executor.Orders, action: actions.Drain) -> None:
        drained.append(action.child)
        drain(self, action)
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(executor.Orders, "drain", refuse_then_drain)

    def in_child() -> str:
        assert make_master().run() == 0
        assert len(drained) == 2
        assert len(reports) == 1, "each kind of failure once"
        assert reports[0].startswith("the master could not carry out Drain: PermissionError: ")
        assert pauses == []
        return "fine"

    assert run_forked(in_child) == "fine"


def test_a_worker_that_cannot_be_asked_for_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only when its deadline has come."""

    def refuse(self: Links, *_: object) -> bool:
        raise MemoryError("no memory")

    monkeypatch.setattr(Links, "send", refuse)
    assert "worker 1 could not be forked (no memory)" in run_forked(lambda: failure(make_master(boot_timeout=600)))


def test_a_killed_worker_that_is_forgotten_opens_no_logs_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    awaited: list[bool] = []
    announce = Master._announce

    def announce_and_forget(self: Master, action: Any) -> None:
        announce(self, action)
        # As if this worker had been told to, then frozen so that not even SIGKILL ends it.
        link = next(link for link in self._links if link.place)
        self._log_reopen._awaited[link.number] = 1
        self._performers[actions.Forget](actions.Forget(link.number))
        awaited.append(self._log_reopen.busy)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Master, "_announce", announce_and_forget)
    assert run_forked(lambda: (make_master(graceful_timeout=1).run(), awaited)) == "(0, [False])"


def test_a_process_that_is_not_the_children_is_not_taken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a process of the system's, nor the master itself, nor another worker: the master would signal it."""
    reports: list[str] = []
    taken: list[object] = []
    expected: list[object] = []
    announce = Master._announce
    monkeypatch.setattr(module.log, "error", reports.append)

    def announce_and_lie(self: Master, action: Any) -> None:
        announce(self, action)
        one, other = (link for link in self._links if link.place)
        pid, one.pid = one.pid, None
        assert pid is not None
        assert other.pid is not None
        lies = [0, 1, os.getpid(), os.getppid(), other.pid]
        for lie in lies:
            self._on_spawned(one, lie)
            taken.append(one.pid)
        self._on_spawned(one, pid)
        taken.append(one.pid)
        expected.extend([*([None] * len(lies)), pid])
        reports[:] = [report.split(" ", 2)[2] for report in reports]
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Master, "_announce", announce_and_lie)

    def in_child() -> str:
        assert make_master().run() == 0
        assert taken == expected
        return str(reports)

    assert run_forked(in_child) == str(["does not belong to this server, and is ignored"] * 5)


def test_a_stop_ends_the_trials_that_are_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []
    announce = Master._announce

    def announce_and_try(self: Master, action: Any) -> None:
        announce(self, action)
        for trial in self._trials.values():
            trial.start(lambda _: time.sleep(10), 60)  # type: ignore[arg-type, return-value]
            link = self._links.find_link(trial.number)
            assert link is not None
            assert link.pid is not None
            tried.append(link.pid)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Master, "_announce", announce_and_try)

    def in_child() -> str:
        assert make_master().run() == 0
        return str([end_of(pid) for pid in tried])

    assert run_forked(in_child) == f"[{-signal.SIGKILL}, {-signal.SIGKILL}]"


def end_of(pid: int) -> int:
    """How a child has ended; one that was reaped already, by SIGKILL: the master has seen it end."""
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:
        return -signal.SIGKILL


def test_an_upgrade_that_takes_too_long_ends_while_settings_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    announce = Master._announce
    found: list[tuple[str, bool]] = []

    def announce_and_upgrade(self: Master, action: Any) -> None:
        def note(text: str) -> None:
            found.append((text, self._reload.busy))
            os.kill(os.getpid(), signal.SIGTERM)

        announce(self, action)
        reading, trying = self._trials[module._READING], self._trials[module._TRYING]
        monkeypatch.setattr(module.log, "error", note)
        reading.deadline = time.monotonic() + 5
        trying.start(lambda _: time.sleep(10), 0.1)  # type: ignore[arg-type, return-value]

    monkeypatch.setattr(Master, "_announce", announce_and_upgrade)
    assert run_forked(lambda: (make_master().run(), found)) == str(
        (0, [("upgrade given up, nothing has changed: it took too long to try it", True)])
    )


def test_a_message_that_is_none_is_reported_and_the_next_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
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
