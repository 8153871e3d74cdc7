"""Kinds of values: text and natural values read alike, and what is shown reads back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starman.config import kinds, log_kinds


@pytest.mark.parametrize("word", ["1", "true", "yes", "on", "True", "YES", " on ", True])
def test_words_for_true(word: object) -> None:
    assert kinds.read_flag(word) is True


@pytest.mark.parametrize("word", ["0", "false", "no", "off", "False", "NO", False])
def test_words_for_false(word: object) -> None:
    assert kinds.read_flag(word) is False


@pytest.mark.parametrize("word", ["", "2", "y", "t", 1, 0, None, [], 1.0])
def test_no_other_word_is_a_boolean(word: object) -> None:
    with pytest.raises(ValueError, match=r"^$"):
        kinds.read_flag(word)


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("12", 12), ("-3", -3), ("007", 7), (5, 5), (-5, -5)])
def test_whole_numbers(text: object, number: int) -> None:
    assert kinds.read_whole(text) == number


@pytest.mark.parametrize("text", ["", "-", "--1", "+1", "1_000", " 1", "1.0", "1e3", "٤", "²", 1.0, True, None, [1]])
def test_what_is_no_whole_number(text: object) -> None:
    with pytest.raises(ValueError, match=r"^$"):
        kinds.read_whole(text)


def test_bounds_of_whole_numbers() -> None:
    port = kinds.whole(0, 65535)
    assert port.read("65535") == 65535
    assert port.valid == "a whole number, from 0 to 65535"
    for outside in ("-1", 65536, 10**30, "9" * 30):
        with pytest.raises(ValueError, match=r"^$"):
            port.read(outside)
    assert kinds.whole(1).valid == "a whole number, at least 1"


@pytest.mark.parametrize("number", [1 << 63, 10**30, "9223372036854775808", "9" * 5000, "8589934592G", "9" * 30 + "K"])
def test_numbers_that_are_too_large_are_refused_with_the_largest(number: int | str) -> None:
    readers: list[Callable[[object], object]] = [kinds.size(0).read]
    readers += [] if isinstance(number, str) and number[-1] in "GK" else [kinds.whole(0).read]
    for read in readers:
        with pytest.raises(ValueError, match=r"^that number is too large: the largest is 9223372036854775807$"):
            read(number)


@pytest.mark.parametrize("number", [(1 << 63) - 1, "9223372036854775807", "0" * 30 + "9223372036854775807"])
def test_the_largest_whole_number(number: int | str) -> None:
    assert kinds.whole(0).read(number) == kinds.size(0).read(number) == (1 << 63) - 1
    assert kinds.size(0).read("8589934591G") == 8589934591 << 30


def test_seconds_that_are_too_large_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^that number is too large: the largest is about 1.79e308$"):
        kinds.seconds(zero=True).read(10**400)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("64K", 65536), ("64k", 65536), ("64KiB", 65536), ("1M", 1 << 20), ("1 MiB", 1 << 20), ("1mib", 1 << 20), ("2G", 2 << 30),
        ("2GiB", 2 << 30), ("0", 0), ("8190", 8190), (8190, 8190),
    ],
)  # fmt: skip
def test_sizes(text: object, size: int) -> None:
    assert kinds.read_size(text) == size


@pytest.mark.parametrize("text", ["", "K", "1XB", "1T", "1KK", "1.5M", "-", "1 2K", "M1", 1.5, True, None])
def test_what_is_no_size(text: object) -> None:
    with pytest.raises(ValueError, match=r"^$"):
        kinds.read_size(text)


@given(st.integers(0, 1 << 50))
def test_a_size_shown_reads_back(size: int) -> None:
    assert kinds.read_size(kinds.show_size(size)) == size


@given(st.integers(0, 1 << 20), st.sampled_from(["K", "M", "G", "KiB", "MiB", "GiB"]))
def test_suffixes_are_powers_of_1024(number: int, suffix: str) -> None:
    assert kinds.read_size(f"{number}{suffix}") == number * 1024 ** ("KMG".index(suffix[0]) + 1)


@given(st.floats(0, 1e9, allow_nan=False))
def test_seconds_as_text_and_as_number(number: float) -> None:
    kind = kinds.seconds(zero=True)
    assert kind.read(number) == number
    assert kind.read(repr(number)) == number


@pytest.mark.parametrize(
    "text", ["", "x", "-1", "nan", "inf", "-inf", "1e999", "1_0", "30x", -1, float("nan"), float("inf"), True, None]
)
def test_what_is_no_number_of_seconds(text: object) -> None:
    with pytest.raises(ValueError, match=r"^$"):
        kinds.seconds(zero=True).read(text)


def test_seconds_of_zero() -> None:
    assert kinds.seconds(zero=True).read("0") == 0
    with pytest.raises(ValueError, match=r"^$"):
        kinds.seconds(zero=False).read(0)


def test_an_int_of_seconds_is_a_float() -> None:
    assert isinstance(kinds.seconds(zero=True).read(3), float)


def test_text() -> None:
    assert kinds.read_text(Path("/tmp/x")) == "/tmp/x"
    for invalid in ("", "a\nb", "a\0", 3, None, b"x"):
        with pytest.raises(ValueError, match=r"^$"):
            kinds.read_text(invalid)


@pytest.mark.parametrize(("text", "prefix"), [("", ""), ("/", ""), ("/a", "/a"), ("/a/", "/a"), ("/a/b//", "/a/b")])
def test_prefixes(text: str, prefix: str) -> None:
    assert kinds.read_prefix(text) == prefix


@pytest.mark.parametrize("text", ["a", "a/", "/a?b", "/a#b", "/\n", 3, None])
def test_what_is_no_prefix(text: object) -> None:
    with pytest.raises(ValueError, match=r"^$"):
        kinds.read_prefix(text)


@pytest.mark.parametrize("mode", ["0660", "660", "0o660", 0o660])
def test_modes(mode: object) -> None:
    assert kinds.read_mode(mode) == 0o660
    assert kinds.show_mode(0o660) == "0660"


@pytest.mark.parametrize("mode", ["", "0o", "888", "1000", "-1", "rw", 660, -1, True, None])
def test_what_is_no_mode(mode: object) -> None:
    with pytest.raises(ValueError, match=r"^$"):
        kinds.read_mode(mode)


@given(st.integers(0, 0o777))
def test_a_mode_shown_reads_back(mode: int) -> None:
    assert kinds.read_mode(kinds.show_mode(mode)) == mode


def test_users_and_groups() -> None:
    assert kinds.read_account("www-data") == "www-data"
    assert kinds.read_account("33") == 33
    assert kinds.read_account(33) == 33
    for invalid in ("", -1, 1.5, "a\nb", "²", 0xFFFF_FFFF):
        with pytest.raises(ValueError, match=r"^$"):
            kinds.read_account(invalid)


def test_logs() -> None:
    assert log_kinds.read_error_log("-") is None
    assert log_kinds.read_error_log("error.log") == "error.log"


def test_an_expression_may_span_lines() -> None:
    assert kinds.read_expression("(\n1)") == "(\n1)"
    for invalid in ("", " \n", "a\0", 3):
        with pytest.raises(ValueError, match=r"^$"):
            kinds.read_expression(invalid)


def test_many() -> None:
    kind = kinds.many(kinds.whole(0))
    assert kind.repeatable
    assert kind.read([1, "2"]) == (1, 2)
    assert kind.read("3") == (3,)
    assert kind.read(()) == ()
    assert kind.show((1, 2)) == "1, 2"
    with pytest.raises(ValueError, match=r"^$"):
        kind.read([1, "x"])


@pytest.mark.parametrize(("text", "path"), [("/", "/"), ("//", "/"), ("/a", "/a"), ("/a/b/", "/a/b"), ("/caf\xe9", "/caf\xe9")])
def test_a_path_loses_the_slashes_at_its_end(text: str, path: str) -> None:
    assert kinds.read_path(text) == path


@pytest.mark.parametrize("invalid", ["", "a", "/a?b", "/a#b", "/a\nb", 3, None])
def test_what_is_no_path(invalid: object) -> None:
    with pytest.raises(ValueError, match=r"^$"):
        kinds.read_path(invalid)


def test_an_address_keeps_its_text_and_gives_its_reason() -> None:
    assert kinds.read_address(":80") == ":80"
    assert kinds.read_address(80) == "80"
    with pytest.raises(ValueError, match="port 99999 is out of range"):
        kinds.read_address(":99999")
    with pytest.raises(ValueError, match=r"^$"):
        kinds.read_address(True)


def test_workers_are_two_at_least_when_automatic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "available_cpus", lambda: 1)
    assert kinds.read_workers("auto") == 2
    monkeypatch.setattr(kinds, "available_cpus", lambda: 16)
    assert kinds.read_workers("AUTO") == 16
    assert kinds.read_workers("1") == 1
    for invalid in ("0", 0, -1, "many", 1.5):
        with pytest.raises(ValueError, match=r"^$"):
            kinds.read_workers(invalid)
