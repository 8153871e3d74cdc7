"""starman.serving.access_log.combined: the fast way and the careful one make the same line; the common format."""

from __future__ import annotations

import base64
import contextlib
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from starman.serving.access_log.combined import CombinedFormat, combined_line
from starman.serving.access_log.logged_request import LoggedRequest, refused
from tests.unit.serving.access_log.environs import ANY_ENVIRON, environ


def plainly(environ: dict[str, Any], stamp: str, status: int, size: int) -> bytes:
    """The line by definition: each part by itself, one character after the other."""

    def safe(key: str) -> str:
        text = str(environ.get(key, "-"))
        return "".join(f"\\x{ord(c):02x}" if c < " " or c in '"\\' or "\x7f" <= c <= "\xff" else c for c in text)

    def word(text: str) -> str:
        return text.replace(" ", "\\x20") or "-"

    user = "-"
    kind, credentials = str(environ.get("HTTP_AUTHORIZATION"))[:6], str(environ.get("HTTP_AUTHORIZATION"))[6:]
    if kind.lower() == "basic ":
        with contextlib.suppress(ValueError):
            name = base64.b64decode(credentials.strip(), validate=True).split(b":")[0].decode("latin-1")
            environ = {**environ, "name": name}
            user = word(safe("name"))
    request = f"{safe('REQUEST_METHOD')} {safe('REQUEST_URI')} {safe('SERVER_PROTOCOL')}"
    line = f'{word(safe("REMOTE_ADDR"))} - {user} [{stamp}] "{request}" {status or 499} {size or "-"}'
    return f'{line} "{safe("HTTP_REFERER")}" "{safe("HTTP_USER_AGENT")}"\n'.encode("latin-1", "replace")


@settings(max_examples=500)
@given(ANY_ENVIRON, st.sampled_from([0, 200, 404]), st.sampled_from([0, 5]))
@example(environ(REMOTE_ADDR=["two", "words"]), 200, 5)
@example(environ(REMOTE_ADDR=b"two words"), 200, 5)
@example(environ(REMOTE_ADDR=None, REQUEST_URI=None), 200, 5)
@example(environ(HTTP_USER_AGENT='"\n" "'), 200, 5)
def test_whatever_is_in_an_environ_its_line_is_the_plain_one(values: dict[str, Any], status: int, size: int) -> None:
    """An ordinary line is formatted in a faster way, and must not differ by a byte."""
    stamp = "22/Nov/2026:16:52:06 +0000"
    line = combined_line(values, status, size, stamp)
    assert line == plainly(values, stamp, status, size)
    assert line.count(b"\n") == 1
    assert line.isascii() or any(ord(c) > 0xFF for value in values.values() for c in str(value))


def test_the_common_format_ends_behind_the_bytes() -> None:
    values = environ(HTTP_REFERER="http://r.test/", HTTP_USER_AGENT='"\n" "')
    combined, common = (CombinedFormat(common=common).line(request) for common in (False, True) for request in [logged(values)])
    assert common == combined[: combined.index(b' "http://r.test/"')] + b"\n"
    assert common.endswith(b'"GET /a?b HTTP/1.1" 200 5\n')


def test_a_refusal() -> None:
    assert CombinedFormat().line(refused("192.0.2.7", 400)).endswith(b'] "-" 400 - "-" "-"\n')
    assert CombinedFormat(common=True).line(refused("192.0.2.7", 400)).endswith(b'] "-" 400 -\n')


def logged(values: dict[str, Any]) -> LoggedRequest:
    return LoggedRequest(values, 200, 5, None, (0.0, 0.0), 0)
