"""starman.config.temporary_directory: the directory is the one that `tempfile` finds, and what is in the way is
named."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest

from starman.config import temporary_directory
from starman.config.settings import Settings


@pytest.mark.parametrize("names", [(), ("TMPDIR",), ("TEMP",), ("TMP",), ("TMPDIR", "TEMP"), ("TEMP", "TMP")])
@pytest.mark.parametrize("wished", ["missing", "file", "directory", "relative", ""])
def test_the_directory_is_the_one_of_tempfile(
    names: tuple[str, ...], wished: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "relative").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.delenv(name, raising=False)
    for name in names:
        monkeypatch.setenv(name, wished if wished in ("relative", "") else str(tmp_path / wished))
    monkeypatch.setattr(tempfile, "tempdir", None)
    search = temporary_directory.find_directory(os.environ)
    assert search.directory == tempfile.gettempdir()
    assert not search.last_resort
    assert search.wished == (bool(names) and wished in ("missing", "file"))
    assert len(search.refused) == (len(names) if search.wished else 0)
    assert sorted(os.listdir(tmp_path)) == ["directory", "file", "relative"]


def test_a_disk_that_is_full_is_of_no_use(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    files = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(temporary_directory.os, "write", fail)
    found = temporary_directory.warning(Settings.of(), {})
    assert found is not None
    assert found.startswith("no usable temporary directory: /tmp (No space left on device), ")
    with pytest.raises(FileNotFoundError, match="no usable temporary directory"):
        temporary_directory.create_unnamed(temporary_directory.find_directory({}).directory)
    assert len(os.listdir("/proc/self/fd")) == files


def test_a_name_that_is_taken_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [b"one", b"one", b"two"]
    monkeypatch.setattr(temporary_directory.os, "urandom", lambda _: names.pop(0))
    (tmp_path / f"starman-{b'one'.hex()}").touch()
    os.close(temporary_directory.create_unnamed(str(tmp_path)))
    assert names == []
    assert os.listdir(tmp_path) == [f"starman-{b'one'.hex()}"]
