"""starman.serving.dates: the Date and Server lines."""

from __future__ import annotations

import locale
import time
from email.utils import format_datetime, formatdate, parsedate_to_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starman.serving import dates as module
from starman.serving.dates import DateLinesCache, fixdate


@given(st.integers(0, 253402300799))
def test_fixdate_is_what_the_standard_library_writes(instant: int) -> None:
    assert fixdate(instant) == formatdate(instant, usegmt=True)


def test_the_example_of_the_rfc() -> None:
    assert fixdate(784111777) == "Sun, 06 Nov 1994 08:49:37 GMT"
    parsed = parsedate_to_datetime(fixdate(784111777))
    assert format_datetime(parsed, usegmt=True) == "Sun, 06 Nov 1994 08:49:37 GMT"


def test_the_locale_has_no_say() -> None:
    kept = locale.setlocale(locale.LC_TIME)
    for name in ("de_DE.UTF-8", "fr_FR.UTF-8", "ja_JP.UTF-8", "tr_TR.UTF-8", "C.UTF-8", "C"):
        try:
            locale.setlocale(locale.LC_TIME, name)
        except locale.Error:
            continue
        try:
            assert fixdate(0) == "Thu, 01 Jan 1970 00:00:00 GMT"
        finally:
            locale.setlocale(locale.LC_TIME, kept)


def test_a_stamp_is_made_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    unix_time = 1000.25
    monkeypatch.setattr(module.time, "time", lambda: unix_time)
    cache = DateLinesCache("test")
    first = cache.lines_at(5.0)
    assert first.both_and_end == "\r\nServer: test\r\nDate: Thu, 01 Jan 1970 00:16:40 GMT\r\n\r\n"
    unix_time = 1000.75
    assert cache.lines_at(5.5) is first
    unix_time = 1001.0
    assert "00:16:41" in cache.lines_at(5.75).date_line
    unix_time = 999.5  # the system's clock was set back
    assert "00:16:41" in cache.lines_at(6.5).date_line
    assert "00:16:39" in cache.lines_at(6.75).date_line


def test_no_server_field() -> None:
    date_lines = DateLinesCache("").lines_at(time.monotonic())
    assert date_lines.server_line == ""
    assert abs(parsedate_to_datetime(date_lines.date_line.split(": ")[1]).timestamp() - time.time()) < 5
