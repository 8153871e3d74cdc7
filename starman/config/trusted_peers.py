"""Which peers are trusted proxies: addresses, networks, `*` for every peer, and `unix` for UNIX sockets.

The module ipaddress is too large for the master, so addresses are parsed by inet_pton(3). Opens and resolves nothing.
The master imports this module.
"""

from __future__ import annotations

from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

EVERY_PEER = "*"
UNIX = "unix"

# The addresses of IPv4 within IPv6, ::ffff:0:0/96 (RFC 4291 §2.5.5.2).
_MAPPED = bytes(10) + b"\xff\xff"
_MAPPED_BITS = 96


class TrustedPeers:
    """A set of peers. Frozen; any thread may ask.

    peers: the canonical texts, as `read_peer` returns them.
    """

    __slots__ = ("_addresses", "_networks", "peers")

    peers: tuple[str, ...]
    _addresses: frozenset[str]
    _networks: tuple[tuple[int, int, int], ...]

    def __init__(self, peers: Iterable[str]) -> None:
        """Raises ValueError, with the reason, for a text that `read_peer` refuses."""
        found = tuple(read_peer(peer) for peer in peers)
        object.__setattr__(self, "peers", found)
        object.__setattr__(self, "_addresses", frozenset(peer for peer in found if "/" not in peer))
        object.__setattr__(self, "_networks", tuple(_network(peer) for peer in found if "/" in peer))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"TrustedPeers are frozen: {name} cannot be set")

    def __repr__(self) -> str:
        return f"TrustedPeers({list(self.peers)})"

    def trusts(self, address: str) -> bool:
        """Whether the peer of a connection is trusted. `address`: an IP address; "" or "unix" for a UNIX socket."""
        return EVERY_PEER in self._addresses or self.names(address or UNIX)

    def names(self, address: str) -> bool:
        """Whether an address is in the set without the help of `*`. For hops that a trusted peer reports: `*` trusts
        the peer, not all that the peer has been told."""
        if address in self._addresses:
            return True
        try:
            packed = packed_address(address.partition("%")[0])
        except ValueError:
            return False
        bits, number = len(packed) * 8, int.from_bytes(packed, "big")
        if any(bits == of and number >> shift == prefix for of, shift, prefix in self._networks):
            return True
        # Another spelling of an address of the set, such as ::ffff:127.0.0.1 or ::0001.
        return _text(packed) in self._addresses


def read_peer(value: str) -> str:
    """The canonical text of a peer: an address, a network ("10.0.0.0/8"), `*` or `unix`.

    An IPv6 address that stands for an IPv4 address is that IPv4 address, and a network of such addresses is an IPv4
    network. Raises ValueError, with the reason.
    """
    text = value.strip()
    if text.lower() in (EVERY_PEER, UNIX):
        return text.lower()
    host, slash, digits = text.partition("/")
    try:
        packed = packed_address(host)
    except ValueError:
        raise ValueError(f"{value!r} is neither an IP address nor a network, nor * nor unix") from None
    if not slash:
        return _text(packed)
    # By the written family: the prefix of ::ffff:10.0.0.0/104 counts from the start of the IPv6 address.
    offset = _MAPPED_BITS if ":" in host and len(packed) == 4 else 0
    most = offset + len(packed) * 8
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 3 and offset <= int(digits) <= most):
        raise ValueError(f"{value!r}: the length of the prefix must be a number from {offset} to {most}")
    bits = int(digits) - offset
    if bits == len(packed) * 8:
        return _text(packed)
    shift = len(packed) * 8 - bits
    number = int.from_bytes(packed, "big")
    network = f"{_text((number >> shift << shift).to_bytes(len(packed), 'big'))}/{bits}"
    if number >> shift << shift != number:
        raise ValueError(f"{value!r} has bits set behind its prefix: write {network} for the network, or {host} for the address")
    return network


def packed_address(text: str) -> bytes:
    """The 4 bytes of an IPv4 address, or the 16 bytes of an IPv6 address; 4 bytes if that stands for an IPv4 address.
    Raises ValueError."""
    try:
        packed = inet_pton(AF_INET6 if ":" in text else AF_INET, text)
    except (OSError, ValueError):
        raise ValueError(f"{text!r} is not an IP address") from None
    return packed[12:] if packed.startswith(_MAPPED) and len(packed) == 16 else packed


def canonical_address(text: str) -> str:
    """The canonical text of an IP address, IPv4 if an IPv6 address stands for one. Raises ValueError."""
    return _text(packed_address(text))


def _text(packed: bytes) -> str:
    return inet_ntop(AF_INET if len(packed) == 4 else AF_INET6, packed)


def _network(text: str) -> tuple[int, int, int]:
    """The bits of the family's addresses, the bits behind the prefix, and the prefix as a number."""
    host, _, digits = text.partition("/")
    packed = packed_address(host)
    bits = len(packed) * 8
    shift = bits - int(digits)
    return bits, shift, int.from_bytes(packed, "big") >> shift
