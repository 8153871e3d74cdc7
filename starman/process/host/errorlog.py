"""Points descriptor 2 at the file of the error log, or the log at syslog, in the master and so in all its forks.

The file then has all that is written to standard error: by the application, by a C library, and by a crashing
interpreter. With syslog, standard error stays as it is.
"""

from __future__ import annotations

import os

from starman import log
from starman.errors import SettingError
from starman.log.output import open_for_appending
from starman.log.syslog_target import is_syslog, parse_target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from starman.config.settings import Settings
    from starman.log.output import Output
    from starman.log.syslog import SyslogOutput
    from starman.process.host.log_process import LogProcess


class ErrorLog:
    """Points descriptor 2 at a file, or the log at syslog, until the end of a `with` block. The master's main thread
    calls."""

    __slots__ = ("_before", "_given_path", "_opened", "_path", "_process", "_saved", "_syslog")

    def __init__(
        self, path: str | None, *, opened: bool = False, directory: str | None = None, process: LogProcess | None = None
    ) -> None:
        """`path` None: standard error is the error log, and stays as it is. `opened`: descriptor 2 points at the file
        already. `directory`: the base of a relative `path`; None: the working directory. `process`: the log process
        (`--log-config`), which gets all records."""
        self._given_path = path
        self._process = process
        self._syslog: SyslogOutput | None = None
        self._before: Output | None = None
        # Absolute, so that a later change of the working directory does not move it.
        self._path = None if path is None or is_syslog(path) else os.path.join(directory or os.getcwd(), path)
        self._opened = opened
        self._saved = -1

    def __enter__(self) -> ErrorLog:
        """Raises SettingError when the file cannot be written, or when there is no syslog."""
        if self._given_path is not None and is_syslog(self._given_path):
            from starman.log import syslog

            self._syslog = syslog.open_syslog("error_log", self._given_path, syslog.SyslogOutput)
            form = syslog.SyslogFormat(log.body_format, journal=parse_target(self._given_path).is_journal)
            self._before = log.use_output(self._syslog, form)
        elif self._path is not None and not self._opened:
            try:
                fd = open_for_appending(self._path)
            except OSError as error:
                raise SettingError(f"error_log: cannot write {self._given_path}: {error.strerror}") from None
            self._saved = os.dup(2)
            _point_at(fd)
        if self._process is not None:
            self._start_process(self._process)
        return self

    def _start_process(self, process: LogProcess) -> None:
        try:
            process.start()
        except SettingError as error:
            self._process = None
            if not self._opened:
                self.__exit__()
                raise
            # After an upgrade, the server goes on.
            log.error(f"the error log does not go to Python's logging: {error}")

    def check(self, now: float) -> None:
        """Start the log process again if it has ended. In each round of the master's loop."""
        if self._process is not None:
            self._process.check(now)

    def next_instants(self) -> list[float]:
        """The monotonic instants at which `check` is to be called even if nothing happens."""
        return [] if self._process is None else self._process.next_instants()

    def __exit__(self, *exc_info: object) -> None:
        if self._process is not None:
            self._process.stop()
        if self._syslog is not None:
            log.finish()
            log.use_output(self._before, None)
            self._syslog.close()
        elif self._saved >= 0:
            _point_at(self._saved)

    def reopen(self) -> bool:
        """Point descriptor 2 at the file that now has the path. False: the error log is not a file, and there is no
        descriptor for other processes.

        Raises OSError when the file cannot be opened; the old file stays in use.
        """
        if self._process is not None:
            self._process.reopen()
        if self._path is None:
            return False
        _point_at(open_for_appending(self._path))
        return True


def log_process_of(settings: Settings, directory: str) -> LogProcess | None:
    """The process that passes records to Python's `logging`; None: the settings ask for none. `directory`: the base of
    relative paths."""
    config = settings.log_config
    if config is None:
        return None
    from starman.process.host.log_process import LogProcess

    located = os.path.join(directory, config) if isinstance(config, str) else config
    path = [*(os.path.join(directory, entry) for entry in settings.include), directory]
    return LogProcess(located, path, access=settings.access_log == "logging", title=not settings.disable_proctitle)


def _point_at(fd: int) -> None:
    """Point descriptor 2, and the descriptor that `log` writes to, at the file of `fd`. Closes `fd`."""
    os.dup2(fd, 2)
    os.close(fd)
    log.renew_own_descriptor()
