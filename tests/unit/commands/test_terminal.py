"""starman.commands.terminal: keys of any text. The terminal itself: tests/functional/test_top_command.py."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starman.commands.terminal import split_keys


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("q", ["q"]),
        ("\x1b[A\x1bOBj", ["up", "down", "j"]),
        ("\x1b", ["escape"]),
        ("\x1b\x1b[5~", ["escape", "page up"]),
        ("\x1b[200~x", ["x"]),
        ("\x1b[", []),
        ("\r\x7f ", ["enter", "backspace", "space"]),
        ("\x03", ["q"]),
        ("\x00ä", ["ä"]),
    ],
)
def test_keys(text: str, keys: list[str]) -> None:
    assert list(split_keys(text)) == keys


@given(st.text(st.sampled_from("\x1b[O~AqB5;1 \x00"), max_size=30))
def test_any_text_ends(text: str) -> None:
    assert all(keys for keys in split_keys(text))
