"""Values of settings: text and natural values read alike, and what is shown reads back."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starman.config import value_parsing


@pytest.mark.parametrize("word", ["1", "true", "yes", "on", "True", "YES", " on ", True])
def test_words_for_true(word: object) -> None:
    assert value_parsing.read_flag(word) is True


@pytest.mark.parametrize("word", ["0", "false", "no", "off", "False", "NO", False])
def test_words_for_false(word: object) -> None:
    assert value_parsing.read_flag(word) is False


@pytest.mark.parametrize("word", ["", "2", "y", "t", 1, 0, None, [], 1.0])
def test_no_other_word_is_a_boolean(word: object) -> None:
    with pytest.raises(ValueError, match=r"^$"):
        value_parsing.read_flag(word)


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("12", 12), ("-3", -3), ("007", 7), (5, 5), (-5, -5)])
def test_whole_numbers(text: object, number: int) -> None:
    assert value_parsing.read_whole(text) == number


@pytest.mark.parametrize("text", ["", "-", "--1", "+1", "1_000", " 1", "1.0", "1e3", "٤", "²", 1.0, True, None, [1]])
def test_what_is_no_whole_number(text: object) -> None:
    with pytest.raises(ValueError, match=r"^$"):
        value_parsing.read_whole(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("64K", 65536), ("64k", 65536), ("64KiB", 65536), ("1M", 1 << 20), ("1 MiB", 1 << 20), ("1mib", 1 << 20), ("2G", 2 << 30),
        ("2GiB", 2 << 30), ("0", 0), ("8190", 8190), (8190, 8190),
    ],
)  # fmt: skip
def test_sizes(text: object, size: int) -> None:
    assert value_parsing.read_size(text) == size


@pytest.mark.parametrize("text", ["", "K", "1XB", "1T", "1KK", "1.5M", "-", "1 2K", "M1", 1.5, True, None])
def test_what_is_no_size(text: object) -> None:
    with pytest.raises(ValueError, match=r"^$"):
        value_parsing.read_size(text)


@given(st.integers(0, 1 << 50))
def test_a_size_shown_reads_back(size: int) -> None:
    assert value_parsing.read_size(value_parsing.show_size(size)) == size


@given(st.integers(0, 1 << 20), st.sampled_from(["K", "M", "G", "KiB", "MiB", "GiB"]))
def test_suffixes_are_powers_of_1024(number: int, suffix: str) -> None:
    assert value_parsing.read_size(f"{number}{suffix}") == number * 1024 ** ("KMG".index(suffix[0]) + 1)


def test_text() -> None:
    assert value_parsing.read_text(Path("/tmp/x")) == "/tmp/x"
    for invalid in ("", "a\nb", "a\0", 3, None, b"x"):
        with pytest.raises(ValueError, match=r"^$"):
            value_parsing.read_text(invalid)


@pytest.mark.parametrize(("text", "prefix"), [("", ""), ("/", ""), ("/a", "/a"), ("/a/", "/a"), ("/a/b//", "/a/b")])
def test_prefixes(text: str, prefix: str) -> None:
    assert value_parsing.read_prefix(text) == prefix


@pytest.mark.parametrize("text", ["a", "a/", "/a?b", "/a#b", "/\n", 3, None])
def test_what_is_no_prefix(text: object) -> None:
    with pytest.raises(ValueError, match=r"^$"):
        value_parsing.read_prefix(text)


@pytest.mark.parametrize("mode", ["0660", "660", "0o660", 0o660])
def test_modes(mode: object) -> None:
    assert value_parsing.read_mode(mode) == 0o660
    assert value_parsing.show_mode(0o660) == "0660"


@pytest.mark.parametrize("mode", ["", "0o", "888", "1000", "-1", "rw", 660, -1, True, None])
def test_what_is_no_mode(mode: object) -> None:
    with pytest.raises(ValueError, match=r"^$"):
        value_parsing.read_mode(mode)


@given(st.integers(0, 0o777))
def test_a_mode_shown_reads_back(mode: int) -> None:
    assert value_parsing.read_mode(value_parsing.show_mode(mode)) == mode


def test_users_and_groups() -> None:
    assert value_parsing.read_account("www-data") == "www-data"
    assert value_parsing.read_account("33") == 33
    assert value_parsing.read_account(33) == 33
    for invalid in ("", -1, 1.5, "a\nb", "²", 0xFFFF_FFFF):
        with pytest.raises(ValueError, match=r"^$"):
            value_parsing.read_account(invalid)


def test_an_expression_may_span_lines() -> None:
    assert value_parsing.read_expression("(\n1)") == "(\n1)"
    for invalid in ("", " \n", "a\0", 3):
        with pytest.raises(ValueError, match=r"^$"):
            value_parsing.read_expression(invalid)


@pytest.mark.parametrize(("text", "path"), [("/", "/"), ("//", "/"), ("/a", "/a"), ("/a/b/", "/a/b"), ("/caf\xe9", "/caf\xe9")])
def test_a_path_loses_the_slashes_at_its_end(text: str, path: str) -> None:
    assert value_parsing.read_path(text) == path


@pytest.mark.parametrize("invalid", ["", "a", "/a?b", "/a#b", "/a\nb", 3, None])
def test_what_is_no_path(invalid: object) -> None:
    with pytest.raises(ValueError, match=r"^$"):
        value_parsing.read_path(invalid)


def test_an_address_keeps_its_text_and_gives_its_reason() -> None:
    assert value_parsing.read_address(":80") == ":80"
    assert value_parsing.read_address(80) == "80"
    with pytest.raises(ValueError, match="port 99999 is out of range"):
        value_parsing.read_address(":99999")
    with pytest.raises(ValueError, match=r"^$"):
        value_parsing.read_address(True)
