"""starman.process.host.pidfile: which process a file belongs to, whether its writer lives or not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from starman.errors import SettingError, StartError
from starman.process.host.pidfile import PidFile, replaceable_in
from tests.unit.process.forked import run_forked


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "server.pid"


@pytest.fixture
def living() -> Iterator[int]:
    """A process that is alive, and not this one."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process.pid
        process.kill()


def test_it_is_there_for_as_long_as_the_block(path: Path, tmp_path: Path) -> None:
    with PidFile(str(path)):
        assert path.read_text() == f"{os.getpid()}\n"
        assert path.stat().st_mode & 0o777 == 0o644
        assert list(tmp_path.iterdir()) == [path]
    assert not path.exists()


def test_none_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with PidFile(None):
        assert list(tmp_path.iterdir()) == []


def test_a_relative_path_stays_where_it_was(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with PidFile("server.pid"):
        monkeypatch.chdir("/")
    assert not path.exists()


def test_a_live_process_keeps_its_file(path: Path, living: int) -> None:
    path.write_text(f"{living}\n")
    with pytest.raises(StartError, match=f"^pid: {path} belongs to process {living}, which is alive$"), PidFile(str(path)):
        pass
    assert path.read_text() == f"{living}\n"
    assert list(path.parent.iterdir()) == [path]


def test_a_live_process_of_another_user_too(path: Path, living: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(pid: int, signum: int) -> None:
        raise PermissionError

    path.write_text(f"{living}\n")
    monkeypatch.setattr(os, "kill", kill)
    with pytest.raises(StartError, match=r"which is alive$"), PidFile(str(path)):
        pass


@pytest.mark.parametrize("text", ["", "no number", "-1", "0", "99999999999999999999", "²"])
def test_what_names_no_process_is_stale(path: Path, text: str) -> None:
    path.write_text(text)
    with PidFile(str(path)):
        assert path.read_text() == f"{os.getpid()}\n"


def test_a_dead_process_leaves_a_stale_one(path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    path.write_text(f"{process.pid}\n")
    with PidFile(str(path)):
        assert path.read_text() == f"{os.getpid()}\n"


@pytest.mark.skipif(sys.platform != "linux", reason="the state of a process is in Linux's /proc")
def test_a_dead_process_that_is_not_reaped_too(path: Path, living: int) -> None:
    os.kill(living, signal.SIGKILL)
    os.waitid(os.P_PID, living, os.WEXITED | os.WNOWAIT)
    path.write_text(f"{living}\n")
    with PidFile(str(path)):
        assert path.read_text() == f"{os.getpid()}\n"


@pytest.mark.skipif(sys.platform != "linux", reason="the start of a process is in Linux's /proc")
def test_a_number_that_another_process_has_now_is_stale(path: Path, living: int) -> None:
    path.write_text(f"{living}\n")
    before = time.time() - 3600
    os.utime(path, (before, before))
    with PidFile(str(path)):
        assert path.read_text() == f"{os.getpid()}\n"


def test_its_own_number_is_its_own_file(path: Path) -> None:
    """As for a program that the master has executed in its own process."""
    path.write_text(f"{os.getpid()}\n")
    found = path.stat().st_ino
    with PidFile(str(path)):
        assert path.stat().st_ino == found
    assert not path.exists()


def test_a_fork_does_not_remove_it(path: Path) -> None:
    with PidFile(str(path)) as claimed:
        run_forked(lambda: claimed.__exit__(None, None, None))
        assert path.exists()


def test_in_a_directory_that_is_closed_by_now_it_stays(path: Path) -> None:
    def in_child() -> str:
        with PidFile(str(path)):
            path.parent.chmod(0o700)
            if os.geteuid() == 0:
                os.setresuid(65534, 65534, -1)
            else:
                path.parent.chmod(0)
        return "fine"

    try:
        assert run_forked(in_child) == "fine"
    finally:
        path.parent.chmod(0o700)
    assert path.exists()


def test_what_is_no_longer_its_own_stays(path: Path) -> None:
    with PidFile(str(path)):
        path.write_text("1\n")
    assert path.read_text() == "1\n"


def test_where_it_cannot_be(tmp_path: Path) -> None:
    for place in (tmp_path / "none" / "server.pid", tmp_path):
        with pytest.raises(SettingError, match=f"^pid: cannot write {place}: "), PidFile(str(place)):
            pass


def test_a_link_is_replaced_and_not_followed(path: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    path.symlink_to(precious)
    with PidFile(str(path)):
        assert not path.is_symlink()
    assert precious.read_text() == "precious"


# The modes of the two directories around the pid file, and in which of them another user could replace it.
DIRECTORIES = [
    (0o755, 0o755, None),
    (0o755, 0o757, "inner"),
    (0o755, 0o1757, None),
    (0o757, 0o755, "outer"),
    (0o1777, 0o755, None),
]


@pytest.mark.parametrize(("outer_mode", "inner_mode", "expected"), DIRECTORIES)
def test_directories_in_which_another_user_could_replace_it(
    tmp_path: Path, outer_mode: int, inner_mode: int, expected: str | None
) -> None:
    outer, inner = tmp_path / "outer", tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    outer.chmod(outer_mode)
    inner.chmod(inner_mode)
    place = {"outer": str(outer), "inner": str(inner), None: None}[expected]
    assert replaceable_in(str(inner / "server.pid"), 65533, (65532,)) == place


def test_the_owner_and_the_group_of_a_directory_could_replace_it(path: Path) -> None:
    directory, found = str(path.parent), path.parent.stat()
    assert replaceable_in(str(path), found.st_uid, ()) == directory
    path.parent.chmod(0o770)
    assert replaceable_in(str(path), 65533, (found.st_gid,)) == directory
    assert replaceable_in(str(path), 65533, (found.st_gid + 1,)) is None
