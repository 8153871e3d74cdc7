"""starman.observer.page.pages: the file and its policy, streams and their ends, stacks."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable
from typing import Any

import pytest

from starman.observer.page import pages as module
from starman.observer.page.pages import make_pages, read_page


class Source:
    def __init__(self, *events: bytes, full: bool = False) -> None:
        self.events = events
        self.full = full
        self.left = 0

    def join(self) -> tuple[int, bytes] | None:
        return None if self.full else (0, b"history")

    def next_event(self, after: int) -> tuple[int, bytes] | None:
        return None if after >= len(self.events) else (after + 1, self.events[after])

    def leave(self) -> None:
        self.left += 1

    def read_stacks(self) -> list[dict[str, Any]]:
        return [{"pid": 12, "title": "worker 1"}, {"pid": None, "title": "a mold"}]


def get(source: Source, path: str, method: str = "GET", **environ: str) -> tuple[str, dict[str, str], bytes | Iterable[bytes]]:
    status, fields, body = make_pages(source)[path]({"REQUEST_METHOD": method, **environ})
    return status, dict(fields), body


def test_only_the_script_and_style_of_the_page_are_allowed() -> None:
    body, policy = read_page()
    for kind in ("script", "style"):
        (text,) = re.findall(rf"<{kind}>(.*?)</{kind}>".encode(), body, re.DOTALL)
        assert f"{kind}-src 'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'" in policy
    assert policy.startswith("default-src 'none'; ")
    # Neither attributes of style and events, which the policy would forbid, nor texts that are read as HTML.
    assert not re.search(rb"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|<[^>]* (style|on\w+)=", body)


def test_a_stream_sends_the_history_and_events_until_there_are_no_more() -> None:
    source = Source(b"first", b"second")
    status, fields, body = get(source, "/events")
    assert (status, fields["Content-Type"]) == ("200 OK", "text/event-stream")
    assert list(body) == [b"history", b"first", b"second"]
    assert source.left == 0
    body.close()  # type: ignore[union-attr]
    assert source.left == 1


def test_a_stream_ends_by_itself_so_that_a_client_that_does_not_read_loses_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STREAM_SECONDS", 0.0)
    assert list(get(Source(b"first"), "/events")[2]) == [b"history"]


def test_a_head_and_a_refusal_take_no_place() -> None:
    source = Source()
    assert get(source, "/events", "HEAD")[2] == b""
    full = Source(full=True)
    status, fields, _ = get(full, "/events")
    assert (status, fields["Retry-After"]) == ("503 Service Unavailable", "5")
    assert source.left == full.left == 0


def test_stacks_of_one_process() -> None:
    body = get(Source(), "/stacks", QUERY_STRING="pid=12")[2]
    assert isinstance(body, bytes)
    assert json.loads(body) == {"pid": 12, "title": "worker 1"}
    for query in ("", "pid=", "pid=None", "pid=13", "pid=12&pid=12", "pid=%31%31"):
        assert get(Source(), "/stacks", QUERY_STRING=query)[0] == "404 Not Found"
