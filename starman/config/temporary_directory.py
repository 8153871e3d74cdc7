"""Finds the directory for temporary files as Python's `tempfile` does, which is too large for the master to import."""

from __future__ import annotations

import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from starman.config.settings import Settings

_VARIABLES = ("TMPDIR", "TEMP", "TMP")
_DIRECTORIES = ("/tmp", "/var/tmp", "/usr/tmp")
# How often another name is tried when a file has that one already.
_TRIES = 100


class DirectorySearch:
    """The result of a search. directory: where files can be created; "" if nowhere.

    refused: the directories tried before, each with the reason. wished: whether one of them is from TMPDIR, TEMP or
    TMP.
    last_resort: whether `directory` is the working directory.
    """

    __slots__ = ("directory", "last_resort", "refused", "wished")

    def __init__(self) -> None:
        self.directory = ""
        self.refused: list[str] = []
        self.wished = False
        self.last_resort = False


def find_directory(environ: Mapping[str, str]) -> DirectorySearch:
    """Find the directory as `tempfile` does, by creating and removing a file in each candidate as the user of this
    process."""
    search = DirectorySearch()
    working = _working_directory()
    wishes = [(f"{name}={environ[name]}", os.path.join(working, environ[name])) for name in _VARIABLES if environ.get(name)]
    last = (f"the working directory {working}", working)
    for place in (*wishes, *((path, path) for path in _DIRECTORIES), last):
        shown, path = place
        try:
            _try(path)
        except OSError as error:
            search.refused.append(f"{shown} ({error.strerror})")
            search.wished = search.wished or place in wishes
            continue
        search.directory = path
        search.last_resort = place is last
        break
    return search


def warning(settings: Settings, environ: Mapping[str, str]) -> str | None:
    """A line for the log if the preferred directory cannot be used; None if it can."""
    search = find_directory(environ)
    refused = ", ".join(search.refused)
    if not search.directory:
        return (
            f"no usable temporary directory: {refused}. Request bodies of more than {settings.body_buffer} bytes "
            f"(body_buffer) will be answered with 500, and responses that clients read slowly will be cut when more than "
            f"{settings.response_buffer} bytes (response_buffer) wait. Set TMPDIR to a directory that this user may write to"
        )
    if search.last_resort:
        return (
            f"no usable temporary directory: {refused}. Temporary files will be in the working directory, "
            f"{search.directory}. Set TMPDIR to another directory that this user may write to"
        )
    if search.wished:
        return f"temporary files will be in {search.directory}, because these places cannot be used: {refused}"
    return None


def create_unnamed(directory: str) -> int:
    """Create a file without a name in `directory`, and return its close-on-exec descriptor. Raises OSError."""
    if not directory:
        raise FileNotFoundError(errno.ENOENT, "no usable temporary directory")
    for _ in range(_TRIES):
        path = os.path.join(directory, f"starman-{os.urandom(8).hex()}")
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            continue
        try:
            os.unlink(path)
        except OSError:
            os.close(fd)
            raise
        return fd
    raise FileExistsError(errno.EEXIST, f"no name for a file is free in {directory}")


def create_in_memory(name: str) -> int:
    """Create a file without a path, close-on-exec, in memory where the system has such files. `name`: what /proc shows
    for it. Raises OSError."""
    try:
        return os.memfd_create(name, os.MFD_CLOEXEC)
    except (AttributeError, OSError):
        # macOS does not have memfd_create, nor does a Python that was built for a C library without it, and a sandbox
        # may forbid it.
        return create_unnamed(find_directory(os.environ).directory)


def _try(directory: str) -> None:
    """Raises OSError when no file can be written in `directory`."""
    fd = create_unnamed(directory)
    try:
        os.write(fd, b"test")
    finally:
        os.close(fd)


def _working_directory() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return os.curdir
