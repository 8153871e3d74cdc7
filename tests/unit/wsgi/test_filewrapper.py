"""starman.wsgi.filewrapper: an iterable of blocks, and which files may go by their descriptor."""

from __future__ import annotations

import bz2
import copy
import gzip
import io
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from starman.wsgi.filewrapper import FileWrapper

DATA = b"0123456789" * 1000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    return path


def test_blocks_of_the_size_asked_for() -> None:
    sizes: list[int | None] = []

    class Counted(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            sizes.append(size)
            return super().read(size)

    assert [len(block) for block in FileWrapper(Counted(DATA), 4000)] == [4000, 4000, 2000]
    assert sizes == [4000] * 4
    assert [len(block) for block in FileWrapper(io.BytesIO(DATA))] == [8192, 1808]


def test_an_object_with_read_alone_is_enough() -> None:
    class Reads:
        def __init__(self) -> None:
            self.blocks = [b"a", b"b", b""]

        def read(self, size: int) -> bytes:
            return self.blocks.pop(0)

    wrapper = FileWrapper(Reads())
    assert list(wrapper) == [b"a", b"b"]
    assert wrapper.region() is None
    wrapper.close()


def test_close_is_whatever_it_is_by_then(path: Path) -> None:
    """Django puts its response's close in the place of the file's, after it has made the wrapper."""
    calls: list[str] = []
    file: Any = path.open("rb")
    wrapper = FileWrapper(file)
    real = file.close
    file.close = lambda: calls.append("django's")
    assert wrapper.region() is not None
    wrapper.close()
    assert calls == ["django's"]
    real()


@pytest.mark.parametrize(
    "opened",
    [
        lambda path: path.open("rb"),
        lambda path: path.open("r+b"),
        lambda path: path.open("rb", buffering=0),
        lambda path: io.BufferedReader(io.FileIO(path)),
    ],
)
def test_a_plain_file_is_a_region_from_where_it_stands(opened: Callable[[Path], Any], path: Path) -> None:
    with opened(path) as file:
        wrapper = FileWrapper(file)
        assert wrapper.region() == (file.fileno(), 0, 10_000)
        assert file.read(3) == b"012"
        assert wrapper.region() == (file.fileno(), 3, 9_997)
        file.seek(9_999)
        assert wrapper.region() == (file.fileno(), 9_999, 1)
        for end in (10_000, 20_000):
            file.seek(end)
            assert wrapper.region() is None  # nothing to send: the iteration says so


def test_what_was_written_and_not_flushed_counts(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(0, os.SEEK_END)
        file.write(b"more")
        file.seek(1)
        assert FileWrapper(file).region() == (file.fileno(), 1, 10_003)


def test_a_temporary_file_is_a_region_where_it_is_a_plain_one() -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"abc")
        file.seek(0)
        assert FileWrapper(file).region() == (file.fileno(), 0, 3)


def _gzipped(path: Path) -> Any:
    path.write_bytes(gzip.compress(DATA))
    return gzip.open(path)


def _bzipped(path: Path) -> Any:
    path.write_bytes(bz2.compress(DATA))
    return bz2.open(path)


def _closed(path: Path) -> Any:
    file = path.open("rb")
    file.close()
    return file


class Upper(io.FileIO):
    """A file with bytes that are not those of its descriptor."""

    def read(self, size: int | None = -1) -> bytes:
        return (super().read(size) or b"").upper()


@pytest.mark.parametrize(
    "opened",
    [
        lambda path: path.open(),
        _gzipped,
        lambda path: io.BufferedReader(_gzipped(path)),
        _bzipped,
        lambda path: io.BufferedReader(_bzipped(path)),
        Upper,
        lambda path: io.BufferedReader(Upper(path)),
        lambda path: io.BytesIO(DATA),
        lambda path: path.open("ab"),
        lambda path: path.open("ab", buffering=0),
        lambda path: io.FileIO(os.devnull),
        lambda path: object(),
        lambda path: None,
    ],
)
def test_what_has_to_be_read_is_no_region(opened: Callable[[Path], Any], path: Path) -> None:
    file = opened(path)
    assert FileWrapper(file).region() is None
    if hasattr(file, "close"):
        file.close()


def test_a_closed_or_detached_file_is_no_region(path: Path) -> None:
    assert FileWrapper(_closed(path)).region() is None
    file = path.open("rb")
    file.detach().close()
    assert FileWrapper(file).region() is None


def test_a_pipe_is_no_region() -> None:
    ours, theirs = os.pipe()
    with open(ours, "rb") as file, open(theirs, "wb") as other:
        other.write(b"abc")
        other.flush()
        assert FileWrapper(file).region() is None


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="there is no /proc")
def test_a_file_that_hides_its_size_is_read() -> None:
    with open("/proc/self/status", "rb") as file:
        wrapper = FileWrapper(file)
        assert wrapper.region() is None
        assert b"Pid:" in b"".join(wrapper)


def test_it_can_seek_if_and_only_if_its_file_can(path: Path) -> None:
    with path.open("rb") as file:
        wrapper = FileWrapper(file, 4)
        assert wrapper.seekable() is True
        assert wrapper.seek(9_990) == 9_990
        assert wrapper.tell() == 9_990
        assert list(wrapper) == [b"0123", b"4567", b"89"]
    ours, theirs = os.pipe()
    os.close(theirs)
    with open(ours, "rb") as pipe:
        assert FileWrapper(pipe).seekable() is False

    class Reads:
        def read(self, size: int) -> bytes:
            return b""

    wrapper = FileWrapper(Reads())
    for name in ("seekable", "seek", "tell", "read", "fileno", "close_all", "__len__"):
        assert not hasattr(wrapper, name), name
    with pytest.raises(AttributeError, match="'FileWrapper' object has no attribute 'tel'"):
        wrapper.tel  # noqa: B018


def test_its_iterator_seeks_and_closes_as_well(path: Path) -> None:
    """Werkzeug's and other wrappers keep `iter()` of it, and nothing else."""
    file = path.open("rb")
    iterator: Any = iter(FileWrapper(file, 4))
    assert next(iterator) == b"0123"
    iterator.seek(9_998)
    assert list(iterator) == [b"89"]
    assert next(iterator, None) is None
    iterator.close()
    assert file.closed


def test_what_was_sought_before_is_where_the_region_begins(path: Path) -> None:
    with path.open("rb") as file:
        wrapper = FileWrapper(file)
        assert next(wrapper)
        wrapper.seek(9_000)
        assert wrapper.region() == (file.fileno(), 9_000, 1_000)


def test_a_wrapper_can_be_copied_and_pickled_no_more_than_its_file(path: Path) -> None:
    """No endless recursion where attributes are looked for before there are any."""
    with path.open("rb") as file, pytest.raises(TypeError, match="pickle"):
        copy.deepcopy(FileWrapper(file))
    blank: Any = FileWrapper.__new__(FileWrapper)
    for name in ("seek", "filelike"):
        with pytest.raises(AttributeError):
            getattr(blank, name)
