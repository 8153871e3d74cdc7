"""Reads the addresses of gunicorn's `bind`, and writes them as starman's `listen`."""

from __future__ import annotations

import re
import socket

DEFAULT_PORT = "8000"
_UNIX = re.compile(r"unix:(?://)?")
_NUMBERS = re.compile(r"\d+(?:\.\d+)*")


def parse_bind(bind: str) -> tuple[str, str]:
    """The host and port that `bind` names, or the address of another kind, as starman writes it, and "".

    A host without a port has port 8000, an empty host is every IPv4 interface, 0 is 0.0.0.0 (any form of inet(3)), and
    unix://tmp/x is the relative path tmp/x, as in gunicorn. Raises ValueError.
    """
    if found := _UNIX.match(bind):
        path = bind[found.end() :]
        if not path:
            raise ValueError(f"{bind!r}: the path of the socket is missing")
        return f"unix:{path}", ""
    if bind.startswith("fd://"):
        if not bind[5:].isdigit():
            raise ValueError(f"{bind!r} is not a valid file descriptor")
        return bind, ""
    address = bind.removeprefix("tcp://")
    if "[" in address and "]" in address:
        host, _, rest = address.partition("[")[2].partition("]")
        port = rest.removeprefix(":") or DEFAULT_PORT
    else:
        host, colon, port = address.partition(":")
        port = port.partition(":")[0] if colon else DEFAULT_PORT
    if not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise ValueError(f"{port!r} is not a valid port number in {bind!r}")
    return _in_full(host.lower()), port


def _in_full(host: str) -> str:
    """An IPv4 address in four numbers. Any other host as it is."""
    if not _NUMBERS.fullmatch(host):
        return host
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        return host


def listen_addresses(binds: list[str]) -> list[str]:
    """The same addresses as values of starman's `listen`."""
    parsed = [parse_bind(bind) for bind in binds]
    ports_of_ipv4 = {port for host, port in parsed if host in ("", "0.0.0.0")}
    found = []
    for host, port in parsed:
        if not port:
            found.append(host)
        elif host == "::" and port not in ports_of_ipv4:
            found.append(f"*:{port}")  # [::] also accepts IPv4 in gunicorn, by the default of Linux
        else:
            found.append(f"[{host}]:{port}" if ":" in host else f"{host or '0.0.0.0'}:{port}")
    return found
