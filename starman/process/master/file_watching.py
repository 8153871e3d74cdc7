"""The watcher, as the master sees it: starts its process, passes its reports on to the supervisor, and replaces it.

Like a trial, the watcher is a child with a link and without a number in the supervisor. Without `--reload` there is
none.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

from starman import log
from starman.log.tracebacks import format_exception
from starman.process.forking import fork, install_handlers
from starman.process.messages import FROM_WATCHER, Changed, Changing
from starman.process.status import Phase

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from starman.process.channel import Channel
    from starman.process.master.links import Links
    from starman.process.master.reaper import Reaper
    from starman.process.message_base import Message
    from starman.process.supervision.supervisor import Supervisor
    from starman.process.worker_spec import WorkerSpec

# How long after the watcher has died another one is started (seconds).
_PAUSE = 1.0
# How many modules the warning about them names.
_NAMED = 5


class FileWatching:
    """At most one watcher at a time. Only the master's loop calls.

    number: the number of the watcher's link, which no worker or mold has. deadline: the monotonic instant at which
    `check` starts a watcher; None if one runs, or none is to run.
    """

    __slots__ = ("_abandon", "_links", "_reaper", "_spec", "_supervisor", "deadline", "number")

    def __init__(
        self,
        number: int,
        spec: WorkerSpec,
        supervisor: Supervisor,
        links: Links,
        reaper: Reaper,
        abandon: Callable[[], None],
    ) -> None:
        """`abandon` closes, in a fresh fork, the descriptors that belong to the master."""
        self.number = number
        self._spec = spec
        self._supervisor = supervisor
        self._links = links
        self._reaper = reaper
        self._abandon = abandon
        self.deadline: float | None = None
        if spec.reports is not None:
            self.deadline = time.monotonic()
            _warn_of_imported_modules()

    def check(self, now: float) -> None:
        """Start a watcher if it is time to. Call it in each round of the loop."""
        if self.deadline is None or now < self.deadline or self._supervisor.phase is Phase.STOPPING:
            return
        self.deadline = None
        try:
            channel = self._links.open_link(self.number, FROM_WATCHER)
        except OSError as error:
            self._retry(f"cannot create a channel: {error.strerror}")
            return
        link = self._links.find_link(self.number)
        assert link is not None
        try:
            pid = fork()
        except OSError as error:
            channel.close()
            self._links.remove_link(link)
            self._retry(f"cannot create a process: {error.strerror}")
            return
        if pid == 0:
            self._run_child(channel)
        channel.close()
        link.pid = pid
        self._reaper.track(pid, link.opened_at)

    def _run_child(self, channel: Channel) -> NoReturn:
        try:
            self._abandon()
            install_handlers(stop_ends=True)
            self._spec.set_title("watcher")
            from starman.process.watching.watcher import Watcher

            settings, reports = self._spec.settings, self._spec.reports
            assert reports is not None
            absolute = self._spec.program.working_directory.absolute
            patterns = [absolute(pattern) for pattern in settings.reload_extra_files]
            Watcher(channel, reports.read_fd, patterns, settings.reload_engine).run()
        except BaseException as error:
            log.error(f"the process that watches files failed\n{format_exception(error)}")
        finally:
            log.finish()
            os._exit(0)

    def on_message(self, message: Message) -> None:
        """The watcher has sent `message`."""
        if isinstance(message, Changing):
            self._supervisor.code_changes.on_changing()
        elif isinstance(message, Changed):
            self._supervisor.code_changes.on_changed(message.reason)

    def on_gone(self, how: str) -> None:
        """The watcher has ended, and its link is removed. `how` completes a sentence."""
        if self._supervisor.phase is Phase.STOPPING:
            return
        self._retry(how)
        # The next watcher learns the files from new workers only.
        self._supervisor.code_changes.on_changed("files may have changed meanwhile")

    def _retry(self, how: str) -> None:
        log.error(f"the process that watches files {how}; it is started again")
        self.deadline = time.monotonic() + _PAUSE

    def cancel(self) -> None:
        """Kill the watcher, and start none any more."""
        self.deadline = None
        link = self._links.find_link(self.number)
        if link is None:
            return
        if link.pid is not None and self._reaper.owns_process(link.pid):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(link.pid, signal.SIGKILL)
        self._links.remove_link(link)


def _warn_of_imported_modules() -> None:
    """Log the modules that every worker inherits: those that the program has imported that calls `starman.run`."""
    from starman.process.watching.reports import module_files

    names = sorted(name for name in list(sys.modules) if name not in ("__main__", "__mp_main__") and module_files([name]))
    if names:
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        log.warning(
            f"reload: the calling program has imported these modules, which stay as they are: {', '.join(names[:_NAMED])}{more}"
        )
