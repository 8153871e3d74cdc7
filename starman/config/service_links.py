"""Recognises service links: variables that Kubernetes sets in every pod for each Service of its namespace.

A Service named `starman` or `starman-…` sets variables with the prefix of starman's settings:
STARMAN_SERVICE_HOST=10.0.0.1, STARMAN_PORT=tcp://10.0.0.1:80. They are recognised by name and value, because
STARMAN_PORT=8000 is a setting. The master imports this module.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_PREFIX = "STARMAN_"
_PROTOCOLS = ("tcp", "udp", "sctp")


def service_links(environ: Mapping[str, str]) -> list[str]:
    """The sorted names of the service links in `environ` that begin with STARMAN_."""
    return sorted(name for name, value in environ.items() if name.startswith(_PREFIX) and is_service_link(name, value))


def notice(environ: Mapping[str, str]) -> str | None:
    """A line for the log about the ignored variables; None if there are none."""
    found = service_links(environ)
    if not found:
        return None
    named = ", ".join(found[:3])
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return (
        f"ignored, because they describe a Kubernetes Service: {named}{more} "
        "(set enableServiceLinks: false to omit them from the pod)"
    )


def is_service_link(name: str, value: str) -> bool:
    """Whether a STARMAN_* variable is a service link. `name` may hold the rest of a Service's name:
    STARMAN_WEB_PORT_80_TCP.

    Of a Service: HOST and PORT in the form of `docker run --link` (PORT, PORT_80_TCP, PORT_80_TCP_PROTO, _PORT,
    _ADDR), and SERVICE_HOST, SERVICE_PORT, SERVICE_PORT_HTTP for a port named http.
    """
    words = name.removeprefix(_PREFIX).split("_")
    # A name may fit several forms, because a Service may be called "starman-service-port". So all forms are tried.
    return (
        (words[-2:] == ["SERVICE", "HOST"] and _is_address(value))
        or (_has_service_port(words) and value.isascii() and value.isdigit())
        or (words[-1] == "PORT" and _is_endpoint(value))
        or _is_link_of_a_port(words, value)
    )


def _has_service_port(words: list[str]) -> bool:
    """SERVICE_PORT, or SERVICE_PORT_ and the name of a port."""
    return any(words[at : at + 2] == ["SERVICE", "PORT"] for at in range(len(words) - 1))


def _is_link_of_a_port(words: list[str], value: str) -> bool:
    """PORT_80_TCP (an endpoint), PORT_80_TCP_PROTO, PORT_80_TCP_PORT and PORT_80_TCP_ADDR."""
    detail = ""
    if words[-1] in ("PROTO", "PORT", "ADDR"):
        detail, words = words[-1], words[:-1]
    if len(words) < 3 or words[-3] != "PORT" or not words[-2].isdigit() or words[-1].lower() not in _PROTOCOLS:
        return False
    if detail == "PROTO":
        return value in _PROTOCOLS
    if detail == "PORT":
        return value == words[-2]
    return _is_address(value) if detail else _is_endpoint(value)


def _is_endpoint(value: str) -> bool:
    """tcp://10.0.0.1:80"""
    protocol, found, address = value.partition("://")
    return bool(found) and protocol in _PROTOCOLS and address.rpartition(":")[2].isdigit()


def _is_address(value: str) -> bool:
    """Whether `value` looks like an IP address. A rough check is enough: no setting has such a name."""
    return bool(value) and not value.strip("0123456789abcdefABCDEF.:[]")
