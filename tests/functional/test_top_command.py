"""`starman-uv top` in a real pseudo terminal: keys, sizes, stacks, Ctrl-Z, and the terminal as before at its end."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.functional.support.harness import REPOSITORY, Server, environment, wait_until

APPLICATION = """\
import time

def fall_asleep():
    time.sleep(60)

def app(environ, start_response):
    if environ["PATH_INFO"] == "/stuck":
        fall_asleep()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"fine"]
"""
# What a shell does: it runs the command in the foreground, is told when it stops, and has it go on after a line.
SHELL = """\
import fcntl, os, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
pid = os.fork()
if pid == 0:
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpid())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    os.execv(sys.argv[1], sys.argv[1:])
while True:
    _, status = os.waitpid(pid, os.WUNTRACED)
    os.tcsetpgrp(0, os.getpgrp())
    if not os.WIFSTOPPED(status):
        sys.exit(os.waitstatus_to_exitcode(status) & 0xFF)
    print("STOPPED", flush=True)
    sys.stdin.readline()
    os.tcsetpgrp(0, pid)
    os.kill(pid, signal.SIGCONT)
"""
ENTER, LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"


class Top:
    """The command below a shell in a terminal of its own. `screen` has what it shows."""

    def __init__(self, server: Server, *options: str, term: str = "xterm") -> None:
        self.main, self._terminal = pty.openpty()
        self.resize(30, 100)
        self.modes = termios.tcgetattr(self._terminal)
        words = [sys.executable, "-S", "-c", SHELL]
        words += [sys.executable, "-W", "error", "-m", "starman", "top", "--pid", str(server.pid), "--interval", "0.2", *options]
        self.process = subprocess.Popen(
            words,
            cwd=REPOSITORY,
            env=environment({"TERM": term, "COLUMNS": None, "LINES": None}),
            stdin=self._terminal,
            stdout=self._terminal,
            stderr=self._terminal,
            start_new_session=True,
        )
        self.output = ""

    @property
    def pid(self) -> int:
        """The process id of the command itself."""
        shell = self.process.pid
        return int(Path(f"/proc/{shell}/task/{shell}/children").read_text())

    def resize(self, lines: int, columns: int) -> None:
        fcntl.ioctl(self.main, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def press(self, keys: str) -> None:
        os.write(self.main, keys.encode())

    def read(self) -> None:
        while select.select([self.main], [], [], 0)[0]:
            try:
                self.output += os.read(self.main, 65_536).decode("utf-8", "replace")
            except OSError:  # the command has ended
                return

    @property
    def screen(self) -> list[str]:
        """The lines of the last whole picture, without its control sequences."""
        self.read()
        pictures = self.output.split("\x1b[H")
        whole = [picture for picture in pictures[1:] if "\x1b[J" in picture]
        text = whole[-1].partition("\x1b[J")[0] if whole else ""
        return [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line).rstrip() for line in text.split("\r\n")]

    def shows(self, text: str, timeout: float = 15.0) -> None:
        assert wait_until(lambda: any(text in line for line in self.screen), timeout), (text, self.screen, self.output[-500:])

    def end(self) -> int:
        """Wait for the end. The exit status."""
        assert wait_until(lambda: self.read() or self.process.poll() is not None, 20)
        self.read()
        return self.process.wait()

    def modes_are_back(self) -> bool:
        return termios.tcgetattr(self._terminal) == self.modes

    def close(self) -> None:
        if self.process.poll() is None:
            with contextlib.suppress(ValueError, ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self.process.kill()
        self.process.wait()
        os.close(self.main)
        os.close(self._terminal)


@contextmanager
def top(server: Server, *options: str, term: str = "xterm") -> Iterator[Top]:
    running = Top(server, *options, term=term)
    try:
        yield running
    finally:
        running.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "site_app.py").write_text(APPLICATION)
    with Server("site_app:app", "--workers", "2", "--graceful-timeout", "1", cwd=tmp_path) as running:
        yield running


def test_workers_are_sorted_opened_and_left(server: Server) -> None:
    with top(server, "--sort", "memory") as shown:
        shown.shows("running: 2 of 2 workers ready")
        shown.shows("sorted by memory")
        assert ENTER in shown.output
        assert len(shown.screen) == 30
        shown.press("n")
        shown.shows("sorted by number")
        shown.press("\x1b[B\r")
        shown.shows("worker 2, process ")
        shown.shows("4 threads without a request")
        shown.press("\x1b")
        shown.shows("sorted by number")
        shown.press("?")
        shown.shows("PgUp, PgDn")
        shown.press("q")
        assert shown.end() == 0
        assert shown.output.endswith(LEAVE)
        assert shown.modes_are_back()


def test_a_stuck_request_is_seen_and_its_stack_read(server: Server) -> None:
    with server.client() as client, top(server) as shown:
        client.send(b"GET /stuck HTTP/1.1\r\nHost: a\r\n\r\n")
        shown.shows("GET /stuck")
        shown.press("b\x1b[H\r")
        shown.shows("thread 1")
        shown.shows("3 threads without a request")
        shown.resize(30, 250)
        shown.press("s")
        shown.shows("in fall_asleep")
        shown.press("\x7f\x7f")
        shown.shows("sorted by busy")
        shown.press("\x03")
        assert shown.end() == 0
        assert shown.modes_are_back()


def test_the_window_changes_its_size(server: Server) -> None:
    with top(server, "--interval", "60") as shown:
        shown.shows("running: 2 of 2 workers ready")
        for lines, columns in ((12, 40), (3, 10), (50, 200)):
            shown.resize(lines, columns)
            assert wait_until(lambda lines=lines: len(shown.screen) == lines, 10)
            assert all(len(line) <= columns for line in shown.screen)


def test_ctrl_z_gives_the_terminal_back_until_it_goes_on(server: Server) -> None:
    with top(server) as shown:
        shown.shows("running: 2 of 2 workers ready")
        shown.press("\x1a")
        assert wait_until(lambda: shown.read() or "STOPPED" in shown.output, 10)
        assert shown.output.rpartition(LEAVE)[2] == "STOPPED\r\n"
        assert shown.modes_are_back()
        shown.press("\n")
        assert wait_until(lambda: shown.read() or shown.output.count(ENTER) == 2, 10)
        shown.shows("running: 2 of 2 workers ready")
        shown.press("q")
        assert shown.end() == 0
        assert shown.modes_are_back()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_with_the_terminal_as_before(server: Server, signum: signal.Signals) -> None:
    with top(server) as shown:
        shown.shows("running: 2 of 2 workers ready")
        os.kill(shown.pid, signum)
        assert shown.end() == (0 if signum == signal.SIGINT else 128 + signum)
        assert shown.output.endswith(LEAVE)
        assert shown.modes_are_back()


def test_the_end_of_the_server_is_said_on_the_screen_from_before(server: Server) -> None:
    with top(server) as shown:
        shown.shows("running: 2 of 2 workers ready")
        server.signal(signal.SIGTERM)
        assert shown.end() == 1
        last = shown.output.rpartition(LEAVE)[2]
        assert last == "starman: the server has closed the connection: it has ended, or its observer was replaced\r\n"
        assert shown.modes_are_back()


def test_a_terminal_without_control_sequences_gets_none(server: Server) -> None:
    with top(server, "--count", "2", term="dumb") as shown:
        begun = time.monotonic()
        assert shown.end() == 0
        assert time.monotonic() - begun < 30
        assert shown.output.count("running: 2 of 2 workers ready") == 2
        assert "\x1b" not in shown.output
