"""starman.proto.proxy_protocol: what was written is what is read, in any pieces, and anything else is refused."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starman.proto.proxy_protocol import (
    MOST_BYTES_V1,
    MOST_BYTES_V2,
    V1,
    V2,
    ProxyHeaderError,
    ProxyHeaderParser,
    crc32c,
)

BOTH = frozenset((V1, V2))
SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")
FOLLOWING = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"

# The version, the client, the bytes behind the header; or the text of the error.
Outcome = tuple[int, tuple[str, int] | None, bytes] | str


def feed(pieces: Iterable[bytes], versions: frozenset[int] = BOTH) -> Outcome | None:
    """What comes out; None: the header is not complete."""
    parser = ProxyHeaderParser(versions)
    pieces = iter(pieces)
    fed = b""
    for piece in pieces:
        fed += piece
        try:
            header = parser.receive_data(piece)
        except ProxyHeaderError as error:
            return str(error)
        assert parser.begun is (fed != b"")
        if header is not None:
            rest = parser.take_rest(header)
            assert fed[header.size :] == rest
            assert not parser.begun
            return header.version, header.client, rest + b"".join(pieces)
    return None


def one_by_one(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def cut_at(data: bytes, positions: list[int]) -> list[bytes]:
    ends = sorted({min(position, len(data)) for position in positions} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(ends)]


def outcome(data: bytes, versions: frozenset[int] = BOTH) -> Outcome | None:
    """The same result whole and byte by byte."""
    found = feed([data], versions)
    assert feed(one_by_one(data), versions) == found
    return found


def version_2(body: bytes, *, command: int = 0x21, family: int = 0x11, length: int | None = None) -> bytes:
    return SIGNATURE + struct.pack(">BBH", command, family, len(body) if length is None else length) + body


INET = bytes([192, 0, 2, 1, 192, 0, 2, 2]) + struct.pack(">HH", 4711, 443)
INET6 = IPv6Address("2001:db8::1").packed + IPv6Address("2001:db8::2").packed + struct.pack(">HH", 4711, 443)
UNIX = b"/run/client".ljust(108, b"\0") + b"/run/proxy".ljust(108, b"\0")


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack(">BH", kind, len(value)) + value


def with_checksum(addresses: bytes, family: int, before: bytes = b"", after: bytes = b"", change: int = 0) -> bytes:
    """A header with a checksum between other values; `change` is added to it."""
    blank = version_2(addresses + before + tlv(3, bytes(4)) + after, family=family)
    at = 16 + len(addresses) + len(before) + 3
    checksum = (crc32c(blank) + change) & 0xFFFFFFFF
    return blank[:at] + struct.pack(">I", checksum) + blank[at + 4 :]


# Version 1


@pytest.mark.parametrize(
    ("line", "client"),
    [
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 443", ("192.0.2.1", 4711)),
        (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535", ("255.255.255.255", 65535)),
        (b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0", ("0.0.0.0", 0)),
        (b"PROXY TCP6 2001:db8::1 2001:DB8::2 4711 443", ("2001:db8::1", 4711)),
        (b"PROXY TCP6 " + b" ".join([b":".join([b"ffff"] * 8)] * 2) + b" 65535 65535", (":".join(["ffff"] * 8), 65535)),
        (b"PROXY TCP6 2001:0DB8:0:0:0:0:0:1 :: 1 2", ("2001:db8::1", 1)),
        (b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.2 1 2", ("192.0.2.1", 1)),
        (b"PROXY TCP6 ::ffff:c000:201 ::ffff:192.0.2.2 1 2", ("192.0.2.1", 1)),
        (b"PROXY UNKNOWN", None),
        (b"PROXY UNKNOWN ", None),
        (b"PROXY UNKNOWN anything \x00\xff at all", None),
        (b"PROXY UNKNOWN " + b" ".join([b":".join([b"ffff"] * 8)] * 2) + b" 65535 65535", None),
    ],
)
def test_version_1(line: bytes, client: tuple[str, int] | None) -> None:
    assert outcome(line + b"\r\n" + FOLLOWING) == (V1, client, FOLLOWING)
    assert outcome(line + b"\r\n") == (V1, client, b"")
    for end in range(len(line) + 1):
        assert feed([line[:end]]) is None
    assert feed([line + b"\r"]) is None


@pytest.mark.parametrize(
    "line",
    [
        b"PROXY ",
        b"PROXY  TCP4 192.0.2.1 192.0.2.2 4711 443",
        b"PROXY TCP4",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 4711",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 443 ",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 443 1",
        b"PROXY TCP4  192.0.2.1 192.0.2.2 4711 443",
        b"PROXY TCP4\t192.0.2.1 192.0.2.2 4711 443",
        b"PROXY TCP4 192.0.2.1,192.0.2.2 4711 443",
        b"PROXY tcp4 192.0.2.1 192.0.2.2 4711 443",
        b"PROXY TCP5 192.0.2.1 192.0.2.2 4711 443",
        b"PROXY UDP4 192.0.2.1 192.0.2.2 4711 443",
        b"PROXY TCP4 192.0.2.01 192.0.2.2 4711 443",
        b"PROXY TCP4 192.0.2.256 192.0.2.2 4711 443",
        b"PROXY TCP4 192.0.2 192.0.2.2 4711 443",
        b"PROXY TCP4 192.0.2.1.1 192.0.2.2 4711 443",
        b"PROXY TCP4 192.0.2.1 192.0.2.256 4711 443",
        b"PROXY TCP4 192.0.2.1 ::1 4711 443",
        b"PROXY TCP4 ::1 ::1 4711 443",
        b"PROXY TCP6 192.0.2.1 192.0.2.2 4711 443",
        b"PROXY TCP6 ::1 192.0.2.2 4711 443",
        b"PROXY TCP6 ::1::2 ::1 4711 443",
        b"PROXY TCP6 00001::1 ::1 4711 443",
        b"PROXY TCP6 ::1%lo ::1 4711 443",
        b"PROXY TCP6 [::1] ::1 4711 443",
        b"PROXY TCP6 ::g ::1 4711 443",
        b"PROXY TCP6 1:2:3:4:5:6:7 ::1 4711 443",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 04711 443",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 0443",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 65536 443",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 99999",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 -1 443",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 +1 443",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 4_43",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 443\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 443\r",
        "PROXY TCP4 192.0.2.\u0661 192.0.2.2 4711 443".encode(),
        b"PROXY UNKNOWNS",
        b"PROXY UNKNOWN\n",
        b"PROXY UNKNOWN a\nb",
        b"PROXY UNKNOWN a\rb",
        b"PROXY / HTTP/1.1",
    ],
)
def test_a_malformed_line_is_refused(line: bytes) -> None:
    assert outcome(line + b"\r\n" + FOLLOWING) == "its PROXY protocol header is malformed"


def test_a_line_has_at_most_107_bytes() -> None:
    longest = b"PROXY UNKNOWN ".ljust(MOST_BYTES_V1 - 2, b"x")
    assert MOST_BYTES_V1 == 107
    assert outcome(longest + b"\r\n" + FOLLOWING) == (V1, None, FOLLOWING)
    too_long = "its PROXY protocol header has no CRLF within 107 bytes"
    assert feed([longest + b"\r"]) is None
    assert outcome(longest + b"x\r\n" + FOLLOWING) == too_long
    assert outcome(longest + b"x\r") == too_long
    assert outcome(longest + b"xx") == too_long


@given(st.ip_addresses(), st.integers(0, 65535), st.integers(0, 65535), st.lists(st.integers(0, 150)), st.binary(max_size=50))
def test_every_address_of_version_1(
    host: IPv4Address | IPv6Address, port: int, other_port: int, positions: list[int], behind: bytes
) -> None:
    shown = str(host) if host.version == 4 else host.exploded.upper()
    data = f"PROXY TCP{host.version} {shown} {host} {port} {other_port}\r\n".encode() + behind
    mapped = host.ipv4_mapped if isinstance(host, IPv6Address) else None
    assert feed(cut_at(data, positions)) == (V1, (str(mapped or host), port), behind)


# Version 2


@pytest.mark.parametrize("transport", [1, 2])
@pytest.mark.parametrize(
    ("family", "addresses", "client"),
    [
        (0x10, INET, ("192.0.2.1", 4711)),
        (0x20, INET6, ("2001:db8::1", 4711)),
        (0x20, IPv6Address("::ffff:192.0.2.1").packed + INET6[16:], ("192.0.2.1", 4711)),
        (0x30, UNIX, None),
    ],
)
def test_version_2(family: int, transport: int, addresses: bytes, client: tuple[str, int] | None) -> None:
    plain = version_2(addresses, family=family | transport)
    for header in (
        plain,
        version_2(addresses + tlv(4, b"") + tlv(0x20, b"x" * 300), family=family | transport),
        with_checksum(addresses, family | transport),
        with_checksum(addresses, family | transport, before=tlv(1, b"h2"), after=tlv(4, bytes(5))),
    ):
        assert outcome(header + FOLLOWING) == (V2, client, FOLLOWING)
        assert outcome(header) == (V2, client, b"")
        for end in range(len(header)):
            assert feed([header[:end]]) is None


@pytest.mark.parametrize(
    "header",
    [
        version_2(b"", command=0x20, family=0),
        version_2(b"", command=0x20, family=0x11),  # an address is due, but LOCAL ignores the family
        version_2(INET, command=0x20),
        version_2(b"whatever follows", command=0x20, family=0xFF),
        version_2(b"", family=0),
        version_2(b"whatever", family=0),
        version_2(INET, family=0x10),
        version_2(b"", family=0x01),
    ],
)
def test_a_header_without_an_address(header: bytes) -> None:
    assert outcome(header + FOLLOWING) == (V2, None, FOLLOWING)


@pytest.mark.parametrize(
    "header",
    [
        version_2(INET, command=0x22),
        version_2(INET, command=0x2F),
        version_2(INET, command=0x11),
        version_2(INET, command=0x31),
        version_2(INET, command=0x01),
        version_2(INET, family=0x13),
        version_2(INET, family=0x1F),
        version_2(INET, family=0x03),
        version_2(UNIX, family=0x41),
        version_2(UNIX, family=0xF0),
        version_2(INET[:-1]),
        version_2(b""),
        version_2(INET6[:-1], family=0x21),
        version_2(UNIX[:-1], family=0x31),
        version_2(INET + b"\x04"),
        version_2(INET + b"\x04\x00"),
        version_2(INET + b"\x04\x00\x01"),
        version_2(INET + tlv(4, b"") + b"\x04\xff\xff1234"),
        version_2(INET + tlv(3, bytes(3))),
        version_2(INET + tlv(3, bytes(5))),
    ],
)
def test_a_malformed_header_is_refused(header: bytes) -> None:
    assert outcome(header + FOLLOWING) == "its PROXY protocol header is malformed"


def test_a_wrong_checksum_is_refused() -> None:
    wrong = "the checksum of its PROXY protocol header is wrong"
    assert outcome(with_checksum(INET, 0x11, change=1) + FOLLOWING) == wrong
    right = with_checksum(INET, 0x11, after=tlv(2, b"example.com"))
    for at in (16, 20, 27, len(right) - 1):
        damaged = bytearray(right)
        damaged[at] ^= 1
        assert outcome(bytes(damaged)) == wrong


def test_the_checksum_of_published_examples() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    # RFC 3720 appendix B.4 has them as the bytes of a little-endian number.
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43


def test_a_header_of_version_2_has_a_limit() -> None:
    largest = MOST_BYTES_V2 - 16
    filled = INET + tlv(4, bytes(largest - len(INET) - 3))
    assert feed([version_2(filled) + FOLLOWING]) == (V2, ("192.0.2.1", 4711), FOLLOWING)
    # It is refused before it has arrived.
    for command in (0x20, 0x21):
        assert feed([version_2(b"", command=command, length=largest + 1)]) == (
            f"its PROXY protocol header has {MOST_BYTES_V2 + 1} bytes, more than {MOST_BYTES_V2}"
        )


ADDRESSES = st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4)) | st.tuples(st.ip_addresses(v=6), st.ip_addresses(v=6))
TLVS = st.lists(st.tuples(st.integers(0, 255).filter(lambda kind: kind != 3), st.binary(max_size=30)), max_size=4)


@given(ADDRESSES, st.integers(0, 65535), TLVS, st.booleans(), st.lists(st.integers(0, 300)), st.binary(max_size=50))
def test_every_address_of_version_2(
    hosts: tuple[IPv4Address | IPv6Address, IPv4Address | IPv6Address],
    port: int,
    tlvs: list[tuple[int, bytes]],
    checked: bool,
    positions: list[int],
    behind: bytes,
) -> None:
    addresses = hosts[0].packed + hosts[1].packed + struct.pack(">HH", port, 80)
    family = 0x11 if hosts[0].version == 4 else 0x21
    values = b"".join(tlv(kind, value) for kind, value in tlvs)
    header = with_checksum(addresses, family, after=values) if checked else version_2(addresses + values, family=family)
    mapped = hosts[0].ipv4_mapped if isinstance(hosts[0], IPv6Address) else None
    assert feed(cut_at(header + behind, positions)) == (V2, (str(mapped or hosts[0]), port), behind)


# Anything else


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\n\r\n",
        b"P\r\n",
        b"proxy TCP4",
        b" PROXY TCP4",
        b"\r\nGET / HTTP/1.1\r\n",
        b"\r\n\r\nGET / HTTP/1.1\r\n",
        b"\x16\x03\x01\x02\x00",
        SIGNATURE[:11] + b"\r",
        b"\0" * 16,
    ],
)
def test_a_connection_without_a_header_is_refused(data: bytes) -> None:
    assert outcome(data) == "its first bytes are not a PROXY protocol header"


def test_no_further_byte_is_waited_for() -> None:
    for data in (b"G", b"PO", b"\n", b"\r\nG", b"\x16"):
        assert feed(one_by_one(data)) == "its first bytes are not a PROXY protocol header"


@pytest.mark.parametrize(
    ("version", "data"), [(V1, b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 443\r\n"), (V2, version_2(INET))], ids=["v1", "v2"]
)
def test_only_the_accepted_version(version: int, data: bytes) -> None:
    assert outcome(data + FOLLOWING, frozenset((version,))) == (version, ("192.0.2.1", 4711), FOLLOWING)
    other = frozenset((V1 + V2 - version,))
    assert outcome(data, other) == f"its PROXY protocol header is of version {version}, which is not accepted"


SEEDS = st.sampled_from(
    [b"", b"PROXY ", b"PROXY TCP4 ", b"PROXY TCP6 ::", SIGNATURE, SIGNATURE + b"\x21\x11\0\x10", version_2(UNIX)]
)


@given(SEEDS, st.binary(max_size=400) | st.text("0123456789.:abcdef TCPUNKOW\r\n", max_size=120).map(str.encode), st.data())
def test_any_bytes_in_any_pieces_give_the_same(start: bytes, rest: bytes, data: st.DataObject) -> None:
    """No exception but ProxyHeaderError, and neither more nor less is accepted if the bytes arrive in pieces."""
    text = start + rest
    found = feed([text])
    assert feed(one_by_one(text)) == found
    assert feed(cut_at(text, data.draw(st.lists(st.integers(0, len(text)))))) == found
    if isinstance(found, tuple) and found[1] is not None:
        ip_address(found[1][0])
        assert 0 <= found[1][1] <= 65535


VALID = (version_2(INET + tlv(2, b"a.b")), with_checksum(INET6, 0x21), b"PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n")


@given(st.sampled_from(VALID), st.data())
def test_a_damaged_header(header: bytes, data: st.DataObject) -> None:
    damaged = bytearray(header)
    damaged[data.draw(st.integers(0, len(header) - 1))] = data.draw(st.integers(0, 255))
    found = feed([bytes(damaged)])
    assert feed(one_by_one(bytes(damaged))) == found
