"""The directories that the server was started in and works in, by name.

A deploy may switch a symbolic link, and remove the old release. A process remembers a directory, not the name by which it came
there. So each process that loads the application enters the directory by its name once more. Imported by the master.
"""

from __future__ import annotations

import os
import sys

from starman.errors import SettingError, StartError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def started_in(environ: Mapping[str, str]) -> str:
    """The working directory, absolute, by the name in PWD if that leads there, as shells have it; else without symbolic links.

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
        raise StartError(f"the working directory cannot be used: {error.strerror}") from None


class Workdir:
    """Where the server was started, and where it works: its base, which is `chdir` as seen from there. Both by name."""

    __slots__ = ("_real", "base", "start")

    def __init__(self, start: str, chdir: str | None = None) -> None:
        """Both must be there now."""
        self.start = start
        self.base = os.path.join(start, chdir) if chdir else start
        # Where the names led, as sys.path may have it.
        self._real = {name: os.path.realpath(name) for name in (self.start, self.base)}

    def absolute(self, path: str) -> str:
        """`path` as it is meant by somebody who stands in the base, by name."""
        return os.path.join(self.base, path)

    def enter(self) -> None:
        """Go to the base, wherever its name leads now, and have sys.path follow. Raises SettingError if it leads nowhere.

        In a process of its own, before it loads the application.
        """
        try:
            os.chdir(self.base)
        except OSError as error:
            if isinstance(error, PermissionError) and _is_somewhere():
                return  # root has started the server where its user may not go: it stays there
            raise SettingError(f"cannot change to {self.base}: {error.strerror}") from None
        for name, old in self._real.items():
            new = self._real[name] = os.path.realpath(name)
            if new != old:
                sys.path[:] = [new + entry[len(old) :] if f"{entry}/".startswith(f"{old}/") else entry for entry in sys.path]
                sys.path_importer_cache.clear()


def _is_somewhere() -> bool:
    """Whether the working directory has not been removed."""
    try:
        os.getcwd()
    except OSError:
        return False
    return True
