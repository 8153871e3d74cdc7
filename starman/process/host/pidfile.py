"""Writes, checks and removes the pid file, which holds the master's process id.

A pid file belongs to the process with the id in it. No other state is needed: after an upgrade, the new program in the
master's process finds its own id in the file, and a forked child that exits does not remove it.

If root starts the server, the file belongs to root, even if the server runs as another user. Root's scripts send
signals to the process id in the file (`kill $(cat server.pid)`), so that user must not be able to write another id.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time

from starman.errors import SettingError, StartError
from starman.log.output import kind_of
from starman.process.proc_stat import FIRST_FIELD, read_fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

# The writer of a file may seem to have started this many seconds later than the file was written: clocks are rounded.
_SLACK = 2.0


class PidFile:
    """A pid file at `path`, written when the `with` block begins and removed at its end. `path` None: no pid file."""

    __slots__ = ("_claimed", "_path")

    def __init__(self, path: str | None, *, claimed: bool = False) -> None:
        """`claimed`: the program before an upgrade has written the file in this process, perhaps with rights that are
        gone."""
        self._claimed = claimed
        self._path = None if path is None else os.path.abspath(path)

    def __enter__(self) -> PidFile:
        """Write the process id. An existing file stays if it holds this process's id, and is replaced if it is stale.

        Raises StartError when another process with the id in the file is alive, SettingError when the file cannot be
        written.
        """
        if self._path is not None and not self._claimed:
            try:
                self._claim(self._path)
            except OSError as error:
                raise SettingError(f"pid: cannot write {self._path}: {error.strerror}") from None
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Remove the file if it still holds this process's id. Where this user may not write in the directory, it
        stays."""
        if self._path is None:
            return
        with contextlib.suppress(OSError):
            if _read(self._path) == os.getpid():
                os.unlink(self._path)

    def _claim(self, path: str) -> None:
        # The file is complete before it gets its name, so that no reader finds half of it. A link(2) never follows a
        # symbolic link that another user may have put at the path.
        draft = f"{path}.{os.getpid()}"
        try:
            self._write(draft)
            while True:
                try:
                    os.link(draft, path, follow_symlinks=False)
                    return
                except FileExistsError:
                    pid = _read(path)
                    if pid == os.getpid():
                        return
                    if pid is not None and _is_writer(pid, path):
                        raise StartError(f"pid: {path} belongs to process {pid}, which is alive") from None
                    os.unlink(path)
        finally:
            _unlink(draft)

    def _write(self, draft: str) -> None:
        _unlink(draft)
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            # Readable despite any umask: as another user, this process reads the file before it removes it.
            os.fchmod(fd, 0o644)
            os.write(fd, b"%d\n" % os.getpid())
        finally:
            os.close(fd)


def replaceable_in(path: str, uid: int, gids: Collection[int]) -> str | None:
    """The first directory, from that of `path` up, in which a user could replace `path` by another file. The user is
    `uid`, a member of the groups `gids`. None if there is no such directory."""
    directory = os.path.realpath(os.path.dirname(os.path.abspath(path)))
    while True:
        found = os.stat(directory)
        shared = found.st_mode & stat.S_IWOTH or (found.st_mode & stat.S_IWGRP and found.st_gid in gids)
        # In a sticky directory, only the owner of a file, or of the directory, may replace it.
        if found.st_uid == uid or (shared and not found.st_mode & stat.S_ISVTX):
            return directory
        above = os.path.dirname(directory)
        if above == directory:
            return None
        directory = above


def running_pid(path: str) -> int | None:
    """The process id in a pid file. None if that process is not alive, or there is no such file."""
    try:
        pid = _read(path)
    except OSError:
        return None
    return pid if pid is not None and _is_writer(pid, path) else None


def _read(path: str) -> int | None:
    """The process id in the file. None if there is no file, or no process id in it. Does not block at a FIFO.

    Raises OSError if `path` is not a regular file: a pid file must not replace a device or a FIFO.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except FileNotFoundError:
        return None
    try:
        mode = os.fstat(fd).st_mode
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, f"it is {kind_of(mode)}, not an ordinary file")
        text = os.read(fd, 32).strip()
    finally:
        os.close(fd)
    # No process has the id 0: kill(2) would take it for the group of this process, which is alive.
    return (int(text) or None) if text.isdigit() else None


def _is_writer(pid: int, path: str) -> bool:
    """Whether process `pid` is alive and may have written the file. After a crash, a newer process may have the same
    id, as it happens in a container that is restarted."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # alive, and of another user
    try:
        fields = read_fields(pid)
        # proc(5): field 3, the state.
        if fields[3 - FIRST_FIELD] in (b"Z", b"X"):
            return False  # dead, and not reaped yet
        # Field 22: the start time, in ticks since the boot.
        booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        return booted + int(fields[22 - FIRST_FIELD]) / os.sysconf("SC_CLK_TCK") <= os.stat(path).st_mtime + _SLACK
    except (OSError, ValueError, IndexError, AttributeError):
        return True  # without /proc, the process may be the writer


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
