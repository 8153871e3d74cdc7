"""starman.serving.access_log.logged_request: trace context, and environs that the application has spoiled."""

from __future__ import annotations

import pytest

from starman.serving.access_log.logged_request import LoggedRequest
from tests.unit.serving.access_log.environs import environ

TRACE = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")


def made(**more: object) -> LoggedRequest:
    return LoggedRequest(environ(**more), 0, 0, None, (1.0, 2.0), 0)


@pytest.mark.parametrize(
    ("field", "valid"),
    [
        (f"00-{TRACE[0]}-{TRACE[1]}-01", True),
        (f" 00-{TRACE[0]}-{TRACE[1]}-00 ", True),
        (f"cc-{TRACE[0]}-{TRACE[1]}-01-what-follows", True),
        (f"ff-{TRACE[0]}-{TRACE[1]}-01", False),
        (f"00-{'0' * 32}-{TRACE[1]}-01", False),
        (f"00-{TRACE[0]}-{'0' * 16}-01", False),
        (f"00-{TRACE[0].upper()}-{TRACE[1]}-01", False),
        (f"00-{TRACE[0]}-{TRACE[1]}", False),
        (f"00-{TRACE[0]}-{TRACE[1]}-01\n", True),
        ("", False),
    ],
)
def test_the_trace_context(field: str, valid: bool) -> None:
    assert made(HTTP_TRACEPARENT=field).trace() == (TRACE if valid else None)


def test_a_client_that_left_is_499() -> None:
    assert made().status_code == 499
    assert made().seconds == 3.0


def test_a_sanitized_copy_has_text_only() -> None:
    request = made(REMOTE_ADDR=None, HTTP_HOST=7, HTTP_REFERER="\xc3\xa9")
    copy = request.sanitized(as_utf8=True)
    assert all(type(value) is str for value in copy.environ.values())
    assert (copy.environ["REMOTE_ADDR"], copy.environ["HTTP_HOST"], copy.environ["HTTP_REFERER"]) == ("-", "7", "é")
    assert copy.status_code == 499
    assert request.environ["HTTP_HOST"] == 7
