"""Drops root's privileges: makes the process run as the user and group of the settings, for good.

The master does so itself, after it has bound its listeners. So no process of the server has privileges while it reads
input: neither the master, which reads messages of its workers, nor the mold, which imports the application.
"""

from __future__ import annotations

import os
import sys

from starman.errors import SettingError, StartError
from starman.log.syslog_target import is_syslog
from starman.process.prctl import make_dumpable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from starman.config.settings import Settings


class Account:
    """The user and group to run as.

    uid, gid: their numbers; uid None: keep the user. name: the user's name in the password database; None if it has
    none.
    """

    __slots__ = ("gid", "name", "uid")

    def __init__(self, uid: int | None, gid: int, name: str | None) -> None:
        self.uid = uid
        self.gid = gid
        self.name = name

    @classmethod
    def of(cls, settings: Settings) -> Account | None:
        """The account that `user` and `group` name. None if the process runs as that account already. Changes nothing.

        Raises SettingError for an unknown name, and for a change that only root can make if this process does not run
        as root.
        """
        uid, gid, name = None, None, None
        if settings.user is not None:
            uid, gid, name = _user(settings.user, settings.source("user"))
        if settings.group is not None:
            gid = _group(settings.group, settings.source("group"))
        if uid is None and gid is None:
            return None
        if os.geteuid() != 0:
            if uid in (None, os.geteuid()) and (settings.group is None or gid == os.getegid()):
                return None
            source = settings.source("group" if uid in (None, os.geteuid()) else "user")
            raise SettingError(f"{source}: only root can change the user or group; this process runs as user {os.geteuid()}")
        if gid is None:
            raise SettingError(f"{settings.source('user')}: user {uid} is not in the password database: give a group too")
        return cls(uid, gid, name)

    @property
    def owner(self) -> tuple[int, int]:
        """The uid and gid for files of the account, as chown(2) takes them."""
        return (-1 if self.uid is None else self.uid, self.gid)

    @property
    def gids(self) -> tuple[int, ...]:
        """The groups of the process after `drop_privileges`."""
        return (self.gid,) if self.name is None else tuple(os.getgrouplist(self.name, self.gid))

    def create_file(self, path: str) -> None:
        """Create an empty file of the account at `path`, unless one exists. Raises OSError.

        The file is opened for writing later, as the new user: in a directory where others may put links, root could be
        made to write to any file.
        """
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except FileExistsError:
            return
        try:
            os.fchown(fd, *self.owner)
        finally:
            os.close(fd)

    def drop_privileges(self) -> None:
        """Make the process run as the account, with the user's supplementary groups and no others. Cannot be undone.

        Raises SettingError when the system refuses, or when the user cannot read Python's own modules; StartError when
        the process could still become root again. Changes all threads of the calling program.
        """
        try:
            # Groups first: only root may change them.
            if self.name is None:
                os.setgroups([self.gid])
            else:
                os.initgroups(self.name, self.gid)
            os.setgid(self.gid)
            if self.uid is not None:
                os.setuid(self.uid)
        except OSError as error:
            raise SettingError(f"user, group: the system refuses the change: {error.strerror}") from None
        if self.uid:
            _check_no_way_back()
            # So that the process can set its title, and read the memory figures of its workers. What it has in memory
            # from its time as root, settings and listeners, is not secret from its user.
            make_dumpable()
            self._check_modules()

    def _check_modules(self) -> None:
        """Raises SettingError if the account cannot read the modules. Later imports would fail without naming that
        reason."""
        for module in ("os", "starman"):
            directory = os.path.dirname(str(sys.modules[module].__file__))
            if not os.access(directory, os.R_OK | os.X_OK):
                user = self.name or self.uid
                raise SettingError(f"user: {user} may not read {directory}, and the server needs the modules there")


def _check_no_way_back() -> None:
    try:
        os.setuid(0)
    except PermissionError:
        return
    raise StartError("user: the privileges of root could not be dropped for good")


def _user(user: str | int, source: str) -> tuple[int, int | None, str | None]:
    """The user's uid, primary gid, and name. The gid and the name are None if the password database does not have the
    uid."""
    import pwd

    try:
        entry = pwd.getpwuid(user) if isinstance(user, int) else pwd.getpwnam(user)
    except (KeyError, OverflowError):
        if isinstance(user, int):
            return user, None, None
        raise SettingError(f"{source}: no user is called {user!r}") from None
    return entry.pw_uid, entry.pw_gid, entry.pw_name


def _group(group: str | int, source: str) -> int:
    try:
        return group_id(group)
    except KeyError:
        raise SettingError(f"{source}: no group is called {group!r}") from None


def group_id(group: str | int) -> int:
    """The gid of a group that a setting names, by name or number. Raises KeyError for an unknown name."""
    if isinstance(group, int):
        return group
    import grp

    return grp.getgrnam(group).gr_gid


def create_logs(settings: Settings, account: Account) -> None:
    """Create the log files as root, for the user of the server. Raises SettingError."""
    for setting, path in (("error_log", settings.error_log), ("access_log", settings.access_log)):
        if path is not None and path not in ("-", "off", "logging") and not is_syslog(path):
            try:
                account.create_file(path)
            except OSError as error:
                raise SettingError(f"{setting}: cannot write {path}: {error.strerror}") from None
