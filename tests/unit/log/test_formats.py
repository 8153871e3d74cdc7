"""starman.log.formats: a record is one line of JSON, whatever its text, or a text whose further lines are indented."""

from __future__ import annotations

import datetime
import json
import time

import pytest

from starman.log.formats import CRITICAL, ERROR, INFO, JsonFormat, Record, TextFormat, bounded, message_fields, timestamp
from starman.log.tracebacks import format_exception


def parsed(record: Record) -> dict[str, object]:
    (entry,) = JsonFormat().encode(record)
    assert entry.endswith(b"}\n")
    assert entry.count(b"\n") == 1
    fields: dict[str, object] = json.loads(entry)
    return fields


def test_a_line_of_json() -> None:
    record = Record(INFO, "ready: “x” \x1b[31m\u2028\udc80", 4711)
    fields = parsed(record)
    stamp = fields.pop("timestamp")
    assert isinstance(stamp, str)
    assert abs(datetime.datetime.fromisoformat(stamp).timestamp() - record.instant) < 1e-3
    message = "ready: “x” \x1b[31m\u2028\\udc80"
    assert fields == {"severity": "INFO", "message": message, "process.pid": 4711}


def test_a_traceback_is_one_field() -> None:
    try:
        raise LookupError("not\nthere")
    except LookupError as error:
        text = format_exception(error)
    fields = parsed(Record(ERROR, f"the application failed\n{text}", 1))
    assert fields["message"] == "the application failed"
    assert fields["exception.stacktrace"] == text.rstrip()
    assert fields["severity"] == "ERROR"


@pytest.mark.parametrize(
    ("rest", "found"),
    [
        (
            "Traceback (most recent call last):\n  File\nValueError: a: b",
            {"exception.type": "ValueError", "exception.message": "a: b"},
        ),
        ("Traceback (most recent call last):\n  File\na.b.C", {"exception.type": "a.b.C", "exception.message": ""}),
        ("Thread 0x1 (most recent call first):\n  File", {}),
        ("an application said\nmore", {}),
    ],
)
def test_fields_of_further_lines(rest: str, found: dict[str, str]) -> None:
    fields = message_fields(f"first\n{rest}")
    assert fields.pop("message") == "first"
    key = "exception.stacktrace" if found else "code.stacktrace" if rest.startswith("Thread") else "details"
    assert fields.pop(key) == rest
    assert fields == found


def test_the_instant_has_the_offset_of_the_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    for zone, shown in (("UTC", "2026-11-30T16:52:06.250000+00:00"), ("NST3:30", "2026-11-30T13:22:06.250000-03:30")):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        assert timestamp(1796057526.25) == shown
    monkeypatch.undo()
    time.tzset()


def test_text_has_the_level_and_an_indentation() -> None:
    (entry,) = TextFormat().encode(Record(CRITICAL, "first\nsecond\x07\n", 7))
    assert entry.endswith(b"] [7] [CRITICAL] first\n  second\\x07\n")
    (entry,) = TextFormat().encode(Record(INFO, "printed", 7, captured=True))
    assert entry.endswith(b"] [7] [OUTPUT] printed\n")


def test_a_long_record_of_json_fits_into_a_pipe() -> None:
    fields = parsed(Record(ERROR, "first\n" + "line\n" * 100_000, 7))
    assert fields["message"] == "first"
    assert "characters left out" in str(fields["details"])
    assert len(JsonFormat().encode(Record(ERROR, "first\n" + "line\n" * 100_000, 7))[0]) < 60_000
    assert bounded("x" * 10, 10) == "x" * 10
