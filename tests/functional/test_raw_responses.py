"""Applications that break PEP 3333, on the wire: the exact bytes that a client gets, and whether the connection
persists.

Behind each request, a request for /next is in the same send. It is answered exactly if the connection persists, and
no byte of the application's is taken for its response.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.functional.support.harness import Server
from tests.functional.support.misbehaving import CASES
from tests.functional.support.wire import Client

_OURS = re.compile(rb"\r\n(?:Date: [A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT|Server: starman[^\r\n]*)(?=\r\n)")
_NEXT_REQUEST = b"GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
NEXT = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nnext\n"

_REFUSED_BODY = b"Internal Server Error\n"
_REFUSED_FIELDS = (b"Content-Type: text/plain; charset=utf-8", b"Content-Length: 22", b"Connection: close")
FAILED = b"\r\n".join([b"HTTP/1.1 500 Internal Server Error", *_REFUSED_FIELDS, b"", b""])


def head(*fields: bytes, status: bytes = b"200 OK") -> bytes:
    """A head with this status and these fields, without the server's own Date and Server."""
    return b"\r\n".join([b"HTTP/1.1 " + status, *fields, b"", b""])


def sized(body: bytes, *fields: bytes, status: bytes = b"200 OK") -> bytes:
    """A response with a Content-Length behind the application's fields."""
    return head(*fields, b"Content-Length: %d" % len(body), status=status) + body


def chunked(*blocks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    """A chunked response of these chunks; without its `end` it is visibly cut."""
    return head(b"Transfer-Encoding: chunked") + b"".join(b"%x\r\n%b\r\n" % (len(block), block) for block in blocks) + end


def cut(length: int, body: bytes, *fields: bytes) -> bytes:
    """A response with a body that is shorter than its length: the end of the connection tells."""
    return head(*fields, b"Content-Length: %d" % length) + body


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server("tests.functional.support.misbehaving:app", "--workers", "1", "--threads", "2") as running:
        yield running


def exchange(client: Client, name: str, method: bytes = b"GET", version: bytes = b"1.1", *fields: bytes) -> bytes:
    """All that is answered to a case and to /next behind it, without Date and Server, each of which must be there once
    a head."""
    client.send(
        b"\r\n".join([b"%b /%b HTTP/%b" % (method, name.encode(), version), b"Host: a", *fields, b"", b""]) + _NEXT_REQUEST
    )
    answer = client.read_to_end()
    stripped, count = _OURS.subn(b"", answer)
    assert count == 2 * len(re.findall(rb"HTTP/1\.1 [2-9]\d\d ", answer)), answer[:2000]
    return stripped


# What is answered to a GET by HTTP/1.1, and persists: /next is answered behind it.
PERSISTENT = {
    # never more than Content-Length (PEP 3333, "Handling the Content-Length Header")
    "long-list": sized(b"abc"),
    "long-blocks": sized(b"abc"),
    "long-write": sized(b"abc"),
    "long-0": sized(b""),
    "long-response-like": sized(b"ok"),
    "exact-blocks": sized(b"abc"),
    "one-item": sized(b"abc"),
    "two-items": sized(b"abcdef"),
    "empty-list": sized(b""),
    "empty-blocks": sized(b""),
    "chunked": chunked(b"abc", b"def"),
    "chunked-write": chunked(b"abc", b"def", b"g"),
    "length-in-spaces": sized(b"abc"),
    # fields about one connection are the server's (RFC 9110 §7.6.1)
    "te": sized(b"0\r\n\r\nevil"),
    "te-stream": chunked(b"5\r\nhello\r\n", b"0\r\n\r\n"),
    "te-and-length": sized(b"abc"),
    "te-gzip": sized(b"abc"),
    "connection-keep-alive": sized(b"abc"),
    "connection-upgrade": sized(b"abc"),
    "keep-alive": sized(b"abc"),
    # no body (RFC 9110 §15.3.5, §15.4.5; RFC 9112 §6.3)
    "no-body-204": head(b"X: b", status=b"204 x"),
    "no-body-304": head(b"X: b", status=b"304 x"),
    "no-body-204-length": head(status=b"204 x"),
    "no-body-304-length": head(b"Content-Length: 3", status=b"304 x"),
    "no-body-204-stream": head(status=b"204 x"),
    "no-body-304-stream": head(status=b"304 x"),
    "no-body-204-write": head(status=b"204 x"),
    "no-body-304-write": head(status=b"304 x"),
    **dict.fromkeys(("205", "205-body", "205-length", "205-blocks"), sized(b"", status=b"205 Reset Content")),
    # what has to be upgraded to (RFC 9110 §15.5.22, §7.8)
    "426": sized(b"abc", b"Connection: upgrade", b"Upgrade: TLS/1.0", status=b"426 Upgrade Required"),
    "tab": sized(b"abc", b"X: a\tb"),
    # what is late spoils nothing that was sent whole
    "write-after-end": sized(b"ok"),
    "fail-close": chunked(b"abc"),
    "start-twice-for-an-error": sized(b"sorry", b"X-Second: yes", status=b"503 Sorry"),
    "start-late": chunked(b"late"),
    # what is allowed
    "reason-empty": sized(b"abc", status=b"200 "),
    "reason-none": sized(b"abc", status=b"200 "),
    "reason-latin-1": sized(b"abc", status=b"200 caf\xe9"),
    "status-999": sized(b"abc", status=b"999 x"),
    "latin-1": sized(b"abc", b"X: \xe9\xff", b"X: ", b"Set-Cookie: a=b", b"Set-Cookie: c=d"),
    "huge-field": sized(b"abc", b"X: " + b"b" * 1_000_000),
    "many-fields": sized(b"abc", *[b"X: b"] * 5000),
    "large-blocks": chunked(b"a" * 1_000_000, b"b" * 1_000_000),
    "hints": b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n" + sized(b"hinted"),
    "hints-framing": b"HTTP/1.1 103 Early Hints\r\nLink: b\r\n\r\n" + sized(b"hinted"),
}

# What ends the connection, with what was sent before.
ENDING = {
    "connection-close": head(b"Content-Length: 3", b"Connection: close") + b"abc",
    "short-list": cut(10, b"abc"),
    "short-blocks": cut(10, b"abc"),
    "short-write": cut(10, b"abc"),
    "short-empty": cut(10, b""),
    "fail-chunked": chunked(b"abc", end=b""),
    "fail-length": cut(10, b"abc"),
    "fail-after-length": sized(b"abc"),
    "fail-write": chunked(b"abc", end=b""),
    "fail-exit": chunked(b"begun", end=b""),
    "second-str": chunked(b"abc", end=b""),
    "second-none": chunked(b"abc", end=b""),
    "start-for-an-error-too-late": cut(10, b"begun"),
}

# Everything else is a 500 of ours, with nothing of what the application wanted to say.
REFUSED = sorted(CASES.keys() - PERSISTENT.keys() - ENDING.keys() - {"own-date"})


@pytest.mark.parametrize("name", PERSISTENT)
def test_the_connection_goes_on(client: Client, name: str) -> None:
    assert exchange(client, name) == PERSISTENT[name] + NEXT


@pytest.mark.parametrize("name", ENDING)
def test_the_connection_ends(client: Client, name: str) -> None:
    expected = ENDING[name]
    assert exchange(client, name) in (expected, expected.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))


@pytest.mark.parametrize("name", REFUSED)
def test_nothing_of_it_is_sent(client: Client, name: str) -> None:
    assert exchange(client, name) == FAILED + _REFUSED_BODY


@pytest.mark.parametrize("name", sorted(PERSISTENT.keys() - {"hints", "hints-framing"}))
def test_a_head_has_the_same_head_and_no_body(client: Client, name: str) -> None:
    """RFC 9110 §9.3.2. A length may be left out that only the body would have told (here: that of a write() or a
    generator)."""
    head_of_get = PERSISTENT[name].partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    answer = exchange(client, name, b"HEAD")
    unframed = re.sub(rb"\r\n(Content-Length: \d+|Transfer-Encoding: chunked)(?=\r\n)", b"", head_of_get)
    assert answer in (head_of_get + NEXT, unframed + NEXT)


@pytest.mark.parametrize("name", ["short-list", "short-blocks", "short-empty", "start-for-an-error-too-late"])
def test_a_head_says_a_length_that_the_body_would_not_have(client: Client, name: str) -> None:
    assert exchange(client, name, b"HEAD") == cut(10, b"") + NEXT


@pytest.mark.parametrize(
    "name", ["fail", "fail-after-start", "fail-first", "no-start", "two-lengths", "status-0", "value-0", "none"]
)
def test_a_500_to_a_head_has_no_body(client: Client, name: str) -> None:
    assert exchange(client, name, b"HEAD") == FAILED


# HTTP/1.0: no chunks (RFC 9112 §6.1), so an unknown length lasts up to the close


CLOSE_DELIMITED = {
    "chunked": b"abcdef",
    "chunked-write": b"abcdefg",
    "te-stream": b"5\r\nhello\r\n0\r\n\r\n",
    "start-late": b"late",
    "fail-close": b"abc",
    "large-blocks": b"a" * 1_000_000 + b"b" * 1_000_000,
}


@pytest.mark.parametrize("option", [b"close", b"keep-alive"])
@pytest.mark.parametrize("name", CLOSE_DELIMITED)
def test_http_1_0_gets_an_unknown_length_up_to_the_close(client: Client, name: str, option: bytes) -> None:
    answer = exchange(client, name, b"GET", b"1.0", b"Connection: " + option)
    assert answer == head(b"Connection: close") + CLOSE_DELIMITED[name]


@pytest.mark.parametrize("name", ["one-item", "two-items", "exact-blocks", "te", "long-list", "keep-alive", "empty-blocks"])
def test_http_1_0_is_kept_alive_where_the_length_is_known(client: Client, name: str) -> None:
    expected = PERSISTENT[name].replace(b"\r\n\r\n", b"\r\nConnection: keep-alive\r\n\r\n", 1)
    assert exchange(client, name, b"GET", b"1.0", b"Connection: keep-alive") == expected + NEXT


@pytest.mark.parametrize("name", ["fail-chunked", "fail-write", "fail-exit", "second-str", "second-none"])
def test_a_failure_in_a_close_delimited_body_is_a_reset(client: Client, name: str) -> None:
    """An orderly close would say that the body is complete (RFC 9112 §8)."""
    with pytest.raises(ConnectionResetError):
        exchange(client, name, b"GET", b"1.0")


@pytest.mark.parametrize("name", ["fail-length", "short-blocks", "short-list"])
def test_a_short_body_shows_to_http_1_0_by_its_length(client: Client, name: str) -> None:
    answer = exchange(client, name, b"GET", b"1.0", b"Connection: keep-alive")
    assert re.fullmatch(rb"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: (close|keep-alive)\r\n\r\nabc", answer)


@pytest.mark.parametrize("name", ["hints", "hints-framing"])
def test_http_1_0_gets_no_interim_response(client: Client, name: str) -> None:
    assert exchange(client, name, b"GET", b"1.0") == head(b"Content-Length: 6", b"Connection: close") + b"hinted"


# Beside the bytes


def test_the_applications_date_and_server_are_the_only_ones(client: Client) -> None:
    client.send(b"GET /own-date HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    own = (b"Date: yesterday", b"Server: mine", b"Content-Length: 3", b"Connection: close")
    assert client.read_to_end() == head(*own) + b"abc"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("name", sorted(name for name, case in CASES.items() if case.__qualname__.startswith("stream.")))
def test_close_is_called_once_however_the_response_went(client: Client, name: str, method: str) -> None:
    """PEP 3333: "regardless of whether the request was completed normally, or terminated early due to an application
    error"."""
    with Client(client.socket.getpeername()) as another:
        another.get("/closed")
        client.send(f"{method} /{name} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        client.read_to_end()
        assert another.get("/closed").body.decode().split() == [name]


def test_what_went_wrong_is_in_the_log_and_nowhere_else(server: Server) -> None:
    with server.client() as client:
        assert b"secret" not in exchange(client, "fail")
    server.wait_for(r"GET /fail\n(?:.*\n)*?  ValueError: secret")


def test_the_worker_lives(server: Server) -> None:
    """SystemExit, KeyboardInterrupt and GeneratorExit of an application end its request, and nothing else."""
    before = server.worker_pids()
    for name in ("fail-exit", "fail-keyboard", "fail-generator-exit"):
        with server.client() as client:
            exchange(client, name)
        with server.client() as client:
            assert exchange(client, "one-item") == PERSISTENT["one-item"] + NEXT
    assert server.worker_pids() == before
