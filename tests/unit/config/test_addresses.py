"""What a listener's text means, and what is said about a text that means nothing."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starman.config.addresses import UNIX_PATH_BYTES, Address, AddressKind, parse_address, tcp_address
from starman.errors import SettingError

PORTS = st.integers(0, 65535)
NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,20}(\.[a-z][a-z0-9-]{0,10}){0,2}", fullmatch=True)
PATH_TEXT = st.text(st.characters(codec="ascii", min_codepoint=33, max_codepoint=126), min_size=1, max_size=60)


def tcp(host: str, port: int) -> Address:
    return Address(AddressKind.TCP, host=host, port=port)


@pytest.mark.parametrize(
    ("text", "address", "canonical"),
    [
        (":5000", tcp("0.0.0.0", 5000), "0.0.0.0:5000"),
        ("5000", tcp("0.0.0.0", 5000), "0.0.0.0:5000"),
        (":0", tcp("0.0.0.0", 0), "0.0.0.0:0"),
        ("*:80", tcp("*", 80), "*:80"),
        ("127.0.0.1:8080", tcp("127.0.0.1", 8080), "127.0.0.1:8080"),
        ("LocalHost:80", tcp("localhost", 80), "localhost:80"),
        ("my_host-1.example:80", tcp("my_host-1.example", 80), "my_host-1.example:80"),
        ("[::1]:80", tcp("::1", 80), "[::1]:80"),
        ("[::]:80", tcp("::", 80), "[::]:80"),
        ("[2001:DB8:0:0::0001]:80", tcp("2001:db8::1", 80), "[2001:db8::1]:80"),
        ("[fe80::1%eth0]:80", tcp("fe80::1%eth0", 80), "[fe80::1%eth0]:80"),
        ("/tmp/s.sock", Address(AddressKind.UNIX, path="/tmp/s.sock"), "unix:/tmp/s.sock"),
        ("./s.sock", Address(AddressKind.UNIX, path="./s.sock"), "unix:./s.sock"),
        ("unix:s.sock", Address(AddressKind.UNIX, path="s.sock"), "unix:s.sock"),
        ("unix:/tmp/s.sock", Address(AddressKind.UNIX, path="/tmp/s.sock"), "unix:/tmp/s.sock"),
        ("unix:///tmp/s.sock", Address(AddressKind.UNIX, path="/tmp/s.sock"), "unix:/tmp/s.sock"),
        ("/tmp/a:80", Address(AddressKind.UNIX, path="/tmp/a:80"), "unix:/tmp/a:80"),
        ("@name", Address(AddressKind.ABSTRACT, path="name"), "@name"),
        ("@a/b", Address(AddressKind.ABSTRACT, path="a/b"), "@a/b"),
        ("fd://3", Address(AddressKind.FD, fd=3), "fd://3"),
        (":5443:ssl", tcp("0.0.0.0", 5443).secured(), "0.0.0.0:5443:ssl"),
        ("5443:ssl", tcp("0.0.0.0", 5443).secured(), "0.0.0.0:5443:ssl"),
        ("*:5443:ssl", tcp("*", 5443).secured(), "*:5443:ssl"),
        ("LocalHost:80:ssl", tcp("localhost", 80).secured(), "localhost:80:ssl"),
        ("[::1]:80:ssl", tcp("::1", 80).secured(), "[::1]:80:ssl"),
        ("/tmp/a:ssl", Address(AddressKind.UNIX, path="/tmp/a:ssl"), "unix:/tmp/a:ssl"),
    ],
)
def test_forms(text: str, address: Address, canonical: str) -> None:
    assert parse_address(text) == address
    assert str(parse_address(text)) == canonical


def test_tls_is_a_part_of_an_address_but_never_of_a_unix_socket() -> None:
    assert tcp("::1", 80) != tcp("::1", 80).secured()
    assert tcp("::1", 80).secured().secure
    assert parse_address("fd://3").secured().secure
    for text in ("/tmp/s.sock", "@name"):
        assert parse_address(text).secured() == parse_address(text)
        assert not parse_address(text).secured().secure


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("localhost:ssl", "'localhost' has no port"),
        ("::1:80:ssl", "in brackets"),
        ("", "empty address"),
        (" :80", "white space"),
        (":80\n", "white space"),
        ("a\0b/c", "control characters"),
        ("localhost", "'localhost' has no port: write localhost:PORT, or unix:localhost"),
        ("localhost:", "has no port"),
        ("localhost:http", "'http' is not a port (0 to 65535)"),
        ("localhost:-1", "'-1' is not a port"),
        ("localhost:٤", "is not a port"),
        (":65536", "port 65536 is out of range (0 to 65535)"),
        ("70000", "port 70000 is out of range (0 to 65535)"),
        (":" + "9" * 5000, "is out of range (0 to 65535)"),
        ("::1", "in brackets"),
        ("::1:80", "write an IPv6 address in brackets, [IPv6]:PORT"),
        ("[::1]", "write [IPv6]:PORT"),
        ("[::1:80", "write [IPv6]:PORT"),
        ("[::1]80", "write [IPv6]:PORT"),
        ("[hello]:80", "'hello' is not an IPv6 address"),
        ("[fe80::1%]:80", "is not an IPv6 address"),
        ("[127.0.0.1]:80", "is not an IPv6 address"),
        ("300.1.1.1:80", "'300.1.1.1' is not an IPv4 address"),
        ("1.2.3:80", "'1.2.3' is not an IPv4 address"),
        ("a host:80", "neither a host name nor an IPv4 address"),
        ("bücher.example:80", "neither a host name nor an IPv4 address"),
        ("http://localhost:5000", "is a URL"),
        ("unix:", "the path of the socket is missing"),
        ("/tmp/", "the path of the socket is missing"),
        ("@", "the name of the socket is missing"),
        ("fd://", "fd://N"),
        ("fd://x", "fd://N"),
        ("fd://-1", "fd://N"),
        ("/" + "x" * UNIX_PATH_BYTES, f"too long ({UNIX_PATH_BYTES + 1} bytes, at most {UNIX_PATH_BYTES})"),
        ("@" + "x" * (UNIX_PATH_BYTES + 2), f"({UNIX_PATH_BYTES + 2} bytes, at most"),
    ],
)
def test_refusals_say_what_is_wrong(text: str, words: str) -> None:
    with pytest.raises(SettingError) as caught:
        parse_address(text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_longest_path_is_accepted() -> None:
    assert parse_address("/" + "x" * (UNIX_PATH_BYTES - 1)).kind is AddressKind.UNIX


@pytest.mark.parametrize(
    ("host", "canonical"),
    [
        ("", "0.0.0.0:1"),
        ("*", "*:1"),
        ("::1", "[::1]:1"),
        ("[::1]", "[::1]:1"),
        ("example.org", "example.org:1"),
        ("10.0.0.1", "10.0.0.1:1"),
    ],
)
def test_host_and_port_given_apart(host: str, canonical: str) -> None:
    assert str(tcp_address(host, 1)) == canonical


@pytest.mark.parametrize("host", ["a b", "x:y", "1.2.3.4.5", "[", "[]", "[a]", "[::1", "a/b"])
def test_a_host_that_is_none(host: str) -> None:
    with pytest.raises(SettingError):
        assert tcp_address(host, 1) is None


@given(NAMES, PORTS)
def test_names_survive_the_canonical_text(name: str, port: int) -> None:
    address = parse_address(f"{name}:{port}")
    assert (address.kind, address.host, address.port) == (AddressKind.TCP, name, port)
    assert parse_address(str(address)) == address


@given(st.ip_addresses(), PORTS)
def test_ip_addresses_survive_the_canonical_text(ip: IPv4Address | IPv6Address, port: int) -> None:
    written = f"[{ip.exploded}]" if ip.version == 6 else str(ip)
    address = parse_address(f"{written}:{port}")
    assert address.port == port
    assert type(ip)(address.host) == ip
    assert parse_address(str(address)) == address
    assert tcp_address(str(ip), port) == address


@given(PATH_TEXT)
def test_paths_survive_the_canonical_text(path: str) -> None:
    address = parse_address(f"unix:{path}x")
    assert address.kind is AddressKind.UNIX
    assert parse_address(str(address)) == address


@given(st.integers(65536, 10**9))
def test_no_port_beyond_the_range(port: int) -> None:
    with pytest.raises(SettingError, match="0 to 65535"):
        parse_address(f":{port}")


@given(st.text(max_size=30))
def test_any_text_is_an_address_or_a_setting_error(text: str) -> None:
    try:
        address = parse_address(text)
    except SettingError:
        return
    assert parse_address(str(address)) == address


def test_an_address_is_a_value() -> None:
    one, same, other = parse_address(":80"), parse_address("80"), parse_address(":81")
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    assert one != "0.0.0.0:80"
    assert len({one, same, other}) == 2
    assert repr(one) == "<Address 0.0.0.0:80>"
    with pytest.raises(AttributeError, match="frozen"):
        one.port = 81
    with pytest.raises(AttributeError, match="frozen"):
        del one.port
    assert not hasattr(one, "__dict__")
