"""Reports of a worker or mold to the watcher: the files that the application has loaded.

They go through one pipe that all workers and molds share. A report is a line that the kernel writes in one piece. This
module imports little, because the master holds the pipe.
"""

from __future__ import annotations

import os
import select
import sys
import time

from starman import log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# The longest line that pipe(7) keeps in one piece (bytes).
_MOST_BYTES = select.PIPE_BUF
# How long (seconds) a report waits for a watcher that does not read.
_WAIT_SECONDS = 2.0
_FILE, _DIRECTORY = b"F", b"D"
# How many bytes the watcher reads at once.
_READ_BYTES = 65_536
# The most directories that are watched after an application could not be loaded.
_MOST_DIRECTORIES = 200
_STANDARD_LIBRARY = os.path.dirname(os.__file__) + os.sep
_STARMAN = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))) + os.sep


class ReportPipe:
    """Both ends of the pipe. The master makes it, and every process that it forks inherits it."""

    __slots__ = ("_write_fd", "read_fd")

    def __init__(self) -> None:
        """Raises OSError without descriptors."""
        self.read_fd, self._write_fd = os.pipe()
        os.set_blocking(self.read_fd, False)
        os.set_blocking(self._write_fd, False)

    def close(self) -> None:
        """Close both ends. Idempotent."""
        for fd in (self.read_fd, self._write_fd):
            if fd >= 0:
                os.close(fd)
        self.read_fd = self._write_fd = -1

    def send_files(self, paths: Iterable[str], loaded_after: int) -> None:
        """Report files that were loaded by a process that began at `loaded_after` (ns since the epoch)."""
        self._send(_FILE, paths, loaded_after)

    def send_directories(self, paths: Iterable[str]) -> None:
        """Report directories in which a file may appear that the application needs."""
        self._send(_DIRECTORY, paths, 0)

    def _send(self, kind: bytes, paths: Iterable[str], loaded_after: int) -> None:
        deadline = time.monotonic() + _WAIT_SECONDS
        for path in paths:
            line = b"%s %d %s\n" % (kind, loaded_after, os.fsencode(path))
            if len(line) > _MOST_BYTES or line.count(b"\n") > 1:
                log.warning(f"reload: {path} is not watched: its path is too long, or has several lines")
                continue
            while not self._write(line):
                poll = select.poll()
                poll.register(self._write_fd, select.POLLOUT)
                poll.poll(100)
                if time.monotonic() > deadline:
                    log.warning("reload: the process that watches files does not answer, so some files are not watched")
                    return

    def _write(self, line: bytes) -> bool:
        try:
            os.write(self._write_fd, line)
        except BlockingIOError:
            return False
        except OSError:
            return True  # nothing reads any more: the master has been replaced, or is gone
        return True


class ReportReader:
    """Reads the pipe in the watcher."""

    __slots__ = ("_rest", "fd")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._rest = b""

    def read(self) -> Iterator[tuple[bool, str, int]]:
        """The reports that have arrived: whether it is a directory, the path, and `loaded_after`."""
        try:
            received = os.read(self.fd, _READ_BYTES)
        except OSError:
            return
        *lines, self._rest = (self._rest + received).split(b"\n")
        for line in lines:
            kind, instant, path = line.split(b" ", 2)
            yield kind == _DIRECTORY, os.fsdecode(path), int(instant)


class LoadedFiles:
    """The files of the modules that this process has loaded, as far as they belong to the application. One thread.

    Modules that were there before `begin` are left out: a new worker has them from its mold, and cannot load them
    again.
    """

    __slots__ = ("_pipe", "_seen", "began_at")

    def __init__(self, pipe: ReportPipe) -> None:
        self._pipe = pipe
        self._seen = set(sys.modules)
        # An instant of the clock with which file systems mark changes: it may be some milliseconds behind.
        self.began_at = time.time_ns()

    def report(self) -> None:
        """Report the files of the modules that were loaded since the last call. Cheap when there are none."""
        if len(sys.modules) != len(self._seen):
            new = sys.modules.keys() - self._seen
            self._seen = set(sys.modules)
            self._pipe.send_files(module_files(new), self.began_at)

    def report_failure(self, error: BaseException, directories: Iterable[str]) -> None:
        """Report the files of an application that could not be loaded, and where a missing module may appear."""
        new = sys.modules.keys() - self._seen
        self._seen = set(sys.modules)
        files = list(dict.fromkeys([*module_files(new), *files_of_error(error)]))
        self._pipe.send_files(files, self.began_at)
        places = [*directories, *(path or os.getcwd() for path in sys.path), *map(os.path.dirname, files)]
        found = dict.fromkeys(os.path.abspath(place) for place in places if is_own(os.path.join(os.path.abspath(place), "")))
        self._pipe.send_directories([place for place in found if os.path.isdir(place)][:_MOST_DIRECTORIES])


def module_files(names: Iterable[str]) -> list[str]:
    """The files of these modules, as absolute paths, without those of installed packages and of the standard
    library."""
    found = []
    for name in names:
        # Not getattr: a lazy module would load itself.
        file = getattr(sys.modules.get(name), "__dict__", {}).get("__file__")
        if isinstance(file, str) and is_own(path := os.path.abspath(file)):
            found.append(path)
    return found


def files_of_error(error: BaseException) -> list[str]:
    """The files in the traceback of `error` and of its causes, and the file with a syntax error."""
    found: list[str] = []
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        current = waiting.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        waiting += [current.__cause__, current.__context__]
        if isinstance(current, SyntaxError) and current.filename:
            found.append(current.filename)
        trace = current.__traceback__
        while trace is not None:
            found.append(trace.tb_frame.f_code.co_filename)
            trace = trace.tb_next
    paths = [os.path.abspath(path) for path in dict.fromkeys(found) if not path.startswith("<")]
    return [path for path in paths if is_own(path)]


def is_own(path: str) -> bool:
    """Whether an absolute path is outside of installed packages, the standard library and starman."""
    parts = path.split(os.sep)
    if "site-packages" in parts or "dist-packages" in parts:
        return False
    return not path.startswith((_STANDARD_LIBRARY, _STARMAN)) and not path.endswith(".zip" + os.sep)
