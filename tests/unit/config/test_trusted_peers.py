"""starman.config.trusted_peers: addresses, networks, `*` and `unix`. The module ipaddress is the reference."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starman.config.trusted_peers import TrustedPeers, canonical_address, read_peer

IPV4 = st.ip_addresses(v=4)
IPV6 = st.ip_addresses(v=6).filter(lambda address: address.ipv4_mapped is None)  # type: ignore[union-attr]
ADDRESSES = IPV4 | IPV6


@st.composite
def networks(draw: st.DrawFn) -> IPv4Network | IPv6Network:
    address = draw(ADDRESSES)
    return ip_network((address, draw(st.integers(0, address.max_prefixlen))), strict=False)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("127.0.0.1", "127.0.0.1"),
        (" 127.0.0.1 ", "127.0.0.1"),
        ("::1", "::1"),
        ("2001:DB8:0::0001", "2001:db8::1"),
        ("::ffff:10.1.2.3", "10.1.2.3"),
        ("::ffff:a01:203", "10.1.2.3"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.1.2.3/32", "10.1.2.3"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("2001:DB8::/32", "2001:db8::/32"),
        ("::1/128", "::1"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:10.1.2.3/128", "10.1.2.3"),
        ("*", "*"),
        ("unix", "unix"),
        ("UNIX", "unix"),
    ],
)
def test_the_canonical_text(text: str, canonical: str) -> None:
    assert read_peer(text) == canonical
    assert read_peer(canonical) == canonical


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("localhost", "'localhost' is neither an IP address nor a network, nor \\* nor unix"),
        ("", "neither an IP address"),
        ("10.0.0", "neither an IP address"),
        ("010.0.0.1", "neither an IP address"),
        ("10.0.0.1:80", "neither an IP address"),
        ("[::1]", "neither an IP address"),
        ("fe80::1%eth0", "neither an IP address"),
        ("\uff11.2.3.4", "neither an IP address"),
        ("1.2.3.4\0", "neither an IP address"),
        ("10.0.0.0/33", "prefix must be a number from 0 to 32"),
        ("10.0.0.0/", "prefix must be a number from 0 to 32"),
        ("10.0.0.0/-1", "prefix must be a number"),
        ("10.0.0.0/255.0.0.0", "prefix must be a number"),
        ("::/129", "prefix must be a number from 0 to 128"),
        ("::ffff:0.0.0.0/95", "prefix must be a number from 96 to 128"),
        ("10.1.2.3/8", "bits set behind its prefix: write 10.0.0.0/8 for the network, or 10.1.2.3 for the address"),
        ("*/8", "neither an IP address"),
    ],
)
def test_what_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_peer(text)


@given(ADDRESSES)
def test_addresses_are_read_as_by_ipaddress(address: IPv4Address | IPv6Address) -> None:
    assert ip_address(canonical_address(address.exploded)) == address
    assert ip_address(read_peer(str(address))) == address


@given(networks())
def test_networks_are_read_as_by_ipaddress(network: IPv4Network | IPv6Network) -> None:
    assert ip_network(read_peer(str(network))) == network


@given(st.lists(ADDRESSES.map(str) | networks().map(str), max_size=4), ADDRESSES)
def test_trust_is_membership_as_in_ipaddress(peers: list[str], address: IPv4Address | IPv6Address) -> None:
    expected = any(address in ip_network(peer) for peer in peers)
    trusted = TrustedPeers(peers)
    assert trusted.trusts(str(address)) is expected
    assert trusted.trusts(address.exploded) is expected
    assert not trusted.trusts("")


@given(networks(), st.data())
def test_each_address_of_a_network_is_trusted(network: IPv4Network | IPv6Network, data: st.DataObject) -> None:
    address = network[data.draw(st.integers(0, network.num_addresses - 1))]
    assert TrustedPeers([str(network)]).trusts(str(address))


@given(IPV4, st.lists(networks().map(str), max_size=3))
def test_an_ipv6_address_that_stands_for_ipv4_counts_as_ipv4(address: IPv4Address, peers: list[str]) -> None:
    assert TrustedPeers([str(address)]).trusts(f"::ffff:{address}")
    assert TrustedPeers([f"::ffff:{address}"]).trusts(str(address))
    assert TrustedPeers(peers).trusts(f"::ffff:{address}") is TrustedPeers(peers).trusts(str(address))


def test_a_zone_does_not_matter() -> None:
    assert TrustedPeers(["fe80::/10"]).trusts("fe80::1%eth0")
    assert TrustedPeers(["fe80::1"]).trusts("fe80::1%eth0")


@pytest.mark.parametrize("unix", ["", "unix"])
def test_unix_sockets(unix: str) -> None:
    assert TrustedPeers(["unix"]).trusts(unix)
    assert TrustedPeers(["*"]).trusts(unix)
    assert not TrustedPeers(["127.0.0.1", "0.0.0.0/0", "::/0"]).trusts(unix)


def test_a_star_trusts_every_peer_and_names_no_address() -> None:
    trusted = TrustedPeers(["*", "10.0.0.0/8"])
    assert trusted.trusts("192.0.2.1")
    assert trusted.names("10.1.2.3")
    assert not trusted.names("192.0.2.1")


@pytest.mark.parametrize("junk", ["unknown", "10.0.0.1:80", "[::1]", " 10.0.0.1", "1.2.3.4\0", "é"])
def test_no_other_text_is_trusted(junk: str) -> None:
    assert not TrustedPeers(["0.0.0.0/0", "::/0", "unix"]).trusts(junk)


def test_it_is_frozen() -> None:
    with pytest.raises(AttributeError):
        TrustedPeers([]).peers = ("*",)
