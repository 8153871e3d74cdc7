"""starman.gunicorn.bind: addresses as gunicorn reads them."""

from __future__ import annotations

import pytest

from starman.config.addresses import parse_address
from starman.gunicorn.bind import listen_addresses, parse_bind


@pytest.mark.parametrize(
    ("bind", "expected"),
    [
        ("0.0.0.0", "0.0.0.0:8000"),
        ("127.0.0.1:9000", "127.0.0.1:9000"),
        (":9000", "0.0.0.0:9000"),
        ("0:9000", "0.0.0.0:9000"),
        ("127.1", "127.0.0.1:8000"),
        ("", "0.0.0.0:8000"),
        ("LOCALHOST", "localhost:8000"),
        ("tcp://127.0.0.1:9000", "127.0.0.1:9000"),
        ("[::1]:9000", "[::1]:9000"),
        ("[::1]", "[::1]:8000"),
        ("[::]:9000", "*:9000"),
        ("unix:/run/app.sock", "unix:/run/app.sock"),
        ("unix:///run/app.sock", "unix:/run/app.sock"),
        ("unix://tmp/x", "unix:tmp/x"),
        ("unix:x", "unix:x"),
        ("fd://3", "fd://3"),
    ],
)
def test_an_address_means_what_it_means_in_gunicorn(bind: str, expected: str) -> None:
    assert listen_addresses([bind]) == [expected]
    parse_address(expected)


def test_ipv6_beside_ipv4_on_one_port_stays_ipv6() -> None:
    assert listen_addresses(["0.0.0.0:80", "[::]:80"]) == ["0.0.0.0:80", "[::]:80"]


@pytest.mark.parametrize(
    ("bind", "expected"),
    [
        ("0.0.0.0:None", "'None' is not a valid port number in '0.0.0.0:None'"),
        ("0.0.0.0:", "'' is not a valid port number"),
        ("0.0.0.0:70000", "'70000' is not a valid port number"),
        ("fd://x", "'fd://x' is not a valid file descriptor"),
        ("unix:", "the path of the socket is missing"),
    ],
)
def test_a_wrong_address_is_an_error(bind: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        parse_bind(bind)
