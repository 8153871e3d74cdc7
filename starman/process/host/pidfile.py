"""The pid file: says which process the master is. It belongs to the process whose number stands in it.

So nothing about it has to be remembered: a new program that the master executes in its own process finds its own
number, and a fork that ends does not remove it.

When root starts the server, the file stays root's, though the server then runs as another user: root's scripts send
signals to the process id in it (`kill $(cat server.pid)`), so that user must not be able to write another one there.
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

# How much later (seconds) than the file a process may seem to have been started that has written it: clocks are
# rounded.
_SLACK = 2.0


class PidFile:
    """A pid file at `path`, claimed when the `with` block begins and removed at its end. None: there is none."""

    __slots__ = ("_claimed", "_path")

    def __init__(self, path: str | None, *, claimed: bool = False) -> None:
        """`claimed`: an older image of this process has written the file, with rights that this one may lack."""
        self._claimed = claimed
        self._path = None if path is None else os.path.abspath(path)

    def __enter__(self) -> PidFile:
        """Write the process id. A file that is there already stays if it is this process's, and is replaced if it is
        stale.

        Raises StartError when the process in it is alive, SettingError when the file cannot be written.
        """
        if self._path is not None and not self._claimed:
            try:
                self._claim(self._path)
            except OSError as error:
                raise SettingError(f"pid: cannot write {self._path}: {error.strerror}") from None
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Remove the file if it is still this process's. It stays, and is stale, in a directory where this user may
        not write."""
        if self._path is None:
            return
        with contextlib.suppress(OSError):
            if _read(self._path) == os.getpid():
                os.unlink(self._path)

    def _claim(self, path: str) -> None:
        # Complete before it has its name, so that nobody ever reads half of it; and never through a link of somebody
        # else's.
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
            # Whatever the umask: another user that this process becomes reads the file before it removes it.
            os.fchmod(fd, 0o644)
            os.write(fd, b"%d\n" % os.getpid())
        finally:
            os.close(fd)


def replaceable_in(path: str, uid: int, gids: Collection[int]) -> str | None:
    """The directory of `path`, or one above it, in which the user `uid`, a member of the groups `gids`, could replace
    `path` by another file. None if there is no such directory."""
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
    """The process id in a pid file, if that process lives; None if not, or there is no such file."""
    try:
        pid = _read(path)
    except OSError:
        return None
    return pid if pid is not None and _is_writer(pid, path) else None


def _read(path: str) -> int | None:
    """The process id in the file; None when there is none, or no file. Does not wait for the writer of a FIFO.

    Raises OSError for what is not an ordinary file, which no pid file may replace.
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
    return int(text) if text.isdigit() else None


def _is_writer(pid: int, path: str) -> bool:
    """Whether process `pid` is alive and may have written the file: after a crash its number may have come to somebody
    else, as it does in a container that is started anew."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # it lives, as another user's
    try:
        fields = read_fields(pid)
        # proc(5): field 3, the state.
        if fields[3 - FIRST_FIELD] in (b"Z", b"X"):
            return False  # dead, and nobody has reaped it
        # Field 22: when it was started, in ticks since the boot.
        booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        return booted + int(fields[22 - FIRST_FIELD]) / os.sysconf("SC_CLK_TCK") <= os.stat(path).st_mtime + _SLACK
    except (OSError, ValueError, IndexError, AttributeError):
        return True  # there is no such /proc: it may have


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
