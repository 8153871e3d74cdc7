"""starman.serving.sending.spool: which part of a slow reader's response is in memory or on the disk, and when
each is released."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from starman.serving.sending.response_memory import ResponseMemory, UnsentMemory
from starman.serving.sending.sendfile import FileRange
from starman.serving.sending.spool import Spool, SpoolLimits, keep_block
from tests.unit.serving.running import open_descriptors


@pytest.fixture(autouse=True)
def all_is_closed() -> Iterator[None]:
    before = open_descriptors()
    yield
    assert open_descriptors() == before


def read(file_range: FileRange) -> bytes:
    """Return the bytes of the range, and move it on, as sending does."""
    data = os.pread(file_range.fd, file_range.count, file_range.offset)
    file_range.offset += len(data)
    return data


def test_up_to_the_mark_it_is_memory() -> None:
    spool = Spool(SpoolLimits(10, 100))
    first, second = memoryview(b"12345"), memoryview(b"67890")
    for piece in (first, second):
        kept = spool.add(piece, last=False)
        assert kept is not None
        assert kept.data is piece
    spool.close()


def test_behind_the_mark_all_is_in_the_file() -> None:
    spool = Spool(SpoolLimits(10, 100))
    assert spool.add(memoryview(b"123456789"), last=False) is not None
    assert spool.add(memoryview(b"abc"), last=False) is None
    file_range = spool.share(anew=True)
    assert file_range.count == 3
    assert spool.add(memoryview(b"d"), last=False) is None  # it would fit into memory, but not before what is in the file
    assert spool.share(anew=False) is file_range
    assert read(file_range) == b"abcd"
    spool.close()
    file_range.close()


def test_what_was_shared_grows_while_it_is_read() -> None:
    spool = Spool(SpoolLimits(0, 100))
    spool.add(memoryview(b"abc"), last=False)
    file_range = spool.share(anew=False)
    assert read(file_range) == b"abc"
    spool.add(memoryview(b"de"), last=False)
    assert file_range.count == 0
    spool.share(anew=False)
    assert read(file_range) == b"de"
    spool.close()
    spool.close()
    file_range.close()


def test_what_the_loop_has_closed_is_shared_anew_from_there_on() -> None:
    spool = Spool(SpoolLimits(0, 100))
    spool.add(memoryview(b"abc"), last=False)
    first = spool.share(anew=True)
    assert read(first) == b"abc"
    first.close()
    spool.add(memoryview(b"de"), last=True)
    second = spool.share(anew=True)
    assert second is not first
    assert read(second) == b"de"
    second.close()
    spool.close()


def test_each_side_has_a_descriptor_of_its_own() -> None:
    spool = Spool(SpoolLimits(0, 100))
    spool.add(memoryview(b"abc"), last=True)
    file_range = spool.share(anew=True)
    spool.close()
    assert read(file_range) == b"abc"
    file_range.close()


def test_the_file_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    spool = Spool(SpoolLimits(0, 100))
    spool.add(memoryview(b"abc"), last=True)
    assert list(tmp_path.iterdir()) == []
    spool.close()


def test_the_end_of_a_large_body_keeps_no_more_than_itself() -> None:
    body = b"x" * 1000
    spool = Spool(SpoolLimits(100, 0))
    kept = spool.add(memoryview(body)[950:], last=True)
    assert kept is not None
    assert kept.data.obj is not body
    assert kept.data == body[950:]


def test_beyond_the_memory_of_all_it_is_the_file() -> None:
    memory = ResponseMemory(15)
    limits = SpoolLimits(10, 100, memory=memory)
    first, second = Spool(limits), Spool(limits)
    kept = first.add(memoryview(b"1234567890"), last=True)
    assert kept is not None
    assert second.add(memoryview(b"123456"), last=False) is None
    assert memory.bytes_left == 5
    file_range = second.share(anew=True)
    kept.close()
    kept.close()
    assert memory.bytes_left == 15
    assert second.add(memoryview(b"789"), last=True) is None  # behind what is in the file
    second.share(anew=False)
    assert read(file_range) == b"123456789"
    file_range.close()
    first.close()
    second.close()


def test_the_memory_behind_a_view_counts() -> None:
    memory = ResponseMemory(1000)
    spool = Spool(SpoolLimits(1000, 0, memory=memory))
    body = b"x" * 100
    kept = [spool.add(memoryview(body)[at:], last=False) for at in (40, 60)]
    assert memory.bytes_left == 1000 - 100 - 40  # more than half of it: all is kept; less: it is copied
    del kept
    assert memory.bytes_left == 1000  # no client could get them


@pytest.mark.parametrize("room", [True, False])
def test_a_block_is_kept_whatever_its_size(room: bool) -> None:
    memory = ResponseMemory(100 if room else 5)
    block = keep_block(memoryview(b"1234567890"), SpoolLimits(0, 0, memory=memory))
    assert isinstance(block, UnsentMemory) is room
    assert (block.data if isinstance(block, UnsentMemory) else read(block)) == b"1234567890"
    block.close()
    assert memory.bytes_left == (100 if room else 5)


def test_a_stream_has_a_limit_and_its_end_has_none() -> None:
    spool = Spool(SpoolLimits(0, 10))
    spool.add(memoryview(b"1234567890"), last=False)
    file_range = spool.share(anew=True)
    file_range.offset = file_range.end
    file_range.close()
    # What the client has taken counts as well, for the file is no smaller by that.
    with pytest.raises(OSError, match=r"its file would need more than 10 bytes \(response_spool\)"):
        spool.add(memoryview(b"1"), last=False)
    assert spool.add(memoryview(b"much more than that"), last=True) is None
    spool.close()


def test_no_place_for_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    spool = Spool(SpoolLimits(0, 10))
    with pytest.raises(OSError, match="No such file"):
        spool.add(memoryview(b"1"), last=True)
    spool.close()
