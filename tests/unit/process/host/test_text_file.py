"""starman.process.host.text_file: passes a text through an exec in a file without a name."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from starman.process.host import text_file
from starman.process.host.text_file import load_text, store_text

TEXT = "format 4\n\xe9" * 100_000


@pytest.mark.parametrize("error", [None, errno.EPERM, errno.ENOSYS])
def test_what_is_stored_is_loaded_and_nothing_is_left(error: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, flags: int) -> int:
        assert error is not None
        raise OSError(error, os.strerror(error))

    if error is not None:
        monkeypatch.setattr(text_file.os, "memfd_create", refuse)
        monkeypatch.setenv("TMPDIR", str(tmp_path))
    files = len(os.listdir("/proc/self/fd"))
    fd = store_text(TEXT)
    assert not os.get_inheritable(fd)
    assert os.readlink(f"/proc/self/fd/{fd}").startswith("/memfd:" if error is None else str(tmp_path))
    assert list(tmp_path.iterdir()) == []
    assert load_text(fd) == TEXT
    assert len(os.listdir("/proc/self/fd")) == files
