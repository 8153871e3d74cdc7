"""starman.wsgi.body: memory, then a spool file, then something to read from."""

from __future__ import annotations

import errno
import io
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from starman.wsgi import body as module
from starman.wsgi.body import SPOOL_BATCH_BYTES, RequestBody
from starman.wsgi.body_memory import FREE_BYTES, BodyMemory

PLENTY = 1 << 30
LINES = b"first\nsecond\nthird"


_made: list[RequestBody] = []


@pytest.fixture(autouse=True)
def uncleared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that is not cleared is seldom seen to be: here it never is clear, so that nothing of it can be taken for
    a body."""
    monkeypatch.setattr(module, "uncleared", lambda size: b"\xee" * size)


@pytest.fixture(autouse=True)
def close_all() -> Iterator[None]:
    yield
    while _made:
        _made.pop().close()


def gathered(data: bytes, memory_bytes: int, piece: int = 1000) -> RequestBody:
    """What the connection does: write pieces, and spool when it is asked to."""
    body = RequestBody(BodyMemory(memory_bytes, PLENTY))
    _made.append(body)
    for at in range(0, len(data), piece):
        body.write(data[at : at + piece])
        if body.wants_spooling:
            body.spool()
    return body


def test_a_body_is_not_copied_when_its_buffer_gets_its_size() -> None:
    """The first bytes of the body have come with the head."""
    body = RequestBody(BodyMemory(1 << 20, PLENTY), 1_000_000)
    _made.append(body)
    body.write(b"x" * 1000)
    tracemalloc.start()
    try:
        body.make_room()
        body.room()
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 1_100_000


@pytest.mark.parametrize("memory_bytes", [1 << 20, 0])
def test_every_way_of_reading(memory_bytes: int) -> None:
    """PEP 3333, "Input and Error Streams", and what is beyond it: read(None), readline(n), readinto, seek."""

    def reader() -> Any:
        return gathered(LINES, memory_bytes).reader()

    assert reader().read() == LINES
    assert reader().read(-1) == LINES
    assert reader().read(None) == LINES
    assert reader().read(5) == b"first"
    assert reader().read(0) == b""
    assert reader().readline() == b"first\n"
    assert reader().readline(3) == b"fir"
    assert reader().readline(None) == b"first\n"
    assert reader().readlines() == [b"first\n", b"second\n", b"third"]
    assert reader().readlines(7) == [b"first\n", b"second\n"]
    assert list(reader()) == [b"first\n", b"second\n", b"third"]
    file = reader()
    room = bytearray(6)
    assert file.readinto(room) == 6
    assert room == b"first\n"
    assert file.read() == b"second\nthird"
    for end in (file.read(), file.read(5), file.readline(), b"".join(file.readlines()), b"".join(file)):
        assert end == b""
    file.seek(0)
    assert file.read() == LINES


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=5000), st.integers(0, 6000), st.integers(1, 3000))
def test_what_is_written_is_read(data: bytes, memory_bytes: int, piece: int) -> None:
    body = gathered(data, memory_bytes, piece)
    assert body.length == len(data)
    assert body.reader().read() == data


MODEL_EACH = 3 * FREE_BYTES
SIZES = st.one_of(
    st.integers(0, 5000),
    st.sampled_from([FREE_BYTES, MODEL_EACH, SPOOL_BATCH_BYTES, SPOOL_BATCH_BYTES + FREE_BYTES]).flatmap(
        lambda bound: st.integers(max(bound - 2, 0), bound + 2)
    ),
    st.integers(0, 3 * SPOOL_BATCH_BYTES),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(SIZES, st.booleans(), st.integers(1, SPOOL_BATCH_BYTES + 1)), min_size=1, max_size=5), st.data())
def test_bodies_share_the_memory_of_their_worker(plans: list[tuple[int, bool, int]], data: st.DataObject) -> None:
    """Bodies of all lengths come at the same time, written or read into their memory, as far as there is any; some are
    given up.

    What is read is what was sent; memory is never more than granted; in the end all of it is back.
    """
    total = data.draw(st.sampled_from([0, FREE_BYTES, MODEL_EACH, 4 * MODEL_EACH, PLENTY]), label="memory")
    memory = BodyMemory(MODEL_EACH, total)
    sent = [os.urandom(size) for size, _, _ in plans]
    bodies = [RequestBody(memory, size if known else None) for size, known, _ in plans]
    _made.extend(bodies)
    straight = [False] * len(plans)
    arriving = {number for number, content in enumerate(sent) if content}
    while arriving:
        number = data.draw(st.sampled_from(sorted(arriving)), label="next")
        body, content, piece = bodies[number], sent[number], plans[number][2]
        if plans[number][1] and (straight[number] or data.draw(st.booleans(), label="straight")):
            straight[number] = True
            view = body.room()
            assert view
            piece = min(piece, len(view))
            view[:piece] = content[body.length : body.length + piece]
            body.filled(piece)
        else:
            body.write(content[body.length : body.length + piece])
        if body.wants_spooling:
            body.spool()
        assert memory.available >= 0
        in_memory = sum(other._buffer.tell() for other in bodies)
        assert in_memory <= total - memory.available + 2 * FREE_BYTES * len(bodies)
        if body.length == len(content):
            arriving.discard(number)
        elif data.draw(st.integers(0, 9), label="given up") == 0:
            arriving.discard(number)
            body.discard()
            sent[number] = b""
            bodies[number] = RequestBody(memory)
    for body, content in zip(bodies, sent, strict=True):
        assert body.length == len(content)
        file = body.reader()
        assert file.read() == content
        assert file.seek(0) == 0
        assert b"".join(file) == content
        file.close()
        body.close()
        body.discard()
    assert memory.available == total


def test_a_body_whose_length_is_known_is_not_copied() -> None:
    body = RequestBody(BodyMemory(1 << 20, PLENTY), 100_000)
    body.make_room()
    body.write(b"x" * 10_000)
    inside = body._buffer.getbuffer()
    while body.missing:
        view = body.room()
        view[:30_000] = b"y" * 30_000
        body.filled(30_000)
    del view
    inside.release()
    file = body.reader()
    assert file.read() == b"x" * 10_000 + b"y" * 90_000
    file.close()  # there is no view left that would forbid it


def test_a_view_that_the_loop_still_holds_is_no_hindrance() -> None:
    body = RequestBody(BodyMemory(1 << 20, PLENTY), 100_000)
    view = body.room()
    view[:] = b"x" * 100_000
    body.filled(100_000)
    file = body.reader()
    assert file.read() == b"x" * 100_000
    file.close()
    body.close()
    assert bytes(view) == b"x" * 100_000


def test_without_memory_a_body_goes_to_the_disk_in_small_batches() -> None:
    memory = BodyMemory(1 << 20, 1000)
    body = RequestBody(memory, 500_000)
    _made.append(body)
    batches = 0
    while body.missing:
        view = body.room()
        assert len(view) <= FREE_BYTES
        view[:] = bytes([batches % 256]) * len(view)
        body.filled(len(view))
        if body.wants_spooling:
            body.spool()
            batches += 1
    assert batches == 500_000 // FREE_BYTES
    assert memory.available == 1000
    assert body.reader().read() == b"".join(bytes([n % 256]) * FREE_BYTES for n in range(31))[:500_000]


def test_a_body_up_to_the_limit_stays_in_memory() -> None:
    body = gathered(b"x" * 1000, 1000)
    assert isinstance(body.reader(), io.BytesIO)
    assert isinstance(gathered(b"x" * 1001, 1000).reader(), io.BufferedRandom)


def test_the_spool_file_is_written_in_batches() -> None:
    body = RequestBody(BodyMemory(0, PLENTY))
    body.write(b"x")
    assert body.wants_spooling
    body.spool()
    body.write(b"x" * SPOOL_BATCH_BYTES)
    assert not body.wants_spooling
    body.write(b"x")
    assert body.wants_spooling
    body.spool()
    assert not body.wants_spooling
    body.write(b"y")
    assert body.reader().read() == b"x" * (SPOOL_BATCH_BYTES + 2) + b"y"
    body.close()


def test_the_spool_file_has_no_name_and_close_gives_it_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    body = gathered(b"x" * 100, 0)
    file = body.reader()
    assert list(tmp_path.iterdir()) == []
    body.close()
    body.close()
    assert file.closed
    with pytest.raises(ValueError, match="closed file"):
        file.read()


def test_close_without_a_spool_file() -> None:
    body = gathered(b"x", 10)
    body.close()
    body.close()
    body.discard()


def test_discard_has_another_thread_close_the_spool_file(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[Any] = []
    monkeypatch.setattr(module, "close_in_background", lambda close, *arguments: closed.append((close, *arguments)))
    body = gathered(b"x" * 100, 0)
    file = body.reader()
    body.discard()
    body.discard()
    body.close()
    assert not file.closed
    ((close, given, lease),) = closed
    assert given is file
    close(given, lease)
    assert file.closed


def test_an_application_that_closes_its_input() -> None:
    body = gathered(b"x" * 100, 0)
    body.reader().close()
    body.close()


class FullDisk:
    """TemporaryFile on a disk where nothing can be written: /dev/full fails at write as a full disk does."""

    def __init__(self) -> None:
        self.file: io.BufferedRandom | None = None

    def __call__(self, **options: Any) -> io.BufferedRandom:
        raw = io.FileIO(os.open("/dev/full", os.O_RDWR), "r+")
        raw.seekable = lambda: True  # type: ignore[method-assign]
        self.file = io.BufferedRandom(raw)
        return self.file


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> FullDisk:
    disk = FullDisk()
    monkeypatch.setattr(module.tempfile, "TemporaryFile", disk)
    return disk


def test_a_full_disk_raises_at_spooling_and_not_at_close(full_disk: FullDisk) -> None:
    body = RequestBody(BodyMemory(0, PLENTY))
    body.write(b"x" * 1_000_000)
    with pytest.raises(OSError, match="No space left") as caught:
        body.spool()
    assert caught.value.errno == errno.ENOSPC
    body.close()
    assert full_disk.file is not None
    assert full_disk.file.closed


def test_a_full_disk_raises_at_the_last_spooling_too(full_disk: FullDisk) -> None:
    """A few bytes are in the file object's own buffer first: they fail when it is rewound, and again when it is
    closed."""
    body = RequestBody(BodyMemory(0, PLENTY))
    body.write(b"x")
    body.spool()
    with pytest.raises(OSError, match="No space left"):
        body.reader()
    body.close()
    assert full_disk.file is not None
    assert full_disk.file.closed
