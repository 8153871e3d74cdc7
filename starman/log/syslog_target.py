"""Parses where syslog is, as `--error-log` and `--access-log` name it.

Apart from `log.syslog`, so that the master does not load that module without need.
"""

from __future__ import annotations

import os

DEFAULT_PATH = "/dev/log"
DEFAULT_PORT = 514
VALID = "syslog, syslog:PATH or syslog:HOST:PORT"
# The socket of systemd's journal, to which /dev/log leads there. The journal does not read RFC 5424.
_JOURNAL = "/run/systemd/journal/dev-log"


class SyslogTarget:
    """Where messages go: `path` of a UNIX socket, or else the UDP port `port` of `host`."""

    __slots__ = ("host", "path", "port")

    def __init__(self, path: str = "", host: str = "", port: int = 0) -> None:
        self.path = path
        self.host = host
        self.port = port

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.path or f"{host}:{self.port} (UDP)"

    @property
    def is_journal(self) -> bool:
        """Whether systemd's journal reads the socket."""
        return bool(self.path) and os.path.realpath(self.path) == _JOURNAL


def is_syslog(text: str | None) -> bool:
    """Whether the value of `error_log` or `access_log` means syslog, and not a file."""
    return text is not None and (text == "syslog" or text.startswith("syslog:"))


def parse_target(text: str) -> SyslogTarget:
    """Parse `syslog`, `syslog:PATH`, `syslog:HOST` or `syslog:HOST:PORT`. Raises ValueError with the reason."""
    rest = text.removeprefix("syslog").removeprefix(":")
    if not rest:
        if text != "syslog":
            raise ValueError("no socket and no host follow syslog:")
        return SyslogTarget(DEFAULT_PATH)
    if "/" in rest:
        return SyslogTarget(rest)
    if rest.startswith("["):
        host, bracket, port = rest[1:].partition("]")
        if not bracket or port[:1] not in ("", ":"):
            raise ValueError(f"{rest!r} is not [IPv6]:PORT")
        port = port[1:]
    else:
        host, _, port = rest.partition(":")
    if not host:
        raise ValueError(f"the host is missing in {text!r}")
    if ":" in port:
        raise ValueError(f"an IPv6 address needs brackets: syslog:[{rest.rpartition(':')[0]}]:PORT")
    if port and not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536):
        raise ValueError(f"{port!r} is not a port")
    return SyslogTarget("", host, int(port) if port else DEFAULT_PORT)
