"""Reads the header of the PROXY protocol, versions 1 and 2, without I/O.

The header precedes all other bytes of a connection, also those of TLS. In it, a proxy states the client's address.
Source: "The PROXY protocol", proxy-protocol.txt of HAProxy; the sections below are those of this text.
"""

from __future__ import annotations

import re
from functools import cache
from ipaddress import IPv4Address, IPv6Address
from typing import Final

# §2.1: with its CRLF, a header of version 1 has at most this many bytes.
MOST_BYTES_V1: Final = 107
# A header of version 2 may have 65,551 bytes. Those with addresses and all that HAProxy adds, including a client's
# certificate, need less than this.
MOST_BYTES_V2: Final = 16_384

V1: Final = 1
V2: Final = 2
_SIGNATURES: Final = ((V1, b"PROXY "), (V2, b"\r\n\r\n\0\r\nQUIT\n"))

# §2.1. Grammar and lengths of addresses are checked by ipaddress. Dots in an IPv6 address are those of an IPv4 address
# within: HAProxy and nginx send these for IPv4 clients of a dual-stack listener.
_PORT: Final = rb"(0|[1-9][0-9]{0,4})"
_IPV4: Final = rb"([0-9.]+)"
_IPV6: Final = rb"([0-9A-Fa-f:.]+)"
_LINE_V1: Final = re.compile(
    rb"PROXY (?:UNKNOWN(?: [^\r\n]*)?|TCP(?:4 %b %b|6 %b %b) %b %b)\r\n" % (_IPV4, _IPV4, _IPV6, _IPV6, _PORT, _PORT)
)

# §2.2: the bytes before the addresses, and where the parts of them are.
_FIXED_BYTES: Final = 16
_COMMAND: Final = 12
_FAMILY: Final = 13
_LENGTH: Final = slice(14, 16)
_LOCAL: Final = 0x20
_PROXY: Final = 0x21
_INET: Final = 1
_INET6: Final = 2
# Bytes of both addresses and ports by address family (AF_INET, AF_INET6, AF_UNIX).
_ADDRESS_BYTES: Final = {_INET: 12, _INET6: 36, 3: 216}
_LAST_TRANSPORT: Final = 2

_TLV_HEAD_BYTES: Final = 3
_TLV_CRC32C: Final = 0x03
_CRC_BYTES: Final = 4
# RFC 9260 appendix A: the polynomial of CRC32C, with its bits reversed.
_CASTAGNOLI: Final = 0x82F63B78

# An IP address and a port. An IPv6 address that stands for an IPv4 address is that IPv4 address.
Address = tuple[str, int]


class ProxyHeaderError(Exception):
    """The bytes are not a header of the PROXY protocol, or not one of an accepted version. The text is for the
    operator."""


class ProxyHeader:
    """A complete header.

    version: V1 or V2. size: its length in bytes.
    client: the client's address and port. None: the header has no IP address, so the address of the connection itself
    counts. That is so for LOCAL and UNKNOWN, which proxies use for their health checks, and for clients on UNIX
    sockets.
    """

    __slots__ = ("client", "size", "version")

    def __init__(self, version: int, size: int, client: Address | None) -> None:
        self.version = version
        self.size = size
        self.client = client


class ProxyHeaderParser:
    """Reads one header from bytes as they arrive. Not thread-safe.

    begun: whether a byte has arrived.
    """

    __slots__ = ("_buffer", "_size", "_version", "_versions")

    def __init__(self, versions: frozenset[int]) -> None:
        """`versions`: those that are accepted, V1 and V2."""
        self._versions = versions
        self._buffer = bytearray()
        self._version = 0  # 0: too few bytes have arrived to tell
        self._size = 0  # of a header of version 2; 0: as for _version

    def receive_data(self, data: bytes) -> ProxyHeader | None:
        """Take bytes. Return the header as soon as it is complete, None before. Then call only `take_rest`.

        Raises ProxyHeaderError as soon as the bytes cannot become a header; then call nothing more.
        """
        buffer = self._buffer
        buffer += data
        if not self._version and not self._recognise():
            return None
        return self._read_v1() if self._version == V1 else self._read_v2()

    def take_rest(self, header: ProxyHeader) -> bytes:
        """Return the bytes that arrived behind the header, and forget all bytes."""
        rest = bytes(memoryview(self._buffer)[header.size :])
        self._buffer = bytearray()
        return rest

    @property
    def begun(self) -> bool:
        return len(self._buffer) > 0

    def _recognise(self) -> bool:
        """Find the version by the first bytes. Return False if there are too few."""
        buffer = self._buffer
        for version, signature in _SIGNATURES:
            if buffer.startswith(signature):
                if version not in self._versions:
                    raise ProxyHeaderError(f"its PROXY protocol header is of version {version}, which is not accepted")
                self._version = version
                return True
            if signature.startswith(buffer):
                return False
        raise ProxyHeaderError("its first bytes are not a PROXY protocol header")

    def _read_v1(self) -> ProxyHeader | None:
        """§2.1: a line of text."""
        end = self._buffer.find(b"\r\n", 0, MOST_BYTES_V1)
        if end < 0:
            if len(self._buffer) >= MOST_BYTES_V1:
                raise ProxyHeaderError(f"its PROXY protocol header has no CRLF within {MOST_BYTES_V1} bytes")
            return None
        size = end + 2
        match = _LINE_V1.fullmatch(self._buffer, 0, size)
        if match is None:
            raise _malformed()
        source4, destination4, source6, destination6, port, destination_port = match.groups()
        if port is None:
            return ProxyHeader(V1, size, None)
        try:
            if source4 is not None:
                host = str(IPv4Address(source4.decode()))
                IPv4Address(destination4.decode())
            else:
                host = _ipv6_text(IPv6Address(source6.decode()))
                IPv6Address(destination6.decode())
        except ValueError:
            raise _malformed() from None
        if int(port) > 65535 or int(destination_port) > 65535:
            raise _malformed()
        return ProxyHeader(V1, size, (host, int(port)))

    def _read_v2(self) -> ProxyHeader | None:
        """§2.2: 16 bytes, then addresses, then further values (TLVs)."""
        if not self._size:
            if len(self._buffer) < _FIXED_BYTES:
                return None
            self._size = _FIXED_BYTES + int.from_bytes(self._buffer[_LENGTH], "big")
            self._check_fixed_bytes()
        if len(self._buffer) < self._size:
            return None
        header = bytes(memoryview(self._buffer)[: self._size])
        if header[_COMMAND] == _LOCAL:
            return ProxyHeader(V2, self._size, None)
        family = header[_FAMILY] >> 4
        if not family or not header[_FAMILY] & 0xF:  # UNSPEC: what follows is unknown
            return ProxyHeader(V2, self._size, None)
        _check_tlvs(header, _FIXED_BYTES + _ADDRESS_BYTES[family])
        client: Address | None = None
        if family == _INET:
            client = str(IPv4Address(header[16:20])), int.from_bytes(header[24:26], "big")
        elif family == _INET6:
            client = _ipv6_text(IPv6Address(header[16:32])), int.from_bytes(header[48:50], "big")
        return ProxyHeader(V2, self._size, client)

    def _check_fixed_bytes(self) -> None:
        """Refuse a header by its first 16 bytes: nothing more of it need arrive."""
        if self._size > MOST_BYTES_V2:
            raise ProxyHeaderError(f"its PROXY protocol header has {self._size} bytes, more than {MOST_BYTES_V2}")
        command = self._buffer[_COMMAND]
        if command == _LOCAL:
            return
        family, transport = self._buffer[_FAMILY] >> 4, self._buffer[_FAMILY] & 0xF
        if command != _PROXY or transport > _LAST_TRANSPORT or (family and family not in _ADDRESS_BYTES):
            raise _malformed()
        if family and transport and self._size < _FIXED_BYTES + _ADDRESS_BYTES[family]:
            raise _malformed()


def _check_tlvs(header: bytes, at: int) -> None:
    """Walk through the values behind the addresses, from `at` to the end, and check the checksum if there is one
    (§2.2.3)."""
    while at < len(header):
        value_at = at + _TLV_HEAD_BYTES
        end = value_at + int.from_bytes(header[at + 1 : value_at], "big")
        if end > len(header) or value_at > len(header):
            raise _malformed()
        if header[at] == _TLV_CRC32C:
            if end - value_at != _CRC_BYTES:
                raise _malformed()
            if crc32c(header[:value_at] + bytes(_CRC_BYTES) + header[end:]) != int.from_bytes(header[value_at:end], "big"):
                raise ProxyHeaderError("the checksum of its PROXY protocol header is wrong")
        at = end


def crc32c(data: bytes) -> int:
    """The checksum CRC32C (RFC 9260 appendix A). About 0.1 µs a byte."""
    table = _crc32c_table()
    crc = 0xFFFF_FFFF
    for byte in data:
        crc = (crc >> 8) ^ table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFF_FFFF


@cache
def _crc32c_table() -> tuple[int, ...]:
    """The checksum's change by each value of a byte."""
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (_CASTAGNOLI if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


def _ipv6_text(address: IPv6Address) -> str:
    return str(address.ipv4_mapped or address)


def _malformed() -> ProxyHeaderError:
    return ProxyHeaderError("its PROXY protocol header is malformed")
