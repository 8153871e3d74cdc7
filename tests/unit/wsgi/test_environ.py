"""starman.wsgi.environ: what an application is told of a request (PEP 3333, "environ Variables")."""

from __future__ import annotations

import os
import sys
from urllib.parse import quote
from wsgiref.validate import check_environ

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starman.wsgi import environ as module
from starman.wsgi.environ import Environ, build, for_connection, template
from starman.wsgi.filewrapper import FileWrapper
from tests.unit.wsgi.heads import request

LISTENER = template(
    server=("example.test", 8000), secure=False, errors=sys.stderr, threads=True, processes=False, software="starman/test"
)
CONNECTION = for_connection(LISTENER, ("192.0.2.7", 4711), None)


def environ_of(data: bytes, connection: Environ = CONNECTION) -> Environ:
    head, body, length = request(data)
    return build(connection, head, body, length)


def get(target: str = "/", *fields: str, version: str = "1.1", body: bytes = b"") -> Environ:
    lines = [f"GET {target} HTTP/{version}", *([] if version == "1.0" else ["Host: example.test"]), *fields, "", ""]
    return environ_of("\r\n".join(lines).encode("latin-1") + body)


def test_the_whole_environ_of_a_plain_request() -> None:
    environ = get("/a/b?c=d", "User-Agent: test", "X-Two-Words: x")
    del environ["wsgi.input"]
    assert environ == {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/a/b",
        "QUERY_STRING": "c=d",
        "REQUEST_URI": "/a/b?c=d",
        "RAW_URI": "/a/b?c=d",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "example.test",
        "SERVER_PORT": "8000",
        "SERVER_SOFTWARE": "starman/test",
        "REMOTE_ADDR": "192.0.2.7",
        "REMOTE_PORT": "4711",
        "HTTP_HOST": "example.test",
        "HTTP_USER_AGENT": "test",
        "HTTP_X_TWO_WORDS": "x",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
        "wsgi.file_wrapper": FileWrapper,
        "starman.queue_time": 0.0,
    }


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /%e2%82%ac?%e2 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Type: text/plain\r\n\r\nab",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        b"GET http://b/x HTTP/1.1\r\nHost: a\r\nX-Latin: \xe9\r\n\r\n",
    ],
)
def test_wsgiref_has_no_objection(data: bytes) -> None:
    environ = environ_of(data)
    if data.startswith(b"OPTIONS *"):
        assert environ["PATH_INFO"] == ""
    check_environ(environ)
    assert type(environ) is dict
    assert all(type(value) is str for name, value in environ.items() if not name.startswith(("wsgi.", "starman.")))


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/", "/", ""),
        ("/?", "/", ""),
        ("/a%20b?c%20d", "/a b", "c%20d"),
        ("/caf%C3%A9", "/caf\xc3\xa9", ""),
        ("/%e9", "/\xe9", ""),
        ("/a%2Fb", "/a/b", ""),
        ("//a//b/", "//a//b/", ""),
        ("/a/../b/.", "/a/../b/.", ""),
        ("/%2e%2E/%00", "/../\0", ""),
        ("/a?b?c=/d", "/a", "b?c=/d"),
        ("/%25", "/%", ""),
        ("/a+b", "/a+b", ""),
        ("/a;p=1", "/a;p=1", ""),
        ("/a?x=|", "/a", "x=|"),
        ("http://other.test/p?q", "/p", "q"),
        ("http://other.test", "/", ""),
        ("http://other.test?q", "/", "q"),
    ],
)
def test_path_and_query(target: str, path: str, query: str) -> None:
    environ = get(target)
    assert (environ["PATH_INFO"], environ["QUERY_STRING"]) == (path, query)
    assert environ["REQUEST_URI"] == environ["RAW_URI"] == target


@given(st.text(st.characters(min_codepoint=1, max_codepoint=0x2FFF), max_size=20))
def test_any_path_comes_back_as_its_bytes(text: str) -> None:
    environ = get("/" + quote(text, safe=""))
    assert environ["PATH_INFO"].encode("latin-1").decode() == "/" + text


def test_an_absolute_target_gives_the_host() -> None:
    assert get("http://other.test:81/")["HTTP_HOST"] == "other.test:81"
    assert get("http://other.test/", version="1.0")["HTTP_HOST"] == "other.test"


def test_a_1_0_request() -> None:
    environ = get("/", version="1.0")
    assert "HTTP_HOST" not in environ
    assert (environ["SERVER_NAME"], environ["SERVER_PROTOCOL"]) == ("example.test", "HTTP/1.0")


def test_the_protocol_is_as_received() -> None:
    assert get("/", version="1.7")["SERVER_PROTOCOL"] == "HTTP/1.7"


@pytest.mark.parametrize(
    ("fields", "key", "value"),
    [
        (["X-A: 1", "x-a: 2", "X-a: 3"], "HTTP_X_A", "1, 2, 3"),
        (["Cookie: a=1", "cookie: b=2"], "HTTP_COOKIE", "a=1; b=2"),
        (["X-A:  padded \t"], "HTTP_X_A", "padded"),
        (["X-A:"], "HTTP_X_A", ""),
        (["X-A: \xe9\xff"], "HTTP_X_A", "\xe9\xff"),
        (["Content-Type: text/plain"], "CONTENT_TYPE", "text/plain"),
        (["CONTENT-TYPE: text/plain"], "CONTENT_TYPE", "text/plain"),
        (["X.A: 1"], "HTTP_X.A", "1"),
        (["Authorization: Basic eA=="], "HTTP_AUTHORIZATION", "Basic eA=="),
        (["X-Forwarded-For: 1.2.3.4"], "HTTP_X_FORWARDED_FOR", "1.2.3.4"),
        (["Content-Length: 0"], "CONTENT_LENGTH", "0"),
    ],
)
def test_fields(fields: list[str], key: str, value: str) -> None:
    environ = get("/", *fields)
    assert environ[key] == value
    assert f"HTTP_{key}" not in environ


@pytest.mark.parametrize("name", ["X_A", "X-_A", "Content_Length", "CONTENT_TYPE", "_", "Transfer_Encoding", "Host_"])
def test_a_name_with_an_underscore_is_dropped(name: str) -> None:
    before = get("/")
    environ = get("/", f"{name}: forged")
    assert set(environ) == set(before)


def test_the_underscored_twin_does_not_join() -> None:
    assert get("/", "X-A: real", "X_A: forged")["HTTP_X_A"] == "real"


@pytest.mark.parametrize("name", ["Proxy", "proxy", "PROXY"])
def test_proxy_never_becomes_http_proxy(name: str) -> None:
    assert "HTTP_PROXY" not in get("/", f"{name}: http://evil.test/")


@pytest.mark.parametrize("name", ["REMOTE-ADDR", "Server-Name", "wsgi.input", "Script-Name", "PATH-INFO", "Request-Method"])
def test_a_field_cannot_pose_as_a_variable(name: str) -> None:
    environ, before = get("/", f"{name}: forged"), get("/")
    environ.pop("HTTP_" + name.upper().replace("-", "_"))
    environ.pop("wsgi.input"), before.pop("wsgi.input")
    assert environ == before


def test_nothing_of_the_process_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_X_SECRET", "x")
    environ = get("/")
    assert "HTTP_X_SECRET" not in environ
    assert not set(environ) & set(os.environ)


def test_a_body() -> None:
    environ = get("/", "Content-Length: 0005", body=b"hello")
    assert environ["CONTENT_LENGTH"] == "5"
    assert environ["wsgi.input"].read() == b"hello"


def test_no_body() -> None:
    environ = get("/")
    assert "CONTENT_LENGTH" not in environ
    assert environ["wsgi.input"].read() == b""


@pytest.mark.parametrize(("chunks", "body"), [(b"3\r\nabc\r\n2\r\nde\r\n", b"abcde"), (b"", b"")])
def test_a_chunked_body_has_its_length_and_no_transfer_encoding(chunks: bytes, body: bytes) -> None:
    environ = get("/", "Transfer-Encoding: chunked", "Trailer: X-T", body=chunks + b"0\r\nX-T: 1\r\n\r\n")
    assert environ["CONTENT_LENGTH"] == str(len(body))
    assert "HTTP_TRANSFER_ENCODING" not in environ
    assert "HTTP_X_T" not in environ
    assert environ["wsgi.input"].read() == body
    assert environ["wsgi.input_terminated"] is True


def test_the_address_of_the_connection_replaces_a_wildcard() -> None:
    connection = for_connection(LISTENER, ("::1", 5), ("10.0.0.1", 8443))
    assert (connection["SERVER_NAME"], connection["SERVER_PORT"]) == ("10.0.0.1", "8443")
    assert (connection["REMOTE_ADDR"], connection["REMOTE_PORT"]) == ("::1", "5")
    assert LISTENER["SERVER_NAME"] == "example.test"


@pytest.mark.parametrize(
    ("address", "name"),
    [("::1", "[::1]"), ("2001:db8::1", "[2001:db8::1]"), ("fe80::1%eth0", "[fe80::1]"), ("::ffff:192.0.2.1", "192.0.2.1")],
)
def test_an_ipv6_address_is_in_brackets_where_it_may_stand_in_a_url(address: str, name: str) -> None:
    """RFC 3875 §4.1.14: SERVER_NAME is a host, as in a URL; §4.1.8: REMOTE_ADDR is an address."""
    connection = for_connection(LISTENER, (address, 5, 0, 0), (address, 80, 0, 0))
    assert (connection["SERVER_NAME"], connection["SERVER_PORT"]) == (name, "80")
    assert connection["REMOTE_ADDR"] == address.removeprefix("::ffff:")
    if "ffff" not in address:
        listener = template(server=(address, 80), secure=False, errors=sys.stderr, threads=False, processes=True, software="s")
        assert listener["SERVER_NAME"] == name


def test_https() -> None:
    secure = template(server=("a", 443), secure=True, errors=sys.stderr, threads=False, processes=True, software="s")
    assert (secure["wsgi.url_scheme"], secure["wsgi.multithread"], secure["wsgi.multiprocess"]) == ("https", False, True)


def test_each_request_has_an_environ_of_its_own() -> None:
    first = get("/")
    first["wsgi.url_scheme"] = "changed"
    first["REMOTE_ADDR"] = "changed"
    assert get("/")["wsgi.url_scheme"] == "http"
    assert CONNECTION["REMOTE_ADDR"] == "192.0.2.7"


def test_the_table_of_spellings_stops_growing() -> None:
    """In the table that is used: where it is compiled, no other can be put in its place."""
    table, before = module._spellings, dict(module._spellings)
    table.clear()
    try:
        assert get("/", f"{'X' * 200}: x")["HTTP_" + "X" * 200] == "x"
        assert set(table) == {b"Host"}
        for number in range(module._MOST_SPELLINGS + 20):
            assert get("/", f"X-Name-{number}: x")[f"HTTP_X_NAME_{number}"] == "x"
        assert len(table) == module._MOST_SPELLINGS
    finally:
        table.clear()
        table.update(before)
