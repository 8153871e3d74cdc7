"""Reads what proxies state of the client: the nodes of X-Forwarded-For, and the elements of Forwarded (RFC 7239).

A proxy appends its statement to the list that it has received. So a list is read from its end, as far as the
statements come from trusted proxies. What is further left may come from the client.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from starman.config.trusted_peers import canonical_address
from starman.proto.syntax import FORWARDED_PAIR, MOST_MEMBERS

if TYPE_CHECKING:
    from collections.abc import Callable

# An IP address and its port; "" if it has none.
Node = tuple[str, str]

# Further members at the start of a list are not read.
_MOST_HOPS: Final = 32

# RFC 7239 §6 has IPv6 addresses in brackets. X-Forwarded-For has no grammar: some proxies write them without brackets.
_IPV4: Final = re.compile(rb"([0-9.]+)(?::([0-9]{1,5}))?")
_IPV6: Final = re.compile(rb"\[([0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)\](?::([0-9]{1,5}))?")
_QUOTED_PAIR: Final = re.compile(rb"\\(.)", re.DOTALL)


def members(values: list[bytes]) -> list[bytes]:
    """The members of a comma-separated list from its end to its start, without empty ones. `values`: one for each
    field line. At most _MOST_HOPS members, and one with all that is before them."""
    joined = values[0] if len(values) == 1 else b",".join(values)
    if b"," not in joined:
        return [joined] if joined else []
    found = [member.strip(b" \t") for member in joined.rsplit(b",", _MOST_HOPS)]
    return [member for member in reversed(found) if member]


def read_node(text: bytes) -> Node | None:
    """Read 192.0.2.1, 192.0.2.1:80, 2001:db8::1, [2001:db8::1] or [2001:db8::1]:80. None: it is anything else, such as
    a name, "unknown", or an identifier that hides the address."""
    match = _IPV4.fullmatch(text) or _IPV6.fullmatch(text)
    host, port = match.groups(b"") if match is not None else (text, b"")
    if port and int(port) > 65535:
        return None
    try:
        return canonical_address(host.decode("latin-1")), port.decode("latin-1")
    except ValueError:
        return None


def nearest(nodes: list[bytes], names: Callable[[str], bool]) -> tuple[int, Node | None]:
    """Walk through the `nodes`, from the end of the list to its start, while their addresses are those of trusted
    proxies, by `names`.

    Return the index of the last node that a trusted proxy has stated, and the client: the last address that is known;
    None if none is.
    """
    index, client = 0, None
    for index, text in enumerate(nodes):  # noqa: B007 - used behind the loop
        node = read_node(text)
        if node is None:
            break
        client = node
        if not names(node[0]):
            break
    return index, client


def read_elements(values: list[bytes]) -> list[dict[bytes, bytes]]:
    """The elements of Forwarded from the end of the list to its start: values by parameter in lower case, without
    quotes (RFC 7239 §4).

    Raises ValueError, with the reason, also for more than MOST_MEMBERS parameters. A field line is read from its
    start, and refused if any part of it is malformed: a client's quotation mark must not hide the element that a
    proxy appends.
    """
    elements: list[dict[bytes, bytes]] = []
    count = 0
    for value in values:
        element: dict[bytes, bytes] = {}
        at, end = 0, None
        while end != b"":
            match = FORWARDED_PAIR.match(value, at)
            if match is None:
                raise ValueError("the Forwarded field is malformed")
            name, text, end = match.groups()
            count += 1
            if count > MOST_MEMBERS:
                raise ValueError("the Forwarded field has too many parameters")
            at = match.end()
            if name is not None:
                name = name.lower()
                if name in element:
                    raise ValueError("a parameter is repeated in an element of the Forwarded field")
                element[name] = _QUOTED_PAIR.sub(rb"\1", text[1:-1]) if text.startswith(b'"') else text
            if end != b";" and element:
                elements.append(element)
                element = {}
    elements.reverse()
    return elements
