"""starman.serving.body.expect_continue, alone and in a real Service. What `--stream-body` does is tested with
streaming_exchange."""

from __future__ import annotations

from typing import Any

import pytest

from starman.serving.body.expect_continue import CONTINUE, ExpectContinue
from tests.functional.support.wire import encode_request
from tests.unit.serving.applications import HELLO, echo
from tests.unit.serving.running import Running


def test_the_response_comes_once() -> None:
    expectation = ExpectContinue()
    assert expectation.next_response(0) == CONTINUE == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert expectation.next_response(0) == b""


def test_no_response_after_bytes_of_the_body() -> None:
    expectation = ExpectContinue()
    assert expectation.next_response(1) == b""
    assert expectation.next_response(0) == b""


@pytest.mark.parametrize("options", ["uvloop", "unix", "asyncio", "inline"], indirect=True)
def test_100_continue(options: dict[str, Any]) -> None:
    with Running(echo, **options) as running, running.client() as client:
        expects = [("Expect", "100-continue"), ("Content-Length", "4")]
        client.send(encode_request("POST", "/a", expects))
        assert client.read_head().status == 100
        client.send(b"body")
        response = client.read()
        assert (response.body, response.interim) == (b"/a|body", ())
        client.send(encode_request("POST", "/b", expects) + b"body")
        assert client.read().interim == ()
        client.send(HELLO + encode_request("POST", "/c", expects))
        assert client.read().body == b"/hello|"
        assert client.read_head().status == 100
        client.send(b"body")
        assert client.read().body == b"/c|body"
