"""starman.process.host.systemd: the datagrams at each change, on real sockets."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from starman import log
from starman.process.host.systemd import SystemdNotifier
from starman.process.status import Observers, Phase, ServerStatus


class Systemd:
    """The socket on which systemd listens."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address.replace("@", "\0", 1) if address.startswith("@") else address)
        self.socket.setblocking(False)
        self.environ = {"NOTIFY_SOCKET": address}

    def heard(self) -> list[str]:
        """The datagrams since the last call."""
        found = []
        while True:
            try:
                found.append(self.socket.recv(65_536).decode())
            except BlockingIOError:
                return found


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    listening = Systemd(str(tmp_path / "notify.sock"))
    yield listening
    listening.socket.close()


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    monkeypatch.setattr(log, "warning", found.append)
    return found


def server_status(
    phase: Phase = Phase.RUNNING, *, restarting: bool = False, ready: int = 2, alive_at: float | None = None
) -> ServerStatus:
    return ServerStatus(phase, restarting=restarting, ready=ready, wanted=2, alive_at=alive_at)


def test_the_life_of_a_server(systemd: Systemd) -> None:
    notifier = SystemdNotifier.from_environ(systemd.environ)
    told = []
    for step in (
        server_status(Phase.STARTING, ready=0),
        server_status(Phase.STARTING, ready=1),
        server_status(),
        server_status(),
        server_status(ready=1),
        server_status(restarting=True),
        server_status(),
        server_status(Phase.STOPPING),
        server_status(Phase.STOPPING, ready=1),
    ):
        notifier.on_status(step, 0.0)
        told.append([re.sub(r"MONOTONIC_USEC=\d+", "MONOTONIC_USEC=…", text) for text in systemd.heard()])
    assert told == [
        ["STATUS=starting: 0 of 2 workers ready"],
        ["STATUS=starting: 1 of 2 workers ready"],
        [f"READY=1\nMAINPID={os.getpid()}\nSTATUS=2 of 2 workers ready"],
        [],
        ["STATUS=1 of 2 workers ready"],
        ["RELOADING=1\nMONOTONIC_USEC=…\nSTATUS=restarting: 2 of 2 workers ready"],
        [f"READY=1\nMAINPID={os.getpid()}\nSTATUS=2 of 2 workers ready"],
        ["STOPPING=1\nSTATUS=stopping: requests that have begun are finished"],
        ["STATUS=stopping: requests that have begun are finished"],
    ]
    assert notifier.next_instant() is None


def test_a_reload_is_dated_in_systemds_clock(systemd: Systemd) -> None:
    notifier = SystemdNotifier.from_environ(systemd.environ)
    notifier.on_status(server_status(), 0.0)
    before = time.clock_gettime(time.CLOCK_MONOTONIC)
    notifier.on_status(server_status(restarting=True), 0.0)
    found = re.search(r"MONOTONIC_USEC=(\d+)", systemd.heard()[-1])
    assert found is not None
    assert before - 1 <= int(found[1]) / 1e6 <= time.clock_gettime(time.CLOCK_MONOTONIC)


def test_a_stop_in_a_restart_is_no_reload(systemd: Systemd) -> None:
    notifier = SystemdNotifier.from_environ(systemd.environ)
    notifier.on_status(server_status(restarting=True), 0.0)
    notifier.on_status(server_status(Phase.STOPPING, restarting=True), 0.0)
    assert systemd.heard()[-1].startswith("STOPPING=1\n")


def test_an_abstract_name() -> None:
    listening = Systemd(f"@starman-notify-{os.getpid()}")
    with listening.socket:
        SystemdNotifier.from_environ(listening.environ).on_status(server_status(), 0.0)
        assert listening.heard()[0].startswith("READY=1\n")


def test_without_systemd_nothing_happens() -> None:
    for environ in ({}, {"NOTIFY_SOCKET": ""}, {"WATCHDOG_USEC": "1000000"}):
        notifier = SystemdNotifier.from_environ(environ)
        notifier.on_status(server_status(), 0.0)
        assert notifier.next_instant() is None


def test_an_address_of_another_kind(warnings: list[str]) -> None:
    SystemdNotifier.from_environ({"NOTIFY_SOCKET": "vsock:2:1234"}).on_status(server_status(), 0.0)
    (warning,) = warnings
    assert "vsock:2:1234" in warning


@pytest.mark.parametrize("watchdog", [{}, {"WATCHDOG_USEC": "10000000"}])
def test_systemd_that_is_gone_is_told_of_once(systemd: Systemd, warnings: list[str], watchdog: dict[str, str]) -> None:
    # With a watchdog, two texts are on their way at once.
    notifier = SystemdNotifier.from_environ({**systemd.environ, **watchdog})
    systemd.socket.close()
    for ready in (1, 2, 0):
        notifier.on_status(server_status(ready=ready), 0.0)
    assert warnings == ["systemd cannot be notified: Connection refused"]


def test_a_full_queue_loses_nothing(systemd: Systemd) -> None:
    notifier = SystemdNotifier.from_environ(systemd.environ)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                other.sendto(b"x", notifier.variables["NOTIFY_SOCKET"])
    notifier.on_status(server_status(Phase.STARTING), 0.0)
    notifier.on_status(server_status(), 0.0)
    instant = notifier.next_instant()
    assert instant is not None
    assert instant <= time.monotonic() + 1
    assert set(systemd.heard()) == {"x"}
    notifier.on_status(server_status(), 0.0)
    assert [text.partition("=")[0] for text in systemd.heard()] == ["STATUS", "READY"]
    assert notifier.next_instant() is None


# The watchdog.


def test_it_is_fed_twice_in_its_time(systemd: Systemd) -> None:
    notifier = SystemdNotifier.from_environ({**systemd.environ, "WATCHDOG_USEC": "10000000", "WATCHDOG_PID": str(os.getpid())})
    fed = []
    for now in range(100, 121):
        notifier.on_status(server_status(), now)
        fed += [now] * systemd.heard().count("WATCHDOG=1")
    assert fed == [100, 105, 110, 115, 120]
    assert notifier.next_instant() == 125


def test_it_is_not_fed_without_a_worker_that_serves(systemd: Systemd) -> None:
    notifier = SystemdNotifier.from_environ({**systemd.environ, "WATCHDOG_USEC": "10000000"})
    for ready, fed in ((0, False), (1, True), (0, False), (2, True)):
        now = 1000.0 * ready + 10 * fed
        notifier.on_status(server_status(ready=ready), now)
        assert ("WATCHDOG=1" in systemd.heard()) is fed
    notifier.on_status(server_status(ready=0), 5000)
    assert notifier.next_instant() is None


def test_it_is_not_fed_while_every_loop_is_silent_and_beats_are_no_news(systemd: Systemd) -> None:
    notifier = SystemdNotifier.from_environ({**systemd.environ, "WATCHDOG_USEC": "10000000"})
    notifier.on_status(server_status(alive_at=99.9), 100.0)
    assert [text.partition("=")[0] for text in systemd.heard()] == ["READY", "WATCHDOG"]
    fed = []
    for now in range(101, 141):
        notifier.on_status(server_status(alive_at=float(now) if now >= 131 else min(now, 104.0)), now)
        fed += [(now, text) for text in systemd.heard()]
        instant = notifier.next_instant()
        assert instant is not None
        assert instant > now, "a loop that nobody hears is no reason to run in circles"
    assert fed == [(now, "WATCHDOG=1") for now in (105, 110, 135, 140)]


def test_a_short_time_is_no_reason_to_call_a_loop_silent(systemd: Systemd) -> None:
    notifier = SystemdNotifier.from_environ({**systemd.environ, "WATCHDOG_USEC": "200000"})
    for now, fed in ((100.0, True), (101.9, True), (102.1, False)):
        notifier.on_status(server_status(alive_at=100.0), now)
        assert ("WATCHDOG=1" in "".join(systemd.heard())) is fed


@pytest.mark.parametrize(
    "variables", [{"WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": ""}]
)
def test_a_watchdog_for_another_process(systemd: Systemd, variables: dict[str, str]) -> None:
    notifier = SystemdNotifier.from_environ({**systemd.environ, "WATCHDOG_USEC": "10000000", **variables})
    notifier.on_status(server_status(), 100.0)
    assert "WATCHDOG=1" not in systemd.heard()
    assert notifier.next_instant() is None


def test_the_variables_are_taken_away_and_kept_for_a_successor() -> None:
    given = {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "2"}
    environ = {**given, "OTHER": "x"}
    notifier = SystemdNotifier.from_environ(environ)
    assert environ == {"OTHER": "x"}
    assert notifier.variables == given


def test_observers_are_one() -> None:
    class Note:
        def __init__(self, instant: float | None) -> None:
            self.instant = instant
            self.calls: list[str] = []

        def on_status(self, server_status: ServerStatus, now: float) -> None:
            self.calls.append(f"see {server_status.ready} {now:g}")

        def next_instant(self) -> float | None:
            return self.instant

        def abandon(self) -> None:
            self.calls.append("abandon")

        def close(self) -> None:
            self.calls.append("close")

    notes = [Note(None), Note(5.0), Note(3.0)]
    observers = Observers(notes)
    observers.on_status(server_status(), 1.0)
    assert observers.next_instants() == [5.0, 3.0]
    observers.abandon()
    observers.close()
    assert [note.calls for note in notes] == [["see 2 1", "abandon", "close"]] * 3
    assert Observers().next_instants() == []
