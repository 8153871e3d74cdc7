"""starman.process.master.upgrade: what is handed over and when, with a fake exec and fake trials."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from starman.config.revision import decode_settings
from starman.config.settings import Settings
from starman.process.handover import HANDOVER_VARIABLE, IN_FILE, MOST_IN_VARIABLE, HandedWorker, Handover, decode
from starman.process.master import upgrade as module
from starman.process.master.links import Links
from starman.process.master.signals import SignalQueue
from starman.process.master.upgrade import Upgrade
from starman.process.messages import Approved, Failed
from starman.process.scoreboard import Scoreboard
from starman.process.supervision.actions import ForkMold, SpawnWorker
from starman.process.supervision.rollout import Terms
from starman.process.supervision.supervisor import Supervisor
from starman.process.worker.shared_imports import import_service
from starman.process.worker_spec import Program, WorkerSpec

NOW = 1000.0
SETTINGS = Settings.of()


class FakeTrial:
    """A trial with the outcome that the test sets."""

    def __init__(self) -> None:
        self.started: list[float] = []
        self.outcome: Approved | Failed | None = None

    def start(self, function: object, seconds: float, text: str) -> None:
        assert decode_settings(text).snapshot() == SETTINGS.snapshot()
        self.started.append(seconds)

    def take_outcome(self, now: float) -> Approved | Failed | None:
        outcome, self.outcome = self.outcome, None
        return outcome

    def cancel(self) -> None:
        self.outcome = None


class Server:
    """A server of two workers that is to be upgraded."""

    def __init__(self) -> None:
        self.signals = SignalQueue()
        self.links = Links(self.signals)
        self.board = Scoreboard.create()
        self.trial = FakeTrial()
        self.supervisor = Supervisor(Terms(2, boot_timeout=60, graceful_timeout=30))
        self.pids = 1000
        self.numbers = self.perform()
        spec = WorkerSpec(SETTINGS, [], Program(lambda _: lambda *_: []), import_service)
        spec.scoreboard = self.board
        self.upgrade = Upgrade(spec, self.supervisor, self.links, self.signals, self.trial)  # type: ignore[arg-type]

    def perform(self) -> list[int]:
        """Perform the supervisor's plans until nothing is left to do. Returns the numbers of the new workers."""
        numbers = []
        while actions := self.supervisor.plan(NOW):
            for action in actions:
                if isinstance(action, ForkMold | SpawnWorker):
                    self.pids += 1
                    self.supervisor.on_spawned(action.child, self.pids)
                    self.supervisor.on_ready(action.child, NOW)
                if isinstance(action, SpawnWorker):
                    numbers.append(action.child)
                    self.links.open_link(action.child).close()
                    link = self.links.find_link(action.child)
                    assert link is not None
                    link.pid = self.pids
        return numbers

    def settle(self, outcome: Approved | Failed | None = None) -> None:
        self.trial.outcome = outcome
        self.upgrade.check_trial(NOW)
        self.upgrade.exec_when_ready(reopening=False)

    def close(self) -> None:
        self.links.close()
        self.signals.close()
        self.board.close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def handed(monkeypatch: pytest.MonkeyPatch) -> list[Handover]:
    """What each exec has handed over. No exec succeeds."""
    handed: list[Handover] = []

    def become(program: Program, variables: dict[str, str]) -> None:
        text = variables[HANDOVER_VARIABLE]
        if text.startswith(IN_FILE):
            text = Path(f"/proc/self/fd/{text.removeprefix(IN_FILE)}").read_text()
        handed.append(decode(text))
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(module, "_exec_program", become)
    return handed


@pytest.fixture(autouse=True)
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The error log."""
    logged: list[str] = []
    for level in ("info", "warning", "error"):
        monkeypatch.setattr(module.log, level, logged.append)
    return logged


def test_each_worker_is_handed_over_with_its_state(server: Server, handed: list[Handover]) -> None:
    server.supervisor.on_recycle(server.numbers[1], "it has served 1000 requests", time.monotonic())
    server.upgrade.begin(embedded=False)
    assert handed == []
    server.settle(Approved("00ff", "version"))
    (handover,) = handed
    assert (handover.settings, handover.slots, handover.workers_setting, handover.scoreboard) == ("00ff", 2, 2, server.board.fd)
    assert [(handed_worker.pid, handed_worker.slot, handed_worker.to_replace) for handed_worker in handover.handed_workers] == [
        (1002, 1, False),
        (1003, 2, True),
    ]
    assert not handover.reopening
    assert not handover.restarting


def test_a_handover_too_long_for_a_variable_is_in_a_file_during_the_exec(server: Server, handed: list[Handover]) -> None:
    settings = "0f" * MOST_IN_VARIABLE
    files = len(os.listdir("/proc/self/fd"))
    server.upgrade.begin(embedded=False)
    server.settle(Approved(settings, "version"))
    (handover,) = handed
    assert handover.settings == settings
    assert len(os.listdir("/proc/self/fd")) == files


def test_without_a_file_the_upgrade_is_given_up(
    server: Server, handed: list[Handover], logged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(text: str) -> int:
        raise FileNotFoundError(2, "no usable temporary directory")

    monkeypatch.setattr(module, "store_text", fail)
    server.upgrade.begin(embedded=False)
    server.settle(Approved("0f" * MOST_IN_VARIABLE, "version"))
    assert handed == []
    assert logged[-1] == "upgrade given up, nothing has changed: [Errno 2] no usable temporary directory"


def test_a_restart_since_the_upgrade_began_is_handed_over_once(server: Server, handed: list[Handover]) -> None:
    server.upgrade.on_restart()
    server.upgrade.begin(embedded=False)
    server.settle(Approved("00", "version"))
    server.upgrade.begin(embedded=False)
    server.upgrade.on_restart()
    server.settle(Approved("00", "version"))
    assert [handover.restarting for handover in handed] == [False, True]


def test_a_trial_may_take_the_boot_timeout_of_the_settings_in_use(server: Server) -> None:
    server.upgrade.begin(embedded=False)
    server.supervisor.restart(Terms(2, boot_timeout=120, graceful_timeout=30))
    server.upgrade.begin(embedded=False)
    server.perform()
    server.upgrade.begin(embedded=False)
    assert server.trial.started == [60, 60, 120]


def test_an_unusable_scoreboard_is_replaced(logged: list[str]) -> None:
    reasons = (
        (os.memfd_create("other"), "the old version has another layout of the memory of its workers: "),
        (1_000_000, "the memory of the old workers cannot be used (Bad file descriptor): "),
        (-1, "the old version could not hand over the memory of its workers: "),
    )
    for fd, reason in reasons:
        handover = Handover("", 1, 1, [], [HandedWorker(500, 9, 1, 7, NOW, 0.0)])
        handover.scoreboard = fd
        before = descriptors()
        board = module.open_scoreboard(handover)
        assert handover.handed_workers[0].page == 0
        assert logged[-1].endswith(
            f"{reason}counts of requests and connections begin at 0, and worker_timeout does not apply to the old workers "
            "while they end"
        )
        board.close()
        # The descriptor that is no scoreboard is closed.
        assert descriptors() <= before


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))
