"""starman.config.admin_kinds: addresses of StatsD, tokens, and parts of its lines."""

from __future__ import annotations

import re

import pytest

from starman.config.admin_kinds import parse_statsd, read_part, read_statsd, read_token


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("localhost", ("localhost", 8125)),
        ("localhost:9125", ("localhost", 9125)),
        ("[::1]:9125", ("::1", 9125)),
        ("[::1]", ("::1", 8125)),
        ("unix:/run/statsd", ("/run/statsd", 0)),
        ("unix:///run/statsd", ("/run/statsd", 0)),
    ],
)
def test_an_address_of_statsd_is_parsed(text: str, expected: tuple[str, int]) -> None:
    assert parse_statsd(text) == expected
    assert read_statsd(text) == text


@pytest.mark.parametrize(
    "text", ["", ":8125", "localhost:", "localhost:x", "localhost:0", "localhost:70000", "::1", "[::1", "unix:"]
)
def test_a_wrong_address_of_statsd_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - some without a reason
        read_statsd(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("5s", "'5s' is a time, not a host"),
        ("500ms:8125", "'500ms' is a time, not a host"),
        ("*:8125", "'*' is not a host to send to"),
        ("300.1.1.1:5", "is not an IPv4 address"),
        ("1.2.3", "is not an IPv4 address"),
        ("[zz]:1", "is not an IPv6 address"),
        ("[::zz]:1", "is not an IPv6 address"),
        ("two words:1", "is neither a host name nor an IPv4 address"),
        ("/run/statsd", "for a UNIX socket write unix:PATH"),
        ("@statsd", "for a UNIX socket write unix:PATH"),
        ("http://statsd:8125", "HOST:PORT alone"),
    ],
)
def test_the_reason_for_a_wrong_address_of_statsd_is_given(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        read_statsd(text)


@pytest.mark.parametrize("value", ["", "two words", "ü", "@", 5, None, "a\nb"])
def test_a_wrong_token_is_refused(value: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - without a reason
        read_token(value)


def test_a_token_is_text_or_a_file() -> None:
    assert [read_token("s3cr3t-_~+/="), read_token("@/run/token")] == ["s3cr3t-_~+/=", "@/run/token"]


@pytest.mark.parametrize("value", ["a|b", "a\nb", "a#b", "\x00", None, 3])
def test_what_would_end_a_line_of_statsd_is_refused(value: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - without a reason
        read_part(value)
    assert read_part("env:test,shop") == "env:test,shop"
