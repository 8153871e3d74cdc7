"""starman.wsgi.request_start: the time that a request has waited in a proxy."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starman.wsgi.request_start import LONGEST_WAIT, QUEUE_START, REQUEST_START, seconds_before

NOW = 1_790_000_000.5


def before(value: bytes, name: bytes = REQUEST_START) -> float:
    return seconds_before({name: [value]}, NOW)


@pytest.mark.parametrize("name", [REQUEST_START, QUEUE_START])
@pytest.mark.parametrize(
    "value",
    [b"t=1789999998.500", b"1789999998.5", b"t=1789999998500", b"1789999998500", b"t=1789999998500000", b"1789999998500000.0"],
)
def test_seconds_milliseconds_and_microseconds(value: bytes, name: bytes) -> None:
    assert before(value, name) == pytest.approx(2.0, abs=1e-6)


def test_whole_seconds() -> None:
    assert before(b"t=1789999998") == pytest.approx(2.5)


@pytest.mark.parametrize(
    "value",
    [
        *(b"", b"t=", b"t", b"-1789999998", b"+1789999998", b"t=1789999998,t=1789999998", b"t=1789999998 ", b" 1789999998"),
        *(b"1789999998.", b".5", b"t=0x6ab1", b"1e9", b"nan", b"inf", b"T=1789999998", b"t=t=1789999998", b"1_789_999_998"),
        *(
            b"1789999998.1.2",
            b"0",
            b"1",
            b"99999999999999999999",
            b"9" * 5000,
            b"\xef\xbc\x91" * 10,
            b"1789999998\xb2",
        ),
    ],
)
def test_what_is_no_time_is_ignored(value: bytes) -> None:
    assert before(value) == 0.0


def test_wrong_clocks_are_ignored() -> None:
    assert before(b"t=%.3f" % (NOW + 0.1)) == 0.0
    assert before(b"t=%.3f" % (NOW + 5000)) == 0.0
    assert before(b"t=%.3f" % (NOW - LONGEST_WAIT - 1)) == 0.0
    assert before(b"t=%.3f" % (NOW - LONGEST_WAIT + 1)) == pytest.approx(LONGEST_WAIT - 1, abs=0.002)


def test_which_field_counts() -> None:
    old, new = b"t=1789999990.5", b"t=1789999999.5"
    assert seconds_before({}, NOW) == 0.0
    assert seconds_before({REQUEST_START: [old, new]}, NOW) == pytest.approx(1.0)
    assert seconds_before({REQUEST_START: [new], QUEUE_START: [old]}, NOW) == pytest.approx(1.0)
    assert seconds_before({REQUEST_START: [b"x"], QUEUE_START: [old]}, NOW) == pytest.approx(10.0)


@given(st.binary(max_size=40) | st.from_regex(rb"\A(t=)?[0-9.]{1,30}\Z"))
def test_any_value_is_a_possible_wait(value: bytes) -> None:
    waited = before(value)
    assert math.isfinite(waited)
    assert 0.0 <= waited <= LONGEST_WAIT


@given(st.floats(0.001, LONGEST_WAIT - 1), st.sampled_from([(1, 6), (1000, 3), (1_000_000, 0)]), st.booleans())
def test_every_unit_says_the_same(waited: float, unit: tuple[int, int], prefixed: bool) -> None:
    factor, digits = unit
    text = f"{'t=' if prefixed else ''}{(NOW - waited) * factor:.{digits}f}".encode()
    assert before(text) == pytest.approx(waited, abs=2e-5)
