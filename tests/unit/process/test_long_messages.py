"""starman.process.long_messages: texts of any length, in parts that fit into packets."""

from __future__ import annotations

import pytest

from starman.process.channel import Channel
from starman.process.long_messages import PART_CHARACTERS, TextAssembly, prepare_text, receive_text, split_text
from starman.process.message_base import IN_PARTS, PACKET_BYTES
from starman.process.messages import Loaded, Part, encode


@pytest.mark.parametrize("length", [0, 1, PART_CHARACTERS, PART_CHARACTERS + 1, 10 * PART_CHARACTERS])
def test_the_parts_make_the_text(length: int) -> None:
    text = ("0123456789abcdef" * PART_CHARACTERS)[:length]
    assembly = TextAssembly()
    for part in split_text(text):
        assert not assembly.complete
        assert len(encode(part)) <= PACKET_BYTES
        assembly.add_part(part)
    assert assembly.complete
    assert assembly.resolve_text(IN_PARTS) == text


def test_a_short_text_stays_in_its_message() -> None:
    assert prepare_text("x" * PART_CHARACTERS) == ([], "x" * PART_CHARACTERS)
    parts, text = prepare_text("x" * PART_CHARACTERS + "y")
    assert (parts, text) == ([Part(1, 2, "x" * PART_CHARACTERS), Part(2, 2, "y")], IN_PARTS)
    assert TextAssembly().resolve_text("text") == "text"


def test_what_is_left_of_another_text_is_dropped() -> None:
    assembly = TextAssembly()
    for part in (Part(1, 3, "a"), Part(2, 3, "b"), Part(1, 2, "c"), Part(2, 2, "d")):
        assembly.add_part(part)
    assert assembly.resolve_text(IN_PARTS) == "cd"
    # It is returned once.
    with pytest.raises(ValueError, match="a message without its text"):
        assembly.resolve_text(IN_PARTS)


@pytest.mark.parametrize("other", [True, False], ids=["another message", "the end of file"])
def test_a_text_that_does_not_come_is_a_value_error(other: bool) -> None:
    ours, theirs = Channel.pair()
    ours.send(Part(1, 2, "a"))
    if other:
        ours.send(Loaded())
    ours.close()
    with pytest.raises(ValueError, match="the settings in use have not arrived"):
        receive_text(theirs)
    theirs.close()
