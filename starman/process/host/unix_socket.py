"""Makes the file of a listening UNIX socket, with its mode and owner, and removes a stale one. Master, or the caller
of `serve`.

Mode and owner are never changed by a path after the file exists: another user with write access to the directory could
replace it with a link, and root would change the mode or owner of any file.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat

# The results of a connect to the socket of a live server: it accepts, or its backlog is full.
_ALIVE = frozenset({0, errno.EAGAIN, errno.EINPROGRESS})
# Flags to open a directory as a base of paths: O_PATH (Linux) does not need the right to list it.
_DIRECTORY = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC


class OccupiedError(Exception):
    """The path is taken by a live server, or by a file that is not a socket. The text says which."""


def bind(opened: socket.socket, path: str, mode: int | None, owner: tuple[int, int]) -> tuple[int, int]:
    """Bind `opened` at the absolute `path`. Returns the device and inode of the file.

    `mode`: permission bits; None: by the umask. `owner`: uid and gid, -1 leaves one as it is. Raises OSError;
    EADDRINUSE when the path has been taken meanwhile. Main thread: the umask and working directory of the process
    change for a few system calls.
    """
    found = _bind_with_mode(opened, path, mode) if owner == (-1, -1) else _bind_in_private(opened, path, mode, owner)
    return found.st_dev, found.st_ino


def remove_stale(path: str) -> None:
    """Remove a stale socket at `path`. Raises OccupiedError if the file there must stay, OSError if it cannot be
    removed."""
    try:
        found = os.lstat(path)
    except OSError:
        return  # no file; for other errors, the bind raises them again
    if not stat.S_ISSOCK(found.st_mode):
        raise OccupiedError("a file that is not a socket is in its place")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # Non-blocking: a connect to a live server with a full backlog would block.
        probe.setblocking(False)
        outcome = probe.connect_ex(path)
    if outcome == errno.ECONNREFUSED:
        remove(path, (found.st_dev, found.st_ino))
    elif outcome in _ALIVE:
        raise OccupiedError("a server is alive on that socket")
    elif outcome != errno.ENOENT:
        raise OccupiedError(f"it is unknown whether a server is alive on that socket ({os.strerror(outcome)})")


def remove(path: str, file: tuple[int, int]) -> None:
    """Remove the file at `path` if it still has that device and inode. Never raises."""
    with contextlib.suppress(OSError):
        found = os.lstat(path)
        if (found.st_dev, found.st_ino) == file:
            os.unlink(path)


def _bind_with_mode(opened: socket.socket, path: str, mode: int | None) -> os.stat_result:
    """Bind with the umask for `mode`, so that the file has its mode from the first moment. A socket gets 0777 less the
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

    The kernel remembers the path of the bind, so `ss` shows the file's name without its directory.
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
    """Raises PermissionError unless only this user may change the directory: another directory may have replaced
    it."""
    found = os.fstat(inside)
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise PermissionError(errno.EPERM, "its directory was changed while the socket was bound")


def _bind_and_move(
    opened: socket.socket, name: str, inside: int, parent: int, mode: int | None, owner: tuple[int, int]
) -> os.stat_result:
    # By a relative path: with the private directory, an absolute one could be too long for a socket (107 bytes).
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
        # A link, not a rename, which would replace a socket that another server has bound there meanwhile.
        os.link(name, name, src_dir_fd=inside, dst_dir_fd=parent, follow_symlinks=False)
    except FileExistsError:
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE)) from None
    finally:
        # Read in the private directory, where no other file can replace it.
        found = os.stat(name, dir_fd=inside, follow_symlinks=False)
        os.unlink(name, dir_fd=inside)
    return found
