"""The file of the error log: descriptor 2 points at it, in the master and in all that descends from it.

Whatever writes to standard error is then in it: the application, a C library, the interpreter at its worst moment.
"""

from __future__ import annotations

import os

from starman import log
from starman.errors import SettingError
from starman.log.output import open_for_appending


class ErrorLog:
    """Points descriptor 2 at a file until the end of a `with` block. The master's main thread calls."""

    __slots__ = ("_kept", "_opened", "_path", "_written")

    def __init__(self, path: str | None, *, opened: bool = False, directory: str | None = None) -> None:
        """`path` None: standard error is the error log, and nothing is changed. `opened`: descriptor 2 points at it already.
        `directory`: what `path` is relative to, by name; None: the working directory."""
        self._written = path
        # As it is meant now, wherever the process may be when it is opened again.
        self._path = None if path is None else os.path.join(directory or os.getcwd(), path)
        self._opened = opened
        self._kept = -1

    def __enter__(self) -> ErrorLog:
        """Raises SettingError when the file cannot be written."""
        if self._path is not None and not self._opened:
            try:
                fd = open_for_appending(self._path)
            except OSError as error:
                raise SettingError(f"error_log: cannot write {self._written}: {error.strerror}") from None
            self._kept = os.dup(2)
            _point_at(fd)
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._kept >= 0:
            _point_at(self._kept)

    def reopen(self) -> bool:
        """Point descriptor 2 at the file that the path leads to now. False: there is no file, so nothing was done.

        Raises OSError when it cannot be opened; the old file stays in use.
        """
        if self._path is None:
            return False
        _point_at(open_for_appending(self._path))
        return True


def _point_at(fd: int) -> None:
    """Point descriptor 2, and the log's own, at the file of `fd`, then close `fd`."""
    os.dup2(fd, 2)
    os.close(fd)
    log.renew_own()
