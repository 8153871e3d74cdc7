"""starman.process.proctitle: the title in /proc, where ps reads it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from starman.process import proctitle
from starman.process.proctitle import set_title
from tests.unit.process.forked import run_forked

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="titles are shown on Linux only")


def titled(text: str) -> str:
    """The command line and the short name of a process with this title."""

    def in_child() -> str:
        set_title(text)
        return repr((Path("/proc/self/cmdline").read_bytes(), Path("/proc/self/comm").read_text()))

    return run_forked(in_child)


def test_the_title_replaces_the_command_line_and_nothing_of_it_remains() -> None:
    room = len(Path("/proc/self/cmdline").read_bytes())
    expected = b"starman mold a"[: room - 1].ljust(room, b"\0")
    assert titled("starman mold a") == repr((expected, "starman mold\n"))


def test_a_title_that_is_too_long_is_cut_off_and_the_environment_stays() -> None:
    def in_child() -> str:
        before = Path("/proc/self/environ").read_bytes()
        room = len(Path("/proc/self/cmdline").read_bytes())
        set_title("starman worker " + "é" * 10_000)
        shown = Path("/proc/self/cmdline").read_bytes()
        assert shown.endswith(b"\0")
        assert len(shown) == room
        assert Path("/proc/self/environ").read_bytes() == before
        return "fine"

    assert run_forked(in_child) == "fine"


@pytest.mark.parametrize("text", ["", "nul\0nul", "\udc80", "starman worker 3 -e 'lambda e, s: 1'"])
def test_no_text_is_a_problem(text: str) -> None:
    assert titled(text)


def test_whatever_the_system_refuses_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(proctitle.os, "open", refuse)
    monkeypatch.setattr(proctitle, "_set_short_name", refuse)
    before = (Path("/proc/self/cmdline").read_bytes(), Path("/proc/self/comm").read_bytes())
    set_title("starman")
    assert (Path("/proc/self/cmdline").read_bytes(), Path("/proc/self/comm").read_bytes()) == before


def test_the_short_name_has_two_words_so_that_fork_counts_threads_right() -> None:
    code = (
        "import os; from starman.process.proctitle import set_title; set_title('starman mold ex app')\n"
        "print(open('/proc/self/comm').read().strip(), flush=True)\n"
        "pid = os.fork()\n"
        "os.waitpid(pid, 0) if pid else os._exit(0)"
    )
    run = subprocess.run([sys.executable, "-W", "always", "-c", code], capture_output=True, text=True, check=True)
    assert (run.stdout, "multi-threaded" in run.stderr) == ("starman mold\n", False)
