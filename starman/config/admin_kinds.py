"""The kinds of values that the settings of the admin HTTP and of statsd have. The master imports this module."""

from __future__ import annotations

from starman.config.addresses import tcp_address
from starman.config.kinds import ValueKind
from starman.config.units import seconds_meant
from starman.config.value_parsing import read_text
from starman.errors import SettingError

STATSD_PORT = 8125
ANY_HOST = "*"
_UNIX = ("unix://", "unix:")


def read_token(value: object) -> str:
    """A token of RFC 6750 §2.1, or "@" and a path."""
    token = read_text(value)
    if token.startswith("@"):
        if len(token) == 1:
            raise ValueError
    elif not token.isascii() or " " in token:
        raise ValueError
    return token


def read_host(text: str) -> str:
    """A name as browsers write it in Host, in lower case, without a port; or ANY_HOST."""
    if text == ANY_HOST:
        return text
    if ":" in text or "/" in text:
        raise ValueError(f"{text!r} is not a name alone: leave out the scheme, the port and the path")
    name = text.lower().removesuffix(".")
    if not name.isascii() or not all(label.replace("-", "").replace("_", "").isalnum() for label in name.split(".")):
        raise ValueError(f"{text!r} is not a name in ASCII")
    return name


def read_statsd(value: object) -> str:
    """HOST, HOST:PORT, [IPv6]:PORT or unix:PATH, returned as it was written."""
    text = read_text(value)
    parse_statsd(text)
    return text


def parse_statsd(text: str) -> tuple[str, int]:
    """Host and port of a StatsD server; (path, 0) for a UNIX socket. Raises ValueError with the reason."""
    for prefix in _UNIX:
        if text.startswith(prefix):
            return _checked_path(text.removeprefix(prefix)), 0
    if "/" in text or text.startswith("@"):
        raise ValueError(f"{text!r} is not a host: for a UNIX socket write unix:PATH, else HOST:PORT alone")
    host, colon, port = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    if not colon:
        host, port = text, ""
    if host.startswith("[") != host.endswith("]") or (":" in host and not host.startswith("[")):
        raise ValueError(f"an IPv6 address needs brackets: [{text.strip('[]')}]:{STATSD_PORT}")
    if not host.strip("[]"):
        raise ValueError(f"the host is missing in {text!r}")
    if colon and not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536):
        raise ValueError(f"{port!r} is not a port")
    return _checked_host(host), int(port) if port else STATSD_PORT


def _checked_path(path: str) -> str:
    if not path:
        raise ValueError("the path is missing")
    return path


def _checked_host(host: str) -> str:
    """A host name or IP address to send to, without brackets. Raises ValueError with the reason."""
    if seconds_meant(host) is not None:
        raise ValueError(f"{host!r} is a time, not a host")
    if host == ANY_HOST:
        raise ValueError(f"{host!r} is not a host to send to")
    if host.startswith("[") and ":" not in host:
        raise ValueError(f"{host!r} is not an IPv6 address")
    try:
        return tcp_address(host, 0).host
    except SettingError as error:
        raise ValueError(str(error)) from None


def read_part(value: object) -> str:
    """A part of a line of StatsD, perhaps empty: without the characters that end one."""
    if not isinstance(value, str) or any(character in "|\n\r#" or character < " " for character in value):
        raise ValueError
    return value


TOKEN = ValueKind(read_token, 'ASCII without spaces, or "@" and the path of a file', "TOKEN")
STATSD = ValueKind(read_statsd, f"HOST, HOST:PORT (else port {STATSD_PORT}), [IPv6]:PORT or unix:PATH", "ADDRESS")
STATSD_PREFIX = ValueKind(read_part, "text without |, # and line breaks", "PREFIX")
STATSD_TAGS = ValueKind(read_part, "tags, separated by commas, without |, # and line breaks", "TAGS")
