"""What files looked like when they were last compared. Runs in the watcher only."""

from __future__ import annotations

import glob
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    # When a file was last changed (ns), its size (bytes) and its inode. None: there is no such file.
    Signature = tuple[int, int, int] | None

# Files that a broken application may be waiting for. Other files come and go for reasons of their own.
SOURCES = (".py", ".json", ".toml", ".yaml", ".yml", ".ini", ".cfg", ".conf", ".env")
# The most entries of one directory that are compared.
_MOST_ENTRIES = 2000


def signature_of(path: str) -> Signature:
    """What the file at `path` looks like now. Symbolic links are followed."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


class Snapshot:
    """The watched files and what they looked like.

    files: those that were added by name. A file stays after it was removed: it may come back. directories: all source
    files in them are watched too, until `forget_directories`. patterns: globs of more files, as absolute paths. moved:
    whether `places` may return other directories than before; the caller resets it.
    """

    __slots__ = ("_in_directories", "_matched", "directories", "files", "moved", "patterns")

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        self.files: dict[str, Signature] = {}
        self.directories: set[str] = set()
        self.patterns = tuple(patterns)
        self._in_directories: dict[str, Signature] = {}
        self._matched: dict[str, Signature] = self._expand()
        self.moved = True

    def add_file(self, path: str, loaded_after: int) -> bool:
        """Watch `path`. Returns whether it is new here and was changed after `loaded_after` (ns since the epoch), when
        the process began that has loaded it, so that the process may run older code."""
        if path in self.files:
            return False
        self.moved = True
        signature = self.files[path] = self._matched.get(path) or signature_of(path)
        return signature is None or signature[0] > loaded_after

    def add_directory(self, path: str) -> None:
        """Watch the source files in `path`, and those that are created there."""
        if path not in self.directories:
            self.moved = True
            self.directories.add(path)
            self._in_directories.update(_sources_in(path))

    def forget_directories(self) -> None:
        """Watch the files in directories no longer."""
        self.directories.clear()
        self._in_directories.clear()

    def find_changes(self, *, patterns: bool) -> list[str]:
        """The files that have changed, appeared or gone since the last call. `patterns`: expand the globs again, which
        may take long; else look only at files that they have matched before."""
        changed = [path for path, before in self.files.items() if signature_of(path) != before]
        for path in changed:
            self.files[path] = signature_of(path)
        now: dict[str, Signature] = {}
        for directory in self.directories:
            now.update(_sources_in(directory))
        changed += _differences(self._in_directories, now)
        self._in_directories = now
        matched = self._expand() if patterns else {path: signature_of(path) for path in self._matched}
        changed += _differences(self._matched, matched)
        self._matched = matched
        self.moved = self.moved or bool(changed)
        return list(dict.fromkeys(changed))

    def places(self) -> frozenset[str]:
        """The directories in which a watched file may change. Links lead to further ones."""
        paths = [*self.files, *self._matched]
        found = {os.path.dirname(path) for path in paths} | {os.path.dirname(os.path.realpath(path)) for path in paths}
        return frozenset(found | self.directories)

    def is_of_interest(self, path: str) -> bool:
        """Whether a change of `path` may be one of a watched file. May say yes too often. Any thread."""
        return path in self.files or path.endswith(SOURCES) or bool(self.patterns)

    def _expand(self) -> dict[str, Signature]:
        paths = [path for pattern in self.patterns for path in glob.iglob(pattern, recursive=True)]
        return {path: signature_of(path) for path in paths if not os.path.isdir(path)}


def _sources_in(directory: str) -> dict[str, Signature]:
    """The source files in a directory, and its subdirectories without what they look like: a package may appear."""
    found: dict[str, Signature] = {}
    try:
        with os.scandir(directory) as entries:
            for _, entry in zip(range(_MOST_ENTRIES), entries, strict=False):
                if entry.name.endswith(SOURCES):
                    found[entry.path] = signature_of(entry.path)
                elif entry.name != "__pycache__" and entry.is_dir():
                    found[entry.path] = 0, 0, 0
    except OSError:
        return found  # the directory is gone, or may not be read
    return found


def _differences(before: dict[str, Signature], now: dict[str, Signature]) -> list[str]:
    return [path for path in {**before, **now} if before.get(path) != now.get(path)]
