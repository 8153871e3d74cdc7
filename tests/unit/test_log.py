"""starman.log: what is written is one event a line, and nothing in it acts on a terminal."""

from __future__ import annotations

import sys
import unicodedata

import pytest

from starman import log
from starman.log import formats
from starman.log.tracebacks import format_exception


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("plain [] ' \\ \"", "plain [] ' \\ \""),
        ("a\tb", "a\tb"),
        ("Gr\xfc\xdfe \u4f60\u597d \U0001f600", "Gr\xfc\xdfe \u4f60\u597d \U0001f600"),
        ("first\nsecond", "first\n  second"),
        ("\x1b[31m\x7f\x9b", r"\x1b[31m\x7f\x9b"),
        ("\u202e\u2066\u2069", r"\u202e\u2066\u2069"),
        ("a\u2028b\u2029c\x85d\x0be", r"a\u2028b\u2029c\x85d\x0be"),
        ("\u200b\u200d\u2060\ufeff\xad", r"\u200b\u200d\u2060\ufeff\xad"),
        ("\U000e0041\U000e007f", r"\U000e0041\U000e007f"),
        ("\ufe0f\u3164\U000e0100", r"\ufe0f\u3164\U000e0100"),
        ("\udc80\ud800", r"\udc80\ud800"),
    ],
)
def test_escaping(text: str, written: str) -> None:
    assert log.escaped(text) == written


def test_no_character_but_tab_and_line_feed_is_written_that_cannot_be_seen() -> None:
    text = "".join(map(chr, range(sys.maxunicode + 1)))
    found = {char for char in log.escaped(text) if unicodedata.category(char)[0] in "CZ"}
    assert found == {" ", "\t", "\n"}


def test_the_table_does_not_grow_with_what_it_is_asked() -> None:
    before = len(formats.ESCAPE_TABLE)
    log.escaped("".join(map(chr, range(0x3000))))
    assert len(formats.ESCAPE_TABLE) == before


def test_lines_are_counted_by_level_since_the_start_of_the_process(capfd: pytest.CaptureFixture[str]) -> None:
    log.begin_counting()
    for write in (log.info, log.debug, log.warning, log.error, log.error, log.critical):
        write("x")
    assert log.counts() == {"warning": 1, "error": 2, "critical": 1, "exception": 0}
    log.begin_counting()
    assert log.counts() == {"warning": 0, "error": 0, "critical": 0, "exception": 0}


def test_errors_with_a_traceback_are_counted_apart_too(capfd: pytest.CaptureFixture[str]) -> None:
    log.begin_counting()
    try:
        raise ValueError("as wanted")
    except ValueError as error:
        text = f"the application failed: GET /\n{format_exception(error)}"
    for write in (log.error, log.info, log.warning):
        write(text)
    log.error("ordinary")
    assert log.counts() == {"warning": 1, "error": 2, "critical": 0, "exception": 1}


def test_of_a_very_long_text_the_beginning_and_the_end_are_written(capfd: pytest.CaptureFixture[str]) -> None:
    log.error("first\n" + "x" * 10_000_000 + "\nlast")
    written = capfd.readouterr().err
    assert "] [ERROR] first\n  xxx" in written
    assert f"xxx\n  ... {10_000_011 - formats.MOST_CHARACTERS} characters left out ...\n  xxx" in written
    assert written.endswith("xxx\n  last\n")
    assert len(written) < formats.MOST_CHARACTERS + 200
