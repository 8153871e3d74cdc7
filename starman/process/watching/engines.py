"""What wakes the watcher: a timer, or the operating system through the package watchfiles. Runs in the watcher.

An engine only says when to look. The watcher itself compares the files, so both engines find the same changes.
"""

from __future__ import annotations

import contextlib
import os
import time

from starman import log
from starman.errors import SettingError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from starman.config.settings import Settings

# How often (seconds) all files are compared without watchfiles.
POLL_SECONDS = 0.1
# Comparing files takes at most this share of the time of one CPU.
MOST_SHARE = 0.02
# With watchfiles, files are compared this often (seconds) even without an event: network file systems and the mounts
# of virtual machines report none.
SAFETY_SECONDS = 2.0
# For so long (seconds) after the directories were set, files are compared as often as without watchfiles: events that
# come before the thread listens are lost.
_SETTING_SECONDS = 1.0
# How long (milliseconds) watchfiles collects events: at most, and without a further one.
_DEBOUNCE, _STEP = 50, 10
# How often (milliseconds) a thread of watchfiles looks whether it is to end.
_CHECK = 1000


class Polling:
    """Wakes the watcher at intervals. fd: -1, because no descriptor becomes readable."""

    name = "polling"
    fd = -1

    def interval(self, cost: float) -> float:
        """Seconds until the files are compared again; `cost`: the seconds of a CPU that it took last time."""
        return max(POLL_SECONDS, cost / MOST_SHARE)

    def set_directories(self, directories: frozenset[str]) -> None:
        """Have changes in these directories wake the watcher."""

    def clear(self) -> None:
        """Read what `fd` has to read."""


class Watchfiles(Polling):
    """Wakes the watcher when the operating system reports a change. `fd` becomes readable then.

    A thread waits for events. It takes no lock of the watcher's, and writes to a pipe.
    """

    name = "watchfiles"

    def __init__(self, is_of_interest: Callable[[str], bool]) -> None:
        """`is_of_interest` says of a path whether to wake the watcher for it; the thread calls it. Raises ImportError
        if watchfiles is not installed."""
        import watchfiles

        self._watch = watchfiles.watch
        self._is_of_interest = is_of_interest
        self._directories: frozenset[str] = frozenset()
        self._stop = _Stop()
        self._failed = False
        self._set_at = float("-inf")
        self.fd, self._write_fd = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._write_fd, False)

    def interval(self, cost: float) -> float:
        if self._failed or time.monotonic() - self._set_at < _SETTING_SECONDS:
            return super().interval(cost)
        return max(SAFETY_SECONDS, cost / MOST_SHARE)

    def set_directories(self, directories: frozenset[str]) -> None:
        import threading

        present = frozenset(path for path in directories if os.path.isdir(path))
        if present == self._directories:
            return
        self._stop.set()
        self._stop, self._directories = _Stop(), present
        self._set_at = time.monotonic()
        if present:
            threading.Thread(target=self._wait, args=(present, self._stop), daemon=True).start()

    def clear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 4096)

    def _wait(self, directories: frozenset[str], stop: _Stop) -> None:
        """Write to the pipe at each change. In a thread of its own."""
        try:
            events = self._watch(
                *sorted(directories),
                watch_filter=lambda _, path: self._is_of_interest(path),
                debounce=_DEBOUNCE,
                step=_STEP,
                rust_timeout=_CHECK,
                stop_event=stop,
                recursive=False,
                raise_interrupt=False,
            )
            for _ in events:
                if stop.is_set():
                    return
                self._wake()
        except FileNotFoundError:
            self._directories = frozenset()  # one of them has gone: the watcher sets others
            self._wake()
        except Exception as error:  # no more inotify watches, for example
            if not stop.is_set() and not self._failed:
                self._failed = True
                log.warning(f"reload: watchfiles has failed ({error}), so changes are found by polling")
                self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._write_fd, b"x")


class _Stop:
    """Tells a thread of watchfiles to end."""

    __slots__ = ("_is_set",)

    def __init__(self) -> None:
        self._is_set = False

    def set(self) -> None:
        self._is_set = True

    def is_set(self) -> bool:
        return self._is_set


def check_reload_engine(settings: Settings) -> None:
    """Raise SettingError if the package that `reload_engine` names is not installed. In the master."""
    if settings.reload and settings.reload_engine == "watchfiles":
        from importlib.util import find_spec

        if find_spec("watchfiles") is None:
            raise SettingError(
                f"{settings.source('reload_engine')}: the package watchfiles is not installed: pip install watchfiles, or use "
                "--reload-engine poll"
            )


def make_engine(name: str, is_of_interest: Callable[[str], bool]) -> Polling:
    """The engine of the setting `reload_engine`: auto, watchfiles or poll. auto polls if watchfiles is not
    installed."""
    if name != "poll":
        try:
            return Watchfiles(is_of_interest)
        except ImportError as error:
            if name == "watchfiles":
                log.warning(f"reload: watchfiles cannot be imported ({error}), so changes are found by polling")
    return Polling()
