"""The table of settings for proxies in front of the server, which `starman.config.options` includes. The master
imports this module."""

from __future__ import annotations

from starman.config.kinds import ValueKind
from starman.config.option import nearest, option
from starman.config.trusted_peers import read_peer
from starman.config.value_parsing import read_flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

NONE = "none"
# What counts of the statements of a trusted proxy. The last word chooses the field in which they are.
FORWARDED = ("for", "proto", "host", "port", "prefix", "start", "rfc7239")
HEADER_MAPS = ("drop", "refuse", "dangerous")
_NAME_CHARACTERS = "!#$%&'*+-.^_`|~"


def comma_separated(read_item: Callable[[str], str], valid: str, metavar: str) -> ValueKind:
    """Several texts, as a tuple without duplicates: a list, or one text with commas. "none" or "" is an empty
    tuple. A mapping counts as texts "KEY=VALUE"."""

    def read(value: object) -> tuple[str, ...]:
        if isinstance(value, dict):
            value = [f"{key}={text}" for key, text in value.items()]
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


def one_of(words: tuple[str, ...]) -> ValueKind:
    """One of these words, in any case; returned in lower case."""

    def read(value: object) -> str:
        if not isinstance(value, str):
            raise ValueError
        return _read_word(value, words)

    return ValueKind(read, ", ".join(words[:-1]) + f" or {words[-1]}", "WORD")


def _read_word(text: str, words: tuple[str, ...]) -> str:
    word = text.strip().lower()
    if word not in words:
        raise ValueError(f"{text!r} is not valid{nearest(word, words)}")
    return word


def read_forwarded(text: str) -> str:
    """One of FORWARDED."""
    return _read_word(text, FORWARDED)


def read_scheme_field(text: str) -> str:
    """NAME=VALUE: the field of that name has this value if the client uses https."""
    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not value:
        raise ValueError
    return f"{read_field_name(name)}={value}"


def read_field_name(text: str) -> str:
    """The name of a field of a request (RFC 9110 §5.1), or `*`, in upper case."""
    if not text.isascii() or not all(character.isalnum() or character in _NAME_CHARACTERS for character in text) or not text:
        raise ValueError(f"{text!r} is not the name of a field")
    return text.upper()


PEERS = comma_separated(read_peer, "IP addresses, networks such as 10.0.0.0/8, * (every peer), or unix (UNIX sockets)", "PEERS")
STATEMENTS = comma_separated(read_forwarded, "for, proto, host, port, prefix, start and rfc7239", "WORDS")
SCHEME_FIELDS = comma_separated(read_scheme_field, "NAME=VALUE, the name of a field and its value for https", "NAME=VALUE")
FIELD_NAMES = comma_separated(read_field_name, "names of fields, or *", "NAMES")


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
        "Trust these proxies: believe the fields in which they state the client's address and scheme. The variable "
        "FORWARDED_ALLOW_IPS replaces the default.",
    )
    forwarded: tuple[str, ...] = option(
        ("for", "proto"),
        "Proxies",
        STATEMENTS,
        "Believe a trusted proxy about these: for, the address of the client (X-Forwarded-For); proto, http or https; host, the "
        "Host field (X-Forwarded-Host); port (X-Forwarded-Port); prefix, the path under which the proxy serves the application "
        "(X-Forwarded-Prefix); start, when the proxy has received the request (X-Request-Start, X-Queue-Start). rfc7239: for, "
        "proto and host are in the Forwarded field instead.",
    )
    secure_scheme_headers: tuple[str, ...] = option(
        ("X-FORWARDED-PROTOCOL=ssl", "X-FORWARDED-PROTO=https", "X-FORWARDED-SSL=on"),
        "Proxies",
        SCHEME_FIELDS,
        "Take the scheme from these fields of a trusted proxy: https if one has this value, http if it has another one. A "
        "request whose fields contradict each other is refused with 400.",
    )
    forwarder_headers: tuple[str, ...] = option(
        (),
        "Proxies",
        FIELD_NAMES,
        "Pass on these fields of a trusted proxy although their names have a _. SCRIPT_NAME also becomes the SCRIPT_NAME of the "
        "application, and is removed from the start of the path. *: every name.",
    )
    header_map: str = option(
        "drop",
        "Proxies",
        one_of(HEADER_MAPS),
        "Do this with other fields whose names have a _, which in environ look like names with a -: drop them, refuse the "
        "request with 400, or pass them on (dangerous: a client can imitate the fields of a proxy).",
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
