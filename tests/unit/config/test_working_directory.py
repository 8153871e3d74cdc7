"""starman.config.working_directory, and that every setting which is a path is taken care of."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from starman.config.option import OPTIONS
from starman.config.settings import PATHS, Settings
from starman.config.working_directory import WorkingDirectory, started_in
from starman.errors import SettingError
from tests.unit.process.forked import run_forked


@pytest.fixture
def link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A link to the release 1, which is the working directory."""
    for name in ("1", "2"):
        (tmp_path / name / "lib").mkdir(parents=True)
    made = tmp_path / "current"
    made.symlink_to(tmp_path / "1")
    monkeypatch.chdir(made)
    return made


def test_the_start_is_known_by_the_shells_name(link: Path) -> None:
    real = str(link.resolve())
    assert started_in({"PWD": str(link)}) == str(link)
    for other in ("", "current", str(link.parent), "/nowhere", f"{link}/../current", f"{link}/."):
        assert started_in({"PWD": other}) == real
    assert started_in({}) == real


@pytest.mark.parametrize("chdir", [None, "lib"])
def test_where_the_name_leads_now_is_entered(link: Path, chdir: str | None) -> None:
    def in_child() -> str:
        working_directory = WorkingDirectory(str(link), chdir)
        old = str(link.resolve())
        sys.path[:] = [old, f"{old}/lib", f"{old}0", "/elsewhere"]
        working_directory.enter()
        assert sys.path == [old, f"{old}/lib", f"{old}0", "/elsewhere"]
        link.unlink()
        link.symlink_to(link.parent / "2")
        working_directory.enter()
        new = str(link.resolve())
        assert sys.path == [new, f"{new}/lib", f"{old}0", "/elsewhere"]
        assert os.getcwd() == os.path.join(new, chdir or "").rstrip("/")
        assert working_directory.absolute("a") == os.path.join(link, chdir or "", "a")
        assert working_directory.absolute("/a") == "/a"
        link.unlink()
        with pytest.raises(SettingError, match=r"cannot change to .*current.*: No such file or directory"):
            working_directory.enter()
        return "fine"

    assert run_forked(in_child) == "fine"


@pytest.mark.skipif(os.geteuid() != 0, reason="root may go everywhere, and can become a user that may not")
def test_where_the_user_may_not_go_the_server_stays(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)

    def in_child() -> str:
        os.chdir(closed)
        working_directory = WorkingDirectory(str(closed))
        os.setuid(65534)
        working_directory.enter()
        return "fine"

    assert run_forked(in_child) == "fine"


def test_every_path_is_made_absolute_or_opened_by_the_master() -> None:
    paths = {name for name, setting in OPTIONS.items() if setting.kind.metavar in ("FILE", "DIR")}
    assert paths == {*PATHS, "error_log", "pid", "chdir", "log_config"}


def test_located_settings() -> None:
    settings = Settings.of(include=["a", "/b"], ssl_cert="c", access_log="d", chdir="/base", pid="p", error_log="e")
    located = settings.with_absolute_paths(lambda path: os.path.join("/base", path))
    assert (located.include, located.ssl_cert, located.ssl_key, located.access_log) == (
        ("/base/a", "/b"),
        "/base/c",
        None,
        "/base/d",
    )
    assert (located.pid, located.error_log, located.chdir) == ("p", "e", "/base")
    assert located.source("include") == settings.source("include")
    for value in ("-", "off"):
        assert Settings.of(access_log=value).with_absolute_paths(lambda _: "elsewhere").access_log == value
