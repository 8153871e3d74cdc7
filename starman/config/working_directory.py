"""Remembers the start directory and the --chdir directory by name, so that new processes follow a changed link.

A deploy may switch a symbolic link and remove the old release. The system keeps the directory of a process, but not
the name by which the process entered it. So each process that loads the application enters the directory by its name
again. The master imports this module.
"""

from __future__ import annotations

import os
import sys

from starman.errors import SettingError, StartError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def started_in(environ: Mapping[str, str]) -> str:
    """The absolute path of the working directory: the name in PWD, which shells set, if it leads there; else the real
    path.

    Raises StartError when the directory has been removed.
    """
    try:
        name = environ.get("PWD", "")
        if name.startswith("/") and not {".", ".."} & set(name.split("/")) and os.path.samefile(name, "."):
            return name
    except OSError:
        pass  # it leads nowhere
    try:
        return os.getcwd()
    except OSError as error:
        raise StartError(f"cannot use the working directory: {error.strerror}") from None


class WorkingDirectory:
    """The directory in which the server was started, and `base`, its `chdir`. Both by name."""

    __slots__ = ("_real", "base", "start")

    def __init__(self, start: str, chdir: str | None = None) -> None:
        """Both directories must exist now."""
        self.start = start
        self.base = os.path.join(start, chdir) if chdir else start
        # The real path of each name, which sys.path may contain.
        self._real = {name: os.path.realpath(name) for name in (self.start, self.base)}

    def absolute(self, path: str) -> str:
        """Make `path` absolute, relative to the name of `base`."""
        return os.path.join(self.base, path)

    def enter(self) -> None:
        """Change to the directory that the base's name leads to now, and update sys.path. Raises SettingError if
        there is none.

        Call it in a separate process, before that process loads the application.
        """
        try:
            os.chdir(self.base)
        except OSError as error:
            if isinstance(error, PermissionError) and _is_somewhere():
                return  # root started the server in a directory that its user may not enter: stay in it
            raise SettingError(f"cannot change to {self.base}: {error.strerror}") from None
        for name, old in self._real.items():
            new = self._real[name] = os.path.realpath(name)
            if new != old:
                sys.path[:] = [new + entry[len(old) :] if f"{entry}/".startswith(f"{old}/") else entry for entry in sys.path]
                sys.path_importer_cache.clear()


def _is_somewhere() -> bool:
    """Whether the working directory still exists."""
    try:
        os.getcwd()
    except OSError:
        return False
    return True
