"""starman.wsgi.forwarded_fields: X-Forwarded-For from right to left through trusted hops, and Forwarded (RFC 7239)."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starman.config.trusted_peers import TrustedPeers
from starman.wsgi.forwarded_fields import members, nearest, read_elements, read_node

ADDRESSES = st.ip_addresses(v=4) | st.ip_addresses(v=6).filter(lambda address: address.ipv4_mapped is None)  # type: ignore[union-attr]
TRUSTED = st.sampled_from(["10.0.0.1", "10.9.9.9", "::1"])
JUNK = st.sampled_from(
    ["unknown", "_hidden", "localhost", "10.0.0.1:", "10.0.0.1:99999", "[10.0.0.1]", "[::1", "::1]", "1.2.3", "é", '"']
)
PEERS = TrustedPeers(["10.0.0.0/8", "::1"])
WHITE_SPACE = st.sampled_from(["", " ", "\t ", "  "])


@given(ADDRESSES, st.none() | st.integers(0, 65535), st.booleans())
def test_a_node_is_an_address_with_or_without_a_port(
    address: IPv4Address | IPv6Address, port: int | None, brackets: bool
) -> None:
    text = f"[{address}]" if address.version == 6 and (brackets or port is not None) else str(address)
    node = read_node((text if port is None else f"{text}:{port}").encode())
    assert node is not None
    assert (ip_address(node[0]), node[1]) == (address, "" if port is None else str(port))


@pytest.mark.parametrize(
    ("text", "node"),
    [
        (b"::ffff:192.0.2.1", ("192.0.2.1", "")),
        (b"[::ffff:192.0.2.1]:80", ("192.0.2.1", "80")),
        (b"2001:DB8:0::1", ("2001:db8::1", "")),
        (b"192.0.2.1:00080", ("192.0.2.1", "00080")),
    ],
)
def test_addresses_become_canonical(text: bytes, node: tuple[str, str]) -> None:
    assert read_node(text) == node


@given(JUNK | st.text(max_size=20))
def test_anything_else_is_no_node(text: str) -> None:
    node = read_node(text.encode("utf-8"))
    if node is not None:
        ip_address(node[0])
        assert text not in ("unknown", "10.0.0.1:", "[10.0.0.1]")


@given(st.lists(st.tuples(WHITE_SPACE, st.sampled_from(["", "a", "b.c", "1 2"]), WHITE_SPACE), max_size=20), st.integers(0, 20))
def test_members_are_read_from_the_end_over_all_field_lines(parts: list[tuple[str, str, str]], cut: int) -> None:
    texts = ["".join(part) for part in parts]
    lines = [",".join(half).encode().strip() for half in (texts[:cut], texts[cut:]) if half]
    assert members(lines or [b""]) == [part[1].encode() for part in reversed(parts) if part[1]]


def test_a_long_list_is_read_only_from_its_end() -> None:
    found = members([b",".join(b"10.0.0.1" for _ in range(2000))])
    assert len(found) == 33
    assert nearest(found, PEERS.names) == (32, ("10.0.0.1", ""))


@given(st.lists(ADDRESSES.map(str) | TRUSTED | JUNK, max_size=6))
def test_the_client_is_the_nearest_address_that_is_no_trusted_proxy(nodes: list[str]) -> None:
    """Against a slow model, which looks at all that is right of a node."""
    index, client = nearest(members([", ".join(nodes).encode()]), PEERS.names)
    expected = None
    for text in reversed(nodes):
        node = read_node(text.encode())
        if node is None:
            break
        expected = node
        if not PEERS.trusts(node[0]):
            break
    assert client == expected
    assert index == 0 or index < len(nodes)


@given(st.text(max_size=30), ADDRESSES.map(str))
def test_what_a_client_writes_left_of_a_trusted_statement_is_never_read(forged: str, address: str) -> None:
    """The proxy appends the client's address to whatever the client has sent."""
    client = f"{address}, 10.0.0.1".encode()
    value = forged.replace("\n", "").encode("utf-8") + b", " + client
    own = nearest(members([client]), PEERS.names)[1]
    if not PEERS.trusts(address):
        assert nearest(members([value]), PEERS.names)[1] == own == read_node(address.encode())


@pytest.mark.parametrize(
    ("lines", "elements"),
    [
        ([b""], []),
        ([b","], []),
        ([b" ; ,;"], []),
        ([b"for=192.0.2.43"], [{b"for": b"192.0.2.43"}]),
        ([b'For="[2001:db8:cafe::17]:4711"'], [{b"for": b"[2001:db8:cafe::17]:4711"}]),
        (
            [b"for=192.0.2.60;proto=http;by=203.0.113.43"],
            [{b"for": b"192.0.2.60", b"proto": b"http", b"by": b"203.0.113.43"}],
        ),
        ([b"for=192.0.2.43, for=198.51.100.17"], [{b"for": b"198.51.100.17"}, {b"for": b"192.0.2.43"}]),
        ([b"for=a", b"for=b;, for=c"], [{b"for": b"c"}, {b"for": b"b"}, {b"for": b"a"}]),
        ([b'for="a, b;c=\\"d\\\\"; proto=https'], [{b"for": b'a, b;c="d\\', b"proto": b"https"}]),
        ([b"for=a ; proto=http\t,for=b"], [{b"for": b"b"}, {b"for": b"a", b"proto": b"http"}]),
    ],
)
def test_elements_of_forwarded(lines: list[bytes], elements: list[dict[bytes, bytes]]) -> None:
    assert read_elements(lines) == elements


@pytest.mark.parametrize(
    "line",
    [
        b"for",
        b"for=",
        b"for = a",
        b"for=a b",
        b"=a",
        b'for="',
        b'for="a"b',
        b"for=a;for=b",
        b"for=a;FOR=a",
        b"for=[::1]",
        b'for=", for=192.0.2.1',
        b'for=", for="[2001:db8::1]"',
        b'a="\\", for="192.0.2.1"',
        b"for=a," * 101,
    ],
)
def test_malformed_forwarded(line: bytes) -> None:
    with pytest.raises(ValueError, match="Forwarded"):
        read_elements([line])


TOKENS = st.text("abcXYZ019!#$%&'*+-.^_`|~", min_size=1, max_size=8)
TEXTS = TOKENS | st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=8)


def quoted(text: str) -> str:
    if text and all(character.isascii() and (character.isalnum() or character in "!#$%&'*+-.^_`|~") for character in text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@given(st.lists(st.dictionaries(TOKENS.map(str.lower), TEXTS, min_size=1, max_size=3), max_size=4), WHITE_SPACE)
def test_what_is_written_is_read(elements: list[dict[str, str]], space: str) -> None:
    line = f"{space},{space}".join(";".join(f"{name}={quoted(text)}" for name, text in element.items()) for element in elements)
    expected = [{name.encode(): text.encode() for name, text in element.items()} for element in reversed(elements)]
    assert read_elements([line.encode()]) == expected


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(line: bytes) -> None:
    try:
        elements = read_elements([line])
    except ValueError as error:
        assert "Forwarded" in str(error)  # noqa: PT017
    else:
        assert all(elements)


@given(st.text('for=",;\\ ab[]:.1', max_size=25), st.sampled_from(["192.0.2.9", '"[2001:db8::9]"', '"[2001:db8::9]:80"']))
def test_a_client_cannot_hide_the_element_that_a_proxy_appends(forged: str, node: str) -> None:
    try:
        elements = read_elements([f"{forged}, for={node};proto=https".encode()])
    except ValueError:
        return
    assert elements[0] == {b"for": node.strip('"').encode(), b"proto": b"https"}
