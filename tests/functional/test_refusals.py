"""Refused clients in the error log: a line each, a count if there are many, and no raw byte of theirs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from starman.serving.refusallog import MOST_LINES
from tests.functional.support.harness import Server
from tests.functional.support.wire import NoResponseError, encode_request

TLS_HANDSHAKE = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256))
HTTP_2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x12\x04\0\0\0\0\0"

APPLICATION = """
def app(environ, start_response):
    text = environ["PATH_INFO"] + environ.get("HTTP_X", "")
    raise ValueError(text.encode("latin-1").decode("utf-8", "surrogateescape"))
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "app.py").write_text(APPLICATION)
    with Server("app:app", "--workers", "1", cwd=tmp_path) as running:
        yield running


@pytest.mark.parametrize(
    ("preface", "reason"),
    [
        (TLS_HANDSHAKE, "a TLS handshake, but this port expects plain HTTP"),
        (HTTP_2, "an HTTP/2 connection preface, but only HTTP/1.1 is supported"),
    ],
)
def test_another_protocol_on_a_plain_port_is_a_400_and_one_clear_line(server: Server, preface: bytes, reason: str) -> None:
    before = server.log
    with server.client() as client:
        client.send(preface)
        response = client.read()
        assert (response.status, response.get("Connection"), response.body) == (400, "close", f"{reason}\n".encode())
        assert client.at_end()
    server.wait_for(re.escape(reason))
    (line,) = server.log.removeprefix(before).splitlines()
    assert line.endswith(f"[INFO] refused 127.0.0.1: 400 {reason}")


def test_a_flood_of_refusals_is_counted_and_each_is_answered(server: Server) -> None:
    count = 6 * MOST_LINES
    for _ in range(count):
        with server.client() as client:
            client.send(b"GET / HTTP/1.1\r\n\r\n")
            assert client.read().status == 400
    assert server.stop() == 0
    written = len(re.findall(r"\[INFO\] refused 127\.0\.0\.1: 400 the Host field is missing\n", server.log))
    missing = [int(number) for number in re.findall(r"\[INFO\] and (\d+) more were refused", server.log)]
    assert written + sum(missing) == count
    assert written < count
    assert written <= MOST_LINES * (len(missing) + 1)


def test_no_byte_of_a_client_does_anything_in_the_log(server: Server) -> None:
    """Neither for a terminal, nor for a program that reads the log by lines."""
    controls = [bytes([code]) for code in (*range(32), *range(127, 160), 0xFF)]
    for control in controls:
        for sent in (
            b"%b / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a%b\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nX%b: b\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nX: a%bb\r\nConnection: close\r\n\r\n",
        ):
            with server.client() as client:
                client.send(sent.replace(b"%b", control))
                client.socket.shutdown(1)
                try:
                    assert client.read().status in (400, 500)
                except NoResponseError:  # nothing but line breaks
                    assert control in b"\r\n"
    with server.client() as client:
        client.send(encode_request("GET", "/%0A%5B2026-01-01%2000:00:00%20+0000%5D%20%5B1%5D%20%5BERROR%5D%20forged%1B%C2%9B"))
        assert client.read().status == 500
    # Overrides of the direction, separators, zero-width and tag characters, a variation selector, a byte that is no
    # UTF-8.
    unseen = "\u202e\u2066\u2069\u2028\u2029\u200b\u200f\u2060\ufeff\xad\U000e0041\ufe0f"
    with server.client() as client:
        client.send(encode_request("GET", f"/{quote(unseen)}%ff"))
        assert client.read().status == 500
    assert server.stop() == 0
    assert {char for char in server.log if not char.isprintable()} <= {"\n", "\t"}
    written = r"\u202e\u2066\u2069\u2028\u2029\u200b\u200f\u2060\ufeff\xad\U000e0041\ufe0f\udcff"
    assert f"ValueError: /{written}\n" in server.log
    assert "forged" in server.log
    assert not re.search(r"^\[2026-01-01 ", server.log, re.MULTILINE)
