"""HTTP/1.1 as a client sees it: persistence, pipelining, framing in both directions, Expect, refusals."""

from __future__ import annotations

import re
import socket
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import pytest

from tests.functional.support.applications import digest, pattern
from tests.functional.support.harness import Server
from tests.functional.support.wire import Client, encode_chunks, encode_request

CHUNKED = ("Transfer-Encoding", "chunked")


# Persistence


def test_a_connection_serves_many_requests(client: Client) -> None:
    for _ in range(50):
        response = client.get("/hello")
        assert (response.status, response.body, response.framing) == (200, b"hello\n", "length")
        assert response.version == "HTTP/1.1"
        assert response.persistent


def test_close_is_announced_and_done(client: Client) -> None:
    response = client.get("/hello", ("Connection", "close"))
    assert response.body == b"hello\n"
    assert response.get("Connection") == "close"
    assert client.at_end()


def test_close_is_found_among_other_tokens_and_fields(client: Client) -> None:
    response = client.get("/hello", ("Connection", "x-one, X-Two"), ("Connection", "foo , Close"))
    assert response.get("Connection") == "close"
    assert client.at_end()


def test_nothing_is_served_after_close(client: Client) -> None:
    client.send(encode_request("GET", "/hello", [("Connection", "close")]) + encode_request("GET", "/pid"))
    assert client.read().body == b"hello\n"
    assert client.at_end()


def test_http_1_0_closes(client: Client) -> None:
    client.send(b"GET /hello HTTP/1.0\r\n\r\n")
    response = client.read()
    assert (response.version, response.body) == ("HTTP/1.1", b"hello\n")
    assert client.at_end()


def test_http_1_0_stays_on_request(client: Client) -> None:
    for _ in range(3):
        client.send(b"GET /hello HTTP/1.0\r\nHost: localhost\r\nConnection: Keep-Alive\r\n\r\n")
        response = client.read()
        assert response.body == b"hello\n"
        assert response.get("Connection") == "keep-alive"


def test_http_1_0_gets_an_unknown_length_up_to_the_close(client: Client) -> None:
    client.send(b"GET /stream/50000 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    response = client.read()
    assert (response.framing, response.body) == ("close", pattern(50_000))
    assert response.get("Transfer-Encoding") is None


def test_a_half_closed_client_gets_its_answer(client: Client) -> None:
    client.send(encode_request("POST", "/digest", body=b"last words"))
    client.socket.shutdown(socket.SHUT_WR)
    assert client.read().body == digest(b"last words")
    assert client.at_end()


def test_disable_keepalive() -> None:
    with Server("examples/hello.py", "--workers", "1", "--disable-keepalive") as server, server.client() as client:
        assert client.get("/").get("Connection") == "close"
        assert client.at_end()


def test_keepalive_timeout_ends_an_idle_connection() -> None:
    with Server("examples/hello.py", "--workers", "1", "--keepalive-timeout", "0.3") as server, server.client() as client:
        assert client.get("/").status == 200
        assert client.at_end()


def test_header_timeout_ends_a_dripping_head() -> None:
    with Server("examples/hello.py", "--workers", "1", "--header-timeout", "0.3") as server, server.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: loc")
        assert client.read_to_end()[:13] in (b"", b"HTTP/1.1 408 ")


# Pipelining


def test_pipelined_requests_with_bodies_are_answered_in_order(client: Client) -> None:
    bodies = [b"GET /smuggled HTTP/1.1\r\n\r\n", b"", pattern(70_000), b"0", pattern(3)]
    requests = [encode_request("POST", "/echo", body=body) for body in bodies]
    requests.insert(2, encode_request("GET", "/slow/0.1?name="))
    requests.insert(4, encode_request("POST", "/echo", [CHUNKED]) + encode_chunks([b"chunk", b"ed"]))
    client.send(b"".join(requests))
    answers = [response.body for response in client.read_many(["GET"] * len(requests))]
    assert answers == [bodies[0], b"", b"slow \n", bodies[2], b"chunked", b"0", bodies[4]]


def test_a_hundred_pipelined_requests(client: Client) -> None:
    client.send(b"".join(encode_request("GET", f"/size/{number}") for number in range(100)))
    assert [len(response.body) for response in client.read_many(["GET"] * 100)] == list(range(100))


def test_pipelined_head_and_streams_stay_apart(client: Client) -> None:
    client.send(
        encode_request("HEAD", "/stream/5000")
        + encode_request("GET", "/stream/5000")
        + encode_request("HEAD", "/size/10")
        + encode_request("GET", "/status/204")
        + encode_request("GET", "/hello")
    )
    responses = client.read_many(["HEAD", "GET", "HEAD", "GET", "GET"])
    assert [response.body for response in responses] == [b"", pattern(5000), b"", b"", b"hello\n"]


def test_requests_arriving_byte_by_byte(client: Client) -> None:
    for byte in encode_request("POST", "/echo", body=b"slowly") + encode_request("GET", "/hello"):
        client.send(bytes([byte]))
    assert [response.body for response in client.read_many(["POST", "GET"])] == [b"slowly", b"hello\n"]


def test_a_bad_pipelined_request_is_refused_after_the_answers_before_it(client: Client) -> None:
    client.send(encode_request("GET", "/slow/0.1") + b"GET / HTTP/1.1\r\n\r\n" + encode_request("GET", "/hello"))
    assert client.read().body == b"slow \n"
    refusal = client.read()
    assert (refusal.status, refusal.get("Connection")) == (400, "close")
    assert client.at_end()


# Requests


@pytest.mark.parametrize("size", [0, 1, 65_536, 1_048_576, 1_048_577, 5_000_000])
def test_bodies_by_length(client: Client, size: int) -> None:
    response = client.request("POST", "/digest", body=pattern(size))
    assert (response.status, response.body) == (200, digest(pattern(size)))
    assert response.get("X-Body-Bytes") == str(size)


@pytest.mark.parametrize("step", [1, 7, 1000, 65_536])
def test_chunked_bodies(client: Client, step: int) -> None:
    body = pattern(2000 if step == 1 else 300_000)
    blocks = [body[offset : offset + step] for offset in range(0, len(body), step)]
    client.send(encode_request("POST", "/digest", [CHUNKED]) + encode_chunks(blocks))
    response = client.read()
    assert response.body == digest(body)
    assert response.get("X-Body-Bytes") == str(len(body))
    assert client.get("/hello").body == b"hello\n"


def test_chunk_boundaries_on_packet_borders(client: Client) -> None:
    client.send(encode_request("POST", "/echo", [CHUNKED]))
    for packet in (b"3\r\n", b"abc", b"\r\n", b"2", b"\r", b"\nde\r\n0\r\n", b"\r\n"):
        client.send(packet)
    assert client.read().body == b"abcde"


def test_a_large_chunked_body_is_spooled_and_whole(client: Client) -> None:
    body = pattern(5_000_000)
    blocks = [body[offset : offset + 99_999] for offset in range(0, len(body), 99_999)]
    client.send(encode_request("POST", "/digest", [CHUNKED]) + encode_chunks(blocks))
    assert client.read().body == digest(body)


def test_trailers_are_read_and_do_not_become_fields(client: Client) -> None:
    client.send(encode_request("POST", "/environ", [CHUNKED]) + b"2\r\nab\r\n0\r\nX-Trailer: yes\r\n\r\n")
    response = client.read()
    assert response.status == 200
    assert b"HTTP_X_TRAILER" not in response.body
    assert b"starman.trailers" in response.body


@pytest.mark.parametrize("size", [100, 3_000_000])
def test_bodies_are_seekable(client: Client, size: int) -> None:
    assert client.request("POST", "/read-twice", body=pattern(size)).body == b"same"


def test_expect_100_continue(client: Client) -> None:
    client.send(encode_request("POST", "/echo", [("Expect", "100-CONTINUE"), ("Content-Length", "4")]))
    assert client.read_head().status == 100
    client.send(b"body")
    response = client.read()
    assert (response.status, response.body, response.interim) == (200, b"body", ())


def test_expect_100_continue_with_chunks(client: Client) -> None:
    client.send(encode_request("POST", "/echo", [("Expect", "100-continue"), CHUNKED]))
    assert client.read_head().status == 100
    client.send(encode_chunks([b"body"]))
    assert client.read().body == b"body"


def test_no_100_when_the_body_has_come_or_none_is_due_or_http_1_0(client: Client) -> None:
    client.send(encode_request("POST", "/echo", [("Expect", "100-continue")], b"here"))
    client.send(encode_request("GET", "/hello", [("Expect", "100-continue")]))
    client.send(b"POST /echo HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
    first, second = client.read(), client.read()
    client.send(b"late")
    third = client.read()
    assert [response.interim for response in (first, second, third)] == [(), (), ()]
    assert [response.body for response in (first, second, third)] == [b"here", b"hello\n", b"late"]


def test_another_expectation_is_417(client: Client) -> None:
    assert client.request("POST", "/echo", [("Expect", "200-ok")], b"x").status == 417


def test_an_incomplete_body_never_reaches_the_application(server: Server) -> None:
    with server.client() as client:
        client.send(encode_request("POST", "/log-line", [("Content-Length", "10")]) + b"short")
        client.socket.shutdown(socket.SHUT_WR)
        assert client.read_to_end()[:13] in (b"", b"HTTP/1.1 400 ")
    assert "a line of the application" not in server.log


REFUSED = {
    "no Host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two Hosts": (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
    "bad Host": (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    "length and coding": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "two lengths": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400),
    "signed length": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc", 400),
    "coding on 1.0": (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "unknown coding": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    "bad chunk size": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
    "space before colon": (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
    "folded field": (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", 400),
    "bare LF": (b"GET / HTTP/1.1\nHost: a\n\n", 400),
    "CONNECT": (b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    "HTTP/2.0": (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    "star": (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "long target": (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    "many fields": (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X-Many: 1\r\n" * 20_000 + b"\r\n", 431),
    "long field": (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 2_000_000 + b"\r\n\r\n", 431),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_are_framed_and_end_the_connection(client: Client, name: str) -> None:
    data, status = REFUSED[name]
    client.send(data)
    response = client.read()
    assert response.status == status
    assert response.get("Connection") == "close"
    assert response.get("Date") is not None
    assert response.framing == "length"
    assert client.at_end()


# Responses


def test_date_and_server(client: Client) -> None:
    response = client.get("/hello")
    date = response.get("Date")
    assert date is not None
    assert re.fullmatch(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", date)
    assert abs(parsedate_to_datetime(date) - datetime.now(UTC)) < timedelta(seconds=10)
    assert response.get("Server") is not None


@pytest.mark.parametrize(("product", "expected"), [("web", "web"), ("off", None)])
def test_the_server_field_can_be_chosen_or_left_out(product: str, expected: str | None) -> None:
    with Server("examples/hello.py", "--workers", "1", "--server-header", product) as server, server.client() as client:
        assert client.get("/").get("Server") == expected
        client.send(b"GET / HTTP/1.1\r\n\r\n")
        refused = client.read()
        assert (refused.status, refused.get("Server")) == (400, expected)


def test_the_applications_date_and_server_win(client: Client) -> None:
    response = client.get("/fields?own=yes")
    assert response.get("Date") == "Thu, 01 Jan 1970 00:00:00 GMT"
    assert response.get("Server") == "mine"


def test_repeated_and_latin_1_fields_are_sent_as_given(client: Client) -> None:
    response = client.get("/fields")
    assert response.get_all("Set-Cookie") == ["a=1", "b=2"]
    assert response.get("X-Latin") == "caf\xe9"


def test_an_unknown_length_is_chunked(client: Client) -> None:
    response = client.get("/stream/100000?step=999")
    assert (response.framing, response.body) == ("chunked", pattern(100_000))
    assert client.get("/hello").body == b"hello\n"


def test_large_responses(client: Client) -> None:
    assert client.get("/size/20000000").body == pattern(20_000_000)
    assert client.get("/stream/20000000?step=1000000").body == pattern(20_000_000)
    assert client.get("/hello").body == b"hello\n"


def test_a_one_item_list_gets_its_length(client: Client) -> None:
    response = client.get("/pid")
    assert (response.framing, response.get("Content-Length")) == ("length", str(len(response.body)))


@pytest.mark.parametrize("target", ["/hello", "/stream/1000", "/size/1000000", "/file", "/file-like"])
def test_head_has_no_body(client: Client, target: str) -> None:
    assert client.request("HEAD", target).status == 200
    assert client.get("/hello").body == b"hello\n"


@pytest.mark.parametrize("code", [204, 304])
@pytest.mark.parametrize("body", ["yes", "no"])
def test_204_and_304_have_no_body_and_no_framing(client: Client, code: int, body: str) -> None:
    response = client.get(f"/status/{code}?body={body}")
    assert (response.status, response.reason) == (code, "Because")
    assert response.get("Transfer-Encoding") is None
    if code == 204:
        assert response.get("Content-Length") is None
    assert client.get("/hello").body == b"hello\n"


def test_a_404_has_its_body(client: Client) -> None:
    response = client.get("/nothing")
    assert (response.status, response.reason, response.body) == (404, "Not Found", b"not found\n")


def test_methods_beyond_the_registered_ones(client: Client) -> None:
    assert client.get("/hello").status == 200
    assert b'"REQUEST_METHOD": "BREW"' in client.request("BREW", "/environ").body


# Listeners


def test_a_unix_socket(tmp_path: str) -> None:
    path = f"{tmp_path}/server.sock"
    with Server("examples/hello.py", "--workers", "1", listen=path) as server, server.client() as client:
        assert server.address == path
        assert client.get("/").body == b"Hello from starman\n"


def test_several_listeners_at_once(tmp_path: str) -> None:
    listen = ["127.0.0.1:0", "[::1]:0", f"{tmp_path}/server.sock"]
    with Server("examples/hello.py", "--workers", "2", listen=listen) as server:
        first, second = server.ports
        for address in (("127.0.0.1", first), ("::1", second), listen[2]):
            with Client(address) as client:
                assert client.get("/").status == 200
