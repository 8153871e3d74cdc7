"""The types of the commands' options, for argparse: each turns a text into a value, or raises ArgumentTypeError."""

from __future__ import annotations

import argparse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """A type for whole numbers from `least` to `most`, neither of them negative."""

    def parse(text: str) -> int:
        # Python refuses to convert texts of thousands of digits.
        if not text.isdecimal() or len(text) > 20 or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
        return int(text)

    return parse


def seconds(least: float, most: float) -> Callable[[str], float]:
    """A type for durations from `least` to `most` seconds."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from {least:g} to {most:g}")
        return value

    return parse


def process_id(text: str) -> int:
    """A type for the process id of a server."""
    if not text.isdecimal() or len(text) > 20 or not 1 <= int(text) < 1 << 31:
        raise argparse.ArgumentTypeError(f"{text!r} is not a process id")
    return int(text)


def socket_path(text: str) -> str:
    """A type for the path of a control socket: no value of `--control` that stands for another choice."""
    if text in ("", "auto", "off"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a path; without --control, servers are found by their process ids")
    return text
