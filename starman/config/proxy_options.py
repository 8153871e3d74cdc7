"""The table of settings for proxies in front of the server, which `starman.config.options` includes. The master
imports this module."""

from __future__ import annotations

from starman.config.kinds import ValueKind, read_flag
from starman.config.option import nearest, option
from starman.config.trusted_peers import read_peer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

NONE = "none"


def comma_separated(read_item: Callable[[str], str], valid: str, metavar: str) -> ValueKind:
    """Several texts, as a tuple without duplicates: a list, or one text with commas. "none" or "" is an empty
    tuple."""

    def read(value: object) -> tuple[str, ...]:
        items = value if isinstance(value, (list, tuple)) else (value,)
        texts: list[str] = []
        for item in items:
            if not isinstance(item, str):
                raise ValueError
            texts += [part.strip() for part in item.split(",") if part.strip()]
        return () if texts == [NONE] else tuple(dict.fromkeys(map(read_item, texts)))

    def show(value: object) -> str:
        return ", ".join(value) if isinstance(value, tuple) else str(value)

    return ValueKind(read, f'{valid}; several are separated by commas; "none" for none', metavar, show=show, repeatable=True)


PEERS = comma_separated(read_peer, "IP addresses, networks such as 10.0.0.0/8, * (every peer), or unix (UNIX sockets)", "PEERS")


PROXY_PROTOCOLS = ("off", "on", "v1", "v2")


def read_proxy_protocol(value: object) -> str:
    """One of PROXY_PROTOCOLS; also true or false, and gunicorn's "auto", which is "on"."""
    word = value.strip().lower() if isinstance(value, str) else value
    if word in PROXY_PROTOCOLS:
        return word
    if word == "auto":
        return "on"
    try:
        return "on" if read_flag(value) else "off"
    except ValueError:
        if isinstance(word, str):
            raise ValueError(f"{value!r} is not valid{nearest(word, PROXY_PROTOCOLS)}") from None
        raise


PROXY_PROTOCOL = ValueKind(read_proxy_protocol, '"off", "on" (both versions), "v1" or "v2"', "VERSION")


class ProxyOptions:
    """Declares the settings for proxies."""

    __slots__ = ()

    forwarded_allow_ips: tuple[str, ...] = option(
        ("127.0.0.1", "::1", "unix"),
        "Proxies",
        PEERS,
        "Trust these proxies: believe what they say of the client and of the scheme (http or https) in fields of the request. "
        "The variable FORWARDED_ALLOW_IPS replaces the default.",
    )
    proxy_protocol: str = option(
        "off",
        "Proxies",
        PROXY_PROTOCOL,
        "Require that every connection begins with a header of the PROXY protocol, also on TLS, and take the client's address "
        "from it: on (versions 1 and 2), v1 or v2. Connections without it are closed.",
    )
    proxy_allow_ips: tuple[str, ...] = option(
        ("127.0.0.1", "::1", "unix"),
        "Proxies",
        PEERS,
        "With --proxy-protocol, accept connections from these proxies only, and close all others.",
    )
