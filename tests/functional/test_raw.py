"""Raw requests through the real server: each asserts its answer, what the application was called with, and the
connection's fate.

The tables are `raw_refused` and `raw_served`. Behind every case stands a request that must be read exactly where the
case ends, or not at all; the application's own record of its calls tells whether anything was called that was not
sent.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
from collections.abc import Iterable, Iterator

import pytest
from _pytest.mark import ParameterSet

from tests.functional.support.harness import Server
from tests.functional.support.raw_cases import FOLLOWING, MOST_BODY, SEEN_FOLLOWING, Call, Case, chunks, get, length, post, seen
from tests.functional.support.raw_refused import REFUSED
from tests.functional.support.raw_served import SERVED
from tests.functional.support.recording import RECORD
from tests.functional.support.wire import Client, NoResponseError, Response

_BEFORE = b"GET /before HTTP/1.1\r\nHost: a\r\n\r\n"
_SEEN_BEFORE = seen(path="/before")
_IMF_FIXDATE = re.compile(
    r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) \d{4} \d\d:\d\d:\d\d GMT"
)


class Record:
    """What the application was called with, asked for over a connection of its own."""

    def __init__(self, server: Server) -> None:
        self._client = server.client()

    def take(self) -> list[Call]:
        """All calls since the last time."""
        calls: list[Call] = json.loads(self._client.get(RECORD).body)
        return calls

    def close(self) -> None:
        self._client.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One worker, so that there is one record; several threads, so that two requests of a connection could run at
    once."""
    arguments = ["--workers", "1", "--threads", "4", "--max-body", str(MOST_BODY), "--keepalive-timeout", "60"]
    with Server("tests.functional.support.recording:app", *arguments) as running:
        yield running


@pytest.fixture(scope="module")
def module_record(server: Server) -> Iterator[Record]:
    record = Record(server)
    yield record
    record.close()


@pytest.fixture
def record(module_record: Record) -> Record:
    """The record, with nothing in it."""
    module_record.take()
    return module_record


def served(client: Client, call: Call) -> Response:
    """Read the answer to a request that the application has to see as `call`."""
    response = client.read(call["method"])
    assert response.status == 200
    if call["method"] != "HEAD":
        assert json.loads(response.body) == call
    return response


def refused(client: Client, status: int, method: str = "GET") -> None:
    """Read the refusal, and the end of the connection behind it."""
    response = client.read(method)
    assert response.status == status, response
    assert response.version == "HTTP/1.1"
    assert response.get("Connection") == "close"
    assert _IMF_FIXDATE.fullmatch(response.get("Date") or "")
    assert (response.get("Content-Type") or "").startswith("text/plain")
    assert response.get("Content-Length") is not None
    assert response.get("Transfer-Encoding") is None
    if method != "HEAD":
        assert re.fullmatch(rb"[\x20-\x7e]+\n", response.body)
    assert client.at_end()


def over(client: Client) -> None:
    """Nothing more is coming: after our FIN there is the server's, and no byte before it."""
    client.socket.shutdown(socket.SHUT_WR)
    assert client.read_to_end() == b""


def method_of(data: bytes) -> str:
    return "HEAD" if data.startswith(b"HEAD ") else "GET"


def cases(known: Iterable[Case], most_bytes: int | None = None) -> list[ParameterSet]:
    """`known` as parameters; those of at most `most_bytes` (None: all)."""
    return [pytest.param(case, id=str(case)) for case in known if most_bytes is None or len(case.data) <= most_bytes]


@pytest.mark.parametrize("case", cases(REFUSED))
def test_refused(client: Client, record: Record, case: Case) -> None:
    assert case.status is not None
    client.send(case.data + FOLLOWING)
    refused(client, case.status, method_of(case.data))
    assert record.take() == []


@pytest.mark.parametrize("case", cases(REFUSED))
def test_refused_after_the_answer_before_it(client: Client, record: Record, case: Case) -> None:
    assert case.status is not None
    client.send(_BEFORE + case.data + FOLLOWING)
    assert served(client, _SEEN_BEFORE).persistent
    refused(client, case.status, method_of(case.data))
    assert record.take() == [_SEEN_BEFORE]


@pytest.mark.parametrize("case", cases(REFUSED, most_bytes=500))
def test_refused_byte_by_byte(client: Client, record: Record, case: Case) -> None:
    """The refusal may come before the last byte is sent; nothing of what is still under way may destroy it."""
    assert case.status is not None
    for byte in case.data:
        client.send(bytes([byte]))
    client.send(FOLLOWING)
    refused(client, case.status, method_of(case.data))
    assert record.take() == []


@pytest.mark.parametrize("case", SERVED, ids=str)
def test_served(client: Client, record: Record, case: Case) -> None:
    client.send(case.data + FOLLOWING)
    check_served(client, record, case)


@pytest.mark.parametrize("case", [case for case in SERVED if len(case.data) < 500], ids=str)
def test_served_byte_by_byte(client: Client, record: Record, case: Case) -> None:
    for byte in case.data:
        client.send(bytes([byte]))
    client.send(FOLLOWING)
    check_served(client, record, case)


def check_served(client: Client, record: Record, case: Case) -> None:
    """All answers of a case, its end, and the record."""
    calls = list(case.calls)
    for number, call in enumerate(calls, 1):
        response = served(client, call)
        assert response.interim == () or (response.interim == (100,) and "HTTP_EXPECT" in call["fields"])
        assert response.persistent is not (case.closes and number == len(calls))
    if case.status is not None:
        refused(client, case.status)
    elif case.closes:
        assert client.at_end()
    else:
        assert served(client, SEEN_FOLLOWING).persistent
        calls.append(SEEN_FOLLOWING)
        over(client)
    assert record.take() == calls


# Half-close (RFC 9112 §9.6), and what is never completed


WHOLE = {
    "a request": (get(), [seen()]),
    "a request and an empty line": (get() + b"\r\n", [seen()]),
    "a body": (length(b"5"), [seen("POST", body=b"hello")]),
    "chunks": (chunks(b"5\r\nhello\r\n0\r\n\r\n"), [seen("POST", body=b"hello")]),
    "three": (get() + length(b"5") + get(), [seen(), seen("POST", body=b"hello"), seen()]),
    "close": (get(b"Connection: close"), [seen(HTTP_CONNECTION="close")]),
    "an upgrade": (get(b"Connection: upgrade", b"Upgrade: x"), [seen(HTTP_CONNECTION="upgrade", HTTP_UPGRADE="x")]),
    "nothing": (b"", []),
    "an empty line": (b"\r\n", []),
}


@pytest.mark.parametrize("name", WHOLE)
def test_half_close_behind_whole_requests(client: Client, record: Record, name: str) -> None:
    data, calls = WHOLE[name]
    client.send(data)
    client.socket.shutdown(socket.SHUT_WR)
    for call in calls:
        served(client, call)
    assert client.read_to_end() == b""
    assert record.take() == calls


UNFINISHED = {
    "half a method": b"GE",
    "half a target": b"GET /ca",
    "half a version": b"GET /case HTTP/1.",
    "a request line": b"GET /case HTTP/1.1\r\n",
    "half a field": b"GET /case HTTP/1.1\r\nHo",
    "half a value": b"GET /case HTTP/1.1\r\nHost: a",
    "fields without their end": b"GET /case HTTP/1.1\r\nHost: a\r\n",
    "half the end of the fields": b"GET /case HTTP/1.1\r\nHost: a\r\n\r",
    "no body": post(b"Content-Length: 5", body=b""),
    "half a body": post(b"Content-Length: 5", body=b"hell"),
    "half a body, closing": post(b"Content-Length: 5", b"Connection: close", body=b"hell"),
    "half a body by 1.0": post(b"Content-Length: 5", body=b"hell", version=b"1.0"),
    "half a body that is a request": post(b"Content-Length: 500", body=FOLLOWING),
    "no chunk": chunks(b""),
    "half a chunk size": chunks(b"5"),
    "half a chunk": chunks(b"5\r\nhell"),
    "a chunk without its end": chunks(b"5\r\nhello"),
    "no last chunk": chunks(b"5\r\nhello\r\n"),
    "half a last chunk": chunks(b"5\r\nhello\r\n0\r\n"),
    "half the end of the last chunk": chunks(b"5\r\nhello\r\n0\r\n\r"),
    "half a trailer": chunks(b"5\r\nhello\r\n0\r\nA: b"),
    "trailers without their end": chunks(b"5\r\nhello\r\n0\r\nA: b\r\n"),
}


@pytest.mark.parametrize("before", [b"", _BEFORE], ids=["alone", "behind another"])
@pytest.mark.parametrize("name", UNFINISHED)
def test_half_close_in_the_middle(client: Client, record: Record, name: str, before: bytes) -> None:
    """RFC 9112 §8: an incomplete message is not acted upon. A 400 may say so."""
    client.send(before + UNFINISHED[name])
    client.socket.shutdown(socket.SHUT_WR)
    if before:
        served(client, _SEEN_BEFORE)
    with contextlib.suppress(NoResponseError):
        refused(client, 400)
    assert record.take() == ([_SEEN_BEFORE] if before else [])


@pytest.mark.parametrize("name", ["space before colon", "chunk"])
def test_half_close_behind_a_broken_request(client: Client, record: Record, name: str) -> None:
    client.send({"space before colon": get(b"A : b"), "chunk": chunks(b"5x\r\n")}[name])
    client.socket.shutdown(socket.SHUT_WR)
    refused(client, 400)
    assert record.take() == []


@pytest.mark.parametrize("name", UNFINISHED)
def test_reset_in_the_middle(server: Server, record: Record, name: str) -> None:
    with server.client() as client:
        client.send(_BEFORE + UNFINISHED[name])
        served(client, _SEEN_BEFORE)
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    with server.client() as another:
        another.send(FOLLOWING)
        served(another, SEEN_FOLLOWING)
    assert record.take() == [_SEEN_BEFORE, SEEN_FOLLOWING]


# Expect (RFC 9110 §10.1.1), where the client waits


@pytest.mark.parametrize("framing", [b"Content-Length: 5", b"Transfer-Encoding: chunked"])
@pytest.mark.parametrize("before", [b"", _BEFORE], ids=["alone", "behind another"])
def test_100_continue_comes_once_and_in_its_turn(client: Client, record: Record, framing: bytes, before: bytes) -> None:
    client.send(before + post(framing, b"Expect: 100-continue", body=b""))
    if before:
        assert served(client, _SEEN_BEFORE).interim == ()
    assert client.read_head().status == 100
    client.send((b"hello" if b"Length" in framing else b"5\r\nhello\r\n0\r\n\r\n") + FOLLOWING)
    assert served(client, seen("POST", body=b"hello", HTTP_EXPECT="100-continue")).interim == ()
    served(client, SEEN_FOLLOWING)
    over(client)


REFUSED_BEFORE_100 = {
    "a length beyond the limit": (post(b"Content-Length: %d" % (MOST_BODY + 1), b"Expect: 100-continue", body=b""), 413),
    "CL.TE": (post(b"Content-Length: 5", b"Transfer-Encoding: chunked", b"Expect: 100-continue", body=b""), 400),
    "two lengths": (post(b"Content-Length: 5", b"Content-Length: 6", b"Expect: 100-continue", body=b""), 400),
    "an unknown coding": (post(b"Transfer-Encoding: gzip, chunked", b"Expect: 100-continue", body=b""), 501),
    "an unknown expectation": (post(b"Content-Length: 5", b"Expect: 100-continue, x", body=b""), 417),
}


@pytest.mark.parametrize("name", REFUSED_BEFORE_100)
def test_what_is_refused_is_refused_without_100(client: Client, record: Record, name: str) -> None:
    """And a body that comes all the same is not read as a request."""
    data, status = REFUSED_BEFORE_100[name]
    client.send(data)
    response = client.read()
    assert (response.status, response.interim, response.get("Connection")) == (status, (), "close")
    client.send(FOLLOWING)
    assert client.at_end()
    assert record.take() == []


def test_a_chunked_body_beyond_the_limit_is_refused_behind_100(client: Client, record: Record) -> None:
    client.send(chunks(b"", b"Expect: 100-continue"))
    assert client.read_head().status == 100
    client.send(b"%x\r\n%b\r\n1\r\n" % (MOST_BODY, b"x" * MOST_BODY))
    refused(client, 413)
    assert record.take() == []


# In pieces, and many at once


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50])
def test_a_body_in_pieces_that_look_like_requests(client: Client, record: Record, size: int) -> None:
    body = FOLLOWING * 5
    client.send(post(b"Content-Length: %d" % len(body), body=b""))
    for at in range(0, len(body), size):
        client.send(body[at : at + size])
    served(client, seen("POST", body=body))
    client.send(chunks(b""))
    for at in range(0, len(body), size):
        piece = body[at : at + size]
        client.send(b"%x\r\n%b\r\n" % (len(piece), piece))
    client.send(b"0\r\n\r\n")
    served(client, seen("POST", body=body))
    over(client)
    assert len(record.take()) == 2


@pytest.mark.parametrize("count", [1, 10, 100])
def test_many_requests_and_a_broken_one(client: Client, record: Record, count: int) -> None:
    client.send((get() + length(b"5")) * count + get(b"A : b") + FOLLOWING * count)
    for _ in range(count):
        served(client, seen())
        served(client, seen("POST", body=b"hello"))
    refused(client, 400)
    assert len(record.take()) == 2 * count


def test_the_most_empty_lines_are_counted_for_each_request(client: Client, record: Record) -> None:
    client.send((b"\r\n" * 4 + get()) * 10)
    for _ in range(10):
        served(client, seen())
    over(client)
