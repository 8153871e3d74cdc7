"""starman.process.host.privileges, as far as tests need no privileges. tests/functional/test_privileges.py runs as
root."""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path

import pytest

from starman.config.settings import Settings
from starman.errors import SettingError, StartError
from starman.process.host import privileges as module
from starman.process.host.privileges import Account
from tests.unit.process.forked import run_forked

NOBODY = 65_534


def as_nobody(**settings: object) -> str:
    """The result of these settings in a process that does not run as root."""

    def look() -> str:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        given = {name: {"uid": os.geteuid(), "gid": os.getegid()}.get(str(value), value) for name, value in settings.items()}
        try:
            return str(Account.of(Settings.of(**given)))
        except SettingError as error:
            return str(error).replace(str(os.geteuid()), "UID")

    return run_forked(look)


def test_without_settings() -> None:
    assert Account.of(Settings.of()) is None


def test_running_as_that_user_already() -> None:
    assert as_nobody(user="uid") == as_nobody(group="gid") == as_nobody(user="uid", group="gid") == "None"


@pytest.mark.parametrize(
    ("settings", "source"),
    [
        # The modules must be imported here: the user nobody may not be allowed to read them.
        ({"user": pwd.getpwuid(0).pw_name}, "user"),
        ({"group": grp.getgrgid(0).gr_name}, "group"),
        ({"user": "uid", "group": 0}, "group"),
        ({"user": 0, "group": "gid"}, "user"),
    ],
)
def test_only_root_can_become_another_user(settings: dict[str, object], source: str) -> None:
    refused = as_nobody(**settings)
    assert refused == f"Settings.of({source}=...): only root can change the user or group; this process runs as user UID"


def test_unknown_names() -> None:
    with pytest.raises(SettingError, match=r"^Settings\.of\(user=\.\.\.\): no user is called 'no-such-user'$"):
        Account.of(Settings.of(user="no-such-user"))
    with pytest.raises(SettingError, match=r"^Settings\.of\(group=\.\.\.\): no group is called 'no-such-group'$"):
        Account.of(Settings.of(group="no-such-group"))


class Calls:
    """Records the system calls in their order, and makes none of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, back: bool = False) -> None:
        self.made: list[tuple[object, ...]] = []
        for name in ("initgroups", "setgroups", "setgid", "setuid"):
            monkeypatch.setattr(module.os, name, lambda *arguments, name=name: self.call(name, *arguments))
        monkeypatch.setattr(module, "make_dumpable", lambda: self.made.append(("dumpable",)))
        self.back = back

    def call(self, *call: object) -> None:
        self.made.append(call)
        if call == ("setuid", 0) and not self.back:
            raise PermissionError


def test_the_order_of_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls(monkeypatch)
    Account(1000, 100, "me").drop_privileges()
    assert calls.made == [("initgroups", "me", 100), ("setgid", 100), ("setuid", 1000), ("setuid", 0), ("dumpable",)]
    calls.made.clear()
    Account(1000, 100, None).drop_privileges()
    assert calls.made[:3] == [("setgroups", [100]), ("setgid", 100), ("setuid", 1000)]
    calls.made.clear()
    Account(None, 100, None).drop_privileges()
    assert calls.made == [("setgroups", [100]), ("setgid", 100)]


def test_a_way_back_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    Calls(monkeypatch, back=True)
    with pytest.raises(StartError, match="could not be dropped for good"):
        Account(1000, 100, "me").drop_privileges()


def test_what_the_system_refuses_is_a_line() -> None:
    def drop() -> str:
        if os.geteuid() == 0:
            os.setuid(NOBODY)
        try:
            Account(1, 1, None).drop_privileges()
        except SettingError as error:
            return str(error)
        return "it was allowed"

    assert run_forked(drop) == "user, group: the system refuses the change: Operation not permitted"


def test_a_file_is_created_once_and_never_through_a_link(tmp_path: Path) -> None:
    own = Account(os.getuid(), os.getgid(), None)
    own.create_file(str(tmp_path / "new.log"))
    (tmp_path / "old.log").write_text("kept")
    own.create_file(str(tmp_path / "old.log"))
    (tmp_path / "link.log").symlink_to(tmp_path / "elsewhere")
    own.create_file(str(tmp_path / "link.log"))
    assert {path.name for path in tmp_path.iterdir()} == {"new.log", "old.log", "link.log"}
    assert (tmp_path / "old.log").read_text() == "kept"
    with pytest.raises(FileNotFoundError):
        own.create_file(str(tmp_path / "none" / "x.log"))
