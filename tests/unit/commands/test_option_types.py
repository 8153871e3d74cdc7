"""What the commands' options accept, and the error for anything else."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import pytest

from starman.commands.option_types import process_id, seconds, socket_path, whole_number


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (whole_number(0, 20), "0", 0),
        (whole_number(1, 20), "20", 20),
        (seconds(0.1, 3600), "0.1", 0.1),
        (seconds(0.1, 3600), "3600", 3600.0),
        (process_id, "2147483647", (1 << 31) - 1),
        (socket_path, "./auto", "./auto"),
    ],
)
def test_values(parse: Callable[[str], object], text: str, value: object) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    ("parse", "text", "problem"),
    [
        (whole_number(1, 20), "0", "'0' is not a whole number from 1 to 20"),
        (whole_number(1, 20), "21", "'21' is not a whole number from 1 to 20"),
        (whole_number(1, 20), "²", "'²' is not a whole number from 1 to 20"),
        (whole_number(1, 20), "9" * 5000, "is not a whole number from 1 to 20"),
        (seconds(0, 86_400), "-0.1", "'-0.1' is not a number of seconds from 0 to 86400"),
        (seconds(0.1, 3600), "nan", "'nan' is not a number of seconds from 0.1 to 3600"),
        (seconds(0.1, 3600), "inf", "'inf' is not a number of seconds from 0.1 to 3600"),
        (process_id, "9" * 5000, "is not a process id"),
        (socket_path, "", "'' is not a path"),
    ],
)
def test_errors(parse: Callable[[str], object], text: str, problem: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        parse(text)
    assert problem in str(caught.value)
