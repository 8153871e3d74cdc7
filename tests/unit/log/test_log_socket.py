"""The packets for the log process."""

from __future__ import annotations

from starman.log.formats import ERROR, Record
from starman.log.log_socket import LogSocketFormat, decode


def packet_of(text: str) -> bytes:
    (packet,) = LogSocketFormat().encode(Record(ERROR, text, 4711))
    return packet


def test_a_record_arrives_as_it_was() -> None:
    record = decode(packet_of("caf\u00e9 \u20ac\nTraceback"))
    assert (record.level, record.pid, record.text) == (ERROR, 4711, "caf\u00e9 \u20ac\nTraceback")


def test_a_text_that_is_no_unicode_can_be_written_by_any_handler() -> None:
    text = decode(packet_of("no such file: caf\udce9")).text
    assert text == "no such file: caf\\udce9"
    assert text.encode("utf-8")
