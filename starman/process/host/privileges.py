"""Identity: which user and group the server runs as. The master itself changes, for good, once it has bound its
listeners.

So no process of the server has privileges while it talks to anybody: neither the master, which hears its workers, nor
the mold, which imports the application.
"""

from __future__ import annotations

import os
import sys

from starman.errors import SettingError, StartError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from starman.config.settings import Settings

# <linux/prctl.h>
_SET_DUMPABLE = 4


class Account:
    """A user and group to become.

    uid, gid: their numbers; uid None: the user stays. name: the user's name in the password database, None if it has
    none.
    """

    __slots__ = ("gid", "name", "uid")

    def __init__(self, uid: int | None, gid: int, name: str | None) -> None:
        self.uid = uid
        self.gid = gid
        self.name = name

    @classmethod
    def of(cls, settings: Settings) -> Account | None:
        """What `user` and `group` mean; None when the process has that identity already. Changes nothing.

        Raises SettingError for a name that is unknown, and when only root could do it and this process is not root's.
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
            raise SettingError(f"{source}: only root can become another user or group; this process is of user {os.geteuid()}")
        if gid is None:
            raise SettingError(f"{settings.source('user')}: user {uid} is not in the password database: give a group too")
        return cls(uid, gid, name)

    @property
    def owner(self) -> tuple[int, int]:
        """The uid and gid of files that are to be its own, as chown(2) takes them."""
        return (-1 if self.uid is None else self.uid, self.gid)

    @property
    def gids(self) -> tuple[int, ...]:
        """The groups that the process is in once it has become this user."""
        return (self.gid,) if self.name is None else tuple(os.getgrouplist(self.name, self.gid))

    def create_file(self, path: str) -> None:
        """Create an empty file at `path` that is its own, if there is none. Raises OSError.

        It is opened later, as that user: in a directory where others may put links, what root writes to could be any
        file.
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
        """Become it, with the supplementary groups of the user and no others. There is no way back.

        Raises SettingError when the system refuses, or that user could not even read Python's own modules; StartError
        when the way back is open all the same. The calling program's threads change as well.
        """
        try:
            # In this order: who is no longer root may change no group.
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
            _allow_to_look_at_itself()
            self._check_modules()

    def _check_modules(self) -> None:
        """Later imports would fail one by one, and say nothing of the reason."""
        for module in ("os", "starman"):
            directory = os.path.dirname(str(sys.modules[module].__file__))
            if not os.access(directory, os.R_OK | os.X_OK):
                who = self.name or self.uid
                raise SettingError(f"user: {who} may not read {directory}, and the server needs the modules there")


def _check_no_way_back() -> None:
    try:
        os.setuid(0)
    except PermissionError:
        return
    raise StartError("user: the privileges of root could not be dropped for good")


def _allow_to_look_at_itself() -> None:
    """Linux gives the files in /proc of a process that has changed its user to root: it could neither set its title,
    nor read the memory figures of its workers. What it knew as root, settings and listeners, is no secret from its own
    user."""
    if sys.platform == "linux":
        try:
            # The reaper loads it anyway.
            import ctypes

            ctypes.CDLL(None).prctl(_SET_DUMPABLE, 1, 0, 0, 0)
        except (ImportError, OSError, AttributeError):
            return


def _user(user: str | int, source: str) -> tuple[int, int | None, str | None]:
    """uid, gid of its primary group, and name; the latter two None for a number that the password database does not
    have."""
    import pwd

    try:
        entry = pwd.getpwuid(user) if isinstance(user, int) else pwd.getpwnam(user)
    except (KeyError, OverflowError):
        if isinstance(user, int):
            return user, None, None
        raise SettingError(f"{source}: no user is called {user!r}") from None
    return entry.pw_uid, entry.pw_gid, entry.pw_name


def _group(group: str | int, source: str) -> int:
    import grp

    if isinstance(group, int):
        return group
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise SettingError(f"{source}: no group is called {group!r}") from None
