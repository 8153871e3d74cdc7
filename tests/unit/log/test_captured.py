"""starman.log.captured: what an application prints is logged line by line, and nothing of it is lost or cut."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from starman.log.captured import MOST_IN_LINE, OutputReader, open_output_pipe, split_lines


@pytest.fixture
def pipe() -> Iterator[tuple[OutputReader, int]]:
    reader, writing = open_output_pipe()
    yield reader, writing
    reader.close()


def printed(text: str) -> list[str]:
    """What the error log has as output."""
    return [line.partition("[OUTPUT] ")[2] for line in text.splitlines() if "[OUTPUT]" in line]


@pytest.mark.parametrize(
    ("data", "lines", "rest"),
    [
        (b"", [], b""),
        (b"a\nb\r\n\nc", ["a", "b", ""], b"c"),
        (b"\xff\xc3\xa4\n", ["\\xffä"], b""),
        (b"x" * (MOST_IN_LINE + 1) + b"\ny", ["x" * MOST_IN_LINE, "x"], b"y"),
        (b"x" * (2 * MOST_IN_LINE), ["x" * MOST_IN_LINE], b"x" * MOST_IN_LINE),
    ],
)
def test_lines(data: bytes, lines: list[str], rest: bytes) -> None:
    assert split_lines(data) == (lines, rest)


def test_an_unfinished_line_waits_for_its_end(pipe: tuple[OutputReader, int], capfd: pytest.CaptureFixture[str]) -> None:
    reader, writing = pipe
    os.write(writing, b"one\nunfin")
    assert reader.read(4711)
    text = capfd.readouterr().err
    assert printed(text) == ["one"]
    assert "[4711]" in text
    os.write(writing, b"ished\nend")
    assert reader.read()
    assert printed(capfd.readouterr().err) == ["unfinished"]
    os.close(writing)
    assert not reader.read()
    assert printed(capfd.readouterr().err) == ["end"]


def test_the_last_reading_leaves_nothing_half_read(pipe: tuple[OutputReader, int], capfd: pytest.CaptureFixture[str]) -> None:
    """What one thread has taken from the pipe is logged before `read_last` returns; the rest stays in the pipe."""
    reader, writing = pipe
    master = OutputReader(os.dup(reader.fd))
    count = 3000
    written = threading.Thread(target=lambda: [os.write(writing, b"line %d\n" % number) for number in range(count)])
    reading = threading.Thread(target=lambda: [None for _ in iter(reader.read_on, False)])
    written.start()
    reading.start()
    reader.read_last()
    reading.join(30)
    written.join(30)
    assert not reading.is_alive()
    os.close(writing)
    while master.read(last=True):
        pass
    master.close()
    assert printed(capfd.readouterr().err) == [f"line {number}" for number in range(count)]


def test_nothing_is_read_after_the_end(pipe: tuple[OutputReader, int]) -> None:
    reader, writing = pipe
    reader.read_last()
    assert not reader.read()
    assert not reader.read_on()
    assert reader.fd == -1
    os.close(writing)
