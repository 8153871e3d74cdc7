"""Every signal, sent to every kind of process: signals without effect in docs/signals.md have no effect."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import threading
from pathlib import Path

from tests.functional.support.code import MODES, Code, answers, molds
from tests.functional.support.harness import REPOSITORY, Process, Server, wait_until
from tests.functional.support.observing import pending
from tests.functional.support.signal_table import rows

REAL_TIME = set(range(signal.SIGRTMIN + 2, signal.SIGRTMAX + 1))
STACKS, FORCED_STACKS = int(signal.SIGRTMIN), signal.SIGRTMIN + 1
# What ends or stops any process, as the system has it.
DEADLY = {"KILL", "SEGV", "BUS", "FPE", "ILL", "ABRT", "TRAP", "SYS", "XCPU"}
STOPPING = {"TSTP", "STOP", "TTIN", "TTOU"}
COLUMNS = {"master": 1, "mold": 2, "worker": 3}


def numbers(cell: str) -> set[int]:
    """The signals in the first cell of a row."""
    names = set(re.findall(r"`([A-Z0-9+]+)`", cell))
    found = REAL_TIME if "RTMAX" in names else {FORCED_STACKS} if "RTMIN+1" in names else set()
    return found | {signal.Signals[f"SIG{name}"].value for name in names - {"RTMIN+1", "RTMIN+2", "RTMAX", "INFO", "EMT"}}


def harmless(role: str) -> list[int]:
    """The signals without a lasting effect on a process of that role, by the table."""
    found: set[int] = set()
    for cells in rows("Every signal"):
        cell = cells[COLUMNS[role]]
        if cell.startswith(("nothing", "ignored", "writes", "the same")) and "may crash" not in cell:
            found |= numbers(cells[0])
    return sorted(found)


def send(pid: int, signums: list[int]) -> None:
    """Send them one after the other, and wait until each was taken."""
    for signum in signums:
        os.kill(pid, signum)
        assert wait_until(lambda: not pending(pid, signum), 20), signum  # noqa: B023 - called at once


def send_at_once(pid: int, signums: list[int]) -> None:
    """Send them to a process that is stopped: all of them are delivered when it goes on."""
    os.kill(pid, signal.SIGSTOP)
    assert wait_until(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T", 20)
    for signum in signums:
        if signum != signal.SIGCONT:
            os.kill(pid, signum)
    os.kill(pid, signal.SIGCONT)
    assert wait_until(lambda: not any(pending(pid, signum) for signum in signums), 20)


def test_the_table_has_every_signal_once() -> None:
    cells = [numbers(row[0]) for row in rows("Every signal")]
    assert sum(map(len, cells)) == len(set().union(*cells))
    assert set().union(*cells) == set(map(int, signal.valid_signals()))
    for name in DEADLY | STOPPING - {"TTIN", "TTOU"}:
        assert all(signal.Signals[f"SIG{name}"] not in harmless(role) for role in COLUMNS), name


@MODES
def test_what_means_nothing_does_nothing(code: Code, mode: str) -> None:
    # As scripts for the command line do.
    code.write(
        "one", "\nimport signal\nfor number in (signal.SIGPIPE, signal.SIGXFSZ):\n    signal.signal(number, signal.SIG_DFL)\n"
    )
    with code.serve(mode) as server:
        roles = {"master": [server.pid], "mold": molds(server), "worker": server.worker_pids()}
        assert all(roles.values())
        for role, pids in roles.items():
            for pid in pids:
                send(pid, harmless(role))
                send_at_once(pid, harmless(role))
        assert answers(server) == {"one"}
        assert roles == {"master": [server.pid], "mold": molds(server), "worker": server.worker_pids()}
        # The stacks: the master's own, too.
        server.wait_for(r"\[INFO\] stacks of the master\n")
        for role, title in (("mold", "a mold"), ("worker", r"worker \d")):
            for pid in roles[role]:
                server.wait_for(rf"\[INFO\] stacks of {title} \({pid}\)(?:, which forks workers)?\n")
    assert "WARNING" not in server.log
    assert "ERROR" not in server.log


@MODES
def test_a_stopped_process_goes_on(code: Code, mode: str) -> None:
    with code.serve(mode) as server:
        before = [server.pid, *molds(server), *server.worker_pids()]
        for pid in before:
            for name in ("SIGTSTP", "SIGSTOP"):
                os.kill(pid, signal.Signals[name])
                os.kill(pid, signal.SIGCONT)
        assert answers(server) == {"one"}
        assert before == [server.pid, *molds(server), *server.worker_pids()]


APPLICATION = """
import os, signal, subprocess, sys
taken = []
signal.signal(signal.SIGALRM, lambda *_: taken.append("alarm"))
signal.signal(signal.SIGPROF, lambda *_: taken.append("profile"))
signal.signal(signal.SIGRTMIN + 7, lambda *_: taken.append("real time"))

def app(environ, start_response):
    start_response("200 OK", [])
    if environ["PATH_INFO"] == "/child":
        return [subprocess.check_output(["cat", "/proc/self/status"])]
    return [" ".join(sorted(taken)).encode()]
"""


@MODES
def test_an_application_has_the_signals_for_itself(tmp_path: Path, mode: str) -> None:
    (tmp_path / "own.py").write_text(APPLICATION)
    with Server("own:app", mode, "--workers", "1", cwd=tmp_path) as server:
        (worker,) = server.worker_pids()
        for signum in (signal.SIGALRM, signal.SIGPROF, signal.SIGRTMIN + 7):
            os.kill(worker, signum)

        def taken() -> bool:
            with server.client() as client:
                return client.get("/").body == b"alarm profile real time"

        assert wait_until(taken, 20)
        with server.client() as client:
            status = client.get("/child").body.decode()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    # Without those that the C library keeps for itself, and has its posix_spawn ignore.
    known = sum(1 << (signum - 1) for signum in signal.valid_signals())
    masks = {name: int(fields[name], 16) & known for name in ("SigBlk", "SigIgn", "SigCgt")}
    assert masks == {"SigBlk": 0, "SigIgn": 0, "SigCgt": 0}


def test_signals_do_not_end_the_master_during_an_upgrade(code: Code) -> None:
    """Nor the trial. They are sent all the time, so some arrive where an exec has taken the handlers away, and the new
    program has none yet."""
    signums = (signal.SIGALRM, signal.SIGPROF, signal.SIGIO, signal.SIGRTMIN + 3, signal.SIGRTMAX)
    with code.serve() as server:
        over = threading.Event()

        def flood() -> None:
            while not over.wait(0.001):
                for pid in (server.pid, *server.children(server.pid)):
                    for signum in signums:
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(pid, signum)

        thread = threading.Thread(target=flood)
        thread.start()
        try:
            server.signal(signal.SIGUSR2)
            server.wait_for("restarted: 2 workers are new", 60)
        finally:
            over.set()
            thread.join()
        assert answers(server) == {"one"}


def test_signals_do_not_end_the_trial_of_an_upgrade(code: Code) -> None:
    """The child of a USR2 that loads the application with the installed version."""
    gate, loading = code.directory / "gate", code.directory / "loading"
    with code.serve() as server:
        gate.touch()
        code.write(
            "two",
            f"""
if not os.path.exists({str(loading)!r}):
    with open({str(loading)!r}, "w") as file:
        file.write(str(os.getpid()))
while os.path.exists({str(gate)!r}):
    time.sleep(0.01)
""",
        )
        server.signal(signal.SIGUSR2)
        assert wait_until(lambda: loading.exists() and loading.read_text().isdigit(), 60)
        trial = int(loading.read_text())
        assert trial not in (server.pid, *server.worker_pids())
        send(trial, harmless("worker"))
        gate.unlink()
        server.wait_for("restarted: 2 workers are new", 60)
        assert wait_until(lambda: answers(server) == {"two"}, 30)


SLOW_START = """
import os, time
_umask = os.umask

def umask(mask):
    if os.path.exists("gate"):
        open("waiting", "w").close()
        while os.path.exists("gate"):
            time.sleep(0.01)
    return _umask(mask)

os.umask = umask
"""


def test_a_signal_that_comes_before_the_master_has_its_handlers_waits(tmp_path: Path) -> None:
    """The start is held up where it sets the umask."""
    (tmp_path / "own.py").write_text(APPLICATION)
    (tmp_path / "sitecustomize.py").write_text(SLOW_START)
    gate = tmp_path / "gate"
    gate.touch()
    arguments = ["-m", "starman", "--workers", "1", "--listen", "127.0.0.1:0", "--umask", "022", "own:app"]
    env = {"PYTHONPATH": f"{tmp_path}:{REPOSITORY}"}
    server = Process([sys.executable, "-W", "error", *arguments], cwd=tmp_path, env=env)
    try:
        assert wait_until((tmp_path / "waiting").exists, 60)
        signums = [
            signal.SIGALRM,
            signal.SIGPROF,
            signal.SIGIO,
            *sorted(REAL_TIME),
            STACKS,
            FORCED_STACKS,
            signal.SIGUSR1,
            signal.SIGHUP,
        ]
        for signum in signums:
            os.kill(server.pid, signum)
        assert all(pending(server.pid, signum) for signum in signums)
        gate.unlink()
        server.wait_for("ready: ", 60)
        server.wait_for(r"\[INFO\] stacks of the master\n", 30)
        server.wait_for("the logs are reopened", 30)
        server.wait_for("restarted: 1 worker is new", 20)
        assert server.stop(signal.SIGTERM) == 0
    finally:
        server.kill()


EMBEDDING = """
import os, signal, starman

def app(environ, start_response):
    start_response("200 OK", [])
    return [b"fine"]

def handlers():
    return [signal.getsignal(number) for number in sorted(signal.valid_signals())]

if __name__ == "__main__":
    signal.signal(signal.SIGALRM, lambda *_: print("its own", flush=True))
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    before = handlers()
    starman.run(app, listen="127.0.0.1:0", workers=1)
    print("given back" if handlers() == before else "changed", flush=True)
"""


def test_a_program_that_embeds_the_server_has_its_handlers_back(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(EMBEDDING)
    server = Process([sys.executable, "-W", "error", str(program)])
    try:
        server.wait_for("ready: ", 60)
        send(server.pid, harmless("master"))
        server.wait_for("its own")
        server.signal(signal.SIGTERM)
        server.wait_for("given back")
        assert server.wait() == 0
    finally:
        server.kill()
