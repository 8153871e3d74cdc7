"""starman.serving.access_log.escaping: no character that acts survives."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from starman.serving.access_log.escaping import escape_all, json_string, unicode_of, word


@given(st.text())
def test_escaped_text_is_printable_ascii_without_quotes(text: str) -> None:
    escaped = escape_all(text)
    assert escaped.isascii()
    assert escaped == "" or escaped.isprintable()
    assert '"' not in escaped


def test_characters_beyond_latin_1_are_named() -> None:
    assert escape_all("\u202e\U0001f600\ud800é") == r"\u202e\U0001f600\ud800\xe9"


@given(st.text(st.characters(max_codepoint=0x7F)))
def test_a_json_string_is_the_text(text: str) -> None:
    quoted = json_string(text)
    assert json.loads(quoted) == text
    assert quoted.isprintable()


@given(st.text())
def test_text_is_read_as_utf_8(text: str) -> None:
    encoded = text.encode("utf-8", "replace")
    assert unicode_of(encoded.decode("latin-1")) == encoded.decode()


def test_a_word_has_no_space() -> None:
    assert (word("a b"), word("")) == (r"a\x20b", "-")
