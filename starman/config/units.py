"""What a number with a unit that no setting takes may have meant: "5sec", "500ms", "10MB". For messages only.

The master imports this module, so it must not import anything large.
"""

from __future__ import annotations

_SECONDS = {"ms": 0.001, "s": 1, "sec": 1, "secs": 1, "second": 1, "seconds": 1}
_SECONDS |= {"m": 60, "min": 60, "mins": 60, "minute": 60, "minutes": 60, "h": 3600, "hour": 3600, "hours": 3600}
_SIZES = {"b": "", "kb": "K", "mb": "M", "gb": "G"}


def seconds_meant(value: object) -> float | None:
    """The seconds that a text such as "5s", "5 sec" or "500ms" means; None for any other value."""
    digits, unit = _split(value)
    return float(digits) * _SECONDS[unit] if digits and unit in _SECONDS else None


def seconds_advice(value: object) -> str:
    """What is wrong with `value` as a number of seconds, and what to write instead; "" if it has no unit of time."""
    meant = seconds_meant(value)
    return "" if meant is None else f"{value!r} has a unit: write {meant:g}, in seconds"


def size_advice(value: object) -> str:
    """As `seconds_advice`, for a number of bytes."""
    digits, unit = _split(value)
    return f"{value!r} is not valid: write {digits}{_SIZES[unit]}" if digits.isdigit() and unit in _SIZES else ""


def _split(value: object) -> tuple[str, str]:
    """The digits of a short text, perhaps with a point, and the letters behind them in lower case; else "" twice."""
    if not isinstance(value, str) or len(value) > 20 or not value.isascii():
        return "", ""
    unit = value.lstrip("0123456789. ")
    digits = value[: len(value) - len(unit)].strip(" ")
    return (digits, unit.lower()) if digits.replace(".", "", 1).isdigit() else ("", "")
