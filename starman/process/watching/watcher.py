"""The watcher: a process that reports to the master when files of the application change (`--reload`).

It does not load the application. Workers and molds report the files of their modules to it (`reports.py`).
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import select
import time

from starman import log
from starman.process.messages import Changed, Changing
from starman.process.watching.debounce import Debounce
from starman.process.watching.engines import MOST_SHARE, make_engine
from starman.process.watching.reports import ReportReader
from starman.process.watching.snapshot import Snapshot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from starman.process.channel import Channel

# Files are compared no sooner than this after the last time (seconds), however many events there are.
_LEAST_SECONDS = 0.02
# How many changed files the log names.
_NAMED = 2


class Watcher:
    """Watches until the master closes its end of `channel`. One thread, beside those of the engine."""

    __slots__ = ("_channel", "_debounce", "_engine", "_expand_at", "_look_at", "_looked_at", "_reader", "_snapshot")

    def __init__(self, channel: Channel, reports: int, patterns: Sequence[str], engine: str) -> None:
        """reports: the descriptor of the reports. patterns: globs of files to watch beside the application's. engine:
        the setting `reload_engine`."""
        self._channel = channel
        self._reader = ReportReader(reports)
        self._snapshot = Snapshot(patterns)
        self._debounce = Debounce()
        self._engine = make_engine(engine, self._snapshot.is_of_interest)
        self._looked_at = self._look_at = self._expand_at = time.monotonic()

    def run(self) -> None:
        """Report changes until the master is gone."""
        log.info(f"watching the files of the application ({self._engine.name}): --reload is for development only")
        poll = select.poll()
        for fd in (self._channel.fileno(), self._reader.fd, self._engine.fd):
            if fd >= 0:
                poll.register(fd, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll(self._wait_milliseconds())}
            if self._channel.fileno() in ready:
                return
            if self._reader.fd in ready:
                self._read_reports()
            if self._engine.fd in ready:
                self._engine.clear()
                self._look_at = min(self._look_at, max(time.monotonic(), self._looked_at + _LEAST_SECONDS))
            self._compare()

    def _wait_milliseconds(self) -> int:
        instants = [self._look_at, *([] if self._debounce.settled_at is None else [self._debounce.settled_at])]
        # Rounded up: a poll that ends too early would spin.
        return max(0, int((min(instants) - time.monotonic()) * 1000) + 1)

    def _read_reports(self) -> None:
        changed = []
        for is_directory, path, loaded_after in self._reader.read():
            if is_directory:
                self._snapshot.add_directory(path)
            elif self._snapshot.add_file(path, loaded_after):
                changed.append(path)
        # A look follows, because events from before the directories were set are lost.
        self._look_at = min(self._look_at, self._looked_at + _LEAST_SECONDS)
        self._note(changed)

    def _compare(self) -> None:
        """Compare the files if it is time to, and report changes that have settled."""
        now = time.monotonic()
        settled_at = self._debounce.settled_at
        if now >= self._look_at or (settled_at is not None and now >= settled_at):
            if self._engine.fd >= 0 and self._snapshot.moved:
                self._engine.set_directories(self._snapshot.places())
                self._snapshot.moved = False
            expands = now >= self._expand_at
            used = time.thread_time()  # a busy machine must not make it look less often
            self._note(self._snapshot.find_changes(patterns=expands))
            self._looked_at = time.monotonic()
            cost = time.thread_time() - used
            if expands:  # globs that take long are expanded less often, and do not delay the other files
                self._expand_at = self._looked_at + cost / MOST_SHARE
            self._look_at = self._looked_at + self._engine.interval(0.0 if expands and self._snapshot.patterns else cost)
        changed = self._debounce.take(time.monotonic())
        if changed:
            self._snapshot.forget_directories()
            for path in changed:
                _remove_bytecode(path)
            self._channel.send_waiting(Changed(_described(changed)))

    def _note(self, changed: Sequence[str]) -> None:
        if self._debounce.add_changes(changed, time.monotonic()):
            # At once, so that no request gets old code any more.
            self._channel.send_waiting(Changing())


def _remove_bytecode(path: str) -> None:
    """Remove the cached bytecode of a changed module. Python takes it for current if the source has the same size and
    was changed in the same second."""
    if path.endswith(".py"):
        with contextlib.suppress(OSError, NotImplementedError):
            os.unlink(importlib.util.cache_from_source(path))


def _described(paths: Sequence[str]) -> str:
    """The changed files for the log: "a.py, b.py and 3 more"."""
    names = ", ".join(_shortest(path) for path in paths[:_NAMED])
    more = len(paths) - _NAMED
    return f"{names} and {more} more" if more > 0 else names


def _shortest(path: str) -> str:
    relative = os.path.relpath(path)
    return path if relative.startswith(os.pardir) else relative
