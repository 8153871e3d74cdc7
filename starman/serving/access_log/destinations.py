"""Where the access log goes: a file, standard output, syslog, or the logger `starman.access` of the log process."""

from __future__ import annotations

import os
import select
import time

from starman import log
from starman.errors import SettingError
from starman.log.log_socket import ACCESS
from starman.log.output import Output, open_for_appending
from starman.log.syslog import SyslogFormat, SyslogOutput, open_syslog
from starman.log.syslog_target import SyslogTarget, is_syslog
from starman.standard_streams import output_descriptor

# The severity "informational" of RFC 5424 §6.2.1.
_INFORMATIONAL = 6


def path_of(target: str) -> str | None:
    """The absolute path of the file that the setting access_log means; None if it does not mean a file."""
    # Absolute, because the working directory may be another one when the file is opened again.
    return None if target in ("-", "logging") or is_syslog(target) else os.path.abspath(target)


def open_destination(target: str) -> Output:
    """The output for the value of access_log. Raises SettingError when it cannot be written."""
    if is_syslog(target):
        return open_syslog("access_log", target, _SyslogLines)
    try:
        if target == "logging":
            output = log.duplicate_output(ACCESS)
            if output is None:
                raise SettingError("access_log: logging needs log_config, and has no effect in starman.serve")
            return output
        if target == "-":
            # A duplicate of the descriptor: an application may close standard output.
            return Output(output_descriptor())
        fd = open_for_appending(target)
        try:
            return Output(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise SettingError(f"access_log: cannot write {target}: {error.strerror}") from None


class _SyslogLines(SyslogOutput):
    """Sends each line as a message. One thread at a time."""

    __slots__ = ("_form",)

    def __init__(self, target: SyslogTarget) -> None:
        super().__init__(target)
        self.most_bytes = select.PIPE_BUF
        self._form = SyslogFormat(log.body_format, journal=target.is_journal, message_id="access")

    def write(self, data: bytes) -> int:
        """Send the first line of `data`. Returns its length. See `Output.write`."""
        line, _, _ = data.partition(b"\n")
        super().write(self._form.head(_INFORMATIONAL, time.time(), os.getpid()) + line)
        return len(line) + 1
