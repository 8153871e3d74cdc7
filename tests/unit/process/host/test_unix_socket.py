"""starman.process.host.unix_socket: mode and owner are set before a client can connect, and no link is followed."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from starman.process.host import unix_socket as module
from starman.process.host.unix_socket import OccupiedError, bind, remove, remove_stale

OURS = (os.getuid(), os.getgid())
UNCHANGED = (-1, -1)


@pytest.fixture
def opened() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as found:
        yield found


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.mark.parametrize("owner", [UNCHANGED, OURS], ids=["in place", "moved"])
@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666, 0o777, 0o000])
def test_the_file_has_its_mode_from_its_first_moment(
    opened: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: tuple[int, int], mode: int
) -> None:
    seen = []
    umask = os.umask

    def spy(wanted: int) -> int:
        before = umask(wanted)
        seen.extend(mode_of(found) for found in tmp_path.rglob("s.sock"))
        return before

    monkeypatch.setattr(module.os, "umask", spy)
    bind(opened, str(tmp_path / "s.sock"), mode, owner)
    assert seen == [mode]
    assert mode_of(tmp_path / "s.sock") == mode


@pytest.mark.parametrize("owner", [UNCHANGED, OURS], ids=["in place", "moved"])
def test_without_a_mode_the_umask_decides(opened: socket.socket, tmp_path: Path, owner: tuple[int, int]) -> None:
    umask = os.umask(0o027)
    try:
        bind(opened, str(tmp_path / "s.sock"), None, owner)
    finally:
        assert os.umask(umask) == 0o027
    assert mode_of(tmp_path / "s.sock") == 0o750


def test_a_moved_socket_is_reached_at_its_path_and_leaves_nothing_beside_it(opened: socket.socket, tmp_path: Path) -> None:
    path, directory = tmp_path / "s.sock", os.getcwd()
    assert bind(opened, str(path), 0o660, OURS) == (path.lstat().st_dev, path.lstat().st_ino)
    opened.listen()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    assert os.listdir(tmp_path) == ["s.sock"]
    assert (path.lstat().st_uid, path.lstat().st_gid, path.lstat().st_nlink) == (*OURS, 1)
    assert os.getcwd() == directory


def test_a_path_of_the_greatest_length_is_moved_too(opened: socket.socket) -> None:
    with tempfile.TemporaryDirectory(prefix="s", dir="/tmp") as directory:
        path = os.path.join(directory, "x" * (107 - len(directory) - 1))
        bind(opened, path, None, OURS)
        assert os.listdir(directory) == [os.path.basename(path)]


def test_a_path_that_was_taken_meanwhile_stays(opened: socket.socket, tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    path.write_text("another")
    with pytest.raises(OSError, match="Address already in use"):
        bind(opened, str(path), None, OURS)
    assert path.read_text() == "another"
    assert os.listdir(tmp_path) == ["s.sock"]


def test_a_directory_put_in_the_place_of_the_private_one_is_refused(
    opened: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mkdir = os.mkdir

    def swapped(name: str, mode: int, *, dir_fd: int) -> None:
        mkdir(name, mode, dir_fd=dir_fd)
        (tmp_path / name).chmod(0o777)

    monkeypatch.setattr(module.os, "mkdir", swapped)
    with pytest.raises(PermissionError, match="its directory was changed"):
        bind(opened, str(tmp_path / "s.sock"), None, OURS)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("owner", [UNCHANGED, OURS], ids=["in place", "moved"])
def test_a_link_that_is_swapped_in_at_any_moment_leads_nowhere(tmp_path: Path, owner: tuple[int, int]) -> None:
    """Another process puts a link to a file of ours in the place of each socket that appears."""
    victim, path, ended = tmp_path / "victim", tmp_path / "site" / "s.sock", threading.Event()
    victim.write_text("secret")
    victim.chmod(0o600)
    path.parent.mkdir()

    def swap() -> None:
        number = 0
        while not ended.is_set():
            try:
                if stat.S_ISSOCK(path.lstat().st_mode):
                    os.symlink(victim, f"{path}-{number}")
                    os.replace(f"{path}-{number}", path)
                    number += 1
            except OSError:
                continue

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        won = 0
        while won < 100:
            path.unlink(missing_ok=True)
            # A link that came too late for the previous socket blocks this one.
            with socket.socket(socket.AF_UNIX) as opened, contextlib.suppress(OSError):
                remove(str(path), bind(opened, str(path), 0o666, owner))
                won += 1
    finally:
        ended.set()
        thread.join()
    assert mode_of(victim) == 0o600
    assert victim.read_text() == "secret"


def test_only_the_file_that_was_bound_is_removed(opened: socket.socket, tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    file = bind(opened, str(path), None, UNCHANGED)
    path.rename(tmp_path / "moved")
    path.write_text("another")
    remove(str(path), file)
    assert path.exists()
    remove(str(tmp_path / "moved"), file)
    assert not (tmp_path / "moved").exists()
    remove(str(tmp_path / "moved"), file)


def test_a_live_socket_is_occupied_and_a_stale_one_is_not(opened: socket.socket, tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    bind(opened, str(path), None, UNCHANGED)
    opened.listen()
    with pytest.raises(OccupiedError, match="alive"):
        remove_stale(str(path))
    opened.close()
    remove_stale(str(path))
    assert not path.exists()
