"""starman.wsgi.forwarded: what a trusted proxy may state of a request, and what changes in its environ."""

from __future__ import annotations

from typing import Any

import pytest

from starman.config.settings import Settings
from starman.errors import ProtocolError
from starman.wsgi.forwarded import Forwarding
from tests.unit.wsgi.forwarding import environ_of

DEFAULT = Settings.of()
CHAIN = Settings.of(forwarded_allow_ips=["127.0.0.1", "10.0.0.0/8"])
RFC7239 = Settings.of(forwarded_allow_ips=["127.0.0.1", "10.0.0.0/8"], forwarded="for,proto,host,rfc7239")
ALL = Settings.of(forwarded="for,proto,host,port,prefix")
CHANGED = ("REMOTE_ADDR", "REMOTE_PORT", "wsgi.url_scheme", "SERVER_NAME", "SERVER_PORT", "SCRIPT_NAME", "HTTP_HOST")


def client(environ: dict[str, Any]) -> tuple[str, str]:
    return environ["REMOTE_ADDR"], environ["REMOTE_PORT"]


def place(environ: dict[str, Any]) -> tuple[str, str, str, str]:
    return environ["wsgi.url_scheme"], environ["SERVER_NAME"], environ["SERVER_PORT"], environ["HTTP_HOST"]


def test_a_request_without_such_fields_is_left_alone() -> None:
    environ = environ_of(ALL, "User-Agent: a")
    assert client(environ) == ("127.0.0.1", "4711")
    assert place(environ) == ("http", "127.0.0.1", "8000", "internal:8000")


FORGED = (
    "X-Forwarded-For: 192.0.2.1",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Host: evil.example",
    "X-Forwarded-Port: 1",
    "X-Forwarded-Prefix: /evil",
    "Forwarded: for=192.0.2.1;proto=https;host=evil.example",
    "X-Forwarded-Ssl: on",
)


@pytest.mark.parametrize("settings", [DEFAULT, RFC7239, ALL])
def test_other_peers_are_not_believed_and_their_fields_stay(settings: Settings) -> None:
    environ = environ_of(settings, *FORGED, trusted=False)
    plain = environ_of(settings)
    assert [environ[key] for key in CHANGED] == [plain[key] for key in CHANGED]
    assert environ["HTTP_X_FORWARDED_FOR"] == "192.0.2.1"
    assert environ["HTTP_X_FORWARDED_PROTO"] == "https"


def test_without_trusted_proxies_no_field_counts() -> None:
    settings = Settings.of(forwarded_allow_ips="none")
    assert not Forwarding(settings).trusts(("127.0.0.1", 1))
    assert client(environ_of(settings, *FORGED, trusted=False)) == ("127.0.0.1", "4711")


@pytest.mark.parametrize(
    ("peer", "peers", "trusted"),
    [
        (("127.0.0.1", 5), "127.0.0.1", True),
        (("::ffff:127.0.0.1", 5, 0, 0), "127.0.0.1", True),
        (("192.0.2.1", 5), "127.0.0.1", False),
        (("192.0.2.1", 5), "*", True),
        ("", "unix", True),
        ("/a/path", "unix", True),
        (b"", "127.0.0.1,::1", False),
        ("", "*", True),
    ],
)
def test_which_peer_is_trusted(peer: object, peers: str, trusted: bool) -> None:
    assert Forwarding(Settings.of(forwarded_allow_ips=peers)).trusts(peer) is trusted


@pytest.mark.parametrize(
    ("settings", "fields", "expected"),
    [
        (DEFAULT, ["X-Forwarded-For: 192.0.2.1"], ("192.0.2.1", "0")),
        (DEFAULT, ["X-Forwarded-For: 192.0.2.1:4000"], ("192.0.2.1", "4000")),
        (DEFAULT, ["X-Forwarded-For: [2001:DB8::1]:4000"], ("2001:db8::1", "4000")),
        (DEFAULT, ["X-Forwarded-For: 198.51.100.9, 192.0.2.1"], ("192.0.2.1", "0")),
        (DEFAULT, ["X-Forwarded-For: 198.51.100.9", "X-Forwarded-For: 192.0.2.1"], ("192.0.2.1", "0")),
        (DEFAULT, ["X-Forwarded-For: 192.0.2.1, junk"], ("127.0.0.1", "4711")),
        (DEFAULT, ["X-Forwarded-For:"], ("127.0.0.1", "4711")),
        (CHAIN, ["X-Forwarded-For: 198.51.100.9, 192.0.2.1, 10.0.0.1, 10.0.0.2"], ("192.0.2.1", "0")),
        (CHAIN, ["X-Forwarded-For: unknown, 10.0.0.1"], ("10.0.0.1", "0")),
        (CHAIN, ["X-Forwarded-For: 10.0.0.3, 10.0.0.1"], ("10.0.0.3", "0")),
        (Settings.of(forwarded_allow_ips="*"), ["X-Forwarded-For: 198.51.100.9, 192.0.2.1"], ("192.0.2.1", "0")),
        (Settings.of(forwarded="proto"), ["X-Forwarded-For: 192.0.2.1"], ("127.0.0.1", "4711")),
        (DEFAULT, ["Forwarded: for=192.0.2.1"], ("127.0.0.1", "4711")),
        (RFC7239, ["Forwarded: for=192.0.2.1"], ("192.0.2.1", "0")),
        (RFC7239, ['Forwarded: for=9.9.9.9, for="[2001:db8::1]:80", for=10.0.0.1'], ("2001:db8::1", "80")),
        (RFC7239, ["Forwarded: for=_hidden, for=10.0.0.1"], ("10.0.0.1", "0")),
        (RFC7239, ["Forwarded: proto=https"], ("127.0.0.1", "4711")),
        (RFC7239, ["Forwarded:"], ("127.0.0.1", "4711")),
        (RFC7239, ["X-Forwarded-For: 192.0.2.1"], ("127.0.0.1", "4711")),
    ],
)
def test_the_client(settings: Settings, fields: list[str], expected: tuple[str, str]) -> None:
    assert client(environ_of(settings, *fields)) == expected


@pytest.mark.parametrize(
    ("settings", "fields", "scheme"),
    [
        (DEFAULT, ["X-Forwarded-Proto: https"], "https"),
        (DEFAULT, ["X-Forwarded-Proto: HTTPS"], "https"),
        (DEFAULT, ["X-Forwarded-Proto: wss"], "https"),
        (DEFAULT, ["X-Forwarded-Proto: http"], "http"),
        (DEFAULT, ["X-Forwarded-Proto: junk"], "http"),
        (DEFAULT, ["X-Forwarded-Proto:"], "http"),
        (DEFAULT, ["X-Forwarded-Protocol: ssl"], "https"),
        (DEFAULT, ["X-Forwarded-Ssl: on"], "https"),
        (DEFAULT, ["X-Forwarded-Ssl: off"], "http"),
        (DEFAULT, ["X-Forwarded-Proto: https", "X-Forwarded-Ssl: on", "X-Forwarded-Protocol: ssl"], "https"),
        (DEFAULT, ["X-Forwarded-Proto: https", "X-Forwarded-Proto: https"], "https"),
        (DEFAULT, ["X-Forwarded-Proto: https, http"], "http"),
        (DEFAULT, ["X-Forwarded-Proto: http, https"], "https"),
        (CHAIN, ["X-Forwarded-For: 192.0.2.1, 10.0.0.1", "X-Forwarded-Proto: https, http"], "https"),
        (CHAIN, ["X-Forwarded-For: 9.9.9.9, 192.0.2.1, 10.0.0.1", "X-Forwarded-Proto: http, https, http"], "https"),
        (CHAIN, ["X-Forwarded-For: 9.9.9.9, 192.0.2.1, 10.0.0.1", "X-Forwarded-Proto: https, http"], "http"),
        (DEFAULT, ["Forwarded: proto=https"], "http"),
        (RFC7239, ["Forwarded: proto=https"], "https"),
        (RFC7239, ["Forwarded: for=192.0.2.1;proto=https, for=10.0.0.1;proto=http"], "https"),
        (RFC7239, ["Forwarded: for=9.9.9.9;proto=https, for=192.0.2.1;proto=http"], "http"),
        (RFC7239, ["X-Forwarded-Proto: https"], "http"),
        (Settings.of(forwarded="for"), ["X-Forwarded-Proto: https"], "http"),
        (Settings.of(secure_scheme_headers={"X-Scheme": "tls"}), ["X-Scheme: tls"], "https"),
        (Settings.of(secure_scheme_headers={"X-Scheme": "tls"}), ["X-Forwarded-Proto: https"], "http"),
        (Settings.of(secure_scheme_headers="none"), ["X-Forwarded-Proto: https"], "http"),
    ],
)
def test_the_scheme(settings: Settings, fields: list[str], scheme: str) -> None:
    assert environ_of(settings, *fields)["wsgi.url_scheme"] == scheme


def test_a_proxy_that_speaks_tls_may_state_http() -> None:
    assert environ_of(DEFAULT, "X-Forwarded-Proto: http", secure=True)["wsgi.url_scheme"] == "http"
    assert environ_of(DEFAULT, secure=True)["wsgi.url_scheme"] == "https"


@pytest.mark.parametrize(
    ("settings", "fields", "reason"),
    [
        (DEFAULT, ["X-Forwarded-Proto: https", "X-Forwarded-Ssl: off"], "contradict each other"),
        (DEFAULT, ["X-Forwarded-Proto: https", "X-Forwarded-Proto: http"], "contradict each other"),
        (RFC7239, ['Forwarded: for="'], "Forwarded field is malformed"),
        (RFC7239, ['Forwarded: host="a b"'], "not a valid host"),
        (ALL, ["X-Forwarded-Host: a b"], "not a valid host"),
        (ALL, ["X-Forwarded-Host: a", "X-Forwarded-Host: b"], "X-Forwarded-Host twice"),
        (ALL, ["X-Forwarded-Port: 0"], "not a port"),
        (ALL, ["X-Forwarded-Port: 65536"], "not a port"),
        (ALL, ["X-Forwarded-Port: \xb2"], "not a port"),
        (ALL, ["X-Forwarded-Prefix: a"], "not a path"),
        (ALL, ["X-Forwarded-Prefix: /a?b"], "not a path"),
    ],
)
def test_what_is_contradictory_or_malformed_is_refused(settings: Settings, fields: list[str], reason: str) -> None:
    with pytest.raises(ProtocolError, match=reason) as caught:
        environ_of(settings, *fields)
    assert (caught.value.status, caught.value.to_head) == (400, False)
    with pytest.raises(ProtocolError) as caught:
        environ_of(settings, *fields, method="HEAD")
    assert caught.value.to_head
    environ_of(settings, *fields, trusted=False)


@pytest.mark.parametrize(
    ("secure", "stated", "port", "expected"),
    [
        (False, "https", 80, "443"),
        (True, "http", 443, "80"),
        (False, "https", 8000, "8000"),
        (False, "http", 80, "80"),
    ],
)
def test_a_default_port_follows_the_scheme(secure: bool, stated: str, port: int, expected: str) -> None:
    environ = environ_of(DEFAULT, f"X-Forwarded-Proto: {stated}", secure=secure, port=port)
    assert environ["SERVER_PORT"] == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (["X-Forwarded-Host: shop.example"], ("http", "shop.example", "80", "shop.example")),
        (["X-Forwarded-Host: shop.example:81"], ("http", "shop.example", "81", "shop.example:81")),
        (["X-Forwarded-Host: shop.example:80"], ("http", "shop.example", "80", "shop.example")),
        (["X-Forwarded-Host: [2001:db8::1]"], ("http", "[2001:db8::1]", "80", "[2001:db8::1]")),
        (["X-Forwarded-Host: [2001:db8::1]:81"], ("http", "[2001:db8::1]", "81", "[2001:db8::1]:81")),
        (["X-Forwarded-Host: evil, shop.example"], ("http", "shop.example", "80", "shop.example")),
        (["X-Forwarded-Host: a", "X-Forwarded-Proto: https"], ("https", "a", "443", "a")),
        (["X-Forwarded-Host: a", "X-Forwarded-Proto: https", "X-Forwarded-Port: 443"], ("https", "a", "443", "a")),
        (["X-Forwarded-Host: a:1", "X-Forwarded-Port: 8443"], ("http", "a", "8443", "a:8443")),
        (["X-Forwarded-Port: 8443"], ("http", "127.0.0.1", "8443", "internal:8443")),
        (["X-Forwarded-Port: 80"], ("http", "127.0.0.1", "80", "internal")),
        (["X-Forwarded-Host:"], ("http", "127.0.0.1", "8000", "internal:8000")),
    ],
)
def test_host_and_port(fields: list[str], expected: tuple[str, str, str, str]) -> None:
    assert place(environ_of(ALL, *fields)) == expected
    assert place(environ_of(DEFAULT, *fields, trusted=False)) == ("http", "127.0.0.1", "8000", "internal:8000")


def test_the_host_of_forwarded() -> None:
    environ = environ_of(RFC7239, "Forwarded: for=9.9.9.9;host=evil, for=192.0.2.1;host=shop.example, for=10.0.0.1;host=b")
    assert environ["HTTP_HOST"] == "shop.example"


def test_a_stated_host_replaces_that_of_an_absolute_target() -> None:
    assert environ_of(ALL, "X-Forwarded-Host: a", target="http://internal:8000/b")["HTTP_HOST"] == "a"
    assert environ_of(ALL, "X-Forwarded-Host: a", host="")["HTTP_HOST"] == "a"


@pytest.mark.parametrize(("value", "script_name"), [("/a", "/a"), ("/a/", "/a"), ("/", ""), ("", ""), ("/x, /a%20b", "/a b")])
def test_the_prefix(value: str, script_name: str) -> None:
    environ = environ_of(ALL, f"X-Forwarded-Prefix: {value}", target="/a/c")
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == (script_name, "/a/c")


def test_two_services_in_one_process_read_their_own_fields_only() -> None:
    Forwarding(Settings.of(secure_scheme_headers={"X-Other": "on"}, header_map="refuse"))
    assert environ_of(DEFAULT, "X-Other: on", "A_B: c")["wsgi.url_scheme"] == "http"
