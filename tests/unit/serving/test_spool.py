"""starman.serving.spool: what of a slow reader's response is in memory, what is on the disk, and who closes what."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from starman.serving.filerest import FileRest
from starman.serving.spool import Spool, SpoolLimits
from tests.unit.serving.running import open_descriptors


@pytest.fixture(autouse=True)
def all_is_closed() -> Iterator[None]:
    before = open_descriptors()
    yield
    assert open_descriptors() == before


def read(rest: FileRest) -> bytes:
    """Send it, as it were."""
    data = os.pread(rest.fd, rest.count, rest.offset)
    rest.offset += len(data)
    return data


def test_up_to_the_mark_it_is_memory() -> None:
    spool = Spool(SpoolLimits(10, 100))
    first, second = memoryview(b"12345"), memoryview(b"67890")
    assert spool.add(first, last=False) is first
    assert spool.add(second, last=False) is second
    spool.close()


def test_behind_the_mark_all_is_in_the_file() -> None:
    spool = Spool(SpoolLimits(10, 100))
    assert spool.add(memoryview(b"123456789"), last=False) is not None
    assert spool.add(memoryview(b"abc"), last=False) is None
    rest = spool.share(anew=True)
    assert rest.count == 3
    assert spool.add(memoryview(b"d"), last=False) is None  # it would fit into memory, but not before what is in the file
    assert spool.share(anew=False) is rest
    assert read(rest) == b"abcd"
    spool.close()
    rest.close()


def test_what_was_shared_grows_while_it_is_read() -> None:
    spool = Spool(SpoolLimits(0, 100))
    spool.add(memoryview(b"abc"), last=False)
    rest = spool.share(anew=False)
    assert read(rest) == b"abc"
    spool.add(memoryview(b"de"), last=False)
    assert rest.count == 0
    spool.share(anew=False)
    assert read(rest) == b"de"
    spool.close()
    spool.close()
    rest.close()


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
    rest = spool.share(anew=True)
    spool.close()
    assert read(rest) == b"abc"
    rest.close()


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
    assert kept.obj is not body
    assert kept == body[950:]


def test_a_stream_has_a_limit_and_its_end_has_none() -> None:
    spool = Spool(SpoolLimits(0, 10))
    spool.add(memoryview(b"1234567890"), last=False)
    rest = spool.share(anew=True)
    rest.offset = rest.end
    rest.close()
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
