"""starman.config.units: what a number with a unit may have meant."""

from __future__ import annotations

import pytest

from starman.config.kinds import ANY_SECONDS, size
from starman.config.units import seconds_advice, seconds_meant, size_advice


@pytest.mark.parametrize(
    ("text", "meant"),
    [("5s", 5.0), ("5sec", 5.0), ("5 sec", 5.0), ("500ms", 0.5), ("1.5min", 90.0), ("2H", 7200.0)],
)
def test_a_time_with_a_unit(text: str, meant: float) -> None:
    assert seconds_meant(text) == meant
    with pytest.raises(ValueError, match=f"^{text!r} has a unit: write {meant:g}, in seconds$"):
        ANY_SECONDS.read(text)


@pytest.mark.parametrize("value", ["", "s", ".s", "1.2.3s", "5 parsecs", "-5s", "\u0665s", "9" * 5000 + "s", 5, None, ["5s"]])
def test_what_is_no_time_with_a_unit(value: object) -> None:
    assert seconds_meant(value) is None
    assert seconds_advice(value) == ""


@pytest.mark.parametrize(("text", "meant"), [("1MB", "1M"), ("10 kb", "10K"), ("2Gb", "2G"), ("512B", "512")])
def test_a_size_with_a_unit(text: str, meant: str) -> None:
    with pytest.raises(ValueError, match=f"^{text!r} is not valid: write {meant}$"):
        size(0).read(text)


@pytest.mark.parametrize("text", ["1T", "1.5GB", "MB", "-1MB", "1MIB"])
def test_what_has_no_advice_for_a_size(text: str) -> None:
    assert size_advice(text) == ""
