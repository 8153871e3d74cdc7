"""Starts the log process for `--log-config`, watches it, and starts it again if it ends. The master never imports
logging.

The master keeps both ends of the socket. So what other processes have sent outlives the log process, and its
successor logs it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time

from starman import log
from starman.errors import SettingError
from starman.log.formats import FORMATS, WARNING, Record
from starman.log.log_socket import END, REOPEN, LogSocketFormat, open_pair
from starman.process import parent_death
from starman.process.forking import GUARDED, fork
from starman.process.proctitle import set_title

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

    from starman.log.output import Output

# How long (seconds) the configuration may take to be applied, and the last records to be logged.
_START_SECONDS = 30.0
_END_SECONDS = 5.0
# The pause (seconds) before the process is started again doubles from the first to the second.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
# Signals for the whole process group, which the log process outlives.
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class LogProcess:
    """The master's main thread calls."""

    __slots__ = (
        "_access",
        "_before",
        "_config",
        "_next_start",
        "_output",
        "_path",
        "_pause",
        "_pid",
        "_reading",
        "_report",
        "_title",
    )

    def __init__(self, config: str | Mapping[str, object], path: list[str], *, access: bool, title: bool = True) -> None:
        """`config`: a mapping, or the absolute path of a file. `path`: directories to import handlers from. `access`:
        whether the access log goes to `logging`, too. `title`: whether the process has a title."""
        self._title = title
        self._config = config
        self._path = path
        self._access = access
        self._before: Output | None = None
        self._pid = self._report = -1
        self._pause = _FIRST_PAUSE
        self._next_start: float | None = None

    def start(self) -> None:
        """Start the process, and send all records there. Raises SettingError when the configuration is wrong."""
        try:
            self._reading, self._output = open_pair()
            self._fork()
        except OSError as error:
            raise SettingError(f"log_config: the log process cannot be started: {error.strerror}") from None
        failure = self._outcome()
        if failure is not None:
            self._close()
            raise SettingError(failure)
        self._before = log.use_output(self._output, LogSocketFormat())

    def _outcome(self) -> str | None:
        """Wait until the configuration is applied. Returns what is wrong; None: nothing."""
        poll = select.poll()
        poll.register(self._report, select.POLLIN)
        if not poll.poll(_START_SECONDS * 1000):
            os.kill(self._pid, signal.SIGKILL)
            return f"log_config: the configuration was not applied within {_START_SECONDS:g} s"
        data = os.read(self._report, 8192)
        if data == b"\0":
            return None
        return data.decode("utf-8", "replace") or "log_config: the log process has ended while it applied the configuration"

    def check(self, now: float) -> None:
        """Start the process again if it has ended. Call it in each round of the master's loop."""
        if self._next_start is None and self._report >= 0 and self._has_ended():
            os.close(self._report)
            self._report = -1
            self._next_start = now + self._pause
            _say(f"the log process has ended; it is started again in {self._pause:g} s")
            self._pause = min(self._pause * 2, _LONGEST_PAUSE)
        if self._next_start is not None and now >= self._next_start:
            self._next_start = None
            try:
                self._fork()
            except OSError as error:
                self._next_start = now + self._pause
                _say(f"the log process cannot be started: {error.strerror}")

    def next_instants(self) -> list[float]:
        """The monotonic instants at which `check` is to be called even if nothing happens."""
        return [] if self._next_start is None else [self._next_start]

    def reopen(self) -> None:
        """Have the process read its configuration again, which opens its files again."""
        log.put_packet(REOPEN)

    def stop(self) -> None:
        """Wait until the last records are logged, and end the process. If it has been killed, it is started once more,
        for the records that it has left."""
        log.put_packet(END)
        log.finish()
        log.use_output(self._before, None)
        self._start_if_ended()
        if self._report >= 0 and not self._ended_within(_END_SECONDS):
            _say(f"the log process has not logged the last records within {_END_SECONDS:g} s, and is killed")
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            self._ended_within(1.0)
        elif select.select([self._reading], [], [], 0)[0]:
            _say("the log process has ended, and the last records are lost")
        self._close()

    def _start_if_ended(self) -> None:
        if self._report >= 0:
            if not self._has_ended():
                return
            if not select.select([self._reading], [], [], 0)[0]:
                return  # it has ended in order
            os.close(self._report)
            self._report = -1
        self._next_start = None
        with contextlib.suppress(OSError):
            self._fork()

    def _close(self) -> None:
        self._output.close()
        os.close(self._reading)
        if self._report >= 0:
            os.close(self._report)
            self._report = -1
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._pid, 0 if self._next_start is None else os.WNOHANG)

    def _has_ended(self) -> bool:
        """Whether the other end of the pipe is closed, which stays open while the process lives."""
        poll = select.poll()
        poll.register(self._report, select.POLLIN)
        while poll.poll(0):
            if not (data := os.read(self._report, 8192)):
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(self._pid, os.WNOHANG)
                return True
            if data != b"\0":
                _say(data.decode("utf-8", "replace"))
            else:
                self._pause = _FIRST_PAUSE
        return False

    def _ended_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        poll = select.poll()
        poll.register(self._report, select.POLLIN)
        while (left := deadline - time.monotonic()) > 0:
            if poll.poll(left * 1000) and not os.read(self._report, 8192):
                return True
        return False

    def _fork(self) -> None:
        reading, writing = os.pipe()
        try:
            self._pid = fork()
        except OSError:
            os.close(reading)
            raise
        finally:
            if self._pid:
                os.close(writing)
        if not self._pid:
            self._be_log_process(writing)
        self._report = reading

    def _be_log_process(self, report: int) -> NoReturn:
        try:
            parent_death.untie()
            for signum in _IGNORED:
                signal.signal(signum, signal.SIG_IGN)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, GUARDED)
            _close_all_but({0, 1, 2, self._reading, report})
            log.use_output(None, None)
            if self._title:
                set_title("starman log")
            from starman.process.logging_config import run

            run(self._config, self._reading, report, self._path, self._access)
        except BaseException as error:
            _say(f"the log process failed: {type(error).__name__}: {error}")
        finally:
            os._exit(0)


def _close_all_but(kept: set[int]) -> None:
    """Close what the fork has inherited: listeners, channels and the pid file belong to the master."""
    try:
        fds = [int(name) for name in os.listdir("/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd")]
    except OSError:
        fds = list(range(3, 4096))
    for fd in fds:
        if fd not in kept:
            with contextlib.suppress(OSError):
                os.close(fd)


def _say(text: str) -> None:
    """Write a warning to standard error, because the log process is away."""
    with contextlib.suppress(OSError):
        os.write(2, FORMATS["text"].encode(Record(WARNING, text, os.getpid()))[0])
