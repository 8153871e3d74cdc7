"""The tables of docs/signals.md, row by row: each signal has the effect that the row names."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.functional.support.code import MODES, Code, answers, molds
from tests.functional.support.harness import Server, wait_until
from tests.functional.support.observing import pending
from tests.functional.support.signal_table import rows

_SIGNAL = re.compile(r"`([A-Z0-9]+)`")


MASTER = [name for cells in rows("The master's signals") for name in _SIGNAL.findall(cells[0])]
OTHERS = [
    (role, name)
    for cells in rows("Signals of other processes")
    for role in cells[0].split(", ")
    for name in _SIGNAL.findall(cells[1])
]


def stops(server: Server, send: Callable[[], None]) -> None:
    send()
    assert server.wait() == 0


def restarts(server: Server, send: Callable[[], None]) -> None:
    before = server.worker_pids()
    send()
    server.wait_for("restarted: 2 workers are new", 60)
    assert wait_until(lambda: not set(before) & set(server.worker_pids()), 30)


def upgrades(server: Server, send: Callable[[], None]) -> None:
    before = server.worker_pids()
    send()
    server.wait_for("has taken over", 60)
    server.wait_for("restarted: 2 workers are new", 60)
    assert wait_until(lambda: not set(before) & set(server.worker_pids()), 30)


def reopens(server: Server, send: Callable[[], None]) -> None:
    send()
    server.wait_for("the logs are reopened")


def grows(server: Server, send: Callable[[], None]) -> None:
    send()
    assert wait_until(lambda: len(answers(server, "/pid")) == 3, 30)


def shrinks(server: Server, send: Callable[[], None]) -> None:
    send()
    assert wait_until(lambda: len(server.worker_pids()) == 1, 30)


CHECKS = {
    "QUIT": stops,
    "TERM": stops,
    "INT": stops,
    "HUP": restarts,
    "USR1": reopens,
    "USR2": upgrades,
    "TTIN": grows,
    "TTOU": shrinks,
}


PIDS: dict[str, Callable[[Server], list[int]]] = {
    "worker": Server.worker_pids,
    "mold": molds,
    "hook process": Server.hook_pids,
}


def test_the_tables_name_every_signal_that_we_handle() -> None:
    assert sorted(MASTER) == sorted(CHECKS)
    assert set(OTHERS) >= {(role, name) for role in PIDS for name in CHECKS if not name.startswith("TT")}


@pytest.mark.parametrize("name", MASTER)
def test_a_row_of_the_masters_table(code: Code, name: str) -> None:
    with code.serve() as server:
        master = server.pid
        CHECKS[name](server, lambda: server.signal(signal.Signals[f"SIG{name}"]))
        if server.status is None:
            assert answers(server) == {"one"}
            assert server.pid == master


@MODES
@pytest.mark.parametrize(("role", "name"), OTHERS)
def test_a_row_of_the_other_processes_table(code: Code, mode: str, role: str, name: str) -> None:
    (code.directory / "site_hooks.py").write_text("")
    with code.serve(mode, "--hooks", "site_hooks") as server:
        # Until then, the hook process has the title of the mold that has forked it.
        assert wait_until(lambda: server.hook_pids() != [], 30)
        before = PIDS[role](server)
        assert before
        for pid in before:
            os.kill(pid, signal.Signals[f"SIG{name}"])
        if role == "worker" and name in ("QUIT", "TERM"):
            assert wait_until(lambda: not set(before) & set(server.worker_pids()), 30)
            assert wait_until(lambda: len(server.worker_pids()) == 2, 30)
        else:
            # Whatever the signal did, it did before a restart that follows it is over.
            server.signal(signal.SIGTTIN)
            assert wait_until(lambda: len(answers(server, "/pid")) == 3, 30)
            assert set(before) <= set(PIDS[role](server))
        assert answers(server) == {"one"}


@pytest.mark.parametrize("name", ["HUP", "USR1", "USR2", "TTIN", "TTOU"])
def test_no_signal_ends_a_server_that_starts_or_stops(code: Code, tmp_path: Path, name: str) -> None:
    signum = signal.Signals[f"SIG{name}"]
    gate, loading = tmp_path / "gate", tmp_path / "loading"
    gate.touch()
    code.write("one", f"\nopen({str(loading)!r}, 'w').close()\nwhile os.path.exists({str(gate)!r}):\n    time.sleep(0.01)\n")
    server = Server(
        "site_app:app", "--workers", "2", "--boot-timeout", "60", cwd=tmp_path, env={"PYTHONDONTWRITEBYTECODE": "1"}, ready=False
    )
    try:
        assert wait_until(loading.exists, 60)
        server.signal(signum)
        assert wait_until(lambda: not pending(server.pid, signum), 30)
        gate.unlink()
        server._wait_until_ready()
        assert answers(server) == {"one"}
        with server.client() as client:
            client.send(b"GET /sleep/2 HTTP/1.1\r\nHost: a\r\n\r\n")
            server.signal(signal.SIGTERM)
            server.wait_for("stopping: ")
            server.signal(signum)
            assert client.read().status == 200
        assert server.wait() == 0
    finally:
        server.kill()
