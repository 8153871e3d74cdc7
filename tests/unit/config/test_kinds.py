"""Kinds of values: their bounds, and what several of them or none mean."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starman.config import kinds, log_kinds


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


def test_logs() -> None:
    assert log_kinds.read_error_log("-") is None
    assert log_kinds.read_error_log("error.log") == "error.log"


def test_many() -> None:
    kind = kinds.many(kinds.whole(0))
    assert kind.repeatable
    assert kind.read([1, "2"]) == (1, 2)
    assert kind.read("3") == (3,)
    assert kind.read(()) == ()
    assert kind.show((1, 2)) == "1, 2"
    with pytest.raises(ValueError, match=r"^$"):
        kind.read([1, "x"])


def test_workers_are_two_at_least_when_automatic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "available_cpus", lambda: 1)
    assert kinds.read_workers("auto") == 2
    monkeypatch.setattr(kinds, "available_cpus", lambda: 16)
    assert kinds.read_workers("AUTO") == 16
    assert kinds.read_workers("1") == 1
    for invalid in ("0", 0, -1, "many", 1.5):
        with pytest.raises(ValueError, match=r"^$"):
            kinds.read_workers(invalid)
