"""The file of a listening UNIX socket: bind it, give it its mode and owner, remove a stale one. Master, or the caller
of `serve`.

Nothing here changes mode or owner by a path after the file is made. Another user who may write in the directory could
put a link in its place at that moment, and root would change the mode or owner of any file.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat

# The errors of a connect to a socket whose server lives: it accepts, or its backlog is full.
_ALIVE = frozenset({0, errno.EAGAIN, errno.EINPROGRESS})
# A directory to work in: O_PATH (Linux) asks for no right to list it.
_DIRECTORY = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC


class OccupiedError(Exception):
    """The path is taken, by a live server or by a file that is no socket. The text says which."""


def bind(opened: socket.socket, path: str, mode: int | None, owner: tuple[int, int]) -> tuple[int, int]:
    """Bind `opened` at the absolute `path`. Returns device and inode of the file.

    Main thread: the umask and the working directory of the whole process change for a few system calls.
    `mode`: permission bits; None: those that the umask leaves. `owner`: uid and gid, -1 leaves one as it is.
    Raises OSError; EADDRINUSE when the path has been taken meanwhile.
    """
    found = _bind_with_mode(opened, path, mode) if owner == (-1, -1) else _bind_in_private(opened, path, mode, owner)
    return found.st_dev, found.st_ino


def remove_stale(path: str) -> None:
    """Remove a stale socket at `path`. Raises OccupiedError when it must stay, OSError when it cannot be removed."""
    try:
        found = os.lstat(path)
    except OSError:
        return  # the bind says what is wrong
    if not stat.S_ISSOCK(found.st_mode):
        raise OccupiedError("a file that is no socket is in its place")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # Without waiting: the connect to a live server with a full backlog would block.
        probe.setblocking(False)
        outcome = probe.connect_ex(path)
    if outcome == errno.ECONNREFUSED:
        remove(path, (found.st_dev, found.st_ino))
    elif outcome in _ALIVE:
        raise OccupiedError("a server is alive on that socket")
    elif outcome != errno.ENOENT:
        raise OccupiedError(f"the socket in its place does not say whether it is alive ({os.strerror(outcome)})")


def remove(path: str, file: tuple[int, int]) -> None:
    """Remove the file at `path` if it still is the one with that device and inode. Never raises."""
    with contextlib.suppress(OSError):
        found = os.lstat(path)
        if (found.st_dev, found.st_ino) == file:
            os.unlink(path)


def _bind_with_mode(opened: socket.socket, path: str, mode: int | None) -> os.stat_result:
    """Bind, with the mode that the file is to have from its first moment: a socket is made with 0777, less the
    umask."""
    if mode is None:
        opened.bind(path)
    else:
        umask = os.umask(0o777 & ~mode)
        try:
            opened.bind(path)
        finally:
            os.umask(umask)
    return os.lstat(path)


def _bind_in_private(opened: socket.socket, path: str, mode: int | None, owner: tuple[int, int]) -> os.stat_result:
    """Bind in a new directory that only this user may enter, change the owner there, then move the file to its place.

    The kernel remembers the path of the bind, so `ss` shows the name of the file without its directory.
    """
    directory, name = os.path.split(path)
    private = f".{name}.{os.urandom(6).hex()}"
    parent = os.open(directory, _DIRECTORY)
    try:
        os.mkdir(private, 0o700, dir_fd=parent)
        try:
            inside = os.open(private, _DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
            try:
                _check_private(inside)
                return _bind_and_move(opened, name, inside, parent, mode, owner)
            finally:
                os.close(inside)
        finally:
            with contextlib.suppress(OSError):
                os.rmdir(private, dir_fd=parent)
    finally:
        os.close(parent)


def _check_private(inside: int) -> None:
    """Raises PermissionError unless only this user may change the directory: another may have been put in its
    place."""
    found = os.fstat(inside)
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise PermissionError(errno.EPERM, "its directory was changed while the socket was bound")


def _bind_and_move(
    opened: socket.socket, name: str, inside: int, parent: int, mode: int | None, owner: tuple[int, int]
) -> os.stat_result:
    # Relative, so that the path is not too long for a socket (107 bytes) because of the directory in between.
    before = os.open(".", _DIRECTORY)
    try:
        os.fchdir(inside)
        try:
            _bind_with_mode(opened, name, mode)
        finally:
            os.fchdir(before)
    finally:
        os.close(before)
    try:
        os.chown(name, *owner, dir_fd=inside, follow_symlinks=False)
        # Not a rename: that would replace a socket which another server has bound there meanwhile.
        os.link(name, name, src_dir_fd=inside, dst_dir_fd=parent, follow_symlinks=False)
    except FileExistsError:
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE)) from None
    finally:
        # As seen while nothing can be in its place.
        found = os.stat(name, dir_fd=inside, follow_symlinks=False)
        os.unlink(name, dir_fd=inside)
    return found
