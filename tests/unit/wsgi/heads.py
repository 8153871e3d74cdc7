"""Real request heads for the tests of what is made of them."""

from __future__ import annotations

from io import BytesIO
from typing import BinaryIO

from starman.proto.events import EndOfBody, Limits, RequestHead
from starman.proto.request import RequestParser


def request(data: bytes) -> tuple[RequestHead, BinaryIO, int | None]:
    """The first request in `data`: its head, a reader of its body, and the body's length (None without a body)."""
    parser = RequestParser(Limits())
    parser.receive_data(data)
    head = parser.next_event()
    assert isinstance(head, RequestHead)
    body = b""
    if head.body_length == 0:
        return head, BytesIO(), None
    while not isinstance(event := parser.next_event(), EndOfBody):
        assert isinstance(event, bytes)
        body += event
    return head, BytesIO(body), len(body)
